//! What the wheel holds: a value that leads to a session, and owns nothing.
//!
//! A hint has the lower 48 bits of a session's hash, and a stamp of 16 bits that tells the session
//! from another one of the same id as long as both are allocated. A hint whose session has left finds nothing: cancelling costs
//! nothing. A later session of the id may have its block, and with that its stamp, and a hint too many. A false match can do no more
//! than evict another live session early, or drop the hint.

#![forbid(unsafe_code)]

/// Set in every stamp, so that no hint is zero, which a queue takes for none.
const NEVER_ZERO: u16 = 2;

/// A hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint(u64);

impl Hint {
    /// The hint of a session.
    #[inline]
    pub(crate) const fn new(hash: u64, stamp: u16) -> Self {
        Self(hash << 16 | (stamp | NEVER_ZERO) as u64)
    }

    /// The lower 48 bits of the session's hash, the rest zero.
    #[inline]
    pub(crate) fn hash(self) -> u64 {
        self.0 >> 16
    }

    /// Whether the session's stamp is this one.
    #[inline]
    pub(crate) fn is_of(self, stamp: u16) -> bool {
        self.0 as u16 == stamp | NEVER_ZERO
    }

    /// The word that a queue holds.
    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        self.0
    }

    /// The hint of a word that [`to_word`](Self::to_word) gave.
    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        Self(word)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_hint_is_zero() {
        for stamp in 0..=u16::MAX {
            assert_ne!(Hint::new(0, stamp).to_word(), 0);
        }
    }

    #[test]
    fn a_hint_leads_back_to_its_hash_and_stamp() {
        let hint = Hint::new(0x1234_5678_9abc_def1, 0x4711);
        assert_eq!(hint.hash(), 0x5678_9abc_def1);
        assert!(hint.is_of(0x4711));
        assert!(!hint.is_of(0x4715));
    }
}
