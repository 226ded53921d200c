//! Models of the filter of a cell, `src/table/link.rs` and `list.rs`: a lookup that it spares would have
//! found nothing.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{Payload, Scenario, race, race3};
use resumption::model::Table;

/// In cell 0, whatever the size, and the first there.
const A: u64 = 0x1000_0000_0001_0001;
/// Behind it, in cell 0 of two and in cell 2 of four; with another bit of the filter, as all of these.
const B: u64 = 0x4000_0000_0002_0001;
/// Behind that in the same cells.
const C: u64 = 0x5000_0000_0003_0001;

fn table(keys: &[u64]) -> Table<Payload> {
    let table = Table::new();
    for (&key, number) in keys.iter().zip(100..) {
        assert!(table.put(key, Payload::new(number)).is_none());
    }
    table
}

/// A walk does not look at filters: what it has met, a lookup has to find.
fn found_once_seen(table: &Table<Payload>, key: u64) {
    if table.keys().contains(&key) {
        assert!(table.get(key).is_some(), "what was seen is found");
    }
}

const BEHIND: Scenario = Scenario {
    name: "put behind a session ∥ walk, get",
    preemptions: [3, 4],
    floors: [208, 142],
    run: || {
        let table = Arc::new(table(&[A]));
        race(&table, |t| assert!(t.put(B, Payload::new(1)).is_none()), |t| found_once_seen(t, B));
        assert!(table.get(A).is_some() && table.get(B).is_some(), "what was put is found");
    },
};

#[test]
fn what_was_seen_is_found() {
    BEHIND.explore();
}

#[test]
fn a_bit_that_comes_after_its_session_is_caught() {
    BEHIND.catches("linked-before-its-bit", "what was seen is found");
}

#[test]
fn a_relaxed_bit_is_no_bug() {
    BEHIND.tolerates(
        "relaxed-lead-to",
        "who sees the bit goes on to the links, and acquires each of them; a read-modify-write \
         continues the release sequences of the word. It is Release for what may be looked up by \
         the bit alone one day",
    );
}

const TWO: Scenario = Scenario {
    name: "put behind a session ∥ put before it",
    preemptions: [3, 4],
    floors: [460, 252],
    run: || {
        let table = Arc::new(table(&[B]));
        race(
            &table,
            |t| assert!(t.put(C, Payload::new(1)).is_none()),
            |t| assert!(t.put(A, Payload::new(2)).is_none()),
        );
        assert_eq!(table.keys(), [A, B, C], "what was put is found");
        assert!([A, B, C].iter().all(|&key| table.get(key).is_some()), "what was put is found");
    },
};

#[test]
fn two_puts_set_their_bits() {
    TWO.explore();
}

#[test]
fn a_bit_that_is_set_in_two_steps_is_caught() {
    TWO.catches("bit-by-load-and-store", "what was put is found");
}

const LAST: Scenario = Scenario {
    name: "take of the last session of a cell ∥ put there, get",
    preemptions: [2, 3],
    floors: [985, 642],
    run: || {
        let table = Arc::new(table(&[A]));
        race(
            &table,
            |t| assert!(t.take(A).is_some()),
            |t| {
                assert!(t.put(B, Payload::new(1)).is_none());
                assert!(t.get(B).is_some(), "what was put is found");
            },
        );
        assert!(table.get(A).is_none() && table.get(B).is_some());
    },
};

#[test]
fn a_filter_is_cleared_beside_a_put() {
    LAST.explore();
}

const FIRST: Scenario = Scenario {
    name: "take of the first of two sessions of a cell ∥ put behind both ∥ get of the second",
    preemptions: [1, 2],
    floors: [186, 524],
    run: || {
        let table = Arc::new(table(&[A, B]));
        race3(
            &table,
            |t| assert!(t.take(A).is_some()),
            |t| assert!(t.put(C, Payload::new(1)).is_none()),
            |t| assert!(t.get(B).is_some(), "what was put is found"),
        );
        assert!(table.get(B).is_some() && table.get(C).is_some(), "what was put is found");
    },
};

#[test]
fn a_filter_keeps_the_bits_of_those_who_stay() {
    FIRST.explore();
}

#[test]
fn a_filter_that_goes_with_the_first_session_is_caught() {
    FIRST.catches("cleared-with-the-first", "what was put is found");
}

const GROWTH: Scenario = Scenario {
    name: "growth, get, take of all that stays ∥ get of a session that changes its cell",
    preemptions: [2, 3],
    floors: [3_690, 815],
    run: || {
        let table = Arc::new(table(&[A, B]));
        race(
            &table,
            |t| {
                t.grow();
                // Links the cell.
                assert!(t.get(B).is_some(), "growth hides no session");
                // Clears the old one.
                assert!(t.take(A).is_some());
            },
            |t| assert!(t.get(B).is_some(), "growth hides no session"),
        );
    },
};

#[test]
fn an_old_cell_hides_no_session() {
    GROWTH.explore();
}

#[test]
fn a_size_that_is_read_before_the_cell_is_caught() {
    GROWTH.catches("size-before-cell", "growth hides no session");
}

#[test]
fn a_lookup_that_does_not_look_at_the_size_again_is_caught() {
    GROWTH.catches("no-size-recheck", "growth hides no session");
}

const NEW_CELL: Scenario = Scenario {
    name: "growth, linking of a cell ∥ put behind what is there, get",
    preemptions: [2, 3],
    floors: [62_060, 6_470],
    run: || {
        let table = Arc::new(table(&[A, B]));
        race(
            &table,
            |t| {
                t.grow();
                (0..4).for_each(|_| t.link_some());
            },
            |t| {
                assert!(t.put(C, Payload::new(1)).is_none());
                assert!(t.get(C).is_some(), "what was put is found");
            },
        );
        assert!([A, B, C].iter().all(|&key| table.get(key).is_some()), "what was put is found");
        assert_eq!(table.keys(), [A, B, C]);
    },
};

#[test]
fn a_new_cell_hides_no_session() {
    NEW_CELL.explore();
}

#[test]
fn a_new_cell_that_claims_to_lead_nowhere_is_caught() {
    NEW_CELL.catches("new-cell-knows-nothing", "what was put is found");
}

const AT_ONCE: Scenario = Scenario {
    name: "put ∥ growth, linking of its cell",
    preemptions: [2, 3],
    floors: [13_310, 1_180],
    run: || {
        let table = Arc::new(table(&[A]));
        race(
            &table,
            |t| assert!(t.put(B, Payload::new(1)).is_none()),
            |t| {
                t.grow();
                let _ = t.get(C);
            },
        );
        assert!(table.get(B).is_some(), "what was put is found");
    },
};

#[test]
fn who_meets_a_cell_sets_the_bit_there() {
    AT_ONCE.explore();
}

#[test]
fn a_bit_in_the_cell_where_the_walk_began_is_caught() {
    AT_ONCE.catches("bit-in-the-first-cell", "what was put is found");
}

#[test]
fn a_bit_that_is_set_in_two_steps_beside_a_take_is_caught() {
    LAST.catches("bit-by-load-and-store", "a dead block was read");
}
