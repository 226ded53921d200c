//! `cargo xtask miri`: tests of the lock-free pieces under Miri, which sees undefined behaviour that no
//! sanitizer does: aliasing, provenance, reads of what was never written, and weak memory.
//!
//! Under Tree Borrows, because crossbeam-epoch casts a field to what it is in, which the older rules
//! forbid. Leaks are not reported: the collector and the gauges live as long as the process.

use anyhow::{Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::{nightly, step};

/// Modules whose unit tests need no more than memory and threads: what Miri can run in minutes.
const TESTS: &[&str] = &["table", "queue", "capacity", "wheel", "hint"];

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use walkdir::WalkDir;

    use super::*;

    /// A filter that meets no test is no error to Miri, and shows nothing.
    #[test]
    fn every_module_that_is_named_has_tests() {
        let files = WalkDir::new(crate::root().join("src")).into_iter().map(|entry| entry.unwrap());
        let files = files.filter(|entry| entry.file_type().is_file());
        let with_tests: Vec<PathBuf> = files
            .map(walkdir::DirEntry::into_path)
            .filter(|path| fs::read_to_string(path).unwrap().contains("#[test]"))
            .map(|path| path.with_extension(""))
            .collect();
        for name in TESTS {
            let has_tests = with_tests.iter().any(|path| path.iter().any(|part| part == *name));
            assert!(has_tests, "no test of a module `{name}`");
        }
    }
}
