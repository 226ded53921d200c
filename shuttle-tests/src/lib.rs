//! Random schedules of the cache's calls, by [shuttle].
//!
//! ```text
//! cargo xtask shuttle [--iterations N] [--seed N] [--replay KIND:SEED] [--plant NAME | --plants]
//! ```
//!
//! Without `--cfg shuttle` this package is empty: that flag changes the library.
//!
//! # What is run
//!
//! The code in `src/` itself. `--cfg chaos` puts a pause before each of its atomic accesses, and
//! `--cfg shuttle` makes those pauses the places where shuttle may let another task go on
//! (`src/sync/shuttle.rs`). So a schedule is a sequence of choices, which a seed repeats: the same calls,
//! the same keys of the hash, the same interleaving of atomic steps.
//!
//! Three to six tasks make 40 calls each, of all kinds, on a few ids where they meet and on others by which
//! the table grows and sessions are evicted; the clock goes on, sessions are swept, limits change. What
//! each call returned, and between which instants, is checked by the same checker as the histories of real
//! threads (`tests/linearizability/`). Beside that: no more sessions are there, and no more payloads
//! alive, than the limit allows; every payload is dropped once, and none is left; each session that came
//! and left is told once.
//!
//! Tables begin with 4 cells, queues have segments of 4 hints and shards 8 sessions, so that such short
//! runs grow them and go from one to the next. The rest is as it is shipped.
//!
//! Two of shuttle's schedulers choose. *Random* takes any task at each switch. *PCT* (Burckhardt et al.
//! 2010) lets the first of a random order run until it comes to a random place, where it becomes the last:
//! so one task stands in the middle of a call while others make many. There are 1 to 63 such places in an
//! execution, and each of its steps has the same chance.
//!
//! # What is left out
//!
//! * Weak memory: each schedule is sequentially consistent. That is what models and sanitizers are for.
//! * arc-swap, the epoch and the allocator: they run without a switch inside of them. A pin of one task is
//!   none of another's, though.
//! * Get callbacks: their lookups park threads of the system. Workers and the ticker, for the same reason;
//!   callbacks are called inline.
//! * `get_many`, which makes its lookups one after another.
//! * What the loom models are about and no history shows: close beside puts, modes, OpenSSL.
//!
//! [shuttle]: https://docs.rs/shuttle
