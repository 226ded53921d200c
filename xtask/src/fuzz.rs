//! `cargo xtask fuzz [--seconds N] [TARGET…]`: each fuzz target for so many seconds, a minute by default,
//! from what is kept in `fuzz/corpus/`.
//!
//! New strings go to `target/fuzz/`, which git does not see: `cargo +nightly fuzz cmin <target>` makes a
//! small corpus of both again. A string that fails is kept in `fuzz/artifacts/<target>/`, and named.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::{nightly, step};

/// Longer strings find no more here.
const MOST_BYTES: u32 = 1_200;

pub(crate) fn run(mut parser: Parser) -> Result<()> {
    let (mut seconds, mut chosen) = (60u32, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("seconds") => seconds = parser.value()?.parse()?,
            Arg::Value(target) => chosen.push(target.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    // To libFuzzer zero is for ever.
    if seconds == 0 {
        bail!("a run of no time shows nothing");
    }
    nightly::toolchain()?;
    if step::read(Command::new("cargo").args(["+nightly", "fuzz", "--version"])).is_err() {
        bail!("cargo-fuzz is not installed: `cargo install --locked cargo-fuzz`");
    }
    let targets = targets()?;
    if let Some(unknown) = chosen.iter().find(|target| !targets.contains(target)) {
        bail!("no fuzz target {unknown:?}; there are {}", targets.join(", "));
    }
    let targets = if chosen.is_empty() { targets } else { chosen };
    for (idx, target) in targets.iter().enumerate() {
        step::step(target, idx + 1 == targets.len(), || fuzz(target, seconds))?;
    }
    Ok(())
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let found = format!("target/fuzz/{target}");
    fs::create_dir_all(crate::root().join(&found)).context(found.clone())?;
    let kept = format!("fuzz/corpus/{target}");
    let mut command = nightly::cargo(&["fuzz", "run", target, &found, &kept, "--"]);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={MOST_BYTES}"));
    // Long strings from the beginning: a sequence of calls is one.
    command.args(["-len_control=0", "-print_final_stats=1"]);
    step::run(&mut command)
}

/// The targets, which are files.
fn targets() -> Result<Vec<String>> {
    let folder = crate::root().join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_target_is_an_error_and_so_is_no_time() {
        assert!(targets().unwrap().contains(&"operations".to_owned()));
        assert!(run(Parser::from_args(["--seconds", "0"])).is_err());
        assert!(run(Parser::from_args(["--minutes", "1"])).is_err());
    }
}
