//! What a run has found, for whoever started it: lines in a file, one for each finding.
//!
//! `cargo xtask loom` and `cargo xtask mutants` name the file in `MODELS_REPORT` and read it; they are
//! the only source of what they print. A line is a kind and its fields, separated by tabs.

use std::env;
use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::Location;
use std::path::Path;

use crate::scenario::{Bound, Mode, Scenario};

/// Where a scenario stands: the name of its file is the name of the protocol.
pub(crate) fn protocol(place: &Location<'_>) -> String {
    let stem = Path::new(place.file()).file_stem().expect("a file has a name");
    stem.to_string_lossy().into_owned()
}

/// A finding.
pub(crate) enum Line<'a> {
    /// All executions within the recorded bound were explored.
    Explored(Mode, Bound, usize, usize),
    /// All executions within a larger bound were explored.
    Deeper(Mode, Bound, usize),
    /// The time was over before all executions within that bound were explored.
    Unfinished(Mode, Bound, usize),
    /// A larger bound adds no execution to this one.
    Exhausted(Mode, Bound),
    /// A bound that is being explored.
    Running(Mode, Bound, usize),
    /// What a seeded bug has come to: by which assertion, and after how many executions in each mode,
    /// if it was caught there.
    Caught(&'a str, [&'a str; 2], [Option<usize>; 2]),
    /// Weaker code that passes, and why it does.
    Equivalent(&'a str, &'a str),
}

/// Tells of a finding: in the report, if there is one, and past the capture of the test harness.
pub(crate) fn tell(protocol: &str, scenario: &Scenario, line: &Line<'_>) {
    let name = scenario.name;
    if let Some(path) = env::var_os("MODELS_REPORT") {
        let text = format!("{}\n", line.fields(protocol, name).join("\t"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        // In one write: other tests append to the same file.
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    // Nobody may be listening any more.
    let _ = writeln!(std::io::stderr(), "{protocol}: {name}: {line}");
}

impl Line<'_> {
    fn fields(&self, protocol: &str, scenario: &str) -> Vec<String> {
        let mut fields = vec![String::new(), String::from(protocol), String::from(scenario)];
        let mut add = |kind: &str, more: &[&dyn fmt::Display]| {
            fields[0] = String::from(kind);
            fields.extend(more.iter().map(ToString::to_string));
        };
        match self {
            Self::Explored(mode, bound, count, floor) => {
                add("explored", &[mode, bound, count, floor]);
            }
            Self::Deeper(mode, bound, count) => add("deeper", &[mode, bound, count]),
            Self::Unfinished(mode, bound, count) => add("unfinished", &[mode, bound, count]),
            Self::Exhausted(mode, bound) => add("exhausted", &[mode, bound]),
            Self::Running(mode, bound, count) => add("running", &[mode, bound, count]),
            Self::Caught(bug, messages, counts) => {
                let [memory, interleaving] = counts.map(shown);
                add("caught", &[bug, &assertion(messages, counts), &memory, &interleaving]);
            }
            Self::Equivalent(weaker, reason) => add("equivalent", &[weaker, reason]),
        }
        fields
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explored(mode, bound, count, floor) => {
                write!(f, "{mode} mode, {bound}: {count} executions (floor {floor})")
            }
            Self::Deeper(mode, bound, count) => {
                write!(f, "{mode} mode, {bound}: {count} executions")
            }
            Self::Unfinished(mode, bound, count) => {
                write!(f, "{mode} mode, {bound}: not finished, {count} executions so far")
            }
            Self::Exhausted(mode, bound) => {
                write!(f, "{mode} mode, {bound}: more preemptions add no execution")
            }
            Self::Running(mode, bound, count) => {
                write!(f, "{mode} mode, {bound}: {count} executions so far")
            }
            Self::Caught(bug, messages, counts) => {
                let assertion = assertion(messages, counts);
                let mut text = format!("`{bug}` is caught by \"{assertion}\"");
                for (mode, count) in Mode::BOTH.into_iter().zip(counts) {
                    match count {
                        Some(count) => write!(text, ", {mode} mode: execution {count}")?,
                        None => write!(text, ", {mode} mode: never")?,
                    }
                }
                f.write_str(&text)
            }
            Self::Equivalent(weaker, reason) => write!(f, "`{weaker}` is no bug: {reason}"),
        }
    }
}

/// What has fired: one message, or one in each mode.
fn assertion(messages: &[&str; 2], counts: &[Option<usize>; 2]) -> String {
    match (messages, counts) {
        ([memory, interleaving], [Some(_), Some(_)]) if memory != interleaving => {
            format!("{memory}; {interleaving}")
        }
        ([memory, _], [Some(_), None]) => String::from(*memory),
        ([_, interleaving], _) => String::from(*interleaving),
    }
}

fn shown(count: Option<usize>) -> String {
    count.map_or_else(|| String::from("-"), |count| count.to_string())
}
