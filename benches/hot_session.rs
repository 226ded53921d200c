//! What does it cost when everybody wants the same session?
//!
//! All threads get one session, out of many that are there.

#[path = "common/allocator.rs"]
mod allocator;

use common::contestants;
use common::load::Load;
use common::paired::{self, Question, ask};
use common::report::Report;

const ABOUT: &str = "All threads get the same session.";

fn main() {
    let sizes: [&[usize]; 2] = [&[20_000, 1_000_000], &[20_000]];
    let args = paired::args(ABOUT, sizes, &contestants::all());
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    report.not_run(
        "10 000 000 sessions",
        "one session is in the processor's caches, however many others there are",
    );
    let question = Question { name: "hot session", load: Load::Hot, is_threaded: true };
    ask(&args, &mut report, &[question], &contestants::all());
}
