//! A lane: what some of a cache's threads write of the order and of the number of its sessions.
//!
//! A session is found by its hash, whoever put it, so all threads write the words of the table. They need not all write
//! the words of the order, of the room and of the counts: each thread has a lane, and takes the room for what it puts
//! from there, counts it there and files its hint in the wheel of that lane. Threads share a lane where there are more
//! of them than lanes.
//!
//! Whoever removes a session counts that, and gives its room back, in the own lane, wherever the hint is. So of a
//! lane's two counts that of *hints* is its own: they are counted where they are filed, and until they were found stale.
//! That of *sessions* is a part of a sum, and may be negative. What the other lanes have counted is looked up every now
//! and then.

#![forbid(unsafe_code)]

use crate::expiry::capacity::SharedAccount;
use crate::expiry::{Age, Due, Hint, Row, Unpushed, Wheel};
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
    /// For each [`Age`] a [`Source`].
    sources: [tally::AtomicU64; 2],
}

/// So often threads evict from a lane before they compare it with others.
const COMPARED: u64 = 8;

/// From where the threads of a lane evict: the lane, when its front expires, and how often they have asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) lane: usize,
    pub(crate) due: u64,
    turn: u64,
}

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
        let own = Source { lane: at, due: 0, turn: 0 }.to_word();
        let sources = [own; 2].map(tally::AtomicU64::new);
        Self { wheel: Wheel::new(now), account, sources }
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

    /// Adds to the counts, or subtracts; returns how often that was done, about.
    #[inline]
    pub(crate) fn add(&self, Counts(by): Counts) -> u64 {
        // Relaxed, all: counts, the second one of which may miss some.
        self.account.0.counts.fetch_add(by, Ordering::Relaxed);
        let changes = self.account.0.changes.load(Ordering::Relaxed).wrapping_add(1);
        self.account.0.changes.store(changes, Ordering::Relaxed);
        changes
    }

    /// From where to evict; counts that it was asked for. Races make a comparison sooner or later, and do no harm.
    pub(crate) fn source(&self, age: Age) -> Source {
        // Relaxed, both: where to look.
        let word = &self.sources[age as usize];
        let source = Source::from_word(word.load(Ordering::Relaxed));
        word.store(Source { turn: source.turn + 1, ..source }.to_word(), Ordering::Relaxed);
        source
    }

    /// From where to evict from now on.
    pub(crate) fn set_source(&self, age: Age, lane: usize, due: u64) {
        // Relaxed, both: as above.
        let word = &self.sources[age as usize];
        let source = Source::from_word(word.load(Ordering::Relaxed));
        word.store(Source { lane, due, ..source }.to_word(), Ordering::Relaxed);
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

    /// Files hints that are counted, and says since when those of a row are there. Not under a pin.
    #[cold]
    pub(crate) fn file_rest(&self, unfiled: &[Unfiled], now: u64, since: impl Fn(Row) -> u64) {
        for &Unfiled { hint, due, row } in unfiled {
            while !self.wheel.push((hint, since(row)), due, now, row) {
                // One more hint.
                self.add(Counts::HINT);
            }
        }
    }
}

impl Source {
    const LANE_BITS: u32 = 16;
    const TURN_BITS: u32 = 15;
    /// Fronts expire at multiples of the finest slot's span.
    const TIME_BITS: u32 = 10;

    fn to_word(self) -> u64 {
        let turn = self.turn % (1 << Self::TURN_BITS);
        (self.due >> Self::TIME_BITS << Self::TURN_BITS | turn) << Self::LANE_BITS
            | self.lane as u64
    }

    fn from_word(word: u64) -> Self {
        let rest = word >> Self::LANE_BITS;
        Self {
            lane: (word % (1 << Self::LANE_BITS)) as usize,
            due: rest >> Self::TURN_BITS << Self::TIME_BITS,
            turn: rest % (1 << Self::TURN_BITS),
        }
    }

    /// Whether it is time to compare it with other lanes.
    pub(crate) fn is_old(self) -> bool {
        self.turn.is_multiple_of(COMPARED)
    }

    /// A number that is another one at each comparison.
    pub(crate) fn turn(self) -> usize {
        (self.turn / COMPARED) as usize
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
    fn a_source_survives_packing() {
        let source = Source { lane: 63, due: 7_340_032, turn: 8 };
        let back = Source::from_word(source.to_word());
        assert_eq!((back.lane, back.due, back.turn), (63, 7_340_032, 8));
        assert!(back.is_old() && back.turn() == 1);
        // Of sessions that never expire: the slot ends after the last time that there is.
        let latest = Source { lane: 0, due: 1 << 42, turn: (1 << 15) - 1 };
        let back = Source::from_word(latest.to_word());
        assert_eq!((back.lane, back.due, back.turn), (0, latest.due, latest.turn));
    }
}
