//! Models of `src/flight.rs` and `src/engine/ask.rs`: who asks, what is out of date, and what becomes
//! of lookups that are dropped.
#![cfg(loom)]

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::future::{AtomicWaker, block_on};
use loom::sync::atomic::AtomicBool as Flag;
use loom_tests::{ALL, Payload, Scenario, race, race3};
use resumption::model::{Engine, Waiting};
use resumption::{
    Answer, CacheMode, Dispatch, Found, NewSession, OnGet, Proposed, RemovedSession, Verdict, Want,
};

const PUT: u32 = 1;
const GIVEN: u32 = 2;
const NEWER: u32 = 3;

/// A session for whoever asks.
fn given(proposed: &Proposed<'_>) -> Found<Payload> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    Found::new(id, scope, Payload::new(GIVEN), Duration::from_secs(60))
}

/// An engine whose external cache has one session, which is gone once it was asked for.
fn asking(
    answer: impl Fn(Found<Payload>) -> Answer<Payload> + Send + Sync + 'static,
) -> Engine<Payload> {
    let is_gone = AtomicBool::new(false);
    Engine::asking(2, move |proposed| {
        if is_gone.swap(true, Ordering::Relaxed) {
            return Answer::Nothing;
        }
        answer(given(proposed))
    })
}

const GET_PUT_TAKE: Scenario = Scenario {
    name: "a get that asks ∥ put, take, look",
    preemptions: [1, 2],
    floors: [1_214, 1_359],
    run: || {
        let engine = Arc::new(asking(Answer::Give));
        race(
            &engine,
            |engine| drop(engine.lookup(1, Want::Get)),
            |engine| {
                assert!(engine.put(1, Payload::new(PUT)).is_stored());
                assert!(engine.take(1).is_some(), "there is no instant without a session");
                assert!(!engine.contains(1), "a removed session came back");
            },
        );
        assert!(!engine.contains(1), "a removed session came back");
    },
};

#[test]
fn an_answer_that_was_overtaken_does_not_enter() {
    GET_PUT_TAKE.explore();
}

#[test]
fn flights_that_are_not_marked_are_caught() {
    GET_PUT_TAKE.catches("no-stale-flights", "a removed session came back");
}

#[test]
fn a_session_that_is_shown_at_once_is_caught() {
    GET_PUT_TAKE.catches("shown-at-once", "a removed session came back");
}

const GET_SWEEP: Scenario = Scenario {
    name: "a get that asks ∥ a flush of what is expired",
    preemptions: [1, 2],
    floors: [10, 80],
    run: || {
        let engine = Arc::new(asking(Answer::Give));
        race(
            &engine,
            |engine| {
                let found = engine.lookup(1, Want::Get).expect("it is answered at once");
                assert!(found.is_some(), "a live session was swept away");
            },
            |engine| assert_eq!(engine.flush_expired(), 0, "a live session was swept away"),
        );
        assert!(engine.contains(1));
    },
};

#[test]
fn a_sweep_leaves_what_is_not_shown_yet() {
    GET_SWEEP.explore();
}

#[test]
fn a_sweep_of_what_is_not_shown_is_caught() {
    GET_SWEEP.catches("swept-though-unseen", "a live session was swept away");
}

#[test]
fn a_second_load_of_what_is_not_shown_is_caught() {
    GET_SWEEP.catches("unseen-by-a-second-load", "a live session was swept away");
}

const GET_TAKE_GET: Scenario = Scenario {
    name: "a get that asks ∥ take, get",
    preemptions: [1, 2],
    floors: [234, 2_900],
    run: || {
        let engine = Arc::new(asking(Answer::Give));
        race(
            &engine,
            |engine| drop(engine.lookup(1, Want::Get)),
            |engine| {
                if engine.take(1).is_some() {
                    let found = engine.lookup(1, Want::Get).unwrap_or_else(block_on);
                    assert!(found.is_none(), "a removed session came back");
                }
            },
        );
    },
};

#[test]
fn who_comes_after_a_removal_is_not_shown_what_was_removed() {
    GET_TAKE_GET.explore();
}

#[test]
fn a_landing_that_does_not_look_again_is_caught() {
    GET_TAKE_GET.catches("landed-though-removed", "a removed session came back");
}

const GET_PUT_TAKE_GET: Scenario = Scenario {
    name: "put, take, get ∥ a get that asks",
    preemptions: [0, 3],
    // In memory mode one preemption takes too long.
    floors: [1, 34_800],
    run: || {
        let engine = Arc::new(Engine::asking(2, |_| Answer::Nothing));
        race(
            &engine,
            |engine| {
                assert!(engine.put(1, Payload::new(PUT)).is_stored());
                if engine.take(1).is_some() {
                    let found = engine.lookup(1, Want::Get).unwrap_or_else(block_on);
                    assert!(found.is_none(), "a removed session came back");
                }
            },
            |engine| drop(engine.lookup(1, Want::Get)),
        );
    },
};

#[test]
fn who_comes_after_a_removal_is_not_shown_what_the_asker_found() {
    GET_PUT_TAKE_GET.explore();
}

#[test]
fn what_the_asker_found_and_shows_to_all_is_caught() {
    GET_PUT_TAKE_GET.catches("landed-what-was-found", "a removed session came back");
}

/// An engine that keeps expired sessions, and a database that follows its calls when it is asked. For a
/// session that it knows of, another one is put, and expires, before it answers.
fn overtaken() -> Arc<Engine<Payload>> {
    let engine = Arc::new(Engine::dispatching(3, Dispatch::Manual));
    engine.set_mode(CacheMode::SERVER | CacheMode::NO_AUTO_CLEAR);
    let database: Arc<Mutex<Vec<u32>>> = Arc::default();
    let (store, forget) = (Arc::clone(&database), Arc::clone(&database));
    engine.set_on_new(Some(Arc::new(move |new: NewSession<Payload>| {
        store.lock().expect("no panic").push(new.session().payload().read());
        Verdict::Keep
    })));
    engine.set_on_remove(Some(Arc::new(move |removed: RemovedSession<Payload>| {
        let session = removed.session().expect("it was in the cache");
        forget.lock().expect("no panic").retain(|&known| known != session.payload().read());
    })));
    let weak = Arc::downgrade(&engine);
    let on_get: Arc<OnGet<Payload>> = Arc::new(move |proposed| {
        loom::thread::yield_now();
        let engine = weak.upgrade().expect("it asks");
        engine.poll();
        if !database.lock().expect("no panic").contains(&PUT) {
            return Answer::Nothing;
        }
        assert!(engine.put_expired(1, Payload::new(NEWER)).is_stored());
        Answer::Give(given(proposed))
    });
    engine.set_on_get(Some(on_get));
    engine
}

const LATE_PUT_GET: Scenario = Scenario {
    name: "a late put ∥ drop of the scope, a get that asks and is overtaken",
    preemptions: [0, 2],
    // In memory mode one preemption takes too long.
    floors: [1, 1_250],
    run: || {
        let engine = overtaken();
        race(
            &engine,
            |engine| {
                engine.drop_scope();
                drop(engine.lookup(1, Want::Get));
            },
            |engine| assert!(engine.put(1, Payload::new(PUT)).is_stored()),
        );
        let is_dropped = engine.stats().removals.scope_dropped > 0;
        assert!(!is_dropped || !engine.contains(1), "a dropped session came back");
    },
};

#[test]
fn an_answer_that_a_replacement_of_the_outdated_overtakes_does_not_enter() {
    LATE_PUT_GET.explore();
}

#[test]
fn a_replacement_of_the_outdated_that_marks_no_flight_is_caught() {
    LATE_PUT_GET.catches("dropped-without-mark", "a dropped session came back");
}

/// An engine, and a database that follows its calls when it is asked, and gives what it has once.
fn followed() -> Arc<Engine<Payload>> {
    following().0
}

/// As [`followed`], and whether the database has a session.
fn following() -> (Arc<Engine<Payload>>, Arc<AtomicBool>) {
    let engine = Arc::new(Engine::dispatching(3, Dispatch::Manual));
    let is_known = Arc::new(AtomicBool::new(false));
    let [store, forget, give] = [(); 3].map(|()| Arc::clone(&is_known));
    engine.set_on_new(Some(Arc::new(move |_: NewSession<Payload>| {
        store.store(true, Ordering::Relaxed);
        Verdict::Keep
    })));
    engine.set_on_remove(Some(Arc::new(move |_: RemovedSession<Payload>| {
        forget.store(false, Ordering::Relaxed);
    })));
    let weak = Arc::downgrade(&engine);
    let on_get: Arc<OnGet<Payload>> = Arc::new(move |proposed| {
        weak.upgrade().expect("it asks").poll();
        match give.swap(false, Ordering::Relaxed) {
            true => Answer::Give(given(proposed)),
            false => Answer::Nothing,
        }
    });
    engine.set_on_get(Some(on_get));
    (engine, is_known)
}

const PUT_TAKE_ASK: Scenario = Scenario {
    name: "put, take ∥ a take that asks, then take",
    preemptions: [0, 2],
    // In memory mode one preemption takes too long.
    floors: [1, 950],
    run: || {
        let engine = followed();
        let take = |engine: &Engine<Payload>| usize::from(engine.take(1).is_some());
        let (a, b) = race(
            &engine,
            move |engine| {
                assert!(engine.put(1, Payload::new(PUT)).is_stored());
                take(engine)
            },
            take,
        );
        assert_eq!(a + b + take(&engine), 1, "a ticket is taken once");
    },
};

#[test]
fn a_ticket_that_is_put_while_it_is_asked_for_is_taken_once() {
    PUT_TAKE_ASK.explore();
}

#[test]
fn a_ticket_that_stays_inside_is_caught() {
    PUT_TAKE_ASK.catches("left-inside", "a ticket is taken once");
}

const REMOVE_DROP_PUT: Scenario = Scenario {
    name: "drop of the scope, put ∥ the removal of what is elsewhere",
    preemptions: [0, 2],
    // In memory mode one preemption takes too long.
    floors: [1, 330],
    run: || {
        let (engine, is_known) = following();
        race(
            &engine,
            |engine| {
                engine.drop_scope();
                assert!(engine.put(1, Payload::new(PUT)).is_stored());
            },
            |engine| engine.remove(1),
        );
        engine.poll();
        let is_known = is_known.load(Ordering::Relaxed);
        assert_eq!(is_known, engine.contains(1), "the database has what the cache holds");
    },
};

#[test]
fn a_removal_elsewhere_ends_what_was_put_after_a_drop_of_the_scope() {
    REMOVE_DROP_PUT.explore();
}

#[test]
fn a_removal_elsewhere_by_the_old_slot_is_caught() {
    REMOVE_DROP_PUT.catches("gone-by-the-old-slot", "the database has what the cache holds");
}

/// An engine, and a database that has a session which is not here, and follows its calls.
fn evicted() -> Arc<Engine<Payload>> {
    let engine = Engine::dispatching(3, Dispatch::Manual);
    let is_known = Arc::new(AtomicBool::new(true));
    let forget = Arc::clone(&is_known);
    engine.set_on_remove(Some(Arc::new(move |_: RemovedSession<Payload>| {
        forget.store(false, Ordering::Relaxed);
    })));
    let on_get: Arc<OnGet<Payload>> =
        Arc::new(move |proposed| match is_known.load(Ordering::Relaxed) {
            true => Answer::Give(given(proposed)),
            false => Answer::Nothing,
        });
    engine.set_on_get(Some(on_get));
    Arc::new(engine)
}

const REMOVE_GET: Scenario = Scenario {
    name: "the removal of what is elsewhere ∥ a get that asks",
    preemptions: [2, 3],
    floors: [21_700, 28_200],
    run: || {
        let engine = evicted();
        race(
            &engine,
            |engine| {
                engine.remove(1);
                assert!(!engine.contains(1), "a removed session came back");
            },
            |engine| drop(engine.lookup(1, Want::Get)),
        );
        engine.poll();
        let found = engine.lookup(1, Want::Get).unwrap_or_else(block_on);
        assert!(found.is_none() && !engine.contains(1), "a removed session came back");
    },
};

#[test]
fn an_answer_does_not_bring_back_what_was_removed_elsewhere() {
    REMOVE_GET.explore();
}

#[test]
fn a_removal_elsewhere_that_does_not_look_again_is_caught() {
    REMOVE_GET.catches("gone-without-a-second-look", "a removed session came back");
}

#[test]
fn a_removal_elsewhere_that_marks_no_flight_is_caught() {
    REMOVE_GET.catches("no-stale-flights", "a removed session came back");
}

#[test]
fn a_flight_that_is_not_ordered_with_a_removal_elsewhere_is_caught() {
    REMOVE_GET.catches("registered-unordered", "a removed session came back");
}

#[test]
fn a_mark_that_is_not_ordered_with_the_linking_is_caught() {
    REMOVE_GET.catches("marks-unordered", "a removed session came back");
}

#[test]
fn marks_and_linkings_that_do_not_see_each_other_are_caught() {
    REMOVE_GET.catches("relaxed-order-of-marks", "a removed session came back");
}

/// As [`evicted`], with the session inside, where lookups do not look.
fn inside() -> Arc<Engine<Payload>> {
    let engine = evicted();
    engine.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL_LOOKUP);
    assert!(engine.put(1, Payload::new(PUT)).is_stored());
    engine
}

const REMOVE_INSIDE: Scenario = Scenario {
    name: "a get that does not look inside ∥ a removal",
    preemptions: [0, 3],
    // In memory mode one preemption takes too long.
    floors: [1, 7_460],
    run: || {
        let engine = inside();
        race(
            &engine,
            |engine| drop(engine.lookup(1, Want::Get)),
            |engine| assert!(engine.remove(1), "it is inside"),
        );
        assert!(!engine.contains(1), "a removed session came back");
    },
};

#[test]
fn what_is_removed_inside_does_not_come_back_from_elsewhere() {
    REMOVE_INSIDE.explore();
}

#[test]
fn an_answer_that_takes_the_place_of_what_was_inside_is_caught() {
    REMOVE_INSIDE.catches("shown-in-place-of-the-left", "a removed session came back");
}

const REMOVE_INSIDE_GET: Scenario = Scenario {
    name: "a get that does not look inside ∥ a removal, get",
    preemptions: [0, 2],
    // In memory mode one preemption takes too long.
    floors: [1, 1_350],
    run: || {
        race(
            &inside(),
            |engine| drop(engine.lookup(1, Want::Get)),
            |engine| {
                assert!(engine.remove(1), "it is inside");
                let found = engine.lookup(1, Want::Get).unwrap_or_else(block_on);
                assert!(found.is_none(), "a removed session came back");
            },
        );
    },
};

#[test]
fn who_comes_after_a_removal_inside_is_not_shown_what_was_removed() {
    REMOVE_INSIDE_GET.explore();
}

#[test]
fn a_removal_inside_that_marks_once_is_caught() {
    REMOVE_INSIDE_GET.catches("marked-once", "a removed session came back");
}

/// An external cache that answers when it is told to.
#[derive(Default)]
struct Database {
    is_ready: Flag,
    waker: AtomicWaker,
}

impl Database {
    fn finish(&self) {
        self.is_ready.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn answer(self: Arc<Self>, found: Found<Payload>) -> Answer<Payload> {
        let mut found = Some(found);
        Answer::later(poll_fn(move |cx| {
            self.waker.register_by_ref(cx.waker());
            if !self.is_ready.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            Poll::Ready(Answer::Give(found.take().expect("it is polled until it is ready")))
        }))
    }
}

struct World {
    engine: Engine<Payload>,
    database: Arc<Database>,
}

impl World {
    fn new() -> Self {
        let database = Arc::new(Database::default());
        let answers = Arc::clone(&database);
        let engine = asking(move |found| Arc::clone(&answers).answer(found));
        Self { engine, database }
    }

    /// A lookup that has to wait.
    fn waiting(&self, want: Want) -> Waiting<Payload> {
        self.engine.lookup(1, want).expect_err("the database has not answered")
    }

    /// Looks up, and waits if there is something to wait for; how many were found.
    fn take(&self) -> usize {
        let found = self.engine.lookup(1, Want::Take).unwrap_or_else(block_on);
        usize::from(found.is_some())
    }
}

/// Polls a lookup once, and drops it; how many were found.
fn poll_and_drop(mut waiting: Waiting<Payload>) -> usize {
    let waiting = std::pin::Pin::new(&mut waiting);
    match waiting.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => usize::from(found.is_some()),
        Poll::Pending => 0,
    }
}

const DROP_ONE_OF_TWO: Scenario = Scenario {
    name: "a get that is dropped ∥ a get of the same id ∥ the answer",
    preemptions: [2, 2],
    floors: [1_040, 1_000],
    run: || {
        let world = World::new();
        let (one, other) = (world.waiting(Want::Get), world.waiting(Want::Get));
        let (_, (), found) = race3(
            &Arc::new(world),
            |_| poll_and_drop(one),
            |world| world.database.finish(),
            |_| block_on(other),
        );
        assert_eq!(found.expect("it is shared").payload().read(), GIVEN);
    },
};

#[test]
fn a_lookup_that_is_dropped_leaves_the_future_to_the_others() {
    DROP_ONE_OF_TWO.explore();
}

#[test]
fn a_lookup_that_leaves_without_waking_is_caught() {
    DROP_ONE_OF_TWO.catches("leave-without-waking", "deadlock");
}

const DROP_TAKE_TAKE: Scenario = Scenario {
    name: "a take that is dropped ∥ a take of the same id ∥ the answer",
    preemptions: [2, 2],
    floors: [2_770, 1_650],
    run: || {
        let world = World::new();
        let one = world.waiting(Want::Take);
        let world = Arc::new(world);
        let (one, (), other) =
            race3(&world, |_| poll_and_drop(one), |world| world.database.finish(), World::take);
        world.engine.tend();
        let stored = usize::from(world.engine.contains(1));
        assert_eq!(one + other + stored, 1, "a session is neither lost nor doubled");
    },
};

#[test]
fn a_take_that_is_dropped_neither_loses_nor_doubles() {
    DROP_TAKE_TAKE.explore();
}

const CACHE_POLLS: Scenario = Scenario {
    name: "the cache polls ∥ a take of the same id waits ∥ the answer",
    preemptions: [2, 2],
    floors: [930, 930],
    run: || {
        let world = World::new();
        drop(world.waiting(Want::Take));
        let second = world.waiting(Want::Take);
        // For nothing; so that the cache polls.
        world.database.waker.wake();
        let (_, (), found) = race3(
            &Arc::new(world),
            |world| world.engine.tend(),
            |world| world.database.finish(),
            |_| block_on(second),
        );
        assert_eq!(found.expect("it is given").payload().read(), GIVEN);
    },
};

#[test]
fn a_lookup_that_waits_beside_the_cache_is_woken() {
    CACHE_POLLS.explore();
}

#[test]
fn a_cache_that_parks_without_waking_is_caught() {
    CACHE_POLLS.catches("park-without-waking", "deadlock");
}

const ORPHAN_TAKE: Scenario = Scenario {
    name: "an answer that the cache polls for ∥ a take that is dropped",
    preemptions: [ALL, ALL],
    // Few accesses: all interleavings are explored.
    floors: [5, 5],
    run: || {
        let world = World::new();
        drop(world.waiting(Want::Take));
        let second = world.waiting(Want::Take);
        world.database.finish();
        let world = Arc::new(world);
        race(&world, |world| world.engine.tend(), |_| drop(second));
        world.engine.tend();
        assert!(world.engine.contains(1), "a session is neither lost nor doubled");
    },
};

#[test]
fn an_answer_that_nobody_takes_is_stored() {
    ORPHAN_TAKE.explore();
}

#[test]
fn an_answer_that_is_left_behind_is_caught() {
    ORPHAN_TAKE.catches("answer-left-behind", "neither lost nor doubled");
}
