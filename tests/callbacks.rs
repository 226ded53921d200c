//! The callbacks: what is told, when, in which order, and what the answers do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{
    Answer, Clock, Dispatch, NewSession, Put, Reason, Refusal, RemovedSession, Scope, SessionCache,
    SessionId, Sessions, Verdict,
};

const MINUTE: Duration = Duration::from_secs(60);

/// What a callback was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    New(SessionId, u64),
    Removed(SessionId, u64, Reason),
}

type Log = Arc<Mutex<Vec<Told>>>;

fn id(number: u64) -> SessionId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from(bytes)
}

/// Logs every call, and keeps every session.
fn listen(cache: &SessionCache<u64>) -> Log {
    let log = Log::default();
    let (new, removed) = (Arc::clone(&log), Arc::clone(&log));
    cache
        .set_on_new(Some(Arc::new(move |told| {
            let session = told.session();
            new.lock().unwrap().push(Told::New(*session.id(), *session.payload()));
            Verdict::Keep
        })))
        .unwrap();
    cache
        .set_on_remove(Some(Arc::new(move |told| {
            let session = told.session().unwrap();
            let told = Told::Removed(*session.id(), *session.payload(), told.reason());
            removed.lock().unwrap().push(told);
        })))
        .unwrap();
    log
}

fn inline(max: usize) -> (SessionCache<u64>, Sessions<u64>, Clock) {
    let clock = Clock::manual();
    let cache = SessionCache::builder()
        .max_sessions(max)
        .lifetime(MINUTE)
        .clock(clock.clone())
        .without_ticker()
        .dispatch(Dispatch::Inline)
        .build()
        .unwrap();
    let web = cache.scope(&Scope::new("web"));
    (cache, web, clock)
}

fn taken(log: &Log) -> Vec<Told> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn each_way_out_is_told_once_with_its_reason() {
    let (cache, web, clock) = inline(2);
    let log = listen(&cache);
    let put = |number, payload| assert!(web.put(&id(number), payload).is_stored());
    put(1, 10);
    assert_eq!(taken(&log), [Told::New(id(1), 10)]);
    put(1, 11);
    assert_eq!(taken(&log), [Told::Removed(id(1), 10, Reason::Replaced), Told::New(id(1), 11)]);
    assert!(web.take(&id(1)).is_some());
    assert_eq!(taken(&log), [Told::Removed(id(1), 11, Reason::Taken)]);
    put(2, 20);
    assert!(web.remove(&id(2)));
    put(3, 30);
    assert!(web.remove_faulty(&id(3)));
    put(4, 40);
    clock.advance(MINUTE);
    assert!(web.get(&id(4)).is_none());
    put(5, 50);
    put(6, 60);
    put(7, 70);
    assert_eq!(cache.retain(|session| *session.id() != id(6)), 1);
    assert_eq!(cache.flush(), 1);
    put(8, 80);
    assert_eq!(cache.drop_scope(&Scope::new("web")), 1);
    put(9, 90);
    cache.close();
    let left: Vec<_> = taken(&log)
        .into_iter()
        .filter_map(|told| match told {
            Told::Removed(_, payload, reason) => Some((payload, reason)),
            Told::New(..) => None,
        })
        .collect();
    assert_eq!(
        left,
        [
            (20, Reason::Removed),
            (30, Reason::Faulty),
            (40, Reason::Expired),
            (50, Reason::Evicted),
            (60, Reason::Removed),
            (70, Reason::Flushed),
            (80, Reason::ScopeDropped),
            (90, Reason::Closed),
        ]
    );
}

#[test]
fn callbacks_are_set_read_back_and_unset() {
    let (cache, web, _) = inline(10);
    assert!(cache.on_new().is_none() && cache.on_remove().is_none());
    let log = listen(&cache);
    assert!(cache.on_new().is_some() && cache.on_remove().is_some());
    assert!(web.put(&id(1), 1).is_stored());
    cache.set_on_new(None).unwrap();
    cache.set_on_remove(None).unwrap();
    assert!(cache.on_new().is_none() && cache.on_remove().is_none());
    assert!(web.put(&id(2), 2).is_stored());
    assert!(web.take(&id(1)).is_some());
    assert_eq!(taken(&log), [Told::New(id(1), 1)]);
    assert_eq!((cache.stats().new_called, cache.stats().remove_called), (1, 0));
}

#[test]
fn a_rejected_session_is_not_found() {
    let (cache, web, _) = inline(10);
    let log = listen(&cache);
    let inner = cache.on_new().unwrap();
    cache
        .set_on_new(Some(Arc::new(move |new| {
            let is_even = new.session().payload() % 2 == 0;
            let _ = inner(new);
            if is_even { Verdict::Keep } else { Verdict::Reject }
        })))
        .unwrap();
    assert!(web.put(&id(1), 1).is_stored());
    assert!(web.put(&id(2), 2).is_stored());
    assert!(web.get(&id(1)).is_none());
    assert!(web.get(&id(2)).is_some());
    assert_eq!(cache.stats().removals.rejected, 1);
    assert_eq!(
        taken(&log),
        [Told::New(id(1), 1), Told::Removed(id(1), 1, Reason::Rejected), Told::New(id(2), 2),]
    );
}

#[test]
fn a_handle_of_a_callback_keeps_the_session() {
    let (cache, web, _) = inline(10);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeper = Arc::clone(&kept);
    cache
        .set_on_new(Some(Arc::new(move |new| {
            assert_eq!(new.scope().name(), "web");
            assert!(new.session().ref_count() >= 2, "the cache's, and one of its own");
            keeper.lock().unwrap().push(new.into_session());
            Verdict::Keep
        })))
        .unwrap();
    assert!(web.put(&id(1), 1).is_stored());
    cache.close();
    assert_eq!(*kept.lock().unwrap()[0].payload(), 1);
    assert_eq!(cache.stats().held_sessions, 1);
    kept.lock().unwrap().clear();
    assert_eq!(cache.stats().held_sessions, 0);
}

#[test]
fn the_drop_of_the_cache_tells_of_every_session() {
    for dispatch in [Dispatch::Workers(2), Dispatch::Inline, Dispatch::Manual] {
        let cache: SessionCache<u64> = SessionCache::builder().dispatch(dispatch).build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let log = listen(&cache);
        for number in 0..100 {
            assert!(web.put(&id(number), number).is_stored());
        }
        drop(cache);
        drop(web);
        // A worker that is just at it may be the last one to let go of the cache.
        wait_until(|| log.lock().unwrap().len() >= 200);
        let told = taken(&log);
        let closed = told.iter().filter(|told| matches!(told, Told::Removed(.., Reason::Closed)));
        assert_eq!((told.len(), closed.count()), (200, 100), "{dispatch:?}");
    }
}

#[test]
fn manual_calls_are_made_when_they_are_polled() {
    let cache: SessionCache<u64> =
        SessionCache::builder().dispatch(Dispatch::Manual).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let log = listen(&cache);
    assert!(web.put(&id(1), 1).is_stored());
    assert!(web.take(&id(1)).is_some());
    assert!(taken(&log).is_empty());
    assert_eq!(cache.stats().callbacks_waiting, 2);
    assert_eq!(cache.poll_callbacks(), 2);
    assert_eq!(taken(&log), [Told::New(id(1), 1), Told::Removed(id(1), 1, Reason::Taken)]);
    assert_eq!((cache.poll_callbacks(), cache.stats().callbacks_waiting), (0, 0));
}

#[test]
fn a_session_that_left_before_its_new_was_told_is_told_in_order() {
    let cache: SessionCache<u64> =
        SessionCache::builder().max_sessions(1).dispatch(Dispatch::Manual).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let log = listen(&cache);
    assert!(web.put(&id(1), 1).is_stored());
    assert!(web.put(&id(2), 2).is_stored());
    cache.poll_callbacks();
    let told = taken(&log);
    let at = |told_one: Told| told.iter().position(|told| *told == told_one).expect("it was told");
    assert!(at(Told::New(id(1), 1)) < at(Told::Removed(id(1), 1, Reason::Evicted)), "{told:?}");
    assert_eq!(told.len(), 3);
}

#[test]
fn past_the_mark_puts_are_refused_and_all_else_goes_on() {
    let cache: SessionCache<u64> = SessionCache::builder()
        .max_sessions(1_000)
        .dispatch(Dispatch::Manual)
        .max_waiting_callbacks(10)
        .build()
        .unwrap();
    let web = cache.scope(&Scope::new("web"));
    let log = listen(&cache);
    for number in 0..10 {
        assert!(web.put(&id(number), number).is_stored());
    }
    assert!(matches!(web.put(&id(99), 99), Put::Refused(Refusal::CallbacksWaiting, 99)));
    assert!(web.get(&id(1)).is_some());
    assert!(web.take(&id(1)).is_some());
    assert_eq!(cache.stats().refused, 1);
    assert_eq!(cache.poll_callbacks(), 11);
    assert!(web.put(&id(99), 99).is_stored());
    assert_eq!(taken(&log).len(), 11);
}

#[test]
fn a_panic_is_counted_and_the_worker_lives_on() {
    let cache: SessionCache<u64> = SessionCache::builder().build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    cache
        .set_on_new(Some(Arc::new(move |_| {
            assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "the first call panics");
            Verdict::Keep
        })))
        .unwrap();
    for number in 0..10 {
        assert!(web.put(&id(number), number).is_stored());
    }
    cache.close();
    assert_eq!(calls.load(Ordering::SeqCst), 10);
    assert_eq!(cache.stats().callbacks_panicked, 1);
}

#[test]
fn a_panic_of_one_callback_does_not_reach_the_other() {
    let (cache, web, _) = inline(1);
    let log = listen(&cache);
    cache.set_on_new(Some(Arc::new(|_| panic!("a test's panic")))).unwrap();
    assert!(web.put(&id(1), 1).is_stored());
    assert!(web.put(&id(2), 2).is_stored());
    assert!(web.take(&id(2)).is_some());
    let told = taken(&log);
    assert_eq!(
        told,
        [Told::Removed(id(1), 1, Reason::Evicted), Told::Removed(id(2), 2, Reason::Taken)]
    );
    assert_eq!((cache.stats().callbacks_panicked, cache.stats().new_called), (2, 2));
}

#[test]
fn a_callback_may_call_anything() {
    for dispatch in [Dispatch::Workers(1), Dispatch::Inline] {
        let cache: SessionCache<u64> =
            SessionCache::builder().max_sessions(100).dispatch(dispatch).build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let (inner, sessions) = (cache.clone(), web.clone());
        let done = Arc::new(AtomicBool::new(false));
        let finished = Arc::clone(&done);
        cache
            .set_on_new(Some(Arc::new(move |new| {
                let number = *new.session().payload();
                if number == 3 {
                    inner.set_max_sessions(50);
                    inner.set_lifetime(MINUTE);
                    inner.flush_expired();
                    assert_eq!(inner.poll_callbacks(), 0, "this call is being made");
                    inner.set_on_remove(inner.on_remove()).unwrap();
                    // Lets go of the cache, which this callback would keep for ever.
                    inner.set_on_new(None).unwrap();
                    inner.close();
                    finished.store(true, Ordering::SeqCst);
                } else if number < 3 {
                    assert!(sessions.put(&id(number + 1), number + 1).is_stored());
                    assert!(sessions.get(new.session().id()).is_some());
                }
                Verdict::Keep
            })))
            .unwrap();
        assert!(web.put(&id(0), 0).is_stored());
        wait_until(|| done.load(Ordering::SeqCst));
        assert!(cache.is_closed() && cache.is_empty(), "{dispatch:?}");
        assert_eq!(cache.stats().callbacks_panicked, 0, "{dispatch:?}");
    }
}

/// What has left before it was told as new is told as that; that it left is of the time before.
#[test]
fn a_remove_callback_hears_nothing_of_what_left_before_it_was_set() {
    let builder = SessionCache::builder().dispatch(Dispatch::Manual).without_ticker();
    let cache: SessionCache<u64> = builder.build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let (calls, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (came, left, asks) = (Arc::clone(&calls), Arc::clone(&calls), Arc::clone(&asked));
    let on_new = move |new: NewSession<u64>| {
        came.lock().unwrap().push(("came", *new.session().payload()));
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    cache.set_on_get(Some(Arc::new(move |_| {
        asks.store(true, Ordering::SeqCst);
        Answer::Nothing
    })));
    assert!(web.put(&id(1), 1).is_stored());
    assert!(web.take(&id(1)).is_some());
    assert!(web.get(&id(1)).is_none());
    assert!(asked.load(Ordering::SeqCst), "no leaving waits to be told");
    let on_remove = move |removed: RemovedSession<u64>| {
        left.lock().unwrap().push(("left", *removed.session().unwrap().payload()));
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    assert!(web.put(&id(1), 2).is_stored());
    assert_eq!(cache.flush(), 1);
    cache.poll_callbacks();
    assert_eq!(*calls.lock().unwrap(), [("came", 1), ("came", 2), ("left", 2)]);
}

#[test]
fn a_close_with_a_deadline_returns_though_a_callback_does_not() {
    let cache: SessionCache<u64> = SessionCache::builder().build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let (hold, is_in) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (held, enters) = (Arc::clone(&hold), Arc::clone(&is_in));
    cache
        .set_on_new(Some(Arc::new(move |_| {
            enters.store(true, Ordering::SeqCst);
            while held.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            Verdict::Keep
        })))
        .unwrap();
    for number in 0..10 {
        assert!(web.put(&id(number), number).is_stored());
    }
    wait_until(|| is_in.load(Ordering::SeqCst));
    let undelivered = cache.close_within(Duration::from_millis(50)).unwrap_err();
    // Nine have left before the callback was told of them: without a remove callback those count twice.
    assert_eq!(undelivered.waiting, 19);
    hold.store(false, Ordering::SeqCst);
    cache.close();
    assert_eq!((cache.stats().callbacks_waiting, cache.stats().new_called), (0, 10));
}

/// How many ids there are for the ledger.
const IDS: u64 = 1_000_000;

/// A database keyed by id that follows the calls: the payload of each id, or zero; and how often a call
/// was out of order, or came after its session had left.
struct Ledger {
    map: Vec<AtomicU64>,
    wrong: AtomicU64,
    late: AtomicU64,
}

impl Ledger {
    fn of(cache: &SessionCache<u64>, web: Sessions<u64>) -> Arc<Self> {
        let map = (0..IDS).map(|_| AtomicU64::new(0)).collect();
        let ledger = Arc::new(Self { map, wrong: AtomicU64::new(0), late: AtomicU64::new(0) });
        let (new, removed) = (Arc::clone(&ledger), Arc::clone(&ledger));
        let on_new = move |told: NewSession<u64>| {
            let (at, payload) = (number(told.session().id()), *told.session().payload());
            let before = new.map[at].swap(payload, Ordering::SeqCst);
            new.wrong.fetch_add(u64::from(before != 0), Ordering::SeqCst);
            let is_late = !web.contains(told.session().id());
            new.late.fetch_add(u64::from(is_late), Ordering::SeqCst);
            Verdict::Keep
        };
        let on_remove = move |told: RemovedSession<u64>| {
            let session = told.session().expect("it was in the cache");
            let (at, payload) = (number(told.id()), *session.payload());
            let before = removed.map[at].swap(0, Ordering::SeqCst);
            removed.wrong.fetch_add(u64::from(before != payload), Ordering::SeqCst);
        };
        cache.set_on_new(Some(Arc::new(on_new))).unwrap();
        cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
        ledger
    }

    fn content(&self) -> HashMap<u64, u64> {
        let all = (0..).zip(&self.map);
        let content = all.map(|(id, payload)| (id, payload.load(Ordering::SeqCst)));
        content.filter(|(_, payload)| *payload != 0).collect()
    }
}

fn number(id: &SessionId) -> usize {
    u64::from_le_bytes(id.as_bytes()[..8].try_into().unwrap()) as usize
}

/// Puts, again when callbacks have caught up.
fn put_in_time(put: impl Fn() -> Put<u64>) {
    while let Put::Refused(Refusal::CallbacksWaiting, _) = put() {
        thread::sleep(Duration::from_micros(100));
    }
}

/// Puts a session under each id of one thread, and does something to any id in between.
fn churn(web: &Sessions<u64>, thread: u64, threads: u64) {
    let mut random = thread + 1;
    for step in 0..IDS / threads {
        let (own, payload) = (id(step * threads + thread), 1 + (step * threads + thread) * 2);
        put_in_time(|| web.put(&own, payload));
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let any = id(random % IDS.min((step + 1) * threads));
        match random >> 32 & 7 {
            0 => drop(web.take(&any)),
            1 => drop(web.remove(&any)),
            2 => put_in_time(|| web.put_if_absent(&any, payload + 1)),
            3 => put_in_time(|| web.put(&any, payload + 1)),
            _ => drop(web.get(&any)),
        }
    }
}

/// The ledger of a million sessions ends with what the cache holds, and no call comes out of order,
/// whatever the threads do and however early evictions remove what is not told yet.
#[test]
fn a_ledger_of_the_calls_ends_equal_to_the_cache() {
    for (max, dispatch) in [
        (1_000, Dispatch::Workers(2)),
        (1_000, Dispatch::Inline),
        (100_000, Dispatch::Workers(2)),
        (1_000_000, Dispatch::Workers(1)),
    ] {
        let builder = SessionCache::builder().max_sessions(max).dispatch(dispatch);
        let cache: SessionCache<u64> = builder.build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let ledger = Ledger::of(&cache, web.clone());
        thread::scope(|scope| {
            for thread in 0..8 {
                let web = web.clone();
                scope.spawn(move || churn(&web, thread, 8));
            }
        });
        wait_until(|| cache.stats().callbacks_waiting == 0);
        let (what, stats) = (format!("{max} sessions, {dispatch:?}"), cache.stats());
        assert_eq!(ledger.wrong.load(Ordering::SeqCst), 0, "{what}: calls out of order");
        let held = cache.iter().map(|session| (number(session.id()) as u64, *session.payload()));
        assert!(ledger.content() == held.collect(), "{what}: another content");
        assert_eq!((stats.new_called, stats.remove_called), (stats.puts, stats.removals.total()));
        assert!(stats.puts > IDS && stats.removals.replaced > 100, "{what}: {stats:?}");
        if max < 1_000_000 {
            assert!(stats.removals.evicted > IDS / 2, "{what}: {stats:?}");
        }
        if max == 1_000 {
            assert!(ledger.late.load(Ordering::SeqCst) > 0, "{what}: none left before it was told");
        }
        // It keeps the cache, which keeps it.
        cache.set_on_new(None).unwrap();
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < MINUTE, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
}
