//! Room for sessions: the two budgets of a cache, and what a thread has in its hand of them.

#![forbid(unsafe_code)]

use crate::expiry::capacity::{Budget, SharedAccount, UNLIMITED, Unit};
#[cfg(loom)]
use crate::sync::planted;

/// Places that a lane keeps for its own puts while another one looks for room: two batches of eviction.
const RESERVE: u64 = 32;

/// Places that are drawn from another lane at once.
const MOST_DRAWN: u64 = 64;

/// A number of tokens of each budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) sessions: u64,
    pub(crate) bytes: u64,
}

/// The budgets of a cache.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) sessions: Budget,
    pub(crate) bytes: Budget,
    lanes: u64,
}

/// Tokens that belong to no session: a put's that has reserved them, or a session's that has left.
/// They go back when the hand is dropped.
#[derive(Debug)]
pub(crate) struct Hand<'a> {
    room: &'a Room,
    lane: usize,
    tokens: Tokens,
    #[cfg(loom)]
    is_filled: bool,
}

impl Room {
    pub(crate) fn new(max_sessions: u64, max_bytes: u64, accounts: &[SharedAccount]) -> Self {
        Self {
            sessions: Budget::new(Unit::Session, max_sessions, accounts),
            bytes: Budget::new(Unit::Byte, max_bytes, accounts),
            lanes: accounts.len() as u64,
        }
    }

    /// How many sessions of so many bytes the cache holds, about; `None` if there is no limit.
    pub(crate) fn most(&self, bytes: u64) -> Option<u64> {
        let most = self.sessions.limit().min(self.bytes.limit() / bytes.max(1));
        (most < UNLIMITED / bytes.max(1)).then_some(most)
    }

    /// Whether a lane has so much free, as of now.
    #[inline]
    pub(crate) fn has(&self, lane: usize, tokens: Tokens) -> bool {
        self.sessions.has(lane, tokens.sessions) && self.bytes.has(lane, tokens.bytes)
    }

    /// Whether a lane's share is so large, for sessions of so many bytes, that it need not be
    /// exact: a put then evicts when no lane is known to have room to spare, and does not ask them all.
    ///
    /// What a lane keeps back, [`RESERVE`], is 1.6 % of a share of 2048.
    #[inline]
    pub(crate) fn has_large_shares(&self, bytes: u64) -> bool {
        const LARGE: u64 = 2048;
        self.holds(LARGE * self.lanes, bytes)
    }

    /// How many sessions of so many bytes a put evicts at once, `most` in a large cache: one in 1024, so that threads which do
    /// that side by side leave few places free. In a small one each place counts.
    pub(crate) fn batch(&self, bytes: u64, most: usize) -> usize {
        const PART: u64 = 1024;
        self.most(bytes).map_or(most, |sessions| (sessions / PART).clamp(1, most as u64) as usize)
    }

    /// Whether so many sessions of so many bytes fit into the cache.
    #[inline]
    fn holds(&self, sessions: u64, bytes: u64) -> bool {
        self.sessions.limit() >= sessions && self.bytes.limit() >= bytes.saturating_mul(sessions)
    }
}

impl<'a> Hand<'a> {
    /// A hand without tokens, of a thread that puts into `lane`.
    #[inline]
    pub(crate) fn empty(room: &'a Room, lane: usize) -> Self {
        Self::holding(room, lane, Tokens::default())
    }

    /// A hand with the tokens of a session of `lane` that has left.
    #[inline]
    pub(crate) fn holding(room: &'a Room, lane: usize, tokens: Tokens) -> Self {
        Self {
            room,
            lane,
            tokens,
            #[cfg(loom)]
            is_filled: false,
        }
    }

    /// Takes what is missing for `wanted` from the lane's free tokens, and from all lanes' if
    /// their shares are small, or else from those that have to spare; `true` when the hand has enough.
    #[inline]
    pub(crate) fn fill(&mut self, wanted: Tokens) -> bool {
        #[cfg(loom)]
        if planted!("room-of-the-first-look") && std::mem::replace(&mut self.is_filled, true) {
            return true;
        }
        if self.tokens == Tokens::default() && self.room.sessions.take(self.lane, wanted.sessions) {
            self.tokens.sessions = wanted.sessions;
            if self.room.bytes.take(self.lane, wanted.bytes) {
                self.tokens.bytes = wanted.bytes;
                return true;
            }
        }
        self.fill_up(wanted)
    }

    /// [`fill`](Self::fill) for a hand that has something, or a lane that has too little.
    #[inline(never)]
    fn fill_up(&mut self, wanted: Tokens) -> bool {
        let missing = self.missing(wanted);
        self.tokens.sessions += self.room.sessions.take_up_to(self.lane, missing.sessions);
        self.tokens.bytes += self.room.bytes.take_up_to(self.lane, missing.bytes);
        if self.missing(wanted) == Tokens::default() {
            return true;
        }
        // Who takes the place of another looks everywhere first: it evicts nobody but for its own growth.
        if wanted.sessions == 0 || !self.room.has_large_shares(wanted.bytes) {
            return self.gather(wanted);
        }
        self.draw(wanted)
    }

    /// Takes what is missing for `wanted` from lanes that have room to spare, and some more, which goes to the own lane with
    /// the hand's drop. Threads that only take give room to those that put, and so does who empties the cache.
    fn draw(&mut self, wanted: Tokens) -> bool {
        let missing = self.missing(wanted);
        self.tokens.sessions += self.draw_from(&self.room.sessions, missing.sessions, 1);
        self.tokens.bytes += self.draw_from(&self.room.bytes, missing.bytes, wanted.bytes);
        self.missing(wanted) == Tokens::default()
    }

    /// [`draw`](Self::draw) of one budget: from a lane that is known to have much, or from another one, a different one
    /// each time.
    fn draw_from(&self, budget: &Budget, missing: u64, one: u64) -> u64 {
        let draw = |lane| budget.draw(lane, missing, RESERVE * one, MOST_DRAWN * one);
        while let Some(rich) = budget.rich().filter(|_| missing > 0) {
            let drawn = draw(rich);
            if drawn > 0 {
                return drawn;
            }
            budget.find_rich(rich, RESERVE * one + missing);
            if budget.rich() == Some(rich) {
                break;
            }
        }
        budget.another(self.lane).map_or(0, draw)
    }

    /// Takes what is missing for `wanted` from all lanes; `true` when the hand has enough.
    #[cold]
    pub(crate) fn gather(&mut self, wanted: Tokens) -> bool {
        let missing = self.missing(wanted);
        self.tokens.sessions += self.room.sessions.gather(self.lane, missing.sessions);
        self.tokens.bytes += self.room.bytes.gather(self.lane, missing.bytes);
        self.missing(wanted) == Tokens::default()
    }

    /// What the hand lacks of `wanted`.
    #[inline]
    pub(crate) fn missing(&self, wanted: Tokens) -> Tokens {
        Tokens {
            sessions: wanted.sessions.saturating_sub(self.tokens.sessions),
            bytes: wanted.bytes.saturating_sub(self.tokens.bytes),
        }
    }

    /// The lane of the put, or of the session that has left.
    pub(crate) fn lane(&self) -> usize {
        self.lane
    }

    /// Gives tokens to a session; the hand has them.
    #[inline]
    pub(crate) fn spend(&mut self, tokens: Tokens) {
        #[cfg(loom)]
        if planted!("room-of-the-first-look") {
            self.tokens = Tokens::default();
            return;
        }
        self.tokens.sessions -= tokens.sessions;
        self.tokens.bytes -= tokens.bytes;
    }
}

impl Drop for Hand<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.tokens == Tokens::default() {
            return;
        }
        self.room.sessions.give(self.lane, self.tokens.sessions);
        self.room.bytes.give(self.lane, self.tokens.bytes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::expiry::capacity::Account;

    fn room(max_sessions: u64, max_bytes: u64, lanes: usize) -> Room {
        Room::new(max_sessions, max_bytes, &Account::of_lanes(lanes))
    }

    #[test]
    fn a_put_evicts_few_at_once_of_few() {
        for (limit, batch) in [(1, 1), (1_024, 1), (2_047, 1), (4_096, 4), (20_000, 16)] {
            assert_eq!(room(limit, UNLIMITED, 1).batch(100, 16), batch, "{limit}");
            assert_eq!(room(UNLIMITED, limit * 100, 1).batch(100, 16), batch, "{limit}");
        }
        assert_eq!(room(UNLIMITED, UNLIMITED, 1).batch(100, 16), 16);
    }

    #[test]
    fn a_cache_holds_what_the_limit_allows_that_is_met_first() {
        assert_eq!(room(8_000, UNLIMITED, 8).most(200), Some(8_000));
        assert_eq!(room(UNLIMITED, 160_000, 4).most(200), Some(800));
        assert_eq!(room(8_000, 160_000, 8).most(200), Some(800));
        assert_eq!(room(UNLIMITED, UNLIMITED, 8).most(200), None);
        assert_eq!(room(8_000, UNLIMITED, 8).most(0), Some(8_000));
    }

    /// Takes as many places as are found from this lane, and returns how many.
    fn fill(room: &Room, lane: usize, one: Tokens) -> u64 {
        let is_stored = |_: &u64| {
            let mut hand = Hand::empty(room, lane);
            let is_filled = hand.fill(one);
            if is_filled {
                hand.spend(one);
            }
            is_filled
        };
        (0..).take_while(is_stored).count() as u64
    }

    #[test]
    fn a_put_draws_from_the_lane_that_others_have_emptied_the_cache_from() {
        const LIMIT: u64 = 100_000;
        for (lanes, emptied) in [(2, 1), (16, 9), (64, 63)] {
            let (room, one) = (room(LIMIT, UNLIMITED, lanes), Tokens { sessions: 1, bytes: 100 });
            assert_eq!(room.sessions.gather(0, LIMIT), LIMIT);
            // A sweep of one thread gives all that was there, in its batches.
            (0..LIMIT / 100).for_each(|_| room.sessions.give(emptied, 100));
            let puts = fill(&room, 0, one);
            assert!(puts >= LIMIT - 2 * RESERVE, "{puts} of {lanes} lanes");
        }
    }

    /// A lane that has more than is modest, and less than one may draw from.
    #[test]
    fn a_lane_that_can_give_nothing_hides_none_that_can() {
        const BYTES: u64 = 64 << 20;
        let (room, one) = (room(UNLIMITED, BYTES, 8), Tokens { sessions: 1, bytes: 4_050 });
        let puts = fill(&room, 1, one);
        assert!(puts >= BYTES / 4_050 - 8 * (RESERVE + 1), "{puts} of {}", BYTES / 4_050);
    }

    #[test]
    fn a_put_draws_from_lanes_that_have_room_to_spare() {
        const LIMIT: u64 = 4 * 2048;
        let (room, one) = (room(LIMIT, UNLIMITED, 4), Tokens { sessions: 1, bytes: 100 });
        let puts = fill(&room, 1, one);
        assert_eq!(room.sessions.used(), puts);
        assert!(puts >= LIMIT - 3 * RESERVE, "{puts} of {LIMIT}");
        assert!((0..4).filter(|&lane| lane != 1).all(|lane| room.sessions.has(lane, RESERVE / 2)));
        // Who looks everywhere finds them.
        let mut hand = Hand::empty(&room, 1);
        assert!(hand.gather(Tokens { sessions: LIMIT - puts, bytes: 0 }));
        assert_eq!(room.sessions.used(), LIMIT);
    }
}
