//! Sessions that are in one block with their bytes, and those whose bytes are too many for that: every way
//! in and out, by several threads, of any length. Worth most under AddressSanitizer (`cargo xtask
//! sanitize address`), for which freed blocks go back to the allocator, and are not used again.

mod support;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use resumption::{
    Answer, Connection, Dispatch, Found, Put, Scope, SecretBytes, Session, SessionCache, SessionId,
    Sessions, Verdict,
};

use support::{HOUR, Random, id, number};

const THREADS: u64 = 4;
const IDS: u64 = 64;
const CALLS: u64 = if cfg!(miri) { 20 } else { 20_000 };
/// More than what has room for a header.
const LONGEST: u64 = 2_000;
const HELD: usize = 8;

fn bytes(key: u64, len: u64) -> SecretBytes {
    (0..len).map(|at| (key * 31 + at * 7) as u8).collect::<Vec<_>>().into()
}

fn is_whole(id: &SessionId, payload: &SecretBytes) -> bool {
    *payload == bytes(number(id), payload.len() as u64)
}

#[track_caller]
fn assert_whole(id: &SessionId, payload: &SecretBytes) {
    assert!(is_whole(id, payload), "{id:?} has other bytes");
}

fn end(session: Session) {
    let other = session.clone();
    drop(session);
    assert_whole(other.id(), other.payload());
}

/// A call of some kind. What it finds is held for some calls.
fn call(web: &Sessions, random: &mut Random, held: &mut Vec<Session>) {
    let (id, len) = (id(random.below(IDS)), random.below(LONGEST));
    let new = bytes(number(&id), len);
    let put = match random.below(8) {
        0 | 1 => web.put(&id, new),
        2 => web.put_if_absent(&id, new),
        3 => web.put_from(&id, new, Connection::server().context(len)),
        kind => {
            held.extend(if kind < 6 { web.get(&id) } else { web.take(&id) });
            if held.len() > HELD {
                end(held.swap_remove(random.below(HELD as u64) as usize));
            }
            return;
        }
    };
    match put {
        Put::Stored => {}
        Put::Replaced(session) => held.push(session),
        Put::Refused(_, payload) => {
            assert_whole(&id, &payload);
            let copy = payload.clone();
            drop(web.put(&id, payload));
            assert_whole(&id, &copy);
        }
    }
}

/// The threads drop the cache, and hold sessions of it then.
fn by_many_threads(cache: SessionCache) {
    let web = cache.scope(&Scope::new("web"));
    let start = Arc::new(Barrier::new(THREADS as usize));
    let threads = (0..THREADS).map(|at| {
        let (cache, web, start) = (cache.clone(), web.clone(), Arc::clone(&start));
        thread::spawn(move || {
            let (mut held, mut random) = (Vec::new(), Random::new(at));
            start.wait();
            for _ in 0..CALLS {
                call(&web, &mut random, &mut held);
            }
            drop((cache, web));
            held.into_iter().for_each(end);
        })
    });
    let threads: Vec<_> = threads.collect();
    drop((cache, web));
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
}

fn cache(dispatch: Dispatch) -> SessionCache {
    let builder = SessionCache::builder().max_sessions(IDS as usize / 2).lifetime(HOUR);
    builder.dispatch(dispatch).without_ticker().build().expect("sane settings")
}

#[test]
fn sessions_of_any_length_are_whole_until_they_are_dropped() {
    by_many_threads(cache(Dispatch::Inline));
}

/// With callbacks there are nodes with a context, nodes without a payload, and references of events.
#[test]
fn so_are_those_that_callbacks_are_told_of() {
    let cache = cache(Dispatch::Inline);
    // Counted, for a callback's panic ends there.
    let [told, torn] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let look = {
        let (told, torn) = (Arc::clone(&told), Arc::clone(&torn));
        move |session: &Session| {
            told.fetch_add(1, Ordering::SeqCst);
            let is_torn = !is_whole(session.id(), session.payload());
            torn.fetch_add(u64::from(is_torn), Ordering::SeqCst);
        }
    };
    let verdict = |len: usize| if len.is_multiple_of(5) { Verdict::Reject } else { Verdict::Keep };
    let look_too = look.clone();
    let on_new = cache.set_on_new(Some(Arc::new(move |new| {
        look(new.session());
        verdict(new.session().payload().len())
    })));
    let on_remove = cache.set_on_remove(Some(Arc::new(move |removed| {
        removed.session().into_iter().for_each(&look_too);
    })));
    assert!(on_new.is_ok() && on_remove.is_ok(), "no thread has to be started");
    cache.set_on_get(Some(Arc::new(|proposed| {
        let key = number(proposed.id());
        if key.is_multiple_of(3) {
            return Answer::Nothing;
        }
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        Answer::Give(Found::new(id, scope, bytes(key, key * 30), HOUR))
    })));
    by_many_threads(cache);
    assert!(told.load(Ordering::SeqCst) > 0);
    assert_eq!(torn.load(Ordering::SeqCst), 0, "callbacks were told of other bytes");
}

/// A payload that comes back was a session's, or nearly, and serves for another one.
#[test]
fn a_payload_that_comes_back_is_good_for_another_put() {
    let cache = cache(Dispatch::Inline);
    let web = cache.scope(&Scope::new("web"));
    for len in [0, 1, 935, 936, 937, 1_024, 100_000] {
        assert!(web.put(&id(1), bytes(1, 10)).is_stored());
        let mut payload = bytes(2, len);
        for _ in 0..3 {
            let Put::Refused(_, back) = web.put_if_absent(&id(1), payload) else {
                panic!("there is one")
            };
            payload = back;
        }
        let here = payload.as_ptr();
        assert!(matches!(web.put(&id(2), payload), Put::Stored | Put::Replaced(_)));
        let session = web.take(&id(2)).expect("it was put");
        assert_eq!(session.payload().as_ptr(), here, "bytes are not moved");
        end(session);
        assert!(web.remove(&id(1)));
    }
}

/// A session that is dropped as its thread ends, when what the thread keeps of blocks is gone, and its place
/// in the epoch too.
#[test]
fn a_session_may_end_with_its_thread() {
    struct Last(Option<Session>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.take().into_iter().for_each(end);
            drop(bytes(3, 100).clone());
        }
    }
    // Used first, and so dropped last; or the other way round.
    thread_local!(static LAST: RefCell<Last> = const { RefCell::new(Last(None)) });
    for is_first in [true, false] {
        let ran = thread::spawn(move || {
            if is_first {
                LAST.with(|_| ());
            }
            let web = cache(Dispatch::Inline).scope(&Scope::new("web"));
            assert!(web.put(&id(1), bytes(1, 100)).is_stored());
            LAST.with_borrow_mut(|last| last.0 = web.take(&id(1)));
        });
        ran.join().expect("no thread panics");
    }
}
