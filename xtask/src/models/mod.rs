//! `cargo xtask loom` and `cargo xtask mutants`: the loom models, and the bugs that are planted in what
//! they run.
//!
//! The tests of `loom-tests` write what they find into a file (see `loom-tests/src/report.rs`); both
//! commands run them and read it. `cargo xtask test` does the same.

mod deep;
pub(crate) mod real;
mod report;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use lexopt::{Arg, Parser, ValueExt};
use walkdir::WalkDir;

#[cfg(test)]
use self::report::OF_DOUBLES;
pub(crate) use self::report::Report;
use crate::step::{self, cargo, say};

/// The member with the loom models, whose tests are started with flags of their own.
pub(crate) const PACKAGE: &str = "loom-tests";

const HELP: &str = "\
Usage: cargo xtask loom [--quick | --deep [--minutes N] | --real [--asan]]

Explores the loom models in loom-tests/, in memory and in interleaving mode.

  --quick         every scenario within its recorded bound on preemptions, and every planted bug
                  (the default, and what `cargo xtask test` runs; about three minutes on two cores)
  --deep          then each scenario within larger and larger bounds, as long as the time lasts
  --minutes N     how long that is for all of them together (60)
  --real          the smaller set on the real epoch, crossbeam-epoch's
  --asan          the same under AddressSanitizer, which sees a use after free (nightly toolchain)

`cargo xtask mutants` prints which scenario catches which planted bug.
";

const HELP_MUTANTS: &str = "\
Usage: cargo xtask mutants [--show BUG]

Runs the loom models, and prints which scenario catches which planted bug, by which assertion, and after
how many executions. Fails if a bug survives.

  --show BUG      only this bug: shows the steps of the executions that fail
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Quick,
    Deep { minutes: u64 },
    Real { asan: bool },
}

/// `cargo xtask loom`.
pub(crate) fn loom(parser: Parser) -> Result<()> {
    match parse(parser)? {
        None => {
            print!("{HELP}");
            Ok(())
        }
        Some(Depth::Quick) => {
            let report = run(command(crate::test::has_nextest()))?;
            report.scenarios().lines().try_for_each(say)?;
            report.bugs().lines().try_for_each(say)
        }
        Some(Depth::Deep { minutes }) => deep::run(minutes),
        Some(Depth::Real { asan }) => real::run(asan),
    }
}

/// `cargo xtask mutants`.
pub(crate) fn mutants(parser: Parser) -> Result<()> {
    match parse_mutants(parser)? {
        Mutants::Help => print!("{HELP_MUTANTS}"),
        Mutants::All => {
            let report = run(command(crate::test::has_nextest()))?;
            report.bugs().lines().try_for_each(say)?;
        }
        Mutants::Show(bug) => show(&bug)?,
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Mutants {
    Help,
    All,
    Show(String),
}

fn parse_mutants(mut parser: Parser) -> Result<Mutants> {
    let mut wanted = Mutants::All;
    while let Some(arg) = parser.next()? {
        wanted = match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Mutants::Help),
            Arg::Long("show") => Mutants::Show(parser.value()?.string()?),
            other => return Err(other.unexpected().into()),
        };
    }
    Ok(wanted)
}

/// Runs the tests that catch a bug, and lets them show how.
fn show(bug: &str) -> Result<()> {
    let texts = protocols()?;
    let tests = texts
        .iter()
        .flat_map(|(file, text)| tests_with(bug, text).into_iter().map(move |test| (file, test)));
    let tests: Vec<_> = tests.collect();
    ensure!(!tests.is_empty(), "no model names a bug `{bug}`");
    for (file, test) in tests {
        let mut command = on_models(cargo(&["test", "--quiet", "--test", file]));
        command.args(["--", "--exact", "--nocapture", test]);
        // A word of each panic is enough: the steps say where it comes from.
        command.env("MODELS_SHOW", bug).env("RUST_BACKTRACE", "0");
        step::run(&mut command)?;
    }
    Ok(())
}

/// The names of the tests that name this bug.
fn tests_with<'t>(bug: &str, text: &'t str) -> Vec<&'t str> {
    let quoted = format!("\"{bug}\"");
    let tests = text.split("#[test]").skip(1).filter(|test| test.contains(&quoted));
    tests
        .filter_map(|test| test.split_once("fn ")?.1.split_once('(').map(|(name, _)| name))
        .collect()
}

fn parse(mut parser: Parser) -> Result<Option<Depth>> {
    let (mut depth, mut minutes, mut asan) = (None, None, false);
    while let Some(arg) = parser.next()? {
        let chosen = match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("quick") => Depth::Quick,
            Arg::Long("deep") => Depth::Deep { minutes: 60 },
            Arg::Long("real") => Depth::Real { asan: false },
            Arg::Long("minutes") => {
                minutes = Some(parser.value()?.parse()?);
                continue;
            }
            Arg::Long("asan") => {
                asan = true;
                continue;
            }
            other => return Err(other.unexpected().into()),
        };
        if depth.replace(chosen).is_some() {
            bail!("--quick, --deep and --real exclude each other");
        }
    }
    Ok(Some(match (depth.unwrap_or(Depth::Quick), minutes, asan) {
        (Depth::Deep { .. }, Some(minutes), false) => Depth::Deep { minutes },
        (Depth::Real { .. }, None, asan) => Depth::Real { asan },
        (depth, None, false) => depth,
        (_, Some(_), _) => bail!("--minutes goes with --deep"),
        (_, _, true) => bail!("--asan goes with --real"),
    }))
}

/// A command of cargo's on the models: in release mode, because they run millions of interleavings; in
/// a target folder of their own, because `--cfg loom` changes every artifact.
pub(crate) fn on_models(mut command: Command) -> Command {
    command.args(["--package", PACKAGE, "--release"]);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", "target/loom");
    command.envs(ASSERTIONS);
    step::forget(&mut command, is_of_a_model);
    command
}

/// What a debug build would assert: the models run that, too.
const ASSERTIONS: [(&str, &str); 2] = [
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true"),
];

/// What loom and the models read of the environment: the caller's has no say.
fn is_of_a_model(name: &str) -> bool {
    name.starts_with("LOOM_") || name.starts_with("MODELS_")
}

/// The models, and the planted bugs, as tests.
pub(crate) fn command(has_nextest: bool) -> Command {
    on_models(cargo(crate::test::runner(has_nextest)))
}

/// Runs the models; checks that nothing is missing in what they tell.
pub(crate) fn run(mut tests: Command) -> Result<Report> {
    let path = new_report()?;
    step::run(tests.env("MODELS_REPORT", &path))?;
    read_report(&path)
}

/// An empty file for a report.
fn new_report() -> Result<PathBuf> {
    let folder = crate::root().join("target/loom");
    fs::create_dir_all(&folder)?;
    let path = folder.join("report.tsv");
    fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn read_report(path: &Path) -> Result<Report> {
    let report = Report::parse(&fs::read_to_string(path)?)?;
    report.check(&planted(&texts("src")?), &protocols()?)?;
    Ok(report)
}

/// The files with models, but for those on the real epoch.
fn protocols() -> Result<Vec<(String, String)>> {
    let mut texts = texts("loom-tests/tests")?;
    texts.retain(|(_, text)| !text.contains("crossbeam_loom"));
    Ok(texts)
}

/// The Rust files of a folder: the name of each without its ending, and its text.
fn texts(folder: &str) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for entry in WalkDir::new(crate::root().join(folder)).sort_by_file_name() {
        let path = entry?.into_path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            texts.push((name, fs::read_to_string(&path)?));
        }
    }
    Ok(texts)
}

/// The names of all bugs that are planted in the library.
#[cfg(test)]
pub(crate) fn all_planted() -> Result<BTreeSet<String>> {
    Ok(planted(&texts("src")?))
}

/// The names of the bugs that are planted in these files.
fn planted(texts: &[(String, String)]) -> BTreeSet<String> {
    let names = |text: &str| -> Vec<String> {
        let after = text.split("planted!(\"").skip(1);
        after.filter_map(|rest| Some(String::from(rest.split_once('"')?.0))).collect()
    };
    texts.iter().flat_map(|(_, text)| names(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Option<Depth>> {
        parse(Parser::from_args(args))
    }

    #[test]
    fn the_depth_is_quick_unless_another_one_is_asked_for() {
        assert_eq!(parsed(&[]).unwrap(), Some(Depth::Quick));
        assert_eq!(parsed(&["--quick"]).unwrap(), Some(Depth::Quick));
        assert_eq!(parsed(&["--deep"]).unwrap(), Some(Depth::Deep { minutes: 60 }));
        let short = parsed(&["--deep", "--minutes", "5"]).unwrap();
        assert_eq!(short, Some(Depth::Deep { minutes: 5 }));
        assert_eq!(parsed(&["--real"]).unwrap(), Some(Depth::Real { asan: false }));
        assert_eq!(parsed(&["--real", "--asan"]).unwrap(), Some(Depth::Real { asan: true }));
        assert_eq!(parsed(&["--deep", "--help"]).unwrap(), None);
    }

    #[test]
    fn what_does_not_go_together_is_an_error() {
        let wrong: [&[&str]; 6] = [
            &["--quick", "--deep"],
            &["--minutes", "5"],
            &["--asan"],
            &["--real", "--minutes", "5"],
            &["--deep", "--minutes", "x"],
            &["--slow"],
        ];
        for args in wrong {
            assert!(parsed(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn one_bug_can_be_shown() {
        let parsed = |args: &[&str]| parse_mutants(Parser::from_args(args));
        assert_eq!(parsed(&[]).unwrap(), Mutants::All);
        assert_eq!(parsed(&["--show", "a"]).unwrap(), Mutants::Show(String::from("a")));
        assert_eq!(parsed(&["--help"]).unwrap(), Mutants::Help);
        assert!(parsed(&["--show"]).is_err() && parsed(&["a"]).is_err());
        let text = "#[test]\nfn one() { S.catches(\"a\", \"\") }\n#[test]\nfn two() { \"ab\" }";
        assert_eq!(tests_with("a", text), ["one"]);
        assert!(show("unheard-of").is_err());
    }

    #[test]
    fn planted_bugs_are_found_by_their_names() {
        let text = "if planted!(\"one\") || planted!(\"two\") {}\nplanted!(\"one\");\nplanted!(x)";
        let found = planted(&[(String::from("a"), String::from(text))]);
        assert_eq!(found, ["one", "two"].map(String::from).into());
        let found = planted(&texts("src").unwrap());
        assert!(found.len() > 48, "the library has planted bugs");
        for bug in OF_DOUBLES {
            assert!(found.contains(bug), "{bug}");
        }
        // Bugs of lookups: models catch them, and the histories of real threads do.
        for bug in ["expired-undecided", "miss-what-was-replaced", "take-once-tried"] {
            let is_caught = crate::plants::named(crate::chaos::PLANTS, bug).is_ok();
            assert!(found.contains(bug) && is_caught, "{bug}");
        }
    }

    #[test]
    fn the_environment_of_the_caller_does_not_reach_the_models() {
        let of_a_model = ["LOOM_MAX_DURATION", "LOOM_MAX_PERMUTATIONS", "MODELS_SHOW"];
        assert!(of_a_model.into_iter().all(is_of_a_model));
        assert!(!is_of_a_model("PATH"));
    }
}
