//! Payloads that are counted, and what all threads of a round share.
//!
//! # How live payloads bound the cache
//!
//! A thread says that it goes *outside* with so many payloads before it makes one or asks for a handle,
//! and comes back after it has dropped them. At any instant
//!
//! > payloads alive ≤ sessions in the cache + payloads outside + sessions that wait to be told.
//!
//! Going and coming are two counts that only grow. Who reads the returns first, then the payloads
//! alive, then the departures, has an upper bound of what was outside when the payloads were counted.
//! Payloads that the get callback gives count in fates, and here not at all: who holds them is the
//! cache's business until they are handed out.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Waker;

use resumption::{Session, SessionCache, Sessions};

use crate::ledger::{DROPPED, GIVEN, Ledger, SHARED, TAKEN};
use crate::plan::{Plan, chance};
use crate::support::{Random, id};

/// What planned panics carry.
#[derive(Debug)]
pub(crate) struct Planned;

/// What the threads of a round share.
pub(crate) struct Watch {
    pub(crate) plan: Plan,
    pub(crate) ledger: Arc<Ledger>,
    alive: AtomicI64,
    bytes: AtomicI64,
    given: AtomicI64,
    went: AtomicU64,
    came_back: AtomicU64,
    /// Milliseconds by which the manual clock was advanced, at least.
    pub(crate) advanced: AtomicU64,
    pub(crate) is_closing: AtomicBool,
    pub(crate) is_closed: AtomicBool,
    pub(crate) panics: AtomicU64,
    throws: AtomicU64,
    /// Where a payload's drop reaches the cache.
    pub(crate) reach: RwLock<Option<Vec<Sessions<Payload>>>>,
    /// Handles that callbacks keep.
    pub(crate) kept: Mutex<Vec<Held>>,
    /// Whom to wake of those that wait for later answers.
    pub(crate) wakers: Mutex<Vec<Waker>>,
}

pub(crate) struct Payload {
    pub(crate) serial: u32,
    /// The number of its scope and id.
    pub(crate) name: u32,
    pub(crate) weight: u32,
    check: u64,
    watch: Arc<Watch>,
}

/// A thread is outside with so many payloads, until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Outside(Arc<Watch>, u64);

/// A handle that is kept.
pub(crate) struct Held {
    pub(crate) session: Session<Payload>,
    _outside: Outside,
}

/// An upper bound of what may be alive beside what the cache holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) alive: i64,
    pub(crate) bytes: i64,
    pub(crate) outside: i64,
}

const WHOLE: u64 = 0x5e55_1045_c0ff_ee00;

impl Watch {
    pub(crate) fn new(plan: Plan, ledger: &Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            plan,
            ledger: Arc::clone(ledger),
            alive: AtomicI64::new(0),
            bytes: AtomicI64::new(0),
            given: AtomicI64::new(0),
            went: AtomicU64::new(0),
            came_back: AtomicU64::new(0),
            advanced: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            panics: AtomicU64::new(0),
            throws: AtomicU64::new(0),
            reach: RwLock::new(None),
            kept: Mutex::default(),
            wakers: Mutex::default(),
        })
    }

    pub(crate) fn outside(self: &Arc<Self>, with: u64) -> Outside {
        self.went.fetch_add(with, Ordering::SeqCst);
        Outside(Arc::clone(self), with)
    }

    /// See the head of this module for the order.
    pub(crate) fn sample(&self) -> Sample {
        let came_back = self.came_back.load(Ordering::SeqCst);
        let alive = self.alive.load(Ordering::SeqCst);
        let bytes = self.bytes.load(Ordering::SeqCst);
        let went = self.went.load(Ordering::SeqCst);
        Sample { alive, bytes, outside: (went - came_back) as i64 }
    }

    pub(crate) fn given(&self) -> i64 {
        self.given.load(Ordering::SeqCst)
    }

    /// Random numbers for where no thread of the round has some: callbacks.
    pub(crate) fn dice(&self) -> Random {
        let throw = self.throws.fetch_add(1, Ordering::Relaxed);
        Random::new(self.plan.seed ^ throw.wrapping_mul(0xe703_7ed1_a0b4_28db))
    }

    /// Panics as planned.
    pub(crate) fn panic(&self) -> ! {
        self.panics.fetch_add(1, Ordering::Relaxed);
        std::panic::panic_any(Planned)
    }

    /// The sessions of a scope, while the cache is there.
    pub(crate) fn scope(&self, scope: usize) -> Option<Sessions<Payload>> {
        let reach = self.reach.try_read().ok()?;
        reach.as_ref().map(|sessions| sessions[scope].clone())
    }

    /// A take has returned this session: nobody's has before.
    pub(crate) fn took(&self, session: &Session<Payload>) {
        let payload = session.payload();
        let before = self.ledger.note(payload.serial, TAKEN);
        if before & TAKEN != 0 && before & SHARED == 0 {
            self.ledger.fail(format!("{payload:?} was taken twice (fate {before:#010b})"));
        }
    }

    pub(crate) fn wake_all(&self) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers = std::mem::take(&mut *wakers);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Payload {
    /// A payload to put; `None` when the round has used up its serials.
    pub(crate) fn new(watch: &Arc<Watch>, name: u32, weight: u32) -> Option<Self> {
        let payload = Self::unborn(watch, name, weight)?;
        watch.alive.fetch_add(1, Ordering::SeqCst);
        watch.bytes.fetch_add(payload.charge(), Ordering::SeqCst);
        Some(payload)
    }

    /// A payload that the get callback gives.
    pub(crate) fn given(watch: &Arc<Watch>, name: u32, weight: u32) -> Option<Self> {
        let payload = Self::unborn(watch, name, weight)?;
        watch.ledger.note(payload.serial, GIVEN);
        watch.given.fetch_add(1, Ordering::SeqCst);
        Some(payload)
    }

    fn unborn(watch: &Arc<Watch>, name: u32, weight: u32) -> Option<Self> {
        let serial = watch.ledger.serial()?;
        let check = WHOLE ^ u64::from(serial) ^ u64::from(name) << 32;
        Some(Self { serial, name, weight, check, watch: Arc::clone(watch) })
    }

    fn is_whole(&self) -> bool {
        self.check == WHOLE ^ u64::from(self.serial) ^ u64::from(self.name) << 32
    }

    fn charge(&self) -> i64 {
        charge(self.weight)
    }

    /// Whether this may be what was found under a name.
    pub(crate) fn is_of(&self, name: u32) -> bool {
        self.is_whole() && self.name == name && self.watch.ledger.fate(self.serial) & DROPPED == 0
    }

    fn use_the_cache(&self) {
        let mut dice = self.watch.dice();
        let key = dice.below(u64::from(self.watch.plan.keys));
        let Some(web) = self.watch.scope((self.name / self.watch.plan.keys) as usize) else {
            return;
        };
        let _outside = self.watch.outside(1);
        match dice.below(3) {
            0 => _ = web.contains(&id(key)),
            1 => _ = web.remove(&id(key)),
            _ => drop(web.take(&id(key)).inspect(|session| self.watch.took(session))),
        }
    }
}

/// What the cache charges for a payload of this weight.
pub(crate) fn charge(weight: u32) -> i64 {
    i64::from(weight) + SessionCache::<Payload>::OVERHEAD as i64
}

impl Drop for Payload {
    fn drop(&mut self) {
        let (watch, plan) = (&self.watch, &self.watch.plan);
        if !self.is_whole() {
            watch.ledger.fail(format!("payload {} was torn, or dropped twice", self.serial));
        }
        let fate = watch.ledger.note_once(self.serial, DROPPED, "dropped");
        let mut dice = Random::new(plan.seed ^ u64::from(self.serial));
        if chance(&mut dice, plan.drop_uses) {
            // What is dropped in there may panic in turn.
            let _ = catch_unwind(AssertUnwindSafe(|| self.use_the_cache()));
        }
        if fate & GIVEN == 0 {
            watch.bytes.fetch_sub(self.charge(), Ordering::SeqCst);
            watch.alive.fetch_sub(1, Ordering::SeqCst);
        } else {
            watch.given.fetch_sub(1, Ordering::SeqCst);
        }
        self.check = 0;
        if chance(&mut dice, plan.drop_panics) && !std::thread::panicking() {
            watch.panic();
        }
    }
}

impl Outside {
    /// Keeps a handle; there is one more outside for that.
    pub(crate) fn keep(self, session: Session<Payload>) -> Held {
        Held { session, _outside: self }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.came_back.fetch_add(self.1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "payload {} of name {}", self.serial, self.name)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}
