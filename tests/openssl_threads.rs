//! Many threads, several contexts and one cache: a TLS 1.3 ticket is spent once however many offer it,
//! and a TLS 1.2 session serves all of them.
//!
//! `RESUMPTION_OPENSSL_ROUNDS` sets how often; the default takes a few seconds. With AddressSanitizer, which sees
//! what is ours of it, and not what OpenSSL does itself:
//! `RESUMPTION_OPENSSL_ROUNDS=300 cargo xtask sanitize address --test openssl_threads`.

#[path = "common/openssl.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use common::{BOTH, Cache, Client, HOST, Kind, Link, TLS12, TLS13, server, session, visit, web};
use openssl::ssl::{SslContext, SslSession};
use resumption::{SessionCache, Verdict};

const THREADS: usize = 8;

fn rounds() -> usize {
    let rounds = std::env::var("RESUMPTION_OPENSSL_ROUNDS").ok();
    rounds.map_or(10, |rounds| {
        let rounds: std::num::NonZero<usize> = rounds.parse().expect("a number of rounds");
        rounds.get()
    })
}

/// Runs in all threads at once; each is told its number.
fn in_threads(run: impl Fn(usize) + Sync) {
    let together = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (run, together) = (&run, &together);
            scope.spawn(move || {
                together.wait();
                run(thread);
            });
        }
    });
}

/// Contexts of one scope, and the cache that they share.
fn contexts(max_sessions: usize) -> (Cache, [SslContext; 2]) {
    let cache: Cache = SessionCache::builder().max_sessions(max_sessions).build().unwrap();
    let contexts = [(); 2].map(|()| server(&web(&cache)));
    (cache, contexts)
}

#[test]
fn a_tls13_ticket_that_all_threads_offer_resumes_one() {
    let (cache, servers) = contexts(1_000);
    for _ in 0..rounds() {
        let ticket = session(&Client::new(TLS13), &servers[0]);
        let resumed = AtomicUsize::new(0);
        in_threads(|thread| {
            let kind = visit(&Client::new(TLS13), &servers[thread % 2], Some(&ticket));
            resumed.fetch_add(usize::from(kind == Kind::Resumed), Ordering::Relaxed);
        });
        assert_eq!(resumed.into_inner(), 1);
    }
    assert_eq!(cache.stats().takes, rounds() as u64);
}

#[test]
fn a_tls12_session_that_all_threads_offer_resumes_all() {
    let (cache, servers) = contexts(1_000);
    for _ in 0..rounds() {
        let session = session(&Client::new(TLS12), &servers[0]);
        in_threads(|thread| {
            let kind = visit(&Client::new(TLS12), &servers[thread % 2], Some(&session));
            assert_eq!(kind, Kind::Resumed);
        });
    }
    assert_eq!(cache.stats().hits, (rounds() * THREADS) as u64);
}

#[test]
fn threads_do_all_that_clients_and_operators_do() {
    let (cache, servers) = contexts(20);
    cache.set_on_new(Some(std::sync::Arc::new(|_| Verdict::Keep))).unwrap();
    cache.set_on_remove(Some(std::sync::Arc::new(|_| {}))).unwrap();
    let shared: Vec<SslSession> =
        BOTH.into_iter().map(|version| session(&Client::new(version), &servers[0])).collect();
    in_threads(|thread| {
        let clients = BOTH.map(Client::new);
        for round in 0..rounds() * 4 {
            let (client, server) = (&clients[round % 2], &servers[(thread + round) % 2]);
            let own = session(client, server);
            assert!(cache.len() <= 20);
            for offer in [&own, &shared[round % 2], &own] {
                let mut link = Link::new(client.connection(Some(HOST), Some(offer)), server);
                link.run();
                // Every third connection ends badly, and takes its TLS 1.2 session with it.
                if (thread + round) % 3 != 0 {
                    link.close();
                }
            }
            match (thread + round) % 16 {
                0 => drop(cache.flush()),
                1 => drop(cache.drop_scope(web(&cache).scope())),
                2 => cache.set_max_sessions(10 + round % 10),
                _ => {}
            }
        }
    });
    assert!(cache.stats().removals.faulty > 0);
    cache.close();
    assert_eq!((cache.len(), cache.stats().held_sessions), (0, 0));
}
