//! `cargo xtask loom --deep`: larger bounds, as long as the time lasts.
//!
//! Each scenario is explored within its recorded bound, as always; then with one preemption more, and
//! one more, until its share of the time is over. A bound that was not finished counts for nothing, and
//! is told as unfinished.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{command, new_report, protocols, read_report};
use crate::step::{self, say};

pub(super) fn run(minutes: u64) -> Result<()> {
    let scenarios = scenarios()?;
    let jobs = available_parallelism()?.get() as u64;
    let seconds = share(minutes, jobs, scenarios);
    let many = format!("    {scenarios} scenarios, {seconds} s more for each in each of two modes");
    say(&many)?;
    let path = new_report()?;
    let has_nextest = crate::test::has_nextest();
    let mut tests = command(has_nextest);
    if has_nextest {
        tests.args(["--profile", "deep"]);
    }
    tests.env("MODELS_REPORT", &path).env("MODELS_DEEPER", seconds.to_string());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| follow(&path, scenarios, &is_over));
        let run = step::run(&mut tests);
        // Relaxed: it carries nothing with it.
        is_over.store(true, Ordering::Relaxed);
        run
    })?;
    let report = read_report(&path)?;
    report.depths().lines().try_for_each(say)?;
    report.bugs().lines().try_for_each(say)
}

fn scenarios() -> Result<u64> {
    let texts = protocols()?;
    let count = texts.iter().map(|(_, text)| text.matches(".explore();").count()).sum::<usize>();
    ensure!(count > 0, "there are no scenarios");
    Ok(count as u64)
}

/// Seconds for each scenario in each mode.
fn share(minutes: u64, jobs: u64, scenarios: u64) -> u64 {
    (minutes * 60 * jobs / (2 * scenarios)).max(1)
}

/// Shows what the scenarios tell of their progress, until the run is over. What cannot be read is read
/// again when the run is over, and is an error then.
fn follow(path: &Path, scenarios: u64, is_over: &AtomicBool) {
    let (start, mut seen, mut done) = (Instant::now(), 0, 0);
    loop {
        // Before the reading, so that nothing is left unread.
        let is_last = is_over.load(Ordering::Relaxed);
        let text = fs::read_to_string(path).unwrap_or_default();
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[seen..complete].lines() {
            let Some((shown, is_end)) = progress(line) else { continue };
            done += u64::from(is_end);
            let minutes = start.elapsed().as_secs() / 60;
            let _ = say(&format!("    {minutes:>3} min, {done} of {}: {shown}", 2 * scenarios));
        }
        seen = complete;
        if is_last {
            return;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// A line of the report as it is shown, and whether it is the last one of a scenario and a mode.
fn progress(line: &str) -> Option<(String, bool)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [kind, protocol, scenario, mode, bound, rest @ ..] = &fields[..] else { return None };
    let so_far = match (*kind, rest) {
        ("exhausted", []) => String::from("more preemptions add no execution"),
        ("explored", [count, _]) | ("deeper", [count]) => format!("{count} executions"),
        ("unfinished", [count]) => format!("not finished, {count} executions so far"),
        ("running", [count]) => format!("{count} executions so far"),
        _ => return None,
    };
    // Beyond all preemptions nothing is explored.
    let is_end = matches!(*kind, "exhausted" | "unfinished") || *bound == "all preemptions";
    Some((format!("{protocol}: {scenario}: {mode} mode, {bound}: {so_far}"), is_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_fill_the_time() {
        assert_eq!(share(60, 2, 75), 48);
        assert_eq!(share(1, 1, 1000), 1);
        let scenarios = scenarios().unwrap();
        let needed = share(600, 2, scenarios) * 2 * scenarios / 2 / 60;
        assert!((590..=600).contains(&needed), "{needed}");
    }

    #[test]
    fn progress_is_shown_and_ends_are_counted() {
        let shown = |line: &str| progress(&line.replace('|', "\t"));
        let end = shown("unfinished|table|a ∥ b|memory|4 preemptions|70");
        let text = "table: a ∥ b: memory mode, 4 preemptions: not finished, 70 executions so far";
        assert_eq!(end, Some((String::from(text), true)));
        let is_end = |line| shown(line).unwrap().1;
        assert!(is_end("exhausted|table|a ∥ b|memory|4 preemptions"));
        assert!(is_end("explored|table|a ∥ b|memory|all preemptions|70|1"));
        assert!(!is_end("explored|table|a ∥ b|memory|2 preemptions|70|1"));
        assert!(!is_end("deeper|table|a ∥ b|memory|3 preemptions|700"));
        assert!(!is_end("running|table|a ∥ b|memory|3 preemptions|200"));
        assert_eq!(shown("caught|table|a ∥ b|bug|one wins|7|-"), None);
    }
}
