//! The words of the list: what a cell and a node's `next` hold.
//!
//! A link is the address of the next node or cell, and three flags in its low bits:
//!
//! | flag | meaning | set by | cleared |
//! |---|---|---|---|
//! | `REMOVED` | the node that *holds* this word has left the table | the winner of its removal | never |
//! | `BUCKET` | the address is a cell's, or the list ends here | linking a cell | by what links a node there |
//! | `INIT` | the cell that holds this word is being linked; nobody may start at it | the claim of the cell | its claimer, once |
//!
//! The all-zero word is a cell that nobody has claimed: fresh zero pages are valid cells.
//!
//! The 16 bits above the 48 of an address are the owner's, too.
//!
//! The word of a node whose removal is told has the reason there, in five bits: the reason is known
//! from the step on that decides the removal. A node that is in the table has none of them set.
//!
//! The word of a cell has its *filter* there: a bit for each hash behind it, up to the next cell, one
//! of sixteen (Bloom 1970, with one function). Most lookups of what is not there see that in the
//! cell, and follow no link.

use std::ptr::{self, NonNull};

use super::node::Node;
use crate::sync::{AtomicPtrWord, Ordering, planted};

const REMOVED: usize = 1;
const BUCKET: usize = 2;
const INIT: usize = 4;
/// Bits of an address. User space has no more on the 64-bit systems of today, unless a program asks
/// for mappings above.
pub(super) const ADDRESS_BITS: u32 = 48;
/// The reason of a removal that is announced for its node's coming alone (E4 in `events.rs`): that it leaves is told to nobody.
pub(crate) const COMING: u8 = 15;

/// The removal is told, for the reason in the four bits below.
const TOLD: usize = 1 << (ADDRESS_BITS + 4);
const REASON: usize = TOLD - (1 << ADDRESS_BITS);
/// What is set in a cell for the hashes behind it.
const FILTER: usize = usize::MAX << ADDRESS_BITS;
const FLAGS: usize = REMOVED | BUCKET | INIT | FILTER;
/// Which of a hash's bits choose one of the filter: of the 48 that a hint has those that come last in the
/// choice of a cell.
const FILTER_SHIFT: u32 = 44;

const _: () = assert!(usize::BITS == 64, "the words of the list need 64 bits");

/// One word's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(*mut ());

/// Where a link leads.
pub(super) enum Target<S> {
    End,
    Cell(NonNull<AtomicLink>),
    Node(NonNull<Node<S>>),
}

impl Link {
    /// A cell that nobody has claimed.
    pub(super) const UNCLAIMED: Self = Self(ptr::null_mut());
    /// The end of the list.
    pub(super) const END: Self = Self(ptr::without_provenance_mut(BUCKET));

    /// A link to a node.
    #[inline]
    pub(super) fn to_node<S>(node: NonNull<Node<S>>) -> Self {
        const { assert!(align_of::<Node<u8>>() > REMOVED | BUCKET | INIT) };
        assert!(node.as_ptr().addr() >> ADDRESS_BITS == 0, "an address of user space");
        Self(node.as_ptr().cast())
    }

    /// A link to a cell.
    #[inline]
    pub(super) fn to_cell(cell: &AtomicLink) -> Self {
        const { assert!(align_of::<AtomicLink>() > REMOVED | BUCKET | INIT) };
        Self(ptr::from_ref(cell).cast_mut().cast::<()>().map_addr(|address| address | BUCKET))
    }

    /// Where the link leads. Flags of the word's owner are ignored.
    #[inline]
    pub(super) fn target<S>(self) -> Target<S> {
        let Some(address) = NonNull::new(self.0.map_addr(|address| address & !FLAGS)) else {
            return Target::End;
        };
        if self.0.addr() & BUCKET != 0 {
            return Target::Cell(address.cast());
        }
        Target::Node(address.cast())
    }

    /// Whether the owner of the word has left the table.
    #[inline]
    pub(super) fn is_removed(self) -> bool {
        self.0.addr() & REMOVED != 0
    }

    /// Whether a walk may start at the cell that holds this word.
    #[inline]
    pub(super) fn is_ready(self) -> bool {
        self != Self::UNCLAIMED && self.0.addr() & INIT == 0
    }

    /// Whether the removal of the word's owner is told.
    #[inline]
    pub(super) fn is_told(self) -> bool {
        self.0.addr() & TOLD != 0
    }

    /// The reason of a removal that is told.
    pub(super) fn reason(self) -> u8 {
        ((self.0.addr() & REASON) >> ADDRESS_BITS) as u8
    }

    /// The same target, for a word whose owner leaves the table with this very step, for this reason
    /// if that is told.
    #[inline]
    pub(super) fn removed(self, tell: Option<u8>) -> Self {
        let told = tell.map_or(0, |reason| TOLD | usize::from(reason & 15) << ADDRESS_BITS);
        Self(self.0.map_addr(|address| address | REMOVED | told))
    }

    /// The same target, for a word whose cell is being linked.
    pub(super) fn initialising(self) -> Self {
        Self(self.0.map_addr(|address| address | INIT))
    }

    /// The same target in the word that held `old`: the owner's flags stay. Of them the filter only while a
    /// node is next: otherwise nothing is behind a cell.
    ///
    /// The owner is in the list, and not removed.
    #[inline]
    pub(super) fn in_place_of(self, old: Self) -> Self {
        let is_last = self.0.addr() & BUCKET != 0;
        let kept = if is_last { INIT } else { INIT | FILTER } & old.0.addr();
        Self(self.0.map_addr(|address| address & !(FLAGS - BUCKET) | kept))
    }

    /// Whether the filter of the cell that holds this word has the bit of `hash`: whether a session of it
    /// may be behind the cell.
    #[inline]
    pub(super) fn may_lead_to(self, hash: u64) -> bool {
        self.0.addr() & filter_bit(hash) != 0
    }

    /// The same word, with the bit of `hash` in the filter.
    #[inline]
    pub(super) fn leading_to(self, hash: u64) -> Self {
        Self(self.0.map_addr(|address| address | filter_bit(hash)))
    }

    /// The same word for a cell behind which anything may be: with all bits of the filter, if a node is next.
    pub(super) fn leading_to_any(self) -> Self {
        if self.0.addr() & BUCKET != 0 || planted!("new-cell-knows-nothing") {
            return self;
        }
        Self(self.0.map_addr(|address| address | FILTER))
    }
}

/// The bit of a hash in the filter of a cell.
#[inline]
fn filter_bit(hash: u64) -> usize {
    1 << (ADDRESS_BITS + (hash >> FILTER_SHIFT & 15) as u32)
}

/// A word of the list.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct AtomicLink(AtomicPtrWord);

impl AtomicLink {
    pub(super) fn new(link: Link) -> Self {
        Self(AtomicPtrWord::new(link.0))
    }

    /// Acquire: pairs with the Release of whoever wrote the word, so that the target's content is
    /// visible.
    #[inline]
    pub(super) fn load(&self) -> Link {
        Link(self.0.load(Ordering::Acquire))
    }

    /// For a word that no other thread can reach or write yet.
    ///
    /// Relaxed: the exchange that makes the owner reachable publishes it.
    #[inline]
    pub(super) fn set_private(&self, link: Link) {
        self.0.store(link.0, Ordering::Relaxed);
    }

    /// Writes `new` if the word still holds `old`.
    ///
    /// AcqRel: Release publishes the target (pairs with `load`); Acquire chains earlier links that
    /// the new one goes on with. On failure Relaxed: the caller starts again with a `load`.
    #[inline]
    #[must_use]
    pub(super) fn replace(&self, old: Link, new: Link) -> bool {
        if planted!("relaxed-link") {
            return self
                .0
                .compare_exchange(old.0, new.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        }
        self.0.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Marks the owner of the word as removed, for this reason if that is told; returns the word as
    /// it was.
    ///
    /// AcqRel: Acquire lets the winner see the inserter's work; Release lets those who read the
    /// flag see what the winner did before (pairs with `load`).
    #[inline]
    pub(super) fn mark_removed(&self, tell: Option<u8>) -> Link {
        if tell.is_none() {
            let relaxed = planted!("relaxed-removal");
            let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
            return Link(self.0.fetch_or(REMOVED, order));
        }
        loop {
            let link = self.load();
            if link.is_removed() || self.replace(link, link.removed(tell)) {
                return link;
            }
        }
    }

    /// Sets the bit of `hash` in the filter of the cell that holds this word, if it is not set.
    ///
    /// Release: who sees the bit sees what this thread has seen of the table (pairs with `load`). The load is
    /// Relaxed: it is not older than the one with which the walk came by this cell, and since that the bit was
    /// cleared only if the node behind which the caller links was removed (L5).
    #[inline]
    pub(super) fn lead_to(&self, hash: u64) {
        let link = Link(self.0.load(Ordering::Relaxed));
        if link.may_lead_to(hash) {
            return;
        }
        if planted!("bit-by-load-and-store") {
            return self.0.store(link.leading_to(hash).0, Ordering::Release);
        }
        let relaxed = planted!("relaxed-lead-to");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
        self.0.fetch_or(filter_bit(hash), order);
    }

    /// Whether the owner of the word is in the table still.
    ///
    /// AcqRel, by a read-modify-write: who removes the owner later acquires what the caller did before
    /// (pairs with `replace` and `mark_removed`); a load could come before that.
    #[inline]
    pub(super) fn is_still_linked(&self) -> bool {
        let relaxed = planted!("relaxed-still-linked");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        !Link(self.0.fetch_or(0, order)).is_removed()
    }

    /// Opens the cell that holds this word as a starting point.
    ///
    /// Release: pairs with `load`, so that whoever starts here sees the cell linked.
    pub(super) fn mark_ready(&self) {
        if planted!("relaxed-ready") {
            self.0.fetch_and(!INIT, Ordering::Relaxed);
            return;
        }
        self.0.fetch_and(!INIT, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const HASHES: [u64; 3] = [1 << FILTER_SHIFT, 7 << FILTER_SHIFT, 15 << FILTER_SHIFT];

    fn node() -> Link {
        Link::to_node(NonNull::<Node<u8>>::dangling())
    }

    #[test]
    fn a_filter_has_the_bits_that_were_set() {
        let link = HASHES.iter().fold(node(), |link, &hash| link.leading_to(hash));
        for hash in (0..16).map(|bits: u64| bits << FILTER_SHIFT) {
            assert_eq!(link.may_lead_to(hash), HASHES.contains(&hash), "{hash:x}");
            assert!(node().leading_to_any().may_lead_to(hash));
            assert!(!Link::END.leading_to_any().may_lead_to(hash));
        }
        assert!(link.is_ready() && matches!(link.target::<u8>(), Target::Node(_)));
    }

    #[test]
    fn a_filter_stays_while_a_node_is_next_and_goes_with_the_last() {
        let [hash, ..] = HASHES;
        let old = node().leading_to(hash);
        assert!(node().in_place_of(old).may_lead_to(hash));
        assert!(node().in_place_of(old.initialising()).initialising() == old.initialising());
        let cell = AtomicLink::new(Link::END);
        for last in [Link::END, Link::to_cell(&cell)] {
            assert!(last.in_place_of(old) == last);
        }
    }

    #[test]
    fn a_link_brings_nothing_of_the_word_that_it_comes_from() {
        let from = node().removed(Some(9)).leading_to(HASHES[1]);
        assert!(from.in_place_of(node()) == node());
        assert!(from.in_place_of(Link::END.initialising()) == node().initialising());
    }

    #[test]
    fn a_bit_is_set_in_a_word_that_others_read() {
        let cell = AtomicLink::new(node());
        cell.lead_to(HASHES[0]);
        cell.lead_to(HASHES[0]);
        cell.lead_to(HASHES[2]);
        assert!(cell.load() == node().leading_to(HASHES[0]).leading_to(HASHES[2]));
    }
}
