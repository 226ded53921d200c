//! The session cache of an OpenSSL 3 server: [`attach`].
//!
//! # What is set
//!
//! Attaching makes a cache the place where the contexts of a server keep their sessions, TLS 1.2 by
//! session ids and TLS 1.3 by stateful tickets. Of the context it sets
//!
//! | | to |
//! |---|---|
//! | the session cache mode | `SERVER`, `NO_INTERNAL`, `NO_AUTO_CLEAR`: OpenSSL's own is unused |
//! | the timeout | the lifetime of the cache, or [`Attachment::timeout`] |
//! | the session id context | the SHA-256 digest of the scope |
//! | the options | `NO_TICKET`: tickets hold an id and no state; and `NO_ANTI_REPLAY`, below |
//! | the new, remove and get callbacks | the cache's |
//!
//! and nothing else. What is set afterwards replaces it: attach last. *Leave the session cache mode as it
//! is.* With OpenSSL's own cache on, that is asked first, and by a session's own id alone: a session of one host
//! is found from another, tickets serve more than once, and early data can be replayed. The first session of such a
//! context logs an error. To see the sessions, set the callbacks of
//! the [cache](crate::SessionCache::set_on_new). How the cache is used is the cache's
//! [mode](crate::CacheMode), not the context's. How many tickets a TLS 1.3 handshake gives out is
//! the context's number, `set_num_tickets`, two unless it was changed; each is a session in the
//! cache. A resumed one gives out one, in the place of the one that it has taken, or none if the number is zero: then
//! the connection holds the session that it has taken until it ends itself, for nothing tells of the handshake's end.
//!
//! ```
//! use openssl::ssl::{SslAcceptor, SslMethod};
//! use resumption::tls::openssl::{OpensslSession, attach};
//! use resumption::{Scope, SessionCache};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache: SessionCache<OpensslSession> = SessionCache::builder()
//!     .max_bytes(256 << 20) // with the weigher; or .max_sessions(1_000_000), without
//!     .weigher(OpensslSession::weight)
//!     .build()?;
//!
//! let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
//! attach(&mut acceptor, &cache.scope(&Scope::new("public-web")))?;
//! let acceptor = acceptor.build();
//! # drop(acceptor);
//! # Ok(())
//! # }
//! ```
//!
//! It is the OpenSSL that the `openssl` crate finds, 3.0 or later. For the one that the crate
//! brings along, turn the crate's feature `vendored` on.
//!
//! # What a session is to the cache
//!
//! Its [id in the cache](OpensslSession::cache_id) is a digest of the protocol version, the host
//! that the client asked for (server_name), and the session's own id. So the callbacks of the
//! cache, and what they write to a database, know a session by that digest; [`cache_id`] tells it
//! for a connection.
//!
//! *A session belongs to its host.* OpenSSL looks a session up before it calls the servername
//! callback, and always in the context that the connection began with, so that neither that
//! callback nor `SSL_set_SSL_CTX` can keep a session of one host from another that checks its
//! clients (CVE-2025-23419). Here the host is a part of the name, as it stands in the ClientHello,
//! letter by letter: a session that was made for one is not found from another, nor from a client
//! that names none. A connection that changes its context keeps its sessions in the scope of the
//! context that it began with; give the contexts that a servername callback chooses from one scope, else OpenSSL may refuse
//! what one of them made after a HelloRetryRequest, and the handshake is a full one. What else than the host decides how clients are verified belongs
//! into the scope.
//!
//! *TLS 1.2* sessions are found by a get, until they expire.
//!
//! *TLS 1.3* sessions are found by a take, which has exactly one winner. OpenSSL looks up twice if
//! it answers the first ClientHello with a HelloRetryRequest; what the first look-up has taken is
//! then found once more. (Not with `SSL_stateless`, which forgets the first ClientHello: that
//! handshake becomes a full one.) OpenSSL looks up before it knows whether the client has the
//! session's secret: who has seen a ticket on the wire can spend it. Its owner then makes a full
//! handshake, and nobody gains a session.
//!
//! *Sessions are copied* when they come and when they are lent; they are not parsed. A connection
//! that ends without a close_notify has OpenSSL mark its session's object as not resumable. Were
//! that one object for all, as in OpenSSL's own cache, the mark would reach whoever keeps the session,
//! and other connections that are just resuming it, for which OpenSSL has broken handshakes (openssl#18690).
//!
//! *Early data.* `set_max_early_data` is all that it needs. OpenSSL's own protection from replay
//! wants its own cache, and would refuse every session; it is switched off, because a session that
//! is found once cannot be replayed. That reaches as far as the cache does. Servers that share an external one are safe
//! only if that deletes what it gives for a take atomically, and each of them asks it for each take, in the cache's
//! [mode](crate::CacheMode) `CacheMode::SERVER | CacheMode::NO_INTERNAL` (or with `NO_INTERNAL_LOOKUP` beside `SERVER`): in the default one the server that made a
//! session finds it in memory, though another one has taken it out of the database; there, take no early data. (An
//! external cache that answers [later](crate::Answer::Later) than the lookup waits leaves a session in the cache whose
//! client has gone on without it, and which its first flight, sent again, would find: give such answers no longer than the
//! client's patience, or take no early data.) Do not clear `NO_TICKET`, and set no other get callback, in a context that
//! takes early data.
//!
//! *A session ends* when the cache says so, and at the latest when its own timeout does, which is
//! the lifetime that the cache had when the session was made, or [`Attachment::timeout`]. So
//! [`extend`](crate::Sessions::extend) and [`UPDATE_TIME`](crate::CacheMode::UPDATE_TIME) prolong it
//! up to that. OpenSSL goes by the wall clock, and the cache does not. A TLS 1.2 session whose timeout OpenSSL finds to be over
//! first leaves as [expired](crate::Reason::Expired); if only an external cache has it, that is told of it as faulty, not
//! to give it again.
//!
//! *A session that an external cache gives* has to be what was asked for: the same version, host
//! and id (openssl#30517). Otherwise the handshake is a full one.
//!
//! # Connections that end badly
//!
//! OpenSSL calls the remove callback for a session whose connection sent or received a fatal alert,
//! or was freed without a close_notify sent. A TLS 1.2 session is then removed as
//! [faulty](crate::Reason::Faulty), as the manual page says; servers that close their connections
//! abruptly resume few sessions. TLS 1.3 tickets stay, unless [`Attachment::faulty_tickets_end`]
//! says otherwise.
//!
//! # The life of contexts and connections
//!
//! * A context holds the cache, for as long as it lives; the cache holds no context. They may be
//!   dropped in either order, also while connections live, and `SSL_CTX_free` removes no session
//!   from the cache.
//! * Several contexts may share a cache and a scope, one after another or at once, if they verify
//!   the same clients in the same way. A reload that changes only certificates keeps its sessions.
//!   One that takes a cipher away goes on resuming the TLS 1.2 sessions that have it, for OpenSSL looks for
//!   that in the client's list alone: give it another scope.
//! * A renegotiation (TLS 1.2, where it is allowed) looks sessions up and makes new ones like any
//!   handshake.
//! * `SSL_clear` ends a connection like `SSL_free`, and nothing of the one before reaches the next.
//! * DTLS 1.2 is served like TLS 1.2.
//! * A client in the same context (`SSL_connect`) is left alone.
//! * The `openssl` crate makes the connections: one that C code makes of an attached context, by `SSL_new`, ends the
//!   process at its first session, for that crate's callbacks do not know it.
//!
//! # In the handshake's thread
//!
//! OpenSSL waits for what it asks. The get callback of the cache runs there and may wait, for
//! [`Builder::lookup_timeout`](crate::Builder::lookup_timeout) at most; a TLS 1.3 client may offer
//! more than a thousand tickets in one ClientHello, and only the first [`MOST_LOOKUPS`] of a
//! handshake are looked up. What panics is caught, and has found nothing. The errors that wait in OpenSSL's queue of
//! the thread are the same after a callback as before: what a callback that uses OpenSSL itself leaves there, or takes
//! out, is not mistaken for the handshake's.
//!
//! With tokio-openssl that thread is a worker of the runtime, and it is parked while an answer comes
//! [later](crate::Answer::Later): a query that the callback spawns on the same runtime may not run before the time is
//! over. Spawn it on another one, or answer at once, as is said there.

mod ffi;
mod handshake;
mod session;

use std::ffi::c_long;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use ::openssl;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::sha::sha256;
use openssl::ssl::{
    NameType, Ssl, SslContextBuilder, SslOptions, SslRef, SslSession, SslSessionCacheMode,
    SslSessionRef, SslVersion,
};

use self::handshake::Handshake;
pub use self::handshake::MOST_LOOKUPS;
pub use self::session::{DecodeError, OpensslSession};
use crate::dispatch::contained;
use crate::sync::Ordering;
use crate::sync::tally::AtomicBool;
use crate::{Connection, Session, SessionId, Sessions};

/// Makes `sessions` the place where the servers of this context keep their sessions, as the
/// [module](self) says.
///
/// # Errors
///
/// OpenSSL has no memory, or no more indices for data that belong to its objects.
pub fn attach(
    builder: &mut SslContextBuilder,
    sessions: &Sessions<OpensslSession>,
) -> Result<(), ErrorStack> {
    Attachment::new(sessions).attach(builder)
}

/// The id in its cache of the session that a connection has now: in TLS 1.3 that of the last
/// ticket, once it was sent. `None` if no attached context has made or found the session.
///
/// [Removed](Sessions::remove), it resumes no more. In TLS 1.2 that is all that the connection has given its client. In
/// TLS 1.3 it is one ticket, and the connection's others stay good: a full handshake gives two, unless
/// `set_num_tickets` says otherwise.
#[must_use]
pub fn cache_id(ssl: &SslRef) -> Option<SessionId> {
    ffi::cache_id(ssl.session()?)
}

/// [`attach`] with settings.
///
/// ```
/// use std::time::Duration;
/// use openssl::ssl::{SslContext, SslMethod};
/// use resumption::tls::openssl::{Attachment, OpensslSession};
/// use resumption::{Scope, SessionCache};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: SessionCache<OpensslSession> = SessionCache::builder().build()?;
/// let mut context = SslContext::builder(SslMethod::tls_server())?;
/// Attachment::new(&cache.scope(&Scope::new("internal")))
///     .faulty_tickets_end(true)
///     .timeout(Duration::from_secs(86_400))
///     .attach(&mut context)?;
/// # drop(context.build());
/// # Ok(())
/// # }
/// ```
#[must_use = "it does nothing until it is attached"]
pub struct Attachment {
    sessions: Sessions<OpensslSession>,
    faulty_tickets_end: bool,
    timeout: Option<Duration>,
    connection: Arc<dyn Fn(&SslRef) -> Connection + Send + Sync>,
}

impl Attachment {
    /// The settings of [`attach`].
    pub fn new(sessions: &Sessions<OpensslSession>) -> Self {
        Self {
            sessions: sessions.clone(),
            faulty_tickets_end: false,
            timeout: None,
            connection: Arc::new(|_| Connection::server()),
        }
    }

    /// Whether a TLS 1.3 connection that ends badly takes the session of its last ticket with it,
    /// as a TLS 1.2 connection takes its session; `false` unless this is called. OpenSSL tells of
    /// no other ticket of the connection.
    pub fn faulty_tickets_end(mut self, end: bool) -> Self {
        self.faulty_tickets_end = end;
        self
    }

    /// The most that a session lives, however often it is extended, in whole seconds, rounded up: one at
    /// least, also of zero, and 2³¹ - 1 at most, 68 years. Unless this is called, the lifetime that the cache has when
    /// the session is made.
    ///
    /// TLS 1.3 clients are told it, too (of more than a week, a week), or the lifetime that the cache has when this is
    /// attached; but a client that resumes is told that of the session it resumed, which another context may have made.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What the new-session callback of the cache needs to know of the connection that made a session; it
    /// reads it by [`NewSession::context`](crate::NewSession::context).
    pub fn context<T: Send + Sync + 'static>(
        mut self,
        context: impl Fn(&SslRef) -> T + Send + Sync + 'static,
    ) -> Self {
        self.connection = Arc::new(move |ssl| Connection::server().context(context(ssl)));
        self
    }

    /// Attaches the sessions to a context.
    ///
    /// # Errors
    ///
    /// As [`attach`].
    pub fn attach(self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        ffi::index()?;
        let handshake = handshake::index()?;
        builder.set_session_id_context(&sha256(&self.sessions.scope().to_bytes()))?;
        builder.set_session_cache_mode(
            SslSessionCacheMode::SERVER
                | SslSessionCacheMode::NO_INTERNAL
                | SslSessionCacheMode::NO_AUTO_CLEAR,
        );
        builder.set_options(SslOptions::NO_TICKET | ffi::NO_ANTI_REPLAY);
        let timeout = whole_seconds(self.timeout.unwrap_or_else(|| self.sessions.lifetime()));
        ffi::set_timeout(builder, timeout);

        let context = ffi::Context::of(builder);
        let server = Arc::new(Server {
            attachment: self,
            context,
            timeout,
            handshake,
            has_warned: AtomicBool::new(false),
        });
        let (new, removed) = (Arc::clone(&server), Arc::clone(&server));
        builder.set_new_session_callback(move |ssl, session| {
            called(|| new.keep(ssl, session));
        });
        builder.set_remove_session_callback(move |_, session| {
            called(|| removed.forget(session));
        });
        // SAFETY: what is returned is linked into no other context's list, for it is a copy.
        unsafe {
            builder
                .set_get_session_callback(move |ssl, id| called(|| server.find(ssl, id)).flatten());
        }
        Ok(())
    }
}

/// A timeout as OpenSSL has it.
fn whole_seconds(timeout: Duration) -> i32 {
    let almost = Duration::from_nanos(999_999_999);
    let seconds = timeout.saturating_add(almost).as_secs();
    i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)
}

/// Runs what OpenSSL calls, and user code in it; `None` if it panicked.
///
/// OpenSSL looks into the thread's queue of errors to tell an error of its own from the want of more bytes, and may
/// have put one there that it is about to report. So the queue is the same afterwards, but that it has no marks.
fn called<R>(run: impl FnOnce() -> R) -> Option<R> {
    // It panics at errors whose text is not UTF-8. Those are lost.
    let errors = contained(ErrorStack::get);
    let returned = contained(run);
    ffi::clear_errors();
    if let Some(errors) = errors {
        errors.put();
    }
    returned
}

/// What the callbacks of one context know.
struct Server {
    attachment: Attachment,
    context: ffi::Context,
    /// The context's timeout when it was attached, in seconds.
    timeout: i32,
    handshake: Index<Ssl, Handshake>,
    /// That the context's own cache is on was logged.
    has_warned: AtomicBool,
}

impl Server {
    /// OpenSSL has made a session.
    fn keep(&self, ssl: &mut SslRef, session: SslSession) {
        if let Some(handshake) = ssl.ex_data_mut(self.handshake) {
            handshake.end();
        }
        let is_tls13 = session.protocol_version() == SslVersion::TLS1_3;
        // OpenSSL tells of stateless tickets, too.
        if !ssl.is_server() || is_tls13 && !has_stateful_tickets(ssl) {
            return;
        }
        let host = ssl.servername_raw(NameType::HOST_NAME);
        let Some(made) = self.own(session, host) else { return };
        let Some(session) = self.copy_of(&made) else { return };
        let session = session.with_chain_of(ssl);
        let mut connection = (self.attachment.connection)(ssl);
        // OpenSSL resumes it for no longer than that.
        let seconds = u64::try_from(session.session().timeout()).unwrap_or(0);
        let timeout = Duration::from_secs(seconds);
        if timeout < self.attachment.sessions.lifetime() {
            connection = connection.lifetime(timeout);
        }
        drop(self.attachment.sessions.put_from(&session.cache_id(), session, connection));
    }

    /// A session that the handshake of this thread has just made, with its id noted.
    fn own(&self, session: SslSession, host: Option<&[u8]>) -> Option<OpensslSession> {
        // SAFETY: the context lives, for this is a call of its callback.
        let session = if unsafe { self.context.stores() } {
            // Relaxed: it spares a line in the log.
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    "OpenSSL's own session cache is on in an attached context: sessions of one host \
                     are found from another, and tickets serve more than once"
                );
            }
            // Other connections know it already.
            ffi::dup(&session).ok()?
        } else {
            session
        };
        // SAFETY: a copy that nobody knows; or this handshake's. Of that one other threads may have a reference, from an
        // earlier callback of the user's. They must leave it alone while the handshake goes on, for OpenSSL writes it
        // without a lock, whatever is done here; `OpensslSession::new` says so, too.
        unsafe { OpensslSession::unshared(session, host) }.ok()
    }

    /// The cache's copy of a session that was made, with the timeout that it is to have.
    fn copy_of(&self, made: &OpensslSession) -> Option<OpensslSession> {
        let copy = made.copy()?;
        let session = copy.session();
        let mut seconds = ffi::timeout(session);
        if session.protocol_version() == SslVersion::TLS1_3 {
            // That of the session that was resumed, if one was.
            // SAFETY: the context lives, for this is a call of its callback.
            seconds = unsafe { self.context.timeout() }.unwrap_or(seconds);
        }
        // The lifetime of the cache may be another one since the context was attached.
        if self.attachment.timeout.is_none() && seconds == c_long::from(self.timeout) {
            seconds = whole_seconds(self.attachment.sessions.lifetime()).into();
        }
        // SAFETY: nobody else knows the copy.
        unsafe { ffi::set_timeout_of(session, seconds) };
        Some(copy)
    }

    /// A session's connection ended badly, or its own time is over.
    fn forget(&self, session: &SslSessionRef) {
        let stays =
            session.protocol_version() == SslVersion::TLS1_3 && !self.attachment.faulty_tickets_end;
        let Some(id) = ffi::cache_id(session).filter(|_| !stays) else { return };
        if has_timed_out(session) {
            self.attachment.sessions.remove_timed_out(&id);
        } else {
            self.attachment.sessions.remove_faulty(&id);
        }
    }

    /// A client offers a session.
    fn find(&self, ssl: &mut SslRef, id: &[u8]) -> Option<SslSession> {
        let host = requested_host(ssl)?;
        let cache_id = session::cache_id(ffi::version(ssl), host, id);
        let found = if ssl.version2() == Some(SslVersion::TLS1_3) {
            self.take(ssl, &cache_id)?
        } else {
            self.attachment.sessions.get(&cache_id)?
        };
        let session = found.payload();
        if !session.is(&cache_id, id) || !session.is_resumable() {
            tracing::warn!("a session was given that has another id, or whose connection failed");
            // A get has stored what was given, and would find it again and again.
            self.attachment.sessions.remove_faulty(&cache_id);
            return None;
        }
        session.copy().map(OpensslSession::into_session)
    }

    /// Takes a session, once for both ClientHellos.
    fn take(&self, ssl: &mut SslRef, id: &SessionId) -> Option<Session<OpensslSession>> {
        let handshake = Handshake::of(ssl, self.handshake)?;
        handshake.look_up(id, |id| self.attachment.sessions.take(id))
    }
}

/// Whether a session's own time is over by the wall clock, which OpenSSL goes by. It looks at whole seconds, and allows for
/// one more.
fn has_timed_out(session: &SslSessionRef) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = i128::from(now.as_secs()) - i128::from(session.time());
    age > i128::from(ffi::timeout(session))
}

/// Whether the tickets of this connection hold an id, to be looked up: OpenSSL's own rule.
fn has_stateful_tickets(ssl: &SslRef) -> bool {
    let options = ffi::options(ssl);
    options.contains(SslOptions::NO_TICKET)
        || ssl.max_early_data() > 0 && !options.contains(ffi::NO_ANTI_REPLAY)
}

/// The host that the ClientHello asks for, as OpenSSL will read it afterwards: `Some(None)` if it
/// names none. `None` if the extension is malformed, at which OpenSSL ends the handshake.
fn requested_host(ssl: &SslRef) -> Option<Option<&[u8]>> {
    ffi::server_name_extension(ssl).map_or(Some(None), |extension| host_of(extension).map(Some))
}

/// The host in an extension, unless that is malformed. OpenSSL refuses longer ones, too, but later: a
/// hostile one would be digested for each session that the client offers.
fn host_of(extension: &[u8]) -> Option<&[u8]> {
    let (kind, name) = vec16(extension)?.split_first()?;
    vec16(name).filter(|host| *kind == HOST_NAME && host.len() <= LONGEST_HOST)
}

/// `host_name` of RFC 6066 §3.
const HOST_NAME: u8 = 0;

/// Bytes of a host name, at most (RFC 1035 §2.3.4).
const LONGEST_HOST: usize = 255;

/// What follows a length of two bytes, to the end.
fn vec16(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    (usize::from(u16::from_be_bytes(*len)) == rest.len()).then_some(rest)
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("sessions", &self.sessions)
            .field("faulty_tickets_end", &self.faulty_tickets_end)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_leaves_the_queue_of_errors_as_it_was() {
        use openssl::x509::X509;

        let texts = |errors: ErrorStack| -> Vec<_> {
            errors.errors().iter().map(|error| format!("{error:?}")).collect()
        };
        let leave = || X509::from_der(b"").unwrap_err().put();
        let of_openssl = X509::from_pem(b"no certificate").unwrap_err();
        for before in [None, Some(of_openssl)] {
            let expected = before.map_or(Vec::new(), |errors| {
                errors.put();
                texts(errors)
            });
            assert_eq!(called(leave), Some(()));
            assert_eq!(called(|| drop(ErrorStack::get())), Some(()));
            assert_eq!(called(|| (0..100).for_each(|_| leave())), Some(()));
            assert_eq!(texts(ErrorStack::get()), expected);
        }
    }

    #[test]
    fn a_length_has_to_fit_exactly() {
        assert_eq!(vec16(&[0, 2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(vec16(&[0, 0]), Some(&[][..]));
        for bytes in [&[][..], &[0], &[0, 1], &[0, 1, 7, 8], &[1, 0, 7]] {
            assert_eq!(vec16(bytes), None);
        }
    }

    #[test]
    fn a_host_is_read_if_it_is_no_longer_than_a_name() {
        let extension = |kind, host: &[u8]| {
            let len = |len: usize| u16::try_from(len).expect("it is short").to_be_bytes();
            [&len(host.len() + 3)[..], &[kind], &len(host.len()), host].concat()
        };
        assert_eq!(host_of(&extension(0, b"example.org")), Some(&b"example.org"[..]));
        assert_eq!(host_of(&extension(1, b"example.org")), None, "another kind of name");
        assert_eq!(host_of(&extension(0, &[b'a'; 255])), Some(&[b'a'; 255][..]));
        assert_eq!(host_of(&extension(0, &[b'a'; 256])), None);
        assert_eq!(host_of(&[]), None);
    }
}
