//! How long sessions last in front of rustls: their lifetime, reloads of the configuration, the
//! handles that keep the cache, and `close`.

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::{sync::Arc, time::Duration};

use resumption::{Clock, SessionCache};
use rustls::HandshakeKind;
use tls::{Link, ONLY_12, ONLY_13, Pki, Versions, cache, sent, start, store, verdict, visit};

const LIFETIME: Duration = Duration::from_secs(600);

fn timed_cache(clock: &Clock) -> SessionCache {
    SessionCache::builder()
        .max_sessions(1_000)
        .lifetime(LIFETIME)
        .clock(clock.clone())
        .without_ticker()
        .build()
        .unwrap()
}

#[test]
fn an_expired_session_is_refused_though_the_client_still_offers_it() {
    for versions in [ONLY_12, ONLY_13] {
        let (pki, clock) = (Pki::new(), Clock::manual());
        let cache = timed_cache(&clock);
        let server = Arc::new(pki.public(store(&cache, "web")));
        let client = Arc::new(pki.client(versions));
        assert_eq!(visit(&client, &server), HandshakeKind::Full);

        clock.advance(LIFETIME);
        assert_eq!(visit(&client, &server), HandshakeKind::Full);
        let stats = cache.stats();
        assert_eq!((stats.misses_expired, stats.misses_unknown), (1, 0));
        assert_eq!((stats.hits, stats.takes), (0, 0));
    }
}

#[test]
fn a_session_is_good_until_shortly_before_its_expiry() {
    for versions in [ONLY_12, ONLY_13] {
        let (pki, clock) = (Pki::new(), Clock::manual());
        let cache = timed_cache(&clock);
        let server = Arc::new(pki.public(store(&cache, "web")));
        let client = Arc::new(pki.client(versions));
        assert_eq!(visit(&client, &server), HandshakeKind::Full);

        clock.advance(LIFETIME - Duration::from_secs(2));
        assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
        assert_eq!(cache.stats().misses_expired, 0);
    }
}

#[test]
fn sessions_are_kept_when_the_configuration_is_made_anew_with_another_certificate() {
    for versions in [ONLY_12, ONLY_13] {
        let (pki, cache) = (Pki::new(), cache());
        let client = Arc::new(pki.client(versions));
        let mut link = Link::new(&client, &Arc::new(pki.public(store(&cache, "web"))));
        link.run().unwrap();
        assert_eq!(link.kind(), HandshakeKind::Full);
        let old_cert = shown(&link);
        drop(link);

        // The first configuration is gone, and its certificate with it.
        let server = Arc::new(pki.public(store(&cache, "web")));
        assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
        let mut link = Link::new(&Arc::new(pki.client(versions)), &server);
        link.run().unwrap();
        assert_eq!(link.kind(), HandshakeKind::Full);
        assert_ne!(shown(&link), old_cert);
    }
}

/// The certificate that the server showed.
fn shown(link: &Link) -> Vec<u8> {
    link.client.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_store_keeps_the_cache_alive() {
    let (pki, cache) = (Pki::new(), cache());
    let server = Arc::new(pki.public(store(&cache, "web")));
    let client = Arc::new(pki.client(ONLY_13));
    drop(cache);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
}

#[test]
fn the_cache_keeps_its_sessions_without_any_store() {
    let (pki, cache) = (Pki::new(), cache());
    let client = Arc::new(pki.client(ONLY_13));
    assert_eq!(visit(&client, &Arc::new(pki.public(store(&cache, "web")))), HandshakeKind::Full);
    assert_eq!(cache.len(), 2);

    let server = Arc::new(pki.public(store(&cache, "web")));
    assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
}

/// A client with a session, and then its server with a closed cache.
fn closed(versions: Versions) -> (SessionCache, Link, Vec<u8>) {
    let (pki, cache) = (Pki::new(), cache());
    let server = Arc::new(pki.public(store(&cache, "web")));
    let client = Arc::new(pki.client(versions));
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    let hello = sent(&mut start(&client));
    cache.close();
    assert_eq!(verdict(&server, &hello), HandshakeKind::Full);
    // A client that has nothing yet, so that whatever it has afterwards is from here.
    let newcomer = Arc::new(pki.client(versions));
    let mut link = Link::new(&newcomer, &server);
    link.run().unwrap();
    link.talk();
    assert_eq!(link.kind(), HandshakeKind::Full);
    let next = sent(&mut start(&newcomer));
    (cache, link, next)
}

#[test]
fn after_close_tls13_handshakes_are_full_and_bring_no_ticket() {
    let (cache, link, _) = closed(ONLY_13);
    assert_eq!(link.client.tls13_tickets_received(), 0);
    assert_eq!(cache.stats().sessions, 0);
}

#[test]
fn after_close_tls12_handshakes_are_full_and_bring_no_session_id() {
    let (cache, _, next_hello) = closed(ONLY_12);
    // Record header 5, message header 4, version 2, random 32: then the length of the session id.
    assert_eq!(next_hello[43], 0, "the client was given a session id to offer");
    assert_eq!(cache.stats().sessions, 0);
}
