//! A thread that is stopped between its event and the count of it hides the events of others.
#![cfg(target_os = "linux")]

#[path = "support/bump.rs"]
mod bump;
#[path = "support/stop.rs"]
mod stop;
#[allow(dead_code)]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{Clock, Dispatch, Scope, SessionCache, Verdict};
use support::{Random, id};

#[global_allocator]
static ALLOCATOR: bump::Bump = bump::Bump::new();

#[test]
fn calls_are_made_while_another_thread_is_stopped() {
    stop::install();
    let mut missed = 0;
    let (mut closed_early, mut instants) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) && missed == 0 {
        let cache: SessionCache<u64> = SessionCache::builder()
            .max_sessions(1_000)
            .clock(Clock::manual())
            .without_ticker()
            .dispatch(Dispatch::Workers(1))
            .build()
            .unwrap();
        let told = Arc::new(AtomicU64::new(0));
        let (new, removed) = (Arc::clone(&told), Arc::clone(&told));
        cache
            .set_on_new(Some(Arc::new(move |t| {
                if *t.session().payload() > 0 {
                    new.fetch_add(1, SeqCst);
                }
                Verdict::Keep
            })))
            .unwrap();
        cache
            .set_on_remove(Some(Arc::new(move |t| {
                if *t.session().payload() > 0 {
                    removed.fetch_add(1, SeqCst);
                }
            })))
            .unwrap();
        let web = cache.scope(&Scope::new("web"));
        let over = Arc::new(AtomicBool::new(false));
        let (sessions, is_over) = (web.clone(), Arc::clone(&over));
        let victim = thread::spawn(move || {
            let mut number = 1_000;
            while !is_over.load(SeqCst) {
                number += 1;
                drop(sessions.put(&id(number), 0));
                drop(sessions.take(&id(number)));
            }
        });
        let mut random = Random::new(start.elapsed().as_nanos() as u64 | 1);
        for _ in 0..500 {
            instants += 1;
            let spin = Instant::now();
            let pause = Duration::from_nanos(random.below(20_000));
            while spin.elapsed() < pause {
                std::hint::spin_loop();
            }
            let stopped = stop::stop(&victim);
            let before = told.load(SeqCst);
            let mut made = 0;
            for number in 0..4 {
                assert!(web.put(&id(number), 1).is_stored());
                assert!(web.take(&id(number)).is_some());
                made += 2;
                let wait = Instant::now();
                while told.load(SeqCst) < before + made && wait.elapsed() < Duration::from_secs(2) {
                    thread::yield_now();
                }
                if told.load(SeqCst) < before + made {
                    missed += 1;
                    let waiting = cache.stats().callbacks_waiting;
                    eprintln!(
                        "after {instants} stops: pair {number}: told {} of {made}, waiting {waiting}, poll: {}",
                        told.load(SeqCst) - before,
                        cache.poll_callbacks()
                    );
                    let copy = cache.clone();
                    let is_open = Arc::new(AtomicBool::new(false));
                    let closed = Arc::clone(&is_open);
                    let closer = thread::spawn(move || {
                        copy.close_within(Duration::from_secs(1))
                            .inspect(|()| closed.store(true, SeqCst))
                    });
                    thread::sleep(Duration::from_millis(500));
                    if is_open.load(SeqCst) && told.load(SeqCst) < before + made {
                        closed_early += 1;
                        eprintln!("and close() returned Ok with calls not made");
                    }
                    drop(stopped);
                    let _ = closer.join();
                    break;
                }
            }
            if missed > 0 {
                break;
            }
        }
        over.store(true, SeqCst);
        victim.join().unwrap();
    }
    eprintln!("{instants} instants");
    assert_eq!((missed, closed_early), (0, 0));
}
