//! When sessions expire, and when their memory comes back.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use resumption::{Clock, Put, Scope, SessionCache, Sessions};

use support::{Census, HOUR, MINUTE, Payload, Random, SECOND, id, manual, manual_of, wait_until};

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

const LIFETIMES: [Duration; 9] = [
    SECOND,
    Duration::from_millis(1_001),
    Duration::from_secs(63),
    Duration::from_secs(64),
    Duration::from_secs(7_200),
    DAY,
    Duration::from_secs(7 * 86_400),
    Duration::from_secs(90 * 86_400),
    YEAR,
];

/// What a put removes at most of what is due: it looks at 4 hints that are due, and at 16 to find
/// stale ones.
const DUE_PER_PUT: u64 = 20;

#[test]
fn a_session_lives_to_its_last_millisecond() {
    for lifetime in LIFETIMES {
        let (cache, web, clock) = manual(100, lifetime);
        for number in 0..5 {
            assert!(web.put(&id(number), number).is_stored());
        }
        clock.advance(lifetime - MILLISECOND);
        assert_eq!(cache.flush_expired(), 0);
        assert!((0..5).all(|number| web.contains(&id(number)) && web.get(&id(number)).is_some()));
        assert!(web.take(&id(0)).is_some());
        clock.advance(MILLISECOND);
        assert!((1..5).all(|number| !web.contains(&id(number))));
        assert_eq!(cache.iter().count(), 0);
        assert!(web.get(&id(1)).is_none() && web.take(&id(2)).is_none());
        assert!(!web.remove(&id(3)) && !web.extend(&id(4), lifetime));
        let stats = cache.stats();
        assert_eq!((stats.misses_expired, stats.removals.expired), (2, 4));
        assert_eq!((cache.flush_expired(), cache.len()), (0, 0), "each was removed when met");
    }
}

/// By the clock of everybody else, too.
#[test]
fn a_handle_knows_the_instant_of_its_expiry() {
    let cache: SessionCache<u64> = SessionCache::builder().build().expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    let before = Instant::now();
    assert!(web.put_with(&id(1), 1, HOUR).is_stored());
    let after = Instant::now();
    let expires = web.get(&id(1)).expect("it was put").expires_at();
    // The coarse clock is some milliseconds behind.
    assert!((before + HOUR - SECOND..=after + HOUR + SECOND).contains(&expires));
    assert!((before - SECOND..=after + SECOND).contains(&Clock::monotonic().instant()));
}

#[test]
fn an_extension_counts_from_now_on() {
    for lifetime in LIFETIMES {
        let (cache, web, clock) = manual(100, lifetime);
        assert!(web.put(&id(1), 1).is_stored() && web.put(&id(2), 2).is_stored());
        let at_first = web.get(&id(1)).expect("it was put").expires_at();
        clock.advance(lifetime - MILLISECOND);
        assert!(web.extend(&id(1), lifetime), "in the last millisecond");
        let session = web.get(&id(1)).expect("it was extended");
        assert_eq!(session.expires_at() - at_first, lifetime - MILLISECOND);
        assert_eq!(session.expires_at() - clock.instant(), lifetime);
        clock.advance(MILLISECOND);
        assert!(!web.extend(&id(2), lifetime), "one too late");
        assert!(web.contains(&id(1)) && !web.contains(&id(2)));
        clock.advance(lifetime - MILLISECOND * 2);
        assert!(web.contains(&id(1)));
        clock.advance(MILLISECOND);
        assert!(!web.contains(&id(1)));
        assert_eq!(*session.payload(), 1, "a handle is good for longer");
        assert_eq!(cache.flush_expired(), 1);
    }
}

#[test]
fn an_extension_may_be_to_an_earlier_time() {
    for lifetime in LIFETIMES {
        let (cache, web, clock) = manual(100, lifetime * 10);
        assert!(web.put(&id(1), 1).is_stored());
        assert!(web.extend(&id(1), lifetime));
        clock.advance(lifetime - MILLISECOND);
        assert!(web.contains(&id(1)));
        clock.advance(MILLISECOND);
        assert!(!web.contains(&id(1)));
        clock.advance(lifetime / 8 + 3 * SECOND);
        assert!(web.put(&id(2), 2).is_stored());
        assert_eq!(cache.len(), 1, "its memory came back as soon as if it had been put so");
    }
}

#[test]
fn no_lifetime_and_endless_ones_are_what_they_say() {
    let (cache, web, clock) = manual(100, HOUR);
    let submilli = Duration::from_micros(999);
    for (number, lifetime) in [Duration::ZERO, submilli].into_iter().enumerate() {
        let id = id(number as u64);
        assert!(matches!(web.put_with(&id, 0, lifetime), Put::Stored));
        assert!(web.get(&id).is_none() && web.take(&id).is_none() && !web.contains(&id));
        assert!(matches!(web.put_with(&id, 0, lifetime), Put::Stored));
        assert!(matches!(web.put_if_absent(&id, 1), Put::Stored), "an expired one is none");
        assert!(web.extend(&id, lifetime) && !web.contains(&id));
    }
    let endless = [Duration::MAX, YEAR * 140, Duration::from_millis(u64::MAX)];
    for (number, lifetime) in endless.into_iter().enumerate() {
        assert!(web.put_with(&id(10 + number as u64), 0, lifetime).is_stored());
    }
    assert!(web.put_with(&id(20), 0, YEAR * 100).is_stored());
    clock.advance(YEAR * 100);
    assert!(!web.contains(&id(20)), "a long one ends");
    clock.advance(YEAR * 38);
    assert!((10..13).all(|number| web.contains(&id(number))), "an endless one does not");
    assert!(web.extend(&id(10), SECOND), "but can be given an end");
    clock.advance(SECOND);
    assert!(!web.contains(&id(10)));
    cache.flush_expired();
    assert_eq!(cache.len(), 2);
}

/// Nothing expires then, and all else goes on.
#[test]
fn a_clock_may_stand_still() {
    let (cache, web, _) = manual(1_000, MILLISECOND);
    for number in 0..100_000 {
        assert!(web.put(&id(number), number).is_stored());
        assert!(number % 7 != 0 || web.take(&id(number)).is_some());
    }
    assert_eq!(cache.len(), 1_000);
    let removals = cache.stats().removals;
    assert_eq!((removals.expired, cache.flush_expired()), (0, 0));
    assert!(removals.evicted > 80_000);
}

#[test]
fn a_clock_may_jump() {
    for jump in [MINUTE, HOUR, HOUR * 1_000, YEAR, YEAR * 10, YEAR * 100] {
        let (cache, web, clock) = manual(1_000_000, HOUR);
        for turn in 0..4 {
            for number in 0..1_000 {
                let lifetime = SECOND * (1 + number as u32 * 31 % 5_000);
                let id = id(turn * 1_000 + number);
                assert!(matches!(web.put_with(&id, number, lifetime), Put::Stored));
                let found = web.get(&id).map(|session| *session.payload());
                assert_eq!(found, Some(number), "a new session lives, whatever was before");
            }
            clock.advance(jump / 4);
        }
        clock.advance(jump);
        for number in 10_000..20_000 {
            assert!(web.put(&id(number), number).is_stored());
        }
        if jump > HOUR {
            assert_eq!(cache.stats().removals.expired, 4_000, "puts removed all of them");
        }
        cache.flush_expired();
        let late: Vec<_> = cache.iter().filter(|session| *session.payload() < 1_000).collect();
        assert!(jump <= HOUR || late.is_empty());
    }
}

/// At the end of time, after 139 years, what has an end is expired and the rest never is.
#[test]
fn a_clock_may_reach_the_end_of_time() {
    let (cache, web, clock) = manual(1_000, HOUR);
    assert!(web.put(&id(1), 1).is_stored() && web.put_with(&id(2), 2, Duration::MAX).is_stored());
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert!(!web.contains(&id(1)) && web.contains(&id(2)));
    for number in 10..5_000 {
        assert!(web.put(&id(number), number).is_stored());
        assert!(web.contains(&id(number)));
    }
    assert_eq!(cache.len(), 1_000);
    assert!(web.extend(&id(4_999), SECOND) && web.contains(&id(4_999)));
}

/// Without a ticker: a put each removes some of what is due.
#[test]
fn memory_comes_back_with_puts() {
    const MANY: u64 = 10_000;
    for max in [15_000, 1_000_000] {
        let census = Arc::<Census>::default();
        let (cache, web, clock) = manual(max, HOUR);
        for number in 0..MANY {
            let payload = Payload::new(&census, number, 0, 0);
            assert!(web.put_with(&id(number), payload, SECOND * 10).is_stored());
        }
        clock.advance(SECOND * 13);
        assert_eq!(census.alive(), MANY as i64, "time alone does nothing");
        for number in MANY..MANY + MANY / 2 {
            assert!(web.put(&id(number), Payload::new(&census, number, 0, 0)).is_stored());
        }
        assert_eq!(cache.stats().removals.expired, MANY, "each put removes several");
        assert_eq!((cache.len() as u64, census.alive() as u64), (MANY / 2, MANY / 2));
    }
}

/// Eviction looks at what it has spared last. By then that may be expired.
#[test]
fn what_is_expired_makes_room_before_what_is_not() {
    let (cache, web, clock) = manual(2, HOUR);
    assert!(web.put_with(&id(1), 1, MINUTE).is_stored() && web.put(&id(2), 2).is_stored());
    assert!(web.get(&id(1)).is_some());
    assert!(web.put(&id(3), 3).is_stored());
    assert!(web.contains(&id(1)) && !web.contains(&id(2)), "the one that was used is spared");
    clock.advance(2 * MINUTE);
    assert!(web.put(&id(4), 4).is_stored());
    assert!(web.contains(&id(3)) && web.contains(&id(4)));
    let removals = cache.stats().removals;
    assert_eq!((removals.evicted, removals.expired), (1, 1));
}

/// With a ticker: nothing has to be put, and the system's clock runs.
#[test]
fn memory_comes_back_by_itself() {
    let census = Arc::<Census>::default();
    let cache = SessionCache::builder()
        .lifetime(MILLISECOND * 50)
        .ticker(MILLISECOND * 10)
        .build()
        .expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..10_000 {
        assert!(web.put(&id(number), Payload::new(&census, number, 0, 0)).is_stored());
    }
    let held = web.put_with(&id(1), Payload::new(&census, 1, 1, 0), MINUTE).is_stored();
    assert!(held);
    wait_until("the ticker removes what is expired", || cache.len() == 1);
    // They are counted as removed, and then dropped.
    wait_until("what was removed is dropped", || census.alive() == 1);
    assert!(web.contains(&id(1)));
    assert_eq!(cache.stats().removals.total(), 10_000);
}

/// The memory of many that expire at one instant comes back in small steps: no operation pays for
/// all of them. Counted, not timed.
#[test]
fn a_million_that_expire_at_once_cause_no_pause() {
    const MANY: u64 = 1_000_000;
    let clock = Clock::manual();
    let build = || {
        SessionCache::builder()
            .unlimited()
            .lifetime(MINUTE)
            .clock(clock.clone())
            .without_ticker()
            .build()
            .expect("sane settings")
    };
    let cache: SessionCache<u64> = build();
    let web = cache.scope(&Scope::new("web"));
    for number in 0..MANY {
        assert!(web.put(&id(number), number).is_stored());
    }
    clock.advance(MINUTE + 8 * SECOND);
    let expired = || cache.stats().removals.expired;
    let mut before = expired();
    let mut step = |most: u64, what: &str| {
        let now = expired();
        assert!(now - before <= most, "a {what} removed {}", now - before);
        before = now;
    };
    for number in 0..1_000 {
        assert!(web.put(&id(MANY + number), number).is_stored());
        step(DUE_PER_PUT, "put");
        assert!(web.get(&id(MANY + number)).is_some());
        step(0, "get");
        assert!(web.get(&id(number * 7)).is_none());
        step(DUE_PER_PUT, "get of an expired session");
        assert!(web.take(&id(MANY + number)).is_some());
        step(DUE_PER_PUT, "take");
    }
    let left = cache.len();
    assert!(left > 0 && expired() >= 1_000, "it goes on step by step");
    assert_eq!(cache.flush_expired(), left);
    assert_eq!(expired(), MANY);
}

/// The same with the ticker, which has to come to an end by itself.
#[test]
fn the_ticker_removes_a_million_that_expire_at_once() {
    let clock = Clock::manual();
    let cache: SessionCache<u64> = SessionCache::builder()
        .unlimited()
        .lifetime(MINUTE)
        .clock(clock.clone())
        .ticker(MILLISECOND)
        .build()
        .expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    for number in 0..1_000_000 {
        assert!(web.put(&id(number), number).is_stored());
    }
    clock.advance(MINUTE + 8 * SECOND);
    wait_until("the ticker removes what is expired", || cache.is_empty());
    assert_eq!(cache.stats().removals.expired, 1_000_000);
}

/// A payload that may not be dropped after its time; everything in milliseconds.
struct Punctual {
    time: Arc<Time>,
    now: Arc<AtomicU64>,
    /// By how much the clock advances at once.
    step: u64,
}

#[derive(Default)]
struct Time {
    due: AtomicU64,
    /// How late it may be removed.
    slack: AtomicU64,
}

impl Time {
    /// A session, put or extended at `now`, has this lifetime. Its hint is filed at an eighth of
    /// the lifetime, and a slot's span of about a second, after its due time at the latest. One
    /// that comes due later than before keeps its hint, and is filed again when that is looked at.
    fn set(&self, now: u64, lifetime: u64) {
        let (due, slack) = (now + lifetime, lifetime / 8 + 3_000);
        let is_later = due >= self.due.swap(due, Ordering::Relaxed);
        let before = self.slack.load(Ordering::Relaxed);
        self.slack.store(if is_later { slack.max(before) } else { slack }, Ordering::Relaxed);
    }
}

impl Drop for Punctual {
    fn drop(&mut self) {
        let now = self.now.load(Ordering::Relaxed);
        let late = now.saturating_sub(self.time.due.load(Ordering::Relaxed));
        let slack = self.time.slack.load(Ordering::Relaxed);
        assert!(late <= slack + self.step, "{late} ms late, {slack} allowed");
    }
}

/// What is due is removed at most an eighth of the lifetime and a few seconds late, if puts go on;
/// extended sessions too.
#[test]
fn expired_sessions_do_not_stay_for_long() {
    for (scale, step) in [(3_000, 200), (200_000, 500), (40_000_000, 100_000)] {
        let (cache, web, clock) = one_shard::<Punctual>(15_000);
        let now = Arc::<AtomicU64>::default();
        let mut random = Random::new(scale);
        let mut times: Vec<Arc<Time>> = Vec::new();
        let ride = || {
            let time = Arc::<Time>::default();
            time.slack.store(u64::MAX / 2, Ordering::Relaxed);
            let payload = Punctual { time, now: Arc::clone(&now), step };
            assert!(web.put_with(&id(u64::MAX), payload, YEAR).is_stored());
        };
        for turn in 0..30_000u64 {
            let at = now.load(Ordering::Relaxed);
            let lifetime = 1_000 + random.below(scale);
            let time = Arc::<Time>::default();
            time.set(at, lifetime);
            let payload = Punctual { time: Arc::clone(&time), now: Arc::clone(&now), step };
            times.push(time);
            let put = web.put_with(&id(turn), payload, Duration::from_millis(lifetime));
            assert!(put.is_stored());
            let other = random.below(turn + 1);
            if web.contains(&id(other)) {
                let lifetime = 1_000 + random.below(scale);
                times[other as usize].set(at, lifetime);
                assert!(web.extend(&id(other), Duration::from_millis(lifetime)));
            }
            if turn % 40 == 0 {
                now.fetch_add(step, Ordering::Relaxed);
                clock.advance(Duration::from_millis(step));
                // A slot's sessions come due together; it takes some puts to remove them all.
                (0..250).for_each(|_| ride());
            }
        }
        let removals = cache.stats().removals;
        assert_eq!(removals.expired + removals.replaced, removals.total());
        assert!(removals.expired > 15_000, "{removals:?}");
        // What is left goes with the cache.
        times.iter().for_each(|time| time.slack.store(u64::MAX / 2, Ordering::Relaxed));
    }
}

/// A cache of one shard, so that each put looks after all that is due: it has room for few bytes, and its payloads
/// weigh nothing.
fn one_shard<S: Send + Sync + 'static>(
    max_sessions: usize,
) -> (SessionCache<S>, Sessions<S>, Clock) {
    manual_of(SessionCache::builder().max_sessions(max_sessions).max_bytes(15 << 20).weigher(|_| 0))
}

/// A few puts a minute, each of its own time, and every session extended: more hints come due than
/// are put, one to a slot.
#[test]
fn rare_puts_keep_up_with_what_is_due() {
    let (cache, web, clock) = one_shard(10_000);
    for number in 0..5_000 {
        assert!(web.put_with(&id(number), number, SECOND * 60).is_stored());
        clock.advance(SECOND * 3);
        if number >= 10 {
            assert!(web.extend(&id(number - 10), SECOND * 61), "after 30 seconds");
        }
    }
    assert!(cache.len() <= 60, "{} sessions, of which 30 are not expired", cache.len());
}
