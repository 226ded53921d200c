//! Histories of a cache under real threads, and whether they are those of one thread.
//!
//! * `history.rs`: what was done, and between which instants.
//! * `spec.rs`: what one thread would see: the sequential specification of an id.
//! * `checker.rs`: whether there is an order in which one thread could have done it.
//! * `report.rs`: the part of a history that says what is wrong with it.
//! * `run.rs`: threads that make histories.
//! * `known.rs`: histories that are known to be good or bad, for the checker.
//! * `brute.rs`: the checker beside one that tries every order.

pub(crate) mod checker;
pub(crate) mod history;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod spec;

mod brute;
mod known;
