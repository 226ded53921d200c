//! Bytes that are wiped when they are dropped.
//!
//! The table knows these bytes, and writes a session's header in front of them
//! (`reclaim/parcel.rs`).

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Deref;

use crate::reclaim::parcel::{Parcel, wipe};

/// The default payload: bytes that are wiped on drop, absent from `Debug`, and compared in
/// constant time.
///
/// A move of the value moves a pointer, so no copy of the bytes stays behind. They are copied once, when
/// the value is made, into memory that has room for the header of a session, too. What the value is
/// made *of* is wiped, if it is given up for it: a vector with what it was before it was shortened, a box,
/// an array (but not the copies that moves of an array leave); of a slice it is the caller's.
///
/// ```
/// use resumption::SecretBytes;
///
/// let secret = SecretBytes::from(b"master secret");
/// assert_eq!(&secret[..], b"master secret");
/// assert_eq!(format!("{secret:?}"), "SecretBytes(13 bytes)");
/// ```
#[repr(transparent)]
pub struct SecretBytes(Parcel);

impl SecretBytes {
    /// The bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The block that the bytes are in.
    #[inline]
    pub(crate) fn parcel(&self) -> &Parcel {
        &self.0
    }

    /// As above, to be wiped.
    #[inline]
    pub(crate) fn parcel_mut(&mut self) -> &mut Parcel {
        &mut self.0
    }
}

impl Drop for SecretBytes {
    #[inline]
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl Clone for SecretBytes {
    fn clone(&self) -> Self {
        self.as_bytes().into()
    }
}

impl Default for SecretBytes {
    fn default() -> Self {
        [].as_slice().into()
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(mut bytes: Vec<u8>) -> Self {
        let copy = Self::from(bytes.as_slice());
        // All that it has room for: it may have been longer.
        bytes.resize(bytes.capacity(), 0);
        wipe(&mut bytes);
        copy
    }
}

impl From<Box<[u8]>> for SecretBytes {
    fn from(mut bytes: Box<[u8]>) -> Self {
        let copy = Self::from(&*bytes);
        wipe(&mut bytes);
        copy
    }
}

impl From<&[u8]> for SecretBytes {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        Self(Parcel::copy_of(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for SecretBytes {
    fn from(mut bytes: [u8; N]) -> Self {
        let copy = Self::from(bytes.as_slice());
        wipe(&mut bytes);
        copy
    }
}

impl<const N: usize> From<&[u8; N]> for SecretBytes {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl PartialEq for SecretBytes {
    /// Takes a time that depends on the lengths alone.
    fn eq(&self, other: &Self) -> bool {
        let differ = self.iter().zip(&**other).fold(0, |differ, (a, b)| differ | (a ^ b));
        self.len() == other.len() && std::hint::black_box(differ) == 0
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wipe_leaves_zeros() {
        let mut bytes = *b"secret";
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 6]);
    }

    #[test]
    fn equal_is_equal_in_length_too() {
        assert_eq!(SecretBytes::from(b"ab"), SecretBytes::from(b"ab".to_vec()));
        assert_ne!(SecretBytes::from(b"ab"), SecretBytes::from(b"abc"));
        assert_ne!(SecretBytes::from(b"ab"), SecretBytes::from(b"ac"));
    }

    #[test]
    fn a_vector_with_room_to_spare_is_copied_whole() {
        let mut bytes = Vec::with_capacity(100);
        bytes.extend_from_slice(b"secret");
        assert_eq!(SecretBytes::from(bytes).as_bytes(), b"secret");
    }
}
