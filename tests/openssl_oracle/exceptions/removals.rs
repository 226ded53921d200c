//! How sessions are removed.

use resumption::Reason;

use super::{Exception, Step};
use crate::oracle::operation::{Action, At};
use crate::oracle::outcome::{Event, Outcome, Returned};

pub(super) const ANOTHER_OBJECT: Exception = Exception {
    name: "what is told as removed is the session that was in the cache",
    behaviour: "B6",
    reason: "OpenSSL shows the object that it was asked with, which may be another one of the same id; \
             ours is asked with an id",
    explain: |step, outcome| {
        let Action::Remove(shown) = step.action else { return false };
        let Some((id, there)) = step.known(shown.id) else { return false };
        let told = Event::Removed(id, shown.version, Reason::Removed);
        there.version != shown.version && outcome.untell(told) && {
            outcome.events.push(Event::Removed(id, there.version, Reason::Removed));
            true
        }
    },
};

pub(super) const ABSENT_TOLD: Exception = Exception {
    name: "a removal of what is not there is not told without a get callback",
    behaviour: "B7",
    reason: "the manual page: the callback is called when a session is removed from the internal cache. \
             It is told by the id where there is an external one, which may have the session",
    explain: |step, outcome| {
        let Action::Remove(shown) = step.action else { return false };
        let told = Event::Removed(shown.id, shown.version, Reason::Removed);
        let is_elsewhere = step.known(shown.id).is_none() && !step.listening.to_get;
        is_elsewhere && outcome.untell(told)
    },
};

pub(super) const EXPIRED_REMOVED: Exception = Exception {
    name: "a removal of an expired session finds nothing, and the session leaves as expired",
    behaviour: "B6",
    reason: "an expired session is never seen again, and is counted as expired by whoever meets it",
    explain: |step, outcome| {
        let Action::Remove(shown) = step.action else { return false };
        let Some((id, there)) = step.known(shown.id).filter(|(_, there)| step.is_expired(there))
        else {
            return false;
        };
        outcome.returned = Returned::Bool(false);
        let is_told = outcome.untell(Event::Removed(id, there.version, Reason::Removed));
        outcome.events.push(Event::Removed(id, there.version, Reason::Expired));
        is_told
    },
};

pub(super) const FLUSHED_PAST: Exception = Exception {
    name: "a flush at a time that is past removes everything that is expired now",
    behaviour: "B8",
    reason: "there is no use for a session that is expired; `flush_expired` takes no time",
    explain: flushed_past,
};

fn flushed_past(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Action::Flush(At::Past(_)) = *step.action else { return false };
    let rest = outcome.contents.keys().filter_map(|&id| step.known(id));
    let expired: Vec<_> = rest.filter(|(_, known)| step.is_expired(known)).collect();
    for (id, known) in &expired {
        outcome.contents.remove(id);
        outcome.events.push(Event::Removed(*id, known.version, Reason::Expired));
    }
    !expired.is_empty()
}
