//! How long does it take to find out that a session is not there?
//!
//! Lookups of random ids, which nobody put: a client that comes back too late, or one that means harm.

#[path = "common/allocator.rs"]
mod allocator;

use common::contestants;
use common::load::Load;
use common::paired::{self, Question, ask};
use common::report::Report;

const ABOUT: &str = "Lookups of ids that nobody put.";

fn main() {
    let sizes: [&[usize]; 2] = [&[20_000, 1_000_000, 10_000_000], &[20_000, 1_000_000]];
    let args = paired::args(ABOUT, sizes, &contestants::all());
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    let question = Question { name: "miss", load: Load::Miss, is_threaded: true };
    ask(&args, &mut report, &[question], &contestants::all());
}
