//! The rustls side of the server: configuration, reload, handshake.
//!
//! Early data stay off. A browser sends as early data whatever it asks for first. Single use stops
//! every replay: within this process the cache gives a session to one flight, and another server,
//! with a cache of its own, does not find it. Two that share a database behind their caches would
//! each accept the flight once, unless that finds and deletes in one step and both ask it for each
//! take (`CacheMode::SERVER | CacheMode::NO_INTERNAL`): else the one that made the session finds it
//! in its memory. Who turns it on (`max_early_data_size`) answers no request with it that changes
//! anything.

use std::{
    io,
    sync::{Arc, Mutex},
};

use resumption::Sessions;
use rustls::{
    Error, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, crypto::ring,
    server::StoresServerSessions,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    certificate::{Certificate, Source},
    drive::Pins,
    serve::Tls,
    site::Handshake,
};

#[derive(Debug)]
pub(crate) struct Rustls {
    source: Source,
    /// Every configuration has this same store, so that a reload keeps the sessions.
    sessions: Arc<dyn StoresServerSessions>,
    config: Mutex<Arc<ServerConfig>>,
    pins: Arc<Pins>,
}

impl Rustls {
    pub(crate) fn new(source: Source, sessions: &Sessions) -> Result<Self, String> {
        let (sessions, pins) = (sessions.rustls(), Arc::new(Pins::new()));
        let config = Mutex::new(configure(&source, &sessions, &pins)?);
        Ok(Self { source, sessions, config, pins })
    }
}

impl Tls for Rustls {
    type Stream = TlsStream<TcpStream>;

    async fn accept(&self, tcp: TcpStream) -> io::Result<(Self::Stream, Handshake)> {
        let config = self.config.lock().unwrap().clone();
        let stream = TlsAcceptor::from(config).accept(tcp).await?;
        let handshake = describe(stream.get_ref().1);
        Ok((stream, handshake))
    }

    fn reload(&self) -> Result<(), String> {
        let config = configure(&self.source, &self.sessions, &self.pins)?;
        *self.config.lock().unwrap() = config;
        Ok(())
    }

    fn source(&self) -> &Source {
        &self.source
    }

    fn pins(&self) -> Arc<Pins> {
        self.pins.clone()
    }
}

fn configure(
    source: &Source,
    sessions: &Arc<dyn StoresServerSessions>,
    pins: &Pins,
) -> Result<Arc<ServerConfig>, String> {
    let Certificate { chain, key } = source.load()?;
    let leaf = chain[0].clone();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refused(source, &error))?;
    config.session_storage = sessions.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    pins.add(leaf);
    Ok(config.into())
}

fn refused(source: &Source, error: &Error) -> String {
    match (source, error) {
        (Source::Files { cert, key }, Error::InconsistentKeys(_)) => {
            format!("the key in {} does not belong to {}", key.display(), cert.display())
        }
        _ => format!("cannot use {}: {error}", source.describe()),
    }
}

fn describe(connection: &ServerConnection) -> Handshake {
    let protocol = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    };
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    Handshake {
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        protocol,
        suite: suite.map_or("none".to_owned(), |suite| format!("{suite:?}")),
    }
}
