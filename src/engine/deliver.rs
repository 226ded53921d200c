//! Delivery: events of the shards become calls of the callbacks.
//!
//! A shard's events are served by one thread at a time; who finds another one at it notes that it asked
//! and goes away. A server that was asked does not end, so an event that came in between is not left.

#![forbid(unsafe_code)]

use super::Engine;
use crate::callbacks::{NewSession, RemovedSession, Verdict};
use crate::dispatch::{self, Dispatch, contained};
use crate::reclaim::panics::Panics;
use crate::reclaim::pin;
use crate::session::Session;
use crate::shard::{Shard, Tells, reason_of};
use crate::stats::{Count, Reason};
use crate::sync::planted;
use crate::table::Name;
use crate::table::events::{Coming, Event};

/// Events that a worker serves in one shard before it looks at the next.
const TURN: usize = 256;

/// Events that are counted as served together: the count is a word that puts change too.
const COUNTED: usize = 16;

/// What a thread has done for a shard.
#[derive(Clone, Copy, Default)]
struct Served {
    /// Also those that nobody was to be called for.
    events: usize,
    calls: usize,
}

/// Delivers for all shards when it is dropped.
pub(crate) struct DeliveryOfAll<'a, S: Send + Sync + 'static>(&'a Engine<S>);

impl<S: Send + Sync + 'static> Drop for DeliveryOfAll<'_, S> {
    fn drop(&mut self) {
        self.0.deliver_all();
    }
}

/// Delivers when it is dropped.
pub(super) struct Delivery<'a, S: Send + Sync + 'static> {
    engine: &'a Engine<S>,
    at: usize,
}

impl<S: Send + Sync + 'static> Drop for Delivery<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.engine.deliver(self.at);
    }
}

impl<S: Send + Sync + 'static> Engine<S> {
    /// Sees to it that the events of a shard are delivered. At the end of a call, when nothing is
    /// held.
    #[inline]
    pub(super) fn deliver(&self, at: usize) {
        if self.shards[at].has_told() {
            self.deliver_told(at);
        }
    }

    /// [`deliver`](Self::deliver) for lookups, which announce the leaving of what they take out of the
    /// list on their way. As of when they began: what they announce is delivered by its remover, too.
    #[inline]
    pub(super) fn deliver_for_others(&self, name: &Name, tells: Tells) {
        if !tells.has_told() {
            return;
        }
        let at = self.shard_of(name);
        if self.shards[at].table.events().backlog() > 0 {
            self.deliver_told(at);
        }
    }

    /// [`deliver`](Self::deliver) for all shards.
    pub(crate) fn deliver_all(&self) {
        if self.shards.iter().any(Shard::has_told) {
            self.deliver_by(|| self.wake_all());
        }
    }

    #[cold]
    fn deliver_told(&self, at: usize) {
        self.deliver_by(|| self.wake(at));
    }

    fn deliver_by(&self, wake: impl FnOnce()) {
        match self.dispatch.kind() {
            Dispatch::Workers(_) => wake(),
            // A payload's drop in the middle of a put is no place for callbacks: the put's end is.
            Dispatch::Inline if dispatch::is_held() => {}
            // Of other shards too, whose sessions were evicted for a put here.
            Dispatch::Inline => {
                self.serve_all();
            }
            Dispatch::Manual => {}
        }
    }

    /// What sees to it at the end of a call, however that ends.
    #[inline]
    pub(super) fn delivery(&self, at: usize) -> Delivery<'_, S> {
        Delivery { engine: self, at }
    }

    /// [`delivery`](Self::delivery) for all shards.
    pub(crate) fn delivery_of_all(&self) -> DeliveryOfAll<'_, S> {
        DeliveryOfAll(self)
    }

    /// Wakes the worker of a shard if it sleeps. In the middle of a call too: it runs no user code.
    pub(super) fn wake(&self, at: usize) {
        if self.shards[at].table.events().has_to_wake() {
            self.dispatch.wake(at);
        }
    }

    /// [`wake`](Self::wake) for all shards.
    #[cold]
    pub(super) fn wake_all(&self) {
        (0..self.shards.len())
            .filter(|&at| self.shards[at].has_told())
            .for_each(|at| self.wake(at));
    }

    /// Serves what waits in all shards; returns how many calls were made.
    pub(crate) fn serve_all(&self) -> usize {
        (0..self.shards.len()).map(|at| self.serve(at, usize::MAX).calls).sum()
    }

    /// Serves one event of each shard; returns how many there were.
    pub(crate) fn serve_one_each(&self) -> usize {
        (0..self.shards.len()).map(|at| self.serve(at, 1).events).sum()
    }

    /// Serves up to `most` events of a shard, and one more for each thread that asks meanwhile, for that goes away.
    /// None if another thread serves them, or this one does, further up: that one comes around again.
    fn serve(&self, at: usize, mut most: usize) -> Served {
        let (table, mut all) = (&self.shards[at].table, Served::default());
        if table.events().backlog() == 0 {
            return all;
        }
        let Some(mut server) = table.server() else { return all };
        loop {
            // User code, all of it: the callbacks, and the drops of callbacks and payloads. One that
            // panics keeps no other from being called.
            let mut tell = |event: &Event<S>| {
                all.calls += self.caught(|| dispatch::call(|| self.tell_came(event))).unwrap_or(1);
                all.calls += self.caught(|| dispatch::call(|| self.tell_left(event))).unwrap_or(1);
            };
            let mut served = 0;
            while served < most
                && let Some(event) = server.next(&mut tell)
            {
                let _ = contained(|| dispatch::call(|| drop(event)));
                served += 1;
                if served.is_multiple_of(COUNTED) {
                    table.events().served(COUNTED);
                }
            }
            table.events().served(served % COUNTED);
            most -= served;
            all.events += served;
            let Some((again, asked)) = server.end() else { return all };
            server = again;
            most = most.saturating_add(usize::try_from(asked).unwrap_or(usize::MAX));
        }
    }

    /// Tells that an event's node came, if that is to be told; returns how many calls were made. Also
    /// where the event says that it left: the coming is told first.
    fn tell_came(&self, event: &Event<S>) -> usize {
        let is_first = event.came() || !planted!("leaving-without-coming");
        if !is_first {
            return 0;
        }
        let Some(Coming { context }) = event.tell_came() else { return 0 };
        let (Some(callback), Some(scope), Some(session)) = (
            self.callbacks.new.callback(),
            self.scopes.of_slot(event.node().scope()),
            self.session(event),
        ) else {
            return 0;
        };
        self.counters.count(Count::NewCalled);
        // The context's last reference is dropped here, after the verdict was obeyed, for its drop may
        // panic; unless the callback keeps one.
        let new = NewSession { session: session.clone(), scope, context: context.clone() };
        if callback(new) == Verdict::Reject {
            // What it looks at beside that one may panic as it goes, and is none of the callback's.
            let _ = contained(|| self.remove_session(&session, Reason::Rejected));
        }
        drop(context);
        1
    }

    /// Tells that an event's node left, if the event says that and it is to be told.
    fn tell_left(&self, event: &Event<S>) -> usize {
        let node = event.node();
        if event.came() {
            return 0;
        }
        let Some(code) = node.tell_left() else { return 0 };
        let reason = reason_of(node, Reason::from_code(code));
        let (Some(callback), Some(scope)) =
            (self.callbacks.remove.callback(), self.scopes.of_slot(node.scope()))
        else {
            return 0;
        };
        self.counters.count(Count::RemoveCalled);
        callback(RemovedSession { id: *node.id(), session: self.session(event), scope, reason });
        1
    }

    /// The session of an event, unless that has only its id.
    fn session(&self, event: &Event<S>) -> Option<Session<S>> {
        event.acquire(self.gauges()).map(Session::new)
    }

    /// Runs a callback, or what comes with it; `None` if it panicked, which is counted.
    pub(super) fn caught<R>(&self, run: impl FnOnce() -> R) -> Option<R> {
        let result = contained(run);
        if result.is_none() {
            self.counters.count(Count::CallbacksPanicked);
        }
        result
    }

    /// A worker's turn over its shards; `false` when nothing was there.
    pub(crate) fn work(&self, worker: usize) -> bool {
        self.shards_of(worker).map(|at| self.serve(at, TURN).events).sum::<usize>() > 0
    }

    /// A worker goes to sleep; `false` when there is something to do.
    pub(crate) fn fall_asleep(&self, worker: usize) -> bool {
        self.shards_of(worker).all(|at| self.shards[at].table.events().fall_asleep(&pin()))
    }

    fn shards_of(&self, worker: usize) -> impl Iterator<Item = usize> {
        (worker..self.shards.len()).step_by(self.dispatch.workers())
    }

    /// A worker is awake again.
    pub(crate) fn wake_up(&self, worker: usize) {
        self.shards_of(worker).for_each(|at| self.shards[at].table.events().wake_up());
    }

    /// How many events wait in all shards.
    pub(crate) fn callbacks_waiting(&self) -> u64 {
        self.shards.iter().map(|shard| shard.table.events().backlog()).sum()
    }
}

impl<S: Send + Sync + 'static> Drop for Engine<S> {
    /// What is left is removed as by a close, if anybody wants to hear of it; and what waits is told. The first panic
    /// goes on when all that is done.
    fn drop(&mut self) {
        // In a model that has failed, nothing is in reach.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        let mut panics = Panics::default();
        if self.shards.iter().any(|shard| shard.tells().left()) {
            panics.catch(|| self.close());
        }
        self.serve_all();
        // The user's, all of it, and here one by one: of the fields' own drops a second one that panicked would end
        // the process.
        while let Some(orphan) = self.orphans.next() {
            panics.drop_all(orphan.into_future());
        }
        panics.drop_all(self.callbacks.new.set(None));
        panics.drop_all(self.callbacks.remove.set(None));
        panics.drop_all(self.callbacks.get.set(None));
        panics.drop_all(self.weigher.take());
        // The threads see that there is no engine any more, and end.
        (0..self.dispatch.workers()).for_each(|worker| self.dispatch.wake(worker));
        self.dispatch.ring();
        panics.resume();
    }
}
