//! What a round is to be, by its seed: the settings of a cache, and what is done to it.

use std::time::Duration;

use resumption::Dispatch;

use crate::support::Random;

/// Scopes of a round.
pub(crate) const SCOPES: u32 = 3;
/// The most ids of a round, in each scope.
pub(crate) const MOST_KEYS: u32 = 50_000;
/// The heaviest payload.
pub(crate) const MOST_WEIGHT: u32 = 400;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) lasts: Duration,
    pub(crate) threads: u32,
    pub(crate) keys: u32,
    /// `None` is no limit.
    pub(crate) sessions: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) limits_change: bool,
    pub(crate) lifetime: Duration,
    pub(crate) has_manual_clock: bool,
    pub(crate) has_ticker: bool,
    pub(crate) waiting_headers: u64,
    pub(crate) callbacks: Option<CallbackPlan>,
    pub(crate) asks: Option<AskPlan>,
    /// Modes change, and puts of both sides.
    pub(crate) modes: bool,
    /// With those in which nothing is stored, or looked up, in the cache.
    pub(crate) internal_modes: bool,
    /// Sessions are extended, to sooner times too.
    pub(crate) extends: bool,
    /// One in so many payloads panics in its drop; zero is none.
    pub(crate) drop_panics: u32,
    /// One in so many payloads uses the cache in its drop; zero is none.
    pub(crate) drop_uses: u32,
    pub(crate) rests: bool,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CallbackPlan {
    pub(crate) dispatch: Dispatch,
    pub(crate) waiting: usize,
    /// One in so many calls; zero is none.
    pub(crate) panics: u32,
    pub(crate) slow: u32,
    pub(crate) slowness: Duration,
    pub(crate) rejects: u32,
    pub(crate) uses: u32,
    pub(crate) keeps: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AskPlan {
    pub(crate) shares: bool,
    pub(crate) later: bool,
}

/// How the cache of a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    /// Without a close: with the last handle of the cache, once its threads have ended.
    Drop,
}

impl Plan {
    pub(crate) fn new(seed: u64, round: u64) -> Self {
        let seed = Random::new(seed ^ round.wrapping_mul(0xa076_1d64_78bd_642f)).next();
        let dice = &mut Random::new(seed);
        let keys = pick(dice, &[4, 64, 2_000, MOST_KEYS]);
        let callbacks = chance(dice, 2).then(|| CallbackPlan::new(dice));
        let modes = chance(dice, 4);
        Self {
            seed,
            lasts: Duration::from_millis(200 + dice.below(1_000)),
            threads: 2 + dice.below(6) as u32,
            keys,
            sessions: pick(dice, &[None, Some(1), Some(7), Some(100), Some(2_000), Some(40_000)]),
            bytes: pick(dice, &[None, None, Some(3_000), Some(100_000), Some(8 << 20)]),
            limits_change: chance(dice, 3),
            lifetime: Duration::from_millis(pick(dice, &[20, 1_000, 60_000, 7_200_000])),
            has_manual_clock: !chance(dice, 3),
            has_ticker: chance(dice, 2),
            waiting_headers: pick(dice, &[200, 5_000, 20_000]),
            callbacks,
            asks: chance(dice, 4)
                .then(|| AskPlan { shares: chance(dice, 2), later: chance(dice, 2) }),
            modes,
            internal_modes: modes && chance(dice, 2),
            extends: chance(dice, 2),
            drop_panics: pick(dice, &[0, 0, 0, 3_000]),
            drop_uses: pick(dice, &[0, 0, 50]),
            rests: chance(dice, 2),
            end: if chance(dice, 5) { End::Drop } else { End::Close },
        }
    }

    /// Whether what a lookup returns is known to be due after the lookup began: no thread can have made
    /// it due sooner in the middle of that.
    pub(crate) fn knows_expiry(&self) -> bool {
        self.has_manual_clock && !self.extends && !self.modes
    }

    /// Whether each session in the cache is one that a put has stored, and the other way around.
    pub(crate) fn counts_all(&self) -> bool {
        self.asks.is_none() && !self.internal_modes
    }

    /// The heaviest payload of this round: some do not fit.
    pub(crate) fn most_weight(&self) -> u32 {
        if self.bytes == Some(3_000) { 3_500 } else { MOST_WEIGHT }
    }

    /// What a new lifetime may be.
    pub(crate) fn any_lifetime(&self, dice: &mut Random) -> Duration {
        match dice.below(16) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(1),
            2 => Duration::MAX,
            3..=6 => Duration::from_secs(dice.below(100_000)),
            _ => Duration::from_millis(1 + dice.below(5_000)),
        }
    }
}

impl CallbackPlan {
    fn new(dice: &mut Random) -> Self {
        let dispatch = match dice.below(6) {
            0..=2 => Dispatch::Workers(1 + dice.below(3) as usize),
            3..=4 => Dispatch::Inline,
            _ => Dispatch::Manual,
        };
        Self {
            dispatch,
            waiting: pick(dice, &[50, 2_000, 65_536]),
            panics: pick(dice, &[0, 0, 40, 2_000]),
            slow: pick(dice, &[0, 0, 30, 1_000]),
            // Close waits for all calls: these are so slow that it ends.
            slowness: Duration::from_micros(pick(dice, &[10, 100, 1_000])),
            rejects: pick(dice, &[0, 0, 5]),
            uses: pick(dice, &[0, 0, 100]),
            keeps: pick(dice, &[0, 100]),
        }
    }
}

pub(crate) fn pick<T: Copy>(dice: &mut Random, of: &[T]) -> T {
    of[dice.below(of.len() as u64) as usize]
}

/// Once in so many times; never, if that is zero.
pub(crate) fn chance(dice: &mut Random, one_in: u32) -> bool {
    one_in != 0 && dice.below(u64::from(one_in)) == 0
}
