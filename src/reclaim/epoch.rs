//! Pins and retirement on `crossbeam-epoch`.
//!
//! The collector is the crate's own: pins that other crates hold for long must not stall it. It is
//! one for the process, because a thread-local participant per cache would cost a lookup per pin.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::LazyLock;

use crossbeam_epoch as epoch;

use super::gauge::Gauges;
use super::spare;
#[cfg(shuttle)]
use crate::sync::PerTask;

static COLLECTOR: LazyLock<epoch::Collector> = LazyLock::new(epoch::Collector::new);

#[cfg(not(shuttle))]
thread_local! {
    static PARTICIPANT: epoch::LocalHandle = COLLECTOR.register();
}

// A pin of one task is none of another's, though they are on one thread of the system.
#[cfg(shuttle)]
thread_local! {
    static PARTICIPANTS: PerTask<epoch::LocalHandle> =
        PerTask::of(std::array::from_fn(|_| COLLECTOR.register()));
}

/// Pins the calling thread until the guard is dropped.
///
/// The first pin of a process initialises the collector; the builder does that, so that no lookup
/// can meet another thread's initialisation.
#[inline]
pub(crate) fn pin() -> Guard {
    // The thread-local is gone while a thread ends: a payload that holds a handle of another
    // session may be dropped then. A participant for this one pin serves as well.
    #[cfg(not(shuttle))]
    let guard = PARTICIPANT.try_with(epoch::LocalHandle::pin);
    #[cfg(shuttle)]
    let guard = PARTICIPANTS.try_with(|participants| participants.mine().pin());
    Guard(guard.unwrap_or_else(|_| COLLECTOR.register().pin()))
}

/// A pin (contract P1 and P2 in the module above).
pub(crate) struct Guard(epoch::Guard);

impl Guard {
    /// Frees the memory at `ptr` once every pin of now is over; nothing in it is dropped.
    ///
    /// # Safety
    ///
    /// P3: `ptr` came from `place` as a `T`, no thread that pins later can reach it, and
    /// this is its only retirement. What it holds that needs dropping has been dropped.
    ///
    /// The caller has counted it on `gauges`.
    #[inline]
    pub(crate) unsafe fn retire<T>(&self, ptr: NonNull<T>, gauges: &'static Gauges) {
        let free = move || {
            // SAFETY: by the caller's promise the block is of a `T` and retired once; by P1 no guard
            // sees it any more.
            unsafe { spare::free(ptr) };
            gauges.waiting_ended(1);
        };
        // SAFETY: the closure may run on any thread: it touches a block that nobody else can
        // reach (P3) and gauges that are never freed.
        unsafe { self.0.defer_unchecked(free) };
    }

    /// As [`retire`](Self::retire), of a block that is a box's and goes back to its allocator. Counts it.
    ///
    /// # Safety
    ///
    /// As there, but that `ptr` came from `Box::into_raw`.
    pub(crate) unsafe fn retire_box<T>(&self, ptr: NonNull<T>, gauges: &'static Gauges) {
        gauges.waiting_began(1);
        let free = move || {
            // SAFETY: by the caller's promise; by P1 no guard sees the box any more. What is in it is
            // not dropped.
            drop(unsafe { Box::from_raw(ptr.cast::<MaybeUninit<T>>().as_ptr()) });
            gauges.waiting_ended(1);
        };
        // SAFETY: as in `retire`.
        unsafe { self.0.defer_unchecked(free) };
    }

    /// Runs `free` once every pin of now is over.
    ///
    /// # Safety
    ///
    /// It may run on any thread, and touches nothing that a thread which pins later can reach.
    pub(super) unsafe fn defer(&self, free: impl FnOnce()) {
        // SAFETY: by the caller's promise.
        unsafe { self.0.defer_unchecked(free) };
    }

    /// Hands what this thread gave to the epoch to all threads, and frees what is due.
    pub(super) fn flush(&self) {
        self.0.flush();
    }

    /// Asserts, under loom, that the block at `ptr` is alive; the epoch needs no such check.
    #[inline]
    pub(crate) fn assert_alive<T>(&self, _ptr: NonNull<T>) {}
}
