//! Models of `src/table/events.rs`, of `front` in `src/queue/mod.rs`, and of who serves
//! (`src/shard.rs`, `src/engine/deliver.rs`).
#![cfg(loom)]

use std::sync::{Arc, Mutex};

use loom_tests::{
    ALL, Call, Heard, Payload, Scenario, dropped, race, race3, replay, serve, waiting,
};
use resumption::model::{Engine, Queue, Table, Told};
use resumption::{Answer, Dispatch, NewSession, Session, Verdict};

const A: u64 = 0x1000_0000_0000_0001;
const B: u64 = 0x2000_0000_0000_0001;

/// A table that holds payload 1 under `A`, which came before anybody wanted to hear of it.
fn table() -> Arc<Table<Payload>> {
    let table = Table::new();
    assert!(table.put(A, Payload::new(1)).is_none());
    Arc::new(table)
}

fn put(table: &Table<Payload>, key: u64, number: u32) {
    drop(table.put_telling(key, Payload::new(number)));
}

fn take(table: &Table<Payload>) -> bool {
    table.take_telling(A).is_some()
}

/// What is there.
fn content(table: &Table<Payload>) -> Vec<(u64, u32)> {
    let number = |key| table.get(key).expect("nobody takes it").payload().read();
    table.keys().into_iter().map(|key| (key, number(key))).collect()
}

const PUT_TAKE: Scenario = Scenario {
    name: "put ∥ take, then serve",
    preemptions: [4, 6],
    floors: [1_290, 1_410],
    run: || {
        let table = Arc::new(Table::new());
        let ((), taken) = race(&table, |t| put(t, A, 1), take);
        let calls = serve(&table);
        let told = [(A, 1, Told::Came), (A, 1, Told::Left)];
        assert_eq!(calls, told[..1 + usize::from(taken)], "told in order");
        assert_eq!((serve(&table), table.backlog()), (vec![], 0), "told once");
        drop(table);
        assert_eq!((dropped(), waiting()), (vec![1], 0), "an event gives up its node");
    },
};

#[test]
fn a_session_comes_before_it_leaves() {
    PUT_TAKE.explore();
}

const PUT_SERVE: Scenario = Scenario {
    name: "put ∥ serve",
    preemptions: [ALL, ALL],
    // Few accesses: all executions are explored.
    floors: [20, 4],
    run: || {
        let table = Arc::new(Table::new());
        let ((), mut calls) = race(&table, |t| put(t, A, 1), serve);
        calls.extend(serve(&table));
        assert_eq!((calls, table.backlog()), (vec![(A, 1, Told::Came)], 0), "told once");
    },
};

#[test]
fn a_server_sees_what_was_announced() {
    PUT_SERVE.explore();
}

#[test]
fn an_announcement_that_publishes_nothing_is_caught() {
    PUT_SERVE.catches("relaxed-hint", "Causality violation");
}

const REPLACE_TAKE: Scenario = Scenario {
    name: "replace ∥ take, then serve",
    preemptions: [2, 3],
    floors: [28_380, 2_690],
    run: || {
        let table = table();
        let ((), taken) = race(&table, |t| put(t, A, 2), take);
        assert!(taken, "there is no instant without a session");
        let calls = serve(&table);
        assert_eq!(replay(&[(A, 1)], &calls), content(&table), "told of all");
        drop(table);
        assert_eq!((dropped(), waiting()), (vec![1, 2], 0), "an event gives up its node");
    },
};

#[test]
fn the_old_session_leaves_before_the_new_one_comes() {
    REPLACE_TAKE.explore();
}

#[test]
fn an_unlink_before_the_announcement_is_caught() {
    REPLACE_TAKE.catches("unlink-before-announcement", "told in order");
}

#[test]
fn a_search_that_does_not_announce_is_caught() {
    REPLACE_TAKE.catches("search-without-announcement", "told in order");
}

const TAKE_TAKE: Scenario = Scenario {
    name: "take ∥ take, both of them telling, then serve",
    preemptions: [2, 4],
    floors: [428, 702],
    run: || {
        let table = table();
        let (a, b) = race(&table, take, take);
        assert!(a ^ b, "one take wins");
        assert_eq!(serve(&table), [(A, 1, Told::Left)], "told once");
        assert_eq!((table.backlog(), dropped(), waiting()), (0, vec![1], 0), "and let go");
    },
};

#[test]
fn one_take_that_is_told_wins() {
    TAKE_TAKE.explore();
}

#[test]
fn a_take_by_load_and_store_is_caught() {
    TAKE_TAKE.catches("take-by-load-and-store", "one take wins");
}

const TAKE_PUT_SERVE: Scenario = Scenario {
    name: "take ∥ put of the same id ∥ serve",
    preemptions: [1, 2],
    floors: [4_690, 742],
    run: || {
        let table = table();
        let (taken, (), mut calls) = race3(&table, take, |t| put(t, A, 2), serve);
        assert!(taken, "there is no instant without a session");
        calls.extend(serve(&table));
        assert_eq!(replay(&[(A, 1)], &calls), content(&table), "told of all");
        assert_eq!(table.backlog(), 0);
        drop(table);
        assert_eq!((dropped(), waiting()), (vec![1, 2], 0), "an event gives up its node");
    },
};

#[test]
fn events_are_served_while_others_come() {
    TAKE_PUT_SERVE.explore();
}

const TAKE_SERVE: Scenario = Scenario {
    name: "take ∥ serve",
    preemptions: [2, 4],
    floors: [1_520, 1_510],
    run: || {
        let table = Arc::new(Table::new());
        put(&table, A, 1);
        let (taken, mut calls) = race(&table, take, serve);
        assert!(taken);
        calls.extend(serve(&table));
        assert_eq!(replay(&[], &calls), [], "told of all");
        assert_eq!((dropped(), waiting()), (vec![1], 0), "an event gives up its node");
    },
};

#[test]
fn the_announcing_and_the_serving_thread_keep_each_others_marks() {
    TAKE_SERVE.explore();
}

#[test]
fn a_mark_by_load_and_store_is_caught() {
    TAKE_SERVE.catches("announced-by-load-and-store", "told once");
}

const TAKE_NEIGHBOUR: Scenario = Scenario {
    name: "take ∥ put of its neighbour, then serve",
    preemptions: [2, 3],
    floors: [2_760, 992],
    run: || {
        let table = table();
        let (taken, ()) = race(&table, take, |t| put(t, B, 2));
        let calls = serve(&table);
        assert!(taken);
        assert_eq!(replay(&[(A, 1)], &calls), [(B, 2)], "told of all");
        assert_eq!((serve(&table), table.backlog()), (vec![], 0), "told once");
        assert_eq!((dropped(), waiting()), (vec![1], 0), "an event gives up its node");
    },
};

#[test]
fn a_search_announces_what_it_takes_out() {
    TAKE_NEIGHBOUR.explore();
}

/// The put takes the session that has left out of the list, if the other thread has not done that yet.
const TAKE_LEAVING: Scenario = Scenario {
    name: "take ∥ put of its neighbour, a look whether it is leaving",
    preemptions: [2, 3],
    floors: [2_540, 1_630],
    run: || {
        let table = table();
        let (taken, ()) = race(&table, take, |t| {
            assert!(t.put(B, Payload::new(2)).is_none());
            // Nobody serves.
            let is_there = t.get(A).is_some();
            assert!(is_there || t.is_leaving(A), "what has left is leaving until it was told");
        });
        assert!(taken && table.is_leaving(A));
        assert_eq!((serve(&table), table.is_leaving(A)), (vec![(A, 1, Told::Left)], false));
    },
};

#[test]
fn what_is_out_of_the_list_is_in_the_queue() {
    TAKE_LEAVING.explore();
}

#[test]
fn an_announcement_that_orders_nothing_is_caught() {
    TAKE_LEAVING.catches("relaxed-announced", "what has left is leaving until it was told");
}

const TAKE_NEIGHBOUR_PUT: Scenario = Scenario {
    name: "take ∥ put of its neighbour ∥ put of the same id, then serve",
    preemptions: [0, 2],
    floors: [204_890, 3_480],
    run: || {
        let table = table();
        let (taken, (), ()) = race3(&table, take, |t| put(t, B, 3), |t| put(t, A, 2));
        assert!(taken, "there is no instant without a session");
        let calls = serve(&table);
        assert_eq!(replay(&[(A, 1)], &calls), content(&table), "told of all");
        assert_eq!((serve(&table), table.backlog()), (vec![], 0), "told once");
    },
};

#[test]
fn a_search_for_another_id_keeps_the_order() {
    TAKE_NEIGHBOUR_PUT.explore();
}

/// Serves, and falls asleep if nothing is there; whether it sleeps.
fn work(table: &Table<Payload>) -> (Vec<Call>, bool) {
    let calls = serve(table);
    let asleep = calls.is_empty() && table.fall_asleep();
    (calls, asleep)
}

const SLEEP: Scenario = Scenario {
    name: "put ∥ a server that falls asleep",
    preemptions: [ALL, ALL],
    // Few accesses: all executions are explored.
    floors: [3_670, 59],
    run: || {
        let table = Arc::new(Table::new());
        let put = |t: &Table<Payload>| {
            put(t, A, 1);
            t.has_to_wake()
        };
        let (woken, (calls, asleep)) = race(&table, put, work);
        assert!(!asleep || woken, "no wake-up is lost");
        assert_eq!(calls.len() + serve(&table).len(), 1, "told once");
    },
};

#[test]
fn no_wake_up_is_lost() {
    SLEEP.explore();
}

#[test]
fn a_sleep_by_load_and_store_is_caught() {
    SLEEP.catches("sleep-by-load-and-store", "no wake-up is lost");
}

const SLEEP_TWICE: Scenario = Scenario {
    name: "put ∥ put ∥ a server that falls asleep",
    preemptions: [2, 2],
    floors: [3_820, 309],
    run: || {
        let table = Arc::new(Table::new());
        let put = |key| {
            move |t: &Table<Payload>| {
                put(t, key, 1 + u32::from(key == B));
                t.has_to_wake()
            }
        };
        let (a, b, (calls, asleep)) = race3(&table, put(A), put(B), work);
        assert!(!(a && b), "one wakes");
        assert!(!asleep || a || b, "no wake-up is lost");
        assert_eq!(calls.len() + serve(&table).len(), 2, "told once");
    },
};

#[test]
fn one_of_two_wakes() {
    SLEEP_TWICE.explore();
}

#[test]
fn a_waker_that_shows_nothing_is_caught() {
    SLEEP.catches("relaxed-wake", "no wake-up is lost");
}

#[test]
fn a_waker_that_only_looks_is_caught() {
    SLEEP.catches("wake-by-load", "no wake-up is lost");
}

const SERVE_SERVE: Scenario = Scenario {
    name: "put, serve ∥ put, serve",
    preemptions: [2, 3],
    floors: [2_810, 735],
    run: || {
        let heard = Arc::new(Heard::default());
        let put = |key, number| {
            move |heard: &Heard| {
                heard.shard.put(key, Payload::new(number));
                heard.serve();
            }
        };
        race(&heard, put(A, 1), put(B, 2));
        assert_eq!(replay(&[], &heard.calls()), [(A, 1), (B, 2)], "no event is left");
        assert_eq!(heard.shard.backlog(), 0);
    },
};

#[test]
fn who_finds_another_server_may_go_away() {
    SERVE_SERVE.explore();
}

#[test]
fn an_end_of_serving_by_store_is_caught() {
    SERVE_SERVE.catches("end-serving-by-store", "no event is left");
}

const PUT_TAKE_SERVED: Scenario = Scenario {
    name: "put, serve ∥ take, serve",
    preemptions: [1, 2],
    floors: [4_610, 912],
    run: || {
        let heard = Heard::default();
        heard.shard.put(A, Payload::new(1));
        heard.serve();
        let heard = Arc::new(heard);
        let ((), taken) = race(
            &heard,
            |heard| {
                heard.shard.put(A, Payload::new(2));
                heard.serve();
            },
            |heard| {
                let taken = heard.shard.take(A);
                heard.serve();
                taken
            },
        );
        assert!(taken, "there is no instant without a session");
        let calls = heard.calls();
        let left = calls.iter().filter(|call| call.2 == Told::Left).count();
        assert_eq!(
            (calls.len() - left, left),
            (2, if replay(&[], &calls).is_empty() { 2 } else { 1 })
        );
    },
};

#[test]
fn servers_take_turns_in_order() {
    PUT_TAKE_SERVED.explore();
}

/// A key of the second cell, which nobody has linked.
const Z: u64 = 0x9000_0000_0000_0001;

/// Links a cell and takes what was removed out of the list on its way. As `Engine::contains`.
fn look(heard: &Heard) {
    assert!(!heard.shard.contains(Z));
    if heard.shard.backlog() > 0 {
        heard.serve();
    }
}

const TAKE_LOOK: Scenario = Scenario {
    name: "take, serve ∥ a look that links a cell",
    preemptions: [2, 3],
    floors: [19_900, 2_550],
    run: || {
        let heard = Heard::default();
        heard.shard.put(A, Payload::new(1));
        heard.serve();
        let heard = Arc::new(heard);
        let take = |heard: &Heard| {
            assert!(heard.shard.take(A));
            heard.serve();
        };
        race(&heard, take, look);
        assert_eq!(replay(&[], &heard.calls()), [], "no event is left");
        assert_eq!((heard.shard.backlog(), dropped()), (0, vec![1]), "no event keeps its node");
    },
};

#[test]
fn a_look_that_announces_leaves_no_event() {
    TAKE_LOOK.explore();
}

const TAKE_LOOK_PUT: Scenario = Scenario {
    name: "take, serve ∥ a look that links a cell ∥ put, serve",
    preemptions: [0, 2],
    // In memory mode one preemption takes minutes. The orderings are those of the scenario above.
    floors: [4, 5_940],
    run: || {
        let heard = Heard::default();
        heard.shard.put(A, Payload::new(1));
        heard.serve();
        let heard = Arc::new(heard);
        race3(
            &heard,
            look,
            |heard| {
                heard.shard.put(B, Payload::new(2));
                heard.serve();
            },
            |heard| {
                assert!(heard.shard.take(A));
                heard.serve();
            },
        );
        assert_eq!(replay(&[], &heard.calls()), [(B, 2)], "no event is left");
    },
};

#[test]
fn a_look_that_announces_delays_no_event() {
    TAKE_LOOK_PUT.explore();
}

/// The calls of an engine, by the payload's number.
type Calls = Arc<Mutex<Vec<(u32, Told)>>>;

/// A log of calls, and the callback that writes it.
fn log() -> (Calls, impl Fn(Told, Session<Payload>) + Send + Sync + 'static) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&calls);
    let hear = move |told, session: Session<Payload>| {
        log.lock().expect("no panic").push((session.payload().number(), told));
    };
    (calls, hear)
}

const BY_THE_ENGINE: Scenario = Scenario {
    name: "put ∥ take, by the engine with callbacks",
    preemptions: [1, 4],
    floors: [103, 22_400],
    run: || {
        let (calls, hear) = log();
        let engine = Arc::new(Engine::telling(2, hear));
        let (_, taken) = race(
            &engine,
            |e: &Engine<Payload>| drop(e.put(1, Payload::new(1))),
            |e| e.take(1).is_some(),
        );
        let told = [(1, Told::Came), (1, Told::Left)];
        let calls = calls.lock().expect("no panic").clone();
        assert_eq!(calls, told[..1 + usize::from(taken)], "told in order");
    },
};

#[test]
fn the_engine_calls_in_order() {
    BY_THE_ENGINE.explore();
}

#[test]
fn a_leaving_without_its_coming_is_caught() {
    BY_THE_ENGINE.catches("leaving-without-coming", "told in order");
}

const CLOSE_BY_THE_ENGINE: Scenario = Scenario {
    name: "put ∥ close, by the engine with callbacks",
    preemptions: [2, 3],
    floors: [580, 312],
    run: || {
        let (calls, hear) = log();
        let engine = Arc::new(Engine::telling(2, hear));
        let (is_stored, ()) =
            race(&engine, |e| e.put(1, Payload::new(1)).is_stored(), Engine::close);
        let told = [(1, Told::Came), (1, Told::Left)];
        let calls = calls.lock().expect("no panic").clone();
        assert_eq!(calls, told[..if is_stored { 2 } else { 0 }], "what was stored is told of");
        assert_eq!(engine.stats().callbacks_waiting, 0, "no event is left");
    },
};

#[test]
fn a_close_tells_of_what_was_put_before() {
    CLOSE_BY_THE_ENGINE.explore();
}

#[test]
fn a_close_that_a_put_slips_past_is_caught() {
    CLOSE_BY_THE_ENGINE.catches("enter-by-load", "what was stored is told of");
}

const TAKE_CLOSE_BY_THE_ENGINE: Scenario = Scenario {
    name: "take ∥ close, by the engine with callbacks",
    preemptions: [1, 3],
    floors: [2_360, 3_270],
    run: || {
        let (calls, hear) = log();
        let engine = Arc::new(Engine::telling_when_polled(2, hear));
        assert!(engine.put(1, Payload::new(1)).is_stored());
        engine.poll();
        let (_, told_by_then) = race(
            &engine,
            |e: &Engine<Payload>| drop(e.take(1)),
            |e| {
                e.close();
                e.poll();
                calls.lock().expect("no panic").clone()
            },
        );
        assert_eq!(told_by_then, [(1, Told::Came), (1, Told::Left)], "told when it is closed");
        assert_eq!(engine.poll(), 0, "and told once");
    },
};

#[test]
fn a_close_tells_of_what_another_thread_is_taking() {
    TAKE_CLOSE_BY_THE_ENGINE.explore();
}

#[test]
fn a_close_that_leaves_a_leaving_to_its_remover_is_caught() {
    TAKE_CLOSE_BY_THE_ENGINE.catches("left-to-its-remover", "told when it is closed");
}

const COMINGS_ALONE_BY_THE_ENGINE: Scenario = Scenario {
    name: "put ∥ put of one id, by the engine with a new-session callback alone",
    preemptions: [0, 3],
    floors: [3, 14_700],
    run: || {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let engine = Engine::dispatching(2, Dispatch::Manual);
        engine.set_on_new(Some(Arc::new(move |new: NewSession<Payload>| {
            log.lock().expect("no panic").push(new.session().payload().number());
            Verdict::Keep
        })));
        let engine = Arc::new(engine);
        race(
            &engine,
            |e: &Engine<Payload>| drop(e.put(1, Payload::new(1))),
            |e| drop(e.put(1, Payload::new(2))),
        );
        engine.poll();
        let there = engine.get(1).expect("one of them is there").payload().number();
        let calls = calls.lock().expect("no panic").clone();
        assert_eq!(calls, [3 - there, there], "what is there is told last");
    },
};

#[test]
fn comings_alone_are_told_in_order() {
    COMINGS_ALONE_BY_THE_ENGINE.explore();
}

#[test]
fn comings_whose_leaving_is_not_announced_are_caught() {
    COMINGS_ALONE_BY_THE_ENGINE.catches("untold-without-leaving", "what is there is told last");
}

const TAKE_ASK_BY_THE_ENGINE: Scenario = Scenario {
    name: "take ∥ a get that asks, by the engine with a new-session callback alone",
    preemptions: [1, 3],
    floors: [162, 890],
    run: || {
        let engine = Engine::dispatching(2, Dispatch::Manual);
        engine.set_on_new(Some(Arc::new(|_: NewSession<Payload>| Verdict::Keep)));
        let asked = Arc::new(Mutex::new(0));
        let asks = Arc::clone(&asked);
        engine.set_on_get(Some(Arc::new(move |_| {
            *asks.lock().expect("no panic") += 1;
            Answer::Nothing
        })));
        assert!(engine.put(1, Payload::new(1)).is_stored());
        let engine = Arc::new(engine);
        let (_, is_found) =
            race(&engine, |e: &Engine<Payload>| drop(e.take(1)), |e| e.get(1).is_some());
        let asked = *asked.lock().expect("no panic");
        assert_eq!(asked, usize::from(!is_found), "no leaving waits to be told");
    },
};

#[test]
fn what_has_left_untold_is_asked_for() {
    TAKE_ASK_BY_THE_ENGINE.explore();
}

#[test]
fn a_get_that_waits_for_an_untold_leaving_is_caught() {
    TAKE_ASK_BY_THE_ENGINE.catches("leaving-of-the-untold", "no leaving waits to be told");
}

/// Pops by `front` and `advance`, up to `most`.
fn consume(queue: &Queue, most: usize) -> Vec<u64> {
    let pop = || {
        let front = queue.front()?;
        assert_eq!(queue.front(), Some(front), "the oldest hint stays");
        queue.advance();
        Some(front)
    };
    (0..most).map_while(|_| pop()).collect()
}

const FRONT: Scenario = Scenario {
    name: "push, push ∥ front, advance, over the end of a segment",
    preemptions: [ALL, ALL],
    // Few accesses: all executions are explored.
    floors: [3_010, 84],
    run: || {
        let queue = Queue::new();
        queue.push(1);
        let queue = Arc::new(queue);
        let ((), mut seen) = race(
            &queue,
            |q| {
                q.push(2);
                q.push(3);
            },
            |q| consume(q, 3),
        );
        seen.extend(consume(&queue, 3));
        assert_eq!(seen, [1, 2, 3], "no hint is lost, and they keep their order");
        assert!(queue.is_empty());
        assert_eq!(waiting(), 0, "a segment that was left is dead");
    },
};

#[test]
fn a_consumer_keeps_the_order() {
    FRONT.explore();
}

#[test]
fn a_consumer_that_leaves_a_segment_early_is_caught() {
    FRONT.catches("leave-early", "no hint is lost");
}

const FRONT_PUSHES: Scenario = Scenario {
    name: "push ∥ push ∥ front, advance, at the end of a segment",
    preemptions: [2, 3],
    floors: [1_330, 389],
    run: || {
        let queue = Queue::new();
        queue.push(1);
        let queue = Arc::new(queue);
        let ((), (), mut seen) = race3(&queue, |q| q.push(2), |q| q.push(3), |q| consume(q, 3));
        seen.extend(consume(&queue, 3));
        assert_eq!(seen.first(), Some(&1), "the oldest hint comes first");
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3], "no hint is lost");
    },
};

#[test]
fn a_consumer_loses_nothing_of_two_pushes() {
    FRONT_PUSHES.explore();
}

/// Scenarios that another one is a part of fail for the same mistakes.
#[test]
fn larger_scenarios_catch_bugs_too() {
    PUT_TAKE.catches("coming-without-reference", "a payload was");
    TAKE_PUT_SERVE.catches("search-without-announcement", "told in order");
    TAKE_NEIGHBOUR_PUT.catches("search-without-announcement", "told of all");
    SLEEP_TWICE.catches("sleep-by-load-and-store", "no wake-up is lost");
    TAKE_LOOK.catches("end-serving-by-store", "no event");
    TAKE_LOOK_PUT.catches("end-serving-by-store", "no event is left");
    FRONT_PUSHES.catches("fill-by-store", "no hint is lost");
}
