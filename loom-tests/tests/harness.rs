//! The harness of the models itself: what it has to refuse.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{ALL, Scenario, race};
use resumption::model::Refs;

const RELEASE: Scenario = Scenario {
    name: "release ∥ release of two references",
    preemptions: [ALL, ALL],
    // Two steps that race.
    floors: [11, 3],
    run: || {
        let refs = Arc::new(Refs::new());
        refs.acquire();
        let (a, b) = race(&refs, Refs::release, Refs::release);
        assert!(a ^ b, "one release is the last");
    },
};

#[test]
fn what_holds_is_explored_in_both_modes() {
    RELEASE.explore();
}

#[test]
#[should_panic(expected = "executions, 1000 asked")]
fn a_count_below_the_floor_is_refused() {
    let more = Scenario { floors: [2, 1000], ..RELEASE };
    Scenario::explore(&more);
}

#[test]
#[should_panic(expected = "never true")]
fn an_execution_that_fails_is_refused() {
    let run = || {
        (RELEASE.run)();
        assert_eq!(1 + 1, 3, "never true");
    };
    Scenario::explore(&Scenario { run, ..RELEASE });
}

#[test]
#[should_panic(expected = "no-such-bug was not caught")]
fn a_bug_that_survives_is_refused() {
    RELEASE.catches("no-such-bug", "one release is the last");
}

const FAILS: Scenario = Scenario { run: || panic!("another reason"), ..RELEASE };

#[test]
#[should_panic(expected = "\"another reason\", not \"one release is the last\"")]
fn a_bug_that_is_caught_for_another_reason_is_refused() {
    FAILS.catches("some-bug", "one release is the last");
}

#[test]
#[should_panic(expected = "another reason")]
fn weaker_code_that_is_a_bug_is_refused() {
    FAILS.tolerates("some-bug", "it is none");
}
