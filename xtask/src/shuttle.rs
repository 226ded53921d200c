//! `cargo xtask shuttle`: the random schedules of `shuttle-tests`.
//!
//! The build has a target folder of its own, for its flags change every artifact, and is optimised: a
//! schedule has some ten thousand steps. What is asserted stays.
//!
//! With `--plant NAME` the run has to fail: that seeded bug is switched on. With `--plants` that is done for
//! each bug of [`PLANTS`], and a table tells how soon they were caught. A bug is caught by a history that
//! is not linearizable, or by a bound or an assertion that does not hold; a crash is none.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lexopt::{Arg, Parser, ValueExt};

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

/// Executions after which a bug counts as not caught; several times what any of them took.
const ENOUGH: u64 = 20_000;

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
    plant("unlink-by-store", "no_limit"),
    plant("start-early", "growth"),
    plant("ancestor-region-ends", "growth"),
    plant("no-size-recheck", "growth"),
    plant("size-before-cell", "growth"),
    plant("new-cell-knows-nothing", "growth"),
    plant("bit-in-the-first-cell", "growth"),
    plant("bit-by-load-and-store", "growth"),
    plant("cleared-with-the-first", "growth"),
    plant("linked-before-its-next", "expiry"),
    plant("no-second-search", "expiry"),
    plant("miss-what-was-replaced", "extensions"),
    plant("linked-before-its-bit", "few"),
    plant("decide-by-load-and-store", "extensions"),
    plant("extend-by-load-and-store", "extensions"),
    plant("expired-undecided", "extensions"),
    plant("take-by-load-and-store-of-tokens", "eviction"),
    plant("claim-by-load-and-store", "eviction"),
    plant("give-by-load-and-store", "eviction_and_expiry"),
    plant("no-second-look-at-the-scope", "sweeps"),
    plant("search-without-announcement", "sweeps"),
    plant("announced-by-load-and-store", "sweeps"),
    plant("leaving-without-coming", "sweeps"),
    plant("replace-of-the-removed", "limits"),
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
        return catch_all(&wish);
    }
    if let Some(name) = wish.plant.as_ref().filter(|_| wish.replay.is_none()) {
        let planted = PLANTS.iter().find(|plant| plant.bug == name);
        let Some(planted) = planted else {
            let names: Vec<&str> = PLANTS.iter().map(|plant| plant.bug).collect();
            bail!("no seeded bug `{name}` for this test; there are {}", names.join(", "));
        };
        return say(&catch(planted, &wish)?.said);
    }
    commands(&wish).into_iter().try_for_each(|mut command| step::run(&mut command))
}

/// The part of it that is in `cargo xtask test`.
pub(crate) fn quick() -> Vec<Command> {
    commands(&Wish { iterations: Some(QUICK), ..Wish::default() })
}

fn commands(wish: &Wish) -> Vec<Command> {
    vec![clippy(), test(wish, wish.scenario.as_deref())]
}

/// How a bug was caught.
struct Catch {
    /// By the how manieth execution, of how many tasks, under which scheduler.
    execution: u64,
    tasks: u64,
    scheduler: String,
    /// What the test said.
    said: String,
}

/// Every bug has to be caught; the table tells how soon.
fn catch_all(wish: &Wish) -> Result<()> {
    let mut build = with_flags(cargo(&["test", "--package", PACKAGE, "--release", "--no-run"]));
    step::run(&mut build)?;
    let titles = ["bug", "scenario", "executions", "scheduler", "tasks", "time"];
    let line = |[bug, scenario, executions, scheduler, tasks, time]: [&str; 6]| {
        format!(
            "    {bug:<34} {scenario:<20} {executions:>10}  {scheduler:<9} {tasks:>5} {time:>8}"
        )
    };
    say(&line(titles))?;
    for plant in PLANTS {
        let start = Instant::now();
        let Catch { execution, tasks, scheduler, .. } = catch(plant, wish)?;
        let (execution, tasks) = (execution.to_string(), tasks.to_string());
        let time = format!("{:.1} s", start.elapsed().as_secs_f64());
        say(&line([plant.bug, plant.scenario, &execution, &scheduler, &tasks, &time]))?;
    }
    say(&format!("    {} bugs, all caught", PLANTS.len()))
}

/// Runs the scenario with the bug; fails if the test passes.
///
/// A bug that leaves what is freed in the list may end in a crash before anything is seen to be wrong:
/// then other seeds are tried.
fn catch(plant: &Plant, wish: &Wish) -> Result<Catch> {
    const SEEDS: u64 = 5;
    let Plant { bug, scenario } = plant;
    let first = wish.seed.unwrap_or(1);
    for seed in first..first + SEEDS {
        let iterations = Some(wish.iterations.unwrap_or(ENOUGH));
        let wish = Wish { seed: Some(seed), iterations, ..Wish::default() };
        let mut command = test(&wish, Some(scenario));
        command.env("RESUMPTION_PLANT", bug).env("RUST_BACKTRACE", "0");
        let output = command.stdin(Stdio::null()).output().context("cannot run the test")?;
        if output.status.success() {
            bail!("`{bug}` was not caught");
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        if let Some(caught) = caught_in(&said) {
            return Ok(Catch { said: said + &complaint, ..caught });
        }
        say(&format!("    `{bug}` ended otherwise than by a failure:\n{said}{complaint}"))?;
    }
    bail!("`{bug}` was not caught by a failure")
}

/// What the test's words on an execution that is wrong say.
fn caught_in(said: &str) -> Option<Catch> {
    let line = said.lines().find(|line| line.ends_with(" is wrong"))?;
    let (_, counts) = line.split_once(": ")?;
    let (tasks, execution) = counts.split_once(" tasks, execution ")?;
    let (_, replay) = said.split_once("RESUMPTION_REPLAY=")?;
    Some(Catch {
        execution: execution.strip_suffix(" is wrong")?.parse().ok()?,
        tasks: tasks.parse().ok()?,
        scheduler: replay.split_once(':')?.0.into(),
        said: String::new(),
    })
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
    fn a_catch_is_read_off_the_report() {
        let said = "no limit: 5 tasks, execution 114 is wrong\nRESUMPTION_REPLAY=pct:7 repeats it";
        let caught = caught_in(said).unwrap();
        assert_eq!((caught.execution, caught.tasks, &*caught.scheduler), (114, 5, "pct"));
        assert!(caught_in("no limit: 200 executions").is_none());
        assert!(caught_in("test no_limit ... no limit: 3 tasks, execution 1 is wrong").is_none());
    }

    #[test]
    fn every_bug_is_in_the_source_and_in_the_table_of_the_test() {
        let sources = crate::models::all_planted().unwrap();
        let table = crate::root().join("shuttle-tests/tests/schedules.rs");
        let table = std::fs::read_to_string(table).unwrap();
        for Plant { bug, scenario } in PLANTS {
            assert!(sources.contains(*bug), "{bug}");
            assert!(table.contains(&format!("| `{bug}` | {scenario} |")), "{bug}");
            assert!(table.contains(&format!("fn {scenario}()")), "{scenario}");
        }
        let tests = table.matches("#[test]").count();
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
