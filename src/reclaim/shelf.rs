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
            // SAFETY: what was put since, which the swap has made the caller's, as is the rest.
            rest = unsafe { joined(self.swap(), rest) };
        }
    }
}

/// Two chains of bundles as one. The shorter one is walked to its end, for either may be all that there is; which is
/// above does not matter.
///
/// # Safety
///
/// The caller owns the bundles of both.
unsafe fn joined(one: *mut (), other: *mut ()) -> *mut () {
    // SAFETY: by the caller's promise.
    let bundle = |at: *mut ()| NonNull::new(at.cast::<Bundle>()).map(|at| unsafe { at.as_ref() });
    let (Some(mut first), Some(mut second)) = (bundle(one), bundle(other)) else {
        return if one.is_null() { other } else { one };
    };
    loop {
        let Some(next) = bundle(first.next()) else {
            first.set_next(other);
            return one;
        };
        let Some(after) = bundle(second.next()) else {
            second.set_next(one);
            return other;
        };
        (first, second) = (next, after);
    }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// As many bundles one below the other.
    fn chain(bundles: &[Bundle]) -> *mut () {
        let mut top = ptr::null_mut();
        for bundle in bundles {
            bundle.set_next(top);
            top = ptr::from_ref(bundle).cast_mut().cast();
        }
        top
    }

    #[test]
    fn joined_chains_have_the_bundles_of_both() {
        for (above, below) in [(0, 0), (0, 3), (3, 0), (1, 1), (1, 100), (100, 1), (7, 8)] {
            let bundles = |count| (0..count).map(|_| Bundle::new()).collect::<Vec<_>>();
            let (above, below) = (bundles(above), bundles(below));
            // SAFETY: the test owns them.
            let mut at = unsafe { joined(chain(&above), chain(&below)) };
            let mut met = Vec::new();
            while let Some(bundle) = NonNull::new(at.cast::<Bundle>()) {
                met.push(bundle.as_ptr().cast_const());
                // SAFETY: as above.
                at = unsafe { bundle.as_ref() }.next();
            }
            met.sort_unstable();
            let mut all: Vec<_> = above.iter().chain(&below).map(ptr::from_ref).collect();
            all.sort_unstable();
            assert_eq!(met, all);
        }
    }
}
