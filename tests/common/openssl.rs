//! Real OpenSSL handshakes in memory: certificates, contexts, and the two ends of a connection whose
//! bytes a test moves.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use openssl::{
    pkey::PKey,
    ssl::{
        Error, ErrorCode, ShutdownState, Ssl, SslContext, SslContextBuilder, SslMethod, SslSession,
        SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
    },
    x509::{X509, store::X509StoreBuilder},
};
use rcgen::{CertificateParams, Issuer, KeyPair};
use resumption::{
    Clock, Dispatch, Scope, SessionCache, Sessions,
    tls::openssl::{OpensslSession, attach},
};

pub(crate) const TLS12: SslVersion = SslVersion::TLS1_2;
pub(crate) const TLS13: SslVersion = SslVersion::TLS1_3;
pub(crate) const BOTH: [SslVersion; 2] = [TLS12, TLS13];

pub(crate) type Cache = SessionCache<OpensslSession>;

/// The host that clients ask for.
pub(crate) const HOST: &str = "server.test";

/// An authority, and certificates that it signed.
struct Pki {
    root: X509,
    server: Identity,
    client: Identity,
}

struct Identity {
    cert: X509,
    key: PKey<openssl::pkey::Private>,
}

static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // With rcgen's one name for all, OpenSSL would take the others for signed by themselves.
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let key = KeyPair::generate().unwrap();
    let root = X509::from_pem(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
    let authority = Issuer::new(params, key);
    let identity = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &authority).unwrap();
        Identity {
            cert: X509::from_pem(cert.pem().as_bytes()).unwrap(),
            key: PKey::private_key_from_pem(key.serialize_pem().as_bytes()).unwrap(),
        }
    };
    Pki { root, server: identity(HOST), client: identity("client.test") }
});

/// A cache that tells its callbacks at once. A ticker may just be telling them, and nobody waits for it.
pub(crate) fn cache() -> Cache {
    SessionCache::builder().dispatch(Dispatch::Inline).without_ticker().build().unwrap()
}

/// A cache whose time stands, and its clock.
pub(crate) fn cache_and_clock() -> (Cache, Clock) {
    let clock = Clock::manual();
    // A ticker may remove what is expired before a lookup finds it so.
    let builder = SessionCache::builder().dispatch(Dispatch::Inline).without_ticker();
    let builder = builder.clock(clock.clone()).lifetime(Duration::from_secs(3600));
    (builder.build().unwrap(), clock)
}

/// The sessions of one scope.
pub(crate) fn web(cache: &Cache) -> Sessions<OpensslSession> {
    cache.scope(&Scope::new("web"))
}

/// The context of a server with a certificate, to be finished.
pub(crate) fn server_builder(method: SslMethod) -> SslContextBuilder {
    let mut builder = SslContext::builder(method).unwrap();
    identify(&mut builder, &PKI.server);
    builder
}

/// A server whose sessions are these.
pub(crate) fn server(sessions: &Sessions<OpensslSession>) -> SslContext {
    server_with(sessions, |_| {})
}

/// A server whose sessions are these, with settings that are made after it was attached.
pub(crate) fn server_with(
    sessions: &Sessions<OpensslSession>,
    set: impl FnOnce(&mut SslContextBuilder),
) -> SslContext {
    let mut builder = server_builder(SslMethod::tls_server());
    attach(&mut builder, sessions).unwrap();
    set(&mut builder);
    builder.build()
}

/// Lets a server demand client certificates of the authority.
pub(crate) fn demand_certificates(builder: &mut SslContextBuilder) {
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    let mut roots = X509StoreBuilder::new().unwrap();
    roots.add_cert(PKI.root.clone()).unwrap();
    builder.set_cert_store(roots.build());
}

fn identify(builder: &mut SslContextBuilder, identity: &Identity) {
    builder.set_certificate(&identity.cert).unwrap();
    builder.set_private_key(&identity.key).unwrap();
}

/// A client of one protocol version, and the sessions that servers have given it.
pub(crate) struct Client {
    context: SslContext,
    sessions: Arc<Mutex<Vec<SslSession>>>,
}

impl Client {
    pub(crate) fn new(version: SslVersion) -> Self {
        Self::with(version, |_| {})
    }

    /// A client that shows a certificate where one is demanded.
    pub(crate) fn with_certificate(version: SslVersion) -> Self {
        Self::with(version, |builder| identify(builder, &PKI.client))
    }

    /// As [`with_certificate`](Self::with_certificate), and sends so many more that nobody asks for.
    pub(crate) fn with_certificate_and(version: SslVersion, more: usize) -> Self {
        Self::with(version, |builder| {
            identify(builder, &PKI.client);
            for _ in 0..more {
                builder.add_extra_chain_cert(PKI.server.cert.clone()).unwrap();
            }
        })
    }

    pub(crate) fn with(version: SslVersion, set: impl FnOnce(&mut SslContextBuilder)) -> Self {
        let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
        builder.set_min_proto_version(Some(version)).unwrap();
        builder.set_max_proto_version(Some(version)).unwrap();
        Self::of(builder, set)
    }

    /// A client of a context to be finished.
    pub(crate) fn of(
        mut builder: SslContextBuilder,
        set: impl FnOnce(&mut SslContextBuilder),
    ) -> Self {
        let sessions: Arc<Mutex<Vec<SslSession>>> = Arc::default();
        let heard = Arc::clone(&sessions);
        builder
            .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        builder.set_new_session_callback(move |_, session| heard.lock().unwrap().push(session));
        set(&mut builder);
        Self { context: builder.build(), sessions }
    }

    /// A connection of this client, asking for `host` and offering `offer`.
    pub(crate) fn connection(&self, host: Option<&str>, offer: Option<&SslSession>) -> Ssl {
        let mut ssl = Ssl::new(&self.context).unwrap();
        if let Some(host) = host {
            ssl.set_hostname(host).unwrap();
        }
        if let Some(session) = offer {
            // A copy: a client's OpenSSL would not offer the same TLS 1.3 session twice.
            let copy = SslSession::from_der(&session.to_der().unwrap()).unwrap();
            // SAFETY: the copy was made here, and belongs to no other context.
            unsafe { ssl.set_session(&copy).unwrap() };
        }
        ssl.set_connect_state();
        ssl
    }

    /// The sessions that it was given since the last call, oldest first.
    pub(crate) fn sessions(&self) -> Vec<SslSession> {
        std::mem::take(&mut self.sessions.lock().unwrap())
    }

    /// The session that it was given last.
    pub(crate) fn session(&self) -> SslSession {
        self.sessions().pop().expect("the server has given a session")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Full,
    Resumed,
}

/// One end's view of what lies between the two.
#[derive(Debug)]
pub(crate) struct Pipe {
    incoming: Arc<Mutex<VecDeque<u8>>>,
    outgoing: Arc<Mutex<VecDeque<u8>>>,
}

impl Pipe {
    /// Bytes that wait to be read at this end.
    pub(crate) fn waiting(&self) -> Vec<u8> {
        self.incoming.lock().unwrap().iter().copied().collect()
    }

    /// The same end, of a connection that nothing was sent on yet.
    pub(crate) fn anew(&self) -> Self {
        self.incoming.lock().unwrap().clear();
        self.outgoing.lock().unwrap().clear();
        Self { incoming: Arc::clone(&self.incoming), outgoing: Arc::clone(&self.outgoing) }
    }

    /// Puts bytes before this end, as if the peer had sent them.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        self.incoming.lock().unwrap().extend(bytes);
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.lock().unwrap();
        match incoming.read(into)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both ends of one connection. Dropped without [`close`](Self::close), it ends uncleanly.
pub(crate) struct Link<S = Pipe> {
    pub(crate) client: SslStream<S>,
    pub(crate) server: SslStream<S>,
}

impl Link {
    pub(crate) fn new(client: Ssl, server: &SslContext) -> Self {
        let mut ssl = Ssl::new(server).unwrap();
        ssl.set_accept_state();
        Self::of(client, ssl)
    }

    pub(crate) fn of(client: Ssl, server: Ssl) -> Self {
        let (to_server, to_client) = (Arc::default(), Arc::default());
        let pipe = |incoming: &Arc<_>, outgoing: &Arc<_>| Pipe {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
        };
        Self {
            client: SslStream::new(client, pipe(&to_client, &to_server)).unwrap(),
            server: SslStream::new(server, pipe(&to_server, &to_client)).unwrap(),
        }
    }
}

impl<S: Read + Write> Link<S> {
    /// The handshake, to its end; an error is the server's, if that has one.
    pub(crate) fn shake_hands(&mut self) -> Result<(), Error> {
        loop {
            let client = step(self.client.do_handshake());
            let server = step(self.server.do_handshake());
            if server? & client? {
                return Ok(());
            }
        }
    }

    /// A byte each way: the keys of both ends fit, and the client has read its tickets.
    pub(crate) fn talk(&mut self) {
        let mut byte = [0];
        self.client.write_all(b"?").unwrap();
        self.server.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"?");
        self.server.write_all(b"!").unwrap();
        self.client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"!");
    }

    /// Handshake and a byte each way.
    pub(crate) fn run(&mut self) -> Kind {
        self.shake_hands().unwrap();
        self.talk();
        self.kind()
    }

    /// How the handshake went, on which both ends must agree.
    pub(crate) fn kind(&self) -> Kind {
        let resumed = self.server.ssl().session_reused();
        assert_eq!(self.client.ssl().session_reused(), resumed);
        if resumed { Kind::Resumed } else { Kind::Full }
    }

    /// Both ends say that they close.
    pub(crate) fn close(mut self) {
        let _ = self.server.shutdown();
        let _ = self.client.shutdown();
        assert!(self.server.get_shutdown().contains(ShutdownState::SENT));
    }
}

/// Whether a step of a handshake was its last.
pub(crate) fn step(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.code() == ErrorCode::WANT_READ => Ok(false),
        Err(error) => Err(error),
    }
}

/// A whole connection to [`HOST`], closed cleanly.
pub(crate) fn visit(client: &Client, server: &SslContext, offer: Option<&SslSession>) -> Kind {
    visit_host(client, server, Some(HOST), offer)
}

/// A whole connection, closed cleanly.
pub(crate) fn visit_host(
    client: &Client,
    server: &SslContext,
    host: Option<&str>,
    offer: Option<&SslSession>,
) -> Kind {
    let mut link = Link::new(client.connection(host, offer), server);
    let kind = link.run();
    link.close();
    kind
}

/// A session of a full handshake.
pub(crate) fn session(client: &Client, server: &SslContext) -> SslSession {
    assert_eq!(visit(client, server, None), Kind::Full);
    client.session()
}
