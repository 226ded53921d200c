//! loom's primitives, each access in one of two modes.
//!
//! *Memory mode* runs loads and stores as they are written: it finds missing orderings.
//! *Interleaving mode* runs a load as `fetch_or(0)` and a store as `swap`: it finds missing
//! interleavings, which memory mode skips where a thread loads a word before it compares and
//! swaps it (tokio-rs/loom #166 and #392). A protocol has to pass in both.

pub(crate) use loom::sync::atomic::Ordering;
pub(crate) use loom::thread::yield_now;

use std::cell::Cell;

thread_local! {
    static INTERLEAVING: Cell<bool> = const { Cell::new(false) };
    static PLANTED: Cell<&'static str> = const { Cell::new("") };
}

/// Switches on the seeded bug of this name, and every other one off.
pub(crate) fn plant(bug: &'static str) {
    PLANTED.set(bug);
}

/// Whether the seeded bug of this name is switched on.
pub(crate) fn is_planted(bug: &str) -> bool {
    PLANTED.get() == bug
}

/// Chooses the mode of every access that follows. loom runs a model on one thread of the system.
pub(crate) fn set_interleaving(on: bool) {
    INTERLEAVING.set(on);
}

fn interleaving() -> bool {
    INTERLEAVING.get()
}

/// What `order` becomes when a load or a store turns into a read-modify-write.
fn as_rmw(order: Ordering) -> Ordering {
    match order {
        Ordering::Relaxed => Ordering::Relaxed,
        _ => Ordering::AcqRel,
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// loom's atomic of the same name, in the mode of the run.
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code)]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                if interleaving() {
                    return self.0.fetch_or(0, as_rmw(order));
                }
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                if interleaving() {
                    self.0.swap(value, as_rmw(order));
                    return;
                }
                self.0.store(value, order);
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                self.0.swap(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(current, new, success, failure)
            }

            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_add(value, order)
            }

            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_sub(value, order)
            }

            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_or(value, order)
            }

            pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_and(value, order)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);

/// A flag, kept in a byte.
#[derive(Debug, Default)]
pub(crate) struct AtomicBool(AtomicU8);

#[allow(dead_code)]
impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        Self(AtomicU8::new(u8::from(value)))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        self.0.load(order) != 0
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        self.0.store(u8::from(value), order);
    }

    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(u8::from(value), order) != 0
    }
}

/// An atomic pointer with flag bits: loom's pointer has no `fetch_or`, hence an address.
#[derive(Debug)]
pub(crate) struct AtomicPtrWord(AtomicUsize);

impl AtomicPtrWord {
    pub(crate) fn new(value: *mut ()) -> Self {
        Self(AtomicUsize::new(value.expose_provenance()))
    }

    pub(crate) fn load(&self, order: Ordering) -> *mut () {
        std::ptr::with_exposed_provenance_mut(self.0.load(order))
    }

    pub(crate) fn store(&self, value: *mut (), order: Ordering) {
        self.0.store(value.expose_provenance(), order);
    }

    pub(crate) fn compare_exchange(
        &self,
        current: *mut (),
        new: *mut (),
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut (), *mut ()> {
        self.0
            .compare_exchange(current.addr(), new.expose_provenance(), success, failure)
            .map(std::ptr::with_exposed_provenance_mut)
            .map_err(std::ptr::with_exposed_provenance_mut)
    }

    pub(crate) fn fetch_or(&self, bits: usize, order: Ordering) -> *mut () {
        std::ptr::with_exposed_provenance_mut(self.0.fetch_or(bits, order))
    }

    pub(crate) fn fetch_and(&self, bits: usize, order: Ordering) -> *mut () {
        std::ptr::with_exposed_provenance_mut(self.0.fetch_and(bits, order))
    }
}

/// loom's cell: it fails the model when two accesses race.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.0.with(f)
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// One stripe for all: a model has two or three threads, and sums over stripes cost executions.
pub(crate) fn thread_index() -> usize {
    0
}
