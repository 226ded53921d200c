//! Models of the drop of a scope: `src/gate.rs`, `src/engine/outdated.rs` and `src/engine/sweep.rs`.
#![cfg(loom)]

use std::sync::{Arc, Mutex};

use loom_tests::{Call, Payload, Scenario, race, replay};
use resumption::Session;
use resumption::model::{Engine, Told};

const A: u64 = 0x1000_0000_0000_0001;

const SCOPE: Scenario = Scenario {
    name: "put ∥ drop of the scope, by the engine",
    preemptions: [2, 3],
    floors: [20_934, 500],
    run: || {
        let engine = Arc::new(Engine::new(2));
        let (put, _) = race(&engine, |e| e.put(1, Payload::new(1)).is_stored(), |e| e.drop_scope());
        assert!(put, "the put went to the old scope or to the new one");
        let found = engine.get(1).is_some();
        let stats = engine.stats();
        assert_eq!(stats.sessions, u64::from(found), "no session stays in a dropped scope");
        assert_eq!(stats.removals.scope_dropped, u64::from(!found));
    },
};

#[test]
fn no_session_stays_in_a_dropped_scope() {
    SCOPE.explore();
}

#[test]
fn a_drop_without_settling_is_caught() {
    SCOPE.catches("no-settle", "no session stays in a dropped scope");
}

#[test]
fn a_drop_that_settles_without_an_order_is_caught() {
    SCOPE.catches("relaxed-settle", "no session stays in a dropped scope");
}

#[test]
fn a_put_that_does_not_look_at_the_scope_again_is_caught() {
    SCOPE.catches("no-second-look-at-the-scope", "no session stays in a dropped scope");
}

/// An engine whose calls are made when it is polled, and what was called.
struct Polled {
    engine: Engine<Payload>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Polled {
    fn new() -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let engine = Engine::telling_when_polled(2, move |told, session: Session<Payload>| {
            log.lock().expect("no panic").push((A, session.payload().read(), told));
        });
        Self { engine, calls }
    }

    fn put(&self, number: u32) {
        assert!(self.engine.put(1, Payload::new(number)).is_stored());
    }

    /// What the calls lead to is what is there; returns how many sessions left.
    fn check(&self) -> usize {
        self.engine.poll();
        let there = self.engine.get(1).map(|session| (A, session.payload().read()));
        let calls = self.calls.lock().expect("no panic").clone();
        assert_eq!(replay(&[], &calls), there.into_iter().collect::<Vec<_>>(), "told of all");
        assert_eq!(self.engine.stats().sessions, u64::from(there.is_some()), "nothing is left");
        calls.iter().filter(|call| call.2 == Told::Left).count()
    }
}

const PUT_DROP: Scenario = Scenario {
    name: "put of the same id ∥ drop of the scope, by the engine",
    preemptions: [0, 2],
    // In memory mode one preemption takes too long.
    floors: [3_150, 5_590],
    run: || {
        let polled = Polled::new();
        polled.put(1);
        let polled = Arc::new(polled);
        race(&polled, |p| p.put(2), |p| p.engine.drop_scope());
        assert!(polled.check() > 0, "one was dropped or replaced");
    },
};

#[test]
fn what_is_dropped_leaves_before_the_next_one_comes() {
    PUT_DROP.explore();
}

#[test]
fn a_put_beside_an_outdated_session_is_caught() {
    PUT_DROP.catches("beside-the-outdated", "told in order");
}

const PUT_DROP_PUT: Scenario = Scenario {
    name: "put ∥ drop of the scope, put of the same id, by the engine",
    preemptions: [0, 2],
    // As above.
    floors: [7, 1_252],
    run: || {
        let polled = Arc::new(Polled::new());
        let drop_then_put = |p: &Polled| {
            p.engine.drop_scope();
            p.put(2);
        };
        race(&polled, |p| p.put(1), drop_then_put);
        assert_eq!(polled.engine.stats().sessions, 1, "what was put after the drop stays");
        assert!(polled.check() > 0, "one of two was replaced or dropped");
    },
};

#[test]
fn a_late_put_comes_after_what_is_newer_has_left() {
    PUT_DROP_PUT.explore();
}

#[test]
fn a_late_put_beside_a_newer_session_is_caught() {
    PUT_DROP_PUT.catches("beside-the-newer", "told in order");
}

#[test]
fn a_late_put_that_stays_behind_is_caught() {
    PUT_DROP_PUT.catches("late-put-stays-behind", "what was put after the drop stays");
}
