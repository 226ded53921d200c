//! Models of `src/table/list.rs`: a session that is put in the place of another.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{Payload, Scenario, dropped, race, race3};
use resumption::Put;
use resumption::model::{self, Engine, Gone, Handle, Table};

const A: u64 = 0x1000_0000_0000_0001;
const B: u64 = 0x2000_0000_0000_0001;

/// A table that holds payload 1 under the id.
fn table() -> Arc<Table<Payload>> {
    let table = Table::new();
    assert!(table.put(A, Payload::new(1)).is_none());
    Arc::new(table)
}

fn put(table: &Table<Payload>, number: u32) -> Option<u32> {
    let replaced = table.put(A, Payload::new(number)).map(Gone::into_handle);
    replaced.map(|session| session.payload().read())
}

fn get(table: &Table<Payload>) -> Option<u32> {
    table.get(A).map(|session| session.payload().read())
}

fn take(table: &Table<Payload>) -> Option<Handle<Payload>> {
    table.take(A).map(Gone::into_handle)
}

const REPLACE_GET: Scenario = Scenario {
    name: "replace ∥ get",
    preemptions: [3, 5],
    floors: [698, 750],
    run: || {
        let table = table();
        let (found, replaced) = race(&table, get, |t| put(t, 2));
        assert!(found.is_some(), "a replace is no miss");
        assert_eq!((replaced, dropped(), model::retired()), (Some(1), vec![1], (1, 1)));
    },
};

#[test]
fn a_get_finds_the_old_or_the_new_session() {
    REPLACE_GET.explore();
}

#[test]
fn a_replace_in_two_steps_is_caught() {
    REPLACE_GET.catches("replace-in-two-steps", "a replace is no miss");
}

#[test]
fn a_new_session_that_comes_before_its_content_is_caught() {
    REPLACE_GET.catches("relaxed-link", "Causality violation");
}

const REPLACE_NEXT: Scenario = Scenario {
    name: "replace ∥ get of the next one",
    preemptions: [3, 5],
    floors: [332, 414],
    run: || {
        let table = Table::new();
        assert!(table.put(A, Payload::new(1)).is_none());
        assert!(table.put(B, Payload::new(2)).is_none());
        let table = Arc::new(table);
        let (found, replaced) =
            race(&table, |t| t.get(B).map(|session| session.payload().read()), |t| put(t, 3));
        assert_eq!((found, replaced), (Some(2), Some(1)), "the next session is found");
        assert_eq!((table.keys(), dropped(), model::retired()), (vec![A, B], vec![1], (1, 1)));
    },
};

#[test]
fn a_replace_does_not_hide_the_next_session() {
    REPLACE_NEXT.explore();
}

#[test]
fn a_session_that_is_linked_before_its_own_link_is_written_is_caught() {
    REPLACE_NEXT.catches("linked-before-its-next", "the next session is found");
}

const REPLACE_GETS: Scenario = Scenario {
    name: "replace ∥ get, get",
    preemptions: [3, 5],
    floors: [2_220, 3_540],
    run: || {
        let table = table();
        let ((first, second), _) = race(&table, |t| (get(t), get(t)), |t| put(t, 2));
        assert!(first.is_some() && first <= second, "versions only grow");
        assert_eq!((dropped(), model::retired()), (vec![1], (1, 1)));
    },
};

#[test]
fn gets_do_not_go_back_to_the_old_session() {
    REPLACE_GETS.explore();
}

const REPLACE_TAKE: Scenario = Scenario {
    name: "replace ∥ take",
    preemptions: [3, 5],
    floors: [891, 828],
    run: || {
        let table = table();
        let (taken, replaced) =
            race(&table, take, |t| t.put(A, Payload::new(2)).map(Gone::into_handle));
        let number = |session: Option<Handle<Payload>>| session.map(|s| s.payload().number());
        let gone = match (number(taken), number(replaced)) {
            (Some(1), None) => 1,
            (Some(2), Some(1)) => 2,
            other => panic!("no legal order of a replace and a take: {other:?}"),
        };
        assert_eq!(table.keys().len(), 2 - gone);
        assert_eq!((dropped().len(), model::retired()), (gone, (gone, gone)));
    },
};

#[test]
fn a_take_gets_the_old_or_the_new_session() {
    REPLACE_TAKE.explore();
}

#[test]
fn a_take_by_load_and_store_is_caught() {
    REPLACE_TAKE.catches("take-by-load-and-store", "no legal order of a replace and a take");
}

#[test]
fn a_replace_of_what_was_removed_since_is_caught() {
    REPLACE_TAKE.catches("replace-of-the-removed", "no legal order of a replace and a take");
}

const REPLACES: Scenario = Scenario {
    name: "replace ∥ replace",
    preemptions: [3, 4],
    floors: [1_100, 705],
    run: || {
        let table = table();
        let (a, b) = race(&table, |t| put(t, 2), |t| put(t, 3));
        let last = match (a, b) {
            (Some(1), Some(2)) => 3,
            (Some(3), Some(1)) => 2,
            other => panic!("no legal order of two replaces: {other:?}"),
        };
        assert_eq!((get(&table), table.keys()), (Some(last), vec![A]));
        assert_eq!((dropped(), model::retired()), (vec![1, 5 - last], (2, 2)));
    },
};

#[test]
fn each_session_is_replaced_once() {
    REPLACES.explore();
}

const REPLACE_TAKE_GET: Scenario = Scenario {
    name: "replace ∥ take of the predecessor ∥ get",
    preemptions: [2, 2],
    floors: [7_520, 1_050],
    run: || {
        let table = Table::new();
        assert!(table.put(A, Payload::new(1)).is_none());
        assert!(table.put(B, Payload::new(2)).is_none());
        let table = Arc::new(table);
        let (found, replaced, _) = race3(
            &table,
            |t| t.get(B).map(|session| session.payload().read()),
            |t| t.put(B, Payload::new(3)).is_some(),
            |t| assert!(t.take(A).is_some()),
        );
        assert!(found.is_some() && replaced, "a replace is no miss");
        assert_eq!((table.keys(), model::retired()), (vec![B], (2, 2)));
    },
};

#[test]
fn a_get_passes_a_replace_and_a_removal() {
    REPLACE_TAKE_GET.explore();
}

const ENGINE: Scenario = Scenario {
    name: "replace ∥ get, by the engine",
    preemptions: [2, 2],
    floors: [439, 124],
    run: || {
        let engine = Engine::new(2);
        assert!(engine.put(1, Payload::new(1)).is_stored());
        let engine = Arc::new(engine);
        let (found, replaced) = race(
            &engine,
            |e: &Engine<Payload>| e.get(1).map(|session| session.payload().read()),
            |e| match e.put(1, Payload::new(2)) {
                Put::Replaced(old) => old.payload().read(),
                other => panic!("{other:?} in the place of a live session"),
            },
        );
        assert!(found.is_some(), "a replace is no miss");
        assert_eq!((replaced, dropped()), (1, vec![1]));
        let stats = engine.stats();
        assert_eq!((stats.sessions, stats.replaced, stats.held_sessions), (1, 1, 0));
    },
};

#[test]
fn the_engine_replaces_in_one_step() {
    ENGINE.explore();
}

#[test]
fn an_engine_that_replaces_in_two_steps_is_caught() {
    ENGINE.catches("replace-in-two-steps", "a replace is no miss");
}

#[test]
fn a_get_that_gives_up_when_it_is_outrun_is_caught() {
    ENGINE.catches("miss-what-was-replaced", "a replace is no miss");
}

/// Scenarios that another one is a part of fail for the same mistakes.
#[test]
fn larger_scenarios_catch_bugs_too() {
    REPLACE_GETS.catches("replace-in-two-steps", "versions only grow");
    REPLACES.catches("replace-of-the-removed", "a payload was");
    REPLACE_TAKE_GET.catches("replace-in-two-steps", "a replace is no miss");
}
