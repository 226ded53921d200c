//! A shard: a table, and what it tells. A session is in the shard of its hash.
//!
//! The table and the order in which sessions leave (`lanes.rs`) do not know each other. A shard is where a look at a
//! hint's session comes to something. Nothing here runs user code: what has left is returned to the engine, which
//! accounts for it once no pin is held.

#![forbid(unsafe_code)]

mod tells;

use std::fmt;
use std::ops::Deref;

pub(crate) use self::tells::{ASKS, CAME, LEFT, Tells};
use crate::expiry::{Due, Row};
use crate::flight::Flights;
use crate::mode::CacheMode;
use crate::payload::prefetch_to_drop;
use crate::reclaim::gauge::Gauges;
use crate::reclaim::pin;
use crate::stats::Reason;
use crate::sync::{AtomicSetting, Ordering, planted};
use crate::table::{COMING, Found, Name, Node, Table, Unlinked};

/// Links that a walk of the table follows under one pin.
pub(crate) const PER_PIN: usize = if cfg!(any(loom, shuttle)) { 4 } else { 256 };

/// Which of a hash's bits choose the shard: of the 48 that a hint has, those below the ones that choose a bit of a cell's
/// filter. The lowest choose the cell.
const SHIFT: u32 = 36;

/// The shards of a cache; a power of two.
pub(crate) struct Shards<S>(Box<[Shard<S>]>);

/// A shard.
pub(crate) struct Shard<S> {
    pub(crate) table: Table<S>,
    /// What callbacks there are and what the mode is, [`Tells`].
    tells: AtomicSetting,
    /// Lookups that ask the get callback.
    pub(crate) flights: Flights<S>,
}

/// Sessions that have left, and why; to be accounted for outside every pin.
pub(crate) struct Departed<S> {
    pub(crate) sessions: Vec<(Unlinked<S>, Reason)>,
    /// In which shards something may have been announced, a bit for each, or for several if there are more than 64: also the
    /// leaving of what another thread has removed, which a look may have taken out of the list.
    told: u64,
    pub(crate) weight: u64,
}

/// What a look at a hint has come to.
pub(crate) enum Look<S> {
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

impl<S: 'static> Shards<S> {
    /// So many shards, a power of two.
    pub(crate) fn new(count: usize, gauges: &'static Gauges) -> Self {
        Self((0..count).map(|_| Shard::new(gauges)).collect())
    }

    /// The shard of a hash: its place, which the lower 48 bits decide.
    #[inline]
    pub(crate) fn index_of(&self, hash: u64) -> usize {
        (hash >> SHIFT) as usize & (self.0.len() - 1)
    }

    /// The shard of a hash.
    #[inline]
    pub(crate) fn of(&self, hash: u64) -> &Shard<S> {
        &self.0[self.index_of(hash)]
    }

    /// Whether expired sessions are removed on their own ([`CacheMode::NO_AUTO_CLEAR`]).
    pub(crate) fn clear(&self) -> bool {
        !self.0[0].tells().has(CacheMode::NO_AUTO_CLEAR)
    }
}

impl<S> Deref for Shards<S> {
    type Target = [Shard<S>];

    #[inline]
    fn deref(&self) -> &[Shard<S>] {
        &self.0
    }
}

impl<S: 'static> Shard<S> {
    pub(crate) fn new(gauges: &'static Gauges) -> Self {
        Self {
            table: Table::new(gauges),
            tells: AtomicSetting::new(0),
            flights: Flights::new(gauges),
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

    /// The reason as the table keeps it, if the node's leaving is to be announced: that it left; or, where that is not told,
    /// that it came, if that is still to be told. It is told before the next node of its name then, even if its put has been
    /// stopped (E4 in `table/events.rs`).
    #[inline]
    pub(crate) fn tell(&self, node: &Node<S>, reason: Reason) -> Option<u8> {
        let tells = self.tells();
        if tells.left() {
            return Some(reason.to_code());
        }
        let comes = tells.has_told() && node.is_coming_untold();
        (comes && !planted!("untold-without-leaving")).then_some(COMING)
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

    /// A session of `name` was removed; as above, once more: where lookups do not look into the cache, what one of them
    /// is given that has begun in between must not be shown to those who come after this.
    #[inline]
    pub(crate) fn after_removal(&self, name: &Name) {
        let tells = self.tells();
        if tells.is_unusual()
            && tells.has_asked()
            && tells.has(CacheMode::NO_INTERNAL_LOOKUP)
            && !planted!("marked-once")
        {
            self.flights.mark_stale(name);
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

    /// Adds cells when there is more than one session for two, and links a few of those that were added. Not
    /// under a pin. There are about `live` sessions in it; `share` is how many it is to hold, if that is known.
    #[inline]
    pub(crate) fn make_cells(&self, live: u64, share: impl FnOnce() -> Option<u64>) {
        let cells = self.table.cells();
        if live > cells as u64 / 2 {
            self.table.grow(cells, cells_for(share(), cells));
        }
        if self.table.has_more_to_link() {
            self.table.link_some(&pin());
        }
    }

    /// Removes one session of this shard, of number `at`, but not `spare`, without a hint to lead to it: other threads have all
    /// hints in their hands, or were stopped with them. The last resort before a put is refused.
    pub(crate) fn evict_any(&self, at: usize, spare: &Name) -> Departed<S> {
        let mut departed = Departed::with_capacity(1);
        departed.note_told(at, self);
        let mut from = Some(0);
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
                    // Once more: the first callback may have been set before the removal.
                    departed.note_told(at, self);
                    departed.push(unlinked, reason);
                }
            });
        }
        departed
    }

    /// Removes the session that a look has met.
    #[inline(always)]
    pub(crate) fn removed(&self, node: Found<'_, S>, reason: Reason) -> Look<S> {
        self.before_removal(node.node());
        let tell = self.tell(node.node(), reason);
        let unlinked = self.table.remove(node, tell);
        unlinked.map_or(Look::Stale, |unlinked| {
            let reason = reason_of(unlinked.node(), reason);
            Look::Left(unlinked, reason)
        })
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

/// Why a session has left: for `reason`, unless a thread has found it expired. If the removal is told,
/// whoever asks first settles that, so that the cache's counts and the callbacks agree although
/// another thread may still come to find the session expired.
#[inline]
pub(crate) fn reason_of<S>(node: &Node<S>, reason: Reason) -> Reason {
    let is_decided = Due::load(node.expiry()).is_decided();
    let is_expired = if node.is_told() { node.settle(is_decided) } else { is_decided };
    if is_expired { Reason::Expired } else { reason }
}

impl<S: 'static> Departed<S> {
    /// Room for `capacity` sessions, so that keeping them under a pin allocates nothing.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { sessions: Vec::with_capacity(capacity), told: 0, weight: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, unlinked: Unlinked<S>, reason: Reason) {
        self.weight += u64::from(unlinked.node().weight());
        // One after the other: a processor has room for some sixteen lines on their way.
        prefetch_to_drop(unlinked.payload());
        self.sessions.push((unlinked, reason));
    }

    /// Notes that a session of shard `at` was looked at.
    #[inline]
    pub(crate) fn note_told(&mut self, at: usize, shard: &Shard<S>) {
        self.told |= u64::from(shard.has_told()) << (at % 64);
    }

    /// The shards, of so many, in which something may have been announced.
    #[inline]
    pub(crate) fn told(&self, shards: usize) -> impl Iterator<Item = usize> + use<S> {
        let told = self.told;
        let shards = if told == 0 { 0 } else { shards };
        (0..shards).filter(move |at| told >> (at % 64) & 1 == 1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Unlinked<S>, Reason)> {
        self.sessions.iter().map(|(unlinked, reason)| (unlinked, *reason))
    }
}

impl<S: 'static> fmt::Debug for Shard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("cells", &self.table.cells())
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
    use super::*;

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
}
