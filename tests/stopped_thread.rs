//! A thread that is stopped at any instruction of an operation stops no other.
//!
//! One thread, the victim, runs a mix of operations, in caches that evict, expire and grow. A signal stops
//! it at a random instant. Meanwhile each of two other threads, which use the same cache, has to complete
//! 500 operations, or 5 000, and none of their puts may be refused where there is room. The
//! allocator cannot block either (`support/bump.rs`).
//!
//! First the victim does the calls on one id, then everything else: it sweeps and changes settings, which
//! the documentation says exclude each other, and nothing else. The others sweep too.
//!
//! In three quarters of the caches callbacks are set: the threads call them themselves, at once or when
//! one asks for it, so the victim may be stopped with events in its hands; or a get callback is asked.
//! Then each thread has ids of its own, for of two lookups of one id one waits for the other's answer.
//! Where a worker calls them, the worker is stopped.
//!
//! The same test with a mutex around each operation has to find that the others stand.
//!
//! With `callbacks_stopped.rs` there are 10 400 stops; `RESUMPTION_STOPS=10` makes ten times as many here.
#![cfg(target_os = "linux")]

#[path = "support/bump.rs"]
mod bump;
#[path = "stopped_thread/crew.rs"]
mod crew;
#[path = "support/later.rs"]
mod later;
#[path = "stopped_thread/stage.rs"]
mod stage;
#[path = "support/stop.rs"]
mod stop;
mod support;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{Put, Refusal, Scope, SessionCache, Verdict};

use crew::{Crew, Part};
use stage::{CALLS, DOINGS, KINDS, SETTINGS, SWEEPS, Stage, payload, stage};
use support::{Random, id, wait_until};

#[global_allocator]
static ALLOCATOR: bump::Bump = bump::Bump::new();

/// The signal's state is the process's: one test at a time.
static ONE_TEST: Mutex<()> = Mutex::new(());

/// Instants at which the victim is stopped in calls on one id, and in everything else.
const STOPS: [u32; 2] = [4_000, 3_000];
/// Operations that each of the others has to complete meanwhile; after one stop in ten, ten times as many.
const OPERATIONS: u64 = 500;
/// How long a thread is stopped under a pin.
const LONG: Duration = Duration::from_secs(3);

#[test]
fn a_stopped_thread_stops_no_other() {
    let _one = one_test();
    let (hits, refused) = stop_again_and_again(Part::Calls, KINDS);
    assert_eq!(refused, 0, "puts were refused in caches that had room");
    for (doing, count) in DOINGS.iter().zip(&hits).take(CALLS.end as usize) {
        assert!(*count > 0, "each call was hit, but for {doing}: {hits:?}");
    }
}

/// Sweeps and changes of settings hold the places of up to 256 sessions while they let those go, and a put
/// in a small cache may be refused then.
#[test]
fn a_thread_that_is_stopped_in_a_sweep_or_a_setting_stops_no_other() {
    let _one = one_test();
    let (hits, refused) = stop_again_and_again(Part::Everything, KINDS);
    println!("puts refused: {refused}");
    let rare = hits[SWEEPS.start as usize..].iter().sum::<u32>();
    assert!(rare > STOPS[1] / 3, "many stops hit what is rare: {hits:?}");
    for (doing, count) in DOINGS.iter().zip(&hits) {
        // These take less time than a signal.
        let is_short = ["stats", "set_lifetime"].contains(doing);
        assert!(*count > 0 || is_short, "each operation was hit, but for {doing}: {hits:?}");
    }
    assert_eq!(hits.len() as u64, SETTINGS.end);
}

/// Stops the victim in caches of each kind; returns how often it was doing what, and how many puts were
/// refused.
fn stop_again_and_again(part: Part, kinds: u32) -> ([u32; DOINGS.len()], u64) {
    let stops = STOPS[part as usize] * stops_factor();
    let mut crew = Crew::new(stage(0, usize::MAX), 2, part, false);
    let mut hits = [0u32; DOINGS.len()];
    let mut random = Random::new(1);
    for instant in 0..stops {
        if instant % 2 == 0 {
            crew.change_stage(stage(instant / 2 % kinds, usize::MAX));
        }
        crew.let_the_victim_run(&mut random);
        let stopped = stop::stop(&crew.victim);
        hits[crew.doing()] += 1;
        let operations = if instant % 10 == 0 { 10 * OPERATIONS } else { OPERATIONS };
        let stall = crew.others_complete(operations, support::PATIENCE);
        drop(stopped);
        assert!(stall.is_ok(), "a thread stands while another is stopped: {stall:?}");
    }
    let refused = crew.refused();
    println!("completed: {:?}", crew.completed());
    drop(crew);
    println!("stops: {:?}", DOINGS.iter().zip(hits).collect::<Vec<_>>());
    println!("memory: {} MiB", ALLOCATOR.used() >> 20);
    assert!(hits[0] < stops / 2, "most stops hit an operation: {hits:?}");
    (hits, refused)
}

fn stops_factor() -> u32 {
    let factor = std::env::var("RESUMPTION_STOPS").ok();
    factor.map_or(1, |factor| factor.parse().expect("RESUMPTION_STOPS is a number"))
}

/// Growth is rare, and short: it takes an ambush to stop a thread there.
#[test]
fn a_thread_that_is_stopped_in_growth_stops_no_other() {
    let _one = one_test();
    let mut crew = Crew::new(stage(4, usize::MAX), 2, Part::Calls, false);
    for _ in 0..100 {
        let stopped = stop_in_growth(&mut crew);
        let doing = crew.doing();
        let stall = crew.others_complete(OPERATIONS, support::PATIENCE);
        drop(stopped);
        assert!((1..=4).contains(&doing), "a put grows, not {}", DOINGS[doing]);
        assert!(stall.is_ok(), "a thread stands while another is stopped in growth: {stall:?}");
    }
    assert_eq!(crew.refused(), 0);
}

/// A table grows until as many sessions expire as come: if the victim was there before the ambush, it
/// gets another cache.
fn stop_in_growth(crew: &mut Crew) -> stop::Stopped {
    /// Operations of the victim's in which a new cache grows.
    const MOST: u64 = 20_000;
    loop {
        crew.change_stage(stage(4, usize::MAX));
        ALLOCATOR.lie_in_ambush();
        let before = crew.completed()[0];
        // The others wait on their leash soon; the victim's own puts are enough to grow.
        let is_over = || crew.completed()[0] > before + MOST && ALLOCATOR.call_off();
        if let Some(stopped) = stop::wait(is_over) {
            return stopped;
        }
    }
}

#[test]
fn with_a_mutex_in_the_way_the_others_stand() {
    let _one = one_test();
    let crew = Crew::new(stage(1, usize::MAX), 2, Part::Calls, true);
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

/// A thread that is stopped under a pin keeps the headers of removed sessions from coming back. At the
/// limit puts are refused; everything else goes on, for as long as it takes, in bounded memory; puts do
/// when the thread does.
#[test]
fn headers_that_wait_for_a_stopped_thread_are_bounded() {
    const LIMIT: usize = 2_000;
    let _one = one_test();
    let crew = Crew::new(stage(2, LIMIT), 2, Part::Calls, false);
    let stage = crew.stage();
    let mut key = 1 << 32;
    crew.let_the_others_rest();
    let stopped = stop_under_a_pin(&crew, LIMIT, &mut key);
    let bound = bound_of(stage, LIMIT);
    for _ in 0..1_000 {
        key += 1;
        let put = stage.sessions.put(&id(key), payload(key));
        assert!(matches!(put, Put::Refused(Refusal::HeadersWaiting, _)), "{put:?}");
        let waiting = stage.cache.stats().headers_waiting as usize;
        assert!((LIMIT..=bound).contains(&waiting), "{waiting} of {LIMIT}, {bound} at most");
    }
    let found: Vec<_> = stage.cache.iter().take(1_000).map(|session| *session.id()).collect();
    assert!(found.len() == 1_000, "there are sessions to look up");
    let memory = ALLOCATOR.in_use();
    for id in found {
        assert!(stage.sessions.get(&id).is_some(), "a lookup goes on");
        assert!(stage.sessions.take(&id).is_some(), "a take goes on");
        assert!(!stage.sessions.put(&id, payload(0)).is_stored());
    }
    // The epoch's bags have room for 64 headers, and are as large when there are fewer in them.
    assert!(ALLOCATOR.in_use() < memory + (1 << 19), "{memory} bytes, and then {ALLOCATOR:?}");
    go_on_for_long(&crew, LIMIT..=bound);
    drop(stopped);
    wait_until("headers come back, and puts are taken", || {
        stage.sessions.put(&id(7), payload(7)).is_stored()
            && (stage.cache.stats().headers_waiting as usize) < LIMIT
    });
    crew.let_the_others_rest();
}

/// The others go on for long, though their puts are refused; so many headers wait meanwhile.
fn go_on_for_long(crew: &Crew, bounds: RangeInclusive<usize>) {
    /// The room of a bag of the epoch's: once little is left to be removed, few headers come into one.
    const BAG: usize = 4_096;
    let waiting = || crew.stage().cache.stats().headers_waiting as usize;
    let (refused, start, memory) = (crew.refused(), Instant::now(), ALLOCATOR.in_use());
    let most_memory = memory + (bounds.end() - waiting()) * BAG;
    while start.elapsed() < LONG {
        let stall = crew.others_complete(OPERATIONS, support::PATIENCE);
        assert!(stall.is_ok(), "a thread stands while another is stopped under a pin: {stall:?}");
        assert!(bounds.contains(&waiting()), "{} headers wait, {bounds:?} may", waiting());
        assert!(ALLOCATOR.in_use() < most_memory, "{most_memory} bytes, and now {ALLOCATOR:?}");
    }
    let refused = crew.refused() - refused;
    assert!(refused > OPERATIONS, "the others' puts are refused: {refused}");
}

/// Stops the victim under a pin: then so many headers wait in the end that a put is refused.
fn stop_under_a_pin(crew: &Crew, limit: usize, key: &mut u64) -> stop::Stopped {
    let mut random = Random::new(3);
    let stopped = (0..1_000).find_map(|_| {
        crew.let_the_victim_run(&mut random);
        let stopped = stop::stop(&crew.victim);
        // Not every instant is under a pin; where it is not, no put is refused.
        is_refused_within(4 * limit, crew.stage(), key).then_some(stopped)
    });
    stopped.expect("one of a thousand stops hits a pin")
}

/// How many headers may wait once the limit is met.
fn bound_of(stage: &Stage, limit: usize) -> usize {
    /// Threads that may be inside a put then, each with a session and the hints that it looks at.
    const THREADS: usize = 4;
    let processors = thread::available_parallelism().map_or(1, usize::from).next_power_of_two();
    // Segments of 60 hints wait too: those that hold the hints now, and those that hold them again
    // after a look. A removal looks at 16 hints at most. A list has one segment at least.
    let (lists, in_cache) = (64, stage.cache.len());
    let segments = (stage.cache.stats().hints as usize + 16 * in_cache) / 60 + lists;
    limit + 32 * processors + in_cache + segments + 32 * THREADS
}

/// A worker that is stopped, in a callback's way or in a callback, stops no put and no take; what it did
/// not come to is told later.
#[test]
fn a_stopped_worker_stops_nobody() {
    const STOPS: u64 = 300;
    let _one = one_test();
    let builder = SessionCache::builder().max_sessions(100).max_waiting_callbacks(usize::MAX);
    let cache: SessionCache = builder.build().expect("sane settings");
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
            assert!(sessions.put(&id(next), payload(next)).is_stored());
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
        match stage.sessions.put(&id(*key), payload(*key)) {
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
