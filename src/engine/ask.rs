//! Asking: a lookup that found nothing asks the get callback.
//!
//! What it answers is checked, and enters the cache only if no session of the id has left it
//! meanwhile (see `flight.rs`) and none waits to be told as removed: an external cache that lags
//! cannot bring a session back.

#![forbid(unsafe_code)]

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::put::Stored;
use super::{Engine, IfPresent};
use crate::callbacks::{Answer, Later, OnGet, Proposed, Want};
use crate::clock::millis;
use crate::dispatch::{self, contained};
use crate::expiry::{Due, Hint};
use crate::flight::{self, Asker, Begun, Flight, Left, Look, Orphan, Seat, Tended};
use crate::mode::CacheMode;
use crate::outcome::Refusal;
use crate::reclaim::pin;
use crate::scope::{EXHAUSTED, Entry as ScopeEntry};
use crate::session::Session;
use crate::stats::{Count, Reason};
use crate::sync::planted;
use crate::table::{Name, NewNode, NodeRef};

/// What has come of asking.
pub(crate) enum Asked<S> {
    /// The answer.
    Answered(Option<Session<S>>),
    /// A place to wait for it.
    Waits(Seat<S>),
}

/// A lookup that waits. Dropping it leaves its flight, which goes on.
pub(crate) struct Waiting<S: Send + Sync + 'static, E: Deref<Target = Engine<S>>> {
    engine: E,
    /// Until it is finished.
    seat: Option<Seat<S>>,
}

impl<S: Send + Sync + 'static, E: Deref<Target = Engine<S>>> Waiting<S, E> {
    pub(crate) fn new(engine: E, seat: Seat<S>) -> Self {
        Self { engine, seat: Some(seat) }
    }

    /// Looks what has come; if nothing yet, `waker` is woken when there is something to do. Once it is
    /// finished, it has found nothing more.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Option<Session<S>>> {
        let Some(seat) = &self.seat else { return Poll::Ready(None) };
        let polled = self.engine.poll(seat, waker);
        if polled.is_ready() {
            self.seat = None;
        }
        polled
    }

    /// Does not wait any longer; what has come in this very moment is its own still.
    pub(crate) fn give_up(&mut self) -> Option<Session<S>> {
        self.engine.give_up(self.seat.take()?)
    }
}

impl<S: Send + Sync + 'static, E: Deref<Target = Engine<S>>> Drop for Waiting<S, E> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.engine.leave_flight(seat);
        }
    }
}

/// The get callback. This may be its last reference, if it was unset since: what it captures is dropped as other
/// user code is run, so that a panic there loses no session that the lookup has already, and strands no flight.
struct Callback<'a, S: Send + Sync + 'static> {
    engine: &'a Engine<S>,
    /// Until it is dropped.
    callback: Option<Arc<OnGet<S>>>,
}

impl<'a, S: Send + Sync + 'static> Callback<'a, S> {
    /// None if none is set.
    fn of(engine: &'a Engine<S>) -> Option<Self> {
        let callback = engine.callbacks.get.callback();
        callback.is_some().then_some(Self { engine, callback })
    }

    fn ask(&self, proposed: &Proposed<'_>) -> Answer<S> {
        self.callback.as_ref().map_or(Answer::Nothing, |callback| callback(proposed))
    }
}

impl<S: Send + Sync + 'static> Drop for Callback<'_, S> {
    fn drop(&mut self) {
        let callback = self.callback.take();
        self.engine.caught(|| dispatch::call(|| drop(callback)));
    }
}

/// Orphans that a lookup tends where there is no ticker.
const TENDED_PER_ASK: usize = 4;

impl<S: Send + Sync + 'static> Engine<S> {
    /// Asks the get callback for what the cache does not hold, and waits for its answer in the calling
    /// thread.
    #[cold]
    pub(super) fn ask_and_wait(
        &self,
        scope: &Arc<ScopeEntry>,
        name: &Name,
        want: Want,
    ) -> Option<Session<S>> {
        let seat = match self.ask(scope, name, want) {
            Asked::Answered(session) => return session,
            Asked::Waits(seat) => seat,
        };
        let mut waiting = Waiting::new(self, seat);
        let found = flight::block_on(self.lookup_timeout, |waker| waiting.poll(waker));
        found.unwrap_or_else(|| waiting.give_up())
    }

    /// Asks the get callback for what the cache does not hold.
    #[cold]
    pub(super) fn ask(&self, scope: &Arc<ScopeEntry>, name: &Name, want: Want) -> Asked<S> {
        // Before the look into the cache below: see `Engine::before_asking`.
        let Some(callback) = Callback::of(self) else { return Asked::Answered(None) };
        if name.scope == EXHAUSTED {
            // No session is of such a scope alone.
            return Asked::Answered(None);
        }
        let at = self.shard_of(name);
        let shard = &self.shards[at];
        let _delivery = self.delivery(at);
        // What was left may look up in turn, and comes here again: it tends no others then, one inside the other. Nor is
        // it polled in the middle of a put, which it has nothing to do with.
        if !self.dispatch.has_ticker() && !dispatch::is_in_callback() && !dispatch::is_held() {
            dispatch::call(|| self.tend_orphans(TENDED_PER_ASK));
        }
        // A callback that waits could wait for itself.
        let may_wait = !dispatch::is_in_callback();
        let asker = match shard.flights.begin(name, scope, want, may_wait) {
            Begun::Asks(asker) => asker,
            Begun::Joins(seat) => return Asked::Waits(seat),
            // Another one's may have just landed.
            Begun::Refused => return Asked::Answered(self.find_anew(name, want)),
        };
        // Once more, now that whoever removes a session of this name finds the flight. Others who are aboard look
        // themselves: the removal of this one may have looked for a flight before this began, and one of them may have
        // come after that removal.
        if let Some(session) = self.find_anew(name, want) {
            if want == Want::Get && planted!("landed-what-was-found") {
                asker.land(&session, || {});
            }
            return Asked::Answered(Some(session));
        }
        // Before the look for what is leaving: what leaves later was seen here.
        if let Some(stamp) = self.stamp_of(name) {
            asker.flight().note_inside(stamp);
        }
        // It may drop a payload: as in `find_anew`.
        if dispatch::call(|| self.is_leaving(name)) {
            self.take_for_nobody(name, want);
            return Asked::Answered(None);
        }
        self.counters.count(Count::GetCalled);
        let proposed = Proposed { id: &name.id, scope: scope.scope(), want };
        match self.caught(|| dispatch::call(|| callback.ask(&proposed))) {
            None => {
                self.take_for_nobody(name, want);
                Asked::Answered(None)
            }
            Some(Answer::Later(later)) => Asked::Waits(asker.into_seat(later)),
            Some(answer) => Asked::Answered(self.conclude(answer, &asker)),
        }
    }

    /// Looks what has come of a flight; if nothing yet, `waker` is woken when there is something to do.
    fn poll(&self, seat: &Seat<S>, waker: &Waker) -> Poll<Option<Session<S>>> {
        let flight = seat.flight();
        let at = self.shard_of(&flight.name);
        let _delivery = self.delivery(at);
        let asker = || self.shards[at].flights.asker_for(seat);
        match seat.look(waker) {
            Look::Landed(Some(session)) => Poll::Ready(self.unexpired(session)),
            // The answer to a take that was left may have been stored just now.
            Look::Landed(None) => Poll::Ready(self.find_anew(&flight.name, flight.want)),
            Look::Answered(answer) => Poll::Ready(self.conclude(answer, &asker())),
            Look::Waits => Poll::Pending,
            Look::Polls(later) => {
                let asker = asker();
                match self.poll_once(flight, later) {
                    Ok(answer) => Poll::Ready(self.conclude(answer, &asker)),
                    Err(later) => {
                        asker.park(later);
                        Poll::Pending
                    }
                }
            }
        }
    }

    /// A session that another lookup was given, unless its time is over by now: a lookup may join, or
    /// look, later than that.
    fn unexpired(&self, session: Session<S>) -> Option<Session<S>> {
        let now = self.clock.now();
        (!Due::load(session.node().node().expiry()).is_past(now)).then_some(session)
    }

    /// Looks into the cache once more for what a lookup has missed before. It may drop payloads, and what these look
    /// up must not wait for the flight that the caller may have.
    fn find_anew(&self, name: &Name, want: Want) -> Option<Session<S>> {
        dispatch::call(|| match want {
            Want::Get => self.find_by_mode(name).ok(),
            Want::Take => self.take_by_mode(name).ok(),
        })
    }

    /// Polls the future of a flight; returns it if it is not finished.
    fn poll_once(&self, flight: &Flight<S>, mut later: Later<S>) -> Result<Answer<S>, Later<S>> {
        let answer = match self.caught(|| dispatch::call(|| flight.poll(&mut later))) {
            Some(Poll::Pending) => return Err(later),
            Some(Poll::Ready(answer)) => answer,
            None => Answer::Nothing,
        };
        self.dropped(later);
        Ok(answer)
    }

    /// Drops a future: user code, which may panic.
    fn dropped(&self, later: Later<S>) {
        self.caught(|| dispatch::call(|| drop(later)));
    }

    /// A lookup does not wait any longer. What has come in this very moment is its own still.
    fn give_up(&self, seat: Seat<S>) -> Option<Session<S>> {
        let flight = Arc::clone(seat.flight());
        let at = self.shard_of(&flight.name);
        let _delivery = self.delivery(at);
        let session = match seat.leave(&self.dispatch.bell()) {
            Left::Session(session) => session.and_then(|session| self.unexpired(session)),
            Left::Answer(answer) => {
                let asker = self.shards[at].flights.asker_for_cache(&flight);
                self.conclude(answer, &asker)
            }
            left => {
                self.keep(flight, left);
                None
            }
        };
        if session.is_none() {
            self.counters.count(Count::GetTimedOut);
        }
        session
    }

    /// A lookup leaves its flight, which goes on.
    fn leave_flight(&self, seat: Seat<S>) {
        let flight = Arc::clone(seat.flight());
        let _delivery = self.delivery(self.shard_of(&flight.name));
        let left = seat.leave(&self.dispatch.bell());
        self.keep(flight, left);
    }

    /// Keeps what a lookup has left behind, so that it is not lost.
    fn keep(&self, flight: Arc<Flight<S>>, left: Left<S>) {
        match left {
            Left::Nothing | Left::Session(_) => {}
            Left::Answer(_) if planted!("answer-left-behind") => {}
            Left::Answer(answer) => {
                let at = self.shard_of(&flight.name);
                let asker = self.shards[at].flights.asker_for_cache(&flight);
                self.keep_answer(answer, &asker);
            }
            Left::Orphan => {
                let is_full = self.orphans.count() as u64 >= self.dispatch.most_waiting(1);
                let timeout = if is_full { Duration::ZERO } else { self.lookup_timeout };
                let orphan = Orphan::new(flight, timeout);
                // Contained: as in `tend_orphans`, and above.
                let tend = |orphan| contained(|| self.tend_orphan(orphan)).flatten();
                let stays = if is_full { tend(orphan) } else { Some(orphan) };
                stays.into_iter().for_each(|orphan| self.put_orphan(orphan));
            }
        }
    }

    /// Puts an orphan where the ticker finds it. What rang before it was there was not heard.
    fn put_orphan(&self, orphan: Orphan<S>) {
        let flight = Arc::clone(&orphan.flight);
        self.orphans.put(orphan);
        if flight.rang() {
            self.dispatch.ring();
        }
    }

    /// Tends futures that lookups have left, up to `most`.
    pub(crate) fn tend_orphans(&self, most: usize) {
        for _ in 0..self.orphans.count().min(most) {
            let Some(orphan) = self.orphans.next() else { return };
            // One by one, and contained: a payload's drop that panics strands no other.
            let stays = contained(|| self.tend_orphan(orphan)).flatten();
            stays.into_iter().for_each(|orphan| self.put_orphan(orphan));
        }
    }

    /// Polls a future that was left, if it was woken, and drops it if it is late; returns it if it stays.
    fn tend_orphan(&self, orphan: Orphan<S>) -> Option<Orphan<S>> {
        let flight = &orphan.flight;
        let at = self.shard_of(&flight.name);
        let _delivery = self.delivery(at);
        let asker = || self.shards[at].flights.asker_for_cache(flight);
        let (asker, later, is_late) = match orphan.look() {
            Tended::Waits => return Some(orphan),
            Tended::Done => return None,
            Tended::Polls(later) => (asker(), later, false),
            Tended::Late(later, true) => (asker(), later, true),
            Tended::Late(later, false) => {
                self.end_late(later, asker());
                return None;
            }
        };
        match self.poll_once(flight, later) {
            Ok(answer) => self.conclude_orphan(answer, asker),
            Err(later) if is_late => self.end_late(later, asker),
            Err(later) => {
                asker.park(later);
                return Some(orphan);
            }
        }
        None
    }

    /// The time of a future that was left is over: it is dropped, unless a lookup has come for it since.
    fn end_late(&self, later: Later<S>, asker: Asker<'_, S>) {
        let Some((asker, later)) = asker.park_for_lookup(later) else { return };
        // Contained, each: what else is dropped is the user's, too.
        let taken = contained(|| self.take_for_no_lookup(&asker));
        // First, so that whoever comes while these are dropped asks anew.
        drop(asker);
        let _ = contained(|| dispatch::call(|| drop(taken)));
        self.dropped(later);
    }

    /// [`take_for_nobody`](Self::take_for_nobody), for a take that has left its flight: what was inside when it asked.
    /// What has come since nobody was going to take, and it may be the answer itself.
    fn take_for_no_lookup(&self, asker: &Asker<'_, S>) -> Option<Session<S>> {
        let Flight { name, want, .. } = &**asker.flight();
        if *want == Want::Get || !self.has(name, CacheMode::NO_INTERNAL_LOOKUP) {
            return None;
        }
        dispatch::call(|| self.take_stamped(name, asker.flight().inside()?))
    }

    /// What was answered after every lookup had left: for one that has come since; or the cache keeps
    /// it, for what was answered to a take is nowhere else any more.
    fn conclude_orphan(&self, answer: Answer<S>, asker: Asker<'_, S>) {
        match asker.flight().want {
            Want::Get => {
                let session = self.conclude(answer, &asker);
                // First, so that nobody waits for the session's drop.
                drop(asker);
                drop(session);
            }
            Want::Take => {
                if let Some((asker, answer)) = asker.leave_answer(answer) {
                    self.keep_answer(answer, &asker);
                }
            }
        }
    }

    /// Stores what was answered to a take that nobody waits for, as if it was given to a get. It is lost where the
    /// mode stores nothing, or there is no room.
    ///
    /// Nobody has got it, so it is not counted as handed out, nor told as taken. It is not handed back through the
    /// new-session callback: what is removed or put elsewhere in that moment would be told before it, and it would come back
    /// to life.
    fn keep_answer(&self, answer: Answer<S>, asker: &Asker<'_, S>) {
        // As in `conclude`; and the drop of what is not stored. Contained, for a lookup may be dropped as its thread
        // unwinds.
        let _ = contained(|| dispatch::call(|| drop(self.accept(answer, asker, Want::Get))));
        let _ = contained(|| dispatch::call(|| drop(self.take_for_no_lookup(asker))));
    }

    /// Accepts an answer to lookups that wait, and tells them.
    fn conclude(&self, answer: Answer<S>, asker: &Asker<'_, S>) -> Option<Session<S>> {
        let &Flight { ref name, want, .. } = &**asker.flight();
        // The weigher, and drops of what was given: what they look up must not wait for this very flight.
        let accepted = dispatch::call(|| self.accept(answer, asker, want));
        let Some(session) = accepted else {
            self.take_for_nobody(name, want);
            return None;
        };
        let count = || self.counters.count(Count::GetAnswered);
        match want {
            // For many, or for the cache alone.
            Want::Get => asker.land(&session, count),
            Want::Take if self.took_outside(asker) => count(),
            Want::Take => {
                // Another take was first. Its drop, as above: the flight lasts.
                dispatch::call(|| drop(session));
                return None;
            }
        }
        Some(session)
    }

    /// Checks an answer, which is for a get or for one take; `None` if it is not what was asked for.
    fn accept(&self, answer: Answer<S>, asker: &Asker<'_, S>, want: Want) -> Option<Session<S>> {
        let Flight { name, scope, .. } = &**asker.flight();
        match answer {
            Answer::Nothing | Answer::Later(_) => None,
            Answer::Share(session) => {
                let node = session.node().node();
                // The numbers of scopes are each cache's own.
                let is_ours = session.node().is_of(self.gauges());
                let is_right = is_ours && *node.id() == name.id && node.scope() == name.scope;
                let is_live = !Due::load(node.expiry()).is_past(self.clock.now());
                (is_right && is_live && !asker.is_stale()).then_some(session)
            }
            Answer::Give(found) => {
                let is_right = found.id == name.id && found.scope == *scope.scope();
                let is_live = millis(found.lifetime) > 0;
                if !is_right || !is_live || asker.is_stale() || scope.slot() != name.scope {
                    return None;
                }
                // If the weigher panics, it is not stored, and handed out nevertheless: it may be nowhere else
                // any more.
                let weight = contained(|| self.weigh(&found.payload));
                let due = Due::new(self.clock.now(), millis(found.lifetime));
                let node = NewNode::new(
                    name,
                    weight.map_or(0, |weight| u32::try_from(weight).unwrap_or(u32::MAX)),
                    if planted!("shown-at-once") { due } else { Due::PROVISIONAL }.to_word(),
                    found.payload,
                    false,
                );
                match want {
                    Want::Get => self.enter(node, weight.unwrap_or(usize::MAX), due, asker),
                    Want::Take => Some(self.hand_out(node, due)),
                }
            }
        }
    }

    /// Stores what was given, unseen, and shows it, unless the flight is stale by then. What there is no
    /// room for is handed out nevertheless.
    fn enter(
        &self,
        node: NewNode<S>,
        weight: usize,
        due: Due,
        asker: &Asker<'_, S>,
    ) -> Option<Session<S>> {
        let Flight { name, scope, .. } = &**asker.flight();
        let at = self.shard_of(name);
        if self.has(name, CacheMode::NO_INTERNAL_STORE) {
            return Some(self.hand_out(node, due));
        }
        // As in a put, outside the gate. The answer may be nowhere else any more: another payload's panic must not lose it.
        let _ = contained(|| self.tend(self.lanes.mine(), self.clock.now()));
        let Some(inside) = self.gate.enter() else { return Some(self.hand_out(node, due)) };
        if self.admit(at, name.scope, weight).is_err() {
            return Some(self.hand_out(node, due));
        }
        let (own, spot) = (self.lanes.mine_to_put(), self.shards[at].table.spot(name.hash));
        let now = self.clock.now();
        let stored = self.store(node, (at, own, spot), now, IfPresent::Refuse);
        drop(inside);
        match stored {
            Ok(Stored { unseen, gone, .. }) => {
                // Without a reference it was removed before it was shown.
                let session = unseen.and_then(|unseen| self.show(unseen, due, asker));
                if let Some(session) = session.as_ref().filter(|_| scope.slot() != name.scope) {
                    // As in a put: the scope was dropped meanwhile, and its sweep may have passed.
                    self.remove_session(session, Reason::ScopeDropped);
                }
                // User code, which may panic: as above.
                let _ = contained(|| drop(gone));
                session
            }
            // Another one was put meanwhile.
            Err((Refusal::Present, given)) if !self.has(name, CacheMode::NO_INTERNAL_LOOKUP) => {
                // User code, which may panic. Before there is a session: what a function returns is lost
                // if the drop of one of its variables panics then (rust-lang/rust#47949).
                drop(given);
                self.find(&self.shards[self.shard_of(name)], name).ok()
            }
            Err((_, node)) => Some(self.hand_out(node, due)),
        }
    }

    /// Shows a session that was linked unseen; or removes it, if the flight is stale.
    fn show(&self, node: NodeRef<S>, due: Due, asker: &Asker<'_, S>) -> Option<Session<S>> {
        let session = Session::new(node);
        // What was inside is not any more, or this one would not have been linked.
        let has_left = asker.flight().inside().is_some() && !planted!("shown-in-place-of-the-left");
        if has_left || asker.is_stale() {
            self.remove_session(&session, Reason::Rejected);
            return None;
        }
        let node = session.node();
        // If it has been removed, it is handed out, once.
        Due::show(node.node().expiry(), due);
        let hint = {
            let guard = pin();
            Hint::new(node.node().hash(), node.pinned(&guard).stamp())
        };
        self.lanes.file(self.lanes.mine(), hint, due.at(), self.clock.now());
        Some(session)
    }

    /// A session that never was in the table.
    pub(super) fn hand_out(&self, node: NewNode<S>, due: Due) -> Session<S> {
        Due::show(node.node().expiry(), due);
        Session::new(node.into_handle(self.gauges()))
    }
}
