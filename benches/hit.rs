//! How long does it take to find a session?
//!
//! Random hits, in a rush, in which a processor begins the next lookup while it waits for memory; by the call
//! for many, sixteen at a time, which the others lack; and one by one, each of which waits for the payload
//! before, as it is in a server that does something else in between.

#[path = "common/allocator.rs"]
mod allocator;

use common::contestants;
use common::load::Load;
use common::paired::{self, Question, ask};
use common::report::Report;

const ABOUT: &str = "Random hits, in a rush and one by one.";

fn main() {
    let sizes: [&[usize]; 2] = [&[20_000, 1_000_000, 10_000_000], &[20_000, 1_000_000]];
    let args = paired::args(ABOUT, sizes, &contestants::all());
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    contestants::show_set_up(&mut report);
    report.not_run(
        "many at once and one by one, 2 threads",
        "they ask how one thread waits for memory; what threads cost each other is in `hit`",
    );
    let questions = [
        Question { name: "hit", load: Load::Hit, is_threaded: true },
        Question { name: "hit, many at once", load: Load::HitMany, is_threaded: false },
        Question { name: "hit, one by one", load: Load::HitChained, is_threaded: false },
    ];
    ask(&args, &mut report, &questions, &contestants::all());
}
