//! The example server on OpenSSL, as `openssl s_client` and its own drive see it.

#[path = "common/process.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod process;
#[path = "common/s_client.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod s_client;

use std::net::SocketAddr;

use process::{Program, Ready, folder, has};
use s_client::{Session, ask, s_client, session, text};
use serde_json::Value;

fn server() -> (Program, Ready) {
    Program::start("openssl_server", &["--listen", "127.0.0.1:0"]).ready()
}

fn stats(address: SocketAddr) -> Value {
    let said = ask(address, "/stats", &["-tls1_3", "-quiet"]);
    let start = said.find("{\n").unwrap_or_else(|| panic!("no JSON: {said}"));
    serde_json::from_str(&said[start..]).expect("JSON")
}

#[test]
fn reconnections_by_tls12_session_id_are_reused_and_counted() {
    if !has("openssl") {
        return;
    }
    let (_server, ready) = server();
    let said = s_client(ready.address, &["-tls1_2", "-no_ticket", "-reconnect"]);
    let begin = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((begin("New, TLSv1.2"), begin("Reused, TLSv1.2")), (1, 5), "{said}");
    let stats = stats(ready.address);
    assert_eq!((&stats["hits"], &stats["misses"]), (&Value::from(5), &Value::from(0)));
}

#[test]
fn a_saved_tls13_session_is_reused_once() {
    if !has("openssl") {
        return;
    }
    let file = folder("openssl-openssl13").join("session.pem");
    let (_server, ready) = server();
    let first = s_client(ready.address, &["-tls1_3", "-sess_out", text(&file)]);
    assert_eq!(session(&first), Session::New);
    let again = || session(&s_client(ready.address, &["-tls1_3", "-sess_in", text(&file)]));
    assert_eq!([again(), again(), again()], [Session::Reused, Session::New, Session::New]);
}

#[test]
fn a_reload_keeps_the_sessions() {
    if !has("openssl") {
        return;
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let file = folder(&format!("openssl-reload{version}")).join("session.pem");
        let (server, ready) = server();
        let first = s_client(ready.address, &[version, "-sess_out", text(&file)]);
        assert_eq!(session(&first), Session::New);
        server.signal("HUP");
        while !server.complaint().starts_with("Reloaded") {}
        let again = s_client(ready.address, &[version, "-sess_in", text(&file)]);
        assert_eq!(session(&again), Session::Reused);
    }
}

#[test]
fn driven_clients_are_resumed_and_used_tickets_refused() {
    let end = Program::start("openssl_server", &["--drive", "2", "--json"]).end();
    assert!(end.status.success(), "{end:?}");
    let summary: Value =
        serde_json::from_str(end.out.last().expect("a line of output")).expect("JSON");
    let read = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name}: {summary}"));
    assert!(read("returning") > 20, "{summary}");
    assert!(read("resumed") * 100 >= read("returning") * 95, "{summary}");
    assert!(read("second_uses") > 0, "{summary}");
    assert_eq!(read("second_uses_refused"), read("second_uses"));
    assert_eq!(read("failures"), 0, "{summary}");
}
