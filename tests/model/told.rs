//! What the callbacks were told of each session, in the model's cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use resumption::{Reason, Removals, SessionCache, Verdict};

use super::{Key, Payload, REJECTED, Subject};
use crate::support::number;

/// What was told, and what was wrong with it: a panic would be contained where callbacks are called.
#[derive(Debug, Default)]
pub(crate) struct Told {
    came: BTreeSet<u64>,
    left: BTreeMap<u64, Reason>,
    /// The session of each name that came and did not leave.
    there: BTreeMap<Key, u64>,
    wrong: Vec<String>,
}

impl Told {
    /// Sets callbacks that note what they are told, and reject payloads of one weight.
    pub(crate) fn of(cache: &SessionCache<Payload>) -> Arc<Mutex<Self>> {
        let told = Arc::<Mutex<Self>>::default();
        let (new, removed) = (Arc::clone(&told), Arc::clone(&told));
        cache
            .set_on_new(Some(Arc::new(move |session| {
                let mut told = new.lock().expect("nothing panics under it");
                let (version, weight) = version_and_weight(session.session().payload());
                told.came(Subject::key(session.scope(), number(session.session().id())), version);
                if session.context::<u64>().is_some_and(|&context| context != version) {
                    told.wrong.push(format!("{version} came with the context of another"));
                }
                if weight == REJECTED { Verdict::Reject } else { Verdict::Keep }
            })))
            .expect("no thread is needed");
        cache
            .set_on_remove(Some(Arc::new(move |session| {
                let mut told = removed.lock().expect("nothing panics under it");
                let key = Subject::key(session.scope(), number(session.id()));
                match session.session() {
                    None => told.wrong.push(format!("{key:?} left by its id alone")),
                    Some(left) => told.left(key, left.payload().0, session.reason()),
                }
            })))
            .expect("no thread is needed");
        told
    }

    fn came(&mut self, key: Key, version: u64) {
        if !self.came.insert(version) {
            self.wrong.push(format!("{version} came twice"));
        }
        if let Some(before) = self.there.insert(key, version) {
            self.wrong.push(format!("{version} came before {before} of {key:?} had left"));
        }
    }

    fn left(&mut self, key: Key, version: u64, reason: Reason) {
        if self.left.insert(version, reason).is_some() {
            self.wrong.push(format!("{version} left twice"));
        }
        if self.there.remove(&key) != Some(version) {
            self.wrong.push(format!("{version} of {key:?} left and was not there"));
        }
    }

    /// All that has come and left was told, once, in order, and with the right reasons.
    pub(crate) fn check(&self, puts: u64, removals: &Removals) {
        assert!(self.wrong.is_empty(), "{:?}", self.wrong);
        assert_eq!(self.came.len() as u64, puts);
        let count = |reason| self.left.values().filter(|&&other| other == reason).count() as u64;
        let told = [
            (Reason::Expired, removals.expired),
            (Reason::Evicted, removals.evicted),
            (Reason::Replaced, removals.replaced),
            (Reason::Removed, removals.removed),
            (Reason::Faulty, removals.faulty),
            (Reason::Taken, removals.taken),
            (Reason::Flushed, removals.flushed),
            (Reason::ScopeDropped, removals.scope_dropped),
            (Reason::Rejected, removals.rejected),
            (Reason::Closed, removals.closed),
        ];
        for (reason, counted) in told {
            assert_eq!(count(reason), counted, "{reason:?}");
        }
    }
}

fn version_and_weight(payload: &Payload) -> (u64, usize) {
    (payload.0, payload.1.len())
}
