//! A scenario, and its runs.

use std::any::Any;
use std::cell::Cell;
use std::env;
use std::fmt;
use std::panic::{Location, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resumption::model;

use crate::payload::forget_drops;
use crate::report::{self, Line};

/// How loads and stores are run; see `src/sync/loom.rs` of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As they are written: finds missing orderings, where a load can meet an old value.
    Memory = 0,
    /// As read-modify-writes: finds missing interleavings.
    Interleaving = 1,
}

impl Mode {
    /// Every scenario is run in both.
    pub const BOTH: [Self; 2] = [Self::Memory, Self::Interleaving];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Interleaving => "interleaving",
        })
    }
}

/// A bound on preemptions that bounds nothing.
pub const ALL: usize = u8::MAX as usize;

/// How often threads may be interrupted where they could go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound(usize);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ALL => f.write_str("all preemptions"),
            1 => f.write_str("1 preemption"),
            count => write!(f, "{count} preemptions"),
        }
    }
}

/// A scenario: some calls that race, and what has to be true afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What races.
    pub name: &'static str,
    /// How often threads may be interrupted where they could go on, in memory and in interleaving
    /// mode.
    pub preemptions: [usize; 2],
    /// The fewest executions that a run has to explore, in memory and in interleaving mode.
    pub floors: [usize; 2],
    /// One execution.
    pub run: fn(),
}

/// A run of loom that was told to stop.
struct OutOfTime;

/// Seconds between two words about a run that takes long.
const SILENCE: Duration = Duration::from_secs(20);

impl Scenario {
    /// Explores the scenario in both modes; then within larger and larger bounds, as long as the time
    /// lasts that the environment gives for that.
    ///
    /// # Panics
    ///
    /// If an execution fails, whose steps are shown then, or if there are fewer than the floor.
    #[track_caller]
    pub fn explore(&self) {
        let protocol = report::protocol(Location::caller());
        for (mode, floor) in Mode::BOTH.into_iter().zip(self.floors) {
            let bound = Bound(self.preemptions[mode as usize]);
            let (count, result) = self.check(mode, bound, "", || {});
            if let Err(panic) = result {
                self.show(mode, bound, "", count);
                resume_unwind(panic);
            }
            assert!(
                count >= floor,
                "{}, {mode} mode: {count} executions, {floor} asked",
                self.name
            );
            report::tell(&protocol, self, &Line::Explored(mode, bound, count, floor));
            if let Some(time) = time_to_go_deeper() {
                self.go_deeper(&protocol, mode, count, Instant::now() + time);
            }
        }
    }

    /// Explores larger bounds, one after the other. What was not finished is told as that.
    fn go_deeper(&self, protocol: &str, mode: Mode, mut count: usize, until: Instant) {
        for bound in (self.preemptions[mode as usize]..ALL).map(|bound| Bound(bound + 1)) {
            let (protocol_too, this) = (String::from(protocol), *self);
            let (so_far, told) = (AtomicUsize::new(0), Mutex::new(Instant::now()));
            let (more, result) = self.check(mode, bound, "", move || {
                let now = Instant::now();
                if now >= until {
                    resume_unwind(Box::new(OutOfTime));
                }
                let count = so_far.fetch_add(1, Ordering::Relaxed);
                let mut told = told.lock().expect("no panic while it is held");
                if now - *told >= SILENCE {
                    *told = now;
                    report::tell(&protocol_too, &this, &Line::Running(mode, bound, count));
                }
            });
            match result {
                Ok(()) if more == count => {
                    let bound = Bound(bound.0 - 1);
                    return report::tell(protocol, self, &Line::Exhausted(mode, bound));
                }
                Ok(()) => report::tell(protocol, self, &Line::Deeper(mode, bound, more)),
                Err(panic) if panic.is::<OutOfTime>() => {
                    return report::tell(protocol, self, &Line::Unfinished(mode, bound, more));
                }
                Err(panic) => {
                    eprintln!("{}, {mode} mode, {bound}: execution {more} has failed", self.name);
                    resume_unwind(panic);
                }
            }
            count = more;
        }
    }

    /// Shows that the scenario catches a seeded bug, by a panic with this message: in one mode at least,
    /// and by no other panic in the other one.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn catches(&self, bug: &'static str, message: &'static str) {
        self.catches_by(bug, [message; 2]);
    }

    /// As [`catches`](Self::catches), by one message in memory mode and by another one in interleaving
    /// mode.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn catches_by(&self, bug: &'static str, messages: [&'static str; 2]) {
        let protocol = report::protocol(Location::caller());
        let counts = Mode::BOTH.map(|mode| {
            let message = messages[mode as usize];
            assert!(!message.is_empty(), "any panic has an empty message in it");
            let bound = Bound(self.preemptions[mode as usize]);
            let (count, result) = self.check(mode, bound, bug, || {});
            let panic = result.err()?;
            if env::var("MODELS_SHOW").is_ok_and(|shown| shown == bug) {
                self.show(mode, bound, bug, count);
            }
            let text = text_of(&*panic);
            assert!(text.contains(message), "{bug}: {mode} mode: {text:?}, not {message:?}");
            Some(count)
        });
        assert!(counts != [None; 2], "{}: {bug} was not caught", self.name);
        report::tell(&protocol, self, &Line::Caught(bug, messages, counts));
    }

    /// Shows that weaker code is no bug: the scenario passes with it, for this reason.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn tolerates(&self, weaker: &'static str, reason: &'static str) {
        let protocol = report::protocol(Location::caller());
        for mode in Mode::BOTH {
            let bound = Bound(self.preemptions[mode as usize]);
            let (_, result) = self.check(mode, bound, weaker, || {});
            result.unwrap_or_else(|panic| resume_unwind(panic));
        }
        report::tell(&protocol, self, &Line::Equivalent(weaker, reason));
    }

    /// Runs up to the execution that has failed, and shows the steps of that one from the beginning of
    /// the race on.
    fn show(&self, mode: Mode, bound: Bound, bug: &'static str, count: usize) {
        eprintln!("\n{}, {mode} mode, {bound}: execution {count} fails:", self.name);
        eprintln!("(w1, w2, ...: words; b1, b2, ...: what they lead to, + flags of the word)\n");
        let so_far = AtomicUsize::new(0);
        let (again, _) = self.check(mode, bound, bug, move || {
            SHOWS.set(so_far.fetch_add(1, Ordering::Relaxed) + 1 == count);
        });
        eprintln!();
        assert_eq!(again, count, "an execution is repeated exactly");
    }

    /// Runs loom on a thread of its own, for the state of a failed model stays with its thread.
    /// Returns how many executions have begun. What is to be done `before` each one may stop the run.
    fn check(
        &self,
        mode: Mode,
        bound: Bound,
        bug: &'static str,
        before: impl Fn() + Send + Sync + 'static,
    ) -> (usize, thread::Result<()>) {
        let count = Arc::new(AtomicUsize::new(0));
        let (counter, run) = (Arc::clone(&count), self.run);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(bound.0);
        builder.max_branches = 10_000;
        // loom stops at these, if set in the environment, as if it were done.
        builder.max_permutations = None;
        builder.max_duration = None;
        builder.checkpoint_file = None;
        let model = move || {
            builder.check(move || {
                before();
                counter.fetch_add(1, Ordering::Relaxed);
                model::begin(mode == Mode::Interleaving, bug);
                model::show_steps(false);
                forget_drops();
                run();
                model::end();
            });
        };
        let result = thread::spawn(model).join();
        (count.load(Ordering::Relaxed), result)
    }
}

/// How long each scenario is to be explored beyond its recorded bounds, in each mode.
fn time_to_go_deeper() -> Option<Duration> {
    let seconds = env::var("MODELS_DEEPER").ok()?;
    let seconds = seconds.parse().expect("MODELS_DEEPER is a number of seconds");
    Some(Duration::from_secs(seconds))
}

thread_local! {
    /// Whether the steps of this execution are to be shown. loom runs a model on one thread.
    static SHOWS: Cell<bool> = const { Cell::new(false) };
}

/// Runs two calls at once on one world; returns what they return.
pub fn race<W, A, B>(
    world: &Arc<W>,
    a: impl FnOnce(&W) -> A + 'static,
    b: impl FnOnce(&W) -> B,
) -> (A, B)
where
    W: 'static,
    A: 'static,
{
    let other = Arc::clone(world);
    if SHOWS.replace(false) {
        model::show_steps(true);
    }
    let a = loom::thread::spawn(move || a(&other));
    let b = b(world);
    (a.join().expect("loom reports a panic itself"), b)
}

/// Runs three calls at once.
pub fn race3<W, A, B, C>(
    world: &Arc<W>,
    a: impl FnOnce(&W) -> A + 'static,
    b: impl FnOnce(&W) -> B + 'static,
    c: impl FnOnce(&W) -> C,
) -> (A, B, C)
where
    W: 'static,
    A: 'static,
    B: 'static,
{
    let other = Arc::clone(world);
    if SHOWS.replace(false) {
        model::show_steps(true);
    }
    let a = loom::thread::spawn(move || a(&other));
    let (b, c) = race(world, b, c);
    (a.join().expect("loom reports a panic itself"), b, c)
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}
