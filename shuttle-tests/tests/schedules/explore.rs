//! Executions, their schedules, and how one is repeated.
//!
//! Executions are made in batches. All that happens in one follows from its scheduler and its seed, which
//! are told when an execution fails: `RESUMPTION_REPLAY` repeats that batch, to the same failure.
//! (When a task panics shuttle names a seed, too: of one execution, which repeats nothing by itself.)

use std::any::Any;
use std::env;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::parts::history::{Operation, Outcome};
use crate::parts::run::{Maker, Scenario, Subject, Summary, Times, check_round, number_of, seed};
use crate::subject::Counted;
use crate::support::Random;

/// Executions of a batch. PCT does the first one to count its steps.
const BATCH: usize = 50;

/// Executions of a scenario under each scheduler, unless `RESUMPTION_ITERATIONS` says how many.
const ITERATIONS: u64 = 1_000;

/// Operations of a task.
const OPERATIONS: usize = 40;

/// A task's stack. Shuttle's own measure is for tests that are not debugged.
const STACK: usize = 256 << 10;

/// Which of shuttle's schedulers chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Random,
    Pct,
}

/// Executions that follow from this.
#[derive(Clone, Copy, Debug)]
struct Batch {
    kind: Kind,
    seed: u64,
}

/// What executions have come to, and what was wrong with one.
#[derive(Default)]
struct Course {
    executions: u64,
    switches: u64,
    summary: Summary,
    wrong: Option<String>,
}

/// Explores a scenario; panics with a history, or a bound, that is wrong, and if what was explored
/// `is_enough` says to be too little. Or repeats what `RESUMPTION_REPLAY` says.
pub(crate) fn explore(scenario: Scenario, is_enough: impl Fn(&Summary) -> bool) {
    let (name, course) = (scenario.name, Arc::new(Mutex::new(Course::default())));
    if let Ok(replay) = env::var("RESUMPTION_REPLAY") {
        let batch = replay.parse().unwrap_or_else(|why| panic!("RESUMPTION_REPLAY: {why}"));
        run(scenario, batch, &course);
        return println!("{name}: {batch} passes, {} executions", locked(&course).executions);
    }
    let iterations = number_of("RESUMPTION_ITERATIONS").unwrap_or(ITERATIONS);
    let start = Instant::now();
    for batch in 0..iterations.div_ceil(BATCH as u64) {
        for kind in [Kind::Random, Kind::Pct] {
            let seed = Random::new(seed() << 32 | batch << 1 | kind as u64).next();
            run(scenario, Batch { kind, seed }, &course);
        }
    }
    let Course { executions, switches, summary, .. } = std::mem::take(&mut *locked(&course));
    let (tally, time) = (summary.tally, start.elapsed().as_secs_f64());
    println!("{name}: {executions} executions, {switches} possible switches, {time:.1} s");
    println!("{name}: {} operations, {} met another one", tally.operations, tally.overlapped);
    println!("{name}: {:?}", summary.outcomes);
    assert!(tally.overlapped > tally.operations / 20, "tasks hardly meet");
    assert!(is_enough(&summary), "{summary:?}");
}

/// Runs a batch; panics if an execution is wrong, and says how to repeat it.
fn run(scenario: Scenario, batch: Batch, course: &Arc<Mutex<Course>>) {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.silence_warnings = true;
    // A seed says the same as a schedule, in fewer words.
    config.failure_persistence = FailurePersistence::None;
    let shared = Arc::clone(course);
    let tasks = batch.tasks();
    let one = move || execute(scenario, tasks, &shared);
    let ended = catch_unwind(AssertUnwindSafe(|| match batch.kind {
        Kind::Random => {
            Runner::new(RandomScheduler::new_from_seed(batch.seed, BATCH), config).run(one)
        }
        Kind::Pct => {
            let scheduler = PctScheduler::new_from_seed(batch.seed, batch.depth(), BATCH);
            Runner::new(scheduler, config).run(one)
        }
    }));
    let course = locked(course);
    let wrong = match (&course.wrong, &ended) {
        (Some(wrong), _) => wrong.as_str(),
        (None, Err(panic)) => text_of(&**panic),
        (None, Ok(_)) => return,
    };
    let (name, Course { executions, .. }, kind) = (scenario.name, &*course, batch.kind);
    let what = wrong.lines().next().unwrap_or_default();
    // On lines of their own, whatever the test runner has begun.
    println!("\n{name}: wrong after {executions} executions of {tasks} tasks, {kind}: {what}");
    println!("RESUMPTION_REPLAY={batch} repeats it:");
    println!("    cargo xtask shuttle --scenario {} --replay {batch}", name.replace(' ', "_"));
    panic!("{name}: {wrong}");
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// One execution, in its first task. The others of a batch that is wrong do nothing.
fn execute(scenario: Scenario, tasks: usize, course: &Mutex<Course>) {
    if locked(course).wrong.is_some() {
        return;
    }
    locked(course).executions += 1;
    let random = thread_rng().next_u64();
    let subject = Counted::new(&scenario, random.is_multiple_of(2));
    let times = Times::default();
    let maker = |task| Maker::new(&subject, &scenario, &times, random, task);
    let mut made: Vec<Operation> = shuttle::thread::scope(|scope| {
        let all = (0..tasks).map(|task| {
            let maker = maker(task);
            scope.spawn(move || maker.run(OPERATIONS))
        });
        let all: Vec<_> = all.collect();
        all.into_iter().flat_map(|task| task.join().expect("no panic")).collect()
    });
    let (mut looks, found) = maker(0).look(&made);
    made.append(&mut looks);
    let stored = made.iter().filter(|operation| is_stored(operation)).count();
    let ids = subject.ids().expect("a cache can tell");
    let mut counts = Summary::default();
    subject.count(&mut counts);
    // Held over no switch, which would keep the thread of all tasks.
    let mut after = locked(course);
    after.switches += shuttle::current::context_switches() as u64;
    after.summary.evicted += counts.evicted;
    after.summary.expired += counts.expired;
    after.summary.swept += counts.swept;
    if let Err(wrong) = check_round(made, scenario.rules(), &mut after.summary) {
        after.wrong = Some(wrong.report);
    } else if ids != found {
        after.wrong = Some(format!("a walk and lookups differ: {ids:?}, {found:?}"));
    }
    drop(after);
    subject.end(stored, random & 2 == 0);
}

fn is_stored(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Stored | Outcome::Replaced(_))
}

fn locked(course: &Mutex<Course>) -> std::sync::MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    /// Three to six.
    fn tasks(self) -> usize {
        3 + (self.seed % 4) as usize
    }

    /// PCT preempts once less than this: once for the bugs that need but that, and up to 63 times, for
    /// an execution has some ten thousand places to do it.
    fn depth(self) -> usize {
        2 << (self.seed / 4 % 6)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Pct => "pct",
        })
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.seed)
    }
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, seed) = text.split_once(':').ok_or("a scheduler, a colon, a seed")?;
        let kind = match kind {
            "random" => Kind::Random,
            "pct" => Kind::Pct,
            other => return Err(format!("no scheduler `{other}`: `random` or `pct`")),
        };
        let seed = seed.parse().map_err(|_| format!("`{seed}` is no seed"))?;
        Ok(Self { kind, seed })
    }
}
