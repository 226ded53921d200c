//! Real TLS 1.3 handshakes of rustls in memory: client and server in one thread, and the server's
//! share of the time, and the store's share of that.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::{ClientConnection, Tls13ClientSessionValue};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ServerConnection, StoresServerSessions};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore, ServerConfig};

/// Which handshakes are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// 95 %.
    Resumed,
    /// None.
    Full,
}

/// Tickets that a client keeps: it comes back about so many handshakes later.
const TICKETS: usize = 64;

thread_local!(static IN_STORE: Cell<Duration> = const { Cell::new(Duration::ZERO) });

/// What was done in some time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub handshakes: u64,
    pub resumed: u64,
    /// Time in the server's part of the handshakes, and in the store.
    pub server: Duration,
    pub store: Duration,
}

/// A certificate and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// One thread's clients and server.
pub struct Pair {
    server: Arc<ServerConfig>,
    returning: Arc<ClientConfig>,
    new: Arc<ClientConfig>,
    name: ServerName<'static>,
    count: u64,
}

impl Identity {
    pub fn generate() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("the name is valid");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a PKCS 8 key");
        Self { certificate: made.cert.der().clone(), key }
    }
}

impl Pair {
    pub fn new(identity: &Identity, store: Arc<dyn StoresServerSessions>) -> Self {
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key());
        let mut server = server.expect("the key fits the certificate");
        server.session_storage = Arc::new(Timed(store));
        let client = |resumption| {
            let mut roots = RootCertStore::empty();
            roots.add(identity.certificate.clone()).expect("a certificate");
            let mut client =
                ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            client.resumption = resumption;
            Arc::new(client)
        };
        let tickets = Arc::new(Tickets::default());
        Self {
            server: Arc::new(server),
            returning: client(Resumption::store(Arc::clone(&tickets) as _)),
            new: client(Resumption::disabled()),
            name: ServerName::try_from("localhost").expect("a name"),
            count: 0,
        }
    }

    /// Makes handshakes for `time`, one at least.
    pub fn run(&mut self, time: Duration, mix: Mix) -> Done {
        let mut done = Done::default();
        IN_STORE.set(Duration::ZERO);
        let start = Instant::now();
        while done.handshakes == 0 || start.elapsed() < time {
            self.count += 1;
            let is_new = mix == Mix::Full || self.count.is_multiple_of(20);
            let client = if is_new { &self.new } else { &self.returning };
            let client = ClientConnection::new(Arc::clone(client), self.name.clone());
            self.handshake(client.expect("the configuration is valid"), &mut done);
        }
        done.store = IN_STORE.get();
        done
    }

    fn handshake(&self, mut client: ClientConnection, done: &mut Done) {
        let start = Instant::now();
        let server = ServerConnection::new(Arc::clone(&self.server));
        let mut server = server.expect("the configuration is valid");
        done.server += start.elapsed();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() || server.wants_write() {
            while client.wants_write() {
                client.write_tls(&mut to_server).expect("a vector takes all");
            }
            let start = Instant::now();
            feed(&to_server, |input| {
                server.read_tls(input)?;
                server.process_new_packets().map_err(std::io::Error::other)
            });
            while server.wants_write() {
                server.write_tls(&mut to_client).expect("a vector takes all");
            }
            done.server += start.elapsed();
            feed(&to_client, |input| {
                client.read_tls(input)?;
                client.process_new_packets().map_err(std::io::Error::other)
            });
            to_server.clear();
            to_client.clear();
        }
        assert!(!client.is_handshaking() && !server.is_handshaking(), "a handshake is stuck");
        done.handshakes += 1;
        done.resumed += u64::from(server.handshake_kind() == Some(HandshakeKind::Resumed));
        let start = Instant::now();
        drop(server);
        done.server += start.elapsed();
    }
}

impl Done {
    /// The sum of what two threads have done.
    pub fn and(self, other: Self) -> Self {
        Self {
            handshakes: self.handshakes + other.handshakes,
            resumed: self.resumed + other.resumed,
            server: self.server + other.server,
            store: self.store + other.store,
        }
    }
}

/// Hands all of `bytes` to a connection.
fn feed<T>(mut bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<T>) {
    while !bytes.is_empty() {
        read(&mut bytes).expect("a handshake in memory does not fail");
    }
}

/// Adds up the time that a store takes.
#[derive(Debug)]
struct Timed(Arc<dyn StoresServerSessions>);

impl Timed {
    fn time<R>(&self, run: impl FnOnce(&dyn StoresServerSessions) -> R) -> R {
        let start = Instant::now();
        let result = run(&*self.0);
        IN_STORE.set(IN_STORE.get() + start.elapsed());
        result
    }
}

impl StoresServerSessions for Timed {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.time(|store| store.put(key, value))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.time(|store| store.get(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.time(|store| store.take(key))
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}

/// A client's tickets, used in the order in which they came.
#[derive(Debug, Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl Tickets {
    fn with<R>(&self, run: impl FnOnce(&mut VecDeque<Tls13ClientSessionValue>) -> R) -> R {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.with(|tickets| {
            tickets.push_back(ticket);
            if tickets.len() > TICKETS {
                tickets.pop_front();
            }
        });
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(VecDeque::pop_front)
    }
}
