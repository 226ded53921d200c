//! Lookups that wait without a thread, on tokio and on none: one flight for an id, deadlines, and
//! lookups that are dropped.

#[path = "support/later.rs"]
mod later;
mod support;

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use resumption::{
    Answer, CacheMode, Clock, Dispatch, Proposed, Reason, Scope, SessionCache, SessionId, Sessions,
    Want,
};
use tokio::sync::Semaphore;

use later::{found, poll};
use support::id;

/// Longer than any machine is busy.
const LONG: Duration = Duration::from_secs(50);

fn web() -> Scope {
    Scope::new("web")
}

/// A cache without threads, whose callers poll what lookups have left.
fn cache() -> (SessionCache<u64>, Sessions<u64>) {
    let builder = SessionCache::builder().max_sessions(1_000).without_ticker();
    let cache = builder.dispatch(Dispatch::Manual).lookup_timeout(LONG).build().unwrap();
    let sessions = cache.scope(&web());
    (cache, sessions)
}

/// An external cache that answers once it has a permit for that.
struct Database {
    sessions: Mutex<HashMap<SessionId, u64>>,
    permits: Semaphore,
    asked: AtomicU64,
    /// Futures that are not finished and not dropped.
    open: AtomicU64,
}

impl Database {
    fn behind(cache: &SessionCache<u64>, ids: impl IntoIterator<Item = u64>) -> Arc<Self> {
        let sessions = ids.into_iter().map(|number| (id(number), number)).collect();
        let this = Arc::new(Self {
            sessions: Mutex::new(sessions),
            permits: Semaphore::new(0),
            asked: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let database = Arc::clone(&this);
        cache.set_on_get(Some(Arc::new(move |proposed| Arc::clone(&database).answer(proposed))));
        this
    }

    /// A take deletes at once, and answers later.
    fn answer(self: Arc<Self>, proposed: &Proposed<'_>) -> Answer<u64> {
        struct Open(Arc<Database>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.open.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let payload = match proposed.want() {
            Want::Get => self.sessions.lock().unwrap().get(proposed.id()).copied(),
            Want::Take => self.sessions.lock().unwrap().remove(proposed.id()),
        };
        let found = payload.map(|payload| found(proposed, payload));
        let open = Open(self);
        Answer::later(async move {
            open.0.permits.acquire().await.expect("it is never closed").forget();
            found.map_or(Answer::Nothing, Answer::Give)
        })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    fn open(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_is_in_the_cache_is_there_at_the_first_poll() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, []);
    assert!(sessions.put(&id(1), 1).is_stored());
    for want in [Want::Get, Want::Take] {
        let Poll::Ready(Some(session)) = poll(&mut sessions.lookup(&id(1), want)) else {
            panic!("{want:?}: it is there");
        };
        assert_eq!(*session.payload(), 1);
    }
    assert_eq!((database.asked(), cache.len()), (0, 0));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.takes, stats.misses_unknown), (1, 1, 0));
    cache.set_on_get(None);
    assert!(sessions.lookup(&id(1), Want::Get).await.is_none());
    assert_eq!(cache.stats().misses_unknown, 1);
}

#[tokio::test]
async fn an_answer_may_come_at_once() {
    let (cache, sessions) = cache();
    cache.set_on_get(Some(Arc::new(|proposed| Answer::Give(found(proposed, 3)))));
    let mut lookup = sessions.lookup(&id(1), Want::Take);
    let Poll::Ready(Some(session)) = poll(&mut lookup) else { panic!("it is given") };
    assert_eq!((*session.payload(), session.ref_count(), cache.len()), (3, 1, 0));
    assert!(matches!(poll(&mut lookup), Poll::Ready(None)), "it has nothing more");
}

#[tokio::test]
async fn a_get_is_given_what_comes_later_and_the_cache_keeps_it() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1]);
    let mut lookup = sessions.lookup(&id(1), Want::Get);
    assert!(poll(&mut lookup).is_pending());
    assert_eq!((database.asked(), database.open(), cache.len()), (1, 1, 0));
    database.permits.add_permits(1);
    let session = lookup.await.expect("the database has it");
    assert_eq!((*session.payload(), session.ref_count()), (1, 2));
    assert_eq!((database.open(), cache.len()), (0, 1));
    let stats = cache.stats();
    assert_eq!((stats.get_called, stats.get_answered, stats.misses_unknown), (1, 1, 1));
}

#[tokio::test]
async fn a_take_is_given_its_own_and_others_miss_meanwhile() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1]);
    let mut lookup = sessions.lookup(&id(1), Want::Take);
    assert!(poll(&mut lookup).is_pending());
    for want in [Want::Take, Want::Get] {
        assert!(sessions.lookup(&id(1), want).await.is_none(), "{want:?}: it has its taker");
    }
    assert!(sessions.take(&id(1)).is_none());
    database.permits.add_permits(9);
    let session = lookup.await.expect("the database had it");
    assert_eq!((*session.payload(), session.ref_count(), cache.len()), (1, 1, 0));
    assert!(sessions.lookup(&id(1), Want::Take).await.is_none(), "once");
    assert_eq!(database.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gets_of_one_id_ask_once_with_and_without_a_thread() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1]);
    for round in 1..100 {
        let lookups: Vec<_> =
            (0..6).map(|_| tokio::spawn(sessions.lookup(&id(1), Want::Get))).collect();
        let own = sessions.clone();
        let get = tokio::task::spawn_blocking(move || own.get(&id(1)));
        while database.open() == 0 {
            tokio::task::yield_now().await;
        }
        database.permits.add_permits(1);
        for lookup in lookups {
            let session = lookup.await.unwrap().expect("it is shared");
            assert_eq!(*session.payload(), 1);
        }
        assert!(get.await.unwrap().is_some());
        assert_eq!((database.asked(), database.permits.available_permits()), (round, 0));
        assert_eq!((cache.flush(), cache.stats().held_sessions), (1, 0));
    }
}

#[tokio::test]
async fn a_lookup_keeps_its_deadline_and_the_answer_is_not_lost() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1]);
    let start = Instant::now();
    let within = Duration::from_millis(20);
    assert!(sessions.lookup(&id(1), Want::Take).within(within).await.is_none());
    assert!(start.elapsed() >= within);
    assert!(sessions.lookup(&id(2), Want::Get).within(Duration::ZERO).await.is_none());
    assert_eq!((cache.stats().get_timed_out, database.open()), (2, 2));
    // The flights go on, and the cache keeps what comes of them.
    database.permits.add_permits(2);
    cache.poll_callbacks();
    assert_eq!((database.open(), cache.len()), (0, 1));
    let session = sessions.lookup(&id(1), Want::Take).await.expect("it is here now");
    assert_eq!((*session.payload(), database.asked()), (1, 2));
}

#[test]
fn a_get_in_a_thread_keeps_the_deadline_too() {
    let builder = SessionCache::builder().lookup_timeout(Duration::from_millis(20));
    let cache: SessionCache<u64> = builder.without_ticker().build().unwrap();
    let sessions = cache.scope(&web());
    cache.set_on_get(Some(Arc::new(|_| Answer::later(pending()))));
    assert!(sessions.get(&id(1)).is_none());
    assert!(sessions.take(&id(2)).is_none());
    assert_eq!(cache.stats().get_timed_out, 2);
}

#[tokio::test]
async fn a_future_that_is_left_too_long_is_dropped() {
    let builder = SessionCache::builder().lookup_timeout(Duration::from_millis(5));
    let cache: SessionCache<u64> = builder.without_ticker().build().unwrap();
    let (sessions, database) = (cache.scope(&web()), Database::behind(&cache, []));
    assert!(sessions.lookup(&id(1), Want::Take).await.is_none());
    assert_eq!(database.open(), 1);
    thread::sleep(Duration::from_millis(10));
    cache.poll_callbacks();
    assert_eq!(database.open(), 0);
    // The flight is over, and the next lookup asks again.
    assert!(sessions.lookup(&id(1), Want::Take).await.is_none());
    assert_eq!(database.asked(), 2);
}

#[tokio::test]
async fn no_more_futures_are_kept_than_callbacks_may_wait() {
    let builder = SessionCache::builder().max_waiting_callbacks(3).lookup_timeout(LONG);
    let cache: SessionCache<u64> = builder.without_ticker().build().unwrap();
    let (sessions, database) = (cache.scope(&web()), Database::behind(&cache, []));
    for number in 0..10 {
        assert!(poll(&mut sessions.lookup(&id(number), Want::Take)).is_pending());
    }
    assert_eq!((database.asked(), database.open()), (10, 3));
}

#[tokio::test]
async fn a_take_that_is_dropped_leaves_its_session_to_the_next() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1, 2]);
    // The next one comes before the answer …
    let mut first = sessions.lookup(&id(1), Want::Take);
    assert!(poll(&mut first).is_pending());
    drop(first);
    let mut second = sessions.lookup(&id(1), Want::Take);
    assert!(poll(&mut second).is_pending());
    assert_eq!((database.asked(), database.open()), (1, 1));
    database.permits.add_permits(1);
    assert_eq!(second.await.map(|session| *session.payload()), Some(1));
    // … or after it.
    let mut first = sessions.lookup(&id(2), Want::Take);
    assert!(poll(&mut first).is_pending());
    drop(first);
    database.permits.add_permits(1);
    cache.poll_callbacks();
    assert_eq!(sessions.take(&id(2)).map(|session| *session.payload()), Some(2));
    assert_eq!((database.asked(), cache.len()), (2, 0));
}

/// An answer that waits for its taker, who goes away.
#[tokio::test]
async fn an_answer_that_its_taker_leaves_is_stored() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1]);
    let mut first = sessions.lookup(&id(1), Want::Take);
    assert!(poll(&mut first).is_pending());
    drop(first);
    let mut second = sessions.lookup(&id(1), Want::Take);
    assert!(poll(&mut second).is_pending());
    database.permits.add_permits(1);
    cache.poll_callbacks();
    assert_eq!((database.open(), cache.len()), (0, 0), "it is the second one's");
    drop(second);
    assert_eq!(cache.len(), 1);
    assert_eq!(sessions.take(&id(1)).map(|session| *session.payload()), Some(1));
}

#[tokio::test]
async fn the_ticker_sees_to_what_is_left() {
    let builder = SessionCache::builder().ticker(LONG).lookup_timeout(LONG);
    let cache: SessionCache<u64> = builder.build().unwrap();
    let (sessions, database) = (cache.scope(&web()), Database::behind(&cache, [1]));
    let mut lookup = sessions.lookup(&id(1), Want::Take);
    assert!(poll(&mut lookup).is_pending());
    drop(lookup);
    database.permits.add_permits(1);
    let stored = async {
        while !sessions.contains(&id(1)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, stored).await.expect("the ticker was woken");
    assert_eq!(database.open(), 0);
}

#[tokio::test]
async fn a_get_that_is_dropped_strands_no_other() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1]);
    let mut polls = sessions.lookup(&id(1), Want::Get);
    assert!(poll(&mut polls).is_pending());
    let waits = tokio::spawn(sessions.lookup(&id(1), Want::Get));
    tokio::task::yield_now().await;
    // The future was polled last by the one that goes away.
    assert!(poll(&mut polls).is_pending());
    drop(polls);
    database.permits.add_permits(1);
    assert!(waits.await.unwrap().is_some());
    assert_eq!((database.asked(), cache.len()), (1, 1));
}

#[tokio::test]
async fn an_answer_that_was_overtaken_counts_for_nothing() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1, 2]);
    for (number, want) in [(1, Want::Get), (2, Want::Take)] {
        let mut lookup = sessions.lookup(&id(number), want);
        assert!(poll(&mut lookup).is_pending());
        assert!(sessions.put(&id(number), 9).is_stored());
        assert!(sessions.take(&id(number)).is_some());
        database.permits.add_permits(1);
        assert!(lookup.await.is_none(), "{want:?}: a taken session came back");
        assert!(cache.is_empty());
    }
}

#[tokio::test]
async fn a_scope_that_is_dropped_meanwhile_stays_empty() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1, 2]);
    for (number, want) in [(1, Want::Get), (2, Want::Take)] {
        let mut lookup = sessions.lookup(&id(number), want);
        assert!(poll(&mut lookup).is_pending());
        cache.drop_scope(&web());
        database.permits.add_permits(1);
        assert!(lookup.await.is_none(), "{want:?}");
    }
    assert!(cache.is_empty());
}

#[tokio::test]
async fn a_future_that_panics_has_found_nothing() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0 || thread::panicking(), "a test's panic in a drop");
        }
    }
    let (cache, sessions) = cache();
    cache.set_on_get(Some(Arc::new(|_| Answer::later(async { panic!("a test's panic") }))));
    assert!(sessions.lookup(&id(1), Want::Get).await.is_none());
    assert!(sessions.take(&id(1)).is_none());
    let is_armed = Arc::new(AtomicBool::new(true));
    let armed = Arc::clone(&is_armed);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (bomb, found) = (Bomb(armed.load(Ordering::SeqCst)), found(proposed, 5));
        let mut found = Some(found);
        Answer::later(poll_fn(move |_| {
            let _ = &bomb;
            Poll::Ready(found.take().map_or(Answer::Nothing, Answer::Give))
        }))
    })));
    assert!(sessions.lookup(&id(1), Want::Get).await.is_some(), "it had answered");
    assert_eq!((cache.stats().callbacks_panicked, cache.len()), (3, 1));
    is_armed.store(false, Ordering::SeqCst);
    assert!(sessions.lookup(&id(2), Want::Get).await.is_some(), "the flights have ended");
}

#[tokio::test]
async fn a_future_may_answer_with_another_and_look_up_itself() {
    let (cache, sessions) = cache();
    let inner = sessions.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (inner, id) = (inner.clone(), *proposed.id());
        let found = found(proposed, 6);
        Answer::later(async move {
            assert!(inner.lookup(&id, Want::Get).await.is_none(), "it is being asked for");
            Answer::later(async move { Answer::Give(found) })
        })
    })));
    assert_eq!(sessions.lookup(&id(1), Want::Get).await.map(|found| *found.payload()), Some(6));
    cache.set_on_get(None);
    assert_eq!(cache.stats().callbacks_panicked, 0);
}

/// What is asked for holds nothing of the cache that it is asked for.
#[tokio::test]
async fn a_cache_that_is_dropped_drops_what_it_was_left() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1, 2]);
    let mut dropped = sessions.lookup(&id(1), Want::Take);
    assert!(poll(&mut dropped).is_pending());
    drop(dropped);
    let mut kept = sessions.lookup(&id(2), Want::Take);
    assert!(poll(&mut kept).is_pending());
    drop((cache, sessions));
    assert_eq!(database.open(), 2, "a lookup keeps the cache");
    drop(kept);
    assert_eq!(database.open(), 0);
}

#[test]
fn a_clock_that_is_driven_moves_no_deadline() {
    let clock = Clock::manual();
    let builder = SessionCache::builder().clock(clock.clone()).without_ticker();
    let cache: SessionCache<u64> = builder.lookup_timeout(LONG).build().unwrap();
    let (sessions, database) = (cache.scope(&web()), Database::behind(&cache, [1]));
    thread::scope(|scope| {
        let get = scope.spawn(|| sessions.get(&id(1)));
        while database.open() == 0 {
            thread::yield_now();
        }
        clock.advance(100 * LONG);
        database.permits.add_permits(1);
        assert!(get.join().unwrap().is_some());
    });
}

/// Where the cache is not looked into, what is in it goes when the answer has come.
#[tokio::test]
async fn a_take_that_asks_outside_leaves_nothing_inside() {
    let (cache, sessions) = cache();
    let database = Database::behind(&cache, [1, 2]);
    let left = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&left);
    cache
        .set_on_remove(Some(Arc::new(move |told| {
            log.lock().unwrap().push((*told.id(), told.session().is_some(), told.reason()));
        })))
        .unwrap();
    assert!(sessions.put(&id(1), 9).is_stored());
    cache.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL);
    for number in [1, 2] {
        let mut lookup = sessions.lookup(&id(number), Want::Take);
        assert!(poll(&mut lookup).is_pending());
        assert_eq!(cache.len(), usize::from(number == 1), "not before the answer has come");
        database.permits.add_permits(1);
        assert_eq!(lookup.await.map(|session| *session.payload()), Some(number));
        assert!(cache.is_empty());
    }
    cache.poll_callbacks();
    let told = [(id(1), true, Reason::Taken), (id(2), false, Reason::Taken)];
    assert_eq!(*left.lock().unwrap(), told);
}

/// Lookups of tickets in a database, cut short at any time: each ticket is taken once, or is still
/// somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tickets_are_neither_lost_nor_doubled_by_lookups_that_are_dropped() {
    const TICKETS: u64 = 400;
    const LOOKUPS: u64 = 16_000;
    let builder = SessionCache::builder().max_sessions(10_000).lookup_timeout(LONG);
    let cache: SessionCache<u64> = builder.build().unwrap();
    cache.set_on_remove(Some(Arc::new(drop))).unwrap();
    let (sessions, database) = (cache.scope(&web()), Database::behind(&cache, 0..TICKETS));
    let taken: Arc<[AtomicU64]> = (0..TICKETS).map(|_| AtomicU64::new(0)).collect();
    let permits = tokio::spawn({
        let database = Arc::clone(&database);
        async move {
            loop {
                database.permits.add_permits(1);
                tokio::task::yield_now().await;
            }
        }
    });
    let (mut lookups, is_short) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    for number in 0..LOOKUPS {
        let (sessions, taken) = (sessions.clone(), Arc::clone(&taken));
        let is_short = Arc::clone(&is_short);
        lookups.push(tokio::spawn(async move {
            let ticket = number * 7 % TICKETS;
            let lookup = sessions.lookup(&id(ticket), Want::Take);
            let patience = Duration::from_micros(number % 400);
            match tokio::time::timeout(patience, lookup).await {
                Ok(Some(session)) => {
                    taken[*session.payload() as usize].fetch_add(1, Ordering::SeqCst);
                }
                Ok(None) => {}
                Err(_) => _ = is_short.fetch_add(1, Ordering::SeqCst),
            }
        }));
    }
    for lookup in lookups {
        lookup.await.unwrap();
    }
    while database.open() > 0 {
        cache.poll_callbacks();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    permits.abort();
    cache.set_on_get(None);
    let mut somewhere = 0;
    for (ticket, taken) in (0..TICKETS).zip(&*taken) {
        let is_here = sessions.contains(&id(ticket));
        let is_there = database.sessions.lock().unwrap().contains_key(&id(ticket));
        let count = taken.load(Ordering::SeqCst) + u64::from(is_here) + u64::from(is_there);
        assert_eq!(count, 1, "ticket {ticket}: taken {taken:?}, here {is_here}, there {is_there}");
        somewhere += u64::from(is_here);
    }
    let stats = cache.stats();
    assert!(stats.get_called >= TICKETS, "{stats:?}");
    let took = taken.iter().filter(|taken| taken.load(Ordering::SeqCst) > 0).count();
    let is_short = is_short.load(Ordering::SeqCst);
    assert!(took > 0 && is_short > 0, "{took} tickets were taken, {is_short} lookups cut short");
    println!("{somewhere} tickets were given to lookups that were dropped and not asked for again");
}
