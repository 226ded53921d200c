//! Bytes, with room in front of them for the header of a session.
//!
//! A session whose payload is bytes is so one block of memory: the table writes its header into the
//! room, and a lookup finds the bytes right behind it, on the next cache line. A payload of its own
//! allocation would be one more wait for memory in each hit, and one more allocation in each put.
//!
//! The block waits for the epoch with the header, so the bytes, wiped, wait as well. That must not be as much
//! memory as somebody likes to put: what is longer than [`MOST`] has no room, and its block goes at once.
//!
//! * X1: the bytes are `len` initialised ones behind [`ahead`]`(len)` bytes, the room, which are free for the
//!   header, in one block of [`block_size`]`(len)` bytes from the pool.
//! * X2: a parcel owns its block, but for one whose room a header was written into: then the header's owner
//!   frees the block, and nobody drops the parcel.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use zeroize::optimization_barrier;

use super::gauge::Gauges;
use super::magazine::Block;
use super::pool;

/// Bytes of the room: what a header takes whose payload is `SecretBytes`. The words of a model are
/// larger.
pub(crate) const ROOM: usize = if cfg!(loom) { 4096 } else { 88 };

/// The most bytes that have a room: what a thread keeps a freed block for.
const MOST: usize = pool::LARGEST - 88;

/// How the room is aligned.
pub(crate) const ALIGN: usize = pool::ALIGN;

/// Bytes behind a room.
#[repr(C)]
pub(crate) struct Parcel {
    bytes: NonNull<u8>,
    len: usize,
}

// SAFETY: a parcel owns its bytes as a box does, and gives out shared ones under `&self` alone.
unsafe impl Send for Parcel {}
// SAFETY: as above.
unsafe impl Sync for Parcel {}

impl Parcel {
    /// A parcel of these bytes.
    #[inline]
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let block = pool::take(block_size(bytes.len()));
        // SAFETY: X1: the block has so many bytes and what is ahead of them, and nobody else has it.
        unsafe {
            let target = block.add(ahead(bytes.len()));
            target.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            Self { bytes: target, len: bytes.len() }
        }
    }

    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: X1; shared as the parcel is.
        unsafe { NonNull::slice_from_raw_parts(self.bytes, self.len).as_ref() }
    }

    /// Overwrites the bytes with zeros, at memset's speed; the barrier keeps the compiler from leaving
    /// it out.
    #[inline]
    pub(crate) fn wipe(&mut self) {
        // SAFETY: X1; borrowed as the parcel is.
        wipe(unsafe { NonNull::slice_from_raw_parts(self.bytes, self.len).as_mut() });
    }

    /// The room, with the memory of the whole block; `None` for many bytes.
    #[inline]
    pub(crate) fn room(&self) -> Option<NonNull<u8>> {
        (self.len <= MOST).then(|| self.block())
    }

    /// The block, which is the caller's then.
    #[inline]
    #[cfg_attr(loom, expect(dead_code, reason = "models retire parcels one by one"))]
    pub(super) fn into_block(self, gauges: &'static Gauges) -> Block {
        let this = ManuallyDrop::new(self);
        Block { start: this.block(), size: pool::rounded(this.size()), gauges }
    }

    /// The block.
    #[inline]
    pub(super) fn block(&self) -> NonNull<u8> {
        // SAFETY: X1: the block begins there.
        unsafe { self.bytes.sub(ahead(self.len)) }
    }

    /// Bytes of the block.
    #[inline]
    pub(super) fn size(&self) -> usize {
        block_size(self.len)
    }
}

impl Drop for Parcel {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: X1, X2: taken from the pool in this size, and given up here.
        unsafe { pool::give(self.block(), self.size()) };
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parcel({} bytes)", self.len)
    }
}

/// Overwrites bytes with zeros, as [`Parcel::wipe`].
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    optimization_barrier(bytes);
}

/// Bytes of the room ahead of so many.
#[inline]
fn ahead(len: usize) -> usize {
    if len <= MOST { ROOM } else { 0 }
}

/// Bytes of a block with so many, and their room.
///
/// # Panics
///
/// If that is more than any allocator has.
#[inline]
fn block_size(len: usize) -> usize {
    len.checked_add(ahead(len)).expect("a slice is smaller than the memory")
}
