//! What several rounds come to, and who is ahead.

/// The middle one of some numbers; of two middle ones the lower.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// How much larger `these` are than `those`: the median over the rounds, each with its neighbour in
/// time.
pub fn ratio(these: &[f64], those: &[f64]) -> f64 {
    median(&these.iter().zip(those).map(|(this, that)| this / that).collect::<Vec<_>>())
}

/// The median of several rounds and the interval around it: all rounds but so many of the lowest and of
/// the highest that it still holds the true median in 98 of 100 cases. Of five to ten rounds one at each
/// end is left out in any case: one disturbance is nobody's result. Of 7 rounds the interval holds the
/// true median in 87 of 100 cases, of 9 in 96.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let cut = cut(sorted.len());
        let at = |idx: usize| sorted.get(idx).copied().unwrap_or(f64::NAN);
        let high = at(sorted.len().saturating_sub(1 + cut));
        Self { median: median(values), low: at(cut), high }
    }
}

/// How many of so many rounds are left out at each end.
fn cut(rounds: usize) -> usize {
    /// At each end: in so many cases the true median lies beyond the interval there.
    const BEYOND: f64 = 0.01;
    // It lies below the round of rank `cut` + 1 where at most `cut` rounds are below it, and of each
    // round that is as likely as not.
    let mut term = 0.5_f64.powi(i32::try_from(rounds).unwrap_or(i32::MAX));
    let (mut cut, mut beyond) = (0, term);
    while 2 * (cut + 1) < rounds {
        term *= (rounds - cut) as f64 / (cut + 1) as f64;
        beyond += term;
        if beyond > BEYOND {
            break;
        }
        cut += 1;
    }
    cut.max(usize::from(rounds >= 5))
}

/// So many points apart are two shares of lookups that found their session before their contestants had
/// different work to do: one lookup in a hundred.
const NOTABLE: f64 = 1.0;

/// What two contestants found of what they were asked for, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub ours: f64,
    pub theirs: f64,
}

impl Found {
    /// Whether one of the two found notably fewer. Who finds fewer has less to do.
    pub fn differs(self) -> bool {
        (self.ours - self.theirs).abs() >= NOTABLE
    }

    /// Whether that was ours.
    pub fn ours_is_behind(self) -> bool {
        self.differs() && self.ours < self.theirs
    }

    /// What has to be said beside a rate; nothing, if both found about as many.
    pub fn note(self) -> String {
        if self.differs() {
            format!("finds {:.1} %, ours {:.1} %", self.theirs, self.ours)
        } else {
            String::new()
        }
    }
}

/// What is good of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// Who is ahead, as far as the rounds can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Win,
    Tie,
    Loss,
}

/// How many times as good ours are as theirs: above 1 we win.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    pub ratio: Spread,
    pub verdict: Verdict,
}

impl Comparison {
    /// One sample has to be so many times as good as another before that says anything.
    const OF_ONE: f64 = 1.05;

    /// Compares round by round, each with its neighbour in time, so that a slow minute of the machine
    /// is both sides'.
    ///
    /// A win needs intervals that do not overlap, both sides' own and the ratio's with 1. A loss
    /// needs no more than the ratio's interval below 1: whoever takes part in the race and judges it
    /// had better be stricter with himself. Of one sample alone, which has no interval, neither is
    /// within [`Self::OF_ONE`] of the other.
    pub fn of(ours: &[f64], theirs: &[f64], better: Better) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| match better {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        });
        let ratio = Spread::of(&ratios.collect::<Vec<_>>());
        let is_one = ours.len() == 1;
        let (ours, theirs) = (Spread::of(ours), Spread::of(theirs));
        let is_apart = match better {
            Better::More => ours.low > theirs.high,
            Better::Less => ours.high < theirs.low,
        };
        let margin = if is_one { Self::OF_ONE } else { 1.0 };
        let verdict = if ratio.low > margin && is_apart {
            Verdict::Win
        } else if ratio.high < 1.0 / margin {
            Verdict::Loss
        } else {
            Verdict::Tie
        };
        Self { ratio, verdict }
    }

    /// The ratio with its interval, and in words.
    pub fn cells(&self) -> [String; 2] {
        let Spread { median, low, high } = self.ratio;
        [format!("{} ({}..{})", times(median), times(low), times(high)), self.verdict.to_string()]
    }
}

/// A ratio with as many digits as one reads.
pub fn times(ratio: f64) -> String {
    if ratio >= 99.5 { format!("{ratio:.0}") } else { format!("{ratio:.2}") }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Win => "win",
            Self::Tie => "tie",
            Self::Loss => "loss",
        })
    }
}
