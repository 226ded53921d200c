//! The system's allocator, which OpenSSL servers usually have; or mimalloc, as for the other benches, if
//! `RESUMPTION_BENCH_ALLOCATOR=mimalloc` says so. OpenSSL's as well as the program's own.

#[path = "openssl_allocator.rs"]
mod openssl_allocator;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

use mimalloc::MiMalloc;

/// What was asked for; not known yet before the first allocation.
static CHOICE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const SYSTEM: u8 = 1;
const MIMALLOC: u8 = 2;

#[global_allocator]
static ALLOCATOR: Either = Either;

/// Its name.
pub(crate) fn name() -> &'static str {
    if is_mimalloc() { "mimalloc" } else { "the system's allocator" }
}

/// Gives OpenSSL the allocator, too. Has to come before anything else of OpenSSL.
pub(crate) fn set_up() {
    if is_mimalloc() {
        openssl_allocator::set_up();
    }
}

fn is_mimalloc() -> bool {
    // Relaxed: every thread comes to the same answer.
    let mut choice = CHOICE.load(Ordering::Relaxed);
    if choice == UNKNOWN {
        // SAFETY: a name that ends in a zero; nobody changes the environment.
        let value = unsafe { libc::getenv(c"RESUMPTION_BENCH_ALLOCATOR".as_ptr()) };
        // SAFETY: as above: a string of the environment.
        let is = !value.is_null() && unsafe { CStr::from_ptr(value) } == c"mimalloc";
        choice = if is { MIMALLOC } else { SYSTEM };
        CHOICE.store(choice, Ordering::Relaxed);
    }
    choice == MIMALLOC
}

struct Either;

// SAFETY: each call goes to one of two allocators, for one process always the same.
unsafe impl GlobalAlloc for Either {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { if is_mimalloc() { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises, and of the same allocator.
        unsafe {
            if is_mimalloc() {
                MiMalloc.dealloc(block, layout)
            } else {
                System.dealloc(block, layout)
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            if is_mimalloc() {
                MiMalloc.realloc(block, layout, size)
            } else {
                System.realloc(block, layout, size)
            }
        }
    }
}
