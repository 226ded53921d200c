//! Blocks of memory that go from hand to hand together (Bonwick and Adams, *Magazines and Vmem*, 2001).
//!
//! A thread collects what it retires in a magazine, and gives the epoch that, when it is full; when the
//! epoch is over it lies in the depot, where the next thread that has no blocks takes it up (`pool.rs`). So
//! however much comes back from the epoch at once, nobody works through it block by block, and blocks
//! that one thread frees and another needs never meet the allocator.
//!
//! * M1: the first `len` blocks of a magazine are its own: each came from the pool, in its size, and was given up
//!   by its owner. While the magazine waits for the epoch, there may be readers under a pin.

use std::ptr::{self, NonNull};

use super::gauge::Gauges;
use super::shelf::Bundle;

/// Blocks of a full magazine.
pub(super) const ROUNDS: usize = 64;

/// A magazine. It begins with what the depot's shelf knows it by.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Magazine {
    bundle: Bundle,
    len: usize,
    /// Where the blocks are counted as long as they wait for the epoch; `None` if there never were any.
    gauges: Option<&'static Gauges>,
    blocks: [Block; ROUNDS],
}

/// A block, and its size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) start: NonNull<u8>,
    pub(super) size: usize,
}

// SAFETY: the blocks are nobody else's (M1), but for readers under a pin, which the epoch waits for.
unsafe impl Send for Magazine {}

impl Magazine {
    /// A magazine without blocks.
    pub(super) fn new() -> Box<Self> {
        let none = Block { start: NonNull::dangling(), size: 0 };
        let blocks = [none; ROUNDS];
        Box::new(Self { bundle: Bundle::new(), len: 0, gauges: None, blocks })
    }

    /// Puts a block in, which waits on `gauges`; `false` if the magazine is full, or what is in it waits elsewhere.
    ///
    /// # Safety
    ///
    /// M1: the block came from the pool in this size, and is given up if it is put in.
    #[inline]
    pub(super) unsafe fn push(&mut self, block: Block, gauges: &'static Gauges) -> bool {
        if self.len == 0 {
            self.gauges = Some(gauges);
        }
        let is_same = self.gauges.is_some_and(|others| ptr::eq(others, gauges));
        let Some(place) = self.blocks.get_mut(self.len).filter(|_| is_same) else { return false };
        *place = block;
        self.len += 1;
        true
    }

    /// Takes the last block out if it is of the size that `is_wanted`; it is the caller's then.
    #[inline]
    pub(super) fn pop_if(&mut self, is_wanted: impl Fn(usize) -> bool) -> Option<Block> {
        let last = self.len.checked_sub(1)?;
        let block = *self.blocks.get(last).filter(|block| is_wanted(block.size))?;
        self.len = last;
        Some(block)
    }

    /// The blocks.
    #[inline]
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks[..self.len]
    }

    /// How many bytes there are.
    pub(super) fn bytes(&self) -> usize {
        self.blocks().iter().map(|block| block.size).sum()
    }

    /// Where the blocks wait.
    pub(super) fn gauges(&self) -> Option<&'static Gauges> {
        self.gauges
    }

    /// The magazine as the shelf knows it.
    pub(super) fn into_bundle(self: Box<Self>) -> NonNull<Bundle> {
        NonNull::from(Box::leak(self)).cast()
    }

    /// The magazine of a bundle.
    ///
    /// # Safety
    ///
    /// The bundle came from `into_bundle`, and is the caller's.
    pub(super) unsafe fn of(bundle: NonNull<Bundle>) -> Box<Self> {
        // SAFETY: by the caller's promise; a magazine begins with its bundle.
        unsafe { Box::from_raw(bundle.cast().as_ptr()) }
    }
}
