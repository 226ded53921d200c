//! Models of `src/queue/mod.rs`. A segment has two slots here.
#![cfg(loom)]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom_tests::{ALL, Scenario, race, race3};
use resumption::model::{self, Queue};

/// A queue that holds the hints from 1 to `count`.
fn queue(count: u64) -> Arc<Queue> {
    let queue = Queue::new();
    for number in 1..=count {
        queue.push(number);
    }
    Arc::new(queue)
}

/// What was popped, and what is left; sorted.
fn all(queue: &Queue, popped: impl IntoIterator<Item = Option<u64>>) -> Vec<u64> {
    let mut numbers: Vec<u64> = popped.into_iter().flatten().collect();
    while let Some(number) = queue.pop() {
        numbers.push(number);
    }
    assert!(queue.is_empty());
    numbers.sort_unstable();
    numbers
}

const PUSH_POP: Scenario = Scenario {
    name: "push ∥ pop",
    preemptions: [ALL, ALL],
    // Few accesses: all executions are explored.
    floors: [45, 9],
    run: || {
        let queue = queue(0);
        let ((), popped) = race(&queue, |q| q.push(1), Queue::pop);
        assert_eq!(all(&queue, [popped]), [1], "no hint is lost");
    },
};

#[test]
fn a_push_and_a_pop_lose_nothing() {
    PUSH_POP.explore();
}

/// A queue, and what its hint 2 leads to.
struct World {
    queue: Arc<Queue>,
    session: UnsafeCell<u32>,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for World {}

fn pop(world: &World) -> Option<u64> {
    let popped = world.queue.pop();
    if popped == Some(2) {
        // SAFETY: loom fails the model when another access races with this.
        assert_eq!(world.session.with(|session| unsafe { *session }), 2);
    }
    popped
}

const PUSH_POP_POP: Scenario = Scenario {
    name: "push ∥ pop ∥ pop",
    preemptions: [ALL, ALL],
    floors: [42_600, 1_870],
    run: || {
        let world = Arc::new(World { queue: queue(1), session: UnsafeCell::new(0) });
        let push = |w: &World| {
            // SAFETY: loom fails the model when another access races with this.
            w.session.with_mut(|session| unsafe { *session = 2 });
            w.queue.push(2);
        };
        let ((), a, b) = race3(&world, push, pop, pop);
        assert!(a.is_some() || b.is_some(), "there was a hint");
        assert_eq!(all(&world.queue, [a, b]), [1, 2], "no hint is lost");
    },
};

#[test]
fn two_pops_get_different_hints() {
    PUSH_POP_POP.explore();
}

#[test]
fn a_hint_that_comes_before_its_session_is_caught() {
    PUSH_POP_POP.catches("relaxed-hint", "Causality violation");
}

const PUSH_POPS: Scenario = Scenario {
    name: "push ∥ pop, pop, pop over the end of a segment",
    preemptions: [ALL, ALL],
    // Few accesses: all executions are explored.
    floors: [60, 9],
    run: || {
        let queue = queue(2);
        let ((), [a, b, c]) = race(&queue, |q| q.push(3), |q| [q.pop(), q.pop(), q.pop()]);
        assert_eq!((a, b), (Some(1), Some(2)), "hints come in order");
        assert_eq!(all(&queue, [a, b, c]), [1, 2, 3], "no hint is lost");
        let (retired, dead) = model::retired();
        assert!(retired <= 1 && dead == retired, "a segment that was left is dead");
    },
};

#[test]
fn a_segment_is_left_once_it_is_spent() {
    PUSH_POPS.explore();
}

#[test]
fn a_segment_that_comes_before_its_content_is_caught() {
    PUSH_POPS.catches("relaxed-append", "Causality violation");
}

const TAIL: Scenario = Scenario {
    name: "append ∥ pop, pop, pop, push in the next segment",
    preemptions: [2, 3],
    floors: [984, 900],
    run: || {
        let queue = queue(2);
        let ((), popped) = race(
            &queue,
            |q| q.push(3),
            |q| {
                let popped = [q.pop(), q.pop(), q.pop()];
                q.push(4);
                popped
            },
        );
        assert_eq!(all(&queue, popped), [1, 2, 3, 4], "no hint is lost");
    },
};

#[test]
fn the_tail_leaves_a_segment_before_the_head_does() {
    TAIL.explore();
}

#[test]
fn a_head_that_passes_the_tail_is_caught() {
    TAIL.catches("head-passes-tail", "a dead block was read");
}

const PUSHES_POPS: Scenario = Scenario {
    name: "push, push ∥ pop, pop over the end of a segment",
    preemptions: [ALL, ALL],
    // Few accesses: all executions are explored.
    floors: [21, 4],
    run: || {
        let queue = queue(1);
        let ((), [a, b]) = race(
            &queue,
            |q| {
                q.push(2);
                q.push(3);
            },
            |q| [q.pop(), q.pop()],
        );
        assert_eq!(a, Some(1), "there was a hint");
        assert_eq!(all(&queue, [a, b]), [1, 2, 3], "no hint is lost");
    },
};

#[test]
fn pushes_go_on_in_the_next_segment() {
    PUSHES_POPS.explore();
}

#[test]
fn a_head_that_leaves_a_segment_early_is_caught() {
    PUSHES_POPS.catches("leave-early", "no hint is lost");
}

const APPENDS: Scenario = Scenario {
    name: "append ∥ append",
    preemptions: [4, 4],
    floors: [32_800, 4_540],
    run: || {
        let queue = queue(2);
        race(&queue, |q| q.push(3), |q| q.push(4));
        assert_eq!(all(&queue, []), [1, 2, 3, 4], "no hint is lost");
    },
};

#[test]
fn two_appends_keep_both_hints() {
    APPENDS.explore();
}

const PUSH_PUSH: Scenario = Scenario {
    name: "push ∥ push ∥ pop into one segment",
    preemptions: [3, 5],
    floors: [2_720, 3_610],
    run: || {
        let queue = queue(0);
        let ((), (), popped) = race3(&queue, |q| q.push(1), |q| q.push(2), Queue::pop);
        assert_eq!(all(&queue, [popped]), [1, 2], "no hint is lost");
    },
};

#[test]
fn two_pushes_fill_two_slots() {
    PUSH_PUSH.explore();
}

#[test]
fn a_slot_that_is_filled_by_a_store_is_caught() {
    PUSH_PUSH.catches("fill-by-store", "no hint is lost");
}

const POP_MANY: Scenario = Scenario {
    name: "pop of two ∥ pop ∥ push",
    preemptions: [3, 5],
    floors: [4_340, 12_300],
    run: || {
        let queue = queue(2);
        let (many, one, ()) = race3(&queue, Queue::pop_many::<2>, Queue::pop, |q| q.push(3));
        let order: Vec<u64> = many.iter().copied().chain(one).collect();
        assert!(!many.is_empty() || one.is_some(), "there was a hint");
        assert!(many.is_sorted(), "hints come in order");
        assert_eq!(all(&queue, order.into_iter().map(Some)), [1, 2, 3], "no hint is lost");
    },
};

#[test]
fn pops_of_several_hints_get_different_ones() {
    POP_MANY.explore();
}

#[test]
fn a_claim_by_load_and_store_is_caught() {
    POP_MANY.catches("claim-by-load-and-store", "no hint is lost");
}

const POP_POP_PUSH: Scenario = Scenario {
    name: "pop ∥ pop ∥ push, at the end of a segment",
    preemptions: [2, 4],
    floors: [813, 4_260],
    run: || {
        let queue = queue(2);
        assert_eq!(queue.pop(), Some(1));
        let (a, b, ()) = race3(&queue, Queue::pop, Queue::pop, |q| q.push(3));
        assert!(a == Some(2) || b == Some(2), "there was a hint");
        assert_eq!(all(&queue, [a, b]), [2, 3], "no hint is lost");
        let (retired, dead) = model::retired();
        assert!(retired <= 1 && dead == retired, "a segment that was left is dead");
    },
};

#[test]
fn two_pops_leave_one_segment() {
    POP_POP_PUSH.explore();
}

/// Scenarios that another one is a part of fail for the same mistakes.
#[test]
fn larger_scenarios_catch_bugs_too() {
    APPENDS.catches("relaxed-append", "Causality violation");
    POP_POP_PUSH.catches("claim-by-load-and-store", "no hint is lost");
}
