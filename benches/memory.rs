//! How many bytes does a session take beyond its payload?
//!
//! Each contender is filled, kept full through as many puts and takes again, and then asked for its
//! memory: the usable sizes of all blocks that are allocated, as the allocator rounds them up, less
//! the lengths of the payloads; resumption's region for headers is added. Each runs in a process of
//! its own, so that the resident set is its own as well.

#[path = "common/counting.rs"]
mod allocator;

use std::process::Command;
use std::time::{Duration, Instant};

use common::args::{Args, Takes};
use common::contestants::{self, Cache, Contestant};
use common::load::{Lane, Load, PAYLOAD, Pace, play, prepare};
use common::report::{Figure, Kind, Report, Rounds, Table, grouped};
use common::rounds::Better;
use resumption::SessionCache;

const ABOUT: &str = "Memory of a full cache beyond the payloads of 300 bytes, for each session.";

/// Set for a child: which contestant it measures, with how many sessions, and how long.
const CHILD: &str = "RESUMPTION_BENCH_MEMORY";

/// What a child has measured, for each session; bytes beyond the payload.
struct Measured {
    /// Usable bytes when it is full, and after the churns.
    filled: f64,
    churned: f64,
    /// With the word before each block of glibc's.
    with_headers: f64,
    resident: f64,
    blocks: f64,
    len: f64,
    /// How often as many sessions came anew as there are.
    churns: f64,
}

fn main() {
    if let Ok(child) = std::env::var(CHILD) {
        return measure(&child);
    }
    let names = contestants::names(|_| true);
    let args = Args::parse(ABOUT, [&[100_000, 1_000_000], &[100_000]], &[Takes::Only(&names)]);
    let mut report = Report::begin(&args, ABOUT);
    for &sessions in &args.sizes {
        // A hundred times at the smallest size; the others take too long.
        let churns = if sessions <= 100_000 { args.pick(100, 2) } else { args.pick(5, 1) };
        // As long as a contestant may take for them.
        let seconds = args.pick(60, 4);
        compare(&args, &mut report, sessions, [churns, seconds]);
    }
}

fn compare(args: &Args, report: &mut Report, sessions: usize, how_long: [usize; 2]) {
    let all: Vec<_> = contestants::all()
        .into_iter()
        .enumerate()
        .filter(|(place, one)| *place == 0 || args.is_wanted(one.name))
        .map(|(place, one)| (one, run_child(place, sessions, how_long)))
        .collect();
    let title = format!("{} sessions", grouped(sessions));
    let mut table = Table::new(&[
        title.as_str(),
        "filled",
        "after churns",
        "with malloc's headers",
        "resident",
        "blocks",
        "churns",
        "sessions there",
        "ours / theirs",
        "",
    ]);
    for (contestant, measured) in &all {
        let comparison = report_of(report, sessions, &all[0].1, contestant, measured);
        table.row(&[&measured.row(contestant)[..], &comparison[..]].concat());
    }
    report.table(&table);
}

/// How ours compares to a contestant, but to itself.
fn report_of(
    report: &mut Report,
    sessions: usize,
    ours: &Measured,
    contestant: &Contestant,
    theirs: &Measured,
) -> [String; 2] {
    if contestant.name == contestants::OURS.name {
        return Default::default();
    }
    let figure = Figure {
        question: "memory beyond the payload".to_owned(),
        unit: "bytes a session",
        better: Better::Less,
        sessions,
        threads: 1,
    };
    let (ours, theirs) = (&[ours.churned], &[theirs.churned]);
    let rounds = Rounds { kind: contestant.kind, ..Rounds::of(contestant.name, ours, theirs) };
    report.compare(&figure, rounds).cells()
}

impl Measured {
    fn row(&self, contestant: &Contestant) -> [String; 8] {
        [
            contestant.name.to_owned(),
            format!("{:.1}", self.filled),
            format!("{:.1}", self.churned),
            format!("{:.1}", self.with_headers),
            format!("{:.1}", self.resident),
            format!("{:.2}", self.blocks),
            format!("{:.1}", self.churns),
            format!("{:.0}", self.len),
        ]
    }
}

/// Measures a contestant in a process of its own.
fn run_child(place: usize, sessions: usize, [churns, seconds]: [usize; 2]) -> Measured {
    let program = std::env::current_exe().expect("the program has a path");
    let task = format!("{place} {sessions} {churns} {seconds}");
    let child = Command::new(program).env(CHILD, task).output();
    let output = child.expect("the program starts");
    let numbers = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [filled, churned, with_headers, resident, blocks, len, churns] = numbers[..] else {
        panic!("a child said {}", String::from_utf8_lossy(&output.stderr))
    };
    Measured { filled, churned, with_headers, resident, blocks, len, churns }
}

/// What a child does: prints what it has measured.
fn measure(child: &str) {
    let numbers = child.split(' ').map(|number| number.parse::<usize>().expect("a number"));
    let [place, sessions, churns, seconds] = numbers.collect::<Vec<_>>()[..] else {
        panic!("not understood: {child}")
    };
    allocator::set_up();
    let contestant = contestants::all()[place];
    let mut lane = Lane::new(0, 1, sessions);
    let load = if contestant.kind == Kind::Bounded { Load::Tls13 } else { Load::Hit };
    let before = [allocator::bytes(), allocator::blocks(), resident_bytes()];
    let cache = (contestant.make)(sessions);
    lane.fill(load, &*cache, 0, 1);
    let all = || allocator::bytes() - before[0] + region_bytes();
    let each = |amount: usize| amount as f64 / len_of(&*cache, sessions);
    let payload = PAYLOAD.len() as f64;
    let filled = each(all()) - payload;
    // What has no limit would grow.
    let longest = Duration::from_secs(if load == Load::Tls13 { seconds as u64 } else { 0 });
    let churned = churn(&*cache, &mut lane, churns * sessions, longest) / sessions as f64;
    let (bytes, blocks) = (each(all()) - payload, each(allocator::blocks() - before[1]));
    let headers = bytes + 8.0 * blocks;
    let resident = each(resident_bytes().saturating_sub(before[2])) - payload;
    let len = len_of(&*cache, sessions);
    println!("{filled} {bytes} {headers} {resident} {blocks} {len} {churned}");
    // Not a part of the measurement, and slow.
    std::mem::forget(cache);
}

/// So many connections of TLS 1.3, or less if it takes too long; returns how many. Of what is put a
/// half is taken: each leaves one session more.
fn churn(cache: &dyn Cache, lane: &mut Lane, wanted: usize, longest: Duration) -> f64 {
    const STEPS: usize = 100;
    let mut ops = Vec::new();
    let start = Instant::now();
    let mut done = 0;
    while done < wanted && start.elapsed() < longest {
        ops.clear();
        (0..STEPS).for_each(|_| lane.step(Load::Tls13, &mut ops));
        prepare(cache, &ops);
        play(cache, &ops, Pace::Rush);
        done += STEPS;
    }
    done as f64
}

fn len_of(cache: &dyn Cache, sessions: usize) -> f64 {
    // Who does not count has what was asked for.
    cache.count().unwrap_or(sessions) as f64
}

/// Bytes of resumption's region for headers, which all caches of a process share.
fn region_bytes() -> usize {
    let cache: SessionCache = SessionCache::builder().max_sessions(1).build().expect("a cache");
    cache.stats().region_bytes as usize
}

/// The resident set of this process.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
