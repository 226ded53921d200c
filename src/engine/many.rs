//! Several lookups at once.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Engine;
use crate::scope::Entry as ScopeEntry;
use crate::session::Session;
use crate::shard::BATCH;
use crate::table::{Name, SessionId};

impl<S: Send + Sync + 'static> Engine<S> {
    /// [`get`](Self::get) of each of these, in order, whose waits for memory overlap: all cells of a batch
    /// are asked for first, then the nodes behind them. Each is found, and asked for, on its own.
    pub(crate) fn get_many(
        &self,
        scope: &Arc<ScopeEntry>,
        ids: &[SessionId],
    ) -> Vec<Option<Session<S>>> {
        let mut found = Vec::with_capacity(ids.len());
        let mut names = [Name::NOBODY; BATCH];
        for ids in ids.chunks(BATCH) {
            let names = &mut names[..ids.len()];
            for (name, id) in names.iter_mut().zip(ids) {
                *name = self.name(scope, id);
                // Asks for the cell.
                self.shards[self.shard_of(name)].table.spot(name.hash);
            }
            for name in &*names {
                // To find the cell again is faster than to keep it.
                self.shards[self.shard_of(name)].table.spot(name.hash).prefetch_node::<S>();
            }
            found.extend(names.iter().map(|name| self.get_named(scope, name)));
        }
        found
    }
}
