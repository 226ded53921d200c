//! Handles of sessions, one after another.

#![forbid(unsafe_code)]

use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::sweep::Cursor;
use crate::reclaim::panics::Panics;
use crate::scope::Entry;
use crate::secret::SecretBytes;
use crate::session::Session;

/// Handles of a cache's sessions, or of a scope's; see [`SessionCache::iter`](crate::SessionCache::iter) and
/// [`Sessions::iter`](crate::Sessions::iter).
pub struct Iter<S: Send + Sync + 'static = SecretBytes> {
    engine: Arc<Engine<S>>,
    /// Sessions of others are left out.
    scope: Option<Arc<Entry>>,
    cursor: Cursor,
    batch: std::vec::IntoIter<Session<S>>,
}

impl<S: Send + Sync + 'static> Iter<S> {
    pub(crate) fn new(engine: Arc<Engine<S>>, scope: Option<Arc<Entry>>) -> Self {
        Self { engine, scope, cursor: Cursor::default(), batch: Vec::new().into_iter() }
    }
}

impl<S: Send + Sync + 'static> Iterator for Iter<S> {
    type Item = Session<S>;

    fn next(&mut self) -> Option<Session<S>> {
        loop {
            // They may have expired since the batch was made.
            if let Some(session) = self.batch.find(|session| !self.engine.is_expired(session)) {
                return Some(session);
            }
            let (batch, cursor) = self.engine.walk(self.cursor, self.scope.as_deref())?;
            self.cursor = cursor;
            self.batch = batch.into_iter();
        }
    }
}

/// A walk that has ended has no shard to go on in.
impl<S: Send + Sync + 'static> FusedIterator for Iter<S> {}

impl<S: Send + Sync + 'static> Drop for Iter<S> {
    /// Its handles may be the last ones: each is dropped, whatever others panic with.
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_all(std::mem::take(&mut self.batch));
        panics.resume();
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Iter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}
