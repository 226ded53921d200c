//! Headers that were freed, kept for the thread's next puts.
//!
//! The epoch frees headers many at a time, long after they were used: more than the allocator keeps
//! at hand, so that it would join them with their neighbours and cut them out again. A thread keeps
//! some instead. They count as freed; what is in them is overwritten by the next session.

use std::alloc::{Layout, dealloc};
use std::cell::RefCell;
use std::ptr::NonNull;

/// Headers that a thread keeps: what two batches of the epoch free.
const MOST: usize = 128;

thread_local!(static SPARES: RefCell<Spares> = const { RefCell::new(Spares::new()) });

/// Blocks of one layout, from the global allocator, that nobody uses.
struct Spares {
    layout: Layout,
    blocks: Vec<NonNull<u8>>,
}

impl Spares {
    const fn new() -> Self {
        Self { layout: Layout::new::<()>(), blocks: Vec::new() }
    }

    /// Frees a block; `false` when there is none.
    fn shrink(&mut self) -> bool {
        let Some(block) = self.blocks.pop() else { return false };
        // SAFETY: allocated with this layout, and used by nobody since it was kept.
        unsafe { dealloc(block.as_ptr(), self.layout) };
        true
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        while self.shrink() {}
    }
}

/// Moves `value` into a box, of spare memory if there is some. Not under a pin.
#[inline]
pub(crate) fn boxed<T>(value: T) -> Box<T> {
    let layout = Layout::new::<T>();
    let block = SPARES.try_with(|spares| {
        let mut spares = spares.try_borrow_mut().ok()?;
        if spares.layout == layout {
            return spares.blocks.pop();
        }
        // The payloads of two caches: the one whose turn it is wears down what is kept of the other.
        if !spares.shrink() {
            spares.layout = layout;
            spares.blocks.reserve_exact(MOST);
        }
        None
    });
    let Some(block) = block.ok().flatten() else { return Box::new(value) };
    let block = block.cast::<T>();
    // SAFETY: allocated with the layout of `T`, and used by nobody since it was kept.
    unsafe {
        block.write(value);
        Box::from_raw(block.as_ptr())
    }
}

/// Frees a block, or keeps it.
///
/// # Safety
///
/// The block came from a `Box<T>`; what was in it is dropped, and it is not used afterwards.
#[inline]
pub(crate) unsafe fn free<T>(block: NonNull<T>) {
    let layout = Layout::new::<T>();
    let is_kept = SPARES.try_with(|spares| {
        let Ok(mut spares) = spares.try_borrow_mut() else { return false };
        // No allocation here: it may be under a pin.
        let has_room = spares.blocks.len() < spares.blocks.capacity();
        if spares.layout == layout && has_room {
            spares.blocks.push(block.cast());
        }
        spares.layout == layout && has_room
    });
    if !is_kept.unwrap_or(false) {
        // SAFETY: by the caller's promise; a box of a sized type that is not empty is allocated with
        // its layout.
        unsafe { dealloc(block.as_ptr().cast(), layout) };
    }
}
