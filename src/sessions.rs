//! The cache as one scope sees it.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::callbacks::Want;
use crate::engine::{Engine, Mode};
use crate::lookup::Lookup;
use crate::outcome::Put;
use crate::scope::{Entry, Scope};
use crate::secret::SecretBytes;
use crate::session::Session;
use crate::stats::Reason;
use crate::table::SessionId;

/// The cache as one scope sees it: what is put here is found here, and nowhere else.
///
/// Clones are cheap and see the same sessions. Every call is lock-free: a thread that is stopped in
/// the middle of one keeps no other from going on. The calls on one id are linearizable. (With a get
/// callback, [`SessionCache::set_on_get`](crate::SessionCache::set_on_get), a lookup waits for what it
/// answers, and a get for another one of the same id that asks, for
/// [`Builder::lookup_timeout`](crate::Builder::lookup_timeout) at most.)
///
/// Hash and search take expected constant time; the hash is keyed, so that clients cannot choose ids
/// that meet. The table is a split-ordered list (Shalev and Shavit, *Split-Ordered Lists*, 2006).
///
/// ```
/// use resumption::{Put, Scope, SessionCache, SessionId};
///
/// let cache: SessionCache = SessionCache::builder().max_sessions(1_000).build()?;
/// let web = cache.scope(&Scope::new("web"));
/// let id = SessionId::from([7; 32]);
/// match web.put(&id, b"state of the session".into()) {
///     Put::Stored => {}
///     Put::Replaced(old) => println!("{old:?} had the same id"),
///     Put::Refused(why, _payload) => println!("not stored: {why}"),
/// }
/// let session = web.take(&id).expect("the first take");
/// assert_eq!(&session.payload()[..], b"state of the session");
/// assert!(web.take(&id).is_none(), "there is one winner");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sessions<S: Send + Sync + 'static = SecretBytes> {
    engine: Arc<Engine<S>>,
    scope: Arc<Entry>,
}

impl<S: Send + Sync + 'static> Sessions<S> {
    pub(crate) fn new(engine: Arc<Engine<S>>, scope: Arc<Entry>) -> Self {
        Self { engine, scope }
    }

    /// Stores a session with the cache's lifetime, in the place of a session of the same id if there
    /// is one.
    ///
    /// A replace takes the old session's place and evicts nobody, but for added bytes; no lookup
    /// misses meanwhile. An expired session of the id is not handed out: the put then counts as
    /// stored, and the old one as expired.
    pub fn put(&self, id: &SessionId, payload: S) -> Put<S> {
        self.engine.put(&self.scope, id, payload, None, Mode::Replace)
    }

    /// As [`put`](Self::put), with a lifetime of its own.
    ///
    /// A lifetime of zero stores a session that is expired at once: it is never found, and takes
    /// room until its memory comes back. A lifetime beyond the end of time, 139 years, never expires.
    pub fn put_with(&self, id: &SessionId, payload: S, lifetime: Duration) -> Put<S> {
        self.engine.put(&self.scope, id, payload, Some(lifetime), Mode::Replace)
    }

    /// Stores a session unless there is a live one of this id; refuses with
    /// [`Refusal::Present`](crate::Refusal::Present) if there is.
    pub fn put_if_absent(&self, id: &SessionId, payload: S) -> Put<S> {
        self.engine.put(&self.scope, id, payload, None, Mode::IfAbsent)
    }

    /// Finds a session, and leaves it in the cache; asks the get callback for one that is not there.
    /// Eviction spares a session that was found since
    /// it last looked (SIEVE, Zhang et al. 2024).
    #[must_use]
    pub fn get(&self, id: &SessionId) -> Option<Session<S>> {
        self.engine.get(&self.scope, id)
    }

    /// Removes a session and returns it; asks the get callback for one that is not there. Of several
    /// takes of one session exactly one gets it: this is what makes a TLS 1.3 ticket single-use, and
    /// early data safe from replay (RFC 8446 §8.1).
    #[must_use]
    pub fn take(&self, id: &SessionId) -> Option<Session<S>> {
        self.engine.take(&self.scope, id)
    }

    /// A get or a take that waits for the get callback's answer without holding a thread; see
    /// [`Lookup`]. A session that is in the cache is there at the first poll.
    pub fn lookup(&self, id: &SessionId, want: Want) -> Lookup<S> {
        let (engine, scope) = (Arc::clone(&self.engine), Arc::clone(&self.scope));
        Lookup::new(engine, scope, *id, want)
    }

    /// Removes a session; `true` if there was one that was not expired.
    pub fn remove(&self, id: &SessionId) -> bool {
        self.engine.remove_id(&self.scope, id, Reason::Removed)
    }

    /// Removes a session because its connection ended badly: RFC 5246 §7.2.2 forbids to resume it.
    /// `true` if there was one that was not expired.
    pub fn remove_faulty(&self, id: &SessionId) -> bool {
        self.engine.remove_id(&self.scope, id, Reason::Faulty)
    }

    /// Whether there is a session. Counts as no use and in no statistics.
    #[must_use]
    pub fn contains(&self, id: &SessionId) -> bool {
        self.engine.contains(&self.scope, id)
    }

    /// Lets a session expire `lifetime` from now, later or sooner than it would have; `false` if
    /// there is none. A session whose expiry was carried out is not extended any more: one atomic
    /// step decides between the two.
    pub fn extend(&self, id: &SessionId, lifetime: Duration) -> bool {
        self.engine.extend(&self.scope, id, lifetime)
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.scope.scope()
    }

    /// Counts a lookup of what cannot be a session id here; adapters refuse it before hashing it.
    #[cfg_attr(not(feature = "rustls"), expect(dead_code, reason = "only adapters count these"))]
    pub(crate) fn count_malformed(&self) {
        self.engine.count_malformed();
    }

    /// Whether the cache is closed.
    #[cfg_attr(not(feature = "rustls"), expect(dead_code, reason = "only adapters ask"))]
    pub(crate) fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }
}

impl<S: Send + Sync + 'static> Clone for Sessions<S> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), scope: Arc::clone(&self.scope) }
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Sessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("scope", self.scope.scope()).finish_non_exhaustive()
    }
}
