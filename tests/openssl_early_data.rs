//! Early data, and HelloRetryRequests: a session is spent once, whatever is sent twice.

#[path = "common/openssl.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{Cache, Client, HOST, Kind, Link, TLS13, cache, server_with, session, visit, web};
use openssl::ssl::{SslContext, SslContextBuilder, SslSession};

const REQUEST: &[u8] = b"GET /once HTTP/1.1\r\n\r\n";

/// A server that takes early data.
fn early_server(cache: &Cache, set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    server_with(&web(cache), |builder| {
        builder.set_max_early_data(1_024).unwrap();
        set(builder);
    })
}

/// A client that has sent its request with its first flight.
fn first_flight(client: &Client, server: &SslContext, ticket: &SslSession) -> Link {
    let mut link = Link::new(client.connection(Some(HOST), Some(ticket)), server);
    assert_eq!(link.client.write_early_data(REQUEST).unwrap(), REQUEST.len());
    link
}

/// The early data that a server lets its application read; nothing where it refused them.
fn early_data(link: &mut Link) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let len = link.server.read_early_data(&mut bytes).unwrap_or(0);
    bytes.truncate(len);
    bytes
}

#[test]
fn early_data_are_accepted_once() {
    let cache = cache();
    let (client, server) = (Client::new(TLS13), early_server(&cache, |_| {}));
    let ticket = session(&client, &server);

    let mut link = first_flight(&client, &server, &ticket);
    assert_eq!(early_data(&mut link), REQUEST);
    assert_eq!(link.run(), Kind::Resumed);
    link.close();

    let mut again = first_flight(&client, &server, &ticket);
    assert_eq!(early_data(&mut again), b"");
    assert_eq!(again.run(), Kind::Full);
    again.close();
}

#[test]
fn a_replayed_first_flight_brings_no_early_data() {
    let cache = cache();
    let (client, server) = (Client::new(TLS13), early_server(&cache, |_| {}));
    let ticket = session(&client, &server);
    let mut link = first_flight(&client, &server, &ticket);
    let flight = link.server.get_ref().waiting();
    assert_eq!(early_data(&mut link), REQUEST);

    // To the same context, and to one that was made anew since.
    for server in [&server, &early_server(&cache, |_| {})] {
        let mut replay = replayed(server, &flight);
        assert_eq!(early_data(&mut replay), b"");
        assert!(!replay.server.ssl().session_reused());
    }
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.misses_unknown), (1, 2));
}

/// A connection whose server is sent these bytes by nobody it knows.
fn replayed(server: &SslContext, flight: &[u8]) -> Link {
    let link = Link::new(Client::new(TLS13).connection(Some(HOST), None), server);
    link.server.get_ref().inject(flight);
    link
}

/// A client that guesses another group than [`retrying`] servers want.
fn guesser() -> Client {
    Client::with(TLS13, |builder| builder.set_groups_list("X25519:P-384").unwrap())
}

/// Lets a server answer such a client's first ClientHello with a HelloRetryRequest.
fn retrying(builder: &mut SslContextBuilder) {
    builder.set_groups_list("P-384").unwrap();
}

#[test]
fn a_session_resumes_over_a_hello_retry_request() {
    let cache = cache();
    let (client, server) = (guesser(), server_with(&web(&cache), retrying));
    let ticket = session(&client, &server);
    assert_eq!(visit(&client, &server, Some(&ticket)), Kind::Resumed);
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.misses_unknown), (1, 0), "taken once for both ClientHellos");
    assert_eq!(visit(&client, &server, Some(&ticket)), Kind::Full);
}

#[test]
fn a_hello_retry_request_spends_the_session_for_other_connections() {
    let cache = cache();
    let (client, server) = (guesser(), server_with(&web(&cache), retrying));
    let ticket = session(&client, &server);
    let mut first = Link::new(client.connection(Some(HOST), Some(&ticket)), &server);
    // The first ClientHello is answered, and the second one not sent yet.
    assert!(first.client.do_handshake().is_err());
    assert!(first.server.do_handshake().is_err());
    assert_eq!(visit(&client, &server, Some(&ticket)), Kind::Full);
    assert_eq!(first.run(), Kind::Resumed);
}

#[test]
fn early_data_are_refused_after_a_hello_retry_request_and_in_its_replay() {
    let cache = cache();
    let retrying = early_server(&cache, retrying);
    let (client, prompt) = (guesser(), early_server(&cache, |_| {}));
    let ticket = session(&client, &prompt);

    let mut link = first_flight(&client, &retrying, &ticket);
    let flight = link.server.get_ref().waiting();
    assert_eq!(early_data(&mut link), b"");
    assert_eq!(link.run(), Kind::Resumed);
    link.close();

    for server in [&retrying, &prompt] {
        let mut replay = replayed(server, &flight);
        assert_eq!(early_data(&mut replay), b"");
        assert!(!replay.server.ssl().session_reused());
    }
    assert_eq!(cache.stats().takes, 1);
}
