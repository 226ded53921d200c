//! What does TLS 1.3 ask of a store?
//!
//! Each connection puts two tickets into a full store, and takes one that was put a while ago.

#[path = "common/allocator.rs"]
mod allocator;

use common::contestants;
use common::load::Load;
use common::paired::{self, Question, ask};
use common::report::Report;

const ABOUT: &str = "TLS 1.3: put + put + take on a full store.";

fn main() {
    let sizes: [&[usize]; 2] = [&[20_000, 1_000_000, 10_000_000], &[20_000, 1_000_000]];
    let args = paired::args(ABOUT, sizes, &contestants::all());
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    let question = Question { name: "tls13", load: Load::Tls13, is_threaded: true };
    ask(&args, &mut report, &[question], &contestants::all());
}
