//! `cargo xtask miri`: tests of the lock-free pieces under Miri, which sees undefined behaviour that no
//! sanitizer does: aliasing, provenance, reads of what was never written, and weak memory.
//!
//! Under Tree Borrows, because crossbeam-epoch casts a field to what it is in, which the older rules
//! forbid. Leaks are not reported: the collector and the gauges live as long as the process.

use anyhow::{Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::{nightly, step};

/// Unit tests that need no more than memory and threads: what Miri can run in minutes.
const TESTS: &[&str] = &["table", "queue", "refs", "id", "capacity", "wheel", "hint"];

pub(crate) fn run(mut parser: Parser) -> Result<()> {
    let (mut seeds, mut tests) = (4u32, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("seeds") => seeds = parser.value()?.parse()?,
            Arg::Value(filter) => tests.push(filter.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let toolchain = nightly::toolchain()?;
    let missing: Vec<&str> = [
        ("miri", toolchain.join("bin/cargo-miri").exists()),
        ("rust-src", nightly::has_sources(&toolchain)),
    ]
    .into_iter()
    .filter_map(|(component, is_there)| (!is_there).then_some(component))
    .collect();
    if !missing.is_empty() {
        let missing = missing.join(" ");
        bail!("Miri is not installed: `rustup component add {missing} --toolchain nightly`");
    }
    let mut command = nightly::cargo(&["miri", "test", "--package", "resumption", "--lib", "--"]);
    command.args(TESTS.iter().filter(|_| tests.is_empty()));
    command.args(tests);
    let flags = "-Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks";
    command
        .env("MIRIFLAGS", format!("{flags} -Zmiri-disable-isolation -Zmiri-many-seeds=0..{seeds}"));
    command.env("CARGO_TARGET_DIR", "target-miri");
    step::run(&mut command)
}
