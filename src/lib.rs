//! The engine that remembers TLS sessions for servers.
#![deny(missing_docs)]

#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod cache;
mod clock;
mod engine;
mod expiry;
mod gate;
mod outcome;
mod reclaim;
mod room;
mod scope;
mod secret;
mod session;
#[cfg(not(loom))]
mod sessions;
mod shard;
mod stats;
mod sync;
mod table;

#[cfg(not(loom))]
pub use builder::{BuildError, Builder};
#[cfg(not(loom))]
pub use cache::{Iter, SessionCache};
pub use clock::Clock;
pub use outcome::{Put, Refusal};
pub use scope::Scope;
pub use secret::SecretBytes;
pub use session::Session;
#[cfg(not(loom))]
pub use sessions::Sessions;
pub use stats::{Reason, Removals, Stats};
pub use table::id::{SessionId, SessionIdError};
