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
    preemptions: [5, ALL],
    // Few accesses: within the bound there are no more executions to ask for.
    floors: [214, 77],
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

#[test]
fn a_push_into_a_slot_that_a_pop_has_left_is_caught() {
    PUSH_POP.catches("no-hand-back", "no hint is lost");
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
    preemptions: [2, 3],
    floors: [723, 720],
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
    preemptions: [4, 8],
    floors: [232, 155],
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

const TAIL: Scenario = Scenario {
    name: "append ∥ pop, pop, pop, push in the next segment",
    preemptions: [2, 3],
    floors: [525, 435],
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
    preemptions: [4, 8],
    floors: [321, 186],
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
    floors: [7_500, 962],
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

const POP_POP_PUSH: Scenario = Scenario {
    name: "pop ∥ pop ∥ push, at the end of a segment",
    preemptions: [2, 4],
    floors: [1_000, 8_000],
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
