//! The cache as one scope sees it.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::callbacks::Want;
use crate::connection::Connection;
use crate::engine::{Engine, IfPresent};
use crate::iter::Iter;
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
    /// is one. The cache's [mode](crate::CacheMode) may refuse it, or hand it to the new-session callback
    /// instead. It is a server's session; [`put_from`](Self::put_from) says otherwise.
    ///
    /// A replace takes the old session's place and evicts nobody, but for added bytes; no lookup
    /// misses meanwhile. An expired session of the id is not handed out: the put then counts as
    /// stored, and the old one as expired.
    ///
    /// What is refused comes back, with [the reason](crate::Refusal): the cache is closed, the session is too large,
    /// the cache's mode leaves it out, every place belongs to a put in flight, or too much waits: memory for a thread
    /// that does not run, or calls for slow callbacks.
    ///
    /// # Panics
    ///
    /// If a [weigher](crate::Builder::weigher) does: nothing was stored then. Or if the drop of a payload does that leaves
    /// with it: then a lookup tells whether it was stored.
    pub fn put(&self, id: &SessionId, payload: S) -> Put<S> {
        self.put_from(id, payload, Connection::server())
    }

    /// As [`put`](Self::put), with a lifetime of its own.
    ///
    /// A lifetime of less than a millisecond stores a session that is expired at once: it is never found, and
    /// takes room until its memory comes back. A lifetime beyond the end of time, 139 years, never expires.
    pub fn put_with(&self, id: &SessionId, payload: S, lifetime: Duration) -> Put<S> {
        self.put_from(id, payload, Connection::server().lifetime(lifetime))
    }

    /// As [`put`](Self::put), of a session that this connection has negotiated: on its side, with its
    /// lifetime, and with what the new-session callback needs to know of it.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use std::sync::Arc;
    /// use resumption::{Connection, Dispatch, Scope, SessionCache, SessionId, Verdict};
    ///
    /// let cache: SessionCache =
    ///     SessionCache::builder().dispatch(Dispatch::Inline).without_ticker().build()?;
    /// cache.set_on_new(Some(Arc::new(|new| match new.context::<SocketAddr>() {
    ///     Some(peer) if peer.ip().is_loopback() => Verdict::Keep,
    ///     _ => Verdict::Reject,
    /// })))?;
    ///
    /// let web = cache.scope(&Scope::new("web"));
    /// for (number, peer) in [(1, "127.0.0.1:443"), (2, "192.0.2.1:443")] {
    ///     let connection = Connection::server().context(peer.parse::<SocketAddr>()?);
    ///     assert!(web.put_from(&SessionId::from([number; 32]), b"".into(), connection).is_stored());
    /// }
    /// assert!(web.contains(&SessionId::from([1; 32])));
    /// assert!(!web.contains(&SessionId::from([2; 32])), "it was rejected");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_from(&self, id: &SessionId, payload: S, mut connection: Connection) -> Put<S> {
        let put = self.engine.put(&self.scope, id, payload, &mut connection, IfPresent::Replace);
        // Its context's drop is user code: here nothing is held, and what came of the put is safe.
        drop(connection);
        put
    }

    /// Stores a session unless there is a live one of this id; refuses with
    /// [`Refusal::Present`](crate::Refusal::Present) if there is.
    pub fn put_if_absent(&self, id: &SessionId, payload: S) -> Put<S> {
        self.engine.put(&self.scope, id, payload, &mut Connection::server(), IfPresent::Refuse)
    }

    /// Finds a session, and leaves it in the cache; asks the get callback for one that is not there.
    /// Eviction spares a session that was found since it last looked (see [Trade-offs](crate#trade-offs)).
    ///
    /// # Panics
    ///
    /// If the drop of a payload does that leaves meanwhile, as expired say. A callback that panics has found nothing, and
    /// what a [weigher](crate::Builder::weigher) panics on is found and not stored.
    #[must_use]
    pub fn get(&self, id: &SessionId) -> Option<Session<S>> {
        self.engine.get(&self.scope, id)
    }

    /// [`get`](Self::get) of each of these ids, in order. Each takes effect on its own, as if they were called
    /// one after the other; but their waits for memory overlap, which in a cache that is larger than the processor's
    /// takes less than half of the time.
    ///
    /// ```
    /// use resumption::{Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache = SessionCache::builder().max_sessions(1_000).build()?;
    /// let web = cache.scope(&Scope::new("web"));
    /// let ids = [1, 2, 3].map(|number| SessionId::from([number; 32]));
    /// assert!(web.put(&ids[1], b"state".into()).is_stored());
    /// let found = web.get_many(&ids);
    /// assert!(found[0].is_none() && found[1].is_some() && found[2].is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    #[must_use]
    pub fn get_many(&self, ids: &[SessionId]) -> Vec<Option<Session<S>>> {
        self.engine.get_many(&self.scope, ids)
    }

    /// Removes a session and returns it; asks the get callback for one that is not there. Of several
    /// takes of one session exactly one gets it: this is what makes a TLS 1.3 ticket single-use, and
    /// early data safe from replay (RFC 8446 §8.1), as far as the cache reaches. What is being asked for already, by another
    /// take or by a get, it does not find and does not ask for.
    ///
    /// *Where several servers share an external cache, that alone may decide*: it deletes what it gives, in one step, and
    /// each server asks it for each take, in the [mode](crate::CacheMode) `CacheMode::SERVER | CacheMode::NO_INTERNAL`, or
    /// with `NO_INTERNAL_LOOKUP` beside `SERVER`. In the default mode a take that finds does not ask: a
    /// session that was put here, or that a get has brought here, is found though another server has taken it since.
    /// Several servers take no early data then.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get). A session that is in the cache is not lost by another one's panic: the next take finds it.
    #[must_use]
    pub fn take(&self, id: &SessionId) -> Option<Session<S>> {
        self.engine.take(&self.scope, id)
    }

    /// A get or a take that waits for the get callback's answer without holding a thread; see
    /// [`Lookup`]. A session that is in the cache is there at the first poll. Its polls panic where
    /// [`get`](Self::get) does.
    pub fn lookup(&self, id: &SessionId, want: Want) -> Lookup<S> {
        let (engine, scope) = (Arc::clone(&self.engine), Arc::clone(&self.scope));
        Lookup::new(engine, scope, *id, want)
    }

    /// Removes a session; `true` if there was one that was not expired.
    ///
    /// If it was not in the cache that is `false`, also where an external cache has it. Where a get callback is set, the
    /// remove callback is told of the id nevertheless, so that this ends the session there as well, and what a get
    /// callback is answering meanwhile does not bring it back. One that has expired, and was still here, is told as
    /// *expired* and not again: an external cache is to keep no session for longer than the cache's lifetime.
    ///
    /// # Panics
    ///
    /// If the drop of a payload does: of this one, which is removed then, or of one that leaves meanwhile, as expired say. In
    /// that case [`contains`](Self::contains) tells whether this one is still to be removed.
    pub fn remove(&self, id: &SessionId) -> bool {
        self.engine.remove_id(&self.scope, id, Reason::Removed)
    }

    /// Removes a session because its connection ended badly: RFC 5246 §7.2.2 forbids to resume it.
    /// `true` if there was one that was not expired; otherwise as [`remove`](Self::remove).
    ///
    /// # Panics
    ///
    /// As [`remove`](Self::remove).
    pub fn remove_faulty(&self, id: &SessionId) -> bool {
        self.engine.remove_id(&self.scope, id, Reason::Faulty)
    }

    /// Removes a session as expired, though it is not by the cache's clock: whoever uses it knows of another time that is
    /// over. One that is elsewhere is removed as [faulty](Self::remove_faulty), for it is not to be given again.
    #[cfg(feature = "openssl")]
    pub(crate) fn remove_timed_out(&self, id: &SessionId) {
        if self.contains(id) {
            self.engine.remove_id(&self.scope, id, Reason::Expired);
        } else {
            self.remove_faulty(id);
        }
    }

    /// Whether there is a session. Counts as no use and in no statistics.
    #[must_use]
    pub fn contains(&self, id: &SessionId) -> bool {
        self.engine.contains(&self.scope, id)
    }

    /// Lets a session expire `lifetime` from now, later or sooner than it would have, and at once if that is less
    /// than a millisecond, or never, if it is beyond the end of time, 139 years; `false` if there is none. A session
    /// whose expiry was carried out is not extended any more: one atomic step decides between the two.
    ///
    /// ```
    /// use std::time::Duration;
    /// use resumption::{Clock, Scope, SessionCache, SessionId};
    ///
    /// let clock = Clock::manual();
    /// let minute = Duration::from_secs(60);
    /// let cache: SessionCache =
    ///     SessionCache::builder().clock(clock.clone()).lifetime(minute).build()?;
    /// let web = cache.scope(&Scope::new("web"));
    /// let id = SessionId::from([1; 32]);
    /// assert!(web.put(&id, b"state".into()).is_stored());
    /// clock.advance(minute / 2);
    /// assert!(web.extend(&id, minute));
    /// clock.advance(minute / 2);
    /// assert!(web.contains(&id));
    /// clock.advance(minute / 2);
    /// assert!(!web.extend(&id, minute), "it has expired");
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the drop of a payload does that leaves meanwhile, as expired say. What the call did stands.
    pub fn extend(&self, id: &SessionId, lifetime: Duration) -> bool {
        self.engine.extend(&self.scope, id, lifetime)
    }

    /// Removes the sessions of this scope that `keep` answers `false` for; returns how many. Otherwise as
    /// [`SessionCache::retain`](crate::SessionCache::retain): O(n) in the sessions of the whole cache.
    ///
    /// ```
    /// use resumption::{Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache<&str> = SessionCache::builder().build()?;
    /// let [web, internal] = ["web", "internal"].map(|name| cache.scope(&Scope::new(name)));
    /// let id = SessionId::from([1; 32]);
    /// assert!(web.put(&id, "ann").is_stored() && internal.put(&id, "ann").is_stored());
    /// assert_eq!(web.retain(|session| *session.payload() != "ann"), 1);
    /// assert!(!web.contains(&id) && internal.contains(&id));
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`SessionCache::retain`](crate::SessionCache::retain).
    pub fn retain(&self, keep: impl FnMut(&Session<S>) -> bool) -> usize {
        self.engine.retain(Some(&self.scope), keep)
    }

    /// Handles of this scope's sessions, in no order; otherwise as
    /// [`SessionCache::iter`](crate::SessionCache::iter): O(n) in the sessions of the whole cache. What
    /// [`drop_scope`](crate::SessionCache::drop_scope) has dropped is left out from that moment, but for up to 256 sessions
    /// that the iterator holds by then.
    #[must_use]
    pub fn iter(&self) -> Iter<S> {
        Iter::new(Arc::clone(&self.engine), Some(Arc::clone(&self.scope)))
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

    /// The lifetime of sessions that are put now.
    #[cfg_attr(not(feature = "openssl"), expect(dead_code, reason = "only an adapter tells it on"))]
    pub(crate) fn lifetime(&self) -> Duration {
        Duration::from_millis(self.engine.lifetime())
    }

    /// Whether a server's connection may find its session again.
    #[cfg_attr(not(feature = "rustls"), expect(dead_code, reason = "only adapters ask"))]
    pub(crate) fn serves_servers(&self) -> bool {
        self.engine.serves_servers()
    }
}

impl<S: Send + Sync + 'static> Clone for Sessions<S> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), scope: Arc::clone(&self.scope) }
    }
}

impl<S: Send + Sync + 'static> IntoIterator for &Sessions<S> {
    type Item = Session<S>;
    type IntoIter = Iter<S>;

    fn into_iter(self) -> Iter<S> {
        self.iter()
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Sessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("scope", self.scope.scope()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crate::{Scope, SessionCache, SessionId};

    /// A leak in a loop gets there, in weeks of a server; a unit test has a lower limit (`refs.rs`).
    #[test]
    fn a_session_that_has_all_references_that_it_can_have_is_not_found() {
        let cache: SessionCache<u64> = SessionCache::builder().without_ticker().build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let id = SessionId::from([1; 32]);
        assert!(web.put(&id, 1).is_stored());
        let handles: Vec<_> = std::iter::from_fn(|| web.get(&id)).collect();
        assert!(handles.len() > 1_000, "{}", handles.len());
        assert!(web.contains(&id) && web.get(&id).is_none());
        drop(handles);
        assert!(web.get(&id).is_some());
    }
}
