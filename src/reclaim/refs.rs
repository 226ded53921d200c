//! The count of references in a node.
//!
//! * R1: a node is born with one reference, the table's. The winner of its removal inherits it.
//! * R2: each handle is one reference.
//! * R3: zero is final: a lookup increments only from non-zero. Whoever reaches zero owns the
//!   payload and the retirement of the header.
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | increment | Relaxed | nothing: the caller already sees the node, by its link or by its handle |
//! | decrement | AcqRel | the other decrements: what each holder did comes before the drop |
//! | look at zero | Acquire | the decrement to zero: the removal came before, and is seen |
//! | `take_sole` | AcqRel / Relaxed | the same, when the only reference is one's own |
//!
//! Model: `loom-tests/tests/refs.rs`.

use crate::sync::{AtomicU32, Ordering, planted};

/// The count. `Arc` would be a second allocation and a second count.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Refs(AtomicU32);

/// More references than this is a leak in a loop: a lookup then finds nothing, a clone aborts. A unit test gets
/// there.
const MOST: u32 = if cfg!(test) { 10_000 } else { u32::MAX / 2 };

impl Refs {
    /// So many references: the table's (R1), and what the node is born with beside it.
    pub(crate) fn new(count: u32) -> Self {
        Self(AtomicU32::new(count))
    }

    /// Adds a reference unless the count is zero (R3) or at its limit.
    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        // Relaxed: a guess, which the exchange below corrects.
        let mut count = self.0.load(Ordering::Relaxed);
        loop {
            if count == 0 && !planted!("resurrect") || count >= MOST {
                // Acquire: pairs with the release that reached zero. The removal came before it,
                // so the search that the caller makes again does not find the node again.
                if !planted!("relaxed-zero") {
                    self.0.load(Ordering::Acquire);
                }
                return false;
            }
            // Relaxed: the node's content was published by its link, which the caller has read.
            // Race with the last release: if the release comes first, the count is zero and this
            // fails; if this comes first, the release is not the last.
            match self.0.compare_exchange(count, count + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
    }

    /// Adds a reference on behalf of one that the caller holds.
    ///
    /// Aborts at 2³¹ references, as `Arc` does: only forgetting handles in a loop gets there.
    #[inline]
    pub(crate) fn acquire(&self) {
        // Relaxed: the caller's own reference keeps the node.
        if self.0.fetch_add(1, Ordering::Relaxed) >= MOST {
            std::process::abort();
        }
    }

    /// Gives a reference back; `true` when it was the last one.
    #[inline]
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        if planted!("relaxed-release") {
            return self.0.fetch_sub(1, Ordering::Relaxed) == 1;
        }
        // AcqRel: Release gives what this holder did with the payload to the last one; Acquire
        // lets the last one see what all the others did, before it drops the payload.
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Gives the caller's reference back if it is the only one; `true` when it was.
    ///
    /// Race with a lookup: if the lookup increments first, this fails and the lookup's handle
    /// keeps the payload; if this comes first, the lookup finds zero (R3).
    #[inline]
    #[must_use]
    pub(crate) fn take_sole(&self) -> bool {
        if planted!("sole-by-load-and-store") {
            let is_sole = self.0.load(Ordering::Acquire) == 1;
            if is_sole {
                self.0.store(0, Ordering::Release);
            }
            return is_sole;
        }
        let relaxed = planted!("relaxed-sole");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        // AcqRel: as in `release`. Relaxed on failure: nothing is read then.
        self.0.compare_exchange(1, 0, order, Ordering::Relaxed).is_ok()
    }

    /// How many references there are; outdated as soon as it is read.
    pub(crate) fn count(&self) -> u32 {
        // Relaxed: a number to show.
        self.0.load(Ordering::Relaxed)
    }
}
