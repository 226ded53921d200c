//! Sessions of one security context under another that shares the cache: never found.
//!
//! Each test shows first that the session is offered and is good where it belongs, so that a
//! refusal is the scope's doing.

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::sync::Arc;

use resumption::{Scope, SessionCache};
use rustls::{AlertDescription, Error, HandshakeKind, ServerConfig};
use tls::{Link, ONLY_12, ONLY_13, Pki, cache, feed, sent, start, store, verdict, visit};

/// Two public servers that differ in their scope alone.
fn two_scopes(pki: &Pki, cache: &SessionCache, b: &Scope) -> [Arc<ServerConfig>; 2] {
    [&Scope::new("a"), b].map(|scope| pki.public(cache.scope(scope).rustls()).into())
}

#[test]
fn a_session_of_another_scope_is_refused_and_stays_good_where_it_belongs() {
    for versions in [ONLY_12, ONLY_13] {
        let (pki, cache) = (Pki::new(), cache());
        let [a, b] = two_scopes(&pki, &cache, &Scope::new("b"));
        let client = Arc::new(pki.client(versions));
        assert_eq!(visit(&client, &a), HandshakeKind::Full);

        let hello = sent(&mut start(&client));
        assert_eq!(verdict(&b, &hello), HandshakeKind::Full);
        assert_eq!(cache.stats().misses_unknown, 1, "the session was offered");
        assert_eq!(verdict(&a, &hello), HandshakeKind::Resumed);
    }
}

#[test]
fn a_refined_scope_is_another_scope() {
    let (pki, cache) = (Pki::new(), cache());
    let [a, refined] = two_scopes(&pki, &cache, &Scope::new("a").with("client-ca", b"root"));
    let client = Arc::new(pki.client(ONLY_13));
    assert_eq!(visit(&client, &a), HandshakeKind::Full);

    let hello = sent(&mut start(&client));
    assert_eq!(verdict(&refined, &hello), HandshakeKind::Full);
    assert_eq!(verdict(&a, &hello), HandshakeKind::Resumed);
}

#[test]
fn equal_scopes_share_their_sessions_between_configurations() {
    for versions in [ONLY_12, ONLY_13] {
        let (pki, cache) = (Pki::new(), cache());
        let [a, also_a] = two_scopes(&pki, &cache, &Scope::new("a"));
        let client = Arc::new(pki.client(versions));
        assert_eq!(visit(&client, &a), HandshakeKind::Full);
        assert_eq!(visit(&client, &also_a), HandshakeKind::Resumed);
    }
}

/// A server that demands client certificates and a public one, on one cache.
struct Mixed {
    pki: Pki,
    cache: SessionCache,
    mutual: Arc<ServerConfig>,
    public: Arc<ServerConfig>,
}

fn mixed() -> Mixed {
    let (pki, cache) = (Pki::new(), cache());
    let mutual = Arc::new(pki.mutual(store(&cache, "internal")));
    let public = Arc::new(pki.public(store(&cache, "public-web")));
    Mixed { pki, cache, mutual, public }
}

#[test]
fn a_session_of_an_authenticated_client_is_unusable_on_the_public_server() {
    for versions in [ONLY_12, ONLY_13] {
        let Mixed { pki, cache, mutual, public } = mixed();
        let client = Arc::new(pki.client_with_cert(versions));
        assert_eq!(visit(&client, &mutual), HandshakeKind::Full);

        let hello = sent(&mut start(&client));
        let server = tls::answer(&public, &hello);
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        assert!(server.peer_certificates().is_none(), "an identity came with the session");
        assert_eq!(cache.stats().misses_unknown, 1, "the session was offered");

        // Where it belongs it resumes, and brings the client's identity with it.
        let server = tls::answer(&mutual, &hello);
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(server.peer_certificates().is_some());
    }
}

#[test]
fn a_public_session_does_not_pass_for_a_client_certificate() {
    for versions in [ONLY_12, ONLY_13] {
        let Mixed { pki, cache, mutual, public } = mixed();
        let nobody = Arc::new(pki.client(versions));
        assert_eq!(visit(&nobody, &public), HandshakeKind::Full);
        assert_eq!(visit(&nobody, &public), HandshakeKind::Resumed);

        let mut link = Link::new(&nobody, &mutual);
        let error = server_error(&mut link);
        assert_eq!(error, Error::NoCertificatesPresented);
        assert_eq!(link.server.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(cache.stats().misses_unknown, 1, "the session was offered");
        let alert = feed(&mut link.client, &sent(&mut link.server)).unwrap_err();
        assert!(matches!(alert, Error::AlertReceived(why) if is_about_the_certificate(why)));
    }
}

/// Moves bytes until the server refuses the client.
fn server_error(link: &mut Link) -> Error {
    loop {
        if let Err(error) = feed(&mut link.server, &sent(&mut link.client)) {
            return error;
        }
        feed(&mut link.client, &sent(&mut link.server)).unwrap();
        assert!(link.server.is_handshaking(), "the server let a client in without a certificate");
    }
}

fn is_about_the_certificate(alert: AlertDescription) -> bool {
    // TLS 1.3 has an alert for it; in TLS 1.2 rustls sends the general one.
    matches!(alert, AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure)
}

#[test]
fn a_dropped_scope_ends_its_sessions_and_no_others() {
    let Mixed { pki, cache, mutual, public } = mixed();
    let at_mutual = Arc::new(pki.client_with_cert(ONLY_13));
    let at_public = Arc::new(pki.client(ONLY_13));
    assert_eq!(visit(&at_mutual, &mutual), HandshakeKind::Full);
    assert_eq!(visit(&at_public, &public), HandshakeKind::Full);

    assert_eq!(cache.drop_scope(&Scope::new("internal")), 2);
    assert_eq!(visit(&at_mutual, &mutual), HandshakeKind::Full);
    assert_eq!(visit(&at_public, &public), HandshakeKind::Resumed);
}
