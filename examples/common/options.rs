//! What a server can be asked to do on its command line.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    thread,
    time::Duration,
};

use clap::Parser;

/// An HTTPS server that remembers the TLS sessions of its clients.
///
/// Its page says whether the connection that brought it was resumed: open it, and reload.
/// SIGHUP reads the certificate again and keeps the sessions; SIGINT and SIGTERM end it.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Where to listen [default: 127.0.0.1:8443; with --drive a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// The certificate chain, PEM [default: self-signed, made at start]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of --cert, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Write the self-signed certificate to this file, so that a client can be told to trust it
    #[arg(long, value_name = "FILE", conflicts_with = "cert")]
    pub(crate) save_cert: Option<PathBuf>,

    /// How many sessions are kept at most
    #[arg(long, value_name = "N", default_value = "100000")]
    pub(crate) max_sessions: NonZeroUsize,

    /// How long a session may be resumed: seconds, or as in 90s, 15min, 2h
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = lifetime)]
    pub(crate) lifetime: Duration,

    /// How many connections are served at once; more of them wait
    #[arg(long, value_name = "N", default_value = "512",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_connections: u16,

    /// Tell of each connection that fails
    #[arg(long)]
    pub(crate) verbose: bool,

    /// Drive the server with clients of its own for so long, sum up, and end; the exit status is 1 if there was no
    /// handshake, one has failed, or a ticket served twice
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) drive: Option<u64>,

    /// How many clients drive at once [default: two for each core]
    #[arg(long, value_name = "N", requires = "drive",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: Option<u16>,

    /// Sum up as one JSON object, the last line of the output
    #[arg(long, requires = "drive")]
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn address(&self) -> SocketAddr {
        let port = if self.drive.is_some() { 0 } else { 8443 };
        self.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    pub(crate) fn clients(&self) -> usize {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        self.clients.map_or((2 * cores).min(256), usize::from)
    }

    /// Every client of a drive may hold two connections, so they must all have a place.
    pub(crate) fn connections(&self) -> usize {
        let driven = if self.drive.is_some() { 2 * self.clients() } else { 0 };
        driven.max(usize::from(self.max_connections))
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if parsed < Duration::from_secs(1) {
        return Err("a session must live for a second at least".to_owned());
    }
    Ok(parsed)
}
