//! The cache against a plain model of what it promises, over random operations and a driven clock.
//!
//! The model holds what a lookup has to find. What the cache may still count, because memory of
//! expired sessions comes back later, is known between two bounds, and exactly after a sweep.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use resumption::{Clock, Put, Refusal, Scope, Session, SessionCache, Sessions, Stats};

use support::{HOUR, MINUTE, SECOND, id, number};

const IDS: u64 = 12;
const SCOPES: usize = 3;
/// The cache's lifetime.
const LIFETIME: Duration = Duration::from_secs(100);

/// An operation of one scope on one id, or of the cache.
#[derive(Clone, Debug)]
enum Operation {
    Put(Key, usize),
    PutWith(Key, usize, Duration),
    PutIfAbsent(Key, usize),
    Get(Key),
    Take(Key),
    Remove(Key),
    RemoveFaulty(Key),
    Extend(Key, Duration),
    Advance(Duration),
    SetLifetime(Duration),
    FlushExpired,
    Flush,
    /// Keeps the sessions whose number is not divided by this.
    Retain(u64),
    DropScope(usize),
}

/// A scope, and the number of an id.
type Key = (usize, u64);

/// What the cache has to hold.
struct Model {
    /// Weight, version, and when it expires; `None` is never.
    live: BTreeMap<Key, (usize, u64, Option<Duration>)>,
    now: Duration,
    lifetime: Duration,
    /// Sessions that are expired and that the cache may count still, at most.
    expired: u64,
    versions: u64,
    tally: Tally,
}

/// What the statistics have to say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    puts: u64,
    replaced: u64,
    refused: u64,
    hits: u64,
    takes: u64,
    misses: u64,
    removed: u64,
    faulty: u64,
}

/// The cache, and how it is reached.
struct Subject {
    cache: SessionCache<(u64, Vec<u8>)>,
    scopes: Vec<Sessions<(u64, Vec<u8>)>>,
    clock: Clock,
}

fn key() -> impl Strategy<Value = Key> {
    (0..SCOPES, 0..IDS)
}

fn weight() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1usize..200, Just(5_000)]
}

fn lifetime() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        2 => Just(Duration::from_millis(1)),
        1 => Just(Duration::from_micros(999)),
        4 => (1u64..100_000).prop_map(Duration::from_millis),
        2 => (1u32..10_000).prop_map(|hours| HOUR * hours),
        1 => Just(Duration::MAX),
        1 => Just(HOUR * 24 * 365 * 140),
    ]
}

fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        2 => Just(Duration::from_millis(1)),
        4 => (0u64..60_000).prop_map(Duration::from_millis),
        2 => (1u32..100).prop_map(|minutes| MINUTE * minutes),
        1 => Just(HOUR * 24 * 30),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (key(), weight()).prop_map(|(key, weight)| Operation::Put(key, weight)),
        8 => (key(), weight(), lifetime()).prop_map(|(key, w, l)| Operation::PutWith(key, w, l)),
        4 => (key(), weight()).prop_map(|(key, weight)| Operation::PutIfAbsent(key, weight)),
        8 => key().prop_map(Operation::Get),
        6 => key().prop_map(Operation::Take),
        2 => key().prop_map(Operation::Remove),
        1 => key().prop_map(Operation::RemoveFaulty),
        6 => (key(), lifetime()).prop_map(|(key, lifetime)| Operation::Extend(key, lifetime)),
        6 => pause().prop_map(Operation::Advance),
        1 => lifetime().prop_map(Operation::SetLifetime),
        1 => Just(Operation::FlushExpired),
        1 => Just(Operation::Flush),
        1 => (2u64..5).prop_map(Operation::Retain),
        1 => (0..SCOPES).prop_map(Operation::DropScope),
    ]
}

/// What bounds the cache of a run.
#[derive(Clone, Copy, Debug)]
enum Limit {
    None,
    Sessions(usize),
    Bytes(usize),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn an_unlimited_cache_is_the_model(operations in vec(operation(), 0..200)) {
        run(Limit::None, &operations);
    }

    #[test]
    fn a_cache_of_few_sessions_is_the_model_less_what_was_evicted(
        operations in vec(operation(), 0..200),
        most in 1usize..8,
    ) {
        run(Limit::Sessions(most), &operations);
    }

    #[test]
    fn a_cache_of_few_bytes_is_the_model_less_what_was_evicted(
        operations in vec(operation(), 0..200),
        most in 1_000usize..6_000,
    ) {
        run(Limit::Bytes(most), &operations);
    }
}

fn run(limit: Limit, operations: &[Operation]) {
    let subject = Subject::new(limit);
    let mut model = Model::new();
    for operation in operations {
        let before = subject.cache.stats();
        let evicts = model.apply(operation, &subject, limit);
        model.forget_evicted(&subject, limit, &before, evicts);
        model.check(&subject, limit);
    }
    let left = subject.cache.len() - model.live.len();
    assert_eq!(subject.cache.flush_expired(), left, "the rest was expired");
    model.expired = 0;
    model.check(&subject, limit);
}

impl Subject {
    fn new(limit: Limit) -> Self {
        let clock = Clock::manual();
        let builder = SessionCache::builder()
            .lifetime(LIFETIME)
            .weigher(|payload: &(u64, Vec<u8>)| payload.1.len())
            .clock(clock.clone())
            .without_ticker();
        let builder = match limit {
            Limit::None => builder.unlimited(),
            Limit::Sessions(most) => builder.max_sessions(most),
            Limit::Bytes(most) => builder.max_bytes(most),
        };
        let cache = builder.build().expect("sane settings");
        let scopes = (0..SCOPES).map(|scope| cache.scope(&Self::scope(scope))).collect();
        Self { cache, scopes, clock }
    }

    fn scope(number: usize) -> Scope {
        Scope::new("scope").with("number", [number as u8])
    }

    fn charge(weight: usize) -> usize {
        weight + SessionCache::<(u64, Vec<u8>)>::OVERHEAD
    }
}

impl Model {
    fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            now: Duration::ZERO,
            lifetime: LIFETIME,
            expired: 0,
            versions: 0,
            tally: Tally::default(),
        }
    }

    /// Does an operation to both; returns whether it may evict.
    fn apply(&mut self, operation: &Operation, subject: &Subject, limit: Limit) -> bool {
        let Subject { cache, scopes, clock } = subject;
        match *operation {
            Operation::Put(key, weight) => return self.put(key, weight, None, subject, limit),
            Operation::PutWith(key, weight, lifetime) => {
                return self.put(key, weight, Some(lifetime), subject, limit);
            }
            Operation::PutIfAbsent(key, weight) => {
                return self.put_if_absent(key, weight, subject, limit);
            }
            Operation::Get(key) => {
                let found = scopes[key.0].get(&id(key.1));
                let expected = self.live.get(&key).copied();
                self.check_found(key, found, expected);
                *(if expected.is_some() {
                    &mut self.tally.hits
                } else {
                    &mut self.tally.misses
                }) += 1;
            }
            Operation::Take(key) => {
                let found = scopes[key.0].take(&id(key.1));
                let expected = self.live.remove(&key);
                self.check_found(key, found, expected);
                *(if expected.is_some() {
                    &mut self.tally.takes
                } else {
                    &mut self.tally.misses
                }) += 1;
            }
            Operation::Remove(key) => {
                let is_removed = scopes[key.0].remove(&id(key.1));
                assert_eq!(is_removed, self.live.remove(&key).is_some());
                self.tally.removed += u64::from(is_removed);
            }
            Operation::RemoveFaulty(key) => {
                let is_removed = scopes[key.0].remove_faulty(&id(key.1));
                assert_eq!(is_removed, self.live.remove(&key).is_some());
                self.tally.faulty += u64::from(is_removed);
            }
            Operation::Extend(key, lifetime) => {
                let due = self.due(lifetime);
                let is_extended = scopes[key.0].extend(&id(key.1), lifetime);
                assert_eq!(is_extended, self.live.contains_key(&key));
                self.live.entry(key).and_modify(|session| session.2 = due);
                self.expire();
            }
            Operation::Advance(by) => {
                clock.advance(by);
                self.now += by;
                self.expire();
            }
            Operation::SetLifetime(lifetime) => {
                cache.set_lifetime(lifetime);
                self.lifetime = lifetime;
            }
            _ => self.sweep(operation, subject),
        }
        false
    }

    fn sweep(&mut self, operation: &Operation, subject: &Subject) {
        let cache = &subject.cache;
        let before = cache.len();
        match *operation {
            Operation::FlushExpired => {
                assert_eq!(cache.flush_expired(), before - self.live.len());
                self.expired = 0;
            }
            Operation::Flush => {
                assert_eq!(cache.flush(), before);
                self.live.clear();
                self.expired = 0;
            }
            Operation::Retain(divisor) => {
                let live = self.live.len();
                self.live.retain(|key, _| !key.1.is_multiple_of(divisor));
                let removed = cache.retain(|session| !number(session.id()).is_multiple_of(divisor));
                assert_eq!(removed, live - self.live.len());
                self.tally.removed += removed as u64;
            }
            Operation::DropScope(scope) => {
                let live = self.live.len();
                self.live.retain(|key, _| key.0 != scope);
                let dropped = cache.drop_scope(&Subject::scope(scope));
                let (least, most) = (live - self.live.len(), before - self.live.len());
                assert!((least..=most).contains(&dropped), "{dropped} were dropped");
            }
            ref other => unreachable!("{other:?}"),
        }
    }

    fn put(
        &mut self,
        key: Key,
        weight: usize,
        lifetime: Option<Duration>,
        subject: &Subject,
        limit: Limit,
    ) -> bool {
        let (scope, payload) = (&subject.scopes[key.0], self.payload(weight));
        let put = match lifetime {
            Some(lifetime) => scope.put_with(&id(key.1), payload, lifetime),
            None => scope.put(&id(key.1), payload),
        };
        let due = self.due(lifetime.unwrap_or(self.lifetime));
        self.entered(key, weight, due, put, limit)
    }

    fn put_if_absent(&mut self, key: Key, weight: usize, subject: &Subject, limit: Limit) -> bool {
        let put = subject.scopes[key.0].put_if_absent(&id(key.1), self.payload(weight));
        if let Put::Refused(Refusal::Present, back) = &put {
            assert_eq!(back.0, self.versions);
            assert!(self.live.contains_key(&key), "there is none");
            self.tally.refused += 1;
            return false;
        }
        assert!(!matches!(put, Put::Replaced(_)), "there is one: {put:?}");
        self.entered(key, weight, self.due(self.lifetime), put, limit)
    }

    /// Notes what a put has come to; returns whether it may have evicted.
    fn entered(
        &mut self,
        key: Key,
        weight: usize,
        due: Option<Duration>,
        put: Put<(u64, Vec<u8>)>,
        limit: Limit,
    ) -> bool {
        let old = self.live.get(&key).copied();
        match put {
            Put::Stored => {
                // A put of more bytes may have evicted the session that it would have replaced.
                assert!(old.is_none() || matches!(limit, Limit::Bytes(_)), "there was one");
            }
            Put::Replaced(session) => {
                self.check_found(key, Some(session), old);
                self.tally.replaced += 1;
            }
            Put::Refused(Refusal::TooLarge, back) => {
                assert!(matches!(limit, Limit::Bytes(most) if Subject::charge(weight) > most));
                assert_eq!((back.0, back.1.len()), (self.versions, weight));
                self.tally.refused += 1;
                return false;
            }
            Put::Refused(why, _) => panic!("refused: {why}"),
        }
        self.tally.puts += 1;
        self.live.insert(key, (weight, self.versions, due));
        self.expire();
        old.is_none() || matches!(limit, Limit::Bytes(_))
    }

    fn payload(&mut self, weight: usize) -> (u64, Vec<u8>) {
        self.versions += 1;
        (self.versions, vec![0; weight])
    }

    /// When a session of this lifetime expires. The clock counts whole milliseconds, and 139 years
    /// of them.
    fn due(&self, lifetime: Duration) -> Option<Duration> {
        const END_OF_TIME: u128 = (1 << 42) - 1;
        let lifetime = lifetime.as_millis();
        let due = self.now.as_millis() + lifetime;
        // A manual clock begins at one second.
        (due + 1_000 < END_OF_TIME).then(|| Duration::from_millis(due as u64))
    }

    /// Forgets what is expired; the cache may count it still.
    fn expire(&mut self) {
        let before = self.live.len();
        self.live.retain(|_, session| session.2.is_none_or(|due| due > self.now));
        self.expired += (before - self.live.len()) as u64;
    }

    fn check_found(
        &self,
        key: Key,
        found: Option<Session<(u64, Vec<u8>)>>,
        expected: Option<(usize, u64, Option<Duration>)>,
    ) {
        let found = found.map(|session| {
            assert_eq!(session.id(), id(key.1));
            (session.payload().1.len(), session.payload().0)
        });
        assert_eq!(found, expected.map(|(weight, version, _)| (weight, version)));
    }

    /// Forgets what was evicted: that only, only when there was no room, and no more than needed.
    fn forget_evicted(&mut self, subject: &Subject, limit: Limit, before: &Stats, evicts: bool) {
        let newest = self.versions;
        let is_there = |key: &Key| subject.scopes[key.0].contains(&id(key.1));
        let live = self.live.len();
        self.live.retain(|key, session| {
            assert!(is_there(key) || session.1 != newest, "what was just put is not evicted");
            is_there(key)
        });
        let evicted = live - self.live.len();
        let now = subject.cache.stats();
        let counted = (now.removals.evicted - before.removals.evicted) as usize;
        match limit {
            Limit::None => assert_eq!(counted, 0),
            Limit::Sessions(most) => {
                assert_eq!(counted, evicted);
                assert!(evicted == 0 || evicts && before.sessions as usize == most && evicted == 1);
            }
            // The one that would have been replaced may be among those that were counted.
            Limit::Bytes(_) => {
                assert!((evicted..=evicted + 1).contains(&counted), "{evicted}: {counted}");
                assert!(counted == 0 || evicts);
            }
        }
    }

    /// The cache is as the model is.
    fn check(&self, subject: &Subject, limit: Limit) {
        let stats = subject.cache.stats();
        let met: BTreeSet<_> = subject.cache.iter().map(|session| session.payload().0).collect();
        assert_eq!(met, self.live.values().map(|session| session.1).collect());
        for key in (0..SCOPES).flat_map(|scope| (0..IDS).map(move |number| (scope, number))) {
            let is_there = subject.scopes[key.0].contains(&id(key.1));
            assert_eq!(is_there, self.live.contains_key(&key), "{key:?}");
        }
        let live = self.live.len() as u64;
        let bytes: usize = self.live.values().map(|session| Subject::charge(session.0)).sum();
        assert!((live..=live + self.expired).contains(&stats.sessions), "{live}: {stats:?}");
        assert!(bytes as u64 <= stats.bytes);
        assert!(stats.sessions != live || bytes as u64 == stats.bytes, "{bytes}: {stats:?}");
        assert_eq!(
            (subject.cache.len(), subject.cache.bytes() as u64),
            (stats.sessions as usize, stats.bytes)
        );
        match limit {
            Limit::None => assert_eq!((stats.max_sessions, stats.max_bytes), (None, None)),
            Limit::Sessions(most) => assert!(stats.sessions as usize <= most),
            Limit::Bytes(most) => assert!(stats.bytes as usize <= most),
        }
        self.check_counts(&stats);
    }

    fn check_counts(&self, stats: &Stats) {
        assert_eq!(stats.puts, stats.sessions + stats.removals.total());
        assert_eq!((stats.held_sessions, stats.held_bytes), (0, 0));
        let tally = Tally {
            puts: stats.puts,
            replaced: stats.replaced,
            refused: stats.refused,
            hits: stats.hits,
            takes: stats.takes,
            misses: stats.misses(),
            removed: stats.removals.removed,
            faulty: stats.removals.faulty,
        };
        assert_eq!(self.tally, tally);
        assert!(stats.hints <= 3 * stats.sessions + 1_024, "{stats:?}");
    }
}

/// A put, a get or a take in a full cache; by a class of lifetimes, or by how long ago it was put.
#[derive(Clone, Debug)]
enum Use {
    Put(usize),
    Get(u64),
    Take(u64),
}

/// The order of eviction: the earliest class, in it the oldest, and what was used is spared once.
#[derive(Default)]
struct Sieve {
    /// For each of two generations the sessions of each class, oldest first.
    lists: [[Vec<u64>; 5]; 2],
    fresh: usize,
    used: BTreeSet<u64>,
}

impl Sieve {
    fn evict(&mut self) -> u64 {
        loop {
            let fresh = &mut self.lists[self.fresh];
            let Some(class) = fresh.iter().position(|list| !list.is_empty()) else {
                self.fresh = 1 - self.fresh;
                continue;
            };
            let number = fresh[class].remove(0);
            if !self.used.remove(&number) {
                return number;
            }
            self.lists[1 - self.fresh][class].push(number);
        }
    }

    fn remove(&mut self, number: u64) -> bool {
        let mut lists = self.lists.iter_mut().flatten();
        let found = lists.find_map(|list| {
            let at = list.iter().position(|&other| other == number)?;
            Some(list.remove(at))
        });
        found.is_some()
    }
}

fn sieve_use() -> impl Strategy<Value = Use> {
    prop_oneof![
        4 => (0usize..5).prop_map(Use::Put),
        4 => (1u64..30).prop_map(Use::Get),
        1 => (1u64..30).prop_map(Use::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn eviction_keeps_its_order(uses in vec(sieve_use(), 0..200), most in 1usize..20) {
        // Fewer takes than make hints that are cleared up, which reorders the others.
        let (cache, web, _) = support::manual::<u64>(most, HOUR);
        let (mut sieve, mut newest, mut takes) = (Sieve::default(), 100, 0);
        for what in uses {
            match what {
                Use::Put(class) => {
                    newest += 1;
                    let evicted = (cache.len() == most).then(|| sieve.evict());
                    let lifetime = SECOND * 10u32.pow(class as u32 + 1);
                    prop_assert!(web.put_with(&id(newest), newest, lifetime).is_stored());
                    prop_assert!(evicted.is_none_or(|number| !web.contains(&id(number))));
                    sieve.lists[sieve.fresh][class].push(newest);
                }
                Use::Get(ago) => {
                    if web.get(&id(newest - ago)).is_some() {
                        sieve.used.insert(newest - ago);
                    }
                }
                Use::Take(ago) if takes < 60 => {
                    let is_taken = web.take(&id(newest - ago)).is_some();
                    prop_assert_eq!(is_taken, sieve.remove(newest - ago));
                    sieve.used.remove(&(newest - ago));
                    takes += 1;
                }
                Use::Take(_) => {}
            }
            let expected: BTreeSet<u64> = sieve.lists.iter().flatten().flatten().copied().collect();
            let there: BTreeSet<u64> = cache.iter().map(|session| *session.payload()).collect();
            prop_assert_eq!(there, expected);
        }
    }
}
