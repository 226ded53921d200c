//! mimalloc for OpenSSL.

use std::ffi::{c_char, c_int, c_void};

use common::openssl_calls;

/// Gives OpenSSL the allocator, too. Has to come before anything else of OpenSSL.
pub(crate) fn for_openssl() {
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
