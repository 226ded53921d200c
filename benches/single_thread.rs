//! How fast is one thread, beside the caches that are usually taken?
//!
//! Two loads: random hits, in a rush and one by one, and TLS 1.3's put + put + take on a full cache. All contenders run in one
//! process, in turn, round after round; the medians are shown, and how they compare to resumption.

#[path = "common/args.rs"]
mod args;
#[path = "common/caches.rs"]
mod caches;
#[path = "common/honest.rs"]
mod honest;
#[path = "common/ids.rs"]
mod ids;
#[path = "common/load.rs"]
mod load;
#[path = "common/report.rs"]
mod report;
#[path = "common/rounds.rs"]
mod rounds;

use args::Args;
use caches::{CONTENDERS, Cache};
use cpu_time::ThreadTime;
use load::Stream;
use report::{Table, machine};
use rounds::{median, ratio};

const ABOUT: &str = "One thread: random hits, and put + put + take on a full cache.";

fn main() {
    let args = Args::parse(ABOUT, [&[10_000, 100_000, 1_000_000], &[10_000, 100_000]]);
    println!("{ABOUT}\n{}\n", machine());
    for &sessions in &args.sizes {
        hits(&args, sessions);
        churn(&args, sessions);
    }
}

/// A contender's cache, its load, and how its rounds went.
struct Side {
    name: &'static str,
    cache: Box<dyn Cache>,
    stream: Stream,
    /// Nanoseconds of a step in each round, of the processor's time: other programs on the machine
    /// take less from that than from the clock's.
    nanos: Vec<f64>,
    found: f64,
}

/// Every contender, with a cache for `max` sessions.
fn sides(max: usize, sessions: usize) -> Vec<Side> {
    let side = |contender: &caches::Contender| Side {
        name: contender.name,
        cache: (contender.make)(max),
        stream: Stream::new(0, 1, sessions),
        nanos: Vec::new(),
        found: 0.0,
    };
    CONTENDERS.iter().map(side).collect()
}

fn hits(args: &Args, sessions: usize) {
    // Room to spare, so that also caches of small parts keep them all.
    let mut sides = sides(sessions + sessions / 4, sessions);
    for side in &sides {
        side.stream.fill(&*side.cache, sessions as u64);
    }
    let steps = args.pick(100_000, 50_000);
    for (title, one_by_one) in [("hit", false), ("hit, one by one", true)] {
        interleave(args, &mut sides, steps, |side| {
            side.stream.hit(&*side.cache, sessions as u64, steps, one_by_one)
        });
        show(&format!("{title}, {sessions} sessions"), "ns/get", &sides);
    }
}

fn churn(args: &Args, sessions: usize) {
    let mut sides = sides(sessions, sessions);
    for side in &mut sides {
        // Until it is full, and has been full for a while.
        side.stream.churn(&*side.cache, sessions as u64 * 3 / 2);
    }
    let steps = args.pick(40_000, 20_000);
    interleave(args, &mut sides, steps, |side| side.stream.churn(&*side.cache, steps));
    show(&format!("put + put + take, {sessions} sessions"), "ns/3 calls", &sides);
}

fn interleave(args: &Args, sides: &mut [Side], steps: u64, run: impl Fn(&mut Side) -> f64) {
    sides.iter_mut().for_each(|side| side.nanos.clear());
    for _ in 0..args.pick(11, 7) {
        for side in &mut *sides {
            let start = ThreadTime::now();
            side.found = run(side);
            side.nanos.push(start.elapsed().as_nanos() as f64 / steps as f64);
        }
    }
}

fn show(title: &str, unit: &str, sides: &[Side]) {
    let mut table =
        Table::new(&[title, unit, "ours / theirs", "found", "sessions", "fastest..slowest"]);
    for side in sides {
        let all = &side.nanos;
        let (fastest, slowest) = (
            all.iter().copied().fold(f64::INFINITY, f64::min),
            all.iter().copied().fold(0.0, f64::max),
        );
        table.row(&[
            side.name.to_owned(),
            format!("{:.0}", median(all)),
            format!("{:.2}", ratio(all, &sides[0].nanos)),
            format!("{:.1} %", side.found),
            side.cache.len().to_string(),
            format!("{fastest:.0}..{slowest:.0}"),
        ]);
    }
    table.print();
}
