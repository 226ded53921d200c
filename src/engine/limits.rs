//! Making room: eviction on behalf of a put, and changes of the limits.

#![forbid(unsafe_code)]

use std::cell::Cell;
#[cfg(not(shuttle))]
use std::thread::yield_now;

use super::Engine;
use crate::dispatch::{contained, hold};
use crate::expiry::Due;
use crate::expiry::capacity::{Budget, UNLIMITED};
use crate::lanes::{BATCH, Wanted};
use crate::outcome::Refusal;
use crate::reclaim::panics::Panics;
use crate::room::{Hand, Tokens};
#[cfg(shuttle)]
use crate::sync::yield_now;
use crate::table::{Name, NewNode};

/// How often a put looks for room before it is refused. A thread that takes or removes a session
/// has its place for a few instructions more; it is let finish, and not waited for. Once more under
/// loom, where each attempt multiplies the executions.
const ATTEMPTS: usize = if cfg!(loom) { 1 } else { 32 };

/// Looks at what is due, in one put that needs room, at which nothing left. A look is at a few hints.
const LOOKS_IN_VAIN: usize = 16;

/// One of the two limits of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Sessions,
    Bytes,
}

/// How a put has looked for room so far.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// So often there was nothing to be had.
    attempts: usize,
    /// So often nothing had left of what was due.
    in_vain: usize,
}

impl<S: Send + Sync + 'static> Engine<S> {
    /// [`make_room`](Self::make_room) for a node of this `charge`, which comes back.
    ///
    /// Inside the gate, where a callback may wait for this very put: callbacks are held off in the drops of what
    /// leaves. Here, and not in each put, for those that need no room drop nothing there.
    #[cold]
    pub(super) fn make_room_for(
        &self,
        node: NewNode<S>,
        looks: &mut Looks,
        hand: &mut Hand<'_>,
        tokens: Tokens,
        charge: u64,
    ) -> Result<NewNode<S>, (Refusal, NewNode<S>)> {
        let _held = hold();
        // Declared later, and so dropped under it, if a payload's drop panics.
        let node = node;
        let name = node.node().name();
        let mut make_room = || self.make_room(looks, hand, tokens, (&name, charge));
        let made = if Due::load(node.node().expiry()).is_provisional() {
            // An external cache has given it, to a take maybe, and has it no more: it must not be lost by the panic
            // of another payload, which is gone then, and has made room.
            contained(make_room).unwrap_or(Ok(()))
        } else {
            make_room()
        };
        match made {
            Ok(()) => Ok(node),
            Err(refusal) => Err((refusal, node)),
        }
    }

    /// Makes some room for a put whose hand lacks of `wanted`: of what comes first in the order of eviction. The put
    /// then looks again what it wants: a session of its name that has come meanwhile has room, which becomes its own.
    ///
    /// Lock-free: a put comes again only after this has taken due hints off the wheel, or if others have taken
    /// what was freed or what it met, which is progress of theirs. It refuses when nothing can be evicted and nothing is free, several times over: then
    /// every place belongs to a put in flight, or to a removal between its two steps.
    /// Spares the session of `name`, the put's own: a larger payload in its place must not begin
    /// with its eviction.
    fn make_room(
        &self,
        looks: &mut Looks,
        hand: &mut Hand<'_>,
        tokens: Tokens,
        (name, charge): (&Name, u64),
    ) -> Result<(), Refusal> {
        // The limit may have been lowered since the put began: then nobody has to leave for it.
        if charge > self.room.bytes.limit() {
            return Err(Refusal::TooLarge);
        }
        if tokens.sessions > self.room.sessions.limit() {
            return Err(Refusal::Full);
        }
        let own = hand.lane();
        // What is expired goes before what is not, also if eviction has spared it for its use. Where all that
        // is due was extended, one put does not look at all of it.
        if looks.in_vain < LOOKS_IN_VAIN
            && let Some(left) = self.expire_some(own, self.clock.now())
        {
            looks.in_vain += usize::from(left == 0);
            return Ok(());
        }
        // By what a session takes, not by how much more than the one whose place it gets.
        let batch = self.room.batch(charge, BATCH);
        let wanted = Wanted { sessions: batch, weight: self.weight_of(batch as u64, tokens.bytes) };
        let (missing, met_room) = (hand.missing(tokens), Cell::new(false));
        let has_room = |anywhere| {
            let others = if anywhere { self.lanes.count() } else { 0 };
            let has = |at| self.room.has(at, missing);
            met_room.set(met_room.get() || has(own) || (0..others).any(has));
            met_room.get()
        };
        let evicted = self.evict(own, wanted, name, has_room);
        if evicted > 0 || hand.gather(tokens) || met_room.get() {
            return Ok(());
        }
        // It goes through the tables: hence at first, and once more before the put is refused.
        if matches!(looks.attempts, 0 | ATTEMPTS) && self.evict_any(own, name) {
            return Ok(());
        }
        if looks.attempts == ATTEMPTS {
            return Err(Refusal::Full);
        }
        looks.attempts += 1;
        yield_now();
        Ok(())
    }

    /// The weight that is enough to evict for `count` sessions of so many bytes: any, if bytes are
    /// not limited.
    fn weight_of(&self, count: u64, bytes: u64) -> u64 {
        if self.room.bytes.limit() >= UNLIMITED { u64::MAX } else { (count * bytes).max(1) }
    }

    /// Evicts what is wanted, or less if there is room before; the room is given to this lane. Where so many leave that
    /// the stale hints of others become too many for the rest, it looks at hints, too, in up to three batches for sixteen
    /// that have left, and one at least.
    fn evict(
        &self,
        own: usize,
        wanted: Wanted,
        spare: &Name,
        has_room: impl Fn(bool) -> bool,
    ) -> usize {
        let now = self.clock.now();
        let departed = self.lanes.evict(own, &self.shards, now, wanted, spare, has_room);
        let evicted = self.leave(own, departed);
        let mut batches = (3 * evicted).div_ceil(BATCH);
        while batches > 0 && self.compact(own, now) {
            batches -= 1;
        }
        evicted
    }

    /// Evicts one session, wherever it is found; `false` if there is none.
    fn evict_any(&self, own: usize, spare: &Name) -> bool {
        // Cells stay when sessions leave: there may be millions to go through, and nothing behind them. A session is
        // counted before it is linked.
        self.lanes.counts().live() > 0
            && (0..self.shards.len())
                .any(|at| self.leave(own, self.shards[at].evict_any(at, spare)) > 0)
    }

    /// A limit; `None` if there is none.
    pub(crate) fn limit(&self, which: Limit) -> Option<u64> {
        Some(self.budget(which).limit()).filter(|&limit| limit < UNLIMITED)
    }

    fn budget(&self, which: Limit) -> &Budget {
        match which {
            Limit::Sessions => &self.room.sessions,
            Limit::Bytes => &self.room.bytes,
        }
    }

    /// Changes a limit, and evicts until it is obeyed. Changes exclude each other by the caller's
    /// lock; everything else goes on meanwhile.
    ///
    /// Waits only while every place that has to go belongs to an operation in flight.
    pub(crate) fn set_limit(&self, which: Limit, limit: u64) {
        let budget = self.budget(which);
        let (old, new) = (budget.limit(), limit.min(UNLIMITED));
        match new.checked_sub(old) {
            Some(more) => budget.raise(more),
            None => self.lower(budget, old - new),
        }
    }

    fn lower(&self, budget: &Budget, count: u64) {
        budget.lower(count);
        let (portions, mut left) = (budget.portions(count), count);
        // Evenly, so that the shares stay equal; then what those have that have more.
        for (lane, portion) in portions {
            left -= budget.take_up_to(lane, portion);
        }
        left -= budget.gather(0, left);
        let (mut panics, own, mut in_vain) = (Panics::default(), self.lanes.mine(), 0_usize);
        while left > 0 {
            // A payload's drop that panics does so when the limit is obeyed: what is not taken away
            // here stays, and with it as many sessions too many. The last resort goes through the tables: not each time.
            let goes_through = in_vain.is_multiple_of(ATTEMPTS);
            let evicted = panics.catch(|| self.evict_one(own, goes_through));
            left -= budget.gather(own, left);
            in_vain = if evicted == Some(false) { in_vain + 1 } else { 0 };
            if in_vain > 0 {
                yield_now();
            }
        }
        panics.resume();
    }

    /// Evicts a session, if there is one with a hint, or with none.
    fn evict_one(&self, own: usize, goes_through: bool) -> bool {
        let one = Wanted { sessions: 1, weight: u64::MAX };
        self.evict(own, one, &Name::NOBODY, |_| false) > 0
            || goes_through && self.evict_any(own, &Name::NOBODY)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::shard::BATCHES;
    use crate::{Put, Scope, SessionCache, SessionId};

    fn id(number: u64) -> SessionId {
        SessionId::try_from(&number.to_le_bytes()[..]).expect("eight bytes")
    }

    /// The cells of many sessions stay.
    #[test]
    fn nobody_goes_through_a_table_without_sessions() {
        let builder = SessionCache::builder().max_sessions(100_000).without_ticker();
        let cache = builder.build().expect("sane settings");
        let web = cache.scope(&Scope::new("web"));
        (0..100_000).for_each(|number| drop(web.put(&id(number), number)));
        cache.set_max_sessions(0);
        assert!(matches!(web.put(&id(0), 0), Put::Refused(Refusal::Full, 0)));
        // Whose place may be another lane's.
        cache.set_max_sessions(1);
        assert!(web.put(&id(0), 0).is_stored());
        assert_eq!((cache.len(), BATCHES.get()), (1, 0));
    }
}
