//! The engine: how a session enters, is found, and leaves.
//!
//! Every way out goes through [`Engine::account`], but for replacement ([`Engine::entered`]): they
//! count the removal and its reason, and make sure that the session's room is given back. No user
//! code (a weigher, a payload's drop) runs under a pin.
//!
//! # Consistency
//!
//! Whoever reports a session as expired has *decided* that first, by the exchange on its expiry's
//! word, of a session that was in the table still; so nobody extends what somebody was told is expired,
//! and a put that has replaced a live session is not seen as a miss.
//!
//! Puts, gets, takes, removals and extensions of one id are linearizable: each takes effect at one
//! step of the table (see there), or of the expiry's word. Counts and sweeps promise less, and say
//! what where they are offered.

#![forbid(unsafe_code)]

pub(crate) mod ask;
mod crowd;
pub(crate) mod deliver;
pub(crate) mod limits;
mod many;
mod modes;
mod outdated;
mod put;
mod settings;
pub(crate) mod sweep;

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;

use self::ask::Asked;
use self::limits::Limit;
use crate::callbacks::{Callbacks, Want};
use crate::clock::{Clock, millis};
use crate::dispatch::Dispatcher;
use crate::expiry::capacity::Account;
use crate::expiry::{Due, Extension, Hint, Standing};
use crate::flight::Orphans;
use crate::gate::Gate;
use crate::lane::Counts;
use crate::lanes::Lanes;
use crate::mode::CacheMode;
use crate::outcome::{Put, Refusal};
use crate::payload::{bytes_of, prefetch_payload, prefetch_to_drop};
use crate::reclaim::gauge::{Gauges, Lease};
use crate::reclaim::panics::Panics;
use crate::reclaim::{pin, region_bytes};
use crate::room::{Hand, Room, Tokens};
use crate::scope::{Entry as ScopeEntry, Registry};
use crate::session::Session;
use crate::settings::SettingsLock;
use crate::shard::{Departed, Shard, Shards, reason_of};
use crate::stats::{Count, Counters, Past, Reason, Stats};
use crate::sync::{AtomicU64, Ordering, planted};
use crate::table::{Found, Name, Node, SessionId, Spot, Table, Unlinked};

/// Hints that a put looks at when some are due.
const DUE_PER_PUT: usize = 4;

/// A payload's weight in bytes.
pub(crate) type Weigher<S> = Box<dyn Fn(&S) -> usize + Send + Sync>;

/// What a put does about a live session of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfPresent {
    Replace,
    Refuse,
}

/// Why a session was not found, or not removed.
enum Missing {
    Unknown,
    Expired,
    /// The mode is not to look.
    NotLookedFor,
}

/// The engine of one cache.
pub(crate) struct Engine<S: Send + Sync + 'static> {
    shards: Shards<S>,
    lanes: Lanes,
    room: Room,
    gate: Gate,
    counters: Counters,
    past: Past,
    hasher: RandomState,
    weigher: Option<Weigher<S>>,
    lifetime: AtomicU64,
    pub(crate) clock: Clock,
    pub(crate) callbacks: Callbacks<S>,
    pub(crate) dispatch: Dispatcher,
    pub(crate) scopes: Registry,
    pub(crate) lookup_timeout: Duration,
    orphans: Orphans<S>,
    settling: SettingsLock,
    /// Last: the shards' drops count on it.
    lease: Lease,
}

/// What an engine is made of.
pub(crate) struct Parts<S> {
    pub(crate) max_sessions: u64,
    pub(crate) max_bytes: u64,
    pub(crate) shards: usize,
    pub(crate) lanes: usize,
    pub(crate) max_waiting_headers: usize,
    pub(crate) lifetime: Duration,
    pub(crate) weigher: Option<Weigher<S>>,
    pub(crate) clock: Clock,
    pub(crate) hasher: RandomState,
    pub(crate) dispatch: Dispatcher,
    pub(crate) lookup_timeout: Duration,
    pub(crate) mode: CacheMode,
}

/// A session that has left: dropping it drops the payload, unless handles hold it, and then gives
/// its room back. In this order, also when the payload's drop panics.
struct Left<'a, S> {
    unlinked: Unlinked<S>,
    _refund: Hand<'a>,
}

impl<S: Send + Sync + 'static> Engine<S> {
    /// What a session is charged beyond its weight: its header, its share of cells and hints at
    /// their usual worst, and the allocator's rounding.
    pub(crate) const OVERHEAD: usize = Node::<S>::SIZE + 40;

    pub(crate) fn new(parts: Parts<S>) -> Self {
        // Initialises this process's collector before any lookup.
        drop(pin());
        let lease = Lease::new(parts.max_waiting_headers);
        lease.gauges().set_origin(parts.clock.origin());
        let now = parts.clock.now();
        let accounts = Account::of_lanes(parts.lanes);
        let engine = Self {
            shards: Shards::new(parts.shards, lease.gauges()),
            lanes: Lanes::new(now, &accounts, lease.gauges()),
            room: Room::new(parts.max_sessions, parts.max_bytes, &accounts),
            gate: Gate::new(),
            counters: Counters::new(),
            past: Past::new(parts.max_sessions),
            hasher: parts.hasher,
            weigher: parts.weigher,
            lifetime: AtomicU64::new(millis(parts.lifetime)),
            clock: parts.clock,
            callbacks: Callbacks::new(),
            dispatch: parts.dispatch,
            scopes: Registry::new(),
            lookup_timeout: parts.lookup_timeout,
            orphans: Orphans::new(),
            settling: SettingsLock::new(),
            lease,
        };
        engine.set_mode(parts.mode);
        engine
    }

    /// Finds a session, and notes that it was used; asks for it if it is not there.
    pub(crate) fn get(&self, scope: &Arc<ScopeEntry>, id: &SessionId) -> Option<Session<S>> {
        self.get_named(scope, &self.name(scope, id))
    }

    #[inline(always)]
    fn get_named(&self, scope: &Arc<ScopeEntry>, name: &Name) -> Option<Session<S>> {
        let too_early = planted!("asks-looked-at-before") && !self.asks(name);
        match self.counted_find(name) {
            // As of now: whoever is asked may have got the session since the lookup began.
            None if self.asks(name) && !too_early => self.ask_and_wait(scope, name, Want::Get),
            found => found,
        }
    }

    /// Removes a session and returns it; asks for it if it is not there. Exactly one of several takers
    /// gets it.
    pub(crate) fn take(&self, scope: &Arc<ScopeEntry>, id: &SessionId) -> Option<Session<S>> {
        let name = self.name(scope, id);
        match self.counted_take(&name) {
            None if self.asks(&name) => self.ask_and_wait(scope, &name, Want::Take),
            taken => taken,
        }
    }

    /// A get or a take that does not wait.
    pub(crate) fn lookup(&self, scope: &Arc<ScopeEntry>, id: &SessionId, want: Want) -> Asked<S> {
        let name = self.name(scope, id);
        let there = match want {
            Want::Get => self.counted_find(&name),
            Want::Take => self.counted_take(&name),
        };
        match there {
            None if self.asks(&name) => self.ask(scope, &name, want),
            there => Asked::Answered(there),
        }
    }

    #[inline]
    fn asks(&self, name: &Name) -> bool {
        self.shards[self.shard_of(name)].asks()
    }

    /// Finds a session, and counts a hit or a miss. Where there never was a callback, and the mode is the
    /// default one, it needs nothing but the table.
    #[inline(always)]
    fn counted_find(&self, name: &Name) -> Option<Session<S>> {
        let shard = &self.shards[self.shard_of(name)];
        let found = if shard.tells().is_plain() {
            self.find(shard, name)
        } else {
            self.find_by_settings(name)
        };
        match found {
            Ok(session) => {
                self.counters.count(Count::Hits);
                Some(session)
            }
            Err(missing) => {
                self.count_miss(name, missing);
                None
            }
        }
    }

    #[inline(never)]
    fn find_by_settings(&self, name: &Name) -> Result<Session<S>, Missing> {
        let shard = &self.shards[self.shard_of(name)];
        let tells = shard.tells();
        let found =
            if tells.is_unusual() { self.find_by_mode(name) } else { self.find(shard, name) };
        self.deliver_for_others(name, tells);
        found
    }

    /// [`find_and_take`](Self::find_and_take), counted as a take or a miss. What is told at the end may
    /// have been set since it began.
    #[inline(always)]
    fn counted_take(&self, name: &Name) -> Option<Session<S>> {
        let is_unusual = self.shards[self.shard_of(name)].tells().is_unusual();
        let taken = if is_unusual { self.take_by_mode(name) } else { self.find_and_take(name) };
        if !planted!("taken-untold") {
            self.deliver(self.shard_of(name));
        }
        taken.map_err(|missing| self.count_miss(name, missing)).ok()
    }

    /// Finds a session of the cache, and counts nothing. Inlined always: it is all of a lookup that
    /// hits.
    #[inline(always)]
    fn find(&self, shard: &Shard<S>, name: &Name) -> Result<Session<S>, Missing> {
        let table = &shard.table;
        let (spot, now) = self.fetch(table, name).ok_or(Missing::Unknown)?;
        loop {
            let guard = pin();
            let node = table.get(name, spot, &guard).ok_or(Missing::Unknown)?;
            if planted!("expired-undecided") && Due::load(node.node().expiry()).is_past(now) {
                return Err(Missing::Expired);
            }
            if Due::decide(node.node().expiry(), now) {
                if self.is_outrun(node) {
                    continue;
                }
                drop(guard);
                return Err(self.remove_expired(name, now));
            }
            // Fails only if the session was removed since it was found.
            if let Some(node_ref) = node.pinned().acquire(self.gauges()) {
                prefetch_payload(node_ref.payload());
                node.node().visit();
                drop(guard);
                return Ok(Session::new(node_ref));
            }
            // Or if it has all the references that it can have.
            if node.is_still_there() || planted!("miss-what-was-replaced") {
                return Err(Missing::Unknown);
            }
        }
    }

    /// Whether a session that was found, and then found expired, had left the table before: then another
    /// one may be in its place, and has to be looked for.
    #[cold]
    fn is_outrun(&self, node: Found<'_, S>) -> bool {
        !node.is_still_there() && !planted!("expired-though-replaced")
    }

    /// The spot of `name` and the time; `None` if nothing is there. What the search reads first is asked
    /// for, so that the wait for memory and the reading of the clock overlap.
    #[inline]
    fn fetch<'t>(&self, table: &'t Table<S>, name: &Name) -> Option<(Spot<'t>, u64)> {
        let spot = table.spot(name.hash);
        (!table.is_absent_at(&spot, name.hash)).then(|| (spot, self.clock.now()))
    }

    /// Whether a session is there; notes nothing.
    pub(crate) fn contains(&self, scope: &ScopeEntry, id: &SessionId) -> bool {
        let name = self.name(scope, id);
        let is_there = self.is_there(&name);
        self.deliver_for_others(&name, self.shards[self.shard_of(&name)].tells());
        is_there
    }

    /// Whether there is a live session of `name`.
    fn is_there(&self, name: &Name) -> bool {
        let table = &self.shards[self.shard_of(name)].table;
        let Some((spot, now)) = self.fetch(table, name) else { return false };
        loop {
            let guard = pin();
            let Some(node) = table.get(name, spot, &guard) else { return false };
            if !Due::decide(node.node().expiry(), now) {
                return true;
            }
            if !self.is_outrun(node) {
                return false;
            }
        }
    }

    /// Removes a session of the cache and returns it; counts no miss. Inlined always, as
    /// [`find`](Self::find).
    #[inline(always)]
    fn find_and_take(&self, name: &Name) -> Result<Session<S>, Missing> {
        let left = self.depart(name, Reason::Taken)?;
        self.past.note(name.hash, Reason::Taken);
        Ok(self.handle(left))
    }

    /// Removes a session by id; `false` when there was none that is not expired.
    pub(crate) fn remove_id(&self, scope: &ScopeEntry, id: &SessionId, reason: Reason) -> bool {
        let name = self.name(scope, id);
        let mut removed = self.remove(&name, reason);
        if let Err(Missing::Unknown) = removed {
            // Also if the drop of another payload ends what follows by a panic.
            let _delivery = self.delivery(self.shard_of(&name));
            if self.tell_gone(&name, reason) {
                // What was put before that is told may be of a newer slot.
                let is_old = planted!("gone-by-the-old-slot");
                let slot = if is_old { name.scope } else { scope.slot() };
                removed = self.remove(&Name { scope: slot, ..name }, reason);
            }
        }
        removed.is_ok()
    }

    /// Removes a session by name.
    fn remove(&self, name: &Name, reason: Reason) -> Result<(), Missing> {
        let removed = self.depart(name, reason).map(drop);
        self.shards[self.shard_of(name)].after_removal(name);
        if let Err(Missing::Unknown) = removed {
            // Whoever removes helps with the hints that others have left, also if nothing was there.
            self.compact_after();
        }
        self.deliver(self.shard_of(name));
        removed
    }

    /// A session has left, and its hint is stale.
    #[inline]
    fn compact_after(&self) {
        let own = self.lanes.mine();
        if self.lanes.lane(own).all().has_too_many_hints() {
            self.compact(own, self.clock.now());
        }
    }

    /// Lets a session expire `lifetime` from now.
    pub(crate) fn extend(&self, scope: &ScopeEntry, id: &SessionId, lifetime: Duration) -> bool {
        let name = self.name(scope, id);
        let at = self.shard_of(&name);
        let shard = &self.shards[at];
        let _delivery = self.delivery(at);
        let Some((spot, now)) = self.fetch(&shard.table, &name) else { return false };
        loop {
            let guard = pin();
            let Some(node) = shard.table.get(&name, spot, &guard) else { return false };
            match Due::extend(node.node().expiry(), now, millis(lifetime)) {
                // The hint that is there comes due too early, and is filed again then.
                Extension::Later => return true,
                Extension::Sooner => {
                    // A new stamp first, and then the time as it is now: of several extensions the hint
                    // that stays valid is the last one's, and it knows what all of them have set.
                    let due = || Due::load(node.node().expiry()).at();
                    let too_early = planted!("time-before-stamp").then(due);
                    let hint = Hint::new(node.node().hash(), node.pinned().renew_stamp());
                    let due = too_early.unwrap_or_else(due);
                    drop(guard);
                    let own = self.lanes.mine();
                    self.lanes.file(own, hint, due, now);
                    self.compact(own, now);
                    return true;
                }
                Extension::Expired if self.is_outrun(node) => {}
                Extension::Expired => {
                    drop(guard);
                    let _ = self.remove_expired(&name, now);
                    return false;
                }
            }
        }
    }

    /// Removes the live session of `name` for `reason`, or because it is expired. Inlined always: through memory, the
    /// result is read by other pieces than it was written by, and waits for each.
    #[inline(always)]
    fn depart(&self, name: &Name, reason: Reason) -> Result<Left<'_, S>, Missing> {
        let at = self.shard_of(name);
        let table = &self.shards[at].table;
        let (spot, now) = self.fetch(table, name).ok_or(Missing::Unknown)?;
        self.past.ask(name.hash);
        let own = self.lanes.mine();
        // The hint is going to be stale. First, while a panic of another payload's drop loses nothing.
        self.compact(own, now);
        loop {
            let guard = pin();
            let Some(node) = table.get(name, spot, &guard) else { return Err(Missing::Unknown) };
            // Before the removal, so that no extension comes after the session was found expired;
            // what the word says after the removal decides.
            let standing = Due::standing(node.node().expiry(), now);
            // What an external cache has given ends with what that has: see `tell_gone`.
            if standing == Standing::Unseen && !reason.is_removal() {
                return Err(Missing::Unknown);
            }
            let is_expired = standing == Standing::Expired;
            self.shards[at].before_removal(node.node());
            let told_as = if is_expired { Reason::Expired } else { reason };
            let tell = self.shards[at].tell(node.node(), told_as);
            // Fails only if another thread has removed or replaced it: then search again.
            let Some(unlinked) = table.remove(node, tell) else {
                if planted!("take-once-tried") {
                    return Err(Missing::Unknown);
                }
                continue;
            };
            prefetch_to_drop(unlinked.payload());
            let reason = reason_of(unlinked.node(), reason);
            drop(guard);
            let left = self.left(own, unlinked, reason);
            return if reason == Reason::Expired { Err(Missing::Expired) } else { Ok(left) };
        }
    }

    /// Removes the session of `name` if it is expired, as it was found to be. One that is not shown yet
    /// stays.
    #[cold]
    fn remove_expired(&self, name: &Name, now: u64) -> Missing {
        let at = self.shard_of(name);
        let table = &self.shards[at].table;
        let guard = pin();
        let Some(node) = table.get(name, table.spot(name.hash), &guard) else {
            return Missing::Expired;
        };
        match Due::standing(node.node().expiry(), now) {
            Standing::Live => return Missing::Expired,
            Standing::Unseen => return Missing::Unknown,
            Standing::Expired => {}
        }
        self.shards[at].before_removal(node.node());
        let tell = self.shards[at].tell(node.node(), Reason::Expired);
        let unlinked = table.remove(node, tell);
        drop(guard);
        let own = self.lanes.mine();
        drop(unlinked.map(|unlinked| self.left(own, unlinked, Reason::Expired)));
        self.compact(own, now);
        if !planted!("expired-untold") {
            // It may be told only since the lookup began.
            self.deliver(at);
        }
        Missing::Expired
    }

    /// Counts a lookup that found nothing.
    #[inline]
    fn count_miss(&self, name: &Name, missing: Missing) {
        match missing {
            Missing::Unknown => {
                // First: on x86-64 a locked instruction lets no later load begin before it is done.
                let before = self.past.recall(name.hash);
                self.counters.count(Count::MissesUnknown);
                if let Some(before) = before {
                    self.counters.count(before);
                }
            }
            Missing::Expired => self.counters.count(Count::MissesExpired),
            Missing::NotLookedFor => {}
        }
    }

    /// Accounts for a session that has left, in this lane.
    #[inline(always)]
    fn left(&self, lane: usize, unlinked: Unlinked<S>, reason: Reason) -> Left<'_, S> {
        let tokens = self.account(lane, [(&unlinked, reason)].into_iter());
        Left { unlinked, _refund: Hand::holding(&self.room, lane, tokens) }
    }

    /// Accounts for sessions that have left, in this lane, then drops them; returns how many.
    fn leave(&self, lane: usize, departed: Departed<S>) -> usize {
        let tokens = self.account(lane, departed.iter());
        let mut refund = Some(Hand::holding(&self.room, lane, tokens));
        if planted!("room-before-the-drop") {
            refund = None;
        }
        departed.told(self.shards.len()).for_each(|at| self.wake(at));
        // In this order, also when a payload's drop panics: the others are dropped nevertheless, and
        // then their room is given back.
        let mut panics = Panics::default();
        panics.drop_all(departed.sessions);
        drop(refund);
        panics.resume();
        tokens.sessions as usize
    }

    /// Accounts for sessions that have left, in this lane: the one way out but for replacement. Returns
    /// their room, which is given back once they are gone.
    #[inline]
    fn account<'a>(
        &self,
        lane: usize,
        departed: impl Iterator<Item = (&'a Unlinked<S>, Reason)>,
    ) -> Tokens {
        let (mut tokens, mut evicted, mut ages, mut now) = (Tokens::default(), 0, 0, None);
        for (unlinked, reason) in departed {
            let node = unlinked.node();
            tokens.sessions += 1;
            tokens.bytes += Self::charge(node.weight());
            if reason != Reason::Evicted {
                self.counters.removal(reason, 1);
                continue;
            }
            evicted += 1;
            ages += Due::load(node.expiry()).age(*now.get_or_insert_with(|| self.clock.now()));
            self.past.note(node.hash(), reason);
        }
        if evicted > 0 {
            self.counters.removal(Reason::Evicted, evicted);
            self.counters.add(Count::AgesAtEviction, ages);
        }
        if tokens.sessions > 0 {
            self.lanes.add(lane, Counts::of_sessions(tokens.sessions).negative());
        }
        tokens
    }

    /// The handle of a session that has left; its room is given back.
    #[inline]
    fn handle(&self, left: Left<'_, S>) -> Session<S> {
        Session::new(left.unlinked.into_handle())
    }

    #[inline]
    fn refused(&self, refusal: Refusal, payload: S) -> Put<S> {
        self.counters.count(Count::Refused);
        Put::Refused(refusal, payload)
    }

    /// Does a little of what is due; rides on puts.
    #[inline]
    fn tend(&self, own: usize, now: u64) {
        let _ = self.expire_some(own, now);
        self.compact(own, now);
    }

    /// Looks at a few of the hints that are due; returns how many sessions left, or `None` when
    /// nothing is due.
    #[inline]
    fn expire_some(&self, own: usize, now: u64) -> Option<usize> {
        if !self.lanes.may_be_due(now) {
            return None;
        }
        let departed = self.lanes.expire(own, &self.shards, now, DUE_PER_PUT)?;
        Some(self.leave(own, departed))
    }

    /// Whether there are hints that are due, in any lane.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn is_due(&self) -> bool {
        let now = self.clock.now();
        (0..self.lanes.count()).any(|at| self.lanes.lane(at).wheel.due(now).is_some())
    }

    /// Looks at a batch of hints, if too many are stale as far as this lane knows; rides on whatever leaves
    /// stale ones behind. `false` when there are not too many.
    #[inline]
    fn compact(&self, own: usize, now: u64) -> bool {
        if !self.lanes.lane(own).all().has_too_many_hints() {
            return false;
        }
        self.leave(own, self.lanes.compact(&self.shards, now));
        true
    }

    /// The name of a session. The hash is keyed, so that nobody can choose ids that meet in one cell. It
    /// is of the scope's number, so that what is dropped and what comes after it are told in one order.
    #[inline]
    fn name(&self, scope: &ScopeEntry, id: &SessionId) -> Name {
        let mut hasher = self.hasher.build_hasher();
        let [low, high] = id.halves();
        hasher.write_u128(low);
        hasher.write_u128(high);
        hasher.write_u64(u64::from(scope.number()) << 8 | u64::from(id.len()));
        Name { hash: hasher.finish() | 1 << 63, scope: scope.slot(), id: *id }
    }

    /// The shard of a name.
    #[inline]
    fn shard_of(&self, name: &Name) -> usize {
        self.shards.index_of(name.hash)
    }

    /// The payload's weight in bytes.
    #[inline]
    fn weigh(&self, payload: &S) -> usize {
        if let Some(weigher) = &self.weigher {
            return weigher(payload);
        }
        bytes_of(payload).map_or(0, <[u8]>::len)
    }

    /// What a session of this weight is charged.
    #[inline]
    fn charge(weight: u32) -> u64 {
        u64::from(weight) + Self::OVERHEAD as u64
    }

    #[inline]
    fn gauges(&self) -> &'static Gauges {
        self.lease.gauges()
    }

    /// The lifetime of sessions whose put says none, in milliseconds.
    pub(crate) fn lifetime(&self) -> u64 {
        // Relaxed: a setting that stands for itself.
        self.lifetime.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        // Relaxed: as above.
        self.lifetime.store(millis(lifetime), Ordering::Relaxed);
    }

    /// Counts a lookup of what cannot be a session id here.
    pub(crate) fn count_malformed(&self) {
        self.counters.count(Count::MissesMalformed);
    }

    /// Sessions in the cache, about.
    pub(crate) fn len(&self) -> u64 {
        self.lanes.counts().live()
    }

    /// Bytes of the sessions in the cache, and of puts in flight.
    pub(crate) fn bytes(&self) -> u64 {
        self.room.bytes.used()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    pub(crate) fn stats(&self) -> Stats {
        let (held, held_weight) = self.gauges().held();
        // The removals first: what leaves in between is missed then, and not counted twice.
        let counted = self.counters.snapshot();
        let sessions = self.len();
        Stats {
            sessions,
            puts: sessions + counted.removals.total(),
            bytes: self.bytes(),
            max_sessions: self.limit(Limit::Sessions),
            max_bytes: self.limit(Limit::Bytes),
            held_sessions: held as u64,
            held_bytes: (held_weight + held * Self::OVERHEAD) as u64,
            headers_waiting: self.gauges().waiting() as u64,
            region_bytes: region_bytes() as u64,
            callbacks_waiting: self.callbacks_waiting(),
            hints: self.lanes.counts().hints(),
            ..counted
        }
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shards", &&*self.shards).finish_non_exhaustive()
    }
}
