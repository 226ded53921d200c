//! The real epoch in models: `crossbeam-epoch` as it is, built with its own support for loom.
//!
//! Its words are loom's then, and multiply the executions; so the models on it are few and small, and
//! back the mock's claim about it. The collector is each execution's own. It has to be gone before loom
//! looks for what has leaked, hence [`end`]; but in a model that has failed, none of its words may be
//! touched any more, and it is forgotten.

use std::cell::{Cell, RefCell};
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::thread::panicking;

use crossbeam_epoch as epoch;

use super::gauge::Gauges;
use super::parcel::Parcel;
use crate::sync::planted;

thread_local! {
    static COLLECTOR: RefCell<Option<ManuallyDrop<epoch::Collector>>> =
        const { RefCell::new(None) };
    /// Blocks that were retired, and freed.
    static COUNTS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

loom::thread_local!(static PARTICIPANT: Participant = Participant::new());

/// A thread of the model.
struct Participant(ManuallyDrop<epoch::LocalHandle>);

impl Participant {
    fn new() -> Self {
        let handle = COLLECTOR.with_borrow(|collector| {
            collector.as_ref().expect("an execution begins with `reset`").register()
        });
        Self(ManuallyDrop::new(handle))
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

/// Pins the calling thread of the model.
pub(crate) fn pin() -> Guard {
    let guard = (!panicking()).then(|| PARTICIPANT.with(|participant| participant.0.pin()));
    Guard(ManuallyDrop::new(guard))
}

/// A pin; none in a model that has failed.
pub(crate) struct Guard(ManuallyDrop<Option<epoch::Guard>>);

impl Guard {
    /// Frees the memory at `ptr` once every pin of now is over.
    ///
    /// # Safety
    ///
    /// As for the guard of `epoch.rs`.
    pub(crate) unsafe fn retire<T>(&self, ptr: NonNull<T>, gauges: &'static Gauges) {
        // SAFETY: by the caller's promise, and P1.
        unsafe { self.retire_by(move || free(ptr), gauges) };
    }

    /// # Safety
    ///
    /// As for `retire`: `free` frees what nobody who pins later can reach.
    unsafe fn retire_by(&self, free: impl FnOnce(), gauges: &'static Gauges) {
        // What a failed model has retired stays, a parcel as well.
        let Some(guard) = &*self.0 else { return mem::forget(free) };
        count(1, 0);
        let free = move || {
            free();
            gauges.waiting_ended(1);
            count(0, 1);
        };
        if planted!("freed-at-once") {
            return free();
        }
        // SAFETY: as in `epoch.rs`.
        unsafe { guard.defer_unchecked(free) };
    }

    /// As `retire`: here blocks and boxes are the same. Counts it.
    ///
    /// # Safety
    ///
    /// As for `retire`.
    pub(crate) unsafe fn retire_box<T>(&self, ptr: NonNull<T>, gauges: &'static Gauges) {
        gauges.waiting_began(1);
        // SAFETY: by the caller's promise.
        unsafe { self.retire(ptr, gauges) };
    }

    /// The epoch knows nothing of single blocks. AddressSanitizer does.
    pub(crate) fn assert_alive<T>(&self, _ptr: NonNull<T>) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

/// As [`Guard::retire`], of the block of a parcel, under no pin but one of its own.
///
/// # Safety
///
/// As there; nobody else drops the parcel.
pub(crate) unsafe fn retire_parcel(parcel: Parcel, gauges: &'static Gauges) {
    gauges.waiting_began(1);
    // SAFETY: by the caller's promise.
    unsafe { pin().retire_by(move || drop(parcel), gauges) };
}

/// Hands what this thread retired to all threads, and frees what is due.
pub(crate) fn flush() {
    pin().0.as_ref().inspect(|guard| guard.flush());
}

/// A block of its own.
pub(crate) fn place<T>(value: T) -> NonNull<T> {
    NonNull::from(Box::leak(Box::new(value)))
}

/// Frees a block; nothing in it is dropped.
///
/// # Safety
///
/// The block came from `place`, of a `T`, or from `Box::into_raw`, and is given up.
pub(crate) unsafe fn free<T>(block: NonNull<T>) {
    // SAFETY: by the caller's promise; from a box of this layout.
    drop(unsafe { Box::from_raw(block.cast::<MaybeUninit<T>>().as_ptr()) });
}

/// There is no region here.
pub(crate) fn region_bytes() -> usize {
    0
}

fn count(retired: usize, freed: usize) {
    let before = COUNTS.get();
    COUNTS.set((before.0 + retired, before.1 + freed));
}

/// Begins an execution.
pub(crate) fn reset() {
    COUNTS.set((0, 0));
    COLLECTOR.set(Some(ManuallyDrop::new(epoch::Collector::new())));
}

/// Ends an execution: once the last thread of the model is gone, so is the collector.
pub(crate) fn end() {
    COLLECTOR.take().map(ManuallyDrop::into_inner);
}

/// How many blocks were retired in this execution, and how many of them are freed.
pub(crate) fn retired() -> (usize, usize) {
    COUNTS.get()
}
