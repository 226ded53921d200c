//! Delivery: events of the shards become calls of the callbacks.
//!
//! A shard's events are served by one thread at a time; who finds another one at it goes away. The
//! server looks once more after it has stopped serving, so an event that came in between is not left.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Engine, was_expired};
use crate::callbacks::{NewSession, OnNew, OnRemove, RemovedSession, Verdict};
use crate::dispatch::{self, Dispatch};
use crate::reclaim::pin;
use crate::session::Session;
use crate::shard::{CAME, LEFT};
use crate::stats::{Count, Reason};
use crate::sync::planted;
use crate::table::events::Event;

/// Events that a worker serves in one shard before it looks at the next.
const TURN: usize = 256;

impl<S: Send + Sync + 'static> Engine<S> {
    /// Sets the new callback.
    pub(crate) fn set_on_new(&self, callback: Option<Arc<OnNew<S>>>) {
        self.callbacks.set_new(callback);
        self.set_tells();
    }

    /// Sets the remove callback.
    pub(crate) fn set_on_remove(&self, callback: Option<Arc<OnRemove<S>>>) {
        self.callbacks.set_remove(callback);
        self.set_tells();
    }

    fn set_tells(&self) {
        let came = if self.callbacks.on_new().is_some() { CAME } else { 0 };
        let left = if self.callbacks.on_remove().is_some() { LEFT } else { 0 };
        self.shards.iter().for_each(|shard| shard.set_tells(came | left));
    }

    /// Sees to it that the events of a shard are delivered. At the end of a call, when nothing is
    /// held.
    #[inline]
    pub(super) fn deliver(&self, at: usize) {
        if self.shards[at].has_told() {
            self.deliver_told(at);
        }
    }

    /// [`deliver`](Self::deliver) for all shards.
    pub(crate) fn deliver_all(&self) {
        (0..self.shards.len()).for_each(|at| self.deliver(at));
    }

    #[cold]
    fn deliver_told(&self, at: usize) {
        match self.dispatch.kind() {
            Dispatch::Workers(_) => self.wake(at),
            // Of other shards too, whose sessions were evicted for a put here.
            Dispatch::Inline => drop(self.serve_all()),
            Dispatch::Manual => {}
        }
    }

    /// Wakes the worker of a shard if it sleeps.
    pub(super) fn wake(&self, at: usize) {
        if self.shards[at].table.events().has_to_wake() {
            self.dispatch.wake(at);
        }
    }

    /// Serves what waits in all shards; returns how many calls were made.
    pub(crate) fn serve_all(&self) -> usize {
        (0..self.shards.len()).map(|at| self.serve(at, usize::MAX)).sum()
    }

    /// Serves up to `most` events of a shard; returns how many calls were made. None if another
    /// thread serves them, or this one does, further up: that one comes around again.
    fn serve(&self, at: usize, most: usize) -> usize {
        let shard = &self.shards[at];
        if shard.table.events().backlog() == 0 || !shard.begin_serving() {
            return 0;
        }
        let (mut calls, mut served, mut asked) = (0, 0, 1);
        loop {
            while served < most
                && let Some(event) = self.next_event(at)
            {
                calls += self.tell(&event);
                let node = shard.table.event_done(event, &pin());
                // A payload's drop may panic, like a callback.
                let _ = self.caught(|| drop(node));
                served += 1;
            }
            match shard.end_serving(asked) {
                Ok(()) => return calls,
                Err(now) => asked = now,
            }
        }
    }

    /// The oldest event of a shard. The pin ends here: callbacks come next.
    fn next_event(&self, at: usize) -> Option<Event<S>> {
        let guard = pin();
        self.shards[at].table.next_event(&guard)
    }

    /// Tells what is to be told of an event's node.
    fn tell(&self, event: &Event<S>) -> usize {
        let node = event.node();
        let mut calls = 0;
        let tells_first = event.came() || !planted!("leaving-without-coming");
        if tells_first && node.tell_came() {
            calls += self.tell_came(event);
        }
        if !event.came()
            && let Some(code) = node.tell_left()
        {
            let reason = if was_expired(node) { Reason::Expired } else { Reason::from_code(code) };
            calls += self.tell_left(event, reason);
        }
        calls
    }

    fn tell_came(&self, event: &Event<S>) -> usize {
        let (Some(callback), Some(scope)) =
            (self.callbacks.on_new(), self.scopes.of_slot(event.node().scope()))
        else {
            return 0;
        };
        self.counters.count(Count::NewCalled);
        let new = NewSession { session: self.session(event), scope };
        let verdict = self.caught(|| dispatch::call(|| callback(new)));
        if verdict == Some(Verdict::Reject) {
            self.remove_session(&self.session(event), Reason::Rejected);
        }
        1
    }

    fn tell_left(&self, event: &Event<S>, reason: Reason) -> usize {
        let (Some(callback), Some(scope)) =
            (self.callbacks.on_remove(), self.scopes.of_slot(event.node().scope()))
        else {
            return 0;
        };
        self.counters.count(Count::RemoveCalled);
        let removed = RemovedSession { session: self.session(event), scope, reason };
        let _ = self.caught(|| dispatch::call(|| callback(removed)));
        1
    }

    fn session(&self, event: &Event<S>) -> Session<S> {
        Session::new(event.acquire(self.gauges()), &self.clock)
    }

    /// Runs user code; `None` if it panicked.
    fn caught<R>(&self, run: impl FnOnce() -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(run));
        if result.is_err() {
            self.counters.count(Count::CallbacksPanicked);
            tracing::error!("a callback of the session cache panicked");
        }
        result.ok()
    }

    /// A worker's turn over its shards; `false` when nothing was there and it is to sleep.
    pub(crate) fn work(&self, worker: usize) -> bool {
        let own = || (worker..self.shards.len()).step_by(self.dispatch.workers());
        let served: usize = own().map(|at| self.serve(at, TURN)).sum();
        if served > 0 {
            return true;
        }
        own().any(|at| !self.shards[at].table.events().fall_asleep())
    }

    /// A worker is awake again.
    pub(crate) fn wake_up(&self, worker: usize) {
        for at in (worker..self.shards.len()).step_by(self.dispatch.workers()) {
            self.shards[at].table.events().wake_up();
        }
    }

    /// What the workers are started by.
    pub(crate) fn dispatcher(&self) -> &dispatch::Dispatcher {
        &self.dispatch
    }

    /// How many events wait in all shards.
    pub(crate) fn callbacks_waiting(&self) -> u64 {
        self.shards.iter().map(|shard| shard.table.events().backlog()).sum()
    }
}

impl<S: Send + Sync + 'static> Drop for Engine<S> {
    /// What is left is removed as by a close, if anybody wants to hear of it; and what waits is told.
    fn drop(&mut self) {
        // In a model that has failed, nothing is in reach.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        if self.shards.iter().any(|shard| shard.tell(Reason::Closed).is_some()) {
            self.close();
        }
        self.serve_all();
        (0..self.dispatch.workers()).for_each(|worker| self.dispatch.wake(worker));
    }
}
