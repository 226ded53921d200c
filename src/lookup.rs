//! Lookups that wait without a thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_timer::Delay;

use crate::callbacks::Want;
use crate::dispatch::contained;
use crate::engine::Engine;
use crate::engine::ask::{Asked, Waiting};
use crate::scope::Entry;
use crate::secret::SecretBytes;
use crate::session::Session;
use crate::table::SessionId;

/// A lookup that is under way: [`Sessions::lookup`](crate::Sessions::lookup). It does nothing until it
/// is polled, and works on any runtime.
///
/// It is pending while the answer of the get callback is
/// ([`Answer::Later`](crate::Answer::Later)), for no longer than
/// [`within`](Self::within), and then has found nothing.
///
/// *Dropping it loses nothing, and doubles nothing.* What was asked for goes on: for another lookup of
/// the id that waits or comes; without one the cache's background thread, or
/// [`poll_callbacks`](crate::SessionCache::poll_callbacks), sees to it, and what is answered then is
/// stored, as long as the cache takes puts. So a session that an external cache has deleted for a take
/// is here for the next take. It goes on for as long as a lookup waits by default, and then is
/// dropped; at once if as many of them wait as [callbacks may](crate::Builder::max_waiting_callbacks).
///
/// That is so in modes that store and look inside. With
/// [`NO_INTERNAL_STORE`](crate::CacheMode::NO_INTERNAL_STORE) what is answered to a take that has left is lost, and its
/// client makes a full handshake: it is told to no callback, neither as taken nor as new. With
/// [`NO_INTERNAL_LOOKUP`](crate::CacheMode::NO_INTERNAL_LOOKUP) it is stored, but no lookup finds it as long as that is
/// the mode, and the next take of its id takes it out for nobody.
///
/// One that is kept, but neither polled nor dropped, keeps other takes of its id from asking.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use resumption::{Answer, Found, Scope, SessionCache, SessionId, Want};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), resumption::BuildError> {
/// let cache: SessionCache = SessionCache::builder().build()?;
/// cache.set_on_get(Some(Arc::new(|proposed| {
///     let (id, scope) = (*proposed.id(), proposed.scope().clone());
///     // Stands for a query that is run by the runtime.
///     let query = tokio::spawn(async { tokio::time::sleep(Duration::from_millis(1)).await });
///     Answer::later(async move {
///         match query.await {
///             Ok(()) => Answer::Give(Found {
///                 id,
///                 scope,
///                 payload: b"from a database".into(),
///                 lifetime: Duration::from_secs(60),
///             }),
///             Err(_) => Answer::Nothing,
///         }
///     })
/// })));
/// let web = cache.scope(&Scope::new("web"));
/// let lookup = web.lookup(&SessionId::from([1; 32]), Want::Take);
/// let session = lookup.within(Duration::from_millis(500)).await.expect("the database has it");
/// assert_eq!(&session.payload()[..], b"from a database");
/// # Ok(())
/// # }
/// ```
#[must_use = "it does nothing until it is polled"]
pub struct Lookup<S: Send + Sync + 'static = SecretBytes> {
    engine: Arc<Engine<S>>,
    scope: Arc<Entry>,
    id: SessionId,
    want: Want,
    timeout: Duration,
    stage: Stage<S>,
}

enum Stage<S: Send + Sync + 'static> {
    Begins,
    Waits(Waiting<S, Arc<Engine<S>>>, Option<Delay>),
    Done,
}

impl<S: Send + Sync + 'static> Lookup<S> {
    pub(crate) fn new(
        engine: Arc<Engine<S>>,
        scope: Arc<Entry>,
        id: SessionId,
        want: Want,
    ) -> Self {
        let timeout = engine.lookup_timeout;
        Self { engine, scope, id, want, timeout, stage: Stage::Begins }
    }

    /// How long it waits, from its first poll on, instead of
    /// [`Builder::lookup_timeout`](crate::Builder::lookup_timeout).
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The session, if it is there or known not to be; or a place to wait for it, and the clock for
    /// that.
    fn begin(&self) -> Result<Option<Session<S>>, Stage<S>> {
        match self.engine.lookup(&self.scope, &self.id, self.want) {
            Asked::Answered(session) => Ok(session),
            Asked::Waits(seat) => {
                let waiting = Waiting::new(Arc::clone(&self.engine), seat);
                Err(Stage::Waits(waiting, delay(self.timeout)))
            }
        }
    }
}

/// A clock that rings; none for a time that no clock can show.
fn delay(timeout: Duration) -> Option<Delay> {
    const NEVER: Duration = Duration::from_secs(1 << 32);
    (timeout < NEVER).then(|| Delay::new(timeout))
}

impl<S: Send + Sync + 'static> Future for Lookup<S> {
    type Output = Option<Session<S>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if matches!(this.stage, Stage::Begins) {
            match this.begin() {
                Ok(session) => {
                    this.stage = Stage::Done;
                    return Poll::Ready(session);
                }
                Err(stage) => this.stage = stage,
            }
        }
        // Polled once more after it has finished, it has found nothing more.
        let Stage::Waits(waiting, delay) = &mut this.stage else { return Poll::Ready(None) };
        let mut polled = waiting.poll(cx.waker());
        // The clock has a thread of its own, and panics if the system has none left: then it is late.
        let mut is_ready = |delay: &mut Delay| contained(|| Pin::new(delay).poll(cx).is_ready());
        if polled.is_pending()
            && delay.as_mut().is_some_and(|delay| is_ready(delay).unwrap_or(true))
        {
            polled = Poll::Ready(waiting.give_up());
        }
        if polled.is_ready() {
            this.stage = Stage::Done;
        }
        polled
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Lookup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("id", &self.id)
            .field("want", &self.want)
            .finish_non_exhaustive()
    }
}
