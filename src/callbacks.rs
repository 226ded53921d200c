//! The callbacks: what a server is told of its sessions, and asked for.
//!
//! They follow OpenSSL's `SSL_CTX_sess_set_new_cb`, `_remove_cb` and `_get_cb`: an external cache hears
//! of each session that came and of each that left, and is asked for those that are not here. They may
//! be set, read back and unset at any time; a call uses the callback of the moment when it is made.
//! `docs/callbacks.md` and `docs/external-cache.md` tell the user.

#![forbid(unsafe_code)]

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::scope::{Entry, Scope};
use crate::secret::SecretBytes;
use crate::session::Session;
use crate::stats::Reason;
use crate::sync::{ArcSwapOption, planted};
use crate::table::{Context, SessionId};

/// Told of each session that came into the cache, and asked whether it may stay.
pub type OnNew<S = SecretBytes> = dyn Fn(NewSession<S>) -> Verdict + Send + Sync;

/// Told of each session that has left the cache.
pub type OnRemove<S = SecretBytes> = dyn Fn(RemovedSession<S>) + Send + Sync;

/// Asked for a session that a client proposed and that the cache does not hold.
pub type OnGet<S = SecretBytes> = dyn Fn(&Proposed<'_>) -> Answer<S> + Send + Sync;

/// What a lookup wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// To use it, and to leave it for others.
    Get,
    /// To use it alone, once: an external cache has to *delete it atomically*, so that no other
    /// server that asks gets it too. Servers that share one have to ask for [each take](crate::Sessions::take).
    Take,
}

/// What the get callback is asked for.
#[derive(Debug)]
pub struct Proposed<'a> {
    pub(crate) id: &'a SessionId,
    pub(crate) scope: &'a Scope,
    pub(crate) want: Want,
}

impl Proposed<'_> {
    /// The session id that the client proposed.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        self.id
    }

    /// The scope that it was looked for in.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.scope
    }

    /// What the lookup wants of it.
    #[must_use]
    pub fn want(&self) -> Want {
        self.want
    }
}

/// What the get callback answers.
pub enum Answer<S = SecretBytes> {
    /// It has no such session.
    Nothing,
    /// This one, which becomes the cache's: OpenSSL's `copy` of 0. A lookup that wants to take it gets
    /// it and nobody else; otherwise it is stored too.
    Give(Found<S>),
    /// This one, a session of this cache of which the callback keeps a handle: OpenSSL's `copy` of 1.
    /// The lookup gets a handle of its own; what is in the cache does not change.
    Share(Session<S>),
    /// What this future answers. [`Sessions::lookup`](crate::Sessions::lookup) waits for it without
    /// holding a thread, a get or a take in its thread, both for no longer than
    /// [`Builder::lookup_timeout`](crate::Builder::lookup_timeout). Any thread may poll it, also the
    /// cache's own: a future that needs a runtime is to be spawned there, and this one to be the
    /// handle of the task.
    ///
    /// *A get, a take and a TLS adapter park their thread meanwhile*, and that must not be one that the task
    /// needs. Under an async server it is a worker of the runtime: what the callback spawns there may lie in
    /// the parked worker's own queue until the time is over, and on a runtime of one thread it always does. Behind an
    /// adapter spawn on another runtime, or ask in a thread of your own; or answer at once: on a runtime of
    /// several threads `block_in_place(|| Handle::current().block_on(query))` lets the other tasks go on.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use resumption::{Answer, Found, Scope, SessionCache, SessionId};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Of its own: its threads look up nothing, so none of them is ever parked by a lookup.
    /// let queries = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    /// let spawner = queries.handle().clone();
    /// let cache: SessionCache = SessionCache::builder().build()?;
    /// cache.set_on_get(Some(Arc::new(move |proposed| {
    ///     let (id, scope) = (*proposed.id(), proposed.scope().clone());
    ///     // Stands for a query.
    ///     let query = spawner.spawn(async { tokio::time::sleep(Duration::from_millis(1)).await });
    ///     Answer::later(async move {
    ///         if query.await.is_err() {
    ///             return Answer::Nothing;
    ///         }
    ///         let lifetime = Duration::from_secs(60);
    ///         Answer::Give(Found::new(id, scope, b"from a database".into(), lifetime))
    ///     })
    /// })));
    /// // What an adapter does, in a thread of the server's runtime.
    /// let web = cache.scope(&Scope::new("web"));
    /// let server = tokio::runtime::Builder::new_current_thread().build()?;
    /// assert!(server.block_on(async { web.take(&SessionId::from([1; 32])) }).is_some());
    /// # Ok(())
    /// # }
    /// ```
    Later(Later<S>),
}

/// An answer that is not there yet.
pub type Later<S = SecretBytes> = Pin<Box<dyn Future<Output = Answer<S>> + Send>>;

impl<S> Answer<S> {
    /// What `future` answers.
    pub fn later(future: impl Future<Output = Self> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<S> fmt::Debug for Answer<S> {
    /// Without the payload, which is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Give(found) => f.debug_tuple("Give").field(&found.id).finish(),
            Self::Share(session) => f.debug_tuple("Share").field(session).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// A session of an external cache.
///
/// ```
/// use std::time::Duration;
/// use resumption::{Found, Scope, SecretBytes, SessionId};
///
/// let (id, scope) = (SessionId::from([1; 32]), Scope::new("web"));
/// let found = Found::new(id, scope, SecretBytes::from(b"from a row"), Duration::from_secs(60));
/// assert_eq!(found.lifetime, Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct Found<S = SecretBytes> {
    /// The id that it was stored with.
    pub id: SessionId,
    /// The scope that it was stored under. The cache compares it with the one that is asked for, which is
    /// worth nothing if that is given back unseen: keep the [whole scope](Scope::to_bytes) with the session.
    pub scope: Scope,
    /// The payload.
    pub payload: S,
    /// How long it still has to live. Less than a millisecond is expired, and counts for nothing; beyond the end of time, 139
    /// years, it never expires.
    pub lifetime: Duration,
}

impl<S> Found<S> {
    /// The session of this id and scope, *as they were stored with it*, and how long it still has to live: see the fields.
    #[must_use]
    pub fn new(id: SessionId, scope: Scope, payload: S, lifetime: Duration) -> Self {
        Self { id, scope, payload, lifetime }
    }
}

impl<S> fmt::Debug for Found<S> {
    /// Without the payload, which is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("id", &self.id)
            .field("scope", &self.scope)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// What the new-session callback answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The session stays. The callback may keep its handle as long as it likes.
    Keep,
    /// The session is removed at once, for the reason [`Rejected`](Reason::Rejected), if it is still
    /// there; no later lookup finds it.
    Reject,
}

/// A session that came into the cache.
pub struct NewSession<S = SecretBytes> {
    pub(crate) session: Session<S>,
    pub(crate) scope: Arc<Entry>,
    pub(crate) context: Option<Context>,
}

impl<S> NewSession<S> {
    /// The session; the handle is the callback's own.
    #[must_use]
    pub fn session(&self) -> &Session<S> {
        &self.session
    }

    /// The session's handle, to keep.
    #[must_use]
    pub fn into_session(self) -> Session<S> {
        self.session
    }

    /// The scope that the session was put under.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.scope.scope()
    }

    /// The context of the connection, if the put gave one of this type
    /// ([`Connection::context`](crate::Connection::context)).
    #[must_use]
    pub fn context<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.context.as_ref()?.get()
    }
}

impl<S> fmt::Debug for NewSession<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession")
            .field("session", &self.session)
            .field("scope", self.scope())
            .finish()
    }
}

/// A session that has left the cache; or the id of one that was not in it and that an external cache may have, as
/// [`SessionCache::set_on_remove`](crate::SessionCache::set_on_remove) says.
pub struct RemovedSession<S = SecretBytes> {
    pub(crate) id: SessionId,
    pub(crate) session: Option<Session<S>>,
    pub(crate) scope: Arc<Entry>,
    pub(crate) reason: Reason,
}

impl<S> RemovedSession<S> {
    /// The session id.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The session; the handle is the callback's own. `None` if it was not in the cache: only the id
    /// was taken or removed, of a session that an external cache may have.
    #[must_use]
    pub fn session(&self) -> Option<&Session<S>> {
        self.session.as_ref()
    }

    /// The session's handle, to keep.
    #[must_use]
    pub fn into_session(self) -> Option<Session<S>> {
        self.session
    }

    /// The scope that the session was put under.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.scope.scope()
    }

    /// Why the session has left.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl<S> fmt::Debug for RemovedSession<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemovedSession")
            .field("id", &self.id)
            .field("session", &self.session)
            .field("scope", self.scope())
            .field("reason", &self.reason)
            .finish()
    }
}

/// The callbacks that are set.
#[derive(Debug)]
pub(crate) struct Callbacks<S: 'static> {
    pub(crate) new: Slot<OnNew<S>>,
    pub(crate) remove: Slot<OnRemove<S>>,
    pub(crate) get: Slot<OnGet<S>>,
}

/// A place for a callback, which is read without waiting for whoever sets it. Twice counted, because a
/// swap wants a thin pointer.
pub(crate) struct Slot<F: ?Sized>(ArcSwapOption<Arc<F>>);

impl<S> Callbacks<S> {
    pub(crate) fn new() -> Self {
        Self { new: Slot::new(), remove: Slot::new(), get: Slot::new() }
    }
}

impl<F: ?Sized> Slot<F> {
    fn new() -> Self {
        Self(ArcSwapOption::empty())
    }

    /// Returns what was set before, to be dropped where user code may run.
    #[must_use]
    pub(crate) fn set(&self, callback: Option<Arc<F>>) -> Option<Arc<Arc<F>>> {
        if planted!("swap-in-two-steps") {
            let old = self.0.swap(None);
            drop(self.0.swap(callback.map(Arc::new)));
            return old;
        }
        self.0.swap(callback.map(Arc::new))
    }

    /// The callback that is set.
    pub(crate) fn callback(&self) -> Option<Arc<F>> {
        self.0.load().as_deref().cloned()
    }
}

impl<F: ?Sized> fmt::Debug for Slot<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.load().is_some() { "set" } else { "unset" })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_shows_no_payload() {
        let (id, minute) = (SessionId::from([7; 32]), Duration::from_secs(60));
        let found = Found::new(id, Scope::new("web"), "secret", minute);
        let (told, answer) = (format!("{found:?}"), format!("{:?}", Answer::Give(found.clone())));
        assert!(told.contains("web") && told.contains("60s") && !told.contains("secret"), "{told}");
        assert!(answer.contains("07070707") && !answer.contains("secret"), "{answer}");
    }
}
