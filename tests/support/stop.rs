//! Stops a thread at whatever instruction it is at, by a signal whose handler waits.

use std::ffi::c_int;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::support::{PATIENCE, wait_until};

/// Whether a thread is in the handler.
static PARKED: AtomicBool = AtomicBool::new(false);
/// The end of a pipe that the handler reads from: a byte is a release.
static RELEASES: AtomicI32 = AtomicI32::new(-1);
static RELEASER: OnceLock<RawFd> = OnceLock::new();

/// A thread that is stopped, until this is dropped.
#[must_use]
pub(crate) struct Stopped(());

/// Makes `SIGUSR1` stop the thread that gets it.
pub(crate) fn install() {
    RELEASER.get_or_init(|| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // Never closed: the handler may need it until the process ends.
        RELEASES.store(reader.into_raw_fd(), Ordering::SeqCst);
        // SAFETY: all-zero is a valid `sigaction`: no flags, and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = park as extern "C" fn(c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `park` does what a handler may do: atomics, `read`, and `errno` put back.
        let result = unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
        assert_eq!(result, 0, "SIGUSR1 can be handled");
        writer.into_raw_fd()
    });
}

/// Stops a thread where it is; returns once it stands.
pub(crate) fn stop<T>(thread: &JoinHandle<T>) -> Stopped {
    stop_pthread(thread.as_pthread_t())
}

/// Stops a thread that has not ended.
pub(crate) fn stop_pthread(thread: libc::pthread_t) -> Stopped {
    assert!(!PARKED.load(Ordering::SeqCst), "one thread is stopped at a time");
    // SAFETY: by the caller's promise the thread lives.
    let result = unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
    assert_eq!(result, 0, "the thread lives");
    let start = Instant::now();
    while !PARKED.load(Ordering::SeqCst) {
        // Nobody to be released then: see `wait`.
        assert!(start.elapsed() < PATIENCE, "the thread does not stop: it has ended");
        thread::yield_now();
    }
    Stopped(())
}

/// Waits until a thread stands that stops by itself; `None` if `is_over` says so before.
pub(crate) fn wait(mut is_over: impl FnMut() -> bool) -> Option<Stopped> {
    let mut ends = false;
    wait_until("a thread stops", || {
        ends = ends || !PARKED.load(Ordering::SeqCst) && is_over();
        ends || PARKED.load(Ordering::SeqCst)
    });
    // Only then is there one to be released: a byte too many would release the next one at once.
    (!ends).then(|| Stopped(()))
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let releaser = *RELEASER.get().expect("installed before a stop");
        // SAFETY: the pipe is never closed, and the byte is readable.
        let written = unsafe { libc::write(releaser, [0u8].as_ptr().cast(), 1) };
        if written == 1 && !thread::panicking() {
            wait_until("the stopped thread goes on", || !PARKED.load(Ordering::SeqCst));
        }
    }
}

/// The handler: waits for a byte.
extern "C" fn park(_signal: c_int) {
    // SAFETY: the address of this thread's `errno`, which `read` may change.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    PARKED.store(true, Ordering::SeqCst);
    let mut byte = 0u8;
    loop {
        // SAFETY: one byte is writable, and the pipe is never closed.
        let read =
            unsafe { libc::read(RELEASES.load(Ordering::SeqCst), (&raw mut byte).cast(), 1) };
        if read == 1 {
            break;
        }
    }
    PARKED.store(false, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { *errno = before };
}
