//! Models of `src/reclaim/refs.rs` and `src/table/node.rs`: who drops a payload, and when.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{ALL, Payload, Scenario, dropped, race, race3};
use resumption::model::{self, Engine, Gone, Handle, Table};

const A: u64 = 0x1000_0000_0000_0001;

/// A table that holds payload 1.
fn table() -> Arc<Table<Payload>> {
    let table = Table::new();
    assert!(table.put(A, Payload::new(1)).is_none());
    Arc::new(table)
}

fn get(table: &Table<Payload>) -> Option<Handle<Payload>> {
    table.get(A)
}

const GET_TAKE: Scenario = Scenario {
    name: "get, read, drop ∥ take, drop",
    preemptions: [4, 4],
    floors: [3_570, 476],
    run: || {
        let table = table();
        race(
            &table,
            |t| get(t).map(|session| session.payload().read()),
            |t| drop(t.take(A).expect("the only taker")),
        );
        assert_eq!((dropped(), model::retired()), (vec![1], (1, 1)), "dropped, and once");
        assert_eq!(table.waiting_and_held(), (0, 0));
    },
};

#[test]
fn the_last_reference_drops_the_payload() {
    GET_TAKE.explore();
}

#[test]
fn a_reference_to_the_dead_is_caught() {
    GET_TAKE.catches("resurrect", "a payload was");
}

#[test]
fn a_relaxed_release_is_caught() {
    GET_TAKE.catches("relaxed-release", "Causality violation");
}

#[test]
fn a_get_that_could_find_the_dead_for_ever_is_caught() {
    GET_TAKE.catches("relaxed-zero", "a get finds the dead for ever");
}

#[test]
fn a_last_reference_by_load_and_store_is_caught() {
    GET_TAKE.catches("sole-by-load-and-store", "Causality violation");
}

#[test]
fn a_relaxed_giving_up_of_the_only_reference_is_caught() {
    GET_TAKE.catches("relaxed-sole", "Causality violation");
}

#[test]
fn a_header_that_does_not_wait_for_the_readers_is_caught() {
    GET_TAKE.catches("freed-at-once", "a dead block was read");
}

const GET_TAKE_READ: Scenario = Scenario {
    name: "get, read, drop ∥ get, read, drop ∥ take, read, drop",
    preemptions: [2, 2],
    floors: [3_860, 397],
    run: || {
        let table = table();
        let read = |t: &Table<Payload>| get(t).map(|session| session.payload().read());
        race3(&table, read, read, |t| {
            t.take(A).map(|gone| gone.into_handle().payload().read()).expect("the only taker")
        });
        assert_eq!((dropped(), model::retired()), (vec![1], (1, 1)), "dropped, and once");
        assert_eq!(table.waiting_and_held(), (0, 0));
    },
};

#[test]
fn three_references_drop_the_payload_once() {
    GET_TAKE_READ.explore();
}

const DROP_DROP: Scenario = Scenario {
    name: "drop ∥ drop of the last handles",
    preemptions: [ALL, ALL],
    // Few accesses: within the bound there are no more executions to ask for.
    floors: [11, 3],
    run: || {
        let table = table();
        let one = get(&table).expect("it is there");
        let two = table.take(A).map(Gone::into_handle).expect("it is there");
        race(
            &table,
            move |_| assert_eq!(one.payload().read(), 1),
            move |_| {
                assert_eq!(two.payload().read(), 1);
                drop(two);
            },
        );
        assert_eq!((dropped(), model::retired()), (vec![1], (1, 1)), "dropped, and once");
        assert_eq!(table.waiting_and_held(), (0, 0));
    },
};

#[test]
fn the_last_of_two_handles_drops_the_payload() {
    DROP_DROP.explore();
}

#[test]
fn a_relaxed_release_of_a_handle_is_caught() {
    DROP_DROP.catches("relaxed-release", "Causality violation");
}

const CLONE_DROP: Scenario = Scenario {
    name: "clone, drop, read ∥ drop",
    preemptions: [ALL, ALL],
    // Few accesses: within the bound there are no more executions to ask for.
    floors: [31, 5],
    run: || {
        let table = table();
        let one = get(&table).expect("it is there");
        let two = table.take(A).map(Gone::into_handle).expect("it is there");
        race(
            &table,
            move |_| {
                let clone = one.clone();
                drop(one);
                assert_eq!(clone.payload().read(), 1);
            },
            move |_| drop(two),
        );
        assert_eq!((dropped(), model::retired()), (vec![1], (1, 1)), "dropped, and once");
    },
};

#[test]
fn a_clone_keeps_the_payload() {
    CLONE_DROP.explore();
}

const GET_EVICT: Scenario = Scenario {
    name: "get, read, drop ∥ put that evicts, by the engine",
    preemptions: [2, 2],
    floors: [1_710, 382],
    run: || {
        let engine = Engine::new(1);
        assert!(engine.put(1, Payload::new(1)).is_stored());
        let engine = Arc::new(engine);
        race(
            &engine,
            |e: &Engine<Payload>| e.get(1).map(|session| session.payload().read()),
            |e| assert!(e.put(2, Payload::new(2)).is_stored()),
        );
        let stats = engine.stats();
        assert_eq!((dropped(), stats.sessions, stats.removals.evicted), (vec![1], 1, 1));
        assert_eq!((stats.held_sessions, stats.headers_waiting), (0, 0));
    },
};

#[test]
fn an_eviction_leaves_the_payload_to_the_reader() {
    GET_EVICT.explore();
}

#[test]
fn a_reference_to_the_evicted_is_caught() {
    GET_EVICT.catches("resurrect", "Causality violation");
}

/// Scenarios that another one is a part of fail for the same mistakes.
#[test]
fn larger_scenarios_catch_bugs_too() {
    GET_TAKE_READ.catches("relaxed-release", "Causality violation");
    CLONE_DROP.catches("relaxed-release", "Causality violation");
}
