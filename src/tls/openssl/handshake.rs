//! What a TLS 1.3 handshake has looked up so far.

#![forbid(unsafe_code)]

use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef};

use super::OpensslSession;
use crate::{Session, SessionId};

/// Look-ups for one TLS 1.3 handshake, in both ClientHellos; what a client offers beyond that is
/// not looked for. Clients that are known offer one session or two.
pub const MOST_LOOKUPS: usize = 16;

/// What a TLS 1.3 handshake has looked up so far, kept with its connection.
///
/// OpenSSL looks sessions up at both ClientHellos if there is a HelloRetryRequest between them, and
/// there is no call at the end of a handshake that is not the user's. But the server's random is zero until
/// OpenSSL has worked on the first ClientHello of a connection, and again after `SSL_clear`: that tells
/// the first one from the second, whatever random the client sends. A first one with another random than
/// the one before begins another handshake.
#[derive(Default)]
pub(super) struct Handshake {
    client_random: [u8; 32],
    lookups: Lookups<Session<OpensslSession>>,
}

/// The look-ups of a handshake.
struct Lookups<S> {
    is_second_hello: bool,
    count: usize,
    /// What was taken last, and the id.
    taken: Option<(SessionId, S)>,
}

/// The place where connections keep it, reserved once for the process.
pub(super) fn index() -> Result<Index<Ssl, Handshake>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Handshake>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    // If another thread was faster, this index is left unused.
    Ok(*INDEX.get_or_init(|| index))
}

impl Handshake {
    /// The handshake that a connection is in, where a ClientHello is just being worked on.
    pub(super) fn of(ssl: &mut SslRef, index: Index<Ssl, Self>) -> Option<&mut Self> {
        let client_random = <[u8; 32]>::try_from(ssl.client_hello_random()?).ok()?;
        let mut server_random = [0; 32];
        ssl.server_random(&mut server_random);
        if ssl.ex_data(index).is_none() {
            ssl.set_ex_data(index, Self::default());
        }
        let handshake = ssl.ex_data_mut(index)?;
        let is_second_hello = server_random != [0; 32];
        if !is_second_hello && handshake.client_random != client_random {
            *handshake = Self { client_random, ..Self::default() };
        }
        handshake.lookups.is_second_hello = is_second_hello;
        Some(handshake)
    }

    /// What was taken under this id, or `take` finds.
    pub(super) fn look_up(
        &mut self,
        id: &SessionId,
        take: impl FnOnce(&SessionId) -> Option<Session<OpensslSession>>,
    ) -> Option<Session<OpensslSession>> {
        self.lookups.look_up(id, take)
    }

    /// It has come to its end, and nothing is asked for any more. Nobody knows that of a handshake that gives out no
    /// ticket: what it has taken stays until the connection begins another one, or ends.
    pub(super) fn end(&mut self) {
        self.lookups.taken = None;
    }
}

impl<S: Clone> Lookups<S> {
    fn look_up(&mut self, id: &SessionId, take: impl FnOnce(&SessionId) -> Option<S>) -> Option<S> {
        if !self.is_second_hello {
            self.taken = None;
        }
        if let Some((_, session)) = self.taken.as_ref().filter(|(taken, _)| taken == id) {
            return Some(session.clone());
        }
        if self.count == MOST_LOOKUPS {
            return None;
        }
        self.count += 1;
        let session = take(id)?;
        self.taken = Some((*id, session.clone()));
        Some(session)
    }
}

impl<S> Default for Lookups<S> {
    fn default() -> Self {
        Self { is_second_hello: false, count: 0, taken: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: SessionId = SessionId::ZERO;

    fn known() -> SessionId {
        SessionId::from([1; 32])
    }

    fn look_up(lookups: &mut Lookups<u8>, id: SessionId, there: Option<u8>) -> Option<u8> {
        lookups.look_up(&id, |_| there)
    }

    #[test]
    fn the_second_hello_finds_what_the_first_one_took_among_others() {
        let mut lookups = Lookups::default();
        assert_eq!(look_up(&mut lookups, UNKNOWN, None), None);
        assert_eq!(look_up(&mut lookups, known(), Some(7)), Some(7));
        lookups.is_second_hello = true;
        assert_eq!(look_up(&mut lookups, UNKNOWN, None), None);
        assert_eq!(look_up(&mut lookups, known(), None), Some(7));
    }

    #[test]
    fn another_first_hello_finds_nothing_of_it() {
        let mut lookups = Lookups::default();
        assert_eq!(look_up(&mut lookups, known(), Some(7)), Some(7));
        assert_eq!(look_up(&mut lookups, known(), None), None);
    }

    #[test]
    fn what_was_taken_is_found_beyond_the_last_look_up() {
        let mut lookups = Lookups::default();
        for _ in 1..MOST_LOOKUPS {
            assert_eq!(look_up(&mut lookups, UNKNOWN, None), None);
        }
        assert_eq!(look_up(&mut lookups, known(), Some(7)), Some(7));
        lookups.is_second_hello = true;
        assert_eq!(look_up(&mut lookups, UNKNOWN, Some(8)), None, "nothing is looked up any more");
        assert_eq!(look_up(&mut lookups, known(), None), Some(7));
    }
}
