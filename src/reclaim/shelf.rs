//! Bundles of free memory, which any thread may put down and take up.
//!
//! A stack (Treiber 1986) of which a taker takes everything, keeps the first bundle, and puts the rest
//! back. So nobody reads the link of a bundle that is not its own, and none of the troubles of popping
//! a single one from a shared stack arise. Meanwhile another taker may find nothing; it does without.
//!
//! # Races, both orders
//!
//! * Two takers: the exchange gives all to the first, and what was put since to the second.
//! * The putting back, and a put: if the put is first, the other finds the stack not empty, takes up
//!   what is there, hangs its own behind that, and tries again.
//!
//! Model: `loom-tests/tests/shelf.rs`.

use std::ptr::{self, NonNull};

use crate::sync::{AtomicPtrWord, Ordering, UnsafeCell, planted};

/// The beginning of a bundle: of the first of its blocks, or of the magazine that they are in.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Bundle {
    next: UnsafeCell<*mut ()>,
}

impl Bundle {
    /// A bundle that is not on a shelf.
    pub(crate) fn new() -> Self {
        Self { next: UnsafeCell::new(ptr::null_mut()) }
    }

    /// What is below, for the one who owns the bundle.
    fn next(&self) -> *mut () {
        // SAFETY: the owner alone touches the cell; see `Shelf`.
        self.next.with(|next| unsafe { *next })
    }

    fn set_next(&self, below: *mut ()) {
        // SAFETY: as in `next`.
        self.next.with_mut(|next| unsafe { *next = below });
    }
}

/// A stack of bundles. Those that are on it belong to it; who takes the stack owns all of it.
#[derive(Debug)]
pub(crate) struct Shelf {
    top: AtomicPtrWord,
}

impl Shelf {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { top: AtomicPtrWord::new(ptr::null_mut()) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { top: AtomicPtrWord::new(ptr::null_mut()) }
    }

    /// Puts a bundle down.
    ///
    /// # Safety
    ///
    /// The caller owns the bundle, whose memory stays, and gives it up.
    pub(crate) unsafe fn put(&self, bundle: NonNull<Bundle>) {
        // Relaxed: a guess, which the exchange corrects.
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: by the caller's promise.
            unsafe { bundle.as_ref() }.set_next(top);
            let new = bundle.as_ptr().cast();
            let order = if planted!("relaxed-put") { Ordering::Relaxed } else { Ordering::Release };
            // Release: pairs with the swap in `take`, which shows the taker the blocks.
            match self.top.compare_exchange(top, new, order, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => top = other,
            }
        }
    }

    /// Takes one bundle up. `None` when there is none, or when another thread has all in its hands.
    pub(crate) fn take(&self) -> Option<NonNull<Bundle>> {
        let first = NonNull::new(self.swap().cast::<Bundle>())?;
        // SAFETY: the swap has made it the caller's.
        let rest = unsafe { first.as_ref() }.next();
        self.put_back(rest);
        Some(first)
    }

    /// Takes everything.
    fn swap(&self) -> *mut () {
        // Acquire: pairs with the exchange in `put`.
        self.top.swap(ptr::null_mut(), Ordering::Acquire)
    }

    /// Puts down what was on the stack below a bundle that was taken.
    fn put_back(&self, mut rest: *mut ()) {
        while !rest.is_null() {
            if planted!("put-back-by-store") {
                return self.top.store(rest, Ordering::Release);
            }
            let null = ptr::null_mut();
            // Release: as in `put`.
            if self.top.compare_exchange(null, rest, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
            // What was put since; it is not much.
            let above = self.swap();
            if let Some(lowest) = lowest(above) {
                // SAFETY: the swap has made it the caller's.
                unsafe { lowest.as_ref() }.set_next(rest);
                rest = above;
            }
        }
    }
}

/// The lowest of bundles that the caller owns.
fn lowest(top: *mut ()) -> Option<NonNull<Bundle>> {
    let mut lowest = NonNull::new(top.cast::<Bundle>())?;
    // SAFETY: by the caller's promise.
    while let Some(next) = NonNull::new(unsafe { lowest.as_ref() }.next().cast::<Bundle>()) {
        lowest = next;
    }
    Some(lowest)
}

#[cfg(loom)]
pub(crate) mod model {
    //! What the models see of a shelf.

    use super::{Bundle, NonNull};

    /// A shelf, and all bundles that may be on it.
    #[derive(Debug)]
    pub struct Shelf {
        shelf: super::Shelf,
        bundles: Vec<NonNull<Bundle>>,
    }

    // SAFETY: bundles are touched through the shelf alone, whose accesses loom checks.
    unsafe impl Send for Shelf {}
    // SAFETY: as above.
    unsafe impl Sync for Shelf {}

    impl Shelf {
        /// A shelf with the bundles below `on`; there are `count` in all.
        #[must_use]
        pub fn new(count: usize, on: usize) -> Self {
            let bundle = |_| NonNull::from(Box::leak(Box::new(Bundle::new())));
            let bundles = (0..count).map(bundle).collect();
            let this = Self { shelf: super::Shelf::new(), bundles };
            (0..on).for_each(|number| this.put(number));
            this
        }

        /// Puts down a bundle that is not on the shelf.
        pub fn put(&self, number: usize) {
            // SAFETY: a model puts down what it has, and bundles stay as long as the shelf.
            unsafe { self.shelf.put(self.bundles[number]) };
        }

        /// Takes up a bundle.
        #[must_use]
        pub fn take(&self) -> Option<usize> {
            let bundle = self.shelf.take()?;
            self.bundles.iter().position(|&known| known == bundle)
        }
    }

    impl Drop for Shelf {
        fn drop(&mut self) {
            for bundle in &self.bundles {
                // SAFETY: from a box in `new`, and freed here only.
                drop(unsafe { Box::from_raw(bundle.as_ptr()) });
            }
        }
    }
}
