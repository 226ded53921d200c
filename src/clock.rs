//! Time: milliseconds since the clock began.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// Where a cache reads the time.
///
/// Time has a resolution of one millisecond and never goes back.
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
    Monotonic,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    start: Instant,
    now: AtomicU64,
}

/// The beginning of time: a second before the first use, so that "now" is never zero.
static START: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(1)).unwrap_or(now)
});

impl Clock {
    /// The system's monotonic clock, the default.
    #[must_use]
    pub fn monotonic() -> Self {
        LazyLock::force(&START);
        Self(Source::Monotonic)
    }

    /// A clock that stands still until it is told to advance. Clones share their time.
    #[must_use]
    pub fn manual() -> Self {
        let manual = Manual { start: Instant::now(), now: AtomicU64::new(1000) };
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

    /// Now, in milliseconds since the clock began.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::Monotonic => millis(START.elapsed()),
            // Relaxed: as in `advance`.
            Source::Manual(manual) => manual.now.load(Ordering::Relaxed),
        }
    }

    /// The instant of a time of this clock; far ones saturate.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        let (start, since) = match &self.0 {
            Source::Monotonic => (*START, at),
            Source::Manual(manual) => (manual.start, at),
        };
        let mut since = Duration::from_millis(since);
        loop {
            match start.checked_add(since) {
                Some(instant) => return instant,
                None => since /= 2,
            }
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
