//! How long does a handshake take while very many sessions expire at once?
//!
//! One thread makes resumed handshakes in memory, TLS 1.2 by session ids and TLS 1.3 by stateful
//! tickets, and the time of the server's part of each is taken: first while nothing else is done, then
//! from the moment at which sessions begin to leave until the last of them has left. From our cache
//! they leave by themselves; OpenSSL's own is flushed by another thread. The servers take turns,
//! round after round; medians over the rounds are shown, also of the percentiles.
//!
//! OpenSSL takes all of them out under the lock that handshakes need: the longest handshake is the one
//! that waited for it. The processor that is not the handshakes' has to be free, or both contenders
//! show how the system shares one. What leaves is freed by another thread than the handshakes', so the
//! allocator is measured, too: it is the system's, which OpenSSL servers usually have;
//! `RESUMPTION_BENCH_ALLOCATOR=mimalloc` takes the other benches'. The last two columns are of the
//! processor's time, which a busy machine changes little; waiting is not in it.

#[path = "common/either_allocator.rs"]
mod allocator;
#[path = "common/openssl_servers.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod openssl_servers;
#[path = "../tests/common/openssl.rs"]
#[allow(dead_code, reason = "made for tests, of which each uses a part, too")]
mod peers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::args::Args;
use common::ids::id;
use common::percentile::percentile;
use common::report::{Figure, Report, Rounds, Table};
use common::rounds::{Better, median, ratio};
use openssl::ssl::SslVersion;
use openssl_servers::{LIFETIME, Master, Part, Returning, Server};
use peers::{TLS12, TLS13};
use resumption::tls::openssl::OpensslSession;
use resumption::{Clock, SessionCache};

const ABOUT: &str =
    "OpenSSL servers: a resumed handshake while SESSIONS expire in the same second.";

/// How many sessions stay, to be resumed.
const STAYING: u64 = 10_000;

/// The lifetime of the others.
const SHORT: Duration = Duration::from_secs(3_600);

fn main() {
    let args = Args::parse(ABOUT, [&[1_000_000], &[50_000]]);
    allocator::for_openssl();
    let mut report = Report::begin(&args, ABOUT);
    report.note(openssl::version::version());
    report.note(allocator::name());
    for &sessions in &args.sizes {
        for (name, version) in [("TLS 1.2", TLS12), ("TLS 1.3", TLS13)] {
            measure(&args, &mut report, sessions as u64, name, version);
        }
    }
}

/// How the handshakes of some time went, round after round.
#[derive(Default)]
struct Times {
    /// In microseconds: p50, p99, p99.9, and the longest.
    micros: [Vec<f64>; 4],
    /// Of the processor's time p99.9, in microseconds.
    at_work: Vec<f64>,
    handshakes: Vec<f64>,
    /// How long all that took, in milliseconds.
    millis: Vec<f64>,
}

/// A contender: quiet, and while sessions expire.
type Side = (&'static str, [Times; 2]);

fn measure(args: &Args, report: &mut Report, sessions: u64, name: &str, version: SslVersion) {
    let mut sides: [Side; 2] =
        [("OpenSSL", Default::default()), ("resumption", Default::default())];
    let quiet_time = Duration::from_millis(args.pick(5_000, 500));
    for _ in 0..args.rounds() {
        let own = Server::own((sessions + 2 * STAYING) as usize * 2);
        let mut own = Stage::new(own, sessions, version);
        sides[0].1[0].note(own.quiet(quiet_time));
        sides[0].1[1].note(own.beside_a_flush());
        drop(own);
        let (cache, clock) = cache(sessions);
        let mut ours = Stage::new(Server::ours(cache.clone()), sessions, version);
        sides[1].1[0].note(ours.quiet(quiet_time));
        clock.advance(2 * SHORT);
        sides[1].1[1].note(ours.beside_expiry(&cache, sessions));
    }
    show(report, &format!("{name}, {sessions} sessions"), &sides);
    compare(report, name, sessions as usize, &sides);
}

/// Our cache, as its builder makes it, but for the clock.
fn cache(sessions: u64) -> (SessionCache<OpensslSession>, Clock) {
    let clock = Clock::manual();
    let max = (sessions + 2 * STAYING) as usize * 2;
    let builder = SessionCache::builder().max_sessions(max).lifetime(LIFETIME);
    (builder.clock(clock.clone()).build().expect("the settings are valid"), clock)
}

/// A server with sessions that expire and such that stay, and the clients of the latter.
struct Stage {
    server: Server,
    master: Master,
    clients: Returning,
}

impl Stage {
    fn new(server: Server, sessions: u64, version: SslVersion) -> Self {
        let master = Master::new(&server, version);
        // Those that expire first come first: the other way round OpenSSL walks past the ones that
        // stay in each add.
        for number in STAYING..STAYING + sessions {
            server.add(&master.for_server(&id(number)), SHORT);
        }
        for number in 0..STAYING {
            server.add(&master.for_server(&id(number)), LIFETIME);
        }
        let clients = Returning::new(version, (0..STAYING).map(id));
        Self { server, master, clients }
    }

    /// One handshake; returns how long the server's part took.
    fn handshake(&mut self) -> Part {
        let offers = self.clients.offers(1, &self.master);
        self.clients.visit(&self.server, &offers[0])
    }

    /// Handshakes for some time, in which nothing else is done.
    fn quiet(&mut self, time: Duration) -> Taken {
        let mut taken = Taken::begin();
        while taken.start.elapsed() < time {
            taken.each.push(self.handshake());
        }
        taken.end()
    }

    /// Handshakes while another thread flushes what will have expired: at least one.
    fn beside_a_flush(&mut self) -> Taken {
        let server = &self.server;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let mut taken = Taken::begin();
            scope.spawn(|| {
                server.flush(2 * SHORT);
                // It says when to stop, and nothing else.
                is_over.store(true, Ordering::Relaxed);
            });
            loop {
                let offers = self.clients.offers(1, &self.master);
                taken.each.push(self.clients.visit(server, &offers[0]));
                if is_over.load(Ordering::Relaxed) {
                    return taken.end();
                }
            }
        })
    }

    /// Handshakes from the first session's leaving to the last one's: at least one.
    fn beside_expiry(&mut self, cache: &SessionCache<OpensslSession>, sessions: u64) -> Taken {
        while cache.stats().removals.expired == 0 {
            self.handshake();
        }
        let mut taken = Taken::begin();
        loop {
            taken.each.push(self.handshake());
            if cache.stats().removals.expired >= sessions {
                return taken.end();
            }
        }
    }
}

/// The handshakes of some time.
struct Taken {
    start: Instant,
    /// The server's part of each.
    each: Vec<Part>,
    all: Duration,
}

impl Taken {
    fn begin() -> Self {
        Self { start: Instant::now(), each: Vec::new(), all: Duration::ZERO }
    }

    fn end(mut self) -> Self {
        self.all = self.start.elapsed();
        self
    }
}

impl Times {
    fn note(&mut self, taken: Taken) {
        let micros = |time: fn(&Part) -> Duration| {
            taken.each.iter().map(|part| time(part).as_secs_f64() * 1e6).collect::<Vec<_>>()
        };
        self.at_work.push(percentile(&mut micros(|part| part.processor), 99.9));
        let mut micros = micros(|part| part.clock);
        for (times, percent) in self.micros.iter_mut().zip([50.0, 99.0, 99.9, 100.0]) {
            times.push(percentile(&mut micros, percent));
        }
        self.handshakes.push(micros.len() as f64);
        self.millis.push(taken.all.as_secs_f64() * 1e3);
    }

    /// Its columns, and how much longer than in quiet the 99.9th percentile was.
    fn row(&self, title: String, quiet: &Self) -> Vec<String> {
        let mut row = vec![title];
        row.extend(self.micros.iter().map(|times| format!("{:.0}", median(times))));
        row.push(format!("{:.2}", ratio(&self.micros[2], &quiet.micros[2])));
        row.push(format!("{:.0}", median(&self.handshakes)));
        row.push(format!("{:.0}", median(&self.millis)));
        row.push(format!("{:.0}", median(&self.at_work)));
        row.push(format!("{:.2}", ratio(&self.at_work, &quiet.at_work)));
        row
    }
}

/// How much longer than in quiet the 99.9th percentile was, ours and OpenSSL's.
fn compare(report: &mut Report, name: &str, sessions: usize, sides: &[Side; 2]) {
    let slowed = |[quiet, expiring]: &[Times; 2]| -> Vec<f64> {
        let pairs = expiring.micros[2].iter().zip(&quiet.micros[2]);
        pairs.map(|(expiring, quiet)| expiring / quiet).collect()
    };
    let figure = Figure {
        question: format!("handshakes of OpenSSL while all expire, {name}"),
        unit: "p99.9 / quiet",
        better: Better::Less,
        sessions,
        threads: 2,
    };
    let [own, ours] = sides;
    report.compare(&figure, Rounds::of("OpenSSL SSL_CTX", &slowed(&ours.1), &slowed(&own.1)));
}

fn show(report: &mut Report, title: &str, sides: &[Side]) {
    let title = format!("{title}, server us");
    let columns = [
        "p50",
        "p99",
        "p99.9",
        "longest",
        "p99.9 / quiet",
        "handshakes",
        "in ms",
        "at work p99.9",
        "/ quiet",
    ];
    let mut table = Table::new(&[&[title.as_str()][..], &columns[..]].concat());
    for (name, [quiet, expiring]) in sides {
        table.row(&quiet.row(format!("{name}, quiet"), quiet));
        let title = if *name == "OpenSSL" { "flushed beside" } else { "expiring" };
        table.row(&expiring.row(format!("{name}, {title}"), quiet));
    }
    report.table(&table);
}
