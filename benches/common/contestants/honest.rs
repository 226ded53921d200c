//! What one writes in an afternoon: a mutex around a map and the order of arrival.
//!
//! Everything takes constant time. A session that was taken leaves its id in the order, where
//! eviction passes it; when such ids outnumber the sessions, they are swept out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use ahash::RandomState;

/// A session id.
pub type Id = [u8; 32];

/// The cache.
pub struct Honest<V>(Mutex<Order<V>>);

struct Order<V> {
    map: HashMap<Id, V, RandomState>,
    oldest: VecDeque<Id>,
    max: usize,
}

impl<V: Clone> Honest<V> {
    pub fn new(max: usize) -> Self {
        let map = HashMap::with_hasher(RandomState::new());
        Self(Mutex::new(Order { map, oldest: VecDeque::new(), max }))
    }

    pub fn put(&self, id: Id, value: V) {
        // What has left is dropped after the lock.
        let _left = self.with(|order| order.put(id, value));
    }

    pub fn get(&self, id: &Id) -> Option<V> {
        self.with(|order| order.map.get(id).cloned())
    }

    pub fn take(&self, id: &Id) -> Option<V> {
        self.with(|order| order.map.remove(id))
    }

    pub fn count(&self) -> usize {
        self.with(|order| order.map.len())
    }

    fn with<R>(&self, run: impl FnOnce(&mut Order<V>) -> R) -> R {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<V> Order<V> {
    fn put(&mut self, id: Id, value: V) -> Option<V> {
        if let Some(old) = self.map.insert(id, value) {
            return Some(old);
        }
        self.oldest.push_back(id);
        if self.oldest.len() > 2 * self.max + 64 {
            self.oldest.retain(|id| self.map.contains_key(id));
        }
        let mut left = None;
        while self.map.len() > self.max {
            left = self.map.remove(&self.oldest.pop_front()?);
        }
        left
    }
}
