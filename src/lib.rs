//! The engine that remembers TLS sessions for servers.
//!
//! A TLS client that comes back can skip the expensive half of the handshake if the server still
//! knows its session. This crate is what a server remembers sessions with: a sharded, lock-free,
//! epoch-reclaimed hash table of reference-counted sessions, with timer-wheel expiry, strict limits
//! and isolation by construction.
//!
//! ```
//! use std::time::Duration;
//! use resumption::{Scope, SessionCache, SessionId};
//!
//! let cache: SessionCache = SessionCache::builder()
//!     .max_sessions(1_000_000)
//!     .lifetime(Duration::from_secs(7200))
//!     .build()?;
//!
//! // A session is looked up through the scope that it belongs to, and through no other.
//! let web = cache.scope(&Scope::new("public-web"));
//! let id = SessionId::try_from(&[7; 32][..])?;
//! assert!(web.put(&id, b"what TLS remembers".into()).is_stored());
//!
//! let session = web.take(&id).expect("exactly one take wins");
//! assert_eq!(&session.payload()[..], b"what TLS remembers");
//! assert!(web.take(&id).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `rustls`, `config.session_storage = web.rustls()` is all that a rustls server
//! needs; with the feature `openssl`, `tls::openssl::attach(&mut context, &web)` an OpenSSL server.
//!
//! # Guarantees
//!
//! * **Lock-free.** A thread that is stopped at any instruction of a put, a get, a take, a removal,
//!   an eviction, an expiry or a growth keeps no other from going on. [`SessionCache::close`] waits, a lowered limit
//!   may, and so do the calls that attach or drop a scope or change a setting, which exclude each other;
//!   a lookup waits for a get callback that it asks. What lookups have left of their questions is in one list of the cache:
//!   a thread that is stopped in one of its few steps there keeps lookups that time out or are dropped, and the
//!   background thread, and no others. This does not cover the allocator, nor what the C library does
//!   when a thread first uses the crate.
//! * **Linearizable per id.** Puts, gets, takes, removals and extensions of one id take effect one
//!   after the other. A replace is never seen as a miss; a session has one taker, and every removal
//!   has one winner and one [`Reason`].
//! * **Limits hold at every instant.** Sessions and bytes never exceed theirs, however many threads
//!   put. A cache of up to 1 024 sessions holds exactly as many; larger ones keep at least 97 % of n
//!   after n distinct puts; by a limit on bytes 95 %, where few sessions weigh hundreds of times as much as the rest. What
//!   handles hold after a removal is counted apart.
//! * **Expired sessions are never returned**, by the cache's [`Clock`]. Their memory comes back later, in bounded steps
//!   of puts and of a background thread. A session's turn comes at most 13 % of its lifetime after its expiry, and a few
//!   seconds. (In a cache without that thread, after a time without puts, it may be 13 % of that time.) Of many
//!   whose turn comes at once the thread frees some hundred thousand in a second, fewer where a payload
//!   takes long to drop ([`Builder::ticker`]).
//! * **Payloads are dropped with their last reference, at that moment**, and [`SecretBytes`] are
//!   wiped then. Only memory waits for the epoch, counted and bounded: a header, together with the bytes, wiped
//!   already, of [`SecretBytes`] of up to 936 bytes, which share its block.
//! * **Scopes are separate.** The scope enters the hash and is compared exactly on every match, so no lookup
//!   crosses scopes. [`SessionCache::iter`] and [`SessionCache::retain`] see all of them;
//!   [`Sessions::iter`] and [`Sessions::retain`] see one.
//! * **Callbacks are told once, in order.** Of one id in one scope: a session's coming before its
//!   leaving, and its leaving before the coming of the next. No lock, pin or gate is held meanwhile; but
//!   where a payload that a put evicts drops the last handle of another cache, that one's are told inside the put. An
//!   external cache that lags brings no session back.
//! * **No panic past the builder**, whatever the ids, limits and clocks. A payload whose own drop
//!   panics does so out of the call that dropped it, and nothing else is lost but what that call was
//!   putting; if that panics in its drop, too, the process ends, as with any two panics at once.
//!
//! # Trade-offs
//!
//! * A cell array never shrinks: 16 to 32 bytes for each session of the largest number so far; or of the limit,
//!   once the cache has held a sixteenth of that. Headers
//!   of large caches are in a region of the process that does not shrink either ([`Stats::region_bytes`]);
//!   on Linux it reserves 64 GiB of address space. Those of [`SecretBytes`] of up to 936 bytes are not: they
//!   are with the bytes. Each thread keeps up to 256 KiB of such blocks for its next sessions, and the process
//!   up to 64 MiB for any thread's, which the background threads give back while nobody needs them.
//! * Each list of the timer wheel that was ever used keeps half a kilobyte: a lane has some two hundred of them after
//!   hours with one lifetime, and 1 920 at most. There is one lane for a processor, as many as the next power of two, and fewer for fewer than 2 048 sessions each.
//! * Each thread puts in one of the cache's lanes, and eviction goes by lanes, of which it compares a few at a time. Of sessions that
//!   expire in the same slot those of one thread may stay about an eighth longer than those of others; the last ones that a thread
//!   has put may stay until no others of their slot are left. With more than three lanes a session that expires sooner may stay for some
//!   batches more, too, if its lane was not among those that were looked at.
//! * A cache has room for 2³¹ sessions, and for 2³² hints of them. What is beyond is miscounted.
//! * Eviction is by expiry slot, first in first out within one: in one lane exactly, in several about. A session that was used since it came is spared, and
//!   looked at again only while less than a fifth of the sessions are new ones, which have not been
//!   looked at: a flood of new sessions costs others little, and a new one has time to come back. One call of
//!   eviction spares 64 at most, and then takes the next. Sessions of different lifetimes that expire within an eighth of each other may leave in
//!   either order; after an idle time, or without auto-clear, also within an eighth of that time.
//! * A thread that is stopped, or preempted, in the middle of an operation keeps headers from being freed, and what is in one
//!   block with them. While more of them wait than a quarter of a limit, [`Builder::max_waiting_headers`], one put in 256 yields the
//!   processor, so that a preempted thread has its turn; such a put may take as long as the other threads' turns. At the limit puts
//!   are refused until the thread goes on.
//! * Each cache has a background thread, unless it is built [without](Builder::without_ticker).
//! * In a forked child the background thread does not exist, nor the one that [`Lookup`]'s deadlines
//!   start; and what another thread of the parent was reading at that instant keeps memory from coming back in the
//!   child, whatever cache it is of. Make the process's first cache after the fork.
//! * Calls of callbacks that wait hold their sessions, beyond the limit on bytes; their number is
//!   bounded, [`Builder::max_waiting_callbacks`].
//! * 64-bit systems only, whose user space ends at 2⁴⁸: the bits above have other uses.
//!
//! # Whose types are in the interface
//!
//! `bitflags` 2 in [`CacheMode`]; `rustls` 0.23 and `openssl` 0.10 in the adapters of these features, which show
//! the crates that they are made for as `tls::rustls::rustls` and `tls::openssl::openssl`. A new major version of one of them
//! is one of this crate.
//!
//! # Inside
//!
//! Data goes down the layers and comes back: `sessions` and `cache` (the face), `engine` (how a
//! session enters, is found and leaves), `shard` (where it is) and `lanes` (in which order it leaves), then
//! `table` and `expiry`, which do not know each other, `reclaim`, and `sync`, the only door to atomics. Each lock-free module begins with its
//! invariants, its orderings and its races, and names the loom model that checks them.

// The documentation says which feature an item is of.
#![cfg_attr(docsrs, feature(doc_cfg))]
// The models use a part of the crate.
#![cfg_attr(loom, allow(dead_code))]

#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod cache;
mod callbacks;
mod clock;
mod connection;
mod dispatch;
mod engine;
mod expiry;
mod flight;
mod gate;
#[cfg(not(loom))]
mod iter;
mod lane;
mod lanes;
#[cfg(not(loom))]
mod lookup;
mod mode;
#[cfg(loom)]
#[doc(hidden)]
pub mod model;
mod outcome;
mod payload;
mod portable;
mod queue;
mod reclaim;
mod room;
mod scope;
mod secret;
mod session;
#[cfg(not(loom))]
mod sessions;
mod settings;
mod shard;
mod stats;
mod sync;
mod table;
#[cfg(not(loom))]
mod threads;
#[cfg(all(any(feature = "openssl", feature = "rustls"), not(loom)))]
pub mod tls;

#[cfg(not(loom))]
pub use builder::{BuildError, Builder};
#[cfg(not(loom))]
pub use cache::SessionCache;
pub use callbacks::{
    Answer, Found, Later, NewSession, OnGet, OnNew, OnRemove, Proposed, RemovedSession, Verdict,
    Want,
};
pub use clock::Clock;
pub use connection::Connection;
pub use dispatch::{Dispatch, Undelivered};
#[cfg(not(loom))]
pub use iter::Iter;
#[cfg(not(loom))]
pub use lookup::Lookup;
pub use mode::CacheMode;
pub use outcome::{Put, Refusal};
pub use portable::Portable;
pub use scope::Scope;
pub use secret::SecretBytes;
pub use session::Session;
#[cfg(not(loom))]
pub use sessions::Sessions;
pub use stats::{Reason, Removals, Stats};
pub use table::id::{SessionId, SessionIdError};

/// The README's code is compiled and run with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So is that of the page on callbacks.
#[cfg(doctest)]
#[doc = include_str!("../docs/callbacks.md")]
struct CallbacksPage;
