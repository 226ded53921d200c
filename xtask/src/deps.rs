//! `cargo xtask deps`: what a plain `cargo add resumption` must not bring.
//!
//! The promise is a build in seconds, without a C compiler, an async runtime or a TLS stack that
//! the user did not ask for. It is read off `cargo tree` for the systems of [`TARGETS`]; build
//! dependencies count too, because that is where `cc` would come in.

use std::process::Command;

use anyhow::{Result, bail};
use lexopt::Parser;

use crate::step;

const FORBIDDEN: &[&str] = &["tokio", "ring", "cc", "openssl-sys", "aws-lc-sys", "rustls"];

/// Not `all`: that would count what only the models need, under `cfg(loom)`.
const TARGETS: &[&str] = &[
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
];

pub(crate) fn run(parser: Parser) -> Result<()> {
    crate::no_arguments(parser)?;
    check()
}

/// Asks cargo for the tree of the default features, and fails on a forbidden name.
pub(crate) fn check() -> Result<()> {
    let mut tree = step::cargo(&["tree", "--package", "resumption", "--prefix", "none"]);
    tree.args(["--edges", "normal,build"]);
    tree.args(TARGETS.iter().flat_map(|target| ["--target", target]));
    let tree = step::read(&mut tree)?;
    let names = judge(&tree)?;
    step::say(&format!("    the default features bring {}", names.join(", ")))
}

/// The workspace's manifest, and the one outside of it, that depends on the library.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

/// Fails if a lock file lacks what its manifest asks for, as that of the fuzz targets does, which nobody builds every
/// day, after a change in the library's. The check that nothing comes of, if there is no network to make it with.
pub(crate) fn unresolved() -> Result<Option<String>> {
    for manifest in MANIFESTS {
        if let Err(error) = step::read(&mut resolved(manifest)) {
            return judge_lock(manifest, &format!("{error:#}")).map(Some);
        }
    }
    Ok(None)
}

/// What finds a manifest's dependencies as its lock file has them. The tree is of this system: its packages, unlike those
/// of all systems, are what a build brings, too.
fn resolved(manifest: &str) -> Command {
    step::cargo(&["tree", "--locked", "--depth", "0", "--manifest-path", manifest])
}

/// An error about a lock file that is not up to date, or why none can be told.
fn judge_lock(manifest: &str, said: &str) -> Result<String> {
    if said.contains("--locked was passed") {
        bail!(
            "the lock file beside {manifest} is not up to date: \
             `cargo metadata --manifest-path {manifest}` brings it there"
        );
    }
    let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or(said);
    Ok(format!("the check of the lock file beside {manifest} ({error})"))
}

/// The packages of a tree (one after the other, for several targets) without its root.
fn judge(tree: &str) -> Result<Vec<&str>> {
    let mut names: Vec<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    if names.first() != Some(&"resumption") {
        bail!("this is not the dependency tree of `resumption`:\n{tree}");
    }
    names.retain(|name| *name != "resumption");
    names.sort_unstable();
    names.dedup();
    if let Some(name) = names.iter().find(|name| FORBIDDEN.contains(name)) {
        bail!("the default features bring `{name}`: `cargo tree --invert {name}` says why");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "resumption v0.1.0 (/somewhere)\nahash v0.8.12\n";

    #[test]
    fn a_clean_tree_passes_and_is_named() {
        let tree = format!("{HEAD}cfg-if v1.0.5\nrustls-pki-types v1.0.0\n\n{HEAD}cfg-if v1 (*)\n");
        assert_eq!(judge(&tree).unwrap(), ["ahash", "cfg-if", "rustls-pki-types"]);
    }

    #[test]
    fn every_forbidden_package_is_caught() {
        for name in FORBIDDEN {
            for line in [format!("{name} v1.2.3\n"), format!("{name} v1.2.3 (*)\n")] {
                let error = judge(&format!("{HEAD}{line}")).unwrap_err().to_string();
                assert!(error.contains(&format!("`{name}`")), "{error}");
            }
        }
    }

    #[test]
    fn a_lock_file_that_is_not_up_to_date_is_an_error_and_no_network_is_a_skip() {
        let stale =
            "error: cannot update the lock file x because --locked was passed to prevent this";
        let error = judge_lock(MANIFESTS[1], stale).unwrap_err().to_string();
        assert!(error.contains("fuzz/Cargo.toml"), "{error}");
        let said = "`cargo`: exit 101\n    Updating crates.io index\nerror: failed to get `x`\n";
        let skip = judge_lock(MANIFESTS[1], said).unwrap();
        assert!(skip.ends_with("(error: failed to get `x`)"), "{skip}");
    }

    /// Without its new dependency, as a lock file is that nobody has touched since.
    #[test]
    fn cargo_says_of_a_stale_lock_file_what_is_looked_for() {
        let folder = std::env::temp_dir().join(format!("resumption-locked-{}", std::process::id()));
        let (manifest, lock) = (folder.join("Cargo.toml"), folder.join("Cargo.lock"));
        std::fs::create_dir_all(folder.join("src")).unwrap();
        std::fs::create_dir_all(folder.join("other/src")).unwrap();
        for crate_ in [&folder, &folder.join("other")] {
            std::fs::write(crate_.join("src/lib.rs"), "").unwrap();
        }
        let package = |name: &str| format!("[package]\nname = \"{name}\"\nedition = \"2021\"\n");
        std::fs::write(folder.join("other/Cargo.toml"), package("other")).unwrap();
        let with = package("it") + "[workspace]\n[dependencies]\nother = { path = \"other\" }\n";
        std::fs::write(&manifest, with).unwrap();
        std::fs::write(&lock, "version = 4\n[[package]]\nname = \"it\"\nversion = \"0.0.0\"\n")
            .unwrap();
        let error = step::read(&mut resolved(manifest.to_str().unwrap())).unwrap_err();
        std::fs::remove_dir_all(folder).unwrap();
        assert!(judge_lock("it", &format!("{error:#}")).is_err(), "{error:#}");
    }

    #[test]
    fn a_tree_of_nothing_is_not_a_pass() {
        assert!(judge("").is_err());
        assert!(judge("error: no such package\n").is_err());
    }
}
