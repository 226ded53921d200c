//! A payload that knows whether it is alive.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::thread::panicking;

use loom::cell::UnsafeCell;

thread_local! {
    /// How often the payload of each number was dropped in this execution.
    static DROPS: RefCell<BTreeMap<u32, usize>> = RefCell::default();
}

/// A payload that fails the model when it is read or dropped after its drop, or while another thread
/// drops it.
pub struct Payload {
    number: u32,
    content: UnsafeCell<u32>,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for Payload {}

impl Payload {
    /// A payload of a number that no other one of the execution has.
    #[must_use]
    pub fn new(number: u32) -> Self {
        Self { number, content: UnsafeCell::new(number) }
    }

    /// Its number, also after its drop.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Reads it.
    ///
    /// # Panics
    ///
    /// If it was dropped before.
    #[must_use]
    pub fn read(&self) -> u32 {
        // SAFETY: loom fails the model when a write races with this.
        let content = self.content.with(|content| unsafe { *content });
        assert_eq!(content, self.number, "a payload was read after its drop");
        content
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // A failed model unwinds outside of loom.
        if panicking() {
            return;
        }
        // SAFETY: loom fails the model when another access races with this.
        self.content.with_mut(|content| unsafe { *content = u32::MAX });
        let before = DROPS.with_borrow_mut(|drops| {
            let count = drops.entry(self.number).or_default();
            *count += 1;
            *count - 1
        });
        assert_eq!(before, 0, "a payload was dropped twice");
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.number).finish()
    }
}

/// The payloads that were dropped in this execution.
#[must_use]
pub fn dropped() -> Vec<u32> {
    DROPS.with_borrow(|drops| drops.keys().copied().collect())
}

/// Begins an execution.
pub(crate) fn forget_drops() {
    DROPS.with_borrow_mut(BTreeMap::clear);
}
