//! Asking: a lookup that found nothing asks the get callback.
//!
//! What it answers is checked, and enters the cache only if no session of the id has left it
//! meanwhile (see `flight.rs`) and none waits to be told as removed: an external cache that lags
//! cannot bring a session back.

#![forbid(unsafe_code)]

use super::{Engine, Mode};
use crate::callbacks::{Answer, Found, Proposed, Want};
use crate::clock::millis;
use crate::dispatch;
use crate::expiry::{Age, Due, Hint};
use crate::flight::{Asker, Begun};
use crate::reclaim::pin;
use crate::scope::Entry as ScopeEntry;
use crate::session::Session;
use crate::stats::{Count, Reason};
use crate::table::{Name, NewNode, NodeRef, SessionId};

impl<S: Send + Sync + 'static> Engine<S> {
    /// Asks the get callback for what the cache does not hold.
    #[cold]
    pub(super) fn ask(&self, scope: &ScopeEntry, id: &SessionId, want: Want) -> Option<Session<S>> {
        let callback = self.callbacks.on_get()?;
        let name = self.name(scope.slot(), id);
        let shard = &self.shards[self.shard_of(&name)];
        let asker = match shard.flights.begin(&name) {
            Begun::Asks(asker) => asker,
            // A session is taken by one. And a callback that waits could wait for itself.
            Begun::Waits(_) if want == Want::Take || dispatch::is_in_callback() => return None,
            Begun::Waits(flight) => return flight.wait(),
        };
        // Once more, now that whoever removes a session of this name finds the flight.
        let there = match want {
            Want::Get => self.find(&name),
            Want::Take => self.take_by_name(&name),
        };
        if there.is_some() {
            asker.land(there.clone().filter(|_| want == Want::Get));
            return there;
        }
        if shard.is_leaving(&name) {
            return None;
        }
        self.counters.count(Count::GetCalled);
        let proposed = Proposed { id, scope: scope.scope(), want };
        // With its last reference, which may be this one.
        let answer = self.caught(|| dispatch::call(move || callback(&proposed)))?;
        let session = self.accept(answer, scope, &name, want, &asker)?;
        self.counters.count(Count::GetAnswered);
        if want == Want::Get {
            asker.land(Some(session.clone()));
        }
        Some(session)
    }

    /// Checks an answer; `None` if it is not what was asked for.
    fn accept(
        &self,
        answer: Answer<S>,
        scope: &ScopeEntry,
        name: &Name,
        want: Want,
        asker: &Asker<'_, S>,
    ) -> Option<Session<S>> {
        match answer {
            Answer::Nothing => None,
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
                match want {
                    Want::Get => self.enter(found, scope, name, asker),
                    Want::Take => Some(self.detached(found, name)),
                }
            }
        }
    }

    /// Stores what was found, and shows it, unless the flight is stale by then. What there is no room
    /// for is handed out nevertheless.
    fn enter(
        &self,
        found: Found<S>,
        scope: &ScopeEntry,
        name: &Name,
        asker: &Asker<'_, S>,
    ) -> Option<Session<S>> {
        let at = self.shard_of(name);
        let weight = self.weigh(&found.payload);
        let _delivery = self.delivery(at);
        let _held = self.shards[at].has_told().then(dispatch::hold);
        let Some(inside) = self.gate.enter() else { return Some(self.detached(found, name)) };
        let Ok(weight) = self.admit(at, name.scope, weight) else {
            return Some(self.detached(found, name));
        };
        let (now, lifetime) = (self.clock.now(), millis(found.lifetime));
        let word = Due::PROVISIONAL.to_word();
        let node = NewNode::new(*name, weight, word, found.payload, false);
        let (mut held, spot) = (None, self.shards[at].table.spot(name.hash));
        let stored = self.store(node, (at, spot), now, Mode::IfAbsent, Some(&mut held));
        let is_linked = stored.is_ok();
        let session = match (stored, held) {
            (Ok(_), Some(node)) => self.show(at, node, Due::new(now, lifetime), asker),
            // It was removed before it was shown.
            (Ok(_), None) => None,
            // Another one was put meanwhile.
            (Err((crate::Refusal::Present, node)), _) => {
                drop(node.into_payload());
                self.find(name)
            }
            (Err((_, node)), _) => {
                let found = Found {
                    id: name.id,
                    scope: found.scope,
                    payload: node.into_payload(),
                    lifetime: found.lifetime,
                };
                Some(self.detached(found, name))
            }
        };
        drop(inside);
        if scope.slot() != name.scope
            && let Some(session) = session.as_ref().filter(|_| is_linked)
        {
            // As in a put: the scope was dropped meanwhile, and its sweep may have passed.
            self.remove_session(session, Reason::ScopeDropped);
        }
        self.tend(at, now);
        session
    }

    /// Shows a session that was linked unseen; or removes it, if the flight is stale.
    fn show(
        &self,
        at: usize,
        node: NodeRef<S>,
        due: Due,
        asker: &Asker<'_, S>,
    ) -> Option<Session<S>> {
        let session = Session::new(node, &self.clock);
        if asker.is_stale() {
            self.remove_session(&session, Reason::Rejected);
            return None;
        }
        let node = session.node();
        // Fails only if it has been removed: then it is handed out, once.
        Due::show(node.node().expiry(), due);
        let hint = {
            let guard = pin();
            Hint::new(node.node().hash(), node.pinned(&guard).stamp())
        };
        self.shards[at].wheel.push(hint, due.at(), self.clock.now(), Age::Fresh);
        Some(session)
    }

    /// A session that never was in the table.
    pub(super) fn detached(&self, found: Found<S>, name: &Name) -> Session<S> {
        let weight = u32::try_from(self.weigh(&found.payload)).unwrap_or(u32::MAX);
        let due = Due::new(self.clock.now(), millis(found.lifetime)).to_word();
        let node = NewNode::new(*name, weight, due, found.payload, false);
        Session::new(node.into_handle(self.gauges()), &self.clock)
    }
}
