//! Sweeps: flush, expiry on demand, the drop of a scope, close; and walks with handles.
//!
//! A sweep goes through each shard in the order of keys, in batches of bounded work under one pin
//! each; growth does not disturb it. It meets every session that is there from its beginning to its
//! end, and no session twice.

#![forbid(unsafe_code)]

use super::Engine;
use crate::expiry::{Due, Standing};
use crate::lanes::BATCH;
use crate::reclaim::panics::Panics;
use crate::reclaim::{flush, pin, reap};
use crate::scope::Entry as ScopeEntry;
use crate::session::Session;
use crate::shard::{Departed, PER_PIN, reason_of};
use crate::stats::Reason;
use crate::sync::planted;
use crate::table::Node;

/// Where a walk is: a shard, and the key to go on from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    shard: usize,
    key: u64,
}

/// Where a tick is: a lane, and how many steps it may do there still, if it has begun.
#[derive(Debug, Default)]
pub(crate) struct Tick {
    lane: usize,
    left: Option<u64>,
}

impl<S: Send + Sync + 'static> Engine<S> {
    /// Removes every session; returns how many.
    pub(crate) fn flush(&self) -> usize {
        self.sweep(Reason::Flushed, |_| true)
    }

    /// Removes every session that is expired now; returns how many.
    pub(crate) fn flush_expired(&self) -> usize {
        let now = self.clock.now();
        self.sweep(Reason::Expired, |node| {
            let standing = Due::standing(node.expiry(), now);
            standing == Standing::Expired
                || standing == Standing::Unseen && planted!("swept-though-unseen")
        })
    }

    /// Removes what is left of a slot that no scope has any more; returns how many.
    pub(crate) fn drop_slot(&self, slot: u32) -> usize {
        self.gate.settle();
        self.sweep(Reason::ScopeDropped, |node| node.scope() == slot)
    }

    /// Refuses puts from now on, waits for those that have begun, and removes every session.
    pub(crate) fn close(&self) {
        if planted!("swept-before-closed") {
            self.sweep(Reason::Closed, |_| true);
            return self.gate.close();
        }
        self.gate.close();
        self.sweep(Reason::Closed, |_| true);
    }

    /// When it returns, the leaving of all that was there at its beginning and is meant is announced, if it is told, whoever has
    /// removed it.
    fn sweep(&self, reason: Reason, is_meant: impl Fn(&Node<S>) -> bool) -> usize {
        let mut count = 0;
        // Nobody comes again for what a payload's panic would leave behind.
        let (mut panics, own) = (Panics::default(), self.lanes.mine());
        for (at, shard) in self.shards.iter().enumerate() {
            let mut from = Some(0);
            while let Some(key) = from {
                let mut departed = Departed::with_capacity(PER_PIN);
                departed.note_told(at, shard);
                let guard = pin();
                from = shard.table.batch(key, PER_PIN, &guard, |node| {
                    if !is_meant(node.node()) {
                        return;
                    }
                    shard.before_removal(node.node());
                    let tell = shard.tell(node.node(), reason);
                    let Some(unlinked) = shard.table.remove(node.into(), tell) else {
                        // Who has removed it may have been stopped before it announced that.
                        shard.table.announce_left(node);
                        return;
                    };
                    shard.after_removal(&node.node().name());
                    let reason = reason_of(unlinked.node(), reason);
                    departed.push(unlinked, reason);
                });
                drop(guard);
                count += departed.sessions.len();
                panics.catch(|| self.leave(own, departed));
                self.deliver(at);
            }
        }
        // What has left has left its hints: one round over them is enough. A step looks at those of one
        // list, which may be a single one.
        let compact = || {
            // What was dropped in other lanes is counted there.
            self.lanes.look_around(own);
            self.compact(own, self.clock.now())
        };
        let mut steps = self.lanes.counts().hints();
        while steps > 0 && panics.catch(compact) != Some(false) {
            steps -= 1;
        }
        self.deliver_all();
        flush();
        panics.resume();
        count
    }

    /// Removes the sessions, of one scope or of all, that `keep` does not want; returns how many.
    pub(crate) fn retain(
        &self,
        scope: Option<&ScopeEntry>,
        mut keep: impl FnMut(&Session<S>) -> bool,
    ) -> usize {
        let (mut count, mut panics) = (0, Panics::default());
        let mut cursor = Some(Cursor::default());
        while let Some((sessions, next)) = cursor.and_then(|cursor| self.walk(cursor, scope)) {
            cursor = Some(next);
            for session in sessions.iter().filter(|session| !self.is_expired(session)) {
                // With the last handles of others in hand, whose drops may panic, too.
                let Some(is_kept) = panics.catch(|| keep(session)) else {
                    cursor = None;
                    break;
                };
                if !is_kept {
                    let removed = panics.catch(|| self.remove_session(session, Reason::Removed));
                    // If that panicked, it was with what it looked at after the removal.
                    count += usize::from(removed.unwrap_or(true));
                }
            }
            panics.drop_all(sessions);
        }
        panics.resume();
        count
    }

    /// Removes this very session, not another one of its id. It has been in the table: one that never
    /// was ([`hand_out`](Self::hand_out)) has no reference of the table's to give back.
    pub(super) fn remove_session(&self, session: &Session<S>, reason: Reason) -> bool {
        let name = session.node().node().name();
        let at = self.shard_of(&name);
        let _delivery = self.delivery(at);
        let guard = pin();
        let (shard, found) = (&self.shards[at], session.node().pinned(&guard).into());
        shard.before_removal(session.node().node());
        let tell = shard.tell(session.node().node(), reason);
        let unlinked = shard.table.remove(found, tell);
        drop(guard);
        let Some(unlinked) = unlinked else { return false };
        shard.after_removal(&name);
        let reason = reason_of(unlinked.node(), reason);
        drop(self.left(self.lanes.mine(), unlinked, reason));
        self.compact_after();
        true
    }

    /// Whether the session is expired by now.
    pub(crate) fn is_expired(&self, session: &Session<S>) -> bool {
        Due::load(session.node().node().expiry()).is_past(self.clock.now())
    }

    /// Handles of the next sessions, of one scope or of all, and where to go on; `None` at the end. Expired
    /// ones are left out.
    pub(crate) fn walk(
        &self,
        cursor: Cursor,
        scope: Option<&ScopeEntry>,
    ) -> Option<(Vec<Session<S>>, Cursor)> {
        let shard = self.shards.get(cursor.shard)?;
        let now = self.clock.now();
        // As of now: the scope may have been dropped since the walk began.
        let slot = scope.map(ScopeEntry::slot);
        let mut found = Vec::with_capacity(PER_PIN);
        let guard = pin();
        let next = shard.table.batch(cursor.key, PER_PIN, &guard, |node| {
            let is_meant = slot.is_none_or(|slot| node.node().scope() == slot);
            if is_meant && !Due::load(node.node().expiry()).is_past(now) {
                found.extend(node.acquire(self.gauges()));
            }
        });
        drop(guard);
        self.deliver(cursor.shard);
        let next = match next {
            Some(key) => Cursor { key, ..cursor },
            None => Cursor { shard: cursor.shard + 1, key: 0 },
        };
        let sessions = found.into_iter().map(Session::new).collect();
        Some((sessions, next))
    }

    /// What the ticker does: removes what is due, and drops stale hints, in steps of bounded work. Goes
    /// on from where `tick` is until `is_enough`, which is asked after each step, or to the end; `true`
    /// at the end, which comes after about as many hints as there are. Then some of the freed memory that nobody needs
    /// goes back, too.
    pub(crate) fn tick(&self, tick: &mut Tick, is_enough: impl Fn() -> bool) -> bool {
        /// Hints that one step looks at.
        const STEP: usize = 2 * BATCH;
        while tick.lane < self.lanes.count() {
            let at = tick.lane;
            // The threads of this lane may be gone, and nobody else looks for it.
            self.lanes.look_around(at);
            // Counted before, for a payload may panic in its drop.
            let hints = || self.lanes.lane(at).own().hints();
            let left = tick.left.unwrap_or_else(|| hints() / BATCH as u64 + 1);
            tick.left = left.checked_sub(1);
            let now = self.clock.now();
            let departed = self.lanes.expire_in(at, &self.shards, now, STEP);
            let was_due = departed.map(|departed| self.leave(at, departed)).is_some();
            if !self.compact(at, now) && !was_due || left == 0 {
                *tick = Tick { lane: at + 1, left: None };
                self.deliver_all();
            }
            if is_enough() {
                self.deliver_all();
                return false;
            }
        }
        // Puts are refused meanwhile.
        while self.gauges().is_over() && self.free_some() && self.gauges().recount() {
            if is_enough() {
                return false;
            }
        }
        *tick = Tick::default();
        reap();
        true
    }
}
