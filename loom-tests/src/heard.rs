//! What a table or a shard has told.

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

/// Headers and segments that were retired and are not dead.
#[must_use]
pub fn waiting() -> usize {
    let (retired, dead) = model::retired();
    retired - dead
}
