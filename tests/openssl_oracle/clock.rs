//! OpenSSL's clock, driven.
//!
//! libssl asks the C library for the time, by `time` up to 3.1 and by `gettimeofday` since. A program's
//! own functions of these names come before the C library's, for shared libraries too; so these two are
//! what libssl calls. They give each thread the time that it has set, and the real one to the others.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::time::{SystemTime, UNIX_EPOCH};

thread_local!(static DRIVEN: Cell<Option<i64>> = const { Cell::new(None) });

/// Sets OpenSSL's time in this thread, in seconds since 1970.
pub(crate) fn set(now: i64) {
    DRIVEN.set(Some(now));
}

fn now() -> (i64, i64) {
    if let Some(now) = DRIVEN.get() {
        return (now, 0);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs().cast_signed(), i64::from(now.subsec_micros()))
}

/// The C library's `time`.
///
/// # Safety
///
/// `out` is null or may be written to.
// SAFETY: it does what the C library's does.
#[unsafe(no_mangle)]
unsafe extern "C" fn time(out: *mut libc::time_t) -> libc::time_t {
    let (seconds, _) = now();
    // SAFETY: the caller's promise.
    if let Some(out) = unsafe { out.as_mut() } {
        *out = seconds;
    }
    seconds
}

/// The C library's `gettimeofday`.
///
/// # Safety
///
/// `out` is null or may be written to.
// SAFETY: it does what the C library's does; nobody asks for the time zone.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(out: *mut libc::timeval, _zone: *mut c_void) -> c_int {
    let (tv_sec, tv_usec) = now();
    // SAFETY: the caller's promise.
    if let Some(out) = unsafe { out.as_mut() } {
        *out = libc::timeval { tv_sec, tv_usec };
    }
    0
}
