//! Early data: accepted once, and never again, whether the first flight is copied byte by byte or
//! the client comes back with a used ticket.

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use resumption::{Answer, CacheMode, Dispatch, Found, SessionCache, SessionId, Verdict, Want};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use tls::{Link, ONLY_13, Pki, accept, answer, cache, feed, sent, start, store, visit};

const REQUEST: &[u8] = b"GET /once HTTP/1.1\r\n\r\n";

struct Setup {
    pki: Pki,
    cache: SessionCache,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// A server that accepts early data, and a client that has a ticket for it.
fn setup() -> Setup {
    let (pki, cache) = (Pki::new(), cache());
    let server = early_server(&pki, &cache);
    let client = early_client(&pki);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    Setup { pki, cache, server, client }
}

fn early_server(pki: &Pki, cache: &SessionCache) -> Arc<ServerConfig> {
    let mut config = pki.public(store(cache, "web"));
    config.max_early_data_size = 1_024;
    config.into()
}

fn early_client(pki: &Pki) -> Arc<ClientConfig> {
    let mut config = pki.client(ONLY_13);
    config.enable_early_data = true;
    config.into()
}

/// A client that has written its request as early data, and its first flight with it.
fn first_flight(config: &Arc<ClientConfig>) -> (ClientConnection, Vec<u8>) {
    let mut client = start(config);
    client.early_data().expect("a ticket that allows it").write_all(REQUEST).unwrap();
    let flight = sent(&mut client);
    (client, flight)
}

/// The early data that a server lets its application read; none where it refused them.
fn early_data(server: &mut ServerConnection) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    server.early_data()?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn early_data_are_accepted_with_a_ticket_that_is_used_first() {
    let Setup { server, client, .. } = setup();
    let (client, flight) = first_flight(&client);
    let mut link = Link { client, server: accept(&server) };
    feed(&mut link.server, &flight).unwrap();
    assert_eq!(early_data(&mut link.server).as_deref(), Some(REQUEST));

    link.run().unwrap();
    link.talk();
    assert_eq!(link.kind(), HandshakeKind::Resumed);
    assert!(link.client.is_early_data_accepted());
}

#[test]
fn a_replayed_first_flight_brings_no_early_data() {
    let Setup { pki, cache, server, client } = setup();
    let (_client, flight) = first_flight(&client);
    assert_eq!(early_data(&mut answer(&server, &flight)).as_deref(), Some(REQUEST));

    // To the same server, and to one whose configuration was made anew since.
    for server in [server, early_server(&pki, &cache)] {
        let mut replayed = answer(&server, &flight);
        assert_eq!(early_data(&mut replayed), None);
        assert_eq!(replayed.handshake_kind(), Some(HandshakeKind::Full));
    }
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.misses_unknown), (1, 2));
}

#[test]
fn a_client_that_uses_its_ticket_again_is_told_that_its_early_data_were_refused() {
    let Setup { server, client, .. } = setup();
    let (client, flight) = first_flight(&client);
    assert_eq!(early_data(&mut answer(&server, &flight)).as_deref(), Some(REQUEST));

    let mut link = Link { client, server: accept(&server) };
    feed(&mut link.server, &flight).unwrap();
    assert_eq!(early_data(&mut link.server), None);
    link.run().unwrap();
    link.talk();
    assert_eq!(link.kind(), HandshakeKind::Full);
    assert!(!link.client.is_early_data_accepted());
}

/// Stands for a database that finds and deletes in one step; of one scope.
type Database = Arc<Mutex<HashMap<SessionId, Vec<u8>>>>;

/// A cache with the database behind it.
fn cache_of(database: &Database, mode: CacheMode) -> SessionCache {
    let builder = SessionCache::builder().dispatch(Dispatch::Inline).mode(mode);
    let cache: SessionCache = builder.without_ticker().build().unwrap();
    let (store, find) = (Arc::clone(database), Arc::clone(database));
    let on_new = move |new: resumption::NewSession| {
        let session = new.session();
        store.lock().unwrap().insert(*session.id(), session.payload().to_vec());
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (id, mut rows) = (*proposed.id(), find.lock().unwrap());
        let row = match proposed.want() {
            Want::Get => rows.get(&id).cloned(),
            Want::Take => rows.remove(&id),
        };
        row.map_or(Answer::Nothing, |bytes| {
            let (scope, lifetime) = (proposed.scope().clone(), Duration::from_secs(60));
            Answer::Give(Found::new(id, scope, bytes.into(), lifetime))
        })
    })));
    cache
}

/// How often one first flight brings its early data to servers with one database: first to the other one, then to the
/// one where the client has its ticket from; or, if it is planted, to one that was asked for it by its name, as a TLS 1.2
/// hello with that session id asks.
fn times_accepted(mode: CacheMode, is_planted: bool) -> usize {
    let (pki, database) = (Pki::new(), Database::default());
    let caches = [(); 3].map(|()| cache_of(&database, mode));
    let [one, other, third] = caches.each_ref().map(|cache| early_server(&pki, cache));
    let client = early_client(&pki);
    assert_eq!(visit(&client, if is_planted { &third } else { &one }), HandshakeKind::Full);
    if is_planted {
        let tickets: Vec<_> = database.lock().unwrap().keys().copied().collect();
        let one = store(&caches[0], "web");
        assert!(tickets.iter().all(|ticket| one.get(ticket.as_bytes()).is_some()));
    }
    let (_client, flight) = first_flight(&client);
    let is_accepted = |server| early_data(&mut answer(server, &flight)).is_some();
    [&other, &one, &other, &one].into_iter().filter(|server| is_accepted(server)).count()
}

#[test]
fn a_first_flight_counts_once_for_all_servers_whose_takes_ask() {
    for flags in [CacheMode::NO_INTERNAL_LOOKUP, CacheMode::NO_INTERNAL] {
        for is_planted in [false, true] {
            assert_eq!(times_accepted(CacheMode::SERVER | flags, is_planted), 1, "{flags:?}");
        }
    }
}

/// Why several servers take no early data in the default mode: the second one does not ask.
#[test]
fn a_first_flight_counts_at_each_server_that_has_the_session_in_memory() {
    for is_planted in [false, true] {
        assert_eq!(times_accepted(CacheMode::default(), is_planted), 2);
    }
}
