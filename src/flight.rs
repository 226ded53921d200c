//! Flights: lookups that ask an external cache, one at a time for each id.
//!
//! A flight is registered in a table of its own, by the name that is looked for. It ends when what the
//! callback has answered is concluded: checked, and handed to the lookups that are aboard.
//!
//! # Who asks
//!
//! The lookup that begins a flight calls the callback. If that answers with a future, the future is
//! *parked* in the flight; whoever is aboard and polls takes it out, polls it, and parks it again. So
//! a lookup that is dropped, or out of time, leaves the future to the others, and the last one to
//! leave, to the cache's [`Orphans`]. What wakes the future wakes all who are aboard: one who finds
//! that another polls may rest, for that one was woken too and comes again.
//!
//! Gets of one id go aboard together, and share what comes of it. A take flies alone, and what is
//! answered is concluded by that one lookup; if nobody is aboard, the next take of the id takes over,
//! and an answer that comes before that is stored, for an external cache has deleted it.
//!
//! # Landing
//!
//! A get's flight lands while it is linked, for a removal must find it as long as something may be shown to those
//! aboard. Then it is taken out of the table, and then they are woken: what they look up in that moment, or the drops of
//! their wakers do, begins another flight. A get that comes between the landing and the taking out is let aboard no more,
//! and looks into the cache instead; where the answer is not stored, it finds nothing. These are a few instructions of
//! the thread that lands, in which it runs no user code; if it is stopped there, it is until that goes on.
//!
//! # Stale flights
//!
//! A session may be put, and taken, while an external cache is being asked; what that answers is out
//! of date then, and must not come back to life. *Who removes a session marks the flight of its name
//! before*; the asker links its session unseen ([`Due::PROVISIONAL`](crate::expiry::Due::PROVISIONAL)),
//! then looks for the mark, and then shows it.
//!
//! Both orders of a removal and the linking: while the unseen session is linked, no other session of
//! the name is. So a removal of another one came before the linking, its mark before that, and the
//! asker sees it.
//!
//! Both orders of a removal and the registration: both change the count of flights, the registration once more when the
//! flight is linked. If the removal's look at it is before that, the asker, which looks into the cache after it
//! registered, sees the session, or that it is gone; if it is after that, the removal finds the flight and marks it.
//! A session that the asker sees there is its own, for those aboard may have come after its removal: they look themselves.
//!
//! Where the mode is not to look ([`NO_INTERNAL_LOOKUP`](crate::CacheMode::NO_INTERNAL_LOOKUP)), the asker asks although
//! it saw a session, and notes that: what it can link in that one's place it does not show, for that one has left. What is
//! handed out is looked at under the lock when it lands, and a removal marks once more before it returns: whoever comes
//! aboard after it is not shown what was removed.
//!
//! Both orders of the removal of a session that is not here and the linking of what was answered: the one marks and
//! then looks for what is linked, the other links and then looks for the mark, and in between both change the
//! count of flights. Whoever is first there is seen by the other.
//!
//! Model: `loom-tests/tests/flights.rs`.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::callbacks::{Answer, Later, Want};
use crate::dispatch::{Bell, contained};
use crate::reclaim::gauge::Gauges;
use crate::reclaim::pin;
use crate::scope::Entry as ScopeEntry;
use crate::session::Session;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, planted};
use crate::table::{Entry, Name, NewNode, Table};

/// The flights of a shard.
pub(crate) struct Flights<S> {
    table: Table<Arc<Flight<S>>>,
    count: AtomicU64,
    gauges: &'static Gauges,
}

/// A question to an external cache.
pub(crate) struct Flight<S> {
    pub(crate) name: Name,
    pub(crate) scope: Arc<ScopeEntry>,
    pub(crate) want: Want,
    /// Wakes all who are aboard: what the future is polled with.
    waker: Waker,
    state: Mutex<State<S>>,
}

struct State<S> {
    /// The future, when nobody polls it.
    parked: Option<Later<S>>,
    landed: Option<Landed<S>>,
    /// The lookups that wait, by their seats' numbers.
    aboard: BTreeMap<u64, Option<Waker>>,
    seats: u64,
    /// Tells the cache that the future was woken, once the flight was left to it.
    bell: Option<Waker>,
    /// Whether it was, since the cache last looked.
    rang: bool,
    /// The waker of whoever landed, to be dropped when the flight is out of the table.
    own: Option<Waker>,
    /// The stamp of the session of the name that was in the cache when it was asked for.
    inside: Option<u16>,
}

/// What has come of a flight.
enum Landed<S> {
    /// The same for all.
    Concluded(Option<Session<S>>),
    /// An answer to a take, for the one lookup that is aboard to conclude.
    Answered(Answer<S>),
}

/// A lookup's place in a flight; to be left by [`Self::leave`].
pub(crate) struct Seat<S> {
    flight: Arc<Flight<S>>,
    number: u64,
}

/// What a lookup is to do.
pub(crate) enum Begun<'a, S: Send + Sync + 'static> {
    /// Ask.
    Asks(Asker<'a, S>),
    /// Wait for what comes of another one's asking.
    Joins(Seat<S>),
    /// Go without: a take is asked for already, or something else is wanted of the id.
    Refused,
}

/// What whoever is aboard, or the cache, finds in a flight.
pub(crate) enum Look<S> {
    /// This has come of it.
    Landed(Option<Session<S>>),
    /// The answer, to be concluded by the caller.
    Answered(Answer<S>),
    /// The future, to be polled and parked again, or concluded.
    Polls(Later<S>),
    /// Somebody else has it in hand.
    Waits,
}

/// What is left when a lookup leaves.
pub(crate) enum Left<S> {
    Nothing,
    /// What has come of the flight in this very moment.
    Session(Option<Session<S>>),
    /// An answer to a take that nobody took.
    Answer(Answer<S>),
    /// A future that nobody waits for.
    Orphan,
}

/// Whoever concludes a flight. Dropping it ends the flight, without a session if there was none.
pub(crate) struct Asker<'a, S: Send + Sync + 'static> {
    flights: &'a Flights<S>,
    flight: Arc<Flight<S>>,
    /// Its own seat, if it is a lookup.
    seat: Option<u64>,
    /// Not if the future was parked.
    ends: bool,
}

impl<S> Flights<S> {
    pub(crate) fn new(gauges: &'static Gauges) -> Self {
        Self { table: Table::new(gauges), count: AtomicU64::new(0), gauges }
    }

    /// Marks the flight of `name`, if there is one: a session of that name is about to be removed. May
    /// be called under a pin, where the payload of a flight is out of reach; so the mark is the node's,
    /// that it was visited.
    pub(crate) fn mark_stale(&self, name: &Name) {
        // AcqRel, a read-modify-write: see above.
        if self.count.fetch_add(0, Ordering::AcqRel) == 0 || planted!("no-stale-flights") {
            return;
        }
        let guard = pin();
        // Of akin names too: a lookup that began before or after the drop of the scope.
        let _ = self.table.find_akin(name, &guard, |flight| {
            flight.visit();
            false
        });
    }

    /// Lets of two threads that call this the later one see what the earlier one has done before.
    pub(crate) fn order(&self) {
        if !planted!("marks-unordered") {
            let relaxed = planted!("relaxed-order-of-marks");
            let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
            // AcqRel, a read-modify-write: pairs with itself.
            self.count.fetch_add(0, order);
        }
    }
}

impl<S: Send + Sync + 'static> Flights<S> {
    /// Registers a lookup of `name`; it joins another one's flight only if it `may_wait`.
    pub(crate) fn begin(
        &self,
        name: &Name,
        scope: &Arc<ScopeEntry>,
        want: Want,
        may_wait: bool,
    ) -> Begun<'_, S> {
        // AcqRel: pairs with `mark_stale`, see above.
        let others = self.count.fetch_add(1, Ordering::AcqRel);
        let cells = self.table.cells();
        if others > cells as u64 {
            self.table.grow(cells, 2 * cells);
        }
        let flight = Flight::new(*name, Arc::clone(scope), want);
        let mut node = NewNode::new(name, 0, 0, Arc::clone(&flight), false);
        loop {
            let guard = pin();
            match self.table.entry(name, self.table.spot(name.hash), &guard) {
                Entry::Vacant(place) => match place.insert(node, &guard) {
                    Ok(_) => {
                        if !planted!("registered-unordered") {
                            self.order();
                        }
                        return Begun::Asks(self.asker(&flight, Some(FIRST)));
                    }
                    Err(unlinked) => node = unlinked,
                },
                Entry::Occupied(other) => {
                    let other = other.pinned().acquire(self.gauges);
                    drop(guard);
                    let Some(other) = other else { continue };
                    // AcqRel: as above.
                    self.count.fetch_sub(1, Ordering::AcqRel);
                    let seat = may_wait.then(|| Flight::join(other.payload(), want)).flatten();
                    return seat.map_or(Begun::Refused, Begun::Joins);
                }
            }
        }
    }

    /// Who goes on with a flight that every lookup has left: whoever has its future, or its answer.
    pub(crate) fn asker_for_cache(&self, flight: &Arc<Flight<S>>) -> Asker<'_, S> {
        self.asker(flight, None)
    }

    /// Who goes on with a flight for a lookup.
    pub(crate) fn asker_for(&self, seat: &Seat<S>) -> Asker<'_, S> {
        self.asker(&seat.flight, Some(seat.number))
    }

    fn asker(&self, flight: &Arc<Flight<S>>, seat: Option<u64>) -> Asker<'_, S> {
        Asker { flights: self, flight: Arc::clone(flight), seat, ends: true }
    }
}

impl<S: Send + Sync + 'static> Asker<'_, S> {
    pub(crate) fn flight(&self) -> &Arc<Flight<S>> {
        &self.flight
    }

    /// Whether a session of the name was removed since the flight began.
    pub(crate) fn is_stale(&self) -> bool {
        self.flights.order();
        let (flights, name, guard) = (self.flights, &self.flight.name, pin());
        let node = flights.table.get(name, flights.table.spot(name.hash), &guard);
        // The mark is Relaxed: its removal's exchange publishes it, and the linking that comes after
        // that removal has seen the exchange; or `order` does. Where nothing is linked, for a take, a removal that is not
        // seen is one at the same time as this.
        node.is_none_or(|node| node.node().is_visited())
    }

    /// Shows the session to all others who are aboard, unless it was removed meanwhile: one of them may
    /// have come after that. They are woken when the flight has ended. Calls `is_seen` before, if anybody gets
    /// to see it: one of them, or the lookup that lands.
    ///
    /// Both orders of a removal, with what its thread looks up next, and the landing: if that one comes
    /// aboard first, its removal's mark is seen here, under the lock; if this is first, it is not let
    /// aboard any more.
    pub(crate) fn land(&self, session: &Session<S>, is_seen: impl FnOnce()) {
        let is_shown = || !self.is_stale() || planted!("landed-though-removed");
        let state = self.flight.land(self.seat, || is_shown().then(|| session.clone()));
        // Under the lock.
        if self.seat.is_some() || matches!(state.landed, Some(Landed::Concluded(Some(_)))) {
            is_seen();
        }
    }

    /// Leaves the future to whoever polls next; the flight goes on.
    pub(crate) fn park(self, later: Later<S>) {
        let flight = Arc::clone(&self.flight);
        self.park_in(flight.state(), later);
    }

    /// As [`park`](Self::park), for a lookup that is aboard. If there is none, lands without a session, so that none
    /// comes aboard any more, and returns itself and the future.
    pub(crate) fn park_for_lookup(self, later: Later<S>) -> Option<(Self, Later<S>)> {
        let flight = Arc::clone(&self.flight);
        let mut state = flight.state();
        if state.is_free() {
            state.landed = Some(Landed::Concluded(None));
            return Some((self, later));
        }
        self.park_in(state, later);
        None
    }

    fn park_in(mut self, mut state: MutexGuard<'_, State<S>>, later: Later<S>) {
        state.parked = Some(later);
        // Whoever was woken while the cache polled has found nothing to do, and will not come again. A
        // lookup that polls was woken itself.
        let is_missed = self.seat.is_none() && state.rang && !planted!("park-without-waking");
        let wakers = if is_missed { state.wakers() } else { Vec::new() };
        drop(state);
        self.ends = false;
        wake(wakers);
    }

    /// The seat of the lookup that began the flight, whose future is parked.
    pub(crate) fn into_seat(self, later: Later<S>) -> Seat<S> {
        let flight = Arc::clone(&self.flight);
        self.park(later);
        Seat { flight, number: FIRST }
    }

    /// Leaves an answer to the lookup that is aboard, and wakes it; returns the answer, and the asker,
    /// if there is none.
    pub(crate) fn leave_answer(mut self, answer: Answer<S>) -> Option<(Self, Answer<S>)> {
        let mut state = self.flight.state();
        if state.aboard.is_empty() {
            drop(state);
            return Some((self, answer));
        }
        state.landed = Some(Landed::Answered(answer));
        let wakers = state.wakers();
        drop(state);
        self.ends = false;
        wake(wakers);
        None
    }
}

impl<S: Send + Sync + 'static> Drop for Asker<'_, S> {
    fn drop(&mut self) {
        if !self.ends {
            return;
        }
        let (flights, name) = (self.flights, &self.flight.name);
        let unlinked = {
            let guard = pin();
            let found = flights.table.get(name, flights.table.spot(name.hash), &guard);
            found.and_then(|found| flights.table.remove(found, None))
        };
        debug_assert!(unlinked.is_some(), "{name:?}: a flight is ended once");
        // AcqRel: as in `begin`.
        flights.count.fetch_sub(1, Ordering::AcqRel);
        let mut state = self.flight.land(self.seat, || None);
        let (own, wakers) = (state.own.take(), state.wakers());
        drop(state);
        // Now, for those who are woken may ask again.
        forget(own);
        wake(wakers);
    }
}

/// The number of the seat of whoever begins a flight.
const FIRST: u64 = 0;

impl<S: Send + Sync + 'static> Flight<S> {
    fn new(name: Name, scope: Arc<ScopeEntry>, want: Want) -> Arc<Self> {
        Arc::new_cyclic(|flight| Self {
            name,
            scope,
            want,
            waker: Waker::from(Arc::new(Alarm(Weak::clone(flight)))),
            state: Mutex::new(State {
                parked: None,
                landed: None,
                aboard: BTreeMap::from([(FIRST, None)]),
                seats: FIRST + 1,
                bell: None,
                rang: false,
                own: None,
                inside: None,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its future was woken since the cache last looked.
    pub(crate) fn rang(&self) -> bool {
        self.state().rang
    }

    /// Notes that a session of the name, with this stamp, is in the cache, though it is going to be asked for.
    pub(crate) fn note_inside(&self, stamp: u16) {
        self.state().inside = Some(stamp);
    }

    /// The stamp of the one that was, before it was asked for.
    pub(crate) fn inside(&self) -> Option<u16> {
        self.state().inside
    }

    /// A seat for another lookup, if its want is this one's; for a take if there is no other one.
    fn join(this: &Arc<Self>, want: Want) -> Option<Seat<S>> {
        let mut state = this.state();
        let is_over = state.landed.is_some();
        if is_over || want != this.want || want == Want::Take && !state.is_free() {
            return None;
        }
        let number = state.seats;
        state.seats += 1;
        state.aboard.insert(number, None);
        Some(Seat { flight: Arc::clone(this), number })
    }

    /// Lands, unless it has landed; whose `seat` it is knows what has come of it. Wakes nobody.
    fn land(
        &self,
        seat: Option<u64>,
        session: impl FnOnce() -> Option<Session<S>>,
    ) -> MutexGuard<'_, State<S>> {
        let mut state = self.state();
        if let Some(own) = seat.and_then(|seat| state.aboard.remove(&seat)) {
            state.own = own;
        }
        if state.landed.is_none() {
            // The last to see it is whoever is aboard: nobody else keeps a session.
            let shown = if state.is_free() { None } else { session() };
            state.landed = Some(Landed::Concluded(shown));
        }
        state
    }

    /// Polls the future, which the caller parks again if it is pending. User code, which may panic. A
    /// future that answers with another one is followed at the next poll, so that a chain of them holds
    /// nobody up.
    pub(crate) fn poll(&self, later: &mut Later<S>) -> Poll<Answer<S>> {
        match later.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Answer::Later(next)) => {
                *later = next;
                self.waker.wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }
}

impl<S: Send + Sync + 'static> Seat<S> {
    pub(crate) fn flight(&self) -> &Arc<Flight<S>> {
        &self.flight
    }

    /// What there is to do; if nothing, `waker` is woken when there is.
    pub(crate) fn look(&self, waker: &Waker) -> Look<S> {
        let waker = waker.clone();
        let mut state = self.flight.state();
        match state.landed.take() {
            Some(Landed::Answered(answer)) => {
                drop(state);
                // Not on the way out: its panic there loses what is returned (rust-lang/rust#47949).
                forget([waker]);
                return Look::Answered(answer);
            }
            Some(Landed::Concluded(session)) => {
                let own = state.aboard.remove(&self.number).flatten();
                let others = if state.is_free() { None } else { session.clone() };
                state.landed = Some(Landed::Concluded(others));
                drop(state);
                forget(own.into_iter().chain([waker]));
                return Look::Landed(session);
            }
            None => {}
        }
        // Before the future is polled: what wakes it meanwhile wakes this one too.
        let before = state.aboard.insert(self.number, Some(waker)).flatten();
        let parked = state.parked.take();
        drop(state);
        forget(before);
        parked.map_or(Look::Waits, Look::Polls)
    }

    /// Leaves the flight; `bell` tells the cache of it later, if it is the last one.
    pub(crate) fn leave(self, bell: &Waker) -> Left<S> {
        let mut state = self.flight.state();
        let own = state.aboard.remove(&self.number);
        // It was woken and has not looked since: that may have been for the future.
        let was_woken = own.as_ref().is_some_and(Option::is_none);
        let mut wakers = Vec::new();
        let left = match state.landed.take() {
            Some(Landed::Answered(answer)) => Left::Answer(answer),
            Some(Landed::Concluded(session)) => {
                // As in `look`.
                let others = if state.is_free() { None } else { session.clone() };
                state.landed = Some(Landed::Concluded(others));
                Left::Session(session)
            }
            None if state.parked.is_some() && state.is_free() && state.bell.is_none() => {
                state.bell = Some(bell.clone());
                state.rang = was_woken;
                Left::Orphan
            }
            landed => {
                state.landed = landed;
                if was_woken && state.parked.is_some() && !planted!("leave-without-waking") {
                    wakers = state.wakers();
                }
                Left::Nothing
            }
        };
        drop(state);
        forget(own.flatten());
        wake(wakers);
        left
    }
}

/// Wakes those whose flight goes on, or is over. Not under a lock: what they do is the user's.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        let _ = contained(|| waker.wake());
    }
}

/// Drops a waker, which is the user's too.
fn forget(waker: impl IntoIterator<Item = Waker>) {
    for waker in waker {
        let _ = contained(|| drop(waker));
    }
}

impl<S> State<S> {
    /// Whether nobody is aboard.
    fn is_free(&self) -> bool {
        self.aboard.is_empty()
    }

    /// Who is to be woken, the cache too.
    fn wakers(&mut self) -> Vec<Waker> {
        self.rang = true;
        let aboard = self.aboard.values_mut().filter_map(Option::take);
        aboard.chain(self.bell.clone()).collect()
    }
}

/// What a flight's future wakes. The flight may be over by then.
struct Alarm<S>(Weak<Flight<S>>);

impl<S: Send + Sync + 'static> Wake for Alarm<S> {
    fn wake(self: Arc<Self>) {
        if let Some(flight) = self.0.upgrade() {
            // In two statements: the lock is not held where the user's code runs.
            let wakers = flight.state().wakers();
            wake(wakers);
        }
    }
}

/// Flights that every lookup has left, and whose futures are not finished: the cache's to poll.
pub(crate) struct Orphans<S> {
    count: AtomicUsize,
    flights: Mutex<VecDeque<Orphan<S>>>,
}

/// A flight that was left to the cache, until a time.
pub(crate) struct Orphan<S> {
    pub(crate) flight: Arc<Flight<S>>,
    until: Option<Instant>,
}

/// What the cache finds in an orphan.
pub(crate) enum Tended<S> {
    /// Nothing to do yet.
    Waits,
    /// The future, to be polled, and parked again or concluded.
    Polls(Later<S>),
    /// The future, to be polled once more if it was woken, and then dropped: nobody waits for it any
    /// longer.
    Late(Later<S>, bool),
    /// It is a lookup's again, or over.
    Done,
}

impl<S: Send + Sync + 'static> Orphans<S> {
    pub(crate) fn new() -> Self {
        Self { count: AtomicUsize::new(0), flights: Mutex::new(VecDeque::new()) }
    }

    /// How many there are, about.
    pub(crate) fn count(&self) -> usize {
        // Relaxed: it spares a lock.
        self.count.load(Ordering::Relaxed)
    }

    /// Takes the one that was tended longest ago, to be tended and put back.
    pub(crate) fn next(&self) -> Option<Orphan<S>> {
        let next = self.flights().pop_front()?;
        // Relaxed: as above.
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(next)
    }

    pub(crate) fn put(&self, orphan: Orphan<S>) {
        // Relaxed: as above.
        self.count.fetch_add(1, Ordering::Relaxed);
        self.flights().push_back(orphan);
    }

    fn flights(&self) -> MutexGuard<'_, VecDeque<Orphan<S>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Send + Sync + 'static> Orphan<S> {
    pub(crate) fn new(flight: Arc<Flight<S>>, timeout: Duration) -> Self {
        Self { flight, until: Instant::now().checked_add(timeout) }
    }

    /// Its future, if nobody polls it, to be dropped.
    pub(crate) fn into_future(self) -> Option<Later<S>> {
        self.flight.state().parked.take()
    }

    pub(crate) fn look(&self) -> Tended<S> {
        let mut state = self.flight.state();
        if state.landed.is_some() {
            state.bell = None;
            return Tended::Done;
        }
        if self.until.is_some_and(|until| until <= Instant::now()) {
            state.bell = None;
            if !state.is_free() {
                // What it rang for is for those who are aboard.
                let wakers = if state.rang { state.wakers() } else { Vec::new() };
                drop(state);
                wake(wakers);
                return Tended::Done;
            }
            let rang = state.rang;
            return state.parked.take().map_or(Tended::Done, |later| Tended::Late(later, rang));
        }
        if !std::mem::take(&mut state.rang) {
            return Tended::Waits;
        }
        // Without it, one who is aboard polls.
        state.parked.take().map_or(Tended::Waits, Tended::Polls)
    }
}

/// Polls in the calling thread until there is something, for `timeout` at most.
pub(crate) fn block_on<T>(timeout: Duration, mut poll: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
    let bell = Arc::new(Bell::of(thread::current()));
    let waker = Waker::from(Arc::clone(&bell));
    let until = Instant::now().checked_add(timeout);
    loop {
        if let Poll::Ready(found) = poll(&waker) {
            return Some(found);
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return None,
            _ if bell.rang() => {}
            Some(left) => thread::park_timeout(left),
            None => thread::park(),
        }
    }
}

impl<S> fmt::Debug for Flights<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("table", &self.table).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
