//! The cache as tasks use it, with what is counted from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use resumption::{Clock, Dispatch, Put, Refusal, Scope, Session, SessionCache, Sessions, Verdict};

use crate::parts::history::{Call, Outcome};
use crate::parts::run::{LIFETIME, Scenario, Subject, Summary};
use crate::support::{Census, HOUR, Payload, id, number};

/// Payloads that a call holds beside those in the cache: what it puts, and what it replaces.
const PER_CALL: i64 = 2;
/// Handles that a sweep holds: those of one pin, and of equal keys.
const PER_SWEEP: i64 = 6;

/// A cache, as one execution uses it.
pub(crate) struct Counted {
    cache: SessionCache<Payload>,
    web: Sessions<Payload>,
    clock: Clock,
    census: Arc<Census>,
    most: Option<usize>,
    /// What calls and sweeps that are under way may hold.
    held: AtomicI64,
    told: Option<Arc<Told>>,
}

/// How often it was told of each payload that it came, and that it left.
type Told = Mutex<BTreeMap<u64, (u32, u32)>>;

impl Counted {
    pub(crate) fn new(scenario: &Scenario, tells: bool) -> Self {
        let clock = Clock::manual();
        let builder = SessionCache::builder()
            .lifetime(if scenario.expires { LIFETIME } else { HOUR })
            .clock(clock.clone())
            .without_ticker()
            .max_waiting_headers(usize::MAX)
            .max_waiting_callbacks(usize::MAX)
            .dispatch(Dispatch::Inline);
        let builder = match scenario.max_sessions {
            Some(most) => builder.max_sessions(most),
            None => builder.unlimited(),
        };
        let cache = builder.build().expect("sane settings");
        let told = tells.then(|| listen(&cache));
        let web = cache.scope(&Scope::new("web"));
        let (census, most, held) = (Arc::default(), scenario.max_sessions, AtomicI64::new(0));
        Self { cache, web, clock, census, most, held, told }
    }

    /// Runs a call that may hold so many payloads, and looks at the bounds.
    fn holding<R>(&self, payloads: i64, call: impl FnOnce() -> R) -> R {
        self.held.fetch_add(payloads, Ordering::SeqCst);
        let result = call();
        self.look();
        self.held.fetch_sub(payloads, Ordering::SeqCst);
        result
    }

    /// Nothing is above the limit.
    fn look(&self) {
        let Some(most) = self.most else { return };
        // Before the length is read: that is made of steps.
        let (alive, held) = (self.census.alive(), self.held.load(Ordering::SeqCst));
        let is_within = alive <= most as i64 + held;
        // What is to be told holds its payload.
        assert!(is_within || self.told.is_some(), "{alive} alive, {held} of them held, of {most}");
        let len = self.cache.len();
        assert!(len <= most, "{len} sessions of {most}");
    }

    /// Once nobody uses the cache any more: takes it down, and looks for what is left. `stored` sessions
    /// came.
    pub(crate) fn end(self, stored: usize, closes: bool) {
        let there = self.cache.iter().count();
        self.look();
        if let Some(most) = self.most {
            let fewer = most / 4;
            self.cache.set_max_sessions(fewer);
            assert!(self.cache.len() <= fewer, "a lower limit is obeyed");
            assert!(self.cache.iter().count() <= fewer.min(there), "and changes nothing else");
        }
        if closes {
            self.cache.close();
            assert_eq!(
                (self.cache.len(), self.cache.iter().count()),
                (0, 0),
                "sessions are left in a closed cache"
            );
            assert_eq!(self.census.alive(), 0, "a payload is left in a closed cache");
        }
        let Self { cache, web, census, told, .. } = self;
        drop((cache, web));
        assert_eq!(census.alive(), 0, "a payload is left");
        let Some(told) = told else { return };
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_once = told.values().all(|&times| times == (1, 1));
        assert!(is_once && told.len() == stored, "of {stored} sessions was told {told:?}");
    }
}

/// Sets callbacks that count.
fn listen(cache: &SessionCache<Payload>) -> Arc<Told> {
    let told = Arc::new(Told::default());
    let came = Arc::clone(&told);
    let left = Arc::clone(&told);
    let on_new = move |new: resumption::NewSession<Payload>| {
        let version = new.session().payload().version;
        count(&came, version, |times| times.0 += 1);
        Verdict::Keep
    };
    let on_remove = move |removed: resumption::RemovedSession<Payload>| {
        let session = removed.session().expect("it was in the cache");
        count(&left, session.payload().version, |times| {
            assert_eq!(times.0, 1, "told to have left, not to have come");
            times.1 += 1;
        });
    };
    cache.set_on_new(Some(Arc::new(on_new))).expect("no thread is started");
    cache.set_on_remove(Some(Arc::new(on_remove))).expect("no thread is started");
    told
}

/// The lock is held over no switch.
fn count(told: &Told, version: u64, add: impl FnOnce(&mut (u32, u32))) {
    add(told.lock().unwrap_or_else(PoisonError::into_inner).entry(version).or_default());
}

impl Counted {
    fn call_held(&self, number: u64, call: Call) -> Outcome {
        let id = &id(number);
        let found = |session: Option<Session<Payload>>| {
            let Some(session) = session else { return Outcome::Missing };
            session.payload().assert_whole(number);
            Outcome::Found(session.payload().version)
        };
        let yes = |is_so| if is_so { Outcome::Yes } else { Outcome::No };
        let payload = |value| Payload::new(&self.census, number, value, 0);
        let put = match call {
            Call::Put { value, lifetime } => {
                self.web.put_with(id, payload(value), Duration::from_millis(lifetime))
            }
            Call::PutIfAbsent { value, .. } => self.web.put_if_absent(id, payload(value)),
            Call::Get => return found(self.web.get(id)),
            Call::Take => return found(self.web.take(id)),
            Call::Remove => return yes(self.web.remove(id)),
            Call::Extend { lifetime } => {
                return yes(self.web.extend(id, Duration::from_millis(lifetime)));
            }
            Call::Contains => return yes(self.web.contains(id)),
        };
        match put {
            Put::Stored => Outcome::Stored,
            Put::Replaced(old) => Outcome::Replaced(old.payload().version),
            Put::Refused(Refusal::Present, _) => Outcome::Present,
            Put::Refused(Refusal::Full, _) => Outcome::Refused,
            Put::Refused(why, _) => panic!("no reason to refuse a put: {why}"),
        }
    }
}

impl Subject for Counted {
    const WAYS: u64 = 6;

    fn call(&self, id: u64, call: Call) -> Outcome {
        self.holding(PER_CALL, || self.call_held(id, call))
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn sweep(&self, way: u64) {
        self.holding(PER_SWEEP, || match (way, self.most) {
            (0, _) => _ = self.cache.flush(),
            (1, _) => _ = self.cache.drop_scope(self.web.scope()),
            (2, _) => _ = self.cache.retain(|session| session.payload().version % 3 == 0),
            (4, Some(most)) => self.cache.set_max_sessions(most / 2),
            (5, Some(most)) => self.cache.set_max_sessions(most),
            _ => _ = self.cache.flush_expired(),
        });
    }

    fn ids(&self) -> Option<BTreeSet<u64>> {
        Some(self.cache.iter().map(|session| number(session.id())).collect())
    }

    fn count(&self, summary: &mut Summary) {
        let removals = self.cache.stats().removals;
        summary.evicted += removals.evicted;
        summary.expired += removals.expired;
        summary.swept += removals.flushed + removals.scope_dropped;
    }
}
