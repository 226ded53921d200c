//! How many of the clients that come back are found, in a cache that is too small for all?
//!
//! A simulation, not a race: every policy sees the same connections, one after the other, and the
//! share of the returning clients whose session it still had is counted, after a warm-up. Some clients
//! come much more often than others (Zipf, 0.9).
//!
//! * *single use*, as TLS 1.3: a client takes its newest ticket, found or not, and two new ones are put;
//! * *multi-use*, as TLS 1.2: a client gets its session, and a new one is put if it was not found;
//! * *flooded*: four of five connections are of clients that put what those put, and never come back.
//!
//! Rounds differ in the order of the clients. LRU, SIEVE and S3-FIFO are foyer's, with one shard, so
//! that they are what their papers describe; the others are as in the other benches.

#[path = "common/allocator.rs"]
mod allocator;

use std::sync::Mutex;
use std::thread;

use ahash::RandomState;
use common::args::{Args, Takes};
use common::contestants::honest::Id;
use common::contestants::{self, Cache, Contestant};
use common::ids::id;
use common::load::{Call, Op, Pace, play, prepare};
use common::report::{Figure, Kind, Report, Rounds, Table, grouped};
use common::rounds::{Better, median};
use foyer_memory::{CacheBuilder, EvictionConfig, LruConfig, S3FifoConfig, SieveConfig};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

const ABOUT: &str =
    "Of the clients that come back, how many are found: in SESSIONS for so many clients.";

/// Connections of clients that return, for each of the clients.
const VISITS: usize = 8;

/// Connections of others beside each of them, in a flood.
const FLOOD: u64 = 4;

#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    is_single_use: bool,
    is_flooded: bool,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "found, single use", is_single_use: true, is_flooded: false },
    Workload { name: "found, multi-use", is_single_use: false, is_flooded: false },
    Workload { name: "found, single use, flooded", is_single_use: true, is_flooded: true },
    Workload { name: "found, multi-use, flooded", is_single_use: false, is_flooded: true },
];

/// A policy, under its name.
type Policy = (&'static str, fn(usize) -> Box<dyn Cache>);

fn main() {
    let sizes: [&[usize]; 2] = [&[1_000, 2_000, 5_000, 10_000, 20_000], &[500, 2_000]];
    let names = policies().iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let args = Args::parse(ABOUT, sizes, &[Takes::Only(&names)]);
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    let clients = args.pick(20_000, 5_000);
    report.note(&format!("{} clients, {} rounds", grouped(clients), args.rounds()));
    for workload in WORKLOADS {
        for &sessions in &args.sizes {
            compare(&args, &mut report, workload, sessions, clients);
        }
    }
}

/// Those that have an order of eviction of their own; ours first.
fn policies() -> Vec<Policy> {
    let named = |one: Contestant| {
        let name = match one.name {
            "moka" => "W-TinyLFU (moka)",
            "quick_cache" => "S3-FIFO (quick_cache)",
            name => name,
        };
        (name, one.make)
    };
    // First in, first out is the default store's as well as the mutex's.
    let left_out = ["rustls default", "OpenSSL SSL_CTX"];
    let all = contestants::all().into_iter();
    let all = all.filter(|one| one.kind == Kind::Bounded && !left_out.contains(&one.name));
    let mut policies: Vec<Policy> = all.map(named).collect();
    policies.extend([
        ("LRU", (|max| reference(max, LruConfig::default().into())) as fn(usize) -> Box<dyn Cache>),
        ("SIEVE", |max| reference(max, SieveConfig.into())),
        ("S3-FIFO", |max| reference(max, S3FifoConfig::default().into())),
    ]);
    policies
}

fn compare(args: &Args, report: &mut Report, workload: Workload, sessions: usize, clients: usize) {
    let policies: Vec<_> = policies()
        .into_iter()
        .enumerate()
        .filter(|(place, (name, _))| *place == 0 || args.is_wanted(name))
        .map(|(_, policy)| policy)
        .filter(|(name, _)| is_of_the_size(report, name, sessions))
        .collect();
    let rounds = args.rounds() as u64;
    // Nothing is timed: as many at once as there are processors.
    let todo = Mutex::new(0..policies.len());
    let found = Mutex::new(vec![Vec::new(); policies.len()]);
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let Some(place) = todo.lock().expect("no panic").next() else { return };
                    let (_, make) = policies[place];
                    let shares = (0..rounds)
                        .map(|round| simulate(&*make(sessions), workload, clients, round));
                    let shares = shares.collect();
                    found.lock().expect("no panic")[place] = shares;
                }
            });
        }
    });
    let found = found.into_inner().expect("no panic");
    show(report, workload, sessions, &policies, &found);
}

/// Whether a policy's cache holds about what is asked for: one that holds more finds more, whatever its policy is.
fn is_of_the_size(report: &mut Report, name: &str, sessions: usize) -> bool {
    let holds = if name == "scc HashCache" { sessions.next_power_of_two() } else { sessions };
    if holds * 20 <= sessions * 21 {
        return true;
    }
    let what = format!("{name} at {} sessions", grouped(sessions));
    report.not_run(&what, &format!("it holds {}: its capacity is a power of two", grouped(holds)));
    false
}

/// The share of returning clients that were found, in percent.
fn simulate(cache: &dyn Cache, workload: Workload, clients: usize, round: u64) -> f64 {
    let mut rng = SmallRng::seed_from_u64(round);
    let zipf = Zipf::new(clients as f64, 0.9).expect("the numbers are valid");
    // The number of the session that each client has, if it has one.
    let mut newest = vec![None; clients];
    let mut next = 0;
    let (mut came_back, mut found) = (0, 0);
    let visits = VISITS * clients;
    for visit in 0..visits {
        if workload.is_flooded {
            for _ in 0..FLOOD {
                full_handshake(cache, workload, &mut next);
            }
        }
        let client = zipf.sample(&mut rng) as usize - 1;
        let is_found = newest[client].is_some_and(|number| {
            let call = if workload.is_single_use { Call::Take } else { Call::Get };
            play(cache, &[Op { call, id: id(number) }], Pace::Rush).found == 1
        });
        if visit >= visits / 2 && newest[client].is_some() {
            came_back += 1;
            found += u64::from(is_found);
        }
        if workload.is_single_use || !is_found {
            newest[client] = Some(full_handshake(cache, workload, &mut next));
        }
    }
    found as f64 * 100.0 / came_back as f64
}

/// Puts what a handshake gives out; returns the number of the newest session.
fn full_handshake(cache: &dyn Cache, workload: Workload, next: &mut u64) -> u64 {
    for _ in 0..if workload.is_single_use { 2 } else { 1 } {
        *next += 1;
        let op = [Op { call: Call::Put, id: id(*next) }];
        prepare(cache, &op);
        play(cache, &op, Pace::Rush);
    }
    *next
}

fn show(
    report: &mut Report,
    workload: Workload,
    sessions: usize,
    policies: &[Policy],
    found: &[Vec<f64>],
) {
    let title = format!("{}, {} sessions", workload.name, grouped(sessions));
    let mut table = Table::new(&[&title, "%", "ours - theirs, points", "ours / theirs", ""]);
    for (place, (name, _)) in policies.iter().enumerate() {
        let share = format!("{:.2}", median(&found[place]));
        if place == 0 {
            table.row(&[*name, &share, "", "", ""]);
            continue;
        }
        let figure = Figure {
            question: workload.name.to_owned(),
            unit: "% of those that came back",
            better: Better::More,
            sessions,
            threads: 1,
        };
        let (ours, theirs) = (&found[0][..], &found[place][..]);
        let rounds = Rounds::of(name, ours, theirs);
        let [ratio, verdict] = report.compare(&figure, rounds).cells();
        let points: Vec<f64> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
        table.row(&[*name, &share, &format!("{:+.2}", median(&points)), &ratio, &verdict]);
    }
    report.table(&table);
}

/// A policy as its paper describes it: foyer's, with one shard.
struct Reference(foyer_memory::Cache<Id, u8, RandomState>);

fn reference(max: usize, eviction: EvictionConfig) -> Box<dyn Cache> {
    let builder = CacheBuilder::new(max).with_shards(1).with_eviction_config(eviction);
    Box::new(Reference(builder.with_hash_builder(RandomState::new()).build()))
}

impl Cache for Reference {
    fn put(&self, id: &Id, payload: &[u8]) {
        drop(self.0.insert(*id, payload[0]));
    }

    fn get(&self, id: &Id) -> Option<u8> {
        self.0.get(id).map(|entry| *entry.value())
    }

    fn take(&self, id: &Id) -> Option<u8> {
        self.0.remove(id).map(|entry| *entry.value())
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.entries())
    }
}
