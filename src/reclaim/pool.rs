//! Freed blocks of memory, for the next sessions.
//!
//! A thread keeps some, by their sizes. The epoch frees the blocks of parcels many at a time: more than an
//! allocator keeps at hand, so that it would join them with their neighbours, whose memory it touches for
//! that, and cut them out again. They come in magazines, which lie in a depot of the process until a thread has
//! no block of the size that it wants.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

#[cfg(all(test, not(loom)))]
use super::gauge::Lease;
#[cfg(all(test, not(loom)))]
use super::magazine::Block;
use super::magazine::Magazine;
use super::prefetch::{CACHE_LINE, prefetch_to_write};
use super::{RECYCLES, depot};

/// How blocks are aligned.
pub(super) const ALIGN: usize = 8;

/// Sizes are rounded up to what the usual allocators have anyway: a multiple of this, and half of it for
/// their own word.
const STEP: usize = 16;
const OWN: usize = STEP / 2;

/// The largest block that is kept.
pub(super) const LARGEST: usize = 1024;

/// Bytes that a thread keeps by size: some hundred sessions. And what is left of a magazine.
const MOST: usize = 128 * 1024;

/// Blocks that nobody uses. Each class has those of one size, the last one that came on top: a block is not
/// touched while it is here, for its memory may be far by then.
struct Pool {
    classes: [Vec<NonNull<u8>>; LARGEST / STEP + 1],
    bytes: usize,
    /// What the thread has last taken up from the depot, and an empty one.
    magazine: Option<Box<Magazine>>,
    empty: Option<Box<Magazine>>,
}

thread_local!(static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) });

impl Pool {
    const fn new() -> Self {
        Self {
            classes: [const { Vec::new() }; LARGEST / STEP + 1],
            bytes: 0,
            magazine: None,
            empty: None,
        }
    }

    /// A block of this size, if there is one at hand.
    #[inline]
    fn pop(&mut self, size: usize) -> Option<NonNull<u8>> {
        if let Some(magazine) = &mut self.magazine
            && let Some(block) = magazine.pop_if(|block| block.size == size)
        {
            // The next put's, which will write it from the beginning on.
            magazine.last().inspect(|next| prefetch_block(next.start, next.size));
            return Some(block.start);
        }
        self.pop_kept(size)
    }

    /// As above, of what the thread has freed itself.
    #[inline]
    fn pop_kept(&mut self, size: usize) -> Option<NonNull<u8>> {
        let class = self.classes.get_mut(size / STEP)?;
        let block = class.pop()?;
        self.bytes -= size;
        class.last().inspect(|next| prefetch_block(**next, size));
        Some(block)
    }

    /// Keeps a block; `false` if there is no room for it.
    #[inline]
    fn push(&mut self, block: NonNull<u8>, size: usize) -> bool {
        let Some(class) = self.classes.get_mut(size / STEP) else { return false };
        if self.bytes + size > MOST {
            return false;
        }
        class.push(block);
        self.bytes += size;
        true
    }

    /// A block of this size that is not on top: of what is at hand, or of the next magazine in the depot.
    #[cold]
    fn restock(
        &mut self,
        size: usize,
        take_up: impl FnOnce() -> Option<Box<Magazine>>,
    ) -> Option<NonNull<u8>> {
        if size / STEP >= self.classes.len() {
            return None;
        }
        self.spread();
        self.pop_kept(size).or_else(|| {
            self.empty = self.magazine.replace(take_up()?);
            self.pop(size)
        })
    }

    /// Keeps what is in the magazine by its size.
    fn spread(&mut self) {
        while let Some(block) = self.magazine.as_mut().and_then(|it| it.pop_if(|_| true)) {
            if !self.push(block.start, block.size) {
                // SAFETY: M1: the magazine's own, in this size.
                unsafe { free(block.start, block.size) };
            }
        }
    }
}

/// A magazine without blocks.
#[cfg(not(loom))]
#[cold]
pub(super) fn empty_magazine() -> Box<Magazine> {
    let kept = POOL.try_with(|pool| pool.try_borrow_mut().ok()?.empty.take());
    kept.ok().flatten().unwrap_or_else(Magazine::new)
}

/// Whether the thread keeps a magazine for its next use.
#[cfg(all(test, not(loom)))]
pub(super) fn has_empty_magazine() -> bool {
    POOL.with_borrow(|pool| pool.empty.is_some())
}

/// Keeps a magazine for its next use, whose blocks are given up.
#[cfg(not(loom))]
pub(super) fn keep_empty(magazine: Box<Magazine>) {
    let kept = magazine.cleared();
    let _ = POOL.try_with(|pool| pool.try_borrow_mut().map(|mut pool| pool.empty = Some(kept)));
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.spread();
        for (number, class) in self.classes.iter_mut().enumerate() {
            for block in class.drain(..) {
                // SAFETY: the pool's own, of its class's size.
                unsafe { free(block, number * STEP + OWN) };
            }
        }
    }
}

/// Asks the processor for the first lines of a block, which will be written; for none of a neighbour's, which may be
/// in use.
#[inline]
fn prefetch_block(block: NonNull<u8>, size: usize) {
    const LINES: usize = 4;
    let lines = if size < LINES * CACHE_LINE { size / CACHE_LINE } else { LINES };
    for line in 0..lines {
        prefetch_to_write(block.as_ptr().wrapping_add(line * CACHE_LINE));
    }
}

/// A block of so many bytes or some more. Not under a pin.
#[inline]
pub(super) fn take(size: usize) -> NonNull<u8> {
    let size = rounded(size);
    // What the thread kept is gone while it ends.
    let kept = POOL.try_with(|pool| {
        let mut pool = pool.try_borrow_mut().ok()?;
        pool.pop(size).or_else(|| pool.restock(size, depot::take_up))
    });
    kept.ok().flatten().unwrap_or_else(|| allocate(block_layout(size)))
}

/// Frees a block, or keeps it.
///
/// # Safety
///
/// The block came from [`take`], in this size, and is given up.
#[inline]
pub(super) unsafe fn give(block: NonNull<u8>, size: usize) {
    // SAFETY: by the caller's promise.
    unsafe { give_rounded(block, rounded(size)) };
}

/// As above, of a size that is rounded.
///
/// # Safety
///
/// As there.
#[inline]
pub(super) unsafe fn give_rounded(block: NonNull<u8>, size: usize) {
    let is_kept = POOL.try_with(|pool| {
        RECYCLES && pool.try_borrow_mut().is_ok_and(|mut pool| pool.push(block, size))
    });
    if !is_kept.unwrap_or(false) {
        // SAFETY: by the caller's promise.
        unsafe { free(block, size) };
    }
}

/// Gives a block back to the allocator.
///
/// # Safety
///
/// The block came from [`take`], this is its size as it was rounded, and it is given up.
pub(super) unsafe fn free(block: NonNull<u8>, size: usize) {
    // SAFETY: by the caller's promise: allocated with this layout.
    unsafe { dealloc(block.as_ptr(), block_layout(size)) };
}

/// The layout of a block of so many bytes.
#[cfg(loom)]
pub(super) fn layout(size: usize) -> Layout {
    block_layout(rounded(size))
}

#[cold]
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no block is empty.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Panics
///
/// If that is more than any allocator has.
#[inline]
pub(super) fn rounded(size: usize) -> usize {
    let rounded = size.saturating_add(STEP - OWN - 1) / STEP * STEP + OWN;
    assert!(rounded >= size, "more than the memory");
    rounded
}

/// # Panics
///
/// If that is more than any allocator has.
#[inline]
fn block_layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("a slice is smaller than the memory")
}

/// A magazine of new blocks of these sizes.
#[cfg(all(test, not(loom)))]
pub(super) fn magazine_of(sizes: &[usize]) -> Box<Magazine> {
    let mut magazine = Magazine::new();
    let gauges = Lease::new(usize::MAX).gauges();
    for size in sizes.iter().map(|&size| rounded(size)) {
        let block = Block { start: allocate(block_layout(size)), size, gauges };
        // SAFETY: allocated as the pool's are, in this size.
        assert!(unsafe { magazine.push(block) }, "there is room for it");
    }
    magazine
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_the_next_one() {
        for size in 0..=3 * LARGEST {
            let rounded = rounded(size);
            assert!(rounded >= size.max(OWN) && rounded < size + STEP && rounded % STEP == OWN);
        }
    }

    /// A new block of so many bytes.
    fn block(size: usize) -> (NonNull<u8>, usize) {
        let size = rounded(size);
        (allocate(block_layout(size)), size)
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_size() {
        let mut pool = Pool::new();
        let ((first, size), (other, other_size)) = (block(100), block(200));
        assert!(pool.push(first, size) && pool.push(other, other_size));
        assert_eq!(pool.pop(rounded(99)), Some(first));
        assert_eq!(pool.pop(rounded(193)), Some(other));
        assert_eq!(pool.pop(size), None);
        // The pool frees them.
        assert!(pool.push(first, size) && pool.push(other, other_size));
    }

    #[test]
    fn no_more_is_kept_than_so_much() {
        let mut pool = Pool::new();
        let mut refused = Vec::new();
        for size in [500; 2 * MOST / 500].into_iter().chain([LARGEST + STEP]) {
            let (block, size) = block(size);
            if !pool.push(block, size) {
                refused.push((block, size));
            }
        }
        assert!((MOST - 1_000..=MOST).contains(&pool.bytes), "{}", pool.bytes);
        for (block, size) in refused {
            // SAFETY: allocated above in this size, and not kept.
            unsafe { free(block, size) };
        }
        assert!(Pool::new().classes.get(rounded(LARGEST + STEP) / STEP).is_none(), "large ones go");
    }

    #[test]
    fn a_magazine_is_used_up_before_there_is_another() {
        let mut pool = Pool::new();
        let sizes = [777, 555, LARGEST, 777].map(rounded);
        let magazine = magazine_of(&sizes);
        let known: Vec<_> = magazine.blocks().map(|block| block.start).collect();
        let mut depot = Some(magazine);
        let mut take = |size| pool.pop(size).or_else(|| pool.restock(size, || depot.take()));
        let taken = sizes.map(|size| (take(size).expect("there is one"), size));
        assert!(
            taken.iter().all(|(block, _)| known.contains(block)),
            "all, also what is below another size"
        );
        assert!(sizes.iter().all(|&size| take(size).is_none()), "there are no more");
        // The pool frees them.
        assert!(taken.into_iter().all(|(block, size)| pool.push(block, size)));
    }
}
