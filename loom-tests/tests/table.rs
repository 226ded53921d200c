//! Models of `src/table/list.rs`: inserts and removals.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{ALL, Payload, Scenario, dropped, race, race3};
use resumption::model::{self, Gone, Table};

const A: u64 = 0x1000_0000_0000_0001;
const B: u64 = 0x2000_0000_0000_0001;
const C: u64 = 0x3000_0000_0000_0001;

fn table(keys: &[u64]) -> Arc<Table<Payload>> {
    let table = Table::new();
    for (&key, number) in keys.iter().zip(100..) {
        assert!(table.put(key, Payload::new(number)).is_none());
    }
    Arc::new(table)
}

const PUT_PUT: Scenario = Scenario {
    name: "put of an id ∥ put of the same id",
    preemptions: [6, ALL],
    floors: [494, 120],
    run: || {
        let table = table(&[]);
        let (a, b) = race(
            &table,
            |t| t.put(A, Payload::new(1)).is_some(),
            |t| t.put(A, Payload::new(2)).is_some(),
        );
        assert_eq!((table.keys(), a ^ b), (vec![A], true), "one live session of the id");
        assert_eq!(dropped(), [if a { 2 } else { 1 }], "the replaced one was dropped");
        assert_eq!(model::retired(), (1, 1));
        drop(table);
        assert_eq!((dropped(), model::retired()), (vec![1, 2], (2, 2)));
    },
};

#[test]
fn puts_of_one_id_leave_one_session() {
    PUT_PUT.explore();
}

const NEIGHBOURS: Scenario = Scenario {
    name: "put ∥ put of its neighbour",
    preemptions: [6, ALL],
    floors: [494, 120],
    run: || {
        let table = table(&[]);
        race(
            &table,
            |t| assert!(t.put(A, Payload::new(1)).is_none()),
            |t| assert!(t.put(B, Payload::new(2)).is_none()),
        );
        assert_eq!(table.keys(), [A, B], "both are there");
        assert!(table.get(A).is_some_and(|a| a.payload().read() == 1));
        drop(table);
        assert_eq!((dropped(), model::retired()), (vec![1, 2], (2, 2)));
    },
};

#[test]
fn neighbours_do_not_hide_each_other() {
    NEIGHBOURS.explore();
}

#[test]
fn relaxed_links_are_caught() {
    NEIGHBOURS.catches("relaxed-link", "Causality violation");
}

const TAKE_TAKE: Scenario = Scenario {
    name: "take ∥ take",
    preemptions: [4, 6],
    floors: [3_640, 1_420],
    run: || {
        let table = table(&[A]);
        let take = |t: &Table<Payload>| t.take(A).map(Gone::into_handle);
        let (a, b) = race(&table, take, take);
        assert!(a.is_some() ^ b.is_some(), "one take wins");
        assert_eq!(a.or(b).map(|taken| taken.payload().read()), Some(100));
        assert_eq!((table.keys(), dropped(), model::retired()), (vec![], vec![100], (1, 1)));
    },
};

#[test]
fn one_take_wins() {
    TAKE_TAKE.explore();
}

#[test]
fn a_take_by_load_and_store_is_caught() {
    TAKE_TAKE.catches("take-by-load-and-store", "one take wins");
}

#[test]
fn a_relaxed_removal_is_no_bug() {
    TAKE_TAKE.tolerates(
        "relaxed-removal",
        "the winner has found the node by Acquire loads and writes nothing before the removal that \
         others look for; a read-modify-write continues the release sequence of the link that it \
         marks. It is AcqRel for what winners may do one day",
    );
}

const TAKE_TAKE_PUT: Scenario = Scenario {
    name: "take ∥ take ∥ put",
    preemptions: [2, 2],
    floors: [14_120, 711],
    run: || {
        let table = table(&[A]);
        let take = |t: &Table<Payload>| t.take(A).is_some();
        let put = |t: &Table<Payload>| t.put(A, Payload::new(1)).is_some();
        let (a, b, replaced) = race3(&table, take, take, put);
        assert!(a || b, "the id was never absent before the first take");
        let left = [a, b, replaced].into_iter().filter(|&left| left).count();
        assert_eq!(left + table.keys().len(), 2, "each session leaves once");
        assert_eq!((dropped().len(), model::retired()), (left, (left, left)));
    },
};

#[test]
fn takes_and_a_put_keep_the_count() {
    TAKE_TAKE_PUT.explore();
}

const PREDECESSOR: Scenario = Scenario {
    name: "take of the predecessor ∥ put",
    preemptions: [4, 6],
    floors: [2_670, 2_310],
    run: || {
        let table = table(&[A, C]);
        race(
            &table,
            |t| assert!(t.take(A).is_some()),
            |t| assert!(t.put(B, Payload::new(1)).is_none()),
        );
        assert_eq!(table.keys(), [B, C], "the put's session is there, the taken one is not");
        assert_eq!((dropped(), model::retired()), (vec![100], (1, 1)));
    },
};

#[test]
fn a_put_behind_a_removed_session_is_not_lost() {
    PREDECESSOR.explore();
}

#[test]
fn an_unlink_by_store_is_caught() {
    PREDECESSOR.catches("unlink-by-store", "the put's session is there");
}

const TAKES_OF_NEIGHBOURS: Scenario = Scenario {
    name: "take ∥ take of its neighbour ∥ get of the next",
    preemptions: [2, 2],
    floors: [3_710, 806],
    run: || {
        let table = table(&[A, B, C]);
        race3(
            &table,
            |t| assert!(t.take(A).is_some()),
            |t| assert!(t.take(B).is_some()),
            |t| assert!(t.get(C).is_some(), "the next session is found"),
        );
        assert_eq!((table.keys(), model::retired()), (vec![C], (2, 2)));
    },
};

#[test]
fn takes_of_neighbours_unlink_both() {
    TAKES_OF_NEIGHBOURS.explore();
}

#[test]
fn a_take_that_does_not_make_sure_of_the_unlinking_is_caught() {
    TAKES_OF_NEIGHBOURS.catches("no-second-search", "a dead block was read");
}

#[test]
fn relaxed_links_to_one_id_are_caught() {
    PUT_PUT.catches("relaxed-link", "Causality violation");
}

#[test]
fn a_take_by_load_and_store_beside_a_put_is_caught() {
    TAKE_TAKE_PUT.catches("take-by-load-and-store", "each session leaves once");
}
