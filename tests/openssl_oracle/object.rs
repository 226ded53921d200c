//! OpenSSL's session objects.

use std::ffi::{c_int, c_long, c_uchar, c_uint, c_void};
use std::ptr::{self, NonNull};

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys as ffi;
use resumption::tls::openssl::OpensslSession;

use super::context;
use super::outcome::Id;
use crate::support;

/// Of 48 bytes of a master key, those that tell sessions apart.
pub(crate) type Key = [u8; 16];

/// The context that all sessions belong to, but those of a stranger's.
pub(crate) const SCOPE: &[u8] = b"oracle";

const MASTER_KEY: usize = 48;

/// `TLS_PSK_WITH_AES_128_GCM_SHA256` (RFC 5487): a full handshake without public keys.
const CIPHER: [u8; 2] = [0x00, 0xa8];

// openssl/ssl.h; openssl-sys leaves them out.
unsafe extern "C" {
    fn SSL_SESSION_new() -> *mut ffi::SSL_SESSION;
    fn SSL_SESSION_set1_id(s: *mut ffi::SSL_SESSION, id: *const c_uchar, len: c_uint) -> c_int;
    fn SSL_SESSION_set1_id_context(
        s: *mut ffi::SSL_SESSION,
        context: *const c_uchar,
        len: c_uint,
    ) -> c_int;
    fn SSL_SESSION_set1_master_key(
        s: *mut ffi::SSL_SESSION,
        key: *const c_uchar,
        len: usize,
    ) -> c_int;
    fn SSL_SESSION_set_cipher(s: *mut ffi::SSL_SESSION, cipher: *const c_void) -> c_int;
    fn SSL_SESSION_set_protocol_version(s: *mut ffi::SSL_SESSION, version: c_int) -> c_int;
    fn SSL_SESSION_set_time(s: *mut ffi::SSL_SESSION, time: c_long) -> c_long;
    fn SSL_SESSION_set_timeout(s: *mut ffi::SSL_SESSION, timeout: c_long) -> c_long;
    fn SSL_SESSION_is_resumable(s: *const ffi::SSL_SESSION) -> c_int;
    fn SSL_CIPHER_find(ssl: *mut ffi::SSL, bytes: *const c_uchar) -> *const c_void;
}

/// A counted reference of an `SSL_SESSION`.
#[derive(Debug)]
pub(crate) struct Object(NonNull<ffi::SSL_SESSION>);

// SAFETY: the count is atomic, and the oracle uses each object in one thread at a time.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    /// A session of TLS 1.2 as a handshake leaves it. `ssl` knows the cipher.
    pub(crate) fn new(ssl: *mut ffi::SSL, id: Id, key: Key, scope: &[u8]) -> Self {
        let id = support::id(u64::from(id));
        let mut master = [0; MASTER_KEY];
        master[..key.len()].copy_from_slice(&key);
        // SAFETY: the pointers are to what lives for the call, with its length.
        unsafe {
            let this = Self(NonNull::new(SSL_SESSION_new()).expect("memory"));
            let raw = this.raw();
            let cipher = SSL_CIPHER_find(ssl, CIPHER.as_ptr());
            let (id, scope) = (id.as_bytes(), (scope.as_ptr(), scope.len() as c_uint));
            let steps = [
                SSL_SESSION_set1_id(raw, id.as_ptr(), id.len() as c_uint),
                SSL_SESSION_set1_id_context(raw, scope.0, scope.1),
                SSL_SESSION_set1_master_key(raw, master.as_ptr(), master.len()),
                SSL_SESSION_set_cipher(raw, cipher),
                SSL_SESSION_set_protocol_version(raw, ffi::TLS1_2_VERSION),
            ];
            assert!(!cipher.is_null() && steps == [1; 5], "a session by hand: {steps:?}");
            this
        }
    }

    /// With this time of birth, and so many seconds to live since.
    pub(crate) fn living(self, time: i64, timeout: i64) -> Self {
        // SAFETY: the object is alive.
        unsafe {
            SSL_SESSION_set_time(self.raw(), time);
            SSL_SESSION_set_timeout(self.raw(), timeout);
        }
        assert_eq!(self.expires(), time + timeout);
        self
    }

    /// One more reference of what `raw` points to; `None` for null.
    ///
    /// # Safety
    ///
    /// `raw` is null or points to a live object.
    pub(crate) unsafe fn of(raw: *mut ffi::SSL_SESSION) -> Option<Self> {
        let raw = NonNull::new(raw)?;
        // SAFETY: the caller's promise.
        assert_eq!(unsafe { ffi::SSL_SESSION_up_ref(raw.as_ptr()) }, 1);
        Some(Self(raw))
    }

    /// Another object of the same content, as an external cache makes one: not marked as what must
    /// not be resumed.
    pub(crate) fn copy(&self) -> Self {
        // SAFETY: the buffer is as long as the first call says, and each call moves its own pointer.
        unsafe {
            let len = ffi::i2d_SSL_SESSION(self.raw(), ptr::null_mut());
            let mut der = vec![0; usize::try_from(len).expect("it can be written")];
            ffi::i2d_SSL_SESSION(self.raw(), &mut der.as_mut_ptr());
            let len = c_long::from(len);
            let copy = ffi::d2i_SSL_SESSION(ptr::null_mut(), &mut der.as_ptr(), len);
            Self(NonNull::new(copy).expect("it can be read back"))
        }
    }

    /// What our cache keeps of a session that comes from elsewhere: a copy.
    pub(crate) fn to_payload(&self) -> OpensslSession {
        let time = self.time();
        let copy = self.copy().living(time, context::LONG.as_secs().cast_signed());
        // SAFETY: the object is alive for as long as this borrows it.
        let session = unsafe { SslSessionRef::from_ptr(copy.raw()) };
        OpensslSession::new(session, None).expect("memory")
    }

    /// The object in our cache.
    pub(crate) fn of_payload(payload: &OpensslSession) -> Self {
        // SAFETY: the payload has a reference of the object.
        unsafe { Self::of(payload.session().as_ptr()) }.expect("it is not null")
    }

    /// The object.
    pub(crate) fn raw(&self) -> *mut ffi::SSL_SESSION {
        self.0.as_ptr()
    }

    /// The reference, for one who frees it.
    pub(crate) fn into_raw(self) -> *mut ffi::SSL_SESSION {
        let raw = self.raw();
        std::mem::forget(self);
        raw
    }

    /// The number of its id.
    pub(crate) fn id(&self) -> Id {
        let mut len = 0;
        // SAFETY: the id lives as long as the object.
        let bytes = unsafe {
            let bytes = ffi::SSL_SESSION_get_id(self.raw(), &mut len);
            std::slice::from_raw_parts(bytes, len as usize)
        };
        let id = resumption::SessionId::try_from(bytes).expect("a session has an id");
        Id::try_from(support::number(&id)).expect("an id of the oracle's")
    }

    /// The beginning of its master key.
    pub(crate) fn key(&self) -> Key {
        let mut key = Key::default();
        // SAFETY: it writes as much as it is told.
        let len =
            unsafe { ffi::SSL_SESSION_get_master_key(self.raw(), key.as_mut_ptr(), key.len()) };
        assert_eq!(len, key.len(), "a session has a key");
        key
    }

    /// When it was made.
    pub(crate) fn time(&self) -> i64 {
        // SAFETY: the object is alive.
        unsafe { ffi::SSL_SESSION_get_time(self.raw()) }
    }

    /// The last second of its life.
    pub(crate) fn expires(&self) -> i64 {
        // SAFETY: the object is alive.
        self.time() + unsafe { ffi::SSL_SESSION_get_timeout(self.raw()) }
    }

    /// Whether OpenSSL has not marked it as what must not be resumed.
    pub(crate) fn is_resumable(&self) -> bool {
        // SAFETY: the object is alive.
        unsafe { SSL_SESSION_is_resumable(self.raw()) == 1 }
    }

    /// `SSL_SESSION_set_timeout`.
    pub(crate) fn set_timeout(&self, timeout: i64) -> bool {
        // SAFETY: the object is alive.
        unsafe { SSL_SESSION_set_timeout(self.raw(), timeout) == 1 }
    }
}

impl Clone for Object {
    fn clone(&self) -> Self {
        // SAFETY: the object is alive.
        unsafe { Self::of(self.raw()) }.expect("it is not null")
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's.
        unsafe { ffi::SSL_SESSION_free(self.raw()) };
    }
}
