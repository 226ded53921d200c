//! An echo server on tokio-rustls whose clients resume their sessions. First
//! `(echo hi; sleep 1) | openssl s_client -connect 127.0.0.1:4433 -sess_out s.pem`, then the same with `-sess_in s.pem`: the
//! server says *full handshake*, then *resumed*.
//!
//! It takes one argument, where to listen: `cargo run --example minimal -- 0.0.0.0:4433`.

use std::{
    env,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use resumption::{Scope, SessionCache};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{HandshakeKind, ServerConfig},
};

/// How long a handshake may take, and a connection as a whole.
const HANDSHAKE: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(600);

/// Connections at once; more of them wait.
const CONNECTIONS: usize = 512;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = made.signing_key.serialize_der().try_into()?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;

    let cache: SessionCache = SessionCache::builder().max_sessions(1_000_000).build()?;
    config.session_storage = cache.scope(&Scope::new("echo")).rustls();

    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = env::args().nth(1).unwrap_or("127.0.0.1:4433".to_owned());
    let listener = TcpListener::bind(&address).await.unwrap_or_else(|error| {
        eprintln!("cannot listen on {address}: {error}\nusage: minimal [HOST:PORT]");
        std::process::exit(1)
    });
    println!("Echoing on {}", listener.local_addr()?);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await?;
        // A client that is gone again, or no descriptors left: other clients are waiting.
        let Ok((tcp, client)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let ended = timeout(CONNECTION, echo(&acceptor, tcp, client)).await;
            let error = ended.map_or(Some(io::ErrorKind::TimedOut.into()), Result::err);
            if let Some(error) = error {
                let _ = writeln!(io::stderr(), "{client}: {error}");
            }
            drop(place);
        });
    }
}

async fn echo(acceptor: &TlsAcceptor, tcp: TcpStream, client: SocketAddr) -> io::Result<()> {
    let tls = timeout(HANDSHAKE, acceptor.accept(tcp)).await??;
    let is_resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    let kind = if is_resumed { "resumed" } else { "full handshake" };
    let _ = writeln!(io::stdout(), "{client}: {kind}");
    let (mut from, mut to) = tokio::io::split(tls);
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
