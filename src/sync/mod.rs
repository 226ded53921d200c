//! The only door to atomics: the standard library's, or loom's when a model runs.
//!
//! Code above this module never names `std::sync::atomic` or `loom`. Orderings are given at each
//! call and explained there. The two implementations have the same items:
//!
//! * [`AtomicPtrWord`]: a pointer whose three low bits carry flags, with `fetch_or` and
//!   `fetch_and` on those bits.
//! * `AtomicU8` … `AtomicUsize`, `Ordering`: as in the standard library.
//! * `UnsafeCell`: with `with` and `with_mut`, so that loom sees each access.
//! * `AtomicSetting`: a word that all read, and one thread at a time stores.
//! * `thread_cell!`: a `Cell` for each thread, which is a thread of the model under loom.
//! * `ArcSwapOption`: arc-swap's, with `empty`, `swap` and `load`.
//! * [`thread_index`]: a small number for the calling thread; it chooses a stripe.
//!
//! Under loom each access runs in one of two modes (see `loom.rs`), because loom skips
//! interleavings when a thread loads a word before it compares and swaps it. With `--cfg chaos` an
//! access of the standard library's may be preceded by a pause (see `chaos.rs`), and with `--cfg shuttle`
//! beside it the pauses are where shuttle's schedules switch between tasks (see `shuttle.rs`).

#[cfg(not(loom))]
mod std;
#[cfg(not(loom))]
pub(crate) use self::std::*;

#[cfg(chaos)]
mod chaos;
#[cfg(all(chaos, not(shuttle)))]
mod pause;
#[cfg(shuttle)]
mod shuttle;

#[cfg(all(shuttle, not(chaos)))]
compile_error!("`--cfg shuttle` says what a pause is, and only `--cfg chaos` makes pauses");

#[cfg(loom)]
mod loom;
#[cfg(loom)]
mod swap;
#[cfg(loom)]
pub(crate) mod trace;
#[cfg(loom)]
pub(crate) use self::loom::*;

#[cfg(chaos)]
pub(crate) use self::chaos::is_planted;

/// Words that no model sees: they are the standard library's there too, for their order would multiply the
/// executions.
///
/// Most are counts to show, and memories that may forget, on which no protocol depends. Those that hand something
/// over, with orderings that say so at each access, rest on reading: the lease of gauges and the head of
/// their list (`reclaim/gauge.rs`), and where the region of headers begins (`reclaim/region.rs`).
///
/// And the lock of what is not on the way of a lookup: a model does not ask who has it first.
pub(crate) mod tally {
    #[cfg(shuttle)]
    pub(crate) use super::shuttle::Mutex;
    #[cfg(not(shuttle))]
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
}

/// Whether a seeded bug is switched on: never, but in a model or a run with chaos that shows that it
/// catches the bug.
#[cfg(not(any(loom, chaos)))]
macro_rules! planted {
    ($bug:literal) => {
        false
    };
}

#[cfg(any(loom, chaos))]
macro_rules! planted {
    ($bug:literal) => {
        crate::sync::is_planted($bug)
    };
}

pub(crate) use planted;

/// Two cache lines on x86-64 (the prefetcher takes them in pairs) and one on most others.
///
/// Words that different threads write are kept this far apart.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// One `T` per stripe, each on cache lines of its own; a thread uses the stripe of its index.
///
/// Sums over the stripes are not snapshots: a reader may see a later change and miss an earlier
/// one of another stripe. Counts that are added on one stripe and subtracted on another wrap, and
/// their wrapping sum is right once the writers rest.
#[derive(Debug)]
pub(crate) struct Striped<T>(Box<[Padded<T>]>);

impl<T: Default> Striped<T> {
    /// As many stripes as the machine has processors, rounded up to a power of two.
    pub(crate) fn new() -> Self {
        Self::of(stripe_count())
    }

    /// So many stripes, a power of two.
    pub(crate) fn of(count: usize) -> Self {
        Self((0..count).map(|_| Padded::default()).collect())
    }

    /// The calling thread's stripe.
    #[inline]
    pub(crate) fn mine(&self) -> &T {
        &self.0[stripe(self.0.len())].0
    }

    /// All stripes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

/// The calling thread's stripe of so many, a power of two.
#[inline]
pub(crate) fn stripe(count: usize) -> usize {
    let mask = count - 1;
    // In most models, where a thread may count as it ends, when it has nothing of its own any more.
    if cfg!(loom) && mask == 0 { 0 } else { thread_index() & mask }
}

/// The calling thread's lane of so many, a power of two.
#[inline]
pub(crate) fn lane_of(count: usize) -> usize {
    let mask = count - 1;
    if mask == 0 { 0 } else { lane_index() & mask }
}

/// The calling thread's lane of so many, now that it puts.
#[inline]
pub(crate) fn lane_to_put(count: usize) -> usize {
    let mask = count - 1;
    if mask == 0 { 0 } else { lane_index_to_put() & mask }
}

#[cfg(not(any(loom, shuttle)))]
fn stripe_count() -> usize {
    const MOST: usize = 64;
    let processors = ::std::thread::available_parallelism().map_or(1, ::std::num::NonZero::get);
    processors.next_power_of_two().min(MOST)
}

/// One stripe: a model has two or three threads, and sums over stripes cost executions. A few models of the gate
/// ask for two.
#[cfg(loom)]
fn stripe_count() -> usize {
    1
}

/// Two: schedules are the same on every machine.
#[cfg(shuttle)]
fn stripe_count() -> usize {
    2
}
