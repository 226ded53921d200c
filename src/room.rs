//! Room for sessions: the two budgets of a cache, and what a thread has in its hand of them.

#![forbid(unsafe_code)]

use crate::expiry::capacity::{Budget, SharedAccount, UNLIMITED, Unit};
#[cfg(loom)]
use crate::sync::planted;

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
    shards: u64,
}

/// Tokens that belong to no session: a put's that has reserved them, or a session's that has left.
/// They go back when the hand is dropped.
#[derive(Debug)]
pub(crate) struct Hand<'a> {
    room: &'a Room,
    shard: usize,
    tokens: Tokens,
    #[cfg(loom)]
    is_filled: bool,
}

impl Room {
    pub(crate) fn new(max_sessions: u64, max_bytes: u64, accounts: &[SharedAccount]) -> Self {
        Self {
            sessions: Budget::new(Unit::Session, max_sessions, accounts),
            bytes: Budget::new(Unit::Byte, max_bytes, accounts),
            shards: accounts.len() as u64,
        }
    }

    /// How many sessions of so many bytes a shard holds in a full cache, about; `None` if there is no limit.
    pub(crate) fn share(&self, bytes: u64) -> Option<u64> {
        let most = self.sessions.limit().min(self.bytes.limit() / bytes.max(1));
        (most < UNLIMITED / bytes.max(1)).then_some(most / self.shards)
    }

    /// Whether a shard has so much free, as of now.
    #[inline]
    pub(crate) fn has(&self, shard: usize, tokens: Tokens) -> bool {
        self.sessions.has(shard, tokens.sessions) && self.bytes.has(shard, tokens.bytes)
    }

    /// Whether a shard's share is so large, for sessions of so many bytes, that it need not be
    /// exact: a put then evicts from its own shard before it looks for free room in others.
    ///
    /// A share of 2048 is overrun by about 0.4·√2048 sessions when as many distinct ids as fit are
    /// put, 0.9 % of it.
    #[inline]
    pub(crate) fn has_large_shares(&self, bytes: u64) -> bool {
        const LARGE: u64 = 2048;
        self.holds(LARGE * self.shards, bytes)
    }

    /// Whether the cache is so small, for sessions of so many bytes, that each of its places counts: a put then
    /// evicts one session and not a batch.
    pub(crate) fn is_exact(&self, bytes: u64) -> bool {
        const EXACT: u64 = 1024;
        !self.holds(EXACT + 1, bytes)
    }

    /// Whether so many sessions of so many bytes fit into the cache.
    #[inline]
    fn holds(&self, sessions: u64, bytes: u64) -> bool {
        self.sessions.limit() >= sessions && self.bytes.limit() >= bytes.saturating_mul(sessions)
    }
}

impl<'a> Hand<'a> {
    /// A hand without tokens, of a thread that puts into `shard`.
    #[inline]
    pub(crate) fn empty(room: &'a Room, shard: usize) -> Self {
        Self::holding(room, shard, Tokens::default())
    }

    /// A hand with the tokens of a session of `shard` that has left.
    #[inline]
    pub(crate) fn holding(room: &'a Room, shard: usize, tokens: Tokens) -> Self {
        Self {
            room,
            shard,
            tokens,
            #[cfg(loom)]
            is_filled: false,
        }
    }

    /// Takes what is missing for `wanted` from the shard's free tokens, and from all shards' if
    /// their shares are small; `true` when the hand has enough.
    #[inline]
    pub(crate) fn fill(&mut self, wanted: Tokens) -> bool {
        #[cfg(loom)]
        if planted!("room-of-the-first-look") && std::mem::replace(&mut self.is_filled, true) {
            return true;
        }
        if self.tokens == Tokens::default() && self.room.sessions.take(self.shard, wanted.sessions)
        {
            self.tokens.sessions = wanted.sessions;
            if self.room.bytes.take(self.shard, wanted.bytes) {
                self.tokens.bytes = wanted.bytes;
                return true;
            }
        }
        self.fill_up(wanted)
    }

    /// [`fill`](Self::fill) for a hand that has something, or a shard that has too little.
    #[inline(never)]
    fn fill_up(&mut self, wanted: Tokens) -> bool {
        let missing = self.missing(wanted);
        self.tokens.sessions += self.room.sessions.take_up_to(self.shard, missing.sessions);
        self.tokens.bytes += self.room.bytes.take_up_to(self.shard, missing.bytes);
        if self.missing(wanted) == Tokens::default() {
            return true;
        }
        // Who takes the place of another looks everywhere first: it evicts nobody but for its own growth.
        let is_exact = wanted.sessions == 0 || !self.room.has_large_shares(wanted.bytes);
        is_exact && self.gather(wanted)
    }

    /// Takes what is missing for `wanted` from all shards; `true` when the hand has enough.
    #[cold]
    pub(crate) fn gather(&mut self, wanted: Tokens) -> bool {
        let missing = self.missing(wanted);
        self.tokens.sessions += self.room.sessions.gather(self.shard, missing.sessions);
        self.tokens.bytes += self.room.bytes.gather(self.shard, missing.bytes);
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

    /// The shard of the put, or of the session that has left.
    pub(crate) fn shard(&self) -> usize {
        self.shard
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
        self.room.sessions.give(self.shard, self.tokens.sessions);
        self.room.bytes.give(self.shard, self.tokens.bytes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::expiry::capacity::Account;

    fn room(max_sessions: u64, max_bytes: u64, shards: usize) -> Room {
        Room::new(max_sessions, max_bytes, &Account::of_shards(shards))
    }

    #[test]
    fn a_shards_share_is_that_of_the_limit_which_is_met_first() {
        assert_eq!(room(8_000, UNLIMITED, 8).share(200), Some(1_000));
        assert_eq!(room(UNLIMITED, 160_000, 4).share(200), Some(200));
        assert_eq!(room(8_000, 160_000, 8).share(200), Some(100));
        assert_eq!(room(UNLIMITED, UNLIMITED, 8).share(200), None);
        assert_eq!(room(8_000, UNLIMITED, 8).share(0), Some(1_000));
    }
}
