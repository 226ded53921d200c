//! The standard library's atomics, with a pause before one access in eight: `--cfg chaos`.
//!
//! Threads that race on a few instructions hardly ever meet there, least of all where there are fewer
//! processors than threads. A pause gives the processor away, or spins, or sleeps, at any of the atomic
//! steps of which an operation is made; the others then run into the middle of it. What the steps do is
//! unchanged. Which of them pause follows from `RESUMPTION_SEED` and the thread.
//!
//! `RESUMPTION_PLANT` names a seeded bug, which is then switched on.

use std::cell::Cell;
use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{self, Ordering};
use std::thread;
use std::time::Duration;

static PLANTED: LazyLock<String> =
    LazyLock::new(|| env::var("RESUMPTION_PLANT").unwrap_or_default());

/// Whether the seeded bug of this name is switched on.
pub(crate) fn is_planted(bug: &str) -> bool {
    *PLANTED == bug
}

/// Where the random numbers of the process begin.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let seed = env::var("RESUMPTION_SEED").ok().and_then(|seed| seed.parse().ok());
    seed.unwrap_or(1)
});

thread_local!(static RANDOM: Cell<u64> = const { Cell::new(0) });

/// Pauses, or does not.
fn pause() {
    let mut random = RANDOM.get();
    if random == 0 {
        // Odd, hence never zero, where the generator would stay.
        let thread = super::thread_index() as u64;
        random = SEED.wrapping_add(thread << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }
    // Marsaglia's xorshift; its high bits are the better ones.
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    RANDOM.set(random);
    match random >> 54 {
        0 => thread::sleep(Duration::from_micros(1)),
        1..64 => thread::yield_now(),
        64..128 => (0..random & 255).for_each(|_| std::hint::spin_loop()),
        _ => {}
    }
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
