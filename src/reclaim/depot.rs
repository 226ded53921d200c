//! The depot: magazines of free blocks, which any thread may lay down and take up.
//!
//! # Races, both orders
//!
//! * Laying down and taking up: the shelf's own (`shelf.rs`). The counts are no part of it: bytes are counted before
//!   they lie there and until they were taken up, so the bound holds at every instant, and who finds a count of
//!   zero goes on although a magazine may just come. Who meets another taker with all of a shelf in its hands
//!   goes on to the next shelf; if that taker is stopped for ever, what was on the shelf is lost with it, and the
//!   shelf's share of the depot, but no other's.
//! * A taking up between the two ends of a [`Depot::reap`]: if its note of what is unused comes first, that is
//!   overwritten, and the next reaping frees what was needed once meanwhile; if it comes last, it stands. Two
//!   reapings at once free twice as much. No harm is done either way, for whoever finds nothing here allocates.

use super::magazine::Magazine;
use super::shelf::Shelf;
use super::{RECYCLES, pool};
use crate::sync::tally::AtomicUsize;
use crate::sync::{Ordering, Padded, thread_index};

/// Bytes that lie on a shelf, at most, with the magazines. 64 MiB on all of them: as much as comes back at once when
/// the epoch has stood for long, for a thread that was off its processor under a pin.
const MOST: usize = 4 * 1024 * 1024;

/// Bytes that leave it at a time when nobody has needed them for a while.
const REAPED: usize = 1024 * 1024;

/// The process's.
static DEPOT: Depot = Depot::new();

/// Shelves of the depot. A thread begins with one of them, on which lies what it has retired itself: that memory is
/// near its processor, and others' would have to come from theirs.
const SHELVES: usize = 16;

/// Magazines of blocks that nobody uses.
struct Depot([Padded<Place>; SHELVES]);

/// A shelf, and what is known of it.
struct Place {
    shelf: Shelf,
    /// What lies there: counted before it is laid down, and until it was taken up.
    bytes: AtomicUsize,
    /// The least that has lain there since it was last reaped.
    unused: AtomicUsize,
}

impl Depot {
    const fn new() -> Self {
        Self([const { Padded(Place::new()) }; SHELVES])
    }

    /// A magazine, of the own shelf if there is one.
    fn take_up(&self) -> Option<Box<Magazine>> {
        self.from(thread_index()).find_map(Place::take_up)
    }

    /// Frees some of what nobody has needed since this was last called: half, or [`REAPED`] bytes if that is less.
    fn reap(&self) {
        // Relaxed, here and below: bounds. What is in a magazine the shelf shows.
        let unused: usize = self.from(0).map(|place| place.unused.load(Ordering::Relaxed)).sum();
        let mut wanted = (unused / 2).min(REAPED);
        while wanted > 0
            && let Some(magazine) = self.take_up()
        {
            wanted = wanted.saturating_sub(magazine.bytes());
            free_all(magazine);
        }
        for place in self.from(0) {
            place.unused.store(place.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Lays a magazine on the shelf of a thread, or on the next one that has room, if there is one.
    fn lay_down(&self, magazine: Box<Magazine>, owner: usize) -> Result<(), Box<Magazine>> {
        let mut left = Err(magazine);
        for place in self.from(owner) {
            left = left.or_else(|magazine| place.lay_down(magazine));
        }
        left
    }

    /// All shelves, beginning with that of a thread.
    fn from(&self, thread: usize) -> impl Iterator<Item = &Place> {
        (thread..thread + SHELVES).map(|number| &self.0[number % SHELVES].0)
    }
}

impl Place {
    const fn new() -> Self {
        Self { shelf: Shelf::new(), bytes: AtomicUsize::new(0), unused: AtomicUsize::new(0) }
    }

    fn take_up(&self) -> Option<Box<Magazine>> {
        if self.bytes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let bundle = self.shelf.take()?;
        // SAFETY: of a magazine, as all on this shelf, and taken off it.
        let magazine = unsafe { Magazine::of(bundle) };
        let bytes = magazine.bytes();
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.unused.fetch_min(before.saturating_sub(bytes), Ordering::Relaxed);
        Some(magazine)
    }

    /// Lays a magazine down, if there is room.
    fn lay_down(&self, magazine: Box<Magazine>) -> Result<(), Box<Magazine>> {
        let bytes = magazine.bytes();
        // Looked at first: a full shelf is not written.
        let fits = |lies: usize| lies + bytes <= MOST;
        if !fits(self.bytes.load(Ordering::Relaxed)) {
            return Err(magazine);
        }
        if !fits(self.bytes.fetch_add(bytes, Ordering::Relaxed)) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(magazine);
        }
        // SAFETY: given up here, and taken apart by the one who takes it up.
        unsafe { self.shelf.put(magazine.into_bundle()) };
        Ok(())
    }
}

/// Keeps blocks that nobody sees any more for the next thread that wants some, above all for the one of this index, which
/// has retired them; or frees them, if there are many.
pub(super) fn lay_down(magazine: Box<Magazine>, owner: usize) {
    let left = if RECYCLES { DEPOT.lay_down(magazine, owner) } else { Err(magazine) };
    if let Err(magazine) = left {
        free_all(magazine);
    }
}

/// Gives some of what no thread needs back to the allocator. For the tickers, now and then.
pub(crate) fn reap() {
    DEPOT.reap();
}

/// A magazine for a thread that has no blocks, if there is one.
pub(super) fn take_up() -> Option<Box<Magazine>> {
    DEPOT.take_up()
}

/// Frees the blocks of a magazine.
fn free_all(magazine: Box<Magazine>) {
    for block in magazine.blocks() {
        // SAFETY: M1: the magazine's own, in this size, and it goes, too.
        unsafe { pool::free(block.start, block.size) };
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::super::magazine::ROUNDS;
    use super::*;

    fn bytes(depot: &Depot) -> usize {
        depot.from(0).map(|place| place.bytes.load(Ordering::Relaxed)).sum()
    }

    #[test]
    fn no_more_lies_in_the_depot_than_so_much() {
        let depot = Depot::new();
        let each = ROUNDS * pool::rounded(1_000) + size_of::<Magazine>();
        let most = MOST / each * SHELVES;
        for number in 1..=most {
            // All of one thread, as when it has removed a whole cache: they go on to other threads' shelves.
            depot.lay_down(pool::magazine_of(&[1_000; ROUNDS]), 3).expect("there is room");
            assert_eq!(bytes(&depot), number * each);
        }
        free_all(
            depot.lay_down(pool::magazine_of(&[1_000; ROUNDS]), 0).expect_err("there is no more"),
        );
        assert_eq!(bytes(&depot), most * each);
        while let Some(magazine) = depot.take_up() {
            free_all(magazine);
        }
        assert_eq!(bytes(&depot), 0, "all that is there is found again");
    }

    /// As a thread that is stopped in the middle of a taking up.
    #[test]
    fn who_is_stopped_with_a_shelf_in_its_hands_takes_no_more_than_that_along() {
        let depot = Depot::new();
        let each = ROUNDS * pool::rounded(1_000) + size_of::<Magazine>();
        let lay_down = || depot.lay_down(pool::magazine_of(&[1_000; ROUNDS]), 0);
        while lay_down().map_err(free_all).is_ok() {}
        let full = &depot.0[0].0;
        let mut stopped: Vec<_> = std::iter::from_fn(|| full.shelf.take()).collect();
        assert_eq!(stopped.len(), MOST / each);
        for _ in 0..(SHELVES - 1) * (MOST / each) {
            free_all(depot.take_up().expect("on the other shelves"));
        }
        assert!(depot.take_up().is_none());
        for _ in 0..(SHELVES - 1) * (MOST / each) {
            lay_down().map_err(free_all).expect("there is room on the others");
        }
        lay_down().map_err(free_all).expect_err("the shelf is still counted as full");
        // SAFETY: of magazines, taken off the shelf above.
        stopped.drain(..).for_each(|bundle| free_all(unsafe { Magazine::of(bundle) }));
        while let Some(magazine) = depot.take_up() {
            free_all(magazine);
        }
    }

    #[test]
    fn a_thread_finds_its_own_first_and_then_those_of_others() {
        let depot = Depot::new();
        let own = thread_index();
        let addresses = [own + 1, own, own + SHELVES - 1].map(|owner| {
            let magazine = pool::magazine_of(&[100; ROUNDS]);
            let address = ptr::from_ref(&*magazine).addr();
            depot.lay_down(magazine, owner).expect("there is room");
            address
        });
        let taken = [(); 3].map(|()| {
            let magazine = depot.take_up().expect("there are three");
            let address = ptr::from_ref(&*magazine).addr();
            free_all(magazine);
            address
        });
        let [next, mine, before] = addresses;
        assert_eq!(taken, [mine, next, before]);
        assert!(depot.take_up().is_none());
    }

    #[test]
    fn what_nobody_needs_leaves_the_depot_by_and_by() {
        const COUNT: usize = 8;
        let depot = Depot::new();
        let each = ROUNDS * pool::rounded(1_000) + size_of::<Magazine>();
        for number in 0..COUNT {
            depot.lay_down(pool::magazine_of(&[1_000; ROUNDS]), number).expect("there is room");
        }
        let lies = || bytes(&depot) / each;
        depot.reap();
        assert_eq!(lies(), COUNT, "it has just come");
        depot.lay_down(depot.take_up().expect("it is there"), 0).expect("there is room");
        depot.reap();
        assert_eq!(
            lies(),
            COUNT / 2,
            "half of what has lain there all along, and the rest of a magazine"
        );
        for _ in 0..COUNT {
            depot.reap();
        }
        assert_eq!(lies(), 0);
    }
}
