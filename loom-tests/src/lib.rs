//! Models of the lock-free code of `resumption`, explored by [loom].
//!
//! ```text
//! cargo xtask loom [--quick | --deep | --real [--asan]]
//! cargo xtask mutants [--show BUG]
//! ```
//!
//! `docs/models.md` reads one of them from its claim to a counterexample. Without `--cfg loom` this package
//! is empty. It is one of its own because that flag breaks crates
//! that the library's examples and tests need.
//!
//! # What is modelled
//!
//! The code in `src/` itself, through `resumption::model`, which wraps it thinly. Each scenario is
//! explored exhaustively within the stated bounds under loom's memory model: two or three threads,
//! one to four calls each, and a number of preemptions that stands beside the scenario.
//!
//! | file | code | what holds in every execution |
//! |---|---|---|
//! | `table.rs` | `table/list.rs` | one live session of an id; each leaves once; none is lost or stays linked |
//! | `replace.rs` | `table/list.rs`, engine | a replace is no miss; versions only grow; each session has one winner |
//! | `grow.rs` | `table/cells.rs`, `list.rs` | growth and the linking of cells hide nothing; a walk meets each session once |
//! | `filter.rs` | `table/link.rs`, `list.rs` | a lookup that a cell's filter spares would have found nothing |
//! | `refs.rs` | `reclaim/refs.rs`, `table/node.rs`, engine | a payload is dropped once, by the last reference, and never read afterwards |
//! | `hints.rs` | `queue/mod.rs` | no hint is lost or popped twice; no dead segment is read |
//! | `wheel.rs` | `expiry/wheel.rs`, `lanes.rs`, engine | no hint without its bit or behind the progress; no session without a valid hint |
//! | `capacity.rs` | `expiry/capacity.rs`, `room.rs`, engine | tokens are neither made nor lost; a place has one owner at a time; bytes are charged once |
//! | `gate.rs` | `gate.rs`, engine | close leaves nothing behind |
//! | `scope.rs` | `gate.rs`, `engine/outdated.rs` | the drop of a scope leaves nothing behind, and is told in order |
//! | `events.rs` | `table/events.rs`, `queue/mod.rs`, `shard.rs`, engine | each coming and leaving is told once, in order; none is left, no wake-up is lost |
//! | `slots.rs` | `engine/settings.rs`, `callbacks.rs` | what is told goes to the old or to the new callback, once; nothing to one that was unset |
//! | `unlinked.rs` | `table/events.rs`, `table/node/birth.rs`, `engine/modes.rs` | what is told and not stored is told once, in order; a context is dropped once |
//! | `flights.rs` | `flight.rs`, `engine/ask.rs` | no removed session comes back; a dropped lookup strands no other, and neither loses nor doubles |
//! | `due.rs` | `expiry/due.rs`, engine | a session is extended or expires, never both; a renewal undoes neither |
//! | `shelf.rs` | `reclaim/shelf.rs` | a bundle of free blocks is neither lost nor taken twice |
//! | `parcel.rs` | `reclaim/parcel.rs`, `table/node/birth.rs` | bytes that share their block with a node are not wiped while they are held; the block is freed once |
//! | `real.rs` | table and queue, on the real epoch | as above; and that what is retired is freed |
//! | `freed.rs` | table, on the real epoch | a header that does not wait for its readers is a use after free, to AddressSanitizer |
//!
//! Memory is reclaimed by a mock, the most aggressive reclaimer that the epoch's contract allows:
//! a block dies when the last guard of those that were pinned at its retirement is gone, and a read
//! of a dead block or a second retirement panics. The number of retired blocks, the payloads that
//! were dropped and the content of the table are compared after each execution. Segments have two
//! slots here, a new table has two cells, the wheel has one level, batches have one element, and what is striped has
//! one stripe, but for the gate in some models. Everything runs with debug assertions and checks of overflows.
//!
//! The mock is a claim about the epoch. `real.rs` backs it: a few models on `crossbeam-epoch` itself, built
//! with `--cfg crossbeam_loom`; also under AddressSanitizer, for loom does not see a use after free.
//!
//! arc-swap is mocked too (`src/sync/swap.rs`): its loads and swaps have one order, and a value lives as
//! long as it is used. Callbacks that are in flight are counted by the standard library's `Arc`, in
//! safe code.
//!
//! Each scenario runs in two modes, described in the library's `src/sync/loom.rs`: *memory mode*,
//! where loads may return old values as their orderings allow, and *interleaving mode*. It prints how
//! many executions it has explored, and fails below the floor that stands beside it: a model that
//! explores less than it did proves less than it did. Floors are nine tenths of the count that
//! was explored when they were set. `--deep` explores larger bounds after that, for as long as it is told to.
//!
//! # Seeded bugs
//!
//! The `planted!` sites in `src/` are bugs that a model switches on to show that it catches them: by
//! the assertion that the test names, while the same scenario passes without the bug. "Causality
//! violation" and "deadlock" are loom's own assertions: a data race, and threads that all wait. Both modes
//! are tried; an ordering can only be caught in memory mode, and some interleavings need more preemptions
//! than that affords. Two bugs are of the mocks: they show that these are strict, and are counted apart.
//!
//! Weaker code that is no bug, because no execution can tell it from the right one, is planted too, and
//! has to pass (`Scenario::tolerates`); its reason stands beside it.
//!
//! # What is not modelled
//!
//! The epoch itself beyond the few models in `real.rs`, retired memory that is used again, counts that no protocol depends on,
//! more threads or calls, a compare-and-swap that fails spuriously, loads that a processor moves behind later stores,
//! and orderings between two words whose observer comes to the earlier one by a read-modify-write: that reads the
//! newest value in loom, whatever the orderings. `docs/models.md` has the list.
//!
//! [loom]: https://docs.rs/loom

#[cfg(loom)]
mod heard;
#[cfg(loom)]
mod payload;
#[cfg(loom)]
mod report;
#[cfg(loom)]
mod scenario;

#[cfg(loom)]
pub use heard::{Call, Heard, replay, serve, waiting};
#[cfg(loom)]
pub use payload::{Payload, dropped};
#[cfg(loom)]
pub use scenario::{ALL, Mode, Scenario, race, race3};
