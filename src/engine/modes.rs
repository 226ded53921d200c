//! What the modes of [`CacheMode`] change.
//!
//! A shard's word of settings says that the mode is not the default one; where it is, nothing here is
//! called.

#![forbid(unsafe_code)]

use super::put::Stored;
use super::{Engine, IfPresent, Missing};
use crate::callbacks::Want;
use crate::dispatch::{self, contained, hold};
use crate::expiry::Due;
use crate::flight::Asker;
use crate::mode::CacheMode;
use crate::outcome::Refusal;
use crate::reclaim::pin;
use crate::session::Session;
use crate::stats::{Count, Reason};
use crate::sync::planted;
use crate::table::{Name, NewNode};

impl<S: Send + Sync + 'static> Engine<S> {
    /// The mode at present.
    pub(crate) fn mode(&self) -> CacheMode {
        self.shards[0].tells().mode()
    }

    /// Sets the mode from now on. Changes of settings exclude each other.
    pub(crate) fn set_mode(&self, mode: CacheMode) {
        self.shards.iter().for_each(|shard| shard.set_mode(mode));
    }

    /// Whether a server's connection may find its session again: one that is put, or one that an
    /// external cache has.
    pub(crate) fn serves_servers(&self) -> bool {
        let tells = self.shards[0].tells();
        !self.is_closed() && (tells.has(CacheMode::SERVER) || tells.asks())
    }

    /// Whether the mode of a name's shard has a flag.
    #[inline]
    pub(super) fn has(&self, name: &Name, flag: CacheMode) -> bool {
        self.shards[self.shard_of(name)].tells().has(flag)
    }

    /// [`find`](Self::find) in any mode.
    #[cold]
    pub(super) fn find_by_mode(&self, name: &Name) -> Result<Session<S>, Missing> {
        if self.has(name, CacheMode::NO_INTERNAL_LOOKUP) {
            return Err(Missing::NotLookedFor);
        }
        let session = self.find(&self.shards[self.shard_of(name)], name)?;
        if self.has(name, CacheMode::UPDATE_TIME) {
            // If it has left since, this changes when it would have expired, and nothing else.
            Due::renew(session.node().node().expiry(), self.clock.now());
        }
        Ok(session)
    }

    /// [`find_and_take`](Self::find_and_take) in any mode.
    #[cold]
    pub(super) fn take_by_mode(&self, name: &Name) -> Result<Session<S>, Missing> {
        if !self.has(name, CacheMode::NO_INTERNAL_LOOKUP) {
            return self.find_and_take(name);
        }
        if !self.shards[self.shard_of(name)].asks() {
            drop(self.find_and_take(name));
        }
        Err(Missing::NotLookedFor)
    }

    /// A take has asked, where the cache is not looked into ([`CacheMode::NO_INTERNAL_LOOKUP`]): the
    /// session of its name that is in the cache is taken out of it, for nobody.
    ///
    /// Not before it asks: while that removal waits to be told nobody may ask. And by the one who asks
    /// alone, while its flight lasts: the removal marks that as stale, and another's answer would be lost.
    pub(super) fn take_for_nobody(&self, name: &Name, want: Want) {
        if want == Want::Take && self.has(name, CacheMode::NO_INTERNAL_LOOKUP) {
            // What its drop looks up must not wait for the caller's flight.
            dispatch::call(|| drop(self.find_and_take(name)));
        }
    }

    /// The stamp of the live session of `name`, if there is one.
    pub(super) fn stamp_of(&self, name: &Name) -> Option<u16> {
        let (table, now, guard) = (&self.shards.of(name.hash).table, self.clock.now(), pin());
        let found = table.get(name, table.spot(name.hash), &guard)?;
        (!Due::load(found.node().expiry()).is_past(now)).then(|| found.pinned().stamp())
    }

    /// Takes the session of `name` that has this stamp: the one that had it, as far as a stamp tells. One that was extended since to
    /// expire sooner has another one, and stays. A later one in the same block may have the same, and goes. A handle would tell
    /// for certain, and keep a payload that has left everywhere else for as long as the question lasts.
    pub(super) fn take_stamped(&self, name: &Name, stamp: u16) -> Option<Session<S>> {
        let session = {
            let (table, guard) = (&self.shards.of(name.hash).table, pin());
            let found = table.get(name, table.spot(name.hash), &guard)?;
            let is_it = found.pinned().stamp() == stamp;
            Session::new(is_it.then(|| found.pinned().acquire(self.gauges())).flatten()?)
        };
        self.remove_session(&session, Reason::Taken).then(|| {
            self.past.note(name.hash, Reason::Taken);
            session
        })
    }

    /// The get callback has answered a take; `false` if another take has that session already. Where
    /// nothing is stored the taking is told, unless that of a session in the cache is.
    ///
    /// The session may have been put since the take looked into the cache, or in a mode that did not let
    /// it look, and been told to the external cache: it leaves with this take. Both orders with one that
    /// takes it out of the cache: if this is first, that one finds nothing; if that one is first, it has
    /// marked the flight.
    #[cold]
    pub(super) fn took_outside(&self, asker: &Asker<'_, S>) -> bool {
        let name = &asker.flight().name;
        if !planted!("left-inside") {
            match self.take_contained(name) {
                Ok(()) => return true,
                Err(Missing::Unknown) if asker.is_stale() => return false,
                Err(_) => {}
            }
        }
        self.tell_gone(name, Reason::Taken);
        true
    }

    /// Takes a session out of the cache and drops it. Other payloads may go with it, and panic: the answer that the
    /// caller has is nowhere else, and must not be lost by that. Nor must what they look up wait for its flight.
    fn take_contained(&self, name: &Name) -> Result<(), Missing> {
        let taken = loop {
            // Each panic is another payload's, which is gone then.
            if let Some(taken) = contained(|| dispatch::call(|| self.find_and_take(name))) {
                break taken;
            }
        };
        taken.map(|session| _ = contained(|| dispatch::call(|| drop(session))))
    }

    /// Tells that a session which the cache does not hold is no more, where an external cache may hold it: where nothing
    /// is stored, and, of what is removed, where lookups ask. (One that was asked for a take has deleted what it gave.)
    /// What is being answered meanwhile counts for nothing, also if nobody is told of removals. Returns whether whoever
    /// removes has to look once more.
    ///
    /// Race with a lookup that asks: it registers its flight, looks whether a leaving waits, and asks;
    /// this announces, and then marks the flight as stale. If the registration is before the mark, the
    /// answer counts for nothing from there on; if it is after the mark, the lookup sees the leaving.
    ///
    /// Race with the storing of an answer: the asker links it unseen, looks for the mark, and shows it; this marks, and
    /// then the session is looked for once more, unseen or not. If the look for the mark is before the mark, the session
    /// is found (`flight.rs`: both change the count of flights); otherwise the asker removes it itself.
    ///
    /// Race with a put, which may be told before this though it came later than the first search: an external cache
    /// loses its session then, and the second search removes it here: by the slot that the scope has after the
    /// announcement, for the scope may have been dropped since the first one.
    #[cold]
    pub(super) fn tell_gone(&self, name: &Name, reason: Reason) -> bool {
        let shard = &self.shards[self.shard_of(name)];
        let tells = shard.tells();
        let is_outside =
            tells.has(CacheMode::NO_INTERNAL_STORE) || tells.asks() && reason.is_removal();
        let code = (tells.left() && is_outside).then(|| reason.to_code());
        if code.is_none() && !(reason.is_removal() && tells.has_asked()) {
            return false;
        }
        if let Some(code) = code {
            if !planted!("gone-without-search") {
                // What another thread has evicted may be announced later than this: the search announces it.
                let _ = shard.table.entry(name, shard.table.spot(name.hash), &pin());
            }
            shard.table.announce_gone(name, code);
        }
        shard.mark_stale(name);
        !planted!("gone-without-a-second-look")
    }

    /// Hands a put's session to the new-session callback, where nothing is stored. A session of its name that
    /// is in the cache leaves it first: an external cache that is keyed by id would lose the new one
    /// if the leaving of the old one were told after it.
    #[cold]
    pub(super) fn hand_over(
        &self,
        node: NewNode<S>,
        if_present: IfPresent,
    ) -> Result<Stored<'_, S>, (Refusal, NewNode<S>)> {
        // What leaves is dropped inside the gate: as in `make_room_for`.
        let _held = hold();
        let node = node;
        if !node.tells_came() {
            return Err((Refusal::NobodyToTell, node));
        }
        let name = node.node().name();
        if !planted!("handed-over-beside-the-outdated") {
            self.remove_outdated(&name);
        }
        if if_present == IfPresent::Refuse && self.is_there(&name) {
            return Err((Refusal::Present, node));
        }
        let replaced = self.depart(&name, Reason::Replaced).ok().map(|left| self.handle(left));
        let table = &self.shards[self.shard_of(&name)].table;
        if !planted!("handed-over-without-search") {
            // What another thread has removed may be announced later than this: the search announces it.
            let _ = self.entry(table, node.node(), table.spot(name.hash), &pin());
        }
        let unseen = Some(table.announce_unlinked(node));
        self.counters.count(Count::HandedOver);
        Ok(Stored { replaced, gone: None, unseen })
    }
}
