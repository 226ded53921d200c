//! `cargo xtask tidy`: the house rules that a machine can hold. One file a rule or two:
//!
//! * [`size`]: no `.rs` file over 700 lines, no function over 60, no README over 150;
//! * [`layers`]: no import that points up; one door to atomics, and no bare fence outside it;
//! * [`waits`]: nothing that waits in the tables, the wheel, the reclamation, or on the way of put,
//!   get and take;
//! * [`unsafety`]: unsafe code only where it is expected;
//! * [`words`]: no unfinished work, and no path of one machine.
//!
//! The rules see names, not types: what hides behind an alias of another crate, they do not find.

mod layers;
mod scan;
mod size;
mod unsafety;
mod waits;
mod words;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lexopt::Parser;
use walkdir::{DirEntry, WalkDir};

use self::scan::Scan;
use crate::step;

pub(crate) fn run(parser: Parser) -> Result<()> {
    crate::no_arguments(parser)?;
    check()
}

/// Reads the tree and fails with every finding.
pub(crate) fn check() -> Result<()> {
    let mut findings = Vec::new();
    let sources = load(&crate::root(), &mut findings)?;
    if !sources.iter().any(|source| source.path == "src/lib.rs") {
        bail!("src/lib.rs is not in the tree that was read");
    }
    findings.extend(judge(&sources));
    if findings.is_empty() {
        let rust = sources.iter().filter(|source| source.scan.is_some()).count();
        let all = sources.len();
        return step::say(&format!("    {all} files are tidy, {rust} of them Rust"));
    }
    findings.sort();
    for finding in &findings {
        step::say(&finding.to_string())?;
    }
    bail!("tidy: {} finding(s)", findings.len());
}

/// Every rule over the whole tree.
fn judge(sources: &[Source]) -> impl Iterator<Item = Finding> {
    let findings = [
        size::long_files(sources),
        size::long_functions(sources),
        layers::upward_imports(sources),
        layers::other_doors(sources),
        waits::waits(sources),
        unsafety::unexpected(sources),
        words::unfinished(sources),
        words::machine_paths(sources),
    ];
    findings.into_iter().flatten()
}

/// A text file of the project.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
    /// What stands in it, if it is Rust.
    scan: Option<Scan>,
}

impl Source {
    fn new(path: &str, text: &str) -> syn::Result<Self> {
        let scan = if is_rust(path) { Some(Scan::new(path, text)?) } else { None };
        Ok(Self { path: path.into(), text: text.into(), scan })
    }

    fn finding(&self, line: usize, what: String) -> Finding {
        Finding { path: self.path.clone(), line, what }
    }
}

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// The files of the library itself, with what stands in them.
fn library(sources: &[Source]) -> impl Iterator<Item = (&Source, &Scan)> {
    sources
        .iter()
        .filter(|source| source.path.starts_with("src/"))
        .filter_map(|source| Some((source, source.scan.as_ref()?)))
}

fn load(root: &Path, findings: &mut Vec<Finding>) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(is_ours) {
        let entry = entry?;
        let path = entry.path().strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        if !entry.file_type().is_file() || !is_text(&path) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).with_context(|| path.clone())?;
        match Source::new(&path, &text) {
            Ok(source) => sources.push(source),
            Err(error) => {
                let line = error.span().start().line;
                findings.push(Finding { path, line, what: format!("does not parse: {error}") });
            }
        }
    }
    scan::spread_gates(&mut sources);
    Ok(sources)
}

/// Leaves out git's own files and every folder that cargo marked as its cache.
fn is_ours(entry: &DirEntry) -> bool {
    entry.file_name() != ".git" && !entry.path().join("CACHEDIR.TAG").exists()
}

/// The kinds of files that people write here. Others are data; or the log of a run, which names the
/// folder it ran in.
fn is_text(path: &str) -> bool {
    const ENDS: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "html", "css", "js"];
    let end = path.rsplit_once('.').map_or("", |(_, end)| end);
    ENDS.contains(&end) || path.starts_with(".ci/")
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// For the rules' tests: what a rule finds in a tree of these files.
#[cfg(test)]
fn found(rule: fn(&[Source]) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    let parse = |(path, text): &(&str, &str)| Source::new(path, text).unwrap();
    let mut sources: Vec<Source> = files.iter().map(parse).collect();
    scan::spread_gates(&mut sources);
    rule(&sources).iter().map(Finding::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_read_without_what_is_not_ours() {
        let mut findings = Vec::new();
        let sources = load(&crate::root(), &mut findings).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let paths: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
        for path in ["src/lib.rs", "xtask/src/tidy/mod.rs", "Cargo.toml", ".ci/run"] {
            assert!(paths.contains(&path), "{path} is missing: {paths:?}");
        }
        let foreign = |path: &&str| path.starts_with("target") || path.starts_with(".git/");
        assert_eq!(paths.iter().find(|path| foreign(path)), None);
    }

    #[test]
    fn what_does_not_parse_has_a_place() {
        let error = Source::new("src/broken.rs", "fn f() {}\nfn {\n").err().unwrap();
        assert_eq!(error.span().start().line, 2);
    }
}
