//! Histories that are known to be good or bad. The checker has to tell them apart.

use super::checker::check;
use super::history::{Call, Operation, Outcome};
use super::report::{minimal, report};
use super::spec::{LIMITED, Rules, State, UNLIMITED};
use Call::{Contains, Extend, Get, Remove, Take};
use Outcome::{Found, Missing, No, Present, Refused, Replaced, Stored, Yes};

/// A lifetime that no clock of these histories comes to the end of.
const LONG: u64 = 1_000_000;

fn put(value: u64) -> Call {
    Call::Put { value, lifetime: LONG }
}

fn brief(value: u64, lifetime: u64) -> Call {
    Call::Put { value, lifetime }
}

fn absent(value: u64) -> Call {
    Call::PutIfAbsent { value, lifetime: LONG }
}

fn extend(lifetime: u64) -> Call {
    Extend { lifetime }
}

/// An operation of a thread, from one instant to another; the clock stands at zero.
fn op(thread: usize, time: (u64, u64), call: Call, outcome: Outcome) -> Operation {
    Operation { id: 1, thread, call, outcome, began: time.0, ended: time.1, clock: (0, 0) }
}

/// As `op`, while the clock goes from one time to another.
fn at(
    clock: (u64, u64),
    thread: usize,
    time: (u64, u64),
    call: Call,
    outcome: Outcome,
) -> Operation {
    Operation { clock, ..op(thread, time, call, outcome) }
}

struct Known {
    what: &'static str,
    rules: Rules,
    operations: Vec<Operation>,
}

/// Without a limit.
fn all(what: &'static str, operations: &[Operation]) -> Known {
    Known { what, rules: UNLIMITED, operations: operations.to_vec() }
}

/// With a limit.
fn evicting(what: &'static str, operations: &[Operation]) -> Known {
    Known { what, rules: LIMITED, operations: operations.to_vec() }
}

/// What is bad in each of these is what its last operation returned.
fn bad_lookups() -> Vec<Known> {
    let first = op(0, (0, 1), put(1), Stored);
    let second = op(0, (2, 3), put(2), Replaced(1));
    let taken = op(1, (2, 5), Take, Found(1));
    vec![
        all("a put is lost", &[first, op(1, (2, 3), Get, Missing)]),
        all("a session is taken twice", &[first, taken, op(2, (3, 6), Take, Found(1))]),
        all("a take and a removal win", &[first, taken, op(2, (3, 6), Remove, Yes)]),
        all("a get is older than a replace", &[first, second, op(1, (4, 5), Get, Found(1))]),
        all("a session comes back", &[first, taken, op(0, (6, 7), Get, Found(1))]),
        all("a session comes back to a put", &[first, taken, op(0, (6, 7), put(2), Replaced(1))]),
        all("a session comes back to contains", &[first, taken, op(0, (6, 7), Contains, Yes)]),
        all("nobody has put it", &[first, op(1, (2, 3), Get, Found(9))]),
        all(
            "nobody has put it yet",
            &[op(0, (2, 3), put(1), Stored), op(1, (0, 1), Get, Found(1))],
        ),
    ]
}

fn bad_changes() -> Vec<Known> {
    let first = op(0, (0, 1), put(1), Stored);
    let taken = op(1, (2, 5), Take, Found(1));
    vec![
        all(
            "two puts are the first",
            &[op(0, (0, 4), absent(1), Stored), op(1, (1, 5), absent(2), Stored)],
        ),
        all("a put does not see another", &[first, op(1, (2, 3), put(2), Stored)]),
        all("a put sees nothing and is refused", &[op(0, (0, 1), absent(1), Present)]),
        all("two removals win", &[first, op(0, (2, 5), Remove, Yes), op(1, (3, 6), Remove, Yes)]),
        all("a removal misses", &[first, op(1, (2, 3), Remove, No)]),
        all(
            "a replace is seen as a miss",
            &[first, op(0, (2, 9), put(2), Replaced(1)), op(1, (4, 5), Get, Missing)],
        ),
        all(
            "two puts replace one session",
            &[first, op(0, (2, 6), put(2), Replaced(1)), op(1, (3, 7), put(3), Replaced(1))],
        ),
        all("an extension misses", &[first, op(1, (2, 3), extend(LONG), No)]),
        all("a removed session is extended", &[first, taken, op(0, (6, 7), extend(LONG), Yes)]),
        all(
            "two readers disagree about the order of two puts",
            &[
                op(0, (0, 20), put(1), Stored),
                op(1, (1, 21), put(2), Replaced(1)),
                op(2, (2, 3), Get, Found(2)),
                op(3, (4, 5), Get, Found(1)),
            ],
        ),
        all("a put is refused without a limit", &[op(0, (0, 1), put(1), Refused)]),
    ]
}

fn bad_where_it_evicts() -> Vec<Known> {
    let first = op(0, (0, 1), put(1), Stored);
    let second = op(0, (2, 3), put(2), Replaced(1));
    let taken = op(1, (2, 5), Take, Found(1));
    vec![
        evicting(
            "what was evicted comes back",
            &[first, op(1, (2, 3), Get, Missing), op(1, (4, 5), Get, Found(1))],
        ),
        evicting("a session is taken twice", &[first, taken, op(2, (3, 6), Take, Found(1))]),
        evicting("a get is older than a replace", &[first, second, op(1, (4, 5), Get, Found(1))]),
        evicting(
            "a get is older than a put",
            &[first, op(0, (2, 3), put(2), Stored), op(1, (4, 5), Get, Found(1))],
        ),
        evicting(
            "a refused put takes effect",
            &[op(0, (0, 1), put(1), Refused), op(1, (2, 3), Get, Found(1))],
        ),
        evicting(
            "a put is refused in the place of a session that stays",
            &[first, op(1, (2, 3), put(2), Refused), op(1, (4, 5), Get, Found(1))],
        ),
        evicting("a get is refused", &[op(0, (0, 1), Get, Refused)]),
    ]
}

fn bad_ends() -> Vec<Known> {
    let first = op(0, (0, 1), brief(1, 10), Stored);
    let extended = at((5, 5), 1, (2, 3), extend(100), Yes);
    vec![
        all("an expired session is found", &[first, at((10, 10), 1, (2, 3), Get, Found(1))]),
        all("an expired session is taken", &[first, at((10, 11), 1, (2, 3), Take, Found(1))]),
        all("an expired session is removed", &[first, at((10, 10), 1, (2, 3), Remove, Yes)]),
        all("an expired session is extended", &[first, at((10, 10), 1, (2, 3), extend(100), Yes)]),
        all(
            "an expired session is replaced",
            &[first, at((10, 10), 1, (2, 3), put(2), Replaced(1))],
        ),
        all(
            "an expired session is respected",
            &[first, at((10, 10), 1, (2, 3), absent(2), Present)],
        ),
        all("a session expires before its time", &[first, at((9, 9), 1, (2, 3), Get, Missing)]),
        all(
            "an extended session expires before its time",
            &[first, extended, at((20, 20), 1, (4, 5), Get, Missing)],
        ),
        all(
            "an extended session is found after its time",
            &[first, extended, at((105, 105), 1, (4, 5), Get, Found(1))],
        ),
    ]
}

fn bad_extensions_and_ends() -> Vec<Known> {
    let first = op(0, (0, 1), brief(1, 10), Stored);
    let expired = at((10, 10), 1, (2, 5), Get, Missing);
    vec![
        all(
            "a shortened session is found after its time",
            &[
                op(0, (0, 1), put(1), Stored),
                at((0, 0), 1, (2, 3), extend(10), Yes),
                at((10, 10), 1, (4, 5), Get, Found(1)),
            ],
        ),
        all(
            "what one was told is expired, another one extends",
            &[first, expired, at((9, 10), 2, (6, 7), extend(100), Yes)],
        ),
        all(
            "an extension and an expiry both win",
            &[
                first,
                at((9, 10), 1, (2, 5), Get, Missing),
                at((9, 10), 2, (3, 6), extend(100), Yes),
            ],
        ),
        all(
            "an expired session comes back",
            &[first, expired, at((9, 10), 2, (6, 7), Get, Found(1))],
        ),
        all(
            "what replaced a session before its time is missed after it",
            &[
                first,
                at((9, 10), 0, (2, 9), put(2), Replaced(1)),
                at((10, 10), 1, (3, 8), Get, Missing),
            ],
        ),
        all(
            "no lifetime is found",
            &[op(0, (0, 1), brief(1, 0), Stored), op(1, (2, 3), Get, Found(1))],
        ),
    ]
}

fn bad_without_time() -> Vec<Known> {
    [bad_lookups(), bad_changes(), bad_where_it_evicts()].into_iter().flatten().collect()
}

fn in_order(operations: &[Operation]) -> Vec<Operation> {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.began);
    operations
}

fn is_good(operations: &[Operation], rules: Rules) -> bool {
    check(&in_order(operations), rules, State::Absent).is_ok()
}

fn good_orders() -> Vec<Known> {
    let first = op(0, (0, 1), put(1), Stored);
    vec![
        all("nothing", &[]),
        all(
            "found before its put returns",
            &[op(0, (0, 9), put(1), Stored), op(1, (1, 2), Get, Found(1))],
        ),
        all(
            "missed after its put began",
            &[
                op(0, (0, 9), put(1), Stored),
                op(1, (1, 2), Get, Missing),
                op(1, (3, 4), Get, Found(1)),
            ],
        ),
        all(
            "found by a get that ends after its take",
            &[first, op(1, (2, 5), Take, Found(1)), op(2, (3, 9), Get, Found(1))],
        ),
        all(
            "found by a get that ends in the middle of its take",
            &[first, op(1, (2, 5), Take, Found(1)), op(2, (3, 4), Get, Found(1))],
        ),
        all(
            "the put that began first is the last",
            &[
                op(0, (0, 9), put(1), Replaced(2)),
                op(1, (1, 2), put(2), Stored),
                op(2, (3, 4), Get, Found(2)),
                op(2, (10, 11), Get, Found(1)),
            ],
        ),
        all(
            "all that an open put was is over when it returns",
            &[
                op(0, (0, 99), put(1), Stored),
                op(1, (10, 20), Take, Found(1)),
                op(2, (30, 40), Get, Missing),
                op(1, (50, 60), absent(2), Stored),
                op(2, (70, 80), Remove, Yes),
            ],
        ),
        all(
            "each of three open operations needs another one first",
            &[
                op(0, (0, 9), Take, Found(2)),
                op(1, (1, 8), put(2), Replaced(1)),
                op(2, (2, 7), put(1), Stored),
            ],
        ),
        all(
            "the end of one is the begin of the other",
            &[op(0, (0, 5), put(1), Stored), op(1, (5, 6), Get, Missing)],
        ),
    ]
}

fn good_ends() -> Vec<Known> {
    let first = op(0, (0, 1), put(1), Stored);
    let briefly = op(0, (0, 1), brief(1, 10), Stored);
    vec![
        all(
            "the clock goes over the end",
            &[briefly, at((9, 10), 1, (2, 6), Get, Found(1)), at((9, 10), 2, (3, 7), Get, Missing)],
        ),
        all(
            "a put's clock goes on",
            &[at((0, 5), 0, (0, 1), brief(1, 10), Stored), at((14, 14), 1, (2, 3), Get, Found(1))],
        ),
        all(
            "the same put has less time",
            &[at((0, 5), 0, (0, 1), brief(1, 10), Stored), at((10, 10), 1, (2, 3), Get, Missing)],
        ),
        all(
            "an expired session's place is free",
            &[
                briefly,
                at((10, 10), 1, (2, 3), absent(2), Stored),
                at((10, 10), 1, (4, 5), Get, Found(2)),
            ],
        ),
        all(
            "an extension comes in time",
            &[
                briefly,
                at((9, 10), 1, (2, 6), extend(100), Yes),
                at((10, 10), 2, (7, 8), Take, Found(1)),
            ],
        ),
        all(
            "an extension of what a put replaces",
            &[
                first,
                op(1, (2, 9), extend(5), Yes),
                op(0, (3, 4), put(2), Replaced(1)),
                at((7, 7), 2, (10, 11), Get, Found(2)),
            ],
        ),
    ]
}

fn good_where_it_evicts() -> Vec<Known> {
    let first = op(0, (0, 1), put(1), Stored);
    vec![
        evicting("evicted", &[first, op(1, (2, 3), Get, Missing), op(1, (4, 5), put(2), Stored)]),
        evicting(
            "refused, where what was there has vanished",
            &[
                first,
                op(1, (2, 3), put(2), Refused),
                op(2, (4, 5), absent(3), Refused),
                op(1, (6, 7), Get, Missing),
            ],
        ),
        evicting(
            "evicted before an extension that began in time",
            &[first, op(1, (2, 9), extend(LONG), No), op(2, (3, 4), Get, Found(1))],
        ),
    ]
}

#[test]
fn bad_histories_are_told_from_what_is_left_without_their_last_operation() {
    let bad = [bad_without_time(), bad_ends(), bad_extensions_and_ends()];
    for Known { what, rules, operations } in bad.into_iter().flatten() {
        let (_to_blame, innocent) = operations.split_last().expect("there is one to blame");
        assert!(!is_good(&operations, rules), "{what}");
        assert!(is_good(innocent, rules), "without its last operation: {what}");
    }
}

#[test]
fn good_histories_that_look_odd_pass() {
    let good = [good_orders(), good_ends(), good_where_it_evicts()];
    for Known { what, rules, operations } in good.into_iter().flatten() {
        assert!(is_good(&operations, rules), "{what}");
    }
}

/// Eviction excuses a session that is not there, and nothing else.
#[test]
fn what_a_limit_excuses_is_a_miss() {
    let excused: Vec<&str> = bad_without_time()
        .iter()
        .filter(|known| known.rules == UNLIMITED && is_good(&known.operations, LIMITED))
        .map(|known| known.what)
        .collect();
    let expected = [
        "a put is lost",
        "two puts are the first",
        "a put does not see another",
        "a removal misses",
        "a replace is seen as a miss",
        "an extension misses",
        "a put is refused without a limit",
    ];
    assert_eq!(excused, expected);
}

#[test]
fn a_report_is_of_the_part_that_is_wrong() {
    let mut history: Vec<Operation> = (0..50)
        .flat_map(|turn| {
            let began = turn * 10;
            [
                op(0, (began, began + 1), put(turn), Stored),
                op(1, (began + 2, began + 4), Get, Found(turn)),
                op(2, (began + 3, began + 5), Take, Found(turn)),
            ]
        })
        .collect();
    assert_eq!(minimal(&history, UNLIMITED), None);
    // Of these the first get sees what was taken before, and the second one has nothing to do with it.
    let wrong = op(0, (300, 304), Get, Found(29));
    history.splice(90..90, [wrong, op(1, (301, 302), Get, Missing)]);
    history
        .iter_mut()
        .skip(92)
        .for_each(|late| (late.began, late.ended) = (late.began + 10, late.ended + 10));
    let part = minimal(&history, UNLIMITED).expect("it is wrong");
    assert_eq!((part.before, part.operations), (State::Absent, vec![wrong]));
    let text = report(&history, UNLIMITED).expect("it is wrong");
    assert!(text.contains("get -> 0.29"), "{text}");
    assert!(text.contains("put(0.29, 1000000 ms) -> stored"), "who has put it: {text}");
    assert!(text.contains("take -> 0.29"), "who has taken it: {text}");
    assert!(!text.contains("0.28") && !text.contains("missing"), "{text}");
}
