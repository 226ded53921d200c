//! Adapters: the cache as a TLS stack wants to see it, one module for each stack and feature.
//!
//! An adapter translates calls, no more: what is kept, for how long, for whom and how often it
//! may be used is decided by the engine, so it holds for every stack alike.

#[cfg(feature = "openssl")]
#[cfg_attr(docsrs, doc(cfg(feature = "openssl")))]
pub mod openssl;
#[cfg(feature = "rustls")]
#[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
pub mod rustls;
