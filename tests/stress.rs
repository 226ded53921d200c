//! More threads than processors on few ids, for a while; then everything has to add up.
//!
//! Each payload knows its id, its version and whether it is whole, and is counted while it is alive
//! ([`support::Census`]). A test that claims something of threads that meet shows that they met.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{Clock, Put, Refusal, Scope, Session, SessionCache, Sessions};

use support::{Census, HOUR, PATIENCE, Payload, Random, SECOND, id, number};

/// More than processors.
fn threads() -> u64 {
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    (2 * processors).max(8)
}

const MOST_WEIGHT: u64 = 500;
/// How long the threads run at least; where that is too short for what a test wants to see, until it has seen that.
const WHILE: Duration = Duration::from_millis(1_500);

/// Threads that run until the time is over.
struct Crew {
    start: Barrier,
    is_over: AtomicBool,
    census: Arc<Census>,
}

impl Crew {
    fn new(threads: u64) -> Self {
        let start = Barrier::new(threads as usize);
        Self { start, is_over: AtomicBool::new(false), census: Arc::default() }
    }

    /// Runs `work` over and over in each of `threads` threads, with numbers of its own, and `watch`
    /// in the calling one, which is told how often the work was done, and tells whether enough was seen.
    /// Ends then, but not before [`WHILE`] is over; fails when patience is.
    #[track_caller]
    fn run(
        &self,
        threads: u64,
        work: impl Fn(u64, &mut Random) + Sync,
        mut watch: impl FnMut(u64) -> bool,
    ) {
        let turns = AtomicU64::new(0);
        let has_seen_enough = thread::scope(|scope| {
            for at in 0..threads {
                let (work, turns) = (&work, &turns);
                scope.spawn(move || {
                    let mut random = Random::new(at);
                    self.start.wait();
                    while !self.is_over.load(Ordering::Relaxed) {
                        work(at, &mut random);
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let _over = OverWhenDropped(&self.is_over);
            let start = Instant::now();
            loop {
                let is_enough = watch(turns.load(Ordering::Relaxed));
                let passed = start.elapsed();
                if passed >= WHILE && (is_enough || passed >= PATIENCE) {
                    return is_enough;
                }
            }
        });
        assert!(has_seen_enough, "too little was seen of {turns:?} operations");
    }

    fn payload(&self, id: u64, version: u64, weight: usize) -> Payload {
        Payload::new(&self.census, id, version, weight)
    }
}

/// Ends the threads also when the watcher panics.
struct OverWhenDropped<'a>(&'a AtomicBool);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A cache that weighs payloads, with a clock of its own.
fn cache(
    max_sessions: usize,
    max_bytes: usize,
) -> (SessionCache<Payload>, Sessions<Payload>, Clock) {
    let clock = Clock::manual();
    let cache = SessionCache::builder()
        .max_sessions(max_sessions)
        .max_bytes(max_bytes)
        .weigher(|payload: &Payload| payload.weight)
        .lifetime(HOUR)
        .clock(clock.clone())
        .without_ticker()
        // A busy machine may take the processor from a pinned thread for longer than it takes the
        // others to remove as many sessions as the default limit lets wait.
        .max_waiting_headers(usize::MAX)
        .build()
        .expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    (cache, web, clock)
}

/// Nothing is counted twice or lost once the threads rest.
#[track_caller]
fn assert_adds_up(cache: &SessionCache<Payload>, census: &Census) {
    let stats = cache.stats();
    // Every payload was given to a put.
    assert_eq!(census.born() as u64, stats.puts + stats.refused, "a put is not counted, or twice");
    assert_eq!((stats.held_sessions, stats.held_bytes), (0, 0));
    assert_eq!(census.alive(), stats.sessions as i64, "a payload was leaked");
    assert_eq!(census.bytes(), stats.bytes as i64);
    cache.flush_expired();
    assert_eq!(cache.iter().count(), cache.len());
    cache.flush();
    assert_eq!((cache.len(), cache.bytes(), census.alive(), census.bytes()), (0, 0, 0, 0));
}

/// Any operation on one of a few ids; what is found has to be whole. At any instant the thread has
/// one payload or handle at most that the cache does not answer for.
fn mixed(crew: &Crew, web: &Sessions<Payload>, clock: &Clock, ids: u64, random: &mut Random) {
    let key = random.below(ids);
    let new =
        |random: &mut Random| crew.payload(key, random.next(), random.below(MOST_WEIGHT) as usize);
    let whole = |session: Option<Session<Payload>>| {
        if let Some(session) = session {
            assert_eq!(number(session.id()), key);
            session.payload().assert_whole(key);
        }
    };
    let put = match random.below(16) {
        0..=3 => web.put(&id(key), new(random)),
        4 => web.put_with(&id(key), new(random), SECOND * random.below(5) as u32),
        5 => web.put_if_absent(&id(key), new(random)),
        6..=8 => return whole(web.get(&id(key))),
        9..=11 => return whole(web.take(&id(key))),
        12..=13 => {
            web.remove(&id(key));
            return;
        }
        14 => {
            web.extend(&id(key), SECOND * random.below(100) as u32);
            return;
        }
        _ => return clock.advance(Duration::from_millis(random.below(20))),
    };
    match put {
        Put::Stored => {}
        Put::Replaced(old) => whole(Some(old)),
        Put::Refused(Refusal::Full | Refusal::Present, back) => back.assert_whole(key),
        put => panic!("{put:?}"),
    }
}

/// Payloads alive, less those that handles hold: each thread holds one at most ([`mixed`]).
#[test]
fn payloads_alive_never_exceed_the_limit_on_sessions() {
    const MOST: i64 = 50;
    let crew = Crew::new(threads());
    let (cache, web, clock) = cache(MOST as usize, usize::MAX);
    let (mut most, mut samples) = (0, 0u64);
    crew.run(
        threads(),
        |_, random| mixed(&crew, &web, &clock, 200, random),
        |turns| {
            most = most.max(crew.census.alive());
            samples += 1;
            samples > 1_000 && turns > 10_000
        },
    );
    assert!((MOST / 2..=MOST + threads() as i64).contains(&most), "{most} payloads were alive");
    assert!(cache.stats().removals.evicted > 0);
    assert_adds_up(&cache, &crew.census);
}

#[test]
fn payloads_alive_never_exceed_the_limit_on_bytes() {
    const MOST: i64 = 20_000;
    let crew = Crew::new(threads());
    let (cache, web, clock) = cache(usize::MAX, MOST as usize);
    let (mut most, mut samples) = (0, 0u64);
    crew.run(
        threads(),
        |_, random| mixed(&crew, &web, &clock, 200, random),
        |turns| {
            most = most.max(crew.census.bytes());
            samples += 1;
            assert!(cache.bytes() as i64 <= MOST);
            samples > 1_000 && turns > 10_000
        },
    );
    let held = threads() as i64 * Payload::charge(MOST_WEIGHT as usize);
    assert!((MOST / 2..=MOST + held).contains(&most), "{most} bytes were alive");
    assert!(cache.stats().removals.evicted > 0);
    assert_adds_up(&cache, &crew.census);
}

/// Limits go up and down; each is obeyed when the call returns.
#[test]
fn limits_that_change_are_obeyed() {
    const LIMITS: [usize; 8] = [1_000, 10, 300, 1, 2, 40_000, 500, 0];
    let crew = Crew::new(threads());
    let (cache, web, clock) = cache(1_000, usize::MAX);
    let mut changes = 0usize;
    crew.run(
        threads(),
        |_, random| mixed(&crew, &web, &clock, 2_000, random),
        |turns| {
            let limit = LIMITS[changes % LIMITS.len()];
            changes += 1;
            cache.set_max_sessions(limit);
            for _ in 0..1_000 {
                let alive = crew.census.alive();
                assert!(alive <= limit as i64 + threads() as i64, "{alive} of {limit} alive");
            }
            changes >= 8 && turns > 10_000
        },
    );
    cache.set_max_sessions(7);
    for key in 0..100 {
        assert!(web.put(&id(key), crew.payload(key, 0, 0)).is_stored());
    }
    assert_eq!(cache.len(), 7, "no place was lost or made");
    assert_adds_up(&cache, &crew.census);
}

#[test]
fn limits_on_bytes_that_change_are_obeyed() {
    let crew = Crew::new(threads());
    let (cache, web, clock) = cache(usize::MAX, 1 << 20);
    let limits = [1 << 20, 5_000, 50_000, 2_000];
    let held = threads() as i64 * Payload::charge(MOST_WEIGHT as usize);
    let mut changes = 0usize;
    crew.run(
        threads(),
        |_, random| mixed(&crew, &web, &clock, 2_000, random),
        |turns| {
            let limit = limits[changes % limits.len()];
            changes += 1;
            cache.set_max_bytes(limit);
            for _ in 0..1_000 {
                let alive = crew.census.bytes();
                assert!(alive <= limit as i64 + held, "{alive} of {limit} bytes alive");
            }
            changes >= 8 && turns > 10_000
        },
    );
    assert_adds_up(&cache, &crew.census);
}

/// Sweeps, iteration, growth and every operation, all at once.
#[test]
fn sweeps_and_operations_together_lose_nothing() {
    let crew = Crew::new(threads());
    let (cache, web, clock) = cache(100_000, usize::MAX);
    let sweeps = AtomicU64::new(0);
    let swept = AtomicU64::new(0);
    crew.run(
        threads(),
        |at, random| match (at, random.below(2_000)) {
            (0, 0) => _ = sweeps.fetch_add(1, Ordering::Relaxed) + cache.flush() as u64,
            (1, 0) => _ = cache.flush_expired(),
            (2, 0) => {
                let odd = |session: &Session<Payload>| number(session.id()) % 2 == 1;
                swept.fetch_add(cache.retain(odd) as u64, Ordering::Relaxed);
            }
            (3, 0) => cache.iter().for_each(|met| met.payload().assert_whole(number(met.id()))),
            (4, 0) => _ = cache.drop_scope(web.scope()),
            _ => mixed(&crew, &web, &clock, 50_000, random),
        },
        |_| {
            thread::sleep(Duration::from_millis(1));
            let removals = cache.stats().removals;
            let has_swept = sweeps.load(Ordering::Relaxed) > 0 && removals.flushed > 0;
            has_swept && removals.scope_dropped > 0
        },
    );
    assert!(cache.stats().removals.removed >= swept.into_inner());
    assert_adds_up(&cache, &crew.census);
}

/// Of many takes of one session one gets it.
#[test]
fn a_session_is_taken_once() {
    let crew = Crew::new(threads());
    let (cache, web, _) = cache(usize::MAX, usize::MAX);
    let newest = AtomicU64::new(0);
    let lost = AtomicU64::new(0);
    let won: Vec<Mutex<Vec<u64>>> = (0..threads()).map(|_| Mutex::default()).collect();
    crew.run(
        threads(),
        |at, _| {
            if at == 0 {
                // One id, many sessions: a version is what can be taken.
                let version = newest.fetch_add(1, Ordering::Relaxed);
                drop(web.put_if_absent(&id(1), crew.payload(1, version, 0)));
                return;
            }
            match web.take(&id(1)) {
                Some(session) => {
                    session.payload().assert_whole(1);
                    won[at as usize].lock().expect("no panic").push(session.payload().version);
                }
                None => _ = lost.fetch_add(1, Ordering::Relaxed),
            }
        },
        |_| {
            thread::sleep(Duration::from_millis(1));
            // The takers have met.
            let winners = won.iter().filter(|won| !won.lock().expect("no panic").is_empty());
            winners.count() > 1 && lost.load(Ordering::Relaxed) > 0
        },
    );
    let won: Vec<Vec<u64>> = won.into_iter().map(|won| won.into_inner().expect("whole")).collect();
    let mut all = won.concat();
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "a session was taken twice");
    assert_eq!(cache.stats().takes, count as u64);
    assert_adds_up(&cache, &crew.census);
}

/// A replace is never seen as a miss, nor as a step back, whatever else the table does.
#[test]
fn a_replace_is_never_seen_as_a_miss() {
    const REPLACED: u64 = 4;
    let crew = Crew::new(threads());
    let (cache, web, _) = cache(usize::MAX, usize::MAX);
    for key in 0..REPLACED {
        assert!(web.put(&id(key), crew.payload(key, 0, 0)).is_stored());
    }
    let version = AtomicU64::new(0);
    let changes = AtomicU64::new(0);
    let seen: Vec<[AtomicU64; REPLACED as usize]> =
        (0..threads()).map(|_| Default::default()).collect();
    crew.run(
        threads(),
        |at, random| match at {
            0 => {
                let next = version.fetch_add(1, Ordering::Relaxed) + 1;
                let key = next % REPLACED;
                let put = web.put(&id(key), crew.payload(key, next, 0));
                assert!(matches!(put, Put::Replaced(_)), "{put:?}");
            }
            // Neighbours come and go, and the table grows.
            1 => {
                let key = REPLACED + random.below(1 << 20);
                assert!(web.put(&id(key), crew.payload(key, 0, 0)).is_stored());
            }
            2 => drop(web.take(&id(REPLACED + random.below(1 << 20)))),
            _ => {
                let key = random.below(REPLACED);
                let session = web.get(&id(key)).expect("a replace is no miss");
                session.payload().assert_whole(key);
                let now = session.payload().version;
                let before = seen[at as usize][key as usize].swap(now, Ordering::Relaxed);
                assert!(before <= now, "version {now} was seen after {before}");
                changes.fetch_add(u64::from(before != now), Ordering::Relaxed);
            }
        },
        |_| {
            thread::sleep(Duration::from_millis(1));
            // The readers have met the writer.
            changes.load(Ordering::Relaxed) > 100
        },
    );
    assert!(cache.stats().removals.replaced >= version.into_inner());
    assert_adds_up(&cache, &crew.census);
}

/// Every session that a put has stored is removed by the close, once; none enters after it.
#[test]
fn a_close_meets_every_put() {
    let (mut met, mut rounds, start) = (0, 0, Instant::now());
    // More where none has met a close, for it is up to the system who runs when.
    while rounds < 100 || met == 0 && start.elapsed() < PATIENCE {
        let round = rounds % 100;
        rounds += 1;
        let crew = Crew::new(threads());
        let (cache, web, _) = cache(if round % 2 == 0 { 100 } else { usize::MAX }, usize::MAX);
        let (stored, is_closed) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for at in 0..threads() {
                let (crew, web, stored, is_closed) = (&crew, &web, &stored, &is_closed);
                scope.spawn(move || {
                    crew.start.wait();
                    for number in 0.. {
                        let key = (at << 32) | (number % 1_000);
                        let is_late = is_closed.load(Ordering::SeqCst);
                        match web.put(&id(key), crew.payload(key, number, 0)) {
                            Put::Refused(Refusal::Closed, back) => return back.assert_whole(key),
                            put => assert!(put.is_stored() && !is_late, "{put:?}"),
                        }
                        stored.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while stored.load(Ordering::SeqCst) < round * 10 {
                thread::yield_now();
            }
            let before = stored.load(Ordering::SeqCst);
            cache.close();
            is_closed.store(true, Ordering::SeqCst);
            met += u64::from(stored.load(Ordering::SeqCst) > before);
            assert!(cache.is_empty(), "nothing is there when close returns");
        });
        assert_eq!(cache.stats().removals.total(), stored.into_inner());
        assert_eq!((cache.len(), cache.bytes(), crew.census.alive()), (0, 0, 0));
    }
    assert!(met > 0, "some puts ended while a close waited");
}

/// What was put before a scope is dropped is not found afterwards, and all of it is counted.
#[test]
fn a_dropped_scope_meets_every_put() {
    let crew = Crew::new(threads());
    // Limited, for else the puts may outrun the sweep.
    let (cache, web, _) = cache(20_000, usize::MAX);
    let other = cache.scope(&Scope::new("other"));
    for key in 0..100 {
        // Long after the others, so that eviction does not come to these.
        assert!(other.put_with(&id(key), crew.payload(key, 0, 0), 1_000 * HOUR).is_stored());
    }
    let done: Vec<AtomicU64> = (0..threads()).map(|_| AtomicU64::new(0)).collect();
    let completed = || done.iter().map(|done| done.load(Ordering::SeqCst)).collect::<Vec<_>>();
    let mut met = 0u64;
    crew.run(
        threads(),
        |at, _| {
            let number = done[at as usize].load(Ordering::Relaxed) + 1;
            let key = (at << 32) | number;
            let put = web.put(&id(key), crew.payload(key, number, 0));
            assert!(put.is_stored(), "{put:?}");
            done[at as usize].store(number, Ordering::SeqCst);
        },
        |_| {
            let before = completed();
            cache.drop_scope(web.scope());
            met += u64::from(completed() != before);
            for met in cache.iter() {
                let key = number(met.id());
                let (at, number) = ((key >> 32) as usize, key & 0xffff_ffff);
                let is_others = at == 0 && met.payload().version == 0;
                assert!(is_others || number > before[at], "{number} of thread {at} came back");
            }
            for (at, &number) in before.iter().enumerate() {
                assert!(web.get(&id(((at as u64) << 32) | number)).is_none());
            }
            // Puts have ended while a drop ran.
            met > 0
        },
    );
    assert!((0..100).all(|key| other.contains(&id(key))), "the other scope is untouched");
    cache.drop_scope(web.scope());
    assert_eq!(cache.len(), 100);
    assert_adds_up(&cache, &crew.census);
}

/// Iteration meets each session that stays once, while others come and go and the table grows.
#[test]
fn iteration_meets_what_stays_once() {
    const STAY: u64 = 500;
    let crew = Crew::new(threads());
    let (cache, web, clock) = cache(usize::MAX, usize::MAX);
    let other = cache.scope(&Scope::new("other"));
    for key in 0..STAY {
        // The clock goes on with the operations, by an hour or more where they are fast.
        let payload = crew.payload(key, u64::MAX, 0);
        assert!(other.put_with(&id(key), payload, 10_000 * HOUR).is_stored());
    }
    let mut walks = 0;
    crew.run(
        threads(),
        |_, random| mixed(&crew, &web, &clock, 1 << 20, random),
        |turns| {
            let mut met = vec![0u32; STAY as usize];
            for session in cache.iter().filter(|met| met.payload().version == u64::MAX) {
                met[number(session.id()) as usize] += 1;
            }
            assert!(met.iter().all(|&times| times == 1), "{met:?}");
            walks += 1;
            walks > 3 && turns > 10_000
        },
    );
    assert_adds_up(&cache, &crew.census);
}
