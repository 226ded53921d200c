//! The signals that a server obeys; Unix has them.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// SIGHUP
    Reload,
    /// SIGINT or SIGTERM
    Stop,
}

#[derive(Debug)]
pub(crate) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one that says stop.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Order::Stop {}
    }

    pub(crate) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.hangup.recv() => Order::Reload,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.terminate.recv() => Order::Stop,
        }
    }
}
