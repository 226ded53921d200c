//! The timer wheel of one shard, which is the order of eviction too.
//!
//! Ten levels of 64 slots; a slot of level l spans 2¹⁰·8ˡ milliseconds. A hint is filed once, in
//! the finest level that reaches its expiry, and nothing cascades (the rule of Linux's wheel): a
//! hint comes due at the end of its slot's span, at most an eighth of the remaining lifetime late.
//! Lookups check the expiry itself, so lateness delays the return of memory and nothing else.
//!
//! Each slot has two lists, *fresh* and *kept* (SIEVE, Zhang et al. 2024): eviction takes the oldest
//! hint of the earliest fresh list; a session that was used since moves to the kept list of its
//! slot. When all fresh lists are empty the two change names, by a step of `parity`.
//!
//! # Invariants
//!
//! * W1: a list's bit in the map is set while the list has a hint that no thread is just pushing.
//! * W2: a level's cursor only grows; slots before it have been drained or are being drained.
//! * W3: a slot of a level is at most 63 after the cursor when a hint is filed there.
//!
//! # Races, both orders
//!
//! * Push and the clearing of an empty list's bit: the push sets the bit by a read-modify-write
//!   after it pushed; the popper clears it by one and looks at the list again. If the clearing is
//!   first, the push sets the bit after it; if the setting is first, the popper's clearing reads it,
//!   and its second look sees the hint and sets the bit again.
//! * Push and the advance of the cursor over the push's slot: the push sets the bit, then reads the
//!   cursor again; the advance moves the cursor, then reads the map again by a read-modify-write.
//!   If the push's setting is first, the advance sees the bit and drains the slot; if the advance's
//!   reading is first, the push sees the new cursor and files its hint a second time, where it is
//!   due next. A second hint does no harm: a hint is a value.
//!
//! Model: `loom-tests/tests/wheel.rs`.

use std::ptr::{self, NonNull};

use super::hint::Hint;
use super::queue::{NeedsSegment, Queue, Segment};
use crate::reclaim::gauge::Gauges;
use crate::reclaim::{Guard, pin};
use crate::sync::{AtomicPtrWord, AtomicU64, Ordering, planted};

/// Levels of the wheel. The last one has a slot for every time that an expiry can name (42 bits of
/// milliseconds), so there is always a level that reaches far enough, whatever the cursors are.
const LEVELS: usize = 10;
const SLOTS: u64 = 64;
/// A slot of level 0 spans 1024 ms.
const SPAN_BITS: u32 = 10;
/// Each level's slots span eight times those of the level before.
const LEVEL_BITS: u32 = 3;

/// The wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// For each level the first slot number that has not been drained.
    cursors: [AtomicU64; LEVELS],
    /// For each level and parity, a bit for each list that has hints.
    maps: [[AtomicU64; 2]; LEVELS],
    /// Its lowest bit tells which lists are the fresh ones.
    parity: AtomicU64,
    /// Where compaction is: the list's number, and how many hints are left to look at.
    compaction: AtomicU64,
    /// How many hints there are, at least: counted before a push and after a pop.
    hints: AtomicU64,
    /// A queue for each list, allocated on first use.
    queues: Box<[AtomicPtrWord]>,
}

/// One list of the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    level: usize,
    slot: u64,
    parity: usize,
}

/// Which of a slot's two lists a hint goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Not looked at since the last turn of the lists.
    Fresh,
    /// Spared by this turn.
    Kept,
}

/// A push has to be made again by [`Wheel::push`], which may allocate.
#[must_use]
#[derive(Debug)]
pub(crate) struct Unpushed;

impl Wheel {
    /// An empty wheel at the time `now`, in milliseconds.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            cursors: std::array::from_fn(|level| AtomicU64::new(now >> shift(level))),
            maps: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            parity: AtomicU64::new(0),
            compaction: AtomicU64::new(0),
            hints: AtomicU64::new(0),
            queues: (0..List::COUNT).map(|_| AtomicPtrWord::new(ptr::null_mut())).collect(),
        }
    }

    /// Files a hint that comes due at `due`. Allocates a segment for each sixtieth hint of a list;
    /// hence not under a pin.
    pub(crate) fn push(&self, hint: Hint, due: u64, now: u64, age: Age) {
        let (list, slot) = self.list_for(due, now, age);
        self.push_to(list, hint);
        if self.has_passed(list, slot) {
            self.push_to(self.list_for(due, now, age).0, hint);
        }
    }

    /// Files a hint under the caller's pin, unless that takes an allocation.
    #[inline]
    pub(crate) fn try_push(
        &self,
        hint: Hint,
        due: u64,
        now: u64,
        age: Age,
        guard: &Guard,
    ) -> Result<(), Unpushed> {
        let (list, slot) = self.list_for(due, now, age);
        self.try_push_to(list, hint, guard)?;
        if self.has_passed(list, slot) {
            return Err(Unpushed);
        }
        Ok(())
    }

    /// Appends a hint to a list. Not under a pin.
    pub(crate) fn push_to(&self, list: List, hint: Hint) {
        let queue = self.queue_or_new(list);
        let mut spare = None;
        // Relaxed: a count.
        self.hints.fetch_add(1, Ordering::Relaxed);
        while let Err(NeedsSegment) = queue.push(hint, &mut spare, &pin()) {
            spare = Some(Segment::new());
        }
        self.mark(list);
    }

    /// Appends a hint to a list under the caller's pin, unless that takes an allocation.
    pub(crate) fn try_push_to(
        &self,
        list: List,
        hint: Hint,
        guard: &Guard,
    ) -> Result<(), Unpushed> {
        let queue = self.queue(list).ok_or(Unpushed)?;
        // Relaxed, both: a count.
        self.hints.fetch_add(1, Ordering::Relaxed);
        if queue.push(hint, &mut None, guard).is_err() {
            self.hints.fetch_sub(1, Ordering::Relaxed);
            return Err(Unpushed);
        }
        self.mark(list);
        Ok(())
    }

    /// Sets a list's bit (W1).
    #[inline]
    fn mark(&self, list: List) {
        if planted!("mark-by-load") && self.map(list).load(Ordering::Acquire) & list.bit() != 0 {
            return;
        }
        // AcqRel, always as a read-modify-write: both races above are decided by its order among
        // those of `clear` and `advance`.
        self.map(list).fetch_or(list.bit(), Ordering::AcqRel);
    }

    /// Removes the oldest hint of a list.
    pub(crate) fn pop(&self, list: List, guard: &Guard, gauges: &'static Gauges) -> Option<Hint> {
        let hint = self.queue(list).and_then(|queue| queue.pop(guard, gauges));
        match hint {
            // Relaxed: a count.
            Some(_) => drop(self.hints.fetch_sub(1, Ordering::Relaxed)),
            None => self.clear(list, guard),
        }
        hint
    }

    /// How many hints there are.
    #[inline]
    pub(crate) fn hints(&self) -> u64 {
        // Relaxed: outdated as soon as it is read.
        self.hints.load(Ordering::Relaxed)
    }

    /// Clears the bit of a list that was found empty (W1).
    fn clear(&self, list: List, guard: &Guard) {
        // AcqRel: as in `mark`.
        self.map(list).fetch_and(!list.bit(), Ordering::AcqRel);
        if planted!("no-second-look") {
            return;
        }
        if self.queue(list).is_some_and(|queue| !queue.is_empty(guard)) {
            self.mark(list);
        }
    }

    /// The next hints of a list, which stay there. Returns how many were copied.
    pub(crate) fn peek(&self, list: List, out: &mut [Hint], guard: &Guard) -> usize {
        self.queue(list).map_or(0, |queue| queue.peek(out, guard))
    }

    /// About how many hints a list has.
    pub(crate) fn len(&self, list: List, guard: &Guard) -> u64 {
        self.queue(list).map_or(0, |queue| queue.len(guard))
    }

    /// The fresh list that comes due first; turns the lists when none has hints. `None` when the
    /// wheel is empty.
    pub(crate) fn earliest(&self) -> Option<List> {
        // Acquire: pairs with the exchange below; the turn comes after the pushes to kept lists.
        let parity = self.parity.load(Ordering::Acquire);
        if let Some(list) = self.earliest_of(parity as usize & 1) {
            return Some(list);
        }
        let kept = self.earliest_of((parity as usize + 1) & 1)?;
        // AcqRel: as above. If it fails, another thread has turned them.
        let _ = self.parity.compare_exchange(
            parity,
            parity.wrapping_add(1),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        Some(kept)
    }

    fn earliest_of(&self, parity: usize) -> Option<List> {
        let mut earliest = None;
        for level in 0..LEVELS {
            // Acquire: pairs with `mark`; the pop that follows finds the hint.
            let map = self.maps[level][parity].load(Ordering::Acquire);
            if map == 0 {
                continue;
            }
            // Relaxed: a cursor that is behind makes a slot look a turn later than it is; the
            // order of eviction is a preference.
            let cursor = self.cursors[level].load(Ordering::Relaxed);
            let slot = first_slot(map, cursor);
            let due = slot << shift(level);
            if earliest.is_none_or(|(first, _)| due < first) {
                earliest = Some((due, List { level, slot: slot % SLOTS, parity }));
            }
        }
        earliest.map(|(_, list)| list)
    }

    /// A list with hints that are due at `now`; moves the cursors over the slots that have none.
    pub(crate) fn due(&self, now: u64) -> Option<List> {
        (0..LEVELS).find_map(|level| self.due_in(level, now))
    }

    fn due_in(&self, level: usize, now: u64) -> Option<List> {
        let last = now >> shift(level);
        // Acquire: pairs with the exchange below.
        let cursor = self.cursors[level].load(Ordering::Acquire);
        if cursor > last {
            return None;
        }
        let passed = window(cursor, last);
        if let Some(list) = self.marked(level, passed, |map| map.load(Ordering::Acquire)) {
            return Some(list);
        }
        // AcqRel: pairs with the loads of the cursor. If it fails, another thread has moved it.
        let moved = self.cursors[level].compare_exchange(
            cursor,
            last + 1,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if moved.is_err() || planted!("no-second-look-at-the-map") {
            return None;
        }
        // AcqRel, a read-modify-write: see the second race above.
        self.marked(level, passed, |map| map.fetch_or(0, Ordering::AcqRel))
    }

    /// A list of `level` whose bit is set and in `window`.
    fn marked(&self, level: usize, window: u64, read: impl Fn(&AtomicU64) -> u64) -> Option<List> {
        (0..2).find_map(|parity| {
            let map = read(&self.maps[level][parity]) & window;
            (map != 0).then(|| List { level, slot: u64::from(map.trailing_zeros()), parity })
        })
    }

    /// Whether a hint for `due` belongs to a later slot than the one where it was found: the session
    /// was extended since.
    #[inline]
    pub(crate) fn is_early(&self, list: List, due: u64, now: u64) -> bool {
        let (level, slot) = self.slot_for(due, now);
        // Relaxed: as in `earliest_of`.
        let cursor = self.cursors[list.level].load(Ordering::Relaxed);
        slot << shift(level) > first_slot(list.bit(), cursor) << shift(list.level)
    }

    /// Takes up to `steps` steps of compaction: the list whose oldest hints are to be looked at and
    /// filed again at its end, and how many.
    pub(crate) fn compact(&self, steps: u64, guard: &Guard) -> Option<(List, u64)> {
        /// Bits of a count; the list's number is above them.
        const COUNT_BITS: u32 = 48;
        // Relaxed, all: a place to work at; the queues order the work itself.
        let state = self.compaction.load(Ordering::Relaxed);
        let (number, left) = (state >> COUNT_BITS, state & ((1 << COUNT_BITS) - 1));
        let (number, left) = if left > 0 {
            (number, left)
        } else {
            let list = self.next_list(number as usize)?;
            (list.number() as u64, self.len(list, guard).clamp(1, (1 << COUNT_BITS) - 1))
        };
        let count = left.min(steps);
        let next = number << COUNT_BITS | (left - count);
        self.compaction
            .compare_exchange(state, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
            .then(|| (List::from_number(number as usize), count))
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
    fn list_for(&self, due: u64, now: u64, age: Age) -> (List, u64) {
        let (level, slot) = self.slot_for(due, now);
        // Acquire: as in `earliest`.
        let fresh = self.parity.load(Ordering::Acquire) as usize & 1;
        let parity = if age == Age::Fresh { fresh } else { 1 - fresh };
        (List { level, slot: slot % SLOTS, parity }, slot)
    }

    #[inline]
    fn slot_for(&self, due: u64, now: u64) -> (usize, u64) {
        let distance = due.saturating_sub(now) >> SPAN_BITS;
        // Two slots less than there are: the due time is rounded up, the cursor down.
        let mut level = 0;
        while level < LEVELS - 1 && distance >> (LEVEL_BITS * level as u32) > SLOTS - 3 {
            level += 1;
        }
        loop {
            if let Some(slot) = self.slot_in(level, due) {
                return (level, slot);
            }
            // The cursor is behind, for nobody has asked for a long time: move it on. If that fails,
            // there are hints to drain first, and a coarser level does.
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
        // Acquire: pairs with the exchange in `due_in`.
        let cursor = self.cursors[level].load(Ordering::Acquire);
        let slot = number(due, level).max(cursor);
        (slot - cursor < SLOTS || level == LEVELS - 1).then_some(slot)
    }

    /// Whether the cursor has passed the slot of this number while a hint was pushed there.
    #[inline]
    fn has_passed(&self, list: List, slot: u64) -> bool {
        if planted!("no-second-read-of-the-cursor") {
            return false;
        }
        // Acquire: after the read-modify-write of `mark`, see the second race above.
        slot < self.cursors[list.level].load(Ordering::Acquire)
    }

    #[inline]
    fn map(&self, list: List) -> &AtomicU64 {
        &self.maps[list.level][list.parity]
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
        // AcqRel: publishes the queue to `queue`; or, on failure, Acquire shows the other one.
        match cell.compare_exchange(
            ptr::null_mut(),
            new.cast(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
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
    const COUNT: usize = LEVELS * SLOTS as usize * 2;

    /// A list's number: its place in the array of queues.
    #[inline]
    fn number(self) -> usize {
        (self.level * 2 + self.parity) * SLOTS as usize + self.slot as usize
    }

    fn from_number(number: usize) -> Self {
        let slot = (number % SLOTS as usize) as u64;
        let row = number / SLOTS as usize;
        Self { level: row / 2, slot, parity: row % 2 }
    }

    /// The list's bit in the map of its level and parity.
    #[inline]
    fn bit(self) -> u64 {
        1 << self.slot
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

/// The first slot number from `cursor` on whose bit is set in `map`, which is not zero.
#[inline]
fn first_slot(map: u64, cursor: u64) -> u64 {
    let from = (cursor % SLOTS) as u32;
    cursor + u64::from(map.rotate_right(from).trailing_zeros())
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
