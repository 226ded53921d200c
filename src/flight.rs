//! Flights: lookups that ask an external cache, one at a time for each id.
//!
//! The lookups of an id that come while one is asking wait for its answer. A flight is registered in a
//! table of its own, by the name that is looked for.
//!
//! # Stale flights
//!
//! A session may be put, and taken, while an external cache is being asked; what that answers is out
//! of date then, and must not come back to life. *Who removes a session marks the flight of its name
//! before*; the asker links its session unseen ([`Due::PROVISIONAL`](crate::expiry::Due::PROVISIONAL)),
//! then looks for the mark, and then shows it.
//!
//! Both orders of a removal and the linking: while the unseen session is linked, no other session of
//! the name is. So a removal of another one came before the linking, its mark before that, and the
//! asker sees it.
//!
//! Both orders of a removal and the registration: both change the count of flights. If the removal's
//! look at it is first, the asker, which looks into the cache after it registered, sees the session,
//! or that it is gone; if the registration is first, the removal finds the flight and marks it.
//!
//! Model: `loom-tests/tests/flights.rs`.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::reclaim::gauge::Gauges;
use crate::reclaim::pin;
use crate::session::Session;
use crate::sync::{AtomicU64, Ordering, planted};
use crate::table::{Entry, Name, NewNode, NodeRef, Table};

/// The flights of a shard.
pub(crate) struct Flights<S> {
    table: Table<Arc<Flight<S>>>,
    count: AtomicU64,
    gauges: &'static Gauges,
}

/// A lookup that asks.
pub(crate) struct Flight<S> {
    answer: Mutex<Option<Option<Session<S>>>>,
    landed: Condvar,
}

/// What a lookup is to do.
pub(crate) enum Begun<'a, S> {
    /// Ask.
    Asks(Asker<'a, S>),
    /// Another one asks.
    Waits(Arc<Flight<S>>),
}

/// The one who asks. Dropping it ends the flight, without an answer if there was none.
pub(crate) struct Asker<'a, S> {
    flights: &'a Flights<S>,
    name: Name,
    node: NodeRef<Arc<Flight<S>>>,
}

impl<S> Flights<S> {
    pub(crate) fn new(gauges: &'static Gauges) -> Self {
        Self { table: Table::new(gauges), count: AtomicU64::new(0), gauges }
    }

    /// Registers a lookup of `name`.
    pub(crate) fn begin(&self, name: &Name) -> Begun<'_, S> {
        // AcqRel: pairs with `mark_stale`, see above.
        self.count.fetch_add(1, Ordering::AcqRel);
        let mut node = NewNode::new(*name, 0, 0, Arc::new(Flight::new()), false);
        loop {
            let guard = pin();
            let linked = match self.table.entry(name, self.table.spot(name.hash), &guard) {
                Entry::Vacant(place) => place.insert(node, &guard),
                Entry::Occupied(other) => {
                    let other = other.pinned().acquire(self.gauges);
                    drop(guard);
                    let Some(other) = other else { continue };
                    // AcqRel: as above.
                    self.count.fetch_sub(1, Ordering::AcqRel);
                    return Begun::Waits(Arc::clone(other.payload()));
                }
            };
            match linked {
                Ok(new) => {
                    let own = new.acquire(self.gauges);
                    let node = own.expect("a flight is ended by its asker");
                    return Begun::Asks(Asker { flights: self, name: *name, node });
                }
                Err(unlinked) => node = unlinked,
            }
        }
    }

    /// Marks the flight of `name`, if there is one: a session of that name is about to be removed. May
    /// be called under a pin, where the payload of a flight is out of reach; so the mark is the node's,
    /// that it was visited.
    pub(crate) fn mark_stale(&self, name: &Name) {
        // AcqRel, a read-modify-write: see above.
        if self.count.fetch_add(0, Ordering::AcqRel) == 0 || planted!("no-stale-flights") {
            return;
        }
        let guard = pin();
        // Of akin names too: a lookup that began before or after the drop of the scope.
        let _ = self.table.find_akin(name, &guard, |flight| {
            flight.visit();
            false
        });
    }
}

impl<S> Asker<'_, S> {
    /// Whether a session of the name was removed since the flight began.
    pub(crate) fn is_stale(&self) -> bool {
        // The mark is Relaxed: its removal's exchange publishes it, and the linking that comes after
        // that removal has seen the exchange.
        self.node.node().is_visited()
    }

    /// Gives those who wait the session.
    pub(crate) fn land(&self, session: Session<S>) {
        self.node.payload().land(Some(session));
    }
}

impl<S> Drop for Asker<'_, S> {
    fn drop(&mut self) {
        self.node.payload().land(None);
        let guard = pin();
        let found = self.node.pinned(&guard).into();
        let unlinked = self.flights.table.remove(found, None);
        drop(guard);
        debug_assert!(unlinked.is_some(), "{:?}: a flight is ended by its asker", self.name);
        // AcqRel: as in `begin`.
        self.flights.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<S> Flight<S> {
    fn new() -> Self {
        Self { answer: Mutex::new(None), landed: Condvar::new() }
    }

    /// Lands, unless it has landed.
    fn land(&self, answer: Option<Session<S>>) {
        let mut landed = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if landed.is_none() {
            *landed = Some(answer);
            self.landed.notify_all();
        }
    }

    /// Waits for the answer.
    pub(crate) fn wait(&self) -> Option<Session<S>> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            answer = self.landed.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<S> fmt::Debug for Flights<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("table", &self.table).finish_non_exhaustive()
    }
}
