//! Models of `src/engine/settings.rs` and of the slots in `src/callbacks.rs`: callbacks that are set,
//! replaced and unset while others are called.
#![cfg(loom)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use loom_tests::{ALL, Payload, Scenario, dropped, race};
use resumption::model::{Engine, Told};
use resumption::{Answer, Dispatch, Found, OnGet, OnNew, OnRemove, Verdict, Want};

/// A call: the number of the callback, the payload's, and what was told.
type Call = (u32, u32, Told);

/// What callbacks were told, and which of them were dropped. The locks are never held at a step of
/// loom's.
#[derive(Clone, Default)]
struct Log {
    calls: Arc<Mutex<Vec<Call>>>,
    dropped: Arc<Mutex<Vec<u32>>>,
}

/// A callback, or the part of it that notes its drop.
struct Callback {
    number: u32,
    log: Log,
}

impl Callback {
    fn note(&self, payload: u32, told: Told) {
        self.log.calls.lock().expect("no panic").push((self.number, payload, told));
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.log.dropped.lock().expect("no panic").push(self.number);
    }
}

impl Log {
    fn callback(&self, number: u32) -> Callback {
        Callback { number, log: self.clone() }
    }

    fn on_new(&self, number: u32) -> Option<Arc<OnNew<Payload>>> {
        let this = self.callback(number);
        Some(Arc::new(move |new| {
            this.note(new.session().payload().read(), Told::Came);
            Verdict::Keep
        }))
    }

    fn on_remove(&self, number: u32) -> Option<Arc<OnRemove<Payload>>> {
        let this = self.callback(number);
        Some(Arc::new(move |removed| {
            let session = removed.session().expect("it was in the cache");
            this.note(session.payload().read(), Told::Left);
        }))
    }

    /// What was told, ordered by payloads.
    fn calls(&self) -> Vec<Call> {
        let mut calls = self.calls.lock().expect("no panic").clone();
        calls.sort_by_key(|call| call.1);
        calls
    }

    /// The callbacks that were dropped.
    fn dropped(&self) -> Vec<u32> {
        self.dropped.lock().expect("no panic").clone()
    }
}

/// An engine without callbacks, and what those will be told that it gets.
struct World {
    engine: Engine<Payload>,
    log: Log,
}

impl World {
    fn new(max_sessions: u64, dispatch: Dispatch) -> Self {
        Self { engine: Engine::dispatching(max_sessions, dispatch), log: Log::default() }
    }

    fn put(&self, id: u8) {
        assert!(self.engine.put(id, Payload::new(id.into())).is_stored());
    }

    fn take(&self, id: u8) {
        assert!(self.engine.take(id).is_some());
    }
}

const REPLACE_NEW: Scenario = Scenario {
    name: "put ∥ replace of the new callback, by the engine",
    preemptions: [3, 4],
    // A put and a swap meet at few words: within the bound there are no more executions to ask for.
    floors: [19, 20],
    run: || {
        let world = World::new(3, Dispatch::Inline);
        let log = world.log.clone();
        world.engine.set_on_new(log.on_new(1));
        let world = Arc::new(world);
        race(&world, |w| w.put(1), |w| w.engine.set_on_new(w.log.on_new(2)));
        world.put(2);
        let (calls, by) = (log.calls(), |at: usize| log.calls()[at].0);
        assert_eq!(calls.len(), 2, "each is told once");
        assert_eq!(calls, [(by(0), 1, Told::Came), (2, 2, Told::Came)], "told by the new one");
        assert_eq!(log.dropped(), [1], "a callback that was replaced is dropped once");
        drop(world);
        assert_eq!(log.dropped(), [1, 2]);
    },
};

#[test]
fn each_session_is_told_to_the_old_or_to_the_new_callback() {
    REPLACE_NEW.explore();
}

#[test]
fn a_replacement_in_two_steps_is_caught() {
    REPLACE_NEW.catches("swap-in-two-steps", "each is told once");
}

const SET_NEW: Scenario = Scenario {
    name: "put ∥ set of the new callback, put, by the engine",
    preemptions: [0, 1],
    // In memory mode one preemption takes too long; the orderings are those of the scenarios beside it.
    floors: [13, 51],
    run: || {
        let world = Arc::new(World::new(3, Dispatch::Inline));
        race(
            &world,
            |w| w.put(1),
            |w| {
                w.engine.set_on_new(w.log.on_new(1));
                w.put(2);
            },
        );
        let calls = world.log.calls();
        let told = [(1, 1, Told::Came), (1, 2, Told::Came)];
        assert!(calls == told || calls == told[1..], "each is told once: {calls:?}");
        assert_eq!(world.engine.stats().callbacks_waiting, 0, "no event is left");
    },
};

#[test]
fn what_comes_after_the_callback_was_set_is_told() {
    SET_NEW.explore();
}

const EVICT_UNSET: Scenario = Scenario {
    name: "put that evicts, take ∥ unset of the remove callback, by the engine",
    preemptions: [1, 2],
    floors: [124, 192],
    run: || {
        let world = World::new(1, Dispatch::Inline);
        let log = world.log.clone();
        world.put(1);
        world.engine.set_on_remove(log.on_remove(1));
        let world = Arc::new(world);
        race(
            &world,
            |w| {
                w.put(2);
                w.take(2);
            },
            |w| w.engine.set_on_remove(None),
        );
        let calls = log.calls();
        let told = [(1, 1, Told::Left), (1, 2, Told::Left)];
        assert_eq!(calls, told[..calls.len()], "nothing is told once it is unset");
        assert_eq!(world.engine.stats().callbacks_waiting, 0, "no event is left");
        assert_eq!(log.dropped(), [1], "a callback that was unset is dropped once");
        assert_eq!(dropped(), [1, 2], "no event keeps its node");
    },
};

#[test]
fn a_callback_that_is_unset_is_called_up_to_a_moment() {
    EVICT_UNSET.explore();
}

const UNSET_TAKE: Scenario = Scenario {
    name: "take ∥ unset of the remove callback, take, by the engine",
    preemptions: [0, 1],
    // As above.
    floors: [3, 44],
    run: || {
        let world = World::new(3, Dispatch::Inline);
        let log = world.log.clone();
        world.engine.set_on_remove(log.on_remove(1));
        world.put(1);
        world.put(2);
        let world = Arc::new(world);
        race(
            &world,
            |w| w.take(1),
            |w| {
                w.engine.set_on_remove(None);
                w.take(2);
            },
        );
        let calls = log.calls();
        assert_eq!(calls, [(1, 1, Told::Left)][..calls.len()], "nothing is told once it is unset");
        assert_eq!(world.engine.stats().callbacks_waiting, 0, "no event is left");
        assert_eq!((log.dropped(), dropped()), (vec![1], vec![1, 2]), "each is dropped once");
    },
};

#[test]
fn nothing_is_told_to_a_callback_that_was_unset() {
    UNSET_TAKE.explore();
}

const UNSET_WAITING: Scenario = Scenario {
    name: "put, take ∥ unset of the remove callback while a call waits, by the engine",
    preemptions: [1, 3],
    floors: [124, 597],
    run: || {
        let world = World::new(3, Dispatch::Manual);
        let log = world.log.clone();
        world.engine.set_on_remove(log.on_remove(1));
        world.put(1);
        world.take(1);
        assert_eq!(dropped(), [], "the event keeps its node");
        let world = Arc::new(world);
        race(
            &world,
            |w| {
                w.put(2);
                w.take(2);
            },
            |w| {
                w.engine.set_on_remove(None);
                assert!(dropped().contains(&1), "what waited is let go");
                assert_eq!(w.log.dropped(), [1], "a callback that was unset is dropped once");
            },
        );
        assert_eq!((world.engine.poll(), log.calls()), (0, vec![]), "nothing is told any more");
        assert_eq!(world.engine.stats().callbacks_waiting, 0, "no event is left");
        assert_eq!(dropped(), [1, 2], "no event keeps its node");
    },
};

#[test]
fn what_waits_is_let_go_when_nobody_hears_of_it() {
    UNSET_WAITING.explore();
}

#[test]
fn untold_sessions_that_are_kept_are_caught() {
    UNSET_WAITING.catches("untold-is-kept", "what waited is let go");
}

const SET_SET: Scenario = Scenario {
    name: "set of the new callback ∥ set of the remove callback, by the engine",
    preemptions: [ALL, ALL],
    // They exclude each other: all interleavings are explored.
    floors: [7, 7],
    run: || {
        let world = Arc::new(World::new(3, Dispatch::Inline));
        race(
            &world,
            |w| w.engine.set_on_new(w.log.on_new(1)),
            |w| w.engine.set_on_remove(w.log.on_remove(2)),
        );
        world.put(1);
        world.take(1);
        let told = [(1, 1, Told::Came), (2, 1, Told::Left)];
        assert_eq!(world.log.calls(), told, "both are told");
    },
};

#[test]
fn settings_at_once_are_both_kept() {
    SET_SET.explore();
}

#[test]
fn settings_that_overlap_are_caught() {
    SET_SET.catches("tells-without-the-lock", "both are told");
}

/// A get callback that gives a session for every id, with a payload of its own.
fn on_get(number: u32) -> Option<Arc<OnGet<Payload>>> {
    Some(Arc::new(move |proposed| {
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        let payload = Payload::new(10 * number + u32::from(id.as_bytes()[0]));
        Answer::Give(Found::new(id, scope, payload, Duration::from_secs(60)))
    }))
}

/// The payload that a get finds, or zero.
fn get(engine: &Engine<Payload>, id: u8) -> u32 {
    let found = engine.lookup(id, Want::Get).expect("the callbacks answer at once");
    found.map_or(0, |session| session.payload().read())
}

const REPLACE_GET: Scenario = Scenario {
    name: "a get that asks ∥ replace of the get callback",
    preemptions: [1, 2],
    // Few accesses: within the bound there are no more executions to ask for in memory mode.
    floors: [78, 467],
    run: || {
        let engine = Engine::dispatching(3, Dispatch::Inline);
        engine.set_on_get(on_get(1));
        let engine = Arc::new(engine);
        let (found, ()) = race(&engine, |e| get(e, 1), |e| e.set_on_get(on_get(2)));
        assert!(found == 11 || found == 21, "one of the two is asked: {found}");
        assert_eq!(get(&engine, 2), 22, "the new one is asked");
        assert_eq!(engine.stats().get_called, 2);
    },
};

#[test]
fn a_lookup_asks_the_old_or_the_new_callback() {
    REPLACE_GET.explore();
}

#[test]
fn a_lookup_that_finds_neither_is_caught() {
    REPLACE_GET.catches("swap-in-two-steps", "one of the two is asked");
}

#[test]
fn a_callback_that_is_read_before_it_is_counted_is_caught() {
    REPLACE_GET.catches("load-before-count", "a dead value was read");
}

const UNSET_GET: Scenario = Scenario {
    name: "a get that may ask ∥ unset of the get callback, a get",
    preemptions: [2, 3],
    floors: [288, 668],
    run: || {
        let engine = Engine::dispatching(3, Dispatch::Inline);
        engine.set_on_get(on_get(1));
        let engine = Arc::new(engine);
        let (found, later) = race(
            &engine,
            |engine| get(engine, 1),
            |engine| {
                engine.set_on_get(None);
                get(engine, 2)
            },
        );
        assert_eq!(later, 0, "nobody is asked once it is unset");
        assert!(found == 0 || found == 11, "{found}");
        let stats = engine.stats();
        let asked = u64::from(found > 0);
        assert_eq!((stats.get_called, stats.misses_unknown), (asked, 2), "a plain miss");
    },
};

#[test]
fn a_lookup_without_a_callback_is_a_plain_miss() {
    UNSET_GET.explore();
}

const SET_GET_TAKE: Scenario = Scenario {
    name: "set of the get callback, a get that asks ∥ put, take, look",
    preemptions: [1, 2],
    floors: [1_296, 2_476],
    run: || {
        let engine = Engine::dispatching(2, Dispatch::Manual);
        let is_gone = Arc::new(Mutex::new(false));
        // So that the leaving of the session that is taken waits to be told.
        engine.set_on_remove(Some(Arc::new(drop)));
        let answer = on_get(1).expect("it is there");
        let on_get: Arc<OnGet<Payload>> = Arc::new(move |proposed| {
            match std::mem::replace(&mut *is_gone.lock().expect("no panic"), true) {
                true => Answer::Nothing,
                false => answer(proposed),
            }
        });
        let engine = Arc::new(engine);
        race(
            &engine,
            |engine| {
                engine.set_on_get(Some(on_get));
                drop(engine.lookup(1, Want::Get));
            },
            |engine| {
                assert!(engine.put(1, Payload::new(1)).is_stored());
                assert!(engine.take(1).is_some(), "there is no instant without a session");
                assert!(!engine.contains(1), "a removed session came back");
            },
        );
        assert!(!engine.contains(1), "a removed session came back");
    },
};

#[test]
fn whoever_removes_knows_of_the_first_lookup_that_asks() {
    SET_GET_TAKE.explore();
}

#[test]
fn a_get_callback_that_is_set_without_settling_is_caught() {
    SET_GET_TAKE.catches("ask-without-settling", "a removed session came back");
}

/// A call that removes the session while the remove callback is set.
fn delivers(call: fn(&Engine<Payload>), is_expired: bool) {
    let engine = Engine::dispatching(3, Dispatch::Inline);
    assert!(engine.put(1, Payload::new(1)).is_stored());
    if is_expired {
        engine.advance(61);
    }
    let engine = Arc::new(engine);
    let on_remove: Arc<OnRemove<Payload>> = Arc::new(drop);
    race(&engine, call, move |engine| engine.set_on_remove(Some(on_remove)));
    assert_eq!(engine.stats().callbacks_waiting, 0, "what is told waits for no other call");
}

const SET_TAKE: Scenario = Scenario {
    name: "set of the remove callback ∥ take, by the engine",
    preemptions: [2, 3],
    // Within the bound there are no more executions to ask for: what is set is one word.
    floors: [18, 18],
    run: || delivers(|engine| drop(engine.take(1)), false),
};

#[test]
fn a_take_delivers_what_it_tells() {
    SET_TAKE.explore();
}

#[test]
fn a_take_that_looks_only_at_first_is_caught() {
    SET_TAKE.catches("taken-untold", "what is told waits for no other call");
}

const SET_EXPIRED: Scenario = Scenario {
    name: "set of the remove callback ∥ get of an expired session, by the engine",
    preemptions: [2, 3],
    // Within the bound there are no more executions to ask for: what is set is one word.
    floors: [40, 40],
    run: || delivers(|engine| drop(engine.get(1)), true),
};

#[test]
fn a_get_delivers_that_a_session_is_expired() {
    SET_EXPIRED.explore();
}

#[test]
fn a_get_that_looks_only_at_first_is_caught() {
    SET_EXPIRED.catches("expired-untold", "what is told waits for no other call");
}

const SET_GET_GONE: Scenario = Scenario {
    name: "set of the get callback, take ∥ get, by the engine",
    preemptions: [1, 3],
    floors: [1_800, 2_040],
    run: || {
        let engine = Engine::dispatching(3, Dispatch::Inline);
        assert!(engine.put(1, Payload::new(1)).is_stored());
        let engine = Arc::new(engine);
        race(
            &engine,
            |engine| assert!(engine.get(1).is_some(), "it is in the cache, or given"),
            |engine| {
                engine.set_on_get(on_get(1));
                drop(engine.take(1));
            },
        );
    },
};

#[test]
fn a_session_is_in_the_cache_or_given() {
    SET_GET_GONE.explore();
}

#[test]
fn who_is_asked_as_of_the_beginning_is_caught() {
    SET_GET_GONE.catches("asks-looked-at-before", "it is in the cache, or given");
}
