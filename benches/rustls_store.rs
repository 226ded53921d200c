//! What does the store cost a rustls server, and does that depend on how many sessions it has?
//!
//! Two threads make real TLS 1.3 handshakes in memory, 95 % of them resumed, on one full store: the
//! default store of rustls, a mutex with a take in constant time, and resumption. Stores take turns,
//! round after round; medians are shown.

#[path = "common/args.rs"]
mod args;
#[path = "common/handshakes.rs"]
mod handshakes;
#[path = "common/honest.rs"]
mod honest;
#[path = "common/report.rs"]
mod report;
#[path = "common/rounds.rs"]
mod rounds;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use args::Args;
use handshakes::{Done, Identity, Pair};
use honest::Honest;
use report::{Table, machine};
use resumption::{Scope, SessionCache};
use rounds::{median, ratio};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

const ABOUT: &str = "rustls, TLS 1.3, 2 threads, 95 % resumed: handshakes and the store's share.";
const THREADS: usize = 2;

type Store = Arc<dyn StoresServerSessions>;

fn main() {
    let sizes: [&[usize]; 2] =
        [&[1_000, 20_000, 100_000, 400_000, 1_000_000], &[1_000, 100_000, 400_000]];
    let args = Args::parse(ABOUT, sizes);
    println!("{ABOUT}\n{}", machine());
    let identity = Identity::new();
    let length = length_of_a_session(&identity);
    println!("a stored session has {length} bytes; {}\n", cost_of_a_measurement());
    let mut table = Table::new(&[
        "store, sessions",
        "handshakes/s",
        "x default",
        "store's share of server time",
        "store us/handshake",
        "resumed",
        "slowest..fastest",
    ]);
    for &sessions in &args.sizes {
        measure(&args, sessions, length, &identity, &mut table);
    }
    table.print();
}

/// A store, the connections of each thread, and how its rounds went: what was done, and how fast.
struct Side {
    name: &'static str,
    pairs: Vec<Pair>,
    rounds: Vec<(Done, f64)>,
}

fn measure(args: &Args, sessions: usize, length: usize, identity: &Identity, table: &mut Table) {
    let contenders: [(&str, Store); 3] = [
        ("default", ServerSessionMemoryCache::new(sessions)),
        ("mutex, O(1) take", Arc::new(HonestStore(Honest::new(sessions)))),
        ("resumption", resumption_store(sessions)),
    ];
    let side = |(name, store): (&'static str, Store)| {
        fill(&*store, sessions, length);
        let pairs = (0..THREADS).map(|_| Pair::new(identity, Arc::clone(&store))).collect();
        Side { name, pairs, rounds: Vec::new() }
    };
    let mut sides = contenders.map(side);
    let time = Duration::from_millis(args.pick(1_000, 400));
    for side in &mut sides {
        // Fetches the first tickets.
        side.round(time / 4);
    }
    for _ in 0..args.pick(7, 3) {
        for side in &mut sides {
            let round = side.round(time);
            side.rounds.push(round);
        }
    }
    for side in &sides {
        table.row(&side.row(sessions, &sides[0]));
    }
}

impl Side {
    fn round(&mut self, time: Duration) -> (Done, f64) {
        let start = Instant::now();
        let done = thread::scope(|scope| {
            let threads: Vec<_> =
                self.pairs.iter_mut().map(|pair| scope.spawn(|| pair.run(time))).collect();
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

    fn row(&self, sessions: usize, default: &Self) -> [String; 7] {
        let share = |done: &Done| done.store.as_secs_f64() / done.server.as_secs_f64() * 100.0;
        let micros = |done: &Done| done.store.as_secs_f64() * 1e6 / done.handshakes as f64;
        let resumed = |done: &Done| done.resumed as f64 * 100.0 / done.handshakes as f64;
        let rates = self.rates();
        let (slowest, fastest) = (
            rates.iter().copied().fold(f64::MAX, f64::min),
            rates.iter().copied().fold(0.0, f64::max),
        );
        [
            format!("{}, {sessions}", self.name),
            format!("{:.0}", median(&rates)),
            format!("{:.2}", ratio(&rates, &default.rates())),
            format!("{:.2} %", median(&self.each(share))),
            format!("{:.2}", median(&self.each(micros))),
            format!("{:.1} %", median(&self.each(resumed))),
            format!("{slowest:.0}..{fastest:.0}"),
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
    Pair::new(identity, Arc::clone(&store) as Store).run(Duration::ZERO);
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
        f.debug_struct("HonestStore").field("len", &self.0.len()).finish()
    }
}
