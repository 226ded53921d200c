//! The drop of a scope is one step, however many sessions there are; their removal follows in batches.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use resumption::{Dispatch, Reason, RemovedSession, Scope, SessionCache, Sessions};

use support::{Random, id};

/// Sessions of the scope that is dropped.
const MANY: u64 = 1_000_000;
/// Sessions of another one, which stay.
const OTHERS: u64 = 1_000;
/// No batch removes more.
const BATCH: u64 = 1_024;

/// Callbacks run in the drop's own thread, after each of its batches.
fn filled() -> (SessionCache<u64>, Sessions<u64>, Sessions<u64>) {
    let builder = SessionCache::builder().unlimited().without_ticker().dispatch(Dispatch::Inline);
    let cache: SessionCache<u64> = builder.build().expect("sane settings");
    let (web, mail) = (cache.scope(&Scope::new("web")), cache.scope(&Scope::new("mail")));
    for number in 0..MANY {
        assert!(web.put(&id(number), number).is_stored());
    }
    for number in 0..OTHERS {
        assert!(mail.put(&id(number), number).is_stored());
    }
    (cache, web, mail)
}

/// Looked at from the first call of the remove callback, in the middle of the drop. A drop that removed one session
/// after another, or that kept others out, would fail here.
#[test]
fn a_million_sessions_are_unfindable_before_they_are_removed() {
    let (cache, web, mail) = filled();
    let (told, own) = (Arc::<AtomicU64>::default(), cache.clone());
    let calls = Arc::clone(&told);
    let on_remove = move |removed: RemovedSession<u64>| {
        if calls.fetch_add(1, SeqCst) > 0 {
            return;
        }
        assert_eq!(removed.reason(), Reason::ScopeDropped);
        let there = own.len() as u64;
        assert!(there >= MANY + OTHERS - BATCH, "{there} are there");
        let mut random = Random::new(1);
        let ids: Vec<_> = (0..10_000).map(|_| id(random.below(MANY))).collect();
        assert!(ids.iter().all(|id| !web.contains(id)), "one is found before it is removed");
        assert!(ids.iter().all(|id| web.get(id).is_none() && web.take(id).is_none()));
        // Under the dropped scope, and under another by another thread: a lock would never be free.
        assert!(web.put(&id(MANY), 1).is_stored() && web.get(&id(MANY)).is_some());
        thread::scope(|threads| {
            threads.spawn(|| {
                assert!(mail.put(&id(OTHERS), OTHERS).is_stored());
                assert!((0..=OTHERS).all(|number| mail.get(&id(number)).is_some()));
            });
        });
        assert_eq!(own.len() as u64, there + 2, "the drop has not gone on meanwhile");
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).expect("no threads are needed");
    assert_eq!(cache.drop_scope(&Scope::new("web")) as u64, MANY);
    let stats = cache.stats();
    assert_eq!(stats.callbacks_panicked, 0, "what the callback saw is wrong");
    assert_eq!((told.load(SeqCst), stats.removals.scope_dropped), (MANY, MANY));
    assert_eq!(stats.sessions, OTHERS + 2);
    // It holds the cache.
    cache.set_on_remove(None).expect("no threads are needed");
}

/// The counts go down with the sweep, batch by batch, and agree at each call.
#[test]
fn what_a_drop_removes_leaves_in_bounded_batches() {
    let (cache, _web, _mail) = filled();
    let charge = cache.bytes() as u64 / (MANY + OTHERS);
    let [last, most, wrong] = [MANY + OTHERS, 0, 0].map(|start| Arc::new(AtomicU64::new(start)));
    let (own, seen) = (cache.clone(), [&last, &most, &wrong].map(Arc::clone));
    let on_remove = move |_| {
        let [last, most, wrong] = &seen;
        let stats = own.stats();
        let left = last.swap(stats.sessions, SeqCst) - stats.sessions;
        most.fetch_max(left, SeqCst);
        let is_right = stats.bytes == stats.sessions * charge
            && stats.sessions + stats.removals.scope_dropped == MANY + OTHERS;
        wrong.fetch_add(u64::from(!is_right), SeqCst);
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).expect("no threads are needed");
    assert_eq!(cache.drop_scope(&Scope::new("web")) as u64, MANY);
    assert_eq!((wrong.load(SeqCst), cache.stats().callbacks_panicked), (0, 0));
    let most = most.load(SeqCst);
    assert!(most > 0 && most <= BATCH, "{most} have left at once");
    assert_eq!(last.load(SeqCst), OTHERS, "the last call saw the last of them gone");
    cache.set_on_remove(None).expect("no threads are needed");
}
