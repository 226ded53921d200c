//! Making room: eviction on behalf of a put, and changes of the limits.

#![forbid(unsafe_code)]

use super::Engine;
use crate::expiry::capacity::{Budget, UNLIMITED};
use crate::outcome::Refusal;
use crate::room::{Hand, Tokens};
use crate::shard::BATCH;

/// How often a put looks for room before it is refused. A thread that takes or removes a session
/// has its place for a few instructions more; it is let finish, and not waited for.
const ATTEMPTS: usize = 32;

/// One of the two limits of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Sessions,
    Bytes,
}

impl<S: Send + Sync + 'static> Engine<S> {
    /// Evicts until the hand holds `wanted`, first from its own shard, then from the others.
    ///
    /// Lock-free: it goes around only if others have taken what was freed, which is progress of
    /// theirs. It refuses when nothing can be evicted and nothing is free, several times over: then
    /// every place belongs to a put in flight, or to a removal between its two steps.
    #[cold]
    pub(super) fn make_room(
        &self,
        hand: &mut Hand<'_>,
        wanted: Tokens,
        now: u64,
    ) -> Result<(), Refusal> {
        let batch = if self.room.has_large_shares() { BATCH } else { 1 };
        let own = hand.shard();
        let mut attempts = 0;
        while !hand.fill(wanted) {
            if self.evict(own, now, batch) > 0 || hand.gather(wanted) {
                continue;
            }
            let shards = self.shards.len();
            let others = (1..shards).map(|step| (own + step) % shards);
            let evicted = others.clone().any(|other| self.evict(other, now, batch) > 0)
                || (0..shards).any(|shard| self.evict_any(shard) > 0);
            if evicted || hand.gather(wanted) {
                hand.gather(wanted);
                continue;
            }
            if attempts == ATTEMPTS {
                return Err(Refusal::Full);
            }
            attempts += 1;
            std::thread::yield_now();
        }
        Ok(())
    }

    fn evict(&self, shard: usize, now: u64, most: usize) -> usize {
        self.leave(shard, self.shards[shard].evict(now, most))
    }

    fn evict_any(&self, shard: usize) -> usize {
        self.leave(shard, self.shards[shard].evict_any())
    }

    /// Changes a limit, and evicts until it is obeyed. Changes exclude each other by the caller's
    /// lock; everything else goes on meanwhile.
    ///
    /// Waits only while every place that has to go belongs to a put in flight.
    pub(crate) fn set_limit(&self, which: Limit, limit: u64) {
        let budget = match which {
            Limit::Sessions => &self.room.sessions,
            Limit::Bytes => &self.room.bytes,
        };
        let (old, new) = (budget.limit(), limit.min(UNLIMITED));
        match new.checked_sub(old) {
            Some(more) => budget.raise(more),
            None => self.lower(budget, old - new),
        }
    }

    fn lower(&self, budget: &Budget, count: u64) {
        let shards = self.shards.len();
        let absorb = |taken: u64| {
            budget.lowered(taken);
            taken
        };
        let mut left = count;
        // Evenly, so that the shares stay equal; then what the fuller shards have.
        for shard in 0..shards {
            let share = (count / shards as u64 + 1).min(left);
            left -= absorb(budget.take_up_to(shard, share));
        }
        left -= absorb(budget.gather(0, left));
        while left > 0 {
            let now = self.clock.now();
            let evicted: usize = (0..shards).map(|shard| self.evict(shard, now, 1)).sum();
            if evicted == 0 && (0..shards).all(|shard| self.evict_any(shard) == 0) {
                std::thread::yield_now();
            }
            left -= absorb(budget.gather(0, left));
        }
    }
}
