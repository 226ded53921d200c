//! Where the engine differs from OpenSSL on purpose: what, and why.
//!
//! An exception turns what OpenSSL has done into what the engine does instead. It applies where its
//! pattern does, and nowhere else; and what comes of all of them has to be what the engine has done,
//! exactly. One that is applied where the engine has come to agree with OpenSSL makes the comparison
//! fail; one that is never applied makes the run fail.

mod lookups;
mod removals;
mod room;
mod stores;

use std::collections::BTreeMap;

use resumption::Reason;

use super::operation::{Action, Listening};
use super::outcome::{Event, Id, Outcome, Version};

/// A difference on purpose.
#[derive(Debug)]
pub(crate) struct Exception {
    pub(crate) name: &'static str,
    /// What of OpenSSL's behaviour it is about, by the numbers of `docs/openssl.md`.
    pub(crate) behaviour: &'static str,
    pub(crate) reason: &'static str,
    /// Turns OpenSSL's outcome into the engine's; whether the pattern applies.
    pub(crate) explain: fn(&Step<'_>, &mut Outcome) -> bool,
}

/// An action, what was there, and what has come of it on either side.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) action: &'a Action,
    pub(crate) now: i64,
    /// What was in both caches before.
    pub(crate) before: &'a BTreeMap<Id, Known>,
    /// The most sessions, after the action.
    pub(crate) limit: Option<u64>,
    /// OpenSSL's size, after the action; 0 is no limit.
    pub(crate) size: i64,
    pub(crate) no_auto_clear: bool,
    pub(crate) listening: Listening,
    /// The longest time so far in which nobody looked for what is due.
    pub(crate) idle: i64,
    pub(crate) theirs: &'a Outcome,
    pub(crate) ours: &'a Outcome,
}

/// What is known of a session that is in both caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) version: Version,
    pub(crate) expires: i64,
    /// How long it had to live when that was last set.
    pub(crate) lifetime: i64,
    /// Orders what expires in the same second in OpenSSL's list: the oldest is evicted first.
    pub(crate) listed: u64,
    /// Whether a lookup has found it since it came.
    pub(crate) was_used: bool,
}

/// All of them, in the order in which they are applied.
pub(crate) const ALL: [Exception; 23] = [
    lookups::MARKED,
    lookups::LAST_SECOND,
    lookups::EXPIRED_ASKED,
    lookups::EXPIRED_GIVEN,
    lookups::STRANGER_GIVEN,
    lookups::OTHER_GIVEN,
    lookups::SHARED,
    lookups::GIVEN_TO_A_TAKE,
    stores::REPLACED_TOLD,
    stores::BY_HAND_TOLD,
    stores::REJECTED,
    stores::REVIVED,
    removals::ANOTHER_OBJECT,
    removals::ABSENT_TOLD,
    removals::EXPIRED_REMOVED,
    removals::FLUSHED_PAST,
    room::ONE_LESS,
    room::LOWERED,
    room::SPARED,
    room::SAME_SLOT,
    room::EXPIRED_EVICTED,
    room::CLEARED,
    room::ORDER,
];

impl Step<'_> {
    /// The id that is looked up, if one is.
    fn wanted(&self) -> Option<Id> {
        let Action::Lookup { id, .. } = *self.action else { return None };
        Some(id)
    }

    /// The session of an id that was there before.
    fn known(&self, id: Id) -> Option<(Id, Known)> {
        self.before.get(&id).map(|known| (id, *known))
    }

    /// Whether a session was expired.
    fn is_expired(&self, known: &Known) -> bool {
        known.expires < self.now
    }

    /// Why a session leaves that leaves for `reason` if it is not expired.
    fn or_expired(&self, known: &Known, reason: Reason) -> Reason {
        if self.is_expired(known) { Reason::Expired } else { reason }
    }

    /// Takes back that a session was stored, and that others had to go for it.
    fn unstore(&self, id: Id, outcome: &mut Outcome) {
        for (evicted, version) in outcome.evicted() {
            outcome.untell(Event::Removed(evicted, version, Reason::Evicted));
            outcome.counts.cache_full -= 1;
            self.restore(evicted, outcome);
        }
        self.restore(id, outcome);
    }

    /// Puts back what was there before, if anything was and it has not left.
    fn restore(&self, id: Id, outcome: &mut Outcome) {
        outcome.contents.remove(&id);
        let is_of = |event: &Event| matches!(event, Event::Removed(left, ..) if *left == id);
        if let Some((id, known)) = self.known(id)
            && !outcome.events.iter().any(is_of)
        {
            let expires = Some(known.expires).filter(|&expires| expires >= self.now);
            let entry = super::outcome::Entry { version: known.version, expires };
            outcome.contents.insert(id, entry);
        }
    }

    /// Evicts what OpenSSL would, for as long as there are more than `most`; not `spare`.
    fn evict(&self, most: u64, spare: Option<Id>, outcome: &mut Outcome) {
        while outcome.contents.len() as u64 > most {
            let rest = outcome.contents.keys().filter(|&&id| Some(id) != spare);
            let first =
                rest.filter_map(|&id| self.known(id)).min_by_key(|(_, known)| known.order());
            let Some((id, known)) = first else { return };
            outcome.contents.remove(&id);
            outcome.events.push(Event::Removed(id, known.version, Reason::Evicted));
            outcome.counts.cache_full += 1;
        }
    }
}

impl Known {
    /// The order in which OpenSSL evicts.
    fn order(&self) -> (i64, u64) {
        (self.expires, self.listed)
    }

    /// When the engine takes it for expired: not before it was told.
    fn due(&self) -> i64 {
        self.expires - self.lifetime.min(0)
    }
}
