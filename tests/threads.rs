//! What threads a cache has, and when they end. A test of its own: it counts those of the process.

mod support;

use resumption::{Scope, SessionCache};

use support::{HOUR, wait_until};

/// The threads of a cache end with the last that has it, whoever that is, and not at their next tick.
#[test]
#[cfg(target_os = "linux")]
fn a_ticker_ends_with_its_cache() {
    let tickers = || {
        let threads = std::fs::read_dir("/proc/self/task").expect("a process has threads");
        let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
        threads
            .flatten()
            .filter_map(|thread| name(thread).ok())
            .filter(|name| is_ticker(name))
            .count()
    };
    // The system keeps fifteen bytes of a name.
    fn is_ticker(name: &str) -> bool {
        name.starts_with("resumption-tick")
    }
    let before = tickers();
    let kept: Vec<_> = (0..8)
        .map(|_| {
            let builder = SessionCache::<u64>::builder().ticker(HOUR);
            builder.build().expect("sane settings").scope(&Scope::new("web"))
        })
        .collect();
    wait_until("they have their names", || tickers() == before + 8);
    drop(kept);
    wait_until("the threads end", || tickers() == before);
}
