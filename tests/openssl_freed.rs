//! Every `SSL_SESSION` is freed, once; and there are never more of them than the cache may hold.
//!
//! OpenSSL itself tells of each that is made, copied or freed, through data that belong to them. The
//! tests take turns, for it tells of all sessions of the process.

#[path = "common/openssl.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    collections::HashSet,
    ffi::{c_int, c_long, c_void},
    ptr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use common::{BOTH, Cache, Client, HOST, Kind, Link, TLS13, server, session, visit, web};
use openssl::ssl::SslContext;
use openssl_sys::CRYPTO_EX_DATA;
use resumption::{
    Answer, Clock, Dispatch, Found, Portable, SessionCache, Verdict, tls::openssl::OpensslSession,
};

/// How long a test waits for what has to come, before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The addresses of all sessions of the process.
static ALIVE: Mutex<Option<HashSet<usize>>> = Mutex::new(None);

fn alive<R>(with: impl FnOnce(&mut HashSet<usize>) -> R) -> R {
    let mut alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
    with(alive.get_or_insert_default())
}

unsafe extern "C" fn made(
    session: *mut c_void,
    _: *mut c_void,
    _: *mut CRYPTO_EX_DATA,
    _: c_int,
    _: c_long,
    _: *mut c_void,
) {
    assert!(alive(|alive| alive.insert(session as usize)), "made where one is");
}

unsafe extern "C" fn freed(
    session: *mut c_void,
    _: *mut c_void,
    _: *mut CRYPTO_EX_DATA,
    _: c_int,
    _: c_long,
    _: *mut c_void,
) {
    assert!(alive(|alive| alive.remove(&(session as usize))), "freed twice");
}

/// Counts sessions from now on; one test at a time.
fn counted() -> MutexGuard<'static, ()> {
    const SSL_SESSION: c_int = 2;
    static INDEX: LazyLock<c_int> = LazyLock::new(|| {
        openssl::init();
        // SAFETY: the functions use the address that they are given as a number.
        unsafe {
            openssl_sys::CRYPTO_get_ex_new_index(
                SSL_SESSION,
                0,
                ptr::null_mut(),
                Some(made),
                None,
                Some(freed),
            )
        }
    });
    static TURN: Mutex<()> = Mutex::new(());
    assert!(*INDEX >= 0);
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(alive(|alive| alive.len()), 0, "of an earlier test");
    turn
}

/// Full and resumed handshakes, closed cleanly and not.
fn come_and_go(server: &SslContext, client: &Client) {
    let session = session(client, server);
    assert_eq!(visit(client, server, Some(&session)), Kind::Resumed);
    for offer in [None, Some(&session)] {
        let mut link = Link::new(client.connection(Some(HOST), offer), server);
        link.run();
        drop(link);
        let mut unfinished = Link::new(client.connection(Some(HOST), offer), server);
        assert!(unfinished.client.do_handshake().is_err());
        assert!(unfinished.server.do_handshake().is_err());
    }
}

/// Sessions that leave for every reason.
fn all_ways_out(cache: &Cache, clock: &Clock) {
    for version in BOTH {
        let (client, server) = (Client::new(version), server(&web(cache)));
        for _ in 0..10 {
            come_and_go(&server, &client);
        }
        cache.set_max_sessions(3);
        cache.flush();
        cache.set_max_sessions(100);
        come_and_go(&server, &client);
        clock.advance(Duration::from_secs(1_000_000));
        cache.flush_expired();
        come_and_go(&server, &client);
        cache.drop_scope(web(cache).scope());
        come_and_go(&server, &client);
    }
}

fn cache(clock: &Clock, dispatch: Dispatch) -> Cache {
    // A ticker in the middle of a step would drop the cache later than the test.
    let builder = SessionCache::builder().max_sessions(100).without_ticker();
    builder.clock(clock.clone()).dispatch(dispatch).build().unwrap()
}

#[test]
fn every_session_is_freed_once() {
    let _turn = counted();
    let clock = Clock::manual();
    let cache = cache(&clock, Dispatch::Inline);
    all_ways_out(&cache, &clock);
    assert!(alive(|alive| alive.len()) >= cache.len());
    drop(cache);
    assert_eq!(alive(|alive| alive.len()), 0);
}

#[test]
fn every_session_that_callbacks_have_seen_is_freed_once() {
    let _turn = counted();
    let clock = Clock::manual();
    for dispatch in [Dispatch::Inline, Dispatch::Workers(1), Dispatch::Manual] {
        let cache = cache(&clock, dispatch);
        let kept: Arc<Mutex<Vec<resumption::Session<OpensslSession>>>> = Arc::default();
        let keeps = Arc::clone(&kept);
        let on_new = move |new: resumption::NewSession<OpensslSession>| {
            let mut kept = keeps.lock().unwrap();
            kept.push(new.into_session());
            if kept.len().is_multiple_of(3) { Verdict::Reject } else { Verdict::Keep }
        };
        cache.set_on_new(Some(Arc::new(on_new))).unwrap();
        cache.set_on_remove(Some(Arc::new(|_| {}))).unwrap();
        let shares = Arc::clone(&kept);
        cache.set_on_get(Some(Arc::new(move |proposed| {
            let kept = shares.lock().unwrap();
            let Some(kept) = kept.iter().find(|kept| kept.id() == proposed.id()) else {
                return Answer::Nothing;
            };
            if kept.id().as_bytes()[0] % 2 == 0 {
                return Answer::Share(kept.clone());
            }
            let (id, scope) = (*proposed.id(), proposed.scope().clone());
            let payload = OpensslSession::from_bytes(&kept.payload().to_bytes()).unwrap();
            Answer::Give(Found::new(id, scope, payload, Duration::from_secs(60)))
        })));
        all_ways_out(&cache, &clock);
        while cache.poll_callbacks() > 0 {}
        cache.close();
        cache.set_on_get(None);
        assert_eq!(cache.stats().callbacks_panicked, 0, "{dispatch:?}");
        drop((cache, kept));
        // A worker that is about to end may be the last that has the cache, and its callbacks.
        let start = Instant::now();
        while alive(|alive| alive.len()) > 0 {
            assert!(start.elapsed() < PATIENCE, "{dispatch:?}: some are alive");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sessions in OpenSSL's own cache of a context: `SSL_CTX_sess_number`.
fn of_openssl(context: &SslContext) -> c_long {
    use foreign_types::ForeignTypeRef;
    const SSL_CTRL_SESS_NUMBER: c_int = 20;
    // SAFETY: the context lives; the call reads a number.
    unsafe { openssl_sys::SSL_CTX_ctrl(context.as_ptr(), SSL_CTRL_SESS_NUMBER, 0, ptr::null_mut()) }
}

#[test]
fn cve_2024_2511_sessions_do_not_grow_beyond_the_limit() {
    const LIMIT: usize = 10;
    let _turn = counted();
    for version in BOTH {
        let builder = SessionCache::builder().max_sessions(LIMIT).without_ticker();
        let cache: Cache = builder.build().unwrap();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let mut offer = None;
        for round in 0..200 {
            let mut link = Link::new(client.connection(Some(HOST), offer.as_ref()), &server);
            link.run();
            // Unclean closes make sessions that OpenSSL's own cache could not evict.
            if round % 2 == 0 {
                link.close();
            } else {
                drop(link);
            }
            offer = client.sessions().pop().filter(|_| round % 3 == 0);
            assert!(cache.len() <= LIMIT);
            assert_eq!(of_openssl(&server), 0);
            let alive = alive(|alive| alive.len());
            assert!(alive <= LIMIT + usize::from(offer.is_some()), "{alive} are alive");
        }
        if version == TLS13 {
            assert_eq!(cache.len(), LIMIT, "the limit was met");
        }
    }
    assert_eq!(alive(|alive| alive.len()), 0);
}
