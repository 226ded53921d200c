//! How many handshakes does an OpenSSL server resume, with OpenSSL's own cache and with ours?
//!
//! Two threads make real handshakes in memory, TLS 1.2 by session ids and TLS 1.3 by stateful
//! tickets, all of them resumed. Each comes back with another one of the sessions in the cache, in an
//! order that looks random. The servers take turns, in short rounds, so that a slow second of the
//! machine is both's; medians are shown.
//!
//! `handshakes/s` has the clients' work in it; the time of the server is its own, of the processor's
//! time, and has no waiting in it.
//!
//! A TLS 1.3 handshake gives out one new ticket. OpenSSL's own cache leaves the old one where it is,
//! to be used again; ours takes it out.

#[path = "common/args.rs"]
mod args;
#[path = "common/ids.rs"]
mod ids;
#[path = "common/openssl_servers.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod openssl_servers;
#[path = "../tests/common/openssl.rs"]
#[allow(dead_code, reason = "made for tests, of which each uses a part, too")]
mod peers;
#[path = "common/report.rs"]
mod report;
#[path = "common/rounds.rs"]
mod rounds;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use args::Args;
use ids::id;
use openssl::ssl::SslVersion;
use openssl_servers::{LIFETIME, Master, Returning, Server};
use peers::{TLS12, TLS13};
use report::{Table, machine};
use resumption::SessionCache;
use rounds::{median, ratio};

const ABOUT: &str = "OpenSSL servers, 2 threads, all handshakes resumed, by session ids (TLS 1.2) \
                     and stateful tickets (TLS 1.3).";
const THREADS: usize = 2;

fn main() {
    let args = Args::parse(ABOUT, [&[400_000], &[20_000]]);
    println!("{ABOUT}\n{}, {}\n", machine(), openssl::version::version());
    for &sessions in &args.sizes {
        for (name, version) in [("TLS 1.2", TLS12), ("TLS 1.3", TLS13)] {
            measure(&args, sessions, name, version);
        }
    }
}

/// A server, the clients of each thread, and how its rounds went.
struct Side {
    server: Server,
    master: Master,
    threads: Vec<Returning>,
    rates: Vec<f64>,
    /// Microseconds of the processor's time that the server takes for a handshake.
    micros: Vec<f64>,
}

fn measure(args: &Args, sessions: usize, name: &str, version: SslVersion) {
    let handshakes = 400.min(sessions / THREADS);
    let rounds = args.pick(81, 3);
    // Room to spare: ours divides it among shards, and OpenSSL keeps used tickets.
    let max = sessions + sessions / 4 + handshakes * THREADS * (rounds + 1);
    let cache = SessionCache::builder().max_sessions(max).lifetime(LIFETIME).build();
    let servers = [Server::own(max), Server::ours(cache.expect("the settings are valid"))];
    let mut sides = servers.map(|server| Side::new(server, sessions, version));
    for side in &mut sides {
        side.round(handshakes / 4 + 1);
    }
    for _ in 0..rounds {
        for side in &mut sides {
            let (rate, micros) = side.round(handshakes);
            side.rates.push(rate);
            side.micros.push(micros);
        }
    }
    show(&format!("{name}, {sessions} sessions"), &sides);
}

impl Side {
    fn new(server: Server, sessions: usize, version: SslVersion) -> Self {
        let master = Master::new(&server, version);
        let sessions = sessions as u64;
        for number in 0..sessions {
            server.add(&master.for_server(&id(number)), LIFETIME);
        }
        let returning = |thread| {
            let numbers = (thread..sessions).step_by(THREADS);
            Returning::new(version, shuffled(numbers.collect()).into_iter().map(id))
        };
        let threads = (0..THREADS as u64).map(returning).collect();
        Self { server, master, threads, rates: Vec::new(), micros: Vec::new() }
    }

    /// Makes so many handshakes in each thread; returns how many there were in a second, and how
    /// many microseconds of the processor's time the server took for one.
    fn round(&mut self, handshakes: usize) -> (f64, f64) {
        let (server, master) = (&self.server, &self.master);
        let together = Barrier::new(THREADS);
        let run = |returning: &mut Returning| {
            let offers = returning.offers(handshakes, master);
            together.wait();
            let start = Instant::now();
            let at_work: Duration =
                offers.iter().map(|offer| returning.visit(server, offer).processor).sum();
            (start.elapsed(), at_work)
        };
        let times: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                self.threads.iter_mut().map(|returning| scope.spawn(|| run(returning))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let all = (handshakes * THREADS) as f64;
        let slowest = times.iter().map(|(time, _)| *time).max().unwrap_or_default();
        let at_work: Duration = times.iter().map(|(_, at_work)| *at_work).sum();
        (all / slowest.as_secs_f64(), at_work.as_secs_f64() * 1e6 / all)
    }
}

/// The numbers in an order that looks random.
fn shuffled(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_by_cached_key(|number| ids::mix(*number));
    numbers
}

fn show(title: &str, sides: &[Side]) {
    let mut table = Table::new(&[
        title,
        "handshakes/s",
        "x OpenSSL",
        "server us/handshake",
        "x OpenSSL",
        "sessions at the end",
        "slowest..fastest",
    ]);
    for side in sides {
        let (slowest, fastest) = (
            side.rates.iter().copied().fold(f64::MAX, f64::min),
            side.rates.iter().copied().fold(0.0, f64::max),
        );
        table.row(&[
            side.server.name.to_owned(),
            format!("{:.0}", median(&side.rates)),
            format!("{:.2}", ratio(&side.rates, &sides[0].rates)),
            format!("{:.1}", median(&side.micros)),
            format!("{:.2}", ratio(&side.micros, &sides[0].micros)),
            side.server.len().to_string(),
            format!("{slowest:.0}..{fastest:.0}"),
        ]);
    }
    table.print();
}
