//! The modes of the cache: what each flag changes, from the first call and at run time.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use resumption::{
    Answer, CacheMode, Clock, Connection, Dispatch, Found, Proposed, Put, Reason, Refusal, Scope,
    SessionCache, SessionId, Sessions, Verdict, Want,
};
use support::{Census, MINUTE, Payload, SECOND, id, number, wait_until};

/// What a callback was told: the session's number, its payload, and why it left.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    New(u64, u64),
    Left(u64, Option<u64>, Reason),
}

type Log = Arc<Mutex<Vec<Told>>>;

struct Stage {
    cache: SessionCache<u64>,
    web: Sessions<u64>,
    clock: Clock,
    log: Log,
    is_by_workers: bool,
}

/// A cache of a mode, without callbacks.
fn quiet(mode: CacheMode, dispatch: Dispatch) -> Stage {
    let clock = Clock::manual();
    let builder = SessionCache::builder().max_sessions(100).lifetime(MINUTE).without_ticker();
    let cache = builder.clock(clock.clone()).dispatch(dispatch).mode(mode).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let is_by_workers = matches!(dispatch, Dispatch::Workers(_));
    Stage { cache, web, clock, log: Log::default(), is_by_workers }
}

/// A cache of a mode that logs what it tells.
fn stage(mode: CacheMode, dispatch: Dispatch) -> Stage {
    let stage = quiet(mode, dispatch);
    let (new, left) = (Arc::clone(&stage.log), Arc::clone(&stage.log));
    let on_new = move |told: resumption::NewSession<u64>| {
        let told = Told::New(number(told.session().id()), *told.session().payload());
        new.lock().unwrap().push(told);
        Verdict::Keep
    };
    let on_remove = move |told: resumption::RemovedSession<u64>| {
        assert!(told.session().is_none_or(|session| session.id() == told.id()));
        assert_eq!(told.scope(), &Scope::new("web"));
        let payload = told.session().map(|session| *session.payload());
        left.lock().unwrap().push(Told::Left(number(told.id()), payload, told.reason()));
    };
    stage.cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    stage.cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    stage
}

impl Stage {
    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    fn put(&self, number: u64, payload: u64) {
        assert!(self.web.put(&id(number), payload).is_stored());
    }

    fn get(&self, number: u64) -> Option<u64> {
        self.web.get(&id(number)).map(|session| *session.payload())
    }

    fn take(&self, number: u64) -> Option<u64> {
        self.web.take(&id(number)).map(|session| *session.payload())
    }

    /// Answers every lookup with `payload`, and counts them.
    fn answers(&self, payload: u64) -> Arc<AtomicU64> {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        self.cache.set_on_get(Some(Arc::new(move |proposed| {
            count.fetch_add(1, Ordering::SeqCst);
            give(proposed, payload)
        })));
        asked
    }

    /// Nothing is held and nothing waits; but for headers that a worker retired, which stay with it until
    /// it has a bag of 64.
    fn is_at_rest(&self) {
        let most = if self.is_by_workers { 2 * 64 } else { 0 };
        wait_until("gauges come back to zero", || {
            self.cache.flush();
            let stats = self.cache.stats();
            (stats.held_sessions, stats.held_bytes, stats.callbacks_waiting) == (0, 0, 0)
                && stats.headers_waiting <= most
        });
    }
}

fn give(proposed: &Proposed<'_>, payload: u64) -> Answer<u64> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    Answer::Give(Found { id, scope, payload, lifetime: MINUTE })
}

fn swap(count: &AtomicU64) -> u64 {
    count.swap(0, Ordering::SeqCst)
}

const SERVER: CacheMode = CacheMode::SERVER;

#[test]
fn a_mode_is_set_and_read_back_with_openssls_values() {
    let values = [
        (CacheMode::OFF, 0),
        (CacheMode::CLIENT, 1),
        (CacheMode::SERVER, 2),
        (CacheMode::BOTH, 3),
        (CacheMode::NO_AUTO_CLEAR, 0x80),
        (CacheMode::NO_INTERNAL_LOOKUP, 0x100),
        (CacheMode::NO_INTERNAL_STORE, 0x200),
        (CacheMode::NO_INTERNAL, 0x300),
        (CacheMode::UPDATE_TIME, 0x400),
    ];
    let stage = stage(SERVER, Dispatch::Inline);
    let mut before = CacheMode::default();
    for (mode, value) in values {
        assert_eq!(mode.bits(), value);
        assert_eq!(stage.cache.set_mode(mode), before);
        assert_eq!(stage.cache.mode(), mode);
        before = mode;
    }
    let unknown = CacheMode::from_bits_retain(u32::MAX);
    stage.cache.set_mode(unknown);
    assert_eq!(stage.cache.mode(), unknown, "kept as it is");
    // The callbacks are still there.
    stage.cache.set_mode(SERVER);
    stage.put(1, 1);
    assert_eq!(stage.told(), [Told::New(1, 1)]);
    // And the mode is, when a callback is set.
    stage.cache.set_mode(CacheMode::BOTH);
    stage.cache.set_on_get(None);
    assert_eq!(stage.cache.mode(), CacheMode::BOTH);
    assert_eq!(quiet(CacheMode::CLIENT, Dispatch::Manual).cache.mode(), CacheMode::CLIENT);
}

#[test]
fn each_side_is_cached_by_its_flag() {
    let stage = stage(SERVER, Dispatch::Inline);
    let stored = |number, connection| {
        stage.told();
        let put = stage.web.put_from(&id(number), number, connection);
        if let Put::Refused(why, payload) = &put {
            assert_eq!((*why, *payload), (Refusal::SideNotCached, number), "it comes back");
            assert_eq!(stage.told(), [], "and nobody is told");
        } else {
            assert_eq!(stage.told(), [Told::New(number, number)]);
        }
        assert_eq!(stage.web.contains(&id(number)), put.is_stored());
        put.is_stored()
    };
    let modes = [
        (CacheMode::SERVER, true, false),
        (CacheMode::CLIENT, false, true),
        (CacheMode::BOTH, true, true),
        (CacheMode::OFF, false, false),
    ];
    let mut number = 0;
    for (mode, server, client) in modes {
        stage.cache.set_mode(mode);
        number += 2;
        assert_eq!(stored(number, Connection::server()), server, "{mode:?}");
        assert_eq!(stored(number + 1, Connection::client()), client, "{mode:?}");
        let absent = stage.web.put_if_absent(&id(100), 1).is_stored();
        assert_eq!(absent, server, "{mode:?}");
        stage.web.remove(&id(100));
    }
    assert_eq!(stage.cache.stats().refused, 6);
}

#[test]
fn lookups_go_on_when_caching_is_off() {
    let stage = stage(SERVER, Dispatch::Inline);
    stage.put(1, 1);
    stage.put(2, 2);
    stage.cache.set_mode(CacheMode::OFF);
    assert_eq!((stage.get(1), stage.take(2)), (Some(1), Some(2)), "what is in the cache is found");
    let asked = stage.answers(5);
    assert_eq!((stage.get(3), stage.take(4)), (Some(5), Some(5)), "and the rest is asked for");
    assert_eq!(swap(&asked), 2);
    assert_eq!((stage.get(3), swap(&asked)), (Some(5), 0), "what a get was given is stored");
}

#[test]
fn expired_sessions_stay_where_they_are_not_cleared() {
    for (mode, stays) in [(SERVER, false), (SERVER | CacheMode::NO_AUTO_CLEAR, true)] {
        let stage = stage(mode, Dispatch::Inline);
        (1..=3).for_each(|number| stage.put(number, number));
        stage.clock.advance(3 * MINUTE);
        // Puts ride over what is due.
        for round in 0..10 {
            stage.clock.advance(2 * SECOND);
            stage.put(10, round);
        }
        assert_eq!(stage.cache.len(), if stays { 4 } else { 1 }, "{mode:?}");
        assert_eq!(stage.get(1), None, "never returned");
        assert_eq!(stage.cache.len(), if stays { 3 } else { 1 }, "met by the lookup");
        assert!(!stage.web.extend(&id(2), MINUTE) && !stage.web.contains(&id(3)));
        assert_eq!(stage.cache.flush_expired(), if stays { 1 } else { 0 });
        assert_eq!(stage.cache.stats().removals.expired, 3);
        assert_eq!(stage.cache.len(), 1);
    }
}

#[test]
fn sessions_that_were_kept_are_cleared_once_that_is_allowed() {
    let stage = quiet(SERVER | CacheMode::NO_AUTO_CLEAR, Dispatch::Inline);
    (1..=3).for_each(|number| stage.put(number, number));
    stage.clock.advance(3 * MINUTE);
    stage.put(10, 10);
    assert_eq!(stage.cache.len(), 4);
    stage.cache.set_mode(SERVER);
    for round in 0..10 {
        stage.clock.advance(2 * SECOND);
        stage.put(10, round);
    }
    assert_eq!(stage.cache.len(), 1);
}

#[test]
fn eviction_takes_what_was_not_cleared_first() {
    let stage = stage(SERVER | CacheMode::NO_AUTO_CLEAR, Dispatch::Inline);
    stage.cache.set_max_sessions(2);
    stage.put(1, 1);
    stage.clock.advance(2 * MINUTE);
    stage.put(2, 2);
    stage.told();
    stage.put(3, 3);
    assert_eq!(stage.told(), [Told::Left(1, Some(1), Reason::Expired), Told::New(3, 3)]);
    assert!(stage.web.contains(&id(2)) && stage.web.contains(&id(3)));
}

/// The hints of what has left are dropped, those of what has expired and stays are not.
#[test]
fn hints_stay_bounded_where_nothing_is_cleared() {
    let stage = quiet(SERVER | CacheMode::NO_AUTO_CLEAR, Dispatch::Inline);
    (0..50).for_each(|number| stage.put(number, number));
    stage.clock.advance(2 * MINUTE);
    for number in 100..5_000 {
        stage.put(number, number);
        assert_eq!(stage.take(number), Some(number));
        stage.clock.advance(SECOND / 10);
    }
    let stats = stage.cache.stats();
    assert_eq!((stats.sessions, stats.removals.expired), (50, 0));
    assert!(stats.hints < 50 + 25 + 64 + 32, "{} hints for 50 sessions", stats.hints);
    assert_eq!(stage.cache.flush_expired(), 50);
}

#[test]
fn the_ticker_leaves_what_is_not_to_be_cleared() {
    let build = |mode| {
        let clock = Clock::manual();
        let builder = SessionCache::<u64>::builder().clock(clock.clone()).mode(mode);
        let cache = builder.lifetime(MINUTE).ticker(Duration::from_millis(1)).build().unwrap();
        assert!(cache.scope(&Scope::new("web")).put(&id(1), 1).is_stored());
        clock.advance(3 * MINUTE);
        cache
    };
    let kept = build(SERVER | CacheMode::NO_AUTO_CLEAR);
    for _ in 0..5 {
        let cleared = build(SERVER);
        wait_until("the ticker clears", || cleared.is_empty());
    }
    assert_eq!(kept.len(), 1);
    kept.set_mode(SERVER);
    wait_until("the ticker clears", || kept.is_empty());
}

#[test]
fn lookups_do_not_look_inside() {
    let stage = stage(SERVER | CacheMode::NO_INTERNAL_LOOKUP, Dispatch::Inline);
    stage.put(1, 1);
    assert_eq!((stage.get(1), stage.get(2)), (None, None));
    assert_eq!(stage.cache.stats().misses(), 0, "no miss, for nobody looked");
    // All else sees the cache.
    assert!(stage.web.contains(&id(1)) && stage.web.extend(&id(1), MINUTE));
    let absent = stage.web.put_if_absent(&id(1), 2);
    assert!(matches!(absent, Put::Refused(Refusal::Present, 2)));
    let asked = stage.answers(5);
    assert_eq!((stage.get(1), swap(&asked)), (Some(5), 1), "asked at once");
    assert_eq!((stage.get(1), swap(&asked)), (Some(5), 1), "each time");
    assert_eq!(stage.cache.stats().misses(), 0);
    stage.cache.set_mode(SERVER);
    assert_eq!((stage.get(1), swap(&asked)), (Some(1), 0), "what is there was not replaced");
    assert!(stage.web.remove(&id(1)));
}

/// Whatever the answer is.
#[test]
fn a_take_that_does_not_look_inside_takes_what_is_there_too() {
    for answer in [None, Some(None), Some(Some(5))] {
        let stage = stage(SERVER | CacheMode::NO_INTERNAL_LOOKUP, Dispatch::Inline);
        stage.put(1, 1);
        stage.told();
        let expected = answer.flatten();
        if answer.is_some() {
            let web = stage.web.clone();
            stage.cache.set_on_get(Some(Arc::new(move |proposed: &Proposed<'_>| {
                assert_eq!(proposed.want(), Want::Take);
                assert!(web.contains(proposed.id()), "it is asked first");
                expected.map_or(Answer::Nothing, |payload| give(proposed, payload))
            })));
        }
        assert_eq!(stage.take(1), expected);
        assert_eq!(stage.told(), [Told::Left(1, Some(1), Reason::Taken)], "once");
        stage.cache.set_on_get(None);
        stage.cache.set_mode(SERVER);
        assert_eq!((stage.get(1), stage.cache.len()), (None, 0), "it is not used again");
        assert_eq!(stage.cache.stats().callbacks_panicked, 0);
        stage.is_at_rest();
    }
}

/// Two takes at once, of a session that is inside too: one gets the answer.
#[test]
fn a_take_that_finds_another_asking_spoils_nothing() {
    let stage = stage(SERVER | CacheMode::NO_INTERNAL_LOOKUP, Dispatch::Inline);
    stage.put(1, 1);
    let (is_asked, goes_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (asked, go) = (Arc::clone(&is_asked), Arc::clone(&goes_on));
    stage.cache.set_on_get(Some(Arc::new(move |proposed| {
        asked.store(true, Ordering::SeqCst);
        wait_until("the other take is done", || go.load(Ordering::SeqCst));
        give(proposed, 5)
    })));
    thread::scope(|scope| {
        let first = scope.spawn(|| stage.take(1));
        wait_until("the first take asks", || is_asked.load(Ordering::SeqCst));
        assert_eq!(stage.take(1), None);
        assert!(stage.web.contains(&id(1)), "it is the first one's to take out");
        goes_on.store(true, Ordering::SeqCst);
        assert_eq!(first.join().unwrap(), Some(5));
    });
    assert!(!stage.web.contains(&id(1)));
}

#[test]
fn what_is_not_looked_for_inside_is_stored_nevertheless() {
    let stage = quiet(SERVER | CacheMode::NO_INTERNAL_LOOKUP, Dispatch::Inline);
    let asked = stage.answers(5);
    assert_eq!((stage.get(1), stage.get(1)), (Some(5), Some(5)));
    assert_eq!((swap(&asked), stage.cache.len()), (2, 1));
    stage.cache.set_mode(SERVER);
    assert_eq!((stage.get(1), swap(&asked)), (Some(5), 0));
}

#[test]
fn a_put_is_told_and_not_stored() {
    for dispatch in [Dispatch::Inline, Dispatch::Workers(2), Dispatch::Manual] {
        let stage = stage(SERVER | CacheMode::NO_INTERNAL_STORE, dispatch);
        assert!(matches!(stage.web.put(&id(1), 10), Put::Stored));
        assert!(matches!(stage.web.put_with(&id(1), 11, MINUTE), Put::Stored));
        assert!(matches!(stage.web.put_if_absent(&id(1), 12), Put::Stored));
        assert!(!stage.web.contains(&id(1)));
        assert_eq!((stage.cache.len(), stage.cache.bytes()), (0, 0));
        assert!(!stage.web.remove(&id(1)), "it is not here");
        assert!(!stage.web.remove_faulty(&id(2)), "nor is this one");
        stage.cache.poll_callbacks();
        let expected = [
            Told::New(1, 10),
            Told::New(1, 11),
            Told::New(1, 12),
            Told::Left(1, None, Reason::Removed),
        ];
        wait_until("all is told", || stage.log.lock().unwrap().len() == 5);
        let (two, one): (Vec<_>, _) =
            stage.told().into_iter().partition(|told| matches!(told, Told::Left(2, ..)));
        assert_eq!(one, expected, "{dispatch:?}");
        assert_eq!(two, [Told::Left(2, None, Reason::Faulty)]);
        let stats = stage.cache.stats();
        assert_eq!((stats.puts, stats.handed_over, stats.removals.total()), (0, 3, 0));
        stage.is_at_rest();
        // At run time.
        stage.cache.set_mode(SERVER);
        stage.put(3, 3);
        assert_eq!((stage.get(3), stage.web.remove(&id(4))), (Some(3), false));
        stage.cache.poll_callbacks();
        wait_until("all is told", || !stage.log.lock().unwrap().is_empty());
        stage.cache.close();
        stage.cache.poll_callbacks();
        assert_eq!(stage.told(), [Told::New(3, 3), Told::Left(3, Some(3), Reason::Closed)]);
    }
}

#[test]
fn a_put_that_nobody_would_hear_of_is_refused() {
    let stage = quiet(SERVER | CacheMode::NO_INTERNAL_STORE, Dispatch::Inline);
    let put = stage.web.put(&id(1), 10);
    assert!(matches!(put, Put::Refused(Refusal::NobodyToTell, 10)));
    assert_eq!(stage.cache.stats().refused, 1);
    // Nobody hears of removals either.
    assert!(!stage.web.remove(&id(1)));
    let _ = stage.answers(5);
    assert_eq!(stage.take(1), Some(5));
    assert_eq!(stage.cache.stats().callbacks_waiting, 0);
}

#[test]
fn a_rejected_session_that_was_not_stored_is_gone() {
    let stage = stage(SERVER | CacheMode::NO_INTERNAL_STORE, Dispatch::Inline);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    stage
        .cache
        .set_on_new(Some(Arc::new(move |new| {
            keep.lock().unwrap().push(new.into_session());
            Verdict::Reject
        })))
        .unwrap();
    stage.put(1, 10);
    let session = kept.lock().unwrap().pop().unwrap();
    assert_eq!((*session.payload(), session.ref_count()), (10, 1), "the callback's alone");
    assert_eq!(stage.cache.stats().held_sessions, 1);
    assert_eq!(stage.told(), [], "nothing was there to leave");
    assert_eq!(stage.cache.stats().removals.total(), 0);
    drop(session);
    stage.is_at_rest();
}

#[test]
fn what_a_get_is_given_is_not_stored() {
    let stage = stage(SERVER | CacheMode::NO_INTERNAL_STORE, Dispatch::Inline);
    let asked = stage.answers(5);
    assert_eq!((stage.get(1), stage.get(1)), (Some(5), Some(5)));
    assert_eq!((swap(&asked), stage.cache.len()), (2, 0));
    assert_eq!(stage.told(), [], "a get takes nothing out");
    assert_eq!(stage.cache.stats().misses_unknown, 2, "it looked inside");
    stage.is_at_rest();
}

#[test]
fn a_take_that_is_answered_is_told_by_its_id() {
    let stage = stage(SERVER | CacheMode::NO_INTERNAL_STORE, Dispatch::Inline);
    let _ = stage.answers(5);
    assert_eq!(stage.take(1), Some(5));
    assert_eq!(stage.told(), [Told::Left(1, None, Reason::Taken)]);
    stage.cache.set_on_get(Some(Arc::new(|_| Answer::Nothing)));
    assert_eq!(stage.take(1), None);
    assert_eq!(stage.told(), [], "nothing was taken");
    let _ = stage.answers(5);
    stage.cache.set_mode(SERVER);
    assert_eq!(stage.take(1), Some(5));
    assert_eq!(stage.told(), [], "an external cache heard of it when it was asked");
    stage.is_at_rest();
}

/// From before the mode was set.
#[test]
fn a_session_that_is_inside_leaves_before_another_of_its_id_is_told() {
    let stage = stage(SERVER, Dispatch::Inline);
    (1..=4).for_each(|number| stage.put(number, number));
    stage.told();
    stage.cache.set_mode(SERVER | CacheMode::NO_INTERNAL_STORE);
    let absent = stage.web.put_if_absent(&id(1), 10);
    assert!(matches!(absent, Put::Refused(Refusal::Present, 10)));
    match stage.web.put(&id(1), 10) {
        Put::Replaced(old) => assert_eq!(*old.payload(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.told(), [Told::Left(1, Some(1), Reason::Replaced), Told::New(1, 10)]);
    assert_eq!(stage.take(2), Some(2));
    assert!(stage.web.remove_faulty(&id(3)));
    let (taken, faulty) = (Reason::Taken, Reason::Faulty);
    assert_eq!(stage.told(), [Told::Left(2, Some(2), taken), Told::Left(3, Some(3), faulty)]);
    stage.clock.advance(MINUTE);
    assert!(matches!(stage.web.put_if_absent(&id(4), 40), Put::Stored));
    assert_eq!(stage.told(), [Told::Left(4, Some(4), Reason::Expired), Told::New(4, 40)]);
    stage.put(5, 5);
    stage.clock.advance(MINUTE);
    assert!(!stage.web.remove(&id(5)));
    assert_eq!(stage.told(), [Told::New(5, 5), Told::Left(5, None, Reason::Removed)]);
    stage.is_at_rest();
}

#[test]
fn an_expired_session_that_is_inside_is_told_once() {
    let stage = stage(SERVER, Dispatch::Inline);
    stage.put(1, 1);
    stage.told();
    stage.cache.set_mode(SERVER | CacheMode::NO_INTERNAL_STORE);
    stage.clock.advance(MINUTE);
    assert!(!stage.web.remove(&id(1)));
    assert_eq!(stage.told(), [Told::Left(1, Some(1), Reason::Expired)]);
}

/// A database that has not heard of it is not asked.
#[test]
fn nobody_asks_for_what_has_left_elsewhere_and_is_not_told() {
    type Leave = fn(&Stage);
    let leave: [Leave; 3] = [
        |stage| drop(stage.take(1)),
        |stage| assert!(!stage.web.remove(&id(1))),
        |stage| assert!(!stage.web.remove_faulty(&id(1))),
    ];
    for leave in leave {
        let stage = stage(SERVER | CacheMode::NO_INTERNAL, Dispatch::Manual);
        let asked = stage.answers(5);
        leave(&stage);
        swap(&asked);
        assert_eq!((stage.get(1), stage.take(1), swap(&asked)), (None, None, 0), "not told yet");
        assert_eq!((stage.get(2), swap(&asked)), (Some(5), 1), "another id is");
        assert_eq!(stage.cache.poll_callbacks(), 1);
        assert_eq!((stage.get(1), swap(&asked)), (Some(5), 1), "told now");
        stage.is_at_rest();
    }
}

/// A session is removed elsewhere while its lookup asks.
#[test]
fn an_answer_that_a_removal_has_overtaken_counts_for_nothing() {
    for mode in [CacheMode::NO_INTERNAL_STORE, CacheMode::NO_INTERNAL] {
        let stage = stage(SERVER | mode, Dispatch::Inline);
        let web = stage.web.clone();
        stage.cache.set_on_get(Some(Arc::new(move |proposed| {
            assert!(!web.remove_faulty(proposed.id()));
            give(proposed, 5)
        })));
        assert_eq!((stage.get(1), stage.take(2)), (None, None));
        let faulty = |number| Told::Left(number, None, Reason::Faulty);
        assert_eq!(stage.told(), [faulty(1), faulty(2)]);
    }
}

#[test]
fn with_nothing_inside_a_bad_end_is_told_in_order() {
    for dispatch in [Dispatch::Inline, Dispatch::Workers(1), Dispatch::Manual] {
        let stage = stage(SERVER | CacheMode::NO_INTERNAL, dispatch);
        for number in 0..50 {
            stage.put(1, number);
            assert!(!stage.web.remove_faulty(&id(1)));
        }
        wait_until("all is told", || {
            stage.cache.poll_callbacks();
            stage.log.lock().unwrap().len() == 100
        });
        for (number, told) in (0..).zip(stage.told().chunks(2)) {
            assert_eq!(told, [Told::New(1, number), Told::Left(1, None, Reason::Faulty)]);
        }
        stage.is_at_rest();
    }
}

/// A session that is inside, when neither lookups nor puts touch the cache: one leaving of two.
#[test]
fn a_take_tells_of_the_session_inside_rather_than_of_its_id() {
    let stage = stage(SERVER, Dispatch::Inline);
    stage.put(1, 1);
    stage.cache.set_mode(SERVER | CacheMode::NO_INTERNAL);
    stage.told();
    let _ = stage.answers(5);
    assert_eq!(stage.take(1), Some(5));
    assert_eq!(stage.told(), [Told::Left(1, Some(1), Reason::Taken)]);
    assert_eq!(stage.take(1), Some(5));
    assert_eq!(stage.told(), [Told::Left(1, None, Reason::Taken)]);
}

#[test]
fn the_mark_holds_for_what_is_not_stored() {
    let clock = Clock::manual();
    let builder = SessionCache::builder().clock(clock).without_ticker().max_waiting_callbacks(2);
    let mode = SERVER | CacheMode::NO_INTERNAL_STORE;
    let builder = builder.dispatch(Dispatch::Manual).mode(mode).max_sessions(10);
    let cache: SessionCache<u64> = builder.build().unwrap();
    cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).unwrap();
    cache.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
    let web = cache.scope(&Scope::new("web"));
    assert!(web.put(&id(1), 1).is_stored() && web.put(&id(2), 2).is_stored());
    assert!(matches!(web.put(&id(3), 3), Put::Refused(Refusal::CallbacksWaiting, 3)));
    assert!(!web.remove(&id(1)), "removals are told whatever waits");
    assert_eq!(cache.stats().callbacks_waiting, 3);
    assert_eq!(cache.poll_callbacks(), 3);
    assert!(web.put(&id(3), 3).is_stored());
}

#[test]
fn a_close_waits_for_what_is_not_stored() {
    let stage = stage(SERVER | CacheMode::NO_INTERNAL, Dispatch::Manual);
    stage.put(1, 1);
    assert!(!stage.web.remove(&id(1)));
    assert_eq!(stage.cache.close_within(SECOND).unwrap_err().waiting, 2);
    assert!(matches!(stage.web.put(&id(2), 2), Put::Refused(Refusal::Closed, 2)));
    assert_eq!(stage.cache.poll_callbacks(), 2);
    assert_eq!(stage.told(), [Told::New(1, 1), Told::Left(1, None, Reason::Removed)]);

    let stage = self::stage(SERVER | CacheMode::NO_INTERNAL, Dispatch::Workers(1));
    for number in 0..1_000 {
        stage.put(number, number);
        assert!(!stage.web.remove(&id(number)));
    }
    stage.cache.close();
    assert_eq!(stage.told().len(), 2_000);
    stage.is_at_rest();
}

/// Also where the cache is dropped with calls waiting.
#[test]
fn payloads_that_were_not_stored_are_dropped_once() {
    for dispatch in [Dispatch::Inline, Dispatch::Workers(2), Dispatch::Manual] {
        let census = Arc::new(Census::default());
        let builder = SessionCache::builder().dispatch(dispatch).max_sessions(1_000);
        let mode = SERVER | CacheMode::NO_INTERNAL_STORE;
        let cache: SessionCache<Payload> = builder.mode(mode).build().unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let (news, removals) = (Arc::clone(&calls), Arc::clone(&calls));
        cache
            .set_on_new(Some(Arc::new(move |new| {
                new.session().payload().assert_whole(number(new.session().id()));
                news.fetch_add(1, Ordering::SeqCst);
                if number(new.session().id()) % 2 == 0 { Verdict::Keep } else { Verdict::Reject }
            })))
            .unwrap();
        cache
            .set_on_remove(Some(Arc::new(move |removed| {
                assert!(removed.session().is_none());
                removals.fetch_add(1, Ordering::SeqCst);
            })))
            .unwrap();
        let web = cache.scope(&Scope::new("web"));
        thread::scope(|scope| {
            for thread in 0..4 {
                let (web, census) = (&web, &census);
                scope.spawn(move || {
                    for step in 0..500 {
                        let number = thread + step * 4;
                        let payload = Payload::new(census, number, 0, 0);
                        assert!(web.put(&id(number), payload).is_stored());
                        assert!(!web.remove(&id(number)));
                    }
                });
            }
        });
        drop((web, cache));
        wait_until("the last call is made", || calls.load(Ordering::SeqCst) == 4_000);
        wait_until("payloads are dropped", || census.alive() == 0);
        assert_eq!(census.born(), 2_000);
    }
}

/// Threads put, take, get and remove tickets that only an external map holds, while the mode changes
/// between one that stores and one that does not. No ticket is taken twice.
#[test]
fn tickets_are_taken_once_while_the_mode_changes() {
    let stage = quiet(SERVER, Dispatch::Workers(2));
    let map: Arc<Mutex<HashMap<SessionId, u64>>> = Arc::default();
    let (new, left, find) = (Arc::clone(&map), Arc::clone(&map), Arc::clone(&map));
    let on_new = move |told: resumption::NewSession<u64>| {
        new.lock().unwrap().insert(*told.session().id(), *told.session().payload());
        Verdict::Keep
    };
    stage.cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    let on_remove = move |told: resumption::RemovedSession<u64>| {
        left.lock().unwrap().remove(told.id());
    };
    stage.cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    stage.cache.set_on_get(Some(Arc::new(move |proposed: &Proposed<'_>| {
        let mut map = find.lock().unwrap();
        let found = match proposed.want() {
            Want::Get => map.get(proposed.id()).copied(),
            Want::Take => map.remove(proposed.id()),
        };
        found.map_or(Answer::Nothing, |payload| give(proposed, payload))
    })));
    const TICKETS: u64 = 4_000;
    let taken: Vec<AtomicU64> = (0..TICKETS).map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicBool::new(false);
    let wait = || wait_until("calls are made", || stage.cache.stats().callbacks_waiting < 100);
    thread::scope(|scope| {
        let (stage, taken, is_over) = (&stage, &taken, &is_over);
        scope.spawn(move || {
            let modes = [CacheMode::NO_INTERNAL_LOOKUP, CacheMode::NO_INTERNAL, CacheMode::OFF];
            for mode in modes.into_iter().cycle() {
                stage.cache.set_mode(SERVER | mode);
                thread::sleep(Duration::from_micros(300));
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                scope.spawn(move || {
                    for ticket in (thread..TICKETS).step_by(3) {
                        wait();
                        stage.put(ticket, ticket);
                        for ticket in [ticket, ticket / 2, ticket.saturating_sub(1)] {
                            drop(stage.get(ticket));
                            if stage.take(ticket).is_some() {
                                taken[ticket as usize].fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        is_over.store(true, Ordering::SeqCst);
    });
    let times = |times| taken.iter().filter(|t| t.load(Ordering::SeqCst) == times).count();
    assert_eq!(times(0) + times(1), TICKETS as usize, "a ticket was taken twice");
    assert!(times(1) > 0);
}

#[test]
fn a_used_session_lives_its_lifetime_again() {
    for (mode, renews) in [(SERVER, false), (SERVER | CacheMode::UPDATE_TIME, true)] {
        let stage = quiet(mode, Dispatch::Inline);
        stage.put(1, 1);
        assert!(stage.web.put_with(&id(2), 2, 4 * MINUTE).is_stored());
        stage.put(3, 3);
        stage.clock.advance(MINUTE / 2);
        assert_eq!((stage.get(1), stage.get(2)), (Some(1), Some(2)));
        assert!(stage.web.contains(&id(3)), "which is no use");
        // Puts look at what is due, so that the hints are filed again.
        for number in 10..20 {
            stage.clock.advance(MINUTE / 20);
            stage.put(number, number);
        }
        assert_eq!(stage.get(1), renews.then_some(1), "{mode:?}");
        assert_eq!(stage.get(3), None);
        stage.clock.advance(3 * MINUTE);
        assert_eq!(stage.get(2), renews.then_some(2), "{mode:?}");
        stage.clock.advance(4 * MINUTE);
        assert_eq!(stage.get(2), None);
    }
}

#[test]
fn a_renewal_is_by_what_the_mode_is_at_the_use() {
    let stage = quiet(SERVER, Dispatch::Inline);
    stage.put(1, 1);
    stage.clock.advance(MINUTE / 2);
    stage.cache.set_mode(SERVER | CacheMode::UPDATE_TIME);
    let session = stage.web.get(&id(1)).unwrap();
    let renewed = session.expires_at();
    stage.clock.advance(MINUTE / 2);
    stage.cache.set_mode(SERVER);
    assert_eq!(stage.get(1), Some(1));
    assert_eq!(session.expires_at(), renewed);
    stage.clock.advance(MINUTE / 2);
    assert_eq!(stage.get(1), None);
    // One that never expires stays so.
    stage.cache.set_mode(SERVER | CacheMode::UPDATE_TIME);
    assert!(stage.web.put_with(&id(2), 2, Duration::MAX).is_stored());
    stage.clock.advance(MINUTE);
    assert_eq!(stage.get(2), Some(2));
    stage.clock.advance(Duration::from_secs(60 * 60 * 24 * 365 * 150));
    assert_eq!(stage.get(2), Some(2));
}

#[test]
fn modes_hold_for_each_shard() {
    let builder = SessionCache::<u64>::builder().max_sessions(1 << 20);
    let cache = builder.mode(CacheMode::OFF).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    for number in 0..200 {
        assert!(!web.put(&id(number), number).is_stored());
    }
    cache.set_mode(SERVER);
    for number in 0..200 {
        assert!(web.put(&id(number), number).is_stored());
    }
    assert_eq!(cache.len(), 200);
}
