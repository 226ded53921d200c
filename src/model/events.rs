//! What a table tells, and who serves that.

use std::fmt;

use super::{Gone, name};
use crate::reclaim::gauge::Lease;
use crate::reclaim::pin;
use crate::shard;
use crate::stats::Reason;
use crate::table::events::{Coming, Event};
use crate::table::{Context, Entry, NewNode, NodeRef, Table};

/// What is told of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// It came.
    Came,
    /// It left.
    Left,
    /// The context that it came with.
    With,
}

/// A shard, whose table tells of all that comes and leaves.
pub struct Shard<S> {
    shard: shard::Shard<S>,
    lease: Lease,
}

impl<S: Send + Sync + 'static> Shard<S> {
    /// An empty shard.
    #[must_use]
    pub fn new() -> Self {
        let lease = Lease::new(usize::MAX);
        Self { shard: shard::Shard::new(lease.gauges()), lease }
    }

    /// Stores a session.
    pub fn put(&self, key: u64, payload: S) {
        drop(store(&self.shard.table, key, payload, Some(Reason::Replaced)));
    }

    /// Removes a session; `false` when there was none.
    pub fn take(&self, key: u64) -> bool {
        depart(&self.shard.table, key, Some(Reason::Taken)).is_some()
    }

    /// Hands a session over without storing it. As `Engine::hand_over`.
    pub fn hand_over(&self, key: u64, payload: S) {
        hand_over(&self.shard.table, key, payload);
    }

    /// Tells that a session has left which is not here. As `Engine::tell_gone`.
    pub fn gone(&self, key: u64) {
        self.shard.table.announce_gone(&name(key), Reason::Faulty.to_code());
    }

    /// Whether a leaving waits to be told.
    #[must_use]
    pub fn is_leaving(&self, key: u64) -> bool {
        self.shard.is_leaving(&name(key))
    }

    /// Whether a session is there. As `Engine::contains`.
    #[must_use]
    pub fn contains(&self, key: u64) -> bool {
        let (name, guard) = (name(key), pin());
        self.shard.table.get(&name, self.shard.table.spot(name.hash), &guard).is_some()
    }

    /// Tells the events that wait, unless another thread does. As `Engine::serve`.
    pub fn serve(&self, mut hear: impl FnMut(u64, Told, Option<&S>)) {
        if self.backlog() > 0 {
            serve(&self.shard.table, &self.lease, &mut hear);
        }
    }

    /// How many events are counted.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.shard.table.events().backlog()
    }
}

impl<S: Send + Sync + 'static> Default for Shard<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Stores a session; tells that it came, and that the one before left, if there is a reason for that.
/// As `Engine::store`.
pub(super) fn store<S: 'static>(
    table: &Table<S>,
    key: u64,
    payload: S,
    tell: Option<Reason>,
) -> Option<Gone<S>> {
    link(table, NewNode::new(&name(key), 0, 0, payload, tell.is_some()), tell)
}

/// As [`store`], telling, with a context.
pub(super) fn store_with<S: Send + Sync + 'static>(
    table: &Table<S>,
    key: u64,
    payload: S,
    context: S,
) -> Option<Gone<S>> {
    let node = NewNode::with_context(&name(key), 0, 0, payload, Context::new(context));
    link(table, node, Some(Reason::Replaced))
}

/// As `Engine::hand_over`.
pub(super) fn hand_over<S: 'static>(table: &Table<S>, key: u64, payload: S) {
    drop(table.announce_unlinked(NewNode::new(&name(key), 0, 0, payload, true)));
}

fn link<S>(table: &Table<S>, mut node: NewNode<S>, tell: Option<Reason>) -> Option<Gone<S>> {
    let name = node.node().name();
    loop {
        let guard = pin();
        let linked = match table.entry(&name, table.spot(name.hash), &guard) {
            Entry::Vacant(place) => place.insert(node, &guard).map(|new| (new, None)),
            Entry::Occupied(old) => {
                old.replace(node, tell.map(Reason::to_code)).map(|(new, old)| (new, Some(old)))
            }
        };
        match linked {
            Ok((new, old)) => {
                if tell.is_some() {
                    table.announce(new);
                }
                drop(guard);
                return old.map(Gone);
            }
            Err(unlinked) => {
                drop(guard);
                node = unlinked;
            }
        }
    }
}

/// Removes a session; tells that it left, if there is a reason for that. As `Engine::depart`.
pub(super) fn depart<S>(table: &Table<S>, key: u64, tell: Option<Reason>) -> Option<Gone<S>> {
    let name = name(key);
    let spot = table.spot(name.hash);
    if table.is_absent_at(&spot, name.hash) {
        return None;
    }
    loop {
        let guard = pin();
        let node = table.get(&name, spot, &guard)?;
        if let Some(unlinked) = table.remove(node, tell.map(Reason::to_code)) {
            return Some(Gone(unlinked));
        }
    }
}

/// As `Engine::serve`, but for its look at the count of events.
pub(super) fn serve<S: Send + Sync + 'static>(
    table: &Table<S>,
    lease: &Lease,
    hear: &mut impl FnMut(u64, Told, Option<&S>),
) {
    let mut server = table.server();
    while let Some(mut serving) = server {
        while let Some(event) = serving.next(|event| tell(event, lease, hear)) {
            table.events().served(1);
            drop(event);
        }
        server = serving.end().map(|(again, _)| again);
    }
}

/// As `Engine::tell_came` and `tell_left`.
fn tell<S: Send + Sync + 'static>(
    event: &Event<S>,
    lease: &Lease,
    hear: &mut impl FnMut(u64, Told, Option<&S>),
) {
    let node = event.node();
    let mut call = |told, context: Option<&Context>| {
        let session = event.acquire(lease.gauges());
        hear(node.key(), told, session.as_ref().map(NodeRef::payload));
        if let Some(context) = context {
            hear(node.key(), Told::With, context.get());
        }
    };
    if let Some(Coming { context }) = event.tell_came() {
        call(Told::Came, context.as_ref());
    }
    if !event.came() && node.tell_left().is_some() {
        call(Told::Left, None);
    }
}

impl<S: 'static> fmt::Debug for Shard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shard.fmt(f)
    }
}
