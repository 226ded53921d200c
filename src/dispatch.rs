//! Where callbacks run: on threads of their own, in the caller's, or when they are asked for.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};
use std::thread::Thread;

use crate::reclaim::panics::discard;
use crate::sync::tally::AtomicBool;
use crate::sync::{Ordering, thread_cell};

/// Where callbacks run.
///
/// In each case the calls about one id in one scope are made one after another, in the order in which
/// things happened to it, and outside every lock and pin of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dispatch {
    /// On so many threads of the cache, at least one, and at most one for each of its shards: it has
    /// one for each 2 048 sessions and 8 MiB of its limits, a power of two, and about four for each
    /// processor at most. They are started when the first new or remove callback is set. The default, with one.
    ///
    /// The limits are those of the builder. [Raised](crate::SessionCache::set_max_sessions) later, they add neither shards
    /// nor threads.
    Workers(usize),
    /// In the thread whose call caused them, at the end of that call; for what the ticker removes, on
    /// the ticker's. If another thread, which may be the ticker's, is just making calls for the same
    /// part of the table, it makes these too, and nobody waits.
    Inline,
    /// When [`poll_callbacks`](crate::SessionCache::poll_callbacks) is called: for programs with a
    /// loop of their own, or that fork.
    Manual,
}

/// A cache was closed before all its callbacks were called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// How many calls wait, counted as in [`Stats::callbacks_waiting`](crate::Stats::callbacks_waiting).
    pub waiting: u64,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "callbacks of the session cache that wait to be called: {}", self.waiting)
    }
}

impl Error for Undelivered {}

/// The threads that serve a cache's events, and the bound on what waits for them.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    kind: Dispatch,
    most_waiting: u64,
    /// One for each worker, set when it starts.
    threads: Box<[OnceLock<Thread>]>,
    /// The ticker's, if there is one.
    bell: OnceLock<Arc<Bell>>,
}

thread_cell!(IN_CALLBACK: bool = false);

/// Whether the calling thread is inside a callback.
pub(crate) fn is_in_callback() -> bool {
    IN_CALLBACK.get()
}

thread_cell!(HELD: u32 = 0);

/// Something is held that callbacks must not run under: a put's place inside the gate, or a lock on
/// settings.
#[derive(Debug)]
pub(crate) struct Held(());

/// Holds the calling thread's callbacks off until what is returned is dropped.
pub(crate) fn hold() -> Held {
    HELD.set(HELD.get() + 1);
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

/// Whether the calling thread's callbacks are held off.
pub(crate) fn is_held() -> bool {
    HELD.get() > 0
}

/// Runs a callback.
pub(crate) fn call<R>(callback: impl FnOnce() -> R) -> R {
    /// Puts the mark back also when the callback panics.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            IN_CALLBACK.set(self.0);
        }
    }
    let _back = Back(IN_CALLBACK.replace(true));
    callback()
}

/// What wakes a thread that may run user code before it sleeps: also when that has parked the thread, and
/// taken the wake-up for its own.
#[derive(Debug)]
pub(crate) struct Bell {
    thread: Thread,
    rang: AtomicBool,
}

impl Bell {
    pub(crate) fn of(thread: Thread) -> Self {
        Self { thread, rang: AtomicBool::new(false) }
    }

    /// Whether it rang since this was last asked.
    pub(crate) fn rang(&self) -> bool {
        // Relaxed: it spares a sleep. What it rang for is under locks.
        self.rang.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Relaxed: as above.
        self.rang.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// Runs user code; `None` if it panicked. Never unwinds.
pub(crate) fn contained<R>(run: impl FnOnce() -> R) -> Option<R> {
    let panic = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => return Some(result),
        Err(panic) => panic,
    };
    discard(panic);
    // A subscriber may panic, too.
    let logged = catch_unwind(|| {
        tracing::error!("a callback of the session cache panicked, or a payload's drop");
    });
    logged.unwrap_or_else(discard);
    None
}

impl Dispatcher {
    /// For a cache of so many `shards`: each is served by one worker, so more of them have no work.
    pub(crate) fn new(kind: Dispatch, shards: usize, most_waiting: u64) -> Self {
        let threads = match kind {
            Dispatch::Workers(count) => count.clamp(1, shards),
            Dispatch::Inline | Dispatch::Manual => 0,
        };
        let threads = (0..threads).map(|_| OnceLock::new()).collect();
        Self { kind, most_waiting, threads, bell: OnceLock::new() }
    }

    pub(crate) fn kind(&self) -> Dispatch {
        self.kind
    }

    /// How many events may wait in each of `shards` before puts are refused.
    #[inline]
    pub(crate) fn most_waiting(&self, shards: usize) -> u64 {
        self.most_waiting.div_ceil(shards as u64)
    }

    /// How many workers there are to be.
    pub(crate) fn workers(&self) -> usize {
        self.threads.len()
    }

    /// Notes the thread of a worker.
    pub(crate) fn started(&self, worker: usize, thread: Thread) {
        // Fails if the worker is there already.
        let _ = self.threads[worker].set(thread);
    }

    /// Whether the worker was started.
    pub(crate) fn is_started(&self, worker: usize) -> bool {
        self.threads[worker].get().is_some()
    }

    /// Notes the ticker's thread.
    pub(crate) fn ticks(&self, thread: Thread) {
        let _ = self.bell.set(Arc::new(Bell::of(thread)));
    }

    /// Whether there is a ticker.
    pub(crate) fn has_ticker(&self) -> bool {
        self.bell.get().is_some()
    }

    /// Wakes the ticker, if there is one.
    pub(crate) fn ring(&self) {
        self.bell.get().inspect(|bell| bell.wake_by_ref());
    }

    /// Whether the ticker was woken since this was last asked.
    pub(crate) fn rang(&self) -> bool {
        self.bell.get().is_some_and(|bell| bell.rang())
    }

    /// What wakes the ticker, if there is one.
    pub(crate) fn bell(&self) -> Waker {
        self.bell.get().map_or(Waker::noop().clone(), |bell| Waker::from(Arc::clone(bell)))
    }

    /// Wakes the worker that serves a shard.
    #[cold]
    pub(crate) fn wake(&self, shard: usize) {
        let Some(worker) = shard.checked_rem(self.threads.len()) else { return };
        if let Some(thread) = self.threads[worker].get() {
            thread.unpark();
        }
    }
}
