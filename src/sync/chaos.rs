//! The standard library's atomics, with a pause before each access: `--cfg chaos`.
//!
//! A pause lets other threads run into the middle of an operation, at any of the atomic steps of which it
//! is made. What the steps do is unchanged. What a pause is says `pause.rs`, or `shuttle.rs`.
//!
//! `RESUMPTION_PLANT` names a seeded bug, which is then switched on.

use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{self, Ordering};

#[cfg(not(shuttle))]
use super::pause::pause;
#[cfg(shuttle)]
use super::shuttle::pause;

static PLANTED: LazyLock<String> =
    LazyLock::new(|| env::var("RESUMPTION_PLANT").unwrap_or_default());

/// Whether the seeded bug of this name is switched on.
pub(crate) fn is_planted(bug: &str) -> bool {
    *PLANTED == bug
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// The standard library's atomic of the same name, after a pause.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(crate) struct $name(atomic::$name);

        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }
        }

        accesses!($name, $value, fetch_add, fetch_sub, fetch_or, fetch_and);
    };
}

/// The accesses of an atomic: those that all have, and those of one operand.
macro_rules! accesses {
    ($name:ident $(<$of:ident>)?, $value:ty, $($fetch:ident),*) => {
        #[allow(dead_code, reason = "not every width is used in every way")]
        impl $(<$of>)? $name $(<$of>)? {
            pub(crate) fn load(&self, order: Ordering) -> $value {
                pause();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                pause();
                self.0.store(value, order);
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                pause();
                self.0.swap(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                pause();
                self.0.compare_exchange(current, new, success, failure)
            }

            $(
                pub(crate) fn $fetch(&self, value: $value, order: Ordering) -> $value {
                    pause();
                    self.0.$fetch(value, order)
                }
            )*
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);

/// The standard library's pointer, after a pause.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct AtomicPtr<T>(atomic::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    pub(super) const fn new(value: *mut T) -> Self {
        Self(atomic::AtomicPtr::new(value))
    }

    pub(super) fn fetch_or(&self, bits: usize, order: Ordering) -> *mut T {
        pause();
        self.0.fetch_or(bits, order)
    }

    pub(super) fn fetch_and(&self, bits: usize, order: Ordering) -> *mut T {
        pause();
        self.0.fetch_and(bits, order)
    }
}

accesses!(AtomicPtr<T>, *mut T,);
