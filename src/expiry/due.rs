//! When a session expires, in one word.
//!
//! 42 bits hold the time in milliseconds, 21 bits the lifetime as a small floating-point number
//! (relative error below 2⁻¹⁵): the time from which it counts follows, and a renewal gives it again.
//!
//! The highest bit means that a thread has *decided* that the session is expired. It is set by one
//! exchange, so an extension and an expiry of one session never both succeed.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, planted};

const TIME_BITS: u32 = 42;
const MANTISSA_BITS: u32 = 16;
const DECIDED: u64 = 1 << 63;

/// Later than any time: 139 years. A session that expires then never does.
const NEVER: u64 = (1 << TIME_BITS) - 1;

/// A value of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due(u64);

/// How a session is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Live,
    /// Somebody has decided that.
    Expired,
    /// It is linked and not shown yet.
    Unseen,
}

/// What an attempt to extend has come to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// The session expires later than it did, or when it did.
    Later,
    /// The session expires earlier than it did.
    Sooner,
    /// The session was expired.
    Expired,
}

impl Due {
    /// The word of a session that is linked and not shown yet ([`Standing::Unseen`]). No lifetime is packed into these bits.
    pub(crate) const PROVISIONAL: Self = Self(!DECIDED & !NEVER);

    /// Whether the session is linked and not shown yet.
    #[inline]
    pub(crate) fn is_provisional(self) -> bool {
        self == Self::PROVISIONAL
    }

    /// Shows a provisional session.
    pub(crate) fn show(word: &AtomicU64, due: Self) {
        // Relaxed: as in `decide`.
        let _ =
            word.compare_exchange(Self::PROVISIONAL.0, due.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// `lifetime` milliseconds after `now`; a sum past the end of time never expires. What has no lifetime is
    /// expired since the beginning of time: also for a lookup that read the clock before `now`.
    #[inline]
    pub(crate) fn new(now: u64, lifetime: u64) -> Self {
        let at = if lifetime == 0 { 0 } else { now.saturating_add(lifetime).min(NEVER) };
        Self(at | pack(at.saturating_sub(now)) << TIME_BITS)
    }

    /// The value of a word.
    #[inline]
    pub(crate) fn load(word: &AtomicU64) -> Self {
        // Relaxed: the word stands for itself.
        Self(word.load(Ordering::Relaxed))
    }

    /// The word.
    pub(crate) fn to_word(self) -> u64 {
        self.0
    }

    /// The time, in milliseconds.
    #[inline]
    pub(crate) fn at(self) -> u64 {
        self.0 & NEVER
    }

    /// Whether the session is expired at `now`.
    #[inline]
    pub(crate) fn is_past(self, now: u64) -> bool {
        let at = self.at();
        self.is_decided() || at <= now && at != NEVER
    }

    /// Whether a thread has decided that the session is expired.
    #[inline]
    pub(crate) fn is_decided(self) -> bool {
        self.0 & DECIDED != 0
    }

    /// How long it is at `now` since the lifetime was given: by the put, or the last extension or renewal.
    pub(crate) fn age(self, now: u64) -> u64 {
        unpack((self.0 & !DECIDED) >> TIME_BITS).saturating_sub(self.at().saturating_sub(now))
    }

    /// When the lifetime was given, or a little before, for it is rounded.
    fn given(self) -> u64 {
        let packed = (self.0 & !DECIDED) >> TIME_BITS;
        self.at().saturating_sub(unpack(packed) + (1 << (packed >> MANTISSA_BITS)))
    }

    /// Lets the session live for its whole lifetime again, from `now` on, unless it is expired: for the
    /// one that it was given last, also by an extension.
    ///
    /// Race with a decision, and with an extension: each changes the word by an exchange. Whoever is
    /// second sees what the first has written; after a decision this does nothing.
    pub(crate) fn renew(word: &AtomicU64, now: u64) {
        let mut due = Self::load(word);
        while !due.is_past(now) && due.at() != NEVER {
            let new = Self::new(now, unpack(due.0 >> TIME_BITS));
            if new.at() <= due.at() {
                // Renewed just now.
                return;
            }
            if planted!("renew-by-load-and-store") {
                return word.store(new.0, Ordering::Relaxed);
            }
            // Relaxed: as in `decide`.
            match word.compare_exchange(due.0, new.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => due = Self(other),
            }
        }
    }

    /// Decides that the session is expired, if it is at `now`; `true` if it is, whoever decided, or if it is
    /// not shown yet, which is the same to a lookup.
    ///
    /// Race with an extension: if the extension's exchange is first, this sees the new time; if this
    /// one is first, the extension sees the decision and fails.
    #[inline]
    #[must_use]
    pub(crate) fn decide(word: &AtomicU64, now: u64) -> bool {
        Self::standing(word, now) != Standing::Live
    }

    /// As [`decide`](Self::decide), and tells apart what is not shown yet: whether that is expired is for
    /// nobody to say.
    ///
    /// By one load: a session that was seen unseen, and then seen shown, would pass for an expired one.
    #[inline]
    #[must_use]
    pub(crate) fn standing(word: &AtomicU64, now: u64) -> Standing {
        let due = Self::load(word);
        if due.is_past(now) { Self::decide_past(word, due, now) } else { Standing::Live }
    }

    /// [`standing`](Self::standing) where the word held `due`, which is past.
    #[cold]
    fn decide_past(word: &AtomicU64, mut due: Self, now: u64) -> Standing {
        if due.is_provisional() {
            if planted!("unseen-by-a-second-load") && !Self::load(word).is_provisional() {
                return Standing::Expired;
            }
            return Standing::Unseen;
        }
        loop {
            if due.is_decided() {
                return Standing::Expired;
            }
            if !due.is_past(now) {
                return Standing::Live;
            }
            if planted!("decide-by-load-and-store") {
                word.store(due.0 | DECIDED, Ordering::Relaxed);
                return Standing::Expired;
            }
            // Relaxed: one word, whose own order of changes decides.
            match word.compare_exchange(
                due.0,
                due.0 | DECIDED,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Standing::Expired,
                Err(other) => due = Self(other),
            }
        }
    }

    /// Lets the session expire `lifetime` milliseconds after `now`, unless it is expired. Or after the lifetime was given
    /// that it has, if the caller was stopped since it read the clock, and the session is younger than that: it has
    /// come, or was extended, before this.
    pub(crate) fn extend(word: &AtomicU64, now: u64, lifetime: u64) -> Extension {
        loop {
            let due = Self::load(word);
            if due.is_past(now) {
                if Self::decide(word, now) {
                    return Extension::Expired;
                }
                // Another extension came first.
                continue;
            }
            let new = Self::new(now.max(due.given()), lifetime);
            if planted!("extend-by-load-and-store") {
                word.store(new.0, Ordering::Relaxed);
                return Extension::Later;
            }
            // Relaxed: as in `decide`.
            let extended =
                word.compare_exchange(due.0, new.0, Ordering::Relaxed, Ordering::Relaxed);
            match extended {
                Ok(_) if new.at() >= due.at() => return Extension::Later,
                Ok(_) => return Extension::Sooner,
                Err(_) => {}
            }
        }
    }
}

/// Rounds down to 16 significant bits.
#[inline]
fn pack(value: u64) -> u64 {
    let value = value.min(NEVER);
    let exponent = (u64::BITS - value.leading_zeros()).saturating_sub(MANTISSA_BITS);
    u64::from(exponent) << MANTISSA_BITS | value >> exponent
}

#[inline]
fn unpack(packed: u64) -> u64 {
    (packed & ((1 << MANTISSA_BITS) - 1)) << (packed >> MANTISSA_BITS)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_survives_packing() {
        let mut value = 1;
        while value < NEVER {
            for value in [value - 1, value, value + value / 3] {
                let back = unpack(pack(value));
                assert!(back <= value && value - back <= value >> 15, "{value}: {back}");
            }
            value *= 2;
        }
        assert!(pack(NEVER) < 1 << (u64::BITS - TIME_BITS - 1));
    }

    #[test]
    fn a_zero_lifetime_is_past_at_once_and_the_longest_never() {
        assert!(Due::new(1000, 0).is_past(1000));
        assert!(Due::new(1000, 0).is_past(999), "also for who read the clock before");
        let never = Due::new(1000, u64::MAX);
        assert!(!never.is_past(NEVER - 1) && !never.is_past(u64::MAX));
    }

    #[test]
    fn an_extension_gives_a_lifetime_and_begins_an_age() {
        let word = AtomicU64::new(Due::new(1_000, 10_000).to_word());
        assert_eq!(Due::extend(&word, 4_000, 20_000), Extension::Later);
        assert_eq!((Due::load(&word).at(), Due::load(&word).age(5_000)), (24_000, 1_000));
        assert_eq!(Due::extend(&word, 5_000, 1_000), Extension::Sooner);
        assert_eq!(Due::load(&word).age(5_500), 500);
        Due::renew(&word, 5_500);
        assert_eq!(Due::load(&word).at(), 6_500, "no more than the last lifetime that was given");
    }

    #[test]
    fn a_late_extension_counts_from_the_lifetime_that_it_finds() {
        for lifetime in [10, 20_000, 365 * 86_400_000] {
            let word = AtomicU64::new(Due::new(1_000_000, lifetime).to_word());
            let is_sooner = Due::extend(&word, 1_000, 5_000) == Extension::Sooner;
            assert_eq!(is_sooner, lifetime > 5_000);
            let at = Due::load(&word).at();
            // As exactly as the lifetime is kept.
            assert!(
                (1_005_000 - (lifetime >> 15) - 1..=1_005_000).contains(&at),
                "{lifetime}: {at}"
            );
        }
    }

    #[test]
    fn a_renewal_counts_from_the_last_use() {
        let word = AtomicU64::new(Due::new(1_000, 10_000).to_word());
        Due::renew(&word, 4_000);
        assert_eq!((Due::load(&word).at(), Due::load(&word).age(5_000)), (14_000, 1_000));
        Due::renew(&word, 3_000);
        assert_eq!(Due::load(&word).at(), 14_000, "a clock that lags brings nothing nearer");
        Due::renew(&word, 14_000);
        assert!(Due::load(&word).is_past(14_000), "too late");
        let never = AtomicU64::new(Due::new(1_000, u64::MAX).to_word());
        Due::renew(&never, 5_000);
        assert!(!Due::load(&never).is_past(u64::MAX));
        let unseen = AtomicU64::new(Due::PROVISIONAL.to_word());
        Due::renew(&unseen, 5_000);
        assert!(Due::load(&unseen).is_provisional());
        assert!(Due::decide(&unseen, 5_000), "a lookup does not see it");
        assert_eq!(Due::standing(&unseen, 5_000), Standing::Unseen);
    }

    #[test]
    fn a_decision_is_final() {
        let word = AtomicU64::new(Due::new(1_000, 10).to_word());
        assert!(!Due::decide(&word, 1_009));
        assert!(Due::decide(&word, 1_010));
        assert!(Due::decide(&word, 0));
        Due::renew(&word, 1_000);
        assert!(Due::load(&word).is_decided());
        assert_eq!(Due::extend(&word, 1_000, 10), Extension::Expired);
    }
}
