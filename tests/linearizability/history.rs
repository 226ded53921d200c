//! What was done to one id, by whom, between which instants, and what came of it.

use std::fmt;
#[cfg(not(shuttle))]
use std::sync::LazyLock;
#[cfg(not(shuttle))]
use std::time::Instant;

/// The most threads whose operations are told apart: they are bits of a word.
pub(crate) const MOST_THREADS: usize = 64;

/// What was asked of the cache. Lifetimes are in milliseconds, and values are put once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Put { value: u64, lifetime: u64 },
    PutIfAbsent { value: u64, lifetime: u64 },
    Get,
    Take,
    Remove,
    Extend { lifetime: u64 },
    Contains,
}

/// What the cache answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The put took nobody's place.
    Stored,
    /// The put took the place of this value.
    Replaced(u64),
    /// There was a session, and the put was to respect it.
    Present,
    /// There was no room for the put.
    Refused,
    Found(u64),
    Missing,
    Yes,
    No,
}

/// An operation on one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) id: u64,
    pub(crate) thread: usize,
    pub(crate) call: Call,
    pub(crate) outcome: Outcome,
    /// The operation took effect between these instants ([`stamp`]), both included.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// What it may have read of the cache's clock: neither earlier nor later.
    pub(crate) clock: (u64, u64),
}

impl Operation {
    /// The value that this is about, if it is about one.
    pub(crate) fn values(&self) -> impl Iterator<Item = u64> {
        let put = match self.call {
            Call::Put { value, .. } | Call::PutIfAbsent { value, .. } => Some(value),
            _ => None,
        };
        let seen = match self.outcome {
            Outcome::Replaced(value) | Outcome::Found(value) => Some(value),
            _ => None,
        };
        put.into_iter().chain(seen)
    }

    /// Whether the operation left everything as it was, whatever that was. Without it, a history that
    /// was good is good.
    pub(crate) fn is_observer(&self) -> bool {
        match self.outcome {
            Outcome::Present | Outcome::Refused | Outcome::Missing | Outcome::No => true,
            Outcome::Found(_) => self.call == Call::Get,
            Outcome::Yes => self.call == Call::Contains,
            Outcome::Stored | Outcome::Replaced(_) => false,
        }
    }
}

/// A value as it is shown: whose it was, and the how manieth of that thread.
pub(crate) struct Shown(pub(crate) u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call {
            Call::Put { value, lifetime } => write!(f, "put({}, {lifetime} ms)", Shown(value))?,
            Call::PutIfAbsent { value, .. } => write!(f, "put_if_absent({})", Shown(value))?,
            Call::Extend { lifetime } => write!(f, "extend({lifetime} ms)")?,
            call => f.write_str(&format!("{call:?}").to_lowercase())?,
        }
        match self.outcome {
            Outcome::Found(value) => write!(f, " -> {}", Shown(value)),
            Outcome::Replaced(value) => write!(f, " -> replaced {}", Shown(value)),
            outcome => write!(f, " -> {}", format!("{outcome:?}").to_lowercase()),
        }
    }
}

/// Now, counted: shuttle's tasks do one thing after another.
#[cfg(shuttle)]
pub(crate) fn stamp() -> u64 {
    static NOW: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NOW.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
}

/// Now, in nanoseconds, by a clock that all threads share.
///
/// A counter that the threads share would order them beyond what the cache does; the system's monotonic
/// clock is read without a word in common. Fences of the processor keep what comes before the reading
/// before it, and what comes after it after: else an operation could begin before the instant that is
/// written down for it.
#[cfg(not(shuttle))]
pub(crate) fn stamp() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let start = *START;
    drained();
    let now = start.elapsed().as_nanos() as u64;
    drained();
    now
}

#[cfg(all(not(shuttle), target_arch = "x86_64"))]
fn drained() {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_mm_lfence() };
}

#[cfg(all(not(shuttle), not(target_arch = "x86_64")))]
fn drained() {
    // A read-modify-write of a word of one's own orders memory as the fence does that it stands for.
    let word = std::sync::atomic::AtomicU64::new(0);
    word.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}
