//! Payloads that panic in their drops: what else was to be done is done, and nothing else is lost.

#[path = "support/later.rs"]
mod later;
mod support;

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Once};
use std::task::Poll;

use std::time::Duration;

use resumption::{
    Answer, CacheMode, Clock, Dispatch, Found, Proposed, Put, Scope, SessionCache, Sessions, Want,
};

use later::{Gate, Hook, poll};
use support::{HOUR, MINUTE, SECOND, id, manual, manual_of};

/// What bombs panic with.
const PLANNED: &str = "as planned";

/// A payload that panics in its drop, also while another one's panic unwinds.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 {
            panic_any(PLANNED);
        }
    }
}

/// Whether it is one, of the whole of it: a closure captures no more than what it uses.
fn is_bad(bomb: &Bomb) -> bool {
    bomb.0
}

const GOOD: Bomb = Bomb(false);
const BAD: Bomb = Bomb(true);

/// A cache with bombs at even numbers, in many batches of each sweep.
fn mined(sessions: u64) -> (SessionCache<Bomb>, Sessions<Bomb>, Clock) {
    let (cache, web, clock) = manual(2 * sessions as usize, MINUTE);
    for number in 0..sessions {
        assert!(web.put(&id(number), Bomb(number % 2 == 0)).is_stored());
    }
    (cache, web, clock)
}

/// Whether a call panics. The panics that are planned are not reported.
fn panics<R>(call: impl FnOnce() -> R) -> bool {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref() != Some(&PLANNED) {
                report(panic);
            }
        }));
    });
    catch_unwind(AssertUnwindSafe(|| drop(call()))).is_err()
}

#[test]
fn a_flush_removes_all_though_many_panic() {
    let (cache, ..) = mined(2_000);
    assert!(panics(|| cache.flush()));
    let stats = cache.stats();
    assert_eq!((stats.sessions, stats.removals.flushed, stats.bytes), (0, 2_000, 0));
}

#[test]
fn a_flush_of_what_is_expired_removes_all() {
    let (cache, _web, clock) = mined(2_000);
    clock.advance(2 * MINUTE);
    assert!(panics(|| cache.flush_expired()));
    assert_eq!((cache.len(), cache.stats().removals.expired), (0, 2_000));
}

#[test]
fn a_dropped_scope_leaves_nothing_behind() {
    let (cache, ..) = mined(2_000);
    let mail = cache.scope(&Scope::new("mail"));
    assert!(mail.put(&id(1), GOOD).is_stored());
    assert!(panics(|| cache.drop_scope(&Scope::new("web"))));
    let stats = cache.stats();
    assert_eq!((stats.sessions, stats.removals.scope_dropped), (1, 2_000));
}

#[test]
fn a_closed_cache_is_empty() {
    let (cache, ..) = mined(2_000);
    assert!(panics(|| cache.close()));
    assert!(cache.is_closed());
    assert_eq!((cache.len(), cache.stats().removals.closed), (0, 2_000));
}

#[test]
fn a_cache_that_is_dropped_drops_all() {
    let (cache, web, _) = mined(2_000);
    drop(web);
    assert!(panics(|| drop(cache)));
}

/// Sessions, what callbacks and the weigher capture, and futures that lookups have left: a second panic that was not
/// contained would end the process.
#[test]
fn a_cache_that_is_dropped_with_all_that_panics_tells_all() {
    let own = BAD;
    let weigher = move |_: &Bomb| usize::from(is_bad(&own));
    let builder = SessionCache::builder().max_sessions(2_000).dispatch(Dispatch::Inline);
    let (cache, web, _clock) = manual_of(builder.weigher(weigher));
    for number in 0..100 {
        assert!(web.put(&id(number), BAD).is_stored());
    }
    let told = Arc::new(AtomicU64::new(0));
    let (own, count) = (BAD, Arc::clone(&told));
    let on_remove = move |_| _ = count.fetch_add(u64::from(is_bad(&own)), SeqCst);
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    let own = BAD;
    let on_get = move |_: &Proposed<'_>| {
        assert!(is_bad(&own));
        let captured = BAD;
        Answer::later(async move {
            let _captured = captured;
            pending().await
        })
    };
    cache.set_on_get(Some(Arc::new(on_get)));
    for number in 100..103 {
        let mut left = web.lookup(&id(number), Want::Get).within(Duration::MAX);
        assert!(poll(&mut left).is_pending());
    }
    drop(web);
    assert!(panics(|| drop(cache)));
    assert_eq!(told.load(SeqCst), 100);
}

#[test]
fn sessions_that_are_revoked_go_all() {
    let (cache, ..) = mined(2_000);
    assert!(panics(|| cache.retain(|_| false)));
    assert_eq!((cache.len(), cache.stats().removals.removed), (0, 2_000));
}

/// A removal looks at stale hints, and may meet what is expired; the sessions of the batch are in hand then.
#[test]
fn sessions_that_are_revoked_go_all_beside_expired_ones() {
    let (cache, web, clock) = manual(4_000, HOUR);
    for number in 0..1_000 {
        assert!(web.put_with(&id(number), BAD, 2 * MINUTE).is_stored());
        assert!(web.put(&id(1_000 + number), BAD).is_stored());
    }
    clock.advance(3 * MINUTE);
    assert!(panics(|| cache.retain(|_| false)));
    assert_eq!(cache.stats().removals.removed, 1_000);
    while panics(|| cache.flush_expired()) {}
    assert!(cache.is_empty());
}

/// A predicate that panics ends the call, and what it did not want before is gone.
#[test]
fn a_predicate_that_panics_ends_its_call_alone() {
    let (cache, ..) = mined(2_000);
    let mut shown = 0;
    let revoked = panics(|| {
        cache.retain(|_| {
            shown += 1;
            if shown > 100 {
                panic_any(PLANNED)
            }
            false
        })
    });
    assert!(revoked);
    assert_eq!((shown, cache.len(), cache.stats().removals.removed), (101, 1_900, 100));
    while panics(|| cache.flush()) {}
}

/// An iterator that is dropped early may have the last handles of what has left meanwhile.
#[test]
fn an_iterator_that_is_dropped_drops_all() {
    let (cache, ..) = mined(2_000);
    let mut sessions = cache.iter();
    let first = sessions.next();
    assert!(panics(|| cache.flush()));
    let held = cache.stats().held_sessions;
    assert!(held > 10, "{held} in the batch");
    assert!(panics(|| drop(sessions)));
    assert_eq!(cache.stats().held_sessions, 1, "the first one");
    panics(|| drop(first));
    assert_eq!(cache.stats().held_sessions, 0);
}

#[test]
fn what_is_evicted_together_goes_together() {
    let (cache, web, _) = manual(5_000, HOUR);
    for number in 0..4_000 {
        assert!(web.put(&id(number), BAD).is_stored());
    }
    let caught = (4_000..6_000).filter(|&number| panics(|| web.put(&id(number), GOOD))).count();
    assert!(caught > 10, "{caught} puts have met bombs");
    let stats = cache.stats();
    assert!(stats.sessions <= 5_000 && stats.removals.evicted > caught as u64, "in batches");
    while panics(|| cache.flush()) {}
}

/// A call does a little of what is due, or drops stale hints. If another payload panics there, what the call
/// was for must not be lost: it is done afterwards, and another attempt finds it.
#[test]
fn a_take_that_meets_a_bomb_loses_no_session() {
    let (cache, web, clock) = manual::<Bomb>(20_000, HOUR);
    // As many hints as make each take look at some, expired bombs among them.
    for number in 0..400 {
        assert!(web.put_with(&id(number), BAD, 2 * MINUTE).is_stored());
        assert!(web.put_with(&id(1_000 + number), GOOD, HOUR).is_stored());
    }
    for number in 400..1_000 {
        assert!(web.put(&id(10_000 + number), GOOD).is_stored());
        assert!(web.take(&id(10_000 + number)).is_some());
    }
    clock.advance(3 * MINUTE);
    let (mut taken, mut caught) = (0, 0);
    for number in 0..400 {
        let mut take = || taken += u32::from(web.take(&id(1_000 + number)).is_some());
        // A call that has met a bomb is made again.
        while panics(&mut take) {
            caught += 1;
        }
    }
    assert!(caught > 0, "no take met a bomb");
    assert_eq!(taken, 400, "a session was lost with another one's panic");
    while panics(|| cache.flush_expired()) {}
}

/// What an external cache has given for a take is nowhere else any more. Here a bomb was put inside meanwhile, which
/// leaves with the take.
#[test]
fn an_answer_that_meets_a_bomb_is_not_lost() {
    let (cache, web, _clock) = manual::<Bomb>(2_000, HOUR);
    let inside = web.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        assert!(inside.put(proposed.id(), BAD).is_stored());
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        Answer::Give(Found::new(id, scope, GOOD, MINUTE))
    })));
    let mut taken = None;
    assert!(!panics(|| taken = web.take(&id(1))));
    assert!(taken.is_some_and(|session| !session.payload().0));
    assert_eq!((cache.len(), cache.stats().removals.taken), (0, 1));
    // It has the cache, which has it.
    cache.set_on_get(None);
}

/// The bomb that it has found goes with the panic of the one that it meets, for it was removed meanwhile: a second panic
/// would end the process.
#[test]
fn of_many_one_that_panics_drops_the_others() {
    let (cache, web, clock) = manual::<Bomb>(2_000, HOUR);
    assert!(web.put(&id(1), BAD).is_stored());
    assert!(web.put_with(&id(3), BAD, SECOND).is_stored());
    clock.advance(MINUTE);
    let inside = web.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        assert_eq!(*proposed.id(), id(2));
        assert!(inside.remove(&id(1)));
        Answer::Nothing
    })));
    assert!(panics(|| web.get_many(&[id(1), id(2), id(3)])), "it drops what is expired");
    let stats = cache.stats();
    assert_eq!((stats.sessions, stats.held_sessions, stats.callbacks_panicked), (0, 0, 0));
    // It has the cache, which has it.
    cache.set_on_get(None);
}

/// An expired one, in what rides on the storing of the answer. And one that the answer takes the place of.
#[test]
fn an_answer_to_a_get_is_not_lost_with_what_is_expired() {
    for (expired, mode) in [(2, CacheMode::OFF), (1, CacheMode::NO_AUTO_CLEAR)] {
        let (cache, web, clock) = manual::<Bomb>(2_000, HOUR);
        cache.set_mode(CacheMode::SERVER | mode);
        cache.set_on_get(Some(Arc::new({
            let (web, clock) = (web.clone(), clock.clone());
            move |proposed| {
                assert!(web.put_with(&id(expired), BAD, SECOND).is_stored());
                clock.advance(2 * MINUTE);
                Answer::Give(later::found(proposed, GOOD))
            }
        })));
        let mut found = None;
        assert!(!panics(|| found = web.get(&id(1))));
        assert!(found.is_some_and(|session| !session.payload().0));
        assert_eq!((cache.len(), cache.stats().removals.expired), (1, 1));
        // It has the cache, which has it.
        cache.set_on_get(None);
    }
}

/// Lets a take ask for a session that is given later, and leaves it: what is given is stored then.
fn leave_take(cache: &SessionCache<Bomb>, web: &Sessions<Bomb>) {
    let gate = Arc::<Gate>::default();
    let database = Arc::clone(&gate);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        database.later(Answer::Give(later::found(proposed, GOOD)))
    })));
    let mut lookup = web.lookup(&id(1), Want::Take).within(Duration::MAX);
    assert!(poll(&mut lookup).is_pending());
    drop(lookup);
    gate.open();
    cache.poll_callbacks();
    assert_eq!((gate.asked(), gate.waiting()), (1, 0));
    cache.set_on_get(None);
}

/// It is stored in the place of bombs.
#[test]
fn an_answer_that_a_take_has_left_is_not_lost_with_what_it_evicts() {
    let (cache, web, _clock) = manual::<Bomb>(2, HOUR);
    for number in [2, 3] {
        assert!(web.put(&id(number), BAD).is_stored());
    }
    panics(|| leave_take(&cache, &web));
    assert_eq!((cache.len(), cache.stats().removals.evicted), (2, 1));
    assert!(web.take(&id(1)).is_some_and(|session| !session.payload().0));
    while panics(|| cache.flush()) {}
}

/// What the get callback gives is weighed in the lookup.
#[test]
fn a_weigher_that_panics_loses_no_answer() {
    let builder = SessionCache::builder().max_sessions(2).weigher(|_: &Bomb| panic_any(PLANNED));
    let (cache, web, _clock) = manual_of(builder);
    cache.set_on_get(Some(Arc::new(|proposed| Answer::Give(later::found(proposed, GOOD)))));
    type Find = fn(&Sessions<Bomb>) -> bool;
    let ways: [Find; 4] = [
        |web| web.take(&id(1)).is_some(),
        |web| web.get(&id(1)).is_some(),
        |web| web.get_many(&[id(2), id(1)]).iter().all(Option::is_some),
        |web| matches!(poll(&mut web.lookup(&id(1), Want::Take)), Poll::Ready(Some(_))),
    ];
    for find in ways {
        let mut is_found = false;
        assert!(!panics(|| is_found = find(&web)));
        assert!(is_found && cache.is_empty(), "it is handed out, and not stored");
    }
    let stats = cache.stats();
    assert_eq!((stats.get_answered, stats.callbacks_panicked), (5, 0), "a weigher is no callback");
}

/// It is unset while a take that finds nothing is about to ask, and a session comes: the take, which has it then, has
/// the callback's last reference, too.
#[test]
fn a_callback_that_panics_as_it_goes_loses_no_session() {
    let (cache, web, _clock) = manual::<Bomb>(2, HOUR);
    let (gate, comes) = (Arc::<Gate>::default(), Hook::default());
    let (database, in_poll, captured) = (Arc::clone(&gate), comes.clone(), BAD);
    cache.set_on_get(Some(Arc::new(move |_| {
        assert!(is_bad(&captured));
        database.later_runs(&in_poll)
    })));
    let mut left = web.lookup(&id(2), Want::Get).within(Duration::MAX);
    assert!(poll(&mut left).is_pending());
    drop(left);
    let (inside, unset) = (web.clone(), cache.clone());
    comes.set(move || {
        assert!(inside.put(&id(1), GOOD).is_stored());
        unset.set_on_get(None);
    });
    gate.open();
    let mut taken = None;
    // It polls what was left first.
    assert!(!panics(|| taken = web.take(&id(1))));
    assert!(comes.has_run() && taken.is_some());
    assert_eq!((cache.len(), cache.stats().callbacks_panicked), (0, 1));
}

#[test]
fn a_put_that_meets_a_bomb_replaces_nothing() {
    let (cache, web, clock) = manual::<Bomb>(20_000, HOUR);
    assert!(web.put(&id(1), GOOD).is_stored());
    for number in 100..200 {
        assert!(web.put_with(&id(number), BAD, SECOND).is_stored());
    }
    clock.advance(MINUTE);
    assert!(panics(|| web.put(&id(1), GOOD)), "it meets what is due");
    assert_eq!(cache.stats().replaced, 0, "the session that is there would be lost");
    while panics(|| cache.flush_expired()) {}
    assert!(matches!(web.put(&id(1), GOOD), Put::Replaced(_)));
}

#[test]
fn a_lookup_that_finds_an_expired_bomb_may_be_made_again() {
    type Find = fn(&Sessions<Bomb>) -> bool;
    let ways: [Find; 2] = [|web| web.get(&id(1)).is_some(), |web| web.take(&id(1)).is_some()];
    for find in ways {
        let (cache, web, clock) = manual(10, MINUTE);
        assert!(web.put(&id(1), BAD).is_stored());
        clock.advance(MINUTE);
        assert!(panics(|| find(&web)));
        assert!(!find(&web));
        assert_eq!((cache.len(), cache.stats().removals.expired), (0, 1));
    }
}
