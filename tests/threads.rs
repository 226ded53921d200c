//! What threads a cache has, and when they end. Tests of their own: they count those of the process.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use resumption::{Scope, SessionCache};

use support::{HOUR, wait_until};

/// The threads are the process's: one test at a time.
static ONE_TEST: Mutex<()> = Mutex::new(());

fn one_test() -> MutexGuard<'static, ()> {
    ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many background threads of caches there are.
fn tickers() -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("a process has threads");
    let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm"));
    // The system keeps fifteen bytes of a name.
    let is_ticker = |name: &String| name.starts_with("resumption-tick");
    threads.flatten().filter_map(|thread| name(thread).ok()).filter(is_ticker).count()
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
