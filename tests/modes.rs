//! The modes of the cache: what each flag changes, from the first call and at run time. What is kept
//! elsewhere is in `modes_store.rs`.

#[path = "support/later.rs"]
mod later;
#[path = "common/stage.rs"]
mod stage;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use later::{Gate, poll};
use resumption::{
    Answer, CacheMode, Clock, Connection, Dispatch, Proposed, Put, Reason, Refusal, Scope,
    SessionCache, Sessions, Want,
};
use stage::{SERVER, Told, give, quiet, stage, swap};
use support::{HOUR, MINUTE, SECOND, id, wait_until};

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

/// A session that is inside, and a take of it that has asked and was dropped; its question may go on for so long.
fn left_take(timeout: Duration) -> (SessionCache<u64>, Sessions<u64>, Arc<Gate>) {
    let mode = SERVER | CacheMode::NO_INTERNAL_LOOKUP;
    let builder = SessionCache::builder().without_ticker().dispatch(Dispatch::Manual);
    let cache = builder.lookup_timeout(timeout).mode(mode).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let gate = Gate::behind(&cache);
    assert!(web.put(&id(1), 10).is_stored());
    let mut lookup = web.lookup(&id(1), Want::Take).within(Duration::MAX);
    assert!(poll(&mut lookup).is_pending());
    drop(lookup);
    (cache, web, gate)
}

/// However it ends: with an answer that comes too late, or with none.
#[test]
fn a_take_that_is_left_takes_what_is_inside_too() {
    for is_answered in [true, false] {
        let (cache, web, gate) = left_take(if is_answered { HOUR } else { Duration::ZERO });
        assert!(web.contains(&id(1)), "it is asked first");
        if is_answered {
            gate.open();
        }
        cache.poll_callbacks();
        assert_eq!((gate.waiting(), web.contains(&id(1))), (0, false), "{is_answered}");
    }
}

/// Nobody was going to take that: neither what replaced it, nor what came after its removal, if it is not in the same memory.
#[test]
fn a_take_that_is_left_takes_nothing_that_was_put_since() {
    for is_removed in [true, false] {
        let (cache, web, gate) = left_take(Duration::ZERO);
        assert!(!is_removed || web.remove(&id(1)));
        assert!(web.put(&id(1), 20).is_stored());
        cache.poll_callbacks();
        assert_eq!((gate.waiting(), web.contains(&id(1))), (0, true), "{is_removed}");
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
fn an_extended_session_lives_no_longer_than_the_extension_again() {
    let stage = quiet(SERVER | CacheMode::UPDATE_TIME, Dispatch::Inline);
    assert!(stage.web.put_with(&id(1), 1, 4 * MINUTE).is_stored());
    stage.clock.advance(3 * MINUTE);
    assert!(stage.web.extend(&id(1), MINUTE / 4));
    stage.clock.advance(MINUTE / 5);
    assert_eq!(stage.get(1), Some(1));
    stage.clock.advance(MINUTE / 5);
    assert_eq!(stage.get(1), Some(1), "its time was given again");
    stage.clock.advance(MINUTE / 4);
    assert_eq!(stage.get(1), None, "but not the time before the extension");
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
