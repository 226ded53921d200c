//! What is done to the caches, the same for all of them.

use crate::caches::Cache;
use crate::honest::Id;
use crate::ids::{id, mix};

/// The payload of a session number: about 250 bytes, of a length between 200 and 300.
pub(crate) fn payload(number: u64) -> &'static [u8] {
    static BYTES: [u8; 300] = [0x5a; 300];
    &BYTES[..200 + (mix(number) % 101) as usize]
}

/// A steady stream of work on one cache by one thread.
///
/// It is what TLS 1.3 does to a store: each handshake puts two tickets; some time later one of them
/// is taken. The other one stays until it is evicted. Numbers of sessions are a thread's own.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Above all numbers of this stream.
    base: u64,
    /// Handshakes made.
    step: u64,
    /// A ticket is taken between one and twice so many handshakes after it was put, out of order.
    delay: u64,
    random: u64,
}

impl Stream {
    /// The stream of thread `thread` of `threads` on a cache of `sessions`.
    pub(crate) fn new(thread: u64, threads: u64, sessions: usize) -> Self {
        let share = (sessions as u64 / threads / 8).max(2);
        let delay = 1 << share.ilog2();
        Self { base: thread << 40, step: 0, delay, random: mix(thread) }
    }

    /// The id of one of the two tickets of a handshake.
    fn ticket(&self, step: u64, which: u64) -> Id {
        id(self.base + 2 * step + which)
    }

    /// Makes `steps` handshakes: puts two sessions, takes one. Returns how many takes found theirs, in
    /// percent.
    pub(crate) fn churn(&mut self, cache: &dyn Cache, steps: u64) -> f64 {
        let mut found = 0;
        for _ in 0..steps {
            for which in 0..2 {
                cache.put(&self.ticket(self.step, which), payload(2 * self.step + which));
            }
            let taken = cache.take(&self.ticket(self.returning(), 0));
            found += u64::from(std::hint::black_box(taken).is_some());
            self.step += 1;
        }
        found as f64 * 100.0 / steps as f64
    }

    /// The handshake whose client comes back now: the block of steps before, in another order, each
    /// once.
    fn returning(&self) -> u64 {
        let (block, offset) = (self.step / self.delay, self.step % self.delay);
        let shuffled = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.delay;
        block.wrapping_sub(1).wrapping_mul(self.delay).wrapping_add(shuffled)
    }

    /// Puts the first `sessions` sessions of the stream that [`hit`](Self::hit) looks for.
    pub(crate) fn fill(&self, cache: &dyn Cache, sessions: u64) {
        for number in 0..sessions {
            cache.put(&id(self.base + number), payload(number));
        }
    }

    /// Looks `steps` times for one of those sessions, at random. Returns how many were found, in
    /// percent.
    ///
    /// In a rush the processor begins the next lookup while it waits for memory. `one_by_one` makes
    /// each id depend on the payload before, as if something else came in between: the time is then
    /// what one lookup takes.
    pub(crate) fn hit(
        &mut self,
        cache: &dyn Cache,
        sessions: u64,
        steps: u64,
        one_by_one: bool,
    ) -> f64 {
        let mut found = 0;
        for _ in 0..steps {
            self.random = mix(self.random);
            let number = (u128::from(self.random) * u128::from(sessions)) >> 64;
            let payload = cache.get(&id(self.base + number as u64));
            found += u64::from(payload.is_some());
            if one_by_one {
                self.random ^= u64::from(payload.unwrap_or(0));
            }
        }
        found as f64 * 100.0 / steps as f64
    }
}
