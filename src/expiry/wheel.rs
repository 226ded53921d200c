//! The timer wheel of one lane, which is the order of eviction too.
//!
//! Ten levels of 64 slots; a slot of level l spans 2¹⁰·8ˡ milliseconds. A hint is filed once, in
//! the finest level that reaches its expiry, and nothing cascades (the rule of Linux's wheel): a
//! hint comes due at the end of its slot's span, which is about an eighth of the remaining lifetime
//! long at most, and never shorter than a second. Lookups check the expiry itself, so lateness delays the return of memory and nothing else.
//!
//! Each slot has three lists, one of *fresh* hints and two of *kept* ones. Eviction takes the oldest hint of
//! the earliest fresh list, and a session that was used since it came moves to a kept list of its slot; or, if
//! the caller says so, the oldest of the earliest kept list, and one that was used again moves to the other
//! kept list. When the kept lists that eviction looks at are empty the two change places, by a step of `turn`.
//! So kept sessions are gone through in rounds, as the hand of SIEVE does (Zhang et al. 2024), and what is new
//! waits apart from them, as in S3-FIFO (Yang et al. 2023). How much of that there is to be says `lanes.rs`.
//!
//! # Invariants
//!
//! * W1: a list's bit in the map is set while the list has a hint, but between the two steps of a
//!   push, and between those of the clearing of a bit.
//! * W2: a level's progress only grows. Slots before `next` have been found without hints once,
//!   slots before `swept` twice, at two calls.
//! * W3: a hint is filed at `next` or later, and less than 64 slots after `swept`; so a slot number
//!   and its index stand for each other.
//!
//! # Races, both orders
//!
//! * Push and the clearing of an empty list's bit: the push reads the bit after it pushed, and sets it
//!   if it is clear; the popper clears it, and then settles that the list is empty, by a
//!   read-modify-write on the word that the next push changes ([`Queue::settle_empty`]). If the push
//!   is first, the popper sees its hint and sets the bit again; if the settling is first, the push
//!   sees the bit cleared.
//! * Push and the progress of a level over the push's slot: the push reads or sets the bit, then reads
//!   the progress again; the other makes the progress, then reads the maps by read-modify-writes.
//!   If the bit was set before that reading, the other sees it, and so do the looks that follow at
//!   the slots before `next`; if it was set after, by this push or by the one whose bit this push
//!   has read, the push sees the new progress and files its hint a second time, where it is due next.
//!   A second hint does no harm: a hint is a value.
//! * A spared hint and the turn of the kept lists: if the turn is read first and made then, the hint goes to the
//!   lists that eviction looks at now, and is looked at a round too soon; if it is made first, the hint goes to the
//!   other ones. In neither order is it lost, for every list with hints is in one of the two rows.
//!
//! A thread that is stopped between two of its steps, for long or while the clock jumps over several slots, can leave
//! a hint in a slot that has been passed twice. It comes due a turn later; its session is still never found once expired.
//! One that is stopped for ever between its push and the setting of a bit that was clear leaves a hint at which nobody
//! looks until another hint comes to that list. Its session leaves by a lookup, by a sweep or a put of its id, or as the
//! last one that can make room.
//!
//! Model: `loom-tests/tests/wheel.rs`.

use std::ptr::{self, NonNull};

use super::hint::Hint;
use crate::queue::{NeedsSegment, Queue, Segment};
use crate::reclaim::gauge::Gauges;
use crate::reclaim::{Guard, pin};
use crate::sync::{AtomicPtrWord, AtomicU64, Ordering, planted, tally};

/// Levels of the wheel. The last one has a slot for every time that an expiry can name (42 bits of
/// milliseconds), so there is always a level that reaches far enough, whatever the progress is. One
/// under loom, which pays for every word; models stay within its reach.
const LEVELS: usize = if cfg!(loom) { 1 } else { 10 };
const SLOTS: u64 = 64;
/// A slot of level 0 spans 1024 ms.
const SPAN_BITS: u32 = 10;
/// Each level's slots span eight times those of the level before.
const LEVEL_BITS: u32 = 3;

/// The lists of a slot.
const ROWS: usize = 3;

/// Bits of the count in the word that says where compaction is; the list's number is above them.
const COUNT_BITS: u32 = 48;

/// The wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// For each level how far it has been drained, a [`Progress`].
    progress: [AtomicU64; LEVELS],
    /// For each level and row, a bit for each list that has hints.
    maps: [[AtomicU64; ROWS]; LEVELS],
    /// Its lowest bit tells at which kept lists eviction looks, [`Row::looked_at`].
    turn: AtomicU64,
    /// How many hints the kept lists have; for a moment less than none.
    kept: tally::AtomicU64,
    /// Where compaction is: the list's number, and how many hints are left to look at.
    compaction: AtomicU64,
    /// A queue for each list, allocated on first use.
    queues: Box<[AtomicPtrWord]>,
}

/// One list of the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    level: usize,
    slot: u64,
    row: Row,
}

/// Which of its slot's lists one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row(u8);

/// What hints eviction looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Those that it has not spared yet.
    Fresh,
    /// Those that it has.
    Kept,
}

/// A part of a round of compaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) list: List,
    /// How many of its oldest hints are to be looked at.
    pub(crate) hints: u64,
    /// Whether all lists with hints have been gone through before.
    pub(crate) begins_round: bool,
}

/// Why there is no part of compaction for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPart {
    NoHints,
    /// Another thread has taken it.
    Outrun,
}

/// A push has to be made by [`Wheel::push`], which may allocate.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpushed {
    /// Nothing is filed yet.
    NotYet,
    /// The hint is filed where it may come due too late.
    Again,
}

impl Wheel {
    /// An empty wheel at the time `now`, in milliseconds.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            progress: std::array::from_fn(|level| {
                let next = now >> shift(level);
                AtomicU64::new(Progress { swept: next, next }.to_word())
            }),
            maps: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            turn: AtomicU64::new(0),
            kept: tally::AtomicU64::new(0),
            compaction: AtomicU64::new(0),
            queues: (0..List::COUNT).map(|_| AtomicPtrWord::new(ptr::null_mut())).collect(),
        }
    }

    /// Files a hint, which was filed first at `since`, where it comes due at `due`; `false` if that has to be done once more, because the
    /// level has made progress, which is progress of another thread. Allocates a segment for each
    /// sixtieth hint of a list; hence not under a pin.
    #[must_use]
    pub(crate) fn push(&self, (hint, since): (Hint, u64), due: u64, now: u64, row: Row) -> bool {
        let (list, slot) = self.list_for(due, now, row);
        self.push_to(list, hint, since);
        !self.has_passed(list, slot)
    }

    /// As [`push`](Self::push), under the caller's pin, unless that takes an allocation.
    #[inline(always)]
    pub(crate) fn try_push(
        &self,
        hint: Hint,
        due: u64,
        now: u64,
        row: Row,
        guard: &Guard,
    ) -> Result<(), Unpushed> {
        let (list, slot) = self.list_for(due, now, row);
        let queue = self.queue(list).ok_or(Unpushed::NotYet)?;
        queue.push(hint.to_word(), &mut None, guard).map_err(|NeedsSegment| Unpushed::NotYet)?;
        self.pushed(list, queue, now, guard);
        if self.has_passed(list, slot) {
            return Err(Unpushed::Again);
        }
        Ok(())
    }

    /// Appends a hint to a list. Not under a pin.
    fn push_to(&self, list: List, hint: Hint, since: u64) {
        let queue = self.queue_or_new(list);
        let mut spare = None;
        loop {
            let guard = pin();
            match queue.push(hint.to_word(), &mut spare, &guard) {
                Ok(()) => return self.pushed(list, queue, since, &guard),
                Err(NeedsSegment) => {
                    drop(guard);
                    spare = Some(Segment::new(since));
                }
            }
        }
    }

    /// Counts a push to a list, and sets the list's bit (W1).
    #[inline]
    fn pushed(&self, list: List, queue: &Queue, since: u64, guard: &Guard) {
        if list.row != Row::FRESH {
            // Relaxed: a count.
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
        if self.mark(list) {
            queue.date(since, guard);
        }
    }

    /// Sets a list's bit, after a push to it (W1); `true` if it was clear.
    #[inline]
    fn mark(&self, list: List) -> bool {
        let relaxed = planted!("relaxed-look-at-the-mark");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
        // Acquire: pairs with the setting of the bit, for the second race; the first is decided by
        // the queue, see above.
        let was_clear = self.map(list).load(order) & list.bit() == 0;
        if was_clear {
            self.mark_clear(list);
        }
        was_clear
    }

    /// Sets a list's bit that was clear.
    fn mark_clear(&self, list: List) {
        if planted!("relaxed-mark") {
            self.map(list).fetch_or(list.bit(), Ordering::Relaxed);
            return;
        }
        // AcqRel: its order among the read-modify-writes of `clear` and `due_in` decides the races
        // above.
        self.map(list).fetch_or(list.bit(), Ordering::AcqRel);
    }

    /// Removes the oldest hints of a list, as many as there is room for, or less; none when the list is
    /// empty.
    #[inline]
    pub(crate) fn pop<'o>(
        &self,
        list: List,
        room: &'o mut [u64],
        guard: &Guard,
        gauges: &'static Gauges,
    ) -> impl ExactSizeIterator<Item = Hint> + Clone + 'o {
        let count = self.queue(list).map_or(0, |queue| queue.pop(room, guard, gauges));
        if count == 0 {
            self.clear(list, guard);
        } else if list.row != Row::FRESH {
            // Relaxed: as in `pushed`.
            self.kept.fetch_sub(count as u64, Ordering::Relaxed);
        }
        room[..count].iter().map(|&word| Hint::from_word(word))
    }

    /// Clears the bit of a list that was found empty (W1).
    #[cold]
    fn clear(&self, list: List, guard: &Guard) {
        // AcqRel: as in `mark_clear`.
        self.map(list).fetch_and(!list.bit(), Ordering::AcqRel);
        if planted!("no-second-look") {
            return;
        }
        if self.queue(list).is_some_and(|queue| !queue.settle_empty(guard)) {
            self.mark_clear(list);
        }
    }

    /// About how many hints a list has.
    pub(crate) fn len(&self, list: List, guard: &Guard) -> u64 {
        self.queue(list).map_or(0, |queue| queue.len(guard))
    }

    /// How many hints the kept lists have, about.
    #[inline]
    pub(crate) fn kept(&self) -> u64 {
        // Relaxed: as in `pushed`. A hint may be popped before it is counted.
        u64::try_from(self.kept.load(Ordering::Relaxed).cast_signed()).unwrap_or(0)
    }

    /// The list of this age that comes due first, or of the other age if there is none. `None` when the
    /// wheel is empty.
    pub(crate) fn earliest(&self, age: Age) -> Option<List> {
        let front = self.front(age).or_else(|| self.front(age.other()));
        front.map(|(_, list)| list)
    }

    /// The list of this age that comes due first, and when.
    pub(crate) fn front(&self, age: Age) -> Option<(u64, List)> {
        match age {
            Age::Fresh => self.earliest_of(Row::FRESH),
            Age::Kept => self.earliest_kept(),
        }
    }

    /// About when the oldest hint of a list was filed.
    pub(crate) fn since(&self, list: List, now: u64, guard: &Guard) -> u64 {
        self.queue(list).map_or(now, |queue| queue.since(now, guard))
    }

    /// The kept list that comes due first, of those that eviction looks at; turns them when none of these has
    /// hints.
    fn earliest_kept(&self) -> Option<(u64, List)> {
        let relaxed = planted!("relaxed-turn");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
        // Acquire: pairs with the exchange below; the turn comes after the pushes to the other lists.
        let turn = self.turn.load(order);
        if let Some(front) = self.earliest_of(Row::looked_at(turn)) {
            return Some(front);
        }
        let next = turn.wrapping_add(1);
        let front = self.earliest_of(Row::looked_at(next))?;
        // AcqRel: as above. If it fails, another thread has turned them.
        let _ = self.turn.compare_exchange(turn, next, Ordering::AcqRel, Ordering::Relaxed);
        Some(front)
    }

    /// The row for hints that eviction spares: the one at which it looks next.
    #[inline]
    pub(crate) fn spared(&self) -> Row {
        // Acquire: as in `earliest_kept`.
        Row::looked_at(self.turn.load(Ordering::Acquire).wrapping_add(1))
    }

    fn earliest_of(&self, row: Row) -> Option<(u64, List)> {
        let mut earliest: Option<(u64, List)> = None;
        for level in 0..LEVELS {
            // Acquire: pairs with `mark`; the pop that follows finds the hint.
            let map = self.maps[level][row.index()].load(Ordering::Acquire);
            if map == 0 {
                continue;
            }
            let slot = first_slot(map, self.progress(level).swept);
            let due = slot << shift(level);
            if earliest.is_none_or(|(first, _)| due < first) {
                earliest = Some((due, List { level, slot: slot % SLOTS, row }));
            }
        }
        earliest
    }

    /// The number of the finest slot's span that `now` is in.
    #[inline]
    pub(crate) fn span(now: u64) -> u64 {
        now >> SPAN_BITS
    }

    /// A list with hints that are due at `now`; notes the progress over the slots that have none.
    pub(crate) fn due(&self, now: u64) -> Option<List> {
        (0..LEVELS).find_map(|level| self.due_in(level, now))
    }

    fn due_in(&self, level: usize, now: u64) -> Option<List> {
        let last = now >> shift(level);
        let progress = self.progress(level);
        if progress.next > last && progress.swept + 1 >= progress.next {
            return None;
        }
        let passed = window(progress.swept, last.max(progress.next.saturating_sub(1)));
        // Acquire: pairs with `mark`.
        let read = |map: &AtomicU64| map.load(Ordering::Acquire);
        if let Some(list) = self.marked(level, passed, read) {
            return Some(list);
        }
        let swept = progress.next.min(last).max(progress.swept);
        let new = Progress { swept, next: progress.next.max(last + 1) };
        // AcqRel: pairs with `progress`. If it fails, another thread has made progress.
        let moved = self.progress[level].compare_exchange(
            progress.to_word(),
            new.to_word(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if moved.is_err() || planted!("no-second-look-at-the-map") {
            return None;
        }
        let relaxed = planted!("relaxed-second-look-at-the-map");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        // AcqRel, a read-modify-write: see the second race above.
        self.marked(level, passed, |map| map.fetch_or(0, order))
    }

    /// A list of `level` whose bit is set and in `window`; reads the maps of all rows.
    fn marked(&self, level: usize, window: u64, read: impl Fn(&AtomicU64) -> u64) -> Option<List> {
        let maps = self.maps[level].each_ref().map(|map| read(map) & window);
        let row = maps.iter().position(|&map| map != 0)?;
        let slot = u64::from(maps[row].trailing_zeros());
        Some(List { level, slot, row: Row(row as u8) })
    }

    /// How far a level has been drained.
    #[inline]
    fn progress(&self, level: usize) -> Progress {
        // Acquire: pairs with the exchange in `due_in`.
        Progress::from_word(self.progress[level].load(Ordering::Acquire))
    }

    /// Whether a hint for `due` belongs to a later slot than the one where it was found: the session
    /// was extended since.
    #[inline]
    pub(crate) fn is_early(&self, list: List, due: u64, now: u64) -> bool {
        let filed = first_slot(list.bit(), self.progress(list.level).swept);
        if number(due, list.level) <= filed {
            // The usual case. A finer level would round up less.
            return false;
        }
        let (level, slot) = self.slot_for(due, now);
        slot << shift(level) > filed << shift(list.level)
    }

    /// Takes up to `steps` steps of compaction: the list whose oldest hints are to be looked at and
    /// filed again, and how many.
    pub(crate) fn compact(&self, steps: u64, guard: &Guard) -> Result<Part, NoPart> {
        // Relaxed, all: a place to work at; the queues order the work itself.
        let state = self.compaction.load(Ordering::Relaxed);
        let (last, left) = (state >> COUNT_BITS, state & ((1 << COUNT_BITS) - 1));
        let (number, left) = if left > 0 {
            (last, left)
        } else {
            let list = self.next_list(last as usize).ok_or(NoPart::NoHints)?;
            (list.number() as u64, self.len(list, guard).clamp(1, (1 << COUNT_BITS) - 1))
        };
        let hints = left.min(steps);
        let next = number << COUNT_BITS | (left - hints);
        let taken =
            self.compaction.compare_exchange(state, next, Ordering::Relaxed, Ordering::Relaxed);
        taken.map_err(|_| NoPart::Outrun)?;
        let begins_round = state & ((1 << COUNT_BITS) - 1) == 0 && number <= last;
        Ok(Part { list: List::from_number(number as usize), hints, begins_round })
    }

    /// Compaction has met a list without hints, of which others may have been taken since it began with that: the next
    /// call goes to another list.
    pub(crate) fn skip(&self, list: List) {
        let number = list.number() as u64;
        // Relaxed, all: as above. It fails if another thread has gone on, to another list or in this one.
        let state = self.compaction.load(Ordering::Relaxed);
        if state >> COUNT_BITS == number {
            let none_left = number << COUNT_BITS;
            let _ = self.compaction.compare_exchange(
                state,
                none_left,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// The next list with hints after that of `number`, going around.
    fn next_list(&self, number: usize) -> Option<List> {
        (1..=List::COUNT)
            .map(|step| List::from_number((number + step) % List::COUNT))
            // Acquire: pairs with `mark`.
            .find(|&list| self.map(list).load(Ordering::Acquire) & list.bit() != 0)
    }

    /// The list for a hint that comes due at `due`, and the number of its slot (W3).
    #[inline]
    fn list_for(&self, due: u64, now: u64, row: Row) -> (List, u64) {
        let (level, slot) = self.slot_for(due, now);
        (List { level, slot: slot % SLOTS, row }, slot)
    }

    #[inline]
    fn slot_for(&self, due: u64, now: u64) -> (usize, u64) {
        let distance = due.saturating_sub(now) >> SPAN_BITS;
        // Some slots less than there are: the due time is rounded up, the progress down.
        let mut level = 0;
        while level + 1 < LEVELS && distance >> (LEVEL_BITS * level as u32) > SLOTS - 3 {
            level += 1;
        }
        loop {
            if let Some(slot) = self.slot_in(level, due) {
                return (level, slot);
            }
            // The level's progress is behind, for nobody has asked for long: move it on. If that
            // fails, there are hints to drain first, and a coarser level does.
            let _ = self.due_in(level, now);
            match self.slot_in(level, due) {
                Some(slot) => return (level, slot),
                None => level += 1,
            }
        }
    }

    /// The number of the slot of `due` in a level, if the level reaches that far (W3).
    #[inline]
    fn slot_in(&self, level: usize, due: u64) -> Option<u64> {
        let Progress { swept, next } = self.progress(level);
        let slot = number(due, level).max(next);
        (slot - swept < SLOTS || level == LEVELS - 1).then_some(slot)
    }

    /// Whether a level has passed the slot of this number while a hint was pushed there.
    #[inline]
    fn has_passed(&self, list: List, slot: u64) -> bool {
        if planted!("no-second-read-of-the-progress") {
            return false;
        }
        // After the read-modify-write of `mark`: see the second race above.
        slot < self.progress(list.level).next
    }

    #[inline]
    fn map(&self, list: List) -> &AtomicU64 {
        &self.maps[list.level][list.row.index()]
    }

    #[inline]
    fn queue(&self, list: List) -> Option<&Queue> {
        // Acquire: pairs with the exchange in `queue_or_new`.
        let queue = self.queues[list.number()].load(Ordering::Acquire).cast::<Queue>();
        // SAFETY: from a box, published by that exchange, and freed by this wheel's drop only.
        unsafe { queue.as_ref() }
    }

    fn queue_or_new(&self, list: List) -> &Queue {
        if let Some(queue) = self.queue(list) {
            return queue;
        }
        let new = Box::into_raw(Box::new(Queue::new()));
        let cell = &self.queues[list.number()];
        let relaxed = planted!("relaxed-queue");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        // AcqRel: publishes the queue to `queue`; or, on failure, Acquire shows the other one.
        match cell.compare_exchange(ptr::null_mut(), new.cast(), order, Ordering::Acquire) {
            // SAFETY: from a box just now, and freed by this wheel's drop only.
            Ok(_) => unsafe { &*new },
            Err(other) => {
                // SAFETY: the failed exchange showed the box to nobody.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: as in `queue`.
                unsafe { &*other.cast() }
            }
        }
    }
}

impl Drop for Wheel {
    fn drop(&mut self) {
        for queue in &self.queues {
            // Relaxed: `&mut self` orders this after every other access.
            if let Some(queue) = NonNull::new(queue.load(Ordering::Relaxed).cast::<Queue>()) {
                // SAFETY: from a box in `queue_or_new`, and freed here only.
                drop(unsafe { Box::from_raw(queue.as_ptr()) });
            }
        }
    }
}

impl List {
    const COUNT: usize = LEVELS * SLOTS as usize * ROWS;

    /// Its row, where a hint stays that is filed again and was not spared.
    #[inline]
    pub(crate) fn row(self) -> Row {
        self.row
    }

    /// A list's number: its place in the array of queues.
    #[inline]
    fn number(self) -> usize {
        (self.level * ROWS + self.row.index()) * SLOTS as usize + self.slot as usize
    }

    fn from_number(number: usize) -> Self {
        let slot = (number % SLOTS as usize) as u64;
        let row = number / SLOTS as usize;
        Self { level: row / ROWS, slot, row: Row((row % ROWS) as u8) }
    }

    /// The list's bit in the map of its level and row.
    #[inline]
    fn bit(self) -> u64 {
        1 << self.slot
    }
}

impl Age {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Fresh => Self::Kept,
            Self::Kept => Self::Fresh,
        }
    }
}

impl Row {
    /// The fresh lists. The other two rows are of kept ones.
    pub(crate) const FRESH: Self = Self(0);

    /// The kept lists at which eviction looks in this turn.
    #[inline]
    fn looked_at(turn: u64) -> Self {
        Self(1 + (turn & 1) as u8)
    }

    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How far a level has been drained (W2), in one word: slot numbers have 33 bits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    swept: u64,
    next: u64,
}

impl Progress {
    const NEXT_BITS: u32 = 48;

    /// The word; `swept` is brought to at most 63 slots before `next`.
    #[inline]
    fn to_word(self) -> u64 {
        (self.next - self.swept).min(SLOTS - 1) << Self::NEXT_BITS | self.next
    }

    #[inline]
    fn from_word(word: u64) -> Self {
        let next = word & ((1 << Self::NEXT_BITS) - 1);
        Self { swept: next - (word >> Self::NEXT_BITS), next }
    }
}

/// Bits by which milliseconds become slot numbers of a level.
#[inline]
fn shift(level: usize) -> u32 {
    SPAN_BITS + LEVEL_BITS * level as u32
}

/// The number of the slot that is drained once `due` is past: rounded up.
#[inline]
fn number(due: u64, level: usize) -> u64 {
    let shift = shift(level);
    due.saturating_add((1 << shift) - 1) >> shift
}

/// The first slot number from `from` on whose bit is set in `map`, which is not zero.
#[inline]
fn first_slot(map: u64, from: u64) -> u64 {
    let index = (from % SLOTS) as u32;
    from + u64::from(map.rotate_right(index).trailing_zeros())
}

/// The bits of the slots from `first` to `last`, at most all.
fn window(first: u64, last: u64) -> u64 {
    if last - first >= SLOTS - 1 {
        return u64::MAX;
    }
    let width = (last - first + 1) as u32;
    ((1u64 << width) - 1).rotate_left((first % SLOTS) as u32)
}

#[cfg(all(test, not(loom)))]
mod tests;
