//! The strings that the fuzzers have kept, through the same functions, by any toolchain.

mod fuzzed;
mod model;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use fuzzed::{TARGETS, Target};

/// Strings that each target has, at least.
const LEAST: usize = 3;

#[test]
fn what_the_fuzzers_have_kept_passes() {
    for (name, run) in TARGETS {
        let files = files(name);
        assert!(files.len() >= LEAST, "{name} has {} strings", files.len());
        for file in files {
            println!("{}", file.display());
            run(&fs::read(&file).expect("a readable file"));
        }
    }
}

/// Each fuzz target is one of those that are run here.
#[test]
fn the_targets_are_the_fuzzers() {
    let folder = root().join("fuzz/fuzz_targets");
    let fuzzers: BTreeSet<String> = fs::read_dir(folder)
        .expect("the fuzz targets")
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(fuzzers, TARGETS.map(|(name, _): Target| name.to_owned()).into());
}

fn files(target: &str) -> Vec<PathBuf> {
    let folder = root().join("fuzz/corpus").join(target);
    let entries = fs::read_dir(folder).expect("a corpus for each target");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}
