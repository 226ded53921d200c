//! The cache against a plain model of what it promises, over random operations and a driven clock.

mod model;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use resumption::CacheMode;

use model::{IDS, Key, Limit, Operation, REJECTED, SCOPES, run};
use support::{HOUR, MINUTE, SECOND, id};

fn key() -> impl Strategy<Value = Key> {
    (0..SCOPES, 0..IDS)
}

fn weight() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1usize..200, Just(5_000), Just(REJECTED)]
}

fn lifetime() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        2 => Just(Duration::from_millis(1)),
        1 => Just(Duration::from_micros(999)),
        4 => (1u64..100_000).prop_map(Duration::from_millis),
        2 => (1u32..10_000).prop_map(|hours| HOUR * hours),
        1 => Just(Duration::MAX),
        1 => Just(HOUR * 24 * 365 * 140),
    ]
}

fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        2 => Just(Duration::from_millis(1)),
        4 => (0u64..60_000).prop_map(Duration::from_millis),
        2 => (1u32..100).prop_map(|minutes| MINUTE * minutes),
        1 => Just(HOUR * 24 * 30),
    ]
}

/// The modes in which the cache itself stores and finds; mostly those in which servers' puts do.
fn mode() -> impl Strategy<Value = CacheMode> {
    const SIDES: [CacheMode; 4] =
        [CacheMode::SERVER, CacheMode::BOTH, CacheMode::CLIENT, CacheMode::OFF];
    const MORE: [CacheMode; 4] = [
        CacheMode::OFF,
        CacheMode::UPDATE_TIME,
        CacheMode::NO_AUTO_CLEAR,
        CacheMode::UPDATE_TIME.union(CacheMode::NO_AUTO_CLEAR),
    ];
    let side = prop_oneof![4 => 0usize..2, 1 => 2usize..4];
    (side, 0usize..4).prop_map(|(side, more)| SIDES[side] | MORE[more])
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (key(), weight()).prop_map(|(key, weight)| Operation::Put(key, weight)),
        8 => (key(), weight(), lifetime()).prop_map(|(key, w, l)| Operation::PutWith(key, w, l)),
        4 => (key(), weight()).prop_map(|(key, weight)| Operation::PutIfAbsent(key, weight)),
        4 => (key(), weight(), any::<bool>(), proptest::option::of(lifetime()))
            .prop_map(|(key, w, is_client, l)| Operation::PutFrom(key, w, is_client, l)),
        8 => key().prop_map(Operation::Get),
        3 => (key(), any::<bool>()).prop_map(|(key, takes)| Operation::Lookup(key, takes)),
        6 => key().prop_map(Operation::Take),
        2 => key().prop_map(Operation::Remove),
        1 => key().prop_map(Operation::RemoveFaulty),
        6 => (key(), lifetime()).prop_map(|(key, lifetime)| Operation::Extend(key, lifetime)),
        6 => pause().prop_map(Operation::Advance),
        1 => lifetime().prop_map(Operation::SetLifetime),
        1 => mode().prop_map(Operation::SetMode),
        2 => (0usize..6_000).prop_map(Operation::SetLimit),
        1 => Just(Operation::FlushExpired),
        1 => Just(Operation::Flush),
        1 => (2u64..5).prop_map(Operation::Retain),
        1 => (0..SCOPES).prop_map(Operation::DropScope),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn an_unlimited_cache_is_the_model(operations in vec(operation(), 0..200),
        is_told: bool) {
        run(Limit::None, is_told, &operations);
    }

    #[test]
    fn a_cache_of_few_sessions_is_the_model_less_what_was_evicted(
        operations in vec(operation(), 0..200),
        is_told: bool,
        most in 1usize..8,
    ) {
        run(Limit::Sessions(most), is_told, &operations);
    }

    #[test]
    fn a_cache_of_few_bytes_is_the_model_less_what_was_evicted(
        operations in vec(operation(), 0..200),
        is_told: bool,
        most in 1_000usize..6_000,
    ) {
        run(Limit::Bytes(most), is_told, &operations);
    }
}

/// A put, a get or a take in a full cache; by a class of lifetimes, or by how long ago it was put.
#[derive(Clone, Debug)]
enum Use {
    Put(usize),
    Get(u64),
    Take(u64),
}

/// The order of eviction: the earliest class, in it the oldest. What was used is spared once, and then looked at
/// only while less than a fifth is new.
#[derive(Default)]
struct Order {
    live: BTreeSet<u64>,
    used: BTreeSet<u64>,
    /// The sessions of each class, oldest first; those that were taken stay until eviction meets them.
    fresh: [Vec<u64>; 5],
    /// Two generations of those that were spared.
    kept: [[Vec<u64>; 5]; 2],
    turn: usize,
}

impl Order {
    fn evict(&mut self) -> u64 {
        loop {
            let kept: usize = self.kept.iter().flatten().map(Vec::len).sum();
            let fresh = self.live.len().saturating_sub(kept);
            let is_short = fresh * 5 < self.live.len() || self.fresh.iter().all(Vec::is_empty);
            let is_fresh = !is_short || kept == 0;
            if !is_fresh && self.kept[self.turn].iter().all(Vec::is_empty) {
                self.turn = 1 - self.turn;
            }
            let lists = if is_fresh { &mut self.fresh } else { &mut self.kept[self.turn] };
            let class = lists.iter().position(|list| !list.is_empty()).expect("it is full");
            let number = lists[class].remove(0);
            if self.used.remove(&number) {
                self.kept[1 - self.turn][class].push(number);
            } else if self.live.remove(&number) {
                return number;
            }
        }
    }

    fn take(&mut self, number: u64) -> bool {
        self.used.remove(&number);
        self.live.remove(&number)
    }
}

fn order_use() -> impl Strategy<Value = Use> {
    prop_oneof![
        4 => (0usize..5).prop_map(Use::Put),
        4 => (1u64..30).prop_map(Use::Get),
        1 => (1u64..30).prop_map(Use::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn eviction_keeps_its_order(uses in vec(order_use(), 0..200), most in 1usize..20) {
        // Fewer takes than make hints that are cleared up, which reorders the others.
        let (cache, web, _) = support::manual::<u64>(most, HOUR);
        let (mut order, mut newest, mut takes) = (Order::default(), 100, 0);
        for what in uses {
            match what {
                Use::Put(class) => {
                    newest += 1;
                    let evicted = (cache.len() == most).then(|| order.evict());
                    let lifetime = SECOND * 10u32.pow(class as u32 + 1);
                    prop_assert!(web.put_with(&id(newest), newest, lifetime).is_stored());
                    prop_assert!(evicted.is_none_or(|number| !web.contains(&id(number))));
                    order.fresh[class].push(newest);
                    order.live.insert(newest);
                }
                Use::Get(ago) => {
                    if web.get(&id(newest - ago)).is_some() {
                        order.used.insert(newest - ago);
                    }
                }
                Use::Take(ago) if takes < 60 => {
                    let is_taken = web.take(&id(newest - ago)).is_some();
                    prop_assert_eq!(is_taken, order.take(newest - ago));
                    takes += 1;
                }
                Use::Take(_) => {}
            }
            let there: BTreeSet<u64> = cache.iter().map(|session| *session.payload()).collect();
            prop_assert_eq!(&there, &order.live);
        }
    }
}
