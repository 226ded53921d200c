//! The sequential specification: what an id holds, and what each operation makes of it.
//!
//! Two things that no operation decides are in it. A session may vanish at any time, where the cache
//! evicts, or somebody removes many at once; it does not come back. And a session expires: an operation reads the clock at one instant
//! between its begin and its end, and it may not see a session whose time had come before it began, nor
//! miss one, for that reason, whose time had not come when it ended.

use crate::parts::history::{Call, Operation, Outcome};

/// What an id holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum State {
    Absent,
    /// A value, and when it expires: between these times, both included, for the operation that set the
    /// time may have read any of several.
    Live {
        value: u64,
        due: (u64, u64),
    },
}

/// What the cache may do beyond what the operations ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whether it has a limit: then sessions vanish and puts are refused. They vanish where many are removed
    /// at once, too.
    pub(crate) evicts: bool,
}

/// A cache without a limit.
pub(crate) const UNLIMITED: Rules = Rules { evicts: false };
/// A cache that evicts.
pub(crate) const LIMITED: Rules = Rules { evicts: true };

/// What the id holds once the operation has taken effect; `None` if the operation cannot have had this
/// outcome.
pub(crate) fn after(state: State, operation: &Operation, rules: Rules) -> Option<State> {
    if operation.outcome == Outcome::Refused {
        // Its id has no session, or had one that has vanished since: in the place of a live one there is room.
        let is_put = matches!(operation.call, Call::Put { .. } | Call::PutIfAbsent { .. });
        return (is_put && rules.evicts).then_some(State::Absent);
    }
    match state {
        State::Absent => after_absent(operation),
        State::Live { value, due } => {
            let may_be_live = operation.clock.0 < due.1;
            let may_be_gone = rules.evicts || operation.clock.1 >= due.0;
            let live = if may_be_live { after_live(state, value, operation) } else { None };
            live.or_else(|| if may_be_gone { after_absent(operation) } else { None })
        }
    }
}

/// An operation that found nothing.
fn after_absent(operation: &Operation) -> Option<State> {
    match (operation.call, operation.outcome) {
        (Call::Put { .. } | Call::PutIfAbsent { .. }, Outcome::Stored) => Some(stored(operation)),
        (Call::Get | Call::Take, Outcome::Missing) => Some(State::Absent),
        (Call::Remove | Call::Extend { .. } | Call::Contains, Outcome::No) => Some(State::Absent),
        _ => None,
    }
}

/// An operation that found the session.
fn after_live(state: State, value: u64, operation: &Operation) -> Option<State> {
    match (operation.call, operation.outcome) {
        (Call::Put { .. }, Outcome::Replaced(old)) if old == value => Some(stored(operation)),
        (Call::PutIfAbsent { .. }, Outcome::Present) => Some(state),
        (Call::Get, Outcome::Found(found)) if found == value => Some(state),
        (Call::Take, Outcome::Found(found)) if found == value => Some(State::Absent),
        (Call::Remove, Outcome::Yes) => Some(State::Absent),
        (Call::Extend { lifetime }, Outcome::Yes) => {
            Some(State::Live { value, due: due(operation, lifetime) })
        }
        (Call::Contains, Outcome::Yes) => Some(state),
        _ => None,
    }
}

fn stored(operation: &Operation) -> State {
    match operation.call {
        Call::Put { value, lifetime } | Call::PutIfAbsent { value, lifetime } => {
            State::Live { value, due: due(operation, lifetime) }
        }
        call => unreachable!("{call:?} stores nothing"),
    }
}

fn due(operation: &Operation, lifetime: u64) -> (u64, u64) {
    let (first, last) = operation.clock;
    (first.saturating_add(lifetime), last.saturating_add(lifetime))
}
