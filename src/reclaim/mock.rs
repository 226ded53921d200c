//! The reclaimer of the models: the most aggressive one that the epoch's contract allows.
//!
//! A retired block dies as soon as every guard that was pinned at its retirement is gone. Its
//! memory stays until the model ends (quarantine), so that a use after death is a clean panic: a
//! dereference, a second retirement and a death under a guard that may see it are all checked.
//!
//! loom runs the threads of a model on one thread of the system, hence plain thread-local state.
//! The state's own order is not loom's order, so four fences give loom the edges that the epoch
//! gives: at a pin, at an unpin, at a retirement, and before a death. A canary per block, a loom
//! atomic, makes its death an event that loom reorders against dereferences.

use std::alloc::Layout;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::gauge::Gauges;
use loom::sync::atomic::{AtomicBool, Ordering, fence};

#[derive(Default)]
struct State {
    next_guard: u64,
    pinned: BTreeSet<u64>,
    blocks: BTreeMap<usize, Block>,
}

/// A retired block: the guards that may still see it, and how its memory is freed.
struct Block {
    watchers: BTreeSet<u64>,
    dead: std::rc::Rc<AtomicBool>,
    buried: bool,
    free: Box<dyn FnOnce()>,
    gauges: &'static Gauges,
}

thread_local!(static STATE: RefCell<State> = RefCell::default());

/// Pins: blocks retired from now on outlive the guard.
pub(crate) fn pin() -> Guard {
    fence(Ordering::SeqCst);
    STATE.with_borrow_mut(|state| {
        state.next_guard += 1;
        let guard = state.next_guard;
        state.pinned.insert(guard);
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
    /// As for the epoch's guard; a violation panics here.
    pub(crate) unsafe fn retire<T>(&self, ptr: NonNull<T>, gauges: &'static Gauges) {
        fence(Ordering::SeqCst);
        gauges.waiting_began();
        let address = ptr.as_ptr().addr();
        let raw = ptr.as_ptr().cast::<MaybeUninit<T>>();
        debug_assert!(Layout::new::<T>().size() > 0);
        let block = Block {
            watchers: STATE.with_borrow(|state| state.pinned.clone()),
            dead: std::rc::Rc::new(AtomicBool::new(false)),
            buried: false,
            // SAFETY: by the caller's promise a box of this layout; the closure runs once, when
            // the model is over.
            free: Box::new(move || drop(unsafe { Box::from_raw(raw) })),
            gauges,
        };
        let before = STATE.with_borrow_mut(|state| state.blocks.insert(address, block));
        assert!(before.is_none(), "a block was retired twice");
    }

    /// Nothing waits for batches here.
    pub(crate) fn flush(&self) {}

    /// Panics when the block at `ptr` died.
    pub(crate) fn assert_alive<T>(&self, ptr: NonNull<T>) {
        let address = ptr.as_ptr().addr();
        let canary = STATE.with_borrow(|s| s.blocks.get(&address).map(|b| b.dead.clone()));
        if let Some(dead) = canary {
            assert!(!dead.load(Ordering::Acquire), "a dead block was read");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        fence(Ordering::SeqCst);
        let died: Vec<_> = STATE.with_borrow_mut(|state| {
            state.pinned.remove(&self.0);
            let mut died = Vec::new();
            for block in state.blocks.values_mut() {
                block.watchers.remove(&self.0);
                if block.watchers.is_empty() && !block.buried {
                    block.buried = true;
                    died.push((block.dead.clone(), block.gauges));
                }
            }
            died
        });
        if std::thread::panicking() {
            return;
        }
        for (dead, gauges) in died {
            fence(Ordering::SeqCst);
            dead.store(true, Ordering::Release);
            gauges.waiting_ended();
        }
    }
}

/// Starts an execution with an empty state.
pub(crate) fn reset() {
    let blocks = STATE.with_borrow_mut(|state| std::mem::take(state).blocks);
    for block in blocks.into_values() {
        (block.free)();
    }
}

/// How many blocks were retired in this execution.
pub(crate) fn retired() -> usize {
    STATE.with_borrow(|state| state.blocks.len())
}
