//! What a put has come to.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

use crate::secret::SecretBytes;
use crate::session::Session;

/// What a put has come to.
#[must_use = "a refused payload comes back in it"]
pub enum Put<S = SecretBytes> {
    /// The session is in the cache; or, with [`NO_INTERNAL_STORE`](crate::CacheMode::NO_INTERNAL_STORE),
    /// handed to the new-session callback.
    Stored,
    /// As `Stored`, and this one, which had the same id, has left the cache for it.
    Replaced(Session<S>),
    /// The session is not in the cache, for this reason; the payload comes back.
    Refused(Refusal, S),
}

/// Why a put was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The cache is closed.
    Closed,
    /// The payload and its overhead are larger than the limit on bytes, or the weight is 4 GiB or
    /// more. Raise the limit.
    TooLarge,
    /// Too many headers of removed sessions wait to be freed: some thread has been stopped, or preempted for long, in the
    /// middle of an operation ([`Builder::max_waiting_headers`](crate::Builder::max_waiting_headers)). Lookups go on, and puts are
    /// taken again when the thread does.
    HeadersWaiting,
    /// Every place belongs to a put in flight, or to a removal that is just giving it back; or the
    /// limit is zero.
    Full,
    /// There is a live session of this id; only [`put_if_absent`](crate::Sessions::put_if_absent)
    /// refuses for that.
    Present,
    /// Too many calls of callbacks wait: their threads are slow, or dead. See
    /// [`Builder::max_waiting_callbacks`](crate::Builder::max_waiting_callbacks). Lookups go on, and
    /// puts are taken again when the callbacks have caught up.
    CallbacksWaiting,
    /// More than four billion scopes were made or dropped in this cache.
    ScopesExhausted,
    /// The cache's [mode](crate::CacheMode) leaves out the sessions of this side of a connection: it has
    /// no `SERVER`, or no `CLIENT`.
    SideNotCached,
    /// The cache's mode is to store nothing, and no new-session callback is set, which could.
    NobodyToTell,
}

impl<S> Put<S> {
    /// Whether the session is in the cache, or handed to the new-session callback in its stead.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        !matches!(self, Self::Refused(..))
    }

    /// The session that was replaced, if any; as an error why the put was refused, and the payload.
    ///
    /// ```
    /// use resumption::{Refusal, Scope, SessionCache, SessionId};
    ///
    /// fn keep(cache: &SessionCache, id: &SessionId, state: &[u8]) -> Result<(), Refusal> {
    ///     let web = cache.scope(&Scope::new("web"));
    ///     web.put(id, state.into()).into_result().map_err(|(why, _payload)| why)?;
    ///     Ok(())
    /// }
    ///
    /// let cache: SessionCache = SessionCache::builder().build()?;
    /// let id = SessionId::from([1; 32]);
    /// keep(&cache, &id, b"state")?;
    /// cache.close();
    /// assert_eq!(keep(&cache, &id, b"state"), Err(Refusal::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The put was refused.
    pub fn into_result(self) -> Result<Option<Session<S>>, (Refusal, S)> {
        match self {
            Self::Stored => Ok(None),
            Self::Replaced(old) => Ok(Some(old)),
            Self::Refused(why, payload) => Err((why, payload)),
        }
    }
}

impl<S> fmt::Debug for Put<S> {
    /// Without the payload, which is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.write_str("Stored"),
            Self::Replaced(old) => f.debug_tuple("Replaced").field(old).finish(),
            Self::Refused(why, _) => f.debug_tuple("Refused").field(why).finish_non_exhaustive(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the session cache is closed",
            Self::TooLarge => "the session is larger than the cache's limit on bytes, or than 4 GiB",
            Self::HeadersWaiting => "too many removed sessions wait for a thread that does not run",
            Self::Full => {
                "the session cache has no room: a limit is zero, or all places belong to puts in flight"
            }
            Self::Present => "there is a session of this id",
            Self::CallbacksWaiting => "too many callbacks of the session cache wait to be called",
            Self::ScopesExhausted => "the session cache has run out of scopes",
            Self::SideNotCached => "the session cache's mode leaves this side's sessions out",
            Self::NobodyToTell => "the session cache stores nothing, and no new-session callback is set",
        })
    }
}

impl Error for Refusal {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_refused_put_shows_no_payload() {
        assert_eq!(format!("{:?}", Put::Refused(Refusal::Full, "secret")), "Refused(Full, ..)");
    }

    #[test]
    fn a_refusal_says_why() {
        let all = [
            Refusal::Closed,
            Refusal::TooLarge,
            Refusal::HeadersWaiting,
            Refusal::Full,
            Refusal::Present,
            Refusal::CallbacksWaiting,
            Refusal::ScopesExhausted,
            Refusal::SideNotCached,
            Refusal::NobodyToTell,
        ];
        let mut texts: Vec<_> = all.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), all.len());
        assert!(texts.iter().all(|text| text.contains("session")), "of what: {texts:?}");
    }
}
