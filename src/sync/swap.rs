//! What stands for arc-swap in models.
//!
//! arc-swap's loads and swaps of one place have one order, for all of them are sequentially consistent. A
//! load gives the value of the swap before it, which stays alive as long as it is used; a swap gives up
//! the place's reference at once.
//!
//! So here a load is a read-modify-write of a word, which sees the latest swap: it acquires what that
//! has released, and releases nothing. The value itself is out of loom's sight, and is touched in the same
//! step as the word.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loom::sync::atomic::{AtomicUsize, Ordering};

use super::planted;

/// A place for a counted value, or for none.
pub(crate) struct ArcSwapOption<T> {
    word: AtomicUsize,
    value: Mutex<Option<Arc<T>>>,
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self { word: AtomicUsize::new(0), value: Mutex::new(None) }
    }

    /// Returns what was there before.
    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.touch(Ordering::AcqRel);
        std::mem::replace(&mut *self.value(), value)
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        self.touch(Ordering::Acquire);
        let value = self.value().clone();
        if planted!("load-before-count") {
            let value = value.map(|value| Arc::downgrade(&value));
            self.touch(Ordering::Acquire);
            return value.map(|value| value.upgrade().expect("a dead value was read"));
        }
        value
    }

    /// A model that has failed unwinds outside of loom.
    fn touch(&self, order: Ordering) {
        if !std::thread::panicking() {
            self.word.fetch_or(0, order);
        }
    }

    /// Never held at a step of loom's.
    fn value(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
