//! `cargo xtask bench`: every bench, one after the other, then `docs/benchmarks.md` and the plots in
//! `docs/plots/`, made of this one run.
//!
//! A bench writes its results as JSON lines ([`results`]) beside the tables that it prints. Who won is
//! decided there (`benches/common/rounds.rs`); here it is only shown. Results of full runs are kept in `docs/results/`, and the page is
//! made of them: all benches take more than an hour and a half, and one may be run anew without the others.

mod goals;
mod page;
mod plot;
mod plots;
mod results;
mod run;
mod svg;
#[cfg(test)]
mod verdicts;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use self::results::Results;
use self::run::{Commit, Run};
use crate::step::{self, cargo};

/// The benches, in the order of the page.
const BENCHES: &[&str] = &[
    "tls13",
    "tls12",
    "hit",
    "miss",
    "flood",
    "hot_session",
    "limit",
    "oversubscription",
    "expiry_storm",
    "resumption_rate",
    "memory",
    "rustls_store",
    "openssl_handshakes",
    "openssl_expiry",
    "openssl_adds",
    "callbacks",
    "instructions",
    "openssl_instructions",
];

/// What the command line asks for.
#[derive(Default)]
struct Options {
    quick: bool,
    /// Only these benches; then no page is written.
    only: Vec<String>,
    /// No bench; the page is made anew of the results that the last runs have left.
    page: bool,
}

/// One bench that was run.
struct Outcome {
    name: &'static str,
    run: Run,
    results: Results,
}

pub(crate) fn run(parser: Parser) -> Result<()> {
    let options = Options::parse(parser)?;
    let folder = crate::root().join(options.folder());
    if options.page {
        return write(&options, &load(&folder)?);
    }
    fs::create_dir_all(&folder)?;
    step::say("==> building the benches")?;
    step::run(&mut cargo(&["bench", "--package", "benches", "--no-run"]))?;
    let wanted: Vec<_> = BENCHES.iter().copied().filter(|name| options.wants(name)).collect();
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for (idx, name) in wanted.iter().enumerate() {
        let elapsed = minutes(start.elapsed());
        step::say(&format!("==> {name}: {} of {}, {elapsed} so far", idx + 1, wanted.len()))?;
        outcomes.push(bench(name, &options, &folder)?);
    }
    step::say(&format!("==> {} benches in {}", wanted.len(), minutes(start.elapsed())))?;
    if options.only.is_empty() {
        write(&options, &outcomes)?;
    }
    let failed: Vec<_> = outcomes.iter().filter(|one| one.run.failure.is_some()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<_> = failed.iter().map(|one| one.name).collect();
    bail!("did not end well: {}", failed.join(", "));
}

impl Options {
    fn parse(mut parser: Parser) -> Result<Self> {
        let mut options = Self::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("quick") => options.quick = true,
                Arg::Long("page") => options.page = true,
                Arg::Long("only") => {
                    let names = parser.value()?.string()?;
                    options.only.extend(names.split(',').map(String::from));
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if options.page && !options.only.is_empty() {
            bail!("--page is of all benches, and --only writes none");
        }
        if let Some(name) = options.only.iter().find(|name| !BENCHES.contains(&name.as_str())) {
            bail!("no bench {name:?}; there are {}", BENCHES.join(", "));
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Where the results are kept.
    fn folder(&self) -> &'static str {
        if self.quick { "target/bench/quick" } else { "docs/results" }
    }

    /// The command line that leads to the same page.
    fn command(&self) -> &'static str {
        if self.quick { "cargo xtask bench --quick" } else { "cargo xtask bench" }
    }
}

/// Runs one bench; that it fails is a result, too.
fn bench(name: &'static str, options: &Options, folder: &Path) -> Result<Outcome> {
    let json = path_of(folder, name);
    match fs::remove_file(&json) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Run::forget(folder, name)?;
    let commit = Commit::of_tree();
    let mut command = cargo(&["bench", "--package", "benches", "--bench", name, "--"]);
    if options.quick {
        command.arg("--quick");
    }
    command.arg("--json").arg(&json);
    let start = Instant::now();
    let failure = step::run(&mut command).err().map(|error| format!("{error:#}"));
    let run = Run { took: start.elapsed(), commit, failure };
    run.write(folder, name)?;
    Ok(Outcome { name, run, results: read(&json)? })
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.jsonl"))
}

fn read(json: &Path) -> Result<Results> {
    match fs::read_to_string(json) {
        Ok(text) => Results::parse(&text).with_context(|| json.display().to_string()),
        Err(_) => Ok(Results::default()),
    }
}

/// What the last runs have left.
fn load(folder: &Path) -> Result<Vec<Outcome>> {
    let outcome = |name: &&'static str| {
        let (run, results) = (Run::read(folder, name)?, read(&path_of(folder, name))?);
        Ok(Outcome { name, run, results })
    };
    BENCHES.iter().map(outcome).collect()
}

/// Writes the page and the plots.
fn write(options: &Options, outcomes: &[Outcome]) -> Result<()> {
    let docs = crate::root().join("docs");
    let folder = docs.join("plots");
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            fs::remove_file(path)?;
        }
    }
    let plots = plots::all(outcomes);
    for plot in &plots {
        fs::write(folder.join(&plot.file), &plot.svg)?;
    }
    let page = page::of(options.command(), outcomes, &plots);
    fs::write(docs.join("benchmarks.md"), page)?;
    step::say(&format!("    written: docs/benchmarks.md and {} plots in docs/plots/", plots.len()))
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bench_of_the_tree_is_run() {
        let folder = crate::root().join("benches");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| {
                Some(entry.unwrap().file_name().to_str()?.strip_suffix(".rs")?.into())
            })
            .collect();
        files.retain(|name| name != "gate");
        files.sort();
        let mut benches: Vec<_> = BENCHES.to_vec();
        benches.sort_unstable();
        assert_eq!(files, benches, "`gate` alone belongs to `cargo xtask instructions`");
    }

    #[test]
    fn an_unknown_bench_is_an_error() {
        assert!(Options::parse(Parser::from_args(["--only", "hit,hot"])).is_err());
        assert!(Options::parse(Parser::from_args(["--only", "hit", "--page"])).is_err());
        let options = Options::parse(Parser::from_args(["--quick", "--only", "hit,miss"])).unwrap();
        assert!(options.wants("hit") && !options.wants("tls13"));
    }
}
