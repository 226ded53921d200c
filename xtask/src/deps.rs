//! `cargo xtask deps`: what a plain `cargo add resumption` must not bring.
//!
//! The promise is a build in seconds, without a C compiler, an async runtime or a TLS stack that
//! the user did not ask for. It is read off `cargo tree` for the systems of [`TARGETS`]; build
//! dependencies count too, because that is where `cc` would come in.

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
    fn a_tree_of_nothing_is_not_a_pass() {
        assert!(judge("").is_err());
        assert!(judge("error: no such package\n").is_err());
    }
}
