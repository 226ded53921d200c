//! What do callbacks cost the thread that puts, and does a slow one reach it?
//!
//! One thread puts and takes on a full cache: without callbacks, and with a new and a remove callback
//! that do nothing. Then the latency of each call beside a callback that sleeps for 10 ms, until the
//! mark is reached at which puts are refused.

#[path = "common/allocator.rs"]
mod allocator;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::args::Args;
use common::ids::id;
use common::load::PAYLOAD;
use common::percentile::percentile;
use common::report::{Report, Table, grouped};
use common::rounds::{median, ratio};
use cpu_time::ThreadTime;
use resumption::{Dispatch, Scope, SecretBytes, SessionCache, SessionId, Sessions, Verdict};

const ABOUT: &str =
    "The cost of callbacks to the thread that puts, and the latency beside a slow one.";

fn main() {
    allocator::set_up();
    let args = Args::parse(ABOUT, [&[20_000, 1_000_000], &[20_000]], &[]);
    let mut report = Report::begin(&args, ABOUT);
    for &sessions in &args.sizes {
        cost(&args, &mut report, sessions);
        latency(&args, &mut report, sessions);
    }
}

/// A cache, and the ids that were put so far.
struct Side {
    name: &'static str,
    cache: SessionCache,
    sessions: Sessions,
    next: u64,
    nanos: Vec<f64>,
}

impl Side {
    /// A full cache, with these callbacks.
    fn new(name: &'static str, max: usize, dispatch: Dispatch, callback: Option<Duration>) -> Self {
        let builder = SessionCache::builder().max_sessions(max).dispatch(dispatch);
        let cache = builder.build().expect("the settings are valid");
        let sessions = cache.scope(&Scope::new("bench"));
        let mut side = Self { name, cache, sessions, next: 0, nanos: Vec::new() };
        for _ in 0..max {
            side.put();
        }
        if let Some(pause) = callback {
            let pause = move || {
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
            };
            let on_new = Arc::new(move |_| {
                pause();
                Verdict::Keep
            });
            side.cache.set_on_new(Some(on_new)).expect("a thread can be started");
            let on_remove = Arc::new(move |_| pause());
            side.cache.set_on_remove(Some(on_remove)).expect("a thread can be started");
        }
        side
    }

    fn put(&mut self) -> bool {
        self.next += 1;
        self.sessions.put(&name(self.next), SecretBytes::from(&PAYLOAD)).is_stored()
    }

    /// Takes the session that was put a while ago.
    fn take(&mut self) -> bool {
        self.sessions.take(&name(self.next.saturating_sub(1_000))).is_some()
    }

    /// Waits until no call waits; not part of what is measured.
    fn settle(&self) {
        while self.cache.stats().callbacks_waiting > 0 {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

fn name(number: u64) -> SessionId {
    SessionId::from(id(number))
}

fn cost(args: &Args, report: &mut Report, max: usize) {
    let side = |name, dispatch, callback| Side::new(name, max, dispatch, callback);
    let nothing = Some(Duration::ZERO);
    let mut sides = [
        side("no callbacks", Dispatch::Workers(1), None),
        side("new and remove, a worker", Dispatch::Workers(1), nothing),
        side("new and remove, inline", Dispatch::Inline, nothing),
        side("new and remove, manual", Dispatch::Manual, nothing),
    ];
    // Two events for each put, below the mark.
    let puts = args.pick(10_000, 5_000);
    for _ in 0..args.rounds() {
        for side in &mut sides {
            let start = ThreadTime::now();
            for _ in 0..puts {
                assert!(side.put(), "a put was refused");
            }
            side.nanos.push(start.elapsed().as_nanos() as f64 / f64::from(puts));
            side.cache.poll_callbacks();
            side.settle();
        }
    }
    let title = format!("put that evicts, {} sessions", grouped(max));
    let mut table = Table::new(&[&title, "processor ns of the caller", "to none"]);
    for side in &sides {
        let ratio = format!("{:.2}", ratio(&side.nanos, &sides[0].nanos));
        table.row(&[side.name.to_owned(), format!("{:.0}", median(&side.nanos)), ratio]);
    }
    report.table(&table);
}

fn latency(args: &Args, report: &mut Report, max: usize) {
    let callback = |pause| Side::new("", max, Dispatch::Workers(1), Some(pause));
    let rounds = args.rounds();
    let title = format!("latency, {} sessions, medians of {rounds}", grouped(max));
    let columns = ["put p50", "put p99", "take p50", "take p99", "p99s to the first"];
    let mut table = Table::new(&[&[title.as_str()][..], &columns[..]].concat());
    let mut first = None;
    for (name, pause) in [("callbacks that do nothing", 0), ("callbacks that sleep 10 ms", 10)] {
        // Four times a round: p50 and p99 of put, p50 and p99 of take.
        let mut times: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            let mut side = callback(Duration::from_millis(pause));
            let (mut puts, mut takes) = (Vec::new(), Vec::new());
            for _ in 0..10_000 {
                puts.push(timed(|| assert!(side.put(), "the mark was reached")));
                takes.push(timed(|| assert!(side.take(), "it was put")));
            }
            for (all, time) in times.iter_mut().zip([
                percentile(&mut puts, 50.0),
                percentile(&mut puts, 99.0),
                percentile(&mut takes, 50.0),
                percentile(&mut takes, 99.0),
            ]) {
                all.push(time);
            }
            // Its callbacks would keep a slow cache for minutes.
            side.cache.set_on_new(None).expect("no thread is started");
            side.cache.set_on_remove(None).expect("no thread is started");
        }
        let medians = times.map(|all| median(&all));
        let first = *first.get_or_insert(medians);
        let mut row = vec![name.to_owned()];
        row.extend(medians.iter().map(|nanos| format!("{nanos:.0} ns")));
        row.push(format!("{:.2}, {:.2}", medians[1] / first[1], medians[3] / first[3]));
        table.row(&row);
    }
    report.table(&table);
}

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64
}
