//! Real rustls handshakes with the cache as the server's store: full, resumed, and how often a
//! session may be used.

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::{
    sync::{Arc, Barrier},
    thread,
};

use resumption::SessionCache;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use tls::{Link, ONLY_12, ONLY_13, Pki, Versions, cache, sent, start, store, verdict, visit};

/// A public server on a cache of its own, and a client of it.
struct Setup {
    cache: SessionCache,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn setup(versions: Versions) -> Setup {
    let pki = Pki::new();
    let cache = cache();
    let server = Arc::new(pki.public(store(&cache, "web")));
    Setup { cache, server, client: Arc::new(pki.client(versions)) }
}

#[test]
fn the_clients_speak_the_version_that_they_are_made_for() {
    let spoken = |versions: Versions| {
        let Setup { server, client, .. } = setup(versions);
        let mut link = Link::new(&client, &server);
        link.run().unwrap();
        link.server.protocol_version().unwrap()
    };
    assert_eq!(spoken(ONLY_12), ProtocolVersion::TLSv1_2);
    assert_eq!(spoken(ONLY_13), ProtocolVersion::TLSv1_3);
}

#[test]
fn a_full_handshake_stores_a_session_for_each_ticket() {
    let Setup { cache, server, client } = setup(ONLY_13);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    let stats = cache.stats();
    assert_eq!((stats.puts, stats.sessions), (2, 2));
    assert_eq!((stats.takes, stats.hits, stats.misses()), (0, 0, 0));
}

#[test]
fn a_returning_client_is_resumed_and_gets_new_tickets() {
    let Setup { cache, server, client } = setup(ONLY_13);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    for visits in 1..=20 {
        assert_eq!(visit(&client, &server), HandshakeKind::Resumed, "visit {visits}");
    }
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.removals.taken), (20, 20));
    assert_eq!((stats.puts, stats.sessions), (42, 22));
    assert_eq!((stats.hits, stats.misses()), (0, 0));
}

#[test]
fn both_tickets_of_a_handshake_resume_once_each() {
    let Setup { cache, mut server, client } = setup(ONLY_13);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    // From here on no new tickets: the client has these two and no more.
    Arc::get_mut(&mut server).unwrap().send_tls13_tickets = 0;
    let kinds = [(); 3].map(|()| visit(&client, &server));
    assert_eq!(kinds, [HandshakeKind::Resumed, HandshakeKind::Resumed, HandshakeKind::Full]);
    assert!(cache.is_empty());
}

#[test]
fn the_second_use_of_a_ticket_is_a_full_handshake() {
    let Setup { cache, server, client } = setup(ONLY_13);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);

    // The ticket resumes a whole connection ...
    let mut first = Link::new(&client, &server);
    let hello = sent(&mut first.client);
    tls::feed(&mut first.server, &hello).unwrap();
    first.run().unwrap();
    first.talk();
    assert_eq!(first.kind(), HandshakeKind::Resumed);

    // ... and a copy of the same ClientHello nothing any more.
    assert_eq!(verdict(&server, &hello), HandshakeKind::Full);
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.misses_unknown), (1, 1));
}

#[test]
fn a_client_whose_ticket_was_used_before_completes_a_full_handshake() {
    let Setup { server, client, .. } = setup(ONLY_13);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);

    let mut link = Link::new(&client, &server);
    let hello = sent(&mut link.client);
    assert_eq!(verdict(&server, &hello), HandshakeKind::Resumed);

    tls::feed(&mut link.server, &hello).unwrap();
    link.run().unwrap();
    link.talk();
    assert_eq!(link.kind(), HandshakeKind::Full);
}

#[test]
fn of_several_uses_at_once_exactly_one_resumes() {
    const THREADS: usize = 4;
    let Setup { cache, server, client } = setup(ONLY_13);
    for round in 0..25 {
        // No use ends with a ticket for the client, so each round begins with a whole connection.
        visit(&client, &server);
        let before = cache.stats().takes;
        let hello = sent(&mut start(&client));
        let barrier = Barrier::new(THREADS);
        let resumed = thread::scope(|scope| {
            let uses = [(); THREADS].map(|()| {
                scope.spawn(|| {
                    barrier.wait();
                    verdict(&server, &hello)
                })
            });
            let kinds = uses.map(|thread| thread.join().unwrap());
            kinds.iter().filter(|kind| **kind == HandshakeKind::Resumed).count()
        });
        assert_eq!(resumed, 1, "round {round}");
        assert_eq!(cache.stats().takes - before, 1, "round {round}");
    }
}

#[test]
fn a_tls12_session_is_found_by_its_id_as_often_as_it_is_used() {
    let Setup { cache, server, client } = setup(ONLY_12);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    for visits in 1..=5 {
        assert_eq!(visit(&client, &server), HandshakeKind::Resumed, "visit {visits}");
    }
    let stats = cache.stats();
    assert_eq!((stats.puts, stats.sessions), (1, 1));
    assert_eq!((stats.hits, stats.takes, stats.misses()), (5, 0, 0));
}

#[test]
fn a_session_removed_by_the_server_is_not_resumed() {
    for versions in [ONLY_12, ONLY_13] {
        let Setup { cache, server, client } = setup(versions);
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        assert!(cache.flush() > 0);
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        assert_eq!(cache.stats().misses_unknown, 1);
        assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
    }
}

#[test]
fn an_evicted_session_is_not_resumed() {
    let pki = Pki::new();
    let cache: SessionCache = SessionCache::builder().max_sessions(2).build().unwrap();
    let server = Arc::new(pki.public(store(&cache, "web")));
    let (old, new) = (Arc::new(pki.client(ONLY_13)), Arc::new(pki.client(ONLY_13)));
    assert_eq!(visit(&old, &server), HandshakeKind::Full);
    assert_eq!(visit(&new, &server), HandshakeKind::Full);
    assert_eq!(cache.len(), 2);

    assert_eq!(verdict(&server, &sent(&mut start(&old))), HandshakeKind::Full);
    assert_eq!(verdict(&server, &sent(&mut start(&new))), HandshakeKind::Resumed);
}
