//! Panics of payloads' drops, which have to wait until the work is done.
//!
//! Sessions leave in batches, and one whose drop panics must not keep the others from theirs: a second
//! panic while the first one unwinds would end the process, and what is not dropped is not wiped.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// The first panic of several steps, each of which is made whatever the others do.
#[derive(Default)]
pub(crate) struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    /// Makes a step; `None` if it panicked.
    pub(crate) fn catch<R>(&mut self, step: impl FnOnce() -> R) -> Option<R> {
        let panic = match catch_unwind(AssertUnwindSafe(step)) {
            Ok(result) => return Some(result),
            Err(panic) => panic,
        };
        match self.0 {
            None => self.0 = Some(panic),
            Some(_) => discard(panic),
        }
        None
    }

    /// Drops all of these.
    #[inline]
    pub(crate) fn drop_all<T>(&mut self, all: impl IntoIterator<Item = T>) {
        let mut all = all.into_iter();
        // The one that has panicked is dropped.
        while self.catch(|| all.by_ref().for_each(drop)).is_none() {}
    }

    /// Goes on with the panic, if there was one; not if the thread unwinds already.
    pub(crate) fn resume(self) {
        match self.0 {
            None => {}
            Some(panic) if thread::panicking() => discard(panic),
            Some(panic) => resume_unwind(panic),
        }
    }
}

/// Drops what was panicked with, which may panic in its own drop.
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    catch_unwind(AssertUnwindSafe(|| drop(panic))).unwrap_or_else(mem::forget);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::panic::panic_any;

    use super::*;

    /// Counts its drop, and panics then, with what panics in its own drop.
    struct Bomb<'a>(&'a Cell<u32>);

    struct Splinter;

    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic_any(Splinter);
        }
    }

    impl Drop for Splinter {
        fn drop(&mut self) {
            panic!("a splinter");
        }
    }

    #[test]
    fn all_are_dropped_and_the_first_panic_goes_on() {
        let dropped = Cell::new(0);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let mut panics = Panics::default();
            panics.drop_all((0..3).map(|_| Bomb(&dropped)));
            assert_eq!(panics.catch(|| 7), Some(7), "other steps are made");
            panics.resume();
        }));
        let panic = caught.expect_err("the panic is not swallowed");
        assert!(panic.is::<Splinter>());
        discard(panic);
        assert_eq!(dropped.get(), 3);
    }

    #[test]
    fn no_panic_is_added_to_one_that_unwinds() {
        struct Resumes;
        impl Drop for Resumes {
            fn drop(&mut self) {
                let mut panics = Panics::default();
                panics.catch(|| panic!("another one"));
                panics.resume();
            }
        }
        let caught = catch_unwind(|| {
            let _resumes = Resumes;
            panic!("the first one");
        });
        assert_eq!(caught.expect_err("it panics").downcast_ref(), Some(&"the first one"));
    }
}
