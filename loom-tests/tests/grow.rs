//! Models of `src/table/cells.rs` and `list.rs`: growth, and cells that are linked.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{ALL, Payload, Scenario, dropped, race, race3};
use resumption::model::{self, Table};

/// In cell 0, whatever the size.
const A: u64 = 0x1000_0000_0000_0001;
/// In cell 0 of two, and in cell 2 of four.
const B: u64 = 0x4000_0000_0000_0001;
/// Behind it in the same cells.
const C: u64 = 0x5000_0000_0000_0001;
/// In cell 1 of two, and in cell 3 of four.
const D: u64 = 0xC000_0000_0000_0001;
/// In cell 0 of two, 2 of four and 6 of eight.
const E: u64 = 0x6000_0000_0000_0001;
/// Behind it in the same cells.
const F: u64 = 0x6800_0000_0000_0001;

fn table(keys: &[u64]) -> Table<Payload> {
    let table = Table::new();
    for (&key, number) in keys.iter().zip(100..) {
        assert!(table.put(key, Payload::new(number)).is_none());
    }
    table
}

const GET: Scenario = Scenario {
    name: "growth, get ∥ get of a session that changes its cell",
    preemptions: [2, 4],
    floors: [26_370, 16_980],
    run: || {
        let table = Arc::new(table(&[A, B]));
        let get = |t: &Table<Payload>| assert!(t.get(B).is_some(), "growth hides no session");
        race(&table, get, move |t| {
            t.grow();
            get(t);
        });
        assert_eq!((table.cells(), table.keys()), (4, vec![A, B]));
    },
};

#[test]
fn growth_hides_no_session() {
    GET.explore();
}

#[test]
fn a_walk_that_does_not_look_at_the_size_again_is_caught() {
    GET.catches("no-size-recheck", "growth hides no session");
}

/// A null pointer to a segment, which only a debug build looks for.
#[test]
#[cfg(debug_assertions)]
fn a_size_that_comes_before_its_cells_is_caught() {
    let messages = ["C1: a cell below the size has a segment", "Causality violation"];
    GET.catches_by("relaxed-size", messages);
}

const INSERT: Scenario = Scenario {
    name: "growth, get ∥ put",
    preemptions: [2, 3],
    floors: [11_790, 1_150],
    run: || {
        let table = Arc::new(table(&[A]));
        race(
            &table,
            |t| assert!(t.put(B, Payload::new(1)).is_none()),
            |t| {
                t.grow();
                // Links the cell.
                let _ = t.get(C);
            },
        );
        assert!(table.get(B).is_some(), "what was put is found");
        assert_eq!(table.keys(), [A, B]);
    },
};

#[test]
fn a_put_during_growth_is_found() {
    INSERT.explore();
}

const SAME_ID: Scenario = Scenario {
    name: "growth, put ∥ put of the same id",
    preemptions: [2, 3],
    floors: [17_280, 1_140],
    run: || {
        let table = Arc::new(table(&[A]));
        let (a, b) = race(
            &table,
            |t| t.put(B, Payload::new(1)).is_some(),
            |t| {
                t.grow();
                t.put(B, Payload::new(2)).is_some()
            },
        );
        assert!(a ^ b, "one put replaces the other's session");
        assert_eq!((table.keys(), dropped().len(), model::retired()), (vec![A, B], 1, (1, 1)));
    },
};

#[test]
fn an_id_has_one_session_across_sizes() {
    SAME_ID.explore();
}

const CELL: Scenario = Scenario {
    name: "get ∥ put in a cell that nobody has linked",
    preemptions: [2, 3],
    floors: [12_660, 1_510],
    run: || {
        let table = table(&[A, B]);
        table.grow();
        let table = Arc::new(table);
        race(
            &table,
            |t| assert!(t.get(B).is_some(), "a cell that is being linked hides no session"),
            |t| assert!(t.put(C, Payload::new(1)).is_none()),
        );
        assert_eq!(table.keys(), [A, B, C]);
        assert!(table.get(B).is_some() && table.get(C).is_some());
    },
};

#[test]
fn two_threads_link_one_cell() {
    CELL.explore();
}

#[test]
fn a_start_at_an_unlinked_cell_is_caught() {
    CELL.catches("start-early", "a cell that is being linked hides no session");
}

#[test]
fn a_walk_from_an_ancestor_that_ends_at_the_first_cell_is_caught() {
    CELL.catches("ancestor-region-ends", "a cell that is being linked hides no session");
}

const NESTED: Scenario = Scenario {
    name: "get ∥ put in a cell whose parent nobody has linked",
    preemptions: [2, 3],
    floors: [12_310, 1_350],
    run: || {
        let table = table(&[B, D]);
        table.grow();
        let table = Arc::new(table);
        race(
            &table,
            |t| assert!(t.get(D).is_some(), "a cell that is being linked hides no session"),
            |t| assert!(t.put(D | 2, Payload::new(1)).is_none()),
        );
        assert_eq!(table.keys(), [B, D, D | 2]);
    },
};

#[test]
fn two_threads_link_a_cell_and_its_parent() {
    NESTED.explore();
}

const REMOVAL: Scenario = Scenario {
    name: "take ∥ linking of the cell before it ∥ put behind it",
    preemptions: [1, 2],
    floors: [249_090, 2_010],
    run: || {
        let table = table(&[A, B]);
        table.grow();
        let table = Arc::new(table);
        race3(
            &table,
            |t| assert!(t.take(B).is_some()),
            |t| {
                // Links the cell.
                let _ = t.get(B | 2);
            },
            |t| assert!(t.put(C, Payload::new(1)).is_none()),
        );
        assert_eq!((table.keys(), model::retired()), (vec![A, C], (1, 1)));
    },
};

#[test]
fn a_cell_is_linked_beside_a_removal() {
    REMOVAL.explore();
}

const LINKED: Scenario = Scenario {
    name: "put ∥ linking of its cell ∥ get through the cell",
    preemptions: [1, 2],
    floors: [125_620, 1_220],
    run: || {
        let table = table(&[A]);
        table.grow();
        let table = Arc::new(table);
        let read = |t: &Table<Payload>| t.get(B).map(|session| session.payload().read());
        let ((), _, found) =
            race3(&table, |t| assert!(t.put(B, Payload::new(1)).is_none()), read, read);
        assert!(matches!(found, None | Some(1)));
        assert_eq!((table.keys(), read(&table)), (vec![A, B], Some(1)));
    },
};

#[test]
fn who_starts_at_a_cell_sees_what_it_leads_to() {
    LINKED.explore();
}

#[test]
fn a_relaxed_opening_of_a_cell_is_caught() {
    LINKED.catches("relaxed-ready", "Causality violation");
}

const GROWS: Scenario = Scenario {
    name: "growth ∥ growth",
    preemptions: [3, ALL],
    floors: [380, 510],
    run: || {
        let table = Arc::new(table(&[A, B]));
        race(&table, |t| t.grow(), |t| t.grow());
        let cells = table.cells();
        assert!(cells == 4 || cells == 8, "growth doubles");
        assert!(table.get(A).is_some() && table.get(B).is_some());
    },
};

#[test]
fn two_threads_grow() {
    GROWS.explore();
}

const WALK: Scenario = Scenario {
    name: "walk in batches ∥ growth, get",
    preemptions: [2, 3],
    floors: [13_420, 2_470],
    run: || {
        let table = Arc::new(table(&[A, B, D]));
        let (keys, ()) = race(&table, Table::keys, |t| {
            t.grow();
            assert!(t.get(B).is_some());
        });
        assert_eq!(keys, [A, B, D], "a walk meets each session once");
    },
};

#[test]
fn a_walk_meets_each_session_once() {
    WALK.explore();
}

const FOURFOLD: Scenario = Scenario {
    name: "growth by four, get ∥ growth by two, get, put",
    preemptions: [1, 2],
    floors: [78_070, 901],
    run: || {
        let table = Arc::new(table(&[A, E]));
        race(
            &table,
            |t| {
                t.grow_fourfold();
                assert!(t.get(E).is_some(), "growth hides no session");
            },
            |t| {
                t.grow();
                assert!(t.get(E).is_some(), "growth hides no session");
                assert!(t.put(F, Payload::new(1)).is_none());
                assert!(t.get(F).is_some(), "growth hides no session");
            },
        );
        assert_eq!(table.keys(), [A, E, F]);
    },
};

#[test]
fn growth_by_four_hides_no_session() {
    FOURFOLD.explore();
}

/// Scenarios that another one is a part of fail for the same mistakes.
#[test]
fn larger_scenarios_catch_bugs_too() {
    INSERT.catches_by("relaxed-link", ["what was put is found", "Causality violation"]);
    REMOVAL.catches("relaxed-link", "Causality violation");
    WALK.catches("relaxed-link", "C3: a linked cell is below the size");
    SAME_ID.catches("no-size-recheck", "one put replaces the other's session");
    NESTED.catches("start-early", "a cell that is being linked hides no session");
    FOURFOLD.catches("no-size-recheck", "growth hides no session");
}

#[test]
fn cells_of_another_grower_that_come_before_their_content_are_caught() {
    FOURFOLD.catches("relaxed-segment", "Causality violation");
}
