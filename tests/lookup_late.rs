//! Futures that every lookup has left, at the end of their time: a lookup that comes just then is answered.

#[path = "support/later.rs"]
mod later;
mod support;

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use later::{Gate, Hook, found, poll, poll_with};
use resumption::{Answer, Dispatch, Lookup, Scope, SessionCache, Sessions, Want};
use support::id;

/// A cache without threads, that keeps what lookups have left for no time.
fn cache() -> (SessionCache<u64>, Sessions<u64>) {
    let builder = SessionCache::builder().without_ticker().dispatch(Dispatch::Manual);
    let cache = builder.lookup_timeout(Duration::from_millis(1)).build().unwrap();
    let sessions = cache.scope(&Scope::new("web"));
    (cache, sessions)
}

/// A lookup that has asked is dropped, and the time for its future is over.
fn leave(sessions: &Sessions<u64>) {
    let mut lookup = sessions.lookup(&id(1), Want::Get).within(Duration::MAX);
    assert!(poll(&mut lookup).is_pending());
    drop(lookup);
    thread::sleep(Duration::from_millis(10));
}

/// Another lookup, which comes when the hook runs, and has to wait.
fn comes_in(hook: &Hook, sessions: &Sessions<u64>) -> Arc<Mutex<Lookup<u64>>> {
    let second = sessions.lookup(&id(1), Want::Get).within(Duration::MAX);
    let second = Arc::new(Mutex::new(second));
    let comes = Arc::clone(&second);
    hook.set(move || {
        let look = || assert!(poll(&mut *comes.lock().unwrap()).is_pending());
        // On a thread of its own: a callback waits for no other.
        thread::scope(|scope| scope.spawn(look).join().unwrap());
    });
    second
}

#[test]
fn a_lookup_that_comes_in_the_last_poll_goes_on_with_the_future() {
    let (cache, sessions) = cache();
    let (gate, hook) = (Arc::<Gate>::default(), Hook::default());
    let (own, in_poll) = (Arc::clone(&gate), hook.clone());
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (mut passed, mut found) = (own.passed(), Some(found(proposed, 7)));
        let in_poll = in_poll.clone();
        Answer::later(poll_fn(move |cx: &mut Context<'_>| {
            if !in_poll.has_run() {
                in_poll.run();
                return Poll::Pending;
            }
            let passed = poll_with(&mut passed, cx.waker());
            passed.map(|()| found.take().map_or(Answer::Nothing, Answer::Give))
        }))
    })));
    leave(&sessions);
    let second = comes_in(&hook, &sessions);
    gate.open();
    cache.poll_callbacks();
    assert_eq!((hook.has_run(), cache.stats().callbacks_panicked), (true, 0));
    assert!(matches!(poll(&mut *second.lock().unwrap()), Poll::Ready(Some(_))));
    assert_eq!(cache.stats().get_called, 1);
}

#[test]
fn a_lookup_that_comes_as_the_future_is_dropped_asks_anew() {
    struct Runs(Hook);
    impl Drop for Runs {
        fn drop(&mut self) {
            self.0.run();
        }
    }
    let (cache, sessions) = cache();
    let (gate, hook) = (Arc::<Gate>::default(), Hook::default());
    let (own, in_drop) = (Arc::clone(&gate), hook.clone());
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (passed, runs) = (own.passed(), Runs(in_drop.clone()));
        let found = found(proposed, 7);
        Answer::later(async move {
            passed.await;
            drop(runs);
            Answer::Give(found)
        })
    })));
    leave(&sessions);
    let second = comes_in(&hook, &sessions);
    cache.poll_callbacks();
    assert_eq!((hook.has_run(), cache.stats().callbacks_panicked), (true, 0));
    gate.open();
    let found = poll_with(&mut *second.lock().unwrap(), Waker::noop());
    assert!(matches!(found, Poll::Ready(Some(_))));
    assert_eq!(cache.stats().get_called, 2);
}
