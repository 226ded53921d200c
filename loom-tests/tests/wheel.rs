//! Models of `src/expiry/wheel.rs`. The wheel has one level here, of slots of 1024 ms.
#![cfg(loom)]

use std::collections::BTreeSet;
use std::sync::Arc;

use loom_tests::{ALL, Payload, Scenario, dropped, race, race3};
use resumption::model::{Engine, Wheel};

/// Milliseconds of a slot.
const SLOT: u64 = 1024;

/// A wheel whose list of the second slot holds hint 1.
fn wheel() -> Arc<Wheel> {
    let wheel = Wheel::new();
    wheel.push(1, SLOT, 0);
    Arc::new(wheel)
}

const CLEAR: Scenario = Scenario {
    name: "push ∥ pop of a list's last hint, and the clearing of its bit",
    preemptions: [3, 8],
    floors: [324, 305],
    run: || {
        let wheel = wheel();
        let list = wheel.earliest().expect("there is a hint");
        let ((), popped) = race(
            &wheel,
            |w| w.push(2, SLOT, 0),
            move |w| [w.pop(list), w.pop(list)].into_iter().flatten().collect::<Vec<_>>(),
        );
        let left = wheel.drain_earliest();
        let all: BTreeSet<u64> = popped.iter().copied().chain(left).collect();
        assert_eq!(all, BTreeSet::from([1, 2]), "a list with hints has its bit");
    },
};

#[test]
fn a_cleared_bit_hides_no_hint() {
    CLEAR.explore();
}

#[test]
fn a_second_look_that_settles_nothing_is_caught() {
    CLEAR.catches("settle-by-load", "a list with hints has its bit");
}

#[test]
fn a_clearing_without_a_second_look_is_caught() {
    CLEAR.catches("no-second-look", "a list with hints has its bit");
}

#[test]
fn a_second_look_that_orders_nothing_is_caught() {
    CLEAR.catches("relaxed-settle-empty", "a list with hints has its bit");
}

const CLEARS: Scenario = Scenario {
    name: "push ∥ clearing ∥ clearing of an empty list's bit",
    preemptions: [2, 2],
    floors: [2_990, 398],
    run: || {
        let wheel = wheel();
        let list = wheel.earliest().expect("there is a hint");
        assert_eq!(wheel.pop(list), Some(1));
        let clear = move |w: &Wheel| w.pop(list);
        let ((), a, b) = race3(&wheel, |w| w.push(2, SLOT, 0), clear, clear);
        let left = wheel.drain_earliest();
        let all: Vec<u64> = a.into_iter().chain(b).chain(left).collect();
        assert_eq!(all, [2], "a list with hints has its bit");
    },
};

#[test]
fn two_clearings_hide_no_hint() {
    CLEARS.explore();
}

const ADVANCE: Scenario = Scenario {
    name: "push ∥ progress of the level over its slot",
    preemptions: [3, 8],
    floors: [1_230, 9_300],
    run: || {
        let wheel = Arc::new(Wheel::new());
        let ((), popped) = race(&wheel, |w| w.push(2, SLOT, 0), |w| w.drain_due(3 * SLOT));
        let mut all = wheel.drain_due(6 * SLOT);
        all.extend(popped);
        assert_eq!(all, BTreeSet::from([2]), "no hint stays behind the progress");
    },
};

#[test]
fn no_hint_stays_behind_the_progress() {
    ADVANCE.explore();
}

const ADVANCES: Scenario = Scenario {
    name: "push ∥ three steps of progress of the level over its slot",
    preemptions: [2, 4],
    floors: [9_310, 1_880],
    run: || {
        let wheel = Arc::new(Wheel::new());
        let ((), popped) = race(
            &wheel,
            |w| w.push(2, SLOT, 0),
            |w| {
                let mut popped = w.drain_due(2 * SLOT);
                popped.extend(w.drain_due(4 * SLOT));
                popped.extend(w.drain_due(6 * SLOT));
                popped
            },
        );
        let mut all = wheel.drain_due(8 * SLOT);
        all.extend(popped);
        assert_eq!(all, BTreeSet::from([2]), "no hint stays behind the progress");
    },
};

#[test]
fn no_hint_stays_behind_progress_that_goes_on() {
    ADVANCES.explore();
}

#[test]
fn an_advance_without_a_second_look_is_caught() {
    ADVANCES.catches("no-second-look-at-the-map", "no hint stays behind the progress");
}

#[test]
fn a_push_that_does_not_read_the_progress_again_is_caught() {
    ADVANCES.catches("no-second-read-of-the-progress", "no hint stays behind the progress");
}

#[test]
fn a_second_look_that_the_push_does_not_see_is_caught() {
    ADVANCES.catches("relaxed-second-look-at-the-map", "no hint stays behind the progress");
}

#[test]
fn a_relaxed_mark_is_caught() {
    ADVANCES.catches("relaxed-mark", "no hint stays behind the progress");
}

const TWO_BEHIND: Scenario = Scenario {
    name: "push ∥ push ∥ three steps of progress of the level over their slot",
    // In memory mode one preemption takes a minute, and `--deep` has it.
    preemptions: [0, 2],
    floors: [4_230, 1_250],
    run: || {
        let wheel = Arc::new(Wheel::new());
        let ((), (), popped) = race3(
            &wheel,
            |w| w.push(2, SLOT, 0),
            |w| w.push(3, SLOT, 0),
            |w| {
                let mut popped = w.drain_due(2 * SLOT);
                popped.extend(w.drain_due(4 * SLOT));
                popped.extend(w.drain_due(6 * SLOT));
                popped
            },
        );
        let mut all = wheel.drain_due(8 * SLOT);
        all.extend(popped);
        assert_eq!(all, BTreeSet::from([2, 3]), "no hint stays behind the progress");
    },
};

#[test]
fn no_hint_of_two_stays_behind_progress_that_goes_on() {
    TWO_BEHIND.explore();
}

#[test]
fn a_relaxed_look_at_the_mark_is_caught() {
    TWO_BEHIND.catches("relaxed-look-at-the-mark", "no hint stays behind the progress");
}

#[test]
fn a_list_that_comes_before_its_content_is_caught() {
    TWO_BEHIND.catches("relaxed-queue", "Causality violation");
}

const TURN: Scenario = Scenario {
    name: "spared hint ∥ turn of the kept lists",
    preemptions: [ALL, ALL],
    floors: [339, 143],
    run: || {
        let wheel = Arc::new(Wheel::new());
        wheel.keep(1, SLOT, 0);
        let ((), popped) =
            race(&wheel, |w| w.keep(2, SLOT, 0), |w| w.earliest().and_then(|list| w.pop(list)));
        assert!(popped.is_some(), "there is a hint at every instant");
        let mut all = wheel.drain_earliest();
        all.extend(popped);
        assert_eq!(all, BTreeSet::from([1, 2]), "a turn loses no hint");
    },
};

#[test]
fn a_turn_of_the_lists_loses_no_hint() {
    TURN.explore();
}

#[test]
fn a_relaxed_look_at_the_turn_is_no_bug() {
    TURN.tolerates(
        "relaxed-turn",
        "the turn says which of two kept lists is looked at first, and where the first has nothing \
         the other is looked at too; their bits are loaded with Acquire themselves",
    );
}

/// After what raced: everything expires, and comes back by its hint, before its level comes to
/// the same slots again.
fn assert_all_expire(engine: &Engine<Payload>) {
    engine.advance(62);
    engine.tick();
    assert_eq!(engine.stats().sessions, 0, "no session is left without a hint");
}

const TICK: Scenario = Scenario {
    name: "put ∥ ticks while its lifetime ends, by the engine",
    preemptions: [1, 2],
    floors: [70_000, 1_740],
    run: || {
        let engine = Engine::new(4);
        // Its hint is in the same list, so that a tick may come to the other hint early.
        assert!(engine.put(2, Payload::new(2)).is_stored());
        let engine = Arc::new(engine);
        race(
            &engine,
            |e| assert!(e.put(1, Payload::new(1)).is_stored()),
            |e| {
                e.advance(62);
                // Twice, because each slot is looked at twice.
                e.tick();
                e.tick();
            },
        );
        assert_all_expire(&engine);
        assert_eq!(dropped(), [1, 2]);
    },
};

#[test]
fn no_session_is_left_without_a_hint() {
    TICK.explore();
}

#[test]
fn an_engine_that_does_not_read_the_progress_again_is_caught() {
    TICK.catches("no-second-read-of-the-progress", "no session is left without a hint");
}

const EXTENSIONS: Scenario = Scenario {
    name: "extend ∥ extend, both to an earlier time, by the engine",
    preemptions: [2, 3],
    floors: [1_100, 735],
    run: || {
        let engine = Engine::new(8);
        // So many sessions that two stale hints cause no compaction, which would set right what the
        // extensions get wrong.
        for id in 1..5 {
            assert!(engine.put(id, Payload::new(id.into())).is_stored());
        }
        let expiry = |e: &Engine<Payload>| e.get(1).expect("it is there").expires_at();
        let before = expiry(&engine);
        let engine = Arc::new(engine);
        race(&engine, |e| assert!(e.extend(1, 20)), |e| assert!(e.extend(1, 30)));
        let sooner = before.duration_since(expiry(&engine)).as_secs();
        assert!(sooner == 40 || sooner == 30, "one of the two counts");
        // A slot spans a second, and one is for the rounding.
        engine.advance(60 - sooner + 2);
        engine.tick();
        assert_eq!(engine.stats().sessions, 3, "the hint knows the last extension");
    },
};

#[test]
fn the_hint_knows_the_last_extension() {
    EXTENSIONS.explore();
}

#[test]
fn a_hint_that_knows_an_earlier_extension_is_caught() {
    EXTENSIONS.catches("time-before-stamp", "the hint knows the last extension");
}

#[test]
fn a_stamp_that_orders_nothing_is_caught() {
    EXTENSIONS.catches("relaxed-stamp", "the hint knows the last extension");
}

const COMPACTION: Scenario = Scenario {
    name: "compaction ∥ ticks while the lifetimes end, by the engine",
    preemptions: [1, 2],
    floors: [9_380, 800],
    run: || {
        let engine = Engine::new(8);
        for id in 1..3 {
            assert!(engine.put(id, Payload::new(id.into())).is_stored());
        }
        // The take leaves two hints for one session, which are too many: the taker looks at the
        // older one, which is not stale.
        let engine = Arc::new(engine);
        race(
            &engine,
            |e| drop(e.take(2)),
            |e| {
                e.advance(62);
                e.tick();
            },
        );
        assert_all_expire(&engine);
    },
};

#[test]
fn compaction_leaves_no_hint_behind_the_progress() {
    COMPACTION.explore();
}

#[test]
fn two_clearings_without_a_second_look_are_caught() {
    CLEARS.catches("no-second-look", "a list with hints has its bit");
}
