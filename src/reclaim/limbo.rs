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

use super::epoch::pin;
use super::gauge::Gauges;
use super::magazine::{Block, Magazine};
use super::parcel::Parcel;
use super::pool;

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
    let block = parcel.into_block();
    let kept = LIMBO.try_with(|limbo| {
        let Some(mut magazine) = limbo.0.take() else { return false };
        // SAFETY: by the caller's promise; of a parcel, hence from the pool.
        let fits = unsafe { magazine.push(block, gauges) };
        limbo.0.set(Some(magazine));
        fits
    });
    if !kept.unwrap_or(false) {
        // SAFETY: by the caller's promise.
        unsafe { retire_in_next(block, gauges) };
    }
}

/// Begins another magazine with a block: the first one is full, or what is in it is counted elsewhere.
///
/// # Safety
///
/// As for [`Magazine::push`].
#[cold]
unsafe fn retire_in_next(block: Block, gauges: &'static Gauges) {
    let mut magazine = pool::empty_magazine();
    // SAFETY: by the caller's promise.
    unsafe { magazine.push(block, gauges) };
    let mut next = Some(magazine);
    let before = LIMBO.try_with(|limbo| limbo.0.replace(next.take()));
    // What the thread keeps is gone while it ends: then the block goes on its own.
    before.ok().flatten().into_iter().chain(next).for_each(seal);
}

/// Hands what this thread retired to all threads, and frees what is due.
pub(crate) fn flush() {
    match LIMBO.try_with(|limbo| limbo.0.take()) {
        Ok(Some(magazine)) => seal(magazine),
        _ => pin().flush(),
    }
}

/// Gives a magazine to the epoch.
#[cold]
fn seal(magazine: Box<Magazine>) {
    let Some(gauges) = magazine.gauges() else { return };
    let count = magazine.blocks().len() as u64;
    gauges.waiting_began(count);
    let guard = pin();
    let laid_down = move || {
        pool::lay_down(magazine);
        gauges.waiting_ended(count);
    };
    // SAFETY: the closure may run on any thread: it touches blocks that nobody else can reach (P3, and M1), a
    // depot and gauges that are never freed.
    unsafe { guard.defer(laid_down) };
    guard.flush();
}
