//! What a thread has retired and not yet given to the epoch.
//!
//! The epoch takes a closure for whatever it is to free. One for each block would be more work than all
//! else that is done about it, and hundreds of them, which are due at once, a pause for whoever is so unlucky
//! as to meet them. So the blocks of parcels are collected in magazines, and the epoch gets one closure
//! for each (Hart and others 2007 call what waits like this *limbo lists*).
//!
//! It is safe to give a block to the epoch late: what nobody could reach when it was retired, nobody who pins later
//! can. There is no pin between, so that a retirement is a few stores to a thread's own memory.

use std::cell::Cell;

use super::depot;
use super::epoch::pin;
use super::gauge::Gauges;
use super::magazine::{Block, Magazine};
use super::parcel::Parcel;
use super::pool;
use crate::sync::thread_index;

thread_local!(static LIMBO: Limbo = const { Limbo(Cell::new(None)) });

/// The magazine that the thread is filling, if it has begun one.
struct Limbo(Cell<Option<Box<Magazine>>>);

impl Drop for Limbo {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(seal);
    }
}

/// Frees the block of a parcel, with the header in its room, once every pin of now is over. Not under a pin.
///
/// # Safety
///
/// P3: no thread that pins later can reach what is in the block, and this is its only retirement.
#[inline]
pub(crate) unsafe fn retire_parcel(parcel: Parcel, gauges: &'static Gauges) {
    let block = parcel.into_block(gauges);
    let is_kept = LIMBO.try_with(|limbo| {
        let Some(mut magazine) = limbo.0.take() else { return false };
        // SAFETY: by the caller's promise; of a parcel, hence from the pool.
        let is_kept = unsafe { magazine.push(block) };
        limbo.0.set(Some(magazine));
        is_kept
    });
    if !is_kept.unwrap_or(false) {
        // SAFETY: by the caller's promise.
        unsafe { retire_in_next(block) };
    }
}

/// Begins another magazine with a block.
///
/// # Safety
///
/// As for [`Magazine::push`].
#[cold]
unsafe fn retire_in_next(block: Block) {
    let mut next = Some(pool::empty_magazine());
    // SAFETY: by the caller's promise; the magazine is empty.
    next.as_mut().map(|magazine| unsafe { magazine.push(block) });
    let full = LIMBO.try_with(|limbo| limbo.0.replace(next.take()));
    // What the thread keeps is gone while it ends: then this one goes, as it is.
    full.ok().flatten().into_iter().chain(next).for_each(seal);
}

/// Hands what this thread retired to all threads, and frees what is due.
pub(crate) fn flush() {
    match LIMBO.try_with(|limbo| limbo.0.take()) {
        Ok(Some(magazine)) => seal(magazine),
        _ => pin().flush(),
    }
}

/// Gives a magazine to the epoch; or its blocks, if there are few: those that are in no magazine go back to the
/// allocator, and no thread begins a new one for each of its sweeps.
#[cold]
fn seal(magazine: Box<Magazine>) {
    magazine.count(Gauges::waiting_began);
    let guard = pin();
    if magazine.is_nearly_empty() {
        for &block in magazine.blocks() {
            // SAFETY: as below.
            unsafe { guard.defer(move || free(block)) };
        }
        pool::keep_empty(magazine);
    } else {
        let owner = thread_index();
        let laid_down = move || {
            magazine.count(Gauges::waiting_ended);
            depot::lay_down(magazine, owner);
        };
        // SAFETY: the closure may run on any thread: it touches blocks that nobody else can reach (P3, and M1), a
        // depot and gauges that are never freed.
        unsafe { guard.defer(laid_down) };
    }
    guard.flush();
}

/// Frees a block, or keeps it for this thread's next session.
fn free(Block { start, size, gauges }: Block) {
    // SAFETY: M1.
    unsafe { pool::give_rounded(start, size) };
    gauges.waiting_ended(1);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::gauge::Lease;
    use super::super::magazine::ROUNDS;
    use super::*;

    /// Retires a parcel of so many bytes that nobody has seen.
    fn retire(len: usize, gauges: &'static Gauges) {
        let parcel = Parcel::copy_of(&vec![7; len]);
        // SAFETY: nobody else has it.
        unsafe { retire_parcel(parcel, gauges) };
    }

    /// In a thread of its own, which has retired nothing yet.
    fn alone(test: impl FnOnce() + Send + 'static) {
        thread::spawn(test).join().expect("the test's thread does not panic");
    }

    /// How many blocks are in this thread's magazine.
    fn kept() -> usize {
        LIMBO.with(|limbo| {
            let magazine = limbo.0.take();
            let kept = magazine.as_ref().map_or(0, |magazine| magazine.blocks().count());
            limbo.0.set(magazine);
            kept
        })
    }

    #[test]
    fn the_blocks_of_several_caches_wait_in_one_magazine() {
        alone(|| {
            let leases = [Lease::new(usize::MAX), Lease::new(usize::MAX)];
            for number in 0..2 * ROUNDS {
                assert_eq!(kept(), if number <= ROUNDS { number } else { number - ROUNDS });
                retire(100, leases[number % 2].gauges());
            }
        });
    }

    #[test]
    fn few_blocks_take_no_magazine_with_them() {
        alone(|| {
            let lease = Lease::new(usize::MAX);
            for _ in 0..3 {
                retire(100, lease.gauges());
                flush();
                assert_eq!(kept(), 0);
                assert!(pool::has_empty_magazine(), "it stays for the next ones");
            }
            (0..ROUNDS / 2).for_each(|_| retire(100, lease.gauges()));
            flush();
            assert!(!pool::has_empty_magazine(), "it went with its blocks");
        });
    }
}
