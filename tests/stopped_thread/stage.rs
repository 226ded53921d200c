//! A cache in use, and everything that is done with it.

use std::sync::Arc;
use std::time::Duration;

use resumption::{
    Answer, CacheMode, Clock, Connection, Dispatch, Put, Refusal, Scope, SecretBytes, SessionCache,
    SessionId, Sessions, Verdict, Want,
};

use crate::later::{found, poll};
use crate::support::{MINUTE, Random, SECOND, id, number};

/// What a thread is doing; the first is nothing of the cache's. The calls on one id come first, then what
/// anybody may do at any time, then what waits for others that do the like.
pub(crate) const DOINGS: [&str; 27] = [
    "nothing",
    "put",
    "put_with",
    "put_from",
    "put_if_absent",
    "get, get_many",
    "take",
    "remove",
    "remove_faulty",
    "contains",
    "extend",
    "lookup",
    "iter",
    "flush_expired",
    "flush",
    "retain",
    "stats",
    "poll_callbacks",
    "set_lifetime",
    "drop_scope",
    "set_max_sessions",
    "set_max_bytes",
    "set_mode",
    "set_on_new",
    "set_on_remove",
    "set_on_get",
    "scope",
];

/// The calls on one id.
pub(crate) const CALLS: std::ops::Range<u64> = 1..12;
/// What all may do at once.
pub(crate) const SWEEPS: std::ops::Range<u64> = 12..19;
/// Changes of settings, and of scopes, exclude each other, but nothing else.
pub(crate) const SETTINGS: std::ops::Range<u64> = 19..27;

/// How many kinds of stages there are, [`stage`].
pub(crate) const KINDS: u32 = 20;

/// A cache in use.
pub(crate) struct Stage {
    pub(crate) cache: SessionCache,
    pub(crate) sessions: Sessions,
    pub(crate) clock: Clock,
    pub(crate) ids: u64,
    limits: [usize; 2],
}

/// The payload of a number: bytes of different lengths, in one block with their headers.
/// (`callbacks_stopped.rs` has payloads that are not bytes.)
pub(crate) fn payload(number: u64) -> SecretBytes {
    const ZEROS: [u8; 500] = [0; 500];
    SecretBytes::from(&ZEROS[..(number % 500) as usize])
}

/// What has come of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Done,
    /// A put was refused, and not because there was a session.
    Refused(Refusal),
}

/// A new cache, of one of several kinds in turn: five limits, and of each without callbacks, with
/// callbacks that the threads call themselves, with those that somebody has to ask for, and with a get
/// callback.
pub(crate) fn stage(kind: u32, max_waiting_headers: usize) -> Box<Stage> {
    let clock = Clock::manual();
    let dispatch = if kind / 5 % 4 == 2 { Dispatch::Manual } else { Dispatch::Inline };
    let builder = SessionCache::builder()
        .lifetime(MINUTE)
        .clock(clock.clone())
        .without_ticker()
        .max_waiting_headers(max_waiting_headers)
        .dispatch(dispatch)
        .max_waiting_callbacks(usize::MAX);
    let most = usize::MAX;
    let (builder, ids, limits) = match kind % 5 {
        // Evicts all the time.
        0 => (builder.max_sessions(32), 256, [32, most]),
        // Grows, then evicts.
        1 => (builder.max_sessions(1_000), 4_096, [1_000, most]),
        // Four shards, which evict in batches.
        2 => (builder.max_sessions(40_000), 1 << 20, [40_000, most]),
        // Limited by bytes.
        3 => (builder.max_bytes(200_000), 4_096, [most, 200_000]),
        // Only expiry removes.
        _ => (builder.unlimited(), 1 << 20, [most, most]),
    };
    let cache = builder.build().expect("sane settings");
    match kind / 5 % 4 {
        0 => {}
        3 => cache.set_on_get(Some(Arc::new(|proposed| {
            let number = number(proposed.id());
            if number.is_multiple_of(2) {
                Answer::Give(found(proposed, payload(number)))
            } else {
                Answer::Nothing
            }
        }))),
        _ => {
            cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).expect("no thread is started");
            cache.set_on_remove(Some(Arc::new(|_| ()))).expect("no thread is started");
        }
    }
    let sessions = cache.scope(&Scope::new("web"));
    Box::new(Stage { cache, sessions, clock, ids, limits })
}

impl Stage {
    /// Does what [`DOINGS`] calls by this number, on any id. `at` is the thread's number.
    pub(crate) fn operate(&self, doing: u64, at: u64, random: &mut Random) -> Came {
        let number = self.number(at, random);
        if random.below(64) == 0 {
            self.clock.advance(Duration::from_millis(random.below(500)));
        }
        if CALLS.contains(&doing) {
            return self.call(doing, number, SECOND * random.below(90) as u32, random);
        }
        if SWEEPS.contains(&doing) {
            self.sweep(doing);
        } else {
            self.set(doing, random);
        }
        Came::Done
    }

    /// Any number; where lookups ask, one of this thread's own: two lookups of one id ask once, and one
    /// waits for the other.
    fn number(&self, at: u64, random: &mut Random) -> u64 {
        let number = random.below(self.ids);
        if self.cache.on_get().is_some() { number * 4 + at } else { number }
    }

    fn call(&self, doing: u64, number: u64, lifetime: Duration, random: &mut Random) -> Came {
        // The next one of its own, where each thread has some: see `number`.
        let (id, next, web): (&SessionId, _, _) = (&id(number), id(number + 4), &self.sessions);
        let put = match doing {
            1 => web.put(id, payload(number)),
            2 => web.put_with(id, payload(number), lifetime),
            3 => web.put_from(id, payload(number), Connection::server().context(number)),
            4 => web.put_if_absent(id, payload(number)),
            _ => {
                match doing {
                    5 if random.below(2) == 0 => drop(web.get_many(&[*id, next])),
                    5 => drop(web.get(id)),
                    6 => drop(web.take(id)),
                    7 => _ = web.remove(id),
                    8 => _ = web.remove_faulty(id),
                    9 => _ = web.contains(id),
                    10 => _ = web.extend(id, lifetime),
                    _ => {
                        let want = if random.below(2) == 0 { Want::Get } else { Want::Take };
                        let _ = poll(&mut web.lookup(id, want));
                    }
                }
                return Came::Done;
            }
        };
        match put {
            Put::Refused(why, _) if why != Refusal::Present => Came::Refused(why),
            _ => Came::Done,
        }
    }

    fn sweep(&self, doing: u64) {
        match doing {
            12 => _ = self.cache.iter().take(1_000).count(),
            13 => _ = self.cache.flush_expired(),
            14 => _ = self.cache.flush(),
            15 => _ = self.cache.retain(|session| session.payload().len() % 7 != 0),
            16 => _ = self.cache.stats(),
            17 => _ = self.cache.poll_callbacks(),
            _ => self.cache.set_lifetime(MINUTE),
        }
    }

    fn set(&self, doing: u64, random: &mut Random) {
        let half = random.below(2) == 0;
        let limit = |limit: usize| if half && limit < usize::MAX { limit / 2 } else { limit };
        let heard = "no thread is started";
        match doing {
            19 => _ = self.cache.drop_scope(self.sessions.scope()),
            20 => self.cache.set_max_sessions(limit(self.limits[0])),
            21 => self.cache.set_max_bytes(limit(self.limits[1])),
            22 => {
                let more = if half { CacheMode::UPDATE_TIME } else { CacheMode::NO_AUTO_CLEAR };
                self.cache.set_mode(CacheMode::SERVER | more);
            }
            23 => self.cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).expect(heard),
            24 => self.cache.set_on_remove(half.then(|| Arc::new(|_| ()) as _)).expect(heard),
            25 => self.cache.set_on_get(self.cache.on_get()),
            _ => drop(self.cache.scope(&Scope::new(if half { "web" } else { "other" }))),
        }
    }
}
