//! `cargo xtask shuttle`: the random schedules of `shuttle-tests`.
//!
//! The build has a target folder of its own, for its flags change every artifact, and is optimised: a
//! schedule has some ten thousand steps. What is asserted stays.
//!
//! With `--plant NAME` the run has to fail: that seeded bug is switched on. With `--plants` that is done for
//! each bug of [`PLANTS`], and a table tells how soon they were caught (see `plants.rs`).

use std::process::Command;

use anyhow::{Result, ensure};
use lexopt::{Arg, Parser, ValueExt};

use crate::plants::{self, LINEARIZABLE, Plant, plant};
use crate::step::{self, cargo, say};

const HELP: &str = "\
Usage: cargo xtask shuttle [--scenario NAME] [--iterations N] [--seed N]
       cargo xtask shuttle --scenario NAME --replay KIND:SEED [--plant BUG]
       cargo xtask shuttle --plants | --plant BUG [--iterations N] [--seed N]

Runs the cache's calls under random schedules, and checks what they return.

  --scenario NAME     only this one: a test of shuttle-tests/tests/schedules.rs
  --iterations N      executions of each scenario under each of two schedulers (1000)
  --seed N            where the random numbers begin (1)
  --replay KIND:SEED  only these executions, as a failure says them
  --plant BUG         with this bug switched on: has to fail
  --plants            so with each of those that this has to catch, and tells how soon
";

/// Executions of a scenario under each scheduler in `cargo xtask test`: half a minute for all.
const QUICK: u64 = 200;

/// Executions under each scheduler after which a bug counts as not caught.
const ENOUGH: u64 = 20_000;

/// What is broken if an iteration and lookups do not find the same sessions.
const WALK: &str = "a walk and lookups differ";

/// What is broken if callbacks are not told once of each session that it came, and that it left.
const TOLD: &str = "sessions was told";

/// The bugs that random schedules catch.
pub(crate) const PLANTS: &[Plant] = &[
    plant("take-by-load-and-store", "no_limit", LINEARIZABLE),
    plant("take-once-tried", "no_limit", LINEARIZABLE),
    plant("replace-in-two-steps", "no_limit", LINEARIZABLE),
    plant("unlink-by-store", "no_limit", LINEARIZABLE),
    plant("start-early", "growth", LINEARIZABLE),
    plant("ancestor-region-ends", "growth", WALK),
    plant("no-size-recheck", "growth", LINEARIZABLE),
    plant("size-before-cell", "growth", LINEARIZABLE),
    plant("new-cell-knows-nothing", "growth", LINEARIZABLE),
    plant("bit-in-the-first-cell", "growth", LINEARIZABLE),
    plant("bit-by-load-and-store", "growth", LINEARIZABLE),
    plant("cleared-with-the-first", "growth", LINEARIZABLE),
    plant("linked-before-its-next", "expiry", WALK),
    plant("no-second-search", "expiry", TOLD),
    plant("miss-what-was-replaced", "extensions", LINEARIZABLE),
    plant("linked-before-its-bit", "few", LINEARIZABLE),
    plant("decide-by-load-and-store", "extensions", LINEARIZABLE),
    plant("extend-by-load-and-store", "extensions", LINEARIZABLE),
    plant("expired-undecided", "extensions", LINEARIZABLE),
    plant("take-by-load-and-store-of-tokens", "eviction", "sessions of 8"),
    plant("claim-by-load-and-store", "eviction", "sessions are left in a closed cache"),
    plant("give-by-load-and-store", "eviction_and_expiry", "a lower limit is obeyed"),
    plant("no-second-look-at-the-scope", "sweeps", WALK),
    plant("search-without-announcement", "sweeps", TOLD),
    plant("announced-by-load-and-store", "sweeps", TOLD),
    plant("leaving-without-coming", "sweeps", TOLD),
    plant("replace-of-the-removed", "limits", LINEARIZABLE),
];

/// Bugs that are caught at once, by one assertion each.
pub(crate) const SOON: [&str; 4] = [
    "replace-in-two-steps",
    "ancestor-region-ends",
    "no-second-search",
    "take-by-load-and-store-of-tokens",
];

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    plant: Option<String>,
    plants: bool,
    scenario: Option<String>,
    iterations: Option<u64>,
    seed: Option<u64>,
    replay: Option<String>,
    help: bool,
}

impl Wish {
    fn parse(mut parser: Parser) -> Result<Self> {
        let mut wish = Self::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("plant") => wish.plant = Some(parser.value()?.string()?),
                Arg::Long("plants") => wish.plants = true,
                Arg::Long("scenario") => wish.scenario = Some(parser.value()?.string()?),
                Arg::Long("iterations") => wish.iterations = Some(parser.value()?.parse()?),
                Arg::Long("seed") => wish.seed = Some(parser.value()?.parse()?),
                Arg::Long("replay") => wish.replay = Some(parser.value()?.string()?),
                Arg::Long("help") | Arg::Short('h') => wish.help = true,
                other => return Err(other.unexpected().into()),
            }
        }
        wish.check()?;
        Ok(wish)
    }

    /// Refuses what does not go together, or is not there.
    fn check(&self) -> Result<()> {
        let is_planted = self.plants || self.plant.is_some();
        ensure!(!(self.plants && self.plant.is_some()), "--plants has all that --plant could name");
        if self.replay.is_some() {
            ensure!(self.scenario.is_some(), "--replay repeats a --scenario: which one?");
            ensure!(!self.plants, "--replay repeats one failure, --plants makes many");
            let fixed = self.iterations.is_none() && self.seed.is_none();
            ensure!(fixed, "--replay says the seed, and how many executions");
        } else {
            let alone = self.scenario.is_none() || !is_planted;
            ensure!(alone, "a planted bug has its own scenario");
        }
        if let Some(name) = &self.scenario {
            let known = PLANTS.iter().any(|plant| plant.scenario == name);
            ensure!(known, "no scenario `{name}`; there are {}", scenarios().join(", "));
        }
        Ok(())
    }
}

/// The names of the scenarios. Each of them has to catch a bug.
fn scenarios() -> Vec<&'static str> {
    let mut names: Vec<&str> = PLANTS.iter().map(|plant| plant.scenario).collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(crate) fn run(parser: Parser) -> Result<()> {
    let wish = Wish::parse(parser)?;
    if wish.help {
        print!("{HELP}");
        return Ok(());
    }
    if wish.plants {
        let mut build = with_flags(cargo(&["test", "--package", PACKAGE, "--release", "--no-run"]));
        step::run(&mut build)?;
        return plants::catch_all(PLANTS, wish.seed, planted(&wish));
    }
    if let Some(name) = &wish.plant {
        let plant = plants::named(PLANTS, name)?;
        if wish.replay.is_none() {
            return say(&plants::catch(plant, wish.seed, planted(&wish))?.said);
        }
    }
    commands(&wish).into_iter().try_for_each(|mut command| step::run(&mut command))
}

/// The parts of it that are in `cargo xtask test`.
pub(crate) fn quick() -> Vec<Command> {
    commands(&Wish { iterations: Some(QUICK), ..Wish::default() })
}

pub(crate) fn quick_plants() -> Result<()> {
    let soon = PLANTS.iter().filter(|plant| SOON.contains(&plant.bug));
    plants::catch_all(soon, None, planted(&Wish::default()))
}

fn commands(wish: &Wish) -> Vec<Command> {
    vec![clippy(), test(wish, wish.scenario.as_deref())]
}

/// Runs a scenario from a seed on, long enough to meet each bug.
fn planted(wish: &Wish) -> impl Fn(&str, u64) -> Command {
    let iterations = Some(wish.iterations.unwrap_or(ENOUGH));
    move |scenario, seed| {
        test(&Wish { iterations, seed: Some(seed), ..Wish::default() }, Some(scenario))
    }
}

/// The member with the schedules.
const PACKAGE: &str = "shuttle-tests";

/// Nothing else compiles what is for shuttle alone.
fn clippy() -> Command {
    let arguments = ["clippy", "--package", PACKAGE, "--release", "--all-targets"];
    let mut clippy = with_flags(cargo(&arguments));
    clippy.args(["--", "-D", "warnings"]);
    clippy
}

fn test(wish: &Wish, scenario: Option<&str>) -> Command {
    let arguments = ["test", "--package", PACKAGE, "--release", "--test", "schedules"];
    let mut test = with_flags(cargo(&arguments));
    test.args(["--", "--nocapture", "--test-threads", "1"]);
    if let Some(scenario) = scenario {
        test.args(["--exact", scenario]);
    }
    let text = |number: Option<u64>| number.map(|number| number.to_string());
    let variables = [
        ("RESUMPTION_ITERATIONS", text(wish.iterations)),
        ("RESUMPTION_SEED", text(wish.seed)),
        ("RESUMPTION_REPLAY", wish.replay.clone()),
        ("RESUMPTION_PLANT", wish.plant.clone()),
    ];
    for (name, value) in variables {
        match value {
            Some(value) => test.env(name, value),
            None => test.env_remove(name),
        };
    }
    test
}

/// The flags, and what a debug build would assert. Shuttle would have its own seed for all scenarios from
/// the caller's environment.
fn with_flags(mut command: Command) -> Command {
    command.env("RUSTFLAGS", "--cfg chaos --cfg shuttle").env("CARGO_TARGET_DIR", "target/shuttle");
    command.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
    command.env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true");
    command.env_remove("SHUTTLE_RANDOM_SEED");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Wish> {
        Wish::parse(Parser::from_args(args))
    }

    #[test]
    fn every_scenario_catches_a_bug() {
        let tests = crate::root().join("shuttle-tests/tests/schedules.rs");
        let tests = std::fs::read_to_string(tests).unwrap().matches("#[test]").count();
        assert_eq!(tests, scenarios().len(), "a scenario that catches nothing shows nothing");
    }

    #[test]
    fn the_command_line_is_read() {
        let expected = Wish { plant: Some("a".into()), seed: Some(7), ..Wish::default() };
        assert_eq!(parsed(&["--plant", "a", "--seed", "7"]).unwrap(), expected);
        let replayed = ["--scenario", "no_limit", "--replay", "pct:7", "--plant", "a"];
        assert_eq!(parsed(&replayed).unwrap().replay.as_deref(), Some("pct:7"));
        assert!(parsed(&["--help"]).unwrap().help);
        assert!(run(Parser::from_args(["--plant", "no-such-bug"])).is_err());
    }

    #[test]
    fn what_does_not_go_together_is_an_error() {
        let wrong: [&[&str]; 8] = [
            &["x"],
            &["--iterations", "many"],
            &["--plants", "--plant", "a"],
            &["--replay", "pct:7"],
            &["--scenario", "no_limit", "--replay", "pct:7", "--seed", "1"],
            &["--scenario", "no_limit", "--replay", "pct:7", "--plants"],
            &["--scenario", "no_limit", "--plants"],
            &["--scenario", "no-such-scenario"],
        ];
        for args in wrong {
            assert!(parsed(args).is_err(), "{args:?}");
        }
    }
}
