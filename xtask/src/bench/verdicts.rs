//! The benches decide who won; this holds them to it. (Their own package is too large to be built for
//! a few tests.)

#[path = "../../../benches/common/rounds.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "it belongs to another crate")]
mod rounds;

#[path = "../../../benches/common/percentile.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "it belongs to another crate")]
mod percentile;

use rounds::{Better, Comparison, Found, Spread, Verdict};

fn verdict(ours: &[f64], theirs: &[f64], better: Better) -> Verdict {
    Comparison::of(ours, theirs, better).verdict
}

#[test]
fn a_win_needs_intervals_that_do_not_overlap() {
    let theirs = [10.0, 10.1, 10.2, 10.0, 10.1];
    assert_eq!(verdict(&[12.0; 5], &theirs, Better::More), Verdict::Win);
    // Ahead in each round, but a slow round of ours is as slow as a fast one of theirs.
    let (ours, theirs) = ([9.0, 11.0, 13.0, 15.0, 17.0], [8.0, 10.0, 12.0, 14.0, 16.0]);
    assert_eq!(verdict(&ours, &theirs, Better::More), Verdict::Tie);
}

#[test]
fn a_loss_needs_no_more_than_to_be_behind_in_the_rounds() {
    let (ours, theirs) = ([8.0, 10.0, 12.0, 14.0, 16.0], [9.0, 11.0, 13.0, 15.0, 17.0]);
    assert_eq!(verdict(&ours, &theirs, Better::More), Verdict::Loss);
    assert_eq!(verdict(&[10.0; 5], &[10.0; 5], Better::More), Verdict::Tie);
}

#[test]
fn less_is_better_where_it_is_said() {
    assert_eq!(verdict(&[1.0; 7], &[2.0; 7], Better::Less), Verdict::Win);
    assert_eq!(verdict(&[2.0; 7], &[1.0; 7], Better::Less), Verdict::Loss);
    let ratio = Comparison::of(&[1.0; 7], &[2.0; 7], Better::Less).ratio;
    assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 2.0, 2.0));
}

#[test]
fn the_lowest_and_the_highest_round_are_left_out() {
    let spread = Spread::of(&[5.0, 1.0, 3.0, 2.0, 100.0]);
    assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 5.0));
    // Of so few rounds none is.
    let spread = Spread::of(&[1.0, 2.0, 3.0]);
    assert_eq!((spread.low, spread.high), (1.0, 3.0));
}

#[test]
fn the_more_rounds_the_more_are_left_out() {
    let ends = |count: u32| {
        let rounds: Vec<_> = (1..=count).map(f64::from).collect();
        let spread = Spread::of(&rounds);
        (spread.low, spread.median, spread.high)
    };
    assert_eq!(ends(7), (2.0, 4.0, 6.0));
    assert_eq!(ends(9), (2.0, 5.0, 8.0));
    assert_eq!(ends(11), (2.0, 6.0, 10.0));
    assert_eq!(ends(81), (30.0, 41.0, 52.0));
}

#[test]
fn a_few_slow_rounds_of_many_are_no_tie() {
    let (mut ours, theirs) = ([2.0; 81], [1.0; 81]);
    ours[..5].fill(0.5);
    assert_eq!(verdict(&ours, &theirs, Better::More), Verdict::Win);
    assert_eq!(verdict(&theirs, &ours, Better::More), Verdict::Loss);
    // Of seven, two are enough.
    let (mut ours, theirs) = ([2.0; 7], [1.0; 7]);
    ours[..2].fill(0.5);
    assert_eq!(verdict(&ours, &theirs, Better::More), Verdict::Tie);
    let (mut ours, theirs) = ([2.0; 9], [1.0; 9]);
    ours[0] = 0.5;
    assert_eq!(verdict(&ours, &theirs, Better::More), Verdict::Win);
}

#[test]
fn one_sample_says_little() {
    assert_eq!(verdict(&[124.0], &[122.0], Better::Less), Verdict::Tie);
    assert_eq!(verdict(&[122.0], &[124.0], Better::Less), Verdict::Tie);
    assert_eq!(verdict(&[100.0], &[106.0], Better::Less), Verdict::Win);
    assert_eq!(verdict(&[106.0], &[100.0], Better::Less), Verdict::Loss);
}

#[test]
fn shares_that_differ_are_both_told_whoever_finds_fewer() {
    let found = Found { ours: 71.6, theirs: 96.1 };
    assert_eq!(found.note(), "finds 96.1 %, ours 71.6 %");
    assert!(found.ours_is_behind());
    let found = Found { ours: 100.0, theirs: 62.2 };
    assert_eq!(found.note(), "finds 62.2 %, ours 100.0 %");
    assert!(!found.ours_is_behind());
    let same = Found { ours: 99.2, theirs: 100.0 };
    assert!(same.note().is_empty() && !same.differs() && !same.ours_is_behind());
}

#[test]
fn a_percentile_needs_times_beyond_it() {
    let times = |count: u32| (1..=count).map(f64::from).collect::<Vec<_>>();
    let of = |count, percent| percentile::percentile(&mut times(count), percent);
    assert!(of(999, 99.9).is_nan() && of(99, 99.0).is_nan() && of(0, 100.0).is_nan());
    assert_eq!((of(1_000, 99.9), of(100, 99.0), of(7, 100.0)), (1_000.0, 100.0, 7.0));
    assert_eq!((of(3_000, 99.9), of(4, 50.0)), (2_998.0, 3.0));
    assert_eq!(percentile::shown(f64::NAN, 2), "too few");
    assert_eq!(percentile::shown(1.255_1, 2), "1.26");
}
