//! What a put tells of its connection: it reaches the new callback, and is dropped once.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use resumption::{
    CacheMode, Connection, Dispatch, NewSession, Put, Refusal, Scope, SessionCache, Sessions,
    Verdict,
};
use support::{Census, HOUR, MINUTE, Payload, id, manual, number, wait_until};

/// A context that is counted.
struct Peer {
    port: u64,
    alive: Arc<AtomicU64>,
    /// Panics in its drop.
    is_bad: bool,
}

impl Drop for Peer {
    fn drop(&mut self) {
        assert_eq!(self.port >> 32, 0x5e55, "dropped twice, or torn");
        let port = std::mem::take(&mut self.port);
        self.alive.fetch_sub(1, Ordering::SeqCst);
        if self.is_bad {
            std::panic::resume_unwind(Box::new(port));
        }
    }
}

/// How many contexts are alive.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicU64>);

impl Alive {
    fn peer(&self, port: u64) -> Peer {
        self.0.fetch_add(1, Ordering::SeqCst);
        Peer { port: port | 0x5e55 << 32, alive: Arc::clone(&self.0), is_bad: false }
    }

    fn bad(&self, port: u64) -> Peer {
        let mut peer = self.peer(port);
        peer.is_bad = true;
        peer
    }

    fn connection(&self, port: u64) -> Connection {
        Connection::server().context(self.peer(port))
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn port(new: &NewSession<u64>) -> Option<u64> {
    new.context::<Peer>().map(|peer| peer.port & u64::from(u32::MAX))
}

fn cache(dispatch: Dispatch) -> (SessionCache<u64>, Sessions<u64>) {
    let builder = SessionCache::builder().max_sessions(100).without_ticker().dispatch(dispatch);
    let cache = builder.build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    (cache, web)
}

/// The ports that the new callback was told, by session.
type Log = Arc<Mutex<Vec<(u64, Option<u64>)>>>;

fn listen(cache: &SessionCache<u64>) -> Log {
    let log = Log::default();
    let told = Arc::clone(&log);
    cache
        .set_on_new(Some(Arc::new(move |new| {
            assert!(new.context::<String>().is_none(), "it is of another type");
            told.lock().unwrap().push((number(new.session().id()), port(&new)));
            Verdict::Keep
        })))
        .unwrap();
    log
}

#[test]
fn a_context_reaches_the_callback_by_every_dispatch() {
    for dispatch in [Dispatch::Inline, Dispatch::Workers(2), Dispatch::Manual] {
        let alive = Alive::default();
        let (cache, web) = cache(dispatch);
        let log = listen(&cache);
        assert!(web.put_from(&id(1), 1, alive.connection(443)).is_stored());
        assert!(web.put_from(&id(2), 2, Connection::server()).is_stored());
        assert!(web.put(&id(3), 3).is_stored());
        let connection = Connection::server().context("a name");
        assert!(web.put_from(&id(4), 4, connection).is_stored());
        cache.poll_callbacks();
        wait_until("all is told", || log.lock().unwrap().len() == 4);
        let told = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(told, [(1, Some(443)), (2, None), (3, None), (4, None)], "{dispatch:?}");
        wait_until("it is dropped", || alive.count() == 0);
        assert_eq!(web.get(&id(1)).map(|session| *session.payload()), Some(1));
    }
}

#[test]
fn a_connection_says_how_long_its_session_lives() {
    let (_cache, web, clock) = manual::<u64>(10, MINUTE);
    let put = |number, connection| assert!(web.put_from(&id(number), 0, connection).is_stored());
    put(1, Connection::server());
    put(2, Connection::server().lifetime(HOUR));
    assert!(web.put_with(&id(3), 0, HOUR).is_stored());
    clock.advance(MINUTE);
    let there = [1, 2, 3].map(|number| web.contains(&id(number)));
    assert_eq!(there, [false, true, true]);
    clock.advance(HOUR);
    assert!(!web.contains(&id(2)));
}

/// With every way to be refused.
#[test]
fn a_refused_put_drops_its_context() {
    let alive = Alive::default();
    let builder = SessionCache::<u64>::builder().max_sessions(10).max_waiting_callbacks(1);
    let cache = builder.dispatch(Dispatch::Manual).without_ticker().build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let refused = |why| {
        match web.put_from(&id(1), 7, alive.connection(1)) {
            Put::Refused(refusal, 7) => assert_eq!(refusal, why),
            other => panic!("{other:?}"),
        }
        assert_eq!(alive.count(), 0, "{why:?}");
    };
    cache.set_mode(CacheMode::OFF);
    refused(Refusal::SideNotCached);
    cache.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL_STORE);
    refused(Refusal::NobodyToTell);
    cache.set_mode(CacheMode::SERVER);
    let _log = listen(&cache);
    cache.set_max_sessions(0);
    refused(Refusal::Full);
    cache.set_max_sessions(10);
    assert!(web.put(&id(2), 2).is_stored());
    refused(Refusal::CallbacksWaiting);
    cache.poll_callbacks();
    cache.close();
    refused(Refusal::Closed);
}

#[test]
fn a_context_that_nobody_is_told_of_is_not_kept() {
    let alive = Alive::default();
    let (cache, web) = cache(Dispatch::Manual);
    assert!(web.put_from(&id(1), 1, alive.connection(1)).is_stored());
    assert_eq!(alive.count(), 0, "no callback is set");
    cache.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
    assert!(web.put_from(&id(2), 2, alive.connection(2)).is_stored());
    assert_eq!(alive.count(), 0, "nor is the one that would be told");
}

#[test]
fn a_context_waits_with_its_call_and_goes_with_it() {
    let alive = Alive::default();
    let (cache, web) = cache(Dispatch::Manual);
    let log = listen(&cache);
    // Replaced before it is told.
    assert!(web.put_from(&id(1), 1, alive.connection(10)).is_stored());
    assert!(matches!(web.put_from(&id(1), 2, alive.connection(20)), Put::Replaced(_)));
    // Taken before it is told.
    assert!(web.put_from(&id(3), 3, alive.connection(30)).is_stored());
    assert!(web.take(&id(3)).is_some());
    assert_eq!(alive.count(), 3);
    assert_eq!(cache.poll_callbacks(), 3);
    assert_eq!(*log.lock().unwrap(), [(1, Some(10)), (1, Some(20)), (3, Some(30))]);
    assert_eq!(alive.count(), 0);
    // The callback is unset before it is told.
    assert!(web.put_from(&id(4), 4, alive.connection(40)).is_stored());
    assert_eq!(alive.count(), 1);
    cache.set_on_new(None).unwrap();
    assert_eq!(alive.count(), 0, "nobody is there to hear of it");
    // Not stored, but told.
    let _log = listen(&cache);
    cache.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL_STORE);
    assert!(web.put_from(&id(5), 5, alive.connection(50)).is_stored());
    assert_eq!((alive.count(), web.contains(&id(5))), (1, false));
    assert_eq!((cache.poll_callbacks(), alive.count()), (1, 0));
    // The cache is dropped before it is told: it is told then.
    cache.set_mode(CacheMode::SERVER);
    assert!(web.put_from(&id(6), 6, alive.connection(60)).is_stored());
    assert_eq!(alive.count(), 1);
    let log = listen(&cache);
    drop((cache, web));
    assert_eq!((log.lock().unwrap().clone(), alive.count()), (vec![(6, Some(60))], 0));
}

#[test]
fn sessions_of_one_connection_share_its_context() {
    let alive = Alive::default();
    let (cache, web) = cache(Dispatch::Manual);
    let log = listen(&cache);
    let connection = alive.connection(1);
    for number in 0..2 {
        assert!(web.put_from(&id(number), 0, connection.clone()).is_stored());
    }
    drop(connection);
    assert_eq!(alive.count(), 1);
    assert_eq!((cache.poll_callbacks(), alive.count()), (2, 0));
    assert_eq!(*log.lock().unwrap(), [(0, Some(1)), (1, Some(1))]);
}

#[test]
fn a_callback_may_keep_what_it_was_told() {
    let alive = Alive::default();
    let (cache, web) = cache(Dispatch::Inline);
    let kept: Arc<Mutex<Vec<NewSession<u64>>>> = Arc::default();
    let keep = Arc::clone(&kept);
    cache
        .set_on_new(Some(Arc::new(move |new| {
            keep.lock().unwrap().push(new);
            Verdict::Keep
        })))
        .unwrap();
    assert!(web.put_from(&id(1), 1, alive.connection(9)).is_stored());
    assert_eq!(alive.count(), 1);
    drop((cache, web));
    let new = kept.lock().unwrap().pop().unwrap();
    assert_eq!(port(&new), Some(9));
    drop(new.into_session());
    assert_eq!(alive.count(), 0);
}

/// A context's drop that panics: the verdict is obeyed, the other calls are made, and nothing leaks.
#[test]
fn a_context_that_panics_in_its_drop_harms_nothing_else() {
    for dispatch in [Dispatch::Inline, Dispatch::Workers(1), Dispatch::Manual] {
        let alive = Alive::default();
        let census = Arc::new(Census::default());
        let builder = SessionCache::builder().max_sessions(100).without_ticker();
        let cache: SessionCache<Payload> = builder.dispatch(dispatch).build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let called = Arc::new(AtomicU64::new(0));
        let calls = Arc::clone(&called);
        cache
            .set_on_new(Some(Arc::new(move |new| {
                calls.fetch_add(1, Ordering::SeqCst);
                if number(new.session().id()) == 1 { Verdict::Reject } else { Verdict::Keep }
            })))
            .unwrap();
        for number in [1, 2] {
            let connection = Connection::server().context(alive.bad(number));
            let payload = Payload::new(&census, number, 0, 0);
            assert!(web.put_from(&id(number), payload, connection).is_stored());
        }
        cache.poll_callbacks();
        wait_until("both are told", || called.load(Ordering::SeqCst) == 2);
        wait_until("both are dropped", || alive.count() == 0);
        wait_until("it was rejected", || !web.contains(&id(1)));
        assert!(web.contains(&id(2)));
        wait_until("it is counted", || cache.stats().callbacks_panicked == 2);
        cache.close();
        cache.poll_callbacks();
        wait_until("payloads are dropped", || census.alive() == 0);
        assert_eq!(cache.stats().callbacks_waiting, 0);
    }
}

/// Out of the put that was refused, as a payload's drop; the payload is lost with it, and not leaked.
#[test]
fn a_refused_context_that_panics_does_so_out_of_the_put() {
    let alive = Alive::default();
    let census = Arc::new(Census::default());
    let cache: SessionCache<Payload> =
        SessionCache::builder().dispatch(Dispatch::Manual).max_sessions(2).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).unwrap();
    let is_refused = |set: fn(&SessionCache<Payload>)| {
        set(&cache);
        let payload = Payload::new(&census, 1, 0, 0);
        let connection = Connection::server().context(alive.bad(1));
        let put = std::panic::AssertUnwindSafe(|| web.put_from(&id(1), payload, connection));
        assert!(std::panic::catch_unwind(put).is_err());
        assert_eq!((alive.count(), census.alive()), (0, 0));
    };
    is_refused(|cache| cache.set_max_sessions(0));
    is_refused(|cache| {
        let _ = cache.set_mode(CacheMode::OFF);
    });
    is_refused(|cache| cache.close());
}

/// Headers of both layouts are kept for the next puts of a thread, and used again.
#[test]
fn headers_of_both_layouts_are_used_again() {
    let alive = Alive::default();
    let (cache, web) = cache(Dispatch::Workers(1));
    let wrong = Arc::new(AtomicBool::new(false));
    let is_wrong = Arc::clone(&wrong);
    cache
        .set_on_new(Some(Arc::new(move |new| {
            let number = number(new.session().id());
            let expected = (!number.is_multiple_of(3)).then_some(number);
            if port(&new) != expected || *new.session().payload() != number {
                is_wrong.store(true, Ordering::SeqCst);
            }
            Verdict::Keep
        })))
        .unwrap();
    thread::scope(|scope| {
        for thread in 0..3u64 {
            let (web, alive) = (&web, &alive);
            scope.spawn(move || {
                for step in 0..3_000u64 {
                    let number = thread * 3_000 + step;
                    // Runs of one layout, and turns of both.
                    let put = match number.is_multiple_of(3) {
                        true => web.put(&id(number), number),
                        false => web.put_from(&id(number), number, alive.connection(number)),
                    };
                    assert!(put.is_stored());
                    if step % 1_000 < 500 {
                        drop(web.take(&id(number)));
                    }
                }
            });
        }
    });
    cache.close();
    assert!(!wrong.load(Ordering::SeqCst));
    wait_until("all are dropped", || alive.count() == 0);
    assert_eq!(cache.stats().new_called, 9_000);
}
