//! mimalloc as the benches have it, for OpenSSL too.

use std::ffi::{c_char, c_int, c_void};

use common::openssl_calls;
use libmimalloc_sys::{mi_option_set, mi_option_t, mi_option_use_numa_nodes};

/// How long what is free is kept, in milliseconds: the option before this one, which the bindings do not name.
const PURGE_DELAY: mi_option_t = mi_option_use_numa_nodes - 1;

/// Keeps what is free, and gives OpenSSL the allocator, too. Has to come before anything else of OpenSSL.
///
/// By default mimalloc gives the system back what is free in the middle of huge pages, which fall apart by it. Whose cache comes
/// to lie in small ones is an accident, and takes it up to half of its rate.
pub(crate) fn set_up() {
    // SAFETY: it sets a number.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
    // SAFETY: the three are one allocator's.
    unsafe { openssl_calls::set_allocator(malloc, realloc, free) };
}

unsafe extern "C" fn malloc(size: usize, _file: *const c_char, _line: c_int) -> *mut c_void {
    // SAFETY: any size may be asked for.
    unsafe { libmimalloc_sys::mi_malloc(size) }
}

unsafe extern "C" fn realloc(
    block: *mut c_void,
    size: usize,
    _file: *const c_char,
    _line: c_int,
) -> *mut c_void {
    // SAFETY: OpenSSL hands in what it got of these functions, or null.
    unsafe { libmimalloc_sys::mi_realloc(block, size) }
}

unsafe extern "C" fn free(block: *mut c_void, _file: *const c_char, _line: c_int) {
    // SAFETY: OpenSSL hands in what it got of these functions, once, or null.
    unsafe { libmimalloc_sys::mi_free(block) }
}
