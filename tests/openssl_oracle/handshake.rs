//! A client and a server of OpenSSL, and the bytes between them.

use std::cell::Cell;
use std::ffi::{c_int, c_uchar, c_uint};

use foreign_types::ForeignTypeRef;
use openssl_sys as ffi;

use super::context::Context;
use super::object::Object;
use super::outcome::Id;
use crate::support;

/// An `SSL`.
#[derive(Debug)]
pub(crate) struct Ssl(openssl::ssl::Ssl);

/// A handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    client: Ssl,
    server: Ssl,
}

// openssl/bio.h; openssl-sys leaves it out.
unsafe extern "C" {
    fn BIO_up_ref(bio: *mut ffi::BIO) -> c_int;
}

impl Ssl {
    pub(crate) fn new(context: &Context) -> Self {
        Self(openssl::ssl::Ssl::new(context.as_ref()).expect("memory"))
    }

    pub(crate) fn raw(&self) -> *mut ffi::SSL {
        self.0.as_ptr()
    }

    /// Goes on with the handshake; whether it is finished.
    fn go_on(&self) -> bool {
        // SAFETY: the connection is alive.
        unsafe { ffi::SSL_do_handshake(self.raw()) == 1 }
    }
}

impl Drop for Ssl {
    /// What a connection has left in the thread's queue of errors would be taken for the next one's.
    fn drop(&mut self) {
        drop(openssl::error::ErrorStack::get());
    }
}

impl Handshake {
    /// A client proposes a session, or none, and the server looks for it.
    pub(crate) fn begin(client: &Context, server: &Context, proposed: Option<&Object>) -> Self {
        let (client, server) = (Ssl::new(client), Ssl::new(server));
        // SAFETY: each `SSL_set_bio` takes one reference of each of two different buffers.
        unsafe {
            let buffers = [(); 2].map(|()| ffi::BIO_new(ffi::BIO_s_mem()));
            assert!(buffers.iter().all(|&buffer| BIO_up_ref(buffer) == 1));
            ffi::SSL_set_bio(client.raw(), buffers[0], buffers[1]);
            ffi::SSL_set_bio(server.raw(), buffers[1], buffers[0]);
            ffi::SSL_set_connect_state(client.raw());
            ffi::SSL_set_accept_state(server.raw());
            if let Some(proposed) = proposed {
                assert_eq!(ffi::SSL_set_session(client.raw(), proposed.raw()), 1);
            }
        }
        assert!(!client.go_on() && !server.go_on(), "each waits for the other");
        Self { client, server }
    }

    /// A full handshake, whose session has this id.
    pub(crate) fn full(client: &Context, server: &Context, id: Id) -> Self {
        NEXT.set(Some(id));
        let handshake = Self::begin(client, server, None);
        handshake.finish();
        NEXT.set(None);
        assert_eq!(handshake.session().id(), id);
        handshake
    }

    /// The session that the server has resumed.
    pub(crate) fn resumed(&self) -> Option<Object> {
        // SAFETY: the connection is alive.
        let is_resumed = unsafe { ffi::SSL_session_reused(self.server.raw()) == 1 };
        is_resumed.then(|| self.session())
    }

    /// The server's session.
    pub(crate) fn session(&self) -> Object {
        // SAFETY: the connection is alive, and its session with it.
        let session = unsafe { Object::of(ffi::SSL_get_session(self.server.raw())) };
        session.expect("a server that has answered has a session")
    }

    /// Finishes the handshake on both sides.
    #[track_caller]
    pub(crate) fn finish(&self) {
        for _ in 0..2 {
            let _ = self.client.go_on();
            let _ = self.server.go_on();
        }
        assert!(self.client.go_on() && self.server.go_on(), "the handshake ends");
    }

    /// Ends the connection as if `close_notify` had been sent, and received.
    pub(crate) fn close_cleanly(self) {
        const BOTH: c_int = ffi::SSL_SENT_SHUTDOWN | ffi::SSL_RECEIVED_SHUTDOWN;
        // SAFETY: the connection is alive.
        unsafe { ffi::SSL_set_shutdown(self.server.raw(), BOTH) };
    }
}

thread_local! {
    /// The id of the session that is negotiated next.
    static NEXT: Cell<Option<Id>> = const { Cell::new(None) };
    /// Those of sessions that will not come to be, counted down.
    static OTHERS: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Chooses the ids of sessions.
pub(crate) unsafe extern "C" fn generate_id(
    _: *mut ffi::SSL,
    id: *mut c_uchar,
    len: *mut c_uint,
) -> c_int {
    OTHERS.set(OTHERS.get() - 1);
    let new = support::id(NEXT.get().map_or(OTHERS.get(), u64::from));
    // SAFETY: the buffer is as long as `len` says.
    let id = unsafe { std::slice::from_raw_parts_mut(id, *len as usize) };
    id.copy_from_slice(new.as_bytes());
    1
}
