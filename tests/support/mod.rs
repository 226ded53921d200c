//! What several test binaries need: ids, payloads that are counted, random numbers, patience.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use resumption::{Builder, Clock, Scope, SessionCache, SessionId, Sessions};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// How long a test waits for what has to come, before it fails. No test asserts that it comes sooner.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The session id of a number.
pub(crate) fn id(number: u64) -> SessionId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from(bytes)
}

/// The number of a session id.
pub(crate) fn number(id: &SessionId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// A cache of numbers with a clock of its own, and one scope of it.
pub(crate) fn manual<S: Send + Sync + 'static>(
    max_sessions: usize,
    lifetime: Duration,
) -> (SessionCache<S>, Sessions<S>, Clock) {
    manual_of(SessionCache::builder().max_sessions(max_sessions).lifetime(lifetime))
}

/// As above, with these settings.
pub(crate) fn manual_of<S: Send + Sync + 'static>(
    builder: Builder<S>,
) -> (SessionCache<S>, Sessions<S>, Clock) {
    let clock = Clock::manual();
    let cache = builder.clock(clock.clone()).without_ticker().build().expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    (cache, web, clock)
}

/// Waits until `is_so`; panics when patience is over.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Random numbers that are good enough to choose operations with (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// How many payloads are alive, and what the cache charges for them.
#[derive(Debug, Default)]
pub(crate) struct Census {
    payloads: AtomicI64,
    bytes: AtomicI64,
    born: AtomicI64,
}

impl Census {
    pub(crate) fn alive(&self) -> i64 {
        self.payloads.load(Ordering::SeqCst)
    }

    /// What a cache charges that weighs payloads by [`Payload::weight`].
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// How many payloads there ever were.
    pub(crate) fn born(&self) -> i64 {
        self.born.load(Ordering::SeqCst)
    }
}

/// A payload that is counted, and that knows whether it is whole.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) id: u64,
    pub(crate) version: u64,
    pub(crate) weight: usize,
    check: u64,
    census: Arc<Census>,
}

const WHOLE: u64 = 0x5e55_1045_c0ff_ee00;

impl Payload {
    pub(crate) fn new(census: &Arc<Census>, id: u64, version: u64, weight: usize) -> Self {
        census.payloads.fetch_add(1, Ordering::SeqCst);
        census.born.fetch_add(1, Ordering::SeqCst);
        census.bytes.fetch_add(Self::charge(weight), Ordering::SeqCst);
        Self { id, version, weight, check: WHOLE ^ id ^ version, census: Arc::clone(census) }
    }

    pub(crate) fn charge(weight: usize) -> i64 {
        (weight + SessionCache::<Self>::OVERHEAD) as i64
    }

    /// Panics unless this is the payload of session `id`, neither torn nor dropped.
    #[track_caller]
    pub(crate) fn assert_whole(&self, id: u64) {
        assert_eq!(self.id, id, "the payload of another session");
        assert_eq!(self.check, WHOLE ^ self.id ^ self.version, "a payload that is not whole");
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let is_whole = self.check == WHOLE ^ self.id ^ self.version;
        self.check = 0;
        // First: the cache may contain the panic, and then there is one too few.
        self.census.bytes.fetch_sub(Self::charge(self.weight), Ordering::SeqCst);
        self.census.payloads.fetch_sub(1, Ordering::SeqCst);
        assert!(is_whole, "dropped twice, or torn");
    }
}
