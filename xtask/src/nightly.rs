//! What needs a nightly toolchain: sanitizers, Miri, fuzzing. Each says what is missing, and how it is
//! installed, before it builds anything.
//!
//! `rustup` is asked, not told: nothing is installed here, for a toolchain is its owner's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::step;

/// The host that is built for: a sanitizer's flags must not reach build scripts, hence `--target`.
pub(crate) fn host() -> Result<String> {
    let version = step::read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map_or_else(|| bail!("`rustc -vV` names no host"), |host| Ok(host.to_owned()))
}

/// Fails unless there is a nightly toolchain; returns where it is.
pub(crate) fn toolchain() -> Result<PathBuf> {
    match step::read(Command::new("rustc").args(["+nightly", "--print", "sysroot"])) {
        Ok(path) => Ok(PathBuf::from(path.trim())),
        Err(_) => {
            bail!("no nightly toolchain: `rustup toolchain install nightly --profile minimal`")
        }
    }
}

/// Whether a toolchain has the sources of the standard library.
pub(crate) fn has_sources(toolchain: &Path) -> bool {
    toolchain.join("lib/rustlib/src/rust/library/Cargo.lock").exists()
}

/// `cargo` of the nightly toolchain, through rustup, at the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = step::cargo_named("cargo".as_ref(), &["+nightly"]);
    command.args(args);
    // The toolchain that runs this program must not choose the compiler of the other one.
    for variable in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command
}
