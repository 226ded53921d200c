//! Bytes that are wiped when they are dropped.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Deref;

use zeroize::optimization_barrier;

/// The default payload: bytes that are wiped on drop, absent from `Debug`, and compared in
/// constant time.
///
/// A move of the value moves a pointer, so no copy of the bytes stays behind. What the bytes were
/// made *from* is the caller's: `From<Vec<u8>>` takes the vector's memory over when it is exactly
/// full, and otherwise copies and wipes it.
///
/// ```
/// use resumption::SecretBytes;
///
/// let secret = SecretBytes::from(b"master secret");
/// assert_eq!(&secret[..], b"master secret");
/// assert_eq!(format!("{secret:?}"), "SecretBytes(13 bytes)");
/// ```
#[derive(Clone, Default)]
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretBytes {
    #[inline]
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites with zeros, at memset's speed; the barrier keeps the compiler from leaving it out.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    optimization_barrier(bytes);
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(mut bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(bytes.into_boxed_slice());
        }
        // Shrinking in place may copy, and would leave the old bytes unwiped.
        let copy = Self(bytes.as_slice().into());
        wipe(&mut bytes);
        copy
    }
}

impl From<Box<[u8]>> for SecretBytes {
    fn from(bytes: Box<[u8]>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl<const N: usize> From<[u8; N]> for SecretBytes {
    fn from(mut bytes: [u8; N]) -> Self {
        let copy = Self(bytes.as_slice().into());
        wipe(&mut bytes);
        copy
    }
}

impl<const N: usize> From<&[u8; N]> for SecretBytes {
    fn from(bytes: &[u8; N]) -> Self {
        Self(bytes.as_slice().into())
    }
}

impl PartialEq for SecretBytes {
    /// Takes a time that depends on the lengths alone.
    fn eq(&self, other: &Self) -> bool {
        let differ = self.0.iter().zip(&other.0).fold(0, |differ, (a, b)| differ | (a ^ b));
        self.0.len() == other.0.len() && std::hint::black_box(differ) == 0
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
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
