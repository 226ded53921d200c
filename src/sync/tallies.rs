//! Counts that threads add to all the time, and that somebody sums now and then.
//!
//! A locked addition takes a processor as long as twenty others, and holds up the loads after it. So a
//! thread has a *seat*, as long as there are some: a number that no other thread has while it lives. In
//! the stripe of its seat it alone writes, and a load and a store are an addition. Threads without a seat
//! share other stripes, by locked additions.
//!
//! Nothing but numbers to show depends on these words, or a bound that is looked at now and then; so they are
//! no part of any model.

use super::tally::AtomicU64;
use super::{Ordering, Padded, Striped};

/// Counts of one kind `T` for each seat, and for those without.
#[derive(Debug)]
pub(crate) struct Tallies<T> {
    own: Box<[Padded<T>]>,
    shared: Striped<T>,
}

/// The calling thread's counts.
pub(crate) struct Mine<'a, T> {
    counts: &'a T,
    is_own: bool,
}

impl<T: Default> Tallies<T> {
    /// Counts that are all zero.
    pub(crate) fn new() -> Self {
        let shared = Striped::new();
        let own = (0..seats::of_a_tally(shared.0.len())).map(|_| Padded::default()).collect();
        Self { own, shared }
    }

    /// The counts that the calling thread adds to.
    #[inline]
    pub(crate) fn mine(&self) -> Mine<'_, T> {
        match self.own.get(seats::mine()) {
            Some(own) => Mine { counts: &own.0, is_own: true },
            None => Mine { counts: self.shared.mine(), is_own: false },
        }
    }

    /// All counts, to be summed. Not a snapshot: see [`Striped`].
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.own.iter().map(|own| &own.0).chain(self.shared.iter())
    }
}

impl<T> Mine<'_, T> {
    /// Adds to one of the counts, and returns what it was. It wraps, so that a subtraction is an addition.
    #[inline]
    pub(crate) fn add(&self, which: impl FnOnce(&T) -> &AtomicU64, amount: u64) -> u64 {
        let count = which(self.counts);
        // Relaxed, all: counts order no memory.
        if !self.is_own {
            return count.fetch_add(amount, Ordering::Relaxed);
        }
        let before = count.load(Ordering::Relaxed);
        count.store(before.wrapping_add(amount), Ordering::Relaxed);
        before
    }
}

#[cfg(not(loom))]
mod seats {
    //! The seats of the process.

    use std::cell::Cell;

    use crate::sync::Ordering;
    use crate::sync::tally::AtomicU64;

    const SEATS: usize = u64::BITS as usize;
    /// The thread has no seat, or none any more.
    const NONE: usize = SEATS;
    const UNASKED: usize = SEATS + 1;

    /// A bit for each seat that is taken.
    static TAKEN: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        static SEAT: Cell<usize> = const { Cell::new(UNASKED) };
        /// Gives the seat back when the thread ends.
        static HOLD: Hold = const { Hold(Cell::new(NONE)) };
    }

    struct Hold(Cell<usize>);

    impl Drop for Hold {
        fn drop(&mut self) {
            // What the thread still does as it ends it does without a seat.
            SEAT.set(NONE);
            give_back(self.0.get());
        }
    }

    /// Seats that have counts of their own, with so many stripes for the others: more cost memory in each
    /// cache.
    pub(super) fn of_a_tally(stripes: usize) -> usize {
        (4 * stripes).min(SEATS)
    }

    /// The calling thread's seat, or a number above all seats.
    #[inline]
    pub(super) fn mine() -> usize {
        let seat = SEAT.get();
        if seat == UNASKED { sit_down() } else { seat }
    }

    #[cold]
    fn sit_down() -> usize {
        let seat = take();
        // A thread that is about to end gives nothing back any more.
        let is_held = HOLD.try_with(|hold| hold.0.set(seat)).is_ok();
        if !is_held {
            give_back(seat);
        }
        let seat = if is_held { seat } else { NONE };
        SEAT.set(seat);
        seat
    }

    /// Takes the first free seat.
    fn take() -> usize {
        // Relaxed: a guess, which the exchange corrects.
        let mut taken = TAKEN.load(Ordering::Relaxed);
        loop {
            let seat = (!taken).trailing_zeros() as usize;
            if seat == SEATS {
                return NONE;
            }
            // Acquire: pairs with `give_back`, so that this thread goes on from what the last one counted.
            let new = taken | 1 << seat;
            match TAKEN.compare_exchange(taken, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return seat,
                Err(other) => taken = other,
            }
        }
    }

    fn give_back(seat: usize) {
        if seat < SEATS {
            // Release: pairs with `take`.
            TAKEN.fetch_and(!(1 << seat), Ordering::Release);
        }
    }
}

#[cfg(loom)]
mod seats {
    //! No seats: the threads of a model are one of the system's.

    pub(super) fn of_a_tally(_: usize) -> usize {
        0
    }

    pub(super) fn mine() -> usize {
        0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    fn sum(tallies: &Tallies<AtomicU64>) -> u64 {
        let counts = tallies.iter().map(|count| count.load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }

    fn count(tallies: &Tallies<AtomicU64>, times: u64) {
        for _ in 0..times {
            tallies.mine().add(|count| count, 3);
            tallies.mine().add(|count| count, 2u64.wrapping_neg());
        }
    }

    #[test]
    fn nothing_is_lost_among_more_threads_than_seats() {
        let tallies = Arc::new(Tallies::new());
        let threads: Vec<_> = (0..100)
            .map(|_| {
                let tallies = Arc::clone(&tallies);
                thread::spawn(move || count(&tallies, 10_000))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it counts"));
        assert_eq!(sum(&tallies), 1_000_000);
    }

    #[test]
    fn threads_that_live_together_have_seats_of_their_own_and_give_them_back() {
        for _ in 0..100 {
            let barrier = Arc::new(Barrier::new(4));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let barrier = Arc::clone(&barrier);
                    thread::spawn(move || {
                        barrier.wait();
                        let seat = seats::mine();
                        barrier.wait();
                        seat
                    })
                })
                .collect();
            let seats: BTreeSet<_> =
                threads.into_iter().map(|thread| thread.join().expect("it sits")).collect();
            assert_eq!(seats.len(), 4, "{seats:?}");
            assert!(seats.last() < Some(&64), "{seats:?}");
        }
    }

    /// Counts in a destructor of the thread's, which may come before or after that of its seat.
    struct Late(Arc<Tallies<AtomicU64>>);

    impl Drop for Late {
        fn drop(&mut self) {
            count(&self.0, 1_000);
        }
    }

    #[test]
    fn a_thread_counts_while_it_ends() {
        thread_local!(static LATE: std::cell::RefCell<Vec<Late>> = const { std::cell::RefCell::new(Vec::new()) });
        let tallies = Arc::new(Tallies::new());
        for sits_first in [true, false] {
            let of_thread = Arc::clone(&tallies);
            let thread = thread::spawn(move || {
                if sits_first {
                    seats::mine();
                }
                LATE.with_borrow_mut(|late| late.push(Late(of_thread)));
                seats::mine();
            });
            thread.join().expect("it ends");
        }
        assert_eq!(sum(&tallies), 2_000);
    }
}
