//! What puts do when many headers wait for the epoch.
//!
//! Headers wait for the pins of other threads. Where there are more threads than processors, now and then one of
//! them is interrupted under a pin, and gets a processor back when all others had theirs: for a tenth of a
//! second nothing is freed, and what two processors put meanwhile are hundreds of thousands of sessions. So before
//! the limit is reached, puts give the processor away now and then: then the interrupted thread has its
//! turn, and what waits can go. It is no waiting: nobody has to come back for a put to go on.

#![forbid(unsafe_code)]

#[cfg(not(shuttle))]
use std::thread::yield_now;

use super::Engine;
use crate::reclaim::flush;
#[cfg(shuttle)]
use crate::sync::yield_now;

/// Of so many puts in a crowd one gives way. More often, and it shows among the slowest puts of a thousand; less often, and
/// more waits.
const GIVES_WAY: u64 = 256;

/// Of so many puts above the limit one tries to free some of what waits; the first ones as long as it helps. The epoch
/// takes what a thread has retired in bags for 64, however few are in it; one for each refused put would be
/// many times the memory that waits.
const FREES: u64 = 64;

impl<S: Send + Sync + 'static> Engine<S> {
    /// Whether more headers wait than may, after an attempt to have fewer. In a crowd.
    #[cold]
    pub(super) fn is_overcrowded(&self) -> bool {
        let gauges = self.gauges();
        let attempt = gauges.attempt();
        let has_freed = gauges.is_over() && attempt.is_multiple_of(FREES) && self.free_some();
        if !has_freed && attempt.is_multiple_of(GIVES_WAY) {
            give_way();
            gauges.recount();
        }
        gauges.is_over() && gauges.recount()
    }

    /// Frees some of what waits for the epoch, as much as one step of it; `false` if that is nothing, because a thread
    /// has stopped, or is slow. If it is something, the next put above the limit tries again, too.
    #[cold]
    pub(super) fn free_some(&self) -> bool {
        let gauges = self.gauges();
        let before = gauges.waiting();
        flush();
        let is_less = gauges.waiting() < before;
        if is_less {
            gauges.free_again();
        }
        is_less
    }
}

/// Lets another thread have the processor, if there is one that could run. Not under a pin.
fn give_way() {
    #[cfg(test)]
    GIVEN_WAY.set(GIVEN_WAY.get() + 1);
    yield_now();
}

#[cfg(test)]
thread_local! {
    /// How often this thread has given way.
    static GIVEN_WAY: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::outcome::Refusal;
    use crate::reclaim::pin;
    use crate::{Put, Scope, SessionCache, SessionId, Sessions};

    const MANY: u64 = 100_000;

    /// A cache that is full, in which at most so many headers wait.
    fn full(most_waiting: usize) -> (SessionCache<u64>, Sessions<u64>) {
        let builder = SessionCache::builder().max_sessions(MANY as usize).without_ticker();
        let cache = builder.max_waiting_headers(most_waiting).build().expect("sane settings");
        let web = cache.scope(&Scope::new("web"));
        (0..MANY).for_each(|number| drop(web.put(&id(number), number)));
        (cache, web)
    }

    fn id(number: u64) -> SessionId {
        SessionId::try_from(&number.to_le_bytes()[..]).expect("eight bytes")
    }

    /// A thread that has stopped under a pin, and goes on when it is told to.
    fn stopped() -> (JoinHandle<()>, Sender<()>) {
        let (stopped, wait) = channel();
        let (go_on, resumed) = channel::<()>();
        let thread = thread::spawn(move || {
            let guard = pin();
            stopped.send(()).expect("the test waits");
            resumed.recv().expect("the test goes on");
            drop(guard);
        });
        wait.recv().expect("the thread stops");
        (thread, go_on)
    }

    /// One after the other: the epoch is the process's, and so is a thread that has stopped under a pin.
    #[test]
    fn puts_in_a_crowd_are_taken_in_the_end() {
        puts_give_way_in_a_crowd_and_only_there();
        puts_are_taken_soon_after_a_stopped_thread_goes_on();
    }

    fn puts_give_way_in_a_crowd_and_only_there() {
        const LIMIT: u64 = 40_000;
        let (cache, web) = full(LIMIT as usize);
        // Each replaces one.
        let given_way = |puts| {
            GIVEN_WAY.set(0);
            (0..puts).for_each(|number| drop(web.put(&id(number), 0)));
            GIVEN_WAY.get()
        };
        assert_eq!(given_way(LIMIT), 0, "nobody has stopped");
        let (thread, go_on) = stopped();
        assert_eq!(given_way(LIMIT / 8), 0, "no crowd yet");
        let about = LIMIT / 2 / GIVES_WAY;
        assert!((about / 2..=about).contains(&given_way(LIMIT / 2)), "a crowd");
        assert_eq!(cache.stats().refused, 0, "it is below the limit");
        go_on.send(()).expect("the thread waits");
        thread.join().expect("the thread ends");
        given_way(LIMIT / 8);
        assert_eq!(given_way(LIMIT), 0, "the crowd is gone");
    }

    fn puts_are_taken_soon_after_a_stopped_thread_goes_on() {
        let (_cache, web) = full(2_000);
        let (thread, go_on) = stopped();
        (0..MANY).for_each(|number| drop(web.take(&id(number))));
        let put = || web.put(&id(0), 0);
        for _ in 0..200 {
            assert!(matches!(put(), Put::Refused(Refusal::HeadersWaiting, 0)));
        }
        go_on.send(()).expect("the thread waits");
        thread.join().expect("the thread ends");
        // Each frees up to 512; by one in 64 it would take 12 000.
        let refused = (0..MANY).take_while(|_| !put().is_stored()).count();
        assert!(refused < 3_000, "{refused} puts were refused");
    }
}
