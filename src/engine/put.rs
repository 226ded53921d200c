//! How a session enters.

#![forbid(unsafe_code)]

use super::limits::Looks;
use super::{Engine, IfPresent, Left};
use crate::clock::millis;
use crate::connection::Connection;
use crate::expiry::{Due, Standing};
use crate::lane::Counts;
use crate::mode::CacheMode;
use crate::outcome::{Put, Refusal};
use crate::reclaim::pin;
use crate::room::{Hand, Tokens};
use crate::scope::{EXHAUSTED, Entry as ScopeEntry};
use crate::session::Session;
use crate::shard::reason_of;
use crate::stats::Reason;
use crate::sync::planted;
use crate::table::{Entry, Name, NewNode, Node, NodeRef, SessionId, Spot, Unlinked};

/// What has come of a node that was stored.
pub(super) struct Stored<'a, S> {
    /// The session that it replaced, if a lookup could still have found that.
    pub(super) replaced: Option<Session<S>>,
    /// The one that it replaced, if not.
    pub(super) gone: Option<Left<'a, S>>,
    /// A reference of the node, if it is unseen and has not left yet, or if it was not linked.
    pub(super) unseen: Option<NodeRef<S>>,
}

impl<S: Send + Sync + 'static> Engine<S> {
    /// Stores a session, or hands it over, as the cache's mode says. Takes the context out of the
    /// connection if somebody is to be told of it.
    pub(crate) fn put(
        &self,
        scope: &ScopeEntry,
        id: &SessionId,
        payload: S,
        connection: &mut Connection,
        if_present: IfPresent,
    ) -> Put<S> {
        // The user's code, before anything is held.
        let weight = self.weigh(&payload);
        let name = self.name(scope, id);
        let at = self.shard_of(&name);
        // Last, when nothing is held any more, also when an old payload's drop panics.
        let _delivery = self.delivery(at);
        let tells = self.shards[at].tells();
        if !tells.has(connection.side) {
            return self.refused(Refusal::SideNotCached, payload);
        }
        let spot = self.shards[at].table.spot_to_write(name.hash);
        let now = self.clock.now();
        // Outside the gate, and while a panic of another payload's drop loses nothing but what is put.
        let own = self.lanes.mine_to_put();
        self.tend(own, now);
        let Some(inside) = self.gate.enter() else {
            return self.refused(Refusal::Closed, payload);
        };
        let weight = match self.admit(at, name.scope, weight) {
            Ok(weight) => weight,
            Err(refusal) => return self.refused(refusal, payload),
        };
        let lifetime = connection.lifetime.map_or_else(|| self.lifetime(), millis);
        let due = Due::new(now, lifetime).to_word();
        let context = if tells.came() { connection.context.take() } else { None };
        let node = match context {
            None => NewNode::new(&name, weight, due, payload, tells.came()),
            Some(context) => NewNode::with_context(&name, weight, due, payload, context),
        };
        spot.prefetch_node::<S>();
        let stored = if tells.has(CacheMode::NO_INTERNAL_STORE) {
            self.hand_over(node, if_present)
        } else {
            self.store(node, (at, own, spot), now, if_present)
        };
        drop(inside);
        if scope.slot() != name.scope && !planted!("no-second-look-at-the-scope") {
            // The scope was dropped meanwhile, and its sweep may have passed (see `gate.rs`).
            self.remove_outdated(&Name { scope: scope.slot(), ..name });
        }
        match stored {
            Ok(Stored { replaced, unseen, gone }) => {
                // Their drops are user code. Not on the way out, where a panic loses what is returned
                // (rust-lang/rust#47949).
                drop((unseen, gone));
                replaced.map_or(Put::Stored, Put::Replaced)
            }
            Err((refusal, node)) => self.refused(refusal, node.into_payload()),
        }
    }

    /// The weight of a payload that may be stored.
    #[inline]
    pub(super) fn admit(&self, at: usize, slot: u32, weight: usize) -> Result<u32, Refusal> {
        if slot == EXHAUSTED {
            return Err(Refusal::ScopesExhausted);
        }
        let weight = u32::try_from(weight).map_err(|_| Refusal::TooLarge)?;
        if Self::charge(weight) > self.room.bytes.limit() {
            return Err(Refusal::TooLarge);
        }
        if self.gauges().is_crowded() && self.is_overcrowded() {
            return Err(Refusal::HeadersWaiting);
        }
        if self.shards[at].tells().anything() && self.has_reached_mark(at) {
            return Err(Refusal::CallbacksWaiting);
        }
        Ok(weight)
    }

    /// Whether as many calls of callbacks wait in a shard as may.
    #[cold]
    fn has_reached_mark(&self, at: usize) -> bool {
        let most = self.dispatch.most_waiting(self.shards.len());
        self.shards[at].table.events().backlog() >= most
    }

    /// Links a node, or puts it in the place of its name's live one. One that is provisional is linked
    /// unseen: it gets no hint, which is for the one who shows it.
    #[inline]
    pub(super) fn store(
        &self,
        mut node: NewNode<S>,
        (at, own, spot): (usize, usize, Spot<'_>),
        mut now: u64,
        if_present: IfPresent,
    ) -> Result<Stored<'_, S>, (Refusal, NewNode<S>)> {
        let charge = Self::charge(node.node().weight());
        let (shard, lane) = (&self.shards[at], self.lanes.lane(own));
        let tells_came = node.tells_came();
        let is_unseen = Due::load(node.node().expiry()).is_provisional();
        let (mut hand, mut looks) = (Hand::empty(&self.room, own), Looks::default());
        loop {
            let guard = pin();
            let entry = self.entry(&shard.table, node.node(), spot, &guard);
            let has_place = Self::follow(&entry, &mut node);
            let wanted = || Self::wanted(&entry, node.node(), now, if_present);
            let Some((wanted, replaced)) = has_place.then(wanted).flatten() else {
                return Err((Refusal::Present, node));
            };
            if !hand.fill(wanted) {
                drop(guard);
                node = self.make_room_for(node, &mut looks, &mut hand, wanted, charge)?;
                now = self.clock.now();
                continue;
            }
            // While the tokens' line is here, and before a removal can be counted.
            let count = Counts::of(matches!(entry, Entry::Vacant(_)), !is_unseen);
            self.lanes.add(own, count);
            let linked = match entry {
                Entry::Vacant(place) => place.insert(node, &guard).map(|new| (new, None)),
                Entry::Occupied(old) => {
                    if replaced == Reason::ScopeDropped && !planted!("dropped-without-mark") {
                        shard.before_removal(old.node());
                    }
                    let tell = shard.tell(old.node(), replaced);
                    old.replace(node, tell).map(|(new, old)| (new, Some(old)))
                }
            };
            let (new, old) = match linked {
                Ok(linked) => linked,
                Err(unlinked) => {
                    node = unlinked;
                    drop(guard);
                    self.lanes.add(own, count.negative());
                    now = self.clock.now();
                    continue;
                }
            };
            hand.spend(wanted);
            if tells_came {
                shard.table.announce(new);
            }
            let unseen = if is_unseen { new.acquire(self.gauges()) } else { None };
            let filed = if is_unseen { Ok(()) } else { lane.try_file(new, now, &guard) };
            drop(guard);
            filed.unwrap_or_else(|unfiled| lane.file_rest(&[unfiled], now, |_| now));
            let (replaced, gone) = self.entered((at, own), old, charge, replaced);
            return Ok(Stored { replaced, gone, unseen });
        }
    }

    /// The room that a new session takes at its place, and why the session there leaves; `None` if that
    /// stays.
    #[inline]
    fn wanted(
        entry: &Entry<'_, S>,
        new: &Node<S>,
        now: u64,
        if_present: IfPresent,
    ) -> Option<(Tokens, Reason)> {
        let charge = Self::charge(new.weight());
        let Entry::Occupied(old) = entry else {
            return Some((Tokens { sessions: 1, bytes: charge }, Reason::Replaced));
        };
        let old = old.node();
        let reason = if old.scope() != new.scope() {
            Reason::ScopeDropped
        } else {
            match Due::standing(old.expiry(), now) {
                Standing::Live => Reason::Replaced,
                Standing::Expired => Reason::Expired,
                // An external cache has given it, and nobody has seen it.
                Standing::Unseen => Reason::Rejected,
            }
        };
        if reason == Reason::Replaced && if_present == IfPresent::Refuse {
            return None;
        }
        // The old session's room becomes the new one's.
        let bytes = charge.saturating_sub(Self::charge(old.weight()));
        Some((Tokens { sessions: 0, bytes }, reason))
    }

    /// A node was linked in shard `at`, by a thread of lane `own`, maybe in the place of `old`, which has left for `reason`. Returns
    /// that as a session, if a lookup could still have found it, or else as what is gone.
    #[inline]
    fn entered(
        &self,
        (at, own): (usize, usize),
        old: Option<Unlinked<S>>,
        charge: u64,
        reason: Reason,
    ) -> (Option<Session<S>>, Option<Left<'_, S>>) {
        let Some(old) = old else {
            // In each of them as many, about. A power of two.
            let bits = self.shards.len().trailing_zeros();
            let live = self.lanes.lane(own).all().live() >> bits;
            self.shards[at].make_cells(live, || Some(self.room.most(charge)? >> bits));
            return (None, None);
        };
        // The new session owns what it was charged; the rest goes back once the old one is gone.
        let rest = Self::charge(old.node().weight()).saturating_sub(charge);
        let refund = Hand::holding(&self.room, own, Tokens { sessions: 0, bytes: rest });
        let reason = reason_of(old.node(), reason);
        self.counters.removal(reason, 1);
        let left = Left { unlinked: old, _refund: refund };
        if reason == Reason::Replaced {
            (Some(self.handle(left)), None)
        } else {
            (None, Some(left))
        }
    }
}
