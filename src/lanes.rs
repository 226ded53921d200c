//! The lanes of a cache: in which order its sessions leave.
//!
//! Each thread puts in a lane of its own (`lane.rs`), but sessions leave in one order, about: every few batches who
//! needs room compares the front of its own lane, that of the lane whose front is known to be the oldest, and that of one
//! more, and evicts from the one that comes first. As long as all threads put as often as the others, that is their own
//! lane. Between sessions that expire in the same slot the older one comes first, by an eighth of its age at
//! least, so that nobody changes lanes for nothing: a line that another thread has written last costs more than all
//! the rest of a put. Of a thread that puts no more, or seldom, no session stays much longer than others' do.
//!
//! What is due, and what is stale, is looked at by whoever comes, in whatever lane.
//!
//! Nothing here runs user code: what has left is returned to the engine, which accounts for it once no pin is held.

#![forbid(unsafe_code)]

use crate::expiry::capacity::SharedAccount;
use crate::expiry::{Age, Due, Hint, List, NoPart, Part, Row, Standing, Wheel};
use crate::lane::{Counts, Lane, Unfiled};
use crate::reclaim::gauge::Gauges;
use crate::reclaim::{Guard, pin};
use crate::shard::{Departed, Look, Shard, Shards};
use crate::stats::Reason;
use crate::sync::{Ordering, Padded, lane_of, lane_to_put, tally};
use crate::table::{Found, Name};

/// Sessions that eviction spares before it takes the next one, used or not.
const MOST_SPARED: usize = 64;

/// Sessions evicted together in a large cache, and hints prefetched together.
pub(crate) const BATCH: usize = if cfg!(loom) { 1 } else { 16 };

/// One session in so many is to be a fresh one, which eviction has not spared yet, before the next fresh one is
/// evicted. With fewer a new session leaves before its client can come back, and with more a flood of new ones
/// costs others theirs; measured in `docs/decisions.md`.
const PROBATION: u64 = 5;

/// The lanes; a power of two.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Box<[Padded<Lane>]>,
    /// After so many changes of its counts a lane looks up the others'.
    interval: u64,
    /// The lane whose front came before the others' when it was last seen.
    oldest: tally::AtomicUsize,
    /// A lane in which something was due.
    due: tally::AtomicUsize,
    /// The lane whose stale hints are looked for.
    compacted: tally::AtomicUsize,
    /// The span of the wheel's finest slots in which nothing more was due.
    idle: tally::AtomicU64,
    gauges: &'static Gauges,
}

/// How much eviction is enough: so many sessions, or so much weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) sessions: usize,
    pub(crate) weight: u64,
}

/// What of a lane would leave first.
#[derive(Clone, Copy, Debug)]
struct Front {
    lane: usize,
    list: List,
    due: u64,
    /// About when its oldest hint was filed.
    since: u64,
}

impl Lanes {
    /// A lane for each account.
    pub(crate) fn new(now: u64, accounts: &[SharedAccount], gauges: &'static Gauges) -> Self {
        let lane = |(at, account): (usize, &SharedAccount)| Lane::new(at, now, account.clone());
        Self {
            lanes: accounts.iter().enumerate().map(lane).map(Padded).collect(),
            // A lane is looked at once in four of its changes, at the most, however many others there are.
            interval: (4 * accounts.len() as u64).max(16),
            oldest: tally::AtomicUsize::new(0),
            due: tally::AtomicUsize::new(0),
            compacted: tally::AtomicUsize::new(0),
            idle: tally::AtomicU64::new(u64::MAX),
            gauges,
        }
    }

    /// The calling thread's lane.
    #[inline]
    pub(crate) fn mine(&self) -> usize {
        lane_of(self.lanes.len())
    }

    /// The calling thread's lane, now that it puts: threads that do are spread over the lanes, whatever others there are.
    #[inline]
    pub(crate) fn mine_to_put(&self) -> usize {
        lane_to_put(self.lanes.len())
    }

    #[inline]
    pub(crate) fn lane(&self, at: usize) -> &Lane {
        &self.lanes[at].0
    }

    fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().map(|lane| &lane.0)
    }

    /// How many lanes there are.
    pub(crate) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// About what all lanes have counted, as of now. A thread that is interrupted while it adds them up misses what comes in
    /// one lane and sees what leaves in another: it looks again until two sums are alike, a few times.
    pub(crate) fn counts(&self) -> Counts {
        const ALIKE: u64 = 64;
        let sum = || self.iter().map(Lane::own).fold(Counts::default(), |sum, counts| sum + counts);
        let (mut last, mut looks) = (sum(), 0);
        while self.lanes.len() > 1 && looks < 4 {
            let next = sum();
            if next.live().abs_diff(last.live()) <= ALIKE {
                return next;
            }
            (last, looks) = (next, looks + 1);
        }
        last
    }

    /// Adds to a lane's counts, or subtracts.
    #[inline]
    pub(crate) fn add(&self, at: usize, counts: Counts) {
        let changes = self.lane(at).add(counts);
        // A power of two.
        if changes & (self.interval - 1) == 0 && self.lanes.len() > 1 {
            self.look_around(at);
        }
    }

    /// Files one more hint of a linked session in a lane. Not under a pin.
    pub(crate) fn file(&self, at: usize, hint: Hint, due: u64, now: u64) {
        self.add(at, Counts::HINT);
        self.lane(at).file_rest(&[Unfiled { hint, due, row: Row::FRESH }], now, |_| now);
    }

    /// Looks up for a lane what the others have counted.
    #[cold]
    pub(crate) fn look_around(&self, at: usize) {
        let others = || self.iter().enumerate().filter(|&(other, _)| other != at);
        let counts = others().fold(Counts::default(), |sum, (_, lane)| sum + lane.own());
        self.lane(at).note_others(counts, others().map(|(_, lane)| lane.wheel.kept()).sum());
    }

    /// Removes sessions that come first in the order of eviction, but not `spare`, until `wanted`
    /// is enough, or there is room anyway: in the own lane, or, after a first round, in any. The session that a put
    /// replaces is spared: its room becomes the new one's.
    pub(crate) fn evict<S: 'static>(
        &self,
        own: usize,
        shards: &Shards<S>,
        now: u64,
        wanted: Wanted,
        spare: &Name,
        has_room: impl Fn(bool) -> bool,
    ) -> Departed<S> {
        let mut departed = Departed::with_capacity(wanted.sessions);
        let (mut spared, mut is_later) = (0, false);
        // Half of a batch will do: the other hints were stale, and another round brings less. Once
        // nothing is left but what is spared by name, that is met again and again. And while a sweep
        // removes what most hints lead to, there is room long before one is found that is to stay.
        while !is_enough(&departed, wanted.half())
            && spared < 2 * MOST_SPARED
            && !has_room(is_later)
        {
            let Some((lane, list)) = self.first_to_leave(own, now) else { break };
            self.each_hint(lane, shards, list, now, &mut departed, wanted, |shard, node| {
                look_to_evict(lane, shard, list, node, now, spare, &mut spared)
            });
            is_later = true;
        }
        departed
    }

    /// What eviction looks at next: of the fresh hints or of the kept ones, and of the others if there are none.
    fn first_to_leave(&self, own: usize, now: u64) -> Option<(&Lane, List)> {
        let age = self.next_evicted(own);
        if let [lane] = &*self.lanes {
            return Some((&lane.0, lane.0.wheel.earliest(age)?));
        }
        let source = self.source(own, age, now).or_else(|| self.source(own, age.other(), now));
        source.map(|(at, list)| (self.lane(at), list))
    }

    /// Whether eviction looks at fresh hints or at kept ones: at these if less than one session in [`PROBATION`] is
    /// fresh. Kept hints that are stale make that too few for a while, in which eviction does away with them.
    fn next_evicted(&self, own: usize) -> Age {
        let live = self.lane(own).all().live();
        let fresh = live.saturating_sub(self.lane(own).all_kept());
        if fresh * PROBATION < live { Age::Kept } else { Age::Fresh }
    }

    /// The lane from which the own one evicts, and what comes first there.
    fn source(&self, own: usize, age: Age, now: u64) -> Option<(usize, List)> {
        let lane = self.lane(own);
        let source = lane.source(age);
        // A later front is not the one for which the lane was chosen.
        if !source.is_old()
            && let Some((due, list)) = self.lane(source.lane).wheel.front(age)
            && due == source.due
        {
            return Some((source.lane, list));
        }
        let first = self.first_of(own, source.turn(), age, now)?;
        lane.set_source(age, first.lane, first.due);
        Some((first.lane, first.list))
    }

    /// The front that comes first of some lanes, or of any if they have no hints.
    fn first_of(&self, own: usize, turn: usize, age: Age, now: u64) -> Option<Front> {
        let guard = pin();
        // Relaxed, here and below: a lane to look at.
        let oldest = self.oldest.load(Ordering::Relaxed);
        let mut first = self.front(own, age, now, &guard);
        for at in [oldest, self.another(own, turn)].into_iter().filter(|&at| at != own) {
            let front = self.front(at, age, now, &guard);
            first = match (first, front) {
                (Some(first), Some(front)) if !front.is_before(&first, now) => Some(first),
                (first, front) => front.or(first),
            };
        }
        if first.is_none() {
            first = (0..self.lanes.len()).find_map(|at| self.front(at, age, now, &guard));
        }
        if let Some(Front { lane, .. }) = first
            && lane != own
            && lane != oldest
        {
            self.oldest.store(lane, Ordering::Relaxed);
        }
        first
    }

    fn front(&self, at: usize, age: Age, now: u64, guard: &Guard) -> Option<Front> {
        let wheel = &self.lane(at).wheel;
        let (due, list) = wheel.front(age)?;
        Some(Front { lane: at, list, due, since: wheel.since(list, now, guard) })
    }

    /// Another lane than the own one: each in its turn.
    fn another(&self, own: usize, turn: usize) -> usize {
        let others = self.lanes.len() - 1;
        (own + 1 + turn % others) & others
    }

    /// Whether something may be due at `now`, in any lane. Nothing comes due again within the span of a finest
    /// slot in which nothing was.
    #[inline]
    pub(crate) fn may_be_due(&self, now: u64) -> bool {
        // Relaxed: it spares a look, and a look too many or too late does no harm.
        self.idle.load(Ordering::Relaxed) != Wheel::span(now)
    }

    /// Removes what is due at `now` in a lane; looks at up to `most` hints. In the own lane, or in another one if
    /// nothing is due there. `None` when nothing is due, or when expired sessions are to stay.
    pub(crate) fn expire<S: 'static>(
        &self,
        own: usize,
        shards: &Shards<S>,
        now: u64,
        most: usize,
    ) -> Option<Departed<S>> {
        if !shards.clear() {
            return None;
        }
        // Relaxed, here and below: where to begin.
        let from = self.due.load(Ordering::Relaxed);
        let count = self.lanes.len();
        for at in [own].into_iter().chain((from..from + count).map(|at| at % count)) {
            if let Some(departed) = self.expire_in(at, shards, now, most) {
                if at != own && at != from {
                    self.due.store(at, Ordering::Relaxed);
                }
                return Some(departed);
            }
            if count == 1 {
                break;
            }
        }
        // Relaxed: as above.
        self.idle.store(Wheel::span(now), Ordering::Relaxed);
        None
    }

    /// [`expire`](Self::expire) in this lane.
    pub(crate) fn expire_in<S: 'static>(
        &self,
        at: usize,
        shards: &Shards<S>,
        now: u64,
        most: usize,
    ) -> Option<Departed<S>> {
        let lane = self.lane(at);
        let mut list = lane.wheel.due(now).filter(|_| shards.clear());
        list?;
        let (mut departed, mut left) = (Departed::with_capacity(most), most);
        // Where puts are rare, each list has few.
        while left > 0
            && let Some(due) = list
        {
            let looks = Wanted::looks(departed.sessions.len() + left);
            let looked =
                self.each_hint(lane, shards, due, now, &mut departed, looks, |shard, node| {
                    look_to_expire(shard, node, now, due.row())
                });
            left -= looked.clamp(1, left);
            // A model's next call does the same, and each look at the wheel multiplies the executions.
            list = if cfg!(loom) { None } else { lane.wheel.due(now) };
        }
        Some(departed)
    }

    /// Looks at a batch of hints, and drops the stale ones. The others are filed again by the time
    /// that is left to them, which orders them no worse than before; also those of expired sessions,
    /// where these stay. Goes through one lane after the other.
    pub(crate) fn compact<S: 'static>(&self, shards: &Shards<S>, now: u64) -> Departed<S> {
        let mut departed = Departed::with_capacity(BATCH);
        // Relaxed, both: a place to work at.
        let at = self.compacted.load(Ordering::Relaxed);
        let Some((lane, part)) = self.next_part(at) else { return departed };
        let (list, clears) = (part.list, shards.clear());
        let looks = Wanted::looks(part.hints as usize);
        let popped = self.each_hint(
            lane,
            shards,
            list,
            now,
            &mut departed,
            looks,
            |shard, node| match clears {
                true => look_to_expire(shard, node, now, list.row()),
                false => Look::Stays { due: Due::load(node.node().expiry()).at(), row: list.row() },
            },
        );
        if popped == 0 {
            lane.wheel.skip(list);
        }
        departed
    }

    /// A part of the round of compaction, from lane `at` on; `None` if no lane has hints, or if another thread has taken the
    /// part.
    fn next_part(&self, at: usize) -> Option<(&Lane, Part)> {
        let lanes = (at..at + self.lanes.len()).map(|lane| lane & (self.lanes.len() - 1));
        for (step, lane) in lanes.map(|at| self.lane(at)).enumerate() {
            if lane.own().hints() == 0 {
                continue;
            }
            match lane.wheel.compact(BATCH as u64, &pin()) {
                Ok(part) => {
                    if step > 0 || part.begins_round {
                        let next = (at + step.max(1)) & (self.lanes.len() - 1);
                        // Relaxed: as above. If it fails, another thread has gone on.
                        let _ = self.compacted.compare_exchange(
                            at,
                            next,
                            Ordering::Relaxed,
                            Ordering::Relaxed,
                        );
                    }
                    return Some((lane, part));
                }
                Err(NoPart::Outrun) => return None,
                // It is counted, and not filed yet.
                Err(NoPart::NoHints) => {}
            }
        }
        None
    }

    /// Pops hints of `list`, and shows `look` the sessions that they lead to, under a pin, until
    /// `wanted` is enough. Keeps what has left; files again what stays. Returns how many it popped.
    #[expect(clippy::too_many_arguments, reason = "where, what, when, how much, and how")]
    fn each_hint<S: 'static>(
        &self,
        lane: &Lane,
        shards: &Shards<S>,
        list: List,
        now: u64,
        departed: &mut Departed<S>,
        wanted: Wanted,
        mut look: impl FnMut(&Shard<S>, Found<'_, S>) -> Look<S>,
    ) -> usize {
        let most = wanted.sessions - departed.sessions.len();
        let mut steps = most;
        while steps > 0 && !is_enough(departed, wanted) {
            // Where weight decides, a few at a time: what is popped and not needed any more goes to the
            // end of its list.
            let batch = if wanted.weight == u64::MAX { BATCH } else { BATCH.min(4) };
            let popped =
                self.each_of_batch(lane, shards, list, now, steps.min(batch), |at, shard, node| {
                    departed.note_told(at, shard);
                    let node = node?;
                    if is_enough(departed, wanted) {
                        return Some((Due::load(node.node().expiry()).at(), list.row()));
                    }
                    match look(shard, node) {
                        Look::Stale => None,
                        Look::Left(unlinked, reason) => {
                            // Once more: the first callback may have been set before the removal.
                            departed.note_told(at, shard);
                            departed.push(unlinked, reason);
                            None
                        }
                        Look::Stays { due, row } => Some((due, row)),
                    }
                });
            if popped == 0 {
                break;
            }
            steps -= popped;
        }
        most - steps
    }

    /// Pops up to `most` hints of `list`, and shows `look` the sessions that they lead to, or that there is none, under
    /// one pin. Files again those of which `look` says for when and how; drops the others. Returns how many
    /// it popped.
    fn each_of_batch<S: 'static>(
        &self,
        lane: &Lane,
        shards: &Shards<S>,
        list: List,
        now: u64,
        most: usize,
        mut look: impl FnMut(usize, &Shard<S>, Option<Found<'_, S>>) -> Option<(u64, Row)>,
    ) -> usize {
        // One by one, for arrays in a tuple are copied.
        let mut words = [0; BATCH];
        let mut unfiled = [Unfiled::NONE; BATCH];
        let (mut stay, mut rest) = (0, 0);
        let guard = pin();
        let hints = lane.wheel.pop(list, &mut words[..most], &guard, self.gauges);
        let popped = hints.len();
        prefetch(shards, hints.clone());
        for hint in hints {
            let at = shards.index_of(hint.hash());
            let shard = &shards[at];
            let node = shard.table.get_stamped(hint.hash(), |stamp| hint.is_of(stamp), &guard);
            let Some((due, row)) = look(at, shard, node) else { continue };
            stay += 1;
            if let Err(again) = lane.try_file_again(Unfiled { hint, due, row }, now, &guard) {
                unfiled[rest] = again;
                rest += 1;
            }
        }
        drop(guard);
        if popped > stay {
            // Whether it is time to look around says who has popped them.
            let _ = lane.add(Counts::of_hints((popped - stay) as u64).negative());
        }
        if rest > 0 {
            // They begin a segment. What stays where it was is no younger for that.
            let since = lane.wheel.since(list, now, &pin());
            let since_of = |row| if row == list.row() { since } else { now };
            lane.file_rest(&unfiled[..rest], now, since_of);
        }
        popped
    }
}

#[inline(always)]
fn look_to_evict<S: 'static>(
    lane: &Lane,
    shard: &Shard<S>,
    list: List,
    node: Found<'_, S>,
    now: u64,
    spare: &Name,
    spared: &mut usize,
) -> Look<S> {
    let expiry = node.node().expiry();
    let is_named = node.node().is(spare);
    if !is_named {
        match Due::standing(expiry, now) {
            Standing::Live => {}
            Standing::Expired => return shard.removed(node, Reason::Expired),
            Standing::Unseen => return Look::Stale,
        }
    }
    let due = Due::load(expiry).at();
    if is_named || *spared < MOST_SPARED && node.node().clear_visit() {
        *spared += 1;
        return Look::Stays { due, row: lane.wheel.spared() };
    }
    if *spared < MOST_SPARED && lane.wheel.is_early(list, due, now) {
        *spared += 1;
        return Look::Stays { due, row: list.row() };
    }
    shard.removed(node, Reason::Evicted)
}

fn look_to_expire<S: 'static>(shard: &Shard<S>, node: Found<'_, S>, now: u64, row: Row) -> Look<S> {
    let expiry = node.node().expiry();
    match Due::standing(expiry, now) {
        Standing::Live => Look::Stays { due: Due::load(expiry).at(), row },
        Standing::Expired => shard.removed(node, Reason::Expired),
        Standing::Unseen => Look::Stale,
    }
}

/// Asks the processor for what hints lead to: first for all their cells, then for the nodes behind
/// them. The waits for memory overlap, which halves the cost of a put in a large cache.
#[inline]
fn prefetch<S: 'static>(shards: &Shards<S>, hints: impl Iterator<Item = Hint> + Clone) {
    for hint in hints.clone() {
        shards.of(hint.hash()).table.spot(hint.hash());
    }
    for hint in hints {
        // To find the cell again is faster than to keep it.
        shards.of(hint.hash()).table.spot(hint.hash()).prefetch_node_to_write::<S>();
    }
}

#[inline]
fn is_enough<S>(departed: &Departed<S>, wanted: Wanted) -> bool {
    departed.sessions.len() >= wanted.sessions || departed.weight >= wanted.weight
}

impl Wanted {
    /// Half as many sessions, or the same weight.
    fn half(self) -> Self {
        Self { sessions: self.sessions.div_ceil(2), ..self }
    }

    /// So many looks, whatever leaves.
    fn looks(most: usize) -> Self {
        Self { sessions: most, weight: u64::MAX }
    }
}

impl Front {
    /// Whether what is here is to leave before what is there: it expires sooner, or it is older, and not by a little.
    fn is_before(&self, other: &Self, now: u64) -> bool {
        if self.due != other.due {
            return self.due < other.due;
        }
        /// Milliseconds: less is not worth a change of lanes.
        const MARGIN: u64 = 128;
        let [age, others] = [self, other].map(|front| now.saturating_sub(front.since));
        age > others + others / 8 + MARGIN
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
