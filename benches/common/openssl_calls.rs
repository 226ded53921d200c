//! Calls of OpenSSL's that several benches need and the `openssl` crate does not offer.

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_void};
use std::ptr;
use std::time::Duration;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{SslContextRef, SslSession};
use openssl_sys as sys;

use crate::contestants::honest::Id;

pub type Malloc = unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void;
pub type Realloc = unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void;
pub type Free = unsafe extern "C" fn(*mut c_void, *const c_char, c_int);

/// `SSL_CTRL_SESS_NUMBER` of `<openssl/ssl.h>`.
const SESS_NUMBER: c_int = 20;

// From `<openssl/crypto.h>` and `<openssl/ssl.h>`.
unsafe extern "C" {
    fn CRYPTO_set_mem_functions(malloc: Malloc, realloc: Realloc, free: Free) -> c_int;
    fn SSL_SESSION_set1_id(
        session: *mut sys::SSL_SESSION,
        id: *const c_uchar,
        len: c_uint,
    ) -> c_int;
    fn SSL_SESSION_set_timeout(session: *mut sys::SSL_SESSION, seconds: c_long) -> c_long;
}

/// Gives OpenSSL an allocator. Has to come before anything else of OpenSSL.
///
/// # Safety
///
/// The three are one allocator's: what the first two return the others take, and null.
pub unsafe fn set_allocator(malloc: Malloc, realloc: Realloc, free: Free) {
    // SAFETY: by the caller's promise; OpenSSL refuses them once it has allocated.
    let set = unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) };
    assert_eq!(set, 1, "OpenSSL has allocated before");
}

/// Names a session.
///
/// # Safety
///
/// Nobody else knows the session, and no context has it.
pub unsafe fn set_id(session: &SslSession, id: &Id) {
    // SAFETY: by the caller's promise; OpenSSL reads as many bytes as the id has.
    let set = unsafe { SSL_SESSION_set1_id(session.as_ptr(), id.as_ptr(), id.len() as c_uint) };
    assert_eq!(set, 1, "OpenSSL takes ids of 32 bytes");
}

/// How long a session lives.
///
/// # Safety
///
/// Nobody else knows the session, and no context has it.
pub unsafe fn set_timeout(session: &SslSession, lifetime: Duration) {
    // SAFETY: by the caller's promise.
    unsafe { SSL_SESSION_set_timeout(session.as_ptr(), seconds(lifetime)) };
}

/// How many sessions a context's own cache has.
pub fn session_count(context: &SslContextRef) -> usize {
    // SAFETY: the context lives; the call reads a number.
    let count = unsafe { sys::SSL_CTX_ctrl(context.as_ptr(), SESS_NUMBER, 0, ptr::null_mut()) };
    usize::try_from(count).expect("a number of sessions")
}

/// A time as OpenSSL takes it.
pub fn seconds(time: Duration) -> c_long {
    c_long::try_from(time.as_secs()).expect("a time of OpenSSL's")
}
