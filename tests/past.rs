//! What the statistics tell of the past: whether what was missed had been taken or evicted before, and how old what was
//! evicted had become.

mod support;

use std::time::Duration;

use support::{HOUR, MINUTE, SECOND, id, manual};

/// The effective lifetime, as exact as its documentation says.
#[test]
fn the_age_at_eviction_is_what_it_was() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for lifetime in [MINUTE, HOUR, DAY, 30 * DAY, 365 * DAY] {
        let (cache, web, clock) = manual(1, lifetime);
        assert!(web.put(&id(0), 0).is_stored());
        assert_eq!(cache.stats().mean_age_at_eviction, None);
        for (number, age) in [(1, SECOND * 10), (2, SECOND * 50)] {
            clock.advance(age);
            assert!(web.put(&id(number), number).is_stored());
        }
        let mean = cache.stats().mean_age_at_eviction.expect("two were evicted");
        let least = (SECOND * 30).saturating_sub(lifetime / 32_768);
        assert!((least..=SECOND * 30).contains(&mean), "{mean:?} of {lifetime:?}");
    }
}

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

/// The scope is a part of the hash: what one has taken is a stranger to the other.
#[test]
fn the_past_is_a_scopes_own() {
    let (cache, web, _) = manual(100_000, HOUR);
    let other = cache.scope(&resumption::Scope::new("other"));
    for number in 0..100 {
        assert!(web.put(&id(number), number).is_stored());
        assert!(web.take(&id(number)).is_some());
        assert!(other.take(&id(number)).is_none());
    }
    assert_eq!(cache.stats().approx_misses_taken_before, 0);
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
