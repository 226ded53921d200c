//! The caches that are compared, each behind the same calls, through its ordinary interface.
//!
//! All have the same ids and payloads that are made in the same way: one allocation, one copy. Every
//! lookup returns something that owns the payload, as a TLS library needs it after the call: a count
//! of the cache's own where it has one, an `Arc` elsewhere.
//!
//! Nobody but resumption keeps scopes apart, counts what it does, names the reasons of removals,
//! bounds bytes, or wipes payloads; all that is on, because it is on by default. Nobody but resumption
//! and moka looks at lifetimes.

mod bounded;
pub mod honest;
mod openssl;
mod unbounded;

use std::time::Duration;

use resumption::{Put, Refusal, Scope, SecretBytes, Session, SessionCache, SessionId, Sessions};

use super::load::TOGETHER;
use super::report::{Kind, Report, Table, grouped};
use honest::Id;

/// The lifetime of sessions where a cache asks for it; longer than any bench.
const LIFETIME: Duration = Duration::from_secs(7_200);

/// A cache under test.
pub trait Cache: Send + Sync {
    /// Makes what this thread's next puts of these ids need, and what is not the cache's own work.
    fn prepare(&self, _ids: &mut dyn Iterator<Item = &Id>) {}
    /// Stores a payload of these bytes.
    fn put(&self, id: &Id, payload: &[u8]);
    /// The first byte of the session's payload, if the session is there.
    fn get(&self, id: &Id) -> Option<u8>;
    /// How many of these, at most [`TOGETHER`], are found: one after the other, where there is no call
    /// for many.
    fn get_many(&self, ids: &mut dyn Iterator<Item = &Id>) -> usize {
        ids.filter(|id| self.get(id).is_some()).count()
    }
    /// As `get`; removes the session, and drops it.
    fn take(&self, id: &Id) -> Option<u8>;
    /// How many sessions there are, if the cache can tell.
    fn count(&self) -> Option<usize>;
    /// How many puts it refused, because what has left could not be freed yet.
    fn refused(&self) -> u64 {
        0
    }
}

/// Says whether `ours` has refused puts: they take less time than others.
pub fn note_refused(report: &mut Report, ours: &dyn Cache, what: &str) {
    let refused = ours.refused();
    if refused > 0 {
        report.note(&format!(
            "{what}: resumption refused {} of its puts.",
            grouped(refused as usize)
        ));
    }
}

/// A cache to be made.
#[derive(Clone, Copy)]
pub struct Contestant {
    pub name: &'static str,
    pub kind: Kind,
    /// How it is set up: capacity and order of eviction, expiry, shards, hasher, maintenance.
    pub set_up: [&'static str; 5],
    /// What it may be called on to hold.
    pub len: &'static str,
    /// About how many bytes it takes for a session of 300.
    pub bytes: usize,
    /// Makes it for so many sessions.
    pub make: fn(usize) -> Box<dyn Cache>,
}

/// Resumption.
pub const OURS: Contestant = Contestant {
    name: "resumption",
    kind: Kind::Bounded,
    set_up: [
        "never exceeded; a fifth new, SIEVE",
        "wheel, 2 h",
        "by size",
        "ahash, own keys",
        "with puts",
    ],
    len: "",
    bytes: 450,
    make: ours,
};

/// All of them; resumption first.
pub fn all() -> Vec<Contestant> {
    let mut all = vec![OURS];
    all.extend(bounded::ALL);
    all.push(openssl::OPENSSL);
    all.extend(unbounded::ALL);
    all
}

/// The names of those that are meant.
pub fn names(is_meant: impl Fn(&Contestant) -> bool) -> Vec<&'static str> {
    all().iter().filter(|one| is_meant(one)).map(|one| one.name).collect()
}

impl Contestant {
    /// Whether a get hands out the payload. OpenSSL's only says that the session is there.
    pub fn hands_out(&self) -> bool {
        self.name != openssl::OPENSSL.name
    }
}

/// Shows how each is set up.
pub fn show_set_up(report: &mut Report) {
    let header = ["contestant", "capacity", "expiry", "shards", "hasher", "maintenance"];
    let mut table = Table::new(&header);
    for contestant in all() {
        table.row(&[&[contestant.name], &contestant.set_up[..]].concat());
    }
    report.table(&table);
    report.note(
        "All contestants, OpenSSL included, allocate from mimalloc, with a `purge_delay` of -1, which is not its \
         default: it keeps what is free. By default it gives memory back in the middle of huge pages, which fall \
         apart by it, and whose cache then lies in small pages is an accident, worth up to half of its rate.",
    );
    report.note(
        "`rustls default` has no interface but that of rustls: each put is handed an id and a payload in \
         vectors, which are made in the timed part, and each get makes a copy of the payload. Resumption is \
         called by its own interface here, and pays for those, too, where rustls calls it, by \
         `Sessions::rustls`: the bench `rustls_store` compares the two in that way.",
    );
}

/// The first byte of a payload, so that its memory is waited for.
fn first(payload: Option<impl AsRef<[u8]>>) -> Option<u8> {
    payload.map(|payload| payload.as_ref()[0])
}

struct Ours {
    cache: SessionCache,
    sessions: Sessions,
}

fn ours(max: usize) -> Box<dyn Cache> {
    let builder = SessionCache::builder().max_sessions(max);
    let cache = builder.build().expect("the settings are valid");
    let sessions = cache.scope(&Scope::new("bench"));
    Box::new(Ours { cache, sessions })
}

impl Cache for Ours {
    fn put(&self, id: &Id, payload: &[u8]) {
        let put = self.sessions.put(&SessionId::from(*id), SecretBytes::from(payload));
        let waits = matches!(put, Put::Refused(Refusal::HeadersWaiting, _));
        assert!(put.is_stored() || waits, "a put was refused");
    }

    fn get(&self, id: &Id) -> Option<u8> {
        first(self.sessions.get(&SessionId::from(*id)).as_ref().map(Session::payload))
    }

    fn get_many(&self, ids: &mut dyn Iterator<Item = &Id>) -> usize {
        // On the stack, as a server would have them.
        let mut some = [SessionId::from([0; 32]); TOGETHER];
        let mut count = 0;
        for (place, id) in some.iter_mut().zip(ids) {
            *place = SessionId::from(*id);
            count += 1;
        }
        let found = self.sessions.get_many(&some[..count]);
        found.iter().flatten().filter(|session| session.payload()[0] != 0).count()
    }

    fn take(&self, id: &Id) -> Option<u8> {
        first(self.sessions.take(&SessionId::from(*id)).as_ref().map(Session::payload))
    }

    fn count(&self) -> Option<usize> {
        Some(self.cache.len())
    }

    fn refused(&self) -> u64 {
        self.cache.stats().refused
    }
}
