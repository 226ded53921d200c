//! Keys that an attacker chose: as many PSK identities as one ClientHello holds, of every length,
//! and session ids that no server gave out. All are refused, and counted for what they are.

#[path = "common/hello.rs"]
mod hello;
#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::sync::Arc;

use resumption::{SessionCache, Stats};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, PeerMisbehaved,
    ServerConfig, pki_types::ServerName,
};
use tls::{
    Link, ONLY_12, ONLY_13, Pki, accept, answer, cache, feed, sent, start, store, verdict, visit,
};

struct Setup {
    cache: SessionCache,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// A server whose cache holds two sessions, and the client that they belong to.
fn setup() -> Setup {
    let (pki, cache) = (Pki::new(), cache());
    let server = Arc::new(pki.public(store(&cache, "web")));
    let client = Arc::new(pki.client(ONLY_13));
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    Setup { cache, server, client }
}

/// Distinct bytes, all unlike a random key.
fn identity(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().repeat(len / 8 + 1);
    bytes.truncate(len);
    bytes
}

/// Sends the identities in one ClientHello, which the server must answer with a full handshake
/// that leaves the sessions of others as they are; returns what that counted.
fn refused(identities: &[Vec<u8>]) -> Stats {
    let Setup { cache, server, client } = setup();
    let flight = hello::with_identities(identities.iter().map(Vec::as_slice));
    let mut attacked = answer(&server, &flight);
    assert_eq!(attacked.handshake_kind(), Some(HandshakeKind::Full));
    assert!(!sent(&mut attacked).is_empty(), "the server goes on with its own flight");

    let stats = cache.stats();
    assert_eq!((stats.takes, stats.hits, stats.sessions), (0, 0, 2));
    assert_eq!(visit(&client, &server), HandshakeKind::Resumed);
    stats
}

#[test]
fn as_many_identities_as_fit_are_all_refused_as_malformed() {
    let count = hello::capacity(1);
    assert!(count > 1_600, "only {count} identities in one ClientHello");
    let identities: Vec<_> = (0..count).map(|number| identity(number, 1)).collect();
    let stats = refused(&identities);
    assert_eq!((stats.misses_malformed, stats.misses_unknown), (count as u64, 0));
}

#[test]
fn as_many_identities_of_the_right_length_as_fit_are_all_unknown() {
    let count = hello::capacity(32);
    assert!(count > 900, "only {count} identities in one ClientHello");
    let identities: Vec<_> = (0..count).map(|number| identity(number, 32)).collect();
    let stats = refused(&identities);
    assert_eq!((stats.misses_malformed, stats.misses_unknown), (0, count as u64));
}

#[test]
fn lengths_from_one_byte_to_a_whole_hello_are_told_apart() {
    let mixed: Vec<_> = (1..=300).map(|len| identity(len, len)).collect();
    let stats = refused(&mixed);
    assert_eq!((stats.misses_malformed, stats.misses_unknown), (299, 1));

    for len in [16_384, 32_768, 65_000] {
        let stats = refused(&[identity(1, len), identity(2, 32)]);
        assert_eq!((stats.misses_malformed, stats.misses_unknown), (1, 1), "{len} bytes");
    }
}

#[test]
fn who_has_only_seen_a_ticket_can_spend_it_and_gains_nothing() {
    let Setup { cache, server, client } = setup();
    let owners_hello = sent(&mut start(&client));
    let ticket = offered_ticket(&owners_hello);
    let strangers: Vec<_> = (0..900).map(|number| identity(number, 32)).collect();
    let mut all: Vec<&[u8]> = strangers.iter().map(Vec::as_slice).collect();
    all.push(ticket);

    let mut attacked = accept(&server);
    let error = feed(&mut attacked, &hello::with_identities(all.into_iter())).unwrap_err();
    assert_eq!(error, Error::PeerMisbehaved(PeerMisbehaved::IncorrectBinder));
    assert!(attacked.is_handshaking());
    let alert = sent(&mut attacked);
    assert_eq!(alert.last(), Some(&u8::from(AlertDescription::DecryptError)));
    assert_eq!((cache.stats().misses_unknown, cache.stats().takes), (900, 1));

    // The owner is not let in with it, and not kept out either.
    assert_eq!(verdict(&server, &owners_hello), HandshakeKind::Full);
}

/// rustls looks whether it can resume a session, by its host and cipher suite, once it has taken it.
#[test]
fn each_ticket_that_is_found_and_cannot_be_resumed_is_spent() {
    let (pki, cache) = (Pki::new(), cache());
    let server = Arc::new(pki.public(store(&cache, "web")));
    let client = Arc::new(tls::credulous_client());
    let elsewhere = || {
        let host = ServerName::try_from("elsewhere.test").unwrap();
        ClientConnection::new(client.clone(), host).unwrap()
    };
    let mut link = Link { client: elsewhere(), server: accept(&server) };
    link.run().unwrap();
    assert_eq!((link.kind(), cache.len()), (HandshakeKind::Full, 2));

    let hellos = [(); 2].map(|()| sent(&mut elsewhere()));
    let both = hellos.iter().map(|hello| offered_ticket(hello));
    let asked = answer(&server, &hello::with_identities(both));
    assert_eq!(asked.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!((cache.stats().takes, cache.len()), (2, 0));
    for hello in &hellos {
        assert_eq!(verdict(&server, hello), HandshakeKind::Full);
    }
}

/// The ticket in a real ClientHello: its last extension is `pre_shared_key`, which ends with the
/// one identity (32 bytes, 4 of age) and the list of its one binder (2, 1, and 48 of SHA-384).
fn offered_ticket(hello: &[u8]) -> &[u8] {
    let end = hello.len() - 48 - 1 - 2 - 4;
    &hello[end - 32..end]
}

#[test]
fn tls12_session_ids_that_the_server_did_not_choose_are_refused() {
    let (pki, cache) = (Pki::new(), cache());
    let server = Arc::new(pki.public(store(&cache, "web")));
    let client = Arc::new(pki.client(ONLY_12));
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    let real = sent(&mut start(&client));
    assert_eq!(real[SESSION_ID], 32, "the client offers an id");

    // One bit flipped, in the first byte and in the last.
    for at in [SESSION_ID + 1, SESSION_ID + 32] {
        let mut forged = real.clone();
        forged[at] ^= 1;
        assert_eq!(verdict(&server, &forged), HandshakeKind::Full);
    }
    assert_eq!((cache.stats().misses_unknown, cache.stats().misses_malformed), (2, 0));

    // Cut short, to every length that still is an id.
    for len in 1..32 {
        assert_eq!(verdict(&server, &with_shorter_id(&real, len)), HandshakeKind::Full);
    }
    assert_eq!((cache.stats().misses_unknown, cache.stats().misses_malformed), (2, 31));
    assert_eq!(verdict(&server, &real), HandshakeKind::Resumed);
}

/// Where the length of the session id stands: after the record header (5 bytes), the message
/// header (4), the version (2) and the random (32).
const SESSION_ID: usize = 43;

/// The same ClientHello in one record, with the first `len` bytes of its session id.
fn with_shorter_id(hello: &[u8], len: usize) -> Vec<u8> {
    let mut cut = hello.to_vec();
    cut[SESSION_ID] = len as u8;
    cut.drain(SESSION_ID + 1 + len..SESSION_ID + 33);
    let message = (cut.len() - 9) as u16;
    cut[7..9].copy_from_slice(&message.to_be_bytes());
    cut[3..5].copy_from_slice(&(message + 4).to_be_bytes());
    cut
}
