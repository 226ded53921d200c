//! OpenSSL servers that keep their sessions in OpenSSL's own cache or in ours, filled with sessions
//! that can be resumed, and clients that come back to them: handshakes in memory, both ends in one
//! thread.

use std::collections::VecDeque;
use std::ffi::c_long;
use std::time::{Duration, Instant};

use common::contestants::honest::Id;
use common::openssl_calls::{seconds, session_count, set_id, set_timeout};
use cpu_time::ThreadTime;
use foreign_types::ForeignType;
use openssl::ssl::{
    ErrorCode, ShutdownState, Ssl, SslContext, SslMethod, SslOptions, SslSession,
    SslSessionCacheMode, SslSessionRef, SslVersion,
};
use openssl_sys as sys;
use resumption::tls::openssl::{OpensslSession, attach};
use resumption::{Scope, SessionCache, Sessions};

use crate::peers::{Client, HOST, Link, server_builder, step};

/// Longer than any bench.
pub(crate) const LIFETIME: Duration = Duration::from_secs(86_400);

// From `<openssl/ssl.h>`.
unsafe extern "C" {
    fn SSL_SESSION_dup(session: *const sys::SSL_SESSION) -> *mut sys::SSL_SESSION;
    fn SSL_CTX_set_timeout(ctx: *mut sys::SSL_CTX, seconds: c_long) -> c_long;
    fn SSL_CTX_flush_sessions(ctx: *mut sys::SSL_CTX, at: c_long);
}

/// A server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    context: SslContext,
    keeper: Keeper,
}

/// Where a server's sessions are.
enum Keeper {
    Openssl,
    Ours(SessionCache<OpensslSession>, Sessions<OpensslSession>),
}

impl Server {
    /// A server with OpenSSL's own cache for `max` sessions, in its own way but for the tickets, which
    /// hold ids.
    pub(crate) fn own(max: usize) -> Self {
        let mut builder = server_builder(SslMethod::tls_server());
        builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
        builder.set_session_cache_size(i32::try_from(max).expect("OpenSSL counts in an int"));
        builder.set_session_id_context(b"bench").expect("it is short");
        builder.set_options(SslOptions::NO_TICKET);
        // SAFETY: the builder owns a context; the call sets a field.
        unsafe { SSL_CTX_set_timeout(builder.as_ptr(), seconds(LIFETIME)) };
        Self { name: "OpenSSL", context: builder.build(), keeper: Keeper::Openssl }
    }

    /// A server that is attached to a cache.
    pub(crate) fn ours(cache: SessionCache<OpensslSession>) -> Self {
        let sessions = cache.scope(&Scope::new("bench"));
        let mut builder = server_builder(SslMethod::tls_server());
        attach(&mut builder, &sessions).expect("OpenSSL has memory");
        let keeper = Keeper::Ours(cache, sessions);
        Self { name: "resumption", context: builder.build(), keeper }
    }

    /// Adds a session that nobody else has, with a lifetime.
    pub(crate) fn add(&self, session: &SslSession, lifetime: Duration) {
        match &self.keeper {
            Keeper::Openssl => {
                // SAFETY: nobody else has the session yet.
                unsafe { set_timeout(session, lifetime) };
                // SAFETY: no other context has it.
                assert!(unsafe { self.context.add_session(session) }, "an add was refused");
            }
            Keeper::Ours(_, sessions) => {
                let session = OpensslSession::new(session, Some(HOST)).expect("OpenSSL has memory");
                let put = sessions.put_with(&session.cache_id(), session, lifetime);
                assert!(put.is_stored(), "a put was refused");
            }
        }
    }

    /// Removes a session that was added.
    pub(crate) fn remove(&self, session: &SslSession) {
        match &self.keeper {
            Keeper::Openssl => {
                // SAFETY: no other context has it.
                assert!(unsafe { self.context.remove_session(session) }, "it was added");
            }
            Keeper::Ours(_, sessions) => {
                let session = OpensslSession::new(session, Some(HOST)).expect("OpenSSL has memory");
                assert!(sessions.remove(&session.cache_id()), "it was put");
            }
        }
    }

    /// How many sessions it has.
    pub(crate) fn len(&self) -> usize {
        match &self.keeper {
            Keeper::Openssl => session_count(&self.context),
            Keeper::Ours(cache, _) => cache.len(),
        }
    }

    /// Lets OpenSSL's own cache drop what will have expired in so much time.
    pub(crate) fn flush(&self, ahead: Duration) {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
        // SAFETY: the context lives, and has a lock for this.
        unsafe { SSL_CTX_flush_sessions(self.context.as_ptr(), seconds(now + ahead)) };
    }
}

/// A session of a real handshake, as both ends remember it: the master of many copies that differ in
/// their ids, and can be resumed like itself.
pub(crate) struct Master {
    server: SslSession,
    /// The client's, encoded: the id is in there, as the session's or, in TLS 1.3, as the ticket.
    client: Vec<u8>,
}

impl Master {
    pub(crate) fn new(server: &Server, version: SslVersion) -> Self {
        let client = Client::new(version);
        let mut visit = Visit::new(&client, server, None);
        visit.run();
        let session = visit.link.server.ssl().session().expect("after the handshake").to_owned();
        visit.end();
        let client = client.session().to_der().expect("OpenSSL has memory");
        Self { server: session, client }
    }

    /// The server's side of the copy of this id.
    pub(crate) fn for_server(&self, id: &Id) -> SslSession {
        // SAFETY: the master lives, and OpenSSL only reads it.
        let copy = unsafe { SSL_SESSION_dup(self.server.as_ptr()) };
        assert!(!copy.is_null(), "OpenSSL has no memory");
        // SAFETY: it is not null, and its one reference is ours.
        let copy = unsafe { SslSession::from_ptr(copy) };
        // SAFETY: nobody else knows the copy.
        unsafe { set_id(&copy, id) };
        copy
    }

    /// The client's side of the copy of this id.
    fn for_client(&self, id: &Id) -> SslSession {
        let mut der = self.client.clone();
        let old = self.server.id();
        let mut places = 0;
        for start in 0..der.len() - old.len() {
            if der[start..].starts_with(old) {
                der[start..start + old.len()].copy_from_slice(id);
                places += 1;
            }
        }
        assert_eq!(places, 1, "the id is in what the client keeps");
        SslSession::from_der(&der).expect("OpenSSL wrote it, all but the id")
    }
}

/// The clients of one thread, which come back in turn, each with the session that it got last.
pub(crate) struct Returning {
    client: Client,
    tickets: VecDeque<Ticket>,
}

/// A session that a client has.
#[derive(Clone)]
pub(crate) enum Ticket {
    /// The copy of this id.
    Copied(Id),
    /// What a server has given in a resumed handshake.
    Given(SslSession),
}

impl Returning {
    /// Clients that have the copies of these ids.
    pub(crate) fn new(version: SslVersion, ids: impl Iterator<Item = Id>) -> Self {
        Self { client: Client::new(version), tickets: ids.map(Ticket::Copied).collect() }
    }

    /// What the next `count` clients offer, ready to be offered.
    pub(crate) fn offers(&mut self, count: usize, master: &Master) -> Vec<Offer> {
        let count = count.min(self.tickets.len());
        let offer = |ticket: Ticket| match &ticket {
            Ticket::Copied(id) => (master.for_client(id), ticket),
            Ticket::Given(session) => (session.clone(), ticket),
        };
        self.tickets.drain(..count).map(offer).collect()
    }

    /// A full handshake of somebody else, who does not come back; returns the server's part.
    pub(crate) fn full(&self, server: &Server) -> Part {
        let mut visit = Visit::new(&self.client, server, None);
        visit.run();
        assert!(!visit.link.server.ssl().session_reused(), "nothing was offered");
        drop(self.client.sessions());
        visit.end()
    }

    /// A resumed handshake; returns the server's part.
    pub(crate) fn visit(&mut self, server: &Server, (session, ticket): &Offer) -> Part {
        let mut visit = Visit::new(&self.client, server, Some(session));
        visit.run();
        assert!(visit.link.server.ssl().session_reused(), "a handshake was not resumed");
        let part = visit.end();
        let given = self.client.sessions();
        if given.is_empty() {
            self.tickets.push_back(ticket.clone());
        }
        self.tickets.extend(given.into_iter().map(Ticket::Given));
        part
    }
}

/// A session to be offered, and what it was made of.
pub(crate) type Offer = (SslSession, Ticket);

/// How long a server was at work: by the clock, and of the processor's time, of which other programs
/// on the machine take less.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub(crate) clock: Duration,
    pub(crate) processor: Duration,
}

impl Part {
    /// Adds the time that `run` takes.
    fn add<R>(&mut self, run: impl FnOnce() -> R) -> R {
        let (clock, processor) = (Instant::now(), ThreadTime::now());
        let result = at_work(run);
        self.processor += processor.elapsed();
        self.clock += clock.elapsed();
        result
    }
}

/// Runs a server's part: a function of its own, for who counts what is in it.
#[inline(never)]
pub(crate) fn at_work<R>(run: impl FnOnce() -> R) -> R {
    std::hint::black_box(run())
}

/// One connection, and the server's part in it.
struct Visit {
    link: Link,
    server: Part,
}

impl Visit {
    fn new(client: &Client, server: &Server, offer: Option<&SslSessionRef>) -> Self {
        let mut client = client.connection(Some(HOST), None);
        if let Some(session) = offer {
            // SAFETY: the session is from a client, and in no context's list.
            unsafe { client.set_session(session) }.expect("OpenSSL has memory");
        }
        let mut part = Part::default();
        let mut ssl = part.add(|| Ssl::new(&server.context)).expect("OpenSSL has memory");
        ssl.set_accept_state();
        Self { link: Link::of(client, ssl), server: part }
    }

    /// The handshake, until the client has read its tickets.
    fn run(&mut self) {
        let mut done = false;
        while !done {
            let client = step(self.link.client.do_handshake()).expect("the peers fit");
            let server = self.server.add(|| self.link.server.do_handshake());
            done = client && step(server).expect("the peers fit");
        }
        let read = self.link.client.ssl_read(&mut [0]).expect_err("nothing was written");
        assert_eq!(read.code(), ErrorCode::WANT_READ);
    }

    /// The end of the connection, as if both ends had said so.
    fn end(self) -> Part {
        let (Link { mut client, mut server }, mut part) = (self.link, self.server);
        let both = ShutdownState::SENT | ShutdownState::RECEIVED;
        client.set_shutdown(both);
        part.add(|| {
            server.set_shutdown(both);
            drop(server);
        });
        part
    }
}
