//! A thread that does to the cache whatever can be done to it, and looks at what it gets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use resumption::{Connection, Put, Refusal, Session, SessionCache, Sessions, Want};

use crate::ledger::{REFUSED, SHARED, STORED};
use crate::payload::{Held, Payload, Watch};
use crate::plan::{MOST_WEIGHT, Plan, SCOPES, chance};
use crate::report::Totals;
use crate::support::{Random, id, number};

/// Handles that a thread keeps, at most.
const MOST_KEPT: usize = 8;

/// Handles that a walk of the cache has at a time, at most.
pub(crate) const WALK: u64 = 257;

/// Lookups in one call.
const MANY: usize = 4;

/// Takes that a thread remembers, so that it sees a session that comes back.
const REMEMBERED: usize = 8;

pub(crate) struct Actor<'a> {
    watch: &'a Arc<Watch>,
    cache: &'a SessionCache<Payload>,
    scopes: &'a [Sessions<Payload>],
    /// When the manual clock began.
    beginning: Option<Instant>,
    dice: Random,
    kept: VecDeque<Held>,
    taken: VecDeque<u32>,
    pub(crate) totals: Totals,
}

/// Handles of a thread that ends.
struct Last(Vec<Held>);

thread_local! {
    /// Handles that are dropped when their thread has ended, with the crate's own thread-locals.
    static LAST: RefCell<Last> = const { RefCell::new(Last(Vec::new())) };
}

impl<'a> Actor<'a> {
    pub(crate) fn new(
        watch: &'a Arc<Watch>,
        cache: &'a SessionCache<Payload>,
        scopes: &'a [Sessions<Payload>],
        beginning: Option<Instant>,
        seed: u64,
    ) -> Self {
        let dice = Random::new(watch.plan.seed ^ seed.wrapping_mul(0x8ebc_6af0_9c88_c6e3));
        let (kept, taken) = (VecDeque::new(), VecDeque::new());
        let totals = Totals::default();
        Self { watch, cache, scopes, beginning, dice, kept, taken, totals }
    }

    fn plan(&self) -> &'a Plan {
        &self.watch.plan
    }

    /// Does one thing. A planned panic ends that, and nothing else; what others say is in the ledger.
    pub(crate) fn act(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.choose()));
        self.totals.operations += 1;
    }

    fn choose(&mut self) {
        let key = self.key();
        match self.dice.below(100) {
            0..=27 => self.put(key),
            28..=43 => self.get(key),
            44..=46 => self.get_many(key.0),
            47..=66 => self.take(key),
            67..=74 => self.remove(key),
            75..=79 => self.look(key),
            80..=85 => self.extend(key),
            86..=88 => self.lookup(key),
            89..=93 => drop(self.kept.pop_front()),
            94 => _ = self.cache.poll_callbacks(),
            95 => _ = (self.cache.len(), self.cache.bytes(), self.cache.stats()),
            _ if chance(&mut self.dice, 200) => self.sweep(),
            _ => self.put_and_take(key),
        }
    }

    /// A scope, and the number of an id: few of them are met often.
    fn key(&mut self) -> (usize, u64) {
        let scope = self.dice.below(u64::from(SCOPES)) as usize;
        let keys = u64::from(self.plan().keys);
        let keys = if chance(&mut self.dice, 3) { keys.min(16) } else { keys };
        (scope, self.dice.below(keys))
    }

    fn name(&self, (scope, number): (usize, u64)) -> u32 {
        scope as u32 * self.plan().keys + number as u32
    }

    fn put(&mut self, key: (usize, u64)) {
        let outside = self.watch.outside(1);
        let plan = self.plan();
        let weight = self.dice.below(u64::from(plan.most_weight().max(MOST_WEIGHT))) as u32;
        let Some(payload) = Payload::new(self.watch, self.name(key), weight) else { return };
        let (serial, web, key_id) = (payload.serial, &self.scopes[key.0], id(key.1));
        let was_closed = self.watch.is_closed.load(Ordering::SeqCst);
        let lifetime = plan.any_lifetime(&mut self.dice);
        let put = match self.dice.below(8) {
            0..=3 => web.put(&key_id, payload),
            4 => web.put_with(&key_id, payload, lifetime),
            5 => web.put_if_absent(&key_id, payload),
            at => {
                let side =
                    if plan.modes && at == 6 { Connection::client() } else { Connection::server() };
                web.put_from(&key_id, payload, side.lifetime(lifetime).context(serial))
            }
        };
        match put {
            Put::Refused(why, payload) => {
                self.watch.ledger.note_once(serial, REFUSED, "refused");
                self.totals.refused += 1;
                self.check_refusal(why, &payload);
            }
            put => {
                self.watch.ledger.note_once(serial, STORED, "stored");
                self.totals.stored += 1;
                if was_closed {
                    self.watch.ledger.fail(format!("{serial} was stored after the close"));
                }
                if let Put::Replaced(old) = put {
                    self.check(key, &old, None);
                    self.maybe_keep(old, outside);
                }
            }
        }
    }

    fn check_refusal(&self, why: Refusal, payload: &Payload) {
        let plan = self.plan();
        let is_right = match why {
            Refusal::Closed => self.watch.is_closing.load(Ordering::SeqCst),
            Refusal::TooLarge => plan.bytes.is_some() || plan.limits_change,
            Refusal::Full => plan.sessions.is_some() || plan.bytes.is_some() || plan.limits_change,
            Refusal::HeadersWaiting | Refusal::Present => true,
            Refusal::CallbacksWaiting => plan.callbacks.is_some(),
            Refusal::SideNotCached | Refusal::NobodyToTell => plan.modes,
            _ => false,
        };
        if !is_right {
            self.watch.ledger.fail(format!("{payload:?} was refused: {why}"));
        }
    }

    fn get(&mut self, key: (usize, u64)) {
        let (outside, since) = (self.watch.outside(1), self.now());
        if let Some(session) = self.scopes[key.0].get(&id(key.1)) {
            self.totals.hits += 1;
            self.check(key, &session, Some(since));
            self.maybe_keep(session, outside);
        }
    }

    /// Some of one scope.
    fn get_many(&mut self, scope: usize) {
        let keys = [(); MANY].map(|()| (scope, self.key().1));
        let (_outside, since) = (self.watch.outside(MANY as u64), self.now());
        let found = self.scopes[scope].get_many(&keys.map(|key| id(key.1)));
        for (key, session) in keys.into_iter().zip(found) {
            let Some(session) = session else { continue };
            self.totals.hits += 1;
            self.check(key, &session, Some(since));
        }
    }

    fn take(&mut self, key: (usize, u64)) {
        let (outside, since) = (self.watch.outside(1), self.now());
        if let Some(session) = self.scopes[key.0].take(&id(key.1)) {
            self.took(key, &session, since);
            self.maybe_keep(session, outside);
        }
    }

    fn took(&mut self, key: (usize, u64), session: &Session<Payload>, since: u64) {
        self.totals.takes += 1;
        self.check(key, session, Some(since));
        self.watch.took(session);
        if self.taken.len() == REMEMBERED {
            self.taken.pop_front();
        }
        self.taken.push_back(session.payload().serial);
    }

    /// As a server does for a client: the session that was just put is wanted a moment later.
    fn put_and_take(&mut self, key: (usize, u64)) {
        self.put(key);
        self.take(key);
    }

    fn remove(&mut self, key: (usize, u64)) {
        let web = &self.scopes[key.0];
        let is_faulty = chance(&mut self.dice, 4);
        let is_removed =
            if is_faulty { web.remove_faulty(&id(key.1)) } else { web.remove(&id(key.1)) };
        self.totals.removes += u64::from(is_removed);
    }

    fn look(&mut self, key: (usize, u64)) {
        match chance(&mut self.dice, 10) {
            false => _ = self.scopes[key.0].contains(&id(key.1)),
            // A scope that is looked up anew is the same one.
            true => _ = self.cache.scope(self.scopes[key.0].scope()).contains(&id(key.1)),
        }
    }

    fn extend(&mut self, key: (usize, u64)) {
        if self.plan().extends {
            let lifetime = self.plan().any_lifetime(&mut self.dice);
            self.scopes[key.0].extend(&id(key.1), lifetime);
        }
    }

    /// Polls a lookup a few times; then it waits in vain no longer, or is dropped.
    fn lookup(&mut self, key: (usize, u64)) {
        let want = if chance(&mut self.dice, 2) { Want::Get } else { Want::Take };
        let (outside, since) = (self.watch.outside(1), self.now());
        let mut lookup =
            self.scopes[key.0].lookup(&id(key.1), want).within(Duration::from_millis(5));
        for _ in 0..self.dice.below(4) {
            match Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => std::thread::yield_now(),
                Poll::Ready(None) => return,
                Poll::Ready(Some(session)) => {
                    match want {
                        Want::Get => self.check(key, &session, Some(since)),
                        Want::Take => self.took(key, &session, since),
                    }
                    return self.maybe_keep(session, outside);
                }
            }
        }
        self.totals.lookups_dropped += 1;
    }

    fn sweep(&mut self) {
        let outside = self.watch.outside(WALK);
        self.totals.sweeps += 1;
        match self.dice.below(6) {
            0 => _ = self.cache.flush(),
            1 => _ = self.cache.flush_expired(),
            2 => _ = self.cache.retain(|session| !number(session.id()).is_multiple_of(7)),
            3 => _ = self.cache.drop_scope(self.scopes[0].scope()),
            _ => self.walk(),
        }
        drop(outside);
    }

    /// A walk, which may end early.
    fn walk(&mut self) {
        let most = 1 << self.dice.below(18);
        for session in self.cache.iter().take(most) {
            if !session.payload().is_of(session.payload().name) {
                self.watch.ledger.fail(format!("met {:?}, which is not whole", session.payload()));
            }
        }
    }

    /// The time of the manual clock, at least; milliseconds since it began.
    fn now(&self) -> u64 {
        self.watch.advanced.load(Ordering::SeqCst)
    }

    /// What was found is what was put under this name, whole and alive; it was not taken by this thread
    /// before, and it was not due when the lookup began.
    fn check(&self, key: (usize, u64), session: &Session<Payload>, since: Option<u64>) {
        let (payload, ledger) = (session.payload(), &self.watch.ledger);
        if *session.id() != id(key.1) || !payload.is_of(self.name(key)) {
            ledger.fail(format!("{payload:?} was found as {key:?}"));
        }
        let is_shared = ledger.fate(payload.serial) & SHARED != 0;
        if since.is_some() && self.taken.contains(&payload.serial) && !is_shared {
            ledger.fail(format!("{payload:?} came back after it was taken"));
        }
        let (Some(beginning), Some(since)) = (self.beginning, since) else { return };
        let is_due = session.expires_at() <= beginning + Duration::from_millis(since);
        if self.plan().knows_expiry() && is_due && !is_shared {
            ledger.fail(format!("{payload:?} was found after it had expired"));
        }
    }

    fn maybe_keep(&mut self, session: Session<Payload>, outside: crate::payload::Outside) {
        if self.kept.len() < MOST_KEPT && chance(&mut self.dice, 4) {
            self.kept.push_back(outside.keep(session));
            return;
        }
        drop(session);
    }

    /// Leaves a handle to the end of the thread.
    pub(crate) fn leave_last(&mut self) {
        if let Some(held) = self.kept.pop_front() {
            LAST.with_borrow_mut(|last| last.0.push(held));
        }
    }
}

impl Drop for Actor<'_> {
    fn drop(&mut self) {
        drop_each(self.kept.drain(..));
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        drop_each(self.0.drain(..));
    }
}

/// One by one: each drop may panic, and a panic at the end of a thread ends the process.
fn drop_each(handles: impl Iterator<Item = Held>) {
    for held in handles {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(held)));
    }
}
