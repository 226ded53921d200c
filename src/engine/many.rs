//! Several lookups at once.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Engine;
use crate::lanes::BATCH;
use crate::reclaim::panics::Panics;
use crate::scope::Entry as ScopeEntry;
use crate::session::Session;
use crate::table::{Name, SessionId};

impl<S: Send + Sync + 'static> Engine<S> {
    /// [`get`](Self::get) of each of these, in order, whose waits for memory overlap: all cells of a batch
    /// are asked for first, then the nodes behind them. Each is found, and asked for, on its own.
    pub(crate) fn get_many(
        &self,
        scope: &Arc<ScopeEntry>,
        ids: &[SessionId],
    ) -> Vec<Option<Session<S>>> {
        let (mut found, mut panics) = (Vec::with_capacity(ids.len()), Panics::default());
        // A lookup panics with a payload that it drops. What was found before goes then, and somebody may have removed
        // it meanwhile: a second panic on the way out would end the process.
        if panics.catch(|| self.get_each(scope, ids, &mut found)).is_none() {
            panics.drop_all(found.drain(..));
        }
        panics.resume();
        found
    }

    fn get_each(
        &self,
        scope: &Arc<ScopeEntry>,
        ids: &[SessionId],
        found: &mut Vec<Option<Session<S>>>,
    ) {
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
            found.extend(names.iter_mut().map(|name| {
                // One before this may have waited for an answer, and the scope was dropped meanwhile.
                name.scope = scope.slot();
                self.get_named(scope, name)
            }));
        }
    }
}
