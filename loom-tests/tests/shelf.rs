//! Models of `src/reclaim/shelf.rs`.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{ALL, Scenario, race, race3};
use resumption::model::Shelf;

/// What was taken, and what is left; sorted.
fn all(shelf: &Shelf, taken: impl IntoIterator<Item = Option<usize>>) -> Vec<usize> {
    let mut numbers: Vec<usize> = taken.into_iter().flatten().collect();
    while let Some(number) = shelf.take() {
        numbers.push(number);
    }
    numbers.sort_unstable();
    numbers
}

const TAKE_PUT: Scenario = Scenario {
    name: "take ∥ put ∥ put",
    preemptions: [3, ALL],
    floors: [5_710, 11_200],
    run: || {
        let shelf = Arc::new(Shelf::new(4, 2));
        let (taken, (), ()) = race3(&shelf, Shelf::take, |s| s.put(2), |s| s.put(3));
        assert!(taken.is_some(), "there was a bundle");
        assert_eq!(all(&shelf, [taken]), [0, 1, 2, 3], "no bundle is lost");
    },
};

#[test]
fn what_is_put_meanwhile_is_kept() {
    TAKE_PUT.explore();
}

#[test]
fn a_putting_back_by_a_store_is_caught() {
    TAKE_PUT.catches("put-back-by-store", "no bundle is lost");
}

#[test]
fn a_put_that_publishes_nothing_is_caught() {
    TAKE_PUT.catches("relaxed-put", "Causality violation");
}

const TAKES: Scenario = Scenario {
    name: "take, put ∥ take, take",
    preemptions: [4, ALL],
    // Few accesses: all interleavings are explored.
    floors: [682, 65],
    run: || {
        let shelf = Arc::new(Shelf::new(3, 3));
        let put_again = |s: &Shelf| {
            if let Some(number) = s.take() {
                s.put(number);
            }
        };
        let ((), taken) = race(&shelf, put_again, |s| [s.take(), s.take()]);
        assert_eq!(all(&shelf, taken), [0, 1, 2], "each bundle is taken once");
    },
};

#[test]
fn two_takers_get_different_bundles() {
    TAKES.explore();
}

#[test]
fn a_putting_back_of_what_others_took_is_caught() {
    TAKES.catches("put-back-by-store", "each bundle is taken once");
}
