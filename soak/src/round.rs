//! One round: a cache is made, used by many threads, closed in the middle, and looked over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{Clock, Dispatch, Scope, SessionCache, Sessions, Stats};

use crate::actor::Actor;
use crate::bounds::{self, Limits};
use crate::ledger::Ledger;
use crate::payload::{Payload, Watch};
use crate::plan::{End, Plan, SCOPES};
use crate::report::Totals;
use crate::support::{PATIENCE, Random, id};
use crate::warden::{insist, set_callbacks, tick, turn};

/// How long threads go on after the close.
const AFTERWARDS: Duration = Duration::from_millis(30);
/// Threads that live at a time for a moment only.
const SHORT_LIVED: u64 = 4;
/// A lookup waits so long for an answer that does not come.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(3);

/// Headers that the epoch keeps with a thread that has nothing to do.
const BAG: u64 = 64;

struct Round<'a> {
    watch: &'a Arc<Watch>,
    cache: &'a SessionCache<Payload>,
    scopes: &'a [Sessions<Payload>],
    clock: &'a Clock,
    beginning: Option<Instant>,
    limits: Limits,
    is_over: AtomicBool,
    /// Whoever sees it rests until it is gone.
    is_rest: AtomicBool,
    resting: AtomicU64,
    totals: Mutex<Totals>,
}

/// Plays a round; what fails is in the ledger.
pub(crate) fn play(plan: Plan, ledger: &Arc<Ledger>) -> Totals {
    ledger.clear();
    let watch = Watch::new(plan, ledger);
    let clock = if watch.plan.has_manual_clock { Clock::manual() } else { Clock::monotonic() };
    let beginning = watch.plan.has_manual_clock.then(|| clock.instant());
    let cache = build(&watch.plan, &clock);
    let scopes: Vec<_> =
        (0..SCOPES).map(|scope| cache.scope(&Scope::new(scope.to_string()))).collect();
    *watch.reach.write().unwrap_or_else(PoisonError::into_inner) = Some(scopes.clone());
    set_callbacks(&watch, &cache);
    let round = Round {
        watch: &watch,
        cache: &cache,
        scopes: &scopes,
        clock: &clock,
        beginning,
        limits: Limits::new(watch.plan.sessions, watch.plan.bytes),
        is_over: AtomicBool::new(false),
        is_rest: AtomicBool::new(false),
        resting: AtomicU64::new(0),
        totals: Mutex::default(),
    };
    round.run();
    let mut totals = round.totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let stats = cache.stats();
    totals.evicted = stats.removals.evicted;
    totals.expired = stats.removals.expired;
    let stats = end(&watch, cache, scopes);
    let is_told = watch.plan.callbacks.is_some() && !watch.plan.internal_modes;
    let counts_all = watch.plan.counts_all();
    let panics = watch.panics.load(Ordering::Relaxed);
    forget(watch);
    let fates = ledger.audit(is_told);
    if let Some(Stats { removals, .. }) = stats {
        if is_told && fates.left != removals.total() {
            ledger.fail(format!("{} removals were told, of {removals:?}", fates.left));
        }
        // Nothing is left: what was stored was removed.
        if counts_all && !fates.may_have_stored(removals.total()) {
            ledger.fail(format!("after the close: {removals:?} of {fates:?}"));
        }
    }
    totals.rounds = 1;
    totals.payloads = fates.born;
    totals.given = fates.given;
    totals.told = fates.left;
    totals.panics = panics;
    totals
}

fn build(plan: &Plan, clock: &Clock) -> SessionCache<Payload> {
    let mut builder = SessionCache::builder()
        .unlimited()
        .weigher(|payload: &Payload| payload.weight as usize)
        .lifetime(plan.lifetime)
        .clock(clock.clone())
        .max_waiting_headers(plan.waiting_headers as usize)
        .lookup_timeout(LOOKUP_TIMEOUT);
    builder = match plan.has_ticker {
        true => builder.ticker(Duration::from_millis(5)),
        false => builder.without_ticker(),
    };
    if let Some(sessions) = plan.sessions {
        builder = builder.max_sessions(sessions as usize);
    }
    if let Some(bytes) = plan.bytes {
        builder = builder.max_bytes(bytes as usize);
    }
    if let Some(callbacks) = plan.callbacks {
        builder = builder.dispatch(callbacks.dispatch).max_waiting_callbacks(callbacks.waiting);
    }
    builder.build().expect("the settings make sense")
}

impl Round<'_> {
    fn run(&self) {
        thread::scope(|threads| {
            let actors = u64::from(self.watch.plan.threads);
            for at in 0..actors {
                threads.spawn(move || self.live(at));
            }
            let mut others = 2;
            threads.spawn(|| self.breed());
            threads.spawn(|| {
                self.repeat(1, Duration::from_millis(2), |dice| {
                    turn(self.watch, self.cache, &self.limits, dice);
                    self.note(Totals { settings: 1, ..Totals::default() });
                });
            });
            if self.watch.plan.has_manual_clock {
                others += 1;
                threads.spawn(|| {
                    self.repeat(2, Duration::from_millis(3), |dice| {
                        tick(self.watch, self.clock, dice)
                    });
                });
            }
            let watched = catch_unwind(AssertUnwindSafe(|| self.oversee(actors + others)));
            // Also if this thread has panicked: the others would go on for ever.
            self.is_rest.store(false, Ordering::SeqCst);
            self.is_over.store(true, Ordering::SeqCst);
            watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    fn note(&self, totals: Totals) {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).add(totals);
    }

    /// Whether to go on; rests before it tells, if it is time for that.
    fn goes_on(&self) -> bool {
        if self.is_rest.load(Ordering::Relaxed) {
            self.resting.fetch_add(1, Ordering::SeqCst);
            while self.is_rest.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_micros(100));
            }
            self.resting.fetch_sub(1, Ordering::SeqCst);
        }
        !self.is_over.load(Ordering::Relaxed)
    }

    fn repeat(&self, number: u64, pause: Duration, mut what: impl FnMut(&mut Random)) {
        let mut dice = Random::new(self.watch.plan.seed ^ number);
        while self.goes_on() {
            let _ = catch_unwind(AssertUnwindSafe(|| what(&mut dice)));
            thread::sleep(pause);
        }
    }

    fn actor(&self, seed: u64) -> Actor<'_> {
        Actor::new(self.watch, self.cache, self.scopes, self.beginning, seed)
    }

    /// A thread that stays.
    fn live(&self, at: u64) {
        let mut actor = self.actor(at + 1);
        while self.goes_on() {
            actor.act();
        }
        self.note(Totals { threads: 1, ..actor.totals });
    }

    /// Threads that come and go.
    fn breed(&self) {
        let mut next = 1_000;
        while self.goes_on() {
            thread::scope(|threads| {
                for _ in 0..SHORT_LIVED {
                    next += 1;
                    let seed = next;
                    threads.spawn(move || self.live_briefly(seed));
                }
            });
        }
    }

    fn live_briefly(&self, seed: u64) {
        let mut actor = self.actor(seed);
        for _ in 0..seed % 64 {
            actor.act();
        }
        actor.leave_last();
        self.note(Totals { threads: 1, ..actor.totals });
    }

    /// Looks at all bounds until the round is over, then closes the cache while the others go on.
    fn oversee(&self, threads: u64) {
        let plan = &self.watch.plan;
        let start = Instant::now();
        let mut has_rested = !plan.rests;
        while start.elapsed() < plan.lasts
            && !self.ledger().is_full()
            && !self.ledger().has_failed()
        {
            self.look();
            if !has_rested && start.elapsed() > plan.lasts / 2 {
                has_rested = true;
                self.rest(threads);
            }
        }
        if plan.end == End::Drop {
            return;
        }
        self.watch.is_closing.store(true, Ordering::SeqCst);
        insist(self.watch, || self.cache.close());
        self.watch.is_closed.store(true, Ordering::SeqCst);
        let closed = Instant::now();
        while closed.elapsed() < AFTERWARDS && !self.ledger().is_full() {
            self.look();
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.watch.ledger
    }

    fn look(&self) {
        let start = Instant::now();
        let mut samples = 0;
        while start.elapsed() < Duration::from_micros(500) {
            samples += u64::from(bounds::sample(self.watch, &self.limits, self.cache));
        }
        bounds::look_at_waste(self.watch, &self.limits, self.cache);
        self.watch.wake_all();
        self.note(Totals { samples, ..Totals::default() });
        thread::sleep(Duration::from_millis(2));
    }

    fn rest(&self, threads: u64) {
        self.is_rest.store(true, Ordering::SeqCst);
        let all_rest = || self.resting.load(Ordering::SeqCst) == threads;
        let is_quiet = || {
            self.cache.poll_callbacks();
            self.cache.stats().callbacks_waiting == 0
        };
        // The ticker and the workers do not rest: they get a moment to end what they do.
        if self.wait("all threads rest", all_rest) && self.wait("all is told", is_quiet) {
            thread::sleep(Duration::from_millis(20));
            bounds::look_at_rest(self.watch, self.cache);
            self.add_up();
            self.note(Totals { rests: 1, ..Totals::default() });
        }
        self.is_rest.store(false, Ordering::SeqCst);
        // Before there is another rest, this one is over for everybody.
        self.wait("all threads go on", || self.resting.load(Ordering::SeqCst) == 0);
    }

    /// What was stored is there, or was removed. More than one look, for what the ticker just removes may
    /// be in one count of two, or in both.
    fn add_up(&self) {
        let fates = self.ledger().count();
        let adds_up = || {
            let stats = self.cache.stats();
            fates.may_have_stored(stats.sessions + stats.removals.total())
        };
        if self.watch.plan.counts_all() && !self.wait("sessions add up at rest", adds_up) {
            self.ledger().fail(format!("{fates:?} and {:?}", self.cache.stats()));
        }
    }

    fn wait(&self, what: &str, is_so: impl FnMut() -> bool) -> bool {
        wait(self.watch, what, is_so)
    }
}

/// Waits until it is so; that it is not when patience is over is a failure.
fn wait(watch: &Watch, what: &str, mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            watch.ledger.fail(format!("waited in vain: {what}"));
            return false;
        }
        watch.wake_all();
        thread::sleep(Duration::from_micros(200));
    }
    true
}

/// Ends a cache that nobody else uses any more. Returns its last statistics, if it was closed.
fn end(
    watch: &Arc<Watch>,
    cache: SessionCache<Payload>,
    scopes: Vec<Sessions<Payload>>,
) -> Option<Stats> {
    let mut stats = None;
    if watch.plan.end == End::Close {
        stats = look_at_end(watch, &cache, &scopes);
    }
    let reach = watch.reach.write().unwrap_or_else(PoisonError::into_inner).take();
    release_kept(watch);
    // Each of these may be the last handle; a payload's drop may end it by a panic.
    for last in [scopes, reach.unwrap_or_default()] {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(last)));
    }
    let _ = catch_unwind(AssertUnwindSafe(|| drop(cache)));
    stats
}

/// What callbacks have kept: one by one, for each drop may panic, and with no lock held.
fn release_kept(watch: &Watch) {
    loop {
        let held = watch.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(held) = held else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(held)));
    }
}

/// A cache that is closed, and that nobody uses, has nothing left.
fn look_at_end(
    watch: &Watch,
    cache: &SessionCache<Payload>,
    scopes: &[Sessions<Payload>],
) -> Option<Stats> {
    let is_manual = watch.plan.callbacks.is_some_and(|plan| plan.dispatch == Dispatch::Manual);
    let is_told = || {
        cache.poll_callbacks();
        cache.stats().callbacks_waiting == 0
    };
    // A removal after the close is told, too, where an external cache may have the session.
    let is_last = !watch.plan.internal_modes && watch.plan.asks.is_none();
    if !is_manual && watch.plan.callbacks.is_some() && is_last {
        let waiting = cache.stats().callbacks_waiting;
        if waiting > 0 {
            watch.ledger.fail(format!("{waiting} calls wait after the close"));
        }
    }
    if !wait(watch, "all is told after the close", is_told) {
        return None;
    }
    // A pin now and then moves the epoch.
    let few_wait = || {
        (0..256).for_each(|number| _ = scopes[0].contains(&id(number)));
        cache.flush_expired();
        cache.stats().headers_waiting <= BAG * cache_threads(&watch.plan)
    };
    wait(watch, "few headers wait after the close", few_wait);
    release_kept(watch);
    // The ticker may just have in hand what was answered to a lookup that was dropped; if that is told, it
    // waits for a poll then.
    let nothing_is_held = || {
        cache.poll_callbacks();
        let stats = cache.stats();
        (stats.held_sessions, stats.held_bytes) == (0, 0)
    };
    wait(watch, "no handle is held after the close", nothing_is_held);
    let stats = cache.stats();
    let is_empty = stats.sessions == 0 && stats.bytes == 0 && cache.iter().next().is_none();
    if !is_empty {
        watch.ledger.fail(format!("after the close: {stats:?}"));
    }
    Some(stats)
}

/// The threads of a cache that has these settings.
fn cache_threads(plan: &Plan) -> u64 {
    let workers = match plan.callbacks.map(|callbacks| callbacks.dispatch) {
        Some(Dispatch::Workers(count)) => count as u64,
        _ => 0,
    };
    workers + u64::from(plan.has_ticker)
}

/// The cache's threads let go of it, and with it go its callbacks, and whatever answer was still waited
/// for: then nobody but this thread knows the round.
fn forget(watch: Arc<Watch>) {
    let is_alone = || {
        // The last calls may be made on a thread of the cache, and keep handles again.
        release_kept(&watch);
        Arc::strong_count(&watch) == 1
    };
    wait(&watch, "the cache, its callbacks and its payloads are gone", is_alone);
    let sample = watch.sample();
    if (sample.alive, sample.bytes, sample.outside, watch.given()) != (0, 0, 0, 0) {
        watch.ledger.fail(format!("after the end: {sample:?}, {} given", watch.given()));
    }
}
