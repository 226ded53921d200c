//! Contexts, connections and caches that end in any order, and connections that are used again.

#[path = "common/openssl.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    ffi::c_int,
    io::{self, Read, Write},
    os::unix::net::UnixDatagram,
};

use common::{
    BOTH, Client, HOST, Kind, Link, TLS12, TLS13, cache, server, server_builder, server_with,
    session, visit, web,
};
use foreign_types::ForeignTypeRef;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslMethod, SslOptions, SslRef, SslSessionCacheMode, SslStream,
};
use resumption::tls::openssl::attach;

// From `<openssl/ssl.h>`.
unsafe extern "C" {
    fn SSL_clear(ssl: *mut openssl_sys::SSL) -> c_int;
    fn SSL_renegotiate(ssl: *mut openssl_sys::SSL) -> c_int;
}

fn clear(ssl: &SslRef) {
    // SAFETY: the connection lives, and no other thread has it.
    assert_eq!(unsafe { SSL_clear(ssl.as_ptr()) }, 1);
}

fn renegotiate(ssl: &SslRef) {
    // SAFETY: as above.
    assert_eq!(unsafe { SSL_renegotiate(ssl.as_ptr()) }, 1);
}

#[test]
fn a_context_keeps_the_cache() {
    for version in BOTH {
        let cache = cache();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        drop(cache);
        let session = session(&client, &server);
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
    }
}

#[test]
fn sessions_outlive_their_context() {
    for version in BOTH {
        let cache = cache();
        let client = Client::new(version);
        let session = session(&client, &server(&web(&cache)));
        assert!(!cache.is_empty(), "the context is freed, and no session with it");
        assert_eq!(visit(&client, &server(&web(&cache)), Some(&session)), Kind::Resumed);
    }
}

#[test]
fn a_connection_keeps_its_context_and_cache() {
    for version in BOTH {
        let cache = cache();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let mut link = Link::new(client.connection(Some(HOST), None), &server);
        drop((server, cache));
        assert_eq!(link.run(), Kind::Full);
        link.close();
    }
}

#[test]
fn a_cache_that_is_closed_under_a_connection_loses_its_sessions_alone() {
    for version in BOTH {
        let cache = cache();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let session = session(&client, &server);
        let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &server);
        assert_eq!(link.run(), Kind::Resumed);
        // What this visit left behind, too.
        let newer = client.sessions().pop().unwrap_or(session);
        assert!(!cache.is_empty());
        cache.close();
        assert!(cache.is_empty(), "the connection keeps none of them there");
        // While that connection lives: its end alone would end a session of TLS 1.2.
        assert_eq!(visit(&client, &server, Some(&newer)), Kind::Full);
        link.talk();
        drop(link);
        assert!(cache.is_empty(), "nothing came since");
    }
}

#[test]
fn a_second_attachment_takes_the_place_of_the_first() {
    for version in BOTH {
        let (one, other) = (cache(), cache());
        let server = server_with(&web(&one), |builder| attach(builder, &web(&other)).unwrap());
        let client = Client::new(version);
        let session = session(&client, &server);
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
        assert!(one.is_empty() && !other.is_empty());
    }
}

#[test]
fn reloads_use_up_none_of_openssls_indices() {
    let cache = cache();
    drop(server(&web(&cache)));
    let before = Ssl::new_ex_index::<u8>().unwrap().as_raw();
    for _ in 0..10 {
        drop(server(&web(&cache)));
    }
    assert_eq!(Ssl::new_ex_index::<u8>().unwrap().as_raw(), before + 1);
}

#[test]
fn a_cleared_connection_serves_the_next_client() {
    for version in BOTH {
        let cache = cache();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let mut session = session(&client, &server);
        let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &server);
        // More often than one handshake may look sessions up.
        for _ in 0..20 {
            assert_eq!(link.run(), Kind::Resumed);
            session = client.sessions().pop().unwrap_or(session);
            link = link.cleared(client.connection(Some(HOST), Some(&session)));
        }
    }
}

impl Link {
    /// Closes both ends, and begins another connection with the server's object.
    fn cleared(mut self, client: Ssl) -> Self {
        let _ = self.server.shutdown();
        clear(self.server.ssl());
        let pipe = self.client.get_ref().anew();
        Self { client: SslStream::new(client, pipe).unwrap(), server: self.server }
    }
}

#[test]
fn a_cleared_connection_does_not_remember_the_session_that_it_spent() {
    let cache = cache();
    let client = Client::new(TLS13);
    let ticket = session(&client, &server(&web(&cache)));
    // Without tickets nothing tells the adapter that a handshake is over.
    let silent = server_with(&web(&cache), |builder| builder.set_num_tickets(0).unwrap());
    let mut link = Link::new(client.connection(Some(HOST), Some(&ticket)), &silent);
    assert!(link.client.do_handshake().is_err(), "it waits");
    let flight = link.server.get_ref().waiting();
    assert_eq!(link.run(), Kind::Resumed);

    let mut replay = link.cleared(client.connection(Some(HOST), None));
    replay.server.get_ref().inject(&flight);
    let answer = replay.server.do_handshake().unwrap_err();
    assert_eq!(answer.code(), ErrorCode::WANT_READ, "it has answered");
    assert!(!replay.server.ssl().session_reused());
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.misses_unknown), (1, 1));
}

#[test]
fn a_renegotiation_finds_the_sessions_host_again() {
    let cache = cache();
    let (client, server) = (Client::new(TLS12), server(&web(&cache)));
    let mut link = Link::new(client.connection(Some(HOST), None), &server);
    assert_eq!(link.run(), Kind::Full);
    renegotiate(link.server.ssl());
    link.server.do_handshake().unwrap();
    // Each end does its part of the handshake while it reads.
    for _ in 0..4 {
        assert!(link.client.ssl_read(&mut [0]).is_err(), "nothing was written");
        assert!(link.server.ssl_read(&mut [0]).is_err());
    }
    link.talk();
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.puts, stats.misses_unknown), (1, 1, 0));
    link.close();
}

#[test]
fn a_context_with_openssls_own_cache_on_gets_copies() {
    for version in BOTH {
        let cache = cache();
        let own = || {
            server_with(&web(&cache), |builder| {
                builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
            })
        };
        let client = Client::new(version);
        let (a, b) = (own(), own());
        // OpenSSL forbids one object in the lists of two contexts.
        for _ in 0..10 {
            let session = session(&client, &a);
            assert_eq!(visit(&client, &b, Some(&session)), Kind::Resumed);
            assert_eq!(visit(&client, &b, Some(&session)), Kind::Resumed, "from OpenSSL's own");
        }
        drop(a);
        cache.flush();
        drop(b);
    }
}

#[test]
fn a_client_of_an_attached_context_puts_nothing() {
    for version in BOTH {
        let cache = cache();
        let mut builder = server_builder(SslMethod::tls());
        attach(&mut builder, &web(&cache)).unwrap();
        builder.set_max_proto_version(Some(version)).unwrap();
        builder
            .set_session_cache_mode(SslSessionCacheMode::BOTH | SslSessionCacheMode::NO_INTERNAL);
        let both = builder.build();
        let mut client = Ssl::new(&both).unwrap();
        client.set_connect_state();
        let other = common::cache();
        assert_eq!(Link::new(client, &server(&web(&other))).run(), Kind::Full);
        assert_eq!((cache.len(), cache.stats().puts), (0, 0));
    }
}

/// Datagrams that wait for nobody.
#[derive(Debug)]
struct Datagrams(UnixDatagram);

impl Read for Datagrams {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.recv(into)
    }
}

impl Write for Datagrams {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The two ends of a connection over datagrams.
fn datagram_link(client: Ssl, server: &SslContext) -> Link<Datagrams> {
    let mut ssl = Ssl::new(server).unwrap();
    ssl.set_accept_state();
    let (a, b) = UnixDatagram::pair().unwrap();
    let stream = |mut ssl: Ssl, socket: UnixDatagram| {
        socket.set_nonblocking(true).unwrap();
        ssl.set_mtu(1_400).unwrap();
        SslStream::new(ssl, Datagrams(socket)).unwrap()
    };
    Link { client: stream(client, a), server: stream(ssl, b) }
}

#[test]
fn dtls_sessions_resume_until_they_are_removed() {
    let cache = cache();
    let mut builder = server_builder(SslMethod::dtls());
    attach(&mut builder, &web(&cache)).unwrap();
    builder.set_options(SslOptions::NO_QUERY_MTU);
    let server = builder.build();
    let client = SslContext::builder(SslMethod::dtls()).unwrap();
    let client = Client::of(client, |builder| {
        builder.set_options(SslOptions::NO_QUERY_MTU);
    });
    let visit = |offer| {
        let mut link = datagram_link(client.connection(Some(HOST), offer), &server);
        let kind = link.run();
        link.close();
        kind
    };
    assert_eq!(visit(None), Kind::Full);
    let session = client.session();
    for _ in 0..3 {
        assert_eq!(visit(Some(&session)), Kind::Resumed);
    }
    let stats = cache.stats();
    assert_eq!((stats.puts, stats.hits, stats.takes), (1, 3, 0));
    cache.flush();
    assert_eq!(visit(Some(&session)), Kind::Full);
}
