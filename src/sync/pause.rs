//! Pauses before one atomic access in eight, for threads of the system: `--cfg chaos`.
//!
//! Threads that race on a few instructions hardly ever meet there, least of all where there are fewer
//! processors than threads. A pause gives the processor away, or spins, or sleeps. Which accesses pause
//! follows from `RESUMPTION_SEED` and the thread.

use std::cell::Cell;
use std::env;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// Where the random numbers of the process begin.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let seed = env::var("RESUMPTION_SEED").ok().and_then(|seed| seed.parse().ok());
    seed.unwrap_or(1)
});

thread_local!(static RANDOM: Cell<u64> = const { Cell::new(0) });

/// Pauses, or does not.
pub(super) fn pause() {
    let mut random = RANDOM.get();
    if random == 0 {
        // Odd, hence never zero, where the generator would stay.
        let thread = super::thread_index() as u64;
        random = SEED.wrapping_add(thread << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }
    // Marsaglia's xorshift; its high bits are the better ones.
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    RANDOM.set(random);
    match random >> 54 {
        0 => thread::sleep(Duration::from_micros(1)),
        1..64 => thread::yield_now(),
        64..128 => (0..random & 255).for_each(|_| std::hint::spin_loop()),
        _ => {}
    }
}
