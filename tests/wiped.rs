//! No secret is in memory that was freed: every way out of the cache wipes it.
//!
//! The allocator of this binary looks through each block that is freed, on whatever thread, for a
//! marker that every secret of the test has.
//!
//! The blocks of short secrets are freed by the epoch, and kept by the thread that frees them. So the
//! cache is used on a thread that lets the epoch go on before it ends; and that the blocks have come to be
//! looked at is looked at too.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use resumption::{
    Answer, Clock, Dispatch, Found, NewSession, Proposed, Put, Scope, SecretBytes, SessionCache,
    Sessions, Verdict,
};

use support::{HOUR, MINUTE, id, number};

/// Inverted, so that neither the constant nor code that has it is the marker.
const INVERTED: u64 = !0x6d61_726b_6564_2121;

/// Where the secrets of a test are; zero once their blocks were looked at.
static WATCHED: [AtomicUsize; 50] = [const { AtomicUsize::new(0) }; 50];

static FOUND: AtomicU64 = AtomicU64::new(0);

/// The counts are the process's: one test at a time.
static ONE_TEST: Mutex<()> = Mutex::new(());

struct Looking;

#[global_allocator]
static ALLOCATOR: Looking = Looking;

// SAFETY: the system's allocator does the work; blocks are read before they are freed only.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that what is read when the block is freed was written by its owner, or never.
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Secrets are words in blocks that are aligned to a word or were made by `secret` below.
        for at in 0..layout.size() / mem::size_of::<u64>() {
            // SAFETY: within the block, which is initialised, see `alloc`.
            let word = unsafe { block.cast::<u64>().add(at).read_unaligned() };
            if word == !INVERTED {
                FOUND.fetch_add(1, Ordering::Relaxed);
            }
        }
        let bytes = block.addr()..block.addr() + layout.size();
        for watched in &WATCHED {
            // The end of a secret, which may be the block's.
            let last = watched.load(Ordering::Relaxed).wrapping_sub(1);
            if bytes.contains(&last) {
                watched.store(0, Ordering::Relaxed);
            }
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

fn secret(len: usize) -> SecretBytes {
    let words = std::hint::black_box(!INVERTED).to_ne_bytes();
    words.iter().copied().cycle().take(len).collect::<Vec<u8>>().into_boxed_slice().into()
}

/// A secret of the length that the one of this number has.
fn secret_of(number: u64) -> SecretBytes {
    secret(8 + 40 * number as usize)
}

/// This secret's block is to be looked at before the test ends, and not another's of this number.
fn watch(number: u64, secret: &SecretBytes) {
    WATCHED[number as usize].store(secret.as_ptr_range().end.addr(), Ordering::SeqCst);
}

fn cache(clock: &Clock) -> (SessionCache, Sessions) {
    let cache = SessionCache::builder()
        .max_sessions(100)
        .lifetime(HOUR)
        .clock(clock.clone())
        .without_ticker()
        // On the thread whose blocks are waited for.
        .dispatch(Dispatch::Inline)
        .build()
        .expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    (cache, web)
}

/// Runs `leave` on a cache of 50 secrets, of some lengths; none may be found in freed memory, not
/// even once the cache is gone.
#[track_caller]
fn assert_wiped(leave: impl Fn(&SessionCache, &Sessions, &Clock) + Sync) {
    let _one = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
    let found = FOUND.load(Ordering::SeqCst);
    let run = || {
        let clock = Clock::manual();
        let (cache, web) = cache(&clock);
        for number in 0..WATCHED.len() as u64 {
            assert!(web.put(&id(number), secret_of(number)).is_stored());
            watch(number, web.get(&id(number)).expect("it was put").payload());
        }
        leave(&cache, &web, &clock);
        drop((cache, web));
        let_the_epoch_go_on();
    };
    // Joined, unlike by the end of a scope, the thread has freed what it kept.
    let ran = thread::scope(|scope| scope.spawn(run).join());
    ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let unseen = WATCHED.iter().filter(|watched| watched.swap(0, Ordering::SeqCst) != 0).count();
    assert_eq!(unseen, 0, "secrets' blocks that were not freed, and not looked at");
    assert_eq!(FOUND.load(Ordering::SeqCst), found, "a secret is in freed memory");
}

/// Fills so many bags of the epoch that those before are emptied, and then empties the depot that what was in
/// them went to.
fn let_the_epoch_go_on() {
    let (_cache, web) = cache(&Clock::manual());
    for number in 0..4_000 {
        // A block as large as no other of the tests, for a thread uses those again. And not empty: what
        // points to the end of a block does not point into it, for LeakSanitizer.
        assert!(web.put(&id(number % 8), secret(32)).is_stored());
    }
    // Each looks in the depot for a block of its length; what it finds of others' stays with the thread, or goes.
    let held: Vec<_> = (0..1_000).map(|_| secret(808)).collect();
    drop(held);
}

#[test]
fn the_marker_is_found_where_nothing_wipes_it() {
    let _one = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
    let before = FOUND.load(Ordering::SeqCst);
    drop(secret(100).to_vec());
    assert!(FOUND.load(Ordering::SeqCst) > before, "this test can fail");
}

#[test]
fn a_cache_that_is_dropped_wipes() {
    assert_wiped(|_, _, _| ());
}

#[test]
fn replaces_wipe() {
    assert_wiped(|_, web, _| {
        for number in 0..200 {
            drop(web.put(&id(number % 50), secret(300)));
        }
        let Put::Replaced(old) = web.put(&id(7), secret(30)) else { panic!("there was one") };
        assert!(web.remove(&id(7)));
        drop(old);
    });
}

#[test]
fn takes_and_removals_wipe() {
    assert_wiped(|_, web, _| {
        let held: Vec<_> = (0..20).filter_map(|number| web.take(&id(number))).collect();
        assert!((20..30).all(|number| web.remove(&id(number))));
        assert!((30..40).all(|number| web.remove_faulty(&id(number))));
        assert_eq!(held.len(), 20);
    });
}

/// The new callback rejects what is put in the places of all.
#[test]
fn rejections_wipe() {
    assert_wiped(|cache, web, _| {
        let on_new = |new: NewSession| {
            watch(number(new.session().id()), new.session().payload());
            Verdict::Reject
        };
        cache.set_on_new(Some(Arc::new(on_new))).expect("no thread is needed");
        assert!((0..50).all(|number| web.put(&id(number), secret_of(number)).is_stored()));
        assert_eq!((cache.stats().removals.rejected, cache.len()), (50, 0));
    });
}

/// An external cache gives all that is asked for: to a take, which has it alone, and not to another id.
#[test]
fn answers_wipe() {
    assert_wiped(|cache, web, _| {
        cache.flush();
        cache.set_on_get(Some(Arc::new(|proposed: &Proposed<'_>| {
            let (id, scope) = (*proposed.id(), proposed.scope().clone());
            let payload = secret_of(number(&id));
            watch(number(&id), &payload);
            let id = if number(&id) < 40 { id } else { support::id(1_000) };
            Answer::Give(Found::new(id, scope, payload, MINUTE))
        })));
        let taken: Vec<_> = (0..50).filter_map(|number| web.take(&id(number))).collect();
        assert_eq!((taken.len(), cache.len()), (40, 0));
        assert!(taken.iter().all(|taken| **taken.payload() == *secret_of(number(taken.id()))));
    });
}

#[test]
fn evictions_wipe() {
    assert_wiped(|cache, web, _| {
        for number in 100..1_000 {
            assert!(web.put(&id(number), secret(100)).is_stored());
        }
        assert!(cache.stats().removals.evicted > 800);
        cache.set_max_sessions(1);
    });
}

#[test]
fn expiry_wipes() {
    assert_wiped(|cache, web, clock| {
        clock.advance(HOUR);
        assert!(web.get(&id(1)).is_none());
        assert_eq!(cache.flush_expired(), 49);
        assert!(web.put_with(&id(2), secret(64), MINUTE).is_stored());
        clock.advance(HOUR);
        assert!(web.put(&id(3), secret(64)).is_stored());
    });
}

#[test]
fn sweeps_wipe() {
    assert_wiped(|cache, _, _| assert_eq!(cache.flush(), 50));
    assert_wiped(|cache, web, _| assert_eq!(cache.drop_scope(web.scope()), 50));
    assert_wiped(|cache, _, _| assert_eq!(cache.retain(|_| false), 50));
    assert_wiped(|cache, _, _| cache.close());
}

#[test]
fn refusals_wipe() {
    assert_wiped(|cache, web, _| {
        drop(web.put_if_absent(&id(1), secret(100)));
        cache.set_max_bytes(1_000);
        drop(web.put(&id(1), secret(5_000)));
        cache.close();
        drop(web.put(&id(1), secret(100)));
    });
}

/// A handle keeps the secret, and nobody else does.
#[test]
fn the_last_handle_wipes() {
    assert_wiped(|cache, web, _| {
        let handle = web.get(&id(9)).expect("it was put");
        cache.flush();
        let other = handle.clone();
        drop(handle);
        assert_eq!(**other.payload(), *secret_of(9));
    });
}

/// Bytes that were given in other ways are wiped where the cache got hold of them.
#[test]
fn conversions_wipe_what_they_take() {
    assert_wiped(|_, web, _| {
        let mut roomy = Vec::with_capacity(1_000);
        roomy.extend_from_slice(&secret(100));
        assert!(web.put(&id(60), roomy.into()).is_stored());
        let mut shortened = secret(100).to_vec();
        shortened.truncate(8);
        assert!(web.put(&id(62), shortened.into()).is_stored());
        assert!(web.put(&id(61), secret(48).as_bytes().into()).is_stored());
        let clone = web.get(&id(61)).expect("it was put").payload().clone();
        drop(clone);
    });
}

/// The memory of bytes that are many is not the epoch's: it would be as much as somebody likes to put. Nor
/// is it kept by the thread.
#[test]
fn many_bytes_are_freed_at_once() {
    assert_wiped(|_, web, _| {
        for (number, watched) in WATCHED.iter().enumerate().skip(26) {
            assert!(web.remove(&id(number as u64)));
            assert_eq!(watched.load(Ordering::SeqCst), 0, "{} bytes", 8 + 40 * number);
        }
    });
}
