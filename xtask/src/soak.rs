//! `cargo xtask soak`: builds the member `soak` for release, and runs it with the arguments as they are.

use std::ffi::OsString;

use anyhow::Result;
use lexopt::Parser;

use crate::step::{self, cargo};

pub(crate) fn run(mut parser: Parser) -> Result<()> {
    let args: Vec<OsString> = parser.raw_args()?.collect();
    step::run_shown(cargo(&["run", "--release", "--quiet", "--package", "soak", "--"]).args(args))
}
