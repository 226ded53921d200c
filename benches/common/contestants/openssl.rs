//! OpenSSL's own cache of an `SSL_CTX`, by the calls that a program may make.
//!
//! What it stores is an `SSL_SESSION`, which is payload and entry in one, and which a handshake makes
//! whoever stores it: they are made outside the timed part. There is no call that hands out a session
//! by its id; `SSL_has_matching_session_id`, which says whether it is there, stands for get. It takes
//! no reference and touches no payload: less than the others do. A take is
//! `SSL_CTX_remove_session` of a session that has nothing but the id.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{c_int, c_uchar, c_uint};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{
    Ssl, SslContext, SslContextRef, SslMethod, SslOptions, SslSession, SslSessionCacheMode,
};
use openssl_sys as sys;

use super::honest::Id;
use super::{Cache, Contestant, LIFETIME};
use crate::openssl_calls::{session_count, set_id, set_timeout};
use crate::report::Kind;

pub(super) const OPENSSL: Contestant = Contestant {
    name: "OpenSSL SSL_CTX",
    kind: Kind::Bounded,
    set_up: [
        "exact; earliest expiry",
        "2 h, list in order",
        "1 rwlock",
        "4 bytes",
        "flush by call",
    ],
    len: "",
    bytes: 1_300,
    make: |max| Box::new(Context::new(max)),
};

// From `<openssl/ssl.h>`.
unsafe extern "C" {
    fn SSL_SESSION_new() -> *mut sys::SSL_SESSION;
    fn SSL_SESSION_set_protocol_version(session: *mut sys::SSL_SESSION, version: c_int) -> c_int;
    fn SSL_has_matching_session_id(ssl: *const sys::SSL, id: *const c_uchar, len: c_uint) -> c_int;
    fn SSL_version(ssl: *const sys::SSL) -> c_int;
}

thread_local! {
    /// This thread's next sessions to be put.
    static MADE: RefCell<VecDeque<SslSession>> = const { RefCell::new(VecDeque::new()) };
    /// What this thread asks with.
    static ASKER: RefCell<Option<Asker>> = const { RefCell::new(None) };
}

struct Context(SslContext);

/// A connection of a context, which may ask for ids, and a session that has the id asked for.
struct Asker {
    ssl: Ssl,
    stub: SslSession,
}

impl Context {
    fn new(max: usize) -> Self {
        let mut builder = SslContext::builder(SslMethod::tls_server()).expect("OpenSSL has memory");
        builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
        builder.set_session_cache_size(i32::try_from(max).expect("OpenSSL counts in an int"));
        builder.set_options(SslOptions::NO_TICKET);
        Self(builder.build())
    }

    fn with_asker<R>(&self, run: impl FnOnce(&mut Asker) -> R) -> R {
        ASKER.with_borrow_mut(|asker| {
            let is_ours = |asker: &Asker| ptr::eq(asker.context().as_ptr(), self.0.as_ptr());
            if !asker.as_ref().is_some_and(is_ours) {
                *asker = Some(Asker::new(&self.0));
            }
            run(asker.as_mut().expect("it was made"))
        })
    }
}

impl Asker {
    fn new(context: &SslContext) -> Self {
        let ssl = Ssl::new(context).expect("OpenSSL has memory");
        let stub = session(&[0; 32], &ssl);
        Self { ssl, stub }
    }

    fn context(&self) -> &SslContextRef {
        self.ssl.ssl_context()
    }
}

/// A session of this id, of the version that the connection asks for.
fn session(id: &Id, ssl: &Ssl) -> SslSession {
    // SAFETY: the one reference is ours, if there is one.
    let session = unsafe {
        let session = SSL_SESSION_new();
        assert!(!session.is_null(), "OpenSSL has no memory");
        SslSession::from_ptr(session)
    };
    // SAFETY: nobody else knows the session, and the connection lives.
    unsafe {
        SSL_SESSION_set_protocol_version(session.as_ptr(), SSL_version(ssl.as_ptr()));
        set_timeout(&session, LIFETIME);
        set_id(&session, id);
    }
    session
}

impl Cache for Context {
    fn prepare(&self, ids: &mut dyn Iterator<Item = &Id>) {
        MADE.with_borrow_mut(|made| {
            self.with_asker(|asker| made.extend(ids.map(|id| session(id, &asker.ssl))));
        });
    }

    fn put(&self, id: &Id, _: &[u8]) {
        let made = MADE.with_borrow_mut(VecDeque::pop_front).expect("it was made before");
        debug_assert_eq!(made.id(), id);
        // SAFETY: no other context has it.
        assert!(unsafe { self.0.add_session(&made) }, "an add was refused");
    }

    fn get(&self, id: &Id) -> Option<u8> {
        self.with_asker(|asker| {
            let ssl = asker.ssl.as_ptr();
            // SAFETY: the connection lives; OpenSSL reads as many bytes as the id has.
            let is_there =
                unsafe { SSL_has_matching_session_id(ssl, id.as_ptr(), id.len() as c_uint) };
            (is_there == 1).then_some(0x5a)
        })
    }

    fn take(&self, id: &Id) -> Option<u8> {
        self.with_asker(|asker| {
            // SAFETY: nobody else knows the stub, which no context has.
            unsafe { set_id(&asker.stub, id) };
            // SAFETY: the session that has the stub's id is in this context or in none.
            unsafe { self.0.remove_session(&asker.stub) }.then_some(0x5a)
        })
    }

    fn count(&self) -> Option<usize> {
        Some(session_count(&self.0))
    }
}
