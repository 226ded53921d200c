//! What holds at every instant, looked at from outside while everything else runs.

use std::sync::atomic::{AtomicU64, Ordering};

use resumption::{SessionCache, Stats};

use crate::payload::{Payload, Sample, Watch};
use crate::plan::SCOPES;

/// No limit.
pub(crate) const NONE: u64 = u64::MAX;

/// Stale hints that may be there beside twice the sessions: a slack for each shard, and what puts in
/// flight have counted.
const HINTS: u64 = 1_024;

/// Headers that may wait beyond the limit for each processor, as `Builder::max_waiting_headers` says.
const HEADERS: u64 = 32;

/// Events of a shard that are counted as served together, and that a shard may have told without a
/// call: one that comes twice.
const EVENTS: i64 = 2 * 16;

/// The limits of the moment. While they change the larger one of two holds.
#[derive(Debug)]
pub(crate) struct Limits {
    version: AtomicU64,
    sessions: AtomicU64,
    bytes: AtomicU64,
    /// The highest limit on sessions so far.
    highest: AtomicU64,
}

impl Limits {
    pub(crate) fn new(sessions: Option<u64>, bytes: Option<u64>) -> Self {
        let (sessions, bytes) = (sessions.unwrap_or(NONE), bytes.unwrap_or(NONE));
        Self {
            version: AtomicU64::new(0),
            sessions: AtomicU64::new(sessions),
            bytes: AtomicU64::new(bytes),
            highest: AtomicU64::new(sessions),
        }
    }

    /// Changes a limit by `set`; one thread does that.
    pub(crate) fn change(&self, of_bytes: bool, to: u64, set: impl FnOnce()) {
        let limit = if of_bytes { &self.bytes } else { &self.sessions };
        self.version.fetch_add(1, Ordering::SeqCst);
        limit.fetch_max(to, Ordering::SeqCst);
        if !of_bytes {
            self.highest.fetch_max(to, Ordering::SeqCst);
        }
        set();
        self.version.fetch_add(1, Ordering::SeqCst);
        limit.store(to, Ordering::SeqCst);
    }
}

/// Looks at live payloads once; `false` if a limit was changed meanwhile, and it tells nothing.
pub(crate) fn sample(watch: &Watch, limits: &Limits, cache: &SessionCache<Payload>) -> bool {
    let version = limits.version.load(Ordering::SeqCst);
    let sessions = limits.sessions.load(Ordering::SeqCst);
    let bytes = limits.bytes.load(Ordering::SeqCst);
    let calls_before = watch.plan.callbacks.map(|_| calls(&cache.stats()));
    let sample = watch.sample();
    // What waits to be told is beyond the limits: what waits now, and what was told meanwhile. In this order, for
    // what is told between the two looks is in both; the other way around it would be in neither.
    let waiting = calls_before.map_or(0, |before| {
        let waiting = cache.stats().callbacks_waiting as i64;
        waiting + calls(&cache.stats()) - before + EVENTS * 8
    });
    if limits.version.load(Ordering::SeqCst) != version {
        return false;
    }
    let Sample { alive, bytes: alive_bytes, outside } = sample;
    let beside = outside + waiting;
    let holds = |alive: i64, limit: u64, each: i64| {
        limit == NONE || alive <= (limit as i64).saturating_add(beside.saturating_mul(each))
    };
    let heaviest = crate::payload::charge(watch.plan.most_weight().max(crate::plan::MOST_WEIGHT));
    if !holds(alive, sessions, 1) {
        watch.ledger.fail(format!(
            "{alive} payloads are alive, {outside} of them outside and {waiting} waiting, at most, for a \
             limit of {sessions}"
        ));
    }
    if !holds(alive_bytes, bytes, heaviest) {
        watch.ledger.fail(format!(
            "{alive_bytes} bytes are alive, {outside} payloads outside and {waiting} waiting, at most, \
             for a limit of {bytes}"
        ));
    }
    true
}

fn calls(stats: &Stats) -> i64 {
    (stats.new_called + stats.remove_called) as i64
}

/// Looks at what waits for the epoch, and at hints. Sums over processors are no snapshots, and one that
/// is read while much changes may be too high; three in a row are not.
pub(crate) fn look_at_waste(watch: &Watch, limits: &Limits, cache: &SessionCache<Payload>) {
    let names = u64::from(watch.plan.keys * SCOPES);
    let most = limits.highest.load(Ordering::SeqCst).min(names);
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let headers = watch.plan.waiting_headers
        + HEADERS * processors.next_power_of_two()
        + watch.plan.callbacks.map_or(0, |plan| plan.waiting as u64 + most)
        + most
        + most * 16 / 60
        + HINTS;
    // Sessions that wait to be told leave their headers when they are.
    // Puts are refused for headers that wait; what a get callback gives, and what is told by its id
    // alone, is not.
    let is_bounded = watch.plan.asks.is_none() && !watch.plan.internal_modes;
    let is_over = |stats: &Stats| {
        is_bounded && stats.headers_waiting > headers || stats.hints > 3 * most + HINTS
    };
    let over: Vec<Stats> =
        (0..3).map(|_| cache.stats()).take_while(|stats| is_over(stats)).collect();
    if let [.., Stats { headers_waiting, hints, sessions, .. }] = over[..]
        && over.len() == 3
    {
        watch.ledger.fail(format!(
            "{headers_waiting} headers wait (at most {headers}), {hints} hints for {sessions} sessions \
             (at most {most})"
        ));
    }
}

/// Looks at everything while nobody does anything: what is counted is exact.
pub(crate) fn look_at_rest(watch: &Watch, cache: &SessionCache<Payload>) {
    let stats = cache.stats();
    let Sample { alive, outside, .. } = watch.sample();
    let (live, waiting) = (stats.sessions as i64, stats.callbacks_waiting as i64);
    let expect = |holds: bool, what: &str| {
        if !holds {
            watch
                .ledger
                .fail(format!("at rest: {what}; {alive} alive, {outside} outside, {stats:?}"));
        }
    };
    // Sessions that the get callback gave are among those that are in the cache, and not counted.
    expect(alive <= live + outside + waiting, "payloads are left over");
    expect(alive + watch.given() >= live, "payloads are missing");
    expect(stats.held_sessions as i64 <= outside + waiting, "handles are left over");
    expect(stats.hints <= 3 * stats.sessions + HINTS, "there are too many stale hints");
}
