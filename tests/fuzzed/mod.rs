//! What the fuzz targets of `fuzz/` do with a string of bytes. `tests/corpus.rs` does the same with
//! the strings that are kept, by the stable toolchain.
#![allow(dead_code, reason = "each fuzz target is one of them")]

use resumption::tls::openssl::OpensslSession;
use resumption::{Portable, Scope, SecretBytes, SessionCache, SessionId};

use crate::model;

/// A fuzz target's name, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 4] = [
    ("openssl_session", openssl_session),
    ("operations", operations),
    ("secret_bytes", secret_bytes),
    ("session_id", session_id),
];

/// A sequence of calls, done to the cache and to the model beside it.
pub(crate) fn operations(bytes: &[u8]) {
    let (limit, is_told, operations) = model::bytes::decode(bytes);
    model::run(limit, is_told, &operations);
}

/// A session id as a client sends it.
pub(crate) fn session_id(bytes: &[u8]) {
    let id = match SessionId::try_from(bytes) {
        Err(_) => return assert!(bytes.is_empty() || bytes.len() > 32),
        Ok(id) => id,
    };
    assert_eq!(id.as_bytes(), bytes);
    assert_eq!(SessionId::try_from(id.as_bytes()), Ok(id));
    // Zeros behind it make another one.
    let longer = [bytes, &[0]].concat();
    assert!(SessionId::try_from(&longer[..]).is_ok_and(|longer| longer != id) || bytes.len() == 32);
    shows_half_at_most(&id);
    // It finds what was put under it, and nothing else does.
    let cache: SessionCache<u8> =
        SessionCache::builder().max_sessions(2).without_ticker().build().expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    assert!(web.put(&id, 1).is_stored());
    for other in (0..bytes.len()).map(|at| changed(bytes, at)).chain([longer]) {
        assert!(SessionId::try_from(&other[..]).map_or(true, |other| web.take(&other).is_none()));
    }
    assert!(web.take(&id).is_some());
}

/// A log is not to tell an id.
fn shows_half_at_most(id: &SessionId) {
    let told = format!("{id:?}");
    let shown = told.strip_prefix("SessionId(").and_then(|rest| rest.split('…').next());
    let shown = shown.expect("a beginning of it");
    assert!(told.len() < 40 && shown.chars().all(|digit| digit.is_ascii_hexdigit()), "{told}");
    // Two digits are one byte.
    assert!(shown.len() <= id.as_bytes().len(), "{told}");
}

fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

/// Bytes of a database that say that they are a session of OpenSSL's.
pub(crate) fn openssl_session(bytes: &[u8]) {
    let Ok(session) = OpensslSession::from_bytes(bytes) else { return };
    assert_eq!(session.cache_id().as_bytes(), &bytes[..32]);
    let told = format!("{session:?}");
    assert!(told.starts_with("OpensslSession") && session.weight() >= 1024, "{told}");
    // What OpenSSL writes of it is read as the same, again and again; it may have no encoding.
    let written = session.to_bytes();
    if written.is_empty() {
        return;
    }
    let again = OpensslSession::from_bytes(&written).expect("its own bytes");
    assert_eq!(again.cache_id(), session.cache_id());
    assert_eq!(again.session().id(), session.session().id());
    assert_eq!(&again.to_bytes()[..], &written[..]);
    let cache: SessionCache<OpensslSession> = SessionCache::builder()
        .max_bytes(1 << 20)
        .weigher(OpensslSession::weight)
        .without_ticker()
        .build()
        .expect("sane settings");
    let web = cache.scope(&Scope::new("web"));
    let is_small = again.weight() < 1 << 19;
    assert!(web.put(&again.cache_id(), again).is_stored() || !is_small);
    assert!(web.take(&session.cache_id()).is_some() || !is_small);
}

/// The default payload, which any bytes are.
pub(crate) fn secret_bytes(bytes: &[u8]) {
    let secret = SecretBytes::from_bytes(bytes).expect("any bytes are some");
    assert_eq!(&secret[..], bytes);
    assert_eq!(secret.to_bytes(), secret);
    let told = format!("{secret:?}");
    assert_eq!(told, format!("SecretBytes({} bytes)", bytes.len()), "nothing else is shown");
}
