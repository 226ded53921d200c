//! The caches that are compared, each behind the same three calls.
//!
//! All have the same ids, the same hash function, and payloads that are made in the same way: one
//! allocation, one copy. Every lookup returns something that owns the payload, as a TLS library
//! needs it after the call. The others get an `Arc` for that; resumption brings its own count.
//!
//! Nobody but resumption checks lifetimes, keeps scopes apart, counts, or bounds bytes. Contenders
//! that wipe overwrite a payload when they drop it, as resumption does.

use std::sync::Arc;
use std::time::Duration;

use crate::honest::{Honest, Id};
use ahash::RandomState;
use resumption::{Scope, SecretBytes, Session, SessionCache, SessionId, Sessions};

/// A cache under test.
pub(crate) trait Cache: Send + Sync {
    /// Stores a payload of these bytes.
    fn put(&self, id: &Id, payload: &[u8]);
    /// The first byte of the session's payload, if the session is there.
    fn get(&self, id: &Id) -> Option<u8>;
    /// As `get`; removes the session, and drops it.
    fn take(&self, id: &Id) -> Option<u8>;
    /// How many sessions there are.
    fn len(&self) -> usize;
}

/// A cache to be made.
#[derive(Clone, Copy)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Makes it for so many sessions.
    pub(crate) make: fn(usize) -> Box<dyn Cache>,
}

/// All of them; resumption first.
///
/// quick_cache lets go of what was not used twice soon: a session is evicted after 3 % of the cache
/// were put after it, and the client that comes back later finds nothing. The contender "keeps" has
/// the setting that keeps half of the cache for what is new.
pub(crate) const CONTENDERS: [Contender; 7] = [
    Contender { name: "resumption, wipes", make: ours },
    Contender { name: "quick_cache, wipes", make: quick_cache::<SharedSecret> },
    Contender { name: "quick_cache, wipes, keeps", make: quick_cache_that_keeps::<SharedSecret> },
    Contender { name: "scc HashCache, wipes", make: scc::<SharedSecret> },
    Contender { name: "mutex, O(1) take, wipes", make: mutex::<SharedSecret> },
    Contender { name: "quick_cache", make: quick_cache::<Arc<[u8]>> },
    Contender { name: "scc HashCache", make: scc::<Arc<[u8]>> },
];

/// What caches store that hand out clones.
pub(crate) trait Payload: Clone + Send + Sync + AsRef<[u8]> + 'static {
    fn new(bytes: &[u8]) -> Self;
}

impl Payload for Arc<[u8]> {
    fn new(bytes: &[u8]) -> Self {
        bytes.into()
    }
}

/// `SecretBytes` that several may hold.
#[derive(Clone)]
pub(crate) struct SharedSecret(Arc<SecretBytes>);

impl Payload for SharedSecret {
    fn new(bytes: &[u8]) -> Self {
        Self(Arc::new(bytes.into()))
    }
}

impl AsRef<[u8]> for SharedSecret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The first byte of a payload, so that its memory is waited for.
fn first(payload: Option<impl AsRef<[u8]>>) -> Option<u8> {
    payload.map(|payload| payload.as_ref()[0])
}

struct Ours {
    cache: SessionCache,
    sessions: Sessions,
}

fn ours(max: usize) -> Box<dyn Cache> {
    let builder = SessionCache::builder().max_sessions(max).lifetime(Duration::from_secs(7200));
    let cache = builder.build().expect("the settings are valid");
    let sessions = cache.scope(&Scope::new("bench"));
    Box::new(Ours { cache, sessions })
}

impl Cache for Ours {
    fn put(&self, id: &Id, payload: &[u8]) {
        let put = self.sessions.put(&SessionId::from(*id), SecretBytes::from(payload));
        assert!(put.is_stored(), "a put was refused");
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.sessions.get(&SessionId::from(*id)).as_ref().map(Session::payload))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.sessions.take(&SessionId::from(*id)).as_ref().map(Session::payload))
    }

    fn len(&self) -> usize {
        self.cache.len()
    }
}

type Quick<V> =
    quick_cache::sync::Cache<Id, V, quick_cache::UnitWeighter, RandomState, QuickLifecycle<V>>;
type QuickLifecycle<V> = quick_cache::sync::DefaultLifecycle<Id, V>;

struct QuickCache<V>(Quick<V>);

fn quick_cache<V: Payload>(max: usize) -> Box<dyn Cache> {
    quick_cache_with::<V>(max, quick_cache::OptionsBuilder::new())
}

fn quick_cache_that_keeps<V: Payload>(max: usize) -> Box<dyn Cache> {
    let mut options = quick_cache::OptionsBuilder::new();
    options.hot_allocation(0.5);
    quick_cache_with::<V>(max, options)
}

fn quick_cache_with<V: Payload>(
    max: usize,
    mut options: quick_cache::OptionsBuilder,
) -> Box<dyn Cache> {
    options.estimated_items_capacity(max).weight_capacity(max as u64);
    let cache = Quick::with_options(
        options.build().expect("the settings are valid"),
        quick_cache::UnitWeighter,
        RandomState::new(),
        QuickLifecycle::default(),
    );
    Box::new(QuickCache::<V>(cache))
}

impl<V: Payload> Cache for QuickCache<V> {
    fn put(&self, id: &Id, payload: &[u8]) {
        self.0.insert(*id, V::new(payload));
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove(id).map(|(_, payload)| payload))
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

struct Scc<V>(scc::HashCache<Id, V, RandomState>);

fn scc<V: Payload>(max: usize) -> Box<dyn Cache> {
    // It rounds up to a power of two.
    let cache = scc::HashCache::with_capacity_and_hasher(0, max, RandomState::new());
    Box::new(Scc::<V>(cache))
}

impl<V: Payload> Cache for Scc<V> {
    fn put(&self, id: &Id, payload: &[u8]) {
        // The session that is evicted is returned, and dropped here.
        let _ = self.0.put_sync(*id, V::new(payload));
    }

    fn get(&self, id: &Id) -> Option<u8> {
        // Not `read_sync`, which notes no use.
        first(self.0.get_sync(id).map(|entry| entry.get().clone()))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove_sync(id).map(|(_, payload)| payload))
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

struct Mutex<V>(Honest<V>);

fn mutex<V: Payload>(max: usize) -> Box<dyn Cache> {
    Box::new(Mutex::<V>(Honest::new(max)))
}

impl<V: Payload> Cache for Mutex<V> {
    fn put(&self, id: &Id, payload: &[u8]) {
        self.0.put(*id, V::new(payload));
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.take(id))
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
