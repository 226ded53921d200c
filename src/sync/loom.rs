//! loom's primitives, each access in one of two modes.
//!
//! *Memory mode* runs loads and stores as they are written: it finds missing orderings, where a load can meet the
//! old value. (Read-modify-writes never do, nor do exchanges that fail; `docs/models.md` says what that hides.) loom keeps
//! one last access per word, and skips interleavings where a thread loads a word before it compares
//! and swaps it (tokio-rs/loom #166 and #392). Hence every word has a *shadow*, which each access
//! first touches by a relaxed read-modify-write: those order no memory, and loom explores them all.
//!
//! *Interleaving mode* runs a load as `fetch_or(0)` and a store as `swap`, without shadows. It has
//! fewer points to switch at and no old values to read, and so affords more preemptions. A protocol
//! has to pass in both.
//!
//! A model that has failed unwinds, in part outside of loom, where no word may be touched. Whatever
//! destructors do then is without effect: words read as zero and exchanges fail.

pub(crate) use loom::sync::atomic::Ordering;
pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use loom::thread::yield_now;

pub(crate) use super::swap::ArcSwapOption;
use super::trace;

use std::cell::Cell;
use std::thread::panicking;

thread_local! {
    static INTERLEAVING: Cell<bool> = const { Cell::new(false) };
    static PLANTED: Cell<&'static str> = const { Cell::new("") };
    /// How many threads of this execution have an index.
    static INDEXED: Cell<usize> = const { Cell::new(0) };
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
        pub(crate) struct $name {
            word: loom::sync::atomic::$name,
            shadow: loom::sync::atomic::AtomicU8,
        }

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self {
                    word: loom::sync::atomic::$name::new(value),
                    shadow: loom::sync::atomic::AtomicU8::new(0),
                }
            }

            /// The word, touched; `None` in a model that has failed.
            fn touch(&self) -> Option<&loom::sync::atomic::$name> {
                if panicking() {
                    return None;
                }
                if !interleaving() {
                    self.shadow.fetch_or(0, Ordering::Relaxed);
                }
                Some(&self.word)
            }

            /// A read-modify-write that always succeeds.
            fn change(
                &self,
                name: &str,
                value: $value,
                change: impl FnOnce(&loom::sync::atomic::$name) -> $value,
            ) -> $value {
                let before = self.touch().map_or(0, change);
                trace::step(|| {
                    let [value, before] = [value, before].map(trace::value);
                    format!("{}: {name} {value}, was {before}", trace::word(self))
                });
                before
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                let value = self.touch().map_or(0, |word| match interleaving() {
                    true => word.fetch_or(0, as_rmw(order)),
                    false => word.load(order),
                });
                trace::step(|| format!("{} is {}", trace::word(self), trace::value(value)));
                value
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                match self.touch() {
                    Some(word) if interleaving() => drop(word.swap(value, as_rmw(order))),
                    Some(word) => word.store(value, order),
                    None => {}
                }
                trace::step(|| format!("{} = {}", trace::word(self), trace::value(value)));
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                self.change("swap", value, |word| word.swap(value, order))
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let word = self.touch().ok_or(current)?;
                let result = word.compare_exchange(current, new, success, failure);
                trace::step(|| {
                    let [current, new] = [current, new].map(trace::value);
                    let name = trace::word(self);
                    match result {
                        Ok(_) => format!("{name}: {current} -> {new}"),
                        Err(is) => {
                            let is = trace::value(is);
                            format!("{name}: {current} -> {new} fails, is {is}")
                        }
                    }
                });
                result
            }

            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.change("fetch_add", value, |word| word.fetch_add(value, order))
            }

            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.change("fetch_sub", value, |word| word.fetch_sub(value, order))
            }

            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.change("fetch_or", value, |word| word.fetch_or(value, order))
            }

            pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.change("fetch_and", value, |word| word.fetch_and(value, order))
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

/// A word that all read and one thread at a time stores, and that nobody exchanges: loom is exact about
/// those as they are written, in both modes. Reads of a word that nobody stores meanwhile multiply no
/// executions.
#[derive(Debug)]
pub(crate) struct AtomicSetting(loom::sync::atomic::AtomicUsize);

impl AtomicSetting {
    pub(crate) fn new(value: usize) -> Self {
        Self(loom::sync::atomic::AtomicUsize::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> usize {
        if panicking() { 0 } else { self.0.load(order) }
    }

    pub(crate) fn store(&self, value: usize, order: Ordering) {
        if !panicking() {
            self.0.store(value, order);
        }
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

    pub(crate) fn swap(&self, value: *mut (), order: Ordering) -> *mut () {
        std::ptr::with_exposed_provenance_mut(self.0.swap(value.expose_provenance(), order))
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

/// A cell that fails the model when two accesses race.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T> {
    accesses: loom::cell::UnsafeCell<()>,
    value: std::cell::UnsafeCell<T>,
}

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = std::cell::UnsafeCell::new(value);
        Self { accesses: loom::cell::UnsafeCell::new(()), value }
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        if panicking() {
            return f(self.value.get());
        }
        self.accesses.with(|_| f(self.value.get()))
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        if panicking() {
            return f(self.value.get());
        }
        self.accesses.with_mut(|_| f(self.value.get()))
    }
}

/// A cell of each thread of a model: they all run on one thread of the system.
pub(crate) struct ThreadCell<T: 'static>(&'static loom::thread::LocalKey<Cell<T>>);

impl<T: Copy + Default> ThreadCell<T> {
    pub(crate) const fn new(key: &'static loom::thread::LocalKey<Cell<T>>) -> Self {
        Self(key)
    }

    pub(crate) fn get(&self) -> T {
        if panicking() { T::default() } else { self.0.with(Cell::get) }
    }

    pub(crate) fn set(&self, value: T) {
        self.replace(value);
    }

    pub(crate) fn replace(&self, value: T) -> T {
        if panicking() { T::default() } else { self.0.with(|cell| cell.replace(value)) }
    }
}

macro_rules! thread_cell {
    ($name:ident: $value:ty = $init:expr) => {
        static $name: crate::sync::ThreadCell<$value> = {
    loom::thread_local!(static CELL: ::std::cell::Cell<$value> =
                ::std::cell::Cell::new($init));
            crate::sync::ThreadCell::new(&CELL)
        };
    };
}

pub(crate) use thread_cell;

// From 1 on; zero before the first use.
thread_cell!(INDEX: usize = 0);

/// A small number for the calling thread of the model, given out in order of first use.
pub(crate) fn thread_index() -> usize {
    if INDEX.get() == 0 {
        INDEXED.set(INDEXED.get() + 1);
        INDEX.set(INDEXED.get());
    }
    // In a model that has failed it is zero still.
    INDEX.get().saturating_sub(1)
}

/// As [`thread_index`].
pub(crate) fn lane_index() -> usize {
    thread_index()
}

/// As above.
pub(crate) fn lane_index_to_put() -> usize {
    thread_index()
}

/// Begins an execution, whose threads have no index yet.
pub(crate) fn forget_threads() {
    INDEXED.set(0);
}
