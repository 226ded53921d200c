//! A plain model of what the cache promises, and the cache beside it.
//!
//! The model holds what a lookup has to find. What the cache may still count, because memory of
//! expired sessions comes back later, is known between two bounds, and exactly after a sweep.
//!
//! `tests/properties.rs` runs it over random operations, the fuzz target `operations` over those that
//! bytes stand for. Left out are the modes in which the cache stores nothing or is not looked at
//! (`tests/modes_store.rs`), and the get callback (`tests/get_callback.rs`).
#![allow(dead_code, reason = "each user of the model has a part of it")]

pub(crate) mod bytes;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use resumption::{
    CacheMode, Clock, Connection, Dispatch, Put, Refusal, Scope, Session, SessionCache, Sessions,
    Stats, Want,
};

use crate::support::{id, number};
use told::Told;

pub(crate) const IDS: u64 = 12;
pub(crate) const SCOPES: usize = 3;
/// The cache's lifetime.
const LIFETIME: Duration = Duration::from_secs(100);
/// The new callback rejects payloads of this weight.
pub(crate) const REJECTED: usize = 13;

/// A version, and as many bytes as it weighs.
type Payload = (u64, Vec<u8>);

/// An operation of one scope on one id, or of the cache.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Put(Key, usize),
    PutWith(Key, usize, Duration),
    PutIfAbsent(Key, usize),
    /// Of a client's connection, or a server's, with its lifetime or the cache's.
    PutFrom(Key, usize, bool, Option<Duration>),
    Get(Key),
    Take(Key),
    /// Polled once.
    Lookup(Key, bool),
    Remove(Key),
    RemoveFaulty(Key),
    Extend(Key, Duration),
    Advance(Duration),
    SetLifetime(Duration),
    SetMode(CacheMode),
    /// Of the limit that there is.
    SetLimit(usize),
    FlushExpired,
    Flush,
    /// Keeps the sessions whose number is not divided by this.
    Retain(u64),
    DropScope(usize),
}

/// A scope, and the number of an id.
pub(crate) type Key = (usize, u64);

/// What the cache has to hold.
struct Model {
    live: BTreeMap<Key, Live>,
    now: Duration,
    lifetime: Duration,
    mode: CacheMode,
    limit: Limit,
    is_told: bool,
    /// Sessions that are expired and that the cache may count still, at most.
    expired: u64,
    versions: u64,
    tally: Tally,
}

/// A session that a lookup has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Live {
    weight: usize,
    version: u64,
    /// When it expires; `None` is never.
    due: Option<Duration>,
    /// How long it lives from its last use on, where that counts.
    lifetime: Duration,
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
    cache: SessionCache<Payload>,
    scopes: Vec<Sessions<Payload>>,
    clock: Clock,
    /// When the clock began.
    beginning: Instant,
    told: Option<Arc<Mutex<Told>>>,
}

/// What bounds the cache of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    None,
    Sessions(usize),
    Bytes(usize),
}

/// Does the operations to a cache and to the model; panics where they differ. The cache has callbacks
/// that are called in this thread if it `is_told`.
pub(crate) fn run(limit: Limit, is_told: bool, operations: &[Operation]) {
    let subject = Subject::new(limit, is_told);
    let mut model = Model::new(limit, is_told);
    for operation in operations {
        let before = subject.cache.stats();
        let evicts = model.apply(operation, &subject);
        model.forget_evicted(&subject, &before, evicts);
        model.check(&subject);
    }
    let left = subject.cache.len() - model.live.len();
    assert_eq!(subject.cache.flush_expired(), left, "the rest was expired");
    model.expired = 0;
    model.check(&subject);
    subject.cache.close();
    model.live.clear();
    model.check(&subject);
}

impl Subject {
    fn new(limit: Limit, is_told: bool) -> Self {
        let clock = Clock::manual();
        let builder = SessionCache::builder()
            .lifetime(LIFETIME)
            .weigher(|payload: &Payload| payload.1.len())
            .clock(clock.clone())
            .dispatch(Dispatch::Inline)
            .without_ticker();
        let builder = match limit {
            Limit::None => builder.unlimited(),
            Limit::Sessions(most) => builder.max_sessions(most),
            Limit::Bytes(most) => builder.max_bytes(most),
        };
        let cache = builder.build().expect("sane settings");
        let scopes: Vec<_> = (0..SCOPES).map(|scope| cache.scope(&Self::scope(scope))).collect();
        let told = is_told.then(|| Told::of(&cache));
        let beginning = clock.instant();
        Self { cache, scopes, clock, beginning, told }
    }

    /// The name of a session of this scope.
    fn key(scope: &Scope, number: u64) -> Key {
        let is_it = |&at: &usize| Self::scope(at) == *scope;
        ((0..SCOPES).find(is_it).expect("there are no other scopes"), number)
    }

    fn scope(number: usize) -> Scope {
        Scope::new("scope").with("number", [number as u8])
    }

    fn charge(weight: usize) -> usize {
        weight + SessionCache::<Payload>::OVERHEAD
    }
}

impl Model {
    fn new(limit: Limit, is_told: bool) -> Self {
        Self {
            live: BTreeMap::new(),
            now: Duration::ZERO,
            lifetime: LIFETIME,
            mode: CacheMode::default(),
            limit,
            is_told,
            expired: 0,
            versions: 0,
            tally: Tally::default(),
        }
    }

    /// Does an operation to both; returns whether it may evict.
    fn apply(&mut self, operation: &Operation, subject: &Subject) -> bool {
        let Subject { cache, scopes, clock, .. } = subject;
        match *operation {
            Operation::Put(key, weight) => {
                let put = scopes[key.0].put(&id(key.1), self.payload(weight));
                return self.entered(key, weight, CacheMode::SERVER, self.lifetime, put);
            }
            Operation::PutWith(key, weight, lifetime) => {
                let put = scopes[key.0].put_with(&id(key.1), self.payload(weight), lifetime);
                return self.entered(key, weight, CacheMode::SERVER, lifetime, put);
            }
            Operation::PutFrom(key, weight, is_client, lifetime) => {
                return self.put_from(key, weight, is_client, lifetime, subject);
            }
            Operation::PutIfAbsent(key, weight) => return self.put_if_absent(key, weight, subject),
            Operation::Get(key) => self.got(key, scopes[key.0].get(&id(key.1)), subject),
            Operation::Take(key) => self.took(key, scopes[key.0].take(&id(key.1))),
            Operation::Lookup(key, takes) => {
                let want = if takes { Want::Take } else { Want::Get };
                let mut lookup = scopes[key.0].lookup(&id(key.1), want);
                let polled = Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop()));
                let Poll::Ready(found) = polled else { panic!("nobody is asked") };
                if takes { self.took(key, found) } else { self.got(key, found, subject) }
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
                self.live.entry(key).and_modify(|live| (live.due, live.lifetime) = (due, lifetime));
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
            Operation::SetMode(mode) => {
                assert_eq!(cache.set_mode(mode), self.mode);
                self.mode = mode;
            }
            Operation::SetLimit(most) => return self.set_limit(most, cache),
            _ => self.sweep(operation, subject),
        }
        false
    }

    fn got(&mut self, key: Key, found: Option<Session<Payload>>, subject: &Subject) {
        let due = found.as_ref().map(|session| session.expires_at() - subject.beginning);
        let expected = self.live.get(&key).copied();
        self.check_found(key, found, expected);
        let Some(live) = self.live.get_mut(&key) else {
            self.tally.misses += 1;
            return;
        };
        self.tally.hits += 1;
        // The lifetime counts from this use on; it is rounded.
        if let (Some(now_due), Some(before)) = (due, live.due)
            && self.mode.contains(CacheMode::UPDATE_TIME)
        {
            let lifetime = now_due.saturating_sub(self.now);
            let most = millis(live.lifetime);
            let least = most.saturating_sub(most / 32_768 + Duration::from_millis(1));
            let is_renewed = (least..=most).contains(&lifetime) || now_due == before;
            assert!(is_renewed, "{lifetime:?} of {most:?} from {:?} on", self.now);
            live.due = Some(now_due);
        }
    }

    fn took(&mut self, key: Key, found: Option<Session<Payload>>) {
        let expected = self.live.remove(&key);
        self.check_found(key, found, expected);
        *(if expected.is_some() { &mut self.tally.takes } else { &mut self.tally.misses }) += 1;
    }

    fn set_limit(&mut self, most: usize, cache: &SessionCache<Payload>) -> bool {
        match &mut self.limit {
            Limit::None => return false,
            Limit::Sessions(limit) => {
                *limit = most;
                cache.set_max_sessions(most);
            }
            Limit::Bytes(limit) => {
                *limit = most;
                cache.set_max_bytes(most);
            }
        }
        true
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

    fn put_from(
        &mut self,
        key: Key,
        weight: usize,
        is_client: bool,
        lifetime: Option<Duration>,
        subject: &Subject,
    ) -> bool {
        let payload = self.payload(weight);
        let (mut connection, side) = match is_client {
            true => (Connection::client(), CacheMode::CLIENT),
            false => (Connection::server(), CacheMode::SERVER),
        };
        connection = connection.context(payload.0);
        if let Some(lifetime) = lifetime {
            connection = connection.lifetime(lifetime);
        }
        let put = subject.scopes[key.0].put_from(&id(key.1), payload, connection);
        self.entered(key, weight, side, lifetime.unwrap_or(self.lifetime), put)
    }

    fn put_if_absent(&mut self, key: Key, weight: usize, subject: &Subject) -> bool {
        let put = subject.scopes[key.0].put_if_absent(&id(key.1), self.payload(weight));
        if let Put::Refused(Refusal::Present, back) = &put {
            assert_eq!(back.0, self.versions);
            assert!(self.live.contains_key(&key), "there is none");
            self.tally.refused += 1;
            return false;
        }
        assert!(!matches!(put, Put::Replaced(_)), "there is one: {put:?}");
        self.entered(key, weight, CacheMode::SERVER, self.lifetime, put)
    }

    /// Notes what a put has come to; returns whether it may have evicted.
    fn entered(
        &mut self,
        key: Key,
        weight: usize,
        side: CacheMode,
        lifetime: Duration,
        put: Put<Payload>,
    ) -> bool {
        let old = self.live.get(&key).copied();
        match put {
            Put::Refused(why, back) => {
                assert_eq!((back.0, back.1.len()), (self.versions, weight));
                assert_eq!(Some(why), self.refusal(weight, side));
                self.tally.refused += 1;
                return false;
            }
            Put::Stored => assert!(old.is_none(), "there was one"),
            Put::Replaced(session) => {
                self.check_found(key, Some(session), old);
                self.tally.replaced += 1;
            }
        }
        assert_eq!(self.refusal(weight, side), None);
        self.tally.puts += 1;
        if self.is_told && weight == REJECTED {
            self.live.remove(&key);
        } else {
            let due = self.due(lifetime);
            self.live.insert(key, Live { weight, version: self.versions, due, lifetime });
        }
        self.expire();
        old.is_none() || matches!(self.limit, Limit::Bytes(_))
    }

    /// Why a put of this weight has to be refused.
    fn refusal(&self, weight: usize, side: CacheMode) -> Option<Refusal> {
        match self.limit {
            _ if !self.mode.contains(side) => Some(Refusal::SideNotCached),
            Limit::Bytes(most) if Subject::charge(weight) > most => Some(Refusal::TooLarge),
            Limit::Sessions(0) => Some(Refusal::Full),
            _ => None,
        }
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
        (due < END_OF_TIME).then(|| Duration::from_millis(due as u64))
    }

    /// Forgets what is expired; the cache may count it still.
    fn expire(&mut self) {
        let before = self.live.len();
        self.live.retain(|_, session| session.due.is_none_or(|due| due > self.now));
        self.expired += (before - self.live.len()) as u64;
    }

    fn check_found(&self, key: Key, found: Option<Session<Payload>>, expected: Option<Live>) {
        let found = found.map(|session| {
            assert_eq!(session.id(), id(key.1));
            (session.payload().1.len(), session.payload().0)
        });
        assert_eq!(found, expected.map(|live| (live.weight, live.version)));
    }

    /// Forgets what was evicted: that only, only when there was no room, and no more than needed.
    fn forget_evicted(&mut self, subject: &Subject, before: &Stats, evicts: bool) {
        let newest = self.versions;
        let limits = subject.cache.stats();
        let is_lowered =
            (limits.max_sessions, limits.max_bytes) != (before.max_sessions, before.max_bytes);
        let is_there = |key: &Key| subject.scopes[key.0].contains(&id(key.1));
        let live = self.live.len();
        self.live.retain(|key, session| {
            assert!(
                is_there(key) || session.version != newest || is_lowered,
                "what was just put is not evicted"
            );
            is_there(key)
        });
        let evicted = live - self.live.len();
        let now = subject.cache.stats();
        let counted = (now.removals.evicted - before.removals.evicted) as usize;
        // Also where a put needs more bytes than the session has whose place it takes: that one is spared.
        assert_eq!(counted, evicted);
        match self.limit {
            Limit::None => assert_eq!(counted, 0),
            Limit::Sessions(most) if is_lowered => {
                assert!(evicted <= (before.sessions as usize).saturating_sub(most));
            }
            Limit::Sessions(most) => {
                assert!(evicted == 0 || evicts && before.sessions as usize == most && evicted == 1);
            }
            Limit::Bytes(_) => assert!(counted == 0 || evicts),
        }
    }

    /// The cache is as the model is.
    fn check(&self, subject: &Subject) {
        let stats = subject.cache.stats();
        let met: BTreeSet<_> = subject.cache.iter().map(|session| session.payload().0).collect();
        assert_eq!(met, self.live.values().map(|session| session.version).collect());
        for key in (0..SCOPES).flat_map(|scope| (0..IDS).map(move |number| (scope, number))) {
            let is_there = subject.scopes[key.0].contains(&id(key.1));
            assert_eq!(is_there, self.live.contains_key(&key), "{key:?}");
        }
        let live = self.live.len() as u64;
        let bytes: usize = self.live.values().map(|session| Subject::charge(session.weight)).sum();
        assert!((live..=live + self.expired).contains(&stats.sessions), "{live}: {stats:?}");
        assert!(bytes as u64 <= stats.bytes);
        assert!(stats.sessions != live || bytes as u64 == stats.bytes, "{bytes}: {stats:?}");
        assert_eq!(
            (subject.cache.len(), subject.cache.bytes() as u64),
            (stats.sessions as usize, stats.bytes)
        );
        match self.limit {
            Limit::None => assert_eq!((stats.max_sessions, stats.max_bytes), (None, None)),
            Limit::Sessions(most) => assert!(stats.sessions as usize <= most),
            Limit::Bytes(most) => assert!(stats.bytes as usize <= most),
        }
        self.check_counts(&stats);
        if let Some(told) = &subject.told {
            assert_eq!((stats.callbacks_waiting, stats.callbacks_panicked), (0, 0));
            told.lock().expect("nothing panics under it").check(stats.puts, &stats.removals);
        }
    }

    fn check_counts(&self, stats: &Stats) {
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

/// A duration in whole milliseconds.
fn millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
