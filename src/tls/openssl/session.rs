//! The payload: a session of OpenSSL's, and the name that it has in a cache.

use std::error::Error;
use std::ffi::c_int;
use std::fmt;

use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::ssl::{SslRef, SslSession, SslSessionRef, SslVersion};

use super::ffi;
use crate::{Portable, SecretBytes, SessionId};

/// A session of OpenSSL's in a cache: a counted reference of an `SSL_SESSION`.
///
/// It knows the id that it has in the cache, which is made of the session's own id, the protocol
/// version, and the host that the client asked for (see the [module](super)).
///
/// As bytes ([`Portable`]) it is that id, and then what `i2d_SSL_SESSION` writes. The chain of
/// the client's certificates is not in it, but for the client's own.
#[derive(Clone)]
pub struct OpensslSession {
    session: SslSession,
    /// Also noted with the session itself, for OpenSSL tells of removals by that alone.
    cache_id: SessionId,
    /// Bytes of the certificates that the client has sent beside its own, which the session keeps.
    chain: usize,
}

/// Why bytes are not an [`OpensslSession`].
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are fewer bytes than an id has.
    TooShort,
    /// OpenSSL does not read a session in the bytes that follow the id.
    Openssl(ErrorStack),
}

impl OpensslSession {
    /// A copy of a session, as a connection to this host has made it: what OpenSSL's
    /// `SSL_CTX_add_session` is for.
    ///
    /// ```no_run
    /// use openssl::{error::ErrorStack, ssl::SslRef};
    /// use resumption::{Put, Sessions, tls::openssl::OpensslSession};
    ///
    /// type Kept = Put<OpensslSession>;
    /// fn keep(sessions: &Sessions<OpensslSession>, ssl: &SslRef) -> Result<Kept, ErrorStack> {
    ///     let session = ssl.session().expect("after the handshake");
    ///     let session = OpensslSession::new(session, Some("www.example.org"))?;
    ///     Ok(sessions.put(&session.cache_id(), session))
    /// }
    /// ```
    ///
    /// The handshake that makes the session has to be over, or to stand still meanwhile, as in a callback of it in this
    /// thread: OpenSSL writes the session without a lock until then, and a copy that is made beside it in another thread, of
    /// an `SslSession` that a servername callback gave away say, is a data race.
    ///
    /// # Errors
    ///
    /// OpenSSL has no memory for a copy; or the handshake has not come to its keys yet, as in a servername callback,
    /// or has failed before. A client that came back to such a session would make OpenSSL read through a null pointer.
    pub fn new(session: &SslSessionRef, host: Option<&str>) -> Result<Self, ErrorStack> {
        let copy = ffi::dup(session)?;
        if !ffi::has_cipher(&copy) {
            return Err(ffi::no_cipher());
        }
        // SAFETY: nobody else knows the copy.
        unsafe { Self::unshared(copy, host.map(str::as_bytes)) }
    }

    /// A session that a connection to this host has made.
    ///
    /// # Safety
    ///
    /// No other thread reads or sets data of this session meanwhile.
    pub(super) unsafe fn unshared(
        session: SslSession,
        host: Option<&[u8]>,
    ) -> Result<Self, ErrorStack> {
        let cache_id = cache_id(ffi::session_version(&session), host, session.id());
        // SAFETY: as the caller says.
        unsafe { ffi::set_cache_id(&session, &cache_id)? };
        Ok(Self { session, cache_id, chain: 0 })
    }

    /// The same session, which knows what the client of this connection has sent with its certificate: the client
    /// chooses how much that is.
    pub(super) fn with_chain_of(mut self, ssl: &SslRef) -> Self {
        let chain = ssl.peer_cert_chain().into_iter().flatten();
        self.chain = chain.filter_map(|cert| Some(cert.to_der().ok()?.len())).sum();
        self
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &SslSessionRef {
        &self.session
    }

    /// The id that it has in the cache, or is to be put under.
    #[must_use]
    pub fn cache_id(&self) -> SessionId {
        self.cache_id
    }

    /// How many bytes it takes, about, with the client's certificate and those that came with it: for
    /// [`Builder::weigher`](crate::Builder::weigher). Those that came with it are not in the weight of what
    /// [`new`](Self::new) has made, for OpenSSL tells them of a connection alone.
    ///
    /// ```
    /// use resumption::SessionCache;
    /// use resumption::tls::openssl::OpensslSession;
    ///
    /// let cache: SessionCache<OpensslSession> = SessionCache::builder()
    ///     .max_bytes(64 << 20)
    ///     .weigher(OpensslSession::weight)
    ///     .build()?;
    /// # Ok::<(), resumption::BuildError>(())
    /// ```
    #[must_use]
    pub fn weight(&self) -> usize {
        STRUCTURE + ffi::encoded_len(&self.session) + self.chain
    }

    /// Whether it is what a client has offered: whoever gave it could have been mistaken.
    pub(super) fn is(&self, cache_id: &SessionId, id: &[u8]) -> bool {
        self.cache_id == cache_id && self.session.id() == id
    }

    /// Whether OpenSSL would resume it. It marks the object of a connection that ended badly, of which
    /// somebody may have put or given a copy.
    pub(super) fn is_resumable(&self) -> bool {
        ffi::is_resumable(&self.session)
    }

    /// A copy, which OpenSSL may mark and change: it means a connection then, and not the session.
    pub(super) fn copy(&self) -> Option<Self> {
        let session = ffi::dup(&self.session).ok()?;
        Some(Self { session, cache_id: self.cache_id, chain: self.chain })
    }

    pub(super) fn into_session(self) -> SslSession {
        self.session
    }
}

/// What an `SSL_SESSION` takes beside what it points to, in OpenSSL 3.0: the structure, its id
/// here, and what the allocator adds.
const STRUCTURE: usize = 1024;

/// The id that a session has in a cache: a digest of all that it must not be confused over. Two
/// that differ in the version, the host or the session's id differ here, as far as SHA-256 goes.
pub(super) fn cache_id(version: c_int, host: Option<&[u8]>, id: &[u8]) -> SessionId {
    let mut sha = Sha256::new();
    sha.update(&version.to_be_bytes());
    // No host is one thing, and an empty name another.
    let len = host.map_or(0, |host| host.len() as u64 + 1);
    sha.update(&len.to_be_bytes());
    sha.update(host.unwrap_or_default());
    sha.update(id);
    sha.finish().into()
}

impl Portable for OpensslSession {
    type Error = DecodeError;

    /// Empty for a session that OpenSSL cannot write; that is read back as an error.
    fn to_bytes(&self) -> SecretBytes {
        ffi::encode(self.cache_id.as_bytes(), &self.session).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (id, session) = bytes.split_first_chunk::<32>().ok_or(DecodeError::TooShort)?;
        let session = SslSession::from_der(session).map_err(DecodeError::Openssl)?;
        let cache_id = SessionId::from(*id);
        // SAFETY: it was made here, and nobody else knows it.
        unsafe { ffi::set_cache_id(&session, &cache_id) }.map_err(DecodeError::Openssl)?;
        Ok(Self { session, cache_id, chain: 0 })
    }
}

impl fmt::Debug for OpensslSession {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpensslSession")
            .field("cache_id", &self.cache_id)
            .field("protocol", &protocol(self.session.protocol_version()))
            .finish_non_exhaustive()
    }
}

fn protocol(version: SslVersion) -> &'static str {
    match version {
        SslVersion::TLS1_3 => "TLS 1.3",
        SslVersion::TLS1_2 => "TLS 1.2",
        _ => "older than TLS 1.2, or DTLS",
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("the bytes of a session begin with an id of 32 bytes"),
            Self::Openssl(_) => f.write_str("OpenSSL reads no session in these bytes"),
        }
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooShort => None,
            Self::Openssl(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_in_version_host_and_id() {
        const VERSIONS: [c_int; 2] = [0x303, 0x304];
        const HOSTS: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"a"), Some(b"ab"), Some(b"A")];
        const IDS: [&[u8]; 4] = [b"a", b"b", b"ab", b"ba"];
        let mut seen = std::collections::HashSet::new();
        for version in VERSIONS {
            for host in HOSTS {
                for id in IDS {
                    let new = seen.insert(cache_id(version, host, id));
                    assert!(new, "{version:x} {host:?} {id:?}");
                }
            }
        }
        assert_eq!(cache_id(0x303, Some(b"a"), b"b"), cache_id(0x303, Some(b"a"), b"b"));
    }

    #[test]
    fn bytes_that_hold_no_session_are_refused() {
        for len in 0..32 {
            let bytes = vec![0; len];
            assert!(matches!(OpensslSession::from_bytes(&bytes), Err(DecodeError::TooShort)));
        }
        for bytes in [vec![0; 32], vec![0; 100], vec![0x30; 300]] {
            let error = OpensslSession::from_bytes(&bytes).expect_err("there is none");
            assert!(matches!(error, DecodeError::Openssl(_)));
            let source = error.source().expect("OpenSSL says why").to_string();
            assert!(!source.is_empty() && !error.to_string().contains(&source), "it is told once");
        }
        // Nothing is left for OpenSSL to mistake for an error of its own.
        assert!(ErrorStack::get().errors().is_empty());
    }
}
