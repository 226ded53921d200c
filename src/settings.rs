//! What changes of settings exclude each other by. Nothing else waits for it.

#![forbid(unsafe_code)]

use std::sync::PoisonError;

use crate::dispatch::{Held, hold};
use crate::sync::{Mutex, MutexGuard};

/// The lock of a cache's settings.
pub(crate) struct SettingsLock(Mutex<()>);

/// Settings are being changed: other changes wait, and callbacks of this thread are held off.
pub(crate) struct Settling<'a> {
    _lock: MutexGuard<'a, ()>,
    _held: Held,
}

impl SettingsLock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(()))
    }

    /// Waits for other changes, and keeps them out.
    pub(crate) fn take(&self) -> Settling<'_> {
        let lock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Settling { _lock: lock, _held: hold() }
    }
}
