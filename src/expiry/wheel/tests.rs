use super::*;
use crate::reclaim::gauge::Lease;

const SECOND: u64 = 1000;
const YEAR: u64 = 365 * 24 * 3600 * SECOND;

fn pop(wheel: &Wheel, list: List, lease: &Lease) -> Option<Hint> {
    wheel.pop(list, &mut [0], &pin(), lease.gauges()).next()
}

fn pop_due(wheel: &Wheel, now: u64, lease: &Lease) -> Vec<Hint> {
    let mut hints = Vec::new();
    while let Some(list) = wheel.due(now) {
        hints.extend(pop(wheel, list, lease));
    }
    hints
}

fn hint(number: u64) -> Hint {
    Hint::new(number, 2)
}

#[test]
fn a_hint_comes_due_after_its_time_and_at_most_an_eighth_late() {
    let lifetimes = [1, 2, 60, 61, 64, 300, 3_600, 7_200, 86_400, 604_800, YEAR / SECOND];
    for seconds in lifetimes {
        let lease = Lease::new(usize::MAX);
        let wheel = Wheel::new(12_345);
        let due = 12_345 + seconds * SECOND;
        assert!(wheel.push((hint(seconds), 0), due, 12_345, Row::FRESH));
        assert_eq!(pop_due(&wheel, due - 1, &lease), [], "{seconds} s: not before");
        let late = due + seconds * SECOND / 8 + 1024;
        assert_eq!(pop_due(&wheel, late, &lease), [hint(seconds)], "{seconds} s: late");
    }
}

#[test]
fn a_jump_of_the_clock_brings_everything_due_once() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    for number in 1..500 {
        assert!(wheel.push((hint(number), 0), number * number * SECOND, 0, Row::FRESH));
    }
    let mut hints = pop_due(&wheel, 50 * YEAR, &lease);
    hints.sort_by_key(|hint| hint.hash());
    assert_eq!(hints, (1..500).map(hint).collect::<Vec<_>>());
    assert_eq!(pop_due(&wheel, 50 * YEAR, &lease), []);
}

#[test]
fn a_wheel_that_nobody_asked_for_years_still_files_in_time() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    let now = 30 * YEAR;
    assert!(wheel.push((hint(1), 0), now + SECOND, now, Row::FRESH));
    assert_eq!(pop_due(&wheel, now, &lease), []);
    assert_eq!(pop_due(&wheel, now + 3 * SECOND, &lease), [hint(1)]);
}

#[test]
fn a_hint_that_is_filed_again_is_not_due_again() {
    const END: u64 = (1 << 42) - 1;
    let lease = Lease::new(usize::MAX);
    for (due, now) in [(END, 5 * YEAR), (100 * YEAR, 99 * YEAR), (END, END), (7 * YEAR, 6 * YEAR)] {
        let wheel = Wheel::new(0);
        assert!(wheel.push((hint(1), 0), due, 0, Row::FRESH));
        assert!(wheel.push((hint(2), 0), SECOND, 0, Row::FRESH));
        let early = pop_due(&wheel, now, &lease);
        for again in early.iter().filter(|&&early| early == hint(1)) {
            assert!(wheel.push((*again, 0), due, now, Row::FRESH));
        }
        assert_eq!(pop_due(&wheel, now, &lease), [], "due {due}, now {now}");
        assert!(wheel.earliest(Age::Fresh).is_some(), "it is still there");
    }
}

#[test]
fn what_never_expires_is_the_last_to_be_evicted_and_never_due() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    assert!(wheel.push((hint(1), 0), (1 << 42) - 1, 0, Row::FRESH));
    assert!(wheel.push((hint(2), 0), YEAR, 0, Row::FRESH));
    let first = wheel.earliest(Age::Fresh).expect("two hints");
    assert_eq!(pop(&wheel, first, &lease), Some(hint(2)));
    assert_eq!(pop_due(&wheel, (1 << 42) - 1, &lease), [], "at the end of time");
    assert!(wheel.earliest(Age::Fresh).is_some(), "it is still there");
}

#[test]
fn the_earliest_list_is_the_soonest_to_expire_in_any_level() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    for seconds in [7_200, 30, 300, 86_400] {
        assert!(wheel.push((hint(seconds), 0), seconds * SECOND, 0, Row::FRESH));
    }
    let mut order = Vec::new();
    while let Some(list) = wheel.earliest(Age::Fresh) {
        order.extend(pop(&wheel, list, &lease));
    }
    assert_eq!(order, [30, 300, 7_200, 86_400].map(hint));
}

#[test]
fn kept_hints_wait_until_the_fresh_ones_are_gone() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    assert!(wheel.push((hint(1), 0), 10 * SECOND, 0, wheel.spared()));
    assert!(wheel.push((hint(2), 0), 60 * SECOND, 0, Row::FRESH));
    let mut order = Vec::new();
    while let Some(list) = wheel.earliest(Age::Fresh) {
        order.extend(pop(&wheel, list, &lease));
    }
    assert_eq!(order, [hint(2), hint(1)]);
}

#[test]
fn compaction_visits_every_hint_once_a_round() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    for number in 1..=100 {
        assert!(wheel.push((hint(number), 0), number * 60 * SECOND, 0, Row::FRESH));
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let guard = pin();
        let Part { list, hints, begins_round } = wheel.compact(7, &guard).expect("there are hints");
        assert!(!begins_round, "it began with the first list");
        for _ in 0..hints {
            let hint = pop(&wheel, list, &lease).expect("not more than there are");
            seen.push(hint.hash());
            let due = hint.hash() * 60 * SECOND;
            wheel.try_push(hint, due, 0, list.row(), &guard).expect("there is room");
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    assert!(wheel.compact(7, &pin()).is_ok_and(|part| part.begins_round));
    assert!(wheel.compact(7, &pin()).is_ok_and(|part| !part.begins_round));
}

#[test]
fn a_list_says_since_when_its_oldest_hint_is_there() {
    const TEN: u64 = 10 * SECOND;
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    let since = |list: List, now| wheel.since(list, now, &pin());
    let put = |numbers: std::ops::RangeInclusive<u64>, every| {
        for number in numbers {
            // All in one slot.
            assert!(wheel.push(
                (hint(number), number * every),
                6_000 * SECOND,
                number * every,
                Row::FRESH
            ));
        }
        wheel.earliest(Age::Fresh).expect("there are hints")
    };
    // To sixteen milliseconds, and as evenly as they came.
    let is_near = |since: u64, time: u64| since.abs_diff(time) <= 16;
    let list = put(1..=600, 1_000);
    assert!(is_near(since(list, 600_000), 1_000));
    assert_eq!((0..330).map_while(|_| pop(&wheel, list, &lease)).count(), 330);
    assert!(is_near(since(list, 600_000), 331_000));
    assert_eq!((0..269).map_while(|_| pop(&wheel, list, &lease)).count(), 269);
    assert!(since(list, 600_000).abs_diff(600_000) <= 1_016, "of one that is not full");
    // What comes after it was empty is not as old as what was there before.
    assert_eq!(pop(&wheel, list, &lease), Some(hint(600)));
    assert_eq!(pop(&wheel, list, &lease), None);
    assert!(wheel.push((hint(7), 900_000), 6_000 * SECOND, 900_000, Row::FRESH));
    assert!(is_near(since(list, 910_000), 900_000));
    assert!(wheel.push((hint(8), 910_000), 6_000 * SECOND, 910_000, Row::FRESH));
    assert!(is_near(since(list, 910_000), 900_000));
    assert_eq!(pop(&wheel, list, &lease), Some(hint(7)));
    assert!(since(list, 910_000).abs_diff(910_000) <= TEN);
}

#[test]
fn compaction_leaves_a_list_that_others_have_emptied() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    for number in 1..=100 {
        assert!(wheel.push((hint(number), 0), 60 * SECOND, 0, Row::FRESH));
    }
    let guard = pin();
    let Part { list, .. } = wheel.compact(1, &guard).expect("there are hints");
    while pop(&wheel, list, &lease).is_some() {}
    assert!(wheel.push((hint(7), 0), 3_600 * SECOND, 0, Row::FRESH));
    let again = wheel.compact(1, &guard).expect("as many steps as there were hints");
    assert_eq!(again.list, list);
    wheel.skip(list);
    let other = wheel.compact(16, &guard).expect("there is one more hint");
    assert_eq!((pop(&wheel, other.list, &lease), other.hints), (Some(hint(7)), 1));
}

#[test]
fn a_slot_is_looked_at_twice() {
    let lease = Lease::new(usize::MAX);
    let wheel = Wheel::new(0);
    assert_eq!(wheel.due(9 * SECOND), None);
    // As a push does that chose its slot before the level passed it.
    wheel.push_to(List { level: 0, slot: 3, row: Row::FRESH }, hint(1), 0);
    assert_eq!(pop_due(&wheel, 9 * SECOND, &lease), [hint(1)]);
}

#[test]
fn progress_survives_packing() {
    for (swept, next) in [(0, 0), (5, 6), (100, 163), ((1 << 32) - 1, 1 << 32)] {
        let progress = Progress { swept, next };
        assert_eq!(Progress::from_word(progress.to_word()), progress);
    }
    let far = Progress { swept: 0, next: 1000 };
    assert_eq!(Progress::from_word(far.to_word()), Progress { swept: 937, next: 1000 });
}

#[test]
fn windows_go_around() {
    assert_eq!(window(0, 0), 1);
    assert_eq!(window(63, 64), 1 << 63 | 1);
    assert_eq!(window(5, 5 + 63), u64::MAX);
    assert_eq!(window(5, 1_000_000), u64::MAX);
    assert_eq!(first_slot(1, 64), 64);
    assert_eq!(first_slot(1, 1), 64);
}

#[test]
fn progress_is_not_undone_by_a_clock_that_lags() {
    let wheel = Wheel::new(0);
    assert_eq!(wheel.due(20 * 1024), None);
    assert_eq!(wheel.due(30 * 1024), None);
    let before = wheel.progress(0);
    assert_eq!((before.swept, before.next), (21, 31));
    assert_eq!(wheel.due(15 * 1024), None, "another thread, which has read the time long ago");
    let after = wheel.progress(0);
    assert!(after.swept >= before.swept && after.next >= before.next, "{after:?}");
}
