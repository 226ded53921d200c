//! Errors that a sanitizer has to see, planted: `cargo xtask sanitize` runs each, and expects a report.
//!
//! Each fails if nobody sees it: the sanitizer is off then, or freed blocks are used again, so that it has not heard
//! of their end.

#[cfg(sanitized = "address")]
mod address {
    use std::ptr::NonNull;

    use super::super::{free, place, pool};

    /// Reads a block that is freed.
    ///
    /// # Safety
    ///
    /// There is none: the sanitizer ends the process.
    unsafe fn read(block: NonNull<u8>) {
        // SAFETY: it is what is planted.
        let byte = unsafe { block.as_ptr().read_volatile() };
        panic!("a freed byte was read: {byte}");
    }

    #[test]
    fn a_parcels_block() {
        let block = pool::take(300);
        // SAFETY: of this size, and given up but for what is planted.
        unsafe {
            pool::give(block, 300);
            read(block);
        }
    }

    #[test]
    fn a_headers_block() {
        let block = place([7_u64; 11]);
        // SAFETY: of this type, and given up but for what is planted.
        unsafe {
            free(block);
            read(block.cast());
        }
    }
}

#[cfg(sanitized = "thread")]
mod thread {
    use std::cell::UnsafeCell;
    use std::thread;

    /// A word that threads share without any order between them.
    struct Raced(UnsafeCell<u64>);

    // SAFETY: it is not: that is what is planted.
    unsafe impl Sync for Raced {}

    #[test]
    fn a_race() {
        let raced = Raced(UnsafeCell::new(0));
        let write = || {
            let word = &raced;
            // SAFETY: as above.
            (0..1_000).for_each(|number| unsafe { word.0.get().write_volatile(number) });
        };
        thread::scope(|scope| {
            scope.spawn(write);
            scope.spawn(write);
        });
        panic!("two threads have written a word");
    }
}
