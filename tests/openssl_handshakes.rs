//! OpenSSL servers on the cache: full handshakes, resumed ones, and those that are refused.

#[path = "common/hello.rs"]
mod hello;

#[path = "common/openssl.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    ffi::{c_int, c_uint},
    io::Read,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use common::{
    BOTH, Cache, Client, HOST, Kind, Link, TLS12, TLS13, cache, cache_and_clock,
    demand_certificates, server, server_builder, server_with, session, step, visit, web,
};
use foreign_types::ForeignTypeRef;
use openssl::{
    error::ErrorStack,
    ssl::{ErrorCode, SslMethod, SslOptions, SslSessionRef},
};
use resumption::Answer;
use resumption::tls::openssl::{Attachment, MOST_LOOKUPS, OpensslSession, cache_id};

#[test]
fn a_tls12_session_resumes_until_it_is_removed() {
    let cache = cache();
    let (client, server) = (Client::new(TLS12), server(&web(&cache)));
    let session = session(&client, &server);
    assert_eq!(cache.len(), 1);
    for _ in 0..3 {
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
    }
    let stats = cache.stats();
    assert_eq!((stats.puts, stats.hits, stats.takes), (1, 3, 0));
    assert_eq!(cache.flush(), 1);
    assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
}

#[test]
fn a_tls13_ticket_resumes_once() {
    let cache = cache();
    let (client, server) = (Client::new(TLS13), server(&web(&cache)));
    assert_eq!(visit(&client, &server, None), Kind::Full);
    let tickets = client.sessions();
    assert_eq!((tickets.len(), cache.len()), (2, 2));
    for ticket in &tickets {
        assert_eq!(visit(&client, &server, Some(ticket)), Kind::Resumed);
        assert_eq!(client.sessions().len(), 1, "a new ticket for the used one");
        assert_eq!(visit(&client, &server, Some(ticket)), Kind::Full);
        assert_eq!(client.sessions().len(), 2);
    }
    let stats = cache.stats();
    assert_eq!((stats.takes, stats.misses_unknown), (2, 2));
}

#[test]
fn tickets_of_tickets_resume() {
    let cache = cache();
    let (client, server) = (Client::new(TLS13), server(&web(&cache)));
    let mut ticket = session(&client, &server);
    for _ in 0..10 {
        assert_eq!(visit(&client, &server, Some(&ticket)), Kind::Resumed);
        ticket = client.session();
    }
}

#[test]
fn the_number_of_tickets_is_the_contexts() {
    for number in [0, 1, 5] {
        let cache = cache();
        let server = server_with(&web(&cache), |builder| builder.set_num_tickets(number).unwrap());
        let client = Client::new(TLS13);
        assert_eq!(visit(&client, &server, None), Kind::Full);
        assert_eq!((client.sessions().len(), cache.len()), (number, number));
    }
}

#[test]
fn an_expired_session_is_refused() {
    for version in BOTH {
        let (cache, clock) = cache_and_clock();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let session = session(&client, &server);
        clock.advance(Duration::from_secs(3599));
        let before = visit(&client, &server, Some(&session));
        assert_eq!(before, Kind::Resumed);

        let session = if version == TLS13 { client.session() } else { session };
        clock.advance(Duration::from_secs(3601));
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
        assert_eq!(cache.stats().misses_expired, 1);
    }
}

/// OpenSSL would refuse it, so it takes nobody's place.
#[test]
fn a_session_leaves_the_cache_with_its_own_timeout() {
    for version in BOTH {
        let (cache, clock) = cache_and_clock();
        let mut builder = server_builder(SslMethod::tls_server());
        let attachment = Attachment::new(&web(&cache)).timeout(Duration::from_secs(60));
        attachment.attach(&mut builder).unwrap();
        let session = session(&Client::new(version), &builder.build());
        drop(session);
        let made = cache.len();
        clock.advance(Duration::from_secs(59));
        assert_eq!((cache.flush_expired(), cache.len()), (0, made));
        clock.advance(Duration::from_secs(2));
        assert_eq!((cache.flush_expired(), cache.len()), (made, 0));
    }
}

/// The client chooses how many certificates it sends, and each of its sessions keeps them.
#[test]
fn a_session_weighs_what_its_client_has_sent() {
    for version in BOTH {
        let weigh = |more: usize| {
            let cache = cache();
            let server = server_with(&web(&cache), demand_certificates);
            let client = Client::with_certificate_and(version, more);
            assert_eq!(visit(&client, &server, None), Kind::Full);
            let session = cache.iter().next().expect("a session was made");
            session.payload().weight()
        };
        let (few, many) = (weigh(0), weigh(20));
        assert!(many >= few + 20 * 300, "{few} and {many} bytes");
    }
}

/// OpenSSL gives the ticket of a resumed connection the timeout of the session that was resumed.
#[test]
fn each_ticket_has_the_timeout_of_the_context_that_made_it() {
    let server = |cache: &Cache, seconds| {
        let mut builder = server_builder(SslMethod::tls_server());
        builder.set_num_tickets(1).unwrap();
        let attachment = Attachment::new(&web(cache)).timeout(Duration::from_secs(seconds));
        attachment.attach(&mut builder).unwrap();
        builder.build()
    };
    for (before, now) in [(60, 3600), (3600, 60)] {
        let ((cache, clock), client) = (cache_and_clock(), Client::new(TLS13));
        let first = session(&client, &server(&cache, before));
        assert_eq!(visit(&client, &server(&cache, now), Some(&first)), Kind::Resumed);
        let kept: Vec<_> = cache.iter().collect();
        assert_eq!(kept.len(), 1, "the first one is spent");
        assert_eq!(kept[0].payload().session().timeout(), now as i64);
        assert_eq!(visit(&client, &server(&cache, now), Some(&client.session())), Kind::Resumed);
        clock.advance(Duration::from_secs(61));
        assert_eq!(cache.flush_expired(), usize::from(now == 60));
    }
}

/// Its own timeout is a second, the cache's lifetime two hours.
#[test]
fn a_session_does_not_outlive_its_own_timeout() {
    for version in BOTH {
        let cache = cache();
        let sessions = web(&cache);
        let mut builder = server_builder(SslMethod::tls_server());
        Attachment::new(&sessions).timeout(Duration::from_nanos(1)).attach(&mut builder).unwrap();
        let (client, server) = (Client::new(version), builder.build());
        let session = session(&client, &server);
        let timeouts: Vec<_> =
            cache.iter().map(|kept| kept.payload().session().timeout()).collect();
        assert!(!timeouts.is_empty() && timeouts.iter().all(|&seconds| seconds == 1), "rounded up");
        // Two seconds later by the system's clock, which is OpenSSL's.
        std::thread::sleep(Duration::from_millis(2_100));
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
    }
}

#[test]
fn a_timeout_is_a_second_at_least_and_68_years_at_most() {
    let most = Duration::from_secs(i32::MAX as u64);
    let told = [
        (Duration::ZERO, 1),
        (Duration::from_millis(1_001), 2),
        (most, i64::from(i32::MAX)),
        (most + Duration::from_nanos(1), i64::from(i32::MAX)),
        (Duration::MAX, i64::from(i32::MAX)),
    ];
    for (version, (timeout, seconds)) in
        BOTH.into_iter().flat_map(|version| told.map(|told| (version, told)))
    {
        let cache = cache();
        let mut builder = server_builder(SslMethod::tls_server());
        Attachment::new(&web(&cache)).timeout(timeout).attach(&mut builder).unwrap();
        assert_eq!(visit(&Client::new(version), &builder.build(), None), Kind::Full);
        let kept = cache.iter().next().expect("a session was made");
        assert_eq!(kept.payload().session().timeout(), seconds, "of {timeout:?}");
    }
}

/// Its own timeout is a day, the cache's lifetime an hour.
#[test]
fn a_session_does_not_outlive_the_lifetime_of_the_cache() {
    const DAY: Duration = Duration::from_secs(86_400);
    for version in BOTH {
        let (cache, clock) = cache_and_clock();
        let mut builder = server_builder(SslMethod::tls_server());
        Attachment::new(&web(&cache)).timeout(DAY).attach(&mut builder).unwrap();
        let (client, server) = (Client::new(version), builder.build());
        let session = session(&client, &server);
        assert!(cache.iter().all(|kept| kept.payload().session().timeout() == 86_400));
        clock.advance(Duration::from_secs(3_601));
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
        assert_eq!(cache.stats().misses_expired, 1);
    }
}

/// Nothing was said of a timeout, so that the cache decides.
#[test]
fn a_lifetime_that_is_set_later_is_that_of_new_sessions() {
    let cases = BOTH.map(|version| [(version, 60), (version, 86_400)]);
    for (version, seconds) in cases.into_iter().flatten() {
        let (cache, clock) = cache_and_clock();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        cache.set_lifetime(Duration::from_secs(seconds));
        let timeouts = || -> Vec<_> {
            cache.iter().map(|kept| kept.payload().session().timeout().cast_unsigned()).collect()
        };
        let offer = session(&client, &server);
        assert!(timeouts().contains(&seconds), "{:?}", timeouts());
        clock.advance(Duration::from_secs(seconds - 1));
        assert_eq!(visit(&client, &server, Some(&offer)), Kind::Resumed);
        assert!(timeouts().iter().all(|&timeout| timeout == seconds), "{:?}", timeouts());
        clock.advance(Duration::from_secs(seconds + 1));
        cache.flush_expired();
        assert!(cache.is_empty());
    }
}

#[test]
fn a_closed_cache_ends_in_full_handshakes() {
    for version in BOTH {
        let cache = cache();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let session = session(&client, &server);
        cache.close();
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
        assert_eq!(cache.len(), 0);
    }
}

#[test]
fn the_object_of_a_session_is_shared_with_no_connection() {
    for version in BOTH {
        let cache = cache();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let mut first = Link::new(client.connection(Some(HOST), None), &server);
        assert_eq!(first.run(), Kind::Full);
        let made = first.server.ssl().session().unwrap();
        let id = cache_id(first.server.ssl()).expect("in TLS 1.3 the last ticket's");
        let kept = web(&cache).get(&id).expect("it is there");
        assert_eq!(kept.payload().session().id(), made.id());
        assert_ne!(kept.payload().session().as_ptr(), made.as_ptr());

        let silent = server_with(&web(&cache), |builder| builder.set_num_tickets(0).unwrap());
        let offer = client.session();
        let mut second = Link::new(client.connection(Some(HOST), Some(&offer)), &silent);
        assert_eq!(second.run(), Kind::Resumed);
        let lent = second.server.ssl().session().unwrap();
        assert_eq!(cache_id(second.server.ssl()), Some(id), "a removal finds it");
        assert!(![kept.payload().session().as_ptr(), made.as_ptr()].contains(&lent.as_ptr()));
    }
}

/// In OpenSSL's own cache both have one object, which the first one's end marks as not resumable.
#[test]
fn a_bad_end_does_not_disturb_a_handshake_that_resumes_the_same_session() {
    let cache = cache();
    // It is called between the lookup and the answer.
    let first: Arc<Mutex<Option<Link>>> = Arc::default();
    let ends = Arc::clone(&first);
    let server = server_with(&web(&cache), |builder| {
        builder.set_servername_callback(move |_, _| {
            drop(ends.lock().unwrap().take());
            Ok(())
        });
    });
    let client = Client::new(TLS12);
    let session = session(&client, &server);
    let connection = || client.connection(Some(HOST), Some(&session));
    let mut link = Link::new(connection(), &server);
    assert_eq!(link.run(), Kind::Resumed);
    *first.lock().unwrap() = Some(link);
    let mut second = Link::new(connection(), &server);
    assert_eq!(second.run(), Kind::Resumed);
    assert_eq!(cache.stats().removals.faulty, 1, "the first one has ended");
    assert!(is_resumable(second.server.ssl().session().unwrap()), "the second one is not marked");
    second.close();
    assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
}

#[test]
fn an_unclean_close_ends_a_tls12_session() {
    let cache = cache();
    let (client, server) = (Client::new(TLS12), server(&web(&cache)));
    let session = session(&client, &server);
    let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &server);
    assert_eq!(link.run(), Kind::Resumed);
    drop(link);
    assert_eq!(cache.stats().removals.faulty, 1);
    assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
}

#[test]
fn an_unclean_close_leaves_tls13_tickets() {
    let cache = cache();
    let (client, server) = (Client::new(TLS13), server(&web(&cache)));
    let mut link = Link::new(client.connection(Some(HOST), None), &server);
    assert_eq!(link.run(), Kind::Full);
    drop(link);
    assert_eq!((cache.len(), cache.stats().removals.faulty), (2, 0));
    for ticket in client.sessions() {
        assert_eq!(visit(&client, &server, Some(&ticket)), Kind::Resumed);
    }
}

#[test]
fn an_unclean_close_ends_the_last_tls13_ticket_on_request() {
    let cache = cache();
    let mut builder = server_builder(SslMethod::tls_server());
    Attachment::new(&web(&cache)).faulty_tickets_end(true).attach(&mut builder).unwrap();
    let (client, server) = (Client::new(TLS13), builder.build());
    let mut link = Link::new(client.connection(Some(HOST), None), &server);
    assert_eq!(link.run(), Kind::Full);
    drop(link);
    assert_eq!((cache.len(), cache.stats().removals.faulty), (1, 1));
    let tickets = client.sessions();
    assert_eq!(visit(&client, &server, Some(&tickets[1])), Kind::Full);
    assert_eq!(visit(&client, &server, Some(&tickets[0])), Kind::Resumed);
}

#[test]
fn a_fatal_alert_ends_a_tls12_session() {
    let cache = cache();
    let (client, server) = (Client::new(TLS12), server(&web(&cache)));
    let session = session(&client, &server);
    let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &server);
    assert_eq!(link.run(), Kind::Resumed);
    // A record that no key fits.
    link.server.get_ref().inject(&[23, 3, 3, 0, 32]);
    link.server.get_ref().inject(&[0; 32]);
    assert!(link.server.read(&mut [0]).is_err());
    assert_eq!(cache.stats().removals.faulty, 1);
    assert_eq!(visit(&client, &server, Some(&session)), Kind::Full);
}

#[test]
fn stateless_tickets_are_not_the_caches() {
    for version in BOTH {
        let cache = cache();
        let server = server_with(&web(&cache), |builder| {
            builder.clear_options(SslOptions::NO_TICKET);
        });
        let client = Client::new(version);
        let session = session(&client, &server);
        assert_eq!(visit(&client, &server, Some(&session)), Kind::Resumed);
        let stats = cache.stats();
        assert_eq!((stats.puts, stats.hits, stats.takes, stats.misses_unknown), (0, 0, 0, 0));
    }
}

#[test]
fn a_connection_tells_its_id_in_the_cache() {
    for version in BOTH {
        let cache = cache();
        let sessions = web(&cache);
        let (client, server) = (Client::new(version), server(&sessions));
        let mut link = Link::new(client.connection(Some(HOST), None), &server);
        assert_eq!(cache_id(link.server.ssl()), None);
        assert_eq!(link.run(), Kind::Full);
        let id = cache_id(link.server.ssl()).expect("it has a session");
        link.close();
        assert!(sessions.remove(&id));
        let mut given = client.sessions();
        let last = given.pop().expect("the server has given a session");
        assert_eq!(visit(&client, &server, Some(&last)), Kind::Full);
        // A log-out ends no more than that: TLS 1.3 has given two tickets.
        assert_eq!(given.len(), usize::from(version == TLS13));
        for other in given {
            assert_eq!(visit(&client, &server, Some(&other)), Kind::Resumed);
        }
    }
}

#[test]
fn a_session_that_was_put_by_hand_resumes() {
    for version in BOTH {
        let (cache, other) = (cache(), cache());
        let (client, first) = (Client::new(version), server(&web(&other)));
        let session = session(&client, &first);
        for made in other.iter() {
            let by_hand = OpensslSession::new(made.payload().session(), Some(HOST)).unwrap();
            assert_eq!(by_hand.cache_id(), made.id());
            assert!(web(&cache).put(&by_hand.cache_id(), by_hand).is_stored());
        }
        assert_eq!(visit(&client, &server(&web(&cache)), Some(&session)), Kind::Resumed);
    }
}

/// OpenSSL reads the cipher of a session that a client comes back to, and does not look whether there is one.
#[test]
fn a_session_is_put_by_hand_once_it_has_a_cipher() {
    for version in BOTH {
        let too_early: Arc<Mutex<Vec<String>>> = Arc::default();
        let refusals = Arc::clone(&too_early);
        let cache = cache();
        let server = server_with(&web(&cache), |builder| {
            builder.set_servername_callback(move |ssl, _| {
                let made = ssl.session().map(|session| OpensslSession::new(session, Some(HOST)));
                let errors = made.and_then(Result::err).map(|error| error.to_string());
                refusals.lock().unwrap().extend(errors);
                Ok(())
            });
        });
        let mut link = Link::new(Client::new(version).connection(Some(HOST), None), &server);
        assert!(!step(link.client.do_handshake()).unwrap());
        assert!(!step(link.server.do_handshake()).unwrap(), "it has sent its ServerHello");
        let too_early = too_early.lock().unwrap();
        assert!(too_early.len() == 1 && too_early[0].contains("no cipher yet"), "{too_early:?}");
        let by_hand =
            |link: &Link| OpensslSession::new(link.server.ssl().session().unwrap(), Some(HOST));
        // TLS 1.3 has keys by now.
        assert_eq!(by_hand(&link).is_err(), version == TLS12);
        assert!(ErrorStack::get().errors().is_empty());
        assert_eq!(link.run(), Kind::Full);
        assert!(by_hand(&link).is_ok());
        link.close();
    }
}

#[test]
fn a_hello_full_of_tickets_asks_for_a_few_of_them() {
    let cache = cache();
    cache.set_on_get(Some(Arc::new(|_| Answer::Nothing)));
    let server = server(&web(&cache));
    let tickets: Vec<[u8; 32]> = (0..hello::capacity(32)).map(|n| [n as u8; 32]).collect();
    assert!(tickets.len() > 500);
    let mut link = Link::new(Client::new(TLS13).connection(Some(HOST), None), &server);
    let hello = hello::with_identities(tickets.iter().map(|ticket| &ticket[..]));
    link.server.get_ref().inject(&hello);
    let answer = link.server.do_handshake().unwrap_err();
    assert_eq!(answer.code(), ErrorCode::WANT_READ, "it has answered, as for a full handshake");
    assert_eq!(cache.stats().get_called, MOST_LOOKUPS as u64);
}

/// Whether OpenSSL has not marked a session.
fn is_resumable(session: &SslSessionRef) -> bool {
    // SAFETY: the session lives; the call reads fields.
    unsafe { SSL_SESSION_is_resumable(session.as_ptr()) == 1 }
}

// From `<openssl/ssl.h>`.
unsafe extern "C" {
    fn SSL_SESSION_is_resumable(session: *const openssl_sys::SSL_SESSION) -> c_int;
    fn SSL_CTX_set_generate_session_id(
        context: *mut openssl_sys::SSL_CTX,
        generate: unsafe extern "C" fn(*mut openssl_sys::SSL, *mut u8, *mut c_uint) -> c_int,
    ) -> c_int;
}

/// Ids of eight bytes, of which seven are always the same: the manual page's example has such.
unsafe extern "C" fn choose_id(_: *mut openssl_sys::SSL, into: *mut u8, len: *mut c_uint) -> c_int {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let id = [7, 7, 7, 7, 7, 7, 7, NEXT.fetch_add(1, Ordering::Relaxed)];
    // SAFETY: OpenSSL gives room for 32 bytes and more.
    unsafe {
        into.copy_from_nonoverlapping(id.as_ptr(), id.len());
        *len = id.len() as c_uint;
    }
    1
}

#[test]
fn a_server_may_choose_its_tls12_ids() {
    let cache = cache();
    let server = server_with(&web(&cache), |builder| {
        // SAFETY: the builder owns a context, and the function is one of the kind that it wants.
        let set = unsafe { SSL_CTX_set_generate_session_id(builder.as_ptr(), choose_id) };
        assert_eq!(set, 1);
    });
    let client = Client::new(TLS12);
    let sessions: Vec<_> = (0..5).map(|_| session(&client, &server)).collect();
    assert_eq!(cache.len(), 5);
    for session in &sessions {
        assert_eq!(session.id().len(), 8);
        assert_eq!(visit(&client, &server, Some(session)), Kind::Resumed);
    }
}
