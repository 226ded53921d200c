//! One allocator for all contestants, OpenSSL included: mimalloc.
//!
//! A server that asks for speed has chosen one such, and the less time an allocator takes the more is
//! seen of the caches; glibc's adds the same time to all of them. Where bytes are counted (`memory`)
//! it is glibc's, whose blocks can be counted exactly.

#[path = "openssl_allocator.rs"]
mod openssl_allocator;

use libmimalloc_sys::{mi_option_set, mi_option_t, mi_option_use_numa_nodes};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long what is free is kept, in milliseconds: the option before this one, which the bindings do not name.
const PURGE_DELAY: mi_option_t = mi_option_use_numa_nodes - 1;

/// Keeps what is free, and gives OpenSSL the allocator, too. Has to come before anything else of OpenSSL.
///
/// By default mimalloc gives the system back what is free in the middle of huge pages, which fall apart by it. Whose cache comes
/// to lie in small ones is an accident, and takes it up to half of its rate.
pub(crate) fn set_up() {
    // SAFETY: it sets a number.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
    openssl_allocator::for_openssl();
}
