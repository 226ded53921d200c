//! A cache of numbers in some mode, and the log of what it tells.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use resumption::{
    Answer, CacheMode, Clock, Dispatch, Found, NewSession, Proposed, Reason, RemovedSession, Scope,
    SessionCache, Sessions, Verdict,
};

use crate::support::{MINUTE, id, number, wait_until};

pub(crate) const SERVER: CacheMode = CacheMode::SERVER;

/// What a callback was told: the session's number, its payload, and why it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    New(u64, u64),
    Left(u64, Option<u64>, Reason),
}

pub(crate) type Log = Arc<Mutex<Vec<Told>>>;

pub(crate) struct Stage {
    pub(crate) cache: SessionCache<u64>,
    pub(crate) web: Sessions<u64>,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
    is_by_workers: bool,
}

/// A cache of a mode, without callbacks.
pub(crate) fn quiet(mode: CacheMode, dispatch: Dispatch) -> Stage {
    let clock = Clock::manual();
    let builder = SessionCache::builder().max_sessions(100).lifetime(MINUTE).without_ticker();
    let cache = builder.clock(clock.clone()).dispatch(dispatch).mode(mode).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    let is_by_workers = matches!(dispatch, Dispatch::Workers(_));
    Stage { cache, web, clock, log: Log::default(), is_by_workers }
}

/// A cache of a mode that logs what it tells.
pub(crate) fn stage(mode: CacheMode, dispatch: Dispatch) -> Stage {
    let stage = quiet(mode, dispatch);
    let (new, left) = (Arc::clone(&stage.log), Arc::clone(&stage.log));
    let on_new = move |told: NewSession<u64>| {
        let told = Told::New(number(told.session().id()), *told.session().payload());
        new.lock().unwrap().push(told);
        Verdict::Keep
    };
    let on_remove = move |told: RemovedSession<u64>| {
        assert!(told.session().is_none_or(|session| session.id() == told.id()));
        assert_eq!(told.scope(), &Scope::new("web"));
        let payload = told.session().map(|session| *session.payload());
        left.lock().unwrap().push(Told::Left(number(told.id()), payload, told.reason()));
    };
    stage.cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    stage.cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    stage
}

impl Stage {
    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub(crate) fn put(&self, number: u64, payload: u64) {
        assert!(self.web.put(&id(number), payload).is_stored());
    }

    pub(crate) fn get(&self, number: u64) -> Option<u64> {
        self.web.get(&id(number)).map(|session| *session.payload())
    }

    pub(crate) fn take(&self, number: u64) -> Option<u64> {
        self.web.take(&id(number)).map(|session| *session.payload())
    }

    /// Answers every lookup with `payload`, and counts them.
    pub(crate) fn answers(&self, payload: u64) -> Arc<AtomicU64> {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        self.cache.set_on_get(Some(Arc::new(move |proposed| {
            count.fetch_add(1, Ordering::SeqCst);
            give(proposed, payload)
        })));
        asked
    }

    /// Nothing is held and nothing waits; but for headers that a worker retired, which stay with it until
    /// it has a bag of 64.
    pub(crate) fn is_at_rest(&self) {
        let most = if self.is_by_workers { 2 * 64 } else { 0 };
        wait_until("gauges come back to zero", || {
            self.cache.flush();
            let stats = self.cache.stats();
            (stats.held_sessions, stats.held_bytes, stats.callbacks_waiting) == (0, 0, 0)
                && stats.headers_waiting <= most
        });
    }
}

pub(crate) fn give(proposed: &Proposed<'_>, payload: u64) -> Answer<u64> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    Answer::Give(Found::new(id, scope, payload, MINUTE))
}

pub(crate) fn swap(count: &AtomicU64) -> u64 {
    count.swap(0, Ordering::SeqCst)
}
