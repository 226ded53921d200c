//! The ends of what settings may say: no lifetime, endless ones, no headers that may wait.

mod support;

use std::time::Duration;

use resumption::{BuildError, Clock, SessionCache};

use support::{HOUR, MINUTE, manual};

const MILLISECOND: Duration = Duration::from_millis(1);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Shorter than the cache can tell from none.
const TOO_SHORT: [Duration; 2] = [Duration::ZERO, Duration::from_micros(999)];

/// What is told, and what is read back.
#[test]
fn a_lifetime_is_read_back_in_whole_milliseconds() {
    let most = Duration::from_millis(u64::MAX);
    let told = [
        (HOUR, HOUR),
        (MILLISECOND, MILLISECOND),
        (MILLISECOND * 2 - MICROSECOND, MILLISECOND),
        (most, most),
        (Duration::MAX, most),
    ];
    for (told, read) in told {
        let builder = SessionCache::<u8>::builder().lifetime(told).clock(Clock::manual());
        let cache = builder.without_ticker().build().expect("a lifetime");
        assert_eq!(cache.lifetime(), read, "built with {told:?}");
        cache.set_lifetime(MINUTE);
        cache.set_lifetime(told);
        assert_eq!(cache.clone().lifetime(), read, "set to {told:?}");
    }
    for told in TOO_SHORT {
        let built = SessionCache::<u8>::builder().lifetime(told).build();
        assert!(matches!(built, Err(BuildError::NoLifetime)), "built with {told:?}");
        let (cache, ..) = manual::<u8>(10, HOUR);
        cache.set_lifetime(told);
        assert_eq!(cache.lifetime(), Duration::ZERO, "set to {told:?}");
    }
}
