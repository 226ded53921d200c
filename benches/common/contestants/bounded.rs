//! Those that have a limit.
//!
//! All with the hash function that resumption has, where it can be chosen: it is faster than their
//! default ones.

use std::sync::Arc;

use ahash::RandomState;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use super::honest::{Honest, Id};
use super::{Cache, Contestant, LIFETIME, first};
use crate::report::Kind;

type Payload = Arc<[u8]>;

/// quick_cache lets go of what was not used twice soon: a session is evicted after 3 % of the cache
/// were put after it, and the client that comes back later finds nothing. The contestant that "keeps"
/// has the setting that keeps half of the cache for what is new.
pub(super) const ALL: [Contestant; 8] = [
    Contestant {
        name: "mutex, O(1) take",
        kind: Kind::Bounded,
        set_up: ["exact; first in, first out", "none", "1 mutex", "ahash", "none"],
        len: "",
        bytes: 550,
        make: |max| Box::new(Mutex(Honest::new(max))),
    },
    Contestant {
        name: "rustls default",
        kind: Kind::Bounded,
        set_up: ["exact; first in, first out", "none", "1 mutex", "SipHash", "none"],
        len: "it does not say",
        bytes: 600,
        make: |max| Box::new(Rustls(ServerSessionMemoryCache::new(max))),
    },
    Contestant {
        name: "moka",
        kind: Kind::Bounded,
        set_up: ["about; W-TinyLFU", "2 h after the put", "lock-free", "ahash", "by its callers"],
        len: "",
        bytes: 650,
        make: |max| {
            let builder = moka::sync::Cache::builder();
            let builder = builder.max_capacity(max as u64).time_to_live(LIFETIME);
            Box::new(Moka(builder.build_with_hasher(RandomState::new())))
        },
    },
    Contestant {
        name: "quick_cache",
        kind: Kind::Bounded,
        set_up: ["exact; S3-FIFO", "none", "4 a processor", "ahash", "with puts"],
        len: "",
        bytes: 480,
        make: |max| quick_cache(max, None),
    },
    Contestant {
        name: "quick_cache, keeps",
        kind: Kind::Bounded,
        set_up: [
            "exact; half of it for what is new",
            "none",
            "4 a processor",
            "ahash",
            "with puts",
        ],
        len: "",
        bytes: 480,
        make: |max| quick_cache(max, Some(0.5)),
    },
    Contestant {
        name: "scc HashCache",
        kind: Kind::Bounded,
        set_up: ["rounded up to 2^n; LRU of 32", "none", "a lock a bucket", "ahash", "with puts"],
        len: "its capacity is a power of two",
        bytes: 450,
        make: |max| {
            let cache = scc::HashCache::with_capacity_and_hasher(0, max, RandomState::new());
            Box::new(Scc(cache))
        },
    },
    Contestant {
        name: "TinyUFO",
        kind: Kind::Bounded,
        set_up: [
            "about; S3-FIFO and TinyLFU",
            "none",
            "a lock a bin",
            "ahash; compares no ids, only hashes",
            "with puts",
        ],
        len: "it does not count",
        bytes: 600,
        make: |max| Box::new(TinyUfo(tinyufo::TinyUfo::new(max, max))),
    },
    Contestant {
        name: "foyer",
        kind: Kind::Bounded,
        set_up: ["exact; LRU", "none", "8", "ahash", "with puts"],
        len: "",
        bytes: 600,
        make: |max| {
            let builder = foyer_memory::CacheBuilder::new(max);
            Box::new(Foyer(builder.with_hash_builder(RandomState::new()).build()))
        },
    },
];

struct Mutex(Honest<Payload>);

impl Cache for Mutex {
    fn put(&self, id: &Id, payload: &[u8]) {
        self.0.put(*id, payload.into());
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.take(id))
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.count())
    }
}

/// The default store of rustls; its vectors are made as rustls makes them.
struct Rustls(Arc<ServerSessionMemoryCache>);

impl Cache for Rustls {
    fn put(&self, id: &Id, payload: &[u8]) {
        assert!(self.0.put(id.to_vec(), payload.to_vec()), "a put was refused");
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.take(id))
    }

    fn count(&self) -> Option<usize> {
        None
    }
}

struct Moka(moka::sync::Cache<Id, Payload, RandomState>);

impl Cache for Moka {
    fn put(&self, id: &Id, payload: &[u8]) {
        self.0.insert(*id, payload.into());
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove(id))
    }

    fn count(&self) -> Option<usize> {
        // Only so its count is what it has.
        self.0.run_pending_tasks();
        Some(self.0.entry_count() as usize)
    }
}

type Quick =
    quick_cache::sync::Cache<Id, Payload, quick_cache::UnitWeighter, RandomState, Lifecycle>;
type Lifecycle = quick_cache::sync::DefaultLifecycle<Id, Payload>;

struct QuickCache(Quick);

fn quick_cache(max: usize, hot: Option<f64>) -> Box<dyn Cache> {
    let mut options = quick_cache::OptionsBuilder::new();
    options.estimated_items_capacity(max).weight_capacity(max as u64);
    if let Some(hot) = hot {
        options.hot_allocation(hot);
    }
    let cache = Quick::with_options(
        options.build().expect("the settings are valid"),
        quick_cache::UnitWeighter,
        RandomState::new(),
        Lifecycle::default(),
    );
    Box::new(QuickCache(cache))
}

impl Cache for QuickCache {
    fn put(&self, id: &Id, payload: &[u8]) {
        self.0.insert(*id, payload.into());
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove(id).map(|(_, payload)| payload))
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Scc(scc::HashCache<Id, Payload, RandomState>);

impl Cache for Scc {
    fn put(&self, id: &Id, payload: &[u8]) {
        // The session that is evicted is returned, and dropped here.
        let _ = self.0.put_sync(*id, payload.into());
    }

    fn get(&self, id: &Id) -> Option<u8> {
        // Not `read_sync`, which notes no use.
        first(self.0.get_sync(id).map(|entry| entry.get().clone()))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove_sync(id).map(|(_, payload)| payload))
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct TinyUfo(tinyufo::TinyUfo<Id, Payload>);

impl Cache for TinyUfo {
    fn put(&self, id: &Id, payload: &[u8]) {
        // What is evicted is returned, and dropped here.
        drop(self.0.put(*id, payload.into(), 1));
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove(id))
    }

    fn count(&self) -> Option<usize> {
        None
    }
}

/// Its entries have a count of their own.
struct Foyer(foyer_memory::Cache<Id, Box<[u8]>, RandomState>);

impl Cache for Foyer {
    fn put(&self, id: &Id, payload: &[u8]) {
        drop(self.0.insert(*id, payload.into()));
    }

    fn get(&self, id: &Id) -> Option<u8> {
        self.0.get(id).map(|entry| entry.value()[0])
    }

    fn take(&self, id: &Id) -> Option<u8> {
        self.0.remove(id).map(|entry| entry.value()[0])
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.entries())
    }
}
