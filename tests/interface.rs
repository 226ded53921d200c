//! Each call of the interface, with its edge cases.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use resumption::{
    BuildError, Clock, Connection, Put, Refusal, Scope, SecretBytes, SessionCache, SessionId,
    Sessions,
};

const MINUTE: Duration = Duration::from_secs(60);

fn id(number: u64) -> SessionId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from(bytes)
}

/// A cache of numbers that lives for a minute by a clock of its own.
fn numbers(max_sessions: usize) -> (SessionCache<u64>, Sessions<u64>, Clock) {
    let clock = Clock::manual();
    let cache = SessionCache::builder()
        .max_sessions(max_sessions)
        .lifetime(MINUTE)
        .clock(clock.clone())
        .without_ticker()
        .build()
        .expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    (cache, web, clock)
}

#[test]
fn many_are_found_as_one_by_one() {
    let (cache, web, clock) = numbers(1_000);
    assert!(web.get_many(&[]).is_empty());
    for number in (0..100).filter(|number| number % 3 == 0) {
        assert!(web.put_with(&id(number), number, MINUTE * (1 + number as u32 % 2)).is_stored());
    }
    clock.advance(MINUTE);
    // More than a batch, some twice, some expired.
    let ids: Vec<_> = (0..100).chain(0..10).map(id).collect();
    let found = web.get_many(&ids);
    assert_eq!(found.len(), ids.len());
    for (number, found) in (0..100).chain(0..10).zip(&found) {
        let expected = (number % 3 == 0 && number % 2 == 1).then_some(number);
        assert_eq!(found.as_ref().map(|session| *session.payload()), expected);
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses_expired, stats.misses_unknown), (19, 17, 74));
    assert!(cache.scope(&Scope::new("other")).get_many(&ids).iter().all(Option::is_none));
}

#[test]
fn a_session_is_found_until_it_is_taken() {
    let (cache, web, _) = numbers(10);
    assert!(matches!(web.put(&id(1), 11), Put::Stored));
    assert!(web.contains(&id(1)));
    let session = web.get(&id(1)).expect("it was put");
    assert_eq!((session.id(), *session.payload()), (&id(1), 11));
    assert_eq!(session.ref_count(), 2);
    let again = session.clone();
    assert_eq!(again.ref_count(), 3);
    let taken = web.take(&id(1)).expect("it is there");
    assert_eq!(taken.ref_count(), 3, "the take inherits the cache's reference");
    assert!(web.take(&id(1)).is_none());
    assert!(web.get(&id(1)).is_none());
    assert!(!web.contains(&id(1)));
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
}

#[test]
fn a_replace_returns_the_old_session() {
    let (cache, web, _) = numbers(10);
    assert!(web.put(&id(1), 11).is_stored());
    let Put::Replaced(old) = web.put(&id(1), 12) else { panic!("there was one") };
    assert_eq!(*old.payload(), 11);
    assert_eq!(web.get(&id(1)).map(|session| *session.payload()), Some(12));
    assert_eq!(cache.len(), 1);
    assert_eq!(cache.stats().removals.replaced, 1);
}

#[test]
fn put_if_absent_gives_the_payload_back() {
    let (_, web, clock) = numbers(10);
    assert!(web.put_if_absent(&id(1), 11).is_stored());
    let Put::Refused(Refusal::Present, 12) = web.put_if_absent(&id(1), 12) else {
        panic!("there is one")
    };
    clock.advance(MINUTE);
    assert!(matches!(web.put_if_absent(&id(1), 13), Put::Stored), "an expired one is none");
}

#[test]
fn removals_are_told_apart() {
    let (cache, web, _) = numbers(10);
    for number in 0..4 {
        assert!(web.put(&id(number), number).is_stored());
    }
    assert!(web.remove(&id(0)) && !web.remove(&id(0)));
    assert!(web.remove_faulty(&id(1)) && !web.remove_faulty(&id(1)));
    assert!(web.take(&id(2)).is_some());
    assert_eq!(cache.flush(), 1);
    let removals = cache.stats().removals;
    assert_eq!((removals.removed, removals.faulty, removals.taken, removals.flushed), (1, 1, 1, 1));
    assert_eq!(removals.total(), 4);
}

#[test]
fn ids_of_every_length_are_their_own() {
    let (cache, web, _) = numbers(100);
    for len in 1..=32 {
        let id = SessionId::try_from(&[0; 32][..len]).expect("1 to 32 bytes");
        assert!(matches!(web.put(&id, len as u64), Put::Stored), "zeros of another length");
    }
    for len in 1..=32 {
        let id = SessionId::try_from(&[0; 32][..len]).expect("1 to 32 bytes");
        assert_eq!(web.get(&id).map(|session| *session.payload()), Some(len as u64));
    }
    assert_eq!(cache.len(), 32);
    for len in [0, 33, 64, 65_535] {
        let error = SessionId::try_from(&vec![0; len][..]).expect_err("not an id");
        assert!(error.to_string().contains(&len.to_string()));
    }
}

#[test]
fn ids_equal_in_their_first_24_bytes_are_told_apart() {
    let (_, web, _) = numbers(1000);
    let id = |last: u8| {
        let mut bytes = [0xaa; 32];
        bytes[31] = last;
        SessionId::from(bytes)
    };
    for last in 0..=255 {
        assert!(matches!(web.put(&id(last), u64::from(last)), Put::Stored));
    }
    for last in 0..=255 {
        assert_eq!(web.take(&id(last)).map(|session| *session.payload()), Some(u64::from(last)));
    }
}

#[test]
fn another_scope_finds_nothing() {
    let (cache, web, _) = numbers(10);
    let mtls = cache.scope(&Scope::new("web").with("client-ca", b"ours"));
    assert!(web.put(&id(1), 1).is_stored());
    assert!(mtls.get(&id(1)).is_none());
    assert!(mtls.take(&id(1)).is_none());
    assert!(!mtls.remove(&id(1)));
    assert!(!mtls.extend(&id(1), MINUTE));
    assert!(matches!(mtls.put(&id(1), 2), Put::Stored), "the same id in another scope");
    assert_eq!(*web.get(&id(1)).expect("untouched").payload(), 1);
    let same = cache.scope(&Scope::new("web"));
    assert!(same.contains(&id(1)), "the same scope, attached again");
}

#[test]
fn a_dropped_scope_is_empty_and_goes_on() {
    let (cache, web, _) = numbers(1000);
    let other = cache.scope(&Scope::new("other"));
    for number in 0..100 {
        assert!(web.put(&id(number), number).is_stored());
    }
    assert!(other.put(&id(1), 1).is_stored());
    let held = web.get(&id(7)).expect("it was put");
    assert_eq!(cache.drop_scope(&Scope::new("web")), 100);
    assert!((0..100).all(|number| web.get(&id(number)).is_none()));
    assert_eq!(cache.stats().removals.scope_dropped, 100);
    assert_eq!(cache.len(), 1);
    assert_eq!(*held.payload(), 7);
    assert!(other.contains(&id(1)));
    assert!(matches!(web.put(&id(1), 2), Put::Stored));
    assert!(web.contains(&id(1)), "the handle of the scope sees its new life");
    assert_eq!(cache.drop_scope(&Scope::new("never seen")), 0);
}

#[test]
fn small_caches_are_exact_and_evict_the_soonest_to_expire() {
    for max in [1, 2, 7, 100, 1024] {
        let (cache, web, _) = numbers(max);
        for number in 0..max as u64 * 3 {
            assert!(web.put(&id(number), number).is_stored());
            assert_eq!(cache.len(), max.min(number as usize + 1));
        }
        for number in max as u64 * 2..max as u64 * 3 {
            assert!(web.contains(&id(number)), "{max}: the newest stay");
        }
        assert_eq!(cache.stats().removals.evicted, max as u64 * 2);
    }
}

#[test]
fn eviction_spares_what_was_used() {
    let (_, web, _) = numbers(10);
    for number in 0..10 {
        assert!(web.put(&id(number), number).is_stored());
    }
    for number in [0, 3] {
        assert!(web.get(&id(number)).is_some());
    }
    for number in 10..18 {
        assert!(web.put(&id(number), number).is_stored());
    }
    assert!(web.contains(&id(0)) && web.contains(&id(3)));
    assert!(!web.contains(&id(1)) && !web.contains(&id(2)));
}

/// New sessions do not have to leave before their clients can come back: a fifth of the places is theirs, also
/// when all others were used.
#[test]
fn eviction_leaves_time_to_new_sessions() {
    const SESSIONS: u64 = 100;
    let (cache, web, _) = numbers(SESSIONS as usize);
    for number in 0..SESSIONS {
        assert!(web.put(&id(number), number).is_stored());
    }
    for newest in SESSIONS..10 * SESSIONS {
        let there: Vec<_> = cache.iter().map(|session| *session.id()).collect();
        let old = there.iter().filter(|&other| (newest - 10..newest).all(|new| *other != id(new)));
        assert!(old.into_iter().all(|old| web.get(old).is_some()));
        assert!(web.put(&id(newest), newest).is_stored());
        assert!((newest - 10..newest).all(|new| web.contains(&id(new))), "{newest}");
    }
}

/// What one call of eviction spares is bounded.
#[test]
fn eviction_spares_64_in_a_row() {
    let (_, web, _) = numbers(200);
    for number in 0..200 {
        assert!(web.put(&id(number), number).is_stored());
    }
    for number in 0..100 {
        assert!(web.get(&id(number)).is_some());
    }
    assert!(web.put(&id(200), 200).is_stored());
    let left: Vec<_> = (0..200).filter(|&number| !web.contains(&id(number))).collect();
    assert_eq!(left, [64]);
}

#[test]
fn large_caches_keep_97_percent() {
    for max in [2_000, 20_480, 100_000] {
        let (cache, web, _) = numbers(max);
        for number in 0..max as u64 {
            assert!(web.put(&id(number), number).is_stored());
        }
        assert!(cache.len() <= max);
        assert!(cache.len() * 100 >= max * 97, "{} of {max}", cache.len());
    }
}

#[test]
fn a_replace_evicts_nobody() {
    let (cache, web, _) = numbers(10);
    for number in 0..10 {
        assert!(web.put(&id(number), number).is_stored());
    }
    for round in 0..100 {
        assert!(matches!(web.put(&id(round % 10), round), Put::Replaced(_)));
    }
    assert_eq!((cache.len(), cache.stats().removals.evicted), (10, 0));
}

#[test]
fn bytes_are_the_weight_and_the_overhead() {
    const OVERHEAD: usize = SessionCache::<SecretBytes>::OVERHEAD;
    let cache: SessionCache =
        SessionCache::builder().max_bytes(1 << 20).without_ticker().build().expect("sane");
    let web = cache.scope(&Scope::new("web"));
    assert!(web.put(&id(1), vec![1; 300].into()).is_stored());
    assert_eq!(cache.bytes(), 300 + OVERHEAD);
    assert!(web.put(&id(1), vec![1; 100].into()).is_stored());
    assert_eq!(cache.bytes(), 100 + OVERHEAD);
    assert!(web.put(&id(1), vec![1; 500].into()).is_stored());
    assert_eq!(cache.bytes(), 500 + OVERHEAD);
    let handle = web.take(&id(1)).expect("it is there");
    assert_eq!(cache.bytes(), 0);
    let stats = cache.stats();
    assert_eq!((stats.held_sessions, stats.held_bytes), (1, (500 + OVERHEAD) as u64));
    drop(handle);
    let stats = cache.stats();
    assert_eq!((stats.held_sessions, stats.held_bytes), (0, 0));
}

#[test]
fn payloads_that_fit_are_stored_and_larger_ones_come_back() {
    let cache: SessionCache =
        SessionCache::builder().max_bytes(1 << 20).without_ticker().build().expect("sane");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..100 {
        assert!(web.put(&id(number), vec![0; 64 << 10].into()).is_stored());
        assert!(cache.bytes() <= 1 << 20);
    }
    assert!(web.put(&id(0), SecretBytes::default()).is_stored(), "an empty payload");
    let Put::Refused(Refusal::TooLarge, back) = web.put(&id(1), vec![7; 1 << 20].into()) else {
        panic!("it cannot fit")
    };
    assert_eq!(back.as_bytes(), vec![7; 1 << 20]);
    assert!(!cache.is_empty(), "a refusal empties nothing");
}

#[test]
fn own_payloads_are_weighed() {
    let cache = SessionCache::<String>::builder()
        .max_bytes(10_000)
        .weigher(String::len)
        .without_ticker()
        .build()
        .expect("sane");
    let web = cache.scope(&Scope::new("web"));
    assert!(web.put(&id(1), "x".repeat(5_000)).is_stored());
    assert!(web.put(&id(2), "x".repeat(4_900)).is_stored());
    assert!(!web.contains(&id(1)), "both do not fit");
    let huge = SessionCache::<u8>::builder().max_bytes(10_000).weigher(|_| usize::MAX).build();
    let web = huge.expect("sane").scope(&Scope::new("web"));
    assert!(matches!(web.put(&id(1), 0), Put::Refused(Refusal::TooLarge, 0)));
}

#[test]
fn limits_are_read_back() {
    let (cache, ..) = numbers(10);
    assert_eq!((cache.max_sessions(), cache.max_bytes()), (Some(10), None));
    cache.set_max_bytes(1_000);
    cache.set_max_sessions(usize::MAX);
    assert_eq!((cache.max_sessions(), cache.max_bytes()), (None, Some(1_000)));
    let stats = cache.stats();
    assert_eq!((stats.max_sessions, stats.max_bytes), (None, Some(1_000)));
}

#[test]
fn a_put_is_a_result() {
    let (cache, web, _) = numbers(10);
    assert!(matches!(web.put(&id(1), 11).into_result(), Ok(None)));
    let old = web.put(&id(1), 12).into_result().expect("there is room");
    assert_eq!(old.map(|old| *old.payload()), Some(11));
    cache.close();
    assert!(matches!(web.put(&id(1), 13).into_result(), Err((Refusal::Closed, 13))));
}

#[test]
fn ids_and_scopes_are_ordered_as_their_bytes_are() {
    let of = |bytes: &[u8]| SessionId::try_from(bytes).expect("1 to 32 bytes");
    let ids = [of(&[0]), of(&[0, 0]), of(&[0, 1]), of(&[1]), of(&[1; 32]), of(&[2, 0])];
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(Scope::new("a") < Scope::new("a").with("x", b"1"));
    assert!(Scope::new("a").with("x", b"1") < Scope::new("b"));
}

#[test]
fn a_weigher_that_panics_leaves_nothing_behind() {
    let builder = SessionCache::<u8>::builder().max_bytes(10_000).without_ticker();
    let cache = builder.weigher(|&payload| if payload == 0 { panic!("the weigher") } else { 1 });
    let cache = cache.build().expect("sane");
    let web = cache.scope(&Scope::new("web"));
    assert!(catch_unwind(AssertUnwindSafe(|| web.put(&id(1), 0))).is_err());
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
    assert!(web.put(&id(1), 1).is_stored());
    cache.close();
}

#[test]
fn limits_change_at_run_time() {
    let (cache, web, _) = numbers(100_000);
    for number in 0..50_000 {
        assert!(web.put(&id(number), number).is_stored());
    }
    for max in [40_000, 1_000, 10, 1] {
        cache.set_max_sessions(max);
        assert!(cache.len() <= max, "obeyed when it returns");
        for number in 0..2 * max as u64 {
            assert!(web.put(&id(number), number).is_stored());
            assert!(cache.len() <= max);
        }
        let least = if max <= 1024 { max } else { max * 97 / 100 };
        assert!(cache.len() >= least, "{} of {max}", cache.len());
    }
    cache.set_max_sessions(0);
    assert!(cache.is_empty());
    assert!(matches!(web.put(&id(1), 1), Put::Refused(Refusal::Full, 1)));
    cache.set_max_sessions(usize::MAX);
    assert_eq!(cache.stats().max_sessions, None);
    assert!(web.put(&id(1), 1).is_stored());
}

#[test]
fn limits_on_bytes_change_at_run_time() {
    let cache: SessionCache = SessionCache::builder().unlimited().build().expect("sane");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..1000 {
        assert!(web.put(&id(number), vec![0; 1000].into()).is_stored());
    }
    cache.set_max_bytes(100_000);
    assert!(cache.bytes() <= 100_000 && cache.len() > 80);
    cache.set_max_bytes(0);
    assert!(cache.is_empty());
    assert!(matches!(web.put(&id(1), b"x".into()), Put::Refused(Refusal::TooLarge, _)));
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    type Cache = SessionCache<u8>;
    assert!(matches!(Cache::builder().max_sessions(0).build(), Err(BuildError::NoSessions)));
    assert!(matches!(Cache::builder().max_bytes(1).build(), Err(BuildError::TooFewBytes { .. })));
    let least = Cache::OVERHEAD;
    let too_few = Cache::builder().max_bytes(least - 1).build();
    assert!(matches!(too_few, Err(BuildError::TooFewBytes { .. })));
    let enough = Cache::builder().max_bytes(least).without_ticker().build().expect("enough");
    let web = enough.scope(&Scope::new("a"));
    assert!(web.put(&id(1), 1).is_stored() && web.put(&id(2), 2).is_stored());
    assert_eq!(enough.len(), 1, "one session without weight");
    for none in [Duration::ZERO, Duration::from_micros(999)] {
        let error = Cache::builder().lifetime(none).build().expect_err("no lifetime");
        assert!(error.to_string().contains("lifetime is less than a millisecond"), "{error}");
    }
    assert!(matches!(Cache::builder().ticker(Duration::ZERO).build(), Err(BuildError::NoTick)));
    assert!(Cache::builder().ticker(Duration::from_nanos(1)).build().is_ok(), "as a millisecond");
    let huge = Cache::builder().max_sessions(usize::MAX).max_bytes(usize::MAX).build();
    assert!(huge.is_ok_and(|cache| cache.scope(&Scope::new("a")).put(&id(1), 1).is_stored()));
}

#[test]
fn use_after_close_is_harmless() {
    let (cache, web, _) = numbers(100);
    for number in 0..50 {
        assert!(web.put(&id(number), number).is_stored());
    }
    let held = web.get(&id(3)).expect("it was put");
    cache.close();
    cache.close();
    assert!(cache.is_closed() && cache.is_empty());
    assert_eq!(cache.stats().removals.closed, 50);
    assert!(matches!(web.put(&id(1), 1), Put::Refused(Refusal::Closed, 1)));
    assert!(matches!(web.put_if_absent(&id(1), 1), Put::Refused(Refusal::Closed, 1)));
    assert!(matches!(web.put_with(&id(1), 1, MINUTE), Put::Refused(Refusal::Closed, 1)));
    let put = web.put_from(&id(1), 1, Connection::server());
    assert!(matches!(put, Put::Refused(Refusal::Closed, 1)));
    assert!(web.get(&id(3)).is_none() && web.take(&id(3)).is_none() && !web.contains(&id(3)));
    assert!(web.get_many(&[id(3), id(4)]).iter().all(Option::is_none));
    assert!(!web.remove(&id(3)) && !web.remove_faulty(&id(3)) && !web.extend(&id(3), MINUTE));
    assert_eq!((cache.flush(), cache.flush_expired(), cache.iter().count()), (0, 0, 0));
    assert_eq!((cache.retain(|_| false), cache.drop_scope(web.scope())), (0, 0));
    cache.set_lifetime(MINUTE);
    for limit in [5, 1_000, usize::MAX] {
        cache.set_max_sessions(limit);
        cache.set_max_bytes(limit);
        let other = cache.scope(&Scope::new("came later"));
        assert!(matches!(other.put(&id(1), 1), Put::Refused(Refusal::Closed, 1)));
    }
    assert_eq!(cache.close_within(Duration::ZERO), Ok(()));
    assert_eq!(*held.payload(), 3);
}

#[test]
fn iteration_meets_every_session_once() {
    let (cache, web, clock) = numbers(100_000);
    for number in 0..10_000 {
        assert!(web.put(&id(number), number).is_stored());
    }
    assert!(web.put_with(&id(20_000), 20_000, Duration::from_secs(1)).is_stored());
    clock.advance(Duration::from_secs(2));
    let mut met: Vec<_> = cache.iter().map(|session| *session.payload()).collect();
    met.sort_unstable();
    assert_eq!(met, (0..10_000).collect::<Vec<_>>());
}

/// Also what expires when the iterator has it already.
#[test]
fn a_scope_iterates_and_revokes_its_own() {
    let (cache, web, clock) = numbers(10_000);
    let (scope, other) = (Scope::new("web"), cache.scope(&Scope::new("other")));
    let numbers_of = |sessions: &Sessions<u64>| {
        let mut numbers: Vec<_> = sessions.iter().map(|session| *session.payload()).collect();
        numbers.sort_unstable();
        numbers
    };
    for number in 0..1_000 {
        assert!(web.put(&id(number), number).is_stored());
        assert!(other.put(&id(number), 1_000 + number).is_stored());
    }
    assert_eq!(numbers_of(&web), (0..1_000).collect::<Vec<_>>());
    assert_eq!((cache.iter().count(), (&other).into_iter().count()), (2_000, 1_000));

    let mut shown = 0;
    let removed = web.retain(|session| {
        shown += 1;
        session.payload() % 2 == 0
    });
    assert_eq!((removed, shown, cache.len()), (500, 1_000, 1_500));
    assert_eq!(numbers_of(&other), (1_000..2_000).collect::<Vec<_>>());

    // It goes on, empty, after a drop, also where an iterator has begun.
    let mut iter = web.iter();
    assert!(iter.next().is_some());
    assert_eq!(cache.drop_scope(&scope), 500);
    assert!(iter.count() <= 256 + 44, "no more than it held");
    assert!(numbers_of(&web).is_empty());
    assert!(web.put(&id(1), 7).is_stored());
    assert_eq!(numbers_of(&web), [7]);
    clock.advance(MINUTE);
    assert!(numbers_of(&web).is_empty() && web.retain(|_| panic!("none is shown")) == 0);
    let mut iter = other.iter();
    assert!(iter.next().is_none() && iter.next().is_none(), "it stays at its end");
}

#[test]
fn iteration_returns_nothing_expired() {
    let (cache, web, clock) = numbers(1_000);
    for number in 0..100 {
        assert!(web.put(&id(number), number).is_stored());
    }
    let mut all = cache.iter();
    assert!(all.next().is_some());
    clock.advance(MINUTE);
    assert!(all.next().is_none());

    for number in 0..100 {
        assert!(web.put(&id(number), number).is_stored());
    }
    let mut shown = 0;
    cache.retain(|_| {
        shown += 1;
        clock.advance(MINUTE);
        true
    });
    assert_eq!(shown, 1);
}

#[test]
fn retain_removes_what_is_not_wanted() {
    let (cache, web, _) = numbers(100_000);
    for number in 0..10_000 {
        assert!(web.put(&id(number), number).is_stored());
    }
    assert_eq!(cache.retain(|session| session.payload() % 3 != 0), 3_334);
    assert_eq!(cache.len(), 6_666);
    assert!((0..10_000).all(|number| web.contains(&id(number)) == (number % 3 != 0)));
    let inside = web.clone();
    cache.retain(|session| inside.remove(session.id()));
    assert!(cache.is_empty(), "a predicate may use the cache");
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn payloads_are_dropped_with_the_last_handle_at_that_moment() {
    let alive = Arc::new(AtomicUsize::new(0));
    let new = || {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(&alive))
    };
    // A ticker may be the one that drops the cache, a moment later.
    let cache = SessionCache::builder().max_sessions(2).without_ticker().build().expect("sane");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..100 {
        assert!(web.put(&id(number), new()).is_stored());
        assert!(alive.load(Ordering::SeqCst) <= 2);
    }
    let held = web.get(&id(99)).expect("the newest");
    let also = held.clone();
    drop(cache);
    drop(web);
    assert_eq!(alive.load(Ordering::SeqCst), 1, "the cache is gone, the handle is not");
    drop(held);
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    drop(also);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

struct PanicsOnDrop(bool);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        assert!(!self.0, "a payload that panics");
    }
}

#[test]
fn a_payload_that_panics_loses_nothing_else() {
    let cache = SessionCache::builder().max_sessions(4).without_ticker().build().expect("sane");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..4 {
        assert!(web.put(&id(number), PanicsOnDrop(number == 0)).is_stored());
    }
    let put = std::panic::AssertUnwindSafe(|| web.put(&id(9), PanicsOnDrop(false)).is_stored());
    assert!(std::panic::catch_unwind(put).is_err());
    for number in 10..20 {
        assert!(web.put(&id(number), PanicsOnDrop(false)).is_stored());
    }
    assert_eq!(cache.len(), 4, "its place came back");
    assert_eq!(cache.flush(), 4);
}

/// A limit that is lowered is obeyed, though a payload that is evicted for it panics.
#[test]
fn a_payload_that_panics_leaves_no_limit_half_changed() {
    let cache: SessionCache<PanicsOnDrop> =
        SessionCache::builder().max_sessions(10).without_ticker().build().expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..10 {
        assert!(web.put(&id(number), PanicsOnDrop(number < 3)).is_stored());
    }
    let lower = std::panic::AssertUnwindSafe(|| cache.set_max_sessions(2));
    assert!(std::panic::catch_unwind(lower).is_err());
    assert_eq!((cache.len(), cache.stats().max_sessions), (2, Some(2)));
    for number in 10..20 {
        assert!(web.put(&id(number), PanicsOnDrop(false)).is_stored());
    }
    assert_eq!(cache.iter().count(), 2);
}
