//! Without memory for more cells a cache goes on with those that it has.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use resumption::{Scope, SessionCache, SessionId};

/// Blocks of so many bytes are refused while memory is short; sessions and hints are smaller.
const LARGE: usize = 64 << 10;

/// The system's allocator, which may be short of memory.
struct Allocator;

static IS_SHORT: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: the system's allocator does it all, or nothing is allocated, which is allowed.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE && IS_SHORT.load(Ordering::Relaxed) {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            return ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn id(number: u32) -> SessionId {
    SessionId::try_from(&number.to_le_bytes()[..]).expect("four bytes")
}

#[test]
fn a_cache_goes_on_without_memory_for_more_cells() {
    const SESSIONS: u32 = 100_000;
    let cache: SessionCache<u32> =
        SessionCache::builder().unlimited().without_ticker().build().expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    let put_and_get = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            assert!(web.put(&id(number), number).is_stored());
            assert_eq!(web.get(&id(number / 2)).map(|found| *found.payload()), Some(number / 2));
        }
    };
    IS_SHORT.store(true, Ordering::Relaxed);
    put_and_get(0..SESSIONS);
    assert!(REFUSED.swap(0, Ordering::Relaxed) > 0, "more cells were asked for");
    IS_SHORT.store(false, Ordering::Relaxed);
    put_and_get(SESSIONS..SESSIONS + 1_000);
    assert_eq!(REFUSED.load(Ordering::Relaxed), 0);
    assert_eq!(cache.len() as u32, SESSIONS + 1_000);
}
