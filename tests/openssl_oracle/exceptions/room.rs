//! Which sessions make room, which are cleared away, and in which order that is told.

use resumption::Reason;

use super::{Exception, Known, Step};
use crate::oracle::operation::Action;
use crate::oracle::outcome::{Event, Id, Outcome, Version};

pub(super) const ONE_LESS: Exception = Exception {
    name: "a limit of n sessions holds n; OpenSSL is given a size of n + 1",
    behaviour: "B4",
    reason: "OpenSSL evicts while there are as many sessions as its size, counting the new one",
    explain: |step, _| {
        let evicts = step.theirs.counts.cache_full > 0;
        evicts && step.theirs.contents.len() as i64 == step.size - 1
    },
};

pub(super) const LOWERED: Exception = Exception {
    name: "a limit that is lowered is obeyed at once",
    behaviour: "B31",
    reason: "a limit holds at every instant; OpenSSL obeys at the next add",
    explain: |step, outcome| {
        let Action::Resize(_) = step.action else { return false };
        step.evict(step.limit.unwrap_or(u64::MAX), None, outcome);
        outcome.counts.cache_full > 0
    },
};

pub(super) const SPARED: Exception = Exception {
    name: "eviction spares a session that was used",
    behaviour: "B4",
    reason: "a session that a client came back with is likelier to be asked for again, and goes before new ones only \
             while those are few; OpenSSL evicts by expiry alone",
    explain: |step, outcome| swap(step, outcome, true),
};

pub(super) const SAME_SLOT: Exception = Exception {
    name: "sessions that expire within an eighth of each other, or are expired, make room in any order",
    behaviour: "B4",
    reason: "the wheel's slots are an eighth of the lifetime wide, or of the time in which nobody has \
             put: a put costs the same whatever is there, where OpenSSL walks its list",
    explain: |step, outcome| swap(step, outcome, false),
};

pub(super) const EXPIRED_EVICTED: Exception = Exception {
    name: "an expired session that makes room leaves as expired, and is counted so",
    behaviour: "B4",
    reason: "the number of evictions tells whether the cache is too small",
    explain: expired_evicted,
};

pub(super) const CLEARED: Exception = Exception {
    name: "expired sessions are cleared away in small steps",
    behaviour: "B25",
    reason: "OpenSSL looks for them at every 256th handshake, and at all of them at once",
    explain: cleared,
};

pub(super) const ORDER: Exception = Exception {
    name: "calls about different ids come in no order",
    behaviour: "B8",
    reason: "what is promised is the order of each id's; a sweep goes through the table as it lies",
    explain: order,
};

/// How wide a slot of the wheel is, in seconds, and one more. Slots are `8ˡ` seconds (of 1 024 ms)
/// wide where what is left is more than `61 · 8ˡ⁻¹` of them; also where nobody has looked at the
/// finer ones for so long.
fn slot(lifetime: i64, idle: i64) -> i64 {
    2 + lifetime.max(idle) * 8 / 61
}

/// Lets the engine's choice leave in the place of OpenSSL's, if it had a reason to pass over all that
/// OpenSSL would have evicted before; and if one of them was passed over because it was used, as `used`
/// says.
fn swap(step: &Step<'_>, outcome: &mut Outcome, used: bool) -> bool {
    let mut has_swapped = false;
    for (id, version) in outcome.evicted() {
        if has_left(step, id, version) {
            continue;
        }
        let choice = choices(step, outcome)
            .find(|(_, chosen)| passed_over(step, chosen).is_some_and(|by_use| by_use == used));
        let Some((chosen, known)) = choice else { continue };
        let place = Event::Removed(id, version, Reason::Evicted);
        let new = Event::Removed(chosen, known.version, Reason::Evicted);
        outcome.events.iter_mut().filter(|event| **event == place).for_each(|event| *event = new);
        step.restore(id, outcome);
        outcome.contents.remove(&chosen);
        has_swapped = true;
    }
    has_swapped
}

fn has_left(step: &Step<'_>, id: Id, version: Version) -> bool {
    let left = |reason| step.ours.has(Event::Removed(id, version, reason));
    left(Reason::Evicted) || left(Reason::Expired)
}

/// What the engine has removed and OpenSSL has not.
fn choices<'a>(step: &'a Step<'_>, outcome: &'a Outcome) -> impl Iterator<Item = (Id, Known)> + 'a {
    let there = outcome.contents.keys().filter_map(|&id| step.known(id));
    there.filter(|(id, known)| has_left(step, *id, known.version))
}

/// Whether the engine may evict this one before all that OpenSSL evicts before it and that it has kept;
/// and whether one of them was passed over because of a use: its own, or this one's, for what was spared once makes
/// room again while few sessions are new.
fn passed_over(step: &Step<'_>, chosen: &Known) -> Option<bool> {
    let before = step.before.iter().filter(|(id, known)| {
        known.order() < chosen.order() && !has_left(step, **id, known.version)
    });
    let mut by_use = false;
    for (_, known) in before {
        let is_near = step.is_expired(chosen)
            || chosen.due() - known.due() <= slot(known.lifetime, step.idle);
        if !is_near && !known.was_used && !chosen.was_used {
            return None;
        }
        by_use |= !is_near;
    }
    Some(by_use)
}

fn expired_evicted(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let mut applies = false;
    for event in &mut outcome.events {
        let Event::Removed(id, version, Reason::Evicted) = *event else { continue };
        if step.known(id).is_some_and(|(_, known)| step.is_expired(&known)) {
            *event = Event::Removed(id, version, Reason::Expired);
            outcome.counts.cache_full -= 1;
            applies = true;
        }
    }
    applies
}

fn cleared(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    if step.no_auto_clear {
        return false;
    }
    let mut applies = false;
    for &event in &step.ours.events {
        let Event::Removed(id, version, Reason::Expired) = event else { continue };
        let Some((id, known)) = step.known(id) else { continue };
        let is_it = known.version == version && step.is_expired(&known);
        if is_it && !outcome.has(event) {
            outcome.contents.remove(&id);
            outcome.events.push(event);
            applies = true;
        }
    }
    applies
}

fn order(step: &Step<'_>, outcome: &mut Outcome) -> bool {
    let of_each_id = |events: &[Event]| {
        let mut events = events.to_vec();
        events.sort_by_key(|event| event.id());
        events
    };
    let ours = &step.ours.events;
    // The one call that is made in the middle.
    let asked = |events: &[Event]| events.iter().position(|event| matches!(event, Event::Asked(_)));
    let is_order = *ours != outcome.events
        && of_each_id(ours) == of_each_id(&outcome.events)
        && asked(ours) == asked(&outcome.events);
    if is_order {
        outcome.events.clone_from(ours);
    }
    is_order
}
