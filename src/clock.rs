//! Time: milliseconds since the clock began.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// Where a cache reads the time.
///
/// Time has a resolution of a few milliseconds (the system's coarse monotonic clock, which costs a
/// quarter of the exact one) and never goes back; where a system has no such clock it is the time of day, which an
/// administrator may set. A manual clock is exact to the millisecond.
///
/// ```
/// use std::time::Duration;
/// use resumption::{Clock, Scope, SessionCache, SessionId};
///
/// let clock = Clock::manual();
/// let cache: SessionCache =
///     SessionCache::builder().clock(clock.clone()).lifetime(Duration::from_secs(60)).build()?;
/// let web = cache.scope(&Scope::new("web"));
/// let id = SessionId::from([1; 32]);
/// assert!(web.put(&id, b"secret".into()).is_stored());
/// clock.advance(Duration::from_secs(61));
/// assert!(web.get(&id).is_none());
/// # Ok::<(), resumption::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// With the beginning of time by the coarse clock, in its own milliseconds.
    Monotonic(u64),
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    start: Instant,
    now: AtomicU64,
}

/// The beginning of time, by the exact clock and by the coarse one.
static START: LazyLock<(Instant, u64)> = LazyLock::new(|| (Instant::now(), coarse_millis()));

impl Clock {
    /// The system's monotonic clock, the default.
    ///
    /// On Linux it stands still while the system is suspended: a session then lives for longer by that time, which its
    /// clients' clocks have counted. Other systems' clocks may go on. Where that matters, call
    /// [`flush`](crate::SessionCache::flush) after waking, or advance a [manual](Self::manual) clock by a time of
    /// your own.
    #[must_use]
    pub fn monotonic() -> Self {
        Self(Source::Monotonic(START.1))
    }

    /// A clock that stands still until it is told to advance. Clones share their time.
    #[must_use]
    pub fn manual() -> Self {
        LazyLock::force(&START);
        let manual = Manual { start: Instant::now(), now: AtomicU64::new(0) };
        Self(Source::Manual(Arc::new(manual)))
    }

    /// Moves a manual clock forward. Without effect on the system's clock; saturates after 139
    /// years, when nothing expires any more.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(manual) = &self.0 else { return };
        let by = millis(by);
        // Relaxed, both: the time orders no memory.
        let mut now = manual.now.load(Ordering::Relaxed);
        while let Err(other) = manual.now.compare_exchange(
            now,
            now.saturating_add(by).min(END_OF_TIME),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            now = other;
        }
    }

    /// Now, as the instant to compare [`Session::expires_at`](crate::Session::expires_at) with. A manual
    /// clock began at the instant at which it was made, and since then only what it was
    /// [advanced](Self::advance) by has passed.
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
    /// clock.advance(minute / 4);
    /// let session = web.get(&id).expect("it is there");
    /// let left = session.expires_at().saturating_duration_since(clock.instant());
    /// assert_eq!(left, minute / 4 * 3);
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    #[must_use]
    pub fn instant(&self) -> Instant {
        instant(self.origin(), self.now())
    }

    /// Now, in milliseconds since the clock began.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::Monotonic(start) => coarse_millis().saturating_sub(*start),
            // Relaxed: as in `advance`.
            Source::Manual(manual) => manual.now.load(Ordering::Relaxed),
        }
    }

    /// When the clock began, for [`instant`].
    pub(crate) fn origin(&self) -> u64 {
        match &self.0 {
            Source::Monotonic(_) => 0,
            Source::Manual(manual) => {
                let after = manual.start.saturating_duration_since(START.0);
                u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)
            }
        }
    }
}

/// The coarse clock, in milliseconds.
#[inline]
fn coarse_millis() -> u64 {
    // Its `now` would also store the time in a word of the process, a line of memory that every call of
    // every thread would write.
    let now = coarsetime::Instant::now_without_cache_update();
    coarsetime::Duration::from_ticks(now.as_ticks()).as_millis()
}

/// The instant of a time of the clock that has this origin; far ones saturate.
pub(crate) fn instant(origin: u64, at: u64) -> Instant {
    let start = START.0 + Duration::from_nanos(origin);
    let mut since = Duration::from_millis(at);
    loop {
        match start.checked_add(since) {
            Some(instant) => return instant,
            None => since /= 2,
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::monotonic()
    }
}

/// The last time that an expiry can name: 42 bits of milliseconds, 139 years.
pub(crate) const END_OF_TIME: u64 = (1 << 42) - 1;

/// A duration in milliseconds, rounded down; saturates.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
