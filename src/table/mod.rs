//! The lock-free hash table of reference-counted nodes, one per shard.
//!
//! * `id.rs`: session ids. `node.rs`, `node/birth.rs`: a session in memory, its references, who drops what.
//! * `link.rs`: the words of the list. `cells.rs`: the entry points, and growth.
//! * `spot.rs`: where a lookup begins. `list.rs`: the list in split order, its walks, and the races between them.
//!
//! # Linearization points
//!
//! | operation | point |
//! |---|---|
//! | insert of an absent name | the exchange on the predecessor's word |
//! | replace | the exchange on the old node's word: the old leaves and the new enters in one step |
//! | removal, for whatever reason | the read-modify-write that found `REMOVED` clear and set it: one per node |
//! | lookup that finds | the load of the node's word without `REMOVED` |
//! | lookup that misses | the load that showed the region's end; of the cell alone, if its filter spares the rest |
//! | growth | the exchange of the size; no effect on what is in the table |
//!
//! A node's residence ends by one atomic transition; whoever caused it owns the table's reference,
//! an [`Unlinked`], and with it the duty to account for the removal.
//!
//! The table knows nothing of time, of capacity or of what a scope is. Model:
//! `loom-tests/tests/table.rs`.

mod cells;
pub(crate) mod events;
pub(crate) mod id;
mod link;
mod list;
mod node;
mod spot;

use std::fmt;
use std::marker::PhantomData;

pub(crate) use id::SessionId;
pub(crate) use link::COMING;
pub(crate) use list::Found;
pub(crate) use node::{Context, Name, NewNode, Node, NodeRef, Pinned, Unlinked};
pub(crate) use spot::Spot;

use self::events::{Events, Server};
use self::link::Link;
use self::list::{List, Place};
use self::node::Hollow;
use crate::reclaim::gauge::Gauges;
use crate::reclaim::panics::Panics;
use crate::reclaim::{Guard, pin};
use crate::sync::planted;

/// A table of sessions.
pub(crate) struct Table<S> {
    list: List,
    gauges: &'static Gauges,
    nodes: PhantomData<Node<S>>,
}

/// What a search for a name has found.
pub(crate) enum Entry<'g, S> {
    Occupied(Occupied<'g, S>),
    Vacant(Vacant<'g, S>),
}

/// A live node of the name.
pub(crate) struct Occupied<'g, S> {
    table: &'g Table<S>,
    found: Found<'g, S>,
    next: Link,
}

/// The place of a name that the table does not hold.
pub(crate) struct Vacant<'g, S>(Place<'g, S>);

impl<S> Table<S> {
    /// An empty table that counts on `gauges`.
    pub(crate) fn new(gauges: &'static Gauges) -> Self {
        Self { list: List::new(), gauges, nodes: PhantomData }
    }

    /// The cell of `hash`. Its memory is asked for; it stays valid while the table grows.
    #[inline]
    pub(crate) fn spot(&self, hash: u64) -> Spot<'_> {
        self.list.spot(hash)
    }

    /// As [`spot`](Self::spot), of a cell behind which the caller is going to link a node: what another
    /// processor has written and keeps would have to be waited for a second time.
    #[inline]
    pub(crate) fn spot_to_write(&self, hash: u64) -> Spot<'_> {
        self.list.spot_to_write(hash)
    }

    /// Whether the cell of a spot shows that no session of `hash`, whose spot it is, is in the table. Most
    /// lookups that miss end here, without a pin.
    #[inline]
    pub(crate) fn is_absent_at(&self, spot: &Spot<'_>, hash: u64) -> bool {
        self.list.is_absent_at::<S>(spot, hash)
    }

    /// The live node of `name`, whose spot is `spot`. Expected O(1); writes nothing but a cell that
    /// nobody has linked yet.
    #[inline]
    pub(crate) fn get<'g>(
        &'g self,
        name: &Name,
        spot: Spot<'g>,
        guard: &'g Guard,
    ) -> Option<Found<'g, S>> {
        self.list.find(name.hash, spot, guard, |node| node.node().is(name))
    }

    /// The live node whose hash ends in these 48 bits, and which has this stamp.
    #[inline(always)]
    pub(crate) fn get_stamped<'g>(
        &'g self,
        hash: u64,
        stamp: impl Fn(u16) -> bool,
        guard: &'g Guard,
    ) -> Option<Found<'g, S>> {
        let spot = self.spot(hash);
        if self.is_absent_at(&spot, hash) {
            return None;
        }
        let is_match =
            |node: Pinned<'g, S>| (node.node().hash() ^ hash) << 16 == 0 && stamp(node.stamp());
        self.list.find(hash, spot, guard, is_match)
    }

    /// The place of `name`, whose spot is `spot`, where a node can be inserted or replaced. Expected
    /// O(1).
    #[inline]
    pub(crate) fn entry<'g>(
        &'g self,
        name: &Name,
        spot: Spot<'g>,
        guard: &'g Guard,
    ) -> Entry<'g, S> {
        self.entry_of(name.hash, spot, guard, |node| node.is(name))
    }

    /// As [`entry`](Self::entry) for the name of a node that is new, and for all names of its id whose
    /// scopes are the same: `is_same` tells that of the scope of a node akin to it that has another one.
    /// If every insert is told the same, one of those nodes is live at most.
    #[inline(always)]
    pub(crate) fn entry_akin<'g>(
        &'g self,
        new: &Node<S>,
        spot: Spot<'g>,
        guard: &'g Guard,
        is_same: impl Fn(u32) -> bool,
    ) -> Entry<'g, S> {
        self.entry_of(new.hash(), spot, guard, |node| {
            node.hash() == new.hash()
                && node.id() == new.id()
                && (node.scope() == new.scope() || is_same(node.scope()))
        })
    }

    #[inline(always)]
    fn entry_of<'g>(
        &'g self,
        hash: u64,
        spot: Spot<'g>,
        guard: &'g Guard,
        is_match: impl Fn(&Node<S>) -> bool,
    ) -> Entry<'g, S> {
        let place = self.list.search(hash, spot, guard, is_match);
        match place.found() {
            Some((found, next)) => Entry::Occupied(Occupied { table: self, found, next }),
            None => Entry::Vacant(Vacant(place)),
        }
    }

    /// The live node akin to `name` that `is_match` accepts; shows it each of them until then, and
    /// removed ones too.
    pub(crate) fn find_akin<'g>(
        &'g self,
        name: &Name,
        guard: &'g Guard,
        is_match: impl Fn(&Node<S>) -> bool,
    ) -> Option<Found<'g, S>> {
        self.list.find(name.hash, self.spot(name.hash), guard, |node| {
            node.node().is_akin(name) && is_match(node.node())
        })
    }

    /// Removes this very node, and tells that for this reason if there is one; `None` when another
    /// thread has removed it. Expected O(1).
    #[inline]
    pub(crate) fn remove(&self, found: Found<'_, S>, tell: Option<u8>) -> Option<Unlinked<S>> {
        let next = &found.node().next;
        if planted!("take-by-load-and-store") {
            let link = next.load();
            next.set_private(link.removed(tell));
            return (!link.is_removed()).then(|| self.unlink(found, link, tell));
        }
        let link = next.mark_removed(tell);
        if link.is_removed() {
            return None;
        }
        Some(self.unlink(found, link, tell))
    }

    /// Makes sure that a removed node, whose word held `next`, is out of the list; the caller has
    /// won its removal.
    #[inline]
    fn unlink(&self, found: Found<'_, S>, next: Link, tell: Option<u8>) -> Unlinked<S> {
        let node = found.pinned();
        let events = tell.map(|_| &self.list.events);
        if !found.unlink(next, events) && !planted!("no-second-search") {
            self.take_out(node);
        }
        // SAFETY: N3: the removal was won by the caller, and the node is unreachable now.
        unsafe { Unlinked::from_won(node.ptr(), self.gauges) }
    }

    /// Takes a removed node out of the list, if nobody else has: L3: this search passes it.
    #[cold]
    #[inline(never)]
    fn take_out(&self, node: Pinned<'_, S>) {
        let name = node.node().name();
        let is_match = |node: &Node<S>| node.is(&name);
        let _ = self.list.search(name.hash, self.spot(name.hash), node.guard(), is_match);
    }

    /// Shows `visit` the next live nodes from `from` on, in the order of keys, and returns where to
    /// go on. Follows about `most` links: nodes, removed or not, and cells. Nodes of equal keys come
    /// in one batch.
    ///
    /// What is in the table throughout is met; what comes or goes meanwhile may be.
    pub(crate) fn batch<'g>(
        &'g self,
        from: u64,
        most: usize,
        guard: &'g Guard,
        visit: impl FnMut(Pinned<'g, S>),
    ) -> Option<u64> {
        self.list.walk(from, most, guard, visit)
    }

    /// Whether a session akin to `name` has left and its leaving is not told yet. It is in the list until
    /// it is in the queue of events, hence in this order.
    pub(crate) fn is_leaving(&self, name: &Name, guard: &Guard) -> bool {
        self.list.has_removed::<S>(name, guard) || self.list.events.has_left::<S>(name, guard)
    }

    /// Announces the coming of a node that was made for it ([`NewNode::new`]) and has been linked.
    #[inline]
    pub(crate) fn announce(&self, node: Pinned<'_, S>) {
        self.list.events.came(node);
    }

    /// Announces the leaving of a node that another thread has removed, if it is told and not announced yet.
    #[cold]
    pub(crate) fn announce_left(&self, node: Pinned<'_, S>) {
        if node.node().is_told() && !planted!("left-to-its-remover") {
            self.list.events.left(node);
        }
    }

    /// Announces the coming of a node that was made for it, and is not linked. Returns a reference, to
    /// be dropped under no pin.
    pub(crate) fn announce_unlinked(&self, node: NewNode<S>) -> NodeRef<S> {
        let node = node.into_handle(self.gauges);
        self.list.events.came(node.pinned(&pin()));
        node
    }

    /// Announces that a session of `name`, which is not in the table, has left for this reason.
    pub(crate) fn announce_gone(&self, name: &Name, reason: u8) {
        let node: Hollow<S> = Hollow::new(name, reason, self.gauges);
        self.list.events.gone(node, name.hash, &pin());
    }

    /// What waits to be told.
    #[inline]
    pub(crate) fn events(&self) -> &Events {
        &self.list.events
    }

    /// The right to serve the events; `None` when another thread has it, which then serves those of now, too.
    pub(crate) fn server(&self) -> Option<Server<'_, S>> {
        Server::begin(self)
    }

    /// The number of cells.
    #[inline]
    pub(crate) fn cells(&self) -> usize {
        self.list.size()
    }

    /// Whether [`link_some`](Self::link_some) has something to do.
    #[inline]
    pub(crate) fn has_more_to_link(&self) -> bool {
        self.list.has_more_to_link()
    }

    /// Links a few of the cells that a growth has made: lookups that meet one which is not linked walk further.
    pub(crate) fn link_some(&self, guard: &Guard) {
        self.list.link_some::<S>(guard);
    }

    /// Makes `to` cells, a power of two, if there are still `cells`. Not under a pin.
    #[cold]
    pub(crate) fn grow(&self, cells: usize, to: usize) {
        self.list.grow(cells, to);
    }
}

impl<S> Entry<'_, S> {
    /// The scope of the live node.
    #[inline]
    pub(crate) fn scope(&self) -> Option<u32> {
        match self {
            Self::Occupied(old) => Some(old.node().scope()),
            Self::Vacant(_) => None,
        }
    }
}

impl<'g, S> Occupied<'g, S> {
    /// The node.
    #[inline]
    pub(crate) fn node(&self) -> &'g Node<S> {
        self.found.node()
    }

    /// The node under the pin.
    pub(crate) fn pinned(&self) -> Pinned<'g, S> {
        self.found.pinned()
    }

    /// Puts `new` in the node's place, in one step, and tells that for this reason if there is one.
    /// Gives it back when the node has been removed or replaced since.
    pub(crate) fn replace(
        self,
        new: NewNode<S>,
        tell: Option<u8>,
    ) -> Result<(Pinned<'g, S>, Unlinked<S>), NewNode<S>> {
        let Self { table, found, next } = self;
        let guard = found.pinned().guard();
        #[cfg(any(loom, chaos))]
        if planted!("replace-in-two-steps") {
            return table.replace_in_two_steps(found, new);
        }
        let next = if planted!("replace-of-the-removed") { found.node().next.load() } else { next };
        if !planted!("linked-before-its-next") {
            new.node().next.set_private(next);
        }
        let new = new.into_raw();
        let link = Link::to_node(new);
        if !found.node().next.replace(next, link.removed(tell)) {
            // SAFETY: the exchange failed, so nobody has seen the new node.
            return Err(unsafe { NewNode::from_raw(new) });
        }
        if planted!("linked-before-its-next") {
            // SAFETY: P1: linked under the guard just now.
            unsafe { new.as_ref() }.next.set_private(next);
        }
        let old = table.unlink(found, link, tell);
        // SAFETY: P1: linked under the guard just now.
        Ok((unsafe { Pinned::new(new, guard) }, old))
    }
}

impl<'g, S> Vacant<'g, S> {
    /// Links `new`. Gives it back when the place has changed since.
    pub(crate) fn insert(
        self,
        new: NewNode<S>,
        guard: &'g Guard,
    ) -> Result<Pinned<'g, S>, NewNode<S>> {
        let hash = new.node().hash();
        new.node().next.set_private(self.0.link.in_place_of(Link::END));
        let new = new.into_raw();
        if !self.0.link(new, hash) {
            // SAFETY: the exchange failed, so nobody has seen the new node.
            return Err(unsafe { NewNode::from_raw(new) });
        }
        // SAFETY: P1: linked under the guard just now.
        Ok(unsafe { Pinned::new(new, guard) })
    }
}

#[cfg(any(loom, chaos))]
impl<S> Table<S> {
    /// A seeded bug: between the steps a lookup misses.
    fn replace_in_two_steps<'g>(
        &'g self,
        found: Found<'g, S>,
        mut new: NewNode<S>,
    ) -> Result<(Pinned<'g, S>, Unlinked<S>), NewNode<S>> {
        let (name, guard) = (found.node().name(), found.pinned().guard());
        let Some(old) = self.remove(found, None) else { return Err(new) };
        loop {
            // Another put may come between the steps; then this one waits until that has left.
            let Entry::Vacant(vacant) = self.entry(&name, self.spot(name.hash), guard) else {
                continue;
            };
            match vacant.insert(new, guard) {
                Ok(new) => return Ok((new, old)),
                Err(unlinked) => new = unlinked,
            }
        }
    }
}

impl<S> Drop for Table<S> {
    /// Drops what is left. Handles keep their sessions.
    fn drop(&mut self) {
        // In a model that has failed, the words of the list are out of reach.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        let gauges = self.gauges;
        // A payload that panics must not keep the others from being dropped and wiped.
        let mut panics = Panics::default();
        // Events that nobody has asked for.
        let mut server = Server::of_exclusive(self);
        while let Some(event) = server.next(|_| {}) {
            panics.drop_all([event]);
        }
        self.list.drain(|node| {
            // SAFETY: N3: the table's reference; no other thread has the table any more, so
            // nobody can reach the node through it.
            let unlinked = unsafe { Unlinked::<S>::from_won(node, gauges) };
            panics.drop_all([unlinked]);
        });
        panics.resume();
    }
}

impl<S> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("cells", &self.cells()).finish_non_exhaustive()
    }
}
