//! Everything that the crate does, by many threads, for as long as one likes:
//! `cargo xtask soak --minutes 10`.
//!
//! A run is many rounds. A round makes a cache, and its settings come from the run's seed and the
//! round's number (`plan.rs`). Threads that stay, and others that live for some dozens of calls, do
//! all that can be done to it (`actor.rs`); others turn limits, lifetimes, modes and callbacks, and let
//! the clock go on, jump ahead and stand still (`warden.rs`). The callbacks are slow, panic, reject, keep
//! handles and use the cache (`callbacks.rs`); some payloads do that as they are dropped. In the middle
//! of it the cache is closed, or left without a close.
//!
//! The clock does not jump back: a manual clock can only be advanced, the system's is monotonic, and
//! the crate takes no clock of the user's own.
//!
//! # What is looked at
//!
//! All along, from a thread of its own (`bounds.rs`), by payloads that are alive:
//!
//! * sessions ≤ limit and bytes ≤ limit, also while the limits change. Without callbacks that is exact;
//!   with them, what waits to be told is beyond the limits, and is known to some hundred sessions;
//! * headers that wait for the epoch, and hints, within their bounds. Headers are not looked at in rounds
//!   with a get callback, or whose mode tells of ids alone: these make headers that no put is refused for.
//!
//! By each thread: what is found is whole, was put under this very scope and id, is not dropped, does not
//! come back after this thread has taken it, and had not expired when the lookup began (in rounds in
//! which nobody shortens a lifetime meanwhile).
//!
//! In half of the rounds everybody rests for a moment, and all counts are exact. What puts have stored is
//! there then, or was removed; all of it was, at the end of a round that ends by a close (in rounds in which
//! nothing else comes in, and within the puts that a panic has ended). At the end of a round
//! (`ledger.rs`, `round.rs`): each payload was dropped once, and taken once at most; each session that was
//! stored was told as new and as removed, once; of one scope and id, no coming was told before the
//! leaving of the session before; nothing was refused and told of. No header, handle or call waits. At
//! the end of the run resident memory is back to the start, within [`TOLERANCE`].
//!
//! # Repeating a failure
//!
//! A run that fails prints its seed and round, and the command that plays that round over and over. The
//! settings and each thread's choices are the same then; how the threads meet is the system's. (Of the bugs
//! below, `unlink-before-announcement` came again in the fourth play, `resurrect` as a crash within five seconds.) A crash prints
//! no summary: the seed is the first line, and the round is one of those after the last line of progress.
//!
//! # What it has caught
//!
//! Bugs of those that the models have (`planted!` in the library) were switched on in a copy, and run
//! with seed 7 for a minute each, on two busy cores:
//!
//! | bug | noticed | after |
//! |---|---|---|
//! | `take-by-load-and-store-of-tokens`: a put takes a place that is taken | 109 payloads alive, 4 outside, of 100 | 1.3 s |
//! | `take-by-load-and-store`: two takes remove one session | 104 payloads alive, 3 outside, of 100 | 1.3 s |
//! | `unlink-before-announcement`: the next session's coming is told first | told as new before the one before as removed | 4.0 s |
//! | `resurrect`: a count goes up from zero | found as another's, dropped twice | 25 s |
//! | `end-serving-by-store`, `decide-by-load-and-store`, `no-second-look-at-the-scope` | not in a minute: the models are for these | |
//!
//! And two bugs that nobody had planted: a lookup that was shown what another one was given, though it
//! had expired since (`tests/lookup_edges.rs`), and a limit that stayed half changed when a payload
//! panicked (`tests/interface.rs`).

mod actor;
mod bounds;
mod callbacks;
mod ledger;
mod memory;
mod payload;
mod plan;
mod report;
mod round;
#[path = "../../tests/support/mod.rs"]
mod support;
mod warden;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use lexopt::{Arg, Parser, ValueExt};
use resumption::{Scope, SessionCache};

use crate::ledger::Ledger;
use crate::payload::Planned;
use crate::plan::{MOST_KEYS, Plan, SCOPES};
use crate::report::{Report, Totals};
use crate::support::id;

const HELP: &str = "\
Usage: cargo xtask soak [--minutes N | --seconds N] [--seed N [--round N]] [--json]

Everything at once, in rounds with other settings each: puts, lookups, sweeps and limits that change, callbacks and
payloads that panic. Bounds are looked at all along, and ledgers at the end of each round.

  --minutes N, --seconds N  how long (a minute)
  --seed N                  where the random numbers begin (the time)
  --round N                 this round over and over, as a failure says it; with its seed
  --json                    the report as one JSON object, last
  --any-memory              does not look at resident memory, which a sanitizer keeps
";

/// How often there is a line of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// Resident memory that may be there at the end and was not at the start, beside what the region for
/// headers has grown by: what the allocator does not give back, of arenas that many threads have used.
const TOLERANCE: u64 = 48 << 20;

#[derive(Debug)]
struct Options {
    lasts: Duration,
    seed: u64,
    /// This round over and over, and no other.
    round: Option<u64>,
    json: bool,
    /// Whether resident memory may stay: a sanitizer keeps what is freed.
    any_memory: bool,
}

fn main() -> ExitCode {
    match options(Parser::from_env()).map(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut parser: Parser) -> Result<Options> {
    let (mut has_time, mut has_seed) = (false, false);
    // Any number will do; it is printed.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut options = Options {
        lasts: Duration::from_secs(60),
        seed: u64::from(now.subsec_nanos()) ^ now.as_secs(),
        round: None,
        json: false,
        any_memory: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => {
                print!("{HELP}");
                std::process::exit(0);
            }
            Arg::Long("minutes" | "seconds") if has_time => bail!("the run's time is given twice"),
            Arg::Long("minutes") => {
                (options.lasts, has_time) = (time(&mut parser, "--minutes", 60.0)?, true);
            }
            Arg::Long("seconds") => {
                (options.lasts, has_time) = (time(&mut parser, "--seconds", 1.0)?, true);
            }
            Arg::Long("seed") => (options.seed, has_seed) = (parser.value()?.parse()?, true),
            Arg::Long("round") => options.round = Some(parser.value()?.parse()?),
            Arg::Long("any-memory") => options.any_memory = true,
            Arg::Long("json") => options.json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    // It would be another plan each time.
    if options.round.is_some() && !has_seed {
        bail!("--round is a seed's: it goes with --seed");
    }
    Ok(options)
}

/// A time that an option gives in units of so many seconds.
fn time(parser: &mut Parser, option: &str, unit: f64) -> Result<Duration> {
    let value = parser.value()?.string()?;
    let time = value.parse::<f64>().ok().map(|count| Duration::try_from_secs_f64(count * unit));
    match time {
        Some(Ok(time)) if !time.is_zero() => Ok(time),
        Some(Ok(_)) => bail!("{option} {value}: a run of no time shows nothing"),
        _ => bail!("{option} {value}: no time to run for"),
    }
}

/// Runs rounds until the time is over or one fails; whether none has.
fn run(options: Options) -> bool {
    eprintln!("seed {}", options.seed);
    let ledger = Arc::new(Ledger::new((MOST_KEYS * SCOPES) as usize));
    hear_panics(&ledger);
    warm_up();
    let start = Instant::now();
    let first = (memory::settled(), region_bytes());
    let mut report = Report {
        seed: options.seed,
        took: Duration::ZERO,
        totals: Totals::default(),
        memory: first.0.map(|bytes| [bytes; 3]),
        region_bytes: first.1,
        failures: Vec::new(),
        last_round: 0,
    };
    let mut last_line = start;
    for number in 0.. {
        let round = options.round.unwrap_or(number);
        report.last_round = round;
        report.totals.add(round::play(Plan::new(options.seed, round), &ledger));
        report.took = start.elapsed();
        if let (Some([_, most, _]), Some(now)) = (&mut report.memory, memory::resident()) {
            *most = now.max(*most);
        }
        if last_line.elapsed() > PROGRESS {
            eprintln!("{}", report.line());
            last_line = Instant::now();
        }
        if ledger.has_failed() {
            eprintln!("round {round}: {:#?}", Plan::new(options.seed, round));
            break;
        }
        if report.took >= options.lasts {
            break;
        }
    }
    if !options.any_memory {
        look_at_memory(&mut report, first.1, &ledger);
    }
    report.failures = ledger.failures();
    eprint!("{}", report.summary());
    if options.json {
        println!("{:#}", report.json());
    }
    report.failures.is_empty()
}

/// Resident memory is back to the start.
fn look_at_memory(report: &mut Report, region_before: u64, ledger: &Ledger) {
    report.region_bytes = region_bytes();
    let (Some([start, _, end]), Some(now)) = (&mut report.memory, memory::settled()) else {
        return;
    };
    *end = now;
    let grown = report.region_bytes - region_before;
    if now > *start + grown + TOLERANCE {
        ledger.fail(format!(
            "{start} bytes were resident, and {now} are; the region's {grown} apart"
        ));
    }
}

/// As many sessions at once as a round has at most: what the process keeps for good is there now.
fn warm_up() {
    let cache: SessionCache<u64> =
        SessionCache::builder().unlimited().build().expect("the settings make sense");
    let web = cache.scope(&Scope::new("warm-up"));
    for number in 0..u64::from(MOST_KEYS * SCOPES) {
        assert!(web.put(&id(number), number).is_stored(), "there is no limit");
    }
}

/// What headers of large caches have for good.
fn region_bytes() -> u64 {
    let cache: SessionCache<u64> =
        SessionCache::builder().without_ticker().build().expect("the settings make sense");
    cache.stats().region_bytes
}

/// A panic that is not planned is a failure, on whatever thread, also where the crate contains it.
fn hear_panics(ledger: &Arc<Ledger>) {
    let (ledger, before) = (Arc::clone(ledger), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<Planned>() {
            ledger.fail(format!("{panic}"));
            before(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options> {
        options(Parser::from_args(args))
    }

    #[test]
    fn a_round_is_played_with_its_seed_and_a_time_is_given_once() {
        let options = parsed(&["--round", "7", "--seed", "5", "--minutes", "0.5"]).unwrap();
        assert_eq!((options.round, options.seed, options.lasts.as_secs()), (Some(7), 5, 30));
        assert_eq!(parsed(&["--seconds", "3"]).unwrap().lasts.as_secs(), 3);
        for wrong in [
            &["--round", "7"][..],
            &["--minutes", "1", "--seconds", "1"],
            &["--seconds", "1", "--minutes", "1"],
            &["--seconds", "1", "--seconds", "2"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_run_of_no_time_is_refused() {
        for time in ["0", "-1", "NaN", "soon"] {
            assert!(parsed(&["--seconds", time]).is_err(), "{time}");
        }
    }
}
