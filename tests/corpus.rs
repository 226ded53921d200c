//! The strings that the fuzzers have kept, through the same functions, by any toolchain.

mod fuzzed;
mod model;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use fuzzed::{TARGETS, Target};
use support::Random;

/// Strings that each target has, at least.
const LEAST: usize = 15;

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

/// A short run of what a fuzzer does, without its instruments: kept strings, changed at random.
#[test]
fn what_they_have_kept_passes_with_changes() {
    const RUNS: u64 = 4_000;
    for (name, run) in TARGETS {
        let kept: Vec<_> = files(name).iter().map(|file| fs::read(file).expect("a file")).collect();
        let mut random = Random::new(1);
        for number in 0..RUNS {
            let any = |random: &mut Random| kept[random.below(kept.len() as u64) as usize].clone();
            let (mut string, other) = (any(&mut random), any(&mut random));
            change(&mut string, &other, &mut random);
            let passed = catch_unwind(AssertUnwindSafe(|| run(&string)));
            assert!(passed.is_ok(), "{name}, run {number}, fails with {string:02x?}");
        }
    }
}

/// Cuts a string, goes on with the end of another one, and changes some of its bytes.
fn change(string: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let mut place = |len: usize| random.below(len as u64 + 1) as usize;
    string.truncate(place(string.len()));
    string.extend_from_slice(&other[place(other.len())..]);
    for _ in 0..place(8).min(string.len()) {
        let at = place(string.len() - 1);
        string[at] = place(255) as u8;
    }
}
