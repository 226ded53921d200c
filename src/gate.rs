//! The gate that puts pass, so that `close` can wait for those that began before it.
//!
//! Each stripe has one word: the count of puts inside, and a flag once the gate is closed.
//!
//! # Races, both orders
//!
//! * Enter and close: both change the stripe's word by a read-modify-write. If the entry is first,
//!   the closer sees the count and waits; if the flag is first, the entry sees it and backs out.
//! * Leave and the drop of a scope ([`Gate::settle`]): the put links, leaves, and then looks whether
//!   its scope still has the slot that it used; the drop changes the slot, then settles, then sweeps.
//!   Leave and settle change one word. If the leave is first, the sweep sees the linked node; if the
//!   settling is first, the put sees the new slot and removes its node itself.
//!
//! Models: `loom-tests/tests/gate.rs`, and `scope.rs` for the second race.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, Striped, planted};

const CLOSED: u64 = 1 << 63;

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    stripes: Striped<AtomicU64>,
}

/// A put inside the gate.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a AtomicU64);

impl Gate {
    /// An open gate.
    pub(crate) fn new() -> Self {
        Self { stripes: Striped::new() }
    }

    /// An open gate of so many stripes.
    #[cfg(loom)]
    pub(crate) fn of_stripes(count: usize) -> Self {
        Self { stripes: Striped::of(count) }
    }

    /// Lets a put in; `None` when the gate is closed.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        let stripe = self.stripes.mine();
        // Relaxed: spares a closed gate the counting; the read-modify-write decides.
        if stripe.load(Ordering::Relaxed) & CLOSED != 0 {
            return None;
        }
        if planted!("enter-by-load") {
            stripe.fetch_add(1, Ordering::AcqRel);
            return Some(Inside(stripe));
        }
        // Acquire: pairs with `close`, should it come first.
        if stripe.fetch_add(1, Ordering::Acquire) & CLOSED == 0 {
            return Some(Inside(stripe));
        }
        // Release: as in `Inside::drop`; nothing was done inside.
        stripe.fetch_sub(1, Ordering::Release);
        None
    }

    /// Whether the gate is closed.
    pub(crate) fn is_closed(&self) -> bool {
        // Acquire: pairs with `close`.
        self.stripes.mine().load(Ordering::Acquire) & CLOSED != 0
    }

    /// Closes the gate, and waits until every put that entered before has left. A put inside may be
    /// evicting, and so be dropping payloads; this waits for those drops too.
    pub(crate) fn close(&self) {
        let stripes = || self.stripes.iter().take(most(planted!("closes-one-stripe")));
        for stripe in stripes() {
            // AcqRel: decides the race with each entry, see above.
            stripe.fetch_or(CLOSED, Ordering::AcqRel);
        }
        for stripe in stripes() {
            if planted!("close-without-waiting") {
                break;
            }
            let relaxed = planted!("relaxed-wait");
            let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
            // Acquire: pairs with `Inside::drop`: what the puts linked is visible.
            while stripe.load(order) != CLOSED {
                wait();
            }
        }
    }

    /// Makes the puts that leave from now on see what the caller did before; shows the caller what
    /// the others have linked.
    pub(crate) fn settle(&self) {
        if planted!("no-settle") {
            return;
        }
        let relaxed = planted!("relaxed-settle");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        for stripe in self.stripes.iter().take(most(planted!("settles-one-stripe"))) {
            // AcqRel, a read-modify-write without effect: see the second race.
            stripe.fetch_add(0, order);
        }
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        if planted!("relaxed-leave") {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // AcqRel: Release shows the closer, or the settler, what was linked; Acquire shows this
        // thread what a settler did before.
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// At how many stripes a close or a settling looks: at all, but for a seeded bug.
fn most(is_one: bool) -> usize {
    if is_one { 1 } else { usize::MAX }
}

#[cfg(not(any(loom, shuttle)))]
fn wait() {
    std::thread::sleep(std::time::Duration::from_micros(50));
}

#[cfg(any(loom, shuttle))]
fn wait() {
    crate::sync::yield_now();
}
