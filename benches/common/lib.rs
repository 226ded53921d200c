//! What the benches share: the contestants, what is done to them, and how that is shown.

#![allow(missing_docs, missing_debug_implementations, reason = "it is for the benches beside it")]

pub mod args;
pub mod contestants;
pub mod handshakes;
pub mod ids;
pub mod load;
pub mod memory;
pub mod openssl_calls;
pub mod paired;
pub mod percentile;
pub mod report;
pub mod rounds;
