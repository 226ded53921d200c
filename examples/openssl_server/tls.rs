//! The OpenSSL side of the server: context, reload, handshake. TLS 1.2 and 1.3, no early data.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
};

use openssl::{
    error::ErrorStack,
    pkey::PKey,
    ssl::{AlpnError, Ssl, SslAcceptor, SslContext, SslMethod, SslRef, select_next_proto},
    x509::X509,
};
use resumption::{
    Sessions,
    tls::openssl::{OpensslSession, attach},
};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::{
    certificate::{Certificate, Source},
    drive::Pins,
    serve::Tls,
    site::Handshake,
};

#[derive(Debug)]
pub(crate) struct Openssl {
    source: Source,
    /// Every context has these same sessions, so that a reload keeps them.
    sessions: Sessions<OpensslSession>,
    context: Mutex<SslContext>,
    pins: Arc<Pins>,
}

impl Openssl {
    pub(crate) fn new(source: Source, sessions: &Sessions<OpensslSession>) -> Result<Self, String> {
        let (sessions, pins) = (sessions.clone(), Arc::new(Pins::new()));
        let context = Mutex::new(configure(&source, &sessions, &pins)?);
        Ok(Self { source, sessions, context, pins })
    }
}

impl Tls for Openssl {
    type Stream = SslStream<TcpStream>;

    async fn accept(&self, tcp: TcpStream) -> io::Result<(Self::Stream, Handshake)> {
        let ssl = Ssl::new(&self.context.lock().unwrap())?;
        let mut stream = SslStream::new(ssl, tcp)?;
        Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
        let handshake = describe(stream.ssl());
        Ok((stream, handshake))
    }

    fn reload(&self) -> Result<(), String> {
        let context = configure(&self.source, &self.sessions, &self.pins)?;
        *self.context.lock().unwrap() = context;
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
    sessions: &Sessions<OpensslSession>,
    pins: &Pins,
) -> Result<SslContext, String> {
    let certificate = source.load()?;
    let context = context(&certificate, sessions)
        .map_err(|error| format!("cannot use {}: {error}", source.describe()))?;
    pins.add(certificate.chain[0].clone());
    Ok(context)
}

fn context(
    Certificate { chain, key }: &Certificate,
    sessions: &Sessions<OpensslSession>,
) -> Result<SslContext, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let (leaf, others) = chain.split_first().expect("a certificate source gives one or more");
    builder.set_certificate(X509::from_der(leaf)?.as_ref())?;
    for issuer in others {
        builder.add_extra_chain_cert(X509::from_der(issuer)?)?;
    }
    builder.set_private_key(PKey::private_key_from_der(key.secret_der())?.as_ref())?;
    builder.check_private_key()?;
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x08http/1.1", offered).ok_or(AlpnError::NOACK)
    });
    attach(&mut builder, sessions)?;
    Ok(builder.build().into_context())
}

fn describe(ssl: &SslRef) -> Handshake {
    Handshake {
        resumed: ssl.session_reused(),
        // OpenSSL writes TLSv1.3.
        protocol: ssl.version_str().replace("TLSv", "TLS "),
        suite: ssl.current_cipher().map_or("none", |cipher| cipher.name()).to_owned(),
    }
}
