//! The callbacks of a cache beside OpenSSL's servers: what they see, and what their answers do.

#[path = "common/openssl.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    collections::HashMap,
    ffi::c_long,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{
    BOTH, Cache, Client, HOST, Kind, Link, TLS12, TLS13, cache, server, server_builder,
    server_with, session, visit, visit_host, web,
};
use foreign_types::ForeignTypeRef;
use openssl::{
    error::ErrorStack,
    ssl::{SslMethod, SslSessionRef},
    x509::X509,
};
use resumption::{
    Answer, CacheMode, Found, Portable, Proposed, Reason, Scope, SecretBytes, Session, SessionId,
    Verdict, Want,
    tls::openssl::{Attachment, OpensslSession, cache_id},
};

// From `<openssl/ssl.h>`.
unsafe extern "C" {
    fn SSL_SESSION_set_time(session: *mut openssl_sys::SSL_SESSION, time: c_long) -> c_long;
}

/// Stands for a database: sessions as bytes, by their ids in the cache.
type Database = Arc<Mutex<HashMap<SessionId, SecretBytes>>>;

/// Lets a cache write its new sessions to a database.
fn store_in(cache: &Cache, database: &Database) {
    let store = Arc::clone(database);
    let on_new = move |new: resumption::NewSession<OpensslSession>| {
        let session = new.session();
        store.lock().unwrap().insert(*session.id(), session.payload().to_bytes());
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
}

/// Lets a cache look for sessions in a database.
fn find_in(cache: &Cache, database: &Database) {
    let find = Arc::clone(database);
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let mut database = find.lock().unwrap();
        let found = match proposed.want() {
            Want::Get => database.get(proposed.id()).cloned(),
            Want::Take => database.remove(proposed.id()),
        };
        found.map_or(Answer::Nothing, |bytes| give(proposed, &bytes))
    })));
}

/// Lets a database forget what leaves a cache, but for what that had no room for.
fn forget_in(cache: &Cache, database: &Database) {
    let forget = Arc::clone(database);
    let on_remove = move |removed: resumption::RemovedSession<OpensslSession>| {
        if removed.reason() != Reason::Evicted {
            forget.lock().unwrap().remove(removed.id());
        }
    };
    cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
}

fn give(proposed: &Proposed<'_>, bytes: &[u8]) -> Answer<OpensslSession> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    let payload = OpensslSession::from_bytes(bytes).unwrap();
    Answer::Give(Found::new(id, scope, payload, Duration::from_secs(60)))
}

/// What callbacks were told: ids, and why their sessions left.
type Heard = Arc<Mutex<Vec<(SessionId, Option<Reason>)>>>;

#[test]
fn the_callbacks_see_openssls_sessions() {
    for version in BOTH {
        let cache = cache();
        let seen: Heard = Arc::default();
        let (new, removed) = (Arc::clone(&seen), Arc::clone(&seen));
        let on_new = move |session: resumption::NewSession<OpensslSession>| {
            assert_eq!(session.scope(), &Scope::new("web"));
            let session = session.session();
            assert_eq!(session.payload().session().protocol_version(), version);
            assert_eq!(session.payload().cache_id(), session.id());
            new.lock().unwrap().push((*session.id(), None));
            Verdict::Keep
        };
        cache.set_on_new(Some(Arc::new(on_new))).unwrap();
        let on_remove = move |session: resumption::RemovedSession<OpensslSession>| {
            removed.lock().unwrap().push((*session.id(), Some(session.reason())));
        };
        cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();

        let (client, server) = (Client::new(version), server(&web(&cache)));
        let mut link = Link::new(client.connection(Some(HOST), None), &server);
        assert_eq!(link.run(), Kind::Full);
        let last = cache_id(link.server.ssl()).unwrap();
        link.close();
        let ticket = client.session();
        let mut link = Link::new(client.connection(Some(HOST), Some(&ticket)), &server);
        assert_eq!(link.run(), Kind::Resumed);
        drop(link);

        let seen = seen.lock().unwrap();
        let expected = if version == TLS12 {
            vec![(last, None), (last, Some(Reason::Faulty))]
        } else {
            let (first, next) = (seen[0].0, seen[3].0);
            vec![(first, None), (last, None), (last, Some(Reason::Taken)), (next, None)]
        };
        assert_eq!(*seen, expected);
    }
}

/// Lets a session be a day older by OpenSSL's clock, as if that had been set.
fn age(session: &SslSessionRef) {
    // SAFETY: the session lives, and no other thread has it.
    unsafe { SSL_SESSION_set_time(session.as_ptr(), session.time() - 86_400) };
}

#[test]
fn a_session_that_openssl_finds_timed_out_leaves_as_expired() {
    let cache = cache();
    let hear = || {
        let heard: Heard = Arc::default();
        let hears = Arc::clone(&heard);
        let on_remove = move |session: resumption::RemovedSession<OpensslSession>| {
            hears.lock().unwrap().push((*session.id(), Some(session.reason())));
        };
        cache.set_on_remove(Some(Arc::new(on_remove))).unwrap();
        heard
    };
    let heard = hear();
    let (client, server) = (Client::new(TLS12), server(&web(&cache)));
    let offer = session(&client, &server);
    let kept = cache.iter().next().expect("it was stored");
    age(kept.payload().session());
    assert_eq!(visit(&client, &server, Some(&offer)), Kind::Full);
    let (id, removals) = (*kept.id(), cache.stats().removals);
    assert_eq!(*heard.lock().unwrap(), [(id, Some(Reason::Expired))]);
    assert_eq!((removals.expired, removals.faulty), (1, 0));

    // Of one that is elsewhere, the external cache is told.
    let shares = kept.clone();
    cache.set_on_get(Some(Arc::new(move |proposed| match *proposed.id() == id {
        true => Answer::Share(shares.clone()),
        false => Answer::Nothing,
    })));
    let heard = hear();
    assert_eq!(visit(&client, &server, Some(&offer)), Kind::Full);
    assert_eq!(*heard.lock().unwrap(), [(id, Some(Reason::Faulty))]);
}

#[test]
fn the_new_callback_sees_the_connection() {
    for version in BOTH {
        let cache = cache();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let hears = Arc::clone(&seen);
        let on_new = move |new: resumption::NewSession<OpensslSession>| {
            hears.lock().unwrap().push(new.context::<String>().expect("a host").clone());
            Verdict::Keep
        };
        cache.set_on_new(Some(Arc::new(on_new))).unwrap();
        let mut builder = server_builder(SslMethod::tls_server());
        Attachment::new(&web(&cache))
            .context(|ssl| ssl.servername(openssl::ssl::NameType::HOST_NAME).unwrap().to_owned())
            .attach(&mut builder)
            .unwrap();
        assert_eq!(visit(&Client::new(version), &builder.build(), None), Kind::Full);
        let tickets = if version == TLS12 { 1 } else { 2 };
        assert_eq!(*seen.lock().unwrap(), vec![HOST; tickets]);
    }
}

#[test]
fn a_rejected_session_is_refused_later() {
    for version in BOTH {
        let cache = cache();
        cache.set_on_new(Some(Arc::new(|_| Verdict::Reject))).unwrap();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let rejected = session(&client, &server);
        assert_eq!(cache.len(), 0);
        assert_eq!(visit(&client, &server, Some(&rejected)), Kind::Full);
        cache.set_on_new(None).unwrap();
        let kept = session(&client, &server);
        assert_eq!(visit(&client, &server, Some(&kept)), Kind::Resumed);
    }
}

#[test]
fn a_given_session_resumes_as_bytes_in_another_cache() {
    for version in BOTH {
        let (one, other) = (cache(), cache());
        let database = Database::default();
        store_in(&one, &database);
        find_in(&other, &database);
        let client = Client::new(version);
        let session = session(&client, &server(&web(&one)));
        let other_server = server(&web(&other));
        let visit = || visit(&client, &other_server, Some(&session));
        assert_eq!(visit(), Kind::Resumed);
        // Of a TLS 1.2 session a copy stays in the cache; a TLS 1.3 session is spent, here and in the database.
        let again = if version == TLS12 { Kind::Resumed } else { Kind::Full };
        assert_eq!(visit(), again);
        assert_eq!(other.stats().get_answered, 1);
    }
}

/// A cache that finds does not ask: where a session was put, it is spent for all only if nothing is looked for inside.
#[test]
fn a_ticket_is_spent_at_every_server_whose_takes_ask() {
    let modes = [
        (CacheMode::SERVER, Kind::Resumed),
        (CacheMode::SERVER | CacheMode::NO_INTERNAL_LOOKUP, Kind::Full),
        (CacheMode::SERVER | CacheMode::NO_INTERNAL, Kind::Full),
    ];
    for (mode, afterwards) in modes {
        let (one, other, database) = (cache(), cache(), Database::default());
        for cache in [&one, &other] {
            cache.set_mode(mode);
            store_in(cache, &database);
            find_in(cache, &database);
        }
        let (client, first, second) =
            (Client::new(TLS13), server(&web(&one)), server(&web(&other)));
        let session = session(&client, &first);
        assert_eq!(visit(&client, &second, Some(&session)), Kind::Resumed, "{mode:?}");
        assert_eq!(visit(&client, &second, Some(&session)), Kind::Full, "{mode:?}");
        assert_eq!(visit(&client, &first, Some(&session)), afterwards, "{mode:?}");
        assert_eq!(visit(&client, &first, Some(&session)), Kind::Full, "{mode:?}");
    }
}

#[test]
fn given_sessions_of_one_connection_differ_by_host() {
    for version in BOTH {
        let (one, other) = (cache(), cache());
        let database = Database::default();
        store_in(&one, &database);
        find_in(&other, &database);
        let client = Client::new(version);
        let session = session(&client, &server(&web(&one)));
        let server = server(&web(&other));
        let elsewhere = visit_host(&client, &server, Some("other.test"), Some(&session));
        assert_eq!(elsewhere, Kind::Full);
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
    }
}

/// Handles that a callback keeps.
type Kept = Arc<Mutex<HashMap<SessionId, Session<OpensslSession>>>>;

/// Lets callbacks keep the new sessions of a cache, and share them.
fn keep_and_share(cache: &Cache) -> Kept {
    let kept = Kept::default();
    let (keeps, shares) = (Arc::clone(&kept), Arc::clone(&kept));
    let on_new = move |new: resumption::NewSession<OpensslSession>| {
        let session = new.into_session();
        keeps.lock().unwrap().insert(*session.id(), session);
        Verdict::Keep
    };
    cache.set_on_new(Some(Arc::new(on_new))).unwrap();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let kept = shares.lock().unwrap();
        kept.get(proposed.id()).map_or(Answer::Nothing, |kept| Answer::Share(kept.clone()))
    })));
    kept
}

#[test]
fn a_shared_session_resumes_and_stays_the_callbacks() {
    for version in BOTH {
        let cache = cache();
        let kept = keep_and_share(&cache);
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let session = session(&client, &server);
        cache.flush();
        // Twice for TLS 1.3 too: whoever shares says how often.
        for _ in 0..2 {
            assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
        }
        assert_eq!(cache.stats().get_answered, 2);
        let kept = std::mem::take(&mut *kept.lock().unwrap());
        cache.flush();
        assert!(kept.values().all(|session| session.ref_count() == 1), "all is given back");
    }
}

#[test]
fn a_bad_end_spoils_no_shared_session() {
    for version in BOTH {
        let cache = cache();
        let kept = keep_and_share(&cache);
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let session = session(&client, &server);
        cache.flush();
        // Without a new ticket, the connection's session stays the one that it was lent.
        let silent = server_with(&web(&cache), |builder| builder.set_num_tickets(0).unwrap());
        let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &silent);
        assert_eq!(link.run(), Kind::Resumed);
        drop(link);
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
        assert_eq!(cache.stats().get_answered, 2);
        assert!(!kept.lock().unwrap().is_empty());
    }
}

#[test]
fn a_copy_of_what_openssl_has_marked_does_not_stay_where_it_is_given() {
    let cache = cache();
    let (client, server) = (Client::new(TLS12), server(&web(&cache)));
    let session = session(&client, &server);
    let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &server);
    assert_eq!(link.run(), Kind::Resumed);
    let marked = link.server.ssl().session().expect("it was resumed").to_owned();
    drop(link);
    let kept = OpensslSession::new(&marked, Some(HOST)).unwrap();
    let id = kept.cache_id();
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        Answer::Give(Found::new(id, scope, kept.clone(), Duration::from_secs(60)))
    })));
    for given in 1..=2 {
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
        assert!(!web(&cache).contains(&id));
        let stats = cache.stats();
        assert_eq!((stats.get_answered, stats.removals.faulty), (given, 1 + given));
    }
}

#[test]
fn a_cache_that_is_off_asks_the_get_callback() {
    for version in BOTH {
        let (one, off) = (cache(), cache());
        let database = Database::default();
        store_in(&one, &database);
        find_in(&off, &database);
        off.set_mode(CacheMode::OFF);
        let client = Client::new(version);
        let session = session(&client, &server(&web(&one)));
        let server = server(&web(&off));
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
        let stats = off.stats();
        assert_eq!((stats.get_called, stats.get_answered), (1, 1));
        // Of its own handshakes nothing is kept, be they full or resumed.
        assert_eq!(visit(&client, &server, None), Kind::Full);
        assert_eq!(off.len(), if version == TLS12 { 1 } else { 0 });
    }
}

#[test]
fn all_sessions_may_be_elsewhere() {
    for version in BOTH {
        let cache = cache();
        cache.set_mode(CacheMode::SERVER | CacheMode::NO_INTERNAL);
        let database = Database::default();
        store_in(&cache, &database);
        find_in(&cache, &database);
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let session = session(&client, &server);
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
        assert!(cache.is_empty());
    }
}

/// Memory had no room for it, and the database has it still.
#[test]
fn a_session_that_was_evicted_ends_in_the_database_too() {
    for is_logged_out in [false, true] {
        let cache = cache();
        let database = Database::default();
        store_in(&cache, &database);
        find_in(&cache, &database);
        forget_in(&cache, &database);
        let (client, server) = (Client::new(TLS12), server(&web(&cache)));
        let session = session(&client, &server);
        let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &server);
        assert_eq!(link.run(), Kind::Resumed);
        let id = cache_id(link.server.ssl()).expect("it has a session");
        cache.set_max_sessions(0);
        cache.set_max_sessions(100);
        assert!(cache.is_empty() && database.lock().unwrap().contains_key(&id));
        if is_logged_out {
            assert!(!web(&cache).remove(&id), "it is not here");
            link.close();
        } else {
            drop(link);
        }
        assert!(database.lock().unwrap().is_empty());
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
    }
}

#[test]
fn openssl_30517_a_different_session_of_the_external_cache_is_not_resumed() {
    for version in BOTH {
        let (one, other) = (cache(), cache());
        let database = Database::default();
        store_in(&one, &database);
        let (client, first) = (Client::new(version), server(&web(&one)));
        let (asked_for, different) = (session(&client, &first), session(&client, &first));
        let answers = Arc::clone(&database);
        other.set_on_get(Some(Arc::new(move |proposed| {
            let database = answers.lock().unwrap();
            let others = database.iter().filter(|(id, _)| *id != proposed.id());
            let (_, bytes) = others.last().expect("there are others");
            give(proposed, bytes)
        })));
        let second = server(&web(&other));
        for offer in [&asked_for, &different] {
            assert_eq!(visit(&client, &second, Some(offer)), Kind::Full);
        }
        let stats = other.stats();
        assert_eq!((stats.get_called, stats.callbacks_panicked), (2, 0));
        // The sessions were good.
        for offer in [&asked_for, &different] {
            assert_eq!(visit(&client, &first, Some(offer)), Kind::Resumed);
        }
    }
}

#[test]
fn openssl_30517_a_different_session_under_the_right_id_is_not_resumed() {
    for version in BOTH {
        let (one, other) = (cache(), cache());
        let database = Database::default();
        store_in(&one, &database);
        let (client, first) = (Client::new(version), server(&web(&one)));
        let (asked_for, _different) = (session(&client, &first), session(&client, &first));
        other.set_on_get(Some(Arc::new(move |proposed| {
            // The right name before the wrong session, as from a database whose rows were mixed up.
            let database = database.lock().unwrap();
            let (_, bytes) = database.iter().find(|(id, _)| *id != proposed.id()).expect("one");
            give(proposed, &[proposed.id().as_bytes(), &bytes[32..]].concat())
        })));
        let second = server(&web(&other));
        assert_eq!(visit(&client, &second, Some(&asked_for)), Kind::Full);
        let faulty = other.stats().removals.faulty;
        assert_eq!(faulty, u64::from(version == TLS12), "what a get stores, a take does not");
        assert_eq!(other.stats().callbacks_panicked, 0);
        assert_eq!(visit(&client, &first, Some(&asked_for)), Kind::Resumed);
    }
}

#[test]
fn a_session_of_another_scope_that_is_given_is_not_resumed() {
    for version in BOTH {
        let (one, other) = (cache(), cache());
        let database = Database::default();
        store_in(&one, &database);
        find_in(&other, &database);
        let client = Client::new(version);
        let session = session(&client, &server(&web(&one)));
        // The database does not tell scopes apart; the session knows its own.
        let internal = server(&other.scope(&Scope::new("internal")));
        assert_eq!(visit(&client, &internal, Some(&session)), Kind::Full);
        assert_eq!(other.stats().get_answered, 1);
    }
}

/// Leaves an error in OpenSSL's queue, as callbacks may that work with OpenSSL themselves.
fn leave_an_error() {
    X509::from_der(b"").unwrap_err().put();
}

#[test]
fn an_error_that_the_get_callback_leaves_is_no_handshakes() {
    for version in BOTH {
        let (one, other) = (cache(), cache());
        let database = Database::default();
        store_in(&one, &database);
        let client = Client::new(version);
        let session = session(&client, &server(&web(&one)));
        other.set_on_get(Some(Arc::new(move |proposed| {
            leave_an_error();
            give(proposed, &database.lock().unwrap()[proposed.id()])
        })));
        assert_eq!(visit(&client, &server(&web(&other)), Some(&session)), Kind::Resumed);
        assert_eq!(other.stats().get_answered, 1);
    }
}

#[test]
fn errors_that_are_left_for_a_new_session_do_not_stay() {
    for version in BOTH {
        let cache = cache();
        cache.set_on_new(Some(Arc::new(|_| Verdict::Reject))).unwrap();
        cache.set_on_remove(Some(Arc::new(|_| leave_an_error()))).unwrap();
        let mut builder = server_builder(SslMethod::tls_server());
        let attachment = Attachment::new(&web(&cache)).context(|_| leave_an_error());
        attachment.attach(&mut builder).unwrap();
        let mut link =
            Link::new(Client::new(version).connection(Some(HOST), None), &builder.build());
        link.shake_hands().unwrap();
        assert!(ErrorStack::get().errors().is_empty());
    }
}

/// OpenSSL tells that a session is gone while it reports why.
#[test]
fn the_remove_callback_does_not_take_the_error_that_ends_a_connection() {
    let cache = cache();
    cache.set_on_remove(Some(Arc::new(|_| drop(ErrorStack::get())))).unwrap();
    let (client, server) = (Client::new(TLS12), server(&web(&cache)));
    let mut link = Link::new(client.connection(Some(HOST), None), &server);
    assert_eq!(link.run(), Kind::Full);
    // A record that no key fits.
    link.server.get_ref().inject(&[23, 3, 3, 0, 32]);
    link.server.get_ref().inject(&[0; 32]);
    let error = link.server.ssl_read(&mut [0]).unwrap_err();
    assert_eq!(cache.stats().remove_called, 1);
    let errors = error.ssl_error().expect("what was wrong").errors();
    assert!(!errors.is_empty() && errors.iter().all(|error| error.reason().is_some()), "{error}");
}

#[test]
fn no_panic_reaches_openssl() {
    for version in BOTH {
        let weighed = Arc::new(AtomicU64::new(0));
        let weighs = Arc::clone(&weighed);
        let cache: Cache = resumption::SessionCache::builder()
            .max_bytes(1 << 20)
            .weigher(move |_| {
                weighs.fetch_add(1, Ordering::SeqCst);
                panic!("the weigher")
            })
            .build()
            .unwrap();
        cache.set_on_get(Some(Arc::new(|_| panic!("the get callback"))));
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let session = session(&client, &server);
        let tickets = if version == TLS12 { 1 } else { 2 };
        assert_eq!((weighed.load(Ordering::SeqCst), cache.len()), (tickets, 0));
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
        assert_eq!((weighed.load(Ordering::SeqCst), cache.len()), (2 * tickets, 0));
        assert_eq!(cache.stats().callbacks_panicked, 1, "the get callback, which was asked once");
    }
}

/// Nothing of the cache contains it: it is called before there is anything to put.
#[test]
fn a_context_that_panics_costs_the_session_alone() {
    for version in BOTH {
        let cache = cache();
        let called = Arc::new(AtomicU64::new(0));
        let calls = Arc::clone(&called);
        let mut builder = server_builder(SslMethod::tls_server());
        let attachment = Attachment::new(&web(&cache)).context(move |_| -> u8 {
            calls.fetch_add(1, Ordering::SeqCst);
            panic!("the context")
        });
        attachment.attach(&mut builder).unwrap();
        assert_eq!(visit(&Client::new(version), &builder.build(), None), Kind::Full);
        let tickets = if version == TLS12 { 1 } else { 2 };
        assert_eq!((called.load(Ordering::SeqCst), cache.stats().puts), (tickets, 0));
    }
}
