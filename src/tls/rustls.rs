//! The session store of a rustls 0.23 server: [`Sessions::rustls`].
//!
//! # What rustls does with a store
//!
//! It calls the store in the thread of the handshake and has no way to hear of an error: `None`
//! and `false` mean a full handshake, and a panic would end the connection. The adapter never
//! panics: what panics inside, a [weigher](crate::Builder::weigher) say, is caught and logged, and nothing is
//! stored. It gives out copies, so that a session may be evicted while a handshake reads it.
//!
//! | | TLS 1.3 | TLS 1.2 |
//! |---|---|---|
//! | at the end of a handshake | `put`, once for each ticket: two, unless `send_tls13_tickets` says otherwise; where `max_tls13_tickets` is above 0, as many as the client asks for, up to that | `put`, after a full handshake only |
//! | when a client returns | `take`, for each identity that its ClientHello offers, until one is found that can be resumed; the others that were found are spent | `get` |
//! | key | 32 random bytes, sent as the ticket | 32 random bytes, sent as the session id |
//! | refused `put` | the ticket is not sent | the session id is sent, and will not be found |
//! | store closed | no tickets | no session id |
//!
//! *Single use.* A TLS 1.3 session is found by `take`, which has exactly one winner: the second
//! use of a ticket is a full handshake, also when both arrive in the same instant. A TLS 1.2
//! session is found by `get` and may be used until it expires, as that protocol intends.
//!
//! *Hostile keys.* A ticket is any bytes that a client likes to send, and one ClientHello holds
//! more than a thousand. rustls chooses all its keys 32 bytes long; any other length is refused
//! here before it is hashed, and is counted in
//! [`Stats::misses_malformed`](crate::Stats::misses_malformed). rustls takes a session *before*
//! it verifies that the client knows its secret. Anyone who has seen a ticket on the wire can therefore
//! spend it: its owner then makes a full handshake, and nobody gains a session. The same goes for the id of a TLS 1.2
//! session, which the client sends in the clear: offered as a ticket it is taken, for a store is not told the
//! version. A server that serves TLS 1.2 alone, or in a config and a scope of its own, has no such takes. A store does not see where one
//! ClientHello ends and the next begins, so nothing here bounds how many keys one brings: with a get callback, each of
//! some nine hundred of the right length asks the external cache, one after the other, in the handshake's thread. Let the
//! callback know cheaply what it cannot have, and keep
//! [`lookup_timeout`](crate::Builder::lookup_timeout) short.
//!
//! *Answers that come later.* rustls waits for its store, so a get and a take park the handshake's thread until the
//! get callback's answer is there. With tokio-rustls that is a worker of the runtime, and a query that the callback
//! spawns there may not run before the time is over. Spawn it on another runtime, or answer at once:
//! [`Answer::Later`](crate::Answer::Later) says how.
//!
//! *Age.* rustls tells TLS 1.3 clients that a ticket lives for a day, whatever the cache's lifetime, and resumes a session
//! of any age. The lifetime of the cache is what ends a session: past it the client gets a full handshake, whatever it was told;
//! one of more than a day is of no use to TLS 1.3 clients. (Early data rustls takes only if the ticket is the first one offered, its age
//! by the client's account is within a minute of its age by the server's, and the protocol of ALPN is the same.)
//!
//! *Early data.* rustls accepts early data only from sessions of a store like this one, because
//! single use is what stops a replay: the copy of a first flight finds its session taken, and its
//! early data are skipped. It holds as far as the cache reaches: a flight replayed to another
//! process, with a cache of its own, does not find the session there either. *Servers that share an external cache* are
//! safe only if that alone decides, and each of them asks it for each take: in the [mode](crate::CacheMode)
//! `CacheMode::SERVER | CacheMode::NO_INTERNAL`, or with `NO_INTERNAL_LOOKUP` beside `SERVER`. In the default mode the server that made a session finds it in memory, though another one has taken it out of the database; and
//! anybody may have a server bring one into its memory, by a TLS 1.2 hello with the ticket for a session id. There, take
//! no early data. (An external cache that answers
//! [later](crate::Answer::Later) than a lookup waits leaves a session in the cache whose client has gone on without it,
//! and which its first flight, sent again, would find. Where that may happen, take no early data.)
//!
//! *Copies.* The cache wipes a session's bytes when its last handle is dropped. The copy that
//! rustls receives belongs to rustls, which does not wipe all of it.
//!
//! # One scope for each security context
//!
//! A resumed handshake skips the certificates of *both* sides: what one `ServerConfig` verified
//! is believed by the other if they share sessions. A session from a public site would pass
//! for an authenticated client on a site that demands client certificates (CVE-2025-23419 and its
//! relatives). So a store belongs to one [`Scope`](crate::Scope): give the same scope to two
//! configurations only when both verify the same clients in the same way and serve the same
//! names, and put what decides that into the scope with [`Scope::with`](crate::Scope::with).
//! A reload that changes only the certificate keeps its scope and so its sessions; the cache and
//! its sessions live as long as any handle to them, not as long as a `ServerConfig`.
//!
//! # Example
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use resumption::{Scope, SessionCache};
//! use rustls::{ServerConfig, crypto::ring, server::WebPkiClientVerifier};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
//! let (cert, private) = (key.cert.der().clone(), key.signing_key.serialize_der());
//! let mut clients = rustls::RootCertStore::empty();
//! clients.add(cert.clone())?;
//!
//! let cache: SessionCache = SessionCache::builder()
//!     .max_sessions(1_000_000)
//!     .lifetime(Duration::from_secs(7200))
//!     .build()?;
//!
//! let provider = Arc::new(ring::default_provider());
//! let mut public = ServerConfig::builder_with_provider(provider.clone())
//!     .with_safe_default_protocol_versions()?
//!     .with_no_client_auth()
//!     .with_single_cert(vec![cert.clone()], private.clone().try_into()?)?;
//! public.session_storage = cache.scope(&Scope::new("public-web")).rustls();
//!
//! // The same cache, and sessions that cannot meet: this one verifies its clients.
//! let verifier = WebPkiClientVerifier::builder_with_provider(clients.into(), provider.clone());
//! let mut internal = ServerConfig::builder_with_provider(provider)
//!     .with_safe_default_protocol_versions()?
//!     .with_client_cert_verifier(verifier.build()?)
//!     .with_single_cert(vec![cert.clone()], private.try_into()?)?;
//! let scope = Scope::new("internal").with("client-ca", &cert);
//! internal.session_storage = cache.scope(&scope).rustls();
//! # assert!(public.session_storage.can_cache() && internal.session_storage.can_cache());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

use std::sync::Arc;

pub use ::rustls;
use rustls::server::StoresServerSessions;

use crate::dispatch::contained;
use crate::{SecretBytes, Session, SessionId, Sessions};

impl Sessions<SecretBytes> {
    /// This scope's sessions as the store of a [`rustls::ServerConfig`].
    ///
    /// The store holds the cache: it works for as long as any configuration uses it, and several
    /// may use it, one after another or at once, if they share a security context
    /// (see the [module](crate::tls::rustls)). Once the cache is closed, handshakes go on, and no session
    /// is offered to clients: in full, but for sessions that a get callback still answers with.
    ///
    /// Leave `ServerConfig::ticketer` as it is (disabled): rustls asks a ticketer first.
    #[must_use]
    pub fn rustls(&self) -> Arc<dyn StoresServerSessions> {
        Arc::new(Store { sessions: self.clone() })
    }
}

/// The length of every key that rustls chooses, for TLS 1.2 and for TLS 1.3.
const KEY_LEN: usize = 32;

/// What rustls calls.
#[derive(Debug)]
struct Store {
    sessions: Sessions<SecretBytes>,
}

impl StoresServerSessions for Store {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        // Not found by a `get`, so not stored either.
        let Some(id) = session_id(&key) else { return false };
        // A weigher may panic; the callbacks are contained where they are called.
        contained(|| self.sessions.put(&id, SecretBytes::from(value)).is_stored()).unwrap_or(false)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key, Sessions::get)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key, Sessions::take)
    }

    fn can_cache(&self) -> bool {
        self.sessions.serves_servers()
    }
}

type Find = fn(&Sessions<SecretBytes>, &SessionId) -> Option<Session<SecretBytes>>;

impl Store {
    fn find(&self, key: &[u8], find: Find) -> Option<Vec<u8>> {
        let Some(id) = session_id(key) else {
            self.sessions.count_malformed();
            return None;
        };
        // As in `put`: on what a get callback gives more code of the user's runs.
        contained(|| find(&self.sessions, &id).map(|session| session.payload().to_vec())).flatten()
    }
}

/// The id of a key that rustls may have chosen; nothing else is hashed or compared.
fn session_id(key: &[u8]) -> Option<SessionId> {
    <[u8; KEY_LEN]>::try_from(key).ok().map(SessionId::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Answer, Found, Proposed, Scope, SessionCache};

    fn cache_and_store() -> (SessionCache, Arc<dyn StoresServerSessions>) {
        let cache: SessionCache = SessionCache::builder().max_sessions(10).build().unwrap();
        let store = cache.scope(&Scope::new("web")).rustls();
        (cache, store)
    }

    /// What is right to answer.
    fn given(proposed: &Proposed<'_>) -> Found {
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        Found::new(id, scope, b"from outside".into(), Duration::from_secs(60))
    }

    fn key(byte: u8) -> Vec<u8> {
        vec![byte; KEY_LEN]
    }

    #[test]
    fn get_leaves_the_session_and_take_ends_it() {
        let (cache, store) = cache_and_store();
        assert!(store.put(key(1), b"one".to_vec()));
        assert_eq!(store.get(&key(1)), Some(b"one".to_vec()));
        assert_eq!(store.get(&key(1)), Some(b"one".to_vec()));
        assert_eq!(store.take(&key(1)), Some(b"one".to_vec()));
        assert_eq!(store.take(&key(1)), None);
        assert_eq!(store.get(&key(1)), None);
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.takes, stats.misses_unknown), (2, 1, 2));
    }

    #[test]
    fn a_second_put_replaces_and_says_stored() {
        let (cache, store) = cache_and_store();
        assert!(store.put(key(1), b"one".to_vec()));
        assert!(store.put(key(1), b"two".to_vec()));
        assert_eq!(store.get(&key(1)), Some(b"two".to_vec()));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_weigher_that_panics_stores_nothing_and_reaches_nobody() {
        let builder = SessionCache::builder().max_bytes(1 << 20).weigher(|_| panic!("the weigher"));
        let cache: SessionCache = builder.build().unwrap();
        let store = cache.scope(&Scope::new("web")).rustls();
        assert!(!store.put(key(1), b"one".to_vec()));
        // What an external cache gives is handed out nevertheless: for a take it may be nowhere else any more.
        let outside = Some(b"from outside".to_vec());
        cache.set_on_get(Some(Arc::new(|proposed| Answer::Give(given(proposed)))));
        for _ in 0..2 {
            assert_eq!(store.get(&key(1)), outside);
            assert_eq!(store.take(&key(1)), outside);
        }
        // An answer that comes later is weighed in the thread that polls it.
        cache.set_on_get(Some(Arc::new(|proposed| {
            let found = given(proposed);
            Answer::later(async { Answer::Give(found) })
        })));
        assert_eq!(store.get(&key(1)), outside);
        assert_eq!(store.take(&key(1)), outside);
        let stats = cache.stats();
        assert_eq!((stats.get_called, stats.get_answered, stats.get_timed_out), (6, 6, 0));
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
        cache.close();
    }

    #[test]
    fn keys_of_any_other_length_are_refused_and_counted() {
        let (cache, store) = cache_and_store();
        let lengths = (0..=64).chain([65_535]).filter(|len| *len != KEY_LEN);
        let mut asked = 0;
        for len in lengths {
            assert!(!store.put(vec![7; len], b"payload".to_vec()), "put of {len} bytes");
            assert_eq!(store.get(&vec![7; len]), None, "get of {len} bytes");
            assert_eq!(store.take(&vec![7; len]), None, "take of {len} bytes");
            asked += 2;
        }
        let stats = cache.stats();
        assert_eq!(stats.misses_malformed, asked);
        assert_eq!((stats.misses_unknown, stats.puts, stats.sessions), (0, 0, 0));
    }

    #[test]
    fn a_key_is_not_found_by_its_beginning() {
        let (_cache, store) = cache_and_store();
        assert!(store.put(key(1), b"one".to_vec()));
        assert_eq!(store.get(&key(1)[..31]), None);
        assert_eq!(store.get(&[1; 33]), None);
        assert_eq!(store.get(&key(1)), Some(b"one".to_vec()));
    }

    #[test]
    fn a_closed_cache_stores_nothing_and_says_so_beforehand() {
        let (cache, store) = cache_and_store();
        assert!(store.put(key(1), b"one".to_vec()));
        assert!(store.can_cache());
        cache.close();
        assert!(!store.can_cache());
        assert!(!store.put(key(2), b"two".to_vec()));
        assert_eq!(store.get(&key(1)), None);
        assert_eq!(store.take(&key(2)), None);
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let (_cache, store) = cache_and_store();
        assert!(store.put(key(1), Vec::new()));
        assert_eq!(store.get(&key(1)), Some(Vec::new()));
    }
}
