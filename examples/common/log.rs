//! What the server says on stderr, so little of it that no client can fill a disk.

use std::{
    fmt::Display,
    io::{Write, stderr},
    sync::Mutex,
    time::{Duration, Instant},
};

const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Log {
    verbose: bool,
    last_warning: Mutex<Option<Instant>>,
}

impl Log {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, last_warning: Mutex::new(None) }
    }

    /// What a single client brought about: said only to those who asked.
    pub(crate) fn detail(&self, what: impl Display) {
        if self.verbose {
            let _ = writeln!(stderr(), "{what}");
        }
    }

    /// What the operator should know of, once in ten seconds.
    pub(crate) fn warn(&self, what: impl Display) {
        let mut last = self.last_warning.lock().unwrap();
        if self.verbose || last.is_none_or(|then| then.elapsed() >= BETWEEN_WARNINGS) {
            *last = Some(Instant::now());
            let _ = writeln!(stderr(), "warning: {what}");
        }
    }
}
