//! The threads of a cache: those that call callbacks, and the ticker.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Weak;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::dispatch::contained;
use crate::engine::Engine;
use crate::engine::sweep::Tick;

/// Makes the calls of callbacks, for as long as there is the engine.
pub(crate) fn start_worker<S: Send + Sync + 'static>(
    engine: Weak<Engine<S>>,
    worker: usize,
) -> io::Result<Thread> {
    /// A worker that has nothing to do naps so often before it has to be woken: a wake-up is a system
    /// call in the thread that puts.
    const NAPS: u32 = 20;
    const NAP: Duration = Duration::from_millis(1);
    let run = move || {
        let mut naps = 0;
        while let Some(strong) = engine.upgrade() {
            if strong.work(worker) {
                naps = 0;
                continue;
            }
            let sleeps = naps == NAPS && strong.fall_asleep(worker);
            // Let go of it first: the engine's drop wakes the workers, which then end.
            drop(strong);
            if engine.strong_count() == 0 {
                // If that was here, a payload's drop may have parked this thread since, and taken the wake-up for its own.
                break;
            }
            if sleeps {
                thread::park();
                engine.upgrade().inspect(|strong| strong.wake_up(worker));
                naps = 0;
            } else {
                thread::park_timeout(NAP);
                naps = (naps + 1).min(NAPS);
            }
        }
    };
    let thread = thread::Builder::new().name("resumption-callbacks".to_owned()).spawn(run)?;
    Ok(thread.thread().clone())
}

/// Removes what is due, every so often, for as long as there is the engine. Never for long at a time:
/// what it frees is sorted in by the allocator in the next allocations of other threads, all at once,
/// and it may share a processor with them.
pub(crate) fn start_ticker<S: Send + Sync + 'static>(
    engine: Weak<Engine<S>>,
    every: Duration,
) -> io::Result<Thread> {
    /// It works for about so long, and then naps: a fifth of a processor's time.
    const SLICE: Duration = Duration::from_micros(100);
    const NAP: Duration = Duration::from_micros(400);
    let run = move || {
        let mut tick = Tick::default();
        while let Some(strong) = engine.upgrade() {
            let start = Instant::now();
            let is_enough = || start.elapsed() >= SLICE;
            // A payload that panics in its drop must not end the expiry of the others.
            let ended = contained(|| strong.tick(&mut tick, is_enough)).unwrap_or(false);
            strong.tend_orphans(usize::MAX);
            let rang = strong.dispatch.rang();
            // Before it sleeps: with the last reference it ends, as a worker does.
            drop(strong);
            if engine.strong_count() == 0 {
                break;
            }
            if !rang {
                thread::park_timeout(if ended { every } else { NAP.min(every) });
            }
        }
    };
    let thread = thread::Builder::new().name("resumption-ticker".to_owned()).spawn(run)?;
    Ok(thread.thread().clone())
}
