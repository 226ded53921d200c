//! What became of each payload of a round, and what was told of each name.
//!
//! A payload has a serial number. Its fate is a byte whose bits are set once: setting one for the
//! second time is a failure, as is a fate at the end of a round that makes no sense. A name (a scope
//! and an id) has a word: the serial that was last told as new and not as removed.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// The payload was dropped.
pub(crate) const DROPPED: u8 = 1;
/// The new callback was told of it.
pub(crate) const CAME: u8 = 2;
/// The remove callback was told of it.
pub(crate) const LEFT: u8 = 4;
/// A take has returned it.
pub(crate) const TAKEN: u8 = 8;
/// A put has returned *stored* or *replaced*.
pub(crate) const STORED: u8 = 16;
/// A put has returned *refused*.
pub(crate) const REFUSED: u8 = 32;
/// The get callback gave it: no put, and never told as new.
pub(crate) const GIVEN: u8 = 64;
/// The get callback shared it: a take may return it more than once.
pub(crate) const SHARED: u8 = 128;

/// Serials of one round. A round that has used them ends.
const SERIALS: u32 = 1 << 24;

/// Failures that are kept; the first ones are the ones that count.
const KEPT: usize = 20;

#[derive(Debug)]
pub(crate) struct Ledger {
    fates: Box<[AtomicU8]>,
    next: AtomicU32,
    names: Box<[AtomicU32]>,
    has_failed: AtomicBool,
    failures: Mutex<Vec<String>>,
}

/// The payloads of a round, by their fates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    pub(crate) born: u64,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
    /// Those that were put, and a panic has ended the put: it may have stored.
    pub(crate) unsaid: u64,
    pub(crate) given: u64,
    pub(crate) came: u64,
    pub(crate) left: u64,
    pub(crate) taken: u64,
}

impl Ledger {
    /// A ledger for so many names, all of whose memory is resident from now on.
    pub(crate) fn new(names: usize) -> Self {
        let ledger = Self {
            fates: (0..SERIALS).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicU32::new(SERIALS),
            names: (0..names).map(|_| AtomicU32::new(0)).collect(),
            has_failed: AtomicBool::new(false),
            failures: Mutex::default(),
        };
        // Zeroed memory is not there before it is written.
        ledger.fates.iter().for_each(|fate| fate.store(u8::MAX, Ordering::Relaxed));
        ledger.names.iter().for_each(|name| name.store(u32::MAX, Ordering::Relaxed));
        ledger.clear();
        ledger
    }

    /// Forgets the round before, whose threads have ended.
    pub(crate) fn clear(&self) {
        let used = self.next.swap(1, Ordering::Relaxed).min(SERIALS) as usize;
        self.fates[..used].iter().for_each(|fate| fate.store(0, Ordering::Relaxed));
        self.names.iter().for_each(|name| name.store(0, Ordering::Relaxed));
    }

    /// A new serial. The last of them is used by all that come too late; see [`is_full`](Self::is_full).
    pub(crate) fn serial(&self) -> Option<u32> {
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        (serial < SERIALS).then_some(serial)
    }

    /// Whether the round has to end, before all its threads have taken more serials than there are.
    pub(crate) fn is_full(&self) -> bool {
        self.next.load(Ordering::Relaxed) > SERIALS / 4 * 3
    }

    pub(crate) fn fate(&self, serial: u32) -> u8 {
        self.fates[serial as usize].load(Ordering::SeqCst)
    }

    /// Sets a bit that may be set already; returns the fate before.
    pub(crate) fn note(&self, serial: u32, bit: u8) -> u8 {
        self.fates[serial as usize].fetch_or(bit, Ordering::SeqCst)
    }

    /// Sets a bit that must not be set yet.
    pub(crate) fn note_once(&self, serial: u32, bit: u8, what: &str) -> u8 {
        let before = self.note(serial, bit);
        if before & bit != 0 {
            self.fail(format!("payload {serial} was {what} twice (fate {before:#010b})"));
        }
        before
    }

    /// A session was told as new: what was told of its name before must have been told as removed.
    pub(crate) fn came(&self, name: u32, serial: u32) {
        let before = self.names[name as usize].swap(serial, Ordering::SeqCst);
        if before != 0 {
            self.fail(format!("name {name}: {serial} was told as new before {before} as removed"));
        }
    }

    /// A session was told as removed: it is the one that was told as new last. One that was given by the
    /// get callback is not told as new.
    pub(crate) fn left(&self, name: u32, serial: u32, was_given: bool) {
        let expected = if was_given { 0 } else { serial };
        let before = self.names[name as usize].swap(0, Ordering::SeqCst);
        if before != expected {
            self.fail(format!(
                "name {name}: {serial} was told as removed when {before} had been told as new last"
            ));
        }
    }

    pub(crate) fn fail(&self, what: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < KEPT {
            failures.push(what);
        }
        self.has_failed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every payload of the round, once it is over. `is_told` when the callbacks were set all along and
    /// nothing was handed over: then what was stored was told as new and as removed, and nothing else.
    pub(crate) fn audit(&self, is_told: bool) -> Fates {
        for (serial, fate) in self.all() {
            if let Some(what) = nonsense(fate, is_told) {
                self.fail(format!("payload {serial} {what} (fate {fate:#010b})"));
            }
        }
        self.count()
    }

    /// The payloads so far; exact while nobody puts.
    pub(crate) fn count(&self) -> Fates {
        let mut fates = Fates::default();
        for (_, fate) in self.all() {
            let has = |bit: u8| u64::from(fate & bit != 0);
            fates.born += 1;
            fates.stored += has(STORED);
            fates.refused += has(REFUSED);
            fates.unsaid += u64::from(fate & (STORED | REFUSED | GIVEN) == 0);
            fates.given += has(GIVEN);
            fates.came += has(CAME);
            fates.left += has(LEFT);
            fates.taken += has(TAKEN);
        }
        fates
    }

    fn all(&self) -> impl Iterator<Item = (u32, u8)> {
        (1..self.next.load(Ordering::SeqCst).min(SERIALS)).map(|serial| (serial, self.fate(serial)))
    }
}

impl Fates {
    /// Whether a cache can have stored so many sessions.
    pub(crate) fn may_have_stored(&self, sessions: u64) -> bool {
        (self.stored..=self.stored + self.unsaid).contains(&sessions)
    }
}

/// What is wrong with a fate at the end of a round. A put that a panic has ended (a payload's drop, of
/// another session) has returned neither *stored* nor *refused*, and may have stored.
fn nonsense(fate: u8, is_told: bool) -> Option<&'static str> {
    let has = |bits: u8| fate & bits == bits;
    match fate {
        _ if !has(DROPPED) => Some("was never dropped"),
        _ if has(STORED | REFUSED) => Some("was stored and refused"),
        _ if has(REFUSED) && fate & (CAME | LEFT | TAKEN) != 0 => {
            Some("was refused and is told of")
        }
        _ if has(CAME | GIVEN) => Some("was given, and told as new"),
        _ if is_told && has(STORED) && !has(CAME | LEFT) => Some("was stored and not told of"),
        _ if is_told && has(CAME) != has(LEFT) && !has(GIVEN) => Some("came or left untold"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fate_that_makes_no_sense_is_found() {
        assert_eq!(nonsense(DROPPED | STORED | CAME | LEFT | TAKEN, true), None);
        assert_eq!(nonsense(DROPPED | REFUSED, true), None);
        assert_eq!(nonsense(DROPPED | GIVEN | LEFT, true), None);
        for fate in [
            STORED | CAME | LEFT,
            DROPPED | STORED | REFUSED,
            DROPPED | REFUSED | LEFT,
            DROPPED | GIVEN | CAME | LEFT,
            DROPPED | STORED | CAME,
            DROPPED | STORED | LEFT,
            DROPPED | STORED,
            DROPPED | CAME,
        ] {
            assert!(nonsense(fate, true).is_some(), "{fate:#010b}");
        }
        assert_eq!(nonsense(DROPPED | STORED, false), None);
    }

    #[test]
    fn what_happens_twice_or_out_of_order_is_a_failure() {
        let twice: fn(&Ledger) = |ledger| {
            ledger.note_once(1, TAKEN, "taken");
            ledger.note_once(1, TAKEN, "taken");
        };
        let early: fn(&Ledger) = |ledger| {
            ledger.came(1, 5);
            ledger.came(1, 6);
        };
        let other: fn(&Ledger) = |ledger| {
            ledger.came(1, 5);
            ledger.left(1, 6, false);
        };
        let fine: fn(&Ledger) = |ledger| {
            ledger.came(1, 5);
            ledger.left(1, 5, false);
            ledger.left(1, 6, true);
            ledger.came(1, 7);
        };
        for (is_failure, steps) in [(true, twice), (true, early), (true, other), (false, fine)] {
            let ledger = Ledger::new(2);
            steps(&ledger);
            assert_eq!(ledger.has_failed(), is_failure, "{:?}", ledger.failures());
        }
    }
}
