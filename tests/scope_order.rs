//! The drop of a scope, and what the callbacks are told and asked across it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{
    Answer, Dispatch, Found, NewSession, Proposed, Put, Reason, Refusal, RemovedSession, Scope,
    SessionCache, SessionId, Sessions, Verdict,
};

const MINUTE: Duration = Duration::from_secs(60);
const SCOPES: [&str; 4] = ["a", "b", "c", "d"];

fn id(number: u64) -> SessionId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from(bytes)
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < MINUTE, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A database keyed by scope and id that follows the calls, and how often a call was out of order.
#[derive(Clone, Default)]
struct Ledger {
    map: Arc<Mutex<HashMap<(String, SessionId), u64>>>,
    wrong: Arc<AtomicU64>,
}

impl Ledger {
    fn follow(&self, cache: &SessionCache<u64>) {
        let (new, removed) = (self.clone(), self.clone());
        let on_new = move |told: NewSession<u64>| {
            let key = (told.scope().name().to_owned(), *told.session().id());
            let before = new.map.lock().unwrap().insert(key, *told.session().payload());
            new.wrong.fetch_add(u64::from(before.is_some()), SeqCst);
            Verdict::Keep
        };
        let on_remove = move |told: RemovedSession<u64>| {
            let key = (told.scope().name().to_owned(), *told.id());
            let before = removed.map.lock().unwrap().remove(&key);
            let is_wrong = before != told.session().map(|session| *session.payload());
            removed.wrong.fetch_add(u64::from(is_wrong), SeqCst);
        };
        cache.set_on_new(Some(Arc::new(on_new))).unwrap();
        cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    }
}

/// What one thread does to ids that others use too.
fn churn(scopes: &[Sessions<u64>], ids: u64, thread: u64, steps: u64) {
    let mut random = Random::new(thread);
    for step in 0..steps {
        let web = &scopes[random.below(SCOPES.len() as u64) as usize];
        let id = id(random.below(ids));
        match random.below(8) {
            0 => drop(web.take(&id)),
            1 => drop(web.get(&id)),
            2 => drop(web.put_if_absent(&id, thread << 32 | step)),
            _ => drop(web.put(&id, thread << 32 | step)),
        }
    }
}

/// Everything that can be found, by scope and id.
fn content(scopes: &[Sessions<u64>], ids: u64) -> HashMap<(String, SessionId), u64> {
    let names = SCOPES.iter().zip(scopes);
    let all = names.flat_map(|(name, web)| (0..ids).map(move |number| (name, web, id(number))));
    all.filter_map(|(name, web, id)| Some((((*name).to_owned(), id), *web.get(&id)?.payload())))
        .collect()
}

/// The ledger ends with what the cache holds, and no call comes out of order, while scopes are
/// dropped over and over.
#[test]
fn a_ledger_by_scope_and_id_follows_dropped_scopes() {
    for (max, ids, dispatch) in [
        (100_000, 250, Dispatch::Workers(2)),
        (100_000, 250, Dispatch::Inline),
        (500, 250, Dispatch::Workers(2)),
        (100_000, 4, Dispatch::Workers(1)),
        (100_000, 4, Dispatch::Inline),
    ] {
        let what = format!("{max} sessions, {ids} ids, {dispatch:?}");
        let builder = SessionCache::builder().max_sessions(max).dispatch(dispatch);
        let cache = builder.max_waiting_callbacks(usize::MAX).build().unwrap();
        let ledger = Ledger::default();
        ledger.follow(&cache);
        let scopes = SCOPES.map(|name| cache.scope(&Scope::new(name)));
        let is_over = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                let mut random = Random::new(99);
                while !is_over.load(SeqCst) {
                    cache.drop_scope(&Scope::new(SCOPES[random.below(4) as usize]));
                }
            });
            let churners: Vec<_> = (0..8)
                .map(|thread| {
                    let scopes = &scopes;
                    threads.spawn(move || churn(scopes, ids, thread, 40_000))
                })
                .collect();
            churners.into_iter().for_each(|churner| churner.join().unwrap());
            is_over.store(true, SeqCst);
        });
        wait_until(|| cache.stats().callbacks_waiting == 0);
        assert_eq!(ledger.wrong.load(SeqCst), 0, "{what}: calls out of order");
        assert_eq!(*ledger.map.lock().unwrap(), content(&scopes, ids), "{what}");
        let stats = cache.stats();
        assert_eq!(stats.sessions as usize, ledger.map.lock().unwrap().len(), "{what}");
        assert_eq!((stats.new_called, stats.remove_called), (stats.puts, stats.removals.total()));
        // It is up to the system who runs when.
        assert!(stats.removals.scope_dropped > 10, "{what}: {stats:?}");
    }
}

/// Gives 5 for every id, and counts how often it is asked.
fn answers(cache: &SessionCache<u64>) -> Arc<AtomicU64> {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        count.fetch_add(1, SeqCst);
        give(proposed, 5)
    })));
    asked
}

fn give(proposed: &Proposed<'_>, payload: u64) -> Answer<u64> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    Answer::Give(Found::new(id, scope, payload, MINUTE))
}

fn manual() -> (SessionCache<u64>, Sessions<u64>) {
    let builder = SessionCache::builder().without_ticker().dispatch(Dispatch::Manual);
    let cache = builder.max_sessions(1_000_000).max_waiting_callbacks(usize::MAX).build().unwrap();
    let web = cache.scope(&Scope::new("web"));
    (cache, web)
}

/// A database that lags: it has not heard yet that the scope was dropped.
#[test]
fn a_dropped_session_is_not_asked_for_until_it_is_told() {
    let (cache, web) = manual();
    cache.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
    let asked = answers(&cache);
    for drops in 1..4 {
        assert!(web.put(&id(1), 1).is_stored());
        for _ in 0..drops {
            cache.drop_scope(&Scope::new("web"));
        }
        assert!(web.get(&id(1)).is_none() && web.take(&id(1)).is_none());
        assert_eq!(asked.swap(0, SeqCst), 0, "its leaving is not told yet");
        let other = cache.scope(&Scope::new("other"));
        assert!(other.take(&id(1)).is_some() && web.take(&id(2)).is_some());
        assert_eq!(asked.swap(0, SeqCst), 2, "another scope is asked, and another id");
        cache.poll_callbacks();
        assert!(web.take(&id(1)).is_some(), "it is told now");
        assert_eq!(asked.swap(0, SeqCst), 1);
    }
}

/// Repeats what is a matter of who runs when, until `met` is true.
fn until_met(mut met: impl FnMut() -> bool) {
    assert!((0..50).any(|_| met()), "the sweep was over before anything met it");
}

/// As above, but the sweep is still under way: it has many sessions to remove.
#[test]
fn a_dropped_session_that_is_not_swept_yet_is_not_asked_for() {
    until_met(|| look_up_beside_a_sweep() > 0);
}

/// Returns how many lookups were made between the drop of the scope and the end of its sweep.
fn look_up_beside_a_sweep() -> u64 {
    const MANY: u64 = 20_000;
    let (cache, web) = manual();
    cache.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
    let asked = answers(&cache);
    for number in 0..MANY {
        assert!(web.put(&id(number), number).is_stored());
    }
    let (is_swept, met) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|threads| {
        threads.spawn(|| {
            cache.drop_scope(&Scope::new("web"));
            is_swept.store(true, SeqCst);
        });
        for thread in 0..3 {
            let (web, is_swept, met) = (&web, &is_swept, &met);
            threads.spawn(move || {
                while web.contains(&id(thread)) {
                    thread::yield_now();
                }
                // Against the order of the sweep, whatever that is.
                for number in (0..MANY).filter(|number| number % 3 == thread) {
                    let found =
                        if number % 2 == 0 { web.get(&id(number)) } else { web.take(&id(number)) };
                    assert!(found.is_none(), "{number} was dropped");
                    met.fetch_add(u64::from(!is_swept.load(SeqCst)), SeqCst);
                }
            });
        }
    });
    assert_eq!(asked.load(SeqCst), 0, "no leaving is told yet");
    let stats = cache.stats();
    assert_eq!((stats.sessions, stats.removals.scope_dropped), (0, MANY));
    assert_eq!(cache.poll_callbacks() as u64, MANY);
    met.into_inner()
}

/// A put takes the place of a dropped session: nobody is given that one, and it is told as dropped.
#[test]
fn a_put_follows_what_was_dropped() {
    until_met(|| put_beside_a_sweep() > 0);
}

/// Returns how many sessions left by puts, before the sweep has come to them.
fn put_beside_a_sweep() -> u64 {
    const MANY: u64 = 100_000;
    let (cache, web) = manual();
    let ledger = Ledger::default();
    ledger.follow(&cache);
    for number in 0..MANY {
        assert!(web.put(&id(number), number).is_stored());
    }
    let swept = thread::scope(|threads| {
        let drop = threads.spawn(|| cache.drop_scope(&Scope::new("web")));
        while web.contains(&id(0)) {
            thread::yield_now();
        }
        for number in (0..MANY).rev() {
            let put = if number % 2 == 0 {
                web.put(&id(number), MANY + number)
            } else {
                web.put_if_absent(&id(number), MANY + number)
            };
            assert!(matches!(put, Put::Stored), "{number}: {put:?}");
        }
        drop.join().unwrap() as u64
    });
    cache.poll_callbacks();
    assert_eq!(ledger.wrong.load(SeqCst), 0, "calls out of order");
    assert!(ledger.map.lock().unwrap().values().all(|&payload| payload >= MANY));
    let removals = cache.stats().removals;
    assert_eq!((cache.len() as u64, removals.scope_dropped, removals.total()), (MANY, MANY, MANY));
    MANY.checked_sub(swept).expect("no more was swept than there was")
}

/// A payload that does something when it is dropped.
struct Hook(u64, Option<Run>);

type Run = Box<dyn FnOnce() + Send + Sync>;

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(run) = self.1.take() {
            run();
        }
    }
}

/// A put has read its scope's slot when it evicts, and there the scope is dropped and a session of the
/// same id is put. It follows, and replaces that one as it would have a moment later.
#[test]
fn a_put_that_a_drop_overtakes_comes_after_it() {
    for if_absent in [false, true] {
        let builder = SessionCache::builder().max_sessions(2).without_ticker();
        let cache: SessionCache<Hook> = builder.dispatch(Dispatch::Manual).build().unwrap();
        let (web, other) = (cache.scope(&Scope::new("web")), cache.scope(&Scope::new("other")));
        let calls = Arc::new(Mutex::new(Vec::<(u64, Option<Reason>)>::new()));
        let (came, left) = (Arc::clone(&calls), Arc::clone(&calls));
        let on_new = move |told: NewSession<Hook>| {
            came.lock().unwrap().push((told.session().payload().0, None));
            Verdict::Keep
        };
        let on_remove = move |told: RemovedSession<Hook>| {
            left.lock().unwrap().push((
                told.session().expect("it was in the cache").payload().0,
                Some(told.reason()),
            ));
        };
        let (inner, inner_web) = (cache.clone(), web.clone());
        let overtake = move || {
            // Not before: while a leaving waits to be told, its payload is not dropped.
            inner.set_on_remove(Some(Arc::new(on_remove))).unwrap();
            inner.drop_scope(&Scope::new("web"));
            assert!(inner_web.put(&id(1), Hook(3, None)).is_stored());
        };
        let evicted = Hook(1, Some(Box::new(overtake)));
        assert!(other.put_with(&id(8), evicted, MINUTE).is_stored());
        assert!(other.put_with(&id(9), Hook(2, None), 10 * MINUTE).is_stored());
        cache.set_on_new(Some(Arc::new(on_new))).unwrap();
        let late = Hook(4, None);
        let put = if if_absent { web.put_if_absent(&id(1), late) } else { web.put(&id(1), late) };
        let found = web.get(&id(1)).expect("what was put after the drop stays").payload().0;
        cache.poll_callbacks();
        let calls =
            calls.lock().unwrap().iter().copied().filter(|call| call.0 > 2).collect::<Vec<_>>();
        if if_absent {
            assert!(matches!(put, Put::Refused(Refusal::Present, _)));
            assert_eq!((found, calls), (3, vec![(3, None)]));
        } else {
            assert!(matches!(put, Put::Replaced(old) if old.payload().0 == 3));
            let told = vec![(3, None), (3, Some(Reason::Replaced)), (4, None)];
            assert_eq!((found, calls), (4, told));
        }
        assert_eq!(cache.stats().removals.scope_dropped, 0);
    }
}

/// A cache of two sessions, both of another scope; what evicts the first one runs `run` in its middle.
fn full(run: impl FnOnce() + Send + Sync + 'static) -> (SessionCache<Hook>, Sessions<Hook>) {
    let builder = SessionCache::builder().max_sessions(2).without_ticker();
    let cache: SessionCache<Hook> = builder.dispatch(Dispatch::Inline).build().unwrap();
    let other = cache.scope(&Scope::new("other"));
    assert!(other.put_with(&id(8), Hook(8, Some(Box::new(run))), MINUTE).is_stored());
    assert!(other.put_with(&id(9), Hook(9, None), 10 * MINUTE).is_stored());
    let web = cache.scope(&Scope::new("web"));
    (cache, web)
}

fn give_hook(proposed: &Proposed<'_>) -> Answer<Hook> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    Answer::Give(Found::new(id, scope, Hook(5, None), MINUTE))
}

/// What a database gave before the scope was dropped does not enter it afterwards, not even in the
/// place of an expired session.
#[test]
fn an_answer_that_a_drop_overtakes_counts_for_nothing() {
    let inner = Arc::new(Mutex::new(None::<(SessionCache<Hook>, Sessions<Hook>)>));
    let of_hook = Arc::clone(&inner);
    let (cache, web) = full(move || {
        let (cache, web) = of_hook.lock().unwrap().take().expect("it is there");
        cache.drop_scope(&Scope::new("web"));
        assert!(web.put_with(&id(1), Hook(3, None), Duration::ZERO).is_stored());
    });
    *inner.lock().unwrap() = Some((cache.clone(), web.clone()));
    cache.set_on_get(Some(Arc::new(give_hook)));
    assert!(web.get(&id(1)).is_none());
    cache.set_on_get(None);
    assert!(inner.lock().unwrap().is_none() && web.get(&id(1)).is_none());
}

/// A put has read its scope's slot, then the scope is dropped. While a database is asked for the id, the
/// session comes and is removed as dropped: what the database has seen of it counts for nothing.
#[test]
fn an_answer_that_a_late_put_overtakes_counts_for_nothing() {
    let (evicts, is_evicting) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let goes_on = Mutex::new(goes_on);
    let (cache, web) = full(move || {
        evicts.send(()).unwrap();
        goes_on.lock().unwrap().recv().unwrap();
    });
    thread::scope(|threads| {
        let late = Mutex::new(Some(threads.spawn(|| web.put(&id(1), Hook(3, None)).is_stored())));
        is_evicting.recv().unwrap();
        assert_eq!(cache.drop_scope(&Scope::new("web")), 0);
        let (is_put, was_put) = mpsc::channel();
        let was_put = Mutex::new(was_put);
        cache.set_on_get(Some(Arc::new(move |proposed| {
            go_on.send(()).unwrap();
            was_put.lock().unwrap().recv().unwrap();
            give_hook(proposed)
        })));
        threads.spawn(move || {
            let late = late.lock().unwrap().take().unwrap();
            assert!(late.join().unwrap());
            is_put.send(()).unwrap();
        });
        assert!(web.get(&id(1)).is_none());
        cache.set_on_get(None);
    });
    assert!(web.get(&id(1)).is_none());
    let stats = cache.stats();
    assert_eq!((stats.get_called, stats.callbacks_panicked), (1, 0));
    assert_eq!(stats.removals.scope_dropped, 1);
}

/// One id: what was put last, by one thread; and up to where that was dropped since.
#[derive(Default)]
struct Track {
    put: AtomicU64,
    dead: AtomicU64,
}

impl Track {
    fn put_over_and_over(
        &self,
        cache: &SessionCache<u64>,
        web: &Sessions<u64>,
        id: &SessionId,
        is_over: &AtomicBool,
    ) {
        for serial in 1.. {
            assert!(web.put(id, serial).is_stored());
            self.put.store(serial, SeqCst);
            while cache.stats().callbacks_waiting > 20 && !is_over.load(SeqCst) {
                thread::yield_now();
            }
            if is_over.load(SeqCst) {
                return;
            }
        }
    }
}

/// A database behind all three callbacks, which hears late of what is removed.
fn with_database(cache: &SessionCache<u64>) {
    let database: Arc<Mutex<HashMap<SessionId, u64>>> = Arc::default();
    let (new, removed, get) = (Arc::clone(&database), Arc::clone(&database), database);
    let on_new = move |told: NewSession<u64>| {
        new.lock().unwrap().insert(*told.session().id(), *told.session().payload());
        Verdict::Keep
    };
    let on_remove = move |told: RemovedSession<u64>| {
        if told.reason() == Reason::ScopeDropped {
            thread::sleep(Duration::from_micros(100));
        }
        removed.lock().unwrap().remove(told.id());
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    cache.set_on_get(Some(Arc::new(move |proposed: &Proposed<'_>| {
        let found = get.lock().unwrap().get(proposed.id()).copied();
        thread::yield_now();
        found.map_or(Answer::Nothing, |payload| give(proposed, payload))
    })));
}

/// What was put before a drop of the scope began is not found after that drop, neither here nor by
/// way of the database, whatever races with it.
#[test]
fn a_database_brings_no_dropped_session_back() {
    const DROPS: u64 = 400;
    for dispatch in [Dispatch::Workers(1), Dispatch::Inline] {
        let builder = SessionCache::builder().max_sessions(1_000).dispatch(dispatch);
        let cache: SessionCache<u64> = builder.build().unwrap();
        with_database(&cache);
        let web = cache.scope(&Scope::new("web"));
        let tracks: [Track; 3] = std::array::from_fn(|_| Track::default());
        let is_over = AtomicBool::new(false);
        let found = AtomicU64::new(0);
        thread::scope(|threads| {
            for (at, track) in (0..).zip(&tracks) {
                let (cache, web, is_over) = (&cache, &web, &is_over);
                threads.spawn(move || track.put_over_and_over(cache, web, &id(at), is_over));
            }
            threads.spawn(|| {
                // More where few of them meet a session, for it is up to the system who runs when.
                let is_enough = || cache.stats().removals.scope_dropped > 10;
                for drops in 0..100 * DROPS {
                    if drops >= DROPS && is_enough() {
                        break;
                    }
                    let put = tracks.each_ref().map(|track| track.put.load(SeqCst));
                    cache.drop_scope(&Scope::new("web"));
                    for (track, put) in tracks.iter().zip(put) {
                        track.dead.store(put, SeqCst);
                    }
                    thread::sleep(Duration::from_micros(drops % 4 * 500));
                }
                is_over.store(true, SeqCst);
            });
            for reader in 0..3 {
                let (web, tracks, is_over, found) = (&web, &tracks, &is_over, &found);
                threads.spawn(move || {
                    let mut random = Random::new(reader);
                    while !is_over.load(SeqCst) {
                        let at = random.below(tracks.len() as u64);
                        let dead = tracks[at as usize].dead.load(SeqCst);
                        let session = match random.below(16) {
                            0 => web.take(&id(at)),
                            _ => web.get(&id(at)),
                        };
                        if let Some(session) = session {
                            found.fetch_add(1, SeqCst);
                            let serial = *session.payload();
                            assert!(serial > dead, "{serial} was dropped, with all up to {dead}");
                        }
                    }
                });
            }
        });
        let stats = cache.stats();
        assert!(stats.removals.scope_dropped > 10, "{dispatch:?}: {stats:?}");
        assert!(stats.get_called > 0 && found.load(SeqCst) > 0, "{dispatch:?}: {stats:?}");
    }
}
