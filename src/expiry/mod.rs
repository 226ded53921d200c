//! When sessions leave: the timer wheel of hints, and capacity.
//!
//! * `hint.rs`: a value that leads to a session.
//! * `wheel.rs`: the wheel of queues of hints; what comes due, and what is evicted first.
//! * `due.rs`: when a session expires, and how old it is, in one word.
//! * `capacity.rs`: limits, kept by tokens.
//!
//! The wheel owns nothing and knows no table: what it holds are values. A session that is taken
//! leaves a hint behind that finds nothing; compaction keeps those below twice the sessions.

pub(crate) mod capacity;
mod due;
mod hint;
mod wheel;

pub(crate) use due::{Due, Extension, Standing};
pub(crate) use hint::Hint;
pub(crate) use wheel::{Age, List, NoPart, Part, Row, Unpushed, Wheel};
