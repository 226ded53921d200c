//! Does an add take longer the more sessions there are?
//!
//! OpenSSL keeps its sessions in the order in which they expire, and walks that list to the place of
//! a session that expires earlier than others; and it hashes the first four bytes of an id, so that
//! ids with a common prefix, as the manual page of `SSL_set_generate_session_id` makes them, are one
//! chain. One thread adds some sessions to a cache that has many, and removes them again. The caches
//! take turns, round after round; medians of the processor's time are shown.
//!
//! Ours is shown as what stands for `SSL_CTX_add_session`: a copy, its id in the cache, which is a
//! digest, and the put; and as the put alone. OpenSSL's own add makes no copy.

#[path = "common/allocator.rs"]
mod allocator;
#[path = "common/openssl_servers.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod openssl_servers;
#[path = "../tests/common/openssl.rs"]
#[allow(dead_code, reason = "made for tests, of which each uses a part, too")]
mod peers;

use std::time::Duration;

use common::args::Args;
use common::ids::{id, mix};
use common::report::{Figure, Report, Rounds, Table};
use common::rounds::{Better, median};
use cpu_time::ThreadTime;
use openssl::ssl::SslSession;
use openssl_servers::{LIFETIME, Master, Server};
use peers::{HOST, TLS12};
use resumption::tls::openssl::OpensslSession;
use resumption::{Scope, SessionCache, Sessions};

const ABOUT: &str = "The time of an add to OpenSSL's own cache and to ours, by lifetimes and ids.";

/// What the sessions of a cache are like.
#[derive(Clone, Copy)]
struct Like {
    name: &'static str,
    has_random_lifetimes: bool,
    has_common_prefix: bool,
}

const ALL: [Like; 3] = [
    Like { name: "one lifetime", has_random_lifetimes: false, has_common_prefix: false },
    Like { name: "random lifetimes", has_random_lifetimes: true, has_common_prefix: false },
    Like { name: "ids of one prefix", has_random_lifetimes: false, has_common_prefix: true },
];

fn main() {
    let sizes: [&[usize]; 2] = [&[1_000, 2_000, 5_000, 10_000, 20_000], &[1_000, 4_000]];
    let args = Args::parse(ABOUT, sizes, &[]);
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    report.note(openssl::version::version());
    for like in ALL {
        let sizes: Vec<_> =
            args.sizes.iter().map(|&sessions| (sessions, measure(&args, sessions, like))).collect();
        show(&mut report, like.name, &sizes);
    }
}

/// A cache with sessions, and how long an add took in each round, in nanoseconds.
struct Side {
    way: Way,
    nanos: Vec<f64>,
}

/// How sessions are added.
enum Way {
    /// By what a server's own code would call.
    Add(Server),
    /// By the put alone.
    Put(Sessions<OpensslSession>),
}

/// A session to be added, and for how long.
type Made = (SslSession, Duration);

/// The times of an add in each round: OpenSSL's, ours, and of ours the put.
fn measure(args: &Args, sessions: usize, like: Like) -> [Vec<f64>; 3] {
    // A tenth more or less is the same size still.
    let adds = (sessions / 10).clamp(1, 500);
    let own = Server::own(2 * sessions);
    let master = Master::new(&own, TLS12);
    let cache = || {
        let builder = SessionCache::builder().max_sessions(2 * sessions).lifetime(LIFETIME);
        builder.build().expect("the settings are valid")
    };
    let put = Way::Put(cache().scope(&Scope::new("bench")));
    let ways = [Way::Add(own), Way::Add(Server::ours(cache())), put];
    let mut sides = ways.map(|way| Side { way, nanos: Vec::new() });
    let mut numbers = 0..;
    let mut made =
        |count| numbers.by_ref().take(count).map(|number| like.made(&master, number)).collect();
    for side in &mut sides {
        side.way.add(made(sessions));
    }
    for _ in 0..args.rounds() {
        for side in &mut sides {
            side.nanos.push(side.way.round(made(adds)));
        }
    }
    sides.map(|side| side.nanos)
}

impl Like {
    /// A session like these.
    fn made(self, master: &Master, number: u64) -> Made {
        let mut id = id(number);
        if self.has_common_prefix {
            id[..6].copy_from_slice(b"prefix");
        }
        // None expires before the bench ends.
        let least = LIFETIME / 2;
        let random = least.mul_f64(mix(number) as f64 / u64::MAX as f64);
        let more = if self.has_random_lifetimes { random } else { least };
        (master.for_server(&id), least + more)
    }
}

impl Way {
    /// Adds these; returns how long that took.
    fn add(&self, made: Vec<Made>) -> Duration {
        match self {
            Self::Add(server) => {
                let start = ThreadTime::now();
                made.iter().for_each(|(session, lifetime)| server.add(session, *lifetime));
                start.elapsed()
            }
            Self::Put(sessions) => {
                let ours = made.iter().map(|(session, lifetime)| (ours(session), *lifetime));
                let ours: Vec<_> = ours.collect();
                let start = ThreadTime::now();
                for (session, lifetime) in ours {
                    let put = sessions.put_with(&session.cache_id(), session, lifetime);
                    assert!(put.is_stored(), "a put was refused");
                }
                start.elapsed()
            }
        }
    }

    /// Adds these, and removes them again; returns how many nanoseconds an add took.
    fn round(&self, made: Vec<Made>) -> f64 {
        let sessions: Vec<_> = made.iter().map(|(session, _)| session.clone()).collect();
        let time = self.add(made);
        for session in &sessions {
            match self {
                Self::Add(server) => server.remove(session),
                Self::Put(cache) => assert!(cache.remove(&ours(session).cache_id()), "it was put"),
            }
        }
        time.as_nanos() as f64 / sessions.len() as f64
    }
}

/// What is put for a session.
fn ours(session: &SslSession) -> OpensslSession {
    OpensslSession::new(session, Some(HOST)).expect("OpenSSL has memory")
}

/// One line for each number of sessions, and how much longer the last took than the first.
fn show(report: &mut Report, title: &str, sizes: &[(usize, [Vec<f64>; 3])]) {
    let mut table = Table::new(&[
        &format!("{title}, sessions"),
        "OpenSSL ns/add",
        "ours ns/add",
        "ours / theirs",
        "",
        "of ours the put, ns",
    ]);
    for (sessions, [own, add, put]) in sizes {
        let figure = Figure {
            question: format!("add to an OpenSSL server, {title}"),
            unit: "ns",
            better: Better::Less,
            sessions: *sessions,
            threads: 1,
        };
        let rounds = Rounds::of("OpenSSL SSL_CTX", add, own);
        let [ratio, verdict] = report.compare(&figure, rounds).cells();
        table.row(&[
            sessions.to_string(),
            format!("{:.0}", median(own)),
            format!("{:.0}", median(add)),
            ratio,
            verdict,
            format!("{:.0}", median(put)),
        ]);
    }
    if let [(_, first), .., (_, last)] = sizes {
        let growth = |side: usize| format!("x {:.2}", median(&last[side]) / median(&first[side]));
        let none = String::new();
        let title = "last / first".to_owned();
        table.row(&[title, growth(0), growth(1), none.clone(), none, growth(2)]);
    }
    report.table(&table);
}
