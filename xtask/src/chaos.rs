//! `cargo xtask chaos`: the histories of `tests/linearizability.rs`, with pauses at every atomic step.
//!
//! The build has a target folder of its own, for `--cfg chaos` changes every artifact, and is of the
//! member `default-tests`, which needs none of the other dependencies of the tests.
//!
//! `--operations` says how many each scenario makes at least, `--seed` where its random numbers begin.
//!
//! With `--plant NAME` the run has to fail: that seeded bug is switched on. With `--plants` that is done for
//! each bug of [`PLANTS`], and a table tells how soon they were caught. A bug is caught by a history that
//! is not linearizable, and by nothing else: a crash is none.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lexopt::{Arg, Parser, ValueExt};

use crate::step::{self, cargo};

/// The member that has the test, and the test.
const TEST: [&str; 4] = ["--package", "default-tests", "--test", "linearizability"];

/// A seeded bug, and the scenario that meets it.
struct Plant {
    bug: &'static str,
    scenario: &'static str,
}

const fn plant(bug: &'static str, scenario: &'static str) -> Plant {
    Plant { bug, scenario }
}

const PLANTS: &[Plant] = &[
    plant("take-by-load-and-store", "no_limit"),
    plant("take-once-tried", "no_limit"),
    plant("replace-in-two-steps", "no_limit"),
    plant("miss-what-was-replaced", "no_limit"),
    plant("unlink-by-store", "no_limit"),
    plant("start-early", "no_limit"),
    plant("ancestor-region-ends", "no_limit"),
    plant("no-size-recheck", "no_limit"),
    plant("new-cell-knows-nothing", "no_limit"),
    plant("bit-in-the-first-cell", "no_limit"),
    plant("cleared-with-the-first", "no_limit"),
    plant("decide-by-load-and-store", "extensions"),
    plant("extend-by-load-and-store", "extensions"),
    plant("expired-undecided", "extensions"),
    plant("expired-though-replaced", "extensions"),
];

/// Whether a bug is one of those that `--plants` has to catch.
#[cfg(test)]
pub(crate) fn is_caught(bug: &str) -> bool {
    PLANTS.iter().any(|plant| plant.bug == bug)
}

const HELP: &str = "\
Usage: cargo xtask chaos [--operations N] [--seed N]
       cargo xtask chaos --plants | --plant BUG [--operations N] [--seed N]

Real threads, with a pause of random length now and then before an atomic step; what their calls return is checked for
linearizability.

  --operations N  calls of each scenario (500000; with a bug 5000000)
  --seed N        where the random numbers begin (1)
  --plant BUG     with this bug switched on: has to fail
  --plants        so with each of those that this has to catch, and tells how soon
";

/// Operations after which a bug counts as not caught; several times what any of them took.
const ENOUGH: u64 = 5_000_000;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    plant: Option<String>,
    plants: bool,
    operations: Option<u64>,
    seed: Option<u64>,
    help: bool,
}

impl Wish {
    fn parse(mut parser: Parser) -> Result<Self> {
        let mut wish = Self::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("plant") => wish.plant = Some(parser.value()?.string()?),
                Arg::Long("help") | Arg::Short('h') => wish.help = true,
                Arg::Long("plants") => wish.plants = true,
                Arg::Long("operations") => wish.operations = Some(parser.value()?.parse()?),
                Arg::Long("seed") => wish.seed = Some(parser.value()?.parse()?),
                other => return Err(other.unexpected().into()),
            }
        }
        ensure!(!(wish.plants && wish.plant.is_some()), "--plants has all that --plant could name");
        Ok(wish)
    }
}

pub(crate) fn run(parser: Parser) -> Result<()> {
    let wish = Wish::parse(parser)?;
    if wish.help {
        print!("{HELP}");
        return Ok(());
    }
    if let Some(name) = &wish.plant {
        let planted = PLANTS.iter().find(|plant| plant.bug == name);
        let Some(planted) = planted else {
            let names: Vec<&str> = PLANTS.iter().map(|plant| plant.bug).collect();
            bail!("no seeded bug `{name}` for this test; there are {}", names.join(", "));
        };
        let (_, said) = catch(planted, &wish)?;
        return step::say(&said);
    }
    if wish.plants {
        return catch_all(&wish);
    }
    commands(&wish).into_iter().try_for_each(|mut command| step::run(&mut command))
}

/// The part of it that is in `cargo xtask test`.
pub(crate) fn quick() -> Vec<Command> {
    commands(&Wish { operations: Some(100_000), ..Wish::default() })
}

fn commands(wish: &Wish) -> Vec<Command> {
    vec![clippy(), test(wish, &["--nocapture", "--test-threads", "1"])]
}

/// Every bug has to be caught; the table tells how soon.
fn catch_all(wish: &Wish) -> Result<()> {
    step::run(&mut in_chaos(cargo(&["test", "--no-run"]), &TEST))?;
    step::say(&format!("    {:<28} {:<12} {:>12} {:>8}", "bug", "scenario", "operations", "time"))?;
    for plant in PLANTS {
        let start = Instant::now();
        let (operations, _) = catch(plant, wish)?;
        let (Plant { bug, scenario }, time) = (plant, start.elapsed().as_secs_f64());
        step::say(&format!("    {bug:<28} {scenario:<12} {operations:>12} {time:>6.1} s"))?;
    }
    step::say(&format!("    {} bugs, all caught", PLANTS.len()))
}

/// Runs the scenario with the bug; returns how many operations it took, and what the test said. Fails if
/// the test passes.
///
/// A bug that leaves what is freed in the list may end in a crash before a history is wrong: then other
/// seeds are tried.
fn catch(plant: &Plant, wish: &Wish) -> Result<(u64, String)> {
    const SEEDS: u64 = 5;
    let Plant { bug, scenario } = plant;
    let first = wish.seed.unwrap_or(1);
    for seed in first..first + SEEDS {
        let operations = Some(wish.operations.unwrap_or(ENOUGH));
        let wish = Wish { seed: Some(seed), operations, ..Wish::default() };
        let mut command = test(&wish, &["--exact", scenario]);
        command.env("RESUMPTION_PLANT", bug).env("RUST_BACKTRACE", "0");
        let output = command.stdin(Stdio::null()).output().context("cannot run the test")?;
        if output.status.success() {
            bail!("`{bug}` was not caught");
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(operations) = found_among(&said) {
            return Ok((operations, said));
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        step::say(&format!("    `{bug}` ended otherwise than by a history:\n{said}{complaint}"))?;
    }
    bail!("`{bug}` was not caught by a history")
}

/// The number in the test's words on a history that is not linearizable.
fn found_among(said: &str) -> Option<u64> {
    let (_, report) = said.split_once("not linearizable: ")?;
    let (_, count) = report.split_once("found among ")?;
    count.split_whitespace().next()?.parse().ok()
}

/// Nothing else compiles what is for chaos alone.
fn clippy() -> Command {
    let clippy = cargo(&["clippy", "--package", "resumption", "--lib"]);
    in_chaos(clippy, &["--", "-D", "warnings"])
}

fn test(wish: &Wish, arguments: &[&str]) -> Command {
    let mut test = in_chaos(cargo(&["test"]), &TEST);
    test.arg("--").args(arguments);
    let numbers = [("RESUMPTION_OPERATIONS", wish.operations), ("RESUMPTION_SEED", wish.seed)];
    for (name, number) in numbers {
        if let Some(number) = number {
            test.env(name, number.to_string());
        }
    }
    test
}

fn in_chaos(command: Command, arguments: &[&str]) -> Command {
    let mut command = step::undisturbed(command);
    command.args(arguments);
    command.env("RUSTFLAGS", "--cfg chaos").env("CARGO_TARGET_DIR", "target/chaos");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catch_is_read_off_the_report() {
        let said = "no limit: not linearizable: id 2\n  table\nfound among 4734 operations; RESUMP";
        assert_eq!(found_among(said), Some(4734));
        assert_eq!(found_among("threads do not come to the end of a round"), None);
        assert_eq!(found_among("found among 4734 operations"), None);
    }

    #[test]
    fn every_bug_is_in_the_source_and_in_the_table_of_the_test() {
        let sources = crate::models::all_planted().unwrap();
        let table = crate::root().join("tests/linearizability.rs");
        let table = std::fs::read_to_string(table).unwrap();
        for Plant { bug, scenario } in PLANTS {
            assert!(sources.contains(*bug), "{bug}");
            assert!(table.contains(&format!("| `{bug}` | {scenario} |")), "{bug}");
            assert!(table.contains(&format!("fn {scenario}()")), "{scenario}");
        }
    }

    #[test]
    fn the_command_line_is_read() {
        let wish = Wish::parse(Parser::from_args(["--plant", "a", "--seed", "7"])).unwrap();
        let expected = Wish { plant: Some("a".into()), seed: Some(7), ..Wish::default() };
        assert_eq!(wish, expected);
        assert!(Wish::parse(Parser::from_args(["--operations", "many"])).is_err());
        assert!(Wish::parse(Parser::from_args(["x"])).is_err());
        assert!(Wish::parse(Parser::from_args(["--plants", "--plant", "a"])).is_err());
        assert!(run(Parser::from_args(["--plant", "no-such-bug"])).is_err());
    }
}
