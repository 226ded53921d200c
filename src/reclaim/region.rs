//! Memory for the headers of large caches, on huge pages.
//!
//! A lookup in a large cache waits for memory three times, and each of these waits is longer for a miss
//! of the processor's translation buffer, which has places for some thousand pages. Headers of a
//! million sessions are 21 500 pages, or 42 huge ones. An allocator puts them among everything else; so
//! here is one region of address space for all headers of the process, for which the system is asked
//! to use huge pages. What was never used is not resident; what was stays, for sessions to come.
//!
//! Headers that the system has no region for, or that are few, come from the global allocator.

use std::ptr::{self, NonNull};

use crate::sync::Ordering;
use crate::sync::tally::{AtomicPtr, AtomicUsize};

/// Address space of the region; more than 700 million headers.
const SIZE: usize = 1 << 36;

/// Where the region begins: null before it is asked for, [`REFUSED`] if there is none.
static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Bytes that are given out.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Bytes that may be written. The rest of the region is without access, so that nothing that the
/// process does with all of its memory, as locking it or dumping it, meets 64 GiB.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are opened at a time: sixteen huge pages.
const STEP: usize = 32 << 20;

/// Where the region ends: less than its size once the system has refused to open more. It is not asked
/// again, for it would be at every put.
static END: AtomicUsize = AtomicUsize::new(SIZE);

const REFUSED: *mut u8 = ptr::without_provenance_mut(1);

/// Memory that nobody has used, aligned to 8 bytes; `None` if there is none left. Lock-free.
pub(crate) fn carve(bytes: usize) -> Option<NonNull<u8>> {
    let base = base()?;
    let bytes = bytes.next_multiple_of(8);
    // Relaxed, both: the number is all that counts.
    let used = USED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        used.checked_add(bytes).filter(|&end| end <= END.load(Ordering::Relaxed))
    });
    let used = used.ok()?;
    if !open(base, used + bytes) {
        return None;
    }
    // SAFETY: within the region.
    Some(unsafe { base.add(used) })
}

/// Makes the region's first `end` bytes writable; `false` if the system does not. Two threads may open
/// the same ones, which does no harm.
fn open(base: NonNull<u8>, end: usize) -> bool {
    // Relaxed: that memory is writable is no matter of order between threads.
    let from = OPEN.load(Ordering::Relaxed);
    if end <= from {
        return true;
    }
    let to = end.next_multiple_of(STEP).min(SIZE);
    let is_open = make_writable(base, from, to);
    if is_open {
        OPEN.fetch_max(to, Ordering::Relaxed);
    } else {
        // Not below what another thread has opened meanwhile, and given out.
        END.fetch_min(OPEN.load(Ordering::Relaxed).max(from), Ordering::Relaxed);
    }
    is_open
}

/// Bytes of the region that were ever used.
pub(crate) fn used() -> usize {
    // Relaxed, both: a number to show. What was to be carved and could not be opened is not used.
    USED.load(Ordering::Relaxed).min(END.load(Ordering::Relaxed))
}

/// Whether a block is of the region.
#[inline]
pub(crate) fn holds(block: NonNull<u8>) -> bool {
    // Relaxed: who has a block of the region has read its beginning.
    let base = BASE.load(Ordering::Relaxed);
    block.as_ptr().addr().wrapping_sub(base.addr()) < SIZE && base.addr() > REFUSED.addr()
}

fn base() -> Option<NonNull<u8>> {
    // Acquire: pairs with the exchange below.
    let mut base = BASE.load(Ordering::Acquire);
    if base.is_null() {
        let new = reserve().map_or(REFUSED, NonNull::as_ptr);
        // AcqRel: as above.
        match BASE.compare_exchange(base, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => base = new,
            Err(other) => {
                give_back(new);
                base = other;
            }
        }
    }
    NonNull::new(base).filter(|&base| base.as_ptr() != REFUSED)
}

/// Asks the system for address space, for huge pages in it, and to leave it out of core dumps.
#[cfg(target_os = "linux")]
fn reserve() -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, which nobody else knows.
    let region = unsafe { libc::mmap(ptr::null_mut(), SIZE, libc::PROT_NONE, flags, -1, 0) };
    if region == libc::MAP_FAILED {
        return None;
    }
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_DONTDUMP] {
        // Advice: what the system does not follow breaks nothing.
        // SAFETY: the mapping of just now.
        unsafe { libc::madvise(region, SIZE, advice) };
    }
    NonNull::new(region.cast())
}

#[cfg(target_os = "linux")]
fn make_writable(base: NonNull<u8>, from: usize, to: usize) -> bool {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: within the region, whose pages nobody relies on to be without access.
    unsafe { libc::mprotect(base.as_ptr().add(from).cast(), to - from, access) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn make_writable(_: NonNull<u8>, _: usize, _: usize) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn reserve() -> Option<NonNull<u8>> {
    None
}

#[cfg(target_os = "linux")]
fn give_back(region: *mut u8) {
    if region != REFUSED {
        // SAFETY: the mapping of `reserve`, which nobody has seen.
        unsafe { libc::munmap(region.cast(), SIZE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn give_back(_: *mut u8) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_carved_is_of_the_region_and_apart() {
        let first = carve(88).expect("a region");
        let second = carve(3).expect("there is more");
        assert!(holds(first) && holds(second));
        assert!(first.as_ptr().addr().abs_diff(second.as_ptr().addr()) >= 8);
        assert_eq!(second.as_ptr().addr() % 8, 0);
        assert!(!holds(NonNull::from(&*Box::new(0u8))));
        assert!(carve(usize::MAX - 8).is_none() && carve(SIZE + 1).is_none());
    }
}
