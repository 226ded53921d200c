//! What does it cost the others when a thread is interrupted in the middle of a call?
//!
//! Sixteen threads for each processor make the connections of `tls13` on one full cache, and each call
//! is timed by the clock. The system takes the processor from a thread whenever it likes: where that
//! one holds a lock, whoever needs it waits until it is back. That a thread itself is interrupted in the
//! middle of its call is in the figures, too; the shorter the calls, the rarer it is. So there is a
//! second table, of the calls in which the system took the processor from nobody but others: what is
//! long there has waited for somebody. Some locks give the processor away a few times before they sleep.
//! The system counts that as if it had taken it; here it is waiting like any other.

#[path = "common/allocator.rs"]
mod allocator;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::args::{Args, Takes};
use common::contestants::{self, Cache, Contestant};
use common::load::{Call, Lane, Load, Pace, play, prepare};
use common::percentile::{percentile_of_sorted, shown};
use common::report::{Figure, Kind, Report, Rounds, Table, grouped};
use common::rounds::{Better, median};

const ABOUT: &str = "Sixteen threads for each processor: how long a put and a take last, at worst.";

const FILTER: &str = "*Not interrupted itself* leaves out the calls in which the system took the processor from the \
    caller more often than the caller gave it away. A contestant that waits for a lock by `sched_yield`, by a \
    futex, or by spinning has its waits in all tables, in these as well.";

const PERCENTS: [(&str, f64); 5] =
    [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99), ("longest", 100.0)];

/// What is shown: each call, all of them and those whose own thread was not interrupted.
const KINDS: [(&str, Call, bool); 4] = [
    ("put", Call::Put, false),
    ("take", Call::Take, false),
    ("put, not interrupted itself", Call::Put, true),
    ("take, not interrupted itself", Call::Take, true),
];

fn main() {
    let names = contestants::names(|one| one.kind == Kind::Bounded);
    let args = Args::parse(
        ABOUT,
        [&[20_000, 1_000_000], &[20_000]],
        &[Takes::Only(&names), Takes::RoundMs],
    );
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    report.note(FILTER);
    report.not_run(
        "10 000 000 sessions",
        "the waits are made by the system that shares out the processors, whatever the size; so many caches would not fit",
    );
    report.not_run("the maps without a limit", "without a capacity to be kept at they would grow");
    for &sessions in &args.sizes {
        measure(&args, &mut report, sessions);
    }
}

/// A contestant's cache, a lane for each thread, and how its rounds went.
struct Side {
    contestant: Contestant,
    cache: Box<dyn Cache>,
    lanes: Vec<Lane>,
    /// Of each kind each percentile, in microseconds, in each round.
    micros: [[Vec<f64>; PERCENTS.len()]; KINDS.len()],
}

fn measure(args: &Args, report: &mut Report, sessions: usize) {
    let threads = 16 * thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut sides: Vec<_> = contestants::all()
        .into_iter()
        .filter(|one| one.kind == Kind::Bounded)
        .enumerate()
        .filter(|(place, one)| *place == 0 || args.is_wanted(one.name))
        .map(|(_, one)| Side::new(one, threads, sessions))
        .collect();
    let time = args.round_time(Duration::from_millis(1_000), Duration::from_millis(200));
    let count = sides.len();
    for round in 0..args.rounds() {
        for place in 0..count {
            sides[(round + place) % count].round(time);
        }
    }
    for which in 0..KINDS.len() {
        show(report, sessions, threads, &sides, which);
    }
    contestants::note_refused(report, &*sides[0].cache, &format!("{} sessions", grouped(sessions)));
}

impl Side {
    fn new(contestant: Contestant, threads: usize, sessions: usize) -> Self {
        let cache = (contestant.make)(sessions);
        let mut lanes: Vec<_> =
            (0..threads).map(|lane| Lane::new(lane, threads, sessions)).collect();
        lanes.iter_mut().for_each(|lane| lane.fill(Load::Tls13, &*cache, 0, 1));
        Self { contestant, cache, lanes, micros: Default::default() }
    }

    /// All threads at once, for some time.
    fn round(&mut self, time: Duration) {
        let together = Barrier::new(self.lanes.len());
        let (cache, together) = (&*self.cache, &together);
        let run = move |lane| {
            together.wait();
            connections(cache, lane, time)
        };
        let times: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                self.lanes.iter_mut().map(|lane| scope.spawn(move || run(lane))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for (which, micros) in self.micros.iter_mut().enumerate() {
            let (_, call, is_quiet) = KINDS[which];
            let all = times.iter().flatten().filter(|timed| timed.call == call);
            let all = all.filter(|timed| !is_quiet || !timed.is_interrupted);
            let mut all: Vec<f64> = all.map(|timed| timed.micros).collect();
            all.sort_by(f64::total_cmp);
            for (rounds, (_, percent)) in micros.iter_mut().zip(PERCENTS) {
                rounds.push(percentile_of_sorted(&all, percent));
            }
        }
    }
}

/// A call, how long it took, and whether the system took the processor from its thread meanwhile.
struct Timed {
    call: Call,
    micros: f64,
    is_interrupted: bool,
}

/// One thread's connections.
fn connections(cache: &dyn Cache, lane: &mut Lane, time: Duration) -> Vec<Timed> {
    let (mut times, mut ops) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < time {
        ops.clear();
        lane.step(Load::Tls13, &mut ops);
        prepare(cache, &ops);
        for op in &ops {
            let before = interruptions();
            let start = Instant::now();
            play(cache, std::slice::from_ref(op), Pace::Rush);
            let micros = start.elapsed().as_nanos() as f64 / 1e3;
            let is_interrupted = interruptions() > before;
            times.push(Timed { call: op.call, micros, is_interrupted });
        }
    }
    times
}

/// How often the system took the processor from this thread against its will.
///
/// The system counts a yield that lets another thread run among them, so the thread's own yields are
/// subtracted. One that found nobody else to run is subtracted as well: it may hide an interruption, and
/// then a call is kept that should have been left out, whosever it is.
#[cfg(target_os = "linux")]
fn interruptions() -> i64 {
    // SAFETY: all bits zero are a usage, and the system fills in the thread's own.
    let switches = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage.ru_nivcsw
    };
    switches - yields::of_this_thread()
}

/// Stands in for libc's `sched_yield`, which everything in this program calls that yields, to count.
#[cfg(target_os = "linux")]
mod yields {
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<i64> = const { Cell::new(0) };
    }

    pub(super) fn of_this_thread() -> i64 {
        COUNT.get()
    }

    // SAFETY: it does what libc's does, and has its signature.
    #[unsafe(no_mangle)]
    extern "C" fn sched_yield() -> libc::c_int {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the call takes nothing.
        unsafe { libc::syscall(libc::SYS_sched_yield) as libc::c_int }
    }
}

/// Nobody can tell.
#[cfg(not(target_os = "linux"))]
fn interruptions() -> i64 {
    0
}

/// A table of one kind.
fn show(report: &mut Report, sessions: usize, threads: usize, sides: &[Side], which: usize) {
    let (call, _, _) = KINDS[which];
    let title = format!("{call}, {} sessions, {threads} threads, us", grouped(sessions));
    let mut header = vec![title.as_str()];
    for (name, _) in PERCENTS {
        header.extend([name, "ours / theirs", ""]);
    }
    let mut table = Table::new(&header);
    for (place, side) in sides.iter().enumerate() {
        let mut row = vec![side.contestant.name.to_owned()];
        for (idx, (name, _)) in PERCENTS.into_iter().enumerate() {
            let (ours, theirs) = (&sides[0].micros[which][idx], &side.micros[which][idx]);
            row.push(shown(median(theirs), 2));
            let rounds = Rounds::of(side.contestant.name, ours, theirs);
            if place == 0 || !rounds.are_numbers() {
                row.extend([String::new(), String::new()]);
                continue;
            }
            let figure = Figure {
                question: format!("oversubscribed {call}, {name}"),
                unit: "us",
                better: Better::Less,
                sessions,
                threads,
            };
            row.extend(report.compare(&figure, rounds).cells());
        }
        table.row(&row);
    }
    report.table(&table);
}
