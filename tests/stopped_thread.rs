//! A thread that is stopped at any instruction of an operation stops no other.
//!
//! One thread, the victim, runs a mix of operations: it puts, gets, takes, removes and extends, in
//! caches that evict, expire and grow. A signal stops it at a random instant. Meanwhile each of two
//! other threads, which run the same mix on the same cache, has to complete 10 000 operations, and
//! none of their puts may be refused. The allocator cannot block either (`support/bump.rs`).
//!
//! In half of the caches callbacks are set, which the threads call themselves: then the victim may be
//! stopped with events in its hands. Where a worker calls them, the worker is stopped. There is no get
//! callback: a get that waits for another's answer waits for the other.
//!
//! The same test with a mutex around each operation has to find that the others stand.
#![cfg(target_os = "linux")]

#[path = "support/bump.rs"]
mod bump;
#[path = "support/stop.rs"]
mod stop;
mod support;

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use resumption::{
    Clock, Dispatch, Put, Refusal, Scope, SessionCache, SessionId, Sessions, Verdict,
};

use support::{MINUTE, Random, SECOND, id, wait_until};

#[global_allocator]
static ALLOCATOR: bump::Bump = bump::Bump::new();

/// The signal's state is the process's: one test at a time.
static ONE_TEST: Mutex<()> = Mutex::new(());

/// Instants at which the victim is stopped.
const INSTANTS: u32 = 2_000;
/// Operations that each of the others has to complete meanwhile.
const OPERATIONS: u64 = 10_000;
/// Operations of each of the others before the next stop, at most: enough to meet the victim.
const LEASH: u64 = 500;

/// What a thread is doing; 0 is nothing of the cache's.
const DOINGS: [&str; 8] =
    ["nothing", "put", "put_with", "put_if_absent", "get", "take", "remove", "extend"];

/// A cache in use.
struct Stage {
    cache: SessionCache<u64>,
    sessions: Sessions<u64>,
    clock: Clock,
    ids: u64,
}

/// What the threads share; leaked, for threads that are stopped cannot be borrowed from.
struct Arena {
    stage: AtomicPtr<Stage>,
    /// A cache that no thread uses any more, for one of them to drop.
    retired: AtomicPtr<Stage>,
    is_over: AtomicBool,
    /// The planted bug.
    mutex: Option<Mutex<()>>,
    /// What the victim is doing.
    doing: AtomicU8,
    /// Operations completed: by the victim, then by the others.
    completed: [AtomicU64; 3],
    /// Operations after which a thread waits: it has done enough for this stop.
    allowed: [AtomicU64; 3],
    refused: AtomicU64,
}

/// The threads of a test; they end when this is dropped.
struct Crew {
    arena: &'static Arena,
    victim: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// A thread that did not go on while the victim was stopped.
#[derive(Debug)]
struct Stall {
    doing: &'static str,
    completed: u64,
}

#[test]
fn a_stopped_thread_stops_no_other() {
    let _one = one_test();
    let crew = Crew::new(stage(0, usize::MAX), 2, false);
    let mut hits = [0u32; DOINGS.len()];
    let mut random = Random::new(1);
    for instant in 0..INSTANTS {
        if instant % 2 == 0 {
            crew.change_stage(stage(instant / 2, usize::MAX));
        }
        crew.let_the_victim_run(&mut random);
        let stopped = stop::stop(&crew.victim);
        hits[usize::from(crew.arena.doing.load(Ordering::SeqCst))] += 1;
        let stall = crew.others_complete(OPERATIONS, support::PATIENCE);
        drop(stopped);
        if let Err(stall) = stall {
            let Stall { doing, completed } = stall;
            panic!(
                "a thread stands after {completed} operations while another is stopped in {doing}"
            );
        }
    }
    let refused = crew.arena.refused.load(Ordering::SeqCst);
    eprintln!("completed: {:?}", crew.completed());
    drop(crew);
    eprintln!("stops: {:?}", DOINGS.iter().zip(hits).collect::<Vec<_>>());
    eprintln!("memory: {} MiB", ALLOCATOR.used() >> 20);
    assert_eq!(refused, 0, "puts were refused in caches that had room");
    assert!(hits[0] < INSTANTS / 2, "most stops hit an operation: {hits:?}");
    assert!(hits.iter().all(|&count| count > 0), "each operation was hit: {hits:?}");
}

/// Growth is rare, and short: it takes an ambush to stop a thread there.
#[test]
fn a_thread_that_is_stopped_in_growth_stops_no_other() {
    let _one = one_test();
    let crew = Crew::new(stage(4, usize::MAX), 2, false);
    for _ in 0..100 {
        crew.change_stage(stage(4, usize::MAX));
        // The others wait on their leash soon; the victim's own puts are enough to grow.
        ALLOCATOR.lie_in_ambush();
        let stopped = stop::wait();
        let doing = usize::from(crew.arena.doing.load(Ordering::SeqCst));
        let stall = crew.others_complete(OPERATIONS, support::PATIENCE);
        drop(stopped);
        assert!((1..=3).contains(&doing), "a put grows, not {}", DOINGS[doing]);
        assert!(stall.is_ok(), "a thread stands while another is stopped in growth: {stall:?}");
    }
    assert_eq!(crew.arena.refused.load(Ordering::SeqCst), 0);
}

#[test]
fn with_a_mutex_in_the_way_the_others_stand() {
    let _one = one_test();
    let crew = Crew::new(stage(1, usize::MAX), 2, true);
    let mut random = Random::new(2);
    let stalled = (0..100).any(|_| {
        crew.let_the_victim_run(&mut random);
        let stopped = stop::stop(&crew.victim);
        let stall = crew.others_complete(OPERATIONS, Duration::from_secs(2));
        drop(stopped);
        stall.is_err()
    });
    assert!(stalled, "a hundred stops met no holder of the mutex: this test cannot fail");
}

/// A thread that is stopped under a pin keeps the headers of removed sessions from coming back. At
/// the limit puts are refused; lookups go on; puts do when the thread does.
#[test]
fn headers_that_wait_for_a_stopped_thread_are_bounded() {
    const LIMIT: usize = 2_000;
    let _one = one_test();
    let crew = Crew::new(stage(2, LIMIT), 0, false);
    // SAFETY: the stage is freed by the crew's end only.
    let stage = unsafe { &*crew.arena.stage.load(Ordering::SeqCst) };
    let mut random = Random::new(3);
    let mut key = 1 << 32;
    let stopped = (0..1_000).find_map(|_| {
        crew.let_the_victim_run(&mut random);
        let stopped = stop::stop(&crew.victim);
        // Not every instant is under a pin; where it is not, no put is refused.
        is_refused_within(4 * LIMIT, stage, &mut key).then_some(stopped)
    });
    let stopped = stopped.expect("one of a thousand stops hits a pin");
    let processors = thread::available_parallelism().map_or(1, usize::from).next_power_of_two();
    // Segments of 60 hints wait too: those that hold the hints now, and those that hold them again
    // after a look. A removal looks at 16 hints at most. A list has one segment at least.
    let (lists, in_cache) = (64, stage.cache.len());
    let segments = (stage.cache.stats().hints as usize + 16 * in_cache) / 60 + lists;
    let bound = LIMIT + 32 * processors + in_cache + segments;
    for _ in 0..1_000 {
        key += 1;
        let put = stage.sessions.put(&id(key), key);
        assert!(matches!(put, Put::Refused(Refusal::HeadersWaiting, _)), "{put:?}");
        let waiting = stage.cache.stats().headers_waiting as usize;
        assert!((LIMIT..=bound).contains(&waiting), "{waiting} of {LIMIT}, {bound} at most");
    }
    let found: Vec<_> = stage.cache.iter().collect();
    assert!(!found.is_empty(), "there are sessions to look up");
    for session in &found {
        assert!(stage.sessions.get(session.id()).is_some(), "a lookup goes on");
    }
    for session in found {
        assert!(stage.sessions.take(session.id()).is_some(), "a take goes on");
    }
    let waiting = stage.cache.stats().headers_waiting as usize;
    assert!(waiting <= bound, "{waiting} of {LIMIT}, {bound} at most");
    drop(stopped);
    wait_until("puts are taken again", || stage.sessions.put(&id(7), 7).is_stored());
}

/// A worker that is stopped, in a callback's way or in a callback, stops no put and no take; what it did
/// not come to is told later.
#[test]
fn a_stopped_worker_stops_nobody() {
    const STOPS: u64 = 300;
    let _one = one_test();
    let builder = SessionCache::builder().max_sessions(100).max_waiting_callbacks(usize::MAX);
    let cache: SessionCache<u64> = builder.build().expect("sane settings");
    let worker: Arc<OnceLock<libc::pthread_t>> = Arc::default();
    let (own, told) = (Arc::clone(&worker), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&told);
    let on_new = move |_| {
        // SAFETY: no arguments, and it always succeeds.
        own.get_or_init(|| unsafe { libc::pthread_self() });
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(on_new))).expect("a thread can be started");
    let on_remove = move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).expect("a thread can be started");
    let sessions = cache.scope(&Scope::new("web"));
    let mut next = 0;
    let mut go_on = |steps| {
        for _ in 0..steps {
            next += 1;
            assert!(sessions.put(&id(next), next).is_stored());
            drop(sessions.take(&id(next - next % 7)));
        }
    };
    go_on(1_000);
    wait_until("the worker is there", || worker.get().is_some());
    let worker = *worker.get().expect("it is there");
    for _ in 0..STOPS {
        go_on(100);
        let stopped = stop::stop_pthread(worker);
        go_on(1_000);
        drop(stopped);
    }
    let stats = cache.stats();
    wait_until("all is told", || cache.stats().callbacks_waiting == 0);
    assert_eq!(told.load(Ordering::SeqCst), cache.stats().removals.total());
    assert_eq!(cache.stats().new_called, cache.stats().puts);
    assert!(stats.puts >= STOPS * 1_000, "{stats:?}");
}

/// Puts and takes sessions until a put is refused because headers wait; `false` if none is.
fn is_refused_within(most: usize, stage: &Stage, key: &mut u64) -> bool {
    (0..most).any(|_| {
        *key += 1;
        match stage.sessions.put(&id(*key), *key) {
            Put::Refused(Refusal::HeadersWaiting, _) => return true,
            put => assert!(put.is_stored(), "{put:?}"),
        }
        drop(stage.sessions.take(&id(*key)));
        false
    })
}

fn one_test() -> MutexGuard<'static, ()> {
    stop::install();
    ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new cache, of one of several kinds in turn.
fn stage(kind: u32, max_waiting_headers: usize) -> Box<Stage> {
    let clock = Clock::manual();
    let builder = SessionCache::builder()
        .lifetime(MINUTE)
        .clock(clock.clone())
        .without_ticker()
        .max_waiting_headers(max_waiting_headers)
        .dispatch(Dispatch::Inline)
        .max_waiting_callbacks(usize::MAX);
    let (builder, ids) = match kind % 5 {
        // Evicts all the time.
        0 => (builder.max_sessions(32), 256),
        // Grows, then evicts.
        1 => (builder.max_sessions(1_000), 4_096),
        // Four shards, which evict in batches.
        2 => (builder.max_sessions(40_000), 1 << 20),
        // Limited by bytes.
        3 => (builder.max_bytes(200_000).weigher(|number: &u64| (number % 500) as usize), 4_096),
        // Only expiry removes.
        _ => (builder.unlimited(), 1 << 20),
    };
    let cache = builder.build().expect("sane settings");
    if kind % 10 >= 5 {
        cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).expect("no thread is started");
        cache.set_on_remove(Some(Arc::new(|_| ()))).expect("no thread is started");
    }
    let sessions = cache.scope(&Scope::new("web"));
    Box::new(Stage { cache, sessions, clock, ids })
}

impl Crew {
    fn new(stage: Box<Stage>, others: usize, planted: bool) -> Self {
        let arena: &'static Arena = Box::leak(Box::new(Arena {
            stage: AtomicPtr::new(Box::into_raw(stage)),
            retired: AtomicPtr::default(),
            is_over: AtomicBool::new(false),
            mutex: planted.then(Mutex::default),
            doing: AtomicU8::new(0),
            completed: Default::default(),
            allowed: std::array::from_fn(|_| AtomicU64::new(LEASH)),
            refused: AtomicU64::new(0),
        }));
        arena.allowed[0].store(u64::MAX, Ordering::SeqCst);
        let victim = thread::spawn(|| arena.run(0));
        let others = (1..=others).map(|at| thread::spawn(move || arena.run(at))).collect();
        let crew = Self { arena, victim, others };
        // The first use by a thread registers it with the C library, which takes a lock.
        wait_until("every thread has begun", || crew.completed().iter().all(|&count| count > 100));
        crew
    }

    /// Operations completed by each thread that there is.
    fn completed(&self) -> Vec<u64> {
        let counts = self.arena.completed.iter().take(1 + self.others.len());
        counts.map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// Gives the threads another cache, and lets one of them drop the old one.
    fn change_stage(&self, stage: Box<Stage>) {
        let old = self.arena.stage.swap(Box::into_raw(stage), Ordering::SeqCst);
        let before = self.completed();
        for (allowed, before) in self.arena.allowed.iter().zip(&before).skip(1) {
            allowed.store(before + LEASH, Ordering::SeqCst);
        }
        wait_until("every thread has left the old cache", || {
            self.completed().iter().zip(&before).all(|(now, before)| *now >= before + 2)
        });
        // Every operation reads the pointer anew, so the second one that has ended since the swap
        // has seen the new cache.
        let before = self.arena.retired.swap(old, Ordering::SeqCst);
        assert!(before.is_null(), "the cache before was dropped in 10 000 operations");
    }

    /// Waits for a random number of the victim's operations, and a random while more.
    fn let_the_victim_run(&self, random: &mut Random) {
        let victim = &self.arena.completed[0];
        let goal = victim.load(Ordering::SeqCst) + 1 + random.below(200);
        wait_until("the victim goes on", || {
            for _ in 0..1_000 {
                if victim.load(Ordering::SeqCst) >= goal {
                    return true;
                }
                thread::yield_now();
            }
            false
        });
        for _ in 0..random.below(1_000) {
            std::hint::spin_loop();
        }
    }

    /// Waits until each of the others has completed `operations` more; fails when one of them has
    /// not completed any for as long as `patience`.
    fn others_complete(&self, operations: u64, patience: Duration) -> Result<(), Stall> {
        let before = self.completed();
        for (allowed, before) in self.arena.allowed.iter().zip(&before).skip(1) {
            allowed.store(before + operations + LEASH, Ordering::SeqCst);
        }
        for (at, before) in before.into_iter().enumerate().skip(1) {
            let (mut last, mut since) = (before, Instant::now());
            while last < before + operations {
                thread::sleep(Duration::from_micros(100));
                let now = self.arena.completed[at].load(Ordering::SeqCst);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                if since.elapsed() > patience {
                    let doing = DOINGS[usize::from(self.arena.doing.load(Ordering::SeqCst))];
                    return Err(Stall { doing, completed: last - before });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.arena.is_over.store(true, Ordering::SeqCst);
        wait_until("every thread ends", || {
            self.victim.is_finished() && self.others.iter().all(JoinHandle::is_finished)
        });
        self.arena.drop_retired();
        let last = self.arena.stage.swap(std::ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: made by `Box::into_raw`, and no thread is left that uses it.
        drop(unsafe { Box::from_raw(last) });
    }
}

impl Arena {
    fn run(&self, at: usize) {
        let mut random = Random::new(at as u64);
        if at == 0 {
            ALLOCATOR.is_victim();
        }
        while !self.is_over.load(Ordering::SeqCst) {
            if self.completed[at].load(Ordering::Relaxed)
                >= self.allowed[at].load(Ordering::Relaxed)
            {
                // Leaves the processor to the victim.
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            // SAFETY: a stage is freed when this thread has read the pointer to the next one.
            let stage = unsafe { &*self.stage.load(Ordering::SeqCst) };
            let planted = self.mutex.as_ref().map(|mutex| mutex.lock());
            let refused = stage.operate(&mut random, |doing| {
                if at == 0 {
                    self.doing.store(doing, Ordering::SeqCst);
                }
            });
            drop(planted);
            self.refused.fetch_add(u64::from(refused), Ordering::SeqCst);
            self.completed[at].fetch_add(1, Ordering::SeqCst);
            if !self.retired.load(Ordering::Relaxed).is_null() {
                self.drop_retired();
            }
        }
    }

    fn drop_retired(&self) {
        let retired = self.retired.swap(std::ptr::null_mut(), Ordering::SeqCst);
        if !retired.is_null() {
            // SAFETY: made by `Box::into_raw`; nobody uses it, and the swap gave it to one thread.
            drop(unsafe { Box::from_raw(retired) });
        }
    }
}

impl Stage {
    /// One operation, announced by its place in [`DOINGS`]; `true` if a put was refused.
    fn operate(&self, random: &mut Random, announce: impl Fn(u8)) -> bool {
        let (number, kind) = (random.below(self.ids), random.below(16));
        let id: &SessionId = &id(number);
        let lifetime = SECOND * random.below(90) as u32;
        if random.below(64) == 0 {
            self.clock.advance(Duration::from_millis(random.below(500)));
        }
        let put = match kind {
            0..=4 => {
                announce(1);
                self.sessions.put(id, number)
            }
            5..=6 => {
                announce(2);
                self.sessions.put_with(id, number, lifetime)
            }
            7 => {
                announce(3);
                self.sessions.put_if_absent(id, number)
            }
            _ => {
                self.look_up(id, kind, lifetime, &announce);
                Put::Stored
            }
        };
        let is_refused = matches!(&put, Put::Refused(why, _) if *why != Refusal::Present);
        drop(put);
        announce(0);
        is_refused
    }

    fn look_up(&self, id: &SessionId, kind: u64, lifetime: Duration, announce: &impl Fn(u8)) {
        match kind {
            8..=10 => {
                announce(4);
                drop(self.sessions.get(id));
            }
            11..=12 => {
                announce(5);
                drop(self.sessions.take(id));
            }
            13 => {
                announce(6);
                self.sessions.remove(id);
            }
            _ => {
                announce(7);
                self.sessions.extend(id, lifetime);
            }
        }
    }
}
