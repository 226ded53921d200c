//! The edges of lookups that wait: who is refused a seat, wakers and payloads that panic, futures that
//! were left to the cache, and what happens in the middle of something else.

#[path = "support/later.rs"]
mod later;
mod support;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{
    Answer, CacheMode, Clock, Dispatch, Lookup, Proposed, Scope, SessionCache, Sessions, Want,
};

use later::{Gate, Hook, found, poll, poll_with};
use support::{HOUR, PATIENCE, id, number, wait_until};

/// Longer than any machine is busy.
const LONG: Duration = Duration::from_secs(50);

/// A cache without threads, whose callers poll what lookups have left, for as long as `timeout`.
fn cache<S: Send + Sync + 'static>(timeout: Duration) -> (SessionCache<S>, Sessions<S>) {
    let builder = SessionCache::builder().max_sessions(1_000).without_ticker();
    let cache = builder.dispatch(Dispatch::Manual).lookup_timeout(timeout).build().unwrap();
    let sessions = cache.scope(&Scope::new("web"));
    (cache, sessions)
}

/// A cache whose ticker sleeps until it is rung for.
fn cache_with_ticker<S: Send + Sync + 'static>() -> (SessionCache<S>, Sessions<S>) {
    let builder = SessionCache::builder().max_sessions(1_000);
    let cache = builder.ticker(HOUR).lookup_timeout(LONG).build().unwrap();
    let sessions = cache.scope(&Scope::new("web"));
    // It looks around when it starts. On a machine that is slower than this, less is tested.
    thread::sleep(Duration::from_millis(50));
    (cache, sessions)
}

/// A lookup that has asked, and waits.
fn waiting<S: Send + Sync + 'static>(sessions: &Sessions<S>, at: u64, want: Want) -> Lookup<S> {
    waiting_with(sessions, at, want, Waker::noop().clone())
}

/// [`waiting`]; only the flight keeps the waker.
fn waiting_with<S: Send + Sync + 'static>(
    sessions: &Sessions<S>,
    at: u64,
    want: Want,
    waker: Waker,
) -> Lookup<S> {
    // Without a clock, which would keep the waker too.
    let mut lookup = sessions.lookup(&id(at), want).within(Duration::MAX);
    assert!(poll_with(&mut lookup, &waker).is_pending());
    lookup
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl Woken {
    fn times(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that runs a hook when the last of its clones is dropped.
struct RunsAsItDrops(Hook);

impl Wake for RunsAsItDrops {
    fn wake(self: Arc<Self>) {}
}

impl Drop for RunsAsItDrops {
    fn drop(&mut self) {
        self.0.run();
    }
}

/// A payload whose drop may panic.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0 || thread::panicking(), "a test's panic in a payload's drop");
    }
}

/// Answers later; to the first id with what was not asked for, whose drop panics.
fn bomb_behind(cache: &SessionCache<Bomb>) -> Arc<Gate> {
    let gate = Arc::<Gate>::default();
    let own = Arc::clone(&gate);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let is_first = number(proposed.id()) == 1;
        let mut found = found(proposed, Bomb(is_first));
        if is_first {
            found.id = id(77);
        }
        own.later(Answer::Give(found))
    })));
    gate
}

#[test]
fn a_get_that_its_own_future_makes_leaves_no_seat() {
    let (cache, sessions) = cache(LONG);
    let gate = Arc::<Gate>::default();
    let (inner, own) = (sessions.clone(), Arc::clone(&gate));
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (inner, id, found) = (inner.clone(), *proposed.id(), found(proposed, 1));
        let passed = own.passed();
        Answer::later(async move {
            assert!(inner.lookup(&id, Want::Get).await.is_none(), "it would wait for itself");
            passed.await;
            Answer::Give(found)
        })
    })));
    drop(waiting(&sessions, 1, Want::Get));
    gate.open();
    cache.poll_callbacks();
    cache.set_on_get(None);
    assert_eq!((gate.waiting(), cache.len()), (0, 1), "nobody is aboard but the cache");
    assert_eq!(cache.stats().callbacks_panicked, 0);
}

#[test]
fn a_take_that_a_callback_makes_leaves_no_seat() {
    let (cache, sessions) = cache::<u64>(LONG);
    let gate = Arc::<Gate>::default();
    let (inner, own) = (sessions.clone(), Arc::clone(&gate));
    cache.set_on_get(Some(Arc::new(move |proposed| match number(proposed.id()) {
        1 => own.later(Answer::Give(found(proposed, 1))),
        _ => {
            assert!(inner.take(&id(1)).is_none(), "a callback waits for no other");
            Answer::Nothing
        }
    })));
    drop(waiting(&sessions, 1, Want::Take));
    assert!(sessions.get(&id(2)).is_none());
    gate.open();
    cache.poll_callbacks();
    assert!(sessions.contains(&id(1)), "the answer is nobody's but the cache's");
    assert!(sessions.take(&id(1)).is_some());
    assert!(sessions.take(&id(1)).is_some(), "the id is asked for again");
    cache.set_on_get(None);
    assert_eq!((gate.asked(), cache.stats().callbacks_panicked), (2, 0));
}

#[test]
fn what_was_taken_stays_away_though_the_callback_was_unset() {
    for want in [Want::Get, Want::Take] {
        let (cache, sessions) = cache(LONG);
        let gate = Gate::behind(&cache);
        let mut lookup = waiting(&sessions, 1, want);
        cache.set_on_get(None);
        assert!(sessions.put(&id(1), 1).is_stored());
        assert!(sessions.take(&id(1)).is_some());
        gate.open();
        assert!(matches!(poll(&mut lookup), Poll::Ready(None)), "{want:?}: it stays away");
        assert!(cache.is_empty());
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a test's panic in a waker");
    }
}

/// The clock of all lookups is one thread.
#[test]
fn a_waker_that_panics_stops_no_clock() {
    let (cache, sessions) = cache::<u64>(LONG);
    let _gate = Gate::behind(&cache);
    let panics = Waker::from(Arc::new(Panics));
    // Where a machine is slower than its time, it is over before it waits.
    let start = Instant::now();
    let mut short = loop {
        let mut short = sessions.lookup(&id(1), Want::Get).within(Duration::from_millis(1));
        if poll_with(&mut short, &panics).is_pending() {
            break short;
        }
        assert!(start.elapsed() < PATIENCE, "no lookup waits");
    };
    let mut long = sessions.lookup(&id(2), Want::Get).within(LONG);
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(2));
        assert!(poll(&mut long).is_pending(), "its time is not over");
    }
    assert!(matches!(poll(&mut short), Poll::Ready(None)));
}

#[test]
fn a_waker_that_panics_strands_no_other_lookup() {
    let panics = Waker::from(Arc::new(Panics));
    let (cache, sessions) = cache(LONG);
    let gate = Gate::behind(&cache);
    // Woken by the future …
    let woken = Arc::<Woken>::default();
    let one = waiting_with(&sessions, 1, Want::Get, panics.clone());
    let mut other = waiting_with(&sessions, 1, Want::Get, Waker::from(Arc::clone(&woken)));
    gate.open();
    assert_eq!(woken.times(), 1);
    assert!(matches!(poll(&mut other), Poll::Ready(Some(_))));
    drop(one);
    // … and by the lookup that finishes it.
    gate.shut();
    let mut one = waiting(&sessions, 2, Want::Get);
    let other = waiting_with(&sessions, 2, Want::Get, panics);
    gate.open_unheard();
    assert!(matches!(poll(&mut one), Poll::Ready(Some(_))), "it has what it waited for");
    drop(other);
    assert!(sessions.take(&id(2)).is_some());
    assert!(sessions.get(&id(2)).is_some(), "the id is asked for again");
    assert_eq!(gate.asked(), 3);
}

/// Runs a hook when it is woken.
struct RunsAsItWakes(Hook);

impl Wake for RunsAsItWakes {
    fn wake(self: Arc<Self>) {
        self.0.run();
    }
}

/// The answer is nowhere inside, and its flight is over when they are woken who waited for it.
#[test]
fn who_looks_up_again_as_it_is_woken_asks_again() {
    let (cache, sessions) = cache(LONG);
    cache.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL_STORE);
    let gate = Gate::behind(&cache);
    let hook = Hook::default();
    let (again, found) = (sessions.clone(), Arc::<AtomicU64>::default());
    let count = Arc::clone(&found);
    hook.set(move || _ = count.fetch_add(u64::from(again.get(&id(1)).is_some()), Ordering::SeqCst));
    let mut lands = waiting(&sessions, 1, Want::Get);
    let woken = Waker::from(Arc::new(RunsAsItWakes(hook.clone())));
    let mut waits = waiting_with(&sessions, 1, Want::Get, woken);
    gate.open_unheard();
    assert!(matches!(poll(&mut lands), Poll::Ready(Some(_))));
    assert!(hook.has_run());
    assert_eq!(found.load(Ordering::SeqCst), 1, "the database has it");
    assert!(matches!(poll(&mut waits), Poll::Ready(Some(_))));
    assert_eq!((gate.asked(), cache.stats().held_sessions), (2, 0));
}

#[test]
fn a_waker_that_panics_in_its_drop_loses_no_answer() {
    let panics = || {
        let hook = Hook::default();
        hook.set(|| panic!("a test's panic in a waker's drop"));
        Waker::from(Arc::new(RunsAsItDrops(hook)))
    };
    let (cache, sessions) = cache(LONG);
    let gate = Gate::behind(&cache);
    // It gives way to another one …
    let mut stays = waiting_with(&sessions, 1, Want::Take, panics());
    assert!(poll(&mut stays).is_pending());
    // … or leaves with its lookup.
    drop(waiting_with(&sessions, 2, Want::Take, panics()));
    gate.open();
    assert!(matches!(poll(&mut stays), Poll::Ready(Some(_))));
    cache.poll_callbacks();
    assert!(sessions.contains(&id(2)), "the cache was left the future");
}

#[test]
fn a_payload_that_panics_strands_no_other_future() {
    let (cache, sessions) = cache(LONG);
    let gate = bomb_behind(&cache);
    for at in [1, 2, 3] {
        drop(waiting(&sessions, at, Want::Take));
    }
    gate.open();
    cache.poll_callbacks();
    assert_eq!((gate.waiting(), cache.len()), (0, 2), "the others are stored");
    assert_eq!(cache.stats().callbacks_panicked, 0, "a payload is no callback");
}

#[test]
fn a_payload_that_panics_does_not_end_the_ticker() {
    let (cache, sessions) = cache_with_ticker();
    let gate = bomb_behind(&cache);
    drop(waiting(&sessions, 1, Want::Take));
    gate.open();
    wait_until("it is polled", || gate.waiting() == 0);
    gate.shut();
    drop(waiting(&sessions, 2, Want::Take));
    gate.open();
    wait_until("the ticker stores the next one", || sessions.contains(&id(2)));
}

#[test]
fn what_was_ready_before_its_lookup_left_rings_for_the_ticker() {
    let (cache, sessions) = cache_with_ticker();
    let gate = Gate::behind(&cache);
    let lookup = waiting(&sessions, 1, Want::Take);
    gate.open();
    drop(lookup);
    wait_until("the ticker stores the answer", || sessions.contains(&id(1)));
}

/// The ticker is rung after the lookup left, and finds no future yet.
#[test]
fn a_bell_that_rings_too_early_rings_again() {
    let (cache, sessions) = cache_with_ticker();
    let gate = Gate::behind(&cache);
    let hook = Hook::default();
    hook.set({
        let gate = Arc::clone(&gate);
        move || {
            gate.open();
            // Meanwhile the ticker looks around in vain, and sleeps again.
            thread::sleep(Duration::from_millis(100));
        }
    });
    let waker = Waker::from(Arc::new(RunsAsItDrops(hook.clone())));
    let lookup = waiting_with(&sessions, 1, Want::Take, waker);
    drop(lookup);
    assert!(hook.has_run(), "while the lookup left");
    wait_until("the ticker stores the answer", || sessions.contains(&id(1)));
}

/// A future on the ticker's thread parks that thread, is woken by what was meant for the ticker, and goes
/// on waiting.
#[test]
fn user_code_on_the_ticker_eats_no_bell() {
    let (cache, sessions) = cache_with_ticker();
    let (eats, other) = (Arc::<Gate>::default(), Arc::<Gate>::default());
    let (first, second) = (Arc::clone(&eats), Arc::clone(&other));
    cache.set_on_get(Some(Arc::new(move |proposed| {
        if number(proposed.id()) == 2 {
            return second.later(Answer::Give(found(proposed, 1)));
        }
        let (passed, second) = (first.passed(), Arc::clone(&second));
        Answer::later(async move {
            passed.await;
            second.open();
            thread::park_timeout(PATIENCE);
            pending().await
        })
    })));
    // In this order, so that the second one has had its turn when the first one wakes it.
    drop(waiting(&sessions, 2, Want::Take));
    drop(waiting(&sessions, 1, Want::Take));
    eats.open();
    wait_until("the ticker stores the answer", || sessions.contains(&id(2)));
}

#[test]
fn an_answer_that_is_ready_is_stored_though_its_time_is_over() {
    let (cache, sessions) = cache(Duration::from_millis(1));
    let gate = Gate::behind(&cache);
    drop(waiting(&sessions, 1, Want::Take));
    drop(waiting(&sessions, 2, Want::Take));
    gate.open();
    thread::sleep(Duration::from_millis(10));
    cache.poll_callbacks();
    assert_eq!((gate.waiting(), cache.len()), (0, 2));
}

/// A future is left to the cache, then a lookup comes for it, and then the cache's time for it is over.
#[test]
fn a_future_that_a_lookup_came_for_outlives_its_time() {
    // On a machine that is slower than this, less is tested.
    const TIME: Duration = Duration::from_millis(300);
    let (cache, sessions) = cache(TIME);
    let gate = Gate::behind(&cache);
    drop(waiting(&sessions, 1, Want::Get));
    let mut lookup = waiting(&sessions, 1, Want::Get);
    thread::sleep(2 * TIME);
    cache.poll_callbacks();
    assert_eq!(gate.waiting(), 1, "it is the lookup's");
    gate.open();
    let found = poll_with(&mut lookup, Waker::noop());
    assert!(matches!(found, Poll::Ready(Some(_))), "{found:?}");
}

#[test]
fn an_answer_that_is_ready_is_stored_though_too_many_wait() {
    let builder = SessionCache::builder().max_waiting_callbacks(1).lookup_timeout(LONG);
    let cache = builder.without_ticker().build().unwrap();
    let sessions = cache.scope(&Scope::new("web"));
    let gate = Gate::behind(&cache);
    drop(waiting(&sessions, 1, Want::Take));
    let lookup = waiting(&sessions, 2, Want::Take);
    gate.open();
    drop(lookup);
    assert_eq!((gate.waiting(), cache.len()), (1, 1));
    assert!(sessions.contains(&id(2)), "it was ready");
}

/// A lookup that comes while the cache polls finds nothing to do, and is woken once there is.
#[test]
fn a_wake_up_while_the_cache_polls_reaches_the_lookup_that_came() {
    let (cache, sessions) = cache(LONG);
    let (gate, hook) = (Arc::<Gate>::default(), Hook::default());
    let (own, in_poll) = (Arc::clone(&gate), hook.clone());
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (mut passed, mut found) = (own.passed(), Some(found(proposed, 1)));
        let in_poll = in_poll.clone();
        Answer::later(poll_fn(move |cx: &mut Context<'_>| {
            if poll_with(&mut passed, cx.waker()).is_pending() {
                return Poll::Pending;
            }
            if !in_poll.has_run() {
                in_poll.run();
                return Poll::Pending;
            }
            Poll::Ready(found.take().map_or(Answer::Nothing, Answer::Give))
        }))
    })));
    drop(waiting(&sessions, 1, Want::Take));
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let second = Arc::new(Mutex::new(sessions.lookup(&id(1), Want::Take)));
    hook.set({
        let (gate, woken, second) = (Arc::clone(&gate), Arc::clone(&woken), Arc::clone(&second));
        move || {
            let look = || assert!(poll_with(&mut *second.lock().unwrap(), &waker).is_pending());
            // On a thread of its own: a callback waits for no other.
            let looks = || thread::scope(|scope| scope.spawn(look).join().unwrap());
            looks();
            gate.open();
            assert_eq!(woken.times(), 1, "it is aboard");
            looks();
        }
    });
    gate.open();
    cache.poll_callbacks();
    assert_eq!((woken.times(), cache.stats().callbacks_panicked), (2, 0));
    assert!(matches!(poll(&mut *second.lock().unwrap()), Poll::Ready(Some(_))));
}

#[test]
fn a_taker_that_comes_while_an_answer_is_stored_finds_it() {
    let hook = Hook::default();
    let in_put = hook.clone();
    let builder = SessionCache::builder().max_sessions(1_000).without_ticker();
    let cache: SessionCache<u64> = builder
        .dispatch(Dispatch::Manual)
        .lookup_timeout(LONG)
        .weigher(move |_| {
            in_put.run();
            8
        })
        .build()
        .unwrap();
    let sessions = cache.scope(&Scope::new("web"));
    let gate = Gate::behind(&cache);
    drop(waiting(&sessions, 1, Want::Take));
    let second = Arc::new(Mutex::new(sessions.lookup(&id(1), Want::Take)));
    hook.set({
        let second = Arc::clone(&second);
        move || {
            let look = || assert!(poll(&mut *second.lock().unwrap()).is_pending());
            // On a thread of its own: what the weigher looks up waits for no other.
            thread::scope(|scope| scope.spawn(look).join().unwrap());
        }
    });
    gate.open();
    cache.poll_callbacks();
    assert!(hook.has_run());
    assert!(matches!(poll(&mut *second.lock().unwrap()), Poll::Ready(Some(_))));
    assert_eq!((gate.asked(), cache.len()), (1, 0));
}

#[test]
fn an_endless_chain_of_answers_keeps_its_deadline() {
    /// Ends only if the test has failed.
    fn chain(start: Instant) -> Answer<u64> {
        if start.elapsed() > PATIENCE / 2 {
            return Answer::Nothing;
        }
        Answer::later(async move { chain(start) })
    }
    let (cache, sessions) = cache(Duration::from_millis(20));
    let start = Instant::now();
    cache.set_on_get(Some(Arc::new(move |_: &Proposed<'_>| chain(start))));
    assert!(sessions.get(&id(1)).is_none());
    assert!(poll(&mut sessions.lookup(&id(2), Want::Take).within(LONG)).is_pending());
    cache.poll_callbacks();
    assert_eq!(cache.stats().get_timed_out, 1);
}

#[test]
fn many_lookups_of_one_id_come_and_go() {
    const MANY: usize = 20_000;
    let (cache, sessions) = cache(LONG);
    let gate = Gate::behind(&cache);
    let mut stay: Vec<Lookup<u64>> = (0..MANY).map(|_| waiting(&sessions, 1, Want::Get)).collect();
    let go = stay.split_off(MANY / 2);
    drop(go);
    gate.open();
    for lookup in &mut stay {
        assert!(matches!(poll(lookup), Poll::Ready(Some(_))));
    }
    assert_eq!((gate.asked(), cache.stats().held_sessions), (1, 0));
}

/// What was given to one lookup is not shown to another once its time is over.
#[test]
fn who_waits_is_not_shown_what_has_expired_meanwhile() {
    let clock = Clock::manual();
    let builder = SessionCache::builder().clock(clock.clone()).without_ticker();
    let cache = builder.lookup_timeout(LONG).build().unwrap();
    let sessions = cache.scope(&Scope::new("web"));
    let gate = Gate::behind(&cache);
    let [mut first, mut second] = [(); 2].map(|()| waiting(&sessions, 1, Want::Get));
    gate.open();
    assert!(matches!(poll(&mut first), Poll::Ready(Some(_))), "given, for a minute");
    clock.advance(HOUR);
    assert!(matches!(poll(&mut second), Poll::Ready(None)));
    assert_eq!(gate.asked(), 1);
}

/// A payload whose drop is counted, and may panic.
struct Loud {
    panics: bool,
    drops: Arc<AtomicU64>,
}

impl Drop for Loud {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        if self.panics && !thread::panicking() {
            panic!("as planned");
        }
    }
}

/// What the external cache gives finds its place taken, and panics as it is dropped: the session that is there
/// must not be lost with it.
#[test]
fn an_answer_that_panics_in_its_drop_costs_no_other_session() {
    let (cache, web) = cache::<Loud>(LONG);
    let drops = Arc::new(AtomicU64::new(0));
    let (inside, count) = (web.clone(), Arc::clone(&drops));
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let loud = |panics| Loud { panics, drops: Arc::clone(&count) };
        assert!(
            inside.put(proposed.id(), loud(false)).is_stored(),
            "put in the middle of the lookup"
        );
        Answer::Give(found(proposed, loud(true)))
    })));
    let got = catch_unwind(AssertUnwindSafe(|| web.get(&id(1))));
    assert!(got.is_err(), "the drop of what was given panics in the lookup");
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert!(web.take(&id(1)).is_some(), "the other one is there");
    assert_eq!(drops.load(Ordering::SeqCst), 2, "and nobody else has a handle of it");
    cache.set_on_get(None);
}

/// What a future does may take its thread's wake-up away, as any code that parks: a channel, or this.
#[test]
fn a_future_that_parks_its_thread_takes_no_wake_up_away() {
    // Without the wake-up, a lookup stands until this is over.
    let (cache, web) = cache::<u64>(PATIENCE);
    cache.set_on_get(Some(Arc::new(|proposed| {
        let answer = Mutex::new(Some(Answer::Give(found(proposed, 7))));
        let is_first = AtomicU64::new(1);
        Answer::later(poll_fn(move |cx| {
            if is_first.swap(0, Ordering::SeqCst) == 0 {
                return Poll::Ready(answer.lock().unwrap().take().expect("polled to its end once"));
            }
            let waker = cx.waker().clone();
            thread::spawn(move || waker.wake()).join().unwrap();
            // Returns at once, for that has unparked this thread.
            thread::park_timeout(PATIENCE);
            Poll::Pending
        }))
    })));
    let got = web.get(&id(1));
    assert_eq!(got.map(|session| *session.payload()), Some(7));
    cache.set_on_get(None);
}

/// The ticker drops the cache, and one of its payloads parks the ticker's thread, which is woken by what was to
/// end it.
#[test]
fn user_code_on_the_ticker_does_not_outlive_the_cache() {
    struct Parks;
    impl Drop for Parks {
        fn drop(&mut self) {
            thread::park_timeout(PATIENCE);
        }
    }
    thread_local!(static UNTIL_IT_ENDS: Cell<Option<mpsc::Sender<()>>> = const { Cell::new(None) });
    let (cache, sessions) = cache_with_ticker();
    assert!(sessions.put(&id(2), Parks).is_stored());
    let (gate, hook) = (Arc::<Gate>::default(), Hook::default());
    let (own, in_poll) = (Arc::clone(&gate), hook.clone());
    cache.set_on_get(Some(Arc::new(move |_| {
        let (passed, in_poll) = (own.passed(), in_poll.clone());
        // In two turns of the ticker: what has woken it is heard after the first one.
        let next = async move {
            in_poll.run();
            pending().await
        };
        Answer::later(async move {
            passed.await;
            Answer::later(next)
        })
    })));
    let (inside, is_inside) = mpsc::channel();
    let (dropped, is_dropped) = mpsc::channel();
    let (lives, ends) = mpsc::channel();
    hook.set(move || {
        UNTIL_IT_ENDS.set(Some(lives));
        inside.send(()).unwrap();
        is_dropped.recv_timeout(PATIENCE).unwrap();
    });
    drop(waiting(&sessions, 1, Want::Get));
    gate.open();
    is_inside.recv_timeout(PATIENCE).expect("the ticker polls");
    drop((cache, sessions));
    dropped.send(()).unwrap();
    let ended = Err(mpsc::RecvTimeoutError::Disconnected);
    assert_eq!(ends.recv_timeout(PATIENCE), ended, "the ticker's thread ends");
}

/// Where there is no ticker, a lookup that asks polls some of what others have left.
#[test]
fn futures_that_look_up_are_not_polled_inside_of_each_other() {
    thread_local!(static DEPTH: Cell<u64> = const { Cell::new(0) });
    let (cache, sessions) = cache::<u64>(LONG);
    let (gate, deepest) = (Arc::<Gate>::default(), Arc::<AtomicU64>::default());
    let (own, inner, most) = (Arc::clone(&gate), sessions.clone(), Arc::clone(&deepest));
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let at = number(proposed.id());
        if at >= 1_000 {
            return Answer::Nothing;
        }
        let (passed, inner, most) = (own.passed(), inner.clone(), Arc::clone(&most));
        Answer::later(async move {
            passed.await;
            let depth = DEPTH.get() + 1;
            DEPTH.set(depth);
            most.fetch_max(depth, Ordering::SeqCst);
            assert!(inner.get(&id(1_000 + at)).is_none());
            DEPTH.set(depth - 1);
            Answer::Nothing
        })
    })));
    for at in 0..100 {
        drop(waiting(&sessions, at, Want::Get));
    }
    gate.open();
    assert!(sessions.get(&id(1_000)).is_none());
    assert_eq!(deepest.load(Ordering::SeqCst), 1);
    assert!(gate.waiting() < 100, "some were polled");
    cache.poll_callbacks();
    cache.set_on_get(None);
    assert_eq!((gate.waiting(), deepest.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn an_answer_counts_as_handed_out_if_somebody_gets_it() {
    let (cache, sessions) = cache(LONG);
    let gate = Gate::behind(&cache);
    drop(waiting(&sessions, 1, Want::Get));
    gate.open();
    cache.poll_callbacks();
    assert_eq!((cache.len(), cache.stats().get_answered), (1, 0), "it is stored, for nobody");
    gate.shut();
    drop(waiting(&sessions, 2, Want::Get));
    let mut comes = waiting(&sessions, 2, Want::Get);
    gate.open();
    cache.poll_callbacks();
    assert!(matches!(poll(&mut comes), Poll::Ready(Some(_))));
    assert_eq!((cache.len(), cache.stats().get_answered), (2, 1));
}
