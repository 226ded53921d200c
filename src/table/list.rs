//! The list in split order, and its walks.
//!
//! All nodes of a shard are in one singly linked list (Harris 2001, Michael 2002), sorted by their
//! keys, the bit-reversed hashes; cells are entry points into it (Shalev and Shavit 2006). Dummies,
//! the cells, have keys with bit 0 clear, nodes with bit 0 set; equal keys stand in the order of
//! arrival. A node stores its hash: a lookup compares that, and only inserts need the order.
//!
//! # Invariants
//!
//! * L1: the predecessor of a key is unique in that order, whatever size a thread believes in.
//! * L2: a node is linked once in its life and leaves by one transition of its own word, to
//!   `REMOVED`; a removed node's word never changes again.
//! * L3: a removed node never stands behind a live node of the same name: an inserter's walk passes,
//!   and unlinks, every removed node of an equal key before its place; a replacement is linked
//!   directly behind what it replaces. The winner's second search therefore reaches its node.
//!   Where the caller has names pass for one ([`List::search`]'s match), this holds for those together.
//! * L4: a cell is a starting point only once it is linked.
//! * L5: the filter of a linked cell has the bits of all nodes behind it, up to the next cell. Who links a node
//!   sets its bit first, in the last cell that it has met; with the link itself, if that is the cell's.
//!   A cell that comes to stand between the two leads to a node, and has all bits; if it leads to a cell,
//!   nothing is behind it, and who links there exchanges the same word. Bits are cleared by the step that
//!   makes the cell lead to a cell, also to one that is linked there: then nothing is behind it. Who has set
//!   a bit and not linked yet links behind a node, which was removed before that step, so that fails; or by
//!   the cell's own word, with the bit.
//!
//! # Races, both orders
//!
//! * Two inserts of one name: both need the same predecessor's word. The second exchange fails, its
//!   search finds the first's node, and it replaces or reports that.
//! * Insert and removal of its predecessor: if the removal is first, the word carries `REMOVED` and
//!   the exchange fails; if the insert is first, the removed node's word already leads to it.
//! * Replace and removal: both change the old node's word. One of the two transitions sets
//!   `REMOVED`; the other sees it and searches again.
//! * Lookup and replace: before the exchange the lookup finds the old node; after it, the old node's
//!   word leads to the new one. There is no instant without either.
//! * Lookup and growth: a region ends at the next cell only for the size with which the walk began;
//!   if the size has changed when the walk meets a cell, it starts again (C3).
//!
//! * Lookup that the filter spares ([`List::is_absent_at`]) and an insert there: the cell's word has the bit
//!   before the node is linked. If that is first, the lookup goes on under a pin; if the load is first, the
//!   miss came before the insert.
//! * Such a lookup and growth: the size is read after the cell. If it has changed, the lookup goes on under
//!   a pin. If the growth comes after that, what is put behind the new cells does, too. What was there before
//!   had its bit in the old cell, until a step that led to the new one cleared it: who sees that sees the
//!   new size (C3).
//! * Removal by the word before, and an insert, another removal or the setting of a bit there: all change that
//!   word. If the other is first, the exchange fails and the winner searches; if this is first, the other
//!   does, or sets a bit that stands for nothing.
//!
//! Models: `loom-tests/tests/table.rs`, `replace.rs`, `grow.rs` and `filter.rs`.

use std::cell::Cell;
use std::ptr::NonNull;

use super::cells::{Cells, index};
use super::events::Events;
use super::link::{AtomicLink, Link, Target};
use super::node::{Name, Node, Pinned};
use super::spot::{Spot, prefetch_header};
use crate::reclaim::Guard;
use crate::reclaim::prefetch::{prefetch, prefetch_to_write};
use crate::sync::planted;

/// Where a walk that may change the list has stopped.
pub(super) struct Place<'g, S> {
    /// The word before the place; it held `link`.
    pub(super) previous: &'g AtomicLink,
    pub(super) link: Link,
    /// The last cell before the place, which the walk has met.
    pub(super) cell: &'g AtomicLink,
    /// The node of the name, and what its word held, which was not `REMOVED`.
    pub(super) found: Option<(Pinned<'g, S>, Link)>,
}

impl<'g, S> Place<'g, S> {
    /// The node of the name, if there is one, and what its word held.
    #[inline]
    pub(super) fn found(&self) -> Option<(Found<'g, S>, Link)> {
        let before = Some((self.previous, self.link));
        self.found.map(|(node, next)| (Found { node, before }, next))
    }

    /// Links a node of `hash` at the place; `false` when that has changed.
    #[inline]
    pub(super) fn link(&self, node: NonNull<Node<S>>, hash: u64) -> bool {
        let new = Link::to_node(node).in_place_of(self.link);
        if std::ptr::eq(self.previous, self.cell) {
            return self.previous.replace(self.link, new.leading_to(hash));
        }
        if planted!("linked-before-its-bit") {
            let is_linked = self.previous.replace(self.link, new);
            self.cell.lead_to(hash);
            return is_linked;
        }
        self.cell.lead_to(hash);
        self.previous.replace(self.link, new)
    }
}

/// A live node, and the word that led to it.
pub(crate) struct Found<'g, S> {
    node: Pinned<'g, S>,
    /// The word before the node, and what it held; `None` when removed nodes stood between.
    before: Option<(&'g AtomicLink, Link)>,
}

impl<S> Clone for Found<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Found<'_, S> {}

impl<'g, S> Found<'g, S> {
    /// The node.
    #[inline]
    pub(crate) fn pinned(&self) -> Pinned<'g, S> {
        self.node
    }

    /// The node's header.
    #[inline]
    pub(crate) fn node(&self) -> &'g Node<S> {
        self.node.node()
    }

    /// Whether the node is in the table still, after all that the caller has done; whoever removes it later
    /// sees that.
    pub(crate) fn is_still_there(&self) -> bool {
        self.node().next.is_still_linked()
    }

    /// Takes the node out of the list, once it is removed and its word holds `next`; `false` when it
    /// takes a search to do that.
    ///
    /// While the word before holds the link, it is in the list, and the node behind it: a node never
    /// comes back behind a word that it has left (L2).
    ///
    /// Announces it first, if it is told. A node behind a removed one is left to a search (E3).
    #[inline]
    pub(super) fn unlink(&self, next: Link, events: Option<&Events>) -> bool {
        let Some((previous, link)) = self.before else { return false };
        if planted!("unlink-before-announcement") {
            let is_out = unlink(previous, link, next).is_some();
            events.inspect(|events| events.left(self.node));
            return is_out;
        }
        if let Some(events) = events {
            events.left(self.node);
        }
        unlink(previous, link, next).is_some()
    }
}

impl<'g, S> From<Pinned<'g, S>> for Found<'g, S> {
    fn from(node: Pinned<'g, S>) -> Self {
        Self { node, before: None }
    }
}

/// Where a walk begins.
struct Start<'g> {
    cell: &'g AtomicLink,
    /// What the cell held.
    link: Link,
    /// Whether the cell is the key's own for `size`, not an ancestor's.
    own: bool,
    size: usize,
}

impl<'g> Start<'g> {
    /// A walk's beginning at its own cell, which is linked and held `link`.
    #[inline]
    fn own(spot: Spot<'g>, link: Link) -> Self {
        Self { cell: spot.cell, link, own: true, size: spot.size }
    }

    /// The spot where the walk began, if that was its own.
    fn spot(&self) -> Spot<'g> {
        Spot { cell: self.cell, size: self.size }
    }
}

/// The list of one shard. It owns the cells; nodes belong to the table above.
#[derive(Debug)]
pub(super) struct List {
    cells: Cells,
    /// Who takes a node out announces it here first.
    pub(super) events: Events,
}

impl List {
    pub(super) fn new() -> Self {
        Self { cells: Cells::new(), events: Events::new() }
    }

    /// The number of cells.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.cells.size()
    }

    /// Makes `to` cells of `size`, if there are still so many.
    pub(super) fn grow(&self, size: usize, to: usize) {
        self.cells.grow(size, to);
    }

    /// Whether there are cells that nobody has been asked to link.
    #[inline]
    pub(super) fn has_more_to_link(&self) -> bool {
        self.cells.has_more_to_link()
    }

    /// Links a few cells that growth has made. What nobody links here, as a thread that stops, whoever needs the
    /// cell does.
    #[cold]
    pub(super) fn link_some<S>(&self, guard: &Guard) {
        let indices = self.cells.to_link();
        // The cells are neighbours, and so are their parents, but not the nodes.
        for index in indices.clone().filter(|&index| index > 0) {
            if let Target::Node(node) = self.cells.get(parent(index)).load().target::<S>() {
                prefetch_header(node, prefetch);
            }
        }
        for index in indices {
            if self.cells.get(index).load() == Link::UNCLAIMED {
                self.link_cell::<S>(index, self.size(), guard);
            }
        }
    }

    /// The cell of `hash`, which is asked for.
    #[inline]
    pub(super) fn spot(&self, hash: u64) -> Spot<'_> {
        self.spot_by(hash, prefetch)
    }

    /// As [`spot`](Self::spot), of a cell that is going to be written.
    #[inline]
    pub(super) fn spot_to_write(&self, hash: u64) -> Spot<'_> {
        self.spot_by(hash, prefetch_to_write)
    }

    #[inline(always)]
    fn spot_by(&self, hash: u64, ask: impl Fn(*const AtomicLink)) -> Spot<'_> {
        let (cell, size) = self.cells.of(hash);
        if !cfg!(loom) {
            ask(cell);
        }
        Spot { cell, size }
    }

    /// Whether no node of `hash`, or of one that ends in its 48 last bits, is behind the cell of a spot, which
    /// is the hash's; asks for the first node's memory if one may be.
    ///
    /// Needs no pin, for it follows no link: the cells stay, and one load of the cell shows it.
    #[inline]
    pub(super) fn is_absent_at<S>(&self, spot: &Spot<'_>, hash: u64) -> bool {
        let is_size_known = planted!("size-before-cell") && self.is_end(spot);
        let link = spot.cell.load();
        if !link.may_lead_to(hash) {
            return link.is_ready() && (is_size_known || self.is_end(spot));
        }
        if let Target::Node(node) = link.target::<S>() {
            prefetch_header(node, prefetch);
        }
        false
    }

    /// Finds the live node of `hash` that `is_match` accepts, or the place of one, and unlinks removed
    /// nodes on the way. Inlined always, as [`find`](Self::find).
    #[inline(always)]
    pub(super) fn search<'g, S: 'g>(
        &'g self,
        hash: u64,
        spot: Spot<'g>,
        guard: &'g Guard,
        is_match: impl Fn(&Node<S>) -> bool,
    ) -> Place<'g, S> {
        let link = spot.cell.load();
        let start = if link.is_ready() {
            let place = self.search_from(Start::own(spot, link), hash, guard, &is_match);
            if let Some(place) = place {
                return place;
            }
            self.start_anew::<S>(hash, guard)
        } else {
            self.start_cold::<S>(index(hash, spot.size), spot.size, guard)
        };
        self.search_on(start, hash, guard, is_match)
    }

    /// The rest of [`search`](Self::search) where the cell was not linked, or something got in the way.
    #[cold]
    #[inline(never)]
    fn search_on<'g, S: 'g>(
        &'g self,
        mut start: Start<'g>,
        hash: u64,
        guard: &'g Guard,
        is_match: impl Fn(&Node<S>) -> bool,
    ) -> Place<'g, S> {
        loop {
            if let Some(place) = self.search_from(start, hash, guard, &is_match) {
                return place;
            }
            start = self.start_anew::<S>(hash, guard);
        }
    }

    /// One attempt at [`search`](Self::search), for a hash or for the index of a cell; `None` when it
    /// has to begin again.
    #[inline(always)]
    fn search_from<'g, S: 'g>(
        &'g self,
        start: Start<'g>,
        hash: u64,
        guard: &'g Guard,
        is_match: impl Fn(&Node<S>) -> bool,
    ) -> Option<Place<'g, S>> {
        let mut cell = start.cell;
        let mut previous = cell;
        let mut link = start.link;
        loop {
            let node = match link.target::<S>() {
                Target::End => return Some(Place { previous, link, cell, found: None }),
                Target::Cell(next) => match self.pass(next, &start, hash)? {
                    Passage::RegionEnds => {
                        return Some(Place { previous, link, cell, found: None });
                    }
                    Passage::On(next) => {
                        if !planted!("bit-in-the-first-cell") {
                            cell = next;
                        }
                        previous = next;
                        link = previous.load();
                        continue;
                    }
                },
                // SAFETY: P1: reached through links under the guard.
                Target::Node(node) => unsafe { Pinned::new(node, guard) },
            };
            let next = node.node().next.load();
            if next.is_removed() {
                link = self.take_out(node, next, previous, link)?;
                continue;
            }
            if comes_after(node.node().hash(), hash) {
                return Some(Place { previous, link, cell, found: None });
            }
            if is_match(node.node()) {
                return Some(Place { previous, link, cell, found: Some((node, next)) });
            }
            previous = &node.node().next;
            link = next;
        }
    }

    /// Takes a removed node, whose word holds `next`, out of the list, and announces it first if it is
    /// told. Returns what the word before it holds now, or `None` when that has changed.
    #[cold]
    fn take_out<S>(
        &self,
        node: Pinned<'_, S>,
        next: Link,
        previous: &AtomicLink,
        link: Link,
    ) -> Option<Link> {
        if next.is_told() && !planted!("search-without-announcement") {
            self.events.left(node);
        }
        unlink(previous, link, next)
    }

    /// Finds the live node of `hash`, or of one that ends in it, that `is_match` accepts; `spot` is
    /// the cell of `hash`.
    ///
    /// Writes nothing, but for cells that nobody has claimed yet. Inlined always: its arguments and its
    /// result are more than registers hold.
    #[inline(always)]
    pub(super) fn find<'g, S: 'g>(
        &'g self,
        hash: u64,
        spot: Spot<'g>,
        guard: &'g Guard,
        is_match: impl Fn(Pinned<'g, S>) -> bool,
    ) -> Option<Found<'g, S>> {
        let link = spot.cell.load();
        let start = if link.is_ready() {
            let found = self.find_from(Start::own(spot, link), hash, guard, &is_match);
            if let Some(found) = found {
                return found;
            }
            self.start_anew::<S>(hash, guard)
        } else {
            self.start_cold::<S>(index(hash, spot.size), spot.size, guard)
        };
        self.find_on(start, hash, guard, is_match).map(Found::from)
    }

    /// The rest of [`find`](Self::find) where the cell was not linked, or there are more cells now.
    #[cold]
    #[inline(never)]
    fn find_on<'g, S: 'g>(
        &'g self,
        mut start: Start<'g>,
        hash: u64,
        guard: &'g Guard,
        is_match: impl Fn(Pinned<'g, S>) -> bool,
    ) -> Option<Pinned<'g, S>> {
        loop {
            if let Some(found) = self.find_from(start, hash, guard, &is_match) {
                return found.map(|found| found.pinned());
            }
            start = self.start_anew::<S>(hash, guard);
        }
    }

    /// One attempt at [`find`](Self::find); `None` when it has to begin again.
    #[inline(always)]
    fn find_from<'g, S: 'g>(
        &'g self,
        start: Start<'g>,
        hash: u64,
        guard: &'g Guard,
        is_match: impl Fn(Pinned<'g, S>) -> bool,
    ) -> Option<Option<Found<'g, S>>> {
        let mut link = start.link;
        let mut before = Some((start.cell, link));
        loop {
            let node = match link.target::<S>() {
                Target::End => return Some(None),
                Target::Cell(cell) => match self.pass(cell, &start, hash)? {
                    Passage::RegionEnds => return Some(None),
                    Passage::On(cell) => {
                        link = cell.load();
                        before = Some((cell, link));
                        continue;
                    }
                },
                // SAFETY: P1: reached through links under the guard.
                Target::Node(node) => unsafe { Pinned::new(node, guard) },
            };
            let next = node.node().next.load();
            if is_match(node) && !next.is_removed() {
                return Some(Some(Found { node, before }));
            }
            before = (!next.is_removed()).then_some((&node.node().next, next));
            link = next;
        }
    }

    /// Whether a removed node akin to `name`, whose removal is told, is in the list.
    pub(super) fn has_removed<'g, S: 'g>(&'g self, name: &Name, guard: &'g Guard) -> bool {
        let is_found = Cell::new(false);
        let _ = self.find::<S>(name.hash, self.spot(name.hash), guard, |node| {
            let node = node.node();
            let is_untold = node.is_told_for_coming() && !planted!("leaving-of-the-untold");
            let is_leaving = node.is_akin(name) && node.is_told() && !is_untold;
            is_found.set(is_found.get() || is_leaving);
            false
        });
        is_found.get()
    }

    /// Calls `visit` with the live nodes from `from` on, in order; follows `most` links, and then as
    /// many more as it takes to come to another key. Returns the key to go on from.
    pub(super) fn walk<'g, S: 'g>(
        &'g self,
        from: u64,
        most: usize,
        guard: &'g Guard,
        mut visit: impl FnMut(Pinned<'g, S>),
    ) -> Option<u64> {
        let hash = from.reverse_bits();
        let mut link = self.start_anew::<S>(hash, guard).link;
        let (mut steps, mut last) = (0, None);
        loop {
            steps += 1;
            let node = match link.target::<S>() {
                Target::End => return None,
                Target::Cell(cell) => {
                    if steps > most {
                        // Not before `from`, where a walk from an ancestor may still be.
                        let key = dummy_key(self.cells.index_of(cell));
                        if key > from {
                            return Some(key);
                        }
                    }
                    link = self.cell(cell).load();
                    continue;
                }
                // SAFETY: P1: reached through links under the guard.
                Target::Node(node) => unsafe { Pinned::new(node, guard) },
            };
            let (key, next) = (node.node().key(), node.node().next.load());
            if key >= from {
                if steps > most && last.is_some_and(|last| last != key) {
                    return Some(key);
                }
                last = Some(key);
                if !next.is_removed() {
                    visit(node);
                } else if next.is_told() && !planted!("left-to-its-remover") {
                    // Who has removed it may have been stopped before it announced that: a sweep would leave it untold.
                    self.events.left(node);
                }
            }
            link = next;
        }
    }

    /// What a walk for `hash` does at `cell`: `None` when it has to begin again.
    #[inline]
    fn pass<'g>(
        &'g self,
        cell: NonNull<AtomicLink>,
        start: &Start<'g>,
        hash: u64,
    ) -> Option<Passage<'g>> {
        if start.own {
            return self.is_end(&start.spot()).then_some(Passage::RegionEnds);
        }
        Some(self.pass_cold(cell, hash))
    }

    /// Whether the region of a spot ends where a walk from it meets a cell: while there are as many cells
    /// as when the spot was looked up (C3).
    #[inline]
    fn is_end(&self, spot: &Spot<'_>) -> bool {
        self.cells.size() == spot.size || planted!("no-size-recheck")
    }

    /// [`pass`](Self::pass) on a walk from an ancestor's cell.
    #[cold]
    fn pass_cold(&self, cell: NonNull<AtomicLink>, hash: u64) -> Passage<'_> {
        let index = self.cells.index_of(cell) as u64;
        if planted!("ancestor-region-ends") || comes_after(index, hash) {
            return Passage::RegionEnds;
        }
        Passage::On(self.cell(cell))
    }

    /// A linked cell of this list.
    #[inline]
    fn cell(&self, cell: NonNull<AtomicLink>) -> &AtomicLink {
        // SAFETY: C1: cells in the list are of this table and stay while it lives.
        unsafe { cell.as_ref() }
    }

    /// The nearest linked cell at or before that of a hash, among the cells of now.
    #[cold]
    fn start_anew<'g, S>(&'g self, hash: u64, guard: &'g Guard) -> Start<'g> {
        let spot = self.spot(hash);
        let link = spot.cell.load();
        if link.is_ready() {
            return Start::own(spot, link);
        }
        self.start_cold::<S>(index(hash, spot.size), spot.size, guard)
    }

    /// The nearest linked cell at or before the one of index `own`, which has to be linked first. A
    /// claimer that is stopped costs the others a longer walk, from an ancestor.
    #[cold]
    fn start_cold<'g, S>(&'g self, own: usize, size: usize, guard: &'g Guard) -> Start<'g> {
        let mut index = own;
        loop {
            let cell = self.cells.get(index);
            let link = cell.load();
            if link.is_ready() || planted!("start-early") && link != Link::UNCLAIMED {
                return Start { cell, link, own: index == own, size };
            }
            if link == Link::UNCLAIMED && self.link_cell::<S>(index, size, guard) {
                continue;
            }
            index = parent(index);
        }
    }

    /// Claims the cell of `index` and links it; `false` when another thread has claimed it.
    fn link_cell<S>(&self, index: usize, size: usize, guard: &Guard) -> bool {
        let cell = self.cells.get(index);
        if !cell.replace(Link::UNCLAIMED, Link::END.initialising()) {
            return false;
        }
        loop {
            let start = self.start_cold::<S>(parent(index), size, guard);
            let start = Start { own: false, ..start };
            // No node has a dummy's key (bit 0), so the search ends at the place of the cell.
            let place = self.search_from::<S>(start, index as u64, guard, |_| false);
            let Some(place) = place else { continue };
            // The word is private until the exchange below publishes it: L4 keeps others from it.
            // L5: whoever has found a place behind it has set no bit in it.
            let link = place.link.in_place_of(Link::END.initialising());
            cell.set_private(link.leading_to_any());
            if place.previous.replace(place.link, Link::to_cell(cell).in_place_of(place.link)) {
                cell.mark_ready();
                return true;
            }
        }
    }

    /// Every node that is still linked, for the table's drop: no other thread has the list.
    pub(super) fn drain<S>(&mut self, mut each: impl FnMut(NonNull<Node<S>>)) {
        let mut link = self.cells.get(0).load();
        loop {
            match link.target::<S>() {
                Target::End => return,
                Target::Cell(cell) => link = self.cell(cell).load(),
                Target::Node(node) => {
                    // SAFETY: N3: linked, hence not retired; `each` may free it, so the link is
                    // read first.
                    link = unsafe { node.as_ref() }.next.load();
                    each(node);
                }
            }
        }
    }
}

/// What a walk does at a cell.
enum Passage<'g> {
    RegionEnds,
    On(&'g AtomicLink),
}

/// Takes a removed node out of the list: its predecessor's word held `link`, its own holds `next`.
/// Returns what the predecessor's word holds now, or `None` when that word has changed.
#[inline]
fn unlink(previous: &AtomicLink, link: Link, next: Link) -> Option<Link> {
    let bits = if planted!("cleared-with-the-first") { Link::END } else { link };
    let skip = next.in_place_of(bits);
    if planted!("unlink-by-store") {
        previous.set_private(skip);
        return Some(skip);
    }
    previous.replace(link, skip).then_some(skip)
}

/// Whether a hash stands behind another one in the list, whose order is that of the reversed bits: the
/// lowest bit that differs decides. A cell's index stands for its dummy's hash.
#[inline]
fn comes_after(hash: u64, other: u64) -> bool {
    let differ = hash ^ other;
    hash & differ & differ.wrapping_neg() != 0
}

/// The key of a cell: its index reversed, bit 0 clear.
#[inline]
fn dummy_key(index: usize) -> u64 {
    (index as u64).reverse_bits()
}

/// The cell whose region a cell splits: its index without the highest bit.
fn parent(index: usize) -> usize {
    index & !(1 << index.ilog2())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_reversed_bits() {
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (number % 64);
        for (a, b) in (0..1000).flat_map(|a| (0..1000).map(move |b| (hash(a), hash(b)))) {
            assert_eq!(comes_after(a, b), a.reverse_bits() > b.reverse_bits(), "{a:x} {b:x}");
        }
    }
}
