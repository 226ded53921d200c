//! Lookups that wait without a thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_timer::Delay;

use crate::callbacks::Want;
use crate::dispatch::contained;
use crate::engine::Engine;
use crate::engine::ask::{Asked, Waiting};
use crate::scope::Entry;
use crate::secret::SecretBytes;
use crate::session::Session;
use crate::sync::{Mutex, MutexGuard};
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
///             Ok(()) => {
///                 let minute = Duration::from_secs(60);
///                 Answer::Give(Found::new(id, scope, b"from a database".into(), minute))
///             }
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
    Waits(Waiting<S, Arc<Engine<S>>>, Option<Deadline>),
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
                Err(Stage::Waits(waiting, Deadline::after(self.timeout)))
            }
        }
    }
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
        let Stage::Waits(waiting, deadline) = &mut this.stage else { return Poll::Ready(None) };
        let mut polled = waiting.poll(cx.waker());
        let mut is_late = || deadline.as_mut().is_some_and(|it| it.is_past(cx.waker()));
        if polled.is_pending() && is_late() {
            polled = Poll::Ready(waiting.give_up());
        }
        if polled.is_ready() {
            this.stage = Stage::Done;
        }
        polled
    }
}

/// When a lookup's time is over.
struct Deadline {
    clock: Delay,
    alarm: Arc<Alarm>,
}

/// What the clock wakes. The clock's thread is one for the process, and a panic ends it for every lookup: so
/// the lookup's own waker, which is the user's, is woken and dropped contained.
struct Alarm(Mutex<Option<Waker>>);

impl Deadline {
    /// None for a time that no clock can show.
    fn after(timeout: Duration) -> Option<Self> {
        const NEVER: Duration = Duration::from_secs(1 << 32);
        (timeout < NEVER).then(|| {
            let alarm = Arc::new(Alarm(Mutex::new(None)));
            Self { clock: Delay::new(timeout), alarm }
        })
    }

    /// Whether it is past; if not, `waker` is woken then.
    fn is_past(&mut self, waker: &Waker) -> bool {
        self.alarm.set(waker);
        let alarm = Waker::from(Arc::clone(&self.alarm));
        let mut cx = Context::from_waker(&alarm);
        // The clock panics if the system has no thread left for it: then it is late.
        contained(|| Pin::new(&mut self.clock).poll(&mut cx).is_ready()).unwrap_or(true)
    }
}

impl Alarm {
    fn set(&self, waker: &Waker) {
        if self.waker().as_ref().is_some_and(|old| old.will_wake(waker)) {
            return;
        }
        // User code, both, and so under no lock.
        let new = waker.clone();
        let old = self.waker().replace(new);
        let _ = contained(|| drop(old));
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        // In two statements: as in `set`.
        let waker = self.waker().take();
        let _ = contained(|| waker.map(Waker::wake));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = self.waker().take();
        let _ = contained(|| drop(waker));
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
