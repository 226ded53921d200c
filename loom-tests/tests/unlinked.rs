//! Models of what is told and not stored, and of contexts: `src/table/node/birth.rs`,
//! `src/table/events.rs` and `src/engine/modes.rs`.
#![cfg(loom)]

use std::sync::{Arc, Mutex};

use loom_tests::{Heard, Payload, Scenario, dropped, race, race3, serve, waiting};
use resumption::model::{Engine, Table, Told};
use resumption::{Answer, CacheMode, Dispatch, OnGet, Reason, RemovedSession, Session};

const A: u64 = 0x1000_0000_0000_0001;
const B: u64 = 0x2000_0000_0000_0001;

fn take(table: &Table<Payload>) -> bool {
    table.take_telling(A).is_some()
}

const HAND_OVER: Scenario = Scenario {
    name: "hand over, serve ∥ the leaving of its id, serve",
    preemptions: [2, 3],
    floors: [1_130, 611],
    run: || {
        let heard = Arc::new(Heard::default());
        race(
            &heard,
            |heard| {
                heard.shard.hand_over(A, Payload::new(1));
                heard.serve();
            },
            |heard| {
                heard.shard.gone(A);
                heard.serve();
            },
        );
        let mut calls = heard.calls();
        calls.sort_unstable();
        assert_eq!(calls, [(A, 0, Told::Left), (A, 1, Told::Came)], "each is told once");
        assert_eq!((heard.shard.backlog(), dropped()), (0, vec![1]), "no event keeps its node");
        assert!(!heard.shard.is_leaving(A) && !heard.shard.contains(A));
        drop(heard);
        assert_eq!(waiting(), 0);
    },
};

#[test]
fn what_is_not_stored_is_told_once() {
    HAND_OVER.explore();
}

#[test]
fn a_coming_without_a_reference_is_caught() {
    HAND_OVER.catches("coming-without-reference", "a payload was");
}

const HAND_OVER_GONE: Scenario = Scenario {
    name: "hand over, serve, its leaving, serve ∥ a put of its neighbour, serve",
    preemptions: [2, 3],
    floors: [18_100, 9_790],
    run: || {
        let heard = Arc::new(Heard::default());
        race(
            &heard,
            |heard| {
                heard.shard.hand_over(A, Payload::new(1));
                heard.serve();
                heard.shard.gone(A);
                let is_leaving = heard.shard.is_leaving(A);
                let is_told = heard.calls().contains(&(A, 0, Told::Left));
                assert!(is_leaving || is_told, "nobody asks before it is told");
                heard.serve();
            },
            |heard| {
                heard.shard.put(B, Payload::new(2));
                heard.serve();
            },
        );
        let calls = heard.calls();
        let of = |key| calls.iter().filter(|call| call.0 == key).copied().collect::<Vec<_>>();
        assert_eq!(of(A), [(A, 1, Told::Came), (A, 0, Told::Left)], "told in order");
        assert_eq!(of(B), [(B, 2, Told::Came)], "no event is left");
        assert_eq!(dropped(), [1], "no event keeps its node");
    },
};

#[test]
fn what_is_not_stored_leaves_after_it_came() {
    HAND_OVER_GONE.explore();
}

const HAND_OVER_DROP: Scenario = Scenario {
    name: "hand over of the same id ∥ drop of the scope, by the engine",
    preemptions: [0, 2],
    // In memory mode one preemption takes too long.
    floors: [518, 4_800],
    run: || {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let engine = Engine::telling_when_polled(3, move |told, session: Session<Payload>| {
            log.lock().expect("no panic").push((session.payload().read(), told));
        });
        assert!(engine.put(1, Payload::new(1)).is_stored());
        engine.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL_STORE);
        let engine = Arc::new(engine);
        race(&engine, |e| assert!(e.put(1, Payload::new(2)).is_stored()), |e| e.drop_scope());
        engine.poll();
        let told = [(1, Told::Came), (1, Told::Left), (2, Told::Came)];
        assert_eq!(*calls.lock().expect("no panic"), told, "told in order");
        assert_eq!(engine.stats().sessions, 0, "nothing is stored");
    },
};

#[test]
fn what_is_dropped_leaves_before_the_next_one_is_handed_over() {
    HAND_OVER_DROP.explore();
}

#[test]
fn a_session_that_is_handed_over_beside_an_outdated_one_is_caught() {
    HAND_OVER_DROP.catches("handed-over-beside-the-outdated", "told in order");
}

#[test]
fn a_session_that_is_handed_over_before_a_leaving_is_announced_is_caught() {
    HAND_OVER_DROP.catches("handed-over-without-search", "told in order");
}

/// An engine with room for one session, whose external cache has nothing.
fn small(calls: &Arc<Mutex<Vec<Option<Reason>>>>) -> Engine<Payload> {
    let engine = Engine::dispatching(1, Dispatch::Manual);
    let log = Arc::clone(calls);
    engine.set_on_remove(Some(Arc::new(move |told: RemovedSession<Payload>| {
        let told = told.session().map(|_| told.reason());
        log.lock().expect("no panic").push(told);
    })));
    let on_get: Arc<OnGet<Payload>> = Arc::new(|_| Answer::Nothing);
    engine.set_on_get(Some(on_get));
    engine
}

const EVICT_REMOVE: Scenario = Scenario {
    name: "a put that evicts ∥ the removal of what it evicts, by the engine",
    preemptions: [1, 2],
    floors: [3_030, 890],
    run: || {
        let calls = Arc::default();
        let engine = Arc::new(small(&calls));
        assert!(engine.put(1, Payload::new(1)).is_stored());
        let (_, is_removed) = race(&engine, |e| drop(e.put(2, Payload::new(2))), |e| e.remove(1));
        engine.poll();
        let told = match is_removed {
            true => vec![Some(Reason::Removed)],
            false => vec![Some(Reason::Evicted), None],
        };
        assert_eq!(*calls.lock().expect("no panic"), told, "told in order");
    },
};

#[test]
fn what_was_evicted_leaves_before_it_is_removed_elsewhere() {
    EVICT_REMOVE.explore();
}

#[test]
fn a_removal_elsewhere_before_an_eviction_is_announced_is_caught() {
    EVICT_REMOVE.catches("gone-without-search", "told in order");
}

const CONTEXT: Scenario = Scenario {
    name: "put with a context ∥ take ∥ serve",
    preemptions: [2, 3],
    floors: [1_290, 821],
    run: || {
        let table = Arc::new(Table::new());
        let put = |t: &Table<Payload>| drop(t.put_with(A, Payload::new(1), Payload::new(10)));
        let ((), taken, mut calls) = race3(&table, put, take, serve);
        calls.extend(serve(&table));
        let told = [(A, 1, Told::Came), (A, 10, Told::With), (A, 1, Told::Left)];
        assert_eq!(calls, told[..2 + usize::from(taken)], "told once");
        let gone = if taken { vec![1, 10] } else { vec![10] };
        assert_eq!(dropped(), gone, "a context goes when it was told");
        drop(table);
        assert_eq!((dropped(), waiting()), (vec![1, 10], 0), "an event gives up its node");
    },
};

#[test]
fn a_context_is_told_and_dropped_once() {
    CONTEXT.explore();
}

#[test]
fn a_context_that_stays_in_its_node_is_caught() {
    CONTEXT.catches("context-left-in-the-node", "a context goes when it was told");
}

const CONTEXT_UNTOLD: Scenario = Scenario {
    name: "put with a context ∥ take, never served",
    preemptions: [3, 5],
    floors: [284, 603],
    run: || {
        let table = Arc::new(Table::new());
        let put = |t: &Table<Payload>| drop(t.put_with(A, Payload::new(1), Payload::new(10)));
        race(&table, put, take);
        assert_eq!(dropped(), [], "the event keeps its node");
        drop(table);
        assert_eq!((dropped(), waiting()), (vec![1, 10], 0), "an event gives up its node");
    },
};

#[test]
fn a_context_that_nobody_heard_of_goes_with_its_node() {
    CONTEXT_UNTOLD.explore();
}

#[test]
fn a_coming_without_a_reference_beside_a_leaving_is_caught() {
    HAND_OVER_GONE.catches("coming-without-reference", "a payload was");
}
