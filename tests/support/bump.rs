//! An allocator in which no thread can wait for another.
//!
//! A new block is cut from one region by a compare-and-swap; a freed one goes to a list of the
//! thread that freed it, which no other thread touches. A thread that is stopped inside keeps
//! nothing that others want.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Address space; pages that were never used are not resident.
const REGION: usize = 8 << 30;
/// Blocks have sizes of powers of two from 16 bytes on.
const SMALLEST_BITS: u32 = 4;
/// Larger blocks than of this class are not used again.
const CLASSES: usize = 20;

#[derive(Debug)]
pub(crate) struct Bump {
    base: AtomicPtr<u8>,
    used: AtomicUsize,
    /// Bytes of the blocks that are in use, each as large as its class.
    in_use: AtomicUsize,
    /// The next zeroed block of the victim's is an ambush: it gets the signal there. The cache asks
    /// for zeroed blocks when it grows, and only then.
    ambush: AtomicBool,
}

thread_local! {
    static IS_VICTIM: Cell<bool> = const { Cell::new(false) };
    static FREE: [Cell<*mut u8>; CLASSES] = const { [const { Cell::new(ptr::null_mut()) }; CLASSES] };
}

impl Bump {
    pub(crate) const fn new() -> Self {
        Self {
            base: AtomicPtr::new(ptr::null_mut()),
            used: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
            ambush: AtomicBool::new(false),
        }
    }

    /// The calling thread is the one that an ambush is for.
    pub(crate) fn is_victim(&self) {
        IS_VICTIM.set(true);
    }

    /// Sends the victim `SIGUSR1` when it grows a table next, in the middle of that.
    pub(crate) fn lie_in_ambush(&self) {
        self.ambush.store(true, Ordering::SeqCst);
    }

    /// Ends the ambush; `false` if the victim is in it.
    pub(crate) fn call_off(&self) -> bool {
        self.ambush.swap(false, Ordering::SeqCst)
    }

    /// Bytes of the region that were ever used.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of the blocks that are in use.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    fn base(&self) -> *mut u8 {
        let base = self.base.load(Ordering::Acquire);
        if !base.is_null() {
            return base;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, which nobody else knows.
        let new = unsafe { libc::mmap(ptr::null_mut(), REGION, access, flags, -1, 0) };
        if new == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        let first = self.base.compare_exchange(
            ptr::null_mut(),
            new.cast(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match first {
            Ok(_) => new.cast(),
            Err(other) => {
                // SAFETY: the mapping of just now, which nobody has seen.
                unsafe { libc::munmap(new, REGION) };
                other
            }
        }
    }

    fn cut(&self, size: usize) -> *mut u8 {
        let base = self.base();
        // A block of a power of two is aligned to its size, up to a page.
        let align = size.min(4096);
        let place = |used: usize| used.next_multiple_of(align);
        let cut = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            Some(place(used) + size).filter(|&end| end <= REGION)
        });
        match cut {
            // SAFETY: within the region, for the end is.
            Ok(used) if !base.is_null() => unsafe { base.add(place(used)) },
            _ => ptr::null_mut(),
        }
    }
}

fn class(layout: Layout) -> (usize, usize) {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST_BITS).next_power_of_two();
    ((size.ilog2() - SMALLEST_BITS) as usize, size)
}

// SAFETY: a block is as large as its class and aligned to its size or to a page, and the layouts
// of this program ask for no more; it is on one thread's list, or in use, never both.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (class, size) = class(layout);
        self.in_use.fetch_add(size, Ordering::Relaxed);
        let recycled = FREE.with(|free| {
            let list = free.get(class)?;
            let block = list.get();
            if block.is_null() {
                return None;
            }
            // SAFETY: a freed block holds the address of the next one.
            list.set(unsafe { block.cast::<*mut u8>().read() });
            Some(block)
        });
        recycled.unwrap_or_else(|| self.cut(size))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if IS_VICTIM.get() && self.ambush.swap(false, Ordering::SeqCst) {
            // SAFETY: the signal has a handler.
            unsafe { libc::raise(libc::SIGUSR1) };
        }
        // SAFETY: as the caller promises.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (class, size) = class(layout);
        self.in_use.fetch_sub(size, Ordering::Relaxed);
        FREE.with(|free| {
            let Some(list) = free.get(class) else { return };
            // SAFETY: the block is free, and has room for an address.
            unsafe { block.cast::<*mut u8>().write(list.get()) };
            list.set(block);
        });
    }
}
