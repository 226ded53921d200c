//! The edges of the callbacks: what a callback, a closure's or a payload's drop may do and where.
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{Clock, Dispatch, Put, Reason, Refusal, Scope, SessionCache, SessionId, Verdict};

const MINUTE: Duration = Duration::from_secs(60);
/// How long a test waits for what has to come, before it fails.
const PATIENCE: Duration = MINUTE;

fn id(number: u64) -> SessionId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from(bytes)
}

/// Whether `run` ends.
fn ends(run: impl FnOnce() + Send + 'static) -> bool {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        run();
        let _ = send.send(());
    });
    receive.recv_timeout(PATIENCE).is_ok()
}

/// A payload whose drop panics.
struct Bomb(bool);
impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 && !thread::panicking() {
            panic!("bomb");
        }
    }
}

fn small<S: Send + Sync + 'static>(dispatch: Dispatch) -> (SessionCache<S>, Clock) {
    let clock = Clock::manual();
    let cache = SessionCache::builder()
        .max_sessions(10_000)
        .lifetime(MINUTE)
        .clock(clock.clone())
        .without_ticker()
        .dispatch(dispatch)
        .build()
        .unwrap();
    (cache, clock)
}

#[test]
fn no_room_for_callbacks_refuses_every_put_once_one_is_set() {
    let cache: SessionCache<u64> =
        SessionCache::builder().max_waiting_callbacks(0).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    assert!(web.put(&id(1), 1).is_stored());
    cache.set_on_remove(Some(Arc::new(|_| {}))).unwrap();
    assert!(matches!(web.put(&id(2), 2), Put::Refused(Refusal::CallbacksWaiting, 2)));
}

#[test]
fn reason_of_a_rejected_session_agrees() {
    let (cache, clock) = small::<u64>(Dispatch::Inline);
    let web = cache.scope(&Scope::new("web"));
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&reasons);
    cache.set_on_remove(Some(Arc::new(move |r| told.lock().unwrap().push(r.reason())))).unwrap();
    let sessions = web.clone();
    cache
        .set_on_new(Some(Arc::new(move |new| {
            clock.advance(2 * MINUTE);
            // Decides that it is expired, and removes nothing.
            assert!(!sessions.contains(new.session().id()));
            Verdict::Reject
        })))
        .unwrap();
    assert!(web.put(&id(1), 1).is_stored());
    let stats = cache.stats().removals;
    let told = reasons.lock().unwrap().clone();
    assert_eq!(
        (stats.rejected, stats.expired),
        match told[..] {
            [Reason::Rejected] => (1, 0),
            [Reason::Expired] => (0, 1),
            _ => panic!("{told:?}"),
        },
        "told {told:?}"
    );
}

#[test]
fn reason_of_a_retained_session_agrees() {
    let (cache, clock) = small::<u64>(Dispatch::Inline);
    let web = cache.scope(&Scope::new("web"));
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&reasons);
    cache.set_on_remove(Some(Arc::new(move |r| told.lock().unwrap().push(r.reason())))).unwrap();
    assert!(web.put(&id(1), 1).is_stored());
    cache.retain(|_| {
        clock.advance(2 * MINUTE);
        web.contains(&id(1))
    });
    let stats = cache.stats().removals;
    let told = reasons.lock().unwrap().clone();
    assert_eq!(
        (told[0] == Reason::Removed, told[0] == Reason::Expired),
        (stats.removed == 1, stats.expired == 1),
        "{told:?} {stats:?}"
    );
}

/// The compaction at the end of a sweep removes what is expired, and that is told too.
#[test]
fn inline_calls_are_made_at_the_end_of_a_sweep() {
    let clock = Clock::manual();
    let cache: SessionCache<u64> = SessionCache::builder()
        .max_sessions(10_000)
        .lifetime(MINUTE)
        .clock(clock.clone())
        .without_ticker()
        .dispatch(Dispatch::Inline)
        .max_waiting_callbacks(10)
        .build()
        .unwrap();
    let (a, b) = (cache.scope(&Scope::new("a")), cache.scope(&Scope::new("b")));
    for number in 0..1_000 {
        assert!(a.put_with(&id(number), number, 100 * MINUTE).is_stored());
    }
    for number in 0..200 {
        assert!(b.put(&id(number), number).is_stored());
    }
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    cache
        .set_on_remove(Some(Arc::new(move |_| {
            counted.fetch_add(1, SeqCst);
        })))
        .unwrap();
    clock.advance(2 * MINUTE);
    cache.drop_scope(&Scope::new("a"));
    let stats = cache.stats();
    let put = a.put(&id(1), 1);
    let refused = matches!(put, Put::Refused(Refusal::CallbacksWaiting, _));
    let again = matches!(a.put(&id(1), 1), Put::Refused(Refusal::CallbacksWaiting, _));
    assert_eq!(
        (stats.callbacks_waiting, refused, again),
        (0, false, false),
        "removed {}, told {}",
        stats.removals.total(),
        count.load(SeqCst)
    );
}

/// The closure that was set before is dropped once no lock is held.
#[test]
fn a_closure_may_use_the_cache_in_its_drop() {
    struct Unset(SessionCache<u64>);
    impl Drop for Unset {
        fn drop(&mut self) {
            self.0.set_on_remove(None).unwrap();
        }
    }
    let (cache, _) = small::<u64>(Dispatch::Inline);
    let unset = Unset(cache.clone());
    cache
        .set_on_new(Some(Arc::new(move |_| {
            let _ = &unset;
            Verdict::Keep
        })))
        .unwrap();
    assert!(ends(move || cache.set_on_new(None).unwrap()), "deadlock in set_on_new");
}

/// A callback that was unset while it was called is dropped by whoever called it.
#[test]
fn a_closure_whose_drop_panics_does_not_stop_delivery() {
    let (cache, _) = small::<u64>(Dispatch::Workers(1));
    let web = cache.scope(&Scope::new("web"));
    let bomb = Bomb(true);
    let inner = cache.clone();
    // Not seen by `on_new`, which would have a reference meanwhile, and may have the last one.
    let unset = Arc::new(AtomicU64::new(0));
    let is_unset = Arc::clone(&unset);
    cache
        .set_on_new(Some(Arc::new(move |_| {
            let _ = &bomb;
            inner.set_on_new(None).unwrap();
            is_unset.store(1, SeqCst);
            Verdict::Keep
        })))
        .unwrap();
    assert!(web.put(&id(1), 1).is_stored());
    while unset.load(SeqCst) == 0 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(100));
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    cache
        .set_on_new(Some(Arc::new(move |_| {
            counted.fetch_add(1, SeqCst);
            Verdict::Keep
        })))
        .unwrap();
    assert!(web.put(&id(2), 2).is_stored());
    let closed = cache.close_within(PATIENCE);
    assert_eq!(
        (closed.is_ok(), count.load(SeqCst)),
        (true, 1),
        "the worker died, close() would hang"
    );
}

#[test]
fn a_closure_may_close_the_cache_in_its_drop() {
    struct Close(SessionCache<u64>);
    impl Drop for Close {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let (cache, _) = small::<u64>(Dispatch::Inline);
    let web = cache.scope(&Scope::new("web"));
    let close = Close(cache.clone());
    let inner = cache.clone();
    cache
        .set_on_new(Some(Arc::new(move |_| {
            let _ = &close;
            inner.set_on_new(None).unwrap();
            Verdict::Keep
        })))
        .unwrap();
    let is_ended = ends(move || assert!(web.put(&id(1), 1).is_stored()));
    assert!(is_ended, "close waits for the thread that it is called by");
}

/// A payload that is dropped after it was told is dropped as if in a callback: a close there does not
/// wait for its own thread.
#[test]
fn a_payload_may_close_the_cache_in_its_drop_after_it_was_told() {
    struct Close(Arc<Mutex<Option<SessionCache<Close>>>>);
    impl Drop for Close {
        fn drop(&mut self) {
            let cache = self.0.lock().unwrap().take();
            if let Some(cache) = cache {
                cache.close();
            }
        }
    }
    let (cache, _) = small::<Close>(Dispatch::Manual);
    let (cache2, _) = small::<Close>(Dispatch::Inline);
    drop(cache);
    let web = cache2.scope(&Scope::new("web"));
    cache2.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
    let slot = Arc::new(Mutex::new(None));
    for number in 0..10 {
        assert!(web.put(&id(number), Close(Arc::clone(&slot))).is_stored());
    }
    *slot.lock().unwrap() = Some(cache2.clone());
    assert!(
        ends(move || {
            cache2.flush();
        }),
        "close in a payload's drop, no put in flight"
    );
}

#[test]
fn a_panic_whose_payload_panics_is_survived() {
    let (cache, _) = small::<u64>(Dispatch::Workers(1));
    let web = cache.scope(&Scope::new("web"));
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    cache
        .set_on_new(Some(Arc::new(move |_| {
            if counted.fetch_add(1, SeqCst) == 0 {
                std::panic::panic_any(Bomb(true));
            }
            Verdict::Keep
        })))
        .unwrap();
    for number in 0..10 {
        assert!(web.put(&id(number), 1).is_stored());
    }
    let closed = cache.close_within(PATIENCE);
    assert_eq!((closed.is_ok(), calls.load(SeqCst)), (true, 10));
}

/// A rejection compacts, which drops payloads of others.
#[test]
fn a_rejection_that_meets_a_panicking_payload() {
    let (cache, clock) = small::<Bomb>(Dispatch::Manual);
    let web = cache.scope(&Scope::new("web"));
    for number in 0..100 {
        assert!(web.put(&id(number), Bomb(true)).is_stored());
    }
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let time = clock.clone();
    cache
        .set_on_new(Some(Arc::new(move |_| {
            if counted.fetch_add(1, SeqCst) == 0 {
                time.advance(2 * MINUTE);
            }
            Verdict::Reject
        })))
        .unwrap();
    for number in 1_000..2_000 {
        assert!(web.put_with(&id(number), Bomb(false), 100 * MINUTE).is_stored());
    }
    let mut panics = 0;
    for _ in 0..100 {
        let polled =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.poll_callbacks()));
        panics += u64::from(polled.is_err());
    }
    let seen = (panics, calls.load(SeqCst), cache.stats().callbacks_waiting);
    std::mem::forget((cache, web));
    assert_eq!(seen, (0, 1_000, 0), "panics out of poll, calls, waiting");
}

fn for_each_put(web: &resumption::Sessions<u64>, from: u64, to: u64) {
    for number in from..to {
        assert!(web.put(&id(number), number).is_stored());
    }
}

#[test]
fn close_within_keeps_its_time_inline() {
    let (cache, _) = small::<u64>(Dispatch::Inline);
    let web = cache.scope(&Scope::new("web"));
    cache.set_on_remove(Some(Arc::new(|_| thread::sleep(Duration::from_millis(10))))).unwrap();
    for_each_put(&web, 0, 200);
    // 200 calls take two seconds.
    let undelivered = cache.close_within(Duration::from_millis(50)).unwrap_err();
    assert!(undelivered.waiting > 100, "{undelivered}");
}

/// The drop of a session that was replaced unwinds through the put, after its event: the worker is woken
/// nevertheless.
#[test]
fn a_put_that_unwinds_wakes_the_worker() {
    let (cache, clock) = small::<Bomb>(Dispatch::Workers(1));
    let web = cache.scope(&Scope::new("web"));
    assert!(web.put(&id(1), Bomb(true)).is_stored());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    cache
        .set_on_new(Some(Arc::new(move |_| {
            counted.fetch_add(1, SeqCst);
            Verdict::Keep
        })))
        .unwrap();
    thread::sleep(Duration::from_millis(100)); // the worker sleeps
    // It is expired, and nobody but a put of its id has a reason to look at it yet.
    clock.advance(MINUTE);
    let put =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| web.put(&id(1), Bomb(false))));
    assert!(put.is_err());
    let start = Instant::now();
    while (calls.load(SeqCst), cache.stats().callbacks_waiting) != (1, 0) {
        assert!(start.elapsed() < PATIENCE, "the call is not made");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn callbacks_that_are_unset_refuse_no_puts() {
    let cache: SessionCache<u64> = SessionCache::builder()
        .dispatch(Dispatch::Manual)
        .max_sessions(100)
        .max_waiting_callbacks(10)
        .build()
        .unwrap();
    let web = cache.scope(&Scope::new("web"));
    cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).unwrap();
    for_each_put(&web, 0, 10);
    cache.set_on_new(None).unwrap();
    assert!(web.put(&id(11), 1).is_stored(), "no callback is set, nobody has to poll");
}

#[test]
fn a_cache_without_callbacks_has_no_mark() {
    let cache: SessionCache<u64> =
        SessionCache::builder().max_waiting_callbacks(0).build().unwrap();
    assert!(cache.scope(&Scope::new("web")).put(&id(11), 1).is_stored());
}

/// A payload that is dropped by an eviction, inside the gate, uses the cache: its callback is called
/// after the outer put has left the gate.
#[test]
fn no_callback_is_called_inside_the_gate() {
    struct Chain(Option<resumption::Sessions<Chain>>);
    impl Drop for Chain {
        fn drop(&mut self) {
            if let Some(web) = self.0.take() {
                drop(web.put(&id(99), Chain(None)));
            }
        }
    }
    let clock = Clock::manual();
    let cache: SessionCache<Chain> = SessionCache::builder()
        .max_sessions(2)
        .clock(clock)
        .without_ticker()
        .dispatch(Dispatch::Inline)
        .build()
        .unwrap();
    let web = cache.scope(&Scope::new("web"));
    assert!(web.put(&id(1), Chain(Some(web.clone()))).is_stored());
    assert!(web.put(&id(2), Chain(None)).is_stored());
    let inner = cache.clone();
    cache
        .set_on_new(Some(Arc::new(move |_| {
            inner.close();
            Verdict::Keep
        })))
        .unwrap();
    assert!(
        ends(move || drop(web.put(&id(3), Chain(None)))),
        "the close waits for the put that it is in"
    );
}

/// The same under the lock on settings.
#[test]
fn no_callback_is_called_under_the_settling_lock() {
    struct Chain(Option<resumption::Sessions<Chain>>);
    impl Drop for Chain {
        fn drop(&mut self) {
            if let Some(web) = self.0.take() {
                drop(web.put(&id(99), Chain(None)));
            }
        }
    }
    let (cache, _) = small::<Chain>(Dispatch::Inline);
    let web = cache.scope(&Scope::new("web"));
    for number in 0..10 {
        assert!(web.put(&id(number), Chain(Some(web.clone()))).is_stored());
    }
    let inner = cache.clone();
    cache
        .set_on_new(Some(Arc::new(move |_| {
            inner.set_on_new(None).unwrap();
            Verdict::Keep
        })))
        .unwrap();
    assert!(ends(move || cache.set_max_sessions(5)), "a setter in a callback");
}

/// A panic of a payload's drop is none of a callback.
#[test]
fn callbacks_panicked_counts_callbacks() {
    /// Its drop is counted, and then panics.
    struct Counted(Arc<AtomicU64>, Bomb);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let (cache, _) = small::<Counted>(Dispatch::Inline);
    let web = cache.scope(&Scope::new("web"));
    cache
        .set_on_remove(Some(Arc::new(|told| assert!(told.session().unwrap().payload().1.0))))
        .unwrap();
    let drops = Arc::new(AtomicU64::new(0));
    assert!(web.put(&id(1), Counted(Arc::clone(&drops), Bomb(true))).is_stored());
    assert!(web.remove(&id(1)));
    let stats = cache.stats();
    assert_eq!((stats.remove_called, stats.callbacks_panicked), (1, 0));
    assert_eq!(drops.load(SeqCst), 1);
}

/// What a rejected session leaves behind is tended, and others are found expired there.
#[test]
fn a_payload_that_a_rejection_meets_is_none_of_the_callbacks() {
    let clock = Clock::manual();
    let builder = SessionCache::builder().max_sessions(20_000).without_ticker();
    let cache = builder.dispatch(Dispatch::Manual).clock(clock.clone()).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    // As many hints as make each removal look at some, expired bombs among them.
    for number in 0..200 {
        assert!(web.put_with(&id(number), Bomb(true), MINUTE).is_stored());
    }
    cache.set_on_new(Some(Arc::new(|_| Verdict::Reject))).unwrap();
    for number in 1_000..1_400 {
        assert!(web.put_with(&id(number), Bomb(false), 60 * MINUTE).is_stored());
    }
    clock.advance(2 * MINUTE);
    cache.poll_callbacks();
    let stats = cache.stats();
    assert_eq!((stats.new_called, stats.callbacks_panicked), (400, 0));
    assert!(stats.removals.expired > 0, "a rejection has met some");
}
