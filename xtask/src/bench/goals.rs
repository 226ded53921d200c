//! What the figures ought to be, and what they are in this run.

use super::results::{Figure, Kind, grouped, rounded};

/// A figure that ought to be reached.
struct Goal {
    text: &'static str,
    question: &'static str,
    /// In these sizes; any, if there are none.
    sessions: &'static [u64],
    want: Want,
}

#[derive(Clone, Copy)]
enum Want {
    /// So many times as good as the best of these.
    Best(Kind, f64),
    /// Ahead of every bounded one, also at the lower end of the interval: what is due to the longest
    /// wait of a round or to one in ten thousand differs much from round to round.
    Ahead,
    /// So many times as good as the best bounded one that finds no fewer than ours, but a point.
    BestThatFinds(f64),
    /// So many times as good as this one.
    Than(&'static str, f64),
    /// Ours at most so much.
    AtMost(f64),
    /// At most so many points less than this one, or than the best of all.
    PointsBelow(Option<&'static str>, f64),
    /// So many times our rate of one thread with two.
    SecondThread(f64),
}

const MILLION: &[u64] = &[1_000_000];
const SMALL: &[u64] = &[20_000];

const fn best(
    text: &'static str,
    question: &'static str,
    sessions: &'static [u64],
    at_least: f64,
) -> Goal {
    Goal { text, question, sessions, want: Want::Best(Kind::Bounded, at_least) }
}

const GOALS: &[Goal] = &[
    best("hit, the best bounded one", "hit", MILLION, 1.3),
    Goal {
        text: "hit, the best map without a limit",
        question: "hit",
        sessions: MILLION,
        want: Want::Best(Kind::Unbounded, 1.0),
    },
    best("hit, many at once, the best bounded one", "hit, many at once", MILLION, 2.0),
    best("tls13, the best bounded one", "tls13", MILLION, 1.5),
    Goal {
        text: "tls13, the best bounded one that finds its sessions",
        question: "tls13",
        sessions: MILLION,
        want: Want::BestThatFinds(1.5),
    },
    best("tls12, the best bounded one", "tls12", MILLION, 1.5),
    Goal {
        text: "tls12, the best bounded one that finds as many",
        question: "tls12",
        sessions: MILLION,
        want: Want::BestThatFinds(1.5),
    },
    best("miss, the best bounded one", "miss", MILLION, 1.0),
    best("hit, 20 000 sessions", "hit", SMALL, 1.0),
    best("hit, many at once, 20 000 sessions", "hit, many at once", SMALL, 1.0),
    best("tls13, 20 000 sessions", "tls13", SMALL, 1.0),
    best("tls12, 20 000 sessions", "tls12", SMALL, 1.0),
    best("miss, 20 000 sessions", "miss", SMALL, 1.0),
    Goal {
        text: "hit, a second thread",
        question: "hit",
        sessions: MILLION,
        want: Want::SecondThread(1.8),
    },
    Goal {
        text: "tls13, a second thread",
        question: "tls13",
        sessions: MILLION,
        want: Want::SecondThread(1.8),
    },
    ahead("oversubscription, p99.99 of put", "oversubscribed put, p99.99"),
    ahead("oversubscription, p99.99 of take", "oversubscribed take, p99.99"),
    ahead("oversubscription, longest put", "oversubscribed put, longest"),
    ahead("oversubscription, longest take", "oversubscribed take, longest"),
    ahead(
        "oversubscription, p99.99 of put, not interrupted itself",
        "oversubscribed put, not interrupted itself, p99.99",
    ),
    ahead(
        "oversubscription, p99.99 of take, not interrupted itself",
        "oversubscribed take, not interrupted itself, p99.99",
    ),
    ahead(
        "oversubscription, longest put, not interrupted itself",
        "oversubscribed put, not interrupted itself, longest",
    ),
    ahead(
        "oversubscription, longest take, not interrupted itself",
        "oversubscribed take, not interrupted itself, longest",
    ),
    Goal {
        text: "expiry storm, p99.9 of put against quiet",
        question: "put while all expire",
        sessions: &[],
        want: Want::AtMost(2.0),
    },
    Goal {
        text: "expiry storm, p99.9 of take against quiet",
        question: "take while all expire",
        sessions: &[],
        want: Want::AtMost(2.0),
    },
    Goal {
        text: "rustls handshakes at 400 000, the default store",
        question: "rustls handshakes",
        sessions: &[400_000],
        want: Want::Than("rustls default", 50.0),
    },
    Goal {
        text: "rustls handshakes at 400 000, the mutex",
        question: "rustls handshakes",
        sessions: &[400_000],
        want: Want::Than("mutex, O(1) take", 1.0),
    },
    Goal {
        text: "the store's share of a rustls server, %",
        question: "the store in a rustls server",
        sessions: &[1_000, 400_000, 1_000_000],
        want: Want::AtMost(1.0),
    },
    Goal {
        text: "bytes of a session beyond the payload",
        question: "memory beyond the payload",
        sessions: MILLION,
        want: Want::AtMost(112.0),
    },
    Goal {
        text: "hit against two dependent loads and a pin",
        question: "hit against the limit",
        sessions: MILLION,
        want: Want::Than("two loads and a pin", 1.0 / 1.4),
    },
    points("found, single use: the best policy", "found, single use", None, 0.1),
    points("found, multi-use: SIEVE", "found, multi-use", Some("SIEVE"), 1.0),
    points("found, multi-use, flooded: LRU", "found, multi-use, flooded", Some("LRU"), 0.0),
    points("found, multi-use, flooded: SIEVE", "found, multi-use, flooded", Some("SIEVE"), 0.0),
    points(
        "found, multi-use, flooded: moka",
        "found, multi-use, flooded",
        Some("W-TinyLFU (moka)"),
        0.0,
    ),
    points("found, multi-use, flooded: S3-FIFO", "found, multi-use, flooded", Some("S3-FIFO"), 1.0),
    points(
        "found, multi-use, flooded: S3-FIFO of quick_cache",
        "found, multi-use, flooded",
        Some("S3-FIFO (quick_cache)"),
        1.0,
    ),
    points(
        "found, multi-use, flooded: quick_cache, keeps",
        "found, multi-use, flooded",
        Some("quick_cache, keeps"),
        1.0,
    ),
    points("found, single use, flooded: LRU", "found, single use, flooded", Some("LRU"), 0.0),
    points("found, single use, flooded: SIEVE", "found, single use, flooded", Some("SIEVE"), 0.0),
    points(
        "found, single use, flooded: moka",
        "found, single use, flooded",
        Some("W-TinyLFU (moka)"),
        0.0,
    ),
    points(
        "found, single use, flooded: S3-FIFO",
        "found, single use, flooded",
        Some("S3-FIFO"),
        1.0,
    ),
    points(
        "found, single use, flooded: S3-FIFO of quick_cache",
        "found, single use, flooded",
        Some("S3-FIFO (quick_cache)"),
        1.0,
    ),
    points(
        "found, single use, flooded: quick_cache, keeps",
        "found, single use, flooded",
        Some("quick_cache, keeps"),
        1.0,
    ),
];

const fn ahead(text: &'static str, question: &'static str) -> Goal {
    Goal { text, question, sessions: &[], want: Want::Ahead }
}

const fn points(
    text: &'static str,
    question: &'static str,
    whom: Option<&'static str>,
    at_most: f64,
) -> Goal {
    Goal { text, question, sessions: &[], want: Want::PointsBelow(whom, at_most) }
}

/// A goal, what was reached, and whether that is enough; the latter two as words.
pub(super) fn rows(figures: &[&Figure]) -> Vec<[String; 4]> {
    GOALS.iter().map(|goal| goal.row(figures)).collect()
}

impl Goal {
    fn row(&self, figures: &[&Figure]) -> [String; 4] {
        let these = figures.iter().copied().filter(|figure| {
            figure.question == self.question
                && (self.sessions.is_empty() || self.sessions.contains(&figure.sessions))
        });
        let these: Vec<&Figure> = these.collect();
        let (wanted, reached) = self.reached(&these);
        let is_reached = reached.map(|Reached { value, .. }| match self.want {
            Want::AtMost(most) | Want::PointsBelow(_, most) => value <= most,
            Want::Ahead => value > 1.0,
            Want::Best(_, times)
            | Want::BestThatFinds(times)
            | Want::Than(_, times)
            | Want::SecondThread(times) => value >= times,
        });
        let verdict = match is_reached {
            Some(true) => "reached",
            Some(false) => "**missed**",
            None => "not in this run",
        };
        let reached = reached.map_or(String::new(), |reached| self.shown(reached));
        [self.text.to_owned(), wanted, reached, verdict.to_owned()]
    }

    /// What is wanted, in words, and the worst that there is of it.
    fn reached<'a>(&self, these: &[&'a Figure]) -> (String, Option<Reached<'a>>) {
        let least_of = |is_meant: &dyn Fn(&Figure) -> bool| {
            let meant = these.iter().copied().filter(|figure| is_meant(figure));
            let all = meant.filter_map(|figure| Some(Reached::at(figure, figure.times()?)));
            all.min_by(Reached::by_value)
        };
        match self.want {
            Want::Best(kind, times) => {
                (format!("≥ {times} ×"), least_of(&|figure| figure.kind == kind))
            }
            Want::Ahead => {
                let bounded = these.iter().filter(|figure| figure.kind == Kind::Bounded);
                let lows = bounded.filter_map(|figure| Some(Reached::at(figure, figure.ratio[0]?)));
                ("> 1 ×, all of the interval".to_owned(), lows.min_by(Reached::by_value))
            }
            Want::BestThatFinds(times) => {
                let finds = |figure: &Figure| figure.kind == Kind::Bounded && figure.finds();
                (format!("≥ {times} ×"), least_of(&finds))
            }
            Want::Than(name, times) => {
                let wanted = format!("≥ {} ×", rounded(times));
                (wanted, least_of(&|figure| figure.contestant == name))
            }
            Want::PointsBelow(name, most) => {
                let of_name = these.iter().filter(|f| name.is_none_or(|name| f.contestant == name));
                let below = of_name.filter_map(|figure| {
                    Some(Reached::at(figure, figure.theirs[1]? - figure.ours[1]?))
                });
                (format!("≤ {most} points below"), below.max_by(Reached::by_value))
            }
            Want::AtMost(most) => {
                let ours =
                    these.iter().filter_map(|figure| Some(Reached::at(figure, figure.ours[1]?)));
                (format!("≤ {most}"), ours.max_by(Reached::by_value))
            }
            Want::SecondThread(times) => (format!("≥ {times} ×"), second_thread(these)),
        }
    }

    /// The number; of how many sessions it is, where the goal does not say that; and whether the one
    /// that decides holds more than it was asked to.
    fn shown(&self, Reached { value, sessions, contestant }: Reached<'_>) -> String {
        let mut shown = rounded(value);
        if self.sessions.len() != 1 {
            shown += &format!(" at {} sessions", grouped(sessions));
        }
        let holds = sessions.next_power_of_two();
        if contestant == "scc HashCache" && holds * 20 > sessions * 21 {
            shown += &format!(" (scc HashCache, which holds up to {})", grouped(holds));
        }
        shown
    }
}

/// A number, and where it was measured.
#[derive(Clone, Copy)]
struct Reached<'a> {
    value: f64,
    sessions: u64,
    /// Against whom.
    contestant: &'a str,
}

impl<'a> Reached<'a> {
    fn at(figure: &'a Figure, value: f64) -> Self {
        Self { value, sessions: figure.sessions, contestant: &figure.contestant }
    }

    fn by_value(&self, other: &Self) -> std::cmp::Ordering {
        self.value.total_cmp(&other.value)
    }
}

/// Our rate of two threads against that of one.
fn second_thread<'a>(figures: &[&'a Figure]) -> Option<Reached<'a>> {
    let of = |threads| figures.iter().find(|figure| figure.threads == threads);
    let [one, two] = [of(1)?, of(2)?];
    Some(Reached::at(two, two.ours[1]? / one.ours[1]?))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::figure;
    use super::*;

    fn row(text: &str, figures: &[Figure]) -> [String; 4] {
        let figures: Vec<_> = figures.iter().collect();
        rows(&figures).into_iter().find(|row| row[0] == text).unwrap()
    }

    #[test]
    fn the_best_contestant_decides() {
        let figures = [figure("tls13", "moka", 5.0), figure("tls13", "scc HashCache", 1.4)];
        let [_, wanted, reached, verdict] = row("tls13, the best bounded one", &figures);
        assert_eq!([wanted, reached, verdict], ["≥ 1.5 ×", "1.40", "**missed**"]);
        let figures = [figure("tls13", "moka", 1.5)];
        assert_eq!(row("tls13, the best bounded one", &figures)[3], "reached");
    }

    #[test]
    fn who_loses_sessions_does_not_decide_among_those_that_find_them() {
        let mut loses = figure("tls13", "quick_cache", 0.5);
        loses.found = Some([100.0, 3.0]);
        let mut finds_more = figure("tls13", "moka", 2.0);
        finds_more.found = Some([90.0, 100.0]);
        let mut finds_as_many = figure("tls13", "foyer", 3.0);
        finds_as_many.found = Some([90.0, 89.5]);
        let figures = [finds_as_many, finds_more, loses];
        let of = |text| row(text, &figures)[2].clone();
        assert_eq!(of("tls13, the best bounded one"), "0.50");
        assert_eq!(of("tls13, the best bounded one that finds its sessions"), "2.00");
    }

    #[test]
    fn to_be_ahead_is_to_be_ahead_in_the_whole_interval() {
        let question = "oversubscribed put, longest";
        let mut narrow = figure(question, "moka", 1.2);
        narrow.ratio[0] = Some(1.1);
        let mut wide = figure(question, "foyer", 9.0);
        wide.ratio[0] = Some(0.8);
        let of = |figures: &[Figure]| row("oversubscription, longest put", figures);
        let reached = ["1.10 at 1 000 000 sessions", "reached"];
        assert_eq!(of(&[narrow.clone()])[2..], reached);
        let missed = ["0.80 at 1 000 000 sessions", "**missed**"];
        assert_eq!(of(&[narrow, wide])[2..], missed);
    }

    #[test]
    fn who_decides_and_holds_more_is_named() {
        let mut scc = figure("tls13", "scc HashCache", 0.7);
        scc.sessions = 20_000;
        let reached = "0.70 (scc HashCache, which holds up to 32 768)";
        assert_eq!(row("tls13, 20 000 sessions", &[scc])[2], reached);
    }

    #[test]
    fn what_was_not_run_is_neither_reached_nor_missed() {
        assert_eq!(row("tls13, the best bounded one", &[])[3], "not in this run");
        let mut other = figure("tls13", "moka", 9.0);
        other.sessions = 20_000;
        assert_eq!(row("tls13, the best bounded one", &[other])[3], "not in this run");
    }

    #[test]
    fn the_worst_size_decides_what_has_to_be_little() {
        let mut figures =
            [0.5, 1.5].map(|share| figure("the store in a rustls server", "x", share));
        figures[0].sessions = 1_000;
        let row = row("the store's share of a rustls server, %", &figures);
        let expected = ["1.50 at 1 000 000 sessions", "**missed**"];
        assert_eq!([row[2].as_str(), row[3].as_str()], expected);
    }

    #[test]
    fn a_storm_is_judged_at_the_size_that_was_run_and_says_which() {
        let mut storm = figure("put while all expire", "OpenSSL SSL_CTX", 42.0);
        storm.sessions = 200_000;
        let row = row("expiry storm, p99.9 of put against quiet", &[storm]);
        assert_eq!([row[2].as_str(), row[3].as_str()], ["42.0 at 200 000 sessions", "**missed**"]);
    }

    #[test]
    fn a_second_thread_is_measured_by_our_own_rates() {
        let mut figures = [1.0, 1.9].map(|rate| figure("hit", "moka", rate));
        figures[0].threads = 1;
        assert_eq!(row("hit, a second thread", &figures)[2], "1.90");
    }
}
