//! glibc's allocator for all contestants, OpenSSL included, counted by usable sizes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::openssl_calls;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Usable bytes, and blocks, that are allocated. Relaxed: read when nobody writes.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

/// Usable bytes that are allocated.
pub(crate) fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// Blocks that are allocated.
pub(crate) fn blocks() -> usize {
    BLOCKS.load(Ordering::Relaxed)
}

/// Counts OpenSSL's blocks, too. Has to come before anything else of OpenSSL.
pub(crate) fn set_up() {
    // SAFETY: the three are one allocator's.
    unsafe { openssl_calls::set_allocator(malloc, realloc, free) };
}

/// The system's allocator.
struct Counting;

// SAFETY: every call is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's promise.
        came(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's promise.
        came(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        goes(block);
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }
}

unsafe extern "C" fn malloc(size: usize, _file: *const c_char, _line: c_int) -> *mut c_void {
    // SAFETY: any size may be asked for.
    came(unsafe { libc::malloc(size) }.cast()).cast()
}

unsafe extern "C" fn realloc(
    block: *mut c_void,
    size: usize,
    _file: *const c_char,
    _line: c_int,
) -> *mut c_void {
    goes(block.cast());
    // SAFETY: OpenSSL hands in what it got of these functions, or null.
    came(unsafe { libc::realloc(block, size) }.cast()).cast()
}

unsafe extern "C" fn free(block: *mut c_void, _file: *const c_char, _line: c_int) {
    goes(block.cast());
    // SAFETY: OpenSSL hands in what it got of these functions, once, or null.
    unsafe { libc::free(block) }
}

fn came(block: *mut u8) -> *mut u8 {
    if !block.is_null() {
        BYTES.fetch_add(usable_size(block), Ordering::Relaxed);
        BLOCKS.fetch_add(1, Ordering::Relaxed);
    }
    block
}

fn goes(block: *mut u8) {
    if !block.is_null() {
        BYTES.fetch_sub(usable_size(block), Ordering::Relaxed);
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many bytes of a block can be used.
#[cfg(target_os = "linux")]
fn usable_size(block: *mut u8) -> usize {
    // SAFETY: a live block of malloc, which is the system's allocator here.
    unsafe { libc::malloc_usable_size(block.cast()) }
}

#[cfg(not(target_os = "linux"))]
fn usable_size(_block: *mut u8) -> usize {
    panic!("this bench asks glibc for the sizes of blocks")
}
