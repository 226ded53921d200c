//! Maps without a limit, which store and find and do nothing else: the floor.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;

use super::honest::Id;
use super::{Cache, Contestant, first};
use crate::report::Kind;

type Payload = Arc<[u8]>;

pub(super) const ALL: [Contestant; 4] = [
    Contestant {
        name: "papaya",
        kind: Kind::Unbounded,
        set_up: ["none", "none", "lock-free", "ahash", "with puts"],
        len: "",
        bytes: 450,
        make: |_| Box::new(Papaya(papaya::HashMap::with_hasher(RandomState::new()))),
    },
    Contestant {
        name: "dashmap",
        kind: Kind::Unbounded,
        set_up: ["none", "none", "4 a processor", "ahash", "none"],
        len: "",
        bytes: 480,
        make: |_| Box::new(Dash(dashmap::DashMap::with_hasher(RandomState::new()))),
    },
    Contestant {
        name: "scc HashMap",
        kind: Kind::Unbounded,
        set_up: ["none", "none", "a lock a bucket", "ahash", "with puts"],
        len: "",
        bytes: 450,
        make: |_| Box::new(Scc(scc::HashMap::with_hasher(RandomState::new()))),
    },
    Contestant {
        name: "Mutex<HashMap>",
        kind: Kind::Unbounded,
        set_up: ["none", "none", "1 mutex", "ahash", "none"],
        len: "",
        bytes: 480,
        make: |_| Box::new(Locked(Mutex::new(HashMap::with_hasher(RandomState::new())))),
    },
];

struct Papaya(papaya::HashMap<Id, Payload, RandomState>);

impl Cache for Papaya {
    fn put(&self, id: &Id, payload: &[u8]) {
        self.0.pin().insert(*id, payload.into());
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.pin().get(id).cloned())
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.pin().remove(id).cloned())
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Dash(dashmap::DashMap<Id, Payload, RandomState>);

impl Cache for Dash {
    fn put(&self, id: &Id, payload: &[u8]) {
        self.0.insert(*id, payload.into());
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.get(id).map(|entry| entry.value().clone()))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove(id).map(|(_, payload)| payload))
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Scc(scc::HashMap<Id, Payload, RandomState>);

impl Cache for Scc {
    fn put(&self, id: &Id, payload: &[u8]) {
        let _ = self.0.upsert_sync(*id, payload.into());
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.0.read_sync(id, |_, payload| payload.clone()))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.0.remove_sync(id).map(|(_, payload)| payload))
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Locked(Mutex<HashMap<Id, Payload, RandomState>>);

impl Locked {
    fn with<R>(&self, run: impl FnOnce(&mut HashMap<Id, Payload, RandomState>) -> R) -> R {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cache for Locked {
    fn put(&self, id: &Id, payload: &[u8]) {
        let payload = payload.into();
        self.with(|map| map.insert(*id, payload));
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.with(|map| map.get(id).cloned()))
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.with(|map| map.remove(id)))
    }

    fn count(&self) -> Option<usize> {
        Some(self.with(|map| map.len()))
    }
}
