//! A whole engine.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ahash::RandomState;

use super::Told;
use crate::clock::Clock;
use crate::dispatch::{Dispatch, Dispatcher};
use crate::engine::ask::{self, Asked};
use crate::engine::sweep::Tick;
use crate::engine::{self, IfPresent, Parts, Weigher};
use crate::expiry::capacity::UNLIMITED;
use crate::outcome::Put;
use crate::scope::{self, Scope};
use crate::session::Session;
use crate::stats::{Reason, Stats};
use crate::table::SessionId;
use crate::{
    Answer, CacheMode, Connection, NewSession, OnGet, OnNew, OnRemove, Proposed, RemovedSession,
    Verdict, Want,
};

/// A whole engine of one shard, with one scope.
pub struct Engine<S: Send + Sync + 'static> {
    engine: Arc<engine::Engine<S>>,
    scope: Arc<scope::Entry>,
}

impl<S: Send + Sync + 'static> Engine<S> {
    /// An engine for so many sessions, which live for a minute.
    #[must_use]
    pub fn new(max_sessions: u64) -> Self {
        Self::dispatching(max_sessions, Dispatch::Manual)
    }

    /// As [`new`](Self::new), of two lanes. Threads of a model use them in turn.
    #[must_use]
    pub fn of_two_lanes(max_sessions: u64) -> Self {
        Self::of((max_sessions, UNLIMITED), 2, None, Dispatch::Manual)
    }

    /// An engine whose callbacks are this one, called at the end of what caused the call.
    pub fn telling(
        max_sessions: u64,
        hear: impl Fn(Told, Session<S>) + Send + Sync + 'static,
    ) -> Self {
        Self::telling_by(Dispatch::Inline, max_sessions, hear)
    }

    /// As [`telling`](Self::telling); called when [`poll`](Self::poll) is.
    pub fn telling_when_polled(
        max_sessions: u64,
        hear: impl Fn(Told, Session<S>) + Send + Sync + 'static,
    ) -> Self {
        Self::telling_by(Dispatch::Manual, max_sessions, hear)
    }

    fn telling_by(
        dispatch: Dispatch,
        max_sessions: u64,
        hear: impl Fn(Told, Session<S>) + Send + Sync + 'static,
    ) -> Self {
        let this = Self::dispatching(max_sessions, dispatch);
        let hear = Arc::new(hear);
        let hear_new = Arc::clone(&hear);
        let on_new: Arc<OnNew<S>> = Arc::new(move |new: NewSession<S>| {
            hear_new(Told::Came, new.into_session());
            Verdict::Keep
        });
        let on_remove: Arc<OnRemove<S>> = Arc::new(move |removed: RemovedSession<S>| {
            hear(Told::Left, removed.into_session().expect("it was in the cache"));
        });
        this.set_on_new(Some(on_new));
        this.set_on_remove(Some(on_remove));
        this
    }

    /// An engine with this get callback, and whose removals wait to be told for ever.
    pub fn asking(
        max_sessions: u64,
        on_get: impl Fn(&Proposed<'_>) -> Answer<S> + Send + Sync + 'static,
    ) -> Self {
        let this = Self::dispatching(max_sessions, Dispatch::Manual);
        let on_get: Arc<OnGet<S>> = Arc::new(on_get);
        let on_remove: Arc<OnRemove<S>> = Arc::new(drop);
        this.set_on_get(Some(on_get));
        this.set_on_remove(Some(on_remove));
        this
    }

    /// An engine without callbacks, which are called as `dispatch` says: by no threads of its own.
    pub fn dispatching(max_sessions: u64, dispatch: Dispatch) -> Self {
        Self::of((max_sessions, UNLIMITED), 1, None, dispatch)
    }

    /// An engine with room in bytes for so many sessions that together weigh so much.
    pub fn weighing(
        max_sessions: u64,
        max_weight: u64,
        weigh: impl Fn(&S) -> usize + Send + Sync + 'static,
    ) -> Self {
        let max_bytes = Self::bytes_of(max_sessions, max_weight);
        Self::of((UNLIMITED, max_bytes), 1, Some(Box::new(weigh)), Dispatch::Manual)
    }

    /// What so many sessions are charged that together weigh so much.
    #[must_use]
    pub fn bytes_of(sessions: u64, weight: u64) -> u64 {
        sessions * engine::Engine::<S>::OVERHEAD as u64 + weight
    }

    fn of(
        (max_sessions, max_bytes): (u64, u64),
        lanes: usize,
        weigher: Option<Weigher<S>>,
        dispatch: Dispatch,
    ) -> Self {
        let engine = engine::Engine::new(Parts {
            max_sessions,
            max_bytes,
            shards: 1,
            lanes,
            max_waiting_headers: usize::MAX,
            dispatch: Dispatcher::new(dispatch, 1, u64::MAX),
            lifetime: Duration::from_secs(60),
            weigher,
            lookup_timeout: Duration::MAX,
            mode: CacheMode::SERVER,
            clock: Clock::manual(),
            hasher: RandomState::with_seeds(1, 2, 3, 4),
        });
        // A put of a new cache would look what is due, and see others' work by that alone.
        engine.tick(&mut Tick::default(), || false);
        let scope = engine.scopes.attach(&Scope::new("model"));
        Self { engine: Arc::new(engine), scope }
    }

    /// Sets or unsets the new-session callback.
    pub fn set_on_new(&self, callback: Option<Arc<OnNew<S>>>) {
        self.engine.set_on_new(callback);
    }

    /// Sets or unsets the remove callback.
    pub fn set_on_remove(&self, callback: Option<Arc<OnRemove<S>>>) {
        self.engine.set_on_remove(callback);
    }

    /// Sets or unsets the get callback.
    pub fn set_on_get(&self, callback: Option<Arc<OnGet<S>>>) {
        self.engine.set_on_get(callback);
    }

    /// Changes how the cache is used.
    pub fn set_mode(&self, mode: CacheMode) {
        self.engine.set_mode(mode);
    }

    /// Stores a session.
    pub fn put(&self, id: u8, payload: S) -> Put<S> {
        let mut connection = Connection::server();
        self.engine.put(&self.scope, &session_id(id), payload, &mut connection, IfPresent::Replace)
    }

    /// Stores a session that is expired at once.
    pub fn put_expired(&self, id: u8, payload: S) -> Put<S> {
        let mut connection = Connection::server().lifetime(Duration::ZERO);
        self.engine.put(&self.scope, &session_id(id), payload, &mut connection, IfPresent::Replace)
    }

    /// Stores a session unless there is one.
    pub fn put_if_absent(&self, id: u8, payload: S) -> Put<S> {
        let mut connection = Connection::server();
        self.engine.put(&self.scope, &session_id(id), payload, &mut connection, IfPresent::Refuse)
    }

    /// Finds a session.
    #[must_use]
    pub fn get(&self, id: u8) -> Option<Session<S>> {
        self.engine.get(&self.scope, &session_id(id))
    }

    /// Takes a session.
    #[must_use]
    pub fn take(&self, id: u8) -> Option<Session<S>> {
        self.engine.take(&self.scope, &session_id(id))
    }

    /// Removes a session; `false` when there was none.
    pub fn remove(&self, id: u8) -> bool {
        self.engine.remove_id(&self.scope, &session_id(id), Reason::Removed)
    }

    /// Whether a session is there.
    #[must_use]
    pub fn contains(&self, id: u8) -> bool {
        self.engine.contains(&self.scope, &session_id(id))
    }

    /// A get or a take that waits without a thread; or what it has found at once. As `Lookup`, without
    /// its clock.
    pub fn lookup(&self, id: u8, want: Want) -> Result<Option<Session<S>>, Waiting<S>> {
        match self.engine.lookup(&self.scope, &session_id(id), want) {
            Asked::Answered(session) => Ok(session),
            Asked::Waits(seat) => Err(Waiting(ask::Waiting::new(Arc::clone(&self.engine), seat))),
        }
    }

    /// Tends what lookups have left, as the ticker does.
    pub fn tend(&self) {
        self.engine.tend_orphans(usize::MAX);
    }

    /// Lets a session expire so many seconds from now.
    pub fn extend(&self, id: u8, seconds: u64) -> bool {
        self.engine.extend(&self.scope, &session_id(id), Duration::from_secs(seconds))
    }

    /// Moves the clock on.
    pub fn advance(&self, seconds: u64) {
        self.engine.clock.advance(Duration::from_secs(seconds));
    }

    /// Drops the scope; returns how many sessions that removed.
    pub fn drop_scope(&self) -> usize {
        let slot = self.engine.scopes.renew(&Scope::new("model")).expect("attached by `new`");
        self.engine.drop_slot(slot)
    }

    /// Makes the calls that wait; returns how many.
    pub fn poll(&self) -> usize {
        self.engine.serve_all()
    }

    /// Ticks until nothing is due.
    pub fn tick(&self) {
        assert!(self.engine.tick(&mut Tick::default(), || false), "to the end");
    }

    /// Removes what is expired.
    pub fn flush_expired(&self) -> usize {
        self.engine.flush_expired()
    }

    /// Removes everything; returns how much.
    pub fn flush(&self) -> usize {
        self.engine.flush()
    }

    /// Closes the cache.
    pub fn close(&self) {
        self.engine.close();
    }

    /// The counters; exact while no other thread runs.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }
}

/// A lookup that waits for an answer.
pub struct Waiting<S: Send + Sync + 'static>(ask::Waiting<S, Arc<engine::Engine<S>>>);

impl<S: Send + Sync + 'static> Future for Waiting<S> {
    type Output = Option<Session<S>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx.waker())
    }
}

fn session_id(number: u8) -> SessionId {
    SessionId::from([number; 32])
}

impl<S: Send + Sync + 'static> fmt::Debug for Waiting<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.fmt(f)
    }
}
