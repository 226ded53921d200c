//! Where headers come from, and where they go.
//!
//! The epoch frees headers many at a time, long after they were used: more than the allocator keeps
//! at hand, so that it would join them with their neighbours and cut them out again. A thread keeps
//! some instead. They count as freed; what is in them is overwritten by the next session.
//!
//! The first headers of a process are of the global allocator, and go back there. Those of large caches
//! are of a region on huge pages (`region.rs`), and go to shelves, one for each size, from which the
//! next thread takes them that needs some (`shelf.rs`).

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::{self, NonNull};

use super::shelf::{Bundle, Shelf};
use super::{RECYCLES, region};
use crate::sync::Ordering;
use crate::sync::tally::AtomicUsize;

/// Headers that a thread keeps: what two batches of the epoch free.
const MOST: usize = 128;

/// Headers that are taken from the region, and from a shelf, at a time.
const TOGETHER: usize = MOST / 2;

/// Headers of the global allocator at a time. A small cache is not worth a huge page.
const MOST_OUTSIDE: usize = 16_384;

/// Headers that are of the global allocator.
static OUTSIDE: AtomicUsize = AtomicUsize::new(0);

/// The largest block that is taken from the region, and that a thread keeps: 128 KiB of them at most.
const LARGEST: usize = 1024;

/// What is free of the region, by the size in words of 8 bytes.
static STORES: [Store; LARGEST / 8 + 1] = [const { Store::new() }; LARGEST / 8 + 1];

thread_local!(static SPARES: RefCell<Spares> = const { RefCell::new(Spares::new()) });

/// Blocks of one layout that nobody uses.
struct Spares {
    layout: Layout,
    blocks: [NonNull<u8>; MOST],
    len: usize,
}

/// Blocks of the region of one size that nobody uses.
struct Store {
    shelf: Shelf,
    /// How many there are, at least: counted before they are put down, and until they are taken up.
    /// While there are some, no more are carved: a taker may have all of them in its hands, and if others
    /// carved then the region would grow with each such meeting.
    blocks: AtomicUsize,
}

/// A block of the region that nobody uses.
#[repr(C)]
struct Free {
    /// In the first block of a bundle.
    bundle: Bundle,
    /// The next block of the bundle.
    next: *mut Free,
}

impl Store {
    const fn new() -> Self {
        Self { shelf: Shelf::new(), blocks: AtomicUsize::new(0) }
    }
}

impl Spares {
    const fn new() -> Self {
        Self { layout: Layout::new::<()>(), blocks: [NonNull::dangling(); MOST], len: 0 }
    }

    #[inline]
    fn pop(&mut self) -> Option<NonNull<u8>> {
        self.len = self.len.checked_sub(1)?;
        Some(self.blocks[self.len])
    }

    /// Keeps one more. There is room for it.
    #[inline]
    fn push(&mut self, block: NonNull<u8>) {
        self.blocks[self.len] = block;
        self.len += 1;
    }

    /// A block when none is kept of this layout. The payloads of two caches: the one whose turn it is
    /// wears down what is kept of the other.
    #[cold]
    fn refill(&mut self, layout: Layout) -> NonNull<u8> {
        if self.layout != layout {
            if let Some(block) = self.pop() {
                // SAFETY: of this layout, and used by nobody since it was kept.
                unsafe { put_away(self.layout, block) };
                return allocate(layout);
            }
            self.layout = layout;
        }
        let block = store_of(layout).and_then(|store| {
            // Relaxed: see `Store`.
            if store.blocks.load(Ordering::Relaxed) > 0 {
                return self.take_up(store);
            }
            self.carve(layout)
        });
        block.unwrap_or_else(|| allocate(layout))
    }

    /// Takes a bundle from a store; keeps all but one of its blocks. There was none kept before.
    fn take_up(&mut self, store: &Store) -> Option<NonNull<u8>> {
        let first = store.shelf.take()?.cast::<Free>();
        // SAFETY: bundles begin with a `Free`, and are the taker's.
        let mut at = unsafe { first.as_ref() }.next;
        while let Some(block) = NonNull::new(at) {
            // SAFETY: as above.
            at = unsafe { block.as_ref() }.next;
            self.push(block.cast());
        }
        // Relaxed: see `Store`.
        store.blocks.fetch_sub(self.len + 1, Ordering::Relaxed);
        Some(first.cast())
    }

    /// Cuts blocks out of the region; keeps all but one. `None` while there are few headers.
    fn carve(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        // Relaxed: a number to choose a way with.
        if !RECYCLES || OUTSIDE.load(Ordering::Relaxed) < MOST_OUTSIDE {
            return None;
        }
        let size = layout.size().next_multiple_of(8);
        let first = region::carve(size * TOGETHER)?;
        for number in (1..TOGETHER).rev() {
            // SAFETY: so many were carved.
            self.push(unsafe { first.add(number * size) });
        }
        Some(first)
    }

    /// Puts half of what is kept away.
    #[cold]
    fn put_half_away(&mut self) {
        self.len = MOST - TOGETHER;
        // SAFETY: of this layout, and used by nobody since they were kept.
        unsafe { put_all_away(self.layout, &self.blocks[self.len..]) };
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        for blocks in self.blocks[..self.len].chunks(TOGETHER) {
            // SAFETY: as in `put_half_away`.
            unsafe { put_all_away(self.layout, blocks) };
        }
    }
}

/// The store for blocks of this layout, if they may be of the region.
fn store_of(layout: Layout) -> Option<&'static Store> {
    let fits = layout.align() <= 8 && layout.size() >= size_of::<Free>();
    STORES.get(layout.size().div_ceil(8)).filter(|_| fits)
}

/// A block of the global allocator.
fn allocate(layout: Layout) -> NonNull<u8> {
    // Relaxed: as in `carve`.
    OUTSIDE.fetch_add(1, Ordering::Relaxed);
    // SAFETY: no header is empty.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Puts a block on its shelf, or gives it back to the global allocator.
///
/// # Safety
///
/// The block is of this layout, came from [`place`], and is given up.
unsafe fn put_away(layout: Layout, block: NonNull<u8>) {
    // SAFETY: by the caller's promise.
    unsafe { put_all_away(layout, &[block]) };
}

/// # Safety
///
/// As for `put_away`, of all blocks, which are no more than a thread takes up at a time.
unsafe fn put_all_away(layout: Layout, blocks: &[NonNull<u8>]) {
    let (mut first, mut count) = (ptr::null_mut(), 0);
    for &block in blocks {
        if region::holds(block) {
            let free = block.cast::<Free>();
            // SAFETY: by the caller's promise; blocks of the region have room for it (`store_of`).
            unsafe { free.write(Free { bundle: Bundle::new(), next: first }) };
            first = free.as_ptr();
            count += 1;
            continue;
        }
        // Relaxed: as in `carve`.
        OUTSIDE.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
    if let Some(bundle) = NonNull::new(first) {
        let store = store_of(layout).expect("a block of the region has a store");
        // Relaxed: see `Store`.
        store.blocks.fetch_add(count, Ordering::Relaxed);
        // SAFETY: the region stays, and the bundle is the caller's.
        unsafe { store.shelf.put(bundle.cast()) };
    }
}

/// Moves `value` to memory of its own, spare one if there is some. Not under a pin.
#[inline]
pub(crate) fn place<T>(value: T) -> NonNull<T> {
    let layout = Layout::new::<T>();
    let block = SPARES.try_with(|spares| {
        let mut spares = spares.try_borrow_mut().ok()?;
        let kept = if spares.layout == layout { spares.pop() } else { None };
        Some(kept.unwrap_or_else(|| spares.refill(layout)))
    });
    // What the thread kept is gone while it ends.
    let block = block.ok().flatten().unwrap_or_else(|| allocate(layout)).cast::<T>();
    // SAFETY: allocated with the layout of `T`, and used by nobody.
    unsafe { block.write(value) };
    block
}

/// Frees a block, or keeps it.
///
/// # Safety
///
/// The block came from [`place`], of a `T`; what was in it is dropped, and it is not used afterwards.
#[inline]
pub(crate) unsafe fn free<T>(block: NonNull<T>) {
    let (layout, block) = (Layout::new::<T>(), block.cast());
    let is_kept = SPARES.try_with(|spares| {
        let Ok(mut spares) = spares.try_borrow_mut() else { return false };
        if !RECYCLES || layout.size() > LARGEST {
            return false;
        }
        if spares.len == 0 {
            spares.layout = layout;
        }
        let is_kept = spares.layout == layout;
        if is_kept {
            if spares.len == MOST {
                spares.put_half_away();
            }
            spares.push(block);
        }
        is_kept
    });
    if !is_kept.unwrap_or(false) {
        // SAFETY: by the caller's promise.
        unsafe { put_away(layout, block) };
    }
}

#[cfg(all(test, not(sanitized = "address")))]
mod tests {
    use std::alloc::{GlobalAlloc, System};
    #[cfg(target_os = "linux")]
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use super::*;

    /// Headers here are aligned to so much, as nothing else is in these tests, and are never of the region, whatever
    /// other tests make in the meantime.
    const ALIGN: usize = 32;

    /// Sizes that are counted: each test has its own. The last one is too large to be kept.
    const FIRST: usize = LARGEST - 5 * ALIGN;
    const KINDS: usize = 7;

    /// Counts blocks of certain sizes that are allocated.
    struct Counting;

    static LIVE: [AtomicIsize; KINDS] = [const { AtomicIsize::new(0) }; KINDS];

    fn count(layout: Layout, change: isize) {
        let kind = layout.size().checked_sub(FIRST).filter(|_| layout.align() == ALIGN);
        if let Some(live) = kind.and_then(|bytes| LIVE.get(bytes / ALIGN)) {
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
    #[repr(align(32))]
    struct Header<const SIZE: usize>([u8; SIZE]);

    const fn size(kind: usize) -> usize {
        FIRST + kind * ALIGN
    }

    fn live<const SIZE: usize>() -> isize {
        assert_eq!((size_of::<Header<SIZE>>(), align_of::<Header<SIZE>>()), (SIZE, ALIGN));
        LIVE[(SIZE - FIRST) / ALIGN].load(SeqCst)
    }

    fn make<const SIZE: usize>(content: u8) -> NonNull<Header<SIZE>> {
        place(Header([content; SIZE]))
    }

    fn give_back<const SIZE: usize>(header: NonNull<Header<SIZE>>) {
        // SAFETY: `make` placed it, and each test gives a header back once.
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
            let content = unsafe { second.as_ref() }.0;
            assert!(content.iter().all(|&byte| byte == 2), "it is written anew");
            give_back(second);
        });
    }

    #[test]
    fn so_many_headers_are_kept_and_no_more() {
        const A: usize = size(1);
        alone(|| {
            let headers: Vec<_> = (0..MOST + 50).map(|_| make::<A>(0)).collect();
            headers.into_iter().for_each(give_back);
            let kept = live::<A>();
            assert!(((MOST - TOGETHER) as isize..=MOST as isize).contains(&kept), "{kept}");
            let headers: Vec<_> = (0..kept).map(|_| make::<A>(0)).collect();
            assert_eq!(live::<A>(), kept, "all that was kept is used");
            let one_more = make::<A>(0);
            assert_eq!(live::<A>(), kept + 1);
            headers.into_iter().chain([one_more]).for_each(give_back);
        });
        assert_eq!(live::<A>(), 0);
    }

    #[test]
    fn large_headers_are_not_kept() {
        const A: usize = size(6);
        alone(|| {
            let headers: Vec<_> = (0..10).map(|_| make::<A>(0)).collect();
            assert_eq!(live::<A>(), 10);
            headers.into_iter().for_each(give_back);
            assert_eq!(live::<A>(), 0);
        });
    }

    /// The region has them, each once, and a thread has what another one has freed.
    #[test]
    #[cfg(target_os = "linux")]
    fn many_headers_are_of_the_region_and_are_used_again() {
        // No other test has headers of this size.
        type Odd = [u64; 93];
        fn make(count: usize) -> Vec<usize> {
            let headers = (0..count).map(|number| place::<Odd>([number as u64; 93]));
            headers.map(|header| header.as_ptr().expose_provenance()).collect()
        }
        fn take_back(headers: &[usize]) {
            for &address in headers {
                let header = ptr::with_exposed_provenance_mut::<Odd>(address);
                // SAFETY: placed by `make`, and taken back once.
                unsafe { free(NonNull::new(header).expect("an address")) };
            }
        }
        fn of_region(headers: &[usize]) -> Vec<usize> {
            let block = |&address: &usize| NonNull::new(ptr::with_exposed_provenance_mut(address));
            let is_of_region = |address: &&usize| block(address).is_some_and(region::holds);
            headers.iter().filter(is_of_region).copied().collect()
        }
        const MANY: usize = 2 * MOST_OUTSIDE;
        let headers = thread::spawn(|| make(MANY)).join().expect("it makes them");
        let first = of_region(&headers);
        assert!(first.len() >= MANY - MOST_OUTSIDE, "{} of the region", first.len());
        let mut sorted = headers.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= size_of::<Odd>()), "apart");
        for (number, &address) in headers.iter().enumerate() {
            // SAFETY: placed above, and not freed yet.
            let words = unsafe { *ptr::with_exposed_provenance::<Odd>(address) };
            assert_eq!(words, [number as u64; 93], "no header was written over");
        }
        thread::spawn(move || take_back(&headers)).join().expect("it frees them");
        let again = thread::spawn(|| make(MANY)).join().expect("it makes others");
        let known: HashSet<usize> = first.into_iter().collect();
        let reused = of_region(&again).iter().filter(|address| known.contains(address)).count();
        assert!(reused > 0 && reused + TOGETHER >= known.len(), "{reused} of {}", known.len());
        take_back(&again);
    }

    /// Some threads place what others free, so that all of it goes over the shelf. One of them may have
    /// all that is free in its hands; the others must not carve more each time.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_region_grows_no_more_than_what_is_live() {
        // No other test has headers of this size.
        type Odd = [u64; 91];
        struct Batch(Vec<NonNull<Odd>>);
        // SAFETY: nobody else has these blocks.
        unsafe impl Send for Batch {}
        const PAIRS: usize = 4;
        const AT_ONCE: usize = 16;
        let place_some = || Batch((0..TOGETHER).map(|_| place::<Odd>([7; 91])).collect());
        let free_some = |batch: Batch| {
            // SAFETY: placed in `place_some`, and freed once.
            batch.0.into_iter().for_each(|block| unsafe { free(block) });
        };
        // So many that the next ones are of the region.
        let few: Vec<Batch> = (0..MOST_OUTSIDE / TOGETHER).map(|_| place_some()).collect();
        let mut met = HashSet::new();
        thread::scope(|scope| {
            let pairs: Vec<_> = (0..PAIRS)
                .map(|_| {
                    let (sender, receiver) = std::sync::mpsc::sync_channel::<Batch>(AT_ONCE);
                    scope.spawn(move || (0..2_000).try_for_each(|_| sender.send(place_some())));
                    scope.spawn(move || {
                        let mut met = HashSet::new();
                        for batch in receiver {
                            let blocks = batch.0.iter().filter(|block| region::holds(block.cast()));
                            met.extend(blocks.map(|block| block.addr()));
                            free_some(batch);
                        }
                        met
                    })
                })
                .collect();
            met.extend(pairs.into_iter().flat_map(|pair| pair.join().expect("it frees them")));
        });
        few.into_iter().for_each(free_some);
        // What is sent, and what each thread places, frees and keeps.
        let live = PAIRS * (AT_ONCE + 2) * TOGETHER + 2 * PAIRS * MOST;
        assert!((1..=live).contains(&met.len()), "{} headers, {live} at once", met.len());
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
                assert!(unsafe { header.as_ref() }.0.iter().all(|&byte| byte == 3));
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
