//! Session ids.

use std::cmp::Ordering;
use std::error::Error;
use std::fmt;

/// The longest session id that TLS has (RFC 5246 §7.4.1.3, and the identities of RFC 8446 §4.2.11
/// that stateful servers make).
pub(crate) const MOST_BYTES: usize = 32;

/// The name of a session: 1 to 32 bytes.
///
/// Ids are compared whole and without an early exit, so that a lookup's time tells nothing about
/// how much of a guessed id is right. Two ids of different lengths are different, also when the
/// longer one only adds zeros.
///
/// ```
/// use resumption::SessionId;
///
/// let id = SessionId::try_from(&[7; 32][..])?;
/// assert_eq!(id.as_bytes(), [7; 32]);
/// assert!(SessionId::try_from(&[][..]).is_err());
/// # Ok::<(), resumption::SessionIdError>(())
/// ```
#[derive(Clone, Copy, Eq)]
#[repr(C)]
pub struct SessionId {
    bytes: [u8; MOST_BYTES],
    len: u8,
}

/// A session id has to have 1 to 32 bytes.
///
/// A client may offer identities of up to 64 KiB; those were not made by this server and need no
/// lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionIdError {
    len: usize,
}

impl SessionId {
    /// 32 zeros.
    pub(crate) const ZERO: Self = Self { bytes: [0; MOST_BYTES], len: MOST_BYTES as u8 };

    /// The id's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The bytes, zero-padded, as four words. With the length they are the whole id.
    #[inline]
    pub(crate) fn words(&self) -> [u64; 4] {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[at * 8..at * 8 + 8]);
            u64::from_ne_bytes(word)
        };
        [word(0), word(1), word(2), word(3)]
    }

    /// The bytes, zero-padded, as two words, as they enter the hash.
    #[inline]
    pub(crate) fn halves(&self) -> [u128; 2] {
        let (low, high) = self.bytes.split_at(MOST_BYTES / 2);
        [low, high].map(|half| half.try_into().map_or(0, u128::from_ne_bytes))
    }

    /// The number of bytes, as it enters the hash.
    #[inline]
    pub(crate) fn len(&self) -> u8 {
        self.len
    }
}

impl PartialEq for SessionId {
    /// One comparison of all bits, without an early exit.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.words(), other.words());
        let differ = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);
        differ | u64::from(self.len ^ other.len) == 0
    }
}

impl Ord for SessionId {
    /// The order of the bytes, for keys of an ordered map. Unlike `==`, it ends at the first difference, and so its time
    /// tells where that is.
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for SessionId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::hash::Hash for SessionId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialEq<&SessionId> for SessionId {
    fn eq(&self, other: &&SessionId) -> bool {
        self == *other
    }
}

impl PartialEq<SessionId> for &SessionId {
    fn eq(&self, other: &SessionId) -> bool {
        *self == other
    }
}

impl TryFrom<&[u8]> for SessionId {
    type Error = SessionIdError;

    #[inline]
    fn try_from(bytes: &[u8]) -> Result<Self, SessionIdError> {
        if bytes.is_empty() || bytes.len() > MOST_BYTES {
            return Err(SessionIdError { len: bytes.len() });
        }
        let mut padded = [0; MOST_BYTES];
        padded[..bytes.len()].copy_from_slice(bytes);
        // The length is at most 32, checked above.
        Ok(Self { bytes: padded, len: bytes.len() as u8 })
    }
}

impl From<[u8; MOST_BYTES]> for SessionId {
    /// The common case: 32 random bytes.
    #[inline]
    fn from(bytes: [u8; MOST_BYTES]) -> Self {
        Self { bytes, len: MOST_BYTES as u8 }
    }
}

impl AsRef<[u8]> for SessionId {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for SessionId {
    /// The first four bytes, in hexadecimal, of a short id the first half: enough to tell sessions
    /// apart in a log. An id is what a TLS 1.3 client proves its session with, hence not all of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(")?;
        let bytes = self.as_bytes();
        for byte in &bytes[..(bytes.len() / 2).min(4)] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "…, {} bytes)", self.len)
    }
}

impl fmt::Display for SessionIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a session id has 1 to {MOST_BYTES} bytes, this one has {}", self.len)
    }
}

impl Error for SessionIdError {}
