//! A queue of words: FIFO, lock-free also when a peer is stopped inside. The wheel keeps its hints in
//! such queues, and the table its events.
//!
//! A list of segments of 512 bytes, whose slots are filled in their order: a push exchanges its word
//! into the first empty slot, with one read-modify-write; a pop takes as many words as it wants,
//! with one too, for it claims only slots that it has seen filled. Nobody ever waits for the other.
//!
//! # Invariants
//!
//! * Q1: a slot is filled once, by an exchange, and only when those before it are; it never becomes
//!   empty again. The words of a segment are those of the slots from `taken` on to the first empty one.
//! * Q2: `head` never passes `tail`: before `head` leaves a segment, `tail` has left it.
//! * Q3: a segment is retired by the exchange that moved `head` away from it; whoever reached it
//!   before has a pin.
//! * Q4: `filled` is a place to begin at: every slot before it is filled.
//!
//! # Races, both orders
//!
//! * Two pushes into one slot: one exchange succeeds; the other goes on with the next slot.
//! * Two pops: both exchange `taken`. The second fails, and looks again from where the first has left.
//! * Push and pop of one slot: the pop claims it only if it has seen the word there; otherwise the
//!   queue was empty at that instant.
//! * Two appends: one exchange of `next` succeeds; the other tries again with its word in the
//!   winner's segment.
//! * A push into a segment that pops have left: they leave only when every word was taken, so every
//!   slot is filled, and the push goes on to the next segment.
//! * Push and [`Queue::settle_empty`]: both change the word that the next push fills, a slot or a spent
//!   segment's `next`. If the push is first, the other sees its word; if the other is first, the push
//!   sees all that was done before it, and so do the pushes behind that one.
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | slot exchange, slot load | AcqRel, Acquire | each other: what was done before the push is seen after the pop, and by later pushes |
//! | `filled` store, load | Release, Acquire | each other: who goes by it has seen what the pushes before it saw |
//! | `taken` exchange, load | AcqRel, Acquire | each other: a segment that was found spent is |
//! | `next`, `head`, `tail` | AcqRel exchanges, Acquire loads | each other: a segment's content |
//!
//! Models: `loom-tests/tests/hints.rs`, `wheel.rs` for `settle_empty`, and `events.rs` for `front` and
//! `advance`.

use std::ptr::{self, NonNull};

use crate::reclaim::Guard;
use crate::reclaim::gauge::Gauges;
use crate::sync::{AtomicPtrWord, AtomicU64, AtomicUsize, Ordering, planted, tally};

/// Slots of a segment: with its four words of header 512 bytes. Two under loom, so that a model
/// meets the end of one.
const SLOTS: usize = if cfg!(loom) {
    2
} else if cfg!(shuttle) {
    4
} else {
    60
};

/// No word is zero.
const EMPTY: u64 = 0;

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
    filled: AtomicUsize,
    taken: AtomicUsize,
    /// How many segments of the queue came before, and since when its words have come.
    label: tally::AtomicU64,
    slots: [AtomicU64; SLOTS],
}

/// The last segment is full: a push needs a new one, which is not allocated under a pin.
#[derive(Debug)]
pub(crate) struct NeedsSegment;

/// How many segments came before, modulo a million; since when the words of a segment have come; and how many slots were
/// taken then.
#[derive(Clone, Copy, Debug)]
struct Label {
    sequence: u64,
    since: u64,
    taken: usize,
}

impl Label {
    const SEQUENCE_BITS: u32 = 20;
    const TAKEN_BITS: u32 = 6;
    /// Times are kept to sixteen milliseconds.
    const TIME_BITS: u32 = 4;

    fn to_word(self) -> u64 {
        let rest = self.since >> Self::TIME_BITS << Self::TAKEN_BITS | self.taken as u64;
        let sequence = self.sequence % (1 << Self::SEQUENCE_BITS);
        rest << Self::SEQUENCE_BITS | sequence
    }

    fn from_word(word: u64) -> Self {
        let rest = word >> Self::SEQUENCE_BITS;
        Self {
            sequence: word % (1 << Self::SEQUENCE_BITS),
            since: rest >> Self::TAKEN_BITS << Self::TIME_BITS,
            taken: (rest % (1 << Self::TAKEN_BITS)) as usize,
        }
    }
}

impl Segment {
    /// A segment whose words come from `now` on, in milliseconds.
    pub(crate) fn new(now: u64) -> Box<Self> {
        Box::new(Self {
            next: AtomicPtrWord::new(ptr::null_mut()),
            filled: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            label: tally::AtomicU64::new(Label { sequence: 0, since: now, taken: 0 }.to_word()),
            slots: std::array::from_fn(|_| AtomicU64::new(EMPTY)),
        })
    }

    /// Fills the first empty slot; `false` when the segment is full.
    #[inline]
    fn fill(&self, word: u64) -> bool {
        // Acquire: see Q4 and `settle_empty`.
        let mut index = self.filled.load(Ordering::Acquire);
        while let Some(slot) = self.slots.get(index) {
            index += 1;
            if planted!("fill-by-store") {
                if slot.load(Ordering::Acquire) == EMPTY {
                    slot.store(word, Ordering::Release);
                    return true;
                }
                continue;
            }
            if planted!("relaxed-hint") {
                let filled =
                    slot.compare_exchange(EMPTY, word, Ordering::Relaxed, Ordering::Relaxed);
                if filled.is_ok() {
                    return true;
                }
                continue;
            }
            // AcqRel: Release pairs with the pop's load; Acquire with `settle_empty`. On failure
            // Acquire, for the same reason: the push before saw what that did.
            if slot.compare_exchange(EMPTY, word, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                // Another push may have come further, and this takes it back: the next one
                // finds filled slots then, and passes them (Q4).
                // Release: pairs with the load above.
                self.filled.store(index, Ordering::Release);
                return true;
            }
        }
        false
    }

    fn label(&self) -> Label {
        // Relaxed: when a word came about, and how many there are about.
        Label::from_word(self.label.load(Ordering::Relaxed))
    }

    fn set_label(&self, label: Label) {
        // Relaxed: as above.
        self.label.store(label.to_word(), Ordering::Relaxed);
    }

    /// The segment behind one that was reached under the guard.
    fn next<'g>(&'g self, guard: &'g Guard) -> Option<&'g Self> {
        // Acquire: the next segment's content.
        let next = NonNull::new(self.next.load(Ordering::Acquire).cast::<Self>())?;
        guard.assert_alive(next);
        // SAFETY: Q3, P1: segments are retired in their order, and this one was not when the guard was alive.
        Some(unsafe { next.as_ref() })
    }

    /// Where the oldest word is, and that word; `Err` when every word was taken, `Ok(None)` when there
    /// is none yet.
    #[inline]
    fn oldest(&self) -> Result<Option<(usize, u64)>, Spent> {
        // Acquire: as in the table above.
        let index = self.taken.load(Ordering::Acquire);
        let slot = self.slots.get(index).ok_or(Spent)?;
        if planted!("leave-early") && !self.next.load(Ordering::Acquire).is_null() {
            return Err(Spent);
        }
        // Acquire: pairs with the push.
        let word = slot.load(Ordering::Acquire);
        Ok((word != EMPTY).then_some((index, word)))
    }
}

/// Every word of a segment was taken: it is left for the next one.
struct Spent;

impl Queue {
    pub(crate) fn new() -> Self {
        let segment = Box::into_raw(Segment::new(0)).cast::<()>();
        Self { head: AtomicPtrWord::new(segment), tail: AtomicPtrWord::new(segment) }
    }

    /// Appends `word`, which is not zero; takes `spare` if it needs a segment.
    #[inline]
    pub(crate) fn push(
        &self,
        word: u64,
        spare: &mut Option<Box<Segment>>,
        guard: &Guard,
    ) -> Result<(), NeedsSegment> {
        debug_assert!(word != EMPTY, "a word");
        if segment(&self.tail, guard).fill(word) {
            return Ok(());
        }
        self.push_on(word, spare, guard)
    }

    /// [`push`](Self::push) where the last segment was full.
    #[cold]
    fn push_on(
        &self,
        word: u64,
        spare: &mut Option<Box<Segment>>,
        guard: &Guard,
    ) -> Result<(), NeedsSegment> {
        loop {
            let tail = segment(&self.tail, guard);
            if tail.fill(word) {
                return Ok(());
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
    fn append(&self, tail: &Segment, new: Box<Segment>, word: u64) -> Result<(), Box<Segment>> {
        new.set_label(Label { sequence: tail.label().sequence + 1, ..new.label() });
        // Relaxed, both: the exchange below publishes the segment.
        new.slots[0].store(word, Ordering::Relaxed);
        new.filled.store(1, Ordering::Relaxed);
        let new = Box::into_raw(new);
        let relaxed = planted!("relaxed-append");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        let linked =
            tail.next.compare_exchange(ptr::null_mut(), new.cast(), order, Ordering::Relaxed);
        if linked.is_err() {
            // SAFETY: the box was taken apart above, and the failed exchange showed it to nobody.
            let new = unsafe { Box::from_raw(new) };
            // Relaxed, both: private again.
            new.slots[0].store(EMPTY, Ordering::Relaxed);
            new.filled.store(0, Ordering::Relaxed);
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

    /// The segment with the oldest word, where that is in it, and the word; leaves the segments
    /// before. `None` when there are no words.
    #[inline]
    fn oldest<'g>(
        &self,
        guard: &'g Guard,
        gauges: &'static Gauges,
    ) -> Option<(&'g Segment, usize, u64)> {
        loop {
            let head = segment(&self.head, guard);
            match head.oldest() {
                Ok(oldest) => return oldest.map(|(index, word)| (head, index, word)),
                Err(Spent) => self.leave(head, guard, gauges)?,
            }
        }
    }

    /// Removes the oldest words, as many as `out` has room for, but only of one segment; returns how
    /// many, which is zero when the queue is empty.
    pub(crate) fn pop(&self, out: &mut [u64], guard: &Guard, gauges: &'static Gauges) -> usize {
        loop {
            let Some((head, index, word)) = self.oldest(guard, gauges) else { return 0 };
            out[0] = word;
            let mut count = 1;
            for (slot, out) in head.slots[index + 1..].iter().zip(&mut out[1..]) {
                // Acquire: pairs with the push.
                match slot.load(Ordering::Acquire) {
                    EMPTY => break,
                    word => *out = word,
                }
                count += 1;
            }
            if planted!("claim-by-load-and-store") {
                head.taken.store(index + count, Ordering::Release);
                return count;
            }
            // AcqRel: as in the table above. If it fails, another pop has claimed some of the words.
            let claimed = head.taken.compare_exchange(
                index,
                index + count,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if claimed.is_ok() {
                return count;
            }
        }
    }

    /// The oldest word, which stays. For one consumer at a time, and no `pop` beside it.
    pub(crate) fn front(&self, guard: &Guard, gauges: &'static Gauges) -> Option<u64> {
        self.oldest(guard, gauges).map(|(_, _, word)| word)
    }

    /// Removes the word that [`front`](Self::front) has returned.
    pub(crate) fn advance(&self, guard: &Guard) {
        let head = segment(&self.head, guard);
        // AcqRel: as in `pop`. Nobody else changes it.
        head.taken.fetch_add(1, Ordering::AcqRel);
    }

    /// Moves `head` on from a spent segment, and retires the segment; `None` when it is the last one.
    #[cold]
    fn leave(&self, head: &Segment, guard: &Guard, gauges: &'static Gauges) -> Option<()> {
        // Acquire: the next segment's content.
        let next = NonNull::new(head.next.load(Ordering::Acquire))?.as_ptr();
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
            unsafe { guard.retire_box(from, gauges) };
        }
        Some(())
    }

    /// Whether `is_match` accepts a word: it is shown those that are in the queue throughout the call, and maybe
    /// others that come or go, until it does.
    pub(crate) fn any(&self, guard: &Guard, mut is_match: impl FnMut(u64) -> bool) -> bool {
        let mut at = Some(segment(&self.head, guard));
        while let Some(segment) = at {
            // Acquire, both: as in `pop`.
            let taken = segment.taken.load(Ordering::Acquire).min(SLOTS);
            let words = segment.slots[taken..].iter().map(|slot| slot.load(Ordering::Acquire));
            if words.take_while(|&word| word != EMPTY).any(&mut is_match) {
                return true;
            }
            at = segment.next(guard);
        }
        false
    }

    /// About how many words the queue has.
    pub(crate) fn len(&self, guard: &Guard) -> u64 {
        let (head, tail) = (segment(&self.head, guard), segment(&self.tail, guard));
        // Relaxed: outdated as soon as it is read.
        let filled = tail.filled.load(Ordering::Relaxed).min(SLOTS) as u64;
        let taken = head.taken.load(Ordering::Relaxed).min(SLOTS) as u64;
        let [first, last] = [head, tail].map(|segment| segment.label().sequence);
        let segments = last.wrapping_sub(first) % (1 << Label::SEQUENCE_BITS);
        (segments * SLOTS as u64 + filled).saturating_sub(taken)
    }

    /// The words come from `now` on: the queue had none before.
    #[cold]
    pub(crate) fn date(&self, now: u64, guard: &Guard) {
        let head = segment(&self.head, guard);
        // Relaxed: as in `len`.
        let taken = head.taken.load(Ordering::Relaxed).min(SLOTS);
        head.set_label(Label { since: now, taken, ..head.label() });
    }

    /// About when the oldest word came, as if those of a segment had come evenly; `now` if that is not known.
    pub(crate) fn since(&self, now: u64, guard: &Guard) -> u64 {
        let head = segment(&self.head, guard);
        // Relaxed, both: as in `len`.
        let taken = head.taken.load(Ordering::Relaxed).min(SLOTS);
        let (next, label) = (head.next(guard), head.label());
        let (until, filled) = match next {
            Some(next) => (next.label().since, SLOTS),
            None => (now, head.filled.load(Ordering::Relaxed).min(SLOTS)),
        };
        let [came, gone] = [filled, taken].map(|slots| slots.saturating_sub(label.taken) as u64);
        label.since + until.saturating_sub(label.since) * gone.min(came) / came.max(1)
    }

    /// Whether the queue was empty at an instant during the call.
    pub(crate) fn is_empty(&self, guard: &Guard) -> bool {
        let head = segment(&self.head, guard);
        match head.oldest() {
            Ok(oldest) => oldest.is_none(),
            // Acquire: as in `pop`.
            Err(Spent) => head.next.load(Ordering::Acquire).is_null(),
        }
    }

    /// Whether the queue is empty. If it is, the pushes that come after see what the caller did
    /// before.
    pub(crate) fn settle_empty(&self, guard: &Guard) -> bool {
        if planted!("settle-by-load") {
            return self.is_empty(guard);
        }
        let head = segment(&self.head, guard);
        // Acquire: as in the table above.
        let taken = head.taken.load(Ordering::Acquire);
        let relaxed = planted!("relaxed-settle-empty");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        // AcqRel, both, read-modify-writes without effect: see the last race. On failure there is a
        // word, or was: that the caller takes the queue for one with words does no harm.
        match head.slots.get(taken) {
            Some(slot) => slot.compare_exchange(EMPTY, EMPTY, order, Ordering::Acquire).is_ok(),
            None => {
                let null = ptr::null_mut();
                head.next.compare_exchange(null, null, order, Ordering::Acquire).is_ok()
            }
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

/// The segment that `end` points to.
#[inline]
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
            spare = Some(Segment::new(0));
        }
    }

    fn pop<const N: usize>(queue: &Queue, lease: &Lease) -> Vec<u64> {
        let mut out = [0; N];
        let count = queue.pop(&mut out, &pin(), lease.gauges());
        out[..count].to_vec()
    }

    #[test]
    fn words_come_out_in_order_over_many_segments() {
        let lease = Lease::new(usize::MAX);
        let queue = Queue::new();
        for word in 2..1000 {
            push(&queue, word);
        }
        assert_eq!(queue.len(&pin()), 998);
        for word in 2..1000 {
            assert_eq!(pop::<1>(&queue, &lease), [word]);
        }
        assert!(queue.is_empty(&pin()) && queue.settle_empty(&pin()));
        assert!(pop::<1>(&queue, &lease).is_empty());
        assert_eq!(queue.len(&pin()), 0);
    }

    #[test]
    fn several_are_popped_of_one_segment_at_a_time() {
        let lease = Lease::new(usize::MAX);
        let queue = Queue::new();
        for word in 1..=SLOTS as u64 + 5 {
            push(&queue, word);
        }
        let (mut words, mut lens) = (Vec::new(), Vec::new());
        while let popped @ [_, ..] = &pop::<16>(&queue, &lease)[..] {
            lens.push(popped.len());
            words.extend_from_slice(popped);
        }
        assert!(words.into_iter().eq(1..=SLOTS as u64 + 5));
        assert_eq!(lens, [16, 16, 16, 12, 5]);
    }

    #[test]
    fn a_look_shows_what_is_left() {
        let lease = Lease::new(usize::MAX);
        let queue = Queue::new();
        for word in 1..100 {
            push(&queue, word);
        }
        assert_eq!(pop::<7>(&queue, &lease).len(), 7);
        for last in [8, 50, 99, 100] {
            let mut seen = Vec::new();
            let is_found = queue.any(&pin(), |word| {
                seen.push(word);
                word == last
            });
            assert_eq!(is_found, last < 100);
            assert!(seen.into_iter().eq(8..=last.min(99)), "no further than it has to");
        }
        assert!(!queue.is_empty(&pin()) && !queue.settle_empty(&pin()));
    }
}
