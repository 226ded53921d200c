//! Everything that the crate does, by many threads, for as long as one likes:
//! `cargo xtask soak --minutes 10`.
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
    // Any number will do; it is printed.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut options = Options {
        lasts: Duration::from_secs(60),
        seed: u64::from(now.subsec_nanos()) ^ now.as_secs(),
        round: None,
        json: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("minutes") => {
                options.lasts =
                    Duration::try_from_secs_f64(parser.value()?.parse::<f64>()? * 60.0)?;
            }
            Arg::Long("seconds") => {
                options.lasts = Duration::try_from_secs_f64(parser.value()?.parse()?)?;
            }
            Arg::Long("seed") => options.seed = parser.value()?.parse()?,
            Arg::Long("round") => options.round = Some(parser.value()?.parse()?),
            Arg::Long("json") => options.json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if options.lasts.is_zero() {
        bail!("a run of no time shows nothing");
    }
    Ok(options)
}

/// Runs rounds until the time is over or one fails; whether none has.
fn run(options: Options) -> bool {
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
        failed_in: None,
    };
    let mut last_line = start;
    for number in 0.. {
        let round = options.round.unwrap_or(number);
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
            report.failed_in = Some(round);
            eprintln!("round {round}: {:#?}", Plan::new(options.seed, round));
            break;
        }
        if report.took >= options.lasts {
            break;
        }
    }
    look_at_memory(&mut report, first.1, &ledger);
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
        report.failed_in.get_or_insert(report.totals.rounds);
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
