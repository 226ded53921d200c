//! What churn leaves behind is bounded: stale hints, and headers that wait for the epoch.

mod support;

use std::thread;

use resumption::{Clock, SessionCache, Sessions};

use support::{HOUR, MINUTE, Random, SECOND, id, manual};

/// Puts and takes for each session that is there.
const TURNS: u64 = 100;

/// As many sessions as that is done for at the least, so that there are some ten times as many takes as [`constant`] allows.
const FEWEST: u64 = 100;

const MANY: u64 = 10_000;

/// Hints that may be there beside two for each session, where 1.75 lead to compaction: a slack of 64, what each lane may have counted since the others
/// have looked, and what puts in flight have counted. There is a lane for each processor at most.
fn constant() -> u64 {
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    64 * (4 * processors).next_power_of_two().clamp(16, 256)
}

#[track_caller]
fn assert_few_hints(cache: &SessionCache<u64>, when: &str) {
    let stats = cache.stats();
    let most = 2 * stats.sessions + constant();
    assert!(stats.hints <= most, "{when}: {} hints for {} sessions", stats.hints, stats.sessions);
}

/// Puts a new session and takes the oldest, over and over.
fn turn_over(sessions: &Sessions<u64>, first: u64, live: u64, after_each: impl Fn()) {
    for number in first..first + live {
        assert!(sessions.put(&id(number), number).is_stored());
    }
    // With none that stays each is taken at once.
    for number in first + live..first + live + TURNS * live.max(FEWEST) {
        assert!(sessions.put(&id(number), number).is_stored());
        assert!(sessions.take(&id(number - live)).is_some());
        // In a small cache a thousand turns are all that there are.
        if live < 100 || number % 1_000 == 0 {
            after_each();
        }
    }
}

#[test]
fn stale_hints_stay_few_over_puts_and_takes() {
    for live in [0, 1, 10, 1_000, 20_000] {
        let (cache, web, _) = manual(1_000_000, HOUR);
        turn_over(&web, 0, live, || assert_few_hints(&cache, "meanwhile"));
        assert_eq!(cache.len() as u64, live);
        assert_few_hints(&cache, "meanwhile");
    }
}

#[test]
fn stale_hints_stay_few_for_eight_threads() {
    let (cache, web, _) = manual(1_000_000, HOUR);
    thread::scope(|threads| {
        for at in 0..8 {
            let (cache, web) = (&cache, &web);
            threads.spawn(move || {
                turn_over(web, at << 32, 1_000, || assert_few_hints(cache, "meanwhile"))
            });
        }
    });
    assert_eq!(cache.len(), 8_000);
    assert_few_hints(&cache, "meanwhile");
}

/// As TLS 1.3 clients do: two tickets are put for each that is taken, and the rest is evicted.
#[test]
fn stale_hints_stay_few_over_evictions() {
    let (cache, web, _) = manual(1_000, HOUR);
    let mut random = Random::new(1);
    for number in 0..100 * 1_000 {
        assert!(web.put(&id(number), number).is_stored());
        let ago = random.below(1_500);
        drop(web.take(&id(number.saturating_sub(ago))));
        assert_few_hints(&cache, "meanwhile");
    }
    assert!(cache.stats().removals.evicted > 0);
}

#[test]
fn stale_hints_stay_few_over_replaces() {
    let (cache, web, _) = manual(1_000_000, HOUR);
    for number in 0..TURNS * 1_000 {
        assert!(web.put(&id(number % 1_000), number).is_stored());
        assert_few_hints(&cache, "meanwhile");
    }
}

/// Lifetimes of a wide range: the stale hints lie in many lists.
#[test]
fn stale_hints_stay_few_over_lifetimes_of_all_lengths() {
    let (cache, web, clock) = manual(1_000_000, HOUR);
    let mut random = Random::new(2);
    for number in 0..TURNS * 1_000 {
        let lifetime = SECOND * (1 << random.below(25)) as u32;
        assert!(web.put_with(&id(number), number, lifetime).is_stored());
        if number >= 1_000 {
            drop(web.take(&id(number - 1_000)));
        }
        clock.advance(SECOND / 100);
        assert_few_hints(&cache, "meanwhile");
    }
}

/// An extension to an earlier time files a hint there; the one before becomes a stale one.
#[test]
fn stale_hints_stay_few_over_extensions() {
    let (cache, web, clock) = manual(1_000_000, HOUR);
    for number in 0..100 {
        assert!(web.put(&id(number), number).is_stored());
    }
    for turn in 0..TURNS {
        for number in 0..100 {
            assert!(web.extend(&id(number), MINUTE * (1 + (turn % 7) as u32)));
            assert!(web.extend(&id(number), HOUR));
        }
        assert_few_hints(&cache, "meanwhile");
        clock.advance(SECOND / 10);
    }
    assert_eq!(cache.len(), 100);
}

/// Without a put that could clear up: each way out does so itself.
#[test]
fn stale_hints_are_few_after_every_way_out() {
    let ways = [
        "take",
        "remove",
        "expired get",
        "flush_expired",
        "flush",
        "retain",
        "drop_scope",
        "close",
        "set_max_sessions",
        "set_max_bytes",
    ];
    for max in [15_000, 1_000_000] {
        for way in ways {
            let (cache, web, clock) = manual(max, HOUR);
            for number in 0..MANY {
                assert!(web.put(&id(number), number).is_stored());
            }
            leave(way, &cache, &web, &clock);
            assert!(cache.is_empty(), "{way} leaves nothing");
            assert_few_hints(&cache, way);
        }
    }
}

fn leave(way: &str, cache: &SessionCache<u64>, web: &Sessions<u64>, clock: &Clock) {
    let mut numbers = 0..MANY;
    match way {
        "take" => assert!(numbers.all(|number| web.take(&id(number)).is_some())),
        "remove" => assert!(numbers.all(|number| web.remove(&id(number)))),
        "expired get" => {
            clock.advance(HOUR);
            assert!(numbers.all(|number| web.get(&id(number)).is_none()));
        }
        "flush_expired" => {
            clock.advance(HOUR);
            assert_eq!(cache.flush_expired() as u64, MANY);
        }
        "flush" => assert_eq!(cache.flush() as u64, MANY),
        "retain" => assert_eq!(cache.retain(|_| false) as u64, MANY),
        "drop_scope" => assert_eq!(cache.drop_scope(web.scope()) as u64, MANY),
        "close" => cache.close(),
        "set_max_sessions" => cache.set_max_sessions(0),
        "set_max_bytes" => cache.set_max_bytes(0),
        other => unreachable!("{other}"),
    }
}

/// What leaves by a limit leaves the stale hints of those that would have expired later, and were taken.
#[test]
fn stale_hints_are_few_after_many_were_evicted_at_once() {
    type Leave = fn(&SessionCache<Vec<u8>>, &Sessions<Vec<u8>>);
    let ways: [(&str, Leave); 3] = [
        ("fewer sessions", |cache, _| cache.set_max_sessions(100)),
        ("fewer bytes", |cache, _| cache.set_max_bytes(20_000)),
        ("a large payload", |cache, web| {
            cache.set_max_bytes(2 * cache.bytes());
            let size = cache.stats().max_bytes.expect("a limit") as usize / 10 * 9;
            assert!(web.put(&id(MANY), vec![0; size]).is_stored());
        }),
    ];
    for max in [15_000, 1_000_000] {
        for (way, leave) in ways {
            let (cache, web, _) = manual::<Vec<u8>>(max, HOUR);
            for number in 0..MANY {
                assert!(web.put_with(&id(number), vec![], MINUTE).is_stored());
            }
            for number in MANY..MANY / 10 * 17 {
                assert!(web.put(&id(number), vec![]).is_stored());
                assert!(web.take(&id(number)).is_some());
            }
            leave(&cache, &web);
            let live = cache.len() as u64;
            assert!(live < MANY / 2, "{way} lets most leave");
            let (hints, stale) = (cache.stats().hints, cache.stats().hints - live);
            assert!(
                stale <= 2 * live + constant(),
                "{way} of {max}: {hints} hints, {live} sessions"
            );
        }
    }
}

/// Headers of removed sessions are freed by whoever goes on: all of them but a few.
#[test]
fn headers_do_not_wait_when_the_cache_is_at_rest() {
    let (cache, web, _) = manual(1_000_000, HOUR);
    thread::scope(|threads| {
        for at in 0..8u64 {
            let web = &web;
            threads.spawn(move || turn_over(web, at << 32, 100, || ()));
        }
    });
    let waiting = || cache.stats().headers_waiting;
    // A pin now and then moves the epoch; nothing is put or removed any more. A lookup that misses may need
    // none, a walk does.
    for _ in 0..100_000 {
        if waiting() == 0 {
            return;
        }
        assert!(cache.iter().next().is_some());
    }
    panic!("{} headers wait at rest", waiting());
}
