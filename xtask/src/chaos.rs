//! `cargo xtask chaos`: the histories of `tests/linearizability.rs`, with pauses at every atomic step.
//!
//! The build has a target folder of its own, for `--cfg chaos` changes every artifact, and is of the
//! member `default-tests`, which needs none of the other dependencies of the tests.
//!
//! `--operations` says how many each scenario makes at least, `--seed` where its random numbers begin.
//!
//! With `--plant NAME` the run has to fail: that seeded bug is switched on. With `--plants` that is done for
//! each bug of [`PLANTS`], and a table tells how soon they were caught (see `plants.rs`).

use std::process::Command;

use anyhow::{Result, ensure};
use lexopt::{Arg, Parser, ValueExt};

use crate::plants::{self, LINEARIZABLE, Plant, plant};
use crate::step::{self, cargo};

/// The member that has the test, and the test.
const TEST: [&str; 4] = ["--package", "default-tests", "--test", "linearizability"];

/// The bugs that histories of real threads catch.
pub(crate) const PLANTS: &[Plant] = &[
    plant("take-by-load-and-store", "no_limit", LINEARIZABLE),
    plant("take-once-tried", "no_limit", LINEARIZABLE),
    plant("replace-in-two-steps", "no_limit", LINEARIZABLE),
    plant("miss-what-was-replaced", "no_limit", LINEARIZABLE),
    plant("unlink-by-store", "no_limit", LINEARIZABLE),
    plant("start-early", "no_limit", LINEARIZABLE),
    plant("ancestor-region-ends", "no_limit", LINEARIZABLE),
    plant("no-size-recheck", "no_limit", LINEARIZABLE),
    plant("new-cell-knows-nothing", "no_limit", LINEARIZABLE),
    plant("bit-in-the-first-cell", "no_limit", LINEARIZABLE),
    plant("cleared-with-the-first", "no_limit", LINEARIZABLE),
    plant("decide-by-load-and-store", "extensions", LINEARIZABLE),
    plant("extend-by-load-and-store", "extensions", LINEARIZABLE),
    plant("expired-undecided", "extensions", LINEARIZABLE),
    plant("expired-though-replaced", "extensions", LINEARIZABLE),
];

/// Bugs that are caught at once.
pub(crate) const SOON: [&str; 2] = ["take-by-load-and-store", "replace-in-two-steps"];

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
    if wish.plants {
        step::run(&mut in_chaos(cargo(&["test", "--no-run"]), &TEST))?;
        return plants::catch_all(PLANTS, wish.seed, planted(&wish));
    }
    if let Some(name) = &wish.plant {
        let plant = plants::named(PLANTS, name)?;
        return step::say(&plants::catch(plant, wish.seed, planted(&wish))?.said);
    }
    commands(&wish).into_iter().try_for_each(|mut command| step::run(&mut command))
}

/// The parts of it that are in `cargo xtask test`.
pub(crate) fn quick() -> Vec<Command> {
    commands(&Wish { operations: Some(100_000), ..Wish::default() })
}

pub(crate) fn quick_plants() -> Result<()> {
    let soon = PLANTS.iter().filter(|plant| SOON.contains(&plant.bug));
    plants::catch_all(soon, None, planted(&Wish::default()))
}

fn commands(wish: &Wish) -> Vec<Command> {
    vec![clippy(), test(wish, &["--nocapture", "--test-threads", "1"])]
}

/// Runs a scenario from a seed on, long enough to meet each bug.
fn planted(wish: &Wish) -> impl Fn(&str, u64) -> Command {
    let operations = Some(wish.operations.unwrap_or(ENOUGH));
    move |scenario, seed| {
        test(&Wish { operations, seed: Some(seed), ..Wish::default() }, &["--exact", scenario])
    }
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
