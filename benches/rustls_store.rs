//! What does the store cost a rustls server, and does that depend on how many sessions it has?
//!
//! Two threads make real TLS 1.3 handshakes in memory, 95 % of them resumed and then none, on one full store: the
//! default store of rustls, a mutex with a take in constant time, and resumption. Stores take turns,
//! round after round; medians are shown.

#[path = "common/allocator.rs"]
mod allocator;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::args::{Args, Takes};
use common::contestants::honest::Honest;
use common::handshakes::{Done, Identity, Mix, Pair};
use common::report::{Figure, Report, Rounds, Table, grouped};
use common::rounds::{Better, median};
use resumption::{Scope, SessionCache};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

const ABOUT: &str =
    "rustls, TLS 1.3, 2 threads, 95 % resumed, and all full: handshakes, the store's share.";
const THREADS: usize = 2;

type Store = Arc<dyn StoresServerSessions>;

fn main() {
    allocator::set_up();
    let sizes: [&[usize]; 2] = [&[1_000, 20_000, 400_000, 1_000_000], &[1_000, 400_000]];
    let args = Args::parse(ABOUT, sizes, &[Takes::RoundMs]);
    let mut report = Report::begin(&args, ABOUT);
    let identity = Identity::generate();
    let length = length_of_a_session(&identity);
    report.note(&format!("a stored session has {length} bytes; {}", cost_of_a_measurement()));
    for &sessions in &args.sizes {
        measure(&args, &mut report, sessions, length, &identity);
    }
}

/// A store, the connections of each thread, and how its rounds went: what was done, and how fast.
struct Side {
    name: &'static str,
    pairs: Vec<Pair>,
    rounds: Vec<(Done, f64)>,
}

fn measure(args: &Args, report: &mut Report, sessions: usize, length: usize, identity: &Identity) {
    let contestants: [(&str, Store); 3] = [
        ("resumption", resumption_store(sessions)),
        ("rustls default", ServerSessionMemoryCache::new(sessions)),
        ("mutex, O(1) take", Arc::new(HonestStore(Honest::new(sessions)))),
    ];
    let side = |(name, store): (&'static str, Store)| {
        fill(&*store, sessions, length);
        let pairs = (0..THREADS).map(|_| Pair::new(identity, Arc::clone(&store))).collect();
        Side { name, pairs, rounds: Vec::new() }
    };
    let mut sides = contestants.map(side);
    let time = args.round_time(Duration::from_millis(1_000), Duration::from_millis(400));
    let count = sides.len();
    for mix in [Mix::Resumed, Mix::Full] {
        for side in &mut sides {
            side.rounds.clear();
            // Fetches the first tickets.
            side.round(time / 4, mix);
        }
        for round in 0..args.rounds() {
            for place in 0..count {
                let side = &mut sides[(round + place) % count];
                let done = side.round(time, mix);
                side.rounds.push(done);
            }
        }
        show(report, sessions, mix, &sides);
    }
}

fn show(report: &mut Report, sessions: usize, mix: Mix, sides: &[Side]) {
    let full = if mix == Mix::Full { ", all full" } else { "" };
    let title = format!("{} sessions{full}", grouped(sessions));
    let mut table = Table::new(&[
        title.as_str(),
        "handshakes/s",
        "ours / theirs",
        "",
        "store's share of server time",
        "ours / theirs",
        "",
        "server us/handshake",
        "store's us",
        "resumed",
    ]);
    for side in sides {
        let mut compare = |question: &str, unit, better, of: fn(&Side) -> Vec<f64>| {
            if side.name == sides[0].name {
                return [String::new(), String::new()];
            }
            let question = format!("{question}{full}");
            let figure = Figure { question, unit, better, sessions, threads: THREADS };
            let (ours, theirs) = (of(&sides[0]), of(side));
            report.compare(&figure, Rounds::of(side.name, &ours, &theirs)).cells()
        };
        let rates = compare("rustls handshakes", "handshakes/s", Better::More, Side::rates);
        let shares =
            compare("the store in a rustls server", "% of server CPU", Better::Less, Side::shares);
        table.row(&side.row(rates, shares));
    }
    report.table(&table);
}

impl Side {
    fn round(&mut self, time: Duration, mix: Mix) -> (Done, f64) {
        let start = Instant::now();
        let done = thread::scope(|scope| {
            let threads: Vec<_> =
                self.pairs.iter_mut().map(|pair| scope.spawn(|| pair.run(time, mix))).collect();
            let done = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            done.fold(Done::default(), Done::and)
        });
        let rate = done.handshakes as f64 / start.elapsed().as_secs_f64();
        (done, rate)
    }

    fn each(&self, of: impl Fn(&Done) -> f64) -> Vec<f64> {
        self.rounds.iter().map(|(done, _)| of(done)).collect()
    }

    fn rates(&self) -> Vec<f64> {
        self.rounds.iter().map(|(_, rate)| *rate).collect()
    }

    fn shares(&self) -> Vec<f64> {
        self.each(|done| done.store.as_secs_f64() / done.server.as_secs_f64() * 100.0)
    }

    fn row(&self, rates: [String; 2], shares: [String; 2]) -> [String; 10] {
        let server = |done: &Done| done.server.as_secs_f64() * 1e6 / done.handshakes as f64;
        let micros = |done: &Done| done.store.as_secs_f64() * 1e6 / done.handshakes as f64;
        let resumed = |done: &Done| done.resumed as f64 * 100.0 / done.handshakes as f64;
        let [rate, rate_verdict] = rates;
        let [share, share_verdict] = shares;
        [
            self.name.to_owned(),
            format!("{:.0}", median(&self.rates())),
            rate,
            rate_verdict,
            format!("{:.2} %", median(&self.shares())),
            share,
            share_verdict,
            format!("{:.0}", median(&self.each(server))),
            format!("{:.2}", median(&self.each(micros))),
            format!("{:.1} %", median(&self.each(resumed))),
        ]
    }
}

/// Fills a store with sessions that nobody asks for.
fn fill(store: &dyn StoresServerSessions, sessions: usize, length: usize) {
    for number in 0..sessions as u64 {
        let mut id = vec![0xa5; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        assert!(store.put(id, vec![0x5a; length]), "a put was refused");
    }
}

/// How many bytes rustls stores for a session of these handshakes.
fn length_of_a_session(identity: &Identity) -> usize {
    #[derive(Debug, Default)]
    struct Length(Mutex<usize>);
    impl StoresServerSessions for Length {
        fn put(&self, _: Vec<u8>, value: Vec<u8>) -> bool {
            *self.0.lock().expect("no panic") = value.len();
            true
        }
        fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }
        fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }
        fn can_cache(&self) -> bool {
            true
        }
    }
    let store = Arc::new(Length::default());
    Pair::new(identity, Arc::clone(&store) as Store).run(Duration::ZERO, Mix::Resumed);
    *store.0.lock().expect("no panic")
}

/// What the measurement of a call adds to the time of the store and of the server.
fn cost_of_a_measurement() -> String {
    const TIMES: u32 = 100_000;
    let mut inside = Duration::ZERO;
    let start = Instant::now();
    for _ in 0..TIMES {
        let start = Instant::now();
        inside += start.elapsed();
    }
    let (inside, all) = (inside / TIMES, start.elapsed() / TIMES);
    format!(
        "measuring a call adds {} ns to the store and {} ns in all",
        inside.as_nanos(),
        all.as_nanos()
    )
}

/// The store of resumption for so many sessions.
fn resumption_store(sessions: usize) -> Store {
    let builder = SessionCache::builder().max_sessions(sessions);
    let cache: SessionCache = builder.build().expect("the settings are valid");
    cache.scope(&Scope::new("bench")).rustls()
}

/// The mutex as a store of rustls.
struct HonestStore(Honest<Vec<u8>>);

impl StoresServerSessions for HonestStore {
    fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        <[u8; 32]>::try_from(id).is_ok_and(|id| {
            self.0.put(id, value);
            true
        })
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.0.get(id.try_into().ok()?)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.0.take(id.try_into().ok()?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for HonestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HonestStore").field("len", &self.0.count()).finish()
    }
}
