//! `cargo xtask miri`: tests of the lock-free pieces under Miri, which sees undefined behaviour that no
//! sanitizer does: aliasing, provenance, reads of what was never written, and weak memory.
//!
//! Under Tree Borrows, because crossbeam-epoch casts a field to what it is in, which the older rules
//! forbid. Leaks are not reported: the collector and the gauges live as long as the process.

use std::process::Command;

use anyhow::{Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::{nightly, step};

/// Modules whose unit tests need no more than memory and threads: what Miri can run in minutes.
const TESTS: &[&str] = &["table", "queue", "capacity", "wheel", "hint"];

pub(crate) fn run(parser: Parser) -> Result<()> {
    let (seeds, filters) = choice(parser)?;
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
    step::say("    builds the tests for Miri, and asks which there are")?;
    all_meet(&filters, &step::read(miri("").arg("--list"))?)?;
    let mut command = miri(&format!(" -Zmiri-many-seeds=0..{seeds}"));
    command.args(filters);
    step::run(&mut command)
}

/// How many seeds, and which tests: those of [`TESTS`] unless some are named.
fn choice(mut parser: Parser) -> Result<(u32, Vec<String>)> {
    let (mut seeds, mut filters) = (4u32, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("seeds") => seeds = parser.value()?.parse()?,
            Arg::Value(filter) => filters.push(filter.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if seeds == 0 {
        bail!("a run of no seeds shows nothing");
    }
    if filters.is_empty() {
        filters = TESTS.iter().map(|test| (*test).to_owned()).collect();
    }
    Ok((seeds, filters))
}

/// The unit tests under Miri; what comes after is for the tests' own program.
fn miri(seeds: &str) -> Command {
    let mut command = nightly::cargo(&["miri", "test", "--package", "resumption", "--lib", "--"]);
    let flags = "-Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks";
    command.env("MIRIFLAGS", format!("{flags} -Zmiri-disable-isolation{seeds}"));
    command.env("CARGO_TARGET_DIR", "target-miri");
    command
}

/// Fails unless each filter meets a test of the list: else nothing is run, which is no error to Miri.
fn all_meet(filters: &[String], list: &str) -> Result<()> {
    let tests = || list.lines().filter_map(|line| line.strip_suffix(": test"));
    match filters.iter().find(|filter| !tests().any(|test| test.contains(filter.as_str()))) {
        Some(filter) => bail!("no unit test has {filter:?} in its name"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use walkdir::WalkDir;

    use super::*;

    #[test]
    fn what_would_run_nothing_is_an_error() {
        assert!(choice(Parser::from_args(["--seeds", "0"])).is_err());
        let (seeds, filters) = choice(Parser::from_args(["--seeds", "2", "queue"])).unwrap();
        assert_eq!((seeds, filters.as_slice()), (2, &["queue".to_owned()][..]));
        let list = "queue::tests::in_order: test\nwheel::turns: benchmark\n\n1 test, 1 benchmark\n";
        assert!(all_meet(&filters, list).is_ok());
        for mistyped in ["qeue", "wheel"] {
            let error = all_meet(&["queue".to_owned(), mistyped.to_owned()], list).unwrap_err();
            assert!(error.to_string().contains(mistyped), "{error}");
        }
    }

    #[test]
    fn the_modules_are_run_unless_some_are_named() {
        assert_eq!(choice(Parser::from_args::<[&str; 0]>([])).unwrap().1, TESTS);
    }

    /// Seen without Miri, too.
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
