//! How fast is one thread, beside the caches that are usually taken?
//!
//! Two loads: random hits, and TLS 1.3's put + put + take on a full cache. All contenders run in one
//! process, in turn, round after round; the medians are shown, and how they compare to resumption.

#[path = "common/args.rs"]
mod args;
#[path = "common/caches.rs"]
mod caches;
#[path = "common/honest.rs"]
mod honest;
#[path = "common/load.rs"]
mod load;
#[path = "common/report.rs"]
mod report;

use args::Args;
use caches::{CONTENDERS, Cache};
use load::{Round, Stream};
use report::{Table, machine, median};

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
    rounds: Vec<Round>,
}

/// Every contender, with a cache for `max` sessions.
fn sides(max: usize, sessions: usize) -> Vec<Side> {
    let side = |contender: &caches::Contender| Side {
        name: contender.name,
        cache: (contender.make)(max),
        stream: Stream::new(0, 1, sessions),
        rounds: Vec::new(),
    };
    CONTENDERS.iter().map(side).collect()
}

fn hits(args: &Args, sessions: usize) {
    // Room to spare, so that also caches of small parts keep them all.
    let mut sides = sides(sessions + sessions / 4, sessions);
    for side in &sides {
        side.stream.fill(&*side.cache, sessions as u64);
    }
    let steps = args.pick(200_000, 100_000);
    interleave(args, &mut sides, |side| side.stream.hit(&*side.cache, sessions as u64, steps));
    show(&format!("hit, {sessions} sessions"), "ns/get", &sides);
}

fn churn(args: &Args, sessions: usize) {
    let mut sides = sides(sessions, sessions);
    for side in &mut sides {
        // Until it is full, and has been full for a while.
        side.stream.churn(&*side.cache, sessions as u64 * 3 / 2);
    }
    let steps = args.pick(50_000, 30_000);
    interleave(args, &mut sides, |side| side.stream.churn(&*side.cache, steps));
    show(&format!("put + put + take, {sessions} sessions"), "ns/3 calls", &sides);
}

fn interleave(args: &Args, sides: &mut [Side], mut round: impl FnMut(&mut Side) -> Round) {
    for _ in 0..args.pick(11, 5) {
        for side in &mut *sides {
            let done = round(side);
            side.rounds.push(done);
        }
    }
}

fn show(title: &str, unit: &str, sides: &[Side]) {
    let mut table =
        Table::new(&[title, unit, "time / ours", "found", "sessions", "fastest..slowest"]);
    let nanos = |side: &Side| side.rounds.iter().map(Round::nanos).collect::<Vec<_>>();
    let ours = nanos(&sides[0]);
    for side in sides {
        let all = nanos(side);
        let (fastest, slowest) = (
            all.iter().copied().fold(f64::INFINITY, f64::min),
            all.iter().copied().fold(0.0, f64::max),
        );
        table.row(&[
            side.name.to_owned(),
            format!("{:.0}", median(&all)),
            // Of neighbours in time, so that a slow minute of the machine is both sides'.
            format!(
                "{:.2}",
                median(&all.iter().zip(&ours).map(|(a, b)| a / b).collect::<Vec<_>>())
            ),
            format!("{:.1} %", side.rounds.last().map_or(0.0, Round::found)),
            side.cache.len().to_string(),
            format!("{fastest:.0}..{slowest:.0}"),
        ]);
    }
    table.print();
}
