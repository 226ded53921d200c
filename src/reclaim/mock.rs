//! The reclaimer of the models: the most aggressive one that the epoch's contract allows.
//!
//! A retired block dies as soon as every guard that was pinned at its retirement is gone. Its
//! memory stays until the execution is over (quarantine), so that a use after death is a clean
//! panic: a dereference under a guard and a second retirement are checked.
//!
//! loom runs the threads of a model on one thread of the system, hence plain thread-local state.
//! The state's own order is not loom's order, so fences give loom the edges that the epoch gives: at a
//! pin and an unpin once something was retired, at a retirement, and before a death. They are more than
//! the epoch gives, which has no fence at an unpin: an ordering that is missing where they stand is not
//! missed. The canary, a word of loom's, makes a death an event that loom orders both ways with
//! every pin.
//!
//! What was retired is not used again within an execution. So no address comes back, and what goes wrong only
//! if one does (ABA) is not met.

use std::alloc::{Layout, dealloc};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::rc::Rc;
use std::thread::panicking;

use super::gauge::Gauges;
use super::parcel::Parcel;
use super::pool;
use crate::sync::{planted, trace};
use loom::sync::atomic::{AtomicUsize, Ordering, fence};

#[derive(Default)]
struct State {
    canary: Option<Rc<AtomicUsize>>,
    next_guard: u64,
    pinned: BTreeSet<u64>,
    blocks: BTreeMap<usize, Block>,
}

/// A retired block, and the guards that may still see it.
struct Block {
    watchers: BTreeSet<u64>,
    is_dead: bool,
    ptr: NonNull<u8>,
    layout: Layout,
    gauges: &'static Gauges,
}

thread_local!(static STATE: RefCell<State> = RefCell::default());

/// Pins: blocks retired from now on outlive the guard.
pub(crate) fn pin() -> Guard {
    // A model that has failed unwinds outside of loom.
    if panicking() {
        return Guard(0);
    }
    // Relaxed: no edge, only a point where loom may switch.
    canary().load(Ordering::Relaxed);
    if STATE.with_borrow(|state| !state.blocks.is_empty()) {
        fence(Ordering::SeqCst);
    }
    STATE.with_borrow_mut(|state| {
        state.next_guard += 1;
        let guard = state.next_guard;
        state.pinned.insert(guard);
        trace::step(|| String::from("pins"));
        Guard(guard)
    })
}

/// A pin.
pub(crate) struct Guard(u64);

impl Guard {
    /// Marks the block for death.
    ///
    /// # Safety
    ///
    /// As for the epoch's guard; a second retirement panics here.
    pub(crate) unsafe fn retire<T>(&self, ptr: NonNull<T>, gauges: &'static Gauges) {
        // SAFETY: by the caller's promise.
        unsafe { self.retire_block(ptr.cast(), Layout::new::<T>(), gauges) };
    }

    /// # Safety
    ///
    /// As for `retire`; the block is of this layout.
    unsafe fn retire_block(&self, ptr: NonNull<u8>, layout: Layout, gauges: &'static Gauges) {
        if panicking() {
            return;
        }
        fence(Ordering::SeqCst);
        let block = Block {
            watchers: STATE.with_borrow(|state| state.pinned.clone()),
            is_dead: planted!("freed-at-once"),
            ptr,
            layout,
            gauges,
        };
        let address = ptr.as_ptr().addr();
        trace::step(|| format!("retires {}", trace::block(address)));
        let before = STATE.with_borrow_mut(|state| state.blocks.insert(address, block));
        assert!(before.is_none(), "a block was retired twice");
    }

    /// As `retire`: here blocks and boxes are the same.
    ///
    /// # Safety
    ///
    /// As for `retire`.
    pub(crate) unsafe fn retire_box<T>(&self, ptr: NonNull<T>, gauges: &'static Gauges) {
        gauges.waiting_began(1);
        // SAFETY: by the caller's promise.
        unsafe { self.retire(ptr, gauges) };
    }

    /// Panics when the block at `ptr` is dead.
    pub(crate) fn assert_alive<T>(&self, ptr: NonNull<T>) {
        let address = ptr.as_ptr().addr();
        let is_dead = STATE.with_borrow(|s| s.blocks.get(&address).is_some_and(|b| b.is_dead));
        assert!(!is_dead, "a dead block was read");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if panicking() {
            return;
        }
        if STATE.with_borrow(|state| !state.blocks.is_empty()) {
            fence(Ordering::SeqCst);
        }
        let dying: Vec<usize> = STATE.with_borrow_mut(|state| {
            state.pinned.remove(&self.0);
            let blocks = state.blocks.iter_mut();
            // Only the last watcher's removal empties the set.
            let dying = blocks.filter_map(|(&address, block)| {
                (block.watchers.remove(&self.0) && block.watchers.is_empty()).then_some(address)
            });
            dying.collect()
        });
        for address in dying {
            // The step comes first: loom may switch here, and the block is alive until then.
            canary().fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            STATE.with_borrow_mut(|state| {
                let block = state.blocks.get_mut(&address).expect("blocks stay in quarantine");
                block.is_dead = true;
                trace::step(|| format!("unpins: {} is dead", trace::block(address)));
                block.gauges.waiting_ended(1);
            });
        }
    }
}

/// As [`Guard::retire`], of the block of a parcel, under no pin but one of its own: what is retired when nobody
/// else is pinned dies at once.
///
/// # Safety
///
/// As there; nobody else drops the parcel.
pub(crate) unsafe fn retire_parcel(parcel: Parcel, gauges: &'static Gauges) {
    let parcel = ManuallyDrop::new(parcel);
    gauges.waiting_began(1);
    // SAFETY: by the caller's promise.
    unsafe { pin().retire_block(parcel.block(), pool::layout(parcel.size()), gauges) };
}

/// Nothing waits for batches here.
pub(crate) fn flush() {}

/// Always of new memory, so that a block stays in quarantine.
pub(crate) fn place<T>(value: T) -> NonNull<T> {
    NonNull::from(Box::leak(Box::new(value)))
}

/// Frees a block that was never retired; nothing in it is dropped.
///
/// # Safety
///
/// The block came from `place`, of a `T`, and is given up.
pub(crate) unsafe fn free<T>(block: NonNull<T>) {
    // SAFETY: by the caller's promise; from a box of this layout.
    drop(unsafe { Box::from_raw(block.cast::<MaybeUninit<T>>().as_ptr()) });
}

/// There is no region here.
pub(crate) fn region_bytes() -> usize {
    0
}

fn canary() -> Rc<AtomicUsize> {
    let canary = STATE.with_borrow(|state| state.canary.clone());
    canary.expect("an execution begins with `reset`")
}

/// Begins an execution: frees what the one before has left, and starts with an empty state.
pub(crate) fn reset() {
    let old =
        STATE.replace(State { canary: Some(Rc::new(AtomicUsize::new(0))), ..State::default() });
    for block in old.blocks.into_values() {
        // SAFETY: retired once (P3), from a box or a parcel of this layout, and the execution is over.
        unsafe { dealloc(block.ptr.as_ptr(), block.layout) };
    }
}

/// Ends an execution. The next one frees what this one has left.
pub(crate) fn end() {}

/// How many blocks were retired in this execution, and how many of them are dead.
pub(crate) fn retired() -> (usize, usize) {
    STATE.with_borrow(|state| {
        let dead = state.blocks.values().filter(|block| block.is_dead).count();
        (state.blocks.len(), dead)
    })
}
