//! Attacks on the callbacks' promises: more threads than processors, every way out, random yields.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{
    Clock, Dispatch, NewSession, Reason, Removals, RemovedSession, Scope, SessionCache, SessionId,
    Sessions, Verdict,
};

const MINUTE: Duration = Duration::from_secs(60);
/// How long a test waits for what has to come, before it fails.
const PATIENCE: Duration = MINUTE;
const STRIPES: usize = 64;

/// The threads are the process's, and one test counts them: one test at a time.
static ONE_TEST: Mutex<()> = Mutex::new(());

fn one_test() -> MutexGuard<'static, ()> {
    ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rounds() -> u64 {
    let rounds = std::env::var("RESUMPTION_ATTACK_ROUNDS").ok();
    rounds.map_or(2, |rounds| {
        let rounds: std::num::NonZero<u64> = rounds.parse().expect("a number of rounds");
        rounds.get()
    })
}

fn id(number: u64) -> SessionId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from(bytes)
}

fn number(id: &SessionId) -> u64 {
    let bytes: &[u8] = id.as_ref();
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Headers that wait when all is over: up to 64 of each thread that removes nothing more (three workers, the ticker,
/// and this one), and as many again, for segments.
const MOST_IDLE: u64 = 2 * 5 * 64;

/// A payload that is counted, and knows whether it was dropped.
struct Payload {
    serial: u64,
    alive: Arc<AtomicI64>,
    canary: AtomicU64,
}

const ALIVE: u64 = 0xa11e_a11e_a11e_a11e;

impl Payload {
    fn new(serial: u64, alive: &Arc<AtomicI64>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self { serial, alive: Arc::clone(alive), canary: AtomicU64::new(ALIVE) }
    }

    fn check(&self) {
        assert_eq!(self.canary.load(SeqCst), ALIVE, "a payload is used after its drop");
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // First: the cache may contain the panic, and then there is one too few.
        self.alive.fetch_sub(1, SeqCst);
        assert_eq!(self.canary.swap(0, SeqCst), ALIVE, "a payload is dropped twice");
    }
}

#[derive(Default)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What follows the calls: what is held by (scope, id), and what went wrong.
#[derive(Default)]
struct Ledger {
    held: Vec<Mutex<HashMap<(String, u64), u64>>>,
    wrong: Mutex<Vec<String>>,
    reasons: Mutex<HashMap<Reason, u64>>,
    calls: AtomicU64,
    /// Calls that are being made, by id: there is one at most.
    busy: Mutex<HashMap<(String, u64), ()>>,
}

impl Ledger {
    fn new() -> Arc<Self> {
        let held = (0..STRIPES).map(|_| Mutex::default()).collect();
        Arc::new(Self { held, ..Self::default() })
    }

    fn stripe(&self, number: u64) -> &Mutex<HashMap<(String, u64), u64>> {
        &self.held[number as usize % STRIPES]
    }

    fn complain(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn came(&self, new: &NewSession<Payload>) {
        let (number, payload) = (number(new.session().id()), new.session().payload());
        payload.check();
        let key = (new.scope().name().to_owned(), number);
        if self.busy.lock().unwrap().insert(key.clone(), ()).is_some() {
            self.complain(format!("two calls of {key:?} at once"));
        }
        if self.calls.fetch_add(1, SeqCst).is_multiple_of(3) {
            thread::yield_now();
        }
        let before = self.stripe(number).lock().unwrap().insert(key.clone(), payload.serial);
        if let Some(before) = before {
            self.complain(format!("new {key:?} {} before the end of {before}", payload.serial));
        }
        self.busy.lock().unwrap().remove(&key);
    }

    fn left(&self, removed: &RemovedSession<Payload>) {
        let (number, payload) = (number(removed.id()), removed.session().unwrap().payload());
        payload.check();
        let key = (removed.scope().name().to_owned(), number);
        if self.busy.lock().unwrap().insert(key.clone(), ()).is_some() {
            self.complain(format!("two calls of {key:?} at once"));
        }
        if self.calls.fetch_add(1, SeqCst).is_multiple_of(3) {
            thread::yield_now();
        }
        let before = self.stripe(number).lock().unwrap().remove(&key);
        if before != Some(payload.serial) {
            let (serial, reason) = (payload.serial, removed.reason());
            self.complain(format!("removed {key:?} {serial} {reason:?}, held was {before:?}"));
        }
        *self.reasons.lock().unwrap().entry(removed.reason()).or_default() += 1;
        self.busy.lock().unwrap().remove(&key);
    }

    fn all(&self) -> HashMap<(String, u64), u64> {
        self.held.iter().flat_map(|held| held.lock().unwrap().clone()).collect()
    }
}

struct Stage {
    cache: SessionCache<Payload>,
    scopes: Vec<Sessions<Payload>>,
    clock: Clock,
    alive: Arc<AtomicI64>,
    serial: AtomicU64,
    ids: u64,
}

fn stage(max: usize, dispatch: Dispatch, lifetime: Duration, ids: u64) -> Stage {
    let clock = Clock::manual();
    let cache = SessionCache::builder()
        .max_sessions(max)
        .lifetime(lifetime)
        .clock(clock.clone())
        .dispatch(dispatch)
        .ticker(Duration::from_millis(3))
        .build()
        .unwrap();
    let scopes = ["a", "b", "c"].map(|name| cache.scope(&Scope::new(name))).into();
    Stage { cache, scopes, clock, alive: Arc::default(), serial: AtomicU64::new(1), ids }
}

impl Stage {
    fn payload(&self) -> Payload {
        Payload::new(self.serial.fetch_add(1, SeqCst), &self.alive)
    }

    fn step(&self, random: &mut Random, wild: bool) {
        let web = &self.scopes[random.next() as usize % self.scopes.len()];
        let id = id(random.next() % self.ids);
        match random.next() >> 20 & 63 {
            0..8 => drop(web.take(&id)),
            8..14 => drop(web.remove(&id)),
            14..18 => drop(web.remove_faulty(&id)),
            18..24 => drop(web.put_if_absent(&id, self.payload())),
            24..30 => {
                if let Some(session) = web.get(&id) {
                    session.payload().check();
                }
            }
            30..33 => drop(web.extend(&id, Duration::from_millis(random.next() % 200))),
            33..36 => {
                drop(web.put_with(&id, self.payload(), Duration::from_millis(random.next() % 50)))
            }
            36 => self.clock.advance(Duration::from_millis(random.next() % 20)),
            37 if wild => match random.next() >> 9 & 31 {
                0 => drop(self.cache.flush()),
                1 => drop(self.cache.flush_expired()),
                2 => drop(self.cache.retain(|session| session.payload().serial % 3 > 0)),
                3 => drop(self.cache.poll_callbacks()),
                4 => self.cache.iter().take(50).for_each(|session| session.payload().check()),
                _ => thread::yield_now(),
            },
            _ => drop(web.put(&id, self.payload())),
        }
        if random.next() >> 11 & 15 == 0 {
            thread::yield_now();
        }
    }

    fn threads(&self, threads: u64, steps: u64, wild: bool, seed: u64) {
        thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut random =
                        Random(((seed << 8) | (thread + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    for _ in 0..steps {
                        self.step(&mut random, wild);
                    }
                });
            }
        });
    }
}

impl Ledger {
    /// What was told is what the cache has counted, reason by reason.
    fn agrees(&self, removals: &Removals, what: &str) {
        let reasons = self.reasons.lock().unwrap();
        for (reason, count) in [
            (Reason::Expired, removals.expired),
            (Reason::Evicted, removals.evicted),
            (Reason::Replaced, removals.replaced),
            (Reason::Removed, removals.removed),
            (Reason::Faulty, removals.faulty),
            (Reason::Taken, removals.taken),
            (Reason::Flushed, removals.flushed),
            (Reason::Rejected, removals.rejected),
            (Reason::Closed, removals.closed),
        ] {
            let told = reasons.get(&reason).copied().unwrap_or(0);
            assert_eq!(told, count, "{what}: {reason:?} {removals:?}");
        }
    }
}

#[test]
fn a_ledger_by_scope_and_id_follows_every_way_out() {
    let _one = one_test();
    let kinds = [Dispatch::Workers(1), Dispatch::Workers(3), Dispatch::Inline];
    let sizes = [(60, 200), (1_000, 3_000), (200_000, 3_000), (20_000, 40)];
    for round in 0..rounds() {
        for (dispatch, (max, ids)) in kinds.iter().flat_map(|&kind| sizes.map(|size| (kind, size)))
        {
            let stage = stage(max, dispatch, Duration::from_millis(200), ids);
            let ledger = Ledger::new();
            let (new, left) = (Arc::clone(&ledger), Arc::clone(&ledger));
            stage
                .cache
                .set_on_new(Some(Arc::new(move |told| {
                    new.came(&told);
                    let serial = told.session().payload().serial;
                    match serial % 11 {
                        0 => Verdict::Reject,
                        1 if serial % 1_000 == 1 => std::panic::resume_unwind(Box::new(())),
                        _ => Verdict::Keep,
                    }
                })))
                .unwrap();
            stage.cache.set_on_remove(Some(Arc::new(move |told| left.left(&told)))).unwrap();
            stage.threads(8, 6_000, true, round);
            let what = format!("{dispatch:?}, {max}, {ids}");
            wait(&what, || stage.cache.stats().callbacks_waiting == 0);
            // A last callback may be at its end.
            let held = || stage.cache.stats().held_sessions;
            wait(&format!("{what}: held {}", held()), || held() == 0);
            assert_eq!(*ledger.wrong.lock().unwrap(), [""; 0], "{what}");
            stage.cache.close();
            assert!(ledger.all().is_empty(), "{what}");
            let stats = stage.cache.stats();
            assert_eq!(
                (stats.new_called, stats.remove_called),
                (stats.puts, stats.removals.total())
            );
            ledger.agrees(&stats.removals, &what);
            wait("payloads", || stage.alive.load(SeqCst) == 0);
            wait(&format!("{what}: headers"), || {
                stage.cache.flush();
                stage.cache.stats().headers_waiting < MOST_IDLE
            });
            assert_eq!(stage.cache.stats().held_sessions, 0);
        }
    }
}

#[test]
fn callbacks_may_be_set_and_unset_at_any_time() {
    let _one = one_test();
    for round in 0..rounds() * 3 {
        for dispatch in [Dispatch::Workers(2), Dispatch::Inline] {
            let stage = stage(500, dispatch, Duration::from_millis(100), 1_500);
            // Serials: bit 0 told as new, bit 1 as removed.
            let told: Arc<Mutex<HashMap<u64, u8>>> = Arc::default();
            let wrong = Arc::new(AtomicU64::new(0));
            let (new, left) = (Arc::clone(&told), Arc::clone(&told));
            let (wrong_new, wrong_left) = (Arc::clone(&wrong), Arc::clone(&wrong));
            let over = AtomicBool::new(false);
            let on_new: Arc<resumption::OnNew<Payload>> =
                Arc::new(move |told: NewSession<Payload>| {
                    told.session().payload().check();
                    let serial = told.session().payload().serial;
                    if new.lock().unwrap().insert(serial, 1).is_some() {
                        wrong_new.fetch_add(1, SeqCst);
                    }
                    if serial.is_multiple_of(7) { Verdict::Reject } else { Verdict::Keep }
                });
            let on_remove: Arc<resumption::OnRemove<Payload>> =
                Arc::new(move |told: RemovedSession<Payload>| {
                    told.session().unwrap().payload().check();
                    let mut map = left.lock().unwrap();
                    let bits = map.entry(told.session().unwrap().payload().serial).or_default();
                    if *bits & 2 != 0 {
                        wrong_left.fetch_add(1, SeqCst);
                    }
                    *bits |= 2;
                });
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut random = Random(round + 99);
                    while !over.load(SeqCst) {
                        let bits = random.next() >> 30;
                        let new = (bits & 1 != 0).then(|| Arc::clone(&on_new));
                        let remove = (bits & 2 != 0).then(|| Arc::clone(&on_remove));
                        stage.cache.set_on_new(new).unwrap();
                        stage.cache.set_on_remove(remove).unwrap();
                        if bits & 28 == 0 {
                            thread::sleep(Duration::from_micros(300));
                        }
                    }
                });
                stage.threads(6, 10_000, true, round);
                over.store(true, SeqCst);
            });
            stage.cache.set_on_new(None).unwrap();
            stage.cache.set_on_remove(None).unwrap();
            assert_eq!(wrong.load(SeqCst), 0, "{dispatch:?}");
            stage.cache.poll_callbacks();
            stage.cache.close();
            wait("payloads", || stage.alive.load(SeqCst) == 0);
            wait("held", || stage.cache.stats().held_sessions == 0);
            let stats = stage.cache.stats();
            // What they assert themselves.
            assert_eq!((stats.callbacks_waiting, stats.callbacks_panicked), (0, 0), "{dispatch:?}");
        }
    }
}

/// How many threads of this process serve callbacks.
#[cfg(target_os = "linux")]
fn workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("resumption-call"))
        .count()
}

/// The cache is dropped by whoever is last: the test, a worker in a call, or the callback itself.
#[test]
#[cfg(target_os = "linux")]
fn every_session_is_told_and_every_thread_ends_when_the_cache_is_dropped() {
    let _one = one_test();
    for round in 0..rounds() * 200 {
        let kind = [Dispatch::Workers(1), Dispatch::Workers(4), Dispatch::Inline, Dispatch::Manual];
        let dispatch = kind[round as usize % 4];
        let stage = stage(if round % 3 == 0 { 100_000 } else { 1_000 }, dispatch, MINUTE, 1_000);
        let Stage { cache, scopes, alive, .. } = stage;
        let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let (new, left) = (Arc::clone(&counts), Arc::clone(&counts));
        // Handles that a callback drops.
        let handles = Arc::new(Mutex::new(Some((cache.clone(), scopes.clone()))));
        let at = round % 97;
        cache
            .set_on_new(Some(Arc::new(move |told| {
                told.session().payload().check();
                if new.0.fetch_add(1, SeqCst) == at {
                    thread::sleep(Duration::from_micros(at * 3));
                    drop(handles.lock().unwrap().take());
                }
                Verdict::Keep
            })))
            .unwrap();
        cache
            .set_on_remove(Some(Arc::new(move |told| {
                told.session().unwrap().payload().check();
                left.1.fetch_add(1, SeqCst);
            })))
            .unwrap();
        for number in 0..100 {
            assert!(scopes[0].put(&id(number), Payload::new(number, &alive)).is_stored());
            if number % 5 == round % 5 {
                drop(scopes[0].take(&id(number / 2)));
            }
        }
        if dispatch == Dispatch::Manual {
            cache.poll_callbacks();
        }
        drop(cache);
        drop(scopes);
        wait(&format!("round {round}, {dispatch:?}: told {counts:?}"), || {
            (counts.0.load(SeqCst), counts.1.load(SeqCst)) == (100, 100)
        });
        wait("payloads", || alive.load(SeqCst) == 0);
    }
    wait("the workers end", || workers() == 0);
}

#[test]
fn a_close_beside_puts_and_takes_loses_nothing() {
    let _one = one_test();
    for round in 0..rounds() * 60 {
        let dispatch =
            [Dispatch::Workers(1), Dispatch::Workers(2), Dispatch::Inline][round as usize % 3];
        let stage = stage([100, 100_000][round as usize % 2], dispatch, MINUTE, 300);
        let ledger = Ledger::new();
        let (new, left) = (Arc::clone(&ledger), Arc::clone(&ledger));
        let closer = stage.cache.clone();
        let at = 50 + round * 13 % 500;
        let calls = AtomicU64::new(0);
        stage
            .cache
            .set_on_new(Some(Arc::new(move |told| {
                new.came(&told);
                if calls.fetch_add(1, SeqCst) == at {
                    closer.close();
                    closer.set_max_sessions(10);
                    closer.flush();
                    closer.poll_callbacks();
                }
                Verdict::Keep
            })))
            .unwrap();
        stage.cache.set_on_remove(Some(Arc::new(move |told| left.left(&told)))).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_micros(round * 37 % 3_000));
                stage.cache.close();
            });
            scope.spawn(|| stage.threads(6, 300, true, round));
        });
        stage.cache.close();
        assert_eq!(*ledger.wrong.lock().unwrap(), [""; 0], "{dispatch:?}");
        assert!(ledger.all().is_empty(), "{dispatch:?}");
        let stats = stage.cache.stats();
        assert_eq!((stats.new_called, stats.remove_called), (stats.puts, stats.removals.total()));
        wait("payloads", || stage.alive.load(SeqCst) == 0);
        stage.cache.set_on_new(None).unwrap();
    }
}

/// A worker that goes to sleep between two calls is woken for the next one.
#[test]
fn no_wake_up_is_lost() {
    let _one = one_test();
    for workers in [1, 2, 5] {
        let stage = stage(100_000, Dispatch::Workers(workers), MINUTE, 300);
        let told = Arc::new(AtomicU64::new(0));
        let (new, left) = (Arc::clone(&told), Arc::clone(&told));
        stage
            .cache
            .set_on_new(Some(Arc::new(move |_| {
                new.fetch_add(1, SeqCst);
                Verdict::Keep
            })))
            .unwrap();
        stage
            .cache
            .set_on_remove(Some(Arc::new(move |_| {
                left.fetch_add(1, SeqCst);
            })))
            .unwrap();
        let mut random = Random(workers as u64);
        let mut made = 0;
        for step in 0..rounds() * 5_000 {
            let web = &stage.scopes[step as usize % 3];
            assert!(web.put(&id(step), stage.payload()).is_stored());
            for _ in 0..random.next() % 300 {
                std::hint::spin_loop();
            }
            assert!(web.take(&id(step)).is_some());
            made += 2;
            if random.next() & 1 == 0 {
                continue;
            }
            let start = Instant::now();
            while told.load(SeqCst) < made {
                assert!(start.elapsed() < PATIENCE, "step {step}: {} of {made}", told.load(SeqCst));
                thread::yield_now();
            }
        }
    }
}

/// A payload whose drop panics now and then.
struct Bomb(u64, Arc<AtomicI64>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.1.fetch_sub(1, SeqCst);
        if self.0.is_multiple_of(5) && !thread::panicking() {
            std::panic::resume_unwind(Box::new(()));
        }
    }
}

#[test]
fn payloads_that_panic_in_their_drop_are_told_too() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let _one = one_test();
    for round in 0..rounds() * 3 {
        for dispatch in [Dispatch::Workers(2), Dispatch::Inline] {
            let clock = Clock::manual();
            let cache: SessionCache<Bomb> = SessionCache::builder()
                .max_sessions(100)
                .lifetime(Duration::from_millis(100))
                .clock(clock.clone())
                .ticker(Duration::from_millis(2))
                .dispatch(dispatch)
                .build()
                .unwrap();
            let web = cache.scope(&Scope::new("web"));
            cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).unwrap();
            cache.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
            let alive = Arc::new(AtomicI64::new(0));
            thread::scope(|scope| {
                for thread in 0..6 {
                    let (web, clock, alive) = (&web, &clock, &alive);
                    scope.spawn(move || {
                        let mut random =
                            Random((round * 8 + thread + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                        for _ in 0..5_000 {
                            let id = id(random.next() % 300);
                            let what = random.next() >> 20 & 15;
                            let _ = catch_unwind(AssertUnwindSafe(|| match what {
                                0..2 => drop(web.take(&id)),
                                2..4 => drop(web.remove(&id)),
                                4 => clock.advance(Duration::from_millis(3)),
                                _ => {
                                    alive.fetch_add(1, SeqCst);
                                    drop(web.put(&id, Bomb(random.next() >> 7, Arc::clone(alive))));
                                }
                            }));
                        }
                    });
                }
            });
            // One whose removal was told before its last reference went goes here, and closing goes on with its panic.
            while catch_unwind(AssertUnwindSafe(|| cache.close())).is_err() {}
            wait("held", || cache.stats().held_sessions == 0 && alive.load(SeqCst) == 0);
            let stats = cache.stats();
            assert_eq!(stats.new_called, stats.puts, "{dispatch:?}");
            assert_eq!(stats.remove_called, stats.removals.total(), "{dispatch:?}");
            assert_eq!((cache.len(), cache.bytes()), (0, 0), "{dispatch:?}");
        }
    }
}
