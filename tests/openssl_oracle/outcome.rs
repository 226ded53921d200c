//! What an operation has come to, on either side.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use resumption::Reason;

/// The number of an id.
pub(crate) type Id = u8;

/// Tells the sessions of one id apart.
pub(crate) type Version = u32;

/// A call of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    New(Id, Version),
    /// OpenSSL tells no reason; this is the one that its call follows from.
    Removed(Id, Version, Reason),
    Asked(Id),
}

impl Event {
    pub(crate) fn id(self) -> Id {
        match self {
            Self::New(id, _) | Self::Removed(id, ..) | Self::Asked(id) => id,
        }
    }
}

/// What a call has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    Nothing,
    Bool(bool),
    /// What a lookup has found.
    Found(Option<Version>),
    /// The limit before; `None` is none.
    Limit(Option<u64>),
}

/// `SSL_CTX_sess_hits` and the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) hits: i64,
    pub(crate) callback_hits: i64,
    pub(crate) misses: i64,
    pub(crate) timeouts: i64,
    pub(crate) cache_full: i64,
}

/// A session of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: Version,
    /// The last second of its life; `None` when that is over.
    pub(crate) expires: Option<i64>,
}

/// What is in a cache, expired sessions too.
pub(crate) type Contents = BTreeMap<Id, Entry>;

/// What an operation has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) returned: Returned,
    pub(crate) events: Vec<Event>,
    /// How the counters have grown.
    pub(crate) counts: Counts,
    /// What is in the cache afterwards.
    pub(crate) contents: Contents,
}

impl Outcome {
    /// Whether this was told.
    pub(crate) fn has(&self, event: Event) -> bool {
        self.events.contains(&event)
    }

    /// Forgets that this was told; whether it was.
    pub(crate) fn untell(&mut self, event: Event) -> bool {
        let at = self.events.iter().position(|&told| told == event);
        at.map(|at| self.events.remove(at)).is_some()
    }

    /// The sessions that were evicted.
    pub(crate) fn evicted(&self) -> Vec<(Id, Version)> {
        let evicted = |event: &Event| match *event {
            Event::Removed(id, version, Reason::Evicted) => Some((id, version)),
            _ => None,
        };
        self.events.iter().filter_map(evicted).collect()
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            hits: self.hits - before.hits,
            callback_hits: self.callback_hits - before.callback_hits,
            misses: self.misses - before.misses,
            timeouts: self.timeouts - before.timeouts,
            cache_full: self.cache_full - before.cache_full,
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self::default() - (Self::default() - self - more)
    }
}
