//! The standard library's primitives, as they are; its atomics with pauses before each access, if the
//! build is for chaos.

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(shuttle))]
pub(crate) use self::thread::{
    Mutex, MutexGuard, lane_index, lane_index_to_put, thread_cell, thread_index,
};
#[cfg(shuttle)]
pub(crate) use super::shuttle::{
    Mutex, MutexGuard, PerTask, TASKS, TaskCell, lane_index, lane_index_to_put, random,
    thread_cell, thread_index, yield_now,
};

#[cfg(chaos)]
use super::chaos as atomic;
#[cfg(not(chaos))]
use std::sync::atomic;

pub(crate) use self::atomic::AtomicUsize as AtomicSetting;
pub(crate) use self::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

use self::atomic::AtomicPtr;

/// An atomic pointer whose low bits carry flags.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct AtomicPtrWord(AtomicPtr<()>);

impl AtomicPtrWord {
    /// A word that holds `value`.
    pub(crate) const fn new(value: *mut ()) -> Self {
        Self(AtomicPtr::new(value))
    }

    /// Reads the word.
    #[inline]
    pub(crate) fn load(&self, order: Ordering) -> *mut () {
        self.0.load(order)
    }

    /// Writes the word.
    #[inline]
    pub(crate) fn store(&self, value: *mut (), order: Ordering) {
        self.0.store(value, order);
    }

    /// Writes the word; returns it as it was.
    #[inline]
    pub(crate) fn swap(&self, value: *mut (), order: Ordering) -> *mut () {
        self.0.swap(value, order)
    }

    /// Writes `new` if the word holds `current`; tells what it held otherwise.
    #[inline]
    pub(crate) fn compare_exchange(
        &self,
        current: *mut (),
        new: *mut (),
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut (), *mut ()> {
        self.0.compare_exchange(current, new, success, failure)
    }

    /// Sets flag bits; returns the word as it was.
    #[inline]
    pub(crate) fn fetch_or(&self, bits: usize, order: Ordering) -> *mut () {
        self.0.fetch_or(bits, order)
    }

    /// Keeps only `bits`; returns the word as it was.
    #[inline]
    pub(crate) fn fetch_and(&self, bits: usize, order: Ordering) -> *mut () {
        self.0.fetch_and(bits, order)
    }
}

/// `std::cell::UnsafeCell` with the interface of loom's.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell that holds `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Runs `f` on a pointer for reading.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Runs `f` on a pointer for writing.
    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

#[cfg(not(shuttle))]
mod thread {
    //! What each thread of the system has, and what one waits for another with.

    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub(crate) use std::sync::{Mutex, MutexGuard};

    /// A small number for the calling thread, given out in order of first use.
    #[inline]
    pub(crate) fn thread_index() -> usize {
        const UNSET: usize = usize::MAX;
        // Never with pauses: those ask for the index.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static INDEX: Cell<usize> = const { Cell::new(UNSET) });
        INDEX.with(|index| {
            if index.get() == UNSET {
                // Relaxed: the number has to be different from the others, nothing more.
                index.set(NEXT.fetch_add(1, Ordering::Relaxed) & (UNSET >> 1));
            }
            index.get()
        })
    }

    const UNSET: usize = usize::MAX;

    thread_local!(static LANE: Cell<usize> = const { Cell::new(UNSET) });

    /// A small number for the calling thread, which is in turn that of the threads that put.
    #[inline]
    pub(crate) fn lane_index() -> usize {
        let lane = LANE.get();
        // Who has put nothing yet gives room back, and counts what leaves; that may be anywhere.
        if lane == UNSET { thread_index() } else { lane }
    }

    /// [`lane_index`], given out when it is first asked for.
    #[inline]
    pub(crate) fn lane_index_to_put() -> usize {
        // Never with pauses, and of the process's caches together.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let lane = LANE.get();
        if lane != UNSET {
            return lane;
        }
        // Relaxed: as above.
        let next = NEXT.fetch_add(1, Ordering::Relaxed) & (UNSET >> 1);
        LANE.set(next);
        next
    }

    /// A cell of each thread, with `get`, `set` and `replace`.
    macro_rules! thread_cell {
        ($name:ident: $value:ty = $init:expr) => {
            ::std::thread_local!(static $name: ::std::cell::Cell<$value> =
                const { ::std::cell::Cell::new($init) });
        };
    }

    pub(crate) use thread_cell;
}
