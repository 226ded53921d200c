//! The array of cells: the table's entry points, in segments that never move.
//!
//! A cell is a bucket's dummy node, inline: one word, its link. Segment 0 holds the first
//! [`BASE`] cells, segment k ≥ 1 the cells [BASE·2^(k-1), BASE·2^k). Growing appends segments of
//! zero pages and then raises `size`; nothing is copied and nobody waits.
//!
//! * C1: the segments of all cells below `size` are allocated, and stay until the table is dropped.
//! * C2: `size` is a power of two and only grows.
//! * C3: a thread that sees a cell of index ≥ s in the list sees `size` > s: the cell was linked by
//!   a thread that had read the larger size, and both accesses chain through Acquire and Release.
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | `size` load | Acquire | the exchange in `grow`: the segment behind it is visible |
//! | `size` exchange | AcqRel | the loads; the earlier exchanges |
//! | segment load and exchange in `grow` | Acquire; AcqRel, on failure Acquire | each other, of two growers; the rest see a segment by the exchange of `size`, and their loads are Relaxed |
//!
//! Model: `loom-tests/tests/grow.rs`.

use std::ops::Range;
use std::ptr::{self, NonNull};

use super::link::{AtomicLink, Link};
use crate::sync::{AtomicPtrWord, AtomicUsize, Ordering, planted};

/// Cells of a new table. Few under loom and shuttle, so that a model and a short schedule can grow.
pub(super) const BASE: usize = if cfg!(loom) {
    2
} else if cfg!(shuttle) {
    4
} else {
    64
};

/// Cells that a put links after a growth: those of one cache line. There are four puts at least for them, before
/// the next growth.
const LINKED_TOGETHER: usize = if cfg!(loom) {
    1
} else if cfg!(shuttle) {
    2
} else {
    8
};

/// Enough for 2³⁷ cells; the count of sessions in a cache has 31 bits.
const SEGMENTS: usize = if cfg!(loom) { 3 } else { 32 };

/// The cells of one table.
#[derive(Debug)]
pub(super) struct Cells {
    size: AtomicUsize,
    /// The cells below were given out to be linked, or are.
    given_out: AtomicUsize,
    segments: [AtomicPtrWord; SEGMENTS],
}

impl Cells {
    pub(super) fn new() -> Self {
        let cells = Self {
            size: AtomicUsize::new(BASE),
            given_out: AtomicUsize::new(0),
            segments: std::array::from_fn(|_| AtomicPtrWord::new(ptr::null_mut())),
        };
        let first = allocate(BASE).expect("the first cells have memory");
        cells.segments[0].store(first.as_ptr().cast(), Ordering::Relaxed);
        cells.get(0).set_private(Link::END);
        cells
    }

    /// The number of cells in use, a power of two.
    #[inline]
    pub(super) fn size(&self) -> usize {
        let relaxed = planted!("relaxed-size");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
        // Acquire: C1, C3.
        self.size.load(order)
    }

    /// Whether there are cells that were not given out to be linked.
    #[inline]
    pub(super) fn has_more_to_link(&self) -> bool {
        // Relaxed: each cell's own word tells whether it is linked.
        self.given_out.load(Ordering::Relaxed) < self.size()
    }

    /// Gives out a few cells to be linked, each once; none if another thread is given those.
    pub(super) fn to_link(&self) -> Range<usize> {
        // Relaxed, both: as above.
        let from = self.given_out.load(Ordering::Relaxed);
        let to = from + LINKED_TOGETHER;
        if to > self.size() {
            return 0..0;
        }
        let given = self.given_out.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        if given.is_ok() { from..to } else { 0..0 }
    }

    /// The cell of a hash, and how many cells there are. Every lookup begins here, hence without a check.
    #[inline]
    pub(super) fn of(&self, hash: u64) -> (&AtomicLink, usize) {
        let size = self.size();
        let index = index(hash, size);
        let segment = segment_of(index);
        // SAFETY: C1, C2: the index is below the size, so there is such a segment.
        let first = unsafe { self.segments.get_unchecked(segment) };
        // Relaxed: the Acquire load of the size made the pointer visible (C1).
        let first = first.load(Ordering::Relaxed).cast::<AtomicLink>();
        debug_assert!(!first.is_null(), "C1: a cell below the size has a segment");
        // SAFETY: C1: the segment is allocated, and the index is below its end.
        (unsafe { &*first.add(index - segment_start(segment)) }, size)
    }

    /// The cell of this index, which is below a size that the caller has read.
    pub(super) fn get(&self, index: usize) -> &AtomicLink {
        let segment = segment_of(index);
        // Relaxed: as above.
        let first = NonNull::new(self.segments[segment].load(Ordering::Relaxed));
        let first = first.expect("C1: a cell below the size has a segment").cast::<AtomicLink>();
        // SAFETY: the segment is allocated, and the index below its end.
        unsafe { first.add(index - segment_start(segment)).as_ref() }
    }

    /// The index of a cell of this table, from its address.
    ///
    /// Only a walk from an ancestor asks; it looks through the few segments from the largest on.
    pub(super) fn index_of(&self, cell: NonNull<AtomicLink>) -> usize {
        let address = cell.as_ptr().addr();
        let segments = segment_of(self.size() - 1);
        for segment in (0..=segments).rev() {
            // Relaxed: as in `get`.
            let first = self.segments[segment].load(Ordering::Relaxed).addr();
            let offset = address.wrapping_sub(first) / size_of::<AtomicLink>();
            if address >= first && offset < segment_len(segment) {
                return segment_start(segment) + offset;
            }
        }
        unreachable!("C3: a linked cell is below the size");
    }

    /// Makes `to` cells, a power of two, of `size`, if there are still so many.
    ///
    /// Not under a pin: it allocates. A thread that stops inside leaves the size as it was, and the
    /// next put grows. So it does where there was no memory: searches are longer without, and that is all.
    pub(super) fn grow(&self, size: usize, to: usize) {
        let to = to.min(BASE << (SEGMENTS - 1));
        if to <= size || self.size() != size {
            return;
        }
        let (first, last) = (segment_of(size), segment_of(to - 1));
        let made = (first..=last).take_while(|&segment| self.make_segment(segment)).count();
        // As many as there was memory for.
        let to = segment_start(first + made);
        if to == size {
            return;
        }
        // If it fails, another thread has grown it already, and the next put does if that is too little.
        // Both orders with a put at the old size: it meets the new cells only once they are linked,
        // and reads the size again when it does (C3).
        let _ = self.size.compare_exchange(size, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Makes a segment if there is none; `false` if there is no memory for it.
    fn make_segment(&self, segment: usize) -> bool {
        // Acquire and Release: another grower's segment becomes visible here, ours to it and,
        // through the exchange of the size, to everybody (C1).
        let relaxed = planted!("relaxed-segment");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
        if !self.segments[segment].load(order).is_null() {
            return true;
        }
        let Some(new) = allocate(segment_len(segment)) else { return false };
        let installed = self.segments[segment].compare_exchange(
            ptr::null_mut(),
            new.as_ptr().cast(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if installed.is_err() {
            // SAFETY: allocated above with this length, and nobody has seen it.
            unsafe { free(new, segment_len(segment)) };
        }
        true
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        for (segment, first) in self.segments.iter().enumerate() {
            // Relaxed: `&mut self` orders this after every other access.
            if let Some(first) = NonNull::new(first.load(Ordering::Relaxed)) {
                // SAFETY: C1: allocated with this length, and freed here only.
                unsafe { free(first.cast(), segment_len(segment)) };
            }
        }
    }
}

/// The index of a hash's cell among so many.
#[inline]
pub(super) fn index(hash: u64, size: usize) -> usize {
    hash as usize & (size - 1)
}

#[inline]
fn segment_of(index: usize) -> usize {
    ((index | (BASE - 1)).ilog2() - (BASE - 1).ilog2()) as usize
}

#[inline]
fn segment_start(segment: usize) -> usize {
    // The first segment is as long as the second one, which begins at `BASE`: no branch.
    (BASE << segment >> 1) & !(BASE - 1)
}

fn segment_len(segment: usize) -> usize {
    if segment == 0 { BASE } else { BASE << (segment - 1) }
}

/// Zeroed cells: untouched pages of a large segment are not resident. `None` without memory.
#[cfg(not(loom))]
fn allocate(len: usize) -> Option<NonNull<AtomicLink>> {
    use std::alloc::{Layout, alloc_zeroed};

    #[cfg(test)]
    if len > tests::MEMORY.get() {
        return None;
    }
    let layout = Layout::array::<AtomicLink>(len).expect("a segment is smaller than the memory");
    // SAFETY: the layout is not empty, for every segment has cells.
    let first = unsafe { alloc_zeroed(layout) };
    // All-zero is a valid cell, `Link::UNCLAIMED`.
    let first = NonNull::new(first)?;
    let end = first.as_ptr().addr() + layout.size();
    assert!(end >> super::link::ADDRESS_BITS == 0, "an address of user space");
    Some(first.cast())
}

/// loom's atomics cannot be made from zero bytes.
#[cfg(loom)]
fn allocate(len: usize) -> Option<NonNull<AtomicLink>> {
    let cells: Box<[_]> = (0..len).map(|_| AtomicLink::new(Link::UNCLAIMED)).collect();
    Some(NonNull::from(Box::leak(cells)).cast())
}

/// # Safety
///
/// `first` came from `allocate(len)` and is not used afterwards.
unsafe fn free(first: NonNull<AtomicLink>, len: usize) {
    let cells = NonNull::slice_from_raw_parts(first, len);
    // SAFETY: a box of a slice has the layout of an array, with which `allocate` allocated.
    drop(unsafe { Box::from_raw(cells.as_ptr()) });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// The most cells that this thread has memory for in one block.
        pub(super) static MEMORY: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    #[test]
    fn as_many_are_made_as_there_is_memory_for() {
        let cells = Cells::new();
        MEMORY.set(4 * BASE);
        for (to, made) in [(2 * BASE, 2), (64 * BASE, 8), (64 * BASE, 8)] {
            cells.grow(cells.size(), to);
            assert_eq!(cells.size(), made * BASE);
        }
        MEMORY.set(usize::MAX);
        cells.grow(cells.size(), 64 * BASE);
        assert_eq!(cells.size(), 64 * BASE);
    }

    #[test]
    fn every_index_has_its_place() {
        let mut expected = (0, 0);
        for index in 0..BASE * 64 {
            let segment = segment_of(index);
            let offset = index - segment_start(segment);
            assert!(offset < segment_len(segment));
            if offset == 0 && index > 0 {
                expected = (expected.0 + 1, 0);
            }
            assert_eq!((segment, offset), expected);
            expected.1 += 1;
        }
    }

    #[test]
    fn an_address_gives_its_index_back() {
        let cells = Cells::new();
        cells.grow(BASE, BASE * 2);
        cells.grow(BASE * 2, BASE * 16);
        assert_eq!(cells.size(), BASE * 16);
        for index in 0..BASE * 16 {
            assert_eq!(cells.index_of(NonNull::from(cells.get(index))), index);
        }
    }

    #[test]
    fn growing_from_an_old_size_does_nothing() {
        let cells = Cells::new();
        cells.grow(BASE, BASE * 2);
        cells.grow(BASE, BASE * 8);
        assert_eq!(cells.size(), BASE * 2);
    }
}
