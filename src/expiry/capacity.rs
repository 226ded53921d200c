//! Capacity as tokens: a limit is kept because nothing is ever counted twice.
//!
//! A budget of n has n tokens, for sessions or for bytes. A token is free, in one of the lanes, or
//! it belongs to a session in the table, to a put that has reserved it, or to a change of the limit
//! that takes it away. Nobody makes one and nobody loses one, so
//!
//! * B1: free + reserved + owned by sessions = the limit, at every instant;
//!
//! and what is stored cannot exceed the limit. A put takes tokens *before* it links, a removal
//! gives them back *after* the payload is dropped or has become a handle's. A replacement hands the
//! old session's tokens to the new one, whose put is in flight until the old payload is a handle's.
//!
//! Taking is a compare-and-swap that never goes below zero; a thread that stops holds the tokens
//! that it took, and nothing else.
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | take | Acquire | the give that the token came from: the payload of its last owner is gone |
//! | take up to, lower | AcqRel | the same, and `used`, which sees the lower limit before fewer tokens |
//! | give | Release | the take |
//!
//! Model: `loom-tests/tests/capacity.rs`.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering, Padded, planted, tally};

/// More than any machine holds: what "unlimited" is made of.
pub(crate) const UNLIMITED: u64 = 1 << 60;

/// What every put and every removal of a lane writes. On one line, for what two threads write costs them the way
/// of the line from one to the other, and not the number of its words.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The free tokens of each [`Unit`].
    free: [AtomicU64; 2],
    /// Of sessions and hints; the lane's.
    pub(crate) counts: tally::AtomicU64,
    /// What the other lanes had counted when this one last looked.
    pub(crate) others: tally::AtomicU64,
    /// And how many hints they had spared.
    pub(crate) others_kept: tally::AtomicU64,
    /// How often the counts have changed, about.
    pub(crate) changes: tally::AtomicU64,
    turn: tally::AtomicUsize,
}

/// A lane's account.
pub(crate) type SharedAccount = Arc<Padded<Account>>;

/// What a token is good for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Session,
    Byte,
}

/// A limit, as the tokens that are free in each lane.
#[derive(Debug)]
pub(crate) struct Budget {
    unit: Unit,
    limit: AtomicU64,
    /// What a lane may have free that need not be noted.
    modest: tally::AtomicU64,
    /// A lane that had more when it was last noted, below, or [`NOBODY`]; and how many have been noted.
    rich: Padded<tally::AtomicUsize>,
    accounts: Box<[SharedAccount]>,
}

const LANE_BITS: u32 = 16;
const NOBODY: usize = (1 << LANE_BITS) - 1;

impl Account {
    /// The accounts of so many lanes.
    pub(crate) fn of_lanes(lanes: usize) -> Box<[SharedAccount]> {
        (0..lanes).map(|_| Arc::default()).collect()
    }

    /// A number that is another one at each call, but for races.
    pub(crate) fn turn(&self) -> usize {
        // Relaxed, both: it says where to look.
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        turn
    }
}

impl Budget {
    /// A budget of `limit` tokens, spread evenly over the lanes of these accounts.
    pub(crate) fn new(unit: Unit, limit: u64, accounts: &[SharedAccount]) -> Self {
        let budget = Self {
            unit,
            limit: AtomicU64::new(0),
            modest: tally::AtomicU64::new(u64::MAX),
            rich: Padded(tally::AtomicUsize::new(NOBODY)),
            accounts: accounts.into(),
        };
        budget.raise(limit.min(UNLIMITED));
        budget
    }

    /// Notes how much is modest: with a share of 2048 sessions 32 of them.
    fn set_modest(&self) {
        let lanes = self.accounts.len() as u64;
        let modest = if lanes == 1 { u64::MAX } else { self.limit() / lanes / 64 };
        // Relaxed: a threshold.
        self.modest.store(modest, Ordering::Relaxed);
    }

    /// Notes a lane that has more than others know.
    ///
    /// Both orders of this and of a look for a rich lane that finds none: if this is first, the word has changed, and the
    /// look's exchange fails; if this is second, it is noted over what the look has found. Of two lanes that are noted at one
    /// instant one may be lost until the other is poor: then all are looked at. No promise rests on it: before a put is
    /// refused it asks all lanes.
    #[cold]
    fn note_rich(&self, lane: usize) {
        // Relaxed, all: a lane to look at. That its word is another one each time tells `find_rich`.
        let before = self.rich.0.load(Ordering::Relaxed) >> LANE_BITS;
        self.rich.0.store((before + 1) << LANE_BITS | lane, Ordering::Relaxed);
    }

    /// A lane that had more to spare than others when it was last noted.
    pub(crate) fn rich(&self) -> Option<usize> {
        // Relaxed: as above.
        Some(self.rich.0.load(Ordering::Relaxed) & NOBODY).filter(|&lane| lane != NOBODY)
    }

    /// `poor` was noted, and has not so much as `least`: looks whether another lane has, and more than is modest. If not,
    /// nobody looks until one becomes rich.
    #[cold]
    pub(crate) fn find_rich(&self, poor: usize, least: u64) {
        // Relaxed, all: as above.
        let noted = self.rich.0.load(Ordering::Relaxed);
        if noted & NOBODY != poor {
            return;
        }
        let modest = self.modest.load(Ordering::Relaxed);
        let is_rich = |&lane: &usize| {
            let free = self.free(lane).load(Ordering::Relaxed);
            free > modest && free >= least
        };
        let found = (0..self.accounts.len()).find(is_rich).unwrap_or(NOBODY);
        let next = ((noted >> LANE_BITS) + 1) << LANE_BITS | found;
        // If it fails, one has become rich meanwhile.
        let _ = self.rich.0.compare_exchange(noted, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The free tokens of a lane.
    #[inline]
    fn free(&self, lane: usize) -> &AtomicU64 {
        &self.accounts[lane].0.free[self.unit as usize]
    }

    /// The number of tokens.
    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        // Relaxed: a number to show, and to choose a way with.
        self.limit.load(Ordering::Relaxed)
    }

    /// How many tokens are not free. While the limit changes it may be too small. It is too large by those that are moved
    /// meanwhile from a lane that is still to be looked at to one that was, and if the limit changes several times.
    pub(crate) fn used(&self) -> u64 {
        loop {
            // Acquire: pairs with `raise`, which gives the tokens before it raises the limit. A
            // lowering takes them after it lowered it, hence the second look.
            let limit = self.limit.load(Ordering::Acquire);
            let lanes = 0..self.accounts.len();
            let free: u64 = lanes.map(|lane| self.free(lane).load(Ordering::Acquire)).sum();
            let is_same = self.limit.load(Ordering::Acquire) == limit;
            if is_same || planted!("no-second-look-at-the-limit") {
                return limit.saturating_sub(free);
            }
        }
    }

    /// Whether so many tokens of a lane are free, as of now.
    #[inline]
    pub(crate) fn has(&self, lane: usize, count: u64) -> bool {
        // Relaxed: it decides whether to go on looking for more, and not that they are one's own.
        self.free(lane).load(Ordering::Relaxed) >= count
    }

    /// Takes so many tokens of a lane, or none; `false` also if others change them meanwhile.
    #[inline]
    #[must_use]
    pub(crate) fn take(&self, lane: usize, count: u64) -> bool {
        if count == 0 {
            return true;
        }
        let free = self.free(lane);
        // Relaxed: a guess, which the exchange corrects.
        let now = free.load(Ordering::Relaxed);
        if now < count {
            return false;
        }
        if planted!("take-by-load-and-store-of-tokens") {
            free.store(now - count, Ordering::Release);
            return true;
        }
        let relaxed = planted!("relaxed-take");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
        // Acquire: pairs with `give`. Relaxed on failure: nothing is used.
        free.compare_exchange(now, now - count, order, Ordering::Relaxed).is_ok()
    }

    /// Takes as many tokens of a lane as there are, up to `most`.
    #[must_use]
    pub(crate) fn take_up_to(&self, lane: usize, most: u64) -> u64 {
        if most == 0 {
            return 0;
        }
        let free = self.free(lane);
        // Relaxed: a guess, which the exchange corrects.
        let mut now = free.load(Ordering::Relaxed);
        loop {
            let count = now.min(most);
            if count == 0 {
                return 0;
            }
            if planted!("take-by-load-and-store-of-tokens") {
                free.store(now - count, Ordering::Release);
                return count;
            }
            let relaxed = planted!("nothing-released-by-a-lowering");
            let order = if relaxed { Ordering::Acquire } else { Ordering::AcqRel };
            // AcqRel: Acquire pairs with `give`; Release shows `used` the limit that was lowered before
            // this. Relaxed on failure: only the number is used.
            let taken = free.compare_exchange(now, now - count, order, Ordering::Relaxed);
            match taken {
                Ok(_) => return count,
                Err(other) => now = other,
            }
        }
    }

    /// Takes as many tokens as any lane has, up to `most`; begins with `lane`.
    #[must_use]
    pub(crate) fn gather(&self, lane: usize, most: u64) -> u64 {
        let lanes = self.accounts.len();
        let mut taken = 0;
        for step in 0..lanes {
            if taken == most {
                break;
            }
            taken += self.take_up_to((lane + step) % lanes, most - taken);
        }
        taken
    }

    /// Another lane than this one, a different one each time; `None` if there is one only.
    pub(crate) fn another(&self, lane: usize) -> Option<usize> {
        let others = self.accounts.len() - 1;
        let step = 1 + self.accounts[lane].0.turn().checked_rem(others)?;
        Some((lane + step) % self.accounts.len())
    }

    /// Takes tokens of another lane that has more than `reserve`: what is missing, and more, so that this is not done for
    /// each session; never more than `most`, which are out of others' reach while this thread is stopped.
    #[must_use]
    pub(crate) fn draw(&self, lane: usize, missing: u64, reserve: u64, most: u64) -> u64 {
        // Relaxed: a guess, which the taking corrects.
        let spare = self.free(lane).load(Ordering::Relaxed).saturating_sub(reserve);
        if missing == 0 || spare < missing {
            return 0;
        }
        self.take_up_to(lane, (spare / 2).clamp(missing, most.max(missing)))
    }

    /// Gives tokens to a lane; so many that its share would grow out of proportion, to all lanes.
    #[inline]
    pub(crate) fn give(&self, lane: usize, count: u64) {
        if count == 0 {
            return;
        }
        let lanes = self.accounts.len() as u64;
        // No division, which takes longer than all the rest.
        if lanes > 1 && count.saturating_mul(lanes * 8) > self.limit() {
            return self.spread(count);
        }
        let free = self.free(lane);
        if planted!("give-by-load-and-store") {
            return free.store(free.load(Ordering::Acquire) + count, Ordering::Release);
        }
        if planted!("relaxed-give") {
            free.fetch_add(count, Ordering::Relaxed);
            return;
        }
        // Release: pairs with the take of these tokens.
        let before = free.fetch_add(count, Ordering::Release);
        let modest = self.modest.load(Ordering::Relaxed);
        if before <= modest && before + count > modest {
            self.note_rich(lane);
        }
    }

    /// Gives tokens to all lanes, evenly.
    #[cold]
    fn spread(&self, count: u64) {
        let relaxed = planted!("relaxed-spread");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
        for (lane, portion) in self.portions(count) {
            // Release: as in `give`.
            self.free(lane).fetch_add(portion, order);
        }
        self.find_rich(NOBODY, 0);
    }

    /// The lanes, and how many of so many tokens each gives or gets: as many as the others, and one more if it is among
    /// the first. A raise begins with those that the last one has left out, and a lowering takes what a raise has
    /// given, so that limits which change in small steps keep the shares even.
    pub(crate) fn portions(&self, count: u64) -> impl Iterator<Item = (usize, u64)> + Clone {
        let lanes = self.accounts.len() as u64;
        let (share, rest) = (count / lanes, count % lanes);
        let first = self.limit() % lanes;
        (0..lanes).map(move |nth| (((first + nth) % lanes) as usize, share + u64::from(nth < rest)))
    }

    /// Makes `count` tokens. By that [`used`](Self::used) is too small meanwhile, never too large.
    pub(crate) fn raise(&self, count: u64) {
        if planted!("limit-before-tokens") {
            self.limit.fetch_add(count, Ordering::Release);
            return self.spread(count);
        }
        self.spread(count);
        let relaxed = planted!("relaxed-raise");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
        // Release: pairs with `used`.
        self.limit.fetch_add(count, order);
        self.set_modest();
        // In a new cache each lane has its share, and is rich.
        self.find_rich(NOBODY, 0);
    }

    /// Lowers the limit by `count`; the caller takes as many tokens then, and keeps them for good.
    /// By that [`used`](Self::used) is too small meanwhile, never too large.
    pub(crate) fn lower(&self, count: u64) {
        // AcqRel: so that `used` sees the lower limit before fewer tokens.
        self.limit.fetch_sub(count, Ordering::AcqRel);
        self.set_modest();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn budget(limit: u64, lanes: usize) -> Budget {
        Budget::new(Unit::Session, limit, &Account::of_lanes(lanes))
    }

    #[test]
    fn shares_stay_even_in_small_steps() {
        let budget = budget(10, 4);
        let is_even = || {
            let (share, limit) = (budget.limit() / 4, budget.limit());
            (0..4).all(|at| budget.has(at, share) && !budget.has(at, share + 2))
                && budget.used() == 0
                && limit
                    == 4 * share + (0..4).filter(|&at| budget.has(at, share + 1)).count() as u64
        };
        assert!(is_even());
        for step in [1, 1, 3, 1, 2, 1, 7, 1] {
            budget.raise(step);
            assert!(is_even());
        }
        for step in [1, 2, 1, 1, 5, 1] {
            budget.lower(step);
            for (lane, portion) in budget.portions(step) {
                assert_eq!(budget.take_up_to(lane, portion), portion);
            }
            assert!(is_even());
        }
    }

    #[test]
    fn tokens_are_spread_and_conserved() {
        let budget = budget(10, 4);
        assert_eq!(budget.take_up_to(0, 5), 3);
        assert_eq!(budget.take_up_to(0, 1), 0);
        assert_eq!(budget.used(), 3);
        assert_eq!(budget.gather(0, 100), 7);
        assert_eq!(budget.used(), 10);
        budget.give(2, 10);
        assert_eq!((budget.used(), budget.limit()), (0, 10));
    }

    #[test]
    fn unlimited_is_a_limit_that_nobody_meets() {
        assert_eq!(budget(u64::MAX, 8).limit(), UNLIMITED);
    }
}
