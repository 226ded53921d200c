//! What does TLS 1.2 ask of a store?
//!
//! Clients come back and get their session, some much more often than others; one connection of ten is
//! a full handshake, whose session is put into a full store.

#[path = "common/allocator.rs"]
mod allocator;

use common::contestants;
use common::load::Load;
use common::paired::{self, Question, ask};
use common::report::Report;

const ABOUT: &str = "TLS 1.2: gets (Zipf, 0.9), and one put of ten calls, on a full store.";

fn main() {
    let sizes: [&[usize]; 2] = [&[20_000, 1_000_000, 10_000_000], &[20_000]];
    let args = paired::args(ABOUT, sizes, &contestants::all());
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    let question = Question { name: "tls12", load: Load::Tls12, is_threaded: true };
    ask(&args, &mut report, &[question], &contestants::all());
}
