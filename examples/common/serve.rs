//! Accepts connections and answers them, for any TLS library: [`Tls`] is all that differs.
//!
//! A client may be slow, silent or hostile. Each handshake, each request head and each connection
//! as a whole has its time; so many connections are served at once, and more wait in the kernel.

use std::{
    convert::Infallible,
    future::{Future, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use crate::{
    certificate::Source,
    drive::Pins,
    log::Log,
    site::{Handshake, Site, Visit},
};

const HANDSHAKE: Duration = Duration::from_secs(10);
const REQUEST_HEAD: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(60);
/// What running connections have left when the server is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// Between attempts when the system has no descriptor or memory for another connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// One side of TLS: makes a stream of plain bytes from a connection.
pub(crate) trait Tls: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(
        &self,
        tcp: TcpStream,
    ) -> impl Future<Output = io::Result<(Self::Stream, Handshake)>> + Send;

    /// Takes the certificate from its source again; the old one stays if that fails.
    fn reload(&self) -> Result<(), String>;

    /// Where the certificate comes from.
    fn source(&self) -> &Source;

    /// The certificates that it has had.
    fn pins(&self) -> Arc<Pins>;
}

#[derive(Debug)]
pub(crate) struct Server<T> {
    pub(crate) tls: T,
    pub(crate) site: Site,
    pub(crate) log: Log,
}

/// Serves until `stop` is set or has lost its sender, then lets running connections finish.
pub(crate) async fn serve<T: Tls>(
    server: Arc<Server<T>>,
    listener: TcpListener,
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let next = accept(&server, &listener, &places);
        let (place, tcp, client) = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = next => accepted,
        };
        server.site.counters.connections.fetch_add(1, Relaxed);
        let (server, stop) = (server.clone(), stop.clone());
        tokio::spawn(async move {
            let served = timeout(CONNECTION, connection(&server, tcp, stop)).await;
            match served {
                Ok(Ok(())) => {}
                Ok(Err(error)) => server.log.detail(format_args!("{client}: {error}")),
                Err(_) => server.log.detail(format_args!("{client}: took too long")),
            }
            drop(place);
        });
    }
    drop(listener);
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    let _ = timeout(GRACE, places.acquire_many(all)).await;
}

/// The next connection, as soon as there is a place for it.
async fn accept<T>(
    server: &Server<T>,
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((tcp, client)) => return (place, tcp, client),
            // The client was gone before its turn came.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                server.log.warn(format_args!("cannot accept connections: {error}"));
                sleep(BACK_OFF).await;
            }
        }
    }
}

async fn connection<T: Tls>(
    server: &Server<T>,
    tcp: TcpStream,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    // Without it the tickets wait for an acknowledgement of the flight before them.
    tcp.set_nodelay(true)?;
    let start = Instant::now();
    let accepted = timeout(HANDSHAKE, server.tls.accept(tcp)).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in ten seconds"))
    });
    let counters = &server.site.counters;
    let (stream, handshake) = accepted.inspect_err(|_| {
        counters.failed.fetch_add(1, Relaxed);
    })?;
    counters.count(&handshake);
    let since = Instant::now();
    let visit = Visit { handshake, took: since - start, since };
    answer(&server.site, stream, &visit, stop).await.map_err(io::Error::other)
}

async fn answer(
    site: &Site,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    visit: &Visit,
    mut stop: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(|request| ready(Ok::<_, Infallible>(site.respond(visit, &request))));
    let mut requests = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        done = &mut requests => return done,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    Pin::new(&mut requests).graceful_shutdown();
    requests.await
}
