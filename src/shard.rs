//! A shard: a table, the wheel that orders its sessions, and their count.
//!
//! The table and the wheel do not know each other. This is where a hint is turned into a session,
//! and where sessions leave because of time or of room. Nothing here runs user code: what has left
//! is returned to the engine, which accounts for it once no pin is held.

#![forbid(unsafe_code)]

use std::fmt;

use crate::expiry::{Age, Due, Hint, List, Unpushed, Wheel};
use crate::reclaim::gauge::Gauges;
use crate::reclaim::{Guard, pin};
use crate::stats::Reason;
use crate::sync::{AtomicU64, Ordering};
use crate::table::{Node, Pinned, Table, Unlinked};

/// Sessions that eviction spares before it takes the next one, used or not.
const MOST_SPARED: usize = 64;

/// Hints looked at under one pin, and prefetched together.
pub(crate) const BATCH: usize = if cfg!(loom) { 1 } else { 16 };

/// Stale hints that are let be, beside as many as there are sessions twice over.
const SLACK: u64 = if cfg!(loom) { 0 } else { 64 };

/// A shard.
pub(crate) struct Shard<S> {
    pub(crate) table: Table<S>,
    pub(crate) wheel: Wheel,
    live: AtomicU64,
    gauges: &'static Gauges,
}

/// Sessions that have left a shard, and why; to be accounted for outside every pin.
pub(crate) struct Departed<S>(Vec<(Unlinked<S>, Reason)>);

/// What a look at a hint has come to.
enum Look<S> {
    /// The hint led nowhere, or its session was just removed by another thread.
    Stale,
    Left(Unlinked<S>, Reason),
    /// The session stays; its hint belongs to `due`.
    Stays {
        due: u64,
        age: Age,
    },
}

impl<S> Shard<S> {
    pub(crate) fn new(now: u64, gauges: &'static Gauges) -> Self {
        Self { table: Table::new(gauges), wheel: Wheel::new(now), live: AtomicU64::new(0), gauges }
    }

    /// How many sessions there are, about.
    #[inline]
    pub(crate) fn live(&self) -> u64 {
        // Relaxed: a count, which a removal may lower before its put has raised it.
        self.live.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }

    /// Counts a session that was linked, and adds cells when there are more sessions than cells.
    #[inline]
    pub(crate) fn entered(&self) {
        // Relaxed: as above.
        self.live.fetch_add(1, Ordering::Relaxed);
        let cells = self.table.cells();
        if self.live() > cells as u64 {
            self.table.grow(cells);
        }
    }

    /// Counts a session that has left.
    #[inline]
    pub(crate) fn left(&self) {
        // Relaxed: as above.
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Files a hint of a linked session under the caller's pin, or returns it.
    #[inline]
    pub(crate) fn try_file(
        &self,
        node: Pinned<'_, S>,
        now: u64,
        guard: &Guard,
    ) -> Result<(), (Hint, u64)> {
        let hint = Hint::new(node.node().key(), node.stamp());
        let due = Due::load(node.node().expiry()).at();
        self.wheel.try_push(hint, due, now, Age::Fresh, guard).map_err(|Unpushed| (hint, due))
    }

    /// Removes up to `most` sessions that come first in the order of eviction.
    pub(crate) fn evict(&self, now: u64, most: usize) -> Departed<S> {
        let mut departed = Departed::with_capacity(most);
        let mut spared = 0;
        while departed.0.len() < most {
            let Some(list) = self.wheel.earliest() else { break };
            let steps = most - departed.0.len();
            self.each_hint(list, steps, now, |node| {
                departed.keep(self.look_to_evict(list, node, now, &mut spared))
            });
        }
        departed
    }

    /// Removes one session without a hint to lead to it: a thread that was stopped has them, or
    /// their puts are not done. Only a cache with more threads than sessions gets here.
    pub(crate) fn evict_any(&self) -> Departed<S> {
        let mut departed = Departed::with_capacity(1);
        let guard = pin();
        let mut from = Some(0);
        while let Some(key) = from.filter(|_| departed.0.is_empty()) {
            from = self.table.batch(key, 1, &guard, |node| {
                if departed.0.is_empty()
                    && let Some(unlinked) = self.table.remove(node)
                {
                    departed.0.push((unlinked, Reason::Evicted));
                }
            });
        }
        departed
    }

    /// Removes what is due at `now`; looks at up to `most` hints. `false` when nothing is due.
    pub(crate) fn expire(&self, now: u64, most: usize, departed: &mut Departed<S>) -> bool {
        let Some(list) = self.wheel.due(now) else { return false };
        departed.0.reserve(most);
        self.each_hint(list, most, now, |node| departed.keep(self.look_to_expire(node, now)));
        true
    }

    /// Whether so many hints are stale that it is time to look at some.
    #[inline]
    pub(crate) fn has_too_many_hints(&self) -> bool {
        self.wheel.hints() > 2 * self.live() + SLACK
    }

    /// Looks at a batch of hints, and drops the stale ones.
    pub(crate) fn compact(&self, now: u64, departed: &mut Departed<S>) {
        departed.0.reserve(BATCH);
        let mut pending = None;
        {
            let guard = pin();
            let Some((list, steps)) = self.wheel.compact(BATCH as u64, &guard) else { return };
            self.prefetch(list, BATCH, &guard);
            for _ in 0..steps {
                let Some(hint) = self.wheel.pop(list, &guard, self.gauges) else { break };
                let Some(node) = self.node_of(hint, &guard) else { continue };
                // An extended session stays in its early list: it is filed again when that is due.
                let Look::Stays { .. } = departed.keep(self.look_to_expire(node, now)) else {
                    continue;
                };
                if self.wheel.try_push_to(list, hint, &guard).is_err() {
                    pending = Some((list, hint));
                    break;
                }
            }
        }
        if let Some((list, hint)) = pending {
            self.wheel.push_to(list, hint);
        }
    }

    /// Pops hints of `list`, up to `steps`, and shows `look` the sessions that they lead to, under a
    /// pin. Files again what stays. Ends early where that takes an allocation.
    fn each_hint(
        &self,
        list: List,
        steps: usize,
        now: u64,
        mut look: impl FnMut(Pinned<'_, S>) -> Look<S>,
    ) {
        let mut pending = None;
        {
            let guard = pin();
            self.prefetch(list, steps, &guard);
            for _ in 0..steps {
                let Some(hint) = self.wheel.pop(list, &guard, self.gauges) else { break };
                let Some(node) = self.node_of(hint, &guard) else { continue };
                let Look::Stays { due, age } = look(node) else { continue };
                if self.wheel.try_push(hint, due, now, age, &guard).is_err() {
                    pending = Some((hint, due, age));
                    break;
                }
            }
        }
        if let Some((hint, due, age)) = pending {
            self.wheel.push(hint, due, now, age);
        }
    }

    /// The session that a hint leads to.
    #[inline]
    fn node_of<'g>(&'g self, hint: Hint, guard: &'g Guard) -> Option<Pinned<'g, S>> {
        self.table.get_stamped(hint.prefix(), |stamp| hint.is_of(stamp), guard)
    }

    fn look_to_evict(
        &self,
        list: List,
        node: Pinned<'_, S>,
        now: u64,
        spared: &mut usize,
    ) -> Look<S> {
        let expiry = node.node().expiry();
        if Due::decide(expiry, now) {
            return self.removed(node, Reason::Expired);
        }
        let due = Due::load(expiry).at();
        if *spared < MOST_SPARED {
            *spared += 1;
            if self.wheel.is_early(list, due, now) {
                return Look::Stays { due, age: Age::Fresh };
            }
            if node.node().clear_visit() {
                return Look::Stays { due, age: Age::Kept };
            }
            *spared -= 1;
        }
        self.removed(node, Reason::Evicted)
    }

    fn look_to_expire(&self, node: Pinned<'_, S>, now: u64) -> Look<S> {
        let expiry = node.node().expiry();
        if Due::decide(expiry, now) {
            return self.removed(node, Reason::Expired);
        }
        Look::Stays { due: Due::load(expiry).at(), age: Age::Fresh }
    }

    fn removed(&self, node: Pinned<'_, S>, reason: Reason) -> Look<S> {
        self.table.remove(node).map_or(Look::Stale, |unlinked| Look::Left(unlinked, reason))
    }

    /// Asks the processor for what the next hints of a list lead to: first for all their cells,
    /// then for the nodes behind them. The waits for memory overlap, which halves the cost of a put
    /// in a large cache.
    fn prefetch(&self, list: List, most: usize, guard: &Guard) {
        let mut hints = [Hint::new(0, 0); BATCH];
        let count = self.wheel.peek(list, &mut hints[..most.min(BATCH)], guard);
        for hint in &hints[..count] {
            self.table.prefetch_cell(hint.prefix());
        }
        for hint in &hints[..count] {
            self.table.prefetch_node(hint.prefix());
        }
    }
}

impl<S> Departed<S> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn push(&mut self, unlinked: Unlinked<S>, reason: Reason) {
        self.0.push((unlinked, reason));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps the session if it has left.
    fn keep(&mut self, look: Look<S>) -> Look<S> {
        match look {
            Look::Left(unlinked, reason) => {
                self.0.push((unlinked, reason));
                Look::Stale
            }
            other => other,
        }
    }
}

impl<S> IntoIterator for Departed<S> {
    type Item = (Unlinked<S>, Reason);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<S> fmt::Debug for Shard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("live", &self.live())
            .field("hints", &self.wheel.hints())
            .field("node_bytes", &Node::<S>::SIZE)
            .finish_non_exhaustive()
    }
}
