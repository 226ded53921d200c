//! `cargo xtask instructions`: what a get, a put and a take cost, counted and not timed.
//!
//! valgrind counts the instructions of `benches/gate.rs`; they are the same in each run but for
//! random keys of the hash, which move them by less than one in a hundred. More than 5 % over the
//! record in `benches/gate.json` is a failure. A new record is written by `--record`, and stands in a
//! commit of its own with its reason. Another compiler's code is held to 25 %, for nobody makes a record on the day that
//! a new one comes out. Another processor's instructions cannot be held to it, and locked instructions cannot be told
//! without `objdump`: these are skips, like those of a missing program, and failures with `--no-skips`.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser};
use serde::{Deserialize, Serialize};

use crate::debian::{self, Skips};
use crate::step::{self, cargo};

/// So many times the record is too much, and so many of another compiler's code.
const TOLERANCE: f64 = 1.05;
const OF_ANOTHER: f64 = 1.25;

/// So many locked instructions more are too many: one in two calls.
const MORE_LOCKED: f64 = 0.5;

const CALLS: [&str; 3] = ["get", "put", "take"];

/// What was counted, and by which compiler's code.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
struct Record {
    rustc: String,
    arch: String,
    /// Instructions of one call.
    instructions: Counts<u64>,
    /// The locked ones among them, where they can be told.
    locked: Counts<f64>,
}

impl Record {
    /// Whether locked instructions of this call were counted. No change of the code leaves none; an `objdump` that fails,
    /// or prints something else, does.
    fn has_locked(&self, call: &str) -> bool {
        self.locked.get(call).is_some_and(|count| *count > 0.0)
    }
}

pub(crate) fn run(mut parser: Parser) -> Result<()> {
    let (mut is_record, mut no_skips) = (false, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("record") => is_record = true,
            Arg::Long("no-skips") => no_skips = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if step::read(Command::new("valgrind").arg("--version")).is_err() {
        if no_skips || is_record {
            bail!("`valgrind` is missing: nothing counts the instructions");
        }
        return skip();
    }
    if is_record {
        return record();
    }
    let mut skips = Skips::default();
    skips.add(unjudged()?, no_skips)?;
    let locked =
        (!debian::has_objdump()).then(|| "the count of locked ones (no `objdump`)".to_owned());
    skips.add(locked, no_skips)?;
    check()?;
    skips.lines().try_for_each(|line| step::say(&format!("    {line}")))
}

/// Why nothing can be held to the record, unless it can: it is of another processor.
pub(crate) fn unjudged() -> Result<Option<String>> {
    Ok(difference(&recorded()?, ARCH))
}

fn difference(recorded: &Record, arch: &str) -> Option<String> {
    let is_same = recorded.arch == arch;
    let why = || {
        format!(
            "the judgement of instructions (the record is of {}, this is {arch})",
            recorded.arch
        )
    };
    (!is_same).then(why)
}

fn recorded() -> Result<Record> {
    let text = fs::read_to_string(path()).context("benches/gate.json")?;
    serde_json::from_str(&text).context("benches/gate.json")
}

fn rustc() -> Result<String> {
    let mut command = Command::new("rustc");
    Ok(step::read(command.arg("--version").current_dir(crate::root()))?.trim().to_owned())
}

/// Says that nothing was counted.
pub(crate) fn skip() -> Result<()> {
    step::say("    skipped: the count of instructions (`valgrind` is missing)")
}

/// Counts, and fails if that is too much.
pub(crate) fn check() -> Result<()> {
    for line in judge(&recorded()?, &count()?, debian::has_objdump())? {
        step::say(&format!("    {line}"))?;
    }
    Ok(())
}

fn record() -> Result<()> {
    let counted = count()?;
    complete(&counted)?;
    fs::write(path(), serde_json::to_string_pretty(&counted)? + "\n")?;
    step::say(&format!("    recorded in benches/gate.json: {:?}", counted.instructions))
}

/// Fails if locked instructions are missing where they can be told: what is not in the record is not judged by it.
fn complete(record: &Record) -> Result<()> {
    match CALLS.iter().find(|call| !record.has_locked(call)) {
        Some(call) if record.arch == "x86_64" => {
            bail!("{call}: no locked instructions were counted: what does `objdump` print?")
        }
        _ => Ok(()),
    }
}

fn path() -> PathBuf {
    crate::root().join("benches/gate.json")
}

/// What the calls cost now.
fn count() -> Result<Record> {
    let mut gate = cargo(&["bench", "--package", "default-tests", "--bench", "gate"]);
    let rustc = rustc()?;
    let (instructions, locked) = parse(&step::read(&mut gate)?)?;
    Ok(Record { rustc, arch: ARCH.to_owned(), instructions, locked })
}

/// Counts by the call.
type Counts<N> = BTreeMap<String, N>;

/// Reads lines like `get 333 4.0`; the second number may be a question mark.
fn parse(text: &str) -> Result<(Counts<u64>, Counts<f64>)> {
    let (mut instructions, mut locked) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        let [call, count, lock] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        let (true, Ok(count)) = (CALLS.contains(&call), count.parse()) else { continue };
        instructions.insert(call.to_owned(), count);
        locked.extend(lock.parse().ok().map(|lock| (call.to_owned(), lock)));
    }
    if instructions.len() != CALLS.len() || instructions.values().any(|count| *count == 0) {
        bail!("the gate counted no {}: {text}", CALLS.join(", "));
    }
    Ok((instructions, locked))
}

/// One line for each call, and one if another compiler's code is held to less; an error if one costs too much, or if its locked
/// instructions are in the record and none was counted, though that `tells_locked`.
fn judge(recorded: &Record, counted: &Record, tells_locked: bool) -> Result<Vec<String>> {
    let difference = difference(recorded, &counted.arch);
    let tolerance = if recorded.rustc == counted.rustc { TOLERANCE } else { OF_ANOTHER };
    let mut lines = Vec::new();
    let mut too_much = Vec::new();
    for call in CALLS {
        let now = counted.instructions.get(call).context(call)?;
        let then = recorded.instructions.get(call).context(call)?;
        let change = *now as f64 / *then as f64;
        let percent = (change - 1.0) * 100.0;
        let mut line =
            format!("{call}: {now} instructions, {percent:+.1} % from the recorded {then}");
        let mut is_too_locked = false;
        if let (Some(now), Some(then)) = (counted.locked.get(call), recorded.locked.get(call)) {
            line += &format!("; {now:.1} of them locked, recorded {then:.1}");
            is_too_locked = *now > then + MORE_LOCKED;
        }
        if tells_locked
            && difference.is_none()
            && recorded.has_locked(call)
            && !counted.has_locked(call)
        {
            bail!("{call}: the locked instructions were not counted");
        }
        if change > tolerance || is_too_locked {
            too_much.push(line.clone());
        }
        lines.push(line);
    }
    if difference.is_none() && recorded.rustc != counted.rustc {
        let percent = (tolerance - 1.0) * 100.0;
        let (recorded, counted) = (&recorded.rustc, &counted.rustc);
        lines.push(format!(
            "held to {percent:.0} %: the record is of {recorded}, this is {counted}"
        ));
    }
    if difference.is_none() && !too_much.is_empty() {
        bail!(
            "more than {:.0} % or {MORE_LOCKED} locked ones over the record: {}; `cargo xtask instructions --record` makes a new one, \
             for a commit of its own with its reason",
            (tolerance - 1.0) * 100.0,
            too_much.join("; ")
        );
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rustc: &str, get: u64) -> Record {
        let (instructions, locked) =
            parse(&format!("get {get} 4.0\nput 2000 ?\ntake 1500 9.0\n")).unwrap();
        Record { rustc: rustc.to_owned(), arch: "x86_64".to_owned(), instructions, locked }
    }

    #[test]
    fn more_than_a_twentieth_fails_and_is_named() {
        let recorded = record("1.95", 1000);
        assert_eq!(judge(&recorded, &record("1.95", 1050), true).unwrap().len(), 3);
        let error = judge(&recorded, &record("1.95", 1051), true).unwrap_err().to_string();
        assert!(error.contains("get: 1051") && error.contains("--record"), "{error}");
        assert!(!error.contains("put"), "{error}");
    }

    #[test]
    fn another_compiler_is_judged_less_strictly() {
        let recorded = record("1.95", 1000);
        let lines = judge(&recorded, &record("1.96", 1250), true).unwrap();
        assert_eq!(lines[3..], ["held to 25 %: the record is of 1.95, this is 1.96"]);
        assert!(judge(&recorded, &record("1.96", 1251), true).is_err());
    }

    #[test]
    fn another_processor_is_not_judged_and_that_is_a_skip() {
        let recorded = record("1.95", 1000);
        let counted = Record { arch: "aarch64".to_owned(), ..record("1.95", 2000) };
        assert!(judge(&recorded, &counted, true).is_ok());
        let skip = difference(&recorded, "aarch64").unwrap();
        assert!(skip.contains("x86_64") && skip.contains("aarch64"), "{skip}");
        assert!(difference(&recorded, "x86_64").is_none());
    }

    #[test]
    fn locked_instructions_that_are_not_counted_are_an_error_where_they_can_be_told() {
        let recorded = record("1.95", 1000);
        let mut counted = recorded.clone();
        counted.locked.clear();
        let error = judge(&recorded, &counted, true).unwrap_err().to_string();
        assert!(error.starts_with("get: the locked"), "{error}");
        assert!(judge(&recorded, &counted, false).is_ok());
        counted.locked.insert("get".to_owned(), 0.0);
        assert!(judge(&recorded, &counted, true).is_err(), "none at all are none counted");
    }

    #[test]
    fn a_record_without_locked_instructions_is_refused_where_they_can_be_told() {
        let mut whole = record("1.95", 1000);
        let error = complete(&whole).unwrap_err().to_string();
        assert!(error.starts_with("put: no locked"), "{error}");
        assert!(complete(&Record { arch: "aarch64".to_owned(), ..whole.clone() }).is_ok());
        whole.locked.insert("put".to_owned(), 12.0);
        assert!(complete(&whole).is_ok());
        whole.locked.insert("take".to_owned(), 0.0);
        assert!(complete(&whole).is_err(), "an `objdump` that prints something else");
    }

    #[test]
    fn a_gate_that_counts_nothing_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("get 0 1\nput 1 1\ntake 1 1\n").is_err());
        assert!(parse("get 3 1\nput 1 1\n").is_err());
        assert!(parse("warning: x y\nget 3 1\nput 1 ?\ntake 2 1.5\n").is_ok());
    }

    #[test]
    fn one_more_locked_instruction_in_two_calls_is_too_much() {
        let recorded = record("1.95", 1000);
        let mut counted = recorded.clone();
        counted.locked.insert("get".to_owned(), 4.5);
        assert!(judge(&recorded, &counted, true).is_ok());
        counted.locked.insert("get".to_owned(), 4.6);
        let error = judge(&recorded, &counted, true).unwrap_err().to_string();
        assert!(error.contains("get: 1000") && error.contains("4.6 of them locked"), "{error}");
    }

    #[test]
    fn the_record_in_the_tree_is_one() {
        let text = fs::read_to_string(path()).unwrap();
        let record: Record = serde_json::from_str(&text).unwrap();
        assert!(CALLS.iter().all(|call| record.instructions[*call] > 0), "{text}");
        assert!(record.rustc.starts_with("rustc "), "{text}");
        complete(&record).unwrap();
    }
}
