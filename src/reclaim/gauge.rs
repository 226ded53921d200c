//! What has left the table and is still in memory: headers that wait for the epoch, and sessions
//! that handles hold.
//!
//! Gauges outlive their cache: handles may be dropped and headers freed after it. They are
//! therefore never freed but leased again, once everything that they count is gone. What a thread has in
//! its magazine (`limbo.rs`) is not counted yet, and may be when another cache has the lease: then it waits there.
//!
//! Every access is Relaxed unless it says otherwise: these are counts, they guard no memory.

use crate::sync::tally::{AtomicBool, AtomicU64, AtomicUsize};
use crate::sync::{Ordering, Striped};

/// A thread recounts the waiting headers once in this many retirements.
const RECOUNT: u64 = if cfg!(loom) { 1 } else { 32 };

/// Headers are a crowd when they are more than this part of the limit.
const CROWD: usize = 4;

/// The counts of one cache.
#[derive(Debug)]
pub(crate) struct Gauges {
    stripes: Striped<Stripe>,
    /// Most headers that may wait before puts are refused.
    limit: AtomicUsize,
    /// The last recount was above a part of the limit, [`CROWD`].
    crowded: AtomicBool,
    /// The last recount was above the limit.
    over: AtomicBool,
    /// Of puts in a crowd ([`Gauges::attempt`]).
    attempts: AtomicU64,
    leased: AtomicBool,
    /// When the clock of the cache began. Handles outlive the cache, and are small.
    origin: AtomicU64,
    next: Option<&'static Gauges>,
}

#[derive(Debug, Default)]
struct Stripe {
    waiting: AtomicU64,
    held: AtomicU64,
    held_bytes: AtomicU64,
}

impl Gauges {
    fn new(next: Option<&'static Self>) -> Self {
        Self {
            stripes: Striped::new(),
            limit: AtomicUsize::new(usize::MAX),
            crowded: AtomicBool::new(false),
            over: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            leased: AtomicBool::new(true),
            origin: AtomicU64::new(0),
            next,
        }
    }

    /// When the clock of the cache began, in the clock's own terms.
    pub(crate) fn origin(&self) -> u64 {
        self.origin.load(Ordering::Relaxed)
    }

    /// As above; before the cache has sessions.
    pub(crate) fn set_origin(&self, origin: u64) {
        self.origin.store(origin, Ordering::Relaxed);
    }

    /// So many headers are given to the epoch. The bound on what waits is the limit, plus [`RECOUNT`] for each
    /// stripe, plus the magazine that each thread fills (`limbo.rs`), plus the sessions that are in the table when the limit is met, plus the segments of
    /// the hints that their removals look at.
    #[inline]
    pub(crate) fn waiting_began(&self, count: u64) {
        let before = self.stripes.mine().waiting.fetch_add(count, Ordering::Relaxed);
        // If the count came over a multiple.
        if before.wrapping_add(count) / RECOUNT != before / RECOUNT {
            self.recount();
        }
    }

    /// So many headers were freed, maybe by another thread than the one that retired them.
    #[inline]
    pub(crate) fn waiting_ended(&self, count: u64) {
        self.stripes.mine().waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Whether more headers wait than the limit allows, as of the last recount.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether so many headers wait that puts do something about it, as of the last recount.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Counts the waiting headers; tells whether there are more than the limit allows.
    ///
    /// Two at once may leave the flags as neither has counted, until the next one: within [`RECOUNT`] retirements of a stripe.
    pub(crate) fn recount(&self) -> bool {
        let (waiting, limit) = (self.waiting(), self.limit.load(Ordering::Relaxed));
        let (crowded, over) = (waiting > limit / CROWD, waiting > limit);
        if crowded != self.is_crowded() {
            self.crowded.store(crowded, Ordering::Relaxed);
        }
        if over != self.is_over() {
            self.over.store(over, Ordering::Relaxed);
            self.attempts.store(0, Ordering::Relaxed);
        }
        over
    }

    /// Counts a put that found a crowd; tells how many there were since the limit was passed, or since an attempt to free
    /// some has helped.
    pub(crate) fn attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// The last attempt to free some has helped.
    pub(crate) fn free_again(&self) {
        self.attempts.store(0, Ordering::Relaxed);
    }

    /// Headers that wait for the epoch.
    pub(crate) fn waiting(&self) -> usize {
        self.sum(|stripe| &stripe.waiting)
    }

    /// A removed session stays with handles; `bytes` is what it was charged.
    #[inline]
    pub(crate) fn held_began(&self, bytes: u64) {
        let stripe = self.stripes.mine();
        stripe.held.fetch_add(1, Ordering::Relaxed);
        stripe.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The last handle of a removed session was dropped.
    #[inline]
    pub(crate) fn held_ended(&self, bytes: u64) {
        let stripe = self.stripes.mine();
        stripe.held.fetch_sub(1, Ordering::Relaxed);
        stripe.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Removed sessions that handles hold, and the bytes that they were charged.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.sum(|stripe| &stripe.held), self.sum(|stripe| &stripe.held_bytes))
    }

    /// A wrapping sum: a stripe may be below zero, and for a moment so may the sum.
    fn sum(&self, field: impl Fn(&Stripe) -> &AtomicU64) -> usize {
        let sum = self
            .stripes
            .iter()
            .fold(0u64, |sum, stripe| sum.wrapping_add(field(stripe).load(Ordering::Relaxed)));
        usize::try_from(sum.cast_signed().max(0)).unwrap_or(usize::MAX)
    }
}

/// The use of gauges by one cache.
#[derive(Debug)]
pub(crate) struct Lease(&'static Gauges);

impl Lease {
    /// Leases gauges that no cache uses and that count nothing, or new ones.
    pub(crate) fn new(limit: usize) -> Self {
        let gauges = list::find_idle().unwrap_or_else(list::add);
        gauges.limit.store(limit, Ordering::Relaxed);
        gauges.crowded.store(false, Ordering::Relaxed);
        gauges.over.store(false, Ordering::Relaxed);
        Self(gauges)
    }

    /// The gauges, which outlive the lease.
    #[inline]
    pub(crate) fn gauges(&self) -> &'static Gauges {
        self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Release: pairs with the Acquire swap in `find_idle`, so that the next user counts after
        // what this cache's last operations counted.
        self.0.leased.store(false, Ordering::Release);
    }
}

mod list {
    //! All gauges of the process, in a list that only grows at its head.

    use super::{Gauges, Ordering};
    use crate::sync::tally::AtomicPtr;
    use std::ptr;

    static HEAD: AtomicPtr<Gauges> = AtomicPtr::new(ptr::null_mut());

    /// The list's first gauges.
    fn head() -> Option<&'static Gauges> {
        // Acquire: pairs with the exchange in `add`, which publishes the content.
        // SAFETY: the list holds leaked boxes, which are never freed nor borrowed mutably.
        unsafe { HEAD.load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn find_idle() -> Option<&'static Gauges> {
        let mut at = head();
        while let Some(gauges) = at {
            at = gauges.next;
            // Acquire: pairs with the Release in `Lease::drop`.
            if gauges.leased.swap(true, Ordering::Acquire) {
                continue;
            }
            if gauges.waiting() == 0 && gauges.held() == (0, 0) {
                return Some(gauges);
            }
            // Release: as in `Lease::drop`.
            gauges.leased.store(false, Ordering::Release);
        }
        None
    }

    pub(super) fn add() -> &'static Gauges {
        loop {
            let next = head();
            let new = Box::into_raw(Box::new(Gauges::new(next)));
            let expected = next.map_or(ptr::null_mut(), |gauges| ptr::from_ref(gauges).cast_mut());
            // Release: pairs with the Acquire in `head`.
            match HEAD.compare_exchange(expected, new, Ordering::Release, Ordering::Relaxed) {
                // SAFETY: the box was made above and is never freed.
                Ok(_) => return unsafe { &*new },
                // SAFETY: the box was made above and nobody has seen it.
                Err(_) => drop(unsafe { Box::from_raw(new) }),
            }
        }
    }
}
