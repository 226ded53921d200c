//! Statistics: striped counters, and what the cache remembers of sessions that have left.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use crate::reclaim::prefetch::prefetch_to_write;
use crate::sync::tally::AtomicU64;
use crate::sync::{Ordering, Striped};

/// A snapshot of a cache's counters.
///
/// The numbers are read one after another, and most are sums of several words. One that only goes up is no less
/// than it was when the call began, and no more than when it ended. One that goes up and down (`sessions`, `bytes`,
/// `held_sessions`, `held_bytes`, `headers_waiting`, `hints`, `callbacks_waiting`) is exact when the cache is at rest;
/// meanwhile it may be off by the operations in flight. `puts` is `sessions` and the sum of `removals`, by its
/// definition.
///
/// # What to watch
///
/// * *The share that is found*: `hits + takes` of `hits + takes + misses()`; what a get callback gave is in `get_answered`.
/// * *A cache that is too small*: `removals.evicted` grows, and `mean_age_at_eviction` is well below the lifetime.
/// * *A cache that refuses*: `refused` grows. The reason is in the [`Put`](crate::Put), which an adapter keeps to itself;
///   `headers_waiting` and `callbacks_waiting` near their limits
///   ([`max_waiting_headers`](crate::Builder::max_waiting_headers), [`max_waiting_callbacks`](crate::Builder::max_waiting_callbacks))
///   are two of them.
/// * *An external cache that lags or fails*: `get_timed_out`, `callbacks_panicked`.
/// * *Handles that nobody drops*: `held_sessions` grows.
///
/// There are no counts for each scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions in the cache.
    pub sessions: u64,
    /// Bytes of the sessions in the cache: payload weights, and [`OVERHEAD`](crate::SessionCache::OVERHEAD)
    /// each.
    pub bytes: u64,
    /// The limit on sessions; `None` when there is none.
    pub max_sessions: Option<u64>,
    /// The limit on bytes; `None` when there is none.
    pub max_bytes: Option<u64>,
    /// Puts that stored, those that replaced a session included, and answers of the get callback that were
    /// stored: their sessions are there, or have left. The sum of both, and not counted by itself: it may be
    /// off, and go back, by what leaves during the call.
    pub puts: u64,
    /// Puts that replaced a live session of the same id.
    pub replaced: u64,
    /// Puts that were refused, for whatever reason.
    pub refused: u64,
    /// Puts that were handed to the new-session callback and not stored, as the mode says.
    pub handed_over: u64,
    /// Gets that found a session in the cache. What the get callback gave is counted in `get_answered`
    /// instead, once for all gets that share an answer.
    pub hits: u64,
    /// Sessions that takes have removed from the cache; also those that a take removes for nobody, where the
    /// [mode](crate::CacheMode) says that it does not look inside. For others see `hits`.
    pub takes: u64,
    /// Gets and takes of an id that the cache does not hold.
    pub misses_unknown: u64,
    /// Gets and takes that found an expired session.
    pub misses_expired: u64,
    /// Lookups of what cannot be a session id here, and was not looked up.
    pub misses_malformed: u64,
    /// Of `misses_unknown`, those whose session is known to have been taken before. At the least: the cache remembers one
    /// fingerprint in each of as many places as it holds sessions, 16 384 at most, and the next one in a place replaces the
    /// last. In a large or busy cache that reaches a few seconds back. Fewer than 0.1 % are false.
    pub approx_misses_taken_before: u64,
    /// In the same way: those whose session is known to have been evicted before. Zero does not mean that nothing was evicted
    /// too soon: `mean_age_at_eviction` tells.
    pub approx_misses_evicted_before: u64,
    /// Sessions that have left the cache, by reason.
    pub removals: Removals,
    /// Sessions that are not in the cache and that handles still hold, or calls that wait.
    pub held_sessions: u64,
    /// Their bytes, counted as in `bytes`.
    pub held_bytes: u64,
    /// Blocks of memory that wait for the epoch: headers of sessions, whose payloads are gone, or wiped
    /// and in one block with them, and segments of the queues of hints. Of [`SecretBytes`](crate::SecretBytes) of up to 936 bytes,
    /// up to 64 that each thread has removed last are not in it yet; of other payloads up to 64 of each thread stay in it,
    /// though nobody keeps them, until it removes more.
    pub headers_waiting: u64,
    /// Bytes that headers of large caches have in a region on huge pages, but for those that are in one
    /// block with [`SecretBytes`](crate::SecretBytes). All caches of the process
    /// share it; what was ever used stays, for the sessions to come.
    pub region_bytes: u64,
    /// Hints in the timer wheels, stale ones included.
    pub hints: u64,
    /// Calls of callbacks that wait to be made. Where no remove callback is set, a session that has left before the new-session
    /// callback was told of it counts twice, now and then three times; so it does for [`max_waiting_callbacks`](crate::Builder::max_waiting_callbacks).
    pub callbacks_waiting: u64,
    /// Calls of the new-session callback.
    pub new_called: u64,
    /// Calls of the remove callback.
    pub remove_called: u64,
    /// Calls of the get callback.
    pub get_called: u64,
    /// Calls of the get callback whose answer was handed out; or, where a session of the id was put meanwhile, that one.
    pub get_answered: u64,
    /// Lookups that did not wait for an answer of the get callback any longer.
    pub get_timed_out: u64,
    /// Calls of callbacks that panicked; polls and drops of what they have answered with, and drops of contexts that they
    /// were given, too. Not those of payloads, but in a callback's own hands.
    pub callbacks_panicked: u64,
    /// How long it was since sessions were put, or last extended or renewed, when they were evicted, on
    /// average: the effective lifetime of a cache that is too small. Up to a 32 768th of their lifetimes less than
    /// it was, 80 s for one of 30 days. `None` before the first eviction. It is the mean since the cache was made: with means m and
    /// evictions e at two looks, the time between has (m₂·e₂ - m₁·e₁) / (e₂ - e₁).
    pub mean_age_at_eviction: Option<Duration>,
}

/// Sessions that have left a cache, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removals {
    /// Their lifetime was over.
    pub expired: u64,
    /// They made room for others.
    pub evicted: u64,
    /// Another session was put under their id.
    pub replaced: u64,
    /// They were removed by id, or by a predicate.
    pub removed: u64,
    /// They were removed because a connection ended badly.
    pub faulty: u64,
    /// They were taken, to be used once.
    pub taken: u64,
    /// The cache was flushed.
    pub flushed: u64,
    /// Their scope was dropped.
    pub scope_dropped: u64,
    /// The new-session callback rejected them. And what a get callback gave that nobody was shown: a put replaced it first, or
    /// another session of its id was removed while it was asked for.
    pub rejected: u64,
    /// The cache was closed.
    pub closed: u64,
}

/// Why a session has left the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Its lifetime was over.
    Expired,
    /// It made room for another.
    Evicted,
    /// Another session was put under its id.
    Replaced,
    /// It was removed by id, or by a predicate.
    Removed,
    /// It was removed because a connection ended badly.
    Faulty,
    /// It was taken, to be used once.
    Taken,
    /// The cache was flushed.
    Flushed,
    /// Its scope was dropped.
    ScopeDropped,
    /// The new-session callback rejected it. Or a get callback gave it and nobody was shown it: a put replaced it first, or
    /// another session of its id was removed while it was asked for.
    Rejected,
    /// The cache was closed.
    Closed,
}

impl Reason {
    const ALL: [Self; REASONS] = [
        Self::Expired,
        Self::Evicted,
        Self::Replaced,
        Self::Removed,
        Self::Faulty,
        Self::Taken,
        Self::Flushed,
        Self::ScopeDropped,
        Self::Rejected,
        Self::Closed,
    ];

    /// Whether the session is to be no more, wherever it is.
    pub(crate) fn is_removal(self) -> bool {
        matches!(self, Self::Removed | Self::Faulty)
    }

    /// A number below 15, which is [`COMING`](crate::table::COMING)'s.
    #[inline]
    pub(crate) fn to_code(self) -> u8 {
        self as u8
    }

    /// The reason of a number that [`to_code`](Self::to_code) gave.
    pub(crate) fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Removed)
    }
}

impl Stats {
    /// All lookups of what the cache does not hold. [`get_answered`](Self::get_answered) of them were given a session by the
    /// get callback, and more where several gets have shared an answer. With the
    /// [mode](crate::CacheMode::NO_INTERNAL_LOOKUP) that asks at once no lookup of an id is a miss, and what is given
    /// counts in `get_answered` nevertheless. A lookup that missed, and then found what had come before it asked, or what another
    /// one's asking has stored, stays a miss, and is no hit.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses_unknown + self.misses_expired + self.misses_malformed
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Faulty => "faulty",
            Self::Taken => "taken",
            Self::Flushed => "flushed",
            Self::ScopeDropped => "scope dropped",
            Self::Rejected => "rejected",
            Self::Closed => "closed",
        })
    }
}

impl Removals {
    /// Those that have left for a reason.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Expired => self.expired,
            Reason::Evicted => self.evicted,
            Reason::Replaced => self.replaced,
            Reason::Removed => self.removed,
            Reason::Faulty => self.faulty,
            Reason::Taken => self.taken,
            Reason::Flushed => self.flushed,
            Reason::ScopeDropped => self.scope_dropped,
            Reason::Rejected => self.rejected,
            Reason::Closed => self.closed,
        }
    }

    /// Every reason, and those that have left for it.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.get(reason)))
    }

    /// All sessions that have left.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }
}

/// What is counted, but for removals.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Count {
    Refused,
    HandedOver,
    Hits,
    MissesUnknown,
    MissesExpired,
    MissesMalformed,
    TakenBefore,
    EvictedBefore,
    NewCalled,
    RemoveCalled,
    GetCalled,
    GetAnswered,
    GetTimedOut,
    CallbacksPanicked,
    AgesAtEviction,
}

const COUNTS: usize = Count::AgesAtEviction as usize + 1;
const REASONS: usize = Reason::Closed as usize + 1;

/// The counters. Each access is Relaxed: counts order no memory.
#[derive(Debug)]
pub(crate) struct Counters(Striped<Stripe>);

#[derive(Debug, Default)]
struct Stripe {
    counts: [AtomicU64; COUNTS],
    removals: [AtomicU64; REASONS],
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self(Striped::new())
    }

    #[inline]
    pub(crate) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    #[inline]
    pub(crate) fn add(&self, what: Count, amount: u64) {
        self.0.mine().counts[what as usize].fetch_add(amount, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn removal(&self, reason: Reason, count: u64) {
        self.0.mine().removals[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    fn sum(&self, what: Count) -> u64 {
        self.0.iter().map(|s| s.counts[what as usize].load(Ordering::Relaxed)).sum()
    }

    fn removals(&self, reason: Reason) -> u64 {
        self.0.iter().map(|s| s.removals[reason as usize].load(Ordering::Relaxed)).sum()
    }

    /// The part of [`Stats`] that these counters know.
    pub(crate) fn snapshot(&self) -> Stats {
        let removals = Removals {
            expired: self.removals(Reason::Expired),
            evicted: self.removals(Reason::Evicted),
            replaced: self.removals(Reason::Replaced),
            removed: self.removals(Reason::Removed),
            faulty: self.removals(Reason::Faulty),
            taken: self.removals(Reason::Taken),
            flushed: self.removals(Reason::Flushed),
            scope_dropped: self.removals(Reason::ScopeDropped),
            rejected: self.removals(Reason::Rejected),
            closed: self.removals(Reason::Closed),
        };
        let mean_age = self.sum(Count::AgesAtEviction).checked_div(removals.evicted);
        Stats {
            replaced: removals.replaced,
            refused: self.sum(Count::Refused),
            handed_over: self.sum(Count::HandedOver),
            hits: self.sum(Count::Hits),
            takes: removals.taken,
            misses_unknown: self.sum(Count::MissesUnknown),
            misses_expired: self.sum(Count::MissesExpired),
            misses_malformed: self.sum(Count::MissesMalformed),
            approx_misses_taken_before: self.sum(Count::TakenBefore),
            approx_misses_evicted_before: self.sum(Count::EvictedBefore),
            removals,
            new_called: self.sum(Count::NewCalled),
            remove_called: self.sum(Count::RemoveCalled),
            get_called: self.sum(Count::GetCalled),
            get_answered: self.sum(Count::GetAnswered),
            get_timed_out: self.sum(Count::GetTimedOut),
            callbacks_panicked: self.sum(Count::CallbacksPanicked),
            mean_age_at_eviction: mean_age.map(Duration::from_millis),
            ..Stats::default()
        }
    }
}

/// Fingerprints of sessions that were taken or evicted lately.
///
/// One word for each place: the session's hash without its two lowest bits, which tell the kind. A
/// hash chooses its place; a later one there replaces it. 62 bits agree by chance once in 2⁶² looks.
#[derive(Debug)]
pub(crate) struct Past(Box<[AtomicU64]>);

const TAKEN: u64 = 1;
const EVICTED: u64 = 2;

impl Past {
    /// A memory of about `sessions`, 128 KiB at most.
    pub(crate) fn new(sessions: u64) -> Self {
        const MOST: u64 = if cfg!(loom) { 1 } else { 16_384 };
        let places = sessions.clamp(1, MOST).next_power_of_two();
        Self((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes that the session of `hash` has left.
    #[inline]
    pub(crate) fn note(&self, hash: u64, reason: Reason) {
        let kind = match reason {
            Reason::Taken => TAKEN,
            Reason::Evicted => EVICTED,
            _ => return,
        };
        // Relaxed: a memory that may forget.
        self.place(hash).store(hash & !3 | kind, Ordering::Relaxed);
    }

    /// Asks the processor for what [`note`](Self::note) writes.
    #[inline]
    pub(crate) fn ask(&self, hash: u64) {
        prefetch_to_write(self.place(hash));
    }

    /// What became of the session of `hash`, as far as is remembered.
    #[inline]
    pub(crate) fn recall(&self, hash: u64) -> Option<Count> {
        // Relaxed: as in `note`.
        let word = self.place(hash).load(Ordering::Relaxed);
        if word & !3 != hash & !3 {
            return None;
        }
        match word & 3 {
            TAKEN => Some(Count::TakenBefore),
            EVICTED => Some(Count::EvictedBefore),
            _ => None,
        }
    }

    #[inline]
    fn place(&self, hash: u64) -> &AtomicU64 {
        // In a small cache, bits that choose neither the cell nor the shard.
        &self.0[(hash >> 20) as usize & (self.0.len() - 1)]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_code_gives_its_reason_back() {
        for reason in Reason::ALL {
            assert!(reason.to_code() < crate::table::COMING);
            assert_eq!(Reason::from_code(reason.to_code()), reason);
        }
    }

    #[test]
    fn each_reason_has_a_name_and_a_number_of_its_own() {
        let counters = Counters::new();
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            counters.removal(reason, 1 << at);
        }
        let removals = counters.snapshot().removals;
        for (at, (reason, count)) in removals.iter().enumerate() {
            assert_eq!((reason, count), (Reason::ALL[at], 1 << at));
            assert_eq!(removals.get(reason), count);
        }
        assert_eq!(removals.total(), (1 << REASONS) - 1);
        let names: std::collections::HashSet<_> = Reason::ALL.map(|r| r.to_string()).into();
        assert_eq!(names.len(), REASONS);
    }

    #[test]
    fn the_past_is_told_apart() {
        let past = Past::new(1000);
        let key = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        past.note(key(1), Reason::Taken);
        past.note(key(2), Reason::Evicted);
        past.note(key(3), Reason::Removed);
        assert!(matches!(past.recall(key(1)), Some(Count::TakenBefore)));
        assert!(matches!(past.recall(key(2)), Some(Count::EvictedBefore)));
        assert!(past.recall(key(3)).is_none());
        assert!(past.recall(0).is_none());
    }

    /// The bound that the documentation of [`Stats`] gives.
    #[test]
    fn false_reports_of_the_past_are_below_a_thousandth() {
        let past = Past::new(16_384);
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        for number in 0..100_000u64 {
            past.note(hasher.hash_one(number) | 1, Reason::Taken);
        }
        let strangers = 100_000..1_100_000u64;
        let told = strangers.filter(|n| past.recall(hasher.hash_one(n) | 1).is_some()).count();
        assert!(told < 1_000, "{told} of a million strangers were called taken");
        let known = (0..100_000u64).filter(|n| past.recall(hasher.hash_one(n) | 1).is_some());
        assert!(known.count() > 10_000, "the table remembers what it has room for");
    }
}
