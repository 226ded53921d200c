//! A queue of words: FIFO, lock-free also when a peer is stopped inside. The wheel keeps its hints in
//! such queues, and the table its events.
//!
//! An array queue by fetch-and-add, in segments of 512 bytes. A push takes the next index and
//! exchanges its word into the slot; a pop takes the next index and swaps the slot to `TAKEN`. A pop
//! that comes before its push's exchange leaves `TAKEN` behind and goes on: the push finds it and
//! takes another index (the hand-back). Nobody ever waits for the other.
//!
//! # Invariants
//!
//! * Q1: a slot goes `EMPTY` → word → `TAKEN`, or `EMPTY` → `TAKEN`, once; a word is popped once.
//! * Q2: `head` never passes `tail`: before `head` leaves a segment, `tail` has left it.
//! * Q3: a segment is retired by the exchange that moved `head` away from it; whoever reached it
//!   before has a pin.
//!
//! # Races, both orders
//!
//! * Push and pop of one index: if the push's exchange is first, the pop's swap returns the word;
//!   if the swap is first, the exchange fails and the push goes on with another index.
//! * Push and `front` of one index: as push and pop; the exchange to `TAKEN` decides. A word that
//!   `front` has seen stays until `advance`, for there is one consumer.
//! * Two appends: one exchange of `next` succeeds; the other tries again with its word in the
//!   winner's segment.
//! * A push into a segment that pops have left: its index was taken by a pop already, for pops
//!   leave only when every index was given out; the slot is `TAKEN`, and the push goes on.
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | slot exchange, slot swap | Release, Acquire | each other: what was done before the push is seen after the pop |
//! | `next`, `head`, `tail` | AcqRel exchanges, Acquire loads | each other: a segment's content |
//! | `enqueued`, `dequeued` | AcqRel / Relaxed | only give out indexes; see at the access |
//!
//! Models: `loom-tests/tests/hints.rs`, and `events.rs` for `front` and `advance`.

use std::ptr::{self, NonNull};

use crate::reclaim::Guard;
use crate::reclaim::gauge::Gauges;
use crate::sync::{AtomicPtrWord, AtomicU64, AtomicUsize, Ordering, planted};

/// Slots of a segment: with its four words of header 512 bytes. Two under loom, so that a model
/// meets the end of one.
const SLOTS: usize = if cfg!(loom) { 2 } else { 60 };

const EMPTY: u64 = 0;
const TAKEN: u64 = 1;

/// A queue. It has one segment at least.
#[derive(Debug)]
pub(crate) struct Queue {
    head: AtomicPtrWord,
    tail: AtomicPtrWord,
}

/// A piece of a queue.
#[derive(Debug)]
pub(crate) struct Segment {
    next: AtomicPtrWord,
    enqueued: AtomicUsize,
    dequeued: AtomicUsize,
    /// How many segments of the queue came before.
    sequence: u64,
    slots: [AtomicU64; SLOTS],
}

/// The last segment is full: a push needs a new one, which is not allocated under a pin.
#[derive(Debug)]
pub(crate) struct NeedsSegment;

impl Segment {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self {
            next: AtomicPtrWord::new(ptr::null_mut()),
            enqueued: AtomicUsize::new(0),
            dequeued: AtomicUsize::new(0),
            sequence: 0,
            slots: std::array::from_fn(|_| AtomicU64::new(EMPTY)),
        })
    }
}

/// What the oldest segment has for a pop.
enum Oldest {
    Words,
    Nothing,
    /// Every index was given out to pops: the segment is left for the next one.
    Spent,
}

impl Segment {
    #[inline]
    fn oldest(&self) -> Oldest {
        // In this order: the queue was empty at the instant of the first load, if the second one
        // shows no more pushes than it shows pops. In the other order a push and a pop between the
        // loads would make a queue look empty that never was.
        // Acquire, both: pair with the additions, so that a push that came before is seen.
        let dequeued = self.dequeued.load(Ordering::Acquire);
        if dequeued >= SLOTS
            || planted!("leave-early") && !self.next.load(Ordering::Acquire).is_null()
        {
            return Oldest::Spent;
        }
        if dequeued >= self.enqueued.load(Ordering::Acquire) {
            return Oldest::Nothing;
        }
        Oldest::Words
    }
}

impl Queue {
    pub(crate) fn new() -> Self {
        let segment = Box::into_raw(Segment::new()).cast::<()>();
        Self { head: AtomicPtrWord::new(segment), tail: AtomicPtrWord::new(segment) }
    }

    /// Appends `word`, which is above 1; takes `spare` if it needs a segment.
    pub(crate) fn push(
        &self,
        word: u64,
        spare: &mut Option<Box<Segment>>,
        guard: &Guard,
    ) -> Result<(), NeedsSegment> {
        loop {
            let tail = segment(&self.tail, guard);
            // Relaxed: the exchange below publishes the word; the index is all this gives. A full
            // segment is not counted on: pushes that come often would count for nothing.
            let index = match tail.enqueued.load(Ordering::Relaxed) {
                full if full >= SLOTS => full,
                // AcqRel: pairs with `oldest`.
                _ => tail.enqueued.fetch_add(1, Ordering::AcqRel),
            };
            if let Some(slot) = tail.slots.get(index) {
                if fill(slot, word) {
                    return Ok(());
                }
                continue;
            }
            let Some(next) = NonNull::new(tail.next.load(Ordering::Acquire)) else {
                let new = spare.take().ok_or(NeedsSegment)?;
                match self.append(tail, new, word) {
                    Ok(()) => return Ok(()),
                    Err(lost) => *spare = Some(lost),
                }
                continue;
            };
            self.move_tail(tail, next.as_ptr());
        }
    }

    /// Links `new`, with `word` in its first slot, behind `tail`; gives it back if it lost the race.
    fn append(&self, tail: &Segment, mut new: Box<Segment>, word: u64) -> Result<(), Box<Segment>> {
        new.sequence = tail.sequence + 1;
        // Relaxed, both: the exchange below publishes the segment.
        new.slots[0].store(word, Ordering::Relaxed);
        new.enqueued.store(1, Ordering::Relaxed);
        let new = Box::into_raw(new);
        let linked = tail.next.compare_exchange(
            ptr::null_mut(),
            new.cast(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if linked.is_err() {
            // SAFETY: the box was taken apart above, and the failed exchange showed it to nobody.
            let new = unsafe { Box::from_raw(new) };
            // Relaxed, both: private again.
            new.slots[0].store(EMPTY, Ordering::Relaxed);
            new.enqueued.store(0, Ordering::Relaxed);
            return Err(new);
        }
        self.move_tail(tail, new.cast());
        Ok(())
    }

    /// Helps `tail` on from a full segment.
    fn move_tail(&self, from: &Segment, to: *mut ()) {
        let from = ptr::from_ref(from).cast_mut().cast();
        // AcqRel: as every exchange of a segment pointer. It fails when somebody else has helped.
        let _ = self.tail.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The segment with the oldest words; leaves those before it. `None` when there are no words.
    #[inline]
    fn oldest<'g>(&self, guard: &'g Guard, gauges: &'static Gauges) -> Option<&'g Segment> {
        loop {
            let head = segment(&self.head, guard);
            match head.oldest() {
                Oldest::Words => return Some(head),
                Oldest::Nothing => return None,
                Oldest::Spent => {
                    // Acquire: the next segment's content.
                    let next = NonNull::new(head.next.load(Ordering::Acquire))?;
                    self.leave(head, next.as_ptr(), guard, gauges);
                }
            }
        }
    }

    /// Removes the oldest word.
    pub(crate) fn pop(&self, guard: &Guard, gauges: &'static Gauges) -> Option<u64> {
        loop {
            let head = self.oldest(guard, gauges)?;
            // AcqRel: pairs with `Segment::oldest`.
            let index = head.dequeued.fetch_add(1, Ordering::AcqRel);
            let Some(slot) = head.slots.get(index) else { continue };
            // AcqRel: Acquire pairs with the push's Release; Release keeps the mark in order.
            match slot.swap(TAKEN, Ordering::AcqRel) {
                EMPTY | TAKEN => {}
                word => return Some(word),
            }
        }
    }

    /// The oldest word, which stays. For one consumer at a time, and no `pop` beside it.
    pub(crate) fn front(&self, guard: &Guard, gauges: &'static Gauges) -> Option<u64> {
        loop {
            let head = self.oldest(guard, gauges)?;
            // Relaxed: the consumer's own.
            let slot = &head.slots[head.dequeued.load(Ordering::Relaxed)];
            if planted!("front-without-hand-back") && slot.load(Ordering::Acquire) <= TAKEN {
                head.dequeued.fetch_add(1, Ordering::AcqRel);
                continue;
            }
            // The hand-back, as in `pop`. Acquire: pairs with the push's Release.
            match slot.compare_exchange(EMPTY, TAKEN, Ordering::Acquire, Ordering::Acquire) {
                // AcqRel: pairs with `Segment::oldest`.
                Ok(_) | Err(TAKEN) => drop(head.dequeued.fetch_add(1, Ordering::AcqRel)),
                Err(word) => return Some(word),
            }
        }
    }

    /// Removes the word that [`front`](Self::front) has returned.
    pub(crate) fn advance(&self, guard: &Guard) {
        let head = segment(&self.head, guard);
        // Relaxed: the consumer's own.
        let slot = &head.slots[head.dequeued.load(Ordering::Relaxed)];
        // AcqRel, both: as in `pop`.
        slot.swap(TAKEN, Ordering::AcqRel);
        head.dequeued.fetch_add(1, Ordering::AcqRel);
    }

    /// Moves `head` on from an exhausted segment, and retires the segment.
    #[cold]
    fn leave(&self, head: &Segment, next: *mut (), guard: &Guard, gauges: &'static Gauges) {
        if !planted!("head-passes-tail") {
            // Q2: nobody can reach the segment through `tail` once it is retired.
            self.move_tail(head, next);
        }
        let from = NonNull::from(head);
        let left = self.head.compare_exchange(
            from.as_ptr().cast(),
            next,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if left.is_ok() {
            // SAFETY: P3, Q3: this exchange made the segment unreachable, and only one succeeds.
            unsafe { guard.retire(from, gauges) };
        }
    }

    /// Shows the words that are in the queue throughout the call, and maybe others that come or go.
    pub(crate) fn each(&self, guard: &Guard, mut show: impl FnMut(u64)) {
        let mut at = Some(segment(&self.head, guard));
        while let Some(segment) = at {
            // Acquire, both: as in `pop`.
            let words = segment.slots.iter().map(|slot| slot.load(Ordering::Acquire));
            words.filter(|&word| word > TAKEN).for_each(&mut show);
            let next = NonNull::new(segment.next.load(Ordering::Acquire).cast::<Segment>());
            // SAFETY: Q3, P1: segments are retired in their order, and the first one was not when the
            // guard was alive.
            at = next.map(|next| unsafe { next.as_ref() });
        }
    }

    /// Shows up to `most` of the oldest words of the first segment, without removing them.
    pub(crate) fn peek(&self, most: usize, guard: &Guard, show: impl FnMut(u64)) {
        let head = segment(&self.head, guard);
        // Relaxed: a guess at what comes next, to prefetch it.
        let from = head.dequeued.load(Ordering::Relaxed).min(SLOTS);
        let slots = head.slots[from..].iter().take(most);
        slots.map(|slot| slot.load(Ordering::Relaxed)).filter(|&word| word > TAKEN).for_each(show);
    }

    /// About how many words the queue has.
    pub(crate) fn len(&self, guard: &Guard) -> u64 {
        let (head, tail) = (segment(&self.head, guard), segment(&self.tail, guard));
        // Relaxed: outdated as soon as it is read.
        let enqueued = tail.enqueued.load(Ordering::Relaxed).min(SLOTS) as u64;
        let dequeued = head.dequeued.load(Ordering::Relaxed).min(SLOTS) as u64;
        let segments = tail.sequence.saturating_sub(head.sequence);
        (segments * SLOTS as u64 + enqueued).saturating_sub(dequeued)
    }

    /// Whether the queue was empty at an instant during the call.
    pub(crate) fn is_empty(&self, guard: &Guard) -> bool {
        let head = segment(&self.head, guard);
        match head.oldest() {
            Oldest::Words => false,
            Oldest::Nothing => true,
            // Acquire: as in `pop`.
            Oldest::Spent => head.next.load(Ordering::Acquire).is_null(),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Relaxed: `&mut self` orders this after every other access.
        let mut at = self.head.load(Ordering::Relaxed).cast::<Segment>();
        while !at.is_null() {
            // SAFETY: Q3: from `head` on segments are not retired; each came from a box.
            let segment = unsafe { Box::from_raw(at) };
            at = segment.next.load(Ordering::Relaxed).cast();
        }
    }
}

/// Puts the word into its slot; `false` when a pop was here first.
fn fill(slot: &AtomicU64, word: u64) -> bool {
    if planted!("no-hand-back") {
        slot.store(word, Ordering::Release);
        return true;
    }
    if planted!("relaxed-hint") {
        return slot.compare_exchange(EMPTY, word, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    }
    // Release: pairs with the pop's swap. Relaxed on failure: the slot is given up.
    slot.compare_exchange(EMPTY, word, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// The segment that `end` points to.
fn segment<'g>(end: &AtomicPtrWord, guard: &'g Guard) -> &'g Segment {
    // Acquire: pairs with the exchanges that move the end.
    let segment = NonNull::new(end.load(Ordering::Acquire).cast::<Segment>())
        .expect("a queue has one segment at least");
    guard.assert_alive(segment);
    // SAFETY: Q2, Q3, P1: both ends point to segments that are not retired, read under the guard.
    unsafe { segment.as_ref() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::reclaim::gauge::Lease;
    use crate::reclaim::pin;

    fn push(queue: &Queue, word: u64) {
        let mut spare = None;
        while queue.push(word, &mut spare, &pin()).is_err() {
            spare = Some(Segment::new());
        }
    }

    #[test]
    fn words_come_out_in_order_over_many_segments() {
        let lease = Lease::new(usize::MAX);
        let queue = Queue::new();
        for word in 2..1000 {
            push(&queue, word);
        }
        let guard = pin();
        assert_eq!(queue.len(&guard), 998);
        for word in 2..1000 {
            assert_eq!(queue.pop(&guard, lease.gauges()), Some(word));
        }
        assert!(queue.is_empty(&guard));
        assert_eq!(queue.pop(&guard, lease.gauges()), None);
        assert_eq!(queue.len(&guard), 0);
    }

    #[test]
    fn a_peek_removes_nothing() {
        let lease = Lease::new(usize::MAX);
        let queue = Queue::new();
        for word in 2..5 {
            push(&queue, word);
        }
        let guard = pin();
        let mut seen = Vec::new();
        queue.peek(8, &guard, |word| seen.push(word));
        assert_eq!(seen, [2, 3, 4]);
        assert_eq!(queue.pop(&guard, lease.gauges()), Some(2));
    }
}
