//! Models of `src/gate.rs`: close, and both of its races over two stripes. What the gate does for the drop of a scope,
//! by the engine, is in `scope.rs`.
#![cfg(loom)]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
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

/// A gate of two stripes, and what each of two puts writes inside. The puts are in different stripes.
struct Stripes {
    gate: Gate,
    contents: [UnsafeCell<u32>; 2],
}

// SAFETY: loom checks every access to the cells.
unsafe impl Sync for Stripes {}

fn put_as(put: usize) -> impl Fn(&Stripes) -> u32 {
    move |world| {
        let Some(_inside) = world.gate.enter() else { return 0 };
        // SAFETY: loom fails the model when another access races with this.
        world.contents[put].with_mut(|content| unsafe { *content = 1 });
        1
    }
}

const CLOSE_STRIPES: Scenario = Scenario {
    name: "enter ∥ enter in another stripe ∥ close",
    preemptions: [2, 3],
    floors: [991, 315],
    run: || {
        let contents = [UnsafeCell::new(0), UnsafeCell::new(0)];
        let world = Arc::new(Stripes { gate: Gate::of_stripes(2), contents });
        let (one, two, seen) = race3(&world, put_as(0), put_as(1), |w| {
            w.gate.close();
            // SAFETY: as in `put_as`.
            [0, 1].map(|put| w.contents[put].with(|content| unsafe { *content }))
        });
        assert_eq!([one, two], seen, "the closer sees what was put before");
        assert!(world.gate.enter().is_none());
    },
};

#[test]
fn close_waits_for_those_inside_of_every_stripe() {
    CLOSE_STRIPES.explore();
}

#[test]
fn a_close_of_one_stripe_is_caught() {
    CLOSE_STRIPES.catches("closes-one-stripe", "Causality violation");
}

/// A gate of two stripes, the slot of a scope, and what each of two puts has linked under the old one.
struct Slots {
    gate: Gate,
    slot: AtomicUsize,
    linked: [AtomicUsize; 2],
}

/// Links, leaves, and looks at the slot again; whether it sees the new one.
fn link_as(put: usize) -> impl Fn(&Slots) -> bool {
    move |world| {
        let inside = world.gate.enter();
        world.linked[put].store(1, Ordering::Relaxed);
        drop(inside);
        world.slot.load(Ordering::Relaxed) == 1
    }
}

const SETTLE_STRIPES: Scenario = Scenario {
    name: "enter, leave ∥ enter, leave in another stripe ∥ settle",
    preemptions: [2, 3],
    floors: [948, 1_330],
    run: || {
        let (slot, linked) = (AtomicUsize::new(0), [AtomicUsize::new(0), AtomicUsize::new(0)]);
        let world = Arc::new(Slots { gate: Gate::of_stripes(2), slot, linked });
        let (one, two, seen) = race3(&world, link_as(0), link_as(1), |w| {
            w.slot.store(1, Ordering::Relaxed);
            w.gate.settle();
            [0, 1].map(|put| w.linked[put].load(Ordering::Relaxed) == 1)
        });
        assert!((one || seen[0]) && (two || seen[1]), "one of the two sees the other");
    },
};

#[test]
fn a_settling_is_ordered_with_those_inside_of_every_stripe() {
    SETTLE_STRIPES.explore();
}

#[test]
fn a_settling_of_one_stripe_is_caught() {
    SETTLE_STRIPES.catches("settles-one-stripe", "one of the two sees the other");
}

#[test]
fn a_settling_that_orders_nothing_is_caught() {
    SETTLE_STRIPES.catches("relaxed-settle", "one of the two sees the other");
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
