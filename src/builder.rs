//! How a cache is made.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use ahash::RandomState;

use crate::cache::SessionCache;
use crate::clock::{Clock, millis};
use crate::dispatch::{Dispatch, Dispatcher};
use crate::engine::{Engine, Parts, Weigher};
use crate::expiry::capacity::UNLIMITED;
use crate::mode::CacheMode;
use crate::payload::weighs_itself;
use crate::secret::SecretBytes;

/// The limit on sessions of a builder that was told none; OpenSSL's default too.
const DEFAULT_SESSIONS: u64 = 20_480;
/// The lifetime of a builder that was told none; RFC 5246 §F.1.4 suggests a day at most.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(7200);
const DEFAULT_TICK: Duration = Duration::from_secs(1);

/// With less, the ticker would hardly nap, and take a processor for itself.
const SHORTEST_TICK: Duration = Duration::from_millis(1);
const DEFAULT_WAITING_HEADERS: usize = 262_144;
const DEFAULT_WAITING_CALLBACKS: usize = 65_536;
/// About what a full handshake costs a client that is far away.
const DEFAULT_LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings of a [`SessionCache`] to be.
///
/// ```
/// use std::time::Duration;
/// use resumption::SessionCache;
///
/// let cache: SessionCache = SessionCache::builder()
///     .max_sessions(1_000_000)
///     .lifetime(Duration::from_secs(7200))
///     .build()?;
/// # Ok::<(), resumption::BuildError>(())
/// ```
pub struct Builder<S = SecretBytes> {
    max_sessions: Option<u64>,
    max_bytes: Option<u64>,
    unlimited: bool,
    weigher: Option<Weigher<S>>,
    lifetime: Duration,
    clock: Clock,
    tick: Option<Duration>,
    max_waiting_headers: usize,
    dispatch: Dispatch,
    max_waiting_callbacks: usize,
    lookup_timeout: Duration,
    mode: CacheMode,
}

/// Why a cache could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// `max_sessions(0)`: a cache without room. For none at all leave the cache out, for one
    /// without a limit say [`unlimited`](Builder::unlimited).
    NoSessions,
    /// `max_bytes` is less than one empty session takes.
    TooFewBytes {
        /// Bytes of an empty session.
        least: usize,
    },
    /// A `lifetime` of less than a millisecond: every session would be expired at once.
    NoLifetime,
    /// `ticker(0)`: the background thread would never sleep. [`without_ticker`](Builder::without_ticker) is for none at all.
    NoTick,
    /// The background thread could not be started. [`without_ticker`](Builder::without_ticker) does
    /// without it.
    Ticker(io::Error),
}

impl<S: Send + Sync + 'static> Builder<S> {
    pub(crate) fn new() -> Self {
        Self {
            max_sessions: None,
            max_bytes: None,
            unlimited: false,
            weigher: None,
            lifetime: DEFAULT_LIFETIME,
            clock: Clock::monotonic(),
            tick: Some(DEFAULT_TICK),
            max_waiting_headers: DEFAULT_WAITING_HEADERS,
            dispatch: Dispatch::Workers(1),
            max_waiting_callbacks: DEFAULT_WAITING_CALLBACKS,
            lookup_timeout: DEFAULT_LOOKUP_TIMEOUT,
            mode: CacheMode::default(),
        }
    }

    /// The most sessions that the cache holds, at any instant. The default is 20 480 when no limit
    /// on bytes is set.
    ///
    /// Nothing is allocated ahead, so a limit beyond all memory is one that is never met. How many are needed:
    ///
    /// * *TLS 1.2*: the full handshakes of one lifetime (by the second, times the lifetime in seconds).
    /// * *TLS 1.3*: one for each client that was here within a lifetime; and the tickets that no client uses, which stay for
    ///   all of it. Of t tickets a returning client uses one, so each handshake of the lifetime leaves t - 1. rustls gives t
    ///   in each handshake, two by default, in resumed ones too (where its `max_tls13_tickets` is above 0, the client chooses t, up
    ///   to that). OpenSSL gives one in a resumed handshake, so there only the full ones leave any.
    ///
    /// So with rustls, two tickets, 300 handshakes a second and two hours, 2.2 million tickets that nobody uses, and one for each client.
    /// How much memory a session takes, [`max_bytes`](Self::max_bytes) says.
    ///
    /// If it was too few, [`Stats::mean_age_at_eviction`](crate::Stats::mean_age_at_eviction) says what lifetime is left.
    #[must_use]
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = Some(sessions as u64);
        self
    }

    /// The most bytes that the cache holds, at any instant: the payloads' weights, and
    /// [`SessionCache::OVERHEAD`] for each session. Without `max_sessions` the only limit.
    ///
    /// *With client certificates, set it*: a session of rustls or of OpenSSL then has the client's certificates in it, of which the client
    /// chooses the size. Not in it are: what handles and calls of callbacks hold after a removal ([`Stats::held_bytes`](crate::Stats::held_bytes)); what
    /// [waits to be freed](Self::max_waiting_headers); blocks that are kept for the next sessions, up to 256 KiB for each thread and 64 MiB for the
    /// process; and cells of a cache that was larger.
    ///
    /// *A payload that owns memory, and is no byte string, needs a [`weigher`](Self::weigher)*: without one its memory
    /// counts for nothing, which [`build`](Self::build) logs a warning of. That of an `OpensslSession` is
    /// `OpensslSession::weight`.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = Some(bytes as u64);
        self
    }

    /// How many bytes a payload takes beside its own size: what it points to. Byte strings
    /// ([`SecretBytes`], `Vec<u8>`, `Box<[u8]>`) weigh their length, other payloads nothing unless
    /// they are weighed here. `|_| 0` is for what is shared and has its bound elsewhere, an `Arc` say.
    ///
    /// ```
    /// use resumption::{Put, Refusal, Scope, SessionCache, SessionId};
    ///
    /// let cache: SessionCache<String> =
    ///     SessionCache::builder().max_bytes(1 << 20).weigher(String::capacity).build()?;
    /// let web = cache.scope(&Scope::new("web"));
    /// let id = SessionId::from([1; 32]);
    /// assert!(web.put(&id, "x".repeat(1_000)).is_stored());
    /// assert_eq!(cache.bytes(), 1_000 + SessionCache::<String>::OVERHEAD);
    /// let larger = web.put(&id, "x".repeat(1 << 20));
    /// assert!(matches!(larger, Put::Refused(Refusal::TooLarge, _)));
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    ///
    /// Runs in each put, and on what the get callback gives in a lookup, also to a take, which stores nothing. Nothing is
    /// held then. If it panics, so does the put, and nothing is stored; what a lookup was given is handed out, and
    /// not stored either.
    #[must_use]
    pub fn weigher(mut self, weigh: impl Fn(&S) -> usize + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigh));
        self
    }

    /// Drops the default limit of 20 480 sessions. A limit that was set explicitly stays; without one, lifetimes alone bound the
    /// cache.
    #[must_use]
    pub fn unlimited(mut self) -> Self {
        self.unlimited = true;
        self
    }

    /// How long a session lives, if its put does not say; two hours by default, a millisecond at
    /// least. Beyond the end of time, 139 years, it never expires.
    ///
    /// A longer one finds more clients again, takes [more room](Self::max_sessions), and keeps for longer the secrets by which who
    /// steals them can resume. TLS 1.3 forbids more than seven days (RFC 8446, 4.6.1), and rustls tells its clients a day; for TLS 1.2
    /// a day at most is advised (RFC 5246, F.1.4). Nothing checks this. When keys have leaked, or the rules for clients have changed,
    /// [`flush`](SessionCache::flush) or [`drop_scope`](SessionCache::drop_scope) end all at once.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Where the cache reads the time; the system's monotonic clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How often a background thread frees expired sessions; every second by default. Puts do that
    /// too, so the thread matters when there are none. It works for a tenth of a millisecond at a time
    /// and then naps four times as long, so that handshakes go on beside it: of many that expire at once
    /// it frees some hundred thousand in a second, fewer where a payload takes long to drop. Less than a
    /// millisecond counts as one.
    #[must_use]
    pub fn ticker(mut self, every: Duration) -> Self {
        self.tick = Some(every);
        self
    }

    /// No background thread: memory of expired sessions comes back with puts, and with
    /// [`flush_expired`](SessionCache::flush_expired).
    #[must_use]
    pub fn without_ticker(mut self) -> Self {
        self.tick = None;
        self
    }

    /// The most headers of removed sessions that wait to be freed before puts are refused; 262 144 by default. A header is
    /// what the table has of a session beside its payload. Other threads may be reading it when it is removed, so it *waits for the epoch*:
    /// until all operations have ended that were under way then. If a thread is stopped in the middle of one, until it goes on. Zero is no
    /// error: puts are refused whenever a header is known to wait.
    ///
    /// *How much memory that is.* By default about 25 MB. Where payloads are [`SecretBytes`], up to 270 MB: those of
    /// up to 936 bytes are in one block with their header, and wait, wiped, as well. A payload of another
    /// type than bytes is in one block with its header, too, and makes that larger.
    ///
    /// *What counts beside headers of sessions:*
    ///
    /// * segments of the queues of hints, one for 60 hints;
    /// * a small header for each lookup that asks a get callback.
    ///
    /// *What waits without need.* Each thread keeps up to 64 of what it has removed last (segments, and headers whose payloads are
    /// not bytes) until it removes more or ends. So let the limit be well above 64 for each thread.
    ///
    /// *Before it is reached*, from a quarter on, one put in 256 yields the processor, and so do answers of the get callback that are
    /// stored: what waits may wait for a thread that is preempted, and this gives it its turn.
    ///
    /// *What the limit does not refuse.* It refuses puts only. Beyond it go
    ///
    /// * lookups that ask a get callback (what that gives is handed out, and not stored);
    /// * extensions that shorten a life, and renewals by use ([`UPDATE_TIME`](crate::CacheMode::UPDATE_TIME)): a segment
    ///   for 60 of them.
    ///
    /// *How far beyond it puts may go*, for they do not count exactly:
    ///
    /// * 32 headers for each processor, and 64 for each thread;
    /// * the sessions that are in the cache when the limit is met, and leave it then;
    /// * those that have left before, and wait to be told to a callback;
    /// * for each of these two up to 16 hints that are filed again, a segment for 60.
    #[must_use]
    pub fn max_waiting_headers(mut self, headers: usize) -> Self {
        self.max_waiting_headers = headers;
        self
    }

    /// Where callbacks run; on one thread of the cache by default. See [`Dispatch`].
    #[must_use]
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// The most calls of callbacks that wait to be made before puts are refused; 65 536 by default.
    /// Counted by shard, so that puts may be refused when fewer wait in all. Sessions that leave while
    /// the mark is reached still wait to be told, so that there may be as many more as the cache
    /// holds. Zero refuses every put once a new or a remove callback is set.
    #[must_use]
    pub fn max_waiting_callbacks(mut self, calls: usize) -> Self {
        self.max_waiting_callbacks = calls;
        self
    }

    /// How long a lookup waits for the get callback's answer if that comes later
    /// ([`Answer::Later`](crate::Answer::Later)), or for another lookup of the same id that asks; a
    /// second by default. Then it has found nothing. Zero waits for nobody; a callback that does not
    /// return is not ended by this.
    #[must_use]
    pub fn lookup_timeout(mut self, timeout: Duration) -> Self {
        self.lookup_timeout = timeout;
        self
    }

    /// How the cache is used; by servers, with all that it does, by default. The mode replaces that default:
    /// a server that wants a flag says `CacheMode::SERVER | CacheMode::NO_INTERNAL`.
    /// [`SessionCache::set_mode`] changes it later.
    #[must_use]
    pub fn mode(mut self, mode: CacheMode) -> Self {
        self.mode = mode;
        self
    }

    /// Makes the cache.
    ///
    /// # Errors
    ///
    /// A setting makes no sense, or the background thread could not be started; see [`BuildError`].
    pub fn build(self) -> Result<SessionCache<S>, BuildError> {
        let least = Engine::<S>::OVERHEAD;
        if self.max_sessions == Some(0) {
            return Err(BuildError::NoSessions);
        }
        if self.max_bytes.is_some_and(|bytes| bytes < least as u64) {
            return Err(BuildError::TooFewBytes { least });
        }
        if millis(self.lifetime) == 0 {
            return Err(BuildError::NoLifetime);
        }
        if self.tick.is_some_and(|tick| tick.is_zero()) {
            return Err(BuildError::NoTick);
        }
        if self.max_bytes.is_some() && self.weigher.is_none() && !weighs_itself::<S>() {
            tracing::warn!(
                "max_bytes counts no memory that payloads own, for there is no weigher()"
            );
        }
        let is_bounded = self.unlimited || self.max_bytes.is_some();
        let default_sessions = if is_bounded { UNLIMITED } else { DEFAULT_SESSIONS };
        let max_sessions = self.max_sessions.unwrap_or(default_sessions).min(UNLIMITED);
        let max_bytes = self.max_bytes.unwrap_or(UNLIMITED).min(UNLIMITED);
        let shards = shards_for(max_sessions, max_bytes);
        let max_waiting_callbacks = self.max_waiting_callbacks as u64;
        let engine = Engine::new(Parts {
            max_sessions,
            max_bytes,
            shards,
            lanes: lanes_for(max_sessions, max_bytes),
            max_waiting_headers: self.max_waiting_headers,
            lifetime: self.lifetime,
            weigher: self.weigher,
            clock: self.clock,
            hasher: hasher(),
            dispatch: Dispatcher::new(self.dispatch, shards, max_waiting_callbacks),
            lookup_timeout: self.lookup_timeout,
            mode: self.mode,
        });
        SessionCache::new(engine, self.tick.map(|every| every.max(SHORTEST_TICK)))
            .map_err(BuildError::Ticker)
    }
}

/// Keyed by the system's random numbers.
#[cfg(not(shuttle))]
fn hasher() -> RandomState {
    RandomState::new()
}

/// Keyed by the execution, which is repeatable.
#[cfg(shuttle)]
fn hasher() -> RandomState {
    let [a, b, c, d] = crate::sync::random();
    RandomState::with_seeds(a, b, c, d)
}

/// How many shards: four for each processor, and fewer for a small cache.
fn shards_for(max_sessions: u64, max_bytes: u64) -> usize {
    const MOST: usize = 256;
    split(max_sessions, max_bytes, (4 * processors()).min(MOST))
}

/// How many lanes: one for each processor, or the next power of two, and fewer for a small cache, so that what a lane keeps for its own puts is
/// little of its share.
fn lanes_for(max_sessions: u64, max_bytes: u64) -> usize {
    const MOST: usize = 64;
    split(max_sessions, max_bytes, processors().min(MOST))
}

/// In how many parts a cache is split: a power of two, `most` if each part is large enough then.
fn split(max_sessions: u64, max_bytes: u64, most: usize) -> usize {
    const SESSIONS: u64 = if cfg!(shuttle) { 8 } else { 2048 };
    const BYTES: u64 = 8 << 20;
    let most = if cfg!(shuttle) { 2 } else { most.next_power_of_two() };
    let wanted = (max_sessions / SESSIONS).min(max_bytes / BYTES);
    1 << wanted.clamp(1, most as u64).ilog2()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl<S> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("max_sessions", &self.max_sessions)
            .field("max_bytes", &self.max_bytes)
            .field("unlimited", &self.unlimited)
            .field("lifetime", &self.lifetime)
            .field("tick", &self.tick)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSessions => {
                f.write_str("max_sessions is 0; use unlimited() for a cache without a limit")
            }
            Self::TooFewBytes { least } => {
                write!(f, "max_bytes is less than the {least} bytes of one empty session")
            }
            Self::NoLifetime => f.write_str(
                "the lifetime is less than a millisecond: every session would be expired",
            ),
            Self::NoTick => f.write_str("the ticker's interval is 0; use without_ticker()"),
            Self::Ticker(_) => f.write_str("the session cache's background thread did not start"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ticker(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cache_is_one_shard_and_one_lane() {
        for split in [shards_for, lanes_for] {
            assert_eq!(split(1, UNLIMITED), 1);
            assert_eq!(split(2048 * 2 - 1, UNLIMITED), 1);
            assert_eq!(split(UNLIMITED, 1 << 20), 1);
        }
        assert!(lanes_for(UNLIMITED, UNLIMITED).is_power_of_two());
        assert!(shards_for(UNLIMITED, UNLIMITED).is_power_of_two());
        assert!(shards_for(UNLIMITED, UNLIMITED) >= 4);
    }
}
