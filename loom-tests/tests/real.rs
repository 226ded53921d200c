//! Models on the real epoch (`src/reclaim/real.rs`): `cargo xtask loom --real [--asan]`.
//!
//! What the other models leave to the mock: that a pin keeps what was reachable, and that what is
//! retired is freed. The threads flush, so that memory is really freed while others are pinned: the
//! third flush in a row frees, if nobody holds the epoch back.
#![cfg(all(loom, crossbeam_loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom_tests::{Payload, Scenario, dropped, race, race3};
use resumption::model::{self, Gone, Queue, Table};

const A: u64 = 0x1000_0000_0000_0001;

/// A table that holds payload 1.
fn table() -> Arc<Table<Payload>> {
    let table = Table::new();
    assert!(table.put(A, Payload::new(1)).is_none());
    Arc::new(table)
}

fn get(table: &Table<Payload>) -> Option<u32> {
    table.get(A).map(|session| session.payload().read())
}

fn flush() {
    for _ in 0..3 {
        model::flush();
    }
}

/// How many blocks were retired; counts those that were freed while threads raced.
fn retired(freed_meanwhile: &AtomicUsize) -> usize {
    let (retired, freed) = model::retired();
    freed_meanwhile.fetch_add(freed, Ordering::Relaxed);
    retired
}

/// Makes sure that what a scenario retires was freed in some executions, and not only when all was over.
fn assert_freed(meanwhile: &AtomicUsize) {
    assert!(meanwhile.load(Ordering::Relaxed) > 0, "memory was freed while threads raced");
}

const TAKE_TAKE: Scenario = Scenario {
    name: "take ∥ take",
    preemptions: [2, 3],
    floors: [2_000, 1_830],
    run: || {
        let table = table();
        let take = |t: &Table<Payload>| t.take(A).map(Gone::into_handle);
        let (a, b) = race(&table, take, take);
        assert!(a.is_some() ^ b.is_some(), "one take wins");
        drop((a, b));
        assert_eq!((table.keys(), dropped(), model::retired().0), (vec![], vec![1], 1));
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

/// What is true after a get and a replace.
fn assert_replaced(table: &Table<Payload>, found: Option<u32>) {
    assert!(found.is_some(), "a replace is no miss");
    assert_eq!((get(table), dropped(), retired(&REPLACED)), (Some(2), vec![1], 1));
}

fn replace(table: &Table<Payload>) {
    assert!(table.put(A, Payload::new(2)).is_some());
    flush();
}

static REPLACED: AtomicUsize = AtomicUsize::new(0);

// The second call of a race runs in the thread that begins. With one preemption that thread is
// interrupted by all of the other, and never the other way round: hence each pair in both orders.

const GET_REPLACE: Scenario = Scenario {
    name: "get ∥ replace, flush",
    preemptions: [1, 1],
    floors: [4_720, 1_870],
    run: || {
        let table = table();
        let (found, ()) = race(&table, get, replace);
        assert_replaced(&table, found);
    },
};

const REPLACE_GET: Scenario = Scenario {
    name: "replace, flush ∥ get",
    preemptions: [2, 2],
    floors: [4_510, 1_910],
    run: || {
        let table = table();
        let ((), found) = race(&table, replace, get);
        assert_replaced(&table, found);
    },
};

#[test]
fn a_get_finds_the_old_or_the_new_session() {
    GET_REPLACE.explore();
    REPLACE_GET.explore();
    assert_freed(&REPLACED);
}

#[test]
fn a_replace_in_two_steps_is_caught() {
    GET_REPLACE.catches("replace-in-two-steps", "a replace is no miss");
}

/// What is true after a get and a take.
fn assert_taken(table: &Table<Payload>) {
    assert_eq!((table.keys(), dropped(), retired(&TAKEN)), (vec![], vec![1], 1), "once");
}

fn take(table: &Table<Payload>) {
    drop(table.take(A).expect("the only taker"));
    flush();
}

static TAKEN: AtomicUsize = AtomicUsize::new(0);

const GET_TAKE: Scenario = Scenario {
    name: "get, read, drop ∥ take, drop, flush",
    preemptions: [1, 1],
    floors: [2_970, 280],
    run: || {
        let table = table();
        race(&table, get, take);
        assert_taken(&table);
    },
};

const TAKE_GET: Scenario = Scenario {
    name: "take, drop, flush ∥ get, read, drop",
    preemptions: [2, 2],
    floors: [4_100, 1_440],
    run: || {
        let table = table();
        race(&table, take, get);
        assert_taken(&table);
    },
};

#[test]
fn the_last_reference_drops_the_payload() {
    GET_TAKE.explore();
    TAKE_GET.explore();
    assert_freed(&TAKEN);
}

#[test]
fn a_reference_to_the_dead_is_caught() {
    TAKE_GET.catches("resurrect", "Causality violation");
}

const TAKE_GET_PUT: Scenario = Scenario {
    name: "take ∥ get ∥ put",
    preemptions: [0, 1],
    floors: [2_010, 11_190],
    run: || {
        let table = table();
        let (taken, found, replaced) =
            race3(&table, |t| t.take(A).is_some(), get, |t| t.put(A, Payload::new(2)).is_some());
        assert!(taken, "there is no instant without a session");
        assert!(found.is_none_or(|number| number == 1 || number == 2));
        let left = 1 + usize::from(replaced);
        assert_eq!(left + table.keys().len(), 2, "each session leaves once");
        assert_eq!((dropped().len(), model::retired().0), (left, left));
    },
};

#[test]
fn a_take_a_get_and_a_put_share_the_sessions() {
    TAKE_GET_PUT.explore();
}

/// A queue whose one segment is full.
fn queue() -> Arc<Queue> {
    let queue = Queue::new();
    queue.push(1);
    queue.push(2);
    Arc::new(queue)
}

fn pop(queue: &Queue) -> [Option<u64>; 3] {
    let popped = [queue.pop(), queue.pop(), queue.pop()];
    flush();
    popped
}

fn assert_popped(queue: &Queue, popped: [Option<u64>; 3]) {
    let mut all: Vec<u64> = popped.into_iter().flatten().collect();
    all.extend(queue.pop());
    assert_eq!(all, [1, 2, 3], "no hint is lost");
    assert!(retired(&LEFT) <= 1, "one segment was left");
}

static LEFT: AtomicUsize = AtomicUsize::new(0);

const PUSH_POP: Scenario = Scenario {
    name: "push ∥ pop, pop, pop, flush over the end of a segment",
    preemptions: [1, 1],
    floors: [1_310, 1_260],
    run: || {
        let queue = queue();
        let ((), popped) = race(&queue, |q| q.push(3), pop);
        assert_popped(&queue, popped);
    },
};

const POP_PUSH: Scenario = Scenario {
    name: "pop, pop, pop, flush over the end of a segment ∥ push",
    preemptions: [2, 2],
    floors: [2_620, 1_530],
    run: || {
        let queue = queue();
        let (popped, ()) = race(&queue, pop, |q| q.push(3));
        assert_popped(&queue, popped);
    },
};

#[test]
fn a_segment_is_freed_once_it_is_left() {
    PUSH_POP.explore();
    POP_PUSH.explore();
    assert_freed(&LEFT);
}
