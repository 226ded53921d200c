//! A scenario, and its runs.

use std::any::Any;
use std::fmt;
use std::io::Write;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use resumption::model;

use crate::payload::forget_drops;

/// How loads and stores are run; see `src/sync/loom.rs` of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As they are written: finds missing orderings.
    Memory = 0,
    /// As read-modify-writes: finds missing interleavings.
    Interleaving = 1,
}

/// A bound on preemptions that bounds nothing.
pub const ALL: usize = u8::MAX as usize;

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

impl Scenario {
    /// Explores the scenario in both modes.
    ///
    /// # Panics
    ///
    /// If an execution fails, or if there are fewer than the floor.
    pub fn explore(&self) {
        for (mode, floor) in [Mode::Memory, Mode::Interleaving].into_iter().zip(self.floors) {
            let (count, result) = self.check(mode, "");
            report(format_args!("{}, {mode:?}: {count} executions (floor {floor})", self.name));
            if let Err(panic) = result {
                resume_unwind(panic);
            }
            assert!(count >= floor, "{}, {mode:?}: {count} executions, {floor} asked", self.name);
        }
    }

    /// Shows that the scenario catches a seeded bug, by a panic with this message in one of the modes.
    ///
    /// # Panics
    ///
    /// If it does not, or by another panic.
    pub fn catches(&self, bug: &'static str, message: &str) {
        assert!(!message.is_empty(), "any panic has an empty message in it");
        for mode in [Mode::Memory, Mode::Interleaving] {
            let (count, result) = self.check(mode, bug);
            let Err(panic) = result else { continue };
            let text = text_of(&*panic);
            report(format_args!("{}, {mode:?}: {bug} caught by execution {count}", self.name));
            assert!(text.contains(message), "{bug}: caught by {text:?}, not by {message:?}");
            return;
        }
        panic!("{}: {bug} was not caught", self.name);
    }

    /// Runs loom on a thread of its own, for the state of a failed model stays with its thread.
    fn check(&self, mode: Mode, bug: &'static str) -> (usize, thread::Result<()>) {
        let count = Arc::new(AtomicUsize::new(0));
        let (counter, run) = (Arc::clone(&count), self.run);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(self.preemptions[mode as usize]);
        builder.max_branches = 10_000;
        // loom stops at these, if set in the environment, as if it were done.
        builder.max_permutations = None;
        builder.max_duration = None;
        builder.checkpoint_file = None;
        let model = move || {
            builder.check(move || {
                counter.fetch_add(1, Ordering::Relaxed);
                model::begin(mode == Mode::Interleaving, bug);
                forget_drops();
                run();
            });
        };
        let result = thread::spawn(model).join();
        (count.load(Ordering::Relaxed), result)
    }
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
    let a = loom::thread::spawn(move || a(&other));
    let (b, c) = race(world, b, c);
    (a.join().expect("loom reports a panic itself"), b, c)
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// Past the capture of the test harness: the counts are a result.
fn report(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
