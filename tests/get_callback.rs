//! The get callback: who asks, what an answer does, and what cannot come back to life.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resumption::{
    Answer, Clock, Dispatch, Found, NewSession, Proposed, Reason, RemovedSession, Scope,
    SessionCache, SessionId, Sessions, Verdict, Want,
};

const MINUTE: Duration = Duration::from_secs(60);

fn id(number: u64) -> SessionId {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from(bytes)
}

fn web() -> Scope {
    Scope::new("web")
}

/// The right answer to a lookup.
fn give(proposed: &Proposed<'_>, payload: u64) -> Answer<u64> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    Answer::Give(Found::new(id, scope, payload, MINUTE))
}

fn cache(dispatch: Dispatch) -> (SessionCache<u64>, Sessions<u64>, Clock) {
    let clock = Clock::manual();
    let builder = SessionCache::builder().max_sessions(100).clock(clock.clone()).without_ticker();
    let cache = builder.lifetime(MINUTE).dispatch(dispatch).build().unwrap();
    let sessions = cache.scope(&web());
    (cache, sessions, clock)
}

/// Answers every lookup with `payload`, and counts them.
fn answers(cache: &SessionCache<u64>, payload: u64) -> Arc<AtomicU64> {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        count.fetch_add(1, Ordering::SeqCst);
        give(proposed, payload)
    })));
    asked
}

#[test]
fn what_a_get_is_given_is_stored() {
    let (cache, sessions, clock) = cache(Dispatch::Inline);
    let asked = answers(&cache, 5);
    assert!(cache.on_get().is_some());
    assert_eq!(sessions.get(&id(1)).map(|session| *session.payload()), Some(5));
    assert_eq!(sessions.get(&id(1)).map(|session| *session.payload()), Some(5));
    assert_eq!((asked.load(Ordering::SeqCst), cache.len()), (1, 1));
    let stats = cache.stats();
    assert_eq!((stats.get_called, stats.get_answered, stats.puts), (1, 1, 1));
    // It expires as any other one.
    clock.advance(MINUTE);
    cache.set_on_get(None);
    assert!(cache.on_get().is_none());
    assert!(sessions.get(&id(1)).is_none());
    assert!(cache.is_empty());
}

#[test]
fn what_a_take_is_given_is_its_own() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let wants = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&wants);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        seen.lock().unwrap().push(proposed.want());
        give(proposed, 6)
    })));
    let taken = sessions.take(&id(1)).expect("it is given");
    assert_eq!((*taken.payload(), *taken.id(), taken.ref_count()), (6, id(1), 1));
    assert!(cache.is_empty());
    assert_eq!(cache.stats().held_sessions, 1);
    drop(taken);
    assert_eq!(cache.stats().held_sessions, 0);
    assert!(!sessions.contains(&id(1)));
    assert_eq!(*wants.lock().unwrap(), [Want::Take]);
}

#[test]
fn a_session_that_is_there_is_not_asked_for() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let asked = answers(&cache, 5);
    assert!(sessions.put(&id(1), 1).is_stored());
    assert_eq!(sessions.get(&id(1)).map(|session| *session.payload()), Some(1));
    assert_eq!(sessions.take(&id(1)).map(|session| *session.payload()), Some(1));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn an_answer_that_is_wrong_counts_for_nothing() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    type Spoils = fn(&mut Found<u64>);
    let spoilt: [Spoils; 3] = [
        |found| found.id = id(99),
        |found| found.scope = Scope::new("other"),
        |found| found.lifetime = Duration::ZERO,
    ];
    for spoils in spoilt {
        cache.set_on_get(Some(Arc::new(move |proposed| {
            let mut found = Found::new(*proposed.id(), proposed.scope().clone(), 1, MINUTE);
            spoils(&mut found);
            Answer::Give(found)
        })));
        assert!(sessions.get(&id(1)).is_none());
        assert!(sessions.take(&id(1)).is_none());
    }
    assert!(cache.is_empty());
    assert_eq!((cache.stats().get_called, cache.stats().get_answered), (6, 0));
}

#[test]
fn a_shared_session_is_handed_out_and_stays_the_callbacks() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    assert!(sessions.put(&id(1), 1).is_stored());
    let kept = sessions.take(&id(1)).unwrap();
    let shared = kept.clone();
    cache.set_on_get(Some(Arc::new(move |_| Answer::Share(shared.clone()))));
    let got = sessions.get(&id(1)).expect("it is shared");
    assert_eq!((*got.payload(), got.ref_count()), (1, 3));
    assert!(sessions.get(&id(2)).is_none(), "it has another id");
    assert!(cache.scope(&Scope::new("other")).get(&id(1)).is_none(), "it is of another scope");
    let other: SessionCache<u64> = SessionCache::builder().build().unwrap();
    other.set_on_get(cache.on_get());
    assert!(other.scope(&web()).get(&id(1)).is_none(), "it is of another cache");
    assert!(cache.is_empty());
}

#[test]
fn a_callback_that_panics_or_has_nothing_is_a_miss() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    cache.set_on_get(Some(Arc::new(|_| Answer::Nothing)));
    assert!(sessions.get(&id(1)).is_none());
    cache.set_on_get(Some(Arc::new(|_| panic!("a test's panic"))));
    assert!(sessions.get(&id(1)).is_none());
    assert_eq!(cache.stats().callbacks_panicked, 1);
    // The flight has ended.
    let _ = answers(&cache, 3);
    assert!(sessions.get(&id(1)).is_some());
}

#[test]
fn a_callback_may_look_up_what_it_is_asked_for() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let inner = sessions.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        assert!(inner.get(proposed.id()).is_none(), "it is being asked for");
        assert!(inner.take(proposed.id()).is_none());
        Answer::Nothing
    })));
    assert!(sessions.get(&id(1)).is_none());
    cache.set_on_get(None);
    assert_eq!(cache.stats().callbacks_panicked, 0);
}

#[test]
fn gets_of_one_id_ask_once_and_share_and_takers_miss() {
    const GETS: usize = 6;
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let asked = Arc::new(AtomicU64::new(0));
    let is_let_go = Arc::new(AtomicBool::new(false));
    let (count, hold) = (Arc::clone(&asked), Arc::clone(&is_let_go));
    cache.set_on_get(Some(Arc::new(move |proposed| {
        count.fetch_add(1, Ordering::SeqCst);
        while !hold.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        give(proposed, 8)
    })));
    thread::scope(|scope| {
        let gets: Vec<_> = (0..GETS)
            .map(|_| scope.spawn(|| sessions.get(&id(1)).map(|session| *session.payload())))
            .collect();
        wait_until(|| asked.load(Ordering::SeqCst) > 0);
        thread::sleep(Duration::from_millis(20));
        assert!(sessions.take(&id(1)).is_none(), "a taker does not wait");
        is_let_go.store(true, Ordering::SeqCst);
        for get in gets {
            assert_eq!(get.join().unwrap(), Some(8));
        }
    });
    assert_eq!((asked.load(Ordering::SeqCst), cache.len()), (1, 1));
}

#[test]
fn of_several_takers_one_asks() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let database = Arc::new(Mutex::new(HashMap::from([(id(1), 4)])));
    let store = Arc::clone(&database);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        assert_eq!(proposed.want(), Want::Take);
        let found = store.lock().unwrap().remove(proposed.id());
        found.map_or(Answer::Nothing, |payload| give(proposed, payload))
    })));
    for _ in 0..200 {
        database.lock().unwrap().insert(id(1), 4);
        let start = Barrier::new(4);
        let won: usize = thread::scope(|scope| {
            let take = || {
                start.wait();
                usize::from(sessions.take(&id(1)).is_some())
            };
            let takes: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            takes.into_iter().map(|take| take.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }
}

/// Among many that wait, each is found, and no other one.
#[test]
fn each_of_many_whose_leaving_is_not_told_is_not_asked_for() {
    let (cache, sessions, _clock) = cache(Dispatch::Manual);
    cache.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
    cache.set_on_new(Some(Arc::new(|_| Verdict::Keep))).unwrap();
    let asked = answers(&cache, 5);
    for number in 0..90 {
        assert!(sessions.put(&id(number), 1).is_stored());
    }
    assert_eq!(cache.flush(), 90);
    for number in 0..90 {
        assert!(sessions.get(&id(number)).is_none());
        assert!(sessions.take(&id(number)).is_none());
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 0, "the leavings are not told yet");
    for number in 100..190 {
        assert!(sessions.take(&id(number)).is_some(), "other ids are");
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 90);
}

/// A removal that waits to be told: the database does not know of it yet.
#[test]
fn a_session_whose_leaving_is_not_told_is_not_asked_for() {
    let (cache, sessions, clock) = cache(Dispatch::Manual);
    cache.set_on_remove(Some(Arc::new(|_| ()))).unwrap();
    let asked = answers(&cache, 5);
    type Leave = fn(&SessionCache<u64>, &Sessions<u64>, &Clock);
    let leave: [Leave; 6] = [
        |_, sessions, _| drop(sessions.take(&id(1))),
        |_, sessions, _| assert!(sessions.remove(&id(1))),
        |cache, _, _| assert_eq!(cache.flush(), 1),
        |cache, _, _| assert_eq!(cache.retain(|_| false), 1),
        |_, sessions, clock| {
            clock.advance(MINUTE);
            assert!(sessions.get(&id(1)).is_none());
        },
        |cache, sessions, _| {
            cache.set_max_sessions(0);
            cache.set_max_sessions(100);
            assert!(!sessions.contains(&id(1)));
        },
    ];
    for leave in leave {
        assert!(sessions.put(&id(1), 1).is_stored());
        leave(&cache, &sessions, &clock);
        assert!(sessions.get(&id(1)).is_none());
        assert!(sessions.take(&id(1)).is_none());
        assert_eq!(asked.swap(0, Ordering::SeqCst), 0, "the leaving is not told yet");
        assert!(sessions.get(&id(2)).is_some(), "another id is");
        assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
        cache.poll_callbacks();
        assert!(sessions.get(&id(1)).is_some(), "it is told now");
        assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
        cache.flush();
        cache.poll_callbacks();
    }
}

/// While the database is asked, the session is put and taken: what the database says is old.
#[test]
fn an_answer_that_was_overtaken_counts_for_nothing() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let inner = sessions.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        assert!(inner.put(proposed.id(), 1).is_stored());
        assert!(inner.take(proposed.id()).is_some());
        give(proposed, 1)
    })));
    assert!(sessions.get(&id(1)).is_none());
    assert!(sessions.take(&id(2)).is_none());
    cache.set_on_get(None);
    assert!(cache.is_empty());
    assert_eq!(cache.stats().callbacks_panicked, 0);
}

/// What was told as removed: the id, whether with its session, and why.
type Removals = Arc<Mutex<Vec<(SessionId, bool, Reason)>>>;

fn hear_of_removals(cache: &SessionCache<u64>) -> Removals {
    let told = Removals::default();
    let hears = Arc::clone(&told);
    let on_remove = move |removed: RemovedSession<u64>| {
        assert_eq!(removed.scope(), &web());
        let told = (*removed.id(), removed.session().is_some(), removed.reason());
        hears.lock().unwrap().push(told);
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    told
}

/// The external cache may have it: memory has evicted it, or never had it.
#[test]
fn a_removal_of_what_is_not_here_is_told_if_lookups_ask() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let told = hear_of_removals(&cache);
    let told = || std::mem::take(&mut *told.lock().unwrap());
    assert!(sessions.put(&id(1), 1).is_stored());
    cache.set_max_sessions(0);
    cache.set_max_sessions(100);
    assert_eq!(told(), [(id(1), true, Reason::Evicted)]);
    assert!(!sessions.remove(&id(1)) && !sessions.remove_faulty(&id(2)));
    assert_eq!(told(), [], "there is no external cache");

    let _ = answers(&cache, 5);
    assert!(!sessions.remove(&id(1)) && !sessions.remove_faulty(&id(2)), "they are not here");
    assert_eq!(told(), [(id(1), false, Reason::Removed), (id(2), false, Reason::Faulty)]);
    assert_eq!(cache.stats().removals.total(), 1, "nothing else was here");
    assert!(sessions.put(&id(1), 1).is_stored() && sessions.remove(&id(1)));
    assert_eq!(told(), [(id(1), true, Reason::Removed)], "once");
    assert!(sessions.take(&id(3)).is_some());
    assert_eq!(told(), [], "it heard of that when it was asked");
    assert!(sessions.put_with(&id(4), 4, Duration::ZERO).is_stored() && !sessions.remove(&id(4)));
    assert_eq!(told(), [(id(4), true, Reason::Expired)], "which is what it was");
    cache.set_on_get(None);
    assert!(!sessions.remove(&id(1)));
    assert_eq!(told(), []);
}

#[test]
fn an_answer_to_a_lookup_that_began_before_a_removal_counts_for_nothing() {
    let ways = [(true, true), (true, false), (false, true), (false, false)];
    for (want, (is_heard, still_asks)) in
        [Want::Get, Want::Take].into_iter().flat_map(|want| ways.map(|way| (want, way)))
    {
        let (cache, sessions, _) = cache(Dispatch::Inline);
        let told = if is_heard { hear_of_removals(&cache) } else { Arc::default() };
        let (removes, inner) = (sessions.clone(), cache.clone());
        cache.set_on_get(Some(Arc::new(move |proposed| {
            if !still_asks {
                inner.set_on_get(None);
            }
            assert!(!removes.remove(proposed.id()));
            give(proposed, 5)
        })));
        let found = match want {
            Want::Get => sessions.get(&id(1)),
            Want::Take => sessions.take(&id(1)),
        };
        assert!(found.is_none() && cache.is_empty(), "{want:?}, {is_heard}, {still_asks}");
        let expected = [(id(1), false, Reason::Removed)];
        assert_eq!(*told.lock().unwrap(), expected[..usize::from(is_heard && still_asks)]);
        assert_eq!(cache.stats().callbacks_panicked, 0);
        // The cache holds the callback, and that the cache.
        cache.set_on_get(None);
    }
}

#[test]
fn a_scope_that_is_dropped_meanwhile_stays_empty() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let inner = cache.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        inner.drop_scope(&web());
        give(proposed, 1)
    })));
    assert!(sessions.get(&id(1)).is_none());
    cache.set_on_get(None);
    assert!(cache.is_empty() && sessions.get(&id(1)).is_none());
}

#[test]
fn a_session_that_was_put_meanwhile_is_what_a_get_finds() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let inner = sessions.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        assert!(inner.put(proposed.id(), 2).is_stored());
        give(proposed, 1)
    })));
    assert_eq!(sessions.get(&id(1)).map(|session| *session.payload()), Some(2));
    assert_eq!(cache.len(), 1);
    // The cache holds the callback, and that the cache.
    cache.set_on_get(None);
}

#[test]
fn of_many_each_that_is_not_there_is_asked_for() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    assert!(sessions.put(&id(2), 7).is_stored());
    let asked = answers(&cache, 5);
    let found = sessions.get_many(&[id(1), id(2), id(3), id(1)]);
    let found: Vec<_> = found.iter().map(|session| *session.as_ref().unwrap().payload()).collect();
    assert_eq!(found, [5, 7, 5, 5]);
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "the first answer is there when it is looked for again"
    );
}

#[test]
fn of_many_each_is_looked_for_in_the_scope_as_it_is_then() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let (inner, drops) = (sessions.clone(), cache.clone());
    cache.set_on_get(Some(Arc::new(move |proposed| {
        assert_eq!(*proposed.id(), id(1), "the other one is there");
        drops.drop_scope(&web());
        assert!(inner.put(&id(2), 7).is_stored());
        Answer::Nothing
    })));
    let found = sessions.get_many(&[id(1), id(2)]);
    assert!(found[0].is_none());
    assert_eq!(found[1].as_ref().map(|session| *session.payload()), Some(7));
    // The cache holds the callback, and that the cache.
    cache.set_on_get(None);
}

/// Without room, or closed, a lookup gets its session nevertheless.
#[test]
fn what_cannot_be_stored_is_handed_out() {
    let (cache, sessions, _) = cache(Dispatch::Inline);
    let _ = answers(&cache, 5);
    cache.set_max_sessions(0);
    assert!(sessions.get(&id(1)).is_some());
    assert!(cache.is_empty());
    cache.close();
    assert!(sessions.get(&id(1)).is_some(), "always asked, also when nothing is cached");
    assert!(cache.is_empty());
}

/// A database behind all three callbacks. An evicted ticket stays in it; a taken one goes.
fn with_database(cache: &SessionCache<u64>) {
    let database: Arc<Mutex<HashMap<SessionId, u64>>> = Arc::default();
    let (new, removed, get) = (Arc::clone(&database), Arc::clone(&database), database);
    let on_new = move |told: NewSession<u64>| {
        new.lock().unwrap().insert(*told.session().id(), *told.session().payload());
        Verdict::Keep
    };
    let on_remove = move |told: RemovedSession<u64>| {
        if told.reason() != Reason::Evicted {
            removed.lock().unwrap().remove(told.id());
        }
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    cache.set_on_get(Some(Arc::new(move |proposed: &Proposed<'_>| {
        let mut store = get.lock().unwrap();
        let found = match proposed.want() {
            Want::Get => store.get(proposed.id()).copied(),
            Want::Take => store.remove(proposed.id()),
        };
        found.map_or(Answer::Nothing, |payload| give(proposed, payload))
    })));
}

/// Issues tickets, and looks up and takes those that were issued, until there are enough.
fn use_tickets(sessions: &Sessions<u64>, seed: u64, next: &AtomicU64, taken: &[AtomicU64]) {
    let mut random = seed;
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let known = next.load(Ordering::SeqCst).min(taken.len() as u64);
        if random & 3 == 0 {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= taken.len() as u64 {
                return;
            }
            assert!(sessions.put(&id(number), number).is_stored());
        } else if known > 0 {
            let number = (random >> 8) % known;
            if random >> 4 & 1 == 0 {
                drop(sessions.get(&id(number)));
            } else if sessions.take(&id(number)).is_some() {
                taken[number as usize].fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Sessions are single-use tickets in a database that is told of each, behind a small cache. Nobody
/// may take a ticket twice, whatever the threads, the evictions and the delays of the callbacks do.
#[test]
fn a_ticket_in_a_database_is_taken_once() {
    const TICKETS: usize = 4_000;
    for dispatch in [Dispatch::Workers(2), Dispatch::Inline] {
        let builder = SessionCache::builder().max_sessions(64).dispatch(dispatch);
        let cache: SessionCache<u64> = builder.build().unwrap();
        with_database(&cache);
        let sessions = cache.scope(&web());
        let taken: Vec<AtomicU64> = (0..TICKETS).map(|_| AtomicU64::new(0)).collect();
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            for seed in 1..7 {
                let (sessions, next, taken) = (&sessions, &next, &taken);
                scope.spawn(move || use_tickets(sessions, seed, next, taken));
            }
        });
        let times = |times| taken.iter().filter(|t| t.load(Ordering::SeqCst) == times).count();
        assert_eq!(times(0) + times(1), TICKETS, "{dispatch:?}: a ticket was taken twice");
        // How many is a matter of who runs when; enough for the above to mean something.
        assert!(times(1) > TICKETS / 20, "{dispatch:?}: {} were taken", times(1));
        let stats = cache.stats();
        assert!(stats.get_answered > 100 && stats.removals.evicted > 100, "{stats:?}");
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < MINUTE, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
}
