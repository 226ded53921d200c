//! The crate's internals, for the models in `loom-tests`.
//!
//! Thin wrappers: what runs is the crate's own code. Where a loop of the engine has to go with a
//! call of the table, it is written out here as the engine has it; models of the engine itself run
//! that one.

mod engine;
mod events;

use std::collections::BTreeSet;
use std::fmt;

pub use self::engine::{Engine, Waiting};
pub use self::events::{Shard, Told};
use self::events::{depart, serve, store, store_with};
use crate::expiry::capacity::{Account, UNLIMITED};
use crate::expiry::{self, Age, Extension, Hint, Row};
use crate::gate;
use crate::queue::{Queue as Words, Segment};
use crate::reclaim::gauge::Lease;
pub use crate::reclaim::shelf::model::Shelf;
use crate::reclaim::{self, pin, refs};
use crate::room::{self, Tokens};
use crate::stats::Reason;
use crate::sync::{self, AtomicU64};
use crate::table::{self, Name, NodeRef, SessionId, Spot, Unlinked};

/// Begins an execution, in interleaving mode or in memory mode, with a seeded bug or none (`""`).
pub fn begin(interleaving: bool, bug: &'static str) {
    sync::set_interleaving(interleaving);
    sync::plant(bug);
    sync::forget_threads();
    reclaim::reset();
}

/// Shows the steps of this execution from now on, or no more.
pub fn show_steps(on: bool) {
    sync::trace::set(on);
}

/// Ends an execution that has not failed.
pub fn end() {
    reclaim::end();
}

/// Hands what this thread retired to all threads, and frees what is due: on the real epoch the third
/// time in a row, if nobody is pinned meanwhile.
pub fn flush() {
    reclaim::flush();
}

/// How many blocks were retired in this execution, and how many of them are dead.
#[must_use]
pub fn retired() -> (usize, usize) {
    reclaim::retired()
}

/// A table. Its sessions are named by their keys.
pub struct Table<S> {
    table: table::Table<S>,
    lease: Lease,
}

/// A reference to a session.
pub struct Handle<S>(NodeRef<S>);

/// A session that has left the table, in the hands of the winner of its removal.
pub struct Gone<S>(Unlinked<S>);

/// The name of a key. The lowest bit is set in every session's key.
fn name(key: u64) -> Name {
    assert!(key & 1 == 1, "the key of a session");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    Name { hash: key.reverse_bits(), scope: 0, id: SessionId::from(bytes) }
}

impl<S: Send + Sync + 'static> Table<S> {
    /// An empty table of two cells.
    #[must_use]
    pub fn new() -> Self {
        let lease = Lease::new(usize::MAX);
        Self { table: table::Table::new(lease.gauges()), lease }
    }

    /// Stores a session; returns the one that it replaced.
    pub fn put(&self, key: u64, payload: S) -> Option<Gone<S>> {
        store(&self.table, key, payload, None)
    }

    /// As [`put`](Self::put), and announces that the session came, and that the replaced one left.
    pub fn put_telling(&self, key: u64, payload: S) -> Option<Gone<S>> {
        store(&self.table, key, payload, Some(Reason::Replaced))
    }

    /// As [`put_telling`](Self::put_telling), with a context for who is told.
    pub fn put_with(&self, key: u64, payload: S, context: S) -> Option<Gone<S>> {
        store_with(&self.table, key, payload, context)
    }

    /// Finds a session. As `Engine::get`.
    ///
    /// # Panics
    ///
    /// If it goes on to find dead sessions: a model has fewer than that.
    pub fn get(&self, key: u64) -> Option<Handle<S>> {
        let spot = self.spot(key);
        if self.table.is_absent_at(&spot, name(key).hash) {
            return None;
        }
        for _ in 0..8 {
            let guard = pin();
            let node = self.table.get(&name(key), spot, &guard)?;
            if let Some(handle) = node.pinned().acquire(self.lease.gauges()) {
                return Some(Handle(handle));
            }
        }
        panic!("a get finds the dead for ever");
    }

    /// Removes a session.
    pub fn take(&self, key: u64) -> Option<Gone<S>> {
        depart(&self.table, key, None)
    }

    /// As [`take`](Self::take), and announces that the session left.
    pub fn take_telling(&self, key: u64) -> Option<Gone<S>> {
        depart(&self.table, key, Some(Reason::Taken))
    }

    /// Whether a leaving waits to be told. As `Shard::is_leaving`.
    #[must_use]
    pub fn is_leaving(&self, key: u64) -> bool {
        self.table.is_leaving(&name(key), &pin())
    }

    /// Tells all events that wait. For one thread at a time.
    pub fn serve(&self, mut hear: impl FnMut(u64, Told, Option<&S>)) {
        serve(&self.table, &self.lease, &mut hear);
    }

    /// How many events are counted.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.table.events().backlog()
    }

    /// Whether the caller, who has announced something, has to wake the server.
    #[must_use]
    pub fn has_to_wake(&self) -> bool {
        self.table.events().has_to_wake()
    }

    /// Notes that the server sleeps, unless events wait.
    #[must_use]
    pub fn fall_asleep(&self) -> bool {
        self.table.events().fall_asleep(&pin())
    }

    fn spot(&self, key: u64) -> Spot<'_> {
        self.table.spot(name(key).hash)
    }

    /// Doubles the cells, unless another thread does it.
    pub fn grow(&self) {
        let cells = self.table.cells();
        self.table.grow(cells, 2 * cells);
    }

    /// Makes four times as many cells, unless another thread makes some.
    pub fn grow_fourfold(&self) {
        let cells = self.table.cells();
        self.table.grow(cells, 4 * cells);
    }

    /// Links a few cells, if there are some that nobody has linked. As `Shard::make_cells`.
    pub fn link_some(&self) {
        if self.table.has_more_to_link() {
            self.table.link_some(&pin());
        }
    }

    /// The number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.table.cells()
    }

    /// The keys of all sessions, met in batches of one. As `Engine::walk`.
    #[must_use]
    pub fn keys(&self) -> Vec<u64> {
        let mut keys = Vec::new();
        let mut from = Some(0);
        while let Some(key) = from {
            let guard = pin();
            from = self.table.batch(key, 1, &guard, |node| keys.push(node.node().key()));
        }
        keys
    }

    /// Headers that wait, and sessions that have left and that handles hold.
    #[must_use]
    pub fn waiting_and_held(&self) -> (usize, usize) {
        (self.lease.gauges().waiting(), self.lease.gauges().held().0)
    }
}

impl<S: Send + Sync + 'static> Default for Table<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Handle<S> {
    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &S {
        self.0.payload()
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Gone<S> {
    /// Turns the table's reference into a handle's.
    #[must_use]
    pub fn into_handle(self) -> Handle<S> {
        Handle(self.0.into_handle())
    }
}

/// The count of references alone.
#[derive(Debug)]
pub struct Refs(refs::Refs);

impl Refs {
    /// One reference.
    #[must_use]
    pub fn new() -> Self {
        Self(refs::Refs::new(1))
    }

    /// Adds one, unless there is none.
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.0.try_acquire()
    }

    /// Adds one on behalf of one.
    pub fn acquire(&self) {
        self.0.acquire();
    }

    /// Gives one back; `true` when it was the last.
    #[must_use]
    pub fn release(&self) -> bool {
        self.0.release()
    }
}

impl Default for Refs {
    fn default() -> Self {
        Self::new()
    }
}

/// A queue of hints, which are numbers from 1 on here.
#[derive(Debug)]
pub struct Queue {
    queue: Words,
    lease: Lease,
}

impl Queue {
    /// An empty queue, of one segment with two slots.
    #[must_use]
    pub fn new() -> Self {
        Self { queue: Words::new(), lease: Lease::new(usize::MAX) }
    }

    /// Appends a hint. As `Wheel::push_to`.
    pub fn push(&self, number: u64) {
        let mut spare = None;
        while self.queue.push(hint(number).to_word(), &mut spare, &pin()).is_err() {
            spare = Some(Segment::new(0));
        }
    }

    /// Removes the oldest hint.
    #[must_use]
    pub fn pop(&self) -> Option<u64> {
        self.pop_many::<1>().first().copied()
    }

    /// Removes the oldest hints, up to so many, of one segment.
    #[must_use]
    pub fn pop_many<const MOST: usize>(&self) -> Vec<u64> {
        let mut words = [0; MOST];
        let count = self.queue.pop(&mut words, &pin(), self.lease.gauges());
        words[..count].iter().map(|&word| number(Hint::from_word(word))).collect()
    }

    /// The oldest hint, which stays. For one thread at a time, and no `pop` beside it.
    #[must_use]
    pub fn front(&self) -> Option<u64> {
        self.queue.front(&pin(), self.lease.gauges()).map(|word| number(Hint::from_word(word)))
    }

    /// Removes the hint that `front` has returned.
    pub fn advance(&self) {
        self.queue.advance(&pin());
    }

    /// Whether the queue was empty at an instant of the call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty(&pin())
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

fn hint(number: u64) -> Hint {
    Hint::new(number, 0)
}

fn number(hint: Hint) -> u64 {
    hint.hash()
}

/// A wheel of hints, which are numbers from 1 on here.
#[derive(Debug)]
pub struct Wheel {
    wheel: expiry::Wheel,
    lease: Lease,
}

/// A list of a wheel.
#[derive(Clone, Copy, Debug)]
pub struct List(expiry::List);

impl Wheel {
    /// An empty wheel at time zero.
    #[must_use]
    pub fn new() -> Self {
        Self { wheel: expiry::Wheel::new(0), lease: Lease::new(usize::MAX) }
    }

    /// Files a hint, as a put does.
    pub fn push(&self, number: u64, due: u64, now: u64) {
        let guard = pin();
        let filed = self.wheel.try_push(hint(number), due, now, Row::FRESH, &guard);
        drop(guard);
        if filed.is_err() {
            self.push_again(number, due, now, Row::FRESH);
        }
    }

    /// Files a hint in a list of those that eviction has spared.
    pub fn keep(&self, number: u64, due: u64, now: u64) {
        self.push_again(number, due, now, self.wheel.spared());
    }

    fn push_again(&self, number: u64, due: u64, now: u64, row: Row) {
        while !self.wheel.push((hint(number), now), due, now, row) {}
    }

    /// A list with hints that are due.
    #[must_use]
    pub fn due(&self, now: u64) -> Option<List> {
        self.wheel.due(now).map(List)
    }

    /// The list that eviction looks at next.
    #[must_use]
    pub fn earliest(&self) -> Option<List> {
        self.wheel.earliest(Age::Fresh).map(List)
    }

    /// Removes the oldest hint of a list.
    #[must_use]
    pub fn pop(&self, list: List) -> Option<u64> {
        self.wheel.pop(list.0, &mut [0], &pin(), self.lease.gauges()).next().map(number)
    }

    /// Pops what is due until nothing is.
    #[must_use]
    pub fn drain_due(&self, now: u64) -> BTreeSet<u64> {
        let mut numbers = BTreeSet::new();
        while let Some(list) = self.due(now) {
            numbers.extend(self.pop(list));
        }
        numbers
    }

    /// Pops in the order of eviction until nothing is left.
    #[must_use]
    pub fn drain_earliest(&self) -> BTreeSet<u64> {
        let mut numbers = BTreeSet::new();
        while let Some(list) = self.earliest() {
            numbers.extend(self.pop(list));
        }
        numbers
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

/// The room of a cache, in sessions; its bytes have no limit.
#[derive(Debug)]
pub struct Room(room::Room);

/// Tokens in the hand of a thread.
#[derive(Debug)]
pub struct Hand<'a>(room::Hand<'a>);

impl Room {
    /// Room for so many sessions in so many lanes.
    #[must_use]
    pub fn new(sessions: u64, lanes: usize) -> Self {
        Self(room::Room::new(sessions, UNLIMITED, &Account::of_lanes(lanes)))
    }

    /// Takes up to `most` tokens of a lane.
    #[must_use]
    pub fn take_up_to(&self, lane: usize, most: u64) -> u64 {
        self.0.sessions.take_up_to(lane, most)
    }

    /// Takes up to `most` tokens of all lanes.
    #[must_use]
    pub fn gather(&self, lane: usize, most: u64) -> u64 {
        self.0.sessions.gather(lane, most)
    }

    /// Gives tokens to a lane.
    pub fn give(&self, lane: usize, count: u64) {
        self.0.sessions.give(lane, count);
    }

    /// Tokens that are not free.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.sessions.used()
    }

    /// Makes tokens.
    pub fn raise(&self, count: u64) {
        self.0.sessions.raise(count);
    }

    /// Takes tokens for good, of which there are as many free. As `Engine::lower`.
    pub fn lower(&self, count: u64) {
        self.0.sessions.lower(count);
        assert_eq!(self.0.sessions.gather(0, count), count, "they are free");
    }

    /// An empty hand.
    #[must_use]
    pub fn hand(&self, lane: usize) -> Hand<'_> {
        Hand(room::Hand::empty(&self.0, lane))
    }
}

impl Hand<'_> {
    /// Takes what is missing for one session.
    #[must_use]
    pub fn fill(&mut self) -> bool {
        self.0.fill(Tokens { sessions: 1, bytes: 0 })
    }

    /// Gives the token of one session to that session.
    pub fn spend(&mut self) {
        self.0.spend(Tokens { sessions: 1, bytes: 0 });
    }
}

/// The gate of a cache.
#[derive(Debug)]
pub struct Gate(gate::Gate);

/// A put inside the gate.
#[derive(Debug)]
pub struct Inside<'a>(#[expect(dead_code, reason = "it is there to be dropped")] gate::Inside<'a>);

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        Self(gate::Gate::new())
    }

    /// An open gate of so many stripes. Threads of a model use them in turn.
    #[must_use]
    pub fn of_stripes(count: usize) -> Self {
        Self(gate::Gate::of_stripes(count))
    }

    /// Lets a put in, unless the gate is closed.
    #[must_use]
    pub fn enter(&self) -> Option<Inside<'_>> {
        self.0.enter().map(Inside)
    }

    /// Closes the gate, and waits for those inside.
    pub fn close(&self) {
        self.0.close();
    }

    /// Orders the puts inside and what the caller did before.
    pub fn settle(&self) {
        self.0.settle();
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// The word that says when a session expires.
#[derive(Debug)]
pub struct Due(AtomicU64);

impl Due {
    /// A session that expires `lifetime` after `now`.
    #[must_use]
    pub fn new(now: u64, lifetime: u64) -> Self {
        Self(AtomicU64::new(expiry::Due::new(now, lifetime).to_word()))
    }

    /// Decides that the session is expired, if it is.
    #[must_use]
    pub fn decide(&self, now: u64) -> bool {
        expiry::Due::decide(&self.0, now)
    }

    /// Lets the session live its lifetime again, unless it is expired.
    pub fn renew(&self, now: u64) {
        expiry::Due::renew(&self.0, now);
    }

    /// Whether somebody has decided that the session is expired.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        expiry::Due::load(&self.0).is_decided()
    }

    /// Extends the session; `false` if it is expired.
    #[must_use]
    pub fn extend(&self, now: u64, lifetime: u64) -> bool {
        expiry::Due::extend(&self.0, now, lifetime) != Extension::Expired
    }

    /// When the session expires.
    #[must_use]
    pub fn at(&self) -> u64 {
        expiry::Due::load(&self.0).at()
    }
}

impl<S> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Gone<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gone").finish_non_exhaustive()
    }
}
