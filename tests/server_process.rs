//! The example programs as an operator meets them: ready line, help, signals, reloads, and what
//! they say to what cannot work.

#[path = "../examples/common/options.rs"]
#[allow(dead_code, reason = "the examples use all of it")]
mod options;
#[path = "common/process.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod process;
#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use options::Options;
use process::{Answer, End, PATIENCE, Program, folder, request};
use rustls::{HandshakeKind, StreamOwned};
use tls::{ONLY_12, ONLY_13, Pki, SERVER};

/// Certificate and key files of one test.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(test: &str) -> Self {
        let folder = folder(test);
        Self { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
    }

    fn write(&self, identity: &tls::Identity) {
        fs::write(&self.cert, &identity.cert_pem).unwrap();
        fs::write(&self.key, &identity.key_pem).unwrap();
    }

    fn options(&self) -> [&str; 4] {
        ["--cert", text(&self.cert), "--key", text(&self.key)]
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_page_says_how_its_own_connection_was_made() {
    for versions in [ONLY_12, ONLY_13] {
        let (pki, files) = (Pki::new(), Files::new("page"));
        files.write(&pki.server());
        let (_server, ready) = Program::server(&files.options());
        let client = Arc::new(pki.client(versions));
        let ask = || request(&client, ready.address, SERVER);

        let first = ask();
        assert!(first.text.starts_with("HTTP/1.1 200 OK\r\n"), "{}", first.text);
        assert!(first.text.contains("\r\nconnection: close\r\n"), "{}", first.text);
        assert_eq!((first.kind, heading(&first)), (HandshakeKind::Full, "Full handshake"));
        let second = ask();
        assert_eq!((second.kind, heading(&second)), (HandshakeKind::Resumed, "Resumed"));
        for answer in [first, second] {
            let (_, took) = answer.text.split_once("Handshake took</th><td>").unwrap();
            let (number, unit) = took.split_once('<').unwrap().0.split_once(' ').unwrap();
            assert!(number.parse::<f64>().unwrap() > 0.0, "{took}");
            assert!(["µs", "ms", "s"].contains(&unit), "{took}");
        }
    }
}

fn heading(answer: &Answer) -> &str {
    let (_, rest) = answer.text.split_once("<h1>").unwrap();
    rest.split_once("</h1>").unwrap().0
}

#[test]
fn a_reload_changes_the_certificate_and_keeps_the_sessions() {
    let (pki, files) = (Pki::new(), Files::new("reload"));
    let (old, new) = (pki.server(), pki.server());
    files.write(&old);
    let (server, ready) = Program::server(&files.options());
    let client = Arc::new(pki.client(ONLY_13));
    assert_eq!(request(&client, ready.address, SERVER).cert, old.cert.to_vec());

    files.write(&new);
    server.signal("HUP");
    let said = server.complaint();
    assert!(said.starts_with("Reloaded"), "{said}");
    assert!(said.ends_with("2 sessions kept."), "{said}");

    assert_eq!(request(&client, ready.address, SERVER).kind, HandshakeKind::Resumed);
    let newcomer = request(&Arc::new(pki.client(ONLY_13)), ready.address, SERVER);
    assert_eq!(newcomer.kind, HandshakeKind::Full);
    assert_eq!(newcomer.cert, new.cert.to_vec());
}

#[test]
fn a_server_that_nobody_hears_reloads_and_serves_on() {
    let (pki, files) = (Pki::new(), Files::new("unheard"));
    let (old, new) = (pki.server(), pki.server());
    files.write(&old);
    let (server, ready) = Program::server_unheard(&files.options());
    files.write(&new);
    server.signal("HUP");
    let cert = || request(&Arc::new(pki.client(ONLY_13)), ready.address, SERVER).cert;
    let start = Instant::now();
    while cert() != new.cert.to_vec() {
        assert!(start.elapsed() < PATIENCE, "it does not reload");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_session_ends_with_its_lifetime() {
    let (pki, files) = (Pki::new(), Files::new("lifetime"));
    files.write(&pki.server());
    for (lifetime, expected) in [("2h", HandshakeKind::Resumed), ("1s", HandshakeKind::Full)] {
        let options = [&files.options()[..], &["--lifetime", lifetime]].concat();
        let (_server, ready) = Program::server(&options);
        let client = Arc::new(pki.client(ONLY_13));
        assert_eq!(request(&client, ready.address, SERVER).kind, HandshakeKind::Full);
        thread::sleep(Duration::from_millis(1_100));
        assert_eq!(request(&client, ready.address, SERVER).kind, expected, "{lifetime}");
    }
}

#[test]
fn the_lookup_example_finds_what_its_database_has() {
    let End { status, out, .. } = Program::start("lookup", &[]).end();
    assert!(status.success());
    assert!(out[1].starts_with("99 of 99 sessions found"), "{out:?}");
    assert_eq!(out[2], "the first one's session was kept");
}

#[test]
fn a_broken_certificate_is_reported_and_the_old_one_stays() {
    let (pki, files) = (Pki::new(), Files::new("broken-reload"));
    let (good, other) = (pki.server(), pki.server());
    files.write(&good);
    let (server, ready) = Program::server(&files.options());

    for (cert, key) in [("not a certificate", &*good.key_pem), (&good.cert_pem, &other.key_pem)] {
        fs::write(&files.cert, cert).unwrap();
        fs::write(&files.key, key).unwrap();
        server.signal("HUP");
        let said = server.complaint();
        assert!(said.starts_with("Not reloaded, the old certificate stays: "), "{said}");
        let answer = request(&Arc::new(pki.client(ONLY_13)), ready.address, SERVER);
        assert_eq!(answer.cert, good.cert.to_vec());
    }
}

#[test]
fn a_signal_ends_the_server_cleanly_and_lets_a_running_answer_finish() {
    for signal in ["INT", "TERM"] {
        let (pki, files) = (Pki::new(), Files::new("end"));
        files.write(&pki.server());
        let (server, ready) = Program::server(&files.options());
        let tcp = TcpStream::connect(ready.address).unwrap();
        let mut stream = StreamOwned::new(tls::start(&Arc::new(pki.client(ONLY_13))), tcp);
        // Half a request; its other half follows when the server no longer listens.
        stream.write_all(b"GET / HTTP/1.1\r\nHost: te").unwrap();
        stream.flush().unwrap();
        until_handshakes(1, &pki, ready.address);
        server.signal(signal);
        while TcpStream::connect(ready.address).is_ok() {}
        stream.write_all(b"st\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

        let end = server.end();
        assert!(end.status.success(), "{end:?}");
        assert!(end.out.len() == 1 && end.out[0].starts_with("Served "), "{end:?}");
    }
}

/// Waits until the server has `others` full handshakes behind it besides those of this waiting.
fn until_handshakes(others: u64, pki: &Pki, address: SocketAddr) {
    for own in 1.. {
        let page = request(&Arc::new(pki.client(ONLY_13)), address, SERVER).text;
        let (_, rest) = page.split_once("Full handshakes</th><td>").unwrap();
        if rest.split_once('<').unwrap().0.parse() == Ok(own + others) {
            return;
        }
    }
}

#[test]
fn silent_clients_lose_their_places_to_others() {
    let (pki, files) = (Pki::new(), Files::new("silent"));
    files.write(&pki.server());
    let options = [&files.options()[..], &["--max-connections", "2"]].concat();
    let (_server, ready) = Program::server(&options);
    let client = Arc::new(pki.client(ONLY_13));

    // One says nothing at all, one makes its handshake and then asks for nothing.
    let mut mute = TcpStream::connect(ready.address).unwrap();
    let idle = TcpStream::connect(ready.address).unwrap();
    let mut idle = StreamOwned::new(tls::start(&client), idle);
    idle.conn.complete_io(&mut idle.sock).unwrap();

    // The third waits for a place, and gets it.
    let answer = request(&client, ready.address, SERVER);
    assert!(answer.text.starts_with("HTTP/1.1 200 OK"), "{}", answer.text);
    mute.set_read_timeout(Some(PATIENCE)).unwrap();
    idle.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(mute.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(idle.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_server_without_descriptors_waits_until_it_has_some() {
    let (pki, files) = (Pki::new(), Files::new("descriptors"));
    files.write(&pki.server());
    let (server, ready) = Program::server_with_descriptors(40, &files.options());
    let crowd: Vec<_> = (0..60).map(|_| TcpStream::connect(ready.address).unwrap()).collect();
    let said = server.complaint();
    assert!(said.starts_with("warning: cannot accept connections: "), "{said}");

    drop(crowd);
    let answer = request(&Arc::new(pki.client(ONLY_13)), ready.address, SERVER);
    assert!(answer.text.starts_with("HTTP/1.1 200 OK"), "{}", answer.text);
}

#[test]
fn a_browser_is_sent_on_from_a_spare_connection() {
    let (pki, files) = (Pki::new(), Files::new("spare"));
    files.write(&pki.server());
    let (_server, ready) = Program::server(&files.options());
    let ask = |header: &str| {
        let connection = tls::start(&Arc::new(pki.client(ONLY_13)));
        let tcp = TcpStream::connect(ready.address).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        thread::sleep(Duration::from_millis(1_200));
        write!(stream, "GET / HTTP/1.1\r\nHost: test\r\n{header}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let browser = ask("Sec-Fetch-Mode: navigate\r\n");
    assert!(browser.starts_with("HTTP/1.1 307 "), "{browser}");
    assert!(browser.contains("\r\nlocation: /\r\n"), "{browser}");
    assert!(browser.contains("\r\nconnection: close\r\n"), "{browser}");
    let other = ask("");
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
}

#[test]
fn help_names_every_option() {
    let end = Program::start("server", &["--help"]).end();
    assert!(end.status.success(), "{end:?}");
    // Each has a line that begins with it; other lines speak of it, too.
    let lines = end.out.iter().map(|line| line.trim_start().trim_start_matches("-h, "));
    let named: Vec<_> = lines.filter_map(|line| line.split(' ').next()).collect();
    for option in [
        "listen",
        "cert",
        "key",
        "save-cert",
        "max-sessions",
        "lifetime",
        "max-connections",
        "verbose",
        "drive",
        "clients",
        "json",
        "help",
    ] {
        assert!(named.contains(&&*format!("--{option}")), "--{option} in {named:?}");
    }
}

#[test]
fn unless_it_is_told_where_a_server_listens_on_this_machine_alone() {
    let address = |args: &[&str]| Options::parse_from([&["server"], args].concat()).address();
    assert_eq!(address(&[]).to_string(), "127.0.0.1:8443");
    assert_eq!(address(&["--drive", "1"]).to_string(), "127.0.0.1:0");
    assert_eq!(address(&["--listen", "[::1]:1"]).to_string(), "[::1]:1");
}

/// A server that does not start.
fn refused(args: &[&str]) -> String {
    let End { status, out, err } = Program::start("server", args).end();
    let said = err.join("\n");
    assert!(!status.success() && status.code().is_some(), "{args:?}: {status}, {said}");
    assert!(out.is_empty(), "{args:?}: {out:?}");
    assert!(said.starts_with("error: "), "{args:?}: {said}");
    said
}

#[test]
fn options_that_cannot_work_are_named() {
    for (args, named) in [
        (&["--max-sessions", "0"][..], "--max-sessions"),
        (&["--max-sessions", "many"], "--max-sessions"),
        (&["--lifetime", "0"], "--lifetime"),
        (&["--lifetime", "999ms"], "--lifetime"),
        (&["--lifetime", "soon"], "--lifetime"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--drive", "0"], "--drive"),
        (&["--drive", "1", "--clients", "0"], "--clients"),
        (&["--clients", "2"], "--drive"),
        (&["--json"], "--drive"),
        (&["--cert", "cert.pem"], "--key"),
        (&["--key", "key.pem"], "--cert"),
        (&["--colour"], "--colour"),
    ] {
        let said = refused(args);
        assert!(said.contains(named), "{args:?}: {said}");
    }
}

#[test]
fn files_that_cannot_work_are_named() {
    let (pki, files) = (Pki::new(), Files::new("bad-files"));
    let said = refused(&files.options());
    assert!(said.contains(text(&files.cert)), "{said}");

    let (one, other) = (pki.server(), pki.server());
    files.write(&one);
    fs::remove_file(&files.key).unwrap();
    let said = refused(&files.options());
    assert!(said.contains(text(&files.key)), "{said}");

    fs::write(&files.key, &other.key_pem).unwrap();
    let said = refused(&files.options());
    assert!(said.contains("does not belong to"), "{said}");

    fs::write(&files.cert, &one.key_pem).unwrap();
    let said = refused(&files.options());
    assert!(said.contains("holds no certificate"), "{said}");
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&["--listen", &address]);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    assert!(said.contains("--listen"), "{said}");
}

#[test]
fn the_minimal_server_echoes_and_resumes() {
    let server = Program::start("minimal", &["127.0.0.1:0"]);
    let line = server.line();
    let address = line.strip_prefix("Echoing on ").unwrap();
    let client = Arc::new(tls::credulous_client());
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let tcp = TcpStream::connect(address).unwrap();
        let mut stream = StreamOwned::new(tls::start(&client), tcp);
        stream.write_all(b"again").unwrap();
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!((&echo, stream.conn.handshake_kind()), (b"again", Some(kind)));
    }
}

#[test]
fn the_minimal_server_says_what_is_wrong_with_its_argument() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for said in ["--help", "localhost", &taken] {
        let end = Program::start("minimal", &[said]).end();
        assert_eq!(end.status.code(), Some(1), "{said}: {end:?}");
        let words = end.err.join(" ");
        assert!(words.contains(&format!("cannot listen on {said}")), "{words}");
        assert!(words.contains("usage: minimal [HOST:PORT]"), "{words}");
    }
}
