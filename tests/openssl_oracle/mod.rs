//! The parts of the oracle.

pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod exceptions;
mod handshake;
mod object;
pub(crate) mod operation;
mod ours;
mod outcome;
pub(crate) mod run;
mod theirs;
