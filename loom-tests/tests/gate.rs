//! Models of `src/gate.rs`: close. What the gate does for the drop of a scope is in `scope.rs`.
#![cfg(loom)]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom_tests::{ALL, Payload, Scenario, dropped, race, race3};
use resumption::Put;
use resumption::model::{Engine, Gate};

/// A gate, and what is written inside and read after the close.
struct World {
    gate: Gate,
    content: UnsafeCell<u32>,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for World {}

fn put(world: &World) -> u32 {
    let Some(_inside) = world.gate.enter() else { return 0 };
    // SAFETY: loom fails the model when another access races with this.
    world.content.with_mut(|content| unsafe { *content += 1 });
    1
}

const CLOSE: Scenario = Scenario {
    name: "enter ∥ close",
    preemptions: [ALL, ALL],
    // Few accesses: within the bound there are no more executions to ask for.
    floors: [1_000, 16],
    run: || {
        let world = World { gate: Gate::new(), content: UnsafeCell::new(0) };
        let world = Arc::new(world);
        let (stored, seen) = race(&world, put, |w| {
            w.gate.close();
            // SAFETY: as in `put`.
            w.content.with(|content| unsafe { *content })
        });
        assert_eq!(stored, seen, "the closer sees what was put before");
        assert!(world.gate.enter().is_none());
    },
};

#[test]
fn close_waits_for_those_inside() {
    CLOSE.explore();
}

#[test]
fn a_close_that_does_not_wait_is_caught() {
    CLOSE.catches("close-without-waiting", "Causality violation");
}

#[test]
fn a_wait_that_acquires_nothing_is_caught() {
    CLOSE.catches("relaxed-wait", "Causality violation");
}

#[test]
fn an_entry_by_load_is_caught() {
    CLOSE.catches("enter-by-load", "Causality violation");
}

#[test]
fn a_relaxed_leave_is_caught() {
    CLOSE.catches("relaxed-leave", "Causality violation");
}

const CLOSE_PUT: Scenario = Scenario {
    name: "put ∥ close, by the engine",
    preemptions: [2, 3],
    floors: [57, 30],
    run: || {
        let engine = Arc::new(Engine::new(2));
        let (put, ()) = race(&engine, |e| e.put(1, Payload::new(1)).is_stored(), Engine::close);
        let stats = engine.stats();
        assert_eq!(stats.sessions, 0, "nothing is stored after a close");
        assert_eq!(stats.removals.closed, u64::from(put));
        assert_eq!(dropped(), [1]);
    },
};

#[test]
fn close_removes_what_was_put_before() {
    CLOSE_PUT.explore();
}

#[test]
fn an_engine_whose_puts_enter_by_load_is_caught() {
    CLOSE_PUT.catches("enter-by-load", "nothing is stored after a close");
}

#[test]
fn an_engine_that_closes_without_waiting_is_caught() {
    CLOSE_PUT.catches("close-without-waiting", "nothing is stored after a close");
}

#[test]
fn an_engine_that_sweeps_before_it_closes_is_caught() {
    CLOSE_PUT.catches("swept-before-closed", "nothing is stored after a close");
}

const CLOSES: Scenario = Scenario {
    name: "put ∥ close ∥ take, by the engine",
    preemptions: [1, 2],
    floors: [1_934, 37_446],
    run: || {
        let engine = Engine::new(2);
        assert!(engine.put(1, Payload::new(1)).is_stored());
        let engine = Arc::new(engine);
        let (put, taken, ()) = race3(
            &engine,
            |e| matches!(e.put(1, Payload::new(2)), Put::Stored | Put::Replaced(_)),
            |e: &Engine<Payload>| e.take(1).is_some(),
            Engine::close,
        );
        let stats = engine.stats();
        assert_eq!((stats.sessions, dropped()), (0, vec![1, 2]), "nothing is stored after a close");
        assert_eq!(stats.removals.total(), 1 + u64::from(put), "each session leaves once");
        assert_eq!(stats.removals.taken, u64::from(taken));
    },
};

#[test]
fn close_and_take_share_the_sessions() {
    CLOSES.explore();
}
