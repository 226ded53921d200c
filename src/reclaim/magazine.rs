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
    /// How many bytes the blocks have.
    bytes: usize,
    /// Where all blocks are counted, if it is one place.
    gauges: Option<&'static Gauges>,
    blocks: [Option<Block>; ROUNDS],
}

/// A block, its size as the pool rounds it, and where it is counted as long as it waits for the epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) start: NonNull<u8>,
    pub(super) size: usize,
    pub(super) gauges: &'static Gauges,
}

// SAFETY: the blocks are nobody else's (M1), but for readers under a pin, which the epoch waits for.
unsafe impl Send for Magazine {}

impl Magazine {
    /// A magazine without blocks.
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            bundle: Bundle::new(),
            len: 0,
            bytes: 0,
            gauges: None,
            blocks: [None; ROUNDS],
        })
    }

    /// Puts a block in; `false` if the magazine is full.
    ///
    /// # Safety
    ///
    /// M1: the block came from the pool in this size, and is given up if it is put in.
    #[inline]
    pub(super) unsafe fn push(&mut self, block: Block) -> bool {
        let Some(place) = self.blocks.get_mut(self.len) else { return false };
        *place = Some(block);
        let is_same = |gauges: &&'static Gauges| ptr::eq(*gauges, block.gauges);
        self.gauges = if self.len == 0 { Some(block.gauges) } else { self.gauges.filter(is_same) };
        self.len += 1;
        self.bytes += block.size;
        true
    }

    /// Takes the last block out if it is one that `is_wanted`; it is the caller's then.
    #[inline]
    pub(super) fn pop_if(&mut self, is_wanted: impl Fn(&Block) -> bool) -> Option<Block> {
        let block = *self.last().filter(|block| is_wanted(block))?;
        self.len -= 1;
        self.bytes -= block.size;
        Some(block)
    }

    /// The block that is taken out next.
    #[inline]
    pub(super) fn last(&self) -> Option<&Block> {
        self.blocks.get(self.len.checked_sub(1)?)?.as_ref()
    }

    /// The blocks.
    #[inline]
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks[..self.len].iter().flatten()
    }

    /// Whether so little is in the magazine that it is larger than that.
    pub(super) fn is_nearly_empty(&self) -> bool {
        self.len < ROUNDS / 4
    }

    /// The magazine without its blocks, which somebody else has now.
    pub(super) fn cleared(mut self: Box<Self>) -> Box<Self> {
        self.len = 0;
        self.bytes = 0;
        self
    }

    /// How many bytes it takes to keep it, with its blocks.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.bytes
    }

    /// Tells `count` how many blocks in a row are counted where.
    pub(super) fn count(&self, mut count: impl FnMut(&'static Gauges, u64)) {
        if let Some(gauges) = self.gauges {
            return count(gauges, self.len as u64);
        }
        let mut rest = &self.blocks[..self.len];
        while let [Some(first), ..] = rest {
            let is_same = |block: &&Option<Block>| {
                block.is_some_and(|block| ptr::eq(block.gauges, first.gauges))
            };
            let run = rest.iter().take_while(is_same).count();
            count(first.gauges, run as u64);
            rest = &rest[run..];
        }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::gauge::Lease;
    use super::*;

    #[test]
    fn each_block_is_counted_where_it_waits() {
        let leases = [Lease::new(usize::MAX), Lease::new(usize::MAX)];
        let mut magazine = Magazine::new();
        for number in [0, 0, 1, 0, 1, 1, 1] {
            let gauges = leases[number].gauges();
            // SAFETY: never taken out, so nobody frees it.
            assert!(unsafe {
                magazine.push(Block { start: NonNull::dangling(), size: 8, gauges })
            });
        }
        let mut counts = Vec::new();
        magazine.count(|gauges, count| counts.push((ptr::eq(gauges, leases[0].gauges()), count)));
        assert_eq!(counts, [(true, 2), (false, 1), (true, 1), (false, 3)]);
        assert_eq!(magazine.bytes(), size_of::<Magazine>() + 7 * 8);
        while magazine.pop_if(|_| true).is_some() {}
        let gauges = leases[1].gauges();
        // SAFETY: as above.
        assert!(unsafe { magazine.push(Block { start: NonNull::dangling(), size: 24, gauges }) });
        magazine.count(|at, count| assert!(ptr::eq(at, gauges) && count == 1));
        assert_eq!(magazine.bytes(), size_of::<Magazine>() + 24);
    }
}
