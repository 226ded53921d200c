//! Who owns a node, and when its memory comes back.
//!
//! * `refs.rs`: the count of references in a node. Zero is final.
//! * `epoch.rs`: pins and retirement, on a collector of `crossbeam-epoch` of our own.
//! * `limbo.rs`: what a thread has retired and not yet given to the epoch.
//! * `magazine.rs`, `depot.rs`: blocks that go from hand to hand together, and where they lie until somebody needs them.
//! * `spare.rs`: where headers come from, and the freed ones that a thread keeps for its next puts.
//! * `parcel.rs`, `pool.rs`: bytes with room for their header, and the freed ones that threads keep.
//! * `region.rs`, `shelf.rs`: the memory of large caches' headers, on huge pages.
//! * `mock.rs` (loom): the most aggressive reclaimer that the epoch's contract allows.
//! * `real.rs` (loom): the epoch itself, for the few models that are small enough.
//! * `seen.rs`: errors that sanitizers have to see.
//! * `panics.rs`: panics of payloads' drops, which wait until the work is done.
//! * `gauge.rs`: what waits for the epoch and what handles hold, counted and bounded.
//!
//! # The contract of a pin
//!
//! * P1: a block that was reachable while a guard lived stays allocated while that guard lives.
//! * P2: guards never leave the crate. While one lives, the thread runs no user code (no payload's
//!   drop, no callback, no weigher), reads no clock and allocates nothing. What is left is
//!   bookkeeping: the epoch frees due blocks in one of 128 pins, and allocates a bag for each 64
//!   retirements, or for each magazine; a queue of events allocates a segment for each sixtieth; and a thread
//!   that compares scopes for the first time its place among arc-swap's.
//! * P3: a block is retired once, by the one thread that made it unreachable *and* owned it last.
//!
//! A retired block waits; what a session holds does not. The payload is dropped, or wiped if it is in the
//! block, when the count of references reaches zero, at that moment (Fraser 2004 describes the epochs; that secrets must
//! not wait for them is our own rule).

/// Whether freed blocks are kept for the next sessions. Not in a build for AddressSanitizer: that knows a freed
/// block by the allocator, and one that is kept looks alive.
const RECYCLES: bool = !cfg!(sanitized = "address");

pub(crate) mod gauge;
pub(crate) mod panics;
pub(crate) mod parcel;
mod pool;
pub(crate) mod prefetch;
pub(crate) mod refs;

#[cfg(not(loom))]
mod depot;
#[cfg(not(loom))]
mod epoch;
#[cfg(not(loom))]
mod limbo;
mod magazine;
#[cfg(not(loom))]
mod region;
#[cfg(all(test, any(sanitized = "address", sanitized = "thread")))]
mod seen;
pub(crate) mod shelf;
#[cfg(not(loom))]
mod spare;
#[cfg(not(loom))]
pub(crate) use depot::reap;
#[cfg(not(loom))]
pub(crate) use epoch::{Guard, pin};
#[cfg(not(loom))]
pub(crate) use limbo::{flush, retire_parcel};
#[cfg(not(loom))]
pub(crate) use region::used as region_bytes;
#[cfg(not(loom))]
pub(crate) use spare::{free, place};

#[cfg(all(loom, not(crossbeam_loom)))]
mod mock;
#[cfg(all(loom, not(crossbeam_loom)))]
pub(crate) use mock::{
    Guard, end, flush, free, pin, place, region_bytes, reset, retire_parcel, retired,
};

#[cfg(all(loom, crossbeam_loom))]
mod real;
#[cfg(all(loom, crossbeam_loom))]
pub(crate) use real::{
    Guard, end, flush, free, pin, place, region_bytes, reset, retire_parcel, retired,
};

#[cfg(loom)]
mod depot {
    //! None: the blocks of a model stay in quarantine.

    use super::magazine::Magazine;

    pub(super) fn take_up() -> Option<Box<Magazine>> {
        None
    }

    pub(crate) fn reap() {}
}
#[cfg(loom)]
pub(crate) use depot::reap;
