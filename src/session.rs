//! Handles of sessions.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Instant;

use crate::clock;
use crate::expiry::Due;
use crate::secret::SecretBytes;
use crate::table::{NodeRef, SessionId};

/// A counted handle of a session.
///
/// A clone is one more reference; a drop gives it back. There are 2³¹ at most, which only a program meets that forgets
/// handles in a loop: from there on lookups do not find the session, and a clone ends the process, as one of
/// [`Arc`](std::sync::Arc) does. The payload lives as long as the session is
/// in the cache or a handle holds it, and is dropped with the last of them, at that moment. A handle
/// does not keep the cache, and outlives it.
///
/// ```
/// use resumption::{Scope, SessionCache, SessionId};
///
/// let cache: SessionCache = SessionCache::builder().build()?;
/// let web = cache.scope(&Scope::new("web"));
/// let id = SessionId::from([1; 32]);
/// assert!(web.put(&id, b"secret".into()).is_stored());
/// let session = web.get(&id).expect("it was put");
/// assert_eq!(session.id(), &id);
/// assert_eq!(&session.payload()[..], b"secret");
/// assert_eq!(session.ref_count(), 2); // the cache's, and this handle's
/// # Ok::<(), resumption::BuildError>(())
/// ```
pub struct Session<S = SecretBytes>(NodeRef<S>);

impl<S> Session<S> {
    #[inline]
    pub(crate) fn new(node: NodeRef<S>) -> Self {
        Self(node)
    }

    pub(crate) fn node(&self) -> &NodeRef<S> {
        &self.0
    }

    /// The session id.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        self.0.node().id()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &S {
        self.0.payload()
    }

    /// When the session expires, or would have, had it stayed. Changes when the session is extended. For one that was put with a
    /// lifetime of less than a millisecond it is some time before now; for one that never expires, a far instant.
    ///
    /// It is a time of the cache's clock. A [manual](crate::Clock::manual) one counts from the instant at which it was made, and
    /// passes as it is advanced: compare with [`Clock::instant`](crate::Clock::instant), not with `Instant::now`.
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        clock::instant(self.0.origin(), Due::load(self.0.node().expiry()).at())
    }

    /// How many references the session has: one for each handle, one for the cache while the session is in it,
    /// one while a new-session callback is to be told of it (two, if it has left and there is no remove callback), and one while a remove callback is. Other threads may change it at any time.
    #[must_use]
    pub fn ref_count(&self) -> usize {
        self.0.count() as usize
    }
}

impl<S> Clone for Session<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> fmt::Debug for Session<S> {
    /// Without the payload, which is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", self.id())
            .field("ref_count", &self.ref_count())
            .finish_non_exhaustive()
    }
}
