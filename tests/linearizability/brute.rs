//! The checker beside one that tries every order, on small random histories.

use super::checker::check;
use super::history::{Call, Operation, Outcome};
use super::spec::{LIMITED, Rules, State, UNLIMITED, after};
use crate::support::Random;

/// Operations of a history, and threads that make it.
const OPERATIONS: usize = 6;
const THREADS: usize = 3;

/// Whether there is an order that respects the instants and in which each outcome is right.
fn is_linearizable(state: State, left: &[Operation], rules: Rules) -> bool {
    left.is_empty()
        || (0..left.len()).any(|at| {
            let next = &left[at];
            // Nothing that has ended before it began may come after it.
            let is_first = left.iter().all(|other| other.ended >= next.began);
            let rest: Vec<Operation> = [&left[..at], &left[at + 1..]].concat();
            is_first
                && after(state, next, rules)
                    .is_some_and(|state| is_linearizable(state, &rest, rules))
        })
}

/// A history that is good, but that one operation may have another outcome: operations that take effect
/// one after the other, and began some time before and ended some time after.
fn history(random: &mut Random) -> Vec<Operation> {
    let mut state = State::Absent;
    let mut free = [0; THREADS];
    let mut operations = Vec::new();
    for number in 1..=OPERATIONS as u64 {
        let instant = number * 10;
        let thread = random.below(THREADS as u64) as usize;
        let began = instant.saturating_sub(random.below(30)).max(free[thread]);
        let ended = instant.max(began) + random.below(30);
        free[thread] = ended + 1;
        let clock = random.below(3);
        let clock = (clock, clock + random.below(2));
        let call = call(number, random);
        let new = |outcome| Operation { id: 1, thread, call, outcome, began, ended, clock };
        let outcomes = outcomes(number);
        let right = outcomes.iter().find_map(|&outcome| {
            let next = after(state, &new(outcome), UNLIMITED)?;
            Some((outcome, next))
        });
        let (outcome, next) = right.expect("every call has an outcome");
        operations.push(new(outcome));
        state = next;
    }
    if random.below(2) == 0 {
        let at = random.below(OPERATIONS as u64) as usize;
        let outcomes = outcomes(OPERATIONS as u64);
        operations[at].outcome = outcomes[random.below(outcomes.len() as u64) as usize];
    }
    operations.sort_by_key(|operation| operation.began);
    operations
}

fn call(number: u64, random: &mut Random) -> Call {
    let lifetime = 1 + random.below(4);
    match random.below(8) {
        0..=1 => Call::Put { value: number, lifetime },
        2 => Call::PutIfAbsent { value: number, lifetime },
        3 => Call::Get,
        4..=5 => Call::Take,
        6 => Call::Remove,
        _ => Call::Extend { lifetime },
    }
}

/// What may come of an operation when `values` have been put.
fn outcomes(values: u64) -> Vec<Outcome> {
    use Outcome::{Missing, No, Present, Refused, Stored, Yes};
    let seen = (1..=values).flat_map(|value| [Outcome::Found(value), Outcome::Replaced(value)]);
    seen.chain([Stored, Present, Missing, Yes, No, Refused]).collect()
}

#[test]
fn the_checker_agrees_with_one_that_tries_every_order() {
    let mut random = Random::new(1);
    let mut verdicts = [0u32; 2];
    for _ in 0..20_000 {
        let history = history(&mut random);
        for rules in [UNLIMITED, LIMITED] {
            let is_good = is_linearizable(State::Absent, &history, rules);
            let verdict = check(&history, rules, State::Absent).is_ok();
            assert_eq!(verdict, is_good, "{rules:?}: {history:#?}");
            verdicts[usize::from(is_good)] += 1;
        }
    }
    assert!(verdicts.iter().all(|&count| count > 5_000), "both verdicts: {verdicts:?}");
}
