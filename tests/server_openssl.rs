//! The example server as other programs see it: `openssl s_client`, which saves sessions to files
//! and so can offer one twice, and `curl`.

#[path = "common/process.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod process;
#[path = "common/s_client.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod s_client;

use std::{collections::BTreeSet, fs, net::SocketAddr, process::Command, thread, time::Duration};

use process::{Program, folder, has};
use resumption::Stats;
use s_client::{Session, s_client, said, session, text};
use serde_json::Value;

#[test]
fn a_saved_tls13_session_is_reused_once() {
    if !has("openssl") {
        return;
    }
    let file = folder("openssl13").join("session.pem");
    let (_server, ready) = Program::server(&[]);
    let first = s_client(ready.address, &["-tls1_3", "-sess_out", text(&file)]);
    assert_eq!(session(&first), Session::New);
    let again = || session(&s_client(ready.address, &["-tls1_3", "-sess_in", text(&file)]));
    assert_eq!([again(), again(), again()], [Session::Reused, Session::New, Session::New]);
}

#[test]
fn a_saved_tls12_session_is_reused_until_it_expires() {
    if !has("openssl") {
        return;
    }
    let file = folder("openssl12").join("session.pem");
    for (lifetime, expected) in [("2h", Session::Reused), ("1s", Session::New)] {
        let (_server, ready) = Program::server(&["--lifetime", lifetime]);
        let first = s_client(ready.address, &["-tls1_2", "-sess_out", text(&file)]);
        assert_eq!(session(&first), Session::New);
        thread::sleep(Duration::from_millis(1_100));
        let again = || session(&s_client(ready.address, &["-tls1_2", "-sess_in", text(&file)]));
        assert_eq!([again(), again()], [expected, expected], "{lifetime}");
    }
}

#[test]
fn what_the_ready_line_says_to_try_works_as_it_stands() {
    if !has("openssl") {
        return;
    }
    let (_server, ready) = Program::server(&[]);
    let (_, command) = ready.line.split_once("twice: ").unwrap();
    let (command, _) = command.split_once(" (the second time with -sess_in s.pem").unwrap();
    let folder = folder("ready-line");
    let run = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&folder);
        session(&said(shell.output().unwrap()))
    };
    assert_eq!(run(command), Session::New);
    assert_eq!(run(&format!("{command} -sess_in s.pem")), Session::Reused);
}

/// A server whose own certificate curl is told to trust.
fn trusted_server(test: &str) -> (Program, String, SocketAddr) {
    let cert = folder(test).join("cert.pem");
    let (server, ready) = Program::server(&["--save-cert", text(&cert)]);
    assert!(fs::read_to_string(&cert).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    (server, text(&cert).to_owned(), ready.address)
}

fn curl(cert: &str, args: &[&str]) -> String {
    let all = [&["--silent", "--show-error", "--cacert", cert, "--max-time", "60"], args].concat();
    said(Command::new("curl").args(all).output().unwrap())
}

#[test]
fn curl_gets_the_page_and_resumes_for_the_next() {
    if !has("curl") {
        return;
    }
    let (_server, cert, address) = trusted_server("curl-page");
    let url = format!("https://{address}/");
    let both = curl(&cert, &["--include", &url, &url]);
    let (first, second) = both.split_at(both.rfind("HTTP/1.1 200 OK").unwrap());
    assert!(first.starts_with("HTTP/1.1 200 OK"), "{first}");
    assert!(first.contains("content-type: text/html; charset=utf-8\r\n"), "{first}");
    assert!(first.contains("<h1>Full handshake</h1>"), "{first}");
    assert!(second.contains("<h1>Resumed</h1>"), "{second}");
}

#[test]
fn the_statistics_are_json_and_true() {
    if !has("curl") {
        return;
    }
    let (_server, cert, address) = trusted_server("curl-stats");
    let url = format!("https://{address}/stats");
    let stats: Value = serde_json::from_str(&curl(&cert, &[&url])).expect("JSON");
    // One full handshake has been made, the one of this request; its client has two tickets.
    let fields = ["puts", "sessions", "takes", "hits", "misses", "refused", "max_sessions"];
    assert_eq!(
        fields.map(|field| &stats[field]),
        [2, 2, 0, 0, 0, 0, 100_000].map(Value::from).each_ref()
    );
    let server = ["connections", "handshakes_full", "handshakes_resumed", "handshakes_failed"];
    let server = server.map(|field| &stats["server"][field]);
    assert_eq!(server, [1, 1, 0, 0].map(Value::from).each_ref());
    let all: BTreeSet<_> = stats.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(all, fields_of_stats().iter().map(String::as_str).collect());
    let removals = stats["removals"].as_object().unwrap();
    assert_eq!(removals.len(), 10);
    assert!(removals.values().all(|count| *count == 0), "{stats}");
}

/// Each field of `Stats`, as its `Debug` has them, under the name that JSON has for it; and what is
/// told beside them.
fn fields_of_stats() -> BTreeSet<String> {
    let told = format!("{:#?}", Stats::default());
    let fields = told.lines().filter_map(|line| line.strip_prefix("    "));
    let names = fields.filter_map(|line| line.split_once(": ").map(|(name, _)| name));
    let own = names.filter(|name| !name.starts_with(' ')).map(|name| match name {
        "mean_age_at_eviction" => "mean_age_at_eviction_ms".to_owned(),
        name => name.to_owned(),
    });
    own.chain(["misses", "server"].map(str::to_owned)).collect()
}

#[test]
fn nothing_else_is_served() {
    if !has("curl") {
        return;
    }
    let (_server, cert, address) = trusted_server("curl-else");
    let url = |path: &str| format!("https://{address}{path}");
    let status = |args: &[&str]| {
        let written =
            curl(&cert, &[&["--output", "/dev/null", "-w", "%{http_code}"], args].concat());
        written.parse::<u16>().unwrap()
    };
    assert_eq!(status(&[&url("/nothing")]), 404);
    assert_eq!(status(&["--path-as-is", &url("/../stats")]), 404);
    assert_eq!(status(&["--head", &url("/")]), 200);
    assert_eq!(status(&["--data", "x=1", &url("/")]), 405);
    assert_eq!(status(&["--request", "DELETE", &url("/stats")]), 405);
    assert_eq!(status(&["--request", "DELETE", &url("/nothing")]), 404);
    assert_eq!(status(&[&url("/stats?refresh=1")]), 200);
}
