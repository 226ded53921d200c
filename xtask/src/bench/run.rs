//! How a bench was run: a small file beside its results, so that a page that is made later says what was
//! measured and how it ended, and not what the tree is like by then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::step;

/// One run of one bench.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(super) struct Run {
    pub(super) took: Duration,
    /// None where git cannot tell.
    pub(super) commit: Option<Commit>,
    /// Why there are no results, or not all.
    pub(super) failure: Option<String>,
}

/// What was built and measured.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(super) struct Commit {
    /// Its hash and its day.
    name: String,
    /// Whether files differed from it.
    is_dirty: bool,
}

impl Commit {
    /// The commit that the tree is at. Pages are not measured: that they differ makes no difference.
    pub(super) fn of_tree() -> Option<Self> {
        let git =
            |args: &[&str]| step::read(Command::new("git").args(args).current_dir(crate::root()));
        let name = git(&["log", "-1", "--format=%h of %cs"]).ok()?.trim().to_owned();
        let changes = git(&["status", "--porcelain", "--", ".", ":(exclude)docs"]).ok()?;
        Some(Self { name, is_dirty: !changes.trim().is_empty() })
    }
}

impl std::fmt::Display for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changes = if self.is_dirty { " with changes that were not committed" } else { "" };
        write!(f, "commit {}{changes}", self.name)
    }
}

impl Run {
    /// Forgets how the bench was run last: if it does not come to an end now, nothing says that it has.
    pub(super) fn forget(folder: &Path, bench: &str) -> Result<()> {
        match fs::remove_file(path(folder, bench)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, folder: &Path, bench: &str) -> Result<()> {
        Ok(fs::write(path(folder, bench), serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// How the bench was run last; without a word of it, it has not ended.
    pub(super) fn read(folder: &Path, bench: &str) -> Result<Self> {
        let path = path(folder, bench);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string()),
            Err(_) => {
                let failure = Some("the last run has not come to its end".to_owned());
                Ok(Self { failure, ..Self::default() })
            }
        }
    }
}

fn path(folder: &Path, bench: &str) -> PathBuf {
    folder.join(format!("{bench}.run.json"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn commit(name: &str, is_dirty: bool) -> Commit {
        Commit { name: name.to_owned(), is_dirty }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_forgotten_has_not_ended() {
        let folder = std::env::temp_dir().join(format!("xtask-run-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let took = Duration::from_millis(1_500);
        let (commit, failure) = (Some(commit("abc", true)), Some("it panicked".to_owned()));
        let run = Run { took, commit, failure };
        run.write(&folder, "hit").unwrap();
        assert_eq!(Run::read(&folder, "hit").unwrap(), run);
        Run::forget(&folder, "hit").unwrap();
        Run::forget(&folder, "hit").unwrap();
        assert!(Run::read(&folder, "hit").unwrap().failure.is_some());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_commit_says_that_it_is_not_all() {
        assert_eq!(commit("abc of 2026", false).to_string(), "commit abc of 2026");
        let dirty = commit("abc of 2026", true).to_string();
        assert_eq!(dirty, "commit abc of 2026 with changes that were not committed");
    }
}
