//! The system's allocator, which OpenSSL servers usually have; or mimalloc, as for the other benches, if
//! `RESUMPTION_BENCH_ALLOCATOR=mimalloc` says so. OpenSSL's as well as the program's own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU8, Ordering};

use libmimalloc_sys as mimalloc;

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
pub(crate) fn for_openssl() {
    if !is_mimalloc() {
        return;
    }
    // SAFETY: the three are one allocator's, and OpenSSL refuses them once it has allocated.
    let set = unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) };
    assert_eq!(set, 1, "OpenSSL has allocated before");
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
        if is_mimalloc() {
            // SAFETY: any size, and an alignment that is a power of two.
            return unsafe { mimalloc::mi_malloc_aligned(layout.size(), layout.align()) }.cast();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_mimalloc() {
            // SAFETY: from `alloc`, as the caller promises.
            return unsafe { mimalloc::mi_free(block.cast()) };
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

type Malloc = unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *const c_char, c_int);

// From `<openssl/crypto.h>`.
unsafe extern "C" {
    fn CRYPTO_set_mem_functions(malloc: Malloc, realloc: Realloc, free: Free) -> c_int;
}

unsafe extern "C" fn malloc(size: usize, _file: *const c_char, _line: c_int) -> *mut c_void {
    // SAFETY: any size may be asked for.
    unsafe { mimalloc::mi_malloc(size) }
}

unsafe extern "C" fn realloc(
    block: *mut c_void,
    size: usize,
    _file: *const c_char,
    _line: c_int,
) -> *mut c_void {
    // SAFETY: OpenSSL hands in what it got of these functions, or null.
    unsafe { mimalloc::mi_realloc(block, size) }
}

unsafe extern "C" fn free(block: *mut c_void, _file: *const c_char, _line: c_int) {
    // SAFETY: OpenSSL hands in what it got of these functions, once, or null.
    unsafe { mimalloc::mi_free(block) }
}
