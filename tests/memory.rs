//! What a session takes beside its payload, all in all: its header, its cells and its hints.
#![cfg(target_os = "linux")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use resumption::{Clock, Scope, SecretBytes, SessionCache};

use support::{HOUR, id};

/// So many bytes at most.
const PROMISED: usize = 128;
const SESSIONS: usize = 1_000_000;
/// Fewer than most sessions have, so that a million of them are few enough for a test.
const PAYLOAD: usize = 64;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that are allocated, as glibc rounds them. Relaxed: read when nobody writes.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// What one test allocates is not another's.
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

// SAFETY: every call is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's promise.
        let block = unsafe { System.alloc(layout) };
        BYTES.fetch_add(usable(block), Ordering::Relaxed);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's promise.
        let block = unsafe { System.alloc_zeroed(layout) };
        BYTES.fetch_add(usable(block), Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES.fetch_sub(usable(block), Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }
}

fn usable(block: *mut u8) -> usize {
    // SAFETY: a live block of malloc, which is the system's allocator here, or null.
    unsafe { libc::malloc_usable_size(block.cast()) }
}

/// Full, and when as many have come once more, and half of these were taken.
#[test]
fn a_session_takes_as_much_beside_its_payload_as_is_promised_at_most() {
    let _alone = ALONE.lock();
    let before = BYTES.load(Ordering::Relaxed);
    let builder = SessionCache::builder().max_sessions(SESSIONS).lifetime(HOUR);
    let cache: SessionCache = builder.without_ticker().build().expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..2 * SESSIONS as u64 {
        assert!(web.put(&id(number), SecretBytes::from(&[7; PAYLOAD])).is_stored());
        if number >= SESSIONS as u64 && number.is_multiple_of(2) {
            assert!(web.take(&id(number)).is_some());
        }
        if number + 1 == SESSIONS as u64 || number + 1 == 2 * SESSIONS as u64 {
            let all = BYTES.load(Ordering::Relaxed) - before + cache.stats().region_bytes as usize;
            let each = (all / cache.len()).saturating_sub(PAYLOAD);
            println!("{each} bytes beside the payload of {} sessions", cache.len());
            assert!(each <= PROMISED, "{each} bytes beside the payload");
        }
    }
}

/// Each list of the wheel that was ever used keeps a segment, whatever comes and goes: with one lifetime those of the
/// slots that this reaches, and of finer ones, to which compaction files what is left. Then there are no more.
#[test]
fn the_wheel_takes_no_more_after_hours_than_its_lists() {
    /// A segment and its queue, as glibc rounds them.
    const LIST: usize = 512 + 8 + 24;
    /// Four levels, in each lane.
    const LISTS: usize = 4 * 64;
    const FEW: usize = 20_480;
    let _alone = ALONE.lock();
    let clock = Clock::manual();
    let builder = SessionCache::builder().max_sessions(FEW).lifetime(2 * HOUR);
    let cache: SessionCache = builder.clock(clock.clone()).without_ticker().build().expect("sane");
    let web = cache.scope(&Scope::new("web"));
    let (mut number, mut after_hours) = (0, [0; 25]);
    for (hour, bytes) in after_hours.iter_mut().enumerate() {
        for _ in 0..120 {
            clock.advance(Duration::from_secs(30));
            for _ in 0..64 {
                assert!(web.put(&id(number), SecretBytes::from(&[7; PAYLOAD])).is_stored());
                let _ = web.get(&id(number.saturating_sub(100)));
                if number.is_multiple_of(4) {
                    assert!(web.take(&id(number)).is_some());
                }
                number += 1;
            }
        }
        *bytes = BYTES.load(Ordering::Relaxed);
        println!("{bytes} bytes after {} hours, {} sessions", hour + 1, cache.len());
    }
    // After three hours as many expire as come. One thread puts, and the sessions of others' lanes are none.
    assert!(after_hours[24] - after_hours[2] < LIST * LISTS, "{after_hours:?}");
    assert!(after_hours[24] < after_hours[14] + after_hours[14] / 20, "{after_hours:?}");
}
