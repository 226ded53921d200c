//! How long do a put and a take last while very many sessions expire at once?
//!
//! One thread puts sessions and takes them again: first while nothing else happens, then for as long
//! again, from the moment at which the others expire. From our cache they leave by themselves; OpenSSL's are
//! flushed by another thread, as a server has to. The window is the same for both, and longer than either takes
//! to let go of them, so that a percentile is one of as many calls; when the last session had left is in a column
//! of its own. The two take turns, round after round, each time with a new cache; medians over the rounds
//! are shown, also of the percentiles.
//!
//! What an allocator does when one thread frees a million blocks of another's is measured, too: it is the system's;
//! mimalloc, with `RESUMPTION_BENCH_ALLOCATOR=mimalloc`, takes up to 40 ms of the other's time at once for that.
//!
//! A call is due every 10 us, as if clients came at that rate, and its time is counted from then: what
//! is due while another call waits for a lock has waited as well.

#[path = "common/either_allocator.rs"]
mod allocator;
#[path = "common/openssl_servers.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod openssl_servers;
#[path = "../tests/common/openssl.rs"]
#[allow(dead_code, reason = "made for tests, of which each uses a part, too")]
mod peers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::args::{Args, Takes};
use common::ids::id;
use common::load::PAYLOAD;
use common::percentile::{percentile, shown, within_window};
use common::report::{Figure, Report, Rounds, Table, grouped};
use common::rounds::{Better, median, ratio};
use openssl::ssl::SslSession;
use openssl_servers::{LIFETIME, Master, Server};
use peers::TLS12;
use resumption::{Clock, Scope, SecretBytes, SessionCache, SessionId, Sessions};

const ABOUT: &str = "A put and a take, each due every 20 us, while SESSIONS expire in the same second: a \
                     window of some seconds, the same for both.";

/// The lifetime of those that expire.
const SHORT: Duration = Duration::from_secs(3_600);

/// A call is due so often.
const EVERY: Duration = Duration::from_micros(10);

/// A session is taken after so many others were put.
const BEHIND: usize = 1_000;

const PERCENTS: [(&str, f64); 4] =
    [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9), ("longest", 100.0)];

/// Where among them the goal is set.
const GOAL: usize = 2;

const CALLS: [&str; 2] = ["put", "take"];

fn main() {
    let args = Args::parse(ABOUT, [&[1_000_000], &[200_000]], &[Takes::RoundMs]);
    allocator::set_up();
    let mut report = Report::begin(&args, ABOUT);
    report.note(allocator::name());
    report.not_run("moka", "its clock cannot be set, and it has no second in which all expire");
    report.not_run("the others", "they have no expiry");
    for &sessions in &args.sizes {
        measure(&args, &mut report, sessions);
    }
}

/// How the calls of some time went, round after round.
#[derive(Default)]
struct Times {
    /// Of put and of take each percentile, in microseconds.
    micros: [[Vec<f64>; PERCENTS.len()]; CALLS.len()],
    /// When the last session had left, in milliseconds.
    millis: Vec<f64>,
}

/// A contestant: quiet, and while sessions expire.
type Side = [Times; 2];

fn measure(args: &Args, report: &mut Report, sessions: usize) {
    let window = args.round_time(Duration::from_millis(5_000), Duration::from_millis(1_200));
    let (mut ours, mut own) = (Side::default(), Side::default());
    for _ in 0..args.rounds() {
        let mut stage = Ours::new(sessions);
        ours[0].note(quietly(window, |taken| stage.step(taken)));
        ours[1].note(stage.storm(window, sessions));
        drop(stage);
        let mut stage = Openssl::new(sessions);
        own[0].note(quietly(window, |taken| stage.step(taken)));
        own[1].note(stage.storm(window));
    }
    show(report, sessions, &ours, &own);
    for (which, call) in CALLS.into_iter().enumerate() {
        let slowed = |[quiet, storm]: &Side| -> Vec<f64> {
            let (quiet, storm) = (&quiet.micros[which][GOAL], &storm.micros[which][GOAL]);
            storm.iter().zip(quiet).map(|(storm, quiet)| storm / quiet).collect()
        };
        let figure = Figure {
            question: format!("{call} while all expire"),
            unit: "p99.9 / quiet",
            better: Better::Less,
            sessions,
            threads: 2,
        };
        let keeps_up = [&ours, &own].iter().all(|[quiet, _]| quiet.keeps_up());
        let (ours, own) = (slowed(&ours), slowed(&own));
        let rounds = Rounds::of("OpenSSL SSL_CTX", &ours, &own);
        report.compare_percentiles(&figure, rounds, keeps_up);
    }
}

/// The microseconds of each put and of each take in some time, each from the moment at which it was
/// due.
struct Taken {
    start: Instant,
    micros: [Vec<f64>; CALLS.len()],
    /// When the last session that expires had left, from the start.
    last_left: Option<Duration>,
}

impl Taken {
    fn begin() -> Self {
        Self { start: Instant::now(), micros: Default::default(), last_left: None }
    }

    /// When the next call is due, from the start.
    fn next(&self) -> Duration {
        let before = self.micros.iter().map(Vec::len).sum::<usize>();
        EVERY * u32::try_from(before).expect("a window ends soon")
    }

    /// Makes a call once it is due: puts and takes by turns.
    fn timed<R>(&mut self, which: usize, run: impl FnOnce() -> R) -> R {
        let due = self.start + self.next();
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let result = run();
        self.micros[which].push(due.elapsed().as_nanos() as f64 / 1e3);
        result
    }
}

/// All calls that are due in some time, however late.
fn quietly(window: Duration, mut step: impl FnMut(&mut Taken)) -> Taken {
    let mut taken = Taken::begin();
    while taken.next() < window {
        step(&mut taken);
    }
    taken
}

/// Our cache, as its builder makes it, but for the clock.
struct Ours {
    cache: SessionCache,
    sessions: Sessions,
    clock: Clock,
    next: u64,
}

impl Ours {
    /// With sessions that expire, and a few that do not.
    fn new(sessions: usize) -> Self {
        let clock = Clock::manual();
        let builder = SessionCache::builder().max_sessions(2 * sessions + 4 * BEHIND);
        let builder = builder.lifetime(LIFETIME).clock(clock.clone());
        let cache: SessionCache = builder.build().expect("the settings are valid");
        let scope = cache.scope(&Scope::new("bench"));
        for number in 0..sessions as u64 {
            let put = scope.put_with(&name(number), SecretBytes::from(&PAYLOAD), SHORT);
            assert!(put.is_stored(), "a put was refused");
        }
        let mut stage = Self { cache, sessions: scope, clock, next: sessions as u64 };
        let mut taken = Taken::begin();
        (0..BEHIND).for_each(|_| stage.put(&mut taken));
        stage
    }

    fn put(&mut self, taken: &mut Taken) {
        let name = name(self.next);
        self.next += 1;
        let put = taken.timed(0, || self.sessions.put(&name, SecretBytes::from(&PAYLOAD)));
        assert!(put.is_stored(), "a put was refused");
    }

    fn step(&mut self, taken: &mut Taken) {
        self.put(taken);
        let name = name(self.next - BEHIND as u64);
        let is_there = taken.timed(1, || self.sessions.take(&name).is_some());
        assert!(is_there, "it was put");
    }

    /// From the moment at which they expire.
    fn storm(&mut self, window: Duration, sessions: usize) -> Taken {
        self.clock.advance(2 * SHORT);
        let mut taken = Taken::begin();
        while taken.next() < window {
            (0..16).for_each(|_| self.step(&mut taken));
            if taken.last_left.is_none() && self.cache.stats().removals.expired >= sessions as u64 {
                taken.last_left = Some(taken.start.elapsed());
            }
        }
        taken
    }
}

fn name(number: u64) -> SessionId {
    SessionId::from(id(number))
}

/// OpenSSL's own cache. What it stores is made outside the timed part.
struct Openssl {
    server: Arc<Server>,
    master: Master,
    put: VecDeque<SslSession>,
    next: u64,
}

impl Openssl {
    fn new(sessions: usize) -> Self {
        let server = Arc::new(Server::own(2 * sessions + 4 * BEHIND));
        let master = Master::new(&server, TLS12);
        for number in 0..sessions as u64 {
            server.add(&master.for_server(&id(number)), SHORT);
        }
        let mut stage = Self { server, master, put: VecDeque::new(), next: sessions as u64 };
        let mut taken = Taken::begin();
        (0..BEHIND).for_each(|_| stage.put(&mut taken));
        stage
    }

    fn put(&mut self, taken: &mut Taken) {
        let session = self.master.for_server(&id(self.next));
        self.next += 1;
        taken.timed(0, || self.server.add(&session, LIFETIME));
        self.put.push_back(session);
    }

    fn step(&mut self, taken: &mut Taken) {
        self.put(taken);
        let session = self.put.pop_front().expect("it was put");
        taken.timed(1, || self.server.remove(&session));
    }

    /// From the moment at which another thread begins to flush what has expired.
    fn storm(&mut self, window: Duration) -> Taken {
        let server = Arc::clone(&self.server);
        let mut taken = Taken::begin();
        let start = taken.start;
        let flush = thread::spawn(move || {
            server.flush(2 * SHORT);
            start.elapsed()
        });
        while taken.next() < window {
            self.step(&mut taken);
        }
        let flushed_after = flush.join().expect("no panic");
        taken.last_left = (flushed_after < window).then_some(flushed_after);
        taken
    }
}

impl Times {
    fn note(&mut self, mut taken: Taken) {
        let last_left = taken.last_left.map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3);
        self.millis.push(last_left);
        for (rounds, micros) in self.micros.iter_mut().zip(&mut taken.micros) {
            for (rounds, (_, percent)) in rounds.iter_mut().zip(PERCENTS) {
                rounds.push(percentile(micros, percent));
            }
        }
    }

    /// Whether most calls had ended when the next one was due.
    fn keeps_up(&self) -> bool {
        let every = EVERY.as_secs_f64() * 1e6;
        self.micros.iter().all(|micros| median(&micros[0]) < every)
    }

    /// The columns of put or of take, and how much longer than in quiet the goal's percentile was.
    fn row(&self, title: &str, which: usize, quiet: &Self) -> Vec<String> {
        let mut row = vec![title.to_owned()];
        row.extend(self.micros[which].iter().map(|times| shown(median(times), 2)));
        let (these, those) = (&self.micros[which][GOAL], &quiet.micros[which][GOAL]);
        row.push(shown(ratio(these, those), 2));
        let is_quiet = std::ptr::eq(self, quiet);
        row.push(if is_quiet { String::new() } else { within_window(median(&self.millis)) });
        row
    }
}

fn show(report: &mut Report, sessions: usize, ours: &Side, own: &Side) {
    for (which, call) in CALLS.into_iter().enumerate() {
        let title = format!("{call}, {} sessions, us", grouped(sessions));
        let mut header = vec![title.as_str()];
        header.extend(PERCENTS.map(|(name, _)| name));
        header.extend(["p99.9 / quiet", "last left after ms"]);
        let mut table = Table::new(&header);
        table.row(&ours[0].row("resumption, quiet", which, &ours[0]));
        table.row(&ours[1].row("resumption, all expire", which, &ours[0]));
        table.row(&own[0].row("OpenSSL SSL_CTX, quiet", which, &own[0]));
        table.row(&own[1].row("OpenSSL SSL_CTX, flushed", which, &own[0]));
        report.table(&table);
    }
}
