//! Headers that were freed, kept for the thread's next puts.
//!
//! The epoch frees headers many at a time, long after they were used: more than the allocator keeps
//! at hand, so that it would join them with their neighbours and cut them out again. A thread keeps
//! some instead. They count as freed; what is in them is overwritten by the next session.

use std::alloc::{Layout, dealloc};
use std::cell::RefCell;
use std::mem::MaybeUninit;
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

    /// The payloads of two caches: the one whose turn it is wears down what is kept of the other.
    /// Returns no block.
    #[cold]
    fn become_of(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if !self.shrink() {
            self.layout = layout;
            self.blocks.reserve_exact(MOST);
        }
        None
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
        if spares.layout == layout { spares.blocks.pop() } else { spares.become_of(layout) }
    });
    // The value is written in one place, so that it is made there.
    let block = match block.ok().flatten() {
        // SAFETY: allocated with the layout of `T`, and used by nobody since it was kept.
        Some(block) => unsafe { Box::from_raw(block.cast::<MaybeUninit<T>>().as_ptr()) },
        None => Box::new_uninit(),
    };
    Box::write(block, value)
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

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, System};
    use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use super::*;

    /// Blocks of this size and up to [`KINDS`] bytes more are counted, by size. Nothing else in these
    /// tests has such sizes, and each test has its own.
    const FIRST: usize = 70_000;
    const KINDS: usize = 8;

    /// Counts blocks of certain sizes that are allocated.
    struct Counting;

    static LIVE: [AtomicIsize; KINDS] = [const { AtomicIsize::new(0) }; KINDS];

    fn count(layout: Layout, change: isize) {
        if let Some(live) = layout.size().checked_sub(FIRST).and_then(|kind| LIVE.get(kind)) {
            live.fetch_add(change, SeqCst);
        }
    }

    // SAFETY: as the system's allocator does it.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(layout, 1);
            // SAFETY: by the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            count(layout, -1);
            // SAFETY: by the caller's promise.
            unsafe { System.dealloc(block, layout) };
        }
    }

    #[global_allocator]
    static COUNTING: Counting = Counting;

    /// A header of a size of its own.
    type Header<const SIZE: usize> = [u8; SIZE];

    const fn size(kind: usize) -> usize {
        FIRST + kind
    }

    fn live<const SIZE: usize>() -> isize {
        LIVE[SIZE - FIRST].load(SeqCst)
    }

    fn make<const SIZE: usize>(content: u8) -> NonNull<Header<SIZE>> {
        NonNull::from(Box::leak(boxed([content; SIZE])))
    }

    fn give_back<const SIZE: usize>(header: NonNull<Header<SIZE>>) {
        // SAFETY: `make` leaked a box, and each test gives a header back once.
        unsafe { free(header) };
    }

    /// On a thread of its own, which keeps nothing yet.
    fn alone(test: impl FnOnce() + Send + 'static) {
        thread::spawn(test).join().expect("the test holds");
    }

    #[test]
    fn a_freed_header_is_the_next_one() {
        const A: usize = size(0);
        alone(|| {
            let first = make::<A>(1);
            give_back(first);
            let second = make::<A>(2);
            assert_eq!((second, live::<A>()), (first, 1), "no other was allocated");
            // SAFETY: it is a header until it is given back.
            assert!(unsafe { second.as_ref() }.iter().all(|&byte| byte == 2), "it is written anew");
            give_back(second);
        });
    }

    #[test]
    fn so_many_headers_are_kept_and_no_more() {
        const A: usize = size(1);
        alone(|| {
            let headers: Vec<_> = (0..MOST + 50).map(|_| make::<A>(0)).collect();
            headers.into_iter().for_each(give_back);
            assert_eq!(live::<A>(), MOST as isize);
            let headers: Vec<_> = (0..MOST).map(|_| make::<A>(0)).collect();
            assert_eq!(live::<A>(), MOST as isize, "all that was kept is used");
            let one_more = make::<A>(0);
            assert_eq!(live::<A>(), MOST as isize + 1);
            headers.into_iter().chain([one_more]).for_each(give_back);
        });
        assert_eq!(live::<A>(), 0);
    }

    #[test]
    fn headers_of_another_layout_wear_down_what_is_kept() {
        const A: usize = size(2);
        const B: usize = size(3);
        alone(|| {
            let headers: Vec<_> = (0..2).map(|_| make::<A>(0)).collect();
            headers.into_iter().for_each(give_back);
            assert_eq!(live::<A>(), 2);
            let first = make::<B>(0);
            assert_eq!((live::<A>(), live::<B>()), (1, 1));
            give_back(first);
            assert_eq!((live::<A>(), live::<B>()), (1, 0), "it is still the turn of the others");
            let headers = [make::<B>(0), make::<B>(0)];
            assert_eq!((live::<A>(), live::<B>()), (0, 2));
            headers.into_iter().for_each(give_back);
            let header = make::<A>(0);
            give_back(header);
            assert_eq!((live::<A>(), live::<B>()), (0, 1), "now these are kept, and not those");
        });
        assert_eq!((live::<A>(), live::<B>()), (0, 0));
    }

    #[test]
    fn the_end_of_a_thread_frees_what_it_kept() {
        const A: usize = size(4);
        alone(|| {
            let headers: Vec<_> = (0..10).map(|_| make::<A>(0)).collect();
            headers.into_iter().for_each(give_back);
            assert_eq!(live::<A>(), 10);
        });
        assert_eq!(live::<A>(), 0);
    }

    /// Headers are made and freed while the thread ends too: a payload's drop may do that.
    #[test]
    fn headers_are_made_and_freed_when_nothing_is_kept_any_more() {
        const A: usize = size(5);
        static AFTER: AtomicUsize = AtomicUsize::new(0);
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                let header = make::<A>(3);
                // SAFETY: it is a header until it is given back.
                assert!(unsafe { header.as_ref() }.iter().all(|&byte| byte == 3));
                give_back(header);
                AFTER.fetch_add(usize::from(SPARES.try_with(|_| ()).is_err()), SeqCst);
            }
        }
        // Destroyed before and after what the thread keeps, in whatever order that is done.
        thread_local!(static EARLIER: Late = const { Late });
        thread_local!(static LATER: Late = const { Late });
        alone(|| {
            EARLIER.with(|_| ());
            give_back(make::<A>(1));
            LATER.with(|_| ());
        });
        assert_eq!((AFTER.load(SeqCst), live::<A>()), (1, 0));
    }
}
