//! What the adapter needs of OpenSSL and the `openssl` crate does not offer, each piece behind a
//! safe function where that can be.
//!
//! The declarations are those of OpenSSL 3.0; the header of each is named.
//!
//! Nothing here that OpenSSL calls can panic.

use std::ffi::{c_int, c_long, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslOptions, SslRef, SslSession, SslSessionRef};
use openssl_sys as sys;

use crate::{SecretBytes, SessionId};

/// `SSL_OP_NO_ANTI_REPLAY`, which is `SSL_OP_BIT(24)` in `<openssl/ssl.h>`.
pub(super) const NO_ANTI_REPLAY: SslOptions = SslOptions::from_bits_retain(1 << 24);

/// `SSL_SESS_CACHE_NO_INTERNAL_STORE` of `<openssl/ssl.h>`.
const NO_INTERNAL_STORE: c_long = 0x200;

/// `SSL_CTRL_GET_SESS_CACHE_MODE` of `<openssl/ssl.h>`.
const GET_SESS_CACHE_MODE: c_int = 45;

/// `CRYPTO_EX_INDEX_SSL_SESSION` of `<openssl/crypto.h>`.
const EX_INDEX_SSL_SESSION: c_int = 2;

/// `ERR_LIB_SSL` of `<openssl/err.h>`.
const LIB_SSL: c_int = 20;

/// `SSL_R_UNINITIALIZED` of `<openssl/sslerr.h>`.
const UNINITIALIZED: c_int = 276;

/// `TLSEXT_TYPE_server_name` of `<openssl/tls1.h>`.
const SERVER_NAME: c_uint = 0;

// From `<openssl/ssl.h>`.
unsafe extern "C" {
    fn SSL_CTX_set_timeout(ctx: *mut sys::SSL_CTX, seconds: c_long) -> c_long;
    fn SSL_CTX_get_timeout(ctx: *const sys::SSL_CTX) -> c_long;
    fn SSL_get_options(ssl: *const sys::SSL) -> u64;
    fn SSL_SESSION_is_resumable(session: *const sys::SSL_SESSION) -> c_int;
    fn SSL_SESSION_get0_cipher(session: *const sys::SSL_SESSION) -> *const sys::SSL_CIPHER;
    fn SSL_SESSION_dup(session: *const sys::SSL_SESSION) -> *mut sys::SSL_SESSION;
    fn SSL_SESSION_set_timeout(session: *mut sys::SSL_SESSION, seconds: c_long) -> c_long;
    fn SSL_SESSION_get_ex_data(session: *const sys::SSL_SESSION, index: c_int) -> *mut c_void;
    fn SSL_SESSION_set_ex_data(
        session: *mut sys::SSL_SESSION,
        index: c_int,
        data: *mut c_void,
    ) -> c_int;
}

/// A context, named by a callback that belongs to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context(*mut sys::SSL_CTX);

// SAFETY: only its mode and its timeout are read, which no safe code changes once the context is built.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub(super) fn of(builder: &SslContextBuilder) -> Self {
        Self(builder.as_ptr())
    }

    /// Whether the context links the sessions that it makes and is given into a list of its own.
    ///
    /// # Safety
    ///
    /// The context lives.
    pub(super) unsafe fn stores(self) -> bool {
        // SAFETY: the context lives, as the caller says; the call reads a field.
        let mode = unsafe { sys::SSL_CTX_ctrl(self.0, GET_SESS_CACHE_MODE, 0, ptr::null_mut()) };
        mode & NO_INTERNAL_STORE == 0
    }

    /// How long the sessions live that the context makes in full handshakes, in seconds; `None` for OpenSSL's own
    /// timeout, which who sets 0 wants.
    ///
    /// # Safety
    ///
    /// The context lives.
    pub(super) unsafe fn timeout(self) -> Option<c_long> {
        // SAFETY: the context lives, as the caller says; the call reads a field.
        let seconds = unsafe { SSL_CTX_get_timeout(self.0) };
        Some(seconds).filter(|&seconds| seconds > 0)
    }
}

/// Sets how long the sessions of a context live, in seconds.
pub(super) fn set_timeout(builder: &mut SslContextBuilder, seconds: i32) {
    // SAFETY: the builder owns a context; the call sets a field.
    unsafe { SSL_CTX_set_timeout(builder.as_ptr(), c_long::from(seconds)) };
}

/// How long a session lives, in seconds.
pub(super) fn timeout(session: &SslSessionRef) -> c_long {
    // SAFETY: the session lives; the call reads a field.
    unsafe { sys::SSL_SESSION_get_timeout(session.as_ptr()) }
}

/// Sets how long a session lives, in seconds.
///
/// # Safety
///
/// No other thread uses the session meanwhile.
pub(super) unsafe fn set_timeout_of(session: &SslSessionRef, seconds: c_long) {
    // SAFETY: the session lives, and nobody else is at its fields, as the caller says.
    unsafe { SSL_SESSION_set_timeout(session.as_ptr(), seconds) };
}

/// Empties this thread's queue of errors.
pub(super) fn clear_errors() {
    // SAFETY: the queue is the thread's own.
    unsafe { sys::ERR_clear_error() };
}

/// The options of a connection.
pub(super) fn options(ssl: &SslRef) -> SslOptions {
    // SAFETY: the connection lives; the call reads a field.
    SslOptions::from_bits_retain(unsafe { SSL_get_options(ssl.as_ptr()) })
}

/// The protocol version that a connection has negotiated: `TLS1_2_VERSION` and so on.
pub(super) fn version(ssl: &SslRef) -> c_int {
    // SAFETY: the connection lives; the call reads a field.
    unsafe { sys::SSL_version(ssl.as_ptr()) }
}

/// The protocol version that a session was made with.
pub(super) fn session_version(session: &SslSessionRef) -> c_int {
    // SAFETY: the session lives; the call reads a field.
    unsafe { sys::SSL_SESSION_get_protocol_version(session.as_ptr()) }
}

/// The server_name extension of the ClientHello that is just being worked on; `None` where there is
/// no such extension, or no such ClientHello.
pub(super) fn server_name_extension(ssl: &SslRef) -> Option<&[u8]> {
    let (mut start, mut len) = (ptr::null(), 0);
    // SAFETY: the connection lives. OpenSSL looks itself whether it has a ClientHello.
    let found =
        unsafe { sys::SSL_client_hello_get0_ext(ssl.as_ptr(), SERVER_NAME, &mut start, &mut len) };
    if found != 1 {
        return None;
    }
    if len == 0 {
        return Some(&[]);
    }
    // SAFETY: these bytes are the ClientHello's, which stays until OpenSSL goes on with the
    // handshake: for that somebody needs the connection for himself, which is borrowed here.
    Some(unsafe { std::slice::from_raw_parts(start, len) })
}

/// Whether OpenSSL has not marked a session as not resumable, and there is something to resume.
pub(super) fn is_resumable(session: &SslSessionRef) -> bool {
    // SAFETY: the session lives; the call reads fields.
    has_cipher(session) && unsafe { SSL_SESSION_is_resumable(session.as_ptr()) == 1 }
}

/// Whether the handshake that makes a session has come to its keys. OpenSSL does not ask: it reads the cipher of what it
/// is lent, be there one or not.
pub(super) fn has_cipher(session: &SslSessionRef) -> bool {
    // SAFETY: the session lives; the call reads a field.
    !unsafe { SSL_SESSION_get0_cipher(session.as_ptr()) }.is_null()
}

/// The error for a session that has no cipher.
pub(super) fn no_cipher() -> ErrorStack {
    // SAFETY: the queue is the thread's own, and the text is copied; it asks for no further argument.
    unsafe {
        sys::ERR_new();
        sys::ERR_set_error(LIB_SSL, UNINITIALIZED, c"the session has no cipher yet".as_ptr());
    }
    ErrorStack::get()
}

/// A copy that shares nothing with `session`: OpenSSL may mark one of them as not resumable, and
/// does not mean the other.
pub(super) fn dup(session: &SslSessionRef) -> Result<SslSession, ErrorStack> {
    // SAFETY: the session lives, and OpenSSL only reads it. What comes back is null or counted for
    // us.
    let copy = unsafe { SSL_SESSION_dup(session.as_ptr()) };
    if copy.is_null() {
        return Err(ErrorStack::get());
    }
    // SAFETY: it is not null, and its one reference is ours.
    Ok(unsafe { SslSession::from_ptr(copy) })
}

/// `head`, and then the session in OpenSSL's encoding; `None` if it has none. No copy of the bytes
/// stays behind.
pub(super) fn encode(head: &[u8], session: &SslSessionRef) -> Option<SecretBytes> {
    let len = encoded_len(session);
    if len == 0 {
        return None;
    }
    let mut bytes = vec![0; head.len() + len];
    bytes[..head.len()].copy_from_slice(head);
    let mut place: *mut c_uchar = bytes[head.len()..].as_mut_ptr();
    // SAFETY: the session lives and does not change, so that it takes the `len` bytes that are
    // there.
    unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), &mut place) };
    Some(bytes.into())
}

/// The bytes of a session in OpenSSL's encoding; 0 if it has none.
pub(super) fn encoded_len(session: &SslSessionRef) -> usize {
    // SAFETY: the session lives; without a place to write to, OpenSSL counts bytes.
    let len = unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), ptr::null_mut()) };
    usize::try_from(len).unwrap_or(0)
}

/// The id that a session has in its cache, if [`set_cache_id`] was called for it or for what it is
/// a copy of.
pub(super) fn cache_id(session: &SslSessionRef) -> Option<SessionId> {
    let index = *INDEX.get()?;
    // SAFETY: the session lives, and its data are set before other threads know it.
    let data = unsafe { SSL_SESSION_get_ex_data(session.as_ptr(), index) };
    // SAFETY: what is at our index is null or from `set_cache_id`, and lives as long as the
    // session.
    unsafe { data.cast::<SessionId>().as_ref() }.copied()
}

/// Notes the id that a session has in its cache, with the session.
///
/// # Safety
///
/// No other thread reads or sets data of this session meanwhile.
pub(super) unsafe fn set_cache_id(
    session: &SslSessionRef,
    id: &SessionId,
) -> Result<(), ErrorStack> {
    let index = index()?;
    // SAFETY: the session lives, and no other thread is at its data.
    let old = unsafe { SSL_SESSION_get_ex_data(session.as_ptr(), index) };
    // SAFETY: as in `cache_id`; and no other thread reads it.
    if let Some(old) = unsafe { old.cast::<SessionId>().as_mut() } {
        *old = *id;
        return Ok(());
    }
    let data = Box::into_raw(Box::new(*id));
    // SAFETY: as above. The box belongs to the session from now on, and `free_id` drops it.
    if unsafe { SSL_SESSION_set_ex_data(session.as_ptr(), index, data.cast()) } == 1 {
        return Ok(());
    }
    // SAFETY: OpenSSL did not take it, so it is ours still.
    drop(unsafe { Box::from_raw(data) });
    Err(ErrorStack::get())
}

/// Where a session has its id.
static INDEX: OnceLock<c_int> = OnceLock::new();

/// Reserves the place where sessions have their ids, once for the process.
pub(super) fn index() -> Result<c_int, ErrorStack> {
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    openssl::init();
    // SAFETY: the functions fit the index: they take what `set_cache_id` sets.
    let index = unsafe {
        sys::CRYPTO_get_ex_new_index(
            EX_INDEX_SSL_SESSION,
            0,
            ptr::null_mut(),
            None,
            Some(dup_id),
            Some(free_id),
        )
    };
    if index < 0 {
        return Err(ErrorStack::get());
    }
    // If another thread was faster, this index is left unused.
    Ok(*INDEX.get_or_init(|| index))
}

/// A session is copied: `data` points to the original's id, and has to point to one of the copy's
/// own.
unsafe extern "C" fn dup_id(
    _to: *mut sys::CRYPTO_EX_DATA,
    _from: *const sys::CRYPTO_EX_DATA,
    data: *mut *mut c_void,
    _index: c_int,
    _argl: c_long,
    _argp: *mut c_void,
) -> c_int {
    // SAFETY: OpenSSL gives a place to read from and to write to.
    let data = unsafe { &mut *data };
    // SAFETY: what is at our index is null or from `set_cache_id`, and lives as long as the
    // original.
    if let Some(id) = unsafe { data.cast::<SessionId>().as_ref() } {
        *data = Box::into_raw(Box::new(*id)).cast();
    }
    1
}

/// The last reference of a session is gone.
unsafe extern "C" fn free_id(
    _session: *mut c_void,
    data: *mut c_void,
    _all: *mut sys::CRYPTO_EX_DATA,
    _index: c_int,
    _argl: c_long,
    _argp: *mut c_void,
) {
    if !data.is_null() {
        // SAFETY: it is from `set_cache_id` or `dup_id`, and nobody reaches it any more.
        drop(unsafe { Box::from_raw(data.cast::<SessionId>()) });
    }
}
