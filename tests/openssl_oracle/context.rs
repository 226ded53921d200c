//! OpenSSL's contexts, servers' and clients', as far as they have to do with sessions.

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_uint, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContext, SslContextRef, SslMethod};
use openssl_sys as ffi;
use resumption::Sessions;
use resumption::tls::openssl::{Attachment, OpensslSession};

use super::handshake::generate_id;
use super::object::{Object, SCOPE};
use super::operation::Listening;
use super::outcome::Counts;

type Generate = unsafe extern "C" fn(*mut ffi::SSL, *mut c_uchar, *mut c_uint) -> c_int;

// openssl/ssl.h and openssl/lhash.h; openssl-sys leaves them out.
unsafe extern "C" {
    fn SSL_CTX_flush_sessions(ctx: *mut ffi::SSL_CTX, at: c_long);
    fn SSL_CTX_set_timeout(ctx: *mut ffi::SSL_CTX, timeout: c_long) -> c_long;
    fn SSL_CTX_set_generate_session_id(ctx: *mut ffi::SSL_CTX, callback: Generate) -> c_int;
    fn SSL_CTX_sessions(ctx: *mut ffi::SSL_CTX) -> *mut c_void;
    fn OPENSSL_LH_doall_arg(
        table: *mut c_void,
        visit: unsafe extern "C" fn(*mut c_void, *mut c_void),
        arg: *mut c_void,
    );
}

// openssl/ssl.h.
const SSL_OP_NO_EXTENDED_MASTER_SECRET: u64 = 1;
const SSL_CTRL_SESS_NUMBER: c_int = 20;
const SSL_CTRL_SESS_HIT: c_int = 27;
const SSL_CTRL_SESS_CB_HIT: c_int = 28;
const SSL_CTRL_SESS_MISSES: c_int = 29;
const SSL_CTRL_SESS_TIMEOUTS: c_int = 30;
const SSL_CTRL_SESS_CACHE_FULL: c_int = 31;

/// A full handshake without certificates: what both sides know.
const PSK: [u8; 16] = *b"known to them 2.";

/// How long sessions live where the cache ends them.
pub(crate) const LONG: Duration = Duration::from_secs(86_400 * 365);

/// An `SSL_CTX`.
#[derive(Debug)]
pub(crate) struct Context(NonNull<ffi::SSL_CTX>);

/// What OpenSSL calls about sessions.
pub(crate) struct Callbacks {
    pub(crate) new: unsafe extern "C" fn(*mut ffi::SSL, *mut ffi::SSL_SESSION) -> c_int,
    pub(crate) remove: unsafe extern "C" fn(*mut ffi::SSL_CTX, *mut ffi::SSL_SESSION),
    pub(crate) get: unsafe extern "C" fn(
        *mut ffi::SSL,
        *const c_uchar,
        c_int,
        *mut c_int,
    ) -> *mut ffi::SSL_SESSION,
}

impl Context {
    /// A client's context, which caches nothing.
    pub(crate) fn client() -> Self {
        // SAFETY: a new context belongs to the caller.
        let this = unsafe { Self::configured(ffi::SSL_CTX_new(ffi::TLS_method())) };
        this.set_mode(0);
        // SAFETY: the context is alive.
        unsafe { ffi::SSL_CTX_set_psk_client_callback(this.raw(), Some(psk_of_client)) };
        this
    }

    /// A server's context with OpenSSL's cache.
    pub(crate) fn server(callbacks: &Callbacks) -> Self {
        // SAFETY: as above.
        let this = unsafe { Self::configured(ffi::SSL_CTX_new(ffi::TLS_method())) };
        this.serve();
        // SAFETY: the context is alive.
        unsafe { ffi::SSL_CTX_sess_set_remove_cb(this.raw(), Some(callbacks.remove)) };
        this.listen(callbacks, Listening::TO_ALL);
        this
    }

    /// Sets the new callback and the get callback, or unsets them.
    pub(crate) fn listen(&self, callbacks: &Callbacks, to: Listening) {
        // SAFETY: the context is alive.
        unsafe {
            ffi::SSL_CTX_sess_set_new_cb(self.raw(), to.to_new.then_some(callbacks.new));
            ffi::SSL_CTX_sess_set_get_cb(self.raw(), to.to_get.then_some(callbacks.get));
        }
    }

    /// A server's context with our cache.
    pub(crate) fn attached(sessions: &Sessions<OpensslSession>) -> Self {
        let mut builder = SslContext::builder(SslMethod::tls()).expect("memory");
        // How long sessions live, the cache alone says.
        let attachment = Attachment::new(sessions).timeout(LONG);
        attachment.attach(&mut builder).expect("memory");
        // SAFETY: the context is alive, and has one reference more for this.
        let this = unsafe {
            assert_eq!(ffi::SSL_CTX_up_ref(builder.as_ptr()), 1);
            Self::configured(builder.as_ptr())
        };
        this.serve();
        this
    }

    /// A context as both sides have it.
    ///
    /// # Safety
    ///
    /// `raw` is a reference of a context that nobody else uses now, or null.
    unsafe fn configured(raw: *mut ffi::SSL_CTX) -> Self {
        let this = Self(NonNull::new(raw).expect("memory"));
        let ciphers = c"PSK-AES128-GCM-SHA256:@SECLEVEL=0";
        // SAFETY: the context is alive, and so is what the pointers are to.
        unsafe {
            assert_eq!(ffi::SSL_CTX_set_max_proto_version(raw, ffi::TLS1_2_VERSION), 1);
            ffi::SSL_CTX_set_options(raw, ffi::SSL_OP_NO_TICKET | SSL_OP_NO_EXTENDED_MASTER_SECRET);
            assert_eq!(ffi::SSL_CTX_set_cipher_list(raw, ciphers.as_ptr()), 1);
            // Also of the attached one: sessions that are made by hand have this one.
            let len = SCOPE.len() as c_uint;
            assert_eq!(ffi::SSL_CTX_set_session_id_context(raw, SCOPE.as_ptr(), len), 1);
        }
        this
    }

    fn serve(&self) {
        // SAFETY: the context is alive.
        unsafe {
            ffi::SSL_CTX_set_psk_server_callback(self.raw(), Some(psk_of_server));
            assert_eq!(SSL_CTX_set_generate_session_id(self.raw(), generate_id), 1);
        }
    }

    pub(crate) fn as_ref(&self) -> &SslContextRef {
        // SAFETY: the context is alive for as long as this borrows it.
        unsafe { SslContextRef::from_ptr(self.raw()) }
    }

    pub(crate) fn raw(&self) -> *mut ffi::SSL_CTX {
        self.0.as_ptr()
    }

    fn control(&self, command: c_int, arg: i64) -> i64 {
        // SAFETY: the commands of this module take no pointer.
        unsafe { ffi::SSL_CTX_ctrl(self.raw(), command, arg, ptr::null_mut()) }
    }

    /// `SSL_CTX_set_session_cache_mode`: the mode before.
    pub(crate) fn set_mode(&self, mode: u32) -> u32 {
        self.control(ffi::SSL_CTRL_SET_SESS_CACHE_MODE, i64::from(mode)) as u32
    }

    /// `SSL_CTX_sess_set_cache_size`: the size before.
    pub(crate) fn set_size(&self, size: i64) -> i64 {
        self.control(ffi::SSL_CTRL_SET_SESS_CACHE_SIZE, size)
    }

    /// `SSL_CTX_set_timeout`: the timeout before.
    pub(crate) fn set_timeout(&self, seconds: i64) -> i64 {
        // SAFETY: the context is alive.
        unsafe { SSL_CTX_set_timeout(self.raw(), seconds) }
    }

    /// `SSL_CTX_add_session`.
    pub(crate) fn add(&self, object: &Object) -> bool {
        // SAFETY: both are alive; the context takes a reference of its own.
        unsafe { ffi::SSL_CTX_add_session(self.raw(), object.raw()) == 1 }
    }

    /// `SSL_CTX_remove_session`.
    pub(crate) fn remove(&self, object: &Object) -> bool {
        // SAFETY: both are alive.
        unsafe { ffi::SSL_CTX_remove_session(self.raw(), object.raw()) == 1 }
    }

    /// `SSL_CTX_flush_sessions`.
    pub(crate) fn flush(&self, at: i64) {
        // SAFETY: the context is alive.
        unsafe { SSL_CTX_flush_sessions(self.raw(), at) };
    }

    /// The sessions of the cache, expired ones too.
    pub(crate) fn sessions(&self) -> Vec<Object> {
        unsafe extern "C" fn visit(object: *mut c_void, found: *mut c_void) {
            // SAFETY: what the call below gives, and what the table holds.
            unsafe {
                let found = &mut *found.cast::<Vec<Object>>();
                found.extend(Object::of(object.cast()));
            }
        }
        let mut found = Vec::<Object>::new();
        // SAFETY: `visit` takes an object of the table and the vector, and changes no table.
        unsafe {
            OPENSSL_LH_doall_arg(SSL_CTX_sessions(self.raw()), visit, (&raw mut found).cast())
        };
        assert_eq!(self.control(SSL_CTRL_SESS_NUMBER, 0), found.len() as i64);
        found
    }

    /// `SSL_CTX_sess_hits` and the others.
    pub(crate) fn counts(&self) -> Counts {
        let count = |command| self.control(command, 0);
        Counts {
            hits: count(SSL_CTRL_SESS_HIT),
            callback_hits: count(SSL_CTRL_SESS_CB_HIT),
            misses: count(SSL_CTRL_SESS_MISSES),
            timeouts: count(SSL_CTRL_SESS_TIMEOUTS),
            cache_full: count(SSL_CTRL_SESS_CACHE_FULL),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's.
        unsafe { ffi::SSL_CTX_free(self.raw()) };
    }
}

/// The library's version, as it says it.
pub(crate) fn version() -> &'static str {
    // SAFETY: a string that lives for ever.
    let version = unsafe { CStr::from_ptr(ffi::OpenSSL_version(0)) };
    version.to_str().unwrap_or("unknown")
}

extern "C" fn psk_of_client(
    _: *mut ffi::SSL,
    _hint: *const c_char,
    identity: *mut c_char,
    _most_identity: c_uint,
    key: *mut c_uchar,
    _most: c_uint,
) -> c_uint {
    // SAFETY: both are longer than what is written, by `PSK_MAX_IDENTITY_LEN` and `PSK_MAX_PSK_LEN`.
    unsafe { ptr::copy_nonoverlapping(c"oracle".as_ptr(), identity, 7) };
    give_psk(key)
}

extern "C" fn psk_of_server(
    _: *mut ffi::SSL,
    _identity: *const c_char,
    key: *mut c_uchar,
    _most: c_uint,
) -> c_uint {
    give_psk(key)
}

fn give_psk(key: *mut c_uchar) -> c_uint {
    // SAFETY: as above.
    unsafe { ptr::copy_nonoverlapping(PSK.as_ptr(), key, PSK.len()) };
    PSK.len() as c_uint
}
