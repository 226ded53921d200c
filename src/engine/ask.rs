//! Asking: a lookup that found nothing asks the get callback.
//!
//! What it answers is checked, and enters the cache only if no session of the id has left it
//! meanwhile (see `flight.rs`) and none waits to be told as removed: an external cache that lags
//! cannot bring a session back.

#![forbid(unsafe_code)]

use super::put::Stored;
use super::{Engine, Mode};
use crate::callbacks::{Answer, Proposed, Want};
use crate::clock::millis;
use crate::dispatch;
use crate::expiry::{Age, Due, Hint};
use crate::flight::{Asker, Begun};
use crate::mode::CacheMode;
use crate::outcome::Refusal;
use crate::reclaim::pin;
use crate::scope::Entry as ScopeEntry;
use crate::session::Session;
use crate::stats::{Count, Reason};
use crate::table::{Name, NewNode, NodeRef};

impl<S: Send + Sync + 'static> Engine<S> {
    /// Asks the get callback for what the cache does not hold.
    #[cold]
    pub(super) fn ask(&self, scope: &ScopeEntry, name: &Name, want: Want) -> Option<Session<S>> {
        let callback = self.callbacks.get.callback()?;
        let at = self.shard_of(name);
        let shard = &self.shards[at];
        let _delivery = self.delivery(at);
        let asker = match shard.flights.begin(name) {
            Begun::Asks(asker) => asker,
            // A session is taken by one. And a callback that waits could wait for itself.
            Begun::Waits(_) if want == Want::Take || dispatch::is_in_callback() => return None,
            Begun::Waits(flight) => return flight.wait(),
        };
        let _outside = self.outside_take(name, want);
        // Once more, now that whoever removes a session of this name finds the flight.
        let there = match want {
            Want::Get => self.find_by_mode(name),
            Want::Take => self.take_by_mode(name),
        };
        let session = match there {
            Ok(session) => session,
            Err(_) if shard.is_leaving(name) => return None,
            Err(_) => {
                self.counters.count(Count::GetCalled);
                let proposed = Proposed { id: &name.id, scope: scope.scope(), want };
                // With the callback's last reference, which this one may be.
                let answer = self.caught(|| dispatch::call(move || callback(&proposed)))?;
                let session = self.accept(answer, scope, name, want, &asker)?;
                self.counters.count(Count::GetAnswered);
                if want == Want::Take {
                    self.took_outside(name);
                }
                session
            }
        };
        if want == Want::Get {
            asker.land(session.clone());
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
                let weight = self.weigh(&found.payload);
                let due = Due::new(self.clock.now(), millis(found.lifetime));
                let node = NewNode::new(
                    *name,
                    u32::try_from(weight).unwrap_or(u32::MAX),
                    Due::PROVISIONAL.to_word(),
                    found.payload,
                    false,
                );
                match want {
                    Want::Get => self.enter(node, weight, due, scope, asker),
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
        scope: &ScopeEntry,
        asker: &Asker<'_, S>,
    ) -> Option<Session<S>> {
        let name = node.node().name();
        let at = self.shard_of(&name);
        let _held = self.shards[at].has_told().then(dispatch::hold);
        let Some(inside) = self.gate.enter() else { return Some(self.hand_out(node, due)) };
        let stores = !self.has(&name, CacheMode::NO_INTERNAL_STORE);
        if !stores || self.admit(at, name.scope, weight).is_err() {
            return Some(self.hand_out(node, due));
        }
        let (now, spot) = (self.clock.now(), self.shards[at].table.spot(name.hash));
        let stored = self.store(node, (at, spot), now, Mode::IfAbsent);
        drop(inside);
        let session = match stored {
            Ok(Stored { unseen, .. }) => {
                // Without a reference it was removed before it was shown.
                let session = self.show(at, unseen?, due, asker)?;
                if scope.slot() != name.scope {
                    // As in a put: the scope was dropped meanwhile, and its sweep may have passed.
                    self.remove_session(&session, Reason::ScopeDropped);
                }
                Some(session)
            }
            // Another one was put meanwhile.
            Err((Refusal::Present, _)) if !self.has(&name, CacheMode::NO_INTERNAL_LOOKUP) => {
                self.find(&name).ok()
            }
            Err((_, node)) => Some(self.hand_out(node, due)),
        };
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
    pub(super) fn hand_out(&self, node: NewNode<S>, due: Due) -> Session<S> {
        Due::show(node.node().expiry(), due);
        Session::new(node.into_handle(self.gauges()), &self.clock)
    }
}
