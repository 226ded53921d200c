//! What callbacks and the drops of payloads do to caches, in the middle of calls of these and of others.

#[path = "support/later.rs"]
mod later;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use resumption::{
    Answer, Clock, Dispatch, Found, Lookup, Put, Refusal, Scope, SessionCache, Sessions, Verdict,
    Want,
};

use later::{Gate, Hook, found, poll};
use support::{HOUR, MINUTE, PATIENCE, id, wait_until};

/// Does something when it is dropped.
struct Acts(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Acts {
    const NOT: Self = Self(None);

    fn with(act: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(act)))
    }
}

impl Drop for Acts {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

fn inline(max_sessions: usize) -> (SessionCache<Acts>, Sessions<Acts>) {
    dispatched(max_sessions, Dispatch::Inline)
}

fn dispatched(max_sessions: usize, dispatch: Dispatch) -> (SessionCache<Acts>, Sessions<Acts>) {
    let builder = SessionCache::builder().max_sessions(max_sessions).lookup_timeout(Duration::MAX);
    let cache = builder.dispatch(dispatch).without_ticker().build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    (cache, web)
}

/// Counts the sessions that are told as gone.
fn count_removals(cache: &SessionCache<Acts>) -> Arc<AtomicU64> {
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    cache.set_on_remove(Some(Arc::new(move |_| _ = count.fetch_add(1, SeqCst)))).unwrap();
    told
}

/// Runs what must not wait for itself.
fn ends<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(run()));
    result.recv_timeout(PATIENCE).expect("it does not end")
}

#[test]
fn what_a_callback_of_one_cache_closes_in_another_is_told_at_its_end() {
    let (cache, web) = inline(20_000);
    let (other, others) = inline(20_000);
    for number in 0..1_000 {
        assert!(others.put(&id(number), Acts::NOT).is_stored());
    }
    let told = count_removals(&other);
    let close = move |_| {
        other.close();
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(close))).unwrap();
    assert!(web.put(&id(1), Acts::NOT).is_stored());
    assert_eq!(told.load(SeqCst), 1_000);
}

/// Whichever shard's callback it is: those that were served before are served again.
#[test]
fn what_a_callback_closes_is_told_in_all_shards() {
    for last in [1_000, 1_001, 1_002, 1_003] {
        let (cache, web) = inline(20_000);
        for number in 0..last {
            assert!(web.put(&id(number), Acts::NOT).is_stored());
        }
        let told = count_removals(&cache);
        let closing = cache.clone();
        let close = move |_| {
            closing.close();
            Verdict::Keep
        };
        cache.set_on_new(Some(Arc::new(close))).unwrap();
        assert!(web.put(&id(last), Acts::NOT).is_stored());
        assert_eq!(told.load(SeqCst), last + 1);
        cache.set_on_new(None).unwrap();
    }
}

/// Lets the remove callback of the other cache close this one; counts its calls.
fn close_when_removed(other: &SessionCache<Acts>, cache: &SessionCache<Acts>) -> Arc<AtomicU64> {
    let told = Arc::new(AtomicU64::new(0));
    let (count, closing) = (Arc::clone(&told), cache.clone());
    let close = move |_| {
        count.fetch_add(1, SeqCst);
        closing.close();
    };
    other.set_on_remove(Some(Arc::new(close))).unwrap();
    told
}

/// It closes another cache in the middle of a put of this one, and the callback of that one closes this one,
/// which waits for its puts: also if this one has no callbacks of its own.
#[test]
fn callbacks_are_held_off_in_what_a_payload_closes() {
    for has_callback in [true, false] {
        let told = ends(move || {
            let (cache, web) = inline(1);
            let (other, others) = inline(1);
            assert!(others.put(&id(1), Acts::NOT).is_stored());
            let told = close_when_removed(&other, &cache);
            if has_callback {
                cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).unwrap();
            }
            let in_drop = other.clone();
            assert!(web.put(&id(1), Acts::with(move || in_drop.close())).is_stored());
            assert!(web.put(&id(2), Acts::NOT).is_stored(), "it evicts the first one");
            assert!(other.is_closed() && !cache.is_closed());
            let before = told.load(SeqCst);
            other.poll_callbacks();
            assert!(cache.is_closed());
            (before, told.load(SeqCst))
        });
        assert_eq!(told, (0, 1), "calls in the middle of the put, and after it");
    }
}

/// The callback is another thread's here, which waits for the put: a close in the put that waited for the callback
/// would never end.
#[test]
fn a_close_in_the_middle_of_a_put_waits_for_no_worker() {
    let told = ends(|| {
        let (cache, web) = inline(1);
        let (other, others) = dispatched(1, Dispatch::Workers(1));
        assert!(others.put(&id(1), Acts::NOT).is_stored());
        let told = close_when_removed(&other, &cache);
        assert!(web.put(&id(1), Acts::with(move || other.close())).is_stored());
        assert!(web.put(&id(2), Acts::NOT).is_stored(), "it evicts the first one");
        wait_until("the worker closes", || cache.is_closed());
        told.load(SeqCst)
    });
    assert_eq!(told, 1);
}

/// A put that ends with the panic of what it evicts drops its own payload on the way out, inside the gate still.
#[test]
fn callbacks_are_held_off_in_what_a_put_drops_as_it_panics() {
    let told = ends(|| {
        let (cache, web) = inline(1);
        let (other, others) = inline(1);
        assert!(others.put(&id(1), Acts::NOT).is_stored());
        let told = close_when_removed(&other, &cache);
        assert!(web.put(&id(1), Acts::with(|| panic!("as planned"))).is_stored());
        let in_drop = other.clone();
        let own = Acts::with(move || in_drop.close());
        let put = catch_unwind(AssertUnwindSafe(|| web.put(&id(2), own).is_stored()));
        assert!(put.is_err() && other.is_closed() && !cache.is_closed());
        told.load(SeqCst)
    });
    assert_eq!(told, 0);
}

#[test]
fn what_a_lowered_limit_has_to_tell_is_told_though_a_payload_panics() {
    let told = ends(|| {
        let (cache, web) = inline(4);
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        let on_new = move |_| {
            count.fetch_add(1, SeqCst);
            Verdict::Keep
        };
        let own = web.clone();
        let act = move || {
            assert!(own.put(&id(7), Acts::NOT).is_stored(), "in the middle of the change");
            panic!("as planned");
        };
        assert!(web.put_with(&id(0), Acts::with(act), MINUTE).is_stored());
        assert!((1..4).all(|number| web.put(&id(number), Acts::NOT).is_stored()));
        cache.set_on_new(Some(Arc::new(on_new))).unwrap();
        let lower = || cache.set_max_sessions(3);
        assert!(catch_unwind(AssertUnwindSafe(lower)).is_err(), "the first to expire is evicted");
        assert_eq!(cache.stats().callbacks_waiting, 0);
        told.load(SeqCst)
    });
    assert_eq!(told, 1);
}

/// Where no put is in the middle of anything, callbacks wait for nothing: they are made at once.
#[test]
fn a_callback_in_a_sweep_may_close_its_cache() {
    type Sweep = fn(&SessionCache<Acts>, &Sessions<Acts>);
    let sweeps: [Sweep; 4] = [
        |cache, _| assert_eq!(cache.flush(), 1),
        |_, web| drop(web.take(&id(1))),
        |_, web| assert!(web.remove(&id(1))),
        |cache, _| assert_eq!(cache.retain(|_| false), 1),
    ];
    for sweep in sweeps {
        for dispatch in [Dispatch::Inline, Dispatch::Workers(1)] {
            let told = ends(move || {
                let (cache, web) = inline(1);
                let (other, others) = dispatched(1, dispatch);
                assert!(others.put(&id(1), Acts::NOT).is_stored());
                let told = close_when_removed(&other, &cache);
                assert!(web.put(&id(1), Acts::with(move || other.close())).is_stored());
                sweep(&cache, &web);
                assert!(cache.is_closed());
                told.load(SeqCst)
            });
            assert_eq!(told, 1, "{dispatch:?}");
        }
    }
}

/// It is dropped while its own lookup concludes what it was given.
#[test]
fn a_payload_that_was_given_in_vain_may_look_its_own_id_up() {
    let found = ends(|| {
        let (cache, web) = inline(1);
        let looks = Arc::new(OnceLock::new());
        let (seen, again) = (Arc::clone(&looks), web.clone());
        cache.set_on_get(Some(Arc::new(move |proposed| {
            if seen.get().is_some() {
                return Answer::Nothing;
            }
            let (seen, again, id) = (Arc::clone(&seen), again.clone(), *proposed.id());
            let payload = Acts::with(move || {
                let found = again.get(&id).is_some();
                assert!(seen.set(found).is_ok(), "it is dropped once");
            });
            // Not of the scope that is asked for: it is not taken.
            let scope = Scope::new("another");
            Answer::Give(Found::new(id, scope, payload, MINUTE))
        })));
        let found = web.get(&id(1)).is_some();
        // It has the cache, which has it.
        cache.set_on_get(None);
        (found, looks.get().copied())
    });
    assert_eq!(found, (false, Some(false)));
}

/// It comes, and expires, while its id is about to be asked for; the lookup that asks finds it, and drops it.
#[test]
fn a_payload_that_a_lookup_finds_expired_may_look_its_own_id_up() {
    let found = ends(|| {
        let clock = Clock::manual();
        let builder = SessionCache::builder().clock(clock.clone()).lifetime(MINUTE);
        let cache: SessionCache<Acts> =
            builder.lookup_timeout(Duration::MAX).without_ticker().build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let (gate, comes) = (Arc::<Gate>::default(), Hook::default());
        let (database, in_poll) = (Arc::clone(&gate), comes.clone());
        cache.set_on_get(Some(Arc::new(move |proposed| {
            if *proposed.id() == id(1) {
                return Answer::Nothing;
            }
            database.later_runs(&in_poll)
        })));
        let mut left = web.lookup(&id(2), Want::Get).within(Duration::MAX);
        assert!(poll(&mut left).is_pending());
        drop(left);
        let looks = Arc::new(OnceLock::new());
        let (seen, inside) = (Arc::clone(&looks), web.clone());
        comes.set(move || {
            let again = inside.clone();
            let look = move || _ = seen.set(again.get(&id(1)).is_some());
            assert!(inside.put(&id(1), Acts::with(look)).is_stored());
            clock.advance(HOUR);
        });
        gate.open();
        // It polls what was left first.
        let found = web.get(&id(1)).is_some();
        assert!(comes.has_run());
        (found, looks.get().copied())
    });
    assert_eq!(found, (false, Some(false)));
}

/// The limit is lowered while room is made for a payload that is too large then: nobody has to leave for it any more.
#[test]
fn a_put_that_has_become_too_large_evicts_no_more() {
    const KIB: usize = 1 << 10;
    let cache = SessionCache::builder().weigher(|of: &(usize, Acts)| of.0).max_bytes(112 * KIB);
    let cache = cache.without_ticker().build().unwrap();
    let (web, lowers) = (cache.scope(&Scope::new("web")), Hook::default());
    let act = |hook: &Hook| {
        let hook = hook.clone();
        Acts::with(move || hook.run())
    };
    for number in 0..100 {
        assert!(web.put(&id(number), (KIB, act(&lowers))).is_stored());
    }
    let within = cache.clone();
    lowers.set(move || within.set_max_bytes(64 * KIB));
    let put = web.put(&id(100), (100 * KIB, Acts::NOT));
    assert!(lowers.has_run(), "somebody was evicted");
    assert!(matches!(put, Put::Refused(Refusal::TooLarge, _)), "{put:?}");
    assert!(cache.bytes() > 32 * KIB, "{} sessions are left", cache.len());
}

/// Of a put that needs room: what it wants is looked up anew when somebody was evicted.
#[test]
fn a_put_takes_the_place_of_a_session_that_came_while_it_made_room() {
    const MIB: usize = 1 << 20;
    let put = |web: &Sessions<(usize, Acts)>, number, weight, act| {
        web.put(&id(number), (weight * MIB, act)).is_stored()
    };
    let mut met = 0;
    // In which shard a session is differs from cache to cache, and so does who is evicted first.
    for _ in 0..64 {
        let cache = SessionCache::builder().weigher(|of: &(usize, Acts)| of.0).max_bytes(101 * MIB);
        let cache = cache.without_ticker().build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let (within, stored) = (web.clone(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&stored);
        let act = Acts::with(move || {
            count.fetch_add(u64::from(put(&within, 3, 60, Acts::NOT)), SeqCst);
        });
        assert!(put(&web, 1, 40, act));
        assert!(put(&web, 2, 60, Acts::NOT));
        // There is room for it only in the place of what the evicted session's drop puts.
        let last = web.put(&id(3), (60 * MIB, Acts::NOT));
        assert!(last.is_stored(), "{:?}", last);
        met += stored.load(SeqCst);
        // Payloads have the cache, which has them.
        cache.close();
    }
    assert!(met > 0, "no drop has put anything");
}

/// A future that a lookup has left, and that closes the cache of the put.
#[test]
fn what_others_have_left_is_not_polled_in_the_middle_of_a_put() {
    let closed = ends(|| {
        let (cache, web) = inline(1);
        let (other, others) = inline(1);
        let (gate, closes) = (Arc::<Gate>::default(), Hook::default());
        let (database, in_poll) = (Arc::clone(&gate), closes.clone());
        other.set_on_get(Some(Arc::new(move |proposed| match *proposed.id() == id(1) {
            true => database.later_runs(&in_poll),
            false => Answer::Nothing,
        })));
        let mut left = others.lookup(&id(1), Want::Get).within(Duration::MAX);
        assert!(poll(&mut left).is_pending());
        drop(left);
        let closing = cache.clone();
        closes.set(move || closing.close());
        gate.open();
        let looks = others.clone();
        assert!(web.put(&id(1), Acts::with(move || drop(looks.get(&id(2))))).is_stored());
        assert!(web.put(&id(2), Acts::NOT).is_stored(), "it evicts the first one");
        let before = cache.is_closed();
        assert!(others.get(&id(2)).is_none());
        (before, cache.is_closed())
    });
    assert_eq!(closed, (false, true), "in the middle of the put, and after it");
}

/// A take is given up in the very moment in which its answer comes; and while that is weighed, another one takes what
/// was put inside. The answer is nobody's then, and dropped.
#[test]
fn a_payload_that_another_take_has_overtaken_may_take_its_own_id() {
    let taken = ends(|| {
        let (gate, weighs, told) = (Arc::<Gate>::default(), Hook::default(), Hook::default());
        let (in_weigher, in_call) = (weighs.clone(), told.clone());
        let builder = SessionCache::builder().weigher(move |_: &Acts| {
            in_weigher.run();
            1
        });
        let builder = builder.dispatch(Dispatch::Inline).lookup_timeout(Duration::MAX);
        let cache = builder.without_ticker().build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let takes = Arc::new(OnceLock::new());
        let (seen, again, database) = (Arc::clone(&takes), web.clone(), Arc::clone(&gate));
        cache.set_on_get(Some(Arc::new(move |proposed| {
            let (seen, again, id) = (Arc::clone(&seen), again.clone(), *proposed.id());
            let payload = Acts::with(move || _ = seen.set(again.take(&id).is_some()));
            database.later(Answer::Give(found(proposed, payload)))
        })));
        let call = move |_| {
            in_call.run();
            Verdict::Keep
        };
        cache.set_on_new(Some(Arc::new(call))).unwrap();
        // The first one asks, and leaves its future to the cache.
        drop(waiting(&web, Duration::MAX));
        let mut second = waiting(&web, Duration::from_secs(1));
        thread::sleep(Duration::from_millis(1_100));
        // A call that waits until the end of the next call of this cache: there the cache finds the answer, when the
        // second one has looked for the last time.
        let (other, others) = inline(1);
        let puts = web.clone();
        let put = move || assert!(puts.put(&id(9), Acts::NOT).is_stored());
        assert!(others.put(&id(1), Acts::with(put)).is_stored());
        let (opens, polls) = (Arc::clone(&gate), cache.clone());
        told.set(move || {
            opens.open();
            polls.poll_callbacks();
        });
        assert!(others.put(&id(2), Acts::NOT).is_stored() && !told.has_run());
        drop(other);
        let within = web.clone();
        weighs.set(move || {
            assert!(within.put(&id(1), Acts::NOT).is_stored());
            assert!(within.take(&id(1)).is_some());
        });
        let given = poll(&mut second).map(|taken| taken.is_some());
        assert!(told.has_run() && weighs.has_run());
        cache.set_on_get(None);
        (given, takes.get().copied())
    });
    assert_eq!(taken, (Poll::Ready(false), Some(false)));
}

/// A take of the first id that has asked, and waits.
fn waiting(web: &Sessions<Acts>, timeout: Duration) -> Lookup<Acts> {
    let mut lookup = web.lookup(&id(1), Want::Take).within(timeout);
    assert!(poll(&mut lookup).is_pending());
    lookup
}
