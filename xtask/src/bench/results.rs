//! What a bench has written: JSON lines, each an object with one of a few names in it.

use anyhow::{Context, Result};
use serde::Deserialize;

/// The results of one bench, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Results {
    pub(super) about: String,
    pub(super) machine: String,
    /// What is shown, in order.
    pub(super) parts: Vec<Part>,
    pub(super) figures: Vec<Figure>,
}

/// A part of what is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Table(Vec<Vec<String>>),
    Note(String),
    /// What was not run, and why.
    NotRun(String, String),
}

/// One contestant's figure beside ours.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Figure {
    pub(super) question: String,
    pub(super) unit: String,
    pub(super) better: Better,
    pub(super) sessions: u64,
    pub(super) threads: u64,
    pub(super) contestant: String,
    pub(super) kind: Kind,
    /// Low, median, high.
    pub(super) ours: [Option<f64>; 3],
    pub(super) theirs: [Option<f64>; 3],
    /// How many times as good ours are.
    pub(super) ratio: [Option<f64>; 3],
    pub(super) verdict: Verdict,
    /// What else is to be known of the contestant's side; mostly nothing.
    pub(super) note: String,
    /// What ours and theirs found of what they were asked for, in percent, where that is asked.
    #[serde(default)]
    pub(super) found: Option<[f64; 2]>,
}

/// What is good of a figure.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    More,
    Less,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Bounded,
    Unbounded,
    /// No contestant, but what none can beat.
    Limit,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Win,
    Tie,
    Loss,
}

/// A line, whatever it holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    about: Option<String>,
    machine: Option<String>,
    table: Option<Vec<Vec<String>>>,
    note: Option<String>,
    not_run: Option<String>,
    why: Option<String>,
    figure: Option<Figure>,
}

impl Results {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut results = Self::default();
        for (idx, line) in text.lines().enumerate() {
            let line: Line =
                serde_json::from_str(line).with_context(|| format!("line {}", idx + 1))?;
            results.add(line);
        }
        Ok(results)
    }

    fn add(&mut self, line: Line) {
        if let (Some(about), Some(machine)) = (line.about, line.machine) {
            (self.about, self.machine) = (about, machine);
        }
        self.parts.extend(line.table.map(Part::Table));
        self.parts.extend(line.note.map(Part::Note));
        if let Some(what) = line.not_run {
            self.parts.push(Part::NotRun(what, line.why.unwrap_or_default()));
        }
        self.figures.extend(line.figure);
    }
}

impl Figure {
    /// How many times as good ours are; nothing, where one of them could not be measured.
    pub(super) fn times(&self) -> Option<f64> {
        self.ratio[1].filter(|ratio| ratio.is_finite() && *ratio > 0.0)
    }

    /// Whether the contestant found as many as ours did, but a point.
    pub(super) fn finds(&self) -> bool {
        self.found.is_none_or(|[ours, theirs]| theirs >= ours - 1.0)
    }

    /// What the two were asked, as a phrase.
    pub(super) fn asked(&self) -> String {
        let threads = match self.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        format!("{}, {} sessions, {threads}", self.question, grouped(self.sessions))
    }
}

/// A number as one reads it: `1 000 000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

/// A measured number with three digits that count.
pub(super) fn rounded(value: f64) -> String {
    match value.abs() {
        large if large >= 99.95 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", grouped(large.round() as u64))
        }
        middle if middle >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A figure of a contestant, against which ours is so many times as good.
    pub(in crate::bench) fn figure(question: &str, contestant: &str, ratio: f64) -> Figure {
        let verdict = if ratio < 1.0 { Verdict::Loss } else { Verdict::Win };
        Figure {
            question: question.to_owned(),
            unit: "million calls/s".to_owned(),
            better: Better::More,
            sessions: 1_000_000,
            threads: 2,
            contestant: contestant.to_owned(),
            kind: Kind::Bounded,
            ours: [Some(ratio); 3],
            theirs: [Some(1.0); 3],
            ratio: [Some(ratio); 3],
            verdict,
            note: String::new(),
            found: None,
        }
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let text = r#"{"about":"A","machine":"M"}
{"table":[["a","b"],["c","d"]]}
{"note":"N"}
{"not_run":"moka","why":"W"}
{"figure":{"question":"hit","unit":"u","better":"more","sessions":1000,"threads":1,"contestant":"moka","kind":"bounded","ours":[1,2,3],"theirs":[1,null,3],"ratio":[1,2,3],"verdict":"tie","note":"","found":[99.5,100],"rounds":7}}
"#;
        let results = Results::parse(text).unwrap();
        assert_eq!((results.about.as_str(), results.machine.as_str()), ("A", "M"));
        assert_eq!(results.parts.len(), 3);
        assert_eq!(results.figures[0].asked(), "hit, 1 000 sessions, 1 thread");
        assert_eq!(results.figures[0].times(), Some(2.0));
        assert_eq!(results.figures[0].better, Better::More);
        assert_eq!(results.figures[0].found, Some([99.5, 100.0]));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(Results::parse("{\"tabel\":[]}").is_err());
        assert!(Results::parse("warning: x").is_err());
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        assert_eq!(rounded(1_234_567.0), "1 234 567");
        assert_eq!(rounded(-1234.0), "-1 234");
        assert_eq!(rounded(12.345), "12.3");
        assert_eq!(rounded(1.2345), "1.23");
    }
}
