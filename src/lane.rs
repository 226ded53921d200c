//! A lane: what some of a cache's threads write of the order and of the number of its sessions.
//!
//! A session is found by its hash, whoever put it, so all threads write the words of the table. They need not all write
//! the words of the order, of the room and of the counts: each thread has a lane, and takes the room for what it puts
//! from there, counts it there and files its hint in the wheel of that lane. Threads share a lane where there are more
//! of them than lanes.
//!
//! Whoever removes a session counts that, and gives its room back, in a lane of its own, wherever the hint is. So of a
//! lane's two counts that of *hints* is its own: they are counted where they are filed, and until they were found stale.
//! That of *sessions* is a part of a sum, and may be negative. What the other lanes have counted is looked up every now
//! and then.

#![forbid(unsafe_code)]

use crate::expiry::capacity::SharedAccount;
use crate::expiry::{Due, Hint, Row, Unpushed, Wheel};
use crate::reclaim::Guard;
use crate::sync::{Ordering, tally};
use crate::table::Pinned;

/// A session in the counts. Sums are right whatever is subtracted where, for no lane has fewer hints than none.
const SESSION: u64 = 1 << 32;

/// Stale hints that are let be, beside three for four sessions. Where sessions are taken soon, a full cache settles
/// below that by eviction alone.
const SLACK: u64 = if cfg!(any(loom, shuttle)) { 0 } else { 64 };

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) wheel: Wheel,
    account: SharedAccount,
    /// The lane from which its threads evict, below, and how often they have asked for it.
    source: tally::AtomicU64,
}

/// Bits of a lane's number.
const LANE_BITS: u32 = 16;

/// So often threads evict from a lane before they compare it with others.
const COMPARED: u64 = 8;

/// How many sessions there are, above, and how many hints, below [`SESSION`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(u64);

/// A hint that is counted and not in the wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfiled {
    pub(crate) hint: Hint,
    pub(crate) due: u64,
    pub(crate) row: Row,
}

impl Lane {
    /// The lane of this number.
    pub(crate) fn new(at: usize, now: u64, account: SharedAccount) -> Self {
        Self { wheel: Wheel::new(now), account, source: tally::AtomicU64::new(at as u64) }
    }

    /// What this lane has counted.
    #[inline]
    pub(crate) fn own(&self) -> Counts {
        // Relaxed: counts, outdated as soon as they are read.
        Counts(self.account.0.counts.load(Ordering::Relaxed))
    }

    /// About what all lanes have counted: the others' as of the last look at them.
    #[inline]
    pub(crate) fn all(&self) -> Counts {
        // Relaxed: as above.
        self.own() + Counts(self.account.0.others.load(Ordering::Relaxed))
    }

    /// About how many hints the kept lists of all lanes have; as above.
    pub(crate) fn all_kept(&self) -> u64 {
        // Relaxed: as above.
        self.wheel.kept() + self.account.0.others_kept.load(Ordering::Relaxed)
    }

    /// What the other lanes have counted, and the hints of their kept lists, from now on.
    #[cold]
    pub(crate) fn note_others(&self, Counts(counts): Counts, kept: u64) {
        // Relaxed, both: as above.
        self.account.0.others.store(counts, Ordering::Relaxed);
        self.account.0.others_kept.store(kept, Ordering::Relaxed);
    }

    /// Adds to the counts, or subtracts; returns those before.
    #[inline]
    pub(crate) fn add(&self, Counts(by): Counts) -> Counts {
        // Relaxed: counts.
        Counts(self.account.0.counts.fetch_add(by, Ordering::Relaxed))
    }

    /// The lane from which to evict, or, every so often, a number that is another one each time: then it is time to
    /// compare. Races make that sooner or later, and do no harm.
    pub(crate) fn source(&self) -> Result<usize, usize> {
        // Relaxed, both: where to look.
        let word = self.source.load(Ordering::Relaxed);
        self.source.store(word.wrapping_add(1 << LANE_BITS), Ordering::Relaxed);
        let (turn, lane) = (word >> LANE_BITS, word % (1 << LANE_BITS));
        if turn.is_multiple_of(COMPARED) {
            Err((turn / COMPARED) as usize)
        } else {
            Ok(lane as usize)
        }
    }

    /// From where to evict from now on.
    pub(crate) fn set_source(&self, lane: usize) {
        // Relaxed, both: as above.
        let word = self.source.load(Ordering::Relaxed) >> LANE_BITS << LANE_BITS;
        self.source.store(word | lane as u64, Ordering::Relaxed);
    }

    /// Files the hint of a linked session, which is counted, under the caller's pin, or returns it.
    #[inline]
    pub(crate) fn try_file<S>(
        &self,
        node: Pinned<'_, S>,
        now: u64,
        guard: &Guard,
    ) -> Result<(), Unfiled> {
        let hint = Hint::new(node.node().hash(), node.stamp());
        let due = Due::load(node.node().expiry()).at();
        self.try_file_again(Unfiled { hint, due, row: Row::FRESH }, now, guard)
    }

    /// Files a hint, which is counted, under the caller's pin, or returns it.
    #[inline]
    pub(crate) fn try_file_again(
        &self,
        unfiled: Unfiled,
        now: u64,
        guard: &Guard,
    ) -> Result<(), Unfiled> {
        let Unfiled { hint, due, row } = unfiled;
        self.wheel.try_push(hint, due, now, row, guard).map_err(|why| {
            if why == Unpushed::Again {
                self.add(Counts::HINT);
            }
            unfiled
        })
    }

    /// Files hints that are counted. Not under a pin.
    #[cold]
    pub(crate) fn file_rest(&self, unfiled: &[Unfiled], now: u64) {
        for &Unfiled { hint, due, row } in unfiled {
            while !self.wheel.push(hint, due, now, row) {
                // One more hint.
                self.add(Counts::HINT);
            }
        }
    }

    /// Files one more hint of a linked session. Not under a pin.
    pub(crate) fn file(&self, hint: Hint, due: u64, now: u64) {
        self.add(Counts::HINT);
        self.file_rest(&[Unfiled { hint, due, row: Row::FRESH }], now);
    }
}

impl Counts {
    /// One hint.
    pub(crate) const HINT: Self = Self(1);

    /// A session that is to be linked, if it takes nobody's place, and its hint, if it gets one.
    #[inline]
    pub(crate) fn of(is_one_more: bool, has_hint: bool) -> Self {
        Self(u64::from(is_one_more) * SESSION + u64::from(has_hint))
    }

    /// So many sessions.
    #[inline]
    pub(crate) fn of_sessions(count: u64) -> Self {
        Self(count * SESSION)
    }

    /// So many hints.
    #[inline]
    pub(crate) fn of_hints(count: u64) -> Self {
        Self(count)
    }

    /// As many less.
    #[inline]
    pub(crate) fn negative(self) -> Self {
        Self(self.0.wrapping_neg())
    }

    /// Sessions; none if there are less for a moment, because lanes were not looked at at one instant.
    #[inline]
    pub(crate) fn live(self) -> u64 {
        u64::from(((self.0 >> 32) as u32).cast_signed().max(0).cast_unsigned())
    }

    /// Hints.
    #[inline]
    pub(crate) fn hints(self) -> u64 {
        self.0 % SESSION
    }

    /// Whether so many hints are stale that it is time to look at some.
    #[inline]
    pub(crate) fn has_too_many_hints(self) -> bool {
        let live = self.live();
        self.hints() > live + live / 2 + live / 4 + SLACK
    }

    /// Whether the sessions, or the hints, have come by a multiple of two to the power of `bits` on the way to `other`.
    #[inline]
    pub(crate) fn is_far_from(self, other: Self, bits: u32) -> bool {
        let low = (1 << bits) - 1;
        (self.0 ^ other.0) & !(low * (SESSION + 1)) != 0
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl Unfiled {
    pub(crate) const NONE: Self = Self { hint: Hint::new(0, 0), due: 0, row: Row::FRESH };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_lanes_whatever_is_subtracted_where() {
        let put = Counts::of(true, true);
        let puts = put + put + put + Counts::of(false, true);
        assert_eq!((puts.live(), puts.hints()), (3, 4));
        let takes = Counts::of_sessions(2).negative();
        assert_eq!((takes.live(), takes.hints()), (0, 0), "a part of a sum");
        let all = puts + takes;
        assert_eq!((all.live(), all.hints()), (1, 4));
        let rest = all + Counts::of_hints(3).negative();
        assert_eq!((rest.live(), rest.hints()), (1, 1));
        assert_eq!(rest + put.negative(), Counts::default());
    }

    #[test]
    fn a_multiple_is_met_up_and_down_and_in_both_counts() {
        let counts = |live, hints| Counts::of_sessions(live) + Counts::of_hints(hints);
        assert!(!counts(16, 16).is_far_from(counts(31, 31), 4));
        assert!(counts(31, 16).is_far_from(counts(32, 16), 4));
        assert!(counts(32, 16).is_far_from(counts(31, 16), 4));
        assert!(counts(16, 31).is_far_from(counts(16, 32), 4));
        assert!(Counts::default().is_far_from(Counts::of_sessions(1).negative(), 4));
    }
}
