//! Bytes, with room in front of them for the header of a session.
//!
//! A session whose payload is bytes is so one block of memory: the table writes its header into the
//! room, and a lookup finds the bytes right behind it, on the next cache line. A payload of its own
//! allocation would be one more wait for memory in each hit, and one more allocation in each put.
//!
//! * X1: the bytes are `len` initialised ones behind [`ROOM`] bytes that are free for the header, in one
//!   block of [`block_size`]`(len)` bytes from the pool.
//! * X2: a parcel owns its block, but for one whose room a header was written into: then the header's owner
//!   frees the block, and nobody drops the parcel.

use std::fmt;
use std::ptr::NonNull;

use zeroize::optimization_barrier;

use super::pool;

/// Bytes of the room: what a header takes whose payload is `SecretBytes`. The words of a model are
/// larger.
pub(crate) const ROOM: usize = if cfg!(loom) { 4096 } else { 88 };

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
        // SAFETY: X1: the block has so many bytes behind the room, and nobody else has it.
        unsafe {
            let target = block.add(ROOM);
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

    /// The room, with the memory of the whole block.
    #[inline]
    pub(crate) fn room(&self) -> NonNull<u8> {
        // SAFETY: X1: the block begins there.
        unsafe { self.bytes.sub(ROOM) }
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
        unsafe { pool::give(self.room(), self.size()) };
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

/// Bytes of a block with so many behind the room.
///
/// # Panics
///
/// If that is more than any allocator has.
#[inline]
fn block_size(len: usize) -> usize {
    len.checked_add(ROOM).expect("a slice is smaller than the memory")
}
