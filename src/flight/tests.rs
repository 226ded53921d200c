use super::*;
use crate::reclaim::gauge::Lease;
use crate::scope::{Registry, Scope};
use crate::table::SessionId;

fn name(number: u64, scope: &ScopeEntry) -> Name {
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Name { hash, scope: scope.slot(), id: SessionId::from(id) }
}

/// However many lookups wait, one more is found in constant time.
#[test]
fn the_table_grows_with_the_flights() {
    let lease = Lease::new(usize::MAX);
    let flights = Flights::<u64>::new(lease.gauges());
    let scope = Registry::new().attach(&Scope::new("web"));
    let askers: Vec<_> = (1..=2_000u64)
        .map(|number| match flights.begin(&name(number, &scope), &scope, Want::Get, false) {
            Begun::Asks(asker) => asker,
            _ => panic!("nobody else asks"),
        })
        .collect();
    assert!(flights.table.cells() >= 1_000, "{} cells", flights.table.cells());
    drop(askers);
    assert_eq!(flights.count.load(Ordering::Relaxed), 0);
}

/// Whoever else is aboard.
#[test]
fn what_lands_as_a_lookup_leaves_is_its_own_still() {
    let lease = Lease::new(usize::MAX);
    let flights = Flights::<u64>::new(lease.gauges());
    let scope = Registry::new().attach(&Scope::new("web"));
    let name = name(1, &scope);
    let begin = || flights.begin(&name, &scope, Want::Get, true);
    let Begun::Asks(asker) = begin() else { panic!("nobody else asks") };
    let seats = [(); 2].map(|()| match begin() {
        Begun::Joins(seat) => seat,
        _ => panic!("it is asked for"),
    });
    let node = NewNode::new(&name, 0, 0, 7, false);
    asker.land(&Session::new(node.into_handle(lease.gauges())), || {});
    for seat in seats {
        let Left::Session(Some(session)) = seat.leave(Waker::noop()) else {
            panic!("it was shown to all")
        };
        assert_eq!(*session.payload(), 7);
    }
}
