//! What threads a cache has, and when they end. Tests of their own: they count those of the process.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use resumption::{Dispatch, Scope, SessionCache, Verdict};

use support::{HOUR, id, wait_until};

/// The threads are the process's: one test at a time.
static ONE_TEST: Mutex<()> = Mutex::new(());

fn one_test() -> MutexGuard<'static, ()> {
    ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many background threads of caches there are.
fn tickers() -> usize {
    threads("resumption-tick")
}

/// How many threads of caches make calls.
fn workers() -> usize {
    threads("resumption-call")
}

/// How many threads have a name that begins so. The system keeps fifteen bytes of a name.
fn threads(beginning: &str) -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("a process has threads");
    let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm"));
    let is_one = |name: &String| name.starts_with(beginning);
    threads.flatten().filter_map(|thread| name(thread).ok()).filter(is_one).count()
}

#[test]
fn a_cache_has_a_ticker_unless_it_is_built_without() {
    let _one = one_test();
    wait_until("the threads of other tests end", || tickers() == 0);
    let cache = SessionCache::<u64>::builder().build().expect("sane settings");
    wait_until("it has its name", || tickers() == 1);
    // The second one would have its name before the third is looked for.
    let _none = SessionCache::<u64>::builder().without_ticker().build().expect("sane settings");
    let _other = SessionCache::<u64>::builder().build().expect("sane settings");
    wait_until("the other one has its name", || tickers() >= 2);
    assert_eq!(tickers(), 2);
    drop(cache);
    wait_until("its thread ends", || tickers() == 1);
}

/// The threads of a cache end with the last that has it, whoever that is, and not at their next tick.
#[test]
fn a_ticker_ends_with_its_cache() {
    let _one = one_test();
    wait_until("the threads of other tests end", || tickers() == 0);
    let kept: Vec<_> = (0..8)
        .map(|_| {
            let builder = SessionCache::<u64>::builder().ticker(HOUR);
            builder.build().expect("sane settings").scope(&Scope::new("web"))
        })
        .collect();
    wait_until("they have their names", || tickers() == 8);
    drop(kept);
    wait_until("the threads end", || tickers() == 0);
}

/// There are no more than the cache has shards: here four, one for each 2 048 sessions.
#[test]
fn workers_are_as_many_as_are_asked_for_and_have_work() {
    const PUTS: u64 = 1_000;
    let _one = one_test();
    let workers_of = [
        (Dispatch::Workers(usize::MAX), 4),
        (Dispatch::Workers(3), 3),
        (Dispatch::Workers(0), 1),
        (Dispatch::Inline, 0),
    ];
    for (dispatch, count) in workers_of {
        wait_until("the threads of other tests end", || workers() == 0);
        let builder = SessionCache::builder().max_sessions(10_000).dispatch(dispatch);
        let cache = builder.build().expect("sane settings");
        let web = cache.scope(&Scope::new("web"));
        assert!(web.put(&id(PUTS), PUTS).is_stored());
        assert_eq!(workers(), 0, "{dispatch:?}: there is nothing to call");
        let told = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&told);
        let on_new = move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Verdict::Keep
        };
        cache.set_on_new(Some(Arc::new(on_new))).expect("threads for the callbacks");
        wait_until("they have their names", || workers() >= count);
        for number in 0..PUTS {
            assert!(web.put(&id(number), number).is_stored());
        }
        wait_until("each put is told", || told.load(Ordering::SeqCst) == PUTS);
        assert_eq!(workers(), count, "{dispatch:?}");
        drop((cache, web));
        wait_until("the threads end", || workers() == 0);
    }
}
