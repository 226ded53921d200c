//! A thread that is stopped anywhere in a put or a take, also between the count of an event and its push,
//! keeps no other thread's calls from being made.
#![cfg(target_os = "linux")]

#[path = "support/bump.rs"]
#[allow(dead_code)]
mod bump;
#[path = "support/stop.rs"]
#[allow(dead_code)]
mod stop;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use resumption::{Dispatch, Put, Refusal, Scope, SessionCache, Sessions, Verdict};

use support::{Random, id, wait_until};

#[global_allocator]
static ALLOCATOR: bump::Bump = bump::Bump::new();

/// Instants at which the victim is stopped.
const STOPS: u32 = 3_000;

/// A cache whose worker counts the calls about payloads above zero.
fn counted() -> (SessionCache<u64>, Arc<AtomicU64>) {
    let builder = SessionCache::builder().max_sessions(1_000).dispatch(Dispatch::Workers(1));
    let cache = builder.without_ticker().build().expect("sane settings");
    let told = Arc::new(AtomicU64::new(0));
    let (new, removed) = (Arc::clone(&told), Arc::clone(&told));
    let on_new = move |call: resumption::NewSession<u64>| {
        new.fetch_add(u64::from(*call.session().payload() > 0), Ordering::SeqCst);
        Verdict::Keep
    };
    let on_remove = move |call: resumption::RemovedSession<u64>| {
        removed.fetch_add(u64::from(*call.session().unwrap().payload() > 0), Ordering::SeqCst);
    };
    cache.set_on_new(Some(Arc::new(on_new))).expect("a thread can be started");
    cache.set_on_remove(Some(Arc::new(on_remove))).expect("a thread can be started");
    (cache, told)
}

/// Puts and takes, without end.
fn victim(sessions: Sessions<u64>, is_over: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        for number in (1_000..).take_while(|_| !is_over.load(Ordering::SeqCst)) {
            drop(sessions.put(&id(number), 0));
            drop(sessions.take(&id(number)));
        }
    })
}

#[test]
fn calls_are_made_while_another_thread_is_stopped() {
    stop::install();
    let (cache, told) = counted();
    let sessions = cache.scope(&Scope::new("web"));
    let is_over = Arc::new(AtomicBool::new(false));
    let victim = victim(sessions.clone(), Arc::clone(&is_over));
    let mut random = Random::new(1);
    for _ in 0..STOPS {
        let (start, pause) = (Instant::now(), Duration::from_nanos(random.below(20_000)));
        while start.elapsed() < pause {
            std::hint::spin_loop();
        }
        let stopped = stop::stop(&victim);
        let before = told.load(Ordering::SeqCst);
        // Where the worker has had no processor, as many calls wait as may: it makes them now.
        wait_until("a put is taken", || match sessions.put(&id(1), 1) {
            Put::Refused(Refusal::CallbacksWaiting, _) => false,
            put => {
                assert!(put.is_stored(), "{put:?}");
                true
            }
        });
        assert!(sessions.take(&id(1)).is_some());
        wait_until("both calls are made", || told.load(Ordering::SeqCst) == before + 2);
        drop(stopped);
    }
    is_over.store(true, Ordering::SeqCst);
    victim.join().expect("no panic");
    cache.close();
    assert_eq!(cache.stats().new_called, cache.stats().remove_called);
}
