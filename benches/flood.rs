//! What do hostile lookups beside it cost the normal traffic?
//!
//! The connections of `tls13`, and beside each of them four takes of random ids.

#[path = "common/allocator.rs"]
mod allocator;

use common::contestants;
use common::load::Load;
use common::paired::{self, Question, ask};
use common::report::Report;

const ABOUT: &str = "Four takes of random ids beside each connection of TLS 1.3, on a full store.";

fn main() {
    let sizes: [&[usize]; 2] = [&[20_000, 1_000_000], &[20_000]];
    let args = paired::args(ABOUT, sizes, &contestants::all());
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    report.not_run("10 000 000 sessions", "as what the hostile lookups touch grows with the cache, `miss` shows them there, and `tls13` the traffic beside them");
    let question = Question { name: "flood", load: Load::Flood, is_threaded: true };
    ask(&args, &mut report, &[question], &contestants::all());
}
