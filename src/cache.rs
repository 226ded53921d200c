//! The cache: what is done to all sessions at once.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::builder::Builder;
use crate::callbacks::{OnGet, OnNew, OnRemove};
use crate::dispatch::{Dispatch, Undelivered, hold, is_held, is_in_callback};
use crate::engine::Engine;
use crate::engine::limits::Limit;
use crate::iter::Iter;
use crate::mode::CacheMode;
use crate::scope::Scope;
use crate::secret::SecretBytes;
use crate::session::Session;
use crate::sessions::Sessions;
use crate::stats::Stats;
use crate::threads::{start_ticker, start_worker};

/// A cache of TLS sessions. Clones share it; what is in it is dropped with the last clone, and the
/// last [`Sessions`], [`Iter`] and [`Lookup`](crate::Lookup) of it. If its background thread is in the middle of a
/// step just then, that thread drops it at the end of the step. Whoever drops it calls the callbacks that wait,
/// whatever the [`Dispatch`] is; [`close`](Self::close) it first to choose where.
///
/// *A callback that captures one of these keeps its cache alive for ever*: unset such callbacks when the server ends, or
/// let them capture a [`Weak`](std::sync::Weak) of an `Arc` with the handle. `docs/callbacks.md` has more.
///
/// A session is looked up through the [`scope`](Self::scope) that it belongs to, and through no other. What is here works
/// on *all* of them, whatever their scope: settings, counts and sweeps, each with the consistency that it states.
/// So [`iter`](Self::iter) and [`retain`](Self::retain) show every scope's sessions;
/// [`Sessions::iter`] and [`Sessions::retain`] show one scope's.
pub struct SessionCache<S: Send + Sync + 'static = SecretBytes> {
    engine: Arc<Engine<S>>,
}

impl<S: Send + Sync + 'static> SessionCache<S> {
    /// Bytes that a session is charged beyond its payload's weight: its header, its share of cells
    /// and of hints, and the allocator's rounding.
    pub const OVERHEAD: usize = Engine::<S>::OVERHEAD;

    /// Settings for a new cache.
    #[must_use]
    pub fn builder() -> Builder<S> {
        Builder::new()
    }

    pub(crate) fn new(engine: Engine<S>, tick: Option<Duration>) -> io::Result<Self> {
        let engine = Arc::new(engine);
        if let Some(every) = tick {
            engine.dispatch.ticks(start_ticker(Arc::downgrade(&engine), every)?);
        }
        Ok(Self { engine })
    }

    /// The cache as one scope sees it. The same scope gives the same sessions, whenever it is asked
    /// for; keep the result rather than ask for each connection, for this takes a lock.
    #[must_use]
    pub fn scope(&self, scope: &Scope) -> Sessions<S> {
        Sessions::new(Arc::clone(&self.engine), self.engine.scopes.attach(scope))
    }

    /// Removes every session that is expired now; returns how many. Goes through the whole table:
    /// O(n), in batches of bounded work. What a lookup would find is never touched.
    ///
    /// # Panics
    ///
    /// As [`flush`](Self::flush).
    pub fn flush_expired(&self) -> usize {
        self.engine.flush_expired()
    }

    /// Removes every session that is there throughout the call; returns how many. O(n), in batches.
    ///
    /// # Panics
    ///
    /// If the drop of a payload does. The others are removed nevertheless, and then the first panic goes on.
    pub fn flush(&self) -> usize {
        self.engine.flush()
    }

    /// Removes the sessions, *of all scopes*, that `keep` answers `false` for; returns how many.
    /// [`Sessions::retain`] does that for one scope. O(n), in batches;
    /// sees each session that is there throughout the call once. `keep` runs under no pin, and may
    /// use the cache. Expired sessions are not shown. Holds up to 256 sessions or so at a time.
    ///
    /// ```
    /// use resumption::{Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache<String> = SessionCache::builder().build()?;
    /// let web = cache.scope(&Scope::new("web"));
    /// for (number, user) in ["ann", "bob", "ann"].into_iter().enumerate() {
    ///     assert!(web.put(&SessionId::from([number as u8; 32]), user.to_owned()).is_stored());
    /// }
    /// let revoked = cache.retain(|session| session.payload() != "ann");
    /// assert_eq!((revoked, cache.len()), (2, 1));
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the drop of a payload does: the sweep goes on first, as that of [`flush`](Self::flush). Or if `keep` does: that
    /// ends the sweep, and what `keep` did not want before is gone.
    pub fn retain(&self, keep: impl FnMut(&Session<S>) -> bool) -> usize {
        self.engine.retain(None, keep)
    }

    /// Drops what a scope has stored: one step makes all of it unfindable, then batches of bounded
    /// work remove it; returns how many those removed, for a put that takes the place of a dropped
    /// session removes that itself. [`Sessions`] of the scope go on, empty. O(n) in the sessions of the
    /// cache. Each drop of a scope that the cache has seen takes 8 bytes for as long as the cache lives.
    ///
    /// ```
    /// use resumption::{Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache = SessionCache::builder().build()?;
    /// let [web, internal] = ["web", "internal"].map(|name| cache.scope(&Scope::new(name)));
    /// let id = SessionId::from([1; 32]);
    /// assert!(web.put(&id, b"state".into()).is_stored());
    /// assert!(internal.put(&id, b"state".into()).is_stored());
    ///
    /// assert_eq!(cache.drop_scope(&Scope::new("web")), 1);
    /// assert!(!web.contains(&id) && internal.contains(&id));
    /// assert!(web.put(&id, b"new state".into()).is_stored(), "it goes on");
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`flush`](Self::flush).
    pub fn drop_scope(&self, scope: &Scope) -> usize {
        let slot = self.engine.scopes.renew(scope);
        slot.map_or(0, |slot| self.engine.drop_slot(slot))
    }

    /// Changes the most sessions that the cache holds, and returns when that is obeyed. Evicts what
    /// is too much, about in the order in which it expires. Zero empties the
    /// cache, and refuses puts until the limit is raised; `usize::MAX` is no limit.
    ///
    /// *A raised limit changes nothing but the limit.* In how many shards and lanes the cache is split, and so how many threads
    /// [callbacks may have](Dispatch::Workers), follows from the limits that the builder was told, for as long as the cache lives:
    /// one that was made for a thousand sessions is one shard and one lane with a million, too, at which all threads meet. Build
    /// with the largest limit that there will be, and lower it.
    ///
    /// Waits for other changes of settings, and while every place that has to go belongs to an
    /// operation in flight. Not to be called from a payload's drop: a change of a limit evicts, and
    /// then waits for itself. The same is true of all that sets callbacks and modes. Nor from a callback that runs in such a
    /// drop, because of what that puts with [`Dispatch::Inline`]: the place of what is dropped is free only afterwards.
    ///
    /// ```
    /// use resumption::SessionCache;
    ///
    /// let cache: SessionCache = SessionCache::builder().max_sessions(1_000_000).build()?;
    /// cache.set_max_sessions(50_000);
    /// assert_eq!((cache.max_sessions(), cache.max_bytes()), (Some(50_000), None));
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the drop of a payload that it evicts does. The limit is obeyed first.
    pub fn set_max_sessions(&self, sessions: usize) {
        self.set_limit(Limit::Sessions, sessions);
    }

    /// Changes the most bytes that the cache holds, and returns when that is obeyed; as
    /// [`set_max_sessions`](Self::set_max_sessions), shards included. A payload that owns memory needs
    /// a [weigher](Builder::weigher) for that, which nothing checks here: without one the limit bounds the overheads alone.
    ///
    /// # Panics
    ///
    /// As [`set_max_sessions`](Self::set_max_sessions).
    pub fn set_max_bytes(&self, bytes: usize) {
        self.set_limit(Limit::Bytes, bytes);
    }

    /// The most sessions that the cache holds; `None` if there is no limit.
    #[must_use]
    pub fn max_sessions(&self) -> Option<usize> {
        self.limit(Limit::Sessions)
    }

    /// The most bytes that the cache holds; `None` if there is no limit.
    #[must_use]
    pub fn max_bytes(&self) -> Option<usize> {
        self.limit(Limit::Bytes)
    }

    fn limit(&self, which: Limit) -> Option<usize> {
        Some(usize::try_from(self.engine.limit(which)?).unwrap_or(usize::MAX))
    }

    fn set_limit(&self, which: Limit, limit: usize) {
        // Also if the drop of a payload panics; and last, for a callback may change a limit in turn.
        let _delivery = self.engine.delivery_of_all();
        let _one = self.engine.settling();
        self.engine.set_limit(which, limit as u64);
    }

    /// Changes the lifetime of sessions that are put from now on. Less than a millisecond stores sessions that
    /// are expired at once, beyond the end of time, 139 years, such as never expire.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.engine.set_lifetime(lifetime);
    }

    /// The lifetime of sessions that are put now, if their put does not say: what [`Builder::lifetime`] or
    /// [`set_lifetime`](Self::set_lifetime) was told last, in whole milliseconds, rounded down.
    ///
    /// ```
    /// use std::time::Duration;
    /// use resumption::SessionCache;
    ///
    /// let cache: SessionCache =
    ///     SessionCache::builder().lifetime(Duration::from_secs(7200)).build()?;
    /// assert_eq!(cache.lifetime(), Duration::from_secs(7200));
    /// cache.set_lifetime(Duration::from_secs(60));
    /// assert_eq!(cache.lifetime(), Duration::from_secs(60));
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        Duration::from_millis(self.engine.lifetime())
    }

    /// Handles of all sessions, *of all scopes*, in no order; [`Sessions::iter`] gives one scope's. Each session that is
    /// there throughout is met once; those that come or go meanwhile may be. Expired ones are left out. The iterator itself holds up to 256
    /// sessions or so that it is about to return, and those that left meanwhile stay alive with it.
    ///
    /// ```
    /// use resumption::{Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache = SessionCache::builder().build()?;
    /// let ids = [1, 2].map(|number| SessionId::from([number; 32]));
    /// assert!(cache.scope(&Scope::new("web")).put(&ids[0], b"".into()).is_stored());
    /// assert!(cache.scope(&Scope::new("internal")).put(&ids[1], b"".into()).is_stored());
    /// let mut found: Vec<_> = cache.iter().map(|session| *session.id()).collect();
    /// found.sort();
    /// assert_eq!(found, ids);
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<S> {
        Iter::new(Arc::clone(&self.engine), None)
    }

    /// How many sessions there are; expired ones count until they are removed. Exact when the cache
    /// is at rest; meanwhile it may be off by the operations in flight, and by what came in one lane and left in another while
    /// they were added up.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.engine.len()).unwrap_or(usize::MAX)
    }

    /// Whether there are no sessions; as exact as [`len`](Self::len).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the sessions: their payloads' weights, and [`OVERHEAD`](Self::OVERHEAD) each. Puts
    /// in flight count too. As exact as [`len`](Self::len).
    #[must_use]
    pub fn bytes(&self) -> usize {
        usize::try_from(self.engine.bytes()).unwrap_or(usize::MAX)
    }

    /// The cache's counters. Costs some thirty reads for each processor, and one for each shard.
    ///
    /// ```
    /// use resumption::{Reason, Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache = SessionCache::builder().build()?;
    /// let web = cache.scope(&Scope::new("web"));
    /// let id = SessionId::from([1; 32]);
    /// assert!(web.put(&id, b"state".into()).is_stored());
    /// assert!(web.take(&id).is_some() && web.take(&id).is_none());
    ///
    /// let stats = cache.stats();
    /// assert_eq!((stats.sessions, stats.puts, stats.takes, stats.misses()), (0, 1, 1, 1));
    /// assert_eq!(stats.removals.get(Reason::Taken), 1);
    /// for (reason, count) in stats.removals.iter() {
    ///     println!("{count} {reason}");
    /// }
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Sets the callback that is told of each session that comes from now on, or unsets it. OpenSSL's
    /// `SSL_CTX_sess_set_new_cb`.
    ///
    /// It is called once for each session that a put has stored, with a handle of its own, and
    /// answers whether the session may stay. When and on which thread, the builder's
    /// [`dispatch`](Builder::dispatch) says.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use resumption::{Dispatch, Scope, SessionCache, SessionId, Verdict};
    ///
    /// let cache: SessionCache =
    ///     SessionCache::builder().dispatch(Dispatch::Inline).without_ticker().build()?;
    /// cache.set_on_new(Some(Arc::new(|new| match new.session().payload().len() {
    ///     0 => Verdict::Reject,
    ///     _ => Verdict::Keep,
    /// })))?;
    /// let web = cache.scope(&Scope::new("web"));
    /// let id = SessionId::from([1; 32]);
    /// assert!(web.put(&id, b"".into()).is_stored());
    /// assert!(web.get(&id).is_none(), "it was rejected");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The threads for callbacks could not be started.
    pub fn set_on_new(&self, callback: Option<Arc<OnNew<S>>>) -> io::Result<()> {
        if callback.is_some() {
            self.start_workers()?;
        }
        self.engine.set_on_new(callback);
        Ok(())
    }

    /// The callback that is told of new sessions.
    #[must_use]
    pub fn on_new(&self) -> Option<Arc<OnNew<S>>> {
        self.engine.callbacks.new.callback()
    }

    /// Sets the callback that is told of each session that leaves from now on, or unsets it. OpenSSL's
    /// `SSL_CTX_sess_set_remove_cb`.
    ///
    /// It is called once for each session, for whatever reason it left; also for those that are there
    /// when the cache is closed or dropped. A session's coming is told before its leaving, and its
    /// leaving before the coming of the next session of its id, also where the scope was dropped in
    /// between: what follows the calls into a database keyed by scope and id ends with what the cache
    /// holds.
    ///
    /// It is also told, by the id alone, of what was removed ([`remove`](crate::Sessions::remove) and
    /// [`remove_faulty`](crate::Sessions::remove_faulty)) and was not in the cache, if a get callback is set: an external
    /// cache may hold what memory has evicted, and would give it again. In the mode
    /// [`NO_INTERNAL_STORE`](CacheMode::NO_INTERNAL_STORE) that needs no get callback, and what was taken is told, too.
    /// So a callback that removes sessions itself must not answer such a call ([`session`](crate::RemovedSession::session) is
    /// `None`) with a removal that comes back to it: there would be no end. And these calls wait with the others, so many
    /// removals of what is not there make puts be refused until they are made.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use resumption::{Dispatch, Reason, Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache =
    ///     SessionCache::builder().dispatch(Dispatch::Inline).without_ticker().build()?;
    /// let log: Arc<Mutex<Vec<(SessionId, Reason)>>> = Arc::default();
    /// let entries = Arc::clone(&log);
    /// cache.set_on_remove(Some(Arc::new(move |removed| {
    ///     entries.lock().expect("no panic").push((*removed.id(), removed.reason()));
    /// })))?;
    /// let web = cache.scope(&Scope::new("web"));
    /// let ids = [1, 2].map(|number| SessionId::from([number; 32]));
    /// assert!(ids.iter().all(|id| web.put(id, b"state".into()).is_stored()));
    /// assert!(web.take(&ids[0]).is_some());
    /// cache.close();
    /// assert_eq!(*log.lock().expect("no panic"), [(ids[0], Reason::Taken), (ids[1], Reason::Closed)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The threads for callbacks could not be started.
    pub fn set_on_remove(&self, callback: Option<Arc<OnRemove<S>>>) -> io::Result<()> {
        if callback.is_some() {
            self.start_workers()?;
        }
        self.engine.set_on_remove(callback);
        Ok(())
    }

    /// The callback that is told of sessions that leave.
    #[must_use]
    pub fn on_remove(&self) -> Option<Arc<OnRemove<S>>> {
        self.engine.callbacks.remove.callback()
    }

    /// Sets the callback that is asked for each session that a lookup does not find, or unsets it.
    /// OpenSSL's `SSL_CTX_sess_set_get_cb`.
    ///
    /// It is called in the thread of the lookup, and may answer later
    /// ([`Answer::Later`](crate::Answer::Later)). What it gives is checked: its id, its scope and its
    /// lifetime. Several gets of one id ask once and share the answer; of several takes one asks, and
    /// the others find nothing; nor does a take while a get of its id asks, or a get while a take does. It is not asked while the leaving of a session of that id waits to be
    /// told to the remove callback, and its answer counts for nothing if a session of that id has left
    /// the cache meanwhile: an external cache that lags brings no session back.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use resumption::{Answer, Found, Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache = SessionCache::builder().build()?;
    /// cache.set_on_get(Some(Arc::new(|proposed| {
    ///     let (id, scope) = (*proposed.id(), proposed.scope().clone());
    ///     Answer::Give(Found::new(id, scope, b"from a database".into(), Duration::from_secs(60)))
    /// })));
    /// let web = cache.scope(&Scope::new("web"));
    /// let id = SessionId::from([1; 32]);
    /// assert_eq!(&web.get(&id).expect("it was given").payload()[..], b"from a database");
    /// assert_eq!(cache.len(), 1);
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    pub fn set_on_get(&self, callback: Option<Arc<OnGet<S>>>) {
        self.engine.set_on_get(callback);
    }

    /// The callback that is asked for sessions.
    #[must_use]
    pub fn on_get(&self) -> Option<Arc<OnGet<S>>> {
        self.engine.callbacks.get.callback()
    }

    /// Changes how the cache is used, for calls from now on; returns what it was, which this one replaces: name the side
    /// beside the flags. OpenSSL's `SSL_CTX_set_session_cache_mode`. What is in the cache stays there.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    /// use resumption::{
    ///     Answer, CacheMode, Dispatch, Found, Scope, SessionCache, SessionId, Verdict, Want,
    /// };
    ///
    /// // All sessions are elsewhere: here, in a map, by their scopes and ids.
    /// let cache: SessionCache =
    ///     SessionCache::builder().dispatch(Dispatch::Inline).without_ticker().build()?;
    /// assert_eq!(cache.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL), CacheMode::SERVER);
    ///
    /// let map: Arc<Mutex<HashMap<(Scope, SessionId), Vec<u8>>>> = Arc::default();
    /// let (store, find) = (Arc::clone(&map), Arc::clone(&map));
    /// cache.set_on_new(Some(Arc::new(move |new| {
    ///     let (key, payload) = ((new.scope().clone(), *new.session().id()), new.session().payload());
    ///     store.lock().expect("no panic").insert(key, payload.to_vec());
    ///     Verdict::Keep
    /// })))?;
    /// cache.set_on_get(Some(Arc::new(move |proposed| {
    ///     let key = (proposed.scope().clone(), *proposed.id());
    ///     let mut map = find.lock().expect("no panic");
    ///     let found = match proposed.want() {
    ///         Want::Get => map.get(&key).cloned(),
    ///         Want::Take => map.remove(&key),
    ///     };
    ///     let Some(bytes) = found else { return Answer::Nothing };
    ///     Answer::Give(Found::new(key.1, key.0, bytes.into(), Duration::from_secs(60)))
    /// })));
    ///
    /// let web = cache.scope(&Scope::new("web"));
    /// let id = SessionId::from([1; 32]);
    /// assert!(web.put(&id, b"state".into()).is_stored(), "in the map");
    /// assert!(cache.is_empty());
    /// assert_eq!(&web.take(&id).expect("from the map").payload()[..], b"state");
    /// assert!(web.take(&id).is_none(), "once");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_mode(&self, mode: CacheMode) -> CacheMode {
        let engine = &self.engine;
        let _one = engine.settling();
        let old = engine.mode();
        engine.set_mode(mode);
        old
    }

    /// How the cache is used.
    #[must_use]
    pub fn mode(&self) -> CacheMode {
        self.engine.mode()
    }

    /// Makes the calls of callbacks that wait, and returns how many it made: what
    /// [`Dispatch::Manual`] leaves to the program. Two threads that poll share the work. Polls the
    /// answers that lookups have left, too; see [`Lookup`](crate::Lookup). Makes none in the drop of a payload in the
    /// middle of a put, of a lookup that stores what it was given, of a change of settings or of a close, of whatever
    /// cache: callbacks must not run under what these hold.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use resumption::{Dispatch, Scope, SessionCache, SessionId, Verdict};
    ///
    /// let cache: SessionCache = SessionCache::builder().dispatch(Dispatch::Manual).build()?;
    /// cache.set_on_new(Some(Arc::new(|new| {
    ///     println!("{:?} came", new.session().id());
    ///     Verdict::Keep
    /// })))?;
    /// let web = cache.scope(&Scope::new("web"));
    /// assert!(web.put(&SessionId::from([1; 32]), b"state".into()).is_stored());
    /// // In the program's loop.
    /// assert_eq!(cache.poll_callbacks(), 1);
    /// assert_eq!(cache.poll_callbacks(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_callbacks(&self) -> usize {
        if is_held() {
            // See `dispatch::hold`.
            return 0;
        }
        self.engine.tend_orphans(usize::MAX);
        self.engine.serve_all()
    }

    fn start_workers(&self) -> io::Result<()> {
        let engine = &self.engine;
        let _one = engine.settling();
        for worker in 0..engine.dispatch.workers() {
            if !engine.dispatch.is_started(worker) {
                engine.dispatch.started(worker, start_worker(Arc::downgrade(engine), worker)?);
            }
        }
        Ok(())
    }

    /// Refuses puts from now on, removes every session, and waits until the callbacks have been told.
    ///
    /// * Puts that began before are waited for, and what they store is removed with the rest.
    /// * Lookups find nothing afterwards, but for what a get callback answers. Unset that first if no session is to
    ///   be resumed any more.
    /// * Handles stay good. What another thread is removing just now (the background thread, say) that thread drops, soon after; that it
    ///   leaves is told before this returns. What is removed while it is not in the cache ([`remove`](Sessions::remove) with an external
    ///   cache) is told when that call ends.
    ///
    /// It must not be called from the drop of a payload that a put of this cache evicts, or a lookup that stores what it
    /// was given: it would wait for these.
    ///
    /// *Where it does not wait for callbacks.* The cache is closed and empty then, and calls still wait:
    ///
    /// * With [`Dispatch::Manual`], whose calls are left to [`poll_callbacks`](Self::poll_callbacks).
    /// * Inside a callback of any cache.
    /// * In the drop of a payload, if that is in the middle of another cache's put or change of settings (which evicts
    ///   it), of its close, or of a lookup that asks the get callback; or if a remove callback was told of it, for then it is
    ///   dropped where that was called. In the drop of one that leaves otherwise, by a flush, by a take or by the
    ///   background thread, it waits as anywhere.
    ///
    /// # Panics
    ///
    /// If the drop of a payload does. The cache is closed and empty then, and was not waited for: close it again.
    pub fn close(&self) {
        let _ = self.close_within(Duration::MAX);
    }

    /// As [`close`](Self::close), but waits for callbacks no longer than `within`. With
    /// [`Dispatch::Inline`] the calls are made here, one after another, until the time is over: one call
    /// that never returns does not end by that; and if one calls the cache itself, what waits is told in there, all of it.
    ///
    /// ```
    /// use std::sync::{Arc, mpsc};
    /// use std::time::Duration;
    /// use resumption::{Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache = SessionCache::builder().build()?;
    /// let (go_on, waits) = mpsc::channel::<()>();
    /// let waits = std::sync::Mutex::new(waits);
    /// cache.set_on_remove(Some(Arc::new(move |_| {
    ///     // Stands for a database that does not answer.
    ///     let _ = waits.lock().expect("no panic").recv();
    /// })))?;
    /// let web = cache.scope(&Scope::new("web"));
    /// assert!(web.put(&SessionId::from([1; 32]), b"state".into()).is_stored());
    ///
    /// let slow = cache.close_within(Duration::from_millis(10)).expect_err("nobody answers");
    /// assert_eq!(slow.waiting, 1);
    /// drop(go_on);
    /// cache.close_within(Duration::MAX)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Calls are still waiting: the time is over, or this is where [`close`](Self::close) does not wait. The cache's threads go on
    /// to make them. Where it has none for that ([`Dispatch::Manual`]; [`Dispatch::Inline`] without a ticker),
    /// [`poll_callbacks`](Self::poll_callbacks) does, or closing it again.
    ///
    /// # Panics
    ///
    /// As [`close`](Self::close).
    pub fn close_within(&self, within: Duration) -> Result<(), Undelivered> {
        let start = Instant::now();
        let engine = &self.engine;
        // In the middle of a put, say, by a payload's drop.
        let was_held = is_held();
        {
            let _held = hold();
            engine.close();
        }
        let is_inline = engine.dispatch.kind() == Dispatch::Inline;
        let waits = engine.dispatch.kind() != Dispatch::Manual && !is_in_callback() && !was_held;
        if !waits {
            // As at the end of any other call.
            engine.deliver_all();
        }
        loop {
            // Twice: the shards are counted one after another, and a callback in one may have told of something in another that
            // was counted before. (If that one does the like, back and forth just so, it may be missed still.)
            let waiting = engine.callbacks_waiting().max(engine.callbacks_waiting());
            if waiting == 0 {
                return Ok(());
            }
            if !waits || start.elapsed() >= within {
                return Err(Undelivered { waiting });
            }
            if !is_inline || engine.serve_one_each() == 0 {
                thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Whether the cache is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }
}

impl<S: Send + Sync + 'static> Clone for SessionCache<S> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for SessionCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static> IntoIterator for &SessionCache<S> {
    type Item = Session<S>;
    type IntoIter = Iter<S>;

    fn into_iter(self) -> Iter<S> {
        self.iter()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::callbacks::Verdict;
    use crate::clock::Clock;
    use crate::table::SessionId;

    /// Renewed sessions' hints come due at the old time, all at once. A put that needs room passes a few of them
    /// on, and evicts.
    #[test]
    fn a_put_does_not_look_at_all_that_is_due() {
        let (most, clock) = (2_000, Clock::manual());
        let builder = SessionCache::<u64>::builder().max_sessions(most).clock(clock.clone());
        let builder = builder.lifetime(Duration::from_secs(60)).without_ticker();
        let cache = builder.build().expect("sane settings");
        cache.set_mode(CacheMode::SERVER | CacheMode::UPDATE_TIME);
        let web = cache.scope(&Scope::new("web"));
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            SessionId::from(bytes)
        };
        for number in 0..most {
            assert!(web.put(&id(number), 0).is_stored());
        }
        clock.advance(Duration::from_secs(50));
        assert!((0..most).all(|number| web.get(&id(number)).is_some()));
        clock.advance(Duration::from_secs(20));
        assert!(web.put(&id(most), 0).is_stored());
        assert!(cache.engine.is_due(), "it has looked at all");
        // Others do the rest, and what is renewed stays.
        cache.flush_expired();
        assert!(cache.len() + 64 > most, "{} are left", cache.len());
    }

    /// Else a worker naps after each turn of them.
    #[test]
    fn a_turn_of_events_that_nobody_hears_of_is_work() {
        let cache: SessionCache<u64> = SessionCache::builder().without_ticker().build().unwrap();
        let web = cache.scope(&Scope::new("web"));
        let id = SessionId::from([1; 32]);
        // Without the worker's thread: what that does is done here.
        cache.engine.set_on_new(Some(Arc::new(|_| Verdict::Keep)));
        cache.engine.set_on_remove(Some(Arc::new(|_| {})));
        assert!(web.put(&id, 1).is_stored() && web.remove(&id));
        // Told to nobody any more, but for what comes from here on.
        drop(cache.engine.callbacks.remove.set(None));
        drop(cache.engine.callbacks.new.set(None));
        assert!(cache.engine.callbacks_waiting() > 0);
        assert!(cache.engine.work(0), "there was something");
        assert!(!cache.engine.work(0), "there is nothing more");
        assert_eq!(cache.engine.callbacks_waiting(), 0);
    }
}
