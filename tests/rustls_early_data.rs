//! Early data: accepted once, and never again, whether the first flight is copied byte by byte or
//! the client comes back with a used ticket.

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::{
    io::{Read, Write},
    sync::Arc,
};

use resumption::SessionCache;
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
    let mut client = pki.client(ONLY_13);
    client.enable_early_data = true;
    let client = Arc::new(client);
    assert_eq!(visit(&client, &server), HandshakeKind::Full);
    Setup { pki, cache, server, client }
}

fn early_server(pki: &Pki, cache: &SessionCache) -> Arc<ServerConfig> {
    let mut config = pki.public(store(cache, "web"));
    config.max_early_data_size = 1_024;
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
