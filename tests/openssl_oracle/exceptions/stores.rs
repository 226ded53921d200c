//! How sessions enter.

use resumption::Reason;

use super::{Exception, Step};
use crate::oracle::operation::Action;
use crate::oracle::outcome::{Event, Outcome, Returned};

pub(super) const REPLACED_TOLD: Exception = Exception {
    name: "a session that is replaced is told to the remove callback, before the new one",
    behaviour: "B3",
    reason: "the manual page: the callback is called whenever a session is removed from the internal \
             cache; one that is displaced in silence stays in an external cache for ever",
    explain: |step, outcome| {
        let Action::Add { session, .. } = step.action else { return false };
        let Some((id, old)) = step.known(session.id) else { return false };
        let reason = step.or_expired(&old, Reason::Replaced);
        outcome.events.push(Event::Removed(id, old.version, reason));
        step.theirs.returned == Returned::Bool(true)
    },
};

pub(super) const BY_HAND_TOLD: Exception = Exception {
    name: "a session that is added by hand is told to the new callback",
    behaviour: "B1",
    reason: "there is one way in: a put is what a handshake does, and an external cache hears of every \
             session that came and of every one that left",
    explain: |step, outcome| {
        let Action::Add { session, .. } = step.action else { return false };
        if !step.listening.to_new {
            return false;
        }
        outcome.events.push(Event::New(session.id, session.version));
        step.theirs.returned == Returned::Bool(true)
    },
};

pub(super) const REJECTED: Exception = Exception {
    name: "a session that the new callback does not want leaves the cache, and that is told",
    behaviour: "B23",
    reason: "the manual page: if the callback returns 0, the session will be immediately removed from \
             the internal cache; OpenSSL only releases the reference",
    explain: |step, outcome| {
        let Action::Negotiate { id, version, keep: false } = *step.action else { return false };
        outcome.events.push(Event::Removed(id, version, Reason::Rejected));
        outcome.contents.remove(&id).is_some()
    },
};

pub(super) const REVIVED: Exception = Exception {
    name: "an expired session is not extended, but removed",
    behaviour: "B10",
    reason: "somebody may have been told that it is expired; one atomic step decides between the two",
    explain: revived,
};

fn revived(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Action::Extend { id, .. } = *step.action else { return false };
    let Some((id, known)) = step.known(id).filter(|(_, known)| step.is_expired(known)) else {
        return false;
    };
    outcome.returned = Returned::Bool(false);
    outcome.contents.remove(&id);
    outcome.events.push(Event::Removed(id, known.version, Reason::Expired));
    step.theirs.returned == Returned::Bool(true)
}
