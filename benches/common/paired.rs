//! Contestants that take turns, in one process, round after round.
//!
//! All caches are filled and kept busy first. Then each contestant has its turn in each round, in
//! another order each time, so that nobody always follows the same one. A turn begins with a quarter as
//! many calls that are not timed, which bring back what the others have displaced from the processor's
//! caches. Ids, and what is not a cache's own work, are made outside the timed part. Where memory does
//! not hold all of them at once they come one after the other, each beside ours, in as many rounds.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::args::{Args, Takes};
use super::contestants::{Cache, Contestant, note_refused};
use super::ids::mix;
use super::load::{self, Lane, Load, Op, PAYLOAD, play, prepare};
use super::memory::available_bytes;
use super::report::{Figure, Kind, Report, Rounds, Table, grouped};
use super::rounds::{Better, Found, Spread, median};

/// Calls that a thread has ready at once, at most: their ids are to stay in the memory of a round.
const MAX_CALLS: usize = 400_000;

/// Calls that bring a cache of TLS 1.2 into its steady state, at most.
const SETTLING_CALLS: usize = 10_000_000;

/// Lanes fill a cache in turn, in so many parts each: none has older sessions than the other.
const PARTS: u64 = 64;

/// A load under a name, at some numbers of threads.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub name: &'static str,
    pub load: Load,
    /// Every number of threads, or one thread alone.
    pub is_threaded: bool,
}

/// Reads the command line of a bench that asks these contestants.
pub fn args(about: &'static str, sizes: [&[usize]; 2], contestants: &[Contestant]) -> Args {
    let names: Vec<_> = contestants.iter().map(|one| one.name).collect();
    Args::parse(about, sizes, &[Takes::Only(&names), Takes::Pairs, Takes::RoundMs])
}

/// Asks the questions, at each size, all of them of the same caches. The first contestant is ours.
pub fn ask(args: &Args, report: &mut Report, questions: &[Question], contestants: &[Contestant]) {
    report.note(&format!(
        "A round lasts {} ms, or as long as {} calls of each thread take, where that is less.",
        round_time(args).as_millis(),
        grouped(MAX_CALLS)
    ));
    if questions[0].load == Load::Tls12 {
        report.note(&format!(
            "Before the rounds clients come back until as many new sessions were put as the cache holds: nine gets \
             to a put as in the rounds, above {} sessions fewer, from {} on none, so that it ends.",
            grouped(SETTLING_CALLS / load::TLS12_CALLS_PER_PUT),
            grouped(SETTLING_CALLS)
        ));
    }
    for &sessions in &args.sizes {
        ask_at(args, report, questions, contestants, sessions);
    }
}

fn ask_at(
    args: &Args,
    report: &mut Report,
    questions: &[Question],
    contestants: &[Contestant],
    sessions: usize,
) {
    let load = questions[0].load;
    let wanted = wanted(args, report, contestants, load, sessions);
    let (ours, others) = wanted.split_first().expect("ours is always wanted");
    let need = |of: &[Contestant]| -> usize {
        of.iter().map(|one| one.bytes * load.capacity(sessions)).sum()
    };
    let available = available_bytes();
    touch_heap((400 * sessions).min(available / 4));
    if need(&wanted) < available / 10 * 7 && !args.pairs {
        let mut sides = warm(report, &wanted, load, sessions);
        for &question in questions {
            measure(args, report, question, &mut [&mut sides[..]], sessions);
        }
        return;
    }
    let mut alone = Vec::new();
    for other in others {
        let need = need(&[*ours, *other]);
        if need > available / 10 * 9 {
            let why = format!(
                "beside ours it needs {} MB, and nine tenths of the {} MB that are free are used at most",
                need >> 20,
                available >> 20
            );
            report.not_run(&format!("{} at {} sessions", other.name, grouped(sessions)), &why);
            continue;
        }
        if load.is_at_capacity() {
            // Each pairing changes what is in the caches: ours begins anew as the other does.
            let mut both = warm(report, &[*ours, *other], load, sessions);
            for &question in questions {
                measure(args, report, question, &mut [&mut both[..]], sessions);
            }
            continue;
        }
        if alone.is_empty() {
            alone = warm(report, &[*ours], load, sessions);
        }
        let mut beside = warm(report, &[*other], load, sessions);
        for &question in questions {
            measure(args, report, question, &mut [&mut alone[..], &mut beside[..]], sessions);
        }
    }
}

/// The contestants that the command line and the load leave; says who is left out, and why.
fn wanted(
    args: &Args,
    report: &mut Report,
    contestants: &[Contestant],
    load: Load,
    sessions: usize,
) -> Vec<Contestant> {
    let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
    for &contestant in contestants {
        if contestant.kind == Kind::Unbounded && load.is_at_capacity() {
            left_out.push(contestant.name);
        } else if wanted.is_empty() || args.is_wanted(contestant.name) {
            wanted.push(contestant);
        }
    }
    if !left_out.is_empty() {
        let what = format!("{} at {} sessions", left_out.join(", "), grouped(sessions));
        report.not_run(&what, "without a capacity to be kept at they would grow");
    }
    wanted
}

/// A contestant's cache, the work for it, and how its rounds went.
struct Side {
    contestant: Contestant,
    cache: Box<dyn Cache>,
    lanes: Vec<Lane>,
    /// Steps of one thread in a round.
    steps: usize,
    /// Millions of calls in a second, in each round.
    rates: Vec<f64>,
    /// Of its lookups those that found their session, in percent, in each round.
    found: Vec<f64>,
}

/// What came of one round.
struct Round {
    /// Millions of calls in a second, of all threads together.
    rate: f64,
    /// Seconds of the thread that was done first: how long the others waited for a processor is not in
    /// it.
    quickest: f64,
    /// In percent.
    found: f64,
}

/// The numbers of threads that this machine can run, at least two.
fn threads() -> Vec<usize> {
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get).max(2);
    (0..).map(|power| 1 << power).take_while(|threads| *threads <= processors).collect()
}

/// Takes so many bytes of memory in blocks of a payload's size, and gives them back: whoever
/// allocates first does not pay for pages that the system has to find.
fn touch_heap(bytes: usize) {
    let blocks: Vec<_> = (0..bytes / PAYLOAD.len()).map(|_| PAYLOAD.to_vec()).collect();
    drop(std::hint::black_box(blocks));
}

/// Fills the caches; shows what they hold.
fn warm(report: &mut Report, contestants: &[Contestant], load: Load, sessions: usize) -> Vec<Side> {
    let count = *threads().last().expect("there is one");
    let mut sides = Vec::new();
    for contestant in contestants {
        let cache = (contestant.make)(load.capacity(sessions));
        let mut lanes: Vec<_> = (0..count).map(|lane| Lane::new(lane, count, sessions)).collect();
        for part in 0..PARTS {
            lanes.iter_mut().for_each(|lane| lane.fill(load, &*cache, part, PARTS));
        }
        let mut side = Side {
            contestant: *contestant,
            cache,
            lanes,
            steps: 0,
            rates: Vec::new(),
            found: Vec::new(),
        };
        if load == Load::Tls12 {
            side.settle(sessions);
        } else {
            side.stir(load, sessions);
        }
        sides.push(side);
    }
    let lens = sides.iter().map(|side| side.len(sessions));
    let lens = format!("in the caches: {}", lens.collect::<Vec<_>>().join("; "));
    report.note(&lens);
    sides
}

/// Finds the length of the rounds, runs them, and shows what came of them. The sides may come in
/// several groups; ours is the first of the first one.
fn measure(
    args: &Args,
    report: &mut Report,
    question: Question,
    groups: &mut [&mut [Side]],
    sessions: usize,
) {
    let load = question.load;
    let time = round_time(args);
    let is_meant = |side: &&mut Side| !load.is_about_payloads() || side.contestant.hands_out();
    for side in all(groups).filter(|side| !is_meant(side)) {
        let what =
            format!("{}, {}, {} sessions", side.contestant.name, question.name, grouped(sessions));
        report.not_run(&what, "its lookup says that a session is there, and hands out no payload");
    }
    let counts = if question.is_threaded { threads() } else { vec![1] };
    for threads in counts {
        let mut sides: Vec<_> = all(groups).filter(is_meant).collect();
        for side in &mut sides {
            side.begin(load, threads, time);
        }
        for round in 0..args.rounds() {
            for place in shuffled(sides.len(), round as u64) {
                let side = &mut sides[place];
                let round = side.round(load, threads, side.steps);
                side.rates.push(round.rate);
                side.found.push(round.found);
            }
        }
        show(report, question, sessions, threads, &sides);
    }
    if let Some(ours) = all(groups).next() {
        let what = format!("{}, {} sessions", question.name, grouped(sessions));
        note_refused(report, &*ours.cache, &what);
    }
}

/// The sides of all groups.
fn all<'a>(groups: &'a mut [&mut [Side]]) -> impl Iterator<Item = &'a mut Side> {
    groups.iter_mut().flat_map(|group| group.iter_mut())
}

/// The numbers below `count`, in an order that looks random, another one for each seed.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut places: Vec<_> = (0..count).collect();
    places.sort_by_key(|place| mix(mix(seed) ^ *place as u64));
    places
}

/// How long a round is to be.
fn round_time(args: &Args) -> Duration {
    args.round_time(Duration::from_millis(200), Duration::from_millis(40))
}

impl Side {
    /// Lets clients come back, and some of them put new sessions, until as many have been put as the
    /// cache holds: by then what is in it, and so how many are found, is its own order's choice, and
    /// no longer the fill's, which had each client's session. The puts of the rounds alone would be a
    /// twentieth of that at a million sessions.
    ///
    /// All of it would take many minutes at ten million: the more sessions the fewer gets are beside the
    /// puts, and none there. One thread makes them all: where a lock is, two would take longer.
    fn settle(&mut self, sessions: usize) {
        let calls_per_put = (SETTLING_CALLS / sessions).clamp(1, load::TLS12_CALLS_PER_PUT);
        self.lanes.iter_mut().for_each(|lane| lane.put_one_of(calls_per_put));
        let mut steps = sessions * calls_per_put;
        while steps > 0 {
            let some = steps.min(MAX_CALLS / 10);
            self.round(Load::Tls12, 1, some);
            steps -= some;
        }
        self.lanes.iter_mut().for_each(|lane| lane.put_one_of(load::TLS12_CALLS_PER_PUT));
    }

    /// Keeps a full cache busy until some of it has come anew, at most a third, or for a second.
    fn stir(&mut self, load: Load, sessions: usize) {
        let mut steps = sessions / 2 / load.calls();
        let start = Instant::now();
        while steps > 0 && start.elapsed() < Duration::from_secs(1) {
            let some = steps.min(50);
            self.round(load, 1, some);
            steps -= some;
        }
    }

    /// Sees how many steps take so long. The first calls of a thread take a hundred times as long as the later ones
    /// where it allocates memory that the system has yet to find: a few of them do not tell how long many take.
    fn begin(&mut self, load: Load, threads: usize, time: Duration) {
        let mut steps = 4;
        let most = MAX_CALLS / load.calls();
        loop {
            let took = self.round(load, threads, steps).quickest;
            let wanted = (steps as f64 * time.as_secs_f64() / took) as usize;
            if took > time.as_secs_f64() * 0.75 || steps == most {
                self.steps = wanted.clamp(1, most);
                break;
            }
            steps = wanted.clamp(steps + 1, 8 * steps).min(most);
        }
        self.rates.clear();
        self.found.clear();
    }

    /// Makes so many steps in each thread.
    fn round(&mut self, load: Load, threads: usize, steps: usize) -> Round {
        let together = Barrier::new(threads);
        let (cache, together) = (&*self.cache, &together);
        let lead = steps / 4;
        let run = move |lanes: &mut [Lane]| {
            let mut ops: Vec<Op> = Vec::with_capacity((lead + steps) * load.calls());
            for step in 0..lead + steps {
                let lane = step % lanes.len();
                lanes[lane].step(load, &mut ops);
            }
            prepare(cache, &ops);
            let (lead, ops) = ops.split_at(lead * load.calls());
            play(cache, lead, load.pace());
            together.wait();
            let start = Instant::now();
            let found = play(cache, ops, load.pace());
            (start, Instant::now(), found)
        };
        let per_thread = self.lanes.len() / threads;
        let rounds: Vec<_> = thread::scope(|scope| {
            let lanes = self.lanes.chunks_mut(per_thread).take(threads);
            let threads: Vec<_> = lanes.map(|lanes| scope.spawn(move || run(lanes))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        // By the threads' own clocks: whoever waits for them may sleep over their beginning.
        let start = rounds.iter().map(|round| round.0).min().expect("there are threads");
        let end = rounds.iter().map(|round| round.1).max().expect("there are threads");
        let calls = (threads * steps * load.calls()) as f64;
        let sum =
            |of: fn(&load::Found) -> usize| rounds.iter().map(|round| of(&round.2)).sum::<usize>();
        let (lookups, found) = (sum(|found| found.lookups), sum(|found| found.found));
        let found = found as f64 * 100.0 / lookups.max(1) as f64;
        let own = rounds.iter().map(|(start, end, _)| (*end - *start).as_secs_f64());
        let quickest = own.fold(f64::INFINITY, f64::min);
        Round { rate: calls / (end - start).as_secs_f64() / 1e6, quickest, found }
    }

    /// The name, and what is in the cache; why, where that is not what was asked for.
    fn len(&self, sessions: usize) -> String {
        let name = self.contestant.name;
        let Some(len) = self.cache.count() else {
            return format!("{name} ({})", self.contestant.len);
        };
        let is_near = (len as f64 / sessions as f64 - 1.0).abs() <= 0.05;
        let why = match (is_near, self.contestant.len) {
            (true, _) => String::new(),
            (false, "") => " (not what was asked for)".to_owned(),
            (false, why) => format!(" ({why})"),
        };
        format!("{name} {}{why}", grouped(len))
    }
}

/// One line for each contestant, ours first.
fn show(
    report: &mut Report,
    question: Question,
    sessions: usize,
    threads: usize,
    sides: &[&mut Side],
) {
    let figure = Figure {
        question: question.name.to_owned(),
        unit: "million calls/s",
        better: Better::More,
        sessions,
        threads,
    };
    let plural = if threads == 1 { "" } else { "s" };
    let title =
        format!("{}, {} sessions, {threads} thread{plural}", question.name, grouped(sessions));
    let mut table = Table::new(&[
        title.as_str(),
        "million calls/s",
        "of the rounds",
        "ns/call",
        "ours / theirs",
        "",
        "found",
    ]);
    for (place, side) in sides.iter().enumerate() {
        let Spread { median: rate, low, high } = Spread::of(&side.rates);
        let [ratio, verdict] = if place == 0 {
            [String::new(), String::new()]
        } else {
            compare(report, &figure, sides[0], side)
        };
        table.row(&[
            side.contestant.name.to_owned(),
            format!("{rate:.3}"),
            format!("{low:.3}..{high:.3}"),
            format!("{:.0}", threads as f64 * 1e3 / rate),
            ratio,
            verdict,
            format!("{:.1} %", median(&side.found)),
        ]);
    }
    report.table(&table);
}

/// Compares the rates, and where they differ what was found: to be quick by finding fewer is no win.
fn compare(report: &mut Report, figure: &Figure, ours: &Side, theirs: &Side) -> [String; 2] {
    let kind = theirs.contestant.kind;
    let found = Found { ours: median(&ours.found), theirs: median(&theirs.found) };
    let found = (kind != Kind::Limit).then_some(found);
    let rounds = |ours, theirs_rounds, found| Rounds {
        kind,
        found,
        ..Rounds::of(theirs.contestant.name, ours, theirs_rounds)
    };
    let [ratio, mut verdict] =
        report.compare(figure, rounds(&ours.rates, &theirs.rates, found)).cells();
    if found.is_some_and(Found::differs) {
        let question = format!("{}, found", figure.question);
        let figure = Figure { question, unit: "% of the lookups", ..figure.clone() };
        report.compare(&figure, rounds(&ours.found, &theirs.found, None));
    }
    if found.is_some_and(Found::ours_is_behind) {
        verdict += ", ours finds fewer";
    }
    [ratio, verdict]
}
