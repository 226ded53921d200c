//! What the benches share: the contestants, what is done to them, and how that is shown.

pub(crate) mod args;
pub(crate) mod contestants;
pub(crate) mod ids;
pub(crate) mod load;
pub(crate) mod paired;
pub(crate) mod percentile;
pub(crate) mod report;
pub(crate) mod rounds;
