//! One allocator for all contestants, OpenSSL included: mimalloc.
//!
//! A server that asks for speed has chosen one such, and the less time an allocator takes the more is
//! seen of the caches; glibc's adds the same time to all of them. Where bytes are counted (`memory`)
//! it is glibc's, whose blocks can be counted exactly.

#[path = "openssl_allocator.rs"]
mod openssl_allocator;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Has to come before anything else of OpenSSL.
pub(crate) fn set_up() {
    openssl_allocator::set_up();
}
