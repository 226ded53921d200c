//! The depot: magazines of free blocks, which any thread may lay down and take up.
//!
//! # Races, both orders
//!
//! * Laying down and taking up: the shelf's own (`shelf.rs`). The counts are no part of it: bytes are counted before
//!   they lie there and until they were taken up, so the bound holds at every instant, and who finds a count of
//!   zero goes without although a magazine may just come. Who meets another taker with all of a shelf in its hands
//!   goes on to the next shelf.
//! * A taking up between the two ends of a [`Depot::reap`]: if its note of what is unused comes first, that is
//!   overwritten, and the next reaping frees what was needed once meanwhile; if it comes last, it stands. Two
//!   reapings at once free twice as much. No harm is done either way, for whoever finds nothing here allocates.

use super::magazine::Magazine;
use super::pool;
use super::shelf::Shelf;
use crate::sync::tally::AtomicUsize;
use crate::sync::{Ordering, Padded, thread_index};

/// Bytes that lie in the depot, at most, with the magazines: as much as comes back at once when the epoch has stood
/// for long, for a thread that was off its processor under a pin.
const MOST: usize = 64 * 1024 * 1024;

/// Bytes that leave it at a time when nobody has needed them for a while.
const REAPED: usize = 1024 * 1024;

/// The process's.
static DEPOT: Depot = Depot::new();

/// Shelves of the depot. A thread begins with one of them, on which lies what it has retired itself: that memory is
/// near its processor, and others' would have to come from theirs.
const SHELVES: usize = 16;

/// Magazines of blocks that nobody uses.
struct Depot {
    shelves: [Padded<Shelf>; SHELVES],
    /// What lies there: counted before it is laid down, and until it was taken up.
    bytes: AtomicUsize,
    /// The least that has lain there since it was last reaped.
    unused: AtomicUsize,
}

impl Depot {
    const fn new() -> Self {
        Self {
            shelves: [const { Padded(Shelf::new()) }; SHELVES],
            bytes: AtomicUsize::new(0),
            unused: AtomicUsize::new(0),
        }
    }

    /// A magazine, of the own shelf if there is one.
    fn take_up(&self) -> Option<Box<Magazine>> {
        // Relaxed, here and below: a bound. What is in a magazine the shelf shows.
        if self.bytes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let own = thread_index();
        let bundle = (own..own + SHELVES).find_map(|number| self.shelf(number).take())?;
        // SAFETY: of a magazine, as all on this shelf, and taken off it.
        let magazine = unsafe { Magazine::of(bundle) };
        let bytes = magazine.bytes();
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.unused.fetch_min(before.saturating_sub(bytes), Ordering::Relaxed);
        Some(magazine)
    }

    /// Frees some of what nobody has needed since this was last called: half, or [`REAPED`] bytes if that is less.
    fn reap(&self) {
        let mut wanted = (self.unused.load(Ordering::Relaxed) / 2).min(REAPED);
        while wanted > 0
            && let Some(magazine) = self.take_up()
        {
            wanted = wanted.saturating_sub(magazine.bytes());
            free_all(magazine);
        }
        self.unused.store(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Lays a magazine on the shelf of a thread, if there is room in the depot.
    fn lay_down(&self, magazine: Box<Magazine>, owner: usize) -> Result<(), Box<Magazine>> {
        let bytes = magazine.bytes();
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MOST {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(magazine);
        }
        let shelf = self.shelf(owner);
        // SAFETY: given up here, and taken apart by the one who takes it up.
        unsafe { shelf.put(magazine.into_bundle()) };
        Ok(())
    }

    /// The shelf of a thread.
    fn shelf(&self, thread: usize) -> &Shelf {
        &self.shelves[thread % SHELVES].0
    }
}

/// Keeps blocks that nobody sees any more for the next thread that wants some, above all for the one of this index, which
/// has retired them; or frees them, if there are many.
pub(super) fn lay_down(magazine: Box<Magazine>, owner: usize) {
    if let Err(magazine) = DEPOT.lay_down(magazine, owner) {
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

    #[test]
    fn no_more_lies_in_the_depot_than_so_much() {
        let depot = Depot::new();
        let bytes = ROUNDS * pool::rounded(1_000) + size_of::<Magazine>();
        let lies = || depot.bytes.load(Ordering::Relaxed);
        for number in 1..=MOST / bytes {
            depot.lay_down(pool::magazine_of(&[1_000; ROUNDS]), number).expect("there is room");
            assert_eq!(lies(), number * bytes);
        }
        free_all(
            depot.lay_down(pool::magazine_of(&[1_000; ROUNDS]), 0).expect_err("there is no more"),
        );
        assert!((MOST - bytes..=MOST).contains(&lies()), "{} bytes", lies());
        while let Some(magazine) = depot.take_up() {
            free_all(magazine);
        }
        assert_eq!(lies(), 0, "all that is there is found again");
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
        let bytes = ROUNDS * pool::rounded(1_000) + size_of::<Magazine>();
        for number in 0..COUNT {
            depot.lay_down(pool::magazine_of(&[1_000; ROUNDS]), number).expect("there is room");
        }
        let lies = || depot.bytes.load(Ordering::Relaxed) / bytes;
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
