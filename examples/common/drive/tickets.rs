//! The tickets of one client, handed to rustls one by one.

use std::{mem, sync::Mutex};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

/// The store that a client's configuration has: what it offers next is decided by the client, and
/// what it receives is the client's to keep.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    offer: Option<Tls13ClientSessionValue>,
    received: Vec<Tls13ClientSessionValue>,
}

impl Tickets {
    /// What the next connection offers; `None` makes it a new client.
    pub(crate) fn offer(&self, ticket: Option<Tls13ClientSessionValue>) {
        self.slots.lock().unwrap().offer = ticket;
    }

    /// What the server has sent since the last call.
    pub(crate) fn received(&self) -> Vec<Tls13ClientSessionValue> {
        mem::take(&mut self.slots.lock().unwrap().received)
    }
}

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.slots.lock().unwrap().received.push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.slots.lock().unwrap().offer.take()
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    // The clients speak TLS 1.3 alone.

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}
