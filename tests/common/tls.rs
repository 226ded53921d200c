//! Real rustls handshakes in memory: certificates, configurations, and the two ends of a
//! connection that a test moves the bytes between.

use std::{io::Read, sync::Arc};

use rcgen::{CertificateParams, Issuer, KeyPair};
use resumption::{Scope, SessionCache};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, Error, HandshakeKind,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{StoresServerSessions, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};

pub(crate) type Versions = &'static [&'static SupportedProtocolVersion];
pub(crate) const ONLY_12: Versions = &[&TLS12];
pub(crate) const ONLY_13: Versions = &[&TLS13];
const BOTH: Versions = &[&TLS13, &TLS12];

/// The name that every client asks for.
pub(crate) const SERVER: &str = "server.test";

/// An authority and the certificates that it signed for one server and one client.
#[derive(Debug)]
pub(crate) struct Pki {
    authority: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) cert: CertificateDer<'static>,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    key: PrivateKeyDer<'static>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { authority: Issuer::new(params, key), root }
    }

    /// A new certificate for `name`, each time with a new key.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.authority).unwrap();
        Identity {
            cert: cert.der().clone(),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    pub(crate) fn server(&self) -> Identity {
        self.identity(SERVER)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        roots.into()
    }

    /// A server for everyone.
    pub(crate) fn public(&self, store: Arc<dyn StoresServerSessions>) -> ServerConfig {
        let identity = self.server();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(BOTH)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert], identity.key)
            .unwrap();
        config.session_storage = store;
        config
    }

    /// A server that demands a client certificate of this authority.
    pub(crate) fn mutual(&self, store: Arc<dyn StoresServerSessions>) -> ServerConfig {
        let identity = self.server();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(BOTH)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![identity.cert], identity.key)
            .unwrap();
        config.session_storage = store;
        config
    }

    /// A client with rustls's own store of tickets, as most programs have it.
    pub(crate) fn client(&self, versions: Versions) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A client that shows a certificate where one is demanded.
    pub(crate) fn client_with_cert(&self, versions: Versions) -> ClientConfig {
        let identity = self.identity("client.test");
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![identity.cert], identity.key)
            .unwrap()
    }
}

/// A client of a server whose certificate nobody knows: it believes any.
pub(crate) fn credulous_client() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A cache of a thousand sessions for tests that need no other.
pub(crate) fn cache() -> SessionCache {
    SessionCache::builder().max_sessions(1_000).build().unwrap()
}

/// The store of one scope.
pub(crate) fn store(cache: &SessionCache, scope: &str) -> Arc<dyn StoresServerSessions> {
    cache.scope(&Scope::new(scope)).rustls()
}

/// Both ends of one connection; nothing moves but by its methods.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

impl Link {
    pub(crate) fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        Self { client: start(client), server: accept(server) }
    }

    /// Moves bytes until both ends have nothing more to say: handshake and tickets.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        loop {
            let to_server = sent(&mut self.client);
            feed(&mut self.server, &to_server)?;
            let to_client = sent(&mut self.server);
            feed(&mut self.client, &to_client)?;
            if to_server.is_empty() && to_client.is_empty() {
                return Ok(());
            }
        }
    }

    /// How the handshake went, on which both ends must agree.
    pub(crate) fn kind(&self) -> HandshakeKind {
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        let kind = self.server.handshake_kind().unwrap();
        assert_eq!(self.client.handshake_kind(), Some(kind));
        kind
    }

    /// A payload each way: the keys of both ends fit.
    pub(crate) fn talk(&mut self) {
        use std::io::Write;
        self.client.writer().write_all(b"ping").unwrap();
        self.server.writer().write_all(b"pong").unwrap();
        self.run().unwrap();
        assert_eq!(read(&mut self.server), b"ping");
        assert_eq!(read(&mut self.client), b"pong");
    }
}

/// One whole connection.
pub(crate) fn visit(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> HandshakeKind {
    let mut link = Link::new(client, server);
    link.run().unwrap();
    link.talk();
    link.kind()
}

pub(crate) fn start(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from(SERVER).unwrap()).unwrap()
}

pub(crate) fn accept(config: &Arc<ServerConfig>) -> ServerConnection {
    ServerConnection::new(config.clone()).unwrap()
}

/// All bytes that an end wants to send now.
pub(crate) fn sent<D>(end: &mut ConnectionCommon<D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while end.wants_write() {
        end.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives an end bytes of its peer.
pub(crate) fn feed<D>(end: &mut ConnectionCommon<D>, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        end.read_tls(&mut bytes).unwrap();
        end.process_new_packets()?;
    }
    Ok(())
}

/// What a server makes of a first flight, which may be a copy of one it has seen.
pub(crate) fn answer(config: &Arc<ServerConfig>, flight: &[u8]) -> ServerConnection {
    let mut server = accept(config);
    feed(&mut server, flight).unwrap();
    server
}

/// What a server decided on a first flight: resumed, or a full handshake that it began.
pub(crate) fn verdict(config: &Arc<ServerConfig>, flight: &[u8]) -> HandshakeKind {
    answer(config, flight).handshake_kind().unwrap()
}

fn read<D>(end: &mut ConnectionCommon<D>) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let len = end.reader().read(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}
