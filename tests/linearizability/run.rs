//! Threads that make histories, and what comes of checking them.
//!
//! A run is made of rounds. In each a new cache is used by more threads than there are processors, on a
//! few *hot* ids, where they meet, and on *cold* ones of each thread's own, by which the table grows and
//! sessions are evicted. Every operation on either kind is checked. In every other round callbacks are
//! told of what comes and leaves, for then removals take another way. At the end of a round one thread
//! looks for every session once more: what was lost is missed then.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use resumption::{Clock, Dispatch, Put, Refusal, Scope, Session, SessionCache, Sessions, Verdict};

use super::checker::{Tally, check};
use super::history::{Call, MOST_THREADS, Operation, Outcome, stamp};
use super::report::report;
use super::spec::{LIMITED, Rules, State, UNLIMITED};
use crate::support::{HOUR, PATIENCE, Random, id, number};

/// What a run is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// `None` for no limit.
    pub(crate) max_sessions: Option<usize>,
    /// Whether the clock moves; else it stands still.
    pub(crate) expires: bool,
    /// Whether sessions are also removed many at a time.
    pub(crate) sweeps: bool,
    pub(crate) hot_ids: u64,
    /// How many of 16 operations are on cold ids.
    pub(crate) cold: u64,
    /// How often each call is chosen for a hot id: put, put_if_absent, get, take, remove, extend,
    /// contains.
    pub(crate) mix: [u64; 7],
}

impl Scenario {
    pub(crate) fn rules(&self) -> Rules {
        if self.max_sessions.is_some() || self.sweeps { LIMITED } else { UNLIMITED }
    }
}

/// Operations of a thread in one round.
const ROUND: usize = 500;

/// Operations that a run makes at least, and of them those during which another one on the same id was
/// open. The run goes on until both numbers are reached, and fails if [`MOST_TIMES`] as many operations are
/// not enough.
///
/// On two processors with other work beside it, 2 to 12 of 100 operations met another one; with chaos,
/// 44 to 80 did.
pub(crate) struct Goal {
    pub(crate) operations: u64,
    pub(crate) overlapped: u64,
}

/// How much longer a run may be than it has to, for operations to meet.
const MOST_TIMES: u64 = 20;

impl Goal {
    /// The goal of the build, or as `RESUMPTION_OPERATIONS` says.
    pub(crate) fn of_build() -> Self {
        let operations = number_of("RESUMPTION_OPERATIONS").unwrap_or(if cfg!(chaos) {
            500_000
        } else {
            1_000_000
        });
        let share = if cfg!(chaos) { 10 } else { 100 };
        Self { operations, overlapped: operations / share }
    }
}

/// Where the random numbers begin: `RESUMPTION_SEED`, or 1.
pub(crate) fn seed() -> u64 {
    number_of("RESUMPTION_SEED").unwrap_or(1)
}

pub(crate) fn number_of(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// More threads than processors.
fn thread_count() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (2 * processors).clamp(8, MOST_THREADS)
}

/// What a run has come to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) tally: Tally,
    /// How often each outcome came of each kind of call.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    pub(crate) rounds: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) swept: u64,
}

/// A history that one thread could not have made.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) after: u64,
    pub(crate) report: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, report } = self;
        write!(f, "wrong after {after} operations: {report}RESUMPTION_SEED={} repeats them", seed())
    }
}

/// What threads use: the cache, or something in its place that is known to be wrong.
pub(crate) trait Subject: Sync {
    /// In how many ways it can sweep.
    const WAYS: u64 = 4;

    fn call(&self, id: u64, call: Call) -> Outcome;
    /// Moves the clock.
    fn advance(&self, by: Duration);
    /// Removes many sessions, in one of a few ways.
    fn sweep(&self, way: u64);
    /// The ids that are there, once nobody uses it any more; `None` if it cannot tell.
    fn ids(&self) -> Option<BTreeSet<u64>>;
    /// Counts that are added to the summary.
    fn count(&self, _summary: &mut Summary) {}
}

/// A cache, as one round uses it.
pub(crate) struct Cache {
    cache: SessionCache<u64>,
    web: Sessions<u64>,
    clock: Clock,
}

impl Cache {
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
        if tells {
            cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).expect("no thread is started");
            cache.set_on_remove(Some(Arc::new(|_| ()))).expect("no thread is started");
        }
        let web = cache.scope(&Scope::new("web"));
        Self { cache, web, clock }
    }
}

/// The lifetime of puts that say none, where sessions expire.
pub(crate) const LIFETIME: Duration = Duration::from_millis(10);

impl Subject for Cache {
    fn call(&self, number: u64, call: Call) -> Outcome {
        let id = &id(number);
        let found = |session: Option<Session<u64>>| {
            session.map_or(Outcome::Missing, |session| Outcome::Found(*session.payload()))
        };
        let yes = |is_so| if is_so { Outcome::Yes } else { Outcome::No };
        let put = match call {
            Call::Put { value, lifetime } => {
                self.web.put_with(id, value, Duration::from_millis(lifetime))
            }
            Call::PutIfAbsent { value, .. } => self.web.put_if_absent(id, value),
            // A get of many is as so many gets.
            Call::Get if number % 2 == 1 => {
                return found(self.web.get_many(&[*id]).pop().flatten());
            }
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
            Put::Replaced(old) => Outcome::Replaced(*old.payload()),
            Put::Refused(Refusal::Present, _) => Outcome::Present,
            Put::Refused(Refusal::Full, _) => Outcome::Refused,
            Put::Refused(why, _) => panic!("no reason to refuse a put: {why}"),
        }
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn sweep(&self, way: u64) {
        match way {
            0 => _ = self.cache.flush(),
            1 => _ = self.cache.flush_expired(),
            2 => _ = self.cache.retain(|session| session.payload().is_multiple_of(3)),
            _ => _ = self.cache.drop_scope(self.web.scope()),
        }
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

/// The cache's clock, as it may have been read: `moving` is counted up before the clock, `moved` after.
#[derive(Default)]
pub(crate) struct Times {
    moving: AtomicU64,
    moved: AtomicU64,
}

/// One thread of a round.
pub(crate) struct Maker<'a, S> {
    subject: &'a S,
    scenario: &'a Scenario,
    times: &'a Times,
    thread: usize,
    random: Random,
    /// Where its values begin.
    values: u64,
    /// Cold ids that it has put.
    cold: Vec<u64>,
    made: Vec<Operation>,
}

impl<'a, S> Maker<'a, S> {
    /// A thread of the round that begins with this random number.
    pub(crate) fn new(
        subject: &'a S,
        scenario: &'a Scenario,
        times: &'a Times,
        seed: u64,
        thread: usize,
    ) -> Self {
        let random = seed.wrapping_mul(MOST_THREADS as u64).wrapping_add(thread as u64);
        let (random, values, cold, made) = (Random::new(random), 0, Vec::new(), Vec::new());
        Self { subject, scenario, times, thread, random, values, cold, made }
    }
}

/// One call in so many moves the clock, or removes many sessions: more in the short runs of shuttle.
const ADVANCE: u64 = if cfg!(shuttle) { 8 } else { 32 };
const SWEEP: u64 = if cfg!(shuttle) { 16 } else { 64 };

/// Cold ids begin here: the thread above, the count below.
const COLD: u64 = 1 << 40;

impl<S: Subject> Maker<'_, S> {
    /// Makes so many operations, and returns them.
    pub(crate) fn run(mut self, operations: usize) -> Vec<Operation> {
        for _ in 0..operations {
            if self.scenario.expires && self.random.below(ADVANCE) == 0 {
                self.advance();
            }
            if self.scenario.sweeps && self.random.below(SWEEP) == 0 {
                self.subject.sweep(self.random.below(S::WAYS));
            }
            let (id, call) = self.choose();
            self.do_one(id, call);
        }
        self.made
    }

    /// Looks for every session of a round that is over. Returns the looks, and the ids that are there.
    pub(crate) fn look(mut self, made: &[Operation]) -> (Vec<Operation>, BTreeSet<u64>) {
        let ids: BTreeSet<u64> = made.iter().map(|operation| operation.id).collect();
        for &id in &ids {
            self.do_one(id, Call::Get);
        }
        let is_there = |operation: &&Operation| operation.outcome != Outcome::Missing;
        let found = self.made.iter().filter(is_there).map(|operation| operation.id).collect();
        (self.made, found)
    }

    fn advance(&mut self) {
        let by = 1 + self.random.below(4);
        self.times.moving.fetch_add(by, Ordering::SeqCst);
        self.subject.advance(Duration::from_millis(by));
        self.times.moved.fetch_add(by, Ordering::SeqCst);
    }

    fn choose(&mut self) -> (u64, Call) {
        if self.random.below(16) < self.scenario.cold {
            return self.choose_cold();
        }
        let mut at = self.random.below(self.scenario.mix.iter().sum());
        let chosen = self.scenario.mix.iter().position(|&weight| {
            let is_chosen = at < weight;
            at = at.wrapping_sub(weight);
            is_chosen
        });
        let call = match chosen {
            Some(0) => self.put(),
            Some(1) => self.put_if_absent(),
            Some(2) => Call::Get,
            Some(3) => Call::Take,
            Some(4) => Call::Remove,
            Some(5) => Call::Extend { lifetime: self.lifetime(4) },
            _ => Call::Contains,
        };
        (self.random.below(self.scenario.hot_ids), call)
    }

    /// Mostly puts of new ids, and now and then a look at an old one.
    fn choose_cold(&mut self) -> (u64, Call) {
        let count = self.cold.len() as u64;
        if count == 0 || self.random.below(4) > 0 {
            let id = COLD | (self.thread as u64) << 32 | count;
            self.cold.push(id);
            return (id, self.put());
        }
        let id = self.cold[self.random.below(count) as usize];
        let call = if self.random.below(2) == 0 { Call::Get } else { Call::Take };
        (id, call)
    }

    fn put(&mut self) -> Call {
        Call::Put { value: self.value(), lifetime: self.lifetime(1) }
    }

    fn put_if_absent(&mut self) -> Call {
        let lifetime = if self.scenario.expires { LIFETIME } else { HOUR };
        Call::PutIfAbsent { value: self.value(), lifetime: lifetime.as_millis() as u64 }
    }

    fn value(&mut self) -> u64 {
        self.values += 1;
        (self.thread as u64) << 32 | self.values
    }

    /// A lifetime up to so many times the usual one.
    fn lifetime(&mut self, times: u64) -> u64 {
        let usual = if self.scenario.expires { LIFETIME } else { HOUR };
        1 + self.random.below(times * usual.as_millis() as u64)
    }

    fn do_one(&mut self, id: u64, call: Call) {
        let first = self.times.moved.load(Ordering::SeqCst);
        let began = stamp();
        let outcome = self.subject.call(id, call);
        let ended = stamp();
        let last = self.times.moving.load(Ordering::SeqCst);
        let (thread, clock) = (self.thread, (first, last));
        self.made.push(Operation { id, thread, call, outcome, began, ended, clock });
    }
}

/// Runs rounds until the goal is met, or a history is wrong.
pub(crate) fn run<S: Subject>(
    scenario: &Scenario,
    goal: &Goal,
    new: impl Fn(bool) -> S,
) -> Result<Summary, Box<Found>> {
    let mut summary = Summary::default();
    while summary.tally.operations < goal.operations || summary.tally.overlapped < goal.overlapped {
        let subject = new(summary.rounds % 2 == 1);
        let (made, found) = round(scenario, &subject, seed() << 32 | summary.rounds);
        check_round(made, scenario.rules(), &mut summary)?;
        if let Some(ids) = subject.ids() {
            let differ: Vec<_> = ids.symmetric_difference(&found).collect();
            assert!(differ.is_empty(), "a walk and lookups differ about {differ:?}");
        }
        subject.count(&mut summary);
        summary.rounds += 1;
        let Tally { operations, overlapped, .. } = summary.tally;
        let is_late = operations > MOST_TIMES * goal.operations;
        assert!(!is_late, "of {operations} operations only {overlapped} met another one");
    }
    Ok(summary)
}

/// The operations of one round, and the ids that are there at its end.
fn round<S: Subject>(
    scenario: &Scenario,
    subject: &S,
    seed: u64,
) -> (Vec<Operation>, BTreeSet<u64>) {
    let threads = thread_count();
    let (times, start) = (Times::default(), Barrier::new(threads));
    let maker = |thread| Maker::new(subject, scenario, &times, seed, thread);
    let mut made = thread::scope(|scope| {
        let all = (0..threads).map(|thread| {
            let (maker, start) = (maker(thread), &start);
            scope.spawn(move || {
                start.wait();
                maker.run(ROUND)
            })
        });
        let all: Vec<_> = all.collect();
        wait_for(&all);
        all.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    let (mut looks, found) = maker(0).look(&made);
    made.append(&mut looks);
    (made, found)
}

/// Waits until the threads of a round have ended. One that stands would keep a panic from being told,
/// so that ends the process.
fn wait_for<T>(threads: &[ScopedJoinHandle<'_, T>]) {
    let start = Instant::now();
    while !threads.iter().all(ScopedJoinHandle::is_finished) {
        if start.elapsed() > PATIENCE {
            eprintln!("threads do not come to the end of a round");
            std::process::exit(1);
        }
        thread::sleep(Duration::from_micros(100));
    }
}

/// Checks what was done to each id, and counts what came of it.
pub(crate) fn check_round(
    mut made: Vec<Operation>,
    rules: Rules,
    summary: &mut Summary,
) -> Result<(), Box<Found>> {
    for operation in &made {
        *summary.outcomes.entry(kind(operation)).or_default() += 1;
    }
    made.sort_unstable_by_key(|operation| (operation.id, operation.began));
    for history in made.chunk_by(|a, b| a.id == b.id) {
        match check(history, rules, State::Absent) {
            Ok(tally) => summary.tally.add(tally),
            Err(_) => {
                let report = report(history, rules).expect("it is wrong");
                let after = summary.tally.operations + made.len() as u64;
                return Err(Box::new(Found { after, report }));
            }
        }
    }
    Ok(())
}

/// A call and its outcome, without what it was about.
fn kind(operation: &Operation) -> &'static str {
    match (operation.call, operation.outcome) {
        (Call::Put { .. }, Outcome::Stored) => "put: stored",
        (Call::Put { .. }, Outcome::Replaced(_)) => "put: replaced",
        (Call::PutIfAbsent { .. }, Outcome::Stored) => "put_if_absent: stored",
        (Call::PutIfAbsent { .. }, Outcome::Present) => "put_if_absent: present",
        (_, Outcome::Refused) => "put: refused",
        (Call::Get, Outcome::Found(_)) => "get: found",
        (Call::Get, _) => "get: missing",
        (Call::Take, Outcome::Found(_)) => "take: found",
        (Call::Take, _) => "take: missing",
        (Call::Remove, Outcome::Yes) => "remove: yes",
        (Call::Remove, _) => "remove: no",
        (Call::Extend { .. }, Outcome::Yes) => "extend: yes",
        (Call::Extend { .. }, _) => "extend: no",
        (Call::Contains, Outcome::Yes) => "contains: yes",
        (Call::Contains, _) => "contains: no",
        (call, outcome) => unreachable!("{outcome:?} of {call:?}"),
    }
}
