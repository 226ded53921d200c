//! The ends of what settings may say: no lifetime, endless ones, no headers that may wait.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use resumption::{
    Answer, BuildError, Clock, Connection, Found, Put, Refusal, Scope, SessionCache, Sessions,
};

use support::{HOUR, MINUTE, PATIENCE, id, manual, manual_of};

const MILLISECOND: Duration = Duration::from_millis(1);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Shorter than the cache can tell from none.
const TOO_SHORT: [Duration; 2] = [Duration::ZERO, Duration::from_micros(999)];

/// Beyond the end of time, which the cache's clock has after 139 years.
const ENDLESS: [Duration; 3] =
    [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(140 * 365 * 86_400)];

type Give = fn(&SessionCache<u64>, &Sessions<u64>, Duration);

/// Each way to give session 1 a lifetime, but for the builder's.
const WAYS: [(&str, Give); 5] = [
    ("put_with", |_, web, lifetime| assert!(web.put_with(&id(1), 1, lifetime).is_stored())),
    ("put_from", |_, web, lifetime| {
        assert!(web.put_from(&id(1), 1, Connection::server().lifetime(lifetime)).is_stored());
    }),
    ("set_lifetime", |cache, web, lifetime| {
        cache.set_lifetime(lifetime);
        assert!(web.put(&id(1), 1).is_stored());
    }),
    ("extend", |_, web, lifetime| {
        assert!(web.put(&id(1), 1).is_stored() && web.extend(&id(1), lifetime));
    }),
    ("Found", |cache, web, lifetime| {
        cache.set_on_get(Some(Arc::new(move |proposed| {
            let (id, scope) = (*proposed.id(), proposed.scope().clone());
            Answer::Give(Found::new(id, scope, 1, lifetime))
        })));
        assert_eq!(web.get(&id(1)).is_some(), lifetime >= MILLISECOND, "{lifetime:?}");
        cache.set_on_get(None);
    }),
];

#[test]
fn a_lifetime_is_none_or_a_millisecond_or_endless_by_each_way() {
    for (way, give) in WAYS {
        for lifetime in TOO_SHORT {
            let (cache, web, _clock) = manual(10, HOUR);
            give(&cache, &web, lifetime);
            assert!(!web.contains(&id(1)) && web.take(&id(1)).is_none(), "{way} of {lifetime:?}");
        }
        let (cache, web, clock) = manual(10, HOUR);
        give(&cache, &web, MILLISECOND);
        assert!(web.contains(&id(1)), "{way} of a millisecond");
        clock.advance(MILLISECOND);
        assert!(!web.contains(&id(1)), "{way} of a millisecond, which is over");
        for lifetime in ENDLESS {
            let (cache, web, clock) = manual(10, HOUR);
            give(&cache, &web, lifetime);
            clock.advance(Duration::MAX);
            assert!(web.take(&id(1)).is_some(), "{way} of {lifetime:?}");
        }
    }
}

/// The builder refuses what is too short; a test below has that.
#[test]
fn a_builders_lifetime_may_be_endless() {
    for lifetime in ENDLESS {
        let (cache, web, clock) = manual_of(SessionCache::builder().lifetime(lifetime));
        assert!(web.put(&id(1), 1).is_stored() && web.put_with(&id(2), 2, HOUR).is_stored());
        clock.advance(Duration::MAX);
        assert_eq!(cache.flush_expired(), 1, "{lifetime:?}");
        assert!(web.get(&id(1)).is_some(), "{lifetime:?}");
    }
}

/// Puts are refused while a header is known to wait, and taken again: the refused ones free what waits.
#[test]
fn no_header_may_wait() {
    let (cache, web, _clock) = manual_of(SessionCache::builder().max_waiting_headers(0));
    let (mut refused, start) = (0, Instant::now());
    for number in 0..10_000 {
        while let Put::Refused(why, _) = web.put(&id(number), number) {
            assert_eq!(why, Refusal::HeadersWaiting);
            assert!(start.elapsed() < PATIENCE, "puts are refused for ever");
            refused += 1;
        }
        assert!(web.take(&id(number)).is_some());
    }
    assert!(refused > 0, "the limit is met");
    assert_eq!((cache.len(), cache.stats().refused), (0, refused));
}

/// What is told, and what is read back.
#[test]
fn a_lifetime_is_read_back_in_whole_milliseconds() {
    let most = Duration::from_millis(u64::MAX);
    let told = [
        (HOUR, HOUR),
        (MILLISECOND, MILLISECOND),
        (MILLISECOND * 2 - MICROSECOND, MILLISECOND),
        (most, most),
        (Duration::MAX, most),
    ];
    for (told, read) in told {
        let builder = SessionCache::<u8>::builder().lifetime(told).clock(Clock::manual());
        let cache = builder.without_ticker().build().expect("a lifetime");
        assert_eq!(cache.lifetime(), read, "built with {told:?}");
        cache.set_lifetime(MINUTE);
        cache.set_lifetime(told);
        assert_eq!(cache.clone().lifetime(), read, "set to {told:?}");
    }
    for told in TOO_SHORT {
        let built = SessionCache::<u8>::builder().lifetime(told).build();
        assert!(matches!(built, Err(BuildError::NoLifetime)), "built with {told:?}");
        let (cache, ..) = manual::<u8>(10, HOUR);
        cache.set_lifetime(told);
        assert_eq!(cache.lifetime(), Duration::ZERO, "set to {told:?}");
    }
}

#[test]
fn a_session_that_grows_in_its_place_evicts_no_more_than_it_needs() {
    const PAYLOAD: usize = 1_000;
    let each = PAYLOAD + SessionCache::<Vec<u8>>::OVERHEAD;
    let cache: SessionCache<Vec<u8>> = SessionCache::builder()
        .max_bytes(900 * each)
        .clock(Clock::manual())
        .without_ticker()
        .build()
        .expect("room for some");
    let web = cache.scope(&Scope::new("web"));
    for at in 0..900 {
        assert!(web.put(&id(at), vec![0; PAYLOAD]).is_stored());
    }
    assert_eq!((cache.len(), cache.stats().removals.evicted), (900, 0));
    assert!(matches!(web.put(&id(0), vec![0; 2 * PAYLOAD - 100]), Put::Replaced(_)));
    assert_eq!((cache.len(), cache.stats().removals.evicted), (899, 1));
}

#[test]
fn a_limit_that_moves_in_small_steps_leaves_all_shards_their_share() {
    const FROM: u64 = 20_480;
    const TO: u64 = 22_000;
    let (cache, web, _clock) = manual(FROM as usize, HOUR);
    for limit in FROM..=TO {
        cache.set_max_sessions(limit as usize);
    }
    for at in 0..TO {
        assert!(web.put(&id(at), at).is_stored());
    }
    assert!(cache.len() as u64 >= TO * 97 / 100, "{} of {TO}", cache.len());
    for limit in (FROM..TO).rev() {
        cache.set_max_sessions(limit as usize);
    }
    for step in [8, 12, 100] {
        for _ in 0..3_000 {
            cache.set_max_sessions((FROM - step) as usize);
            cache.set_max_sessions(FROM as usize);
        }
    }
    for at in TO..TO + FROM {
        assert!(web.put(&id(at), at).is_stored());
    }
    assert!(cache.len() as u64 >= FROM * 97 / 100, "{} of {FROM}", cache.len());
}
