//! `cargo xtask loom --real`: the models that run on the real epoch, with `crossbeam-epoch`'s own support
//! for loom; with `--asan` under AddressSanitizer.
//!
//! loom does not see a use after free: freed memory can still be read. AddressSanitizer does. That it
//! does here is shown by a planted one, which has to end the run with the sanitizer's report.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{ASSERTIONS, PACKAGE, is_of_a_model};
use crate::step::{self, cargo, say};

/// The test binary with these models.
const TESTS: &str = "real";

/// The one with a planted use after free.
const FREED: &str = "freed";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Freed memory is kept from reuse for 4 MB only: millions of executions have to fit. Leaks are loom's to
/// find. The stacks of a model's threads are its own, and are not what the sanitizer knows as one.
const ASAN: &str = "detect_leaks=0:quarantine_size_mb=4:detect_stack_use_after_return=0";

pub(super) fn run(asan: bool) -> Result<()> {
    if !asan {
        return step::run(&mut on_this_toolchain());
    }
    step::run(&mut sanitized(TESTS))?;
    catches_a_use_after_free()
}

/// The models on the real epoch.
pub(crate) fn on_this_toolchain() -> Command {
    let mut command = cargo(&["test"]);
    on_the_epoch(&mut command, TESTS, "target/loom-real", "");
    command
}

fn sanitized(tests: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "test", "--target", TARGET]);
    command.current_dir(crate::root());
    // What cargo and rustup tell each other of the toolchain that runs this.
    step::forget(&mut command, |name| {
        name.starts_with("CARGO") && !matches!(name, "CARGO_HOME" | "CARGO_BUILD_JOBS")
            || name.starts_with("RUST") && name != "RUSTUP_HOME"
    });
    on_the_epoch(&mut command, tests, "target/loom-asan", " -Zsanitizer=address");
    command.env("ASAN_OPTIONS", ASAN);
    command
}

fn on_the_epoch(command: &mut Command, tests: &str, folder: &str, flags: &str) {
    command.args(["--package", PACKAGE, "--release", "--test", tests]);
    step::forget(command, is_of_a_model);
    let flags = format!("--cfg loom --cfg crossbeam_loom{flags}");
    command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", folder);
    command.envs(ASSERTIONS);
}

/// Runs a scenario whose headers are freed without waiting for the epoch.
fn catches_a_use_after_free() -> Result<()> {
    let output = sanitized(FREED)
        .stdin(Stdio::null())
        .output()
        .context("cannot run the nightly toolchain's cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report = said.lines().find(|line| line.contains("AddressSanitizer: heap-use-after-free"));
    ensure!(!output.status.success() && report.is_some(), "`freed-at-once` has survived:\n{said}");
    say(&format!("`freed-at-once` is caught: {}", report.unwrap_or_default().trim()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn variable(command: &Command, name: &str) -> Option<String> {
        let (_, value) = command.get_envs().find(|(key, _)| *key == OsStr::new(name))?;
        Some(value?.to_string_lossy().into_owned())
    }

    #[test]
    fn the_models_are_built_for_loom_and_so_is_the_epoch() {
        let plain = variable(&on_this_toolchain(), "RUSTFLAGS").unwrap();
        assert_eq!(plain, "--cfg loom --cfg crossbeam_loom");
        let sanitized = sanitized(TESTS);
        let flags = variable(&sanitized, "RUSTFLAGS").unwrap();
        assert_eq!(flags, format!("{plain} -Zsanitizer=address"));
        for command in [&on_this_toolchain(), &sanitized] {
            let asserted = ASSERTIONS.map(|(name, _)| variable(command, name));
            assert!(asserted.iter().all(|asserted| asserted.as_deref() == Some("true")));
        }
        assert!(variable(&sanitized, "ASAN_OPTIONS").is_some());
        // Cargo and rustup would stay with the toolchain that runs this.
        assert_eq!(variable(&sanitized, "CARGO"), None);
        assert!(sanitized.get_envs().any(|env| env == (OsStr::new("CARGO"), None)));
    }

    #[test]
    fn both_files_are_there() {
        for tests in [TESTS, FREED] {
            let file = crate::root().join(PACKAGE).join(format!("tests/{tests}.rs"));
            assert!(file.exists(), "{tests}");
        }
    }
}
