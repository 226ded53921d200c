//! What a put tells of a connection.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::mode::CacheMode;
use crate::table::Context;

/// What a put tells of the connection that negotiated its session:
/// [`Sessions::put_from`](crate::Sessions::put_from).
///
/// Clones are cheap and share the context: a connection may negotiate several sessions.
#[must_use]
#[derive(Clone, Debug)]
pub struct Connection {
    /// The flag that its side's sessions are cached by.
    pub(crate) side: CacheMode,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) context: Option<Context>,
}

impl Connection {
    /// A connection in which this program is the server.
    pub fn server() -> Self {
        Self { side: CacheMode::SERVER, lifetime: None, context: None }
    }

    /// A connection in which this program is the client. Its sessions are stored in the modes
    /// [`CLIENT`](CacheMode::CLIENT) and [`BOTH`](CacheMode::BOTH).
    pub fn client() -> Self {
        Self { side: CacheMode::CLIENT, ..Self::server() }
    }

    /// How long the session lives; the cache's lifetime if this is not called. Less than a
    /// millisecond is expired at once; beyond the end of time, 139 years, it never is.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// What the new-session callback needs to know of the connection; it reads it by
    /// [`NewSession::context`](crate::NewSession::context).
    ///
    /// It is kept until the callback was called, and not at all if none is set at the put. It is dropped
    /// with the last clone of this value, and of the callback's; also if the put is refused.
    pub fn context<T: Send + Sync + 'static>(mut self, context: T) -> Self {
        self.context = Some(Context::new(context));
        self
    }
}
