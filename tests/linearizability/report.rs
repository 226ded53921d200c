//! The part of a history that says what is wrong with it.

use std::fmt::Write;

use crate::parts::checker::{Checker, check};
use crate::parts::history::{Operation, Shown};
use crate::parts::spec::{Rules, State};

/// A part of a history of one id that is not linearizable whatever came before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Minimal {
    /// What the id held before the part.
    pub(crate) before: State,
    pub(crate) operations: Vec<Operation>,
}

/// The part of a history that says what is wrong with it; `None` if nothing is. The history is in the
/// order of begins.
///
/// It begins at the last instant before the failure at which there was one possibility, and ends with the
/// operation that has no explanation. Then operations that change nothing are left out, one by one, as
/// long as the rest has no explanation either.
pub(crate) fn minimal(history: &[Operation], rules: Rules) -> Option<Minimal> {
    let Minimal { before, mut operations } = window(history, rules)?;
    let is_bad = |operations: &[Operation]| check(operations, rules, before).is_err();
    assert!(is_bad(&operations), "a part that begins with one possibility fails as the whole does");
    for at in (0..operations.len()).rev() {
        if operations[at].is_observer() {
            let without = operations.remove(at);
            if !is_bad(&operations) {
                operations.insert(at, without);
            }
        }
    }
    Some(Minimal { before, operations })
}

/// The history from the last instant on at which there was one possibility, until what failed.
fn window(history: &[Operation], rules: Rules) -> Option<Minimal> {
    let mut checker = Checker::new(rules, State::Absent);
    let mut start = (State::Absent, Vec::new(), history);
    let part = |(before, open, rest): (State, Vec<Operation>, &[Operation]), failed: Operation| {
        let met = rest.iter().filter(|operation| operation.began <= failed.ended).copied();
        let mut operations: Vec<Operation> = open.into_iter().chain(met).collect();
        operations.sort_by_key(|operation| operation.began);
        Minimal { before, operations }
    };
    for (at, operation) in history.iter().enumerate() {
        if let Err(failed) = checker.end_before(operation.began) {
            return Some(part(start, failed.0));
        }
        if let Some((state, open)) = checker.settled() {
            start = (state, open, &history[at..]);
        }
        if let Err(failed) = checker.next(operation) {
            return Some(part(start, failed.0));
        }
    }
    let failed = checker.end_before(u64::MAX).err()?;
    Some(part(start, failed.0))
}

/// The minimal part as a table, and what was done before it with the values that occur in it.
pub(crate) fn report(history: &[Operation], rules: Rules) -> Option<String> {
    let Minimal { before, operations } = minimal(history, rules)?;
    let first = operations.first()?.began;
    let mut text = format!("not linearizable: id {}, {rules:?}\n", operations[0].id);
    let mut values: Vec<u64> = operations.iter().flat_map(Operation::values).collect();
    match before {
        State::Absent => text += "before: nothing\n",
        State::Live { value, due: (from, to) } => {
            values.push(value);
            let _ = writeln!(text, "before: {}, due at {from} to {to} ms", Shown(value));
        }
    }
    text += "         began         ended  thread  clock        operation\n";
    let is_of_part = |operation: &&Operation| operations.contains(operation);
    let is_about = |operation: &Operation| operation.values().any(|value| values.contains(&value));
    for operation in history {
        if is_of_part(&operation) || operation.began < first && is_about(operation) {
            line(&mut text, operation, first);
        }
    }
    Some(text)
}

/// One line; times are in nanoseconds from the part's begin on.
fn line(text: &mut String, operation: &Operation, first: u64) {
    let since = |instant: u64| instant.cast_signed() - first.cast_signed();
    let (began, ended) = (since(operation.began), since(operation.ended));
    let clock = format!("{}..{}", operation.clock.0, operation.clock.1);
    let _ = writeln!(
        text,
        "  {began:>12}  {ended:>12}  {:>6}  {clock:<11}  {operation}",
        operation.thread
    );
}
