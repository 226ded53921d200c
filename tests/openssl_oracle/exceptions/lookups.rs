//! How sessions are found, and what an external cache answers.

use resumption::Reason;

use super::{Exception, Step};
use crate::oracle::operation::{Action, Answer, End, Given};
use crate::oracle::outcome::{Entry, Event, Id, Outcome, Returned};

pub(super) const MARKED: Exception = Exception {
    name: "a session that has left may be given again by whoever has kept it",
    behaviour: "B4, B6, B8, B12",
    reason: "OpenSSL marks the shared object as not resumable when it leaves, also when it was only \
             evicted (openssl#18690); the engine keeps and lends copies, and whether a session may come \
             back is for the external cache to decide, which is told why it left",
    explain: marked,
};

pub(super) const LAST_SECOND: Exception = Exception {
    name: "a session is expired at the instant of its expiry",
    behaviour: "B17",
    reason: "a lifetime of n seconds is n seconds; OpenSSL counts whole seconds, and allows for the last",
    explain: last_second,
};

pub(super) const EXPIRED_ASKED: Exception = Exception {
    name: "an external cache is asked for what was here and is expired",
    behaviour: "B15, B17",
    reason: "the manual page: the callback is called whenever the session could not be found in the \
             internal cache; OpenSSL ends the search at the expired one",
    explain: expired_asked,
};

pub(super) const EXPIRED_GIVEN: Exception = Exception {
    name: "an expired session that is given is not stored, and not told as removed",
    behaviour: "B16, B17",
    reason: "what is given is checked before it is stored; OpenSSL evicts others for it",
    explain: expired_given,
};

pub(super) const STRANGER_GIVEN: Exception = Exception {
    name: "a session of another context that is given is not stored",
    behaviour: "B16, B17",
    reason: "as above; a session of another scope in this one's place could never be found",
    explain: stranger_given,
};

pub(super) const OTHER_GIVEN: Exception = Exception {
    name: "a session of another id that is given is neither resumed nor stored",
    behaviour: "B17",
    reason: "a client would resume a session that it did not propose (openssl#30517, corrected in 3.6.3); \
             OpenSSL stores it all the same",
    explain: other_given,
};

pub(super) const SHARED: Exception = Exception {
    name: "a session that is shared by its handle is not stored",
    behaviour: "B16",
    reason: "whoever has the handle keeps it: the lookup gets one of its own, and what is in the cache \
             does not change",
    explain: shared,
};

pub(super) const GIVEN_TO_A_TAKE: Exception = Exception {
    name: "a session that is given to a take is never stored",
    behaviour: "B16, B20",
    reason: "between its storing and its removal another connection could use it a second time",
    explain: given_to_a_take,
};

/// What was given to a lookup in which OpenSSL has asked, and what becomes of it.
fn given<'a>(step: &Step<'a>) -> Option<(Id, &'a Given, End)> {
    asked(step, step.theirs)
}

/// What was given to a lookup that has asked, and what becomes of it.
fn asked<'a>(step: &Step<'a>, outcome: &Outcome) -> Option<(Id, &'a Given, End)> {
    let Action::Lookup { id, given: Some(given), end, .. } = step.action else { return None };
    outcome.has(Event::Asked(*id)).then_some((*id, given, *end))
}

/// Whether OpenSSL has found what was given, or would have.
fn has_found(given: &Given, outcome: &Outcome) -> bool {
    outcome.returned == Returned::Found(Some(given.session.version))
}

/// Does what OpenSSL does about a good answer; whether it is one.
fn accept(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Some((id, given, end)) = asked(step, outcome) else { return false };
    let is_right = matches!(given.answer, Answer::Made(_) | Answer::Kept | Answer::Shared);
    if !is_right || given.expires <= step.now {
        return false;
    }
    let version = given.session.version;
    outcome.returned = Returned::Found(Some(version));
    outcome.counts.hits += 1;
    outcome.counts.callback_hits += 1;
    outcome.contents.insert(id, Entry { version, expires: Some(given.expires) });
    step.evict(step.limit.unwrap_or(u64::MAX), Some(id), outcome);
    let left = match end {
        End::Clean => return true,
        End::Unclean => Reason::Faulty,
        End::Taken => Reason::Taken,
    };
    outcome.events.push(Event::Removed(id, version, left));
    outcome.contents.remove(&id);
    true
}

fn marked(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let is_marked = given(step).is_some_and(|(_, given, _)| given.is_marked);
    is_marked && outcome.returned == Returned::Found(None) && accept(step, outcome)
}

fn expired_asked(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Some((id, _)) = step.wanted().and_then(|id| step.known(id)) else { return false };
    if !step.listening.to_get || outcome.counts.timeouts == 0 || outcome.has(Event::Asked(id)) {
        return false;
    }
    outcome.events.push(Event::Asked(id));
    accept(step, outcome);
    true
}

fn last_second(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Action::Lookup { id, given: None, end: End::Clean, .. } = *step.action else {
        return false;
    };
    let Some((id, known)) = step.known(id).filter(|(_, known)| known.expires == step.now) else {
        return false;
    };
    if outcome.returned != Returned::Found(Some(known.version)) {
        return false;
    }
    outcome.returned = Returned::Found(None);
    outcome.counts.hits -= 1;
    outcome.counts.timeouts += 1;
    outcome.events.push(Event::Removed(id, known.version, Reason::Expired));
    outcome.contents.remove(&id);
    true
}

fn expired_given(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Some((id, given, _)) = given(step) else { return false };
    let told = Event::Removed(id, given.session.version, Reason::Expired);
    if given.expires >= step.now || !outcome.untell(told) {
        return false;
    }
    outcome.counts.callback_hits -= 1;
    outcome.counts.timeouts -= 1;
    step.unstore(id, outcome);
    true
}

fn stranger_given(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Some((id, given, _)) = given(step) else { return false };
    if given.answer != Answer::Stranger || outcome.returned != Returned::Found(None) {
        return false;
    }
    outcome.counts.callback_hits -= 1;
    step.unstore(id, outcome);
    true
}

fn other_given(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Some((_, given, _)) = given(step) else { return false };
    if given.answer != Answer::Other {
        return false;
    }
    if has_found(given, outcome) {
        // Up to 3.6.2.
        outcome.counts.hits -= 1;
        outcome.returned = Returned::Found(None);
    }
    outcome.counts.callback_hits -= 1;
    step.unstore(given.session.id, outcome);
    true
}

fn shared(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Some((id, given, _)) = asked(step, outcome) else { return false };
    if given.answer != Answer::Shared || !has_found(given, outcome) {
        return false;
    }
    // It was not there, so nothing is taken afterwards.
    outcome.untell(Event::Removed(id, given.session.version, Reason::Taken));
    step.unstore(id, outcome);
    true
}

fn given_to_a_take(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let Some((id, given, End::Taken)) = asked(step, outcome) else { return false };
    let told = Event::Removed(id, given.session.version, Reason::Taken);
    if !has_found(given, outcome) || !outcome.untell(told) {
        return false;
    }
    step.unstore(id, outcome);
    true
}
