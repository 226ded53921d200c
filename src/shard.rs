//! A shard: a table, the wheel that orders its sessions, and their count.
//!
//! The table and the wheel do not know each other. This is where a hint is turned into a session,
//! and where sessions leave because of time or of room. Nothing here runs user code: what has left
//! is returned to the engine, which accounts for it once no pin is held.

#![forbid(unsafe_code)]

mod tells;

use std::fmt;

pub(crate) use self::tells::{ASKS, CAME, LEFT, Tells};
use crate::expiry::capacity::SharedAccount;
use crate::expiry::{Age, Due, Hint, List, Row, Standing, Unpushed, Wheel};
use crate::flight::Flights;
use crate::mode::CacheMode;
use crate::payload::prefetch_to_drop;
use crate::reclaim::gauge::Gauges;
use crate::reclaim::{Guard, pin};
use crate::stats::Reason;
use crate::sync::tally::AtomicU64;
use crate::sync::{AtomicSetting, Ordering};
use crate::table::{Found, Name, Node, Pinned, Table, Unlinked};

/// Sessions that eviction spares before it takes the next one, used or not.
const MOST_SPARED: usize = 64;

/// Sessions evicted together in a large cache, and hints prefetched together.
pub(crate) const BATCH: usize = if cfg!(loom) { 1 } else { 16 };

/// One session in so many is to be a fresh one, which eviction has not spared yet, before the next fresh one is
/// evicted. With fewer a new session leaves before its client can come back, and with more a flood of new ones
/// costs others theirs; measured in `docs/decisions.md`.
const PROBATION: u64 = 5;

/// Links that a walk of the table follows under one pin.
pub(crate) const PER_PIN: usize = if cfg!(any(loom, shuttle)) { 4 } else { 256 };

/// Stale hints that are let be, beside three for four sessions. Where sessions are taken soon, a full cache settles
/// below that by eviction alone.
const SLACK: u64 = if cfg!(any(loom, shuttle)) { 0 } else { 64 };

/// A shard.
pub(crate) struct Shard<S> {
    pub(crate) table: Table<S>,
    pub(crate) wheel: Wheel,
    /// How many sessions there are, above, and how many hints, below [`SESSION`]. A hint is counted
    /// before it is filed, and until it was found stale. In `counts`, apart from the rest, which every call reads.
    account: SharedAccount,
    /// The span of the wheel's finest slots in which nothing more was due.
    idle: AtomicU64,
    /// What callbacks there are and what the mode is, [`Tells`].
    tells: AtomicSetting,
    /// Lookups that ask the get callback.
    pub(crate) flights: Flights<S>,
    gauges: &'static Gauges,
}

/// A session in `counts`. Neither hints nor sessions fall below zero: both are counted before others know them.
const SESSION: u64 = 1 << 32;

/// Sessions that have left a shard, and why; to be accounted for outside every pin.
pub(crate) struct Departed<S> {
    pub(crate) sessions: Vec<(Unlinked<S>, Reason)>,
    weight: u64,
}

/// How much eviction is enough: so many sessions, or so much weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) sessions: usize,
    pub(crate) weight: u64,
}

/// A hint that is counted and not in the wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfiled {
    hint: Hint,
    due: u64,
    row: Row,
}

/// What a look at a hint has come to.
enum Look<S> {
    /// The hint led nowhere, its session was just removed by another thread, or it led to a session that nobody
    /// has been shown, which has no hint yet: this one was another session's.
    Stale,
    Left(Unlinked<S>, Reason),
    /// The session stays; its hint belongs to `due`.
    Stays {
        due: u64,
        row: Row,
    },
}

impl<S: 'static> Shard<S> {
    pub(crate) fn new(now: u64, gauges: &'static Gauges, account: SharedAccount) -> Self {
        Self {
            table: Table::new(gauges),
            wheel: Wheel::new(now),
            account,
            idle: AtomicU64::new(u64::MAX),
            tells: AtomicSetting::new(0),
            flights: Flights::new(gauges),
            gauges,
        }
    }

    /// Sets what callbacks there are from now on, [`CAME`], [`LEFT`] and [`ASKS`]. Changes of settings
    /// exclude each other.
    pub(crate) fn set_tells(&self, tells: usize) {
        // Relaxed: a setting that stands for itself.
        self.tells.store(self.tells().with_callbacks(tells).to_word(), Ordering::Relaxed);
    }

    /// Lets removals mark flights from now on; see `Engine::before_asking`. As above.
    pub(crate) fn set_asked(&self) {
        // Relaxed: the caller settles who sees it.
        self.tells.store(self.tells().with_asked().to_word(), Ordering::Relaxed);
    }

    /// Sets the mode from now on. Changes of settings exclude each other.
    pub(crate) fn set_mode(&self, mode: CacheMode) {
        // Relaxed: as above.
        self.tells.store(self.tells().with_mode(mode).to_word(), Ordering::Relaxed);
    }

    /// What the shard tells and how it is used. To be read once where it decides more than one thing.
    #[inline]
    pub(crate) fn tells(&self) -> Tells {
        // Relaxed: as above.
        Tells::from_word(self.tells.load(Ordering::Relaxed))
    }

    /// Whether lookups that find nothing ask.
    #[inline]
    pub(crate) fn asks(&self) -> bool {
        self.tells().asks()
    }

    /// The reason as the table keeps it, if it is told that sessions left.
    #[inline]
    pub(crate) fn tell(&self, reason: Reason) -> Option<u8> {
        self.tells().left().then(|| reason.to_code())
    }

    /// Whether anything was or is told.
    #[inline]
    pub(crate) fn has_told(&self) -> bool {
        self.tells().has_told()
    }

    /// A session of this node's name is about to be removed: what is asked for under that name is out
    /// of date. May be called under a pin.
    #[inline]
    pub(crate) fn before_removal(&self, node: &Node<S>) {
        if self.tells().has_asked() {
            self.flights.mark_stale(&node.name());
        }
    }

    /// A session of `name` that is elsewhere is told as gone; as above. It passed no gate when it came, so
    /// the flights themselves are looked at. What is looked for afterwards shows what was answered before.
    pub(crate) fn mark_stale(&self, name: &Name) {
        self.flights.mark_stale(name);
        self.flights.order();
    }

    /// Whether a session akin to `name` has left, and that is not told yet.
    pub(crate) fn is_leaving(&self, name: &Name) -> bool {
        self.table.is_leaving(name, &pin())
    }

    /// How many sessions there are, about.
    #[inline]
    pub(crate) fn live(&self) -> u64 {
        live(self.counts())
    }

    /// How many hints there are, at least.
    pub(crate) fn hints(&self) -> u64 {
        hints(self.counts())
    }

    #[inline]
    fn counts(&self) -> u64 {
        // Relaxed: counts, outdated as soon as they are read.
        self.account.0.counts.load(Ordering::Relaxed)
    }

    /// Counts a session that is to be linked, if it takes nobody's place, and its hint, if it gets one; returns what
    /// [`uncount`](Self::uncount) takes.
    #[inline]
    pub(crate) fn count(&self, is_one_more: bool, has_hint: bool) -> u64 {
        let count = u64::from(is_one_more) * SESSION + u64::from(has_hint);
        // Relaxed: as above.
        self.account.0.counts.fetch_add(count, Ordering::Relaxed);
        count
    }

    /// What was counted was not linked.
    #[cold]
    pub(crate) fn uncount(&self, count: u64) {
        // Relaxed: as above.
        self.account.0.counts.fetch_sub(count, Ordering::Relaxed);
    }

    /// Adds cells when there is more than one session for two, and links a few of those that were added. Not
    /// under a pin. `share` is how many sessions the shard is to hold, if that is known.
    #[inline]
    pub(crate) fn make_cells(&self, share: impl FnOnce() -> Option<u64>) {
        let cells = self.table.cells();
        if self.live() > cells as u64 / 2 {
            self.table.grow(cells, cells_for(share(), cells));
        }
        if self.table.has_more_to_link() {
            self.table.link_some(&pin());
        }
    }

    /// Counts sessions that have left.
    #[inline]
    pub(crate) fn left(&self, count: u64) {
        // Relaxed: as above.
        self.account.0.counts.fetch_sub(count * SESSION, Ordering::Relaxed);
    }

    /// Files the hint of a linked session, which is counted, under the caller's pin, or returns it.
    #[inline]
    pub(crate) fn try_file(
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
    fn try_file_again(&self, unfiled: Unfiled, now: u64, guard: &Guard) -> Result<(), Unfiled> {
        let Unfiled { hint, due, row } = unfiled;
        self.wheel.try_push(hint, due, now, row, guard).map_err(|why| {
            if why == Unpushed::Again {
                // Relaxed: as above.
                self.account.0.counts.fetch_add(1, Ordering::Relaxed);
            }
            unfiled
        })
    }

    /// Files hints that are counted. Not under a pin.
    #[cold]
    pub(crate) fn file_rest(&self, unfiled: &[Unfiled], now: u64) {
        for &Unfiled { hint, due, row } in unfiled {
            while !self.wheel.push(hint, due, now, row) {
                // One more hint. Relaxed: as above.
                self.account.0.counts.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Files one more hint of a linked session. Not under a pin.
    pub(crate) fn file(&self, hint: Hint, due: u64, now: u64) {
        // Relaxed: as above.
        self.account.0.counts.fetch_add(1, Ordering::Relaxed);
        self.file_rest(&[Unfiled { hint, due, row: Row::FRESH }], now);
    }

    /// Removes sessions that come first in the order of eviction, but not `spare`, until `wanted`
    /// is enough, or there is room anyway. The session that a put replaces is spared: its room becomes
    /// the new one's.
    pub(crate) fn evict(
        &self,
        now: u64,
        wanted: Wanted,
        spare: &Name,
        has_room: impl Fn() -> bool,
    ) -> Departed<S> {
        let mut departed = Departed::with_capacity(wanted.sessions);
        let mut spared = 0;
        // Half of a batch will do: the other hints were stale, and another round brings less. Once
        // nothing is left but what is spared by name, that is met again and again. And while a sweep
        // removes what most hints lead to, there is room long before one is found that is to stay.
        while !departed.is_enough(wanted.half()) && spared < 2 * MOST_SPARED && !has_room() {
            let Some(list) = self.wheel.earliest(self.next_evicted()) else { break };
            self.each_hint(list, now, &mut departed, wanted, |node| {
                self.look_to_evict(list, node, now, spare, &mut spared)
            });
        }
        departed
    }

    /// Whether eviction looks at fresh hints or at kept ones: at these if less than one session in [`PROBATION`] is
    /// fresh. Kept hints that are stale make that too few for a while, in which eviction does away with them.
    fn next_evicted(&self) -> Age {
        let live = self.live();
        let fresh = live.saturating_sub(self.wheel.kept());
        if fresh * PROBATION < live { Age::Kept } else { Age::Fresh }
    }

    /// Removes one session, but not `spare`, without a hint to lead to it: other threads have all
    /// hints in their hands, or were stopped with them. The last resort before a put is refused.
    pub(crate) fn evict_any(&self, spare: &Name) -> Departed<S> {
        let mut departed = Departed::with_capacity(1);
        // Cells stay when sessions leave: there may be millions to go through, and nothing behind them. A session is
        // counted before it is linked.
        let mut from = (self.live() > 0).then_some(0);
        while let Some(key) = from.filter(|_| departed.sessions.is_empty()) {
            #[cfg(all(test, not(loom)))]
            BATCHES.with(|batches| batches.set(batches.get() + 1));
            let guard = pin();
            from = self.table.batch(key, PER_PIN, &guard, |node| {
                if departed.sessions.is_empty()
                    && !node.node().is(spare)
                    && !Due::load(node.node().expiry()).is_provisional()
                    && let Look::Left(unlinked, reason) = self.removed(node.into(), Reason::Evicted)
                {
                    departed.push(unlinked, reason);
                }
            });
        }
        departed
    }

    /// Whether something may be due at `now`. Nothing comes due again within the span of a finest
    /// slot in which nothing was.
    #[inline]
    pub(crate) fn may_be_due(&self, now: u64) -> bool {
        // Relaxed: it spares a look, and a look too many or too late does no harm.
        self.idle.load(Ordering::Relaxed) != Wheel::span(now)
    }

    /// Whether expired sessions are removed on their own ([`CacheMode::NO_AUTO_CLEAR`]).
    pub(crate) fn clears(&self) -> bool {
        !self.tells().has(CacheMode::NO_AUTO_CLEAR)
    }

    /// Removes what is due at `now`; looks at up to `most` hints. `None` when nothing is due, or when
    /// expired sessions are to stay.
    pub(crate) fn expire(&self, now: u64, most: usize) -> Option<Departed<S>> {
        if !self.clears() {
            return None;
        }
        let mut list = self.wheel.due(now);
        if list.is_none() {
            // Relaxed: as above.
            self.idle.store(Wheel::span(now), Ordering::Relaxed);
            return None;
        }
        let (mut departed, mut left) = (Departed::with_capacity(most), most);
        // Where puts are rare, each list has few.
        while left > 0
            && let Some(due) = list
        {
            let looks = Wanted::looks(departed.sessions.len() + left);
            let looked = self.each_hint(due, now, &mut departed, looks, |node| {
                self.look_to_expire(node, now, due.row())
            });
            left -= looked.clamp(1, left);
            // A model's next call does the same, and each look at the wheel multiplies the executions.
            list = if cfg!(loom) { None } else { self.wheel.due(now) };
        }
        Some(departed)
    }

    /// Whether so many hints are stale that it is time to look at some.
    #[inline]
    pub(crate) fn has_too_many_hints(&self) -> bool {
        let counts = self.counts();
        let live = live(counts);
        hints(counts) > live + live / 2 + live / 4 + SLACK
    }

    /// Looks at a batch of hints, and drops the stale ones. The others are filed again by the time
    /// that is left to them, which orders them no worse than before; also those of expired sessions,
    /// where these stay.
    pub(crate) fn compact(&self, now: u64) -> Departed<S> {
        let mut departed = Departed::with_capacity(BATCH);
        let Some((list, steps)) = self.wheel.compact(BATCH as u64, &pin()) else { return departed };
        let row = list.row();
        let clears = self.clears();
        let looks = Wanted::looks(steps as usize);
        let popped = self.each_hint(list, now, &mut departed, looks, |node| match clears {
            true => self.look_to_expire(node, now, row),
            false => Look::Stays { due: Due::load(node.node().expiry()).at(), row },
        });
        if popped == 0 {
            self.wheel.skip(list);
        }
        departed
    }

    /// Pops hints of `list`, and shows `look` the sessions that they lead to, under a pin, until
    /// `wanted` is enough. Keeps what has left; files again what stays. Returns how many it popped.
    fn each_hint(
        &self,
        list: List,
        now: u64,
        departed: &mut Departed<S>,
        wanted: Wanted,
        mut look: impl FnMut(Found<'_, S>) -> Look<S>,
    ) -> usize {
        let most = wanted.sessions - departed.sessions.len();
        let mut steps = most;
        while steps > 0 && !departed.is_enough(wanted) {
            // Where weight decides, a few at a time: what is popped and not needed any more goes to the
            // end of its list.
            let batch = if wanted.weight == u64::MAX { BATCH } else { BATCH.min(4) };
            let popped = self.each_of_batch(list, now, steps.min(batch), |node| {
                if departed.is_enough(wanted) {
                    return Some((Due::load(node.node().expiry()).at(), list.row()));
                }
                match look(node) {
                    Look::Stale => None,
                    Look::Left(unlinked, reason) => {
                        departed.push(unlinked, reason);
                        None
                    }
                    Look::Stays { due, row } => Some((due, row)),
                }
            });
            if popped == 0 {
                break;
            }
            steps -= popped;
        }
        most - steps
    }

    /// Pops up to `most` hints of `list`, and shows `look` the sessions that they lead to, under one
    /// pin. Files again those of which `look` says for when and how; drops the others. Returns how many
    /// it popped.
    fn each_of_batch(
        &self,
        list: List,
        now: u64,
        most: usize,
        mut look: impl FnMut(Found<'_, S>) -> Option<(u64, Row)>,
    ) -> usize {
        // One by one, for arrays in a tuple are copied.
        let mut words = [0; BATCH];
        let mut unfiled = [Unfiled::NONE; BATCH];
        let (mut stay, mut rest) = (0, 0);
        let guard = pin();
        let hints = self.wheel.pop(list, &mut words[..most], &guard, self.gauges);
        let popped = hints.len();
        self.prefetch(hints.clone());
        for hint in hints {
            let Some(node) = self.node_of(hint, &guard) else { continue };
            let Some((due, row)) = look(node) else { continue };
            stay += 1;
            if let Err(again) = self.try_file_again(Unfiled { hint, due, row }, now, &guard) {
                unfiled[rest] = again;
                rest += 1;
            }
        }
        drop(guard);
        if popped > stay {
            // Relaxed: a count.
            self.account.0.counts.fetch_sub((popped - stay) as u64, Ordering::Relaxed);
        }
        if rest > 0 {
            self.file_rest(&unfiled[..rest], now);
        }
        popped
    }

    /// The session that a hint leads to.
    #[inline]
    fn node_of<'g>(&'g self, hint: Hint, guard: &'g Guard) -> Option<Found<'g, S>> {
        self.table.get_stamped(hint.hash(), |stamp| hint.is_of(stamp), guard)
    }

    #[inline(always)]
    fn look_to_evict(
        &self,
        list: List,
        node: Found<'_, S>,
        now: u64,
        spare: &Name,
        spared: &mut usize,
    ) -> Look<S> {
        let expiry = node.node().expiry();
        let is_named = node.node().is(spare);
        if !is_named {
            match Due::standing(expiry, now) {
                Standing::Live => {}
                Standing::Expired => return self.removed(node, Reason::Expired),
                Standing::Unseen => return Look::Stale,
            }
        }
        let due = Due::load(expiry).at();
        if is_named || *spared < MOST_SPARED && node.node().clear_visit() {
            *spared += 1;
            return Look::Stays { due, row: self.wheel.spared() };
        }
        if *spared < MOST_SPARED && self.wheel.is_early(list, due, now) {
            *spared += 1;
            return Look::Stays { due, row: list.row() };
        }
        self.removed(node, Reason::Evicted)
    }

    fn look_to_expire(&self, node: Found<'_, S>, now: u64, row: Row) -> Look<S> {
        let expiry = node.node().expiry();
        match Due::standing(expiry, now) {
            Standing::Live => Look::Stays { due: Due::load(expiry).at(), row },
            Standing::Expired => self.removed(node, Reason::Expired),
            Standing::Unseen => Look::Stale,
        }
    }

    #[inline(always)]
    fn removed(&self, node: Found<'_, S>, reason: Reason) -> Look<S> {
        self.before_removal(node.node());
        let unlinked = self.table.remove(node, self.tell(reason));
        unlinked.map_or(Look::Stale, |unlinked| {
            let reason = reason_of(unlinked.node(), reason);
            Look::Left(unlinked, reason)
        })
    }

    /// Asks the processor for what hints lead to: first for all their cells, then for the nodes behind
    /// them. The waits for memory overlap, which halves the cost of a put in a large cache.
    #[inline]
    fn prefetch(&self, hints: impl Iterator<Item = Hint> + Clone) {
        for hint in hints.clone() {
            self.table.spot(hint.hash());
        }
        for hint in hints {
            // To find the cell again is faster than to keep it.
            self.table.spot(hint.hash()).prefetch_node_to_write::<S>();
        }
    }
}

/// How many cells to make of `cells` when they are too few: twice as many, or as many as a full shard needs, if that is
/// more and not more than sixteen times as many.
///
/// A cell that is linked before there are sessions behind it has an exact filter, and is cheaper to link.
#[cold]
fn cells_for(share: Option<u64>, cells: usize) -> usize {
    let needed = (2 * share.unwrap_or(0).min(1 << 40)).next_power_of_two() as usize;
    if needed > 16 * cells { 2 * cells } else { needed.max(2 * cells) }
}

/// The sessions of [`Shard`]'s counts.
#[inline]
fn live(counts: u64) -> u64 {
    counts / SESSION
}

/// The hints of [`Shard`]'s counts.
#[inline]
fn hints(counts: u64) -> u64 {
    counts % SESSION
}

/// Why a session has left: for `reason`, unless a thread has found it expired. If the removal is told,
/// whoever asks first settles that, so that the cache's counts and the callbacks agree although
/// another thread may still come to find the session expired.
#[inline]
pub(crate) fn reason_of<S>(node: &Node<S>, reason: Reason) -> Reason {
    let is_decided = Due::load(node.expiry()).is_decided();
    let is_expired = if node.is_told() { node.settle(is_decided) } else { is_decided };
    if is_expired { Reason::Expired } else { reason }
}

impl Unfiled {
    const NONE: Self = Self { hint: Hint::new(0, 0), due: 0, row: Row::FRESH };
}

impl Wanted {
    /// Half as many sessions, or the same weight.
    fn half(self) -> Self {
        Self { sessions: self.sessions.div_ceil(2), ..self }
    }

    /// So many looks, whatever leaves.
    fn looks(most: usize) -> Self {
        Self { sessions: most, weight: u64::MAX }
    }
}

impl<S: 'static> Departed<S> {
    /// Room for `capacity` sessions, so that keeping them under a pin allocates nothing.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { sessions: Vec::with_capacity(capacity), weight: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, unlinked: Unlinked<S>, reason: Reason) {
        self.weight += u64::from(unlinked.node().weight());
        // One after the other: a processor has room for some sixteen lines on their way.
        prefetch_to_drop(unlinked.payload());
        self.sessions.push((unlinked, reason));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Unlinked<S>, Reason)> {
        self.sessions.iter().map(|(unlinked, reason)| (unlinked, *reason))
    }

    #[inline]
    fn is_enough(&self, wanted: Wanted) -> bool {
        self.sessions.len() >= wanted.sessions || self.weight >= wanted.weight
    }
}

impl<S: 'static> fmt::Debug for Shard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("live", &self.live())
            .field("hints", &self.hints())
            .field("node_bytes", &Node::<S>::SIZE)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
thread_local!(
    /// Batches of the table that [`Shard::evict_any`] has gone through in this thread.
    pub(crate) static BATCHES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) }
);

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::reclaim::gauge::Lease;
    use crate::table::{Entry, NewNode, SessionId};

    #[test]
    fn cells_are_made_for_a_full_shard_and_not_too_many_at_once() {
        assert_eq!(cells_for(None, 64), 128);
        assert_eq!(cells_for(Some(10), 64), 128, "it was to hold less");
        assert_eq!(cells_for(Some(200), 64), 512);
        assert_eq!(cells_for(Some(256), 64), 512);
        assert_eq!(cells_for(Some(257), 64), 1024);
        assert_eq!(cells_for(Some(512), 64), 1024);
        assert_eq!(cells_for(Some(513), 64), 128, "for a limit that may never be met");
        assert_eq!(cells_for(Some(u64::MAX), 1 << 20), 1 << 21);
    }

    /// Another session had left it, in a block that serves for this one now. Filed again as due at once, it would be
    /// met until somebody shows the session.
    #[test]
    fn a_hint_that_leads_to_an_unseen_session_is_dropped() {
        const NOW: u64 = 1_000_000;
        let lease = Lease::new(usize::MAX);
        let shard = Shard::new(0, lease.gauges(), SharedAccount::default());
        let name = Name { hash: 1 << 63 | 1, scope: 0, id: SessionId::from([1; 32]) };
        let unseen = NewNode::new(&name, 0, Due::PROVISIONAL.to_word(), 1_u64, false);
        let guard = pin();
        let place = shard.table.entry(&name, shard.table.spot(name.hash), &guard);
        let Entry::Vacant(place) = place else { panic!("the table is empty") };
        let Ok(linked) = place.insert(unseen, &guard) else { panic!("nobody else is there") };
        let hint = Hint::new(name.hash, linked.stamp());
        drop(guard);
        let _ = shard.count(true, false);

        shard.file(hint, 1, 0);
        let expired = shard.expire(NOW, BATCH).expect("it is due");
        assert_eq!((expired.sessions.len(), shard.hints()), (0, 0));

        shard.file(hint, 1, NOW);
        let (wanted, rounds) = (Wanted { sessions: 1, weight: u64::MAX }, Cell::new(0));
        let has_room = || rounds.replace(rounds.get() + 1) > 100;
        let evicted = shard.evict(NOW, wanted, &Name::NOBODY, has_room);
        assert_eq!((evicted.sessions.len(), shard.hints()), (0, 0));
        assert_eq!(shard.live(), 1);
    }
}
