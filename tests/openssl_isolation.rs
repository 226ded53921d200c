//! Sessions of one host or scope under another, in one cache: never found.
//!
//! Each test shows that the session is good where it belongs, so that a refusal is the cache's doing.

#[path = "common/openssl.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{
    BOTH, Cache, Client, HOST, Kind, Link, TLS12, TLS13, cache, demand_certificates, server,
    server_with, session, visit, visit_host, web,
};
use openssl::ssl::{
    NameType, SslContext, SslContextBuilder, SslRef, SslSession, SslVerifyMode, SslVersion,
};
use resumption::Scope;

const PUBLIC: &str = "public.test";
const INTERNAL: &str = "internal.test";

/// A session of a full handshake with a host.
fn session_of(client: &Client, server: &SslContext, host: Option<&str>) -> SslSession {
    assert_eq!(visit_host(client, server, host, None), Kind::Full);
    client.session()
}

#[test]
fn a_session_resumes_for_its_host_alone() {
    for version in BOTH {
        let cache = cache();
        let (client, server) = (Client::new(version), server(&web(&cache)));
        let hosts = [Some("a.test"), Some("b.test"), Some("A.test"), Some("a.test.b.test"), None];
        for made_for in hosts {
            let session = session_of(&client, &server, made_for);
            for host in hosts.into_iter().filter(|host| *host != made_for) {
                let kind = visit_host(&client, &server, host, Some(&session));
                assert_eq!(kind, Kind::Full, "of {made_for:?} at {host:?}");
            }
            assert_eq!(visit_host(&client, &server, made_for, Some(&session)), Kind::Resumed);
        }
    }
}

/// Two contexts for one socket: connections begin with that of [`PUBLIC`], and those that ask for
/// [`INTERNAL`] change to that context and must show a certificate.
fn switching(cache: &Cache, public: &Scope, internal: &Scope) -> SslContext {
    let internal = server_with(&cache.scope(internal), demand_certificates);
    server_with(&cache.scope(public), |builder| {
        builder.set_servername_callback(move |ssl, _| {
            if asks_for_internal(ssl) {
                ssl.set_ssl_context(&internal).unwrap();
                ssl.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            }
            Ok(())
        });
    })
}

/// As [`switching`], with one context whose connections are told what to verify.
fn one_context(cache: &Cache) -> SslContext {
    server_with(&web(cache), |builder| {
        demand_certificates(builder);
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_servername_callback(|ssl, _| {
            if asks_for_internal(ssl) {
                ssl.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            }
            Ok(())
        });
    })
}

fn asks_for_internal(ssl: &SslRef) -> bool {
    ssl.servername(NameType::HOST_NAME) == Some(INTERNAL)
}

/// A client without a certificate that offers a session of the public host cannot enter the internal
/// one.
fn assert_that_the_certificate_is_demanded(version: SslVersion, server: &SslContext) {
    let nobody = Client::new(version);
    let session = session_of(&nobody, server, Some(PUBLIC));

    let mut link = Link::new(nobody.connection(Some(INTERNAL), Some(&session)), server);
    let error = link.shake_hands().unwrap_err().to_string();
    assert!(error.contains("peer did not return a certificate"), "{error}");
    assert!(!link.server.ssl().session_reused());
    assert_eq!(visit_host(&nobody, server, Some(PUBLIC), Some(&session)), Kind::Resumed);

    let known = Client::with_certificate(version);
    let session = session_of(&known, server, Some(PUBLIC));
    let mut link = Link::new(known.connection(Some(INTERNAL), Some(&session)), server);
    assert_eq!(link.run(), Kind::Full);
    assert!(link.server.ssl().peer_certificate().is_some());
    link.close();
}

#[test]
fn cve_2025_23419_another_hosts_session_does_not_skip_client_authentication() {
    for version in BOTH {
        let cache = cache();
        assert_that_the_certificate_is_demanded(version, &one_context(&cache));
        let web = Scope::new("web");
        assert_that_the_certificate_is_demanded(version, &switching(&cache, &web, &web));
        let internal = Scope::new("internal");
        assert_that_the_certificate_is_demanded(version, &switching(&cache, &web, &internal));
    }
}

#[test]
fn contexts_that_connections_change_between_resume_each_for_its_host() {
    for version in BOTH {
        let cache = cache();
        let scope = Scope::new("web");
        let server = switching(&cache, &scope, &scope);
        let client = Client::with_certificate(version);
        for host in [PUBLIC, INTERNAL] {
            let session = session_of(&client, &server, Some(host));
            let mut link = Link::new(client.connection(Some(host), Some(&session)), &server);
            assert_eq!(link.run(), Kind::Resumed, "{host}");
            // The client's identity came with the session.
            assert_eq!(link.server.ssl().peer_certificate().is_some(), host == INTERNAL);
            link.close();
        }
    }
}

#[test]
fn sessions_are_of_the_scope_of_the_context_that_the_connection_began_with() {
    for version in BOTH {
        let cache = cache();
        let (public, internal) = (Scope::new("public"), Scope::new("internal"));
        let server = switching(&cache, &public, &internal);
        let client = Client::with_certificate(version);
        let of_internal = session_of(&client, &server, Some(INTERNAL));
        let kind = visit_host(&client, &server, Some(INTERNAL), Some(&of_internal));
        assert_eq!(kind, Kind::Resumed, "{version:?}");
        assert_eq!(cache.drop_scope(&internal), 0);
        assert_eq!(cache.drop_scope(&public) as u64, cache.stats().removals.scope_dropped);
        assert!(cache.is_empty());
    }
}

#[test]
fn a_session_of_another_scope_is_refused_and_stays_good_where_it_belongs() {
    for version in BOTH {
        let cache = cache();
        let scopes = [Scope::new("a"), Scope::new("b"), Scope::new("a").with("client-ca", b"root")];
        let [a, b, refined] = scopes.map(|scope| server(&cache.scope(&scope)));
        let client = Client::new(version);
        let session = session(&client, &a);
        assert_eq!(visit(&client, &b, Some(&session)), Kind::Full);
        assert_eq!(visit(&client, &refined, Some(&session)), Kind::Full);
        assert_eq!(visit(&client, &a, Some(&session)), Kind::Resumed);
    }
}

#[test]
fn contexts_of_one_scope_share_their_sessions() {
    for version in BOTH {
        let cache = cache();
        let (a, also_a) = (server(&web(&cache)), server(&web(&cache)));
        let client = Client::new(version);
        let session = session(&client, &a);
        drop(a);
        assert_eq!(visit(&client, &also_a, Some(&session)), Kind::Resumed);
    }
}

/// OpenSSL looks for the cipher of a TLS 1.2 session in the client's list alone.
#[test]
fn a_cipher_that_a_context_has_no_more_ends_with_the_scope() {
    let cache = cache();
    let with = |scope, cipher| {
        let sessions = cache.scope(&Scope::new(scope));
        server_with(&sessions, |builder| builder.set_cipher_list(cipher).unwrap())
    };
    let (old, new) = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384");
    let client = Client::new(TLS12);
    let session = session(&client, &with("web", old));
    for (scope, kind) in [("web", Kind::Resumed), ("web, later", Kind::Full)] {
        let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &with(scope, new));
        assert_eq!(link.run(), kind);
        let cipher = if kind == Kind::Resumed { old } else { new };
        assert_eq!(link.server.ssl().current_cipher().expect("it has one").name(), cipher);
        link.close();
    }
}

/// A server that demands client certificates and a public one, on one cache.
fn mixed(cache: &Cache) -> (SslContext, SslContext) {
    let mutual = server_with(&cache.scope(&Scope::new("internal")), demand_certificates);
    (mutual, server(&cache.scope(&Scope::new("public"))))
}

#[test]
fn a_session_of_an_authenticated_client_is_unusable_on_the_public_server() {
    for version in BOTH {
        let cache = cache();
        let (mutual, public) = mixed(&cache);
        let client = Client::with_certificate(version);
        let session = session(&client, &mutual);

        let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &public);
        assert_eq!(link.run(), Kind::Full);
        assert!(link.server.ssl().peer_certificate().is_none(), "an identity came with it");
        link.close();

        let mut link = Link::new(client.connection(Some(HOST), Some(&session)), &mutual);
        assert_eq!(link.run(), Kind::Resumed);
        assert!(link.server.ssl().peer_certificate().is_some());
        link.close();
    }
}

#[test]
fn a_public_session_does_not_pass_for_a_client_certificate() {
    for version in BOTH {
        let cache = cache();
        let (mutual, public) = mixed(&cache);
        let nobody = Client::new(version);
        let session = session(&nobody, &public);
        let mut link = Link::new(nobody.connection(Some(HOST), Some(&session)), &mutual);
        let error = link.shake_hands().unwrap_err().to_string();
        assert!(error.contains("peer did not return a certificate"), "{error}");
        assert_eq!(visit(&nobody, &public, Some(&session)), Kind::Resumed);
    }
}

/// Takes back what attaching has set.
fn unset_id_context(builder: &mut SslContextBuilder) {
    builder.set_session_id_context(b"").unwrap();
}

#[test]
fn an_unset_id_context_keeps_sessions_of_verified_clients_out() {
    // OpenSSL's own rule: without an id context it caches nothing of a server that verifies clients.
    for version in BOTH {
        let cache = cache();
        let server = server_with(&web(&cache), |builder| {
            demand_certificates(builder);
            unset_id_context(builder);
        });
        let client = Client::with_certificate(version);
        assert_eq!(visit(&client, &server, None), Kind::Full);
        assert_eq!((cache.len(), cache.stats().puts), (0, 0));
    }
}

#[test]
fn an_unset_id_context_is_not_the_one_of_a_scope() {
    for version in BOTH {
        let cache = cache();
        let unset = server_with(&web(&cache), unset_id_context);
        let (client, attached) = (Client::new(version), server(&web(&cache)));
        let of_unset = session(&client, &unset);
        assert_eq!(visit(&client, &unset, Some(&of_unset)), Kind::Resumed);

        let of_unset = session(&client, &unset);
        assert_eq!(visit(&client, &attached, Some(&of_unset)), Kind::Full);
        let of_attached = session(&client, &attached);
        assert_eq!(visit(&client, &unset, Some(&of_attached)), Kind::Full);
    }
}

#[test]
fn a_dropped_scope_ends_its_sessions_and_no_others() {
    for version in [TLS12, TLS13] {
        let cache = cache();
        let (mutual, public) = mixed(&cache);
        let client = Client::with_certificate(version);
        let (at_mutual, at_public) = (session(&client, &mutual), session(&client, &public));
        assert!(cache.drop_scope(&Scope::new("internal")) > 0);
        assert_eq!(visit(&client, &mutual, Some(&at_mutual)), Kind::Full);
        assert_eq!(visit(&client, &public, Some(&at_public)), Kind::Resumed);
    }
}
