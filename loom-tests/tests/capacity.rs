//! Models of `src/expiry/capacity.rs` and `src/room.rs`: tokens of sessions and of bytes.
#![cfg(loom)]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom_tests::{ALL, Payload, Scenario, dropped, race, race3};
use resumption::Put;
use resumption::model::{Engine, Room};

const TAKES: Scenario = Scenario {
    name: "take ∥ take, give ∥ give, of one token",
    preemptions: [3, 3],
    floors: [2_800, 146],
    run: || {
        let room = Arc::new(Room::new(2, 1));
        assert_eq!(room.take_up_to(0, 1), 1);
        let (a, b, ()) = race3(
            &room,
            |r| r.take_up_to(0, 1),
            |r| {
                let taken = r.take_up_to(0, 1);
                r.give(0, taken);
                taken
            },
            |r| r.give(0, 1),
        );
        assert!(a + b > 0, "a free token is found");
        assert_eq!(room.used(), a, "tokens are neither made nor lost");
        assert_eq!(room.gather(0, 9), 2 - a);
    },
};

#[test]
fn tokens_are_conserved() {
    TAKES.explore();
}

#[test]
fn a_take_by_load_and_store_is_caught() {
    TAKES.catches("take-by-load-and-store-of-tokens", "tokens are neither made nor lost");
}

#[test]
fn a_give_by_load_and_store_is_caught() {
    TAKES.catches("give-by-load-and-store", "tokens are neither made nor lost");
}

/// Room for one session, and what the token's owner may touch.
struct Place {
    room: Room,
    content: UnsafeCell<u32>,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for Place {}

fn use_place(place: &Place) -> bool {
    let mut hand = place.room.hand(0);
    if !hand.fill() {
        return false;
    }
    // SAFETY: loom fails the model when another access races with this.
    place.content.with_mut(|content| unsafe { *content += 1 });
    true
}

const OWNERS: Scenario = Scenario {
    name: "use ∥ use of one place",
    preemptions: [ALL, ALL],
    // Few accesses: within the bound there are no more executions to ask for.
    floors: [3_060, 53],
    run: || {
        let place = Place { room: Room::new(1, 1), content: UnsafeCell::new(0) };
        let place = Arc::new(place);
        let (a, b) = race(&place, use_place, use_place);
        assert!(a || b, "one gets it");
        assert_eq!(place.room.used(), 0, "hands give back");
    },
};

#[test]
fn a_token_has_one_owner_at_a_time() {
    OWNERS.explore();
}

#[test]
fn a_token_that_is_taken_twice_is_caught() {
    OWNERS.catches("take-by-load-and-store-of-tokens", "Causality violation");
}

#[test]
fn a_relaxed_give_is_caught() {
    OWNERS.catches("relaxed-give", "Causality violation");
}

#[test]
fn a_relaxed_take_is_caught() {
    OWNERS.catches("relaxed-take", "Causality violation");
}

const SPREAD: Scenario = Scenario {
    name: "use ∥ use of one place of two lanes",
    preemptions: [2, 4],
    floors: [509, 311],
    run: || {
        // What is given back is a large part of the limit, and is spread over the lanes: it goes to the other one.
        let place = Place { room: Room::new(1, 2), content: UnsafeCell::new(0) };
        let place = Arc::new(place);
        let (a, b) = race(&place, use_place, use_place);
        assert!(a || b, "one gets it");
        assert_eq!(place.room.used(), 0, "hands give back");
    },
};

#[test]
fn a_token_that_is_spread_has_one_owner_at_a_time() {
    SPREAD.explore();
}

#[test]
fn a_relaxed_spread_is_caught() {
    SPREAD.catches("relaxed-spread", "Causality violation");
}

const GATHER: Scenario = Scenario {
    name: "gather ∥ gather over two lanes",
    preemptions: [ALL, ALL],
    // Few accesses: within the bound there are no more executions to ask for.
    floors: [68, 12],
    run: || {
        let room = Arc::new(Room::new(3, 2));
        let (a, b) = race(&room, |r| r.gather(0, 2), |r| r.gather(1, 2));
        assert_eq!((a + b, room.used()), (3, 3), "all tokens are found, and no more");
    },
};

#[test]
fn gatherers_find_all_tokens() {
    GATHER.explore();
}

const RAISE: Scenario = Scenario {
    name: "raise of the limit ∥ a look at what is used",
    preemptions: [ALL, ALL],
    // All interleavings are explored.
    floors: [7_300, 100],
    run: || {
        let room = Arc::new(Room::new(1, 2));
        let ((), used) = race(&room, |r| r.raise(2), Room::used);
        assert_eq!(used, 0, "what is free does not count as used");
        assert_eq!(room.gather(0, 9), 3);
    },
};

#[test]
fn a_raise_shows_nothing_as_used() {
    RAISE.explore();
}

#[test]
fn a_limit_that_rises_before_its_tokens_are_there_is_caught() {
    RAISE.catches("limit-before-tokens", "what is free does not count as used");
}

#[test]
fn a_limit_that_shows_itself_and_not_its_tokens_is_caught() {
    RAISE.catches("relaxed-raise", "what is free does not count as used");
}

const LOWER: Scenario = Scenario {
    name: "lowering of the limit ∥ a look at what is used",
    preemptions: [ALL, ALL],
    // All interleavings are explored.
    floors: [1_810, 52],
    run: || {
        let room = Arc::new(Room::new(3, 2));
        let ((), used) = race(&room, |r| r.lower(2), Room::used);
        assert_eq!(used, 0, "what is given up does not count as used");
        assert_eq!(room.gather(0, 9), 1);
    },
};

#[test]
fn a_lowering_shows_nothing_as_used() {
    LOWER.explore();
}

#[test]
fn a_look_at_the_tokens_of_another_limit_is_caught() {
    LOWER.catches("no-second-look-at-the-limit", "what is given up does not count as used");
}

#[test]
fn a_lowering_that_shows_its_tokens_and_not_itself_is_caught() {
    LOWER.catches("nothing-released-by-a-lowering", "what is given up does not count as used");
}

const PUT_PUT: Scenario = Scenario {
    name: "put ∥ put with room for one, by the engine",
    preemptions: [1, 3],
    floors: [15_600, 19_600],
    run: || {
        let engine = Arc::new(Engine::new(1));
        let put = |e: &Engine<Payload>, id: u8| match e.put(id, Payload::new(id.into())) {
            Put::Stored => true,
            Put::Refused(..) => false,
            Put::Replaced(..) => panic!("the ids are different"),
        };
        let (a, b) = race(&engine, move |e| put(e, 1), move |e| put(e, 2));
        assert!(a || b, "one put finds room");
        let (stats, stored) = (engine.stats(), u64::from(a) + u64::from(b));
        assert_eq!((stats.sessions, stats.removals.total()), (1, stored - 1), "the limit");
        assert_eq!(dropped().len(), 1);
        drop(engine);
        assert_eq!(dropped(), [1, 2]);
    },
};

#[test]
fn the_limit_of_one_is_kept() {
    PUT_PUT.explore();
}

#[test]
fn an_engine_that_takes_a_token_twice_is_caught() {
    PUT_PUT.catches("take-by-load-and-store-of-tokens", "the limit");
}

const LANES: Scenario = Scenario {
    name: "put ∥ put with room for one, over two lanes, by the engine",
    preemptions: [1, 2],
    floors: [3_450, 865],
    run: || {
        let engine = Arc::new(Engine::of_two_lanes(1));
        let put = |e: &Engine<Payload>, id: u8| e.put(id, Payload::new(id.into())).is_stored();
        // Each in a lane of its own: the second session takes the place of one that is in the other lane.
        let (a, b) = race(&engine, move |e| put(e, 1), move |e| put(e, 2));
        assert!(a || b, "one put finds room");
        let (stats, stored) = (engine.stats(), u64::from(a) + u64::from(b));
        assert_eq!((stats.sessions, stats.removals.total()), (1, stored - 1), "the limit");
        assert_eq!(dropped().len(), 1);
        // What the lanes have counted adds up, whoever evicted what.
        assert_eq!(engine.flush(), 1);
        let stats = engine.stats();
        assert_eq!((stats.sessions, stats.hints), (0, 0), "no hint is left");
    },
};

#[test]
fn a_session_of_another_lane_makes_room() {
    LANES.explore();
}

#[test]
fn lanes_that_take_a_token_twice_are_caught() {
    LANES.catches("take-by-load-and-store-of-tokens", "the limit");
}

const FLUSH_PUT: Scenario = Scenario {
    name: "flush ∥ put with room for one, by the engine",
    preemptions: [1, 2],
    floors: [349, 4_388],
    run: || {
        let engine = Engine::new(1);
        assert!(engine.put(1, Payload::new(1)).is_stored());
        let engine = Arc::new(engine);
        let (_, put) = race(&engine, Engine::flush, |e: &Engine<Payload>| {
            let put = e.put(2, Payload::new(2)).is_stored();
            assert!(!put || dropped().contains(&1), "a place is free when its session is gone");
            put
        });
        let stats = engine.stats();
        let left = usize::try_from(stats.sessions).expect("one at most");
        assert_eq!(dropped().len(), 2 - left, "each session is there or gone");
        assert!(put || left == 0);
    },
};

#[test]
fn a_place_is_free_when_its_session_is_gone() {
    FLUSH_PUT.explore();
}

#[test]
fn room_that_is_given_back_before_the_session_is_dropped_is_caught() {
    FLUSH_PUT.catches("room-before-the-drop", "a place is free when its session is gone");
}

/// An engine with room for the bytes of one session of this weight; a session weighs its number.
fn weighing(weight: u64) -> Engine<Payload> {
    Engine::weighing(1, weight, |payload: &Payload| payload.number() as usize)
}

/// The bytes that are charged are those of what is there; returns how many sessions that are.
fn assert_charged(engine: &Engine<Payload>, weights: &[u32]) -> u64 {
    let stats = engine.stats();
    let there = weights.iter().filter(|weight| !dropped().contains(weight));
    let weight: u64 = there.map(|&weight| u64::from(weight)).sum();
    let charged = Engine::<Payload>::bytes_of(stats.sessions, weight);
    assert_eq!(stats.bytes, charged, "each session is charged once");
    stats.sessions
}

const BYTES: Scenario = Scenario {
    name: "put ∥ put with bytes for one, by the engine",
    preemptions: [1, 3],
    floors: [41_000, 25_600],
    run: || {
        let engine = Arc::new(weighing(9));
        let put =
            |e: &Engine<Payload>, id: u8| matches!(e.put(id, Payload::new(id.into())), Put::Stored);
        let (a, b) = race(&engine, move |e| put(e, 7), move |e| put(e, 9));
        assert!(a || b, "one put finds room");
        assert_eq!(assert_charged(&engine, &[7, 9]), 1, "the limit of bytes");
    },
};

#[test]
fn the_limit_of_bytes_is_kept() {
    BYTES.explore();
}

#[test]
fn an_engine_that_takes_bytes_twice_is_caught() {
    BYTES.catches("take-by-load-and-store-of-tokens", "each session is charged once");
}

const HEAVIER: Scenario = Scenario {
    name: "replace by a heavier session ∥ take, by the engine with a limit of bytes",
    preemptions: [1, 2],
    floors: [382, 616],
    run: || {
        let engine = weighing(9);
        assert!(engine.put(1, Payload::new(3)).is_stored());
        let engine = Arc::new(engine);
        let (taken, _) = race(
            &engine,
            |e: &Engine<Payload>| e.take(1).is_some(),
            |e| drop(e.put(1, Payload::new(9))),
        );
        assert!(taken, "there is no instant without a session");
        assert!(assert_charged(&engine, &[3, 9]) < 2);
    },
};

#[test]
fn a_heavier_session_is_charged_for_what_it_replaces() {
    HEAVIER.explore();
}

#[test]
fn a_take_that_gives_up_when_it_is_outrun_is_caught() {
    HEAVIER.catches("take-once-tried", "there is no instant without a session");
}

#[test]
fn room_for_what_was_found_first_is_caught() {
    HEAVIER.catches("room-of-the-first-look", "each session is charged once");
}

#[test]
fn a_gatherer_that_takes_a_token_twice_is_caught() {
    GATHER.catches("take-by-load-and-store-of-tokens", "all tokens are found, and no more");
}
