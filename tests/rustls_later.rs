//! Answers that come later behind tokio-rustls, whose handshakes park a thread of the runtime for them.

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use resumption::{
    Answer, CacheMode, Dispatch, Found, Proposed, Scope, SessionCache, SessionId, Verdict,
};
use rustls::{ClientConfig, HandshakeKind, ServerConfig, pki_types::ServerName};
use tls::{ONLY_12, ONLY_13, Pki, SERVER, Versions, store};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Handle, Runtime},
    task::block_in_place,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Longer than any machine is busy.
const LONG: Duration = Duration::from_secs(50);

/// Nobody waits for it in vain for long.
const SHORT: Duration = Duration::from_millis(50);

/// Stands for a database: it answers tasks of a runtime, and not at once.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<HashMap<SessionId, Vec<u8>>>>);

impl Database {
    /// A cache in front of it that keeps nothing itself, so that each returning client is asked for.
    fn cache(&self, timeout: Duration) -> SessionCache {
        let builder = SessionCache::builder().mode(CacheMode::SERVER | CacheMode::NO_INTERNAL);
        let builder = builder.dispatch(Dispatch::Inline).without_ticker().lookup_timeout(timeout);
        let cache: SessionCache = builder.build().unwrap();
        let database = self.clone();
        let keep = Arc::new(move |new: resumption::NewSession| {
            let payload = new.session().payload().to_vec();
            database.0.lock().unwrap().insert(*new.session().id(), payload);
            Verdict::Keep
        });
        cache.set_on_new(Some(keep)).unwrap();
        cache
    }

    async fn query(self, id: SessionId) -> Option<Vec<u8>> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.lock().unwrap().remove(&id)
    }

    /// Asks in a task of this runtime.
    fn later(&self, on: &Handle, proposed: &Proposed<'_>) -> Answer {
        let query = on.spawn(self.clone().query(*proposed.id()));
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        Answer::later(async move { answer(id, scope, query.await.unwrap()) })
    }
}

fn answer(id: SessionId, scope: Scope, found: Option<Vec<u8>>) -> Answer {
    let give = |bytes: Vec<u8>| Found::new(id, scope, bytes.into(), LONG);
    found.map_or(Answer::Nothing, |bytes| Answer::Give(give(bytes)))
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn workers(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

/// Both ends of a visit in tasks of this runtime.
fn visit(runtime: &Runtime, client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> HandshakeKind {
    let (ours, theirs) = duplex(1 << 16);
    let serving = runtime.spawn(serve(server, theirs));
    let calling = runtime.spawn(async move {
        let name = ServerName::try_from(SERVER).unwrap();
        let mut tls = TlsConnector::from(client).connect(name, ours).await.unwrap();
        // The tickets come before it.
        tls.read_exact(&mut [0; 5]).await.unwrap();
    });
    runtime.block_on(async move {
        calling.await.unwrap();
        serving.await.unwrap()
    })
}

async fn serve(config: Arc<ServerConfig>, tcp: DuplexStream) -> HandshakeKind {
    let mut tls = TlsAcceptor::from(config).accept(tcp).await.unwrap();
    tls.write_all(b"hello").await.unwrap();
    tls.flush().await.unwrap();
    tls.get_ref().1.handshake_kind().unwrap()
}

/// How a client's second visit went.
fn returns(runtime: &Runtime, cache: &SessionCache, versions: Versions) -> HandshakeKind {
    let pki = Pki::new();
    let (client, server) = (pki.client(versions), pki.public(store(cache, "web")));
    let (client, server) = (Arc::new(client), Arc::new(server));
    assert_eq!(visit(runtime, client.clone(), server.clone()), HandshakeKind::Full);
    visit(runtime, client, server)
}

#[test]
fn a_query_on_another_runtime_resumes() {
    let queries = workers(1);
    for server in [single(), workers(1), workers(2)] {
        for versions in [ONLY_12, ONLY_13] {
            let database = Database::default();
            let cache = database.cache(LONG);
            let own = queries.handle().clone();
            cache.set_on_get(Some(Arc::new(move |proposed| database.later(&own, proposed))));
            assert_eq!(returns(&server, &cache, versions), HandshakeKind::Resumed);
            let stats = cache.stats();
            assert_eq!((stats.get_answered, stats.get_timed_out), (1, 0));
        }
    }
}

/// The worker that asks hands its tasks to another thread, so that one worker is enough.
#[test]
fn a_query_that_blocks_in_place_resumes() {
    for server in [workers(1), workers(2)] {
        for versions in [ONLY_12, ONLY_13] {
            let database = Database::default();
            let cache = database.cache(LONG);
            cache.set_on_get(Some(Arc::new(move |proposed| {
                let query = database.clone().query(*proposed.id());
                let found = block_in_place(|| Handle::current().block_on(query));
                answer(*proposed.id(), proposed.scope().clone(), found)
            })));
            assert_eq!(returns(&server, &cache, versions), HandshakeKind::Resumed);
            let stats = cache.stats();
            assert_eq!((stats.get_answered, stats.get_timed_out), (1, 0));
        }
    }
}

/// Why the documentation of `Answer::Later` warns: the only thread that could run the query waits for it.
#[test]
fn a_query_on_the_only_thread_of_the_server_is_waited_for_in_vain() {
    for versions in [ONLY_12, ONLY_13] {
        let (server, database) = (single(), Database::default());
        let cache = database.cache(SHORT);
        cache.set_on_get(Some(Arc::new(move |proposed| {
            database.later(&Handle::current(), proposed)
        })));
        assert_eq!(returns(&server, &cache, versions), HandshakeKind::Full);
        assert_eq!(cache.stats().get_timed_out, 1);
    }
}
