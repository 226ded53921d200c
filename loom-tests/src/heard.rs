//! What a table or a shard has told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use resumption::model::{self, Shard, Table, Told};

use crate::Payload;

/// A call: the session's key, its payload, or 0 if there is none, and what was told.
pub type Call = (u64, u32, Told);

/// Tells what waits in a table.
pub fn serve(table: &Table<Payload>) -> Vec<Call> {
    let mut calls = Vec::new();
    table.serve(|key, told, payload| calls.push((key, payload.map_or(0, Payload::read), told)));
    calls
}

/// A shard, and what its servers were told. The lock is never held at a step of loom's.
#[derive(Default)]
pub struct Heard {
    /// The shard.
    pub shard: Shard<Payload>,
    calls: Mutex<Vec<Call>>,
}

impl Heard {
    /// Tells what waits, unless another thread does.
    pub fn serve(&self) {
        self.shard.serve(|key, told, payload| {
            let call = (key, payload.map_or(0, Payload::read), told);
            self.calls.lock().expect("no panic").push(call);
        });
    }

    /// What was told.
    ///
    /// # Panics
    ///
    /// If a server has panicked.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic").clone()
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heard").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// What is there for one who was told this, and who knew of `before`.
///
/// # Panics
///
/// If something was told twice, or in no order that sessions can come and leave in.
#[must_use]
pub fn replay(before: &[(u64, u32)], calls: &[Call]) -> Vec<(u64, u32)> {
    let once: BTreeSet<&Call> = calls.iter().collect();
    assert_eq!(once.len(), calls.len(), "told once: {calls:?}");
    let mut there: BTreeMap<u64, u32> = before.iter().copied().collect();
    for &(key, number, told) in calls {
        match told {
            Told::Came => assert_eq!(there.insert(key, number), None, "told in order: {calls:?}"),
            Told::Left => assert_eq!(there.remove(&key), Some(number), "told in order: {calls:?}"),
            Told::With => {}
        }
    }
    there.into_iter().collect()
}

/// Headers and segments that were retired and are not dead.
#[must_use]
pub fn waiting() -> usize {
    let (retired, dead) = model::retired();
    retired - dead
}
