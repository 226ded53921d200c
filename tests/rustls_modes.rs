//! Real rustls handshakes in the modes of the cache, with an external map behind the three callbacks.

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use resumption::{
    Answer, CacheMode, Dispatch, Found, NewSession, Proposed, RemovedSession, SessionCache,
    SessionId, Verdict, Want,
};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tls::{ONLY_12, ONLY_13, Pki, Versions, store, visit};

type Map = Arc<Mutex<HashMap<SessionId, Vec<u8>>>>;

/// A server on a cache of a mode, an external map that follows it, and a client.
struct Setup {
    cache: SessionCache,
    map: Map,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn setup(mode: CacheMode, versions: Versions) -> Setup {
    // A ticker could be making the calls of a put, and the put would not wait for them.
    let builder =
        SessionCache::builder().max_sessions(100).dispatch(Dispatch::Inline).without_ticker();
    let cache: SessionCache = builder.mode(mode).build().unwrap();
    let map = Map::default();
    let (new, left, find) = (Arc::clone(&map), Arc::clone(&map), Arc::clone(&map));
    let on_new = move |told: NewSession| {
        let session = told.session();
        new.lock().unwrap().insert(*session.id(), session.payload().to_vec());
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    let on_remove = move |told: RemovedSession| {
        left.lock().unwrap().remove(told.id());
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    cache.set_on_get(Some(Arc::new(move |proposed: &Proposed<'_>| {
        let mut map = find.lock().unwrap();
        let found = match proposed.want() {
            Want::Get => map.get(proposed.id()).cloned(),
            Want::Take => map.remove(proposed.id()),
        };
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        found.map_or(Answer::Nothing, |bytes| {
            Answer::Give(Found::new(id, scope, bytes.into(), Duration::from_secs(60)))
        })
    })));
    let pki = Pki::new();
    let server = Arc::new(pki.public(store(&cache, "web")));
    Setup { cache, map, server, client: Arc::new(pki.client(versions)) }
}

#[test]
fn sessions_that_are_all_elsewhere_are_resumed() {
    for (versions, tickets, kept) in [(ONLY_13, 2, 7), (ONLY_12, 1, 1)] {
        let mode = CacheMode::SERVER | CacheMode::NO_INTERNAL_STORE | CacheMode::NO_INTERNAL_LOOKUP;
        let Setup { cache, map, server, client } = setup(mode, versions);
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        assert_eq!((map.lock().unwrap().len(), cache.len()), (tickets, 0));
        for visits in 1..=5 {
            assert_eq!(visit(&client, &server), HandshakeKind::Resumed, "visit {visits}");
        }
        assert_eq!((map.lock().unwrap().len(), cache.len()), (kept, 0));
        let stats = cache.stats();
        assert_eq!((stats.puts, stats.hits, stats.takes, stats.misses()), (0, 0, 0, 0));
        assert_eq!(stats.get_answered, 5);
        // Nothing else had them.
        map.lock().unwrap().clear();
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
    }
}

#[test]
fn a_cache_that_is_off_resumes_what_is_elsewhere() {
    for versions in [ONLY_12, ONLY_13] {
        let Setup { cache, map, server, client } = setup(CacheMode::SERVER, versions);
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        let elsewhere = map.lock().unwrap().clone();
        cache.flush();
        assert!(map.lock().unwrap().is_empty() && !elsewhere.is_empty());
        // As in another process, whose database has them.
        map.lock().unwrap().extend(elsewhere);
        cache.set_mode(CacheMode::OFF);
        let puts = cache.stats().puts;
        assert!(server.session_storage.can_cache());
        assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
        assert_eq!(cache.stats().get_answered, 1);
        // A get's answer is stored; the sessions of the handshake are not.
        assert_eq!(cache.stats().puts - puts, cache.len() as u64);
        map.lock().unwrap().clear();
        cache.flush();
        cache.set_on_get(None);
        assert!(!server.session_storage.can_cache(), "nothing could be found");
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        cache.set_mode(CacheMode::SERVER);
        assert!(server.session_storage.can_cache());
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
    }
}
