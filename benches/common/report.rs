//! How results are shown: tables for people, and the same as JSON lines for `cargo xtask bench`.

use std::fs::{self, File};
use std::io::Write;

use serde_json::{Value, json};

use super::args::Args;
use super::rounds::{Better, Comparison, Found, Spread};

/// The results of one bench, as they come.
#[derive(Debug)]
pub struct Report {
    json: Option<File>,
}

/// A number that is measured of several contestants.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What is asked, in few words: `hit`.
    pub question: String,
    /// The unit that the values are in.
    pub unit: &'static str,
    pub better: Better,
    pub sessions: usize,
    pub threads: usize,
}

/// What a contestant is to be compared with: those that bound their size, or a floor without limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bounded,
    Unbounded,
    /// No store at all, but what no store can beat.
    Limit,
}

/// One contestant's rounds beside ours.
#[derive(Clone, Copy, Debug)]
pub struct Rounds<'a> {
    pub contestant: &'a str,
    pub kind: Kind,
    pub ours: &'a [f64],
    pub theirs: &'a [f64],
    /// What both found, where that is asked.
    pub found: Option<Found>,
}

impl<'a> Rounds<'a> {
    /// A bounded contestant's, of which only the figure is known.
    pub fn of(contestant: &'a str, ours: &'a [f64], theirs: &'a [f64]) -> Self {
        Self { contestant, kind: Kind::Bounded, ours, theirs, found: None }
    }

    /// Whether each round has a number: percentiles of few calls have none, and cannot be compared.
    pub fn are_numbers(&self) -> bool {
        !self.ours.iter().chain(self.theirs).any(|value| value.is_nan())
    }
}

impl Report {
    /// Begins: says what is measured, and on what machine.
    pub fn begin(args: &Args, about: &str) -> Self {
        let json = args.json.as_ref().map(|path| File::create(path).expect("the file can be made"));
        let mut report = Self { json };
        println!("{about}\n{}\n", machine());
        report.line(json!({ "about": about, "machine": machine() }));
        report
    }

    /// A paragraph beside the tables.
    pub fn note(&mut self, text: &str) {
        println!("{text}\n");
        self.line(json!({ "note": text }));
    }

    pub fn table(&mut self, table: &Table) {
        table.print();
        self.line(json!({ "table": table.0 }));
    }

    /// Something that was not measured, and why.
    pub fn not_run(&mut self, what: &str, why: &str) {
        println!("not run: {what}: {why}\n");
        self.line(json!({ "not_run": what, "why": why }));
    }

    /// Compares a contestant's rounds with ours.
    pub fn compare(&mut self, figure: &Figure, rounds: Rounds<'_>) -> Comparison {
        let comparison = Comparison::of(rounds.ours, rounds.theirs, figure.better);
        let better = if figure.better == Better::More { "more" } else { "less" };
        let kind = match rounds.kind {
            Kind::Bounded => "bounded",
            Kind::Unbounded => "unbounded",
            Kind::Limit => "limit",
        };
        self.line(json!({ "figure": {
            "question": figure.question,
            "unit": figure.unit,
            "better": better,
            "sessions": figure.sessions,
            "threads": figure.threads,
            "contestant": rounds.contestant,
            "kind": kind,
            "ours": spread(rounds.ours),
            "theirs": spread(rounds.theirs),
            "ratio": [comparison.ratio.low, comparison.ratio.median, comparison.ratio.high],
            "verdict": comparison.verdict.to_string(),
            "note": rounds.found.map(Found::note).unwrap_or_default(),
            "found": rounds.found.map(|found| [found.ours, found.theirs]),
            "rounds": rounds.ours.len(),
        }}));
        comparison
    }

    /// The same of percentiles of calls that were due at a rate, if there were enough of them, and if the
    /// machine had time for them: else it shows how busy that is. `keeps_up` tells of the calls in quiet.
    pub fn compare_percentiles(&mut self, figure: &Figure, rounds: Rounds<'_>, keeps_up: bool) {
        let why = if !keeps_up {
            "the machine was too busy for the calls also in quiet"
        } else if !rounds.are_numbers() {
            "too few calls in the window for this percentile"
        } else {
            self.compare(figure, rounds);
            return;
        };
        let what = format!("{}, {} sessions", figure.question, grouped(figure.sessions));
        self.not_run(&what, why);
    }

    fn line(&mut self, value: Value) {
        if let Some(json) = &mut self.json {
            writeln!(json, "{value}").expect("the file can be written");
        }
    }
}

fn spread(values: &[f64]) -> [f64; 3] {
    let Spread { median, low, high } = Spread::of(values);
    [low, median, high]
}

/// The processor, how many of them, and the compiler.
pub fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let version = std::process::Command::new("rustc").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let rustc = version.unwrap_or_else(|_| "rustc unknown".to_owned());
    format!("{model}, {processors} processors, {}, {rustc}", std::env::consts::OS)
}

/// A number of sessions as one reads it: `1 000 000`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

/// A table of text, its columns as wide as they have to be; the first one is aligned left.
#[derive(Debug)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn new(header: &[&str]) -> Self {
        let mut table = Self(Vec::new());
        table.row(header);
        table
    }

    pub fn row(&mut self, cells: &[impl AsRef<str>]) {
        self.0.push(cells.iter().map(|cell| cell.as_ref().to_owned()).collect());
    }

    fn print(&self) {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.0 {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("{}", cells.collect::<Vec<_>>().join("  "));
        }
        println!();
    }
}
