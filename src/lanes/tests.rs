use std::cell::Cell;

use super::*;
use crate::expiry::capacity::Account;
use crate::reclaim::gauge::Lease;
use crate::table::{Entry, NewNode, SessionId};

const SECOND: u64 = 1_000;
const LIFETIME: u64 = 7_200 * SECOND;

/// Lanes and a shard, and puts into them.
struct Bench {
    shards: Shards<u64>,
    lanes: Lanes,
    _lease: Lease,
}

impl Bench {
    fn new(lanes: usize) -> Self {
        let lease = Lease::new(usize::MAX);
        let lanes = Lanes::new(0, &Account::of_lanes(lanes), lease.gauges());
        Self { shards: Shards::new(4, lease.gauges()), lanes, _lease: lease }
    }

    fn name(number: u64) -> Name {
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
        let id = SessionId::try_from(&number.to_le_bytes()[..]).expect("eight bytes");
        Name { hash, scope: 0, id }
    }

    /// Links a session that expires at `due`, without a hint; returns its hint.
    fn link(&self, lane: usize, number: u64, due: Due) -> Hint {
        let name = Self::name(number);
        let table = &self.shards.of(name.hash).table;
        let node = NewNode::new(&name, 0, due.to_word(), number, false);
        let guard = pin();
        let Entry::Vacant(place) = table.entry(&name, table.spot(name.hash), &guard) else {
            panic!("a number is put once")
        };
        let Ok(linked) = place.insert(node, &guard) else { panic!("nobody else is there") };
        let hint = Hint::new(name.hash, linked.stamp());
        drop(guard);
        self.lanes.add(lane, Counts::of(true, false));
        hint
    }

    fn put(&self, lane: usize, number: u64, now: u64) {
        let hint = self.link(lane, number, Due::new(now, LIFETIME));
        self.lanes.file(lane, hint, now + LIFETIME, now);
    }

    /// Counts what has left, in this lane, and says which it was.
    fn left(&self, lane: usize, departed: &Departed<u64>) -> Vec<u64> {
        let numbers: Vec<u64> = departed.iter().map(|(unlinked, _)| *unlinked.payload()).collect();
        self.lanes.add(lane, Counts::of_sessions(numbers.len() as u64).negative());
        numbers
    }

    fn evict(&self, lane: usize, now: u64) -> Vec<u64> {
        let wanted = Wanted { sessions: BATCH, weight: u64::MAX };
        let departed = self.lanes.evict(lane, &self.shards, now, wanted, &Name::NOBODY, |_| false);
        self.left(lane, &departed)
    }

    /// Takes a session, in this lane.
    fn take(&self, lane: usize, number: u64) {
        let name = Self::name(number);
        let table = &self.shards.of(name.hash).table;
        let guard = pin();
        let found = table.get(&name, table.spot(name.hash), &guard).expect("it was put");
        let unlinked = table.remove(found, None);
        drop(guard);
        assert!(unlinked.is_some());
        self.lanes.add(lane, Counts::of_sessions(1).negative());
    }
}

/// Another session had left it, in a block that serves for this one now. Filed again as due at once, it would be
/// met until somebody shows the session.
#[test]
fn a_hint_that_leads_to_an_unseen_session_is_dropped() {
    const NOW: u64 = 1_000_000;
    let bench = Bench::new(1);
    let (lanes, shards) = (&bench.lanes, &bench.shards);
    let hint = bench.link(0, 1, Due::PROVISIONAL);

    lanes.file(0, hint, 1, 0);
    let expired = lanes.expire(0, shards, NOW, BATCH).expect("it is due");
    assert_eq!((expired.sessions.len(), lanes.counts().hints()), (0, 0));

    lanes.file(0, hint, 1, NOW);
    let (wanted, rounds) = (Wanted { sessions: 1, weight: u64::MAX }, Cell::new(0));
    let has_room = |_| rounds.replace(rounds.get() + 1) > 100;
    let evicted = lanes.evict(0, shards, NOW, wanted, &Name::NOBODY, has_room);
    assert_eq!((evicted.sessions.len(), lanes.counts().hints()), (0, 0));
    assert_eq!(lanes.counts().live(), 1);
}

#[test]
fn a_thread_evicts_from_its_own_lane_while_all_put_as_often() {
    let bench = Bench::new(2);
    let put = |number| bench.put((number % 2) as usize, number, number * 100);
    (0..2_000).for_each(put);
    for round in 0..100 {
        let lane = round % 2;
        let evicted = bench.evict(lane, 200_000);
        assert!(!evicted.is_empty() && evicted.iter().all(|number| number % 2 == lane as u64));
    }
}

#[test]
fn what_a_thread_has_left_behind_leaves_before_what_is_newer() {
    for lanes in [2, 8] {
        let bench = Bench::new(lanes);
        // One thread has filled the cache, and then another one puts.
        (0..4_000).for_each(|number| bench.put(1, number, number * 10));
        let mut newer = 0;
        for number in 4_000..6_000 {
            let now = number * 10;
            bench.put(0, number, now);
            if number % BATCH as u64 == 0 {
                newer += bench.evict(0, now).iter().filter(|&&number| number >= 4_000).count();
            }
        }
        assert!(newer <= 2 * BATCH, "{newer} of the new ones, of {lanes} lanes");
    }
}

/// Its hints fill no segment in hours; they are dated all the same.
#[test]
fn a_thread_that_puts_seldom_loses_its_sessions_no_sooner() {
    const RATIO: u64 = 50;
    let bench = Bench::new(4);
    let lane_of = |number: u64| if number.is_multiple_of(RATIO) { 1 } else { 0 };
    let mut ages = [Vec::new(), Vec::new()];
    for number in 0..60_000 {
        let now = number * 10;
        bench.put(lane_of(number), number, now);
        if number > 10_000 && number % BATCH as u64 == 0 {
            for evicted in bench.evict(0, now) {
                ages[lane_of(evicted)].push(number - evicted);
            }
        }
    }
    let [often, seldom] = ages.map(|mut ages| {
        ages.sort_unstable();
        ages[ages.len() / 2]
    });
    // Of 10 000 sessions that all live as long.
    assert!(often.abs_diff(10_000) < 1_000 && seldom.abs_diff(10_000) < 3_000, "{often}, {seldom}");
}

#[test]
fn what_is_due_leaves_in_whatever_lane_it_is() {
    let bench = Bench::new(4);
    (0..100).for_each(|number| bench.put((number % 4) as usize, number, 0));
    let now = LIFETIME + LIFETIME / 4;
    assert!(bench.lanes.may_be_due(now));
    let mut expired = Vec::new();
    while let Some(departed) = bench.lanes.expire(2, &bench.shards, now, BATCH) {
        expired.extend(bench.left(2, &departed));
    }
    expired.sort_unstable();
    assert!(expired.into_iter().eq(0..100));
    assert!(!bench.lanes.may_be_due(now), "nothing more in this span");
    assert_eq!(bench.lanes.counts(), Counts::default());
}

#[test]
fn stale_hints_are_found_in_whatever_lane_they_are() {
    let bench = Bench::new(4);
    // Each lane but the last one puts, and the last one takes.
    (0..3_000).for_each(|number| bench.put((number % 3) as usize, number, 0));
    (0..2_900).for_each(|number| bench.take(3, number));
    let mut looks = 0;
    while bench.lanes.counts().hints() > 200 {
        let departed = bench.lanes.compact(&bench.shards, SECOND);
        assert!(bench.left(3, &departed).is_empty(), "nothing is due");
        looks += 1;
    }
    // Each hint was looked at once, about: some stay in their lists.
    assert!(looks < 2 * 3_000 / BATCH, "{looks}");
    assert_eq!(bench.lanes.counts().live(), 100);
}

#[test]
fn a_lane_knows_about_what_the_others_have_counted() {
    let bench = Bench::new(4);
    for number in 0..10_000 {
        bench.put((number % 4) as usize, number, 0);
        let (known, all) = (bench.lanes.lane(0).all(), bench.lanes.counts());
        // Each of the other three has changed as often as the own one since: twice for each put.
        assert!(all.live() - known.live() <= 3 * 16, "{known:?} of {all:?}");
    }
}

/// In a full cache a lane's counts go up and down within a few places, and the others' change under it.
#[test]
fn a_lane_looks_around_however_little_its_own_counts_change() {
    let bench = Bench::new(32);
    (0..3_110).for_each(|number| bench.put(0, number, 0));
    (10_000..20_000).for_each(|number| bench.put(1, number, 0));
    for round in 0..20 {
        (0..BATCH as u64).for_each(|put| bench.put(0, 100_000 + round * 100 + put, 0));
        assert!(!bench.evict(0, 0).is_empty());
    }
    let known = bench.lanes.lane(0).all();
    assert!(known.live().abs_diff(13_110) < 100, "{known:?}");
}

/// Whoever came for what expires sooner goes when that is gone.
#[test]
fn nobody_stays_in_a_lane_beyond_the_slot_for_which_it_was_chosen() {
    const SOON: u64 = 60 * SECOND;
    let bench = Bench::new(8);
    for number in 0..4_000 {
        bench.put((number % 8) as usize, number, number);
    }
    for number in 4_000..4_100 {
        let hint = bench.link(3, number, Due::new(0, SOON));
        bench.lanes.file(3, hint, SOON, 0);
    }
    let mut of_the_lane = 0;
    for round in 0..100 {
        let evicted = bench.evict(round % 8, 4_000);
        of_the_lane += evicted.iter().filter(|&&number| number < 4_000 && number % 8 == 3).count();
    }
    // A turn of its own threads is every eighth.
    assert!(of_the_lane < 100 * BATCH / 8 * 2, "{of_the_lane}");
}

/// Which sessions were used is told apart from which are new, also where a lane has the oldest of the one kind.
#[test]
fn the_lane_of_the_oldest_kept_session_loses_no_new_ones_for_it() {
    let bench = Bench::new(2);
    let spare = |number: u64| {
        let lane = bench.lanes.lane(1);
        let hint = bench.link(1, number, Due::new(0, LIFETIME));
        bench.lanes.add(1, Counts::HINT);
        lane.file_rest(&[Unfiled { hint, due: LIFETIME, row: lane.wheel.spared() }], 0, |_| 0);
    };
    (0..50).for_each(spare);
    for number in 1_000..3_000 {
        bench.put(0, number, 100 * SECOND + number);
    }
    for number in 3_000..3_040 {
        bench.put(1, number, 300 * SECOND);
    }
    bench.lanes.look_around(0);
    let now = 301 * SECOND;
    let (kept, at) = bench.lanes.source(0, Age::Kept, now).expect("there are kept ones");
    assert_eq!((kept, at.row() == Row::FRESH), (1, false));
    for _ in 0..20 {
        let (fresh, at) = bench.lanes.source(0, Age::Fresh, now).expect("there are new ones");
        assert_eq!((fresh, at.row()), (0, Row::FRESH));
    }
}

/// An extension files a hint, too, and so looks around.
#[test]
fn hints_that_are_filed_again_count_as_changes() {
    let bench = Bench::new(2);
    (0..1_000).for_each(|number| bench.put(0, number, 0));
    bench.lanes.look_around(1);
    assert_eq!(bench.lanes.lane(1).all().live(), 1_000);
    (0..1_000).for_each(|number| bench.take(0, number));
    let hint = bench.link(1, 5_000, Due::new(0, LIFETIME));
    for _ in 0..16 {
        bench.lanes.file(1, hint, LIFETIME, 0);
    }
    assert_eq!(bench.lanes.lane(1).all().live(), 1);
    assert!(bench.lanes.lane(1).all().has_too_many_hints());
}

#[test]
fn compaction_makes_nothing_younger() {
    let bench = Bench::new(2);
    (0..2_000).for_each(|number| bench.put(0, number, number * 100));
    let now = 200 * SECOND;
    let lane = bench.lanes.lane(0);
    let since = || {
        let (_, list) = lane.wheel.front(Age::Fresh).expect("there are hints");
        lane.wheel.since(list, now, &pin())
    };
    let before = since();
    for _ in 0..2_000 / BATCH {
        assert!(bench.left(0, &bench.lanes.compact(&bench.shards, now)).is_empty());
    }
    // The last segment was not full, and the first hints that were filed again are behind what it had.
    (0..8).for_each(|_| drop(bench.evict(0, now)));
    assert!(since().abs_diff(before) < 20 * SECOND, "{before}, {}", since());
}
