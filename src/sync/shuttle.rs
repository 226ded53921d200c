//! Tasks of shuttle in the place of threads: `--cfg chaos --cfg shuttle`.
//!
//! Shuttle runs all tasks of an execution on one thread of the system, and chooses at each *switch* which
//! goes on. So what is there for each thread is here for each task; a pause is a switch; and what waits
//! for another thread has to switch while it does, or nothing ever goes on. The atomics are the standard
//! library's: nothing else runs between two switches.
//!
//! Outside of an execution, as in a thread's end, there is one task: the thread itself.

use std::cell::Cell;
use std::sync::{LockResult, TryLockError};
use std::thread::LocalKey;
use std::time::Duration;

use shuttle::current::try_get_current_task;
use shuttle::rand::RngCore;

pub(crate) use std::sync::MutexGuard;

/// Tasks that an execution may have, the first one included.
pub(crate) const TASKS: usize = 16;

/// Lets another task go on, or does not: shuttle's scheduler decides.
///
/// Shuttle has no time, so its sleep is a switch and nothing else. A yield would tell the scheduler that
/// the task waits for others, and PCT would let it run last from then on.
pub(super) fn pause() {
    if try_get_current_task().is_some() {
        shuttle::thread::sleep(Duration::ZERO);
    }
}

/// Lets others go on, for one of them is waited for.
pub(crate) fn yield_now() {
    if try_get_current_task().is_some() {
        shuttle::thread::yield_now();
    }
}

/// The number of the calling task, from zero on.
#[inline]
pub(crate) fn thread_index() -> usize {
    try_get_current_task().map_or(0, usize::from)
}

/// As [`thread_index`]: schedules are the same whatever ran before.
#[inline]
pub(crate) fn lane_index() -> usize {
    thread_index()
}

/// As above.
#[inline]
pub(crate) fn lane_index_to_put() -> usize {
    thread_index()
}

/// Random numbers of the execution, the same when it is repeated.
pub(crate) fn random() -> [u64; 4] {
    if try_get_current_task().is_none() {
        return [0; 4];
    }
    std::array::from_fn(|_| shuttle::rand::thread_rng().next_u64())
}

/// One `T` for each task.
#[derive(Debug)]
pub(crate) struct PerTask<T>([T; TASKS]);

impl<T> PerTask<T> {
    pub(crate) const fn of(all: [T; TASKS]) -> Self {
        Self(all)
    }

    /// The calling task's.
    pub(crate) fn mine(&self) -> &T {
        &self.0[thread_index()]
    }
}

/// A cell of each task.
pub(crate) struct TaskCell<T: 'static>(&'static LocalKey<PerTask<Cell<T>>>);

impl<T: Copy> TaskCell<T> {
    pub(crate) const fn new(cells: &'static LocalKey<PerTask<Cell<T>>>) -> Self {
        Self(cells)
    }

    pub(crate) fn get(&self) -> T {
        self.0.with(|cells| cells.mine().get())
    }

    pub(crate) fn set(&self, value: T) {
        self.0.with(|cells| cells.mine().set(value));
    }

    pub(crate) fn replace(&self, value: T) -> T {
        self.0.with(|cells| cells.mine().replace(value))
    }
}

/// A cell of each task, with `get`, `set` and `replace`.
macro_rules! thread_cell {
    ($name:ident: $value:ty = $init:expr) => {
        static $name: $crate::sync::TaskCell<$value> = {
            ::std::thread_local!(
                static CELLS: $crate::sync::PerTask<::std::cell::Cell<$value>> = const {
                    $crate::sync::PerTask::of(
                        [const { ::std::cell::Cell::new($init) }; $crate::sync::TASKS],
                    )
                }
            );
            $crate::sync::TaskCell::new(&CELLS)
        };
    };
}

pub(crate) use thread_cell;

/// The standard library's mutex, but that who waits for it lets others go on.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        pause();
        loop {
            match self.0.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
                Err(TryLockError::WouldBlock) => yield_now(),
            }
        }
    }
}
