//! What the statistics tell of misses: whether the session had been taken or evicted before.

mod support;

use support::{HOUR, id, manual};

/// A miss is told from another by the past of its id.
#[test]
fn misses_are_told_apart_by_what_came_before() {
    let (cache, web, _) = manual(100, HOUR);
    for number in 0..200 {
        assert!(web.put(&id(number), number).is_stored());
    }
    for number in 150..160 {
        assert!(web.take(&id(number)).is_some());
    }
    for number in 160..170 {
        assert!(web.remove(&id(number)));
    }
    let count = |numbers: std::ops::Range<u64>| {
        let before = cache.stats();
        assert!(numbers.clone().all(|number| web.get(&id(number)).is_none()));
        let now = cache.stats();
        assert_eq!(now.misses_unknown - before.misses_unknown, numbers.end - numbers.start);
        (
            now.approx_misses_taken_before - before.approx_misses_taken_before,
            now.approx_misses_evicted_before - before.approx_misses_evicted_before,
        )
    };
    // The table forgets: 110 sessions of the past share its 128 places.
    let (taken, evicted) = count(150..160);
    assert!(taken >= 4 && evicted == 0, "{taken} taken, {evicted} evicted");
    let (taken, evicted) = count(0..100);
    assert!(taken == 0 && evicted >= 40, "{taken} taken, {evicted} evicted");
    assert_eq!(count(160..170), (0, 0), "removed ones are neither");
    assert_eq!(count(1_000..2_000), (0, 0), "strangers are neither");
}

/// A second use of a ticket is a take, too.
#[test]
fn a_second_take_is_told() {
    let (cache, web, _) = manual(100_000, HOUR);
    for number in 0..1_000 {
        assert!(web.put(&id(number), number).is_stored());
        assert!(web.take(&id(number)).is_some());
        assert!(web.take(&id(number)).is_none());
    }
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.misses_unknown), (1_000, 1_000));
    assert_eq!(stats.approx_misses_taken_before, 1_000);
}

/// The bound that the documentation of `Stats` gives: a thousandth.
#[test]
fn strangers_are_not_taken_for_old_acquaintances() {
    const STRANGERS: u64 = 1_000_000;
    let (cache, web, _) = manual(50_000, HOUR);
    for number in 0..150_000 {
        assert!(web.put(&id(number), number).is_stored());
        assert!(number % 2 != 0 || web.take(&id(number)).is_some());
    }
    let removals = cache.stats().removals;
    assert!(removals.taken == 75_000 && removals.evicted > 20_000, "the table is full");
    for number in 1_000_000..1_000_000 + STRANGERS {
        assert!(web.get(&id(number)).is_none());
    }
    let stats = cache.stats();
    assert_eq!(stats.misses_unknown, STRANGERS);
    let told = stats.approx_misses_taken_before + stats.approx_misses_evicted_before;
    assert!(told < STRANGERS / 1_000, "{told} of a million strangers");
}
