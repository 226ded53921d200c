//! The callbacks: what a server is told of its sessions.
//!
//! They follow OpenSSL's `SSL_CTX_sess_set_new_cb` and `_remove_cb`: an external cache hears of each
//! session that came and of each that left. They may be set, read back and unset at any time; a call
//! uses the callback of the moment when it is made. `docs/callbacks.md` tells all in one page.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::scope::{Entry, Scope};
use crate::secret::SecretBytes;
use crate::session::Session;
use crate::stats::Reason;

/// Told of each session that came into the cache, and asked whether it may stay.
pub type OnNew<S = SecretBytes> = dyn Fn(NewSession<S>) -> Verdict + Send + Sync;

/// Told of each session that has left the cache.
pub type OnRemove<S = SecretBytes> = dyn Fn(RemovedSession<S>) + Send + Sync;

/// What the new callback answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl<S> fmt::Debug for NewSession<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession")
            .field("session", &self.session)
            .field("scope", self.scope())
            .finish()
    }
}

/// A session that has left the cache.
pub struct RemovedSession<S = SecretBytes> {
    pub(crate) session: Session<S>,
    pub(crate) scope: Arc<Entry>,
    pub(crate) reason: Reason,
}

impl<S> RemovedSession<S> {
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

    /// Why the session has left.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl<S> fmt::Debug for RemovedSession<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemovedSession")
            .field("session", &self.session)
            .field("scope", self.scope())
            .field("reason", &self.reason)
            .finish()
    }
}

/// The slots of the callbacks. A slot is read without waiting for whoever sets it.
pub(crate) struct Callbacks<S: 'static> {
    new: ArcSwapOption<Arc<OnNew<S>>>,
    remove: ArcSwapOption<Arc<OnRemove<S>>>,
}

impl<S> Callbacks<S> {
    pub(crate) fn new() -> Self {
        Self { new: ArcSwapOption::empty(), remove: ArcSwapOption::empty() }
    }

    pub(crate) fn set_new(&self, callback: Option<Arc<OnNew<S>>>) {
        self.new.store(callback.map(Arc::new));
    }

    pub(crate) fn on_new(&self) -> Option<Arc<OnNew<S>>> {
        self.new.load().as_deref().cloned()
    }

    pub(crate) fn set_remove(&self, callback: Option<Arc<OnRemove<S>>>) {
        self.remove.store(callback.map(Arc::new));
    }

    pub(crate) fn on_remove(&self) -> Option<Arc<OnRemove<S>>> {
        self.remove.load().as_deref().cloned()
    }
}

impl<S> fmt::Debug for Callbacks<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("new", &self.on_new().is_some())
            .field("remove", &self.on_remove().is_some())
            .finish()
    }
}
