//! What do several threads do together, beside the caches that are usually taken?
//!
//! The loads of the bench of one thread, on one cache, by 1, 2 and 4 threads: each with sessions of its
//! own. All contenders that wipe run in one process, in turn; the medians are shown.

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

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use args::Args;
use caches::{CONTENDERS, Cache};
use cpu_time::ThreadTime;
use load::Stream;
use report::{Table, machine};
use rounds::{median, ratio};

const ABOUT: &str = "1, 2 and 4 threads: random hits, and put + put + take on a full cache.";

fn main() {
    let args = Args::parse(ABOUT, [&[100_000, 400_000], &[100_000]]);
    println!("{ABOUT}\n{}\n", machine());
    for &sessions in &args.sizes {
        for load in [Load::Hit, Load::Churn] {
            for threads in [1, 2, 4] {
                measure(&args, load, sessions, threads);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Hit,
    Churn,
}

/// A contender's cache, the load of each thread, and millions of steps in a second in each round.
struct Side {
    name: &'static str,
    cache: Box<dyn Cache>,
    streams: Vec<Stream>,
    rates: Vec<f64>,
    /// Processor nanoseconds of a step in each round.
    nanos: Vec<f64>,
    found: f64,
}

fn measure(args: &Args, load: Load, sessions: usize, threads: usize) {
    let share = (sessions / threads) as u64;
    let max = if load == Load::Hit { sessions + sessions / 4 } else { sessions };
    let mut sides: Vec<_> = CONTENDERS
        .iter()
        .filter(|contender| contender.name.contains("wipes"))
        .map(|contender| {
            let cache = (contender.make)(max);
            let stream = |thread| Stream::new(thread as u64, threads as u64, sessions);
            let streams = (0..threads).map(stream).collect();
            Side {
                name: contender.name,
                cache,
                streams,
                rates: Vec::new(),
                nanos: Vec::new(),
                found: 0.0,
            }
        })
        .collect();
    for side in &mut sides {
        for stream in &mut side.streams {
            match load {
                Load::Hit => stream.fill(&*side.cache, share),
                Load::Churn => drop(stream.churn(&*side.cache, share * 3 / 2)),
            }
        }
    }
    let steps = args.pick(100_000, 20_000) / threads as u64;
    for _ in 0..args.pick(9, 5) {
        for side in &mut sides {
            side.round(steps, |cache, stream| match load {
                Load::Hit => stream.hit(cache, share, steps, false),
                Load::Churn => stream.churn(cache, steps),
            });
        }
    }
    show(load, sessions, threads, &sides);
}

impl Side {
    fn round(&mut self, steps: u64, run: impl Fn(&dyn Cache, &mut Stream) -> f64 + Sync) {
        let barrier = Barrier::new(self.streams.len());
        let (cache, run, barrier) = (&*self.cache, &run, &barrier);
        let rounds: Vec<_> = thread::scope(|scope| {
            let spawn = |stream| {
                scope.spawn(move || {
                    barrier.wait();
                    let (start, processor) = (Instant::now(), ThreadTime::now());
                    let found = run(cache, stream);
                    let nanos = processor.elapsed().as_nanos() as f64 / steps as f64;
                    (start, Instant::now(), nanos, found)
                })
            };
            let threads: Vec<_> = self.streams.iter_mut().map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        // By the threads' own clocks: whoever waits for them may sleep over their beginning.
        let start = rounds.iter().map(|round| round.0).min().expect("there are threads");
        let end = rounds.iter().map(|round| round.1).max().expect("there are threads");
        let threads = rounds.len() as f64;
        self.rates.push(threads * steps as f64 / (end - start).as_secs_f64() / 1e6);
        self.nanos.push(rounds.iter().map(|round| round.2).sum::<f64>() / threads);
        self.found = rounds.iter().map(|round| round.3).sum::<f64>() / threads;
    }
}

fn show(load: Load, sessions: usize, threads: usize, sides: &[Side]) {
    let (title, calls) = match load {
        Load::Hit => ("hit", 1.0),
        Load::Churn => ("put + put + take", 3.0),
    };
    let title = format!("{title}, {sessions} sessions, {threads} threads");
    let mut table =
        Table::new(&[&title, "million calls/s", "ours / theirs", "processor ns/call", "found"]);
    for side in sides {
        let rate = median(&side.rates) * calls;
        table.row(&[
            side.name.to_owned(),
            format!("{rate:.2}"),
            format!("{:.2}", ratio(&sides[0].rates, &side.rates)),
            format!("{:.0}", median(&side.nanos) / calls),
            format!("{:.1} % of {}", side.found, side.cache.len()),
        ]);
    }
    table.print();
}
