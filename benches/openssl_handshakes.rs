//! How many handshakes does an OpenSSL server resume, with OpenSSL's own cache and with ours?
//!
//! Two threads make real handshakes in memory, TLS 1.2 by session ids and TLS 1.3 by stateful
//! tickets, all of them resumed, and then all of them full. Each comes back with another one of the
//! sessions in the cache, in an order that looks random. The servers take turns, in short rounds, so that
//! a slow second of the machine is both's; medians are shown.
//!
//! `handshakes/s` has the clients' work in it; the time of the server is its own, of the processor's
//! time, and has no waiting in it.
//!
//! A TLS 1.3 handshake gives out one new ticket. OpenSSL's own cache leaves the old one where it is,
//! to be used again; ours takes it out.

#[path = "common/allocator.rs"]
mod allocator;
#[path = "common/openssl_servers.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod openssl_servers;
#[path = "../tests/common/openssl.rs"]
#[allow(dead_code, reason = "made for tests, of which each uses a part, too")]
mod peers;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::args::Args;
use common::handshakes::Mix;
use common::ids::{id, mix};
use common::report::{Figure, Report, Rounds, Table, grouped};
use common::rounds::{Better, median};
use openssl::ssl::SslVersion;
use openssl_servers::{LIFETIME, Master, Returning, Server};
use peers::{TLS12, TLS13};
use resumption::SessionCache;

const ABOUT: &str = "OpenSSL servers, 2 threads, all handshakes resumed, by session ids (TLS 1.2) \
                     and stateful tickets (TLS 1.3), and all full.";
const THREADS: usize = 2;

fn main() {
    let args = Args::parse(ABOUT, [&[1_000, 400_000, 1_000_000], &[1_000]], &[]);
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    report.note(openssl::version::version());
    for &sessions in &args.sizes {
        for (name, version) in [("TLS 1.2", TLS12), ("TLS 1.3", TLS13)] {
            measure(&args, &mut report, sessions, name, version);
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

fn measure(args: &Args, report: &mut Report, sessions: usize, name: &str, version: SslVersion) {
    let handshakes = 400.min(sessions / THREADS);
    let rounds = args.pick(81, 7);
    // Room to spare: ours divides it among shards, and OpenSSL keeps used tickets.
    let max = sessions + sessions / 4 + handshakes * THREADS * (rounds + 1);
    let cache = SessionCache::builder().max_sessions(max).lifetime(LIFETIME).build();
    let servers = [Server::own(max), Server::ours(cache.expect("the settings are valid"))];
    let mut sides = servers.map(|server| Side::new(server, sessions, version));
    for mix in [Mix::Resumed, Mix::Full] {
        // A full one takes several times as long.
        let handshakes = if mix == Mix::Full { handshakes / 4 + 1 } else { handshakes };
        for side in &mut sides {
            side.rates.clear();
            side.micros.clear();
            side.round(handshakes / 4 + 1, mix);
        }
        for round in 0..rounds {
            for place in 0..2 {
                let side = &mut sides[(round + place) % 2];
                let (rate, micros) = side.round(handshakes, mix);
                side.rates.push(rate);
                side.micros.push(micros);
            }
        }
        let full = if mix == Mix::Full { ", all full" } else { "" };
        show(report, &format!("{name}{full}"), sessions, &sides);
    }
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
    fn round(&mut self, handshakes: usize, mix: Mix) -> (f64, f64) {
        let (server, master) = (&self.server, &self.master);
        let together = Barrier::new(THREADS);
        let run = |returning: &mut Returning| {
            let count = if mix == Mix::Full { 0 } else { handshakes };
            let offers = returning.offers(count, master);
            together.wait();
            let start = Instant::now();
            let mut at_work = Duration::ZERO;
            for offer in &offers {
                at_work += returning.visit(server, offer).processor;
            }
            for _ in count..handshakes {
                at_work += returning.full(server).processor;
            }
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
    numbers.sort_by_cached_key(|number| mix(*number));
    numbers
}

fn show(report: &mut Report, name: &str, sessions: usize, sides: &[Side; 2]) {
    let [own, ours] = sides;
    let mut compare = |unit, better, ours: &[f64], theirs: &[f64]| {
        let question = format!("OpenSSL handshakes, {name}");
        let figure = Figure { question, unit, better, sessions, threads: THREADS };
        let rounds = Rounds::of("OpenSSL SSL_CTX", ours, theirs);
        report.compare(&figure, rounds).cells()
    };
    let rates = compare("handshakes/s", Better::More, &ours.rates, &own.rates);
    let micros = compare("server us/handshake", Better::Less, &ours.micros, &own.micros);
    let title = format!("{name}, {} sessions", grouped(sessions));
    let mut table = Table::new(&[
        title.as_str(),
        "handshakes/s",
        "ours / theirs",
        "",
        "server us/handshake",
        "ours / theirs",
        "",
        "sessions at the end",
    ]);
    let none = || [String::new(), String::new()];
    for (side, rates, micros) in [(own, rates, micros), (ours, none(), none())] {
        let [[rate, rate_verdict], [time, time_verdict]] = [rates, micros];
        table.row(&[
            side.server.name.to_owned(),
            format!("{:.0}", median(&side.rates)),
            rate,
            rate_verdict,
            format!("{:.1}", median(&side.micros)),
            time,
            time_verdict,
            side.server.len().to_string(),
        ]);
    }
    report.table(&table);
}
