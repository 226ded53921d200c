//! Storms of lookups that wait: on an executor that runs tasks where they are woken, inside the drops of
//! payloads, with futures that wait for each other, and on tokio with everything at once.

#[path = "support/later.rs"]
mod later;
mod support;

use std::future::{pending, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use resumption::{Answer, Dispatch, Found, OnGet, Proposed, Scope, SessionCache, Sessions, Want};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use later::{Gate, Hook, found, poll};
use support::{Census, PATIENCE, Payload, id, number, wait_until};

/// Longer than any machine is busy.
const LONG: Duration = Duration::from_secs(50);

fn web() -> Scope {
    Scope::new("web")
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task of an executor that has no threads: who wakes it runs it.
struct Task {
    work: Mutex<Option<Work>>,
    is_woken: AtomicBool,
    done: Arc<AtomicU64>,
}

impl Task {
    fn run(done: &Arc<AtomicU64>, work: impl Future<Output = ()> + Send + 'static) {
        let work: Work = Box::pin(work);
        let (work, is_woken) = (Mutex::new(Some(work)), AtomicBool::new(false));
        Arc::new(Self { work, is_woken, done: Arc::clone(done) }).wake();
    }
}

impl Wake for Task {
    /// Goes away if another thread runs it, or this one does, further up: that one comes around again.
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self));
        while self.is_woken.load(Ordering::SeqCst)
            && let Ok(mut slot) = self.work.try_lock()
        {
            if self.is_woken.swap(false, Ordering::SeqCst)
                && let Some(work) = &mut *slot
                && work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
            {
                *slot = None;
                self.done.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

type Wakers = Arc<Mutex<Vec<Waker>>>;

/// Answers at the fourth poll: woken by itself, then by another thread, then by itself. In between it
/// begins a lookup, and drops it.
fn slow(proposed: &Proposed<'_>, sessions: Sessions<u64>, wakers: Wakers) -> Answer<u64> {
    let (mut polls, mut found) = (0, Some(found(proposed, 1)));
    Answer::later(poll_fn(move |cx| {
        polls += 1;
        match polls {
            1 | 3 => cx.waker().wake_by_ref(),
            2 => {
                wakers.lock().unwrap().push(cx.waker().clone());
                drop(poll(&mut sessions.lookup(&id(2), Want::Get)));
            }
            _ => return Poll::Ready(found.take().map_or(Answer::Nothing, Answer::Give)),
        }
        Poll::Pending
    }))
}

/// One thread's part of a storm: some lookups are dropped after their first poll.
fn look_up(sessions: &Sessions<u64>, from: u64, many: u64, done: &Arc<AtomicU64>) {
    for turn in 0..many {
        let at = id((turn * 7 + from) % 16);
        let want = if turn % 3 == 0 { Want::Take } else { Want::Get };
        let mut lookup = sessions.lookup(&at, want);
        if turn % 5 == 0 {
            drop(poll(&mut lookup));
            done.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        Task::run(done, async move { drop(lookup.await) });
    }
}

fn storm_on_no_threads(dispatch: Dispatch) {
    const THREADS: u64 = 4;
    const EACH: u64 = 3_000;
    let builder = SessionCache::builder().max_sessions(10_000).dispatch(dispatch);
    let builder = builder.ticker(Duration::from_millis(1)).lookup_timeout(LONG);
    let cache: SessionCache<u64> = builder.build().unwrap();
    cache.set_on_remove(Some(Arc::new(drop))).unwrap();
    let (sessions, wakers) = (cache.scope(&web()), Wakers::default());
    let (inner, own) = (sessions.clone(), Arc::clone(&wakers));
    cache.set_on_get(Some(Arc::new(move |proposed| {
        slow(proposed, inner.clone(), Arc::clone(&own))
    })));
    let done = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for from in 0..THREADS {
            let (sessions, done) = (sessions.clone(), &done);
            scope.spawn(move || look_up(&sessions, from, EACH, done));
        }
        wait_until("all lookups are done", || {
            cache.poll_callbacks();
            let woken = std::mem::take(&mut *wakers.lock().unwrap());
            for waker in woken {
                waker.wake_by_ref();
                waker.wake();
            }
            done.load(Ordering::SeqCst) == THREADS * EACH
        });
    });
    cache.set_on_get(None);
    let stats = cache.stats();
    assert_eq!((stats.get_timed_out, stats.callbacks_panicked), (0, 0), "{dispatch:?}");
}

#[test]
fn every_lookup_on_an_executor_without_threads_is_done() {
    for dispatch in [Dispatch::Inline, Dispatch::Manual, Dispatch::Workers(2)] {
        storm_on_no_threads(dispatch);
    }
}

/// A payload that does something when it is dropped.
struct Hooked(Hook);

impl Drop for Hooked {
    fn drop(&mut self) {
        self.0.run();
    }
}

/// A cache for one session, and what its payloads' drops run.
struct Small {
    cache: SessionCache<Hooked>,
    sessions: Sessions<Hooked>,
    gate: Arc<Gate>,
    hook: Hook,
}

impl Small {
    fn new(dispatch: Dispatch) -> Self {
        let builder = SessionCache::builder().max_sessions(1).dispatch(dispatch);
        let builder = builder.ticker(Duration::from_millis(1));
        let cache = builder.lookup_timeout(Duration::from_millis(100)).build().unwrap();
        cache.set_on_remove(Some(Arc::new(drop))).unwrap();
        let (gate, hook) = (Arc::<Gate>::default(), Hook::default());
        let (own, payload) = (Arc::clone(&gate), hook.clone());
        cache.set_on_get(Some(Arc::new(move |proposed| {
            own.later(Answer::Give(found(proposed, Hooked(payload.clone()))))
        })));
        Self { sessions: cache.scope(&web()), cache, gate, hook }
    }

    /// Looks up, finishes and drops lookups in the drop of a payload that is evicted or replaced: in
    /// the middle of a put, or on a worker.
    fn round(&self, first: u64) {
        self.gate.shut();
        let mut get = self.sessions.lookup(&id(first), Want::Get);
        let mut take = self.sessions.lookup(&id(first + 1), Want::Take);
        assert!(poll(&mut get).is_pending() && poll(&mut take).is_pending());
        let (sessions, gate) = (self.sessions.clone(), Arc::clone(&self.gate));
        self.hook.set(move || {
            drop(poll(&mut sessions.lookup(&id(first + 2), Want::Get)));
            gate.open();
            drop(poll(&mut sessions.lookup(&id(first), Want::Get)));
            drop(get);
            drop(poll(&mut take));
            drop(sessions.get(&id(first + 3)));
        });
        for at in [first + 4, first + 5] {
            drop(self.sessions.put(&id(at), Hooked(self.hook.clone())));
        }
        wait_until("a payload is dropped", || {
            self.cache.poll_callbacks();
            self.hook.has_run()
        });
        self.gate.open();
        wait_until("every future is finished", || self.gate.waiting() == 0);
        self.cache.flush();
    }
}

#[test]
fn lookups_in_the_drops_of_payloads_leave_nothing() {
    for dispatch in [Dispatch::Inline, Dispatch::Manual, Dispatch::Workers(1)] {
        let small = Small::new(dispatch);
        (0..200).for_each(|round| small.round(round * 10));
        small.cache.set_on_get(None);
        assert_eq!(small.cache.stats().callbacks_panicked, 0, "{dispatch:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn futures_that_wait_for_each_other_end_at_their_deadline() {
    let builder = SessionCache::builder().max_sessions(100).without_ticker();
    let cache: SessionCache<u64> =
        builder.lookup_timeout(Duration::from_millis(200)).build().unwrap();
    let (sessions, handle) = (cache.scope(&web()), Handle::current());
    let inner = sessions.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let found = found(proposed, 1);
        let other = handle.spawn(inner.lookup(&id(1 - number(proposed.id())), Want::Get));
        Answer::later(async move {
            drop(other.await);
            Answer::Give(found)
        })
    })));
    let lookups = [0, 1].map(|at| tokio::spawn(sessions.lookup(&id(at), Want::Get)));
    for lookup in lookups {
        drop(timeout(PATIENCE, lookup).await.expect("it ends").unwrap());
    }
    assert!(cache.stats().get_timed_out > 0);
    // Both ids are free: what is left of the flights ends.
    cache.set_on_get(None);
    wait_until("the flights are over", || {
        cache.poll_callbacks();
        cache.flush();
        cache.set_on_get(Some(Arc::new(|proposed| Answer::Give(found(proposed, 2)))));
        let found = [0, 1].map(|at| sessions.take(&id(at)));
        cache.set_on_get(None);
        found.iter().flatten().filter(|session| *session.payload() == 2).count() == 2
    });
}

/// An external cache that does everything that one may do.
struct Wild {
    census: Arc<Census>,
    /// Of each answer.
    serial: AtomicU64,
    /// A clone for each future that is not finished and not dropped.
    alive: Arc<()>,
    runtime: Handle,
}

impl Wild {
    fn on_get(self: &Arc<Self>) -> Arc<OnGet<Payload>> {
        let wild = Arc::clone(self);
        Arc::new(move |proposed| {
            let serial = wild.serial.fetch_add(1, Ordering::SeqCst);
            let payload = Payload::new(&wild.census, number(proposed.id()), serial, 0);
            wild.answer(serial, found(proposed, payload))
        })
    }

    fn answer(&self, serial: u64, found: Found<Payload>) -> Answer<Payload> {
        let alive = Arc::clone(&self.alive);
        match serial % 7 {
            0 => Answer::Give(found),
            1 => Answer::later(async move {
                let _alive = alive;
                pending::<()>().await;
                Answer::Give(found)
            }),
            2 => Answer::later(async move {
                let _held = (alive, found);
                // A panic without a report.
                resume_unwind(Box::new("a test's panic"))
            }),
            3 => Answer::later(async move {
                yield_now().await;
                Answer::later(async move {
                    let _alive = alive;
                    yield_now().await;
                    Answer::Give(found)
                })
            }),
            _ => {
                let query = self.runtime.spawn(async move {
                    let _alive = alive;
                    sleep(Duration::from_micros(serial * 37 % 900)).await;
                    found
                });
                Answer::later(async move { query.await.map_or(Answer::Nothing, Answer::Give) })
            }
        }
    }

    fn futures(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }
}

/// Lookups are of so many ids.
const IDS: u64 = 13;

/// Now and then something else happens than lookups.
fn interfere(turn: u64, cache: &SessionCache<Payload>, wild: &Arc<Wild>) {
    match turn % 1_000 {
        500 => drop(cache.drop_scope(&web())),
        501 => drop(cache.flush()),
        502 => cache.set_on_get(None),
        503..=520 => cache.set_on_get(Some(wild.on_get())),
        turn if turn % 50 == 0 => drop(cache.poll_callbacks()),
        _ => {}
    }
}

/// Lookups that are short of time, and dropped; returns what takes have found.
async fn storm(cache: &SessionCache<Payload>, wild: &Arc<Wild>) -> Vec<u64> {
    let (sessions, mut lookups) = (cache.scope(&web()), Vec::new());
    for turn in 0..12_000 {
        let (sessions, cache, wild) = (sessions.clone(), cache.clone(), Arc::clone(wild));
        lookups.push(tokio::spawn(async move {
            interfere(turn, &cache, &wild);
            let (at, want) = (turn * 31 % IDS, if turn % 3 == 0 { Want::Get } else { Want::Take });
            let lookup = sessions.lookup(&id(at), want).within(Duration::from_millis(turn % 40));
            let patience = Duration::from_micros(turn * 13 % 2_000);
            let session = timeout(patience, lookup).await.ok().flatten()?;
            session.payload().assert_whole(at);
            (want == Want::Take).then(|| session.payload().version)
        }));
    }
    let mut taken = Vec::new();
    for lookup in lookups {
        taken.extend(lookup.await.unwrap());
    }
    taken
}

/// After a storm, each id is free: it is asked for.
fn assert_free(cache: &SessionCache<Payload>) {
    cache.flush();
    wait_until("every leaving is told", || {
        cache.poll_callbacks();
        cache.stats().callbacks_waiting == 0
    });
    let (sessions, asked) = (cache.scope(&web()), Arc::new(AtomicU64::new(0)));
    let own = Arc::clone(&asked);
    cache.set_on_get(Some(Arc::new(move |_| {
        own.fetch_add(1, Ordering::SeqCst);
        Answer::Nothing
    })));
    assert!((0..IDS).all(|at| sessions.take(&id(at)).is_none()));
    assert_eq!(asked.load(Ordering::SeqCst), IDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_storm_doubles_nothing_and_leaves_nothing() {
    for has_ticker in [false, true] {
        let builder = SessionCache::builder().max_sessions(10_000).max_waiting_callbacks(50);
        let builder = builder.lookup_timeout(Duration::from_millis(30));
        let builder = match has_ticker {
            true => builder.ticker(Duration::from_millis(2)),
            false => builder.without_ticker(),
        };
        let cache = builder.build().unwrap();
        cache.set_on_remove(Some(Arc::new(drop))).unwrap();
        let wild = Arc::new(Wild {
            census: Arc::default(),
            serial: AtomicU64::new(0),
            alive: Arc::default(),
            runtime: Handle::current(),
        });
        cache.set_on_get(Some(wild.on_get()));
        let mut taken = storm(&cache, &wild).await;
        wait_until("every future is finished", || {
            cache.poll_callbacks();
            wild.futures() == 0
        });
        assert_free(&cache);
        let count = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), count, "each was taken once");
        // Most takes are answered with nothing, or too late: some three hundred are not.
        assert!(count > 50, "{count} takes have found something");
        drop(cache);
        wait_until("every payload is dropped", || wild.census.alive() == 0);
    }
}
