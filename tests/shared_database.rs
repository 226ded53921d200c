//! Servers that share an external cache, which finds and deletes in one step: in which mode a session that one of them
//! has taken is spent for all.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use resumption::{
    Answer, CacheMode, Dispatch, Found, Reason, Scope, SessionCache, SessionId, Sessions, Verdict,
    Want,
};

use support::{MINUTE, id};

/// In these each take asks, and what is inside is nobody's.
const ASK: [CacheMode; 2] = [
    CacheMode::SERVER.union(CacheMode::NO_INTERNAL_LOOKUP),
    CacheMode::SERVER.union(CacheMode::NO_INTERNAL),
];

type Database = Arc<Mutex<HashMap<(Scope, SessionId), u64>>>;

/// A server's cache, with the database behind it.
fn cache(database: &Database, mode: CacheMode) -> SessionCache<u64> {
    let builder = SessionCache::builder().dispatch(Dispatch::Inline).mode(mode);
    let cache = builder.without_ticker().build().unwrap();
    let (store, forget, find) = (Arc::clone(database), Arc::clone(database), Arc::clone(database));
    let on_new = move |new: resumption::NewSession<u64>| {
        let key = (new.scope().clone(), *new.session().id());
        store.lock().unwrap().insert(key, *new.session().payload());
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    let on_remove = move |removed: resumption::RemovedSession<u64>| {
        if !matches!(removed.reason(), Reason::Evicted | Reason::Closed) {
            forget.lock().unwrap().remove(&(removed.scope().clone(), *removed.id()));
        }
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        let (key, mut rows) = ((scope.clone(), id), find.lock().unwrap());
        let row = match proposed.want() {
            Want::Get => rows.get(&key).copied(),
            Want::Take => rows.remove(&key),
        };
        row.map_or(Answer::Nothing, |payload| Answer::Give(Found::new(id, scope, payload, MINUTE)))
    })));
    cache
}

fn server(database: &Database, mode: CacheMode) -> Sessions<u64> {
    cache(database, mode).scope(&Scope::new("web"))
}

fn servers(mode: CacheMode) -> (Database, [Sessions<u64>; 2]) {
    let database = Database::default();
    let servers = [server(&database, mode), server(&database, mode)];
    (database, servers)
}

/// Whether what was put at one server, and taken at the other, is found at the first one, too.
fn is_found_where_it_was_put(mode: CacheMode) -> bool {
    let (database, [one, other]) = servers(mode);
    assert!(one.put(&id(1), 7).is_stored());
    assert_eq!(other.take(&id(1)).map(|taken| *taken.payload()), Some(7), "{mode:?}");
    assert!(other.take(&id(1)).is_none() && database.lock().unwrap().is_empty(), "{mode:?}");
    let is_found = one.take(&id(1)).is_some();
    assert!(one.take(&id(1)).is_none(), "{mode:?}");
    is_found
}

/// The same of what the first one was asked for, to be left where it is, by whoever knows its id.
fn is_found_where_it_was_seen(mode: CacheMode) -> bool {
    let (database, [one, other]) = servers(mode);
    database.lock().unwrap().insert((Scope::new("web"), id(1)), 7);
    assert!(one.get(&id(1)).is_some(), "{mode:?}");
    assert!(other.take(&id(1)).is_some(), "{mode:?}");
    one.take(&id(1)).is_some()
}

#[test]
fn what_another_server_has_taken_is_spent_where_each_take_asks() {
    for mode in ASK {
        assert!(!is_found_where_it_was_put(mode), "{mode:?}");
        assert!(!is_found_where_it_was_seen(mode), "{mode:?}");
    }
}

/// The limit of the default mode, which the documentation tells: a take that finds does not ask.
#[test]
fn what_another_server_has_taken_is_found_in_memory_by_default() {
    let mode = CacheMode::default();
    assert!(is_found_where_it_was_put(mode));
    assert!(is_found_where_it_was_seen(mode));
}

/// Also what came in the default mode is spent, once all of them ask.
#[test]
fn the_mode_holds_for_what_is_inside_already() {
    for mode in ASK {
        let database = Database::default();
        let (one, other) = (cache(&database, CacheMode::default()), server(&database, mode));
        let web = one.scope(&Scope::new("web"));
        assert!(web.put(&id(1), 7).is_stored());
        one.set_mode(mode);
        assert!(other.take(&id(1)).is_some());
        assert!(web.take(&id(1)).is_none(), "{mode:?}");
        one.set_mode(CacheMode::default());
        assert!(web.take(&id(1)).is_none(), "{mode:?}");
    }
}

#[test]
fn servers_that_take_at_once_have_one_winner() {
    const SESSIONS: u64 = 2_000;
    for mode in ASK {
        let (_, servers) = servers(mode);
        for number in 0..SESSIONS {
            assert!(servers[(number % 2) as usize].put(&id(number), number).is_stored());
        }
        let start = Barrier::new(2);
        let taken: u64 = thread::scope(|scope| {
            let takers = servers.each_ref().map(|server| {
                scope.spawn(|| {
                    start.wait();
                    (0..SESSIONS).filter(|&number| server.take(&id(number)).is_some()).count()
                        as u64
                })
            });
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, SESSIONS, "{mode:?}");
    }
}
