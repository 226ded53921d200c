//! Where a lookup begins, and what it asks the processor for.

use std::ptr::NonNull;

use super::link::{AtomicLink, Target};
use super::node::Node;
use crate::reclaim::prefetch::{CACHE_LINE, prefetch, prefetch_to_write};

/// The cell of a hash. It is known before a pin, so that its memory can be asked for early.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'g> {
    pub(super) cell: &'g AtomicLink,
    /// How many cells there were when the spot was looked up.
    pub(super) size: usize,
}

impl Spot<'_> {
    /// Asks the processor for the first node behind the cell: for both its cache lines, the search's
    /// and the expiry's. Under loom this does nothing: there are no cache lines, and what it reads
    /// would cost executions.
    #[inline]
    pub(crate) fn prefetch_node<S>(&self) {
        self.prefetch_by::<S>(prefetch);
    }

    /// As [`prefetch_node`](Self::prefetch_node), of a node that is going to be written.
    #[inline]
    pub(crate) fn prefetch_node_to_write<S>(&self) {
        self.prefetch_by::<S>(prefetch_to_write);
    }

    #[inline(always)]
    fn prefetch_by<S>(&self, ask: impl Fn(*const u8)) {
        if cfg!(loom) {
            return;
        }
        if let Target::Node(node) = self.cell.load().target::<S>() {
            prefetch_header(node, ask);
        }
    }
}

/// Asks the processor for both lines of a header, the search's and the expiry's.
#[inline(always)]
pub(super) fn prefetch_header<S>(node: NonNull<Node<S>>, ask: impl Fn(*const u8)) {
    if cfg!(loom) {
        return;
    }
    let header = node.as_ptr().cast::<u8>();
    ask(header);
    ask(header.wrapping_add(CACHE_LINE));
}
