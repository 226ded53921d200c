//! The mode in which nothing is stored: all is told, in order, by the id where there is no session.

#[path = "support/later.rs"]
mod later;
#[path = "common/stage.rs"]
mod stage;
mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use later::{Gate, poll};
use resumption::{
    Answer, CacheMode, Clock, Dispatch, NewSession, Proposed, Put, Reason, Refusal, RemovedSession,
    Scope, SessionCache, SessionId, Verdict, Want,
};
use stage::{SERVER, Stage, Told, give, quiet, stage, swap};
use support::{Census, MINUTE, Payload, SECOND, id, number, wait_until};

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

/// The external cache has deleted it, and nobody has got it: nobody is told that it was handed out.
#[test]
fn an_answer_that_nobody_waits_for_is_neither_counted_nor_told() {
    let stored = [
        (CacheMode::OFF, Some(1)),
        (CacheMode::NO_INTERNAL_LOOKUP, None),
        (CacheMode::NO_INTERNAL_STORE, None),
        (CacheMode::NO_INTERNAL, None),
    ];
    for (mode, found) in stored {
        let stage = stage(SERVER | mode, Dispatch::Inline);
        let gate = Gate::behind(&stage.cache);
        let mut lookup = stage.web.lookup(&id(1), Want::Take).within(Duration::MAX);
        assert!(poll(&mut lookup).is_pending());
        drop(lookup);
        gate.open();
        stage.cache.poll_callbacks();
        assert_eq!((gate.asked(), gate.waiting()), (1, 0));
        assert_eq!((stage.told(), stage.cache.stats().get_answered), (vec![], 0), "{mode:?}");
        let is_inside = !mode.contains(CacheMode::NO_INTERNAL_STORE);
        assert_eq!(stage.cache.len(), usize::from(is_inside), "{mode:?}");
        stage.cache.set_on_get(Some(Arc::new(|_| Answer::Nothing)));
        assert_eq!(stage.take(1), found, "{mode:?}");
        let told = if is_inside { vec![Told::Left(1, Some(1), Reason::Taken)] } else { vec![] };
        assert_eq!((stage.told(), stage.cache.len()), (told, 0), "{mode:?}");
        stage.is_at_rest();
    }
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
        |stage| assert_eq!(stage.take(1), Some(5)),
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
        assert_eq!(stage.cache.stats().callbacks_panicked, 0);
        // The cache holds the callback, and that the cache.
        stage.cache.set_on_get(None);
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

    let stage = stage::stage(SERVER | CacheMode::NO_INTERNAL, Dispatch::Workers(1));
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
                if number(new.session().id()).is_multiple_of(2) {
                    Verdict::Keep
                } else {
                    Verdict::Reject
                }
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
    let on_new = move |told: NewSession<u64>| {
        new.lock().unwrap().insert(*told.session().id(), *told.session().payload());
        Verdict::Keep
    };
    stage.cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    let on_remove = move |told: RemovedSession<u64>| {
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
                            let _ = stage.get(ticket);
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
    assert!(times(1) > TICKETS as usize / 20, "few were taken: {}", times(1));
}
