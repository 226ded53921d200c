//! Bugs that are switched on, one after the other, to show that a test catches them: `--plants` of
//! `cargo xtask chaos` and of `cargo xtask shuttle`.
//!
//! A test that finds something wrong says after how much, and what:
//!
//! ```text
//! no limit: wrong after 4734 operations: not linearizable: id 2, …
//! ```
//!
//! A bug is caught by the assertion that it breaks, and by nothing else. One that leads threads astray in
//! memory may end otherwise before: in a crash, in a loop without an end, in an assertion that is about
//! something else. Such an end is shown and counts for nothing, and other seeds are tried.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::step::say;
use crate::{chaos, shuttle};

/// What is broken if no order of an id's calls explains what they returned.
pub(crate) const LINEARIZABLE: &str = "not linearizable";

/// Seeds that are tried.
const SEEDS: u64 = 5;

/// A seeded bug, the scenario that meets it, and words of the assertion that it breaks there.
pub(crate) struct Plant {
    pub(crate) bug: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) breaks: &'static str,
}

pub(crate) const fn plant(
    bug: &'static str,
    scenario: &'static str,
    breaks: &'static str,
) -> Plant {
    Plant { bug, scenario, breaks }
}

/// The bug of this name.
pub(crate) fn named<'p>(plants: &'p [Plant], name: &str) -> Result<&'p Plant> {
    plants.iter().find(|plant| plant.bug == name).with_context(|| {
        let names: Vec<&str> = plants.iter().map(|plant| plant.bug).collect();
        format!("no seeded bug `{name}` for this test; there are {}", names.join(", "))
    })
}

/// A bug that was caught.
pub(crate) struct Catch {
    /// After how much.
    after: String,
    /// What the test said.
    pub(crate) said: String,
}

/// The part of it that is in `cargo xtask test`: bugs that are caught at once. A check that sees nothing
/// any more does not see them.
pub(crate) fn check() -> Result<()> {
    chaos::quick_plants()?;
    shuttle::quick_plants()
}

/// Every bug has to be caught; the table tells how soon. `test` runs a scenario from a seed on.
pub(crate) fn catch_all<'p>(
    plants: impl IntoIterator<Item = &'p Plant>,
    first_seed: Option<u64>,
    test: impl Fn(&str, u64) -> Command,
) -> Result<()> {
    let row = |[bug, scenario, after, time, breaks]: [&str; 5]| {
        say(&format!("    {bug:<34} {scenario:<20} {after:<34} {time:>8}  {breaks}"))
    };
    row(["bug", "scenario", "caught after", "time", "assertion"])?;
    let mut count = 0;
    for plant in plants {
        let start = Instant::now();
        let Catch { after, .. } = catch(plant, first_seed, &test)?;
        let time = format!("{:.1} s", start.elapsed().as_secs_f64());
        row([plant.bug, plant.scenario, &after, &time, plant.breaks])?;
        count += 1;
    }
    say(&format!("    {count} bugs, all caught"))
}

/// Runs the scenario with the bug; fails if the test passes, or never breaks what it has to.
pub(crate) fn catch(
    plant: &Plant,
    first_seed: Option<u64>,
    test: impl Fn(&str, u64) -> Command,
) -> Result<Catch> {
    let Plant { bug, scenario, breaks } = plant;
    let first = first_seed.unwrap_or(1);
    for seed in first..first + SEEDS {
        let mut command = test(scenario, seed);
        command.env("RESUMPTION_PLANT", bug).env("RUST_BACKTRACE", "0");
        let output = command.stdin(Stdio::null()).output().context("cannot run the test")?;
        ensure!(!output.status.success(), "`{bug}` was not caught");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        if let Some(after) = caught(&said, breaks) {
            let after = String::from(after);
            return Ok(Catch { after, said: format!("{said}{complaint}") });
        }
        say(&format!("    `{bug}` ended otherwise than by \"{breaks}\":\n{said}{complaint}"))?;
    }
    bail!("`{bug}` was not caught by \"{breaks}\"")
}

/// After how much the test found this assertion broken, if that is what it found.
fn caught<'s>(said: &'s str, breaks: &str) -> Option<&'s str> {
    let (_, verdict) = said.split_once(": wrong after ")?;
    let (after, what) = verdict.lines().next()?.split_once(": ")?;
    what.contains(breaks).then_some(after)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::models;

    #[test]
    fn a_catch_is_read_off_what_the_test_says() {
        let said = "no limit: wrong after 4734 operations: not linearizable: id 2\n  table";
        assert_eq!(caught(said, LINEARIZABLE), Some("4734 operations"));
        let said = "\nlimits: wrong after 2 executions of 3 tasks, pct: 9 sessions of 8\nREPLAY";
        assert_eq!(caught(said, "sessions of 8"), Some("2 executions of 3 tasks, pct"));
    }

    #[test]
    fn another_end_is_no_catch() {
        for end in [
            "no limit: 200 executions",
            "not linearizable: id 2",
            "few: wrong after 1 executions of 3 tasks, pct: deadlock! blocked tasks: []",
            "few: wrong after 1 executions of 3 tasks, pct: index out of bounds\nnot linearizable: ",
        ] {
            assert_eq!(caught(end, LINEARIZABLE), None, "{end}");
        }
    }

    #[test]
    fn a_bug_that_breaks_something_else_or_nothing_is_not_caught() {
        let plant = plant("a-bug", "no_limit", LINEARIZABLE);
        let ends = |script: &str| {
            let sh = |_: &str, _| {
                let mut sh = Command::new("sh");
                sh.args(["-c", script]);
                sh
            };
            catch(&plant, None, sh).map(|caught| caught.after)
        };
        let wrong = "echo no limit: wrong after 3 operations: not linearizable: id 2";
        assert_eq!(ends(&format!("{wrong}; exit 1")).unwrap(), "3 operations");
        assert!(ends(wrong).is_err(), "the test passed");
        assert!(ends("exit 1").is_err() && ends("kill -SEGV $$").is_err());
    }

    #[test]
    fn every_bug_is_in_the_source_and_in_the_table_of_its_test() {
        let sources = models::all_planted().unwrap();
        for (plants, soon, table) in [
            (chaos::PLANTS, &chaos::SOON[..], "tests/linearizability.rs"),
            (shuttle::PLANTS, &shuttle::SOON[..], "shuttle-tests/tests/schedules.rs"),
        ] {
            let table = fs::read_to_string(crate::root().join(table)).unwrap();
            for Plant { bug, scenario, .. } in plants {
                assert!(sources.contains(*bug), "{bug}");
                assert!(table.contains(&format!("| `{bug}` | {scenario} |")), "{bug}");
                assert!(table.contains(&format!("fn {scenario}()")), "{scenario}");
            }
            assert!(soon.iter().all(|bug| named(plants, bug).is_ok()), "{soon:?}");
        }
    }
}
