//! Models of `src/expiry/due.rs`: a session is extended or expires, never both.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{ALL, Payload, Scenario, dropped, race, race3};
use resumption::Put;
use resumption::model::{Due, Engine};

const EXTEND: Scenario = Scenario {
    name: "extend ∥ decide ∥ decide",
    preemptions: [3, 8],
    floors: [1_700, 1_900],
    run: || {
        // Expires at 10. The extender's clock is behind: it still sees a live session.
        let due = Arc::new(Due::new(0, 10));
        let decide = |d: &Due| d.decide(10);
        let (extended, a, b) = race3(&due, |d| d.extend(9, 10), decide, decide);
        let expired = due.decide(0);
        assert!(extended ^ expired, "extended or expired");
        assert!(expired || !a && !b, "a decision is final");
        assert!(a <= b || a <= expired, "a decision is final");
        assert_eq!(due.at(), if extended { 19 } else { 10 });
    },
};

#[test]
fn an_extension_and_an_expiry_exclude_each_other() {
    EXTEND.explore();
}

#[test]
fn a_decision_by_load_and_store_is_caught() {
    let messages = ["a decision is final", "extended or expired"];
    EXTEND.catches_by("decide-by-load-and-store", messages);
}

#[test]
fn an_extension_by_load_and_store_is_caught() {
    let messages = ["extended or expired", "a decision is final"];
    EXTEND.catches_by("extend-by-load-and-store", messages);
}

const EXTENSIONS: Scenario = Scenario {
    name: "extend ∥ extend",
    preemptions: [ALL, ALL],
    // Few accesses: within the bound there are no more executions to ask for.
    floors: [68, 12],
    run: || {
        let due = Arc::new(Due::new(0, 10));
        let (a, b) = race(&due, |d| d.extend(0, 20), |d| d.extend(0, 30));
        assert!(a && b && (due.at() == 20 || due.at() == 30), "the later one counts");
    },
};

#[test]
fn two_extensions_succeed() {
    EXTENSIONS.explore();
}

const ENGINE: Scenario = Scenario {
    name: "extend ∥ flush of the expired, by the engine, while the clock goes on",
    preemptions: [1, 2],
    floors: [1_070, 10_400],
    run: || {
        let engine = Engine::new(2);
        assert!(engine.put(1, Payload::new(1)).is_stored());
        engine.advance(59);
        let engine = Arc::new(engine);
        let (extended, expired, ()) = race3(
            &engine,
            |e| e.extend(1, 60),
            |e: &Engine<Payload>| e.flush_expired() == 1,
            |e| e.advance(1),
        );
        let expired = expired || engine.stats().removals.expired == 1;
        assert!(!(extended && expired), "extended or expired");
        assert_eq!(engine.get(1).is_some(), extended, "what was extended is found");
        assert_eq!(dropped().len(), usize::from(!extended));
    },
};

#[test]
fn an_extended_session_is_not_flushed() {
    ENGINE.explore();
}

#[test]
fn an_engine_that_decides_by_load_and_store_is_caught() {
    ENGINE.catches("decide-by-load-and-store", "extended or expired");
}

const RENEW_DECIDE: Scenario = Scenario {
    name: "renew ∥ decide ∥ extend",
    preemptions: [3, 8],
    floors: [1_900, 2_490],
    run: || {
        let due = Arc::new(Due::new(0, 10));
        let ((), decided, extended) =
            race3(&due, |due| due.renew(5), |due| due.decide(10), |due| due.extend(8, 20));
        assert_eq!(decided, due.is_decided(), "a decision is final");
        assert!(!decided || !extended, "extended and expired");
        assert!(!extended || due.at() >= 28, "an extension is not undone");
    },
};

#[test]
fn a_renewal_keeps_what_was_decided_and_extended() {
    RENEW_DECIDE.explore();
}

#[test]
fn a_renewal_by_load_and_store_is_caught() {
    RENEW_DECIDE.catches("renew-by-load-and-store", "an extension is not undone");
}

/// The put reads the clock before the end of the first session, the lookup after it.
const REPLACED_AT_THE_END: Scenario = Scenario {
    name: "replace ∥ look for what expires, by the engine",
    preemptions: [2, 2],
    floors: [1_471, 133],
    run: || replaced_at_the_end(|engine| engine.contains(1)),
};

fn replaced_at_the_end(is_found: fn(&Engine<Payload>) -> bool) {
    let engine = Engine::new(8);
    // So many sessions that stale hints cause no compaction, which has nothing to do with it.
    for id in 1..5 {
        assert!(engine.put(id, Payload::new(id.into())).is_stored());
    }
    engine.advance(59);
    let engine = Arc::new(engine);
    let (put, is_found) = race(
        &engine,
        |e| e.put(1, Payload::new(9)),
        |e: &Engine<Payload>| {
            e.advance(1);
            is_found(e)
        },
    );
    assert!(is_found || !matches!(put, Put::Replaced(_)), "what replaces is no miss");
}

#[test]
fn a_session_that_replaces_an_expiring_one_is_found() {
    REPLACED_AT_THE_END.explore();
}

#[test]
fn an_expiry_of_what_was_replaced_is_caught() {
    REPLACED_AT_THE_END.catches("expired-though-replaced", "no miss");
}

#[test]
fn a_second_look_that_orders_nothing_is_caught() {
    REPLACED_AT_THE_END.catches("relaxed-still-linked", "no miss");
}

const GOT_AT_THE_END: Scenario = Scenario {
    name: "replace ∥ get of what expires, by the engine",
    preemptions: [1, 2],
    floors: [215, 278],
    run: || replaced_at_the_end(|engine| engine.get(1).is_some()),
};

#[test]
fn a_session_that_replaces_an_expiring_one_is_got() {
    GOT_AT_THE_END.explore();
}

#[test]
fn an_expiry_that_nobody_decides_is_caught() {
    GOT_AT_THE_END.catches("expired-undecided", "no miss");
}
