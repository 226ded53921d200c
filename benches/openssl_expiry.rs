//! How long does a handshake take while very many sessions expire at once?
//!
//! One thread makes resumed handshakes in memory, TLS 1.2 by session ids and TLS 1.3 by stateful
//! tickets, and the time of the server's part of each is taken: first while nothing else is done, then for as
//! long again, from the moment at which sessions expire. From our cache they leave by themselves;
//! OpenSSL's own is flushed by another thread. The window is the same for both, and longer than either takes
//! to let go of them, so that a percentile is one of as many handshakes; when the last session had left is in a
//! column of its own. The servers take turns, round after round; medians over the rounds are shown, also
//! of the percentiles.
//!
//! A handshake is due every millisecond, as if clients came at that rate, and what it begins late counts to its
//! time: clients that come while another handshake waits for a lock have waited as well.
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

use std::thread;
use std::time::{Duration, Instant};

use common::args::{Args, Takes};
use common::ids::id;
use common::percentile::{percentile, shown, within_window};
use common::report::{Figure, Report, Rounds, Table};
use common::rounds::{Better, median, ratio};
use openssl::ssl::SslVersion;
use openssl_servers::{LIFETIME, Master, Part, Returning, Server};
use peers::{TLS12, TLS13};
use resumption::tls::openssl::OpensslSession;
use resumption::{Clock, SessionCache};

const ABOUT: &str = "OpenSSL servers: resumed handshakes, each due every ms and timed from then, while SESSIONS expire in \
     the same second: a window of some seconds, the same for both.";

/// How many sessions stay, to be resumed.
const STAYING: u64 = 10_000;

/// A handshake is due so often; it takes a fraction of that.
const EVERY: Duration = Duration::from_millis(1);

/// The lifetime of the others.
const SHORT: Duration = Duration::from_secs(3_600);

fn main() {
    let args = Args::parse(ABOUT, [&[1_000_000], &[50_000]], &[Takes::RoundMs]);
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    report.note(openssl::version::version());
    report.note(allocator::name());
    const VERSIONS: [(&str, SslVersion); 2] = [("TLS 1.3", TLS13), ("TLS 1.2", TLS12)];
    let versions = args.pick(&VERSIONS[..], &VERSIONS[..1]);
    if versions.len() < VERSIONS.len() {
        report.not_run("TLS 1.2", "a window has to be long, and a quick run short");
    }
    for &sessions in &args.sizes {
        for &(name, version) in versions {
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
    /// When the last session had left, in milliseconds.
    millis: Vec<f64>,
}

/// A contender: quiet, and while sessions expire.
type Side = (&'static str, [Times; 2]);

fn measure(args: &Args, report: &mut Report, sessions: u64, name: &str, version: SslVersion) {
    let mut sides: [Side; 2] =
        [("OpenSSL", Default::default()), ("resumption", Default::default())];
    let window = args.round_time(Duration::from_millis(5_000), Duration::from_millis(1_200));
    for _ in 0..args.rounds() {
        let own = Server::own((sessions + 2 * STAYING) as usize * 2);
        let mut own = Stage::new(own, sessions, version);
        sides[0].1[0].note(own.quiet(window));
        sides[0].1[1].note(own.beside_a_flush(window));
        drop(own);
        let cache = cache(sessions);
        let mut ours = Stage::new(Server::ours(cache.0.clone()), sessions, version);
        sides[1].1[0].note(ours.quiet(window));
        sides[1].1[1].note(ours.beside_expiry(window, &cache, sessions));
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

    /// Handshakes that are due in some time, however late, in which nothing else is done.
    fn quiet(&mut self, window: Duration) -> Taken {
        let mut taken = Taken::begin();
        while taken.next() < window {
            self.handshake(&mut taken);
        }
        taken
    }

    /// Handshakes from the moment at which another thread begins to flush what will have expired.
    fn beside_a_flush(&mut self, window: Duration) -> Taken {
        let Self { server, master, clients } = self;
        let server = &*server;
        thread::scope(|scope| {
            let mut taken = Taken::begin();
            let start = taken.start;
            let flush = scope.spawn(move || {
                server.flush(2 * SHORT);
                start.elapsed()
            });
            while taken.next() < window {
                taken.handshake(server, master, clients);
            }
            let flushed_after = flush.join().expect("no panic");
            taken.last_left = (flushed_after < window).then_some(flushed_after);
            taken
        })
    }

    /// Handshakes from the moment at which sessions expire.
    fn beside_expiry(
        &mut self,
        window: Duration,
        (cache, clock): &(SessionCache<OpensslSession>, Clock),
        sessions: u64,
    ) -> Taken {
        clock.advance(2 * SHORT);
        let mut taken = Taken::begin();
        while taken.next() < window {
            self.handshake(&mut taken);
            if taken.last_left.is_none() && cache.stats().removals.expired >= sessions {
                taken.last_left = Some(taken.start.elapsed());
            }
        }
        taken
    }

    fn handshake(&mut self, taken: &mut Taken) {
        taken.handshake(&self.server, &self.master, &mut self.clients);
    }
}

/// The handshakes of some time.
struct Taken {
    start: Instant,
    /// The server's part of each, and by how much it began late.
    each: Vec<Part>,
    /// When the last session that expires had left, from the start.
    last_left: Option<Duration>,
}

impl Taken {
    fn begin() -> Self {
        Self { start: Instant::now(), each: Vec::new(), last_left: None }
    }

    /// When the next handshake is due, from the start.
    fn next(&self) -> Duration {
        EVERY * u32::try_from(self.each.len()).expect("a window ends soon")
    }

    /// Makes a handshake once it is due.
    fn handshake(&mut self, server: &Server, master: &Master, clients: &mut Returning) {
        let offers = clients.offers(1, master);
        let due = self.start + self.next();
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let late = due.elapsed();
        let part = clients.visit(server, &offers[0]);
        self.each.push(Part { clock: late + part.clock, ..part });
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
        let last_left = taken.last_left.map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3);
        self.millis.push(last_left);
    }

    /// Whether most handshakes had ended when the next one was due.
    fn keeps_up(&self) -> bool {
        median(&self.micros[0]) < EVERY.as_secs_f64() * 1e6
    }

    /// Its columns, and how much longer than in quiet the 99.9th percentile was.
    fn row(&self, title: String, quiet: &Self) -> Vec<String> {
        let mut row = vec![title];
        row.extend(self.micros.iter().map(|times| shown(median(times), 0)));
        row.push(shown(ratio(&self.micros[2], &quiet.micros[2]), 2));
        row.push(format!("{:.0}", median(&self.handshakes)));
        let is_quiet = std::ptr::eq(self, quiet);
        row.push(if is_quiet { String::new() } else { within_window(median(&self.millis)) });
        row.push(shown(median(&self.at_work), 0));
        row.push(shown(ratio(&self.at_work, &quiet.at_work), 2));
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
    let keeps_up = sides.iter().all(|(_, [quiet, _])| quiet.keeps_up());
    let (ours, own) = (slowed(&ours.1), slowed(&own.1));
    let rounds = Rounds::of("OpenSSL SSL_CTX", &ours, &own);
    report.compare_percentiles(&figure, rounds, keeps_up);
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
        "last left after ms",
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
