//! Payloads as bytes, for whoever stores them elsewhere.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::error::Error;

use crate::secret::SecretBytes;

/// A payload that can be written to bytes and read back, to be saved to a disk or put into a
/// database: OpenSSL's `i2d_SSL_SESSION` and `d2i_SSL_SESSION`.
///
/// The bytes hold the keys of a connection. They are [`SecretBytes`], which are wiped when they are
/// dropped; seal them before they leave the process.
///
/// ```
/// use resumption::{Portable, SecretBytes};
///
/// struct Ticket {
///     user: u32,
///     secret: SecretBytes,
/// }
///
/// impl Portable for Ticket {
///     type Error = &'static str;
///
///     fn to_bytes(&self) -> SecretBytes {
///         [&self.user.to_be_bytes()[..], &self.secret].concat().into()
///     }
///
///     fn from_bytes(bytes: &[u8]) -> Result<Self, Self::Error> {
///         let (user, secret) = bytes.split_first_chunk().ok_or("a ticket has four bytes or more")?;
///         Ok(Self { user: u32::from_be_bytes(*user), secret: secret.into() })
///     }
/// }
///
/// let ticket = Ticket { user: 7, secret: b"secret".into() };
/// let again = Ticket::from_bytes(&ticket.to_bytes()).expect("its own bytes");
/// assert_eq!((again.user, &again.secret[..]), (7, &b"secret"[..]));
/// assert!(Ticket::from_bytes(b"7").is_err());
/// ```
pub trait Portable: Sized {
    /// Why bytes are not a payload.
    type Error: Into<Box<dyn Error + Send + Sync>>;

    /// The payload as bytes.
    fn to_bytes(&self) -> SecretBytes;

    /// The payload of these bytes.
    ///
    /// # Errors
    ///
    /// The bytes are not what [`to_bytes`](Self::to_bytes) has given: they come from outside, and may
    /// be anything.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Self::Error>;
}

impl Portable for SecretBytes {
    type Error = Infallible;

    fn to_bytes(&self) -> SecretBytes {
        self.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(bytes.into())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_themselves() {
        for bytes in [&b""[..], b"secret"] {
            let secret = SecretBytes::from(bytes);
            assert_eq!(SecretBytes::from_bytes(&secret.to_bytes()), Ok(secret));
        }
    }
}
