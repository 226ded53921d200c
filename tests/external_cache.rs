//! The example with a database, killed and started again: clients come back to their sessions, and
//! no ticket is good twice that the server had a moment to write down as used.

#[path = "../examples/external_cache/database.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod database;
#[path = "common/process.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod process;
#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod tls;

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use database::Rows;
use process::{End, PATIENCE, Program, folder, request};
use resumption::{Dispatch, Scope, SessionCache, SessionId};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, Stream, StreamOwned, client::Resumption,
};
use serde_json::Value;
use tls::{ONLY_12, ONLY_13, Pki, SERVER};

/// The files of one test, which outlive its servers, and the authority that its clients trust.
struct Home {
    folder: PathBuf,
    pki: Pki,
}

impl Home {
    fn new(test: &str) -> Self {
        let (folder, pki) = (folder(test), Pki::new());
        let identity = pki.server();
        fs::write(folder.join("cert.pem"), &identity.cert_pem).unwrap();
        fs::write(folder.join("key.pem"), &identity.key_pem).unwrap();
        Self { folder, pki }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).into_os_string().into_string().unwrap()
    }

    /// Starts the server and waits until it is ready.
    fn start(&self, more: &[&str]) -> Server {
        let [cert, key, database] = ["cert.pem", "key.pem", "sessions"].map(|name| self.path(name));
        // On a free port each time: a killed server's may be another program's by now.
        let listen = ["--listen", "127.0.0.1:0"];
        let args =
            [&listen[..], &["--cert", &cert, "--key", &key, "--database", &database]].concat();
        let (program, ready) = Program::start("external_cache", &[&args, more].concat()).ready();
        // It brings no ticket, so that it takes nothing out of cache and database.
        let mut observer = self.pki.client(ONLY_13);
        observer.resumption = Resumption::disabled();
        Server { program, address: ready.address, observer: observer.into() }
    }

    fn clients(&self, count: usize, versions: tls::Versions) -> Vec<Arc<ClientConfig>> {
        (0..count).map(|_| Arc::new(self.pki.client(versions))).collect()
    }
}

struct Server {
    program: Program,
    address: SocketAddr,
    /// Who asks for the statistics.
    observer: Arc<ClientConfig>,
}

impl Server {
    fn visit(&self, client: &Arc<ClientConfig>) -> HandshakeKind {
        let answer = request(client, self.address, SERVER);
        assert!(answer.text.starts_with("HTTP/1.1 200 "), "{}", answer.text);
        answer.kind
    }

    fn stats(&self) -> Value {
        self.observe().stats()
    }

    fn observe(&self) -> Observer {
        let tcp = TcpStream::connect(self.address).unwrap();
        Observer(StreamOwned::new(tls::start(&self.observer), tcp))
    }

    fn get_answered(&self) -> u64 {
        self.stats()["get_answered"].as_u64().unwrap()
    }

    /// How many lookups have found their session, in memory or in the database: how many tickets
    /// were accepted, if nobody speaks TLS 1.2.
    fn accepted(&self) -> u64 {
        let stats = self.stats();
        // A take that the database answered is no take of the cache.
        stats["takes"].as_u64().unwrap() + stats["get_answered"].as_u64().unwrap()
    }

    /// Waits until the database has on the disk what has happened so far.
    fn settle(&self) {
        let (start, mut observer) = (Instant::now(), self.observe());
        loop {
            let stats = observer.stats();
            let database = &stats["database"];
            if stats["callbacks_waiting"] == 0 && database["written"] == database["durable"] {
                assert_eq!(database["failures"], 0, "{stats}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "it does not settle: {stats}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so many tickets were taken from memory, while more are, and the disk has it.
    fn settle_takes(&self, takes: u64) {
        let mut observer = self.observe();
        let mut wait = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
            let start = Instant::now();
            loop {
                let stats = observer.stats();
                if is_so(&stats) {
                    return;
                }
                assert!(start.elapsed() < PATIENCE, "{what}: {stats}");
                thread::sleep(Duration::from_millis(5));
            }
        };
        wait("so many are taken, and all that is told", &|stats| {
            stats["takes"].as_u64().unwrap() >= takes && stats["callbacks_waiting"] == 0
        });
        // Not what was written then: it may have been looked at before the calls were.
        let written = self.stats()["database"]["written"].as_u64().unwrap();
        wait("what was written is on the disk", &|stats| {
            stats["database"]["durable"].as_u64().unwrap() >= written
        });
    }

    fn kill(self) {
        self.program.signal("KILL");
        let End { status, .. } = self.program.end();
        assert!(status.code().is_none(), "it was not killed: {status}");
    }
}

/// Asks for the statistics on one connection, so that looking on puts no sessions.
struct Observer(StreamOwned<ClientConnection, TcpStream>);

impl Observer {
    fn stats(&mut self) -> Value {
        self.0.write_all(b"GET /stats HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length.split_once('\r').unwrap().0.parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

/// The first flight of a client that returns: whoever has it can send it again.
fn flight(client: &Arc<ClientConfig>) -> Vec<u8> {
    tls::sent(&mut tls::start(client))
}

/// Sends a first flight, and waits until the server has decided on it.
fn offer(address: SocketAddr, flight: &[u8]) {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(flight).unwrap();
    tcp.read_exact(&mut [0; 5]).unwrap();
}

/// Sends each flight twice at once.
fn offer_twice(address: SocketAddr, flights: &[Vec<u8>]) {
    for flight in flights {
        let together = Barrier::new(2);
        let one = || {
            together.wait();
            offer(address, flight);
        };
        thread::scope(|scope| {
            scope.spawn(one);
            scope.spawn(one);
        });
    }
}

#[test]
fn sessions_outlive_a_killed_server() {
    const CLIENTS: usize = 6;
    for versions in [ONLY_13, ONLY_12] {
        let home = Home::new("external-killed");
        let server = home.start(&[]);
        let clients = home.clients(CLIENTS, versions);
        for client in &clients {
            assert_eq!(server.visit(client), HandshakeKind::Full);
        }
        server.settle();
        server.kill();

        let server = home.start(&[]);
        for client in &clients {
            assert_eq!(server.visit(client), HandshakeKind::Resumed);
        }
        assert_eq!(server.get_answered(), CLIENTS as u64);
        // The next ones are found in memory: new tickets, or the session that was brought there.
        for client in &clients {
            assert_eq!(server.visit(client), HandshakeKind::Resumed);
        }
    }
}

#[test]
fn a_ticket_out_of_the_database_is_good_once() {
    let home = Home::new("external-once");
    let server = home.start(&[]);
    let clients = home.clients(8, ONLY_13);
    clients.iter().for_each(|client| assert_eq!(server.visit(client), HandshakeKind::Full));
    // Half of the tickets are used before the kill, out of memory.
    let flights: Vec<_> = clients.iter().map(flight).collect();
    let (used, fresh) = flights.split_at(4);
    used.iter().for_each(|flight| offer(server.address, flight));
    assert_eq!(server.accepted(), 4);
    server.settle();
    server.kill();

    let server = home.start(&[]);
    offer_twice(server.address, used);
    assert_eq!(server.accepted(), 0, "they were used before");
    offer_twice(server.address, fresh);
    assert_eq!((server.accepted(), server.get_answered()), (4, 4));
    // It is on the disk before the client hears of it: nothing has to settle.
    server.kill();
    let server = home.start(&[]);
    offer_twice(server.address, &flights);
    assert_eq!(server.accepted(), 0, "they were used before");
}

/// Visits until the server is gone; the first flights of the visits that were resumed, which have
/// used their tickets.
fn visit_until_gone(address: SocketAddr, client: &Arc<ClientConfig>) -> Vec<Vec<u8>> {
    let mut flights = Vec::new();
    loop {
        let mut connection = tls::start(client);
        let first = tls::sent(&mut connection);
        if visit_with(&mut connection, address, &first).is_err() {
            return flights;
        }
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            flights.push(first);
        }
    }
}

/// A visit whose first flight was taken out of the connection before.
fn visit_with(
    connection: &mut ClientConnection,
    address: SocketAddr,
    first: &[u8],
) -> io::Result<()> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.write_all(first)?;
    let mut stream = Stream::new(connection, &mut tcp);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

#[test]
fn after_a_kill_in_the_middle_of_traffic_resting_clients_are_resumed() {
    const BUSY: usize = 3;
    const TAKES: usize = 30;
    let home = Home::new("external-traffic");
    let server = home.start(&[]);
    let resting = home.clients(8, ONLY_13);
    resting.iter().for_each(|client| assert_eq!(server.visit(client), HandshakeKind::Full));
    server.settle();

    let busy = home.clients(BUSY, ONLY_13);
    let address = server.address;
    let flights: Vec<_> = thread::scope(|scope| {
        let visits: Vec<_> =
            busy.iter().map(|client| scope.spawn(|| visit_until_gone(address, client))).collect();
        server.settle_takes(TAKES as u64);
        server.kill();
        visits.into_iter().flat_map(|visit| visit.join().unwrap()).collect()
    });
    // The last visit of each may have taken its ticket, and not come to its end.
    assert!(flights.len() >= TAKES - BUSY, "{} visits were resumed", flights.len());

    let server = home.start(&[]);
    resting.iter().for_each(|client| assert_eq!(server.visit(client), HandshakeKind::Resumed));
    assert_eq!(server.get_answered(), 8);

    // Those that were used in the last moment before the kill may be good once more, for their
    // deletion was not on the disk (database.rs says why); few they are, and good for one of two
    // that come at once. Then they are gone.
    offer_twice(server.address, &flights);
    let again = server.accepted() - 8;
    println!("of {} used tickets, {again} of the last moment were good once more", flights.len());
    let most = flights.len() - (TAKES - BUSY);
    assert!(again <= most as u64, "{again} came back, and {TAKES} were gone from the disk");
    offer_twice(server.address, &flights);
    assert_eq!(server.accepted() - 8, again);

    // Who was busy has tickets of the last moment, and is served in any case.
    for client in &busy {
        server.visit(client);
        assert_eq!(server.visit(client), HandshakeKind::Resumed);
    }
}

#[test]
fn what_memory_has_no_room_for_is_found_in_the_database() {
    let home = Home::new("external-evicted");
    let server = home.start(&["--max-sessions", "1"]);
    let clients = home.clients(4, ONLY_13);
    clients.iter().for_each(|client| assert_eq!(server.visit(client), HandshakeKind::Full));
    server.settle();
    for client in &clients {
        assert_eq!(server.visit(client), HandshakeKind::Resumed);
        server.settle();
    }
    assert_eq!(server.get_answered(), 4);
}

#[test]
fn what_expires_while_the_server_is_down_is_dropped() {
    let home = Home::new("external-expired");
    let server = home.start(&["--lifetime", "2s"]);
    let clients = home.clients(2, ONLY_13);
    clients.iter().for_each(|client| assert_eq!(server.visit(client), HandshakeKind::Full));
    server.settle();
    server.kill();
    thread::sleep(Duration::from_millis(2_100));

    let server = home.start(&["--lifetime", "2h"]);
    clients.iter().for_each(|client| assert_eq!(server.visit(client), HandshakeKind::Full));
    assert_eq!(server.get_answered(), 0);
    server.program.signal("TERM");
    let End { status, out, err } = server.program.end();
    assert!(status.success(), "{err:?}");
    assert!(out[1].contains("it held 0 at the start"), "{out:?}");
}

#[test]
fn the_file_is_for_its_owner_alone() {
    let home = Home::new("external-mode");
    let mode = || fs::metadata(home.path("sessions")).unwrap().permissions().mode() & 0o777;
    let server = home.start(&[]);
    assert_eq!(mode(), 0o600);
    server.kill();
    fs::set_permissions(home.path("sessions"), fs::Permissions::from_mode(0o644)).unwrap();
    let _server = home.start(&[]);
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_drive_sums_up_what_the_database_did() {
    let home = Home::new("external-drive");
    let database = home.path("sessions");
    let args = ["--database", &database, "--drive", "1", "--json", "--clients", "2"];
    let end = Program::start("external_cache", &args).end();
    assert!(end.status.success(), "{end:?}");
    let summary: Value = serde_json::from_str(end.out.last().unwrap()).unwrap();
    let number = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name}: {summary}"));
    assert!(number("handshakes") > number("returning") && number("resumed") > 0, "{summary}");
    // For tickets that were used: they are nowhere, and all others are in memory.
    assert!(number("get_called") > 0 && number("get_answered") == 0, "{summary}");
    assert!(number("rows_at_start") == 0 && number("rows_at_end") > 0, "{summary}");
}

/// The disk is full, as far as the program can see.
#[test]
fn a_drive_without_a_database_is_not_good() {
    let home = Home::new("external-full");
    let database = home.path("sessions");
    // Opened once, it has a size that it may keep.
    drop(Rows::open(Path::new(&database)).unwrap());
    let size = fs::metadata(&database).unwrap().len();
    let args = ["--database", &database, "--drive", "1", "--json", "--clients", "2"];
    let end = Program::start_with_files_of(size, "external_cache", &args).end();
    assert_eq!(end.status.code(), Some(1), "{end:?}");
    assert!(end.err.iter().any(|line| line.contains("the database failed")), "{end:?}");
    let summary: Value = serde_json::from_str(end.out.last().unwrap()).unwrap();
    assert_eq!(summary["failures"], 0, "no client has noticed: {summary}");
    assert!(summary["database_failures"].as_u64() > Some(0), "{summary}");
}

/// The scope's name alone would let who has shown no certificate resume where one is asked for.
#[test]
fn a_row_is_of_the_whole_scope() {
    let home = Home::new("external-scope");
    let rows = Rows::open(&home.folder.join("sessions")).unwrap();
    let (public, id) = (Scope::new("web"), SessionId::from([1; 32]));
    let cache = || {
        let builder = SessionCache::builder().dispatch(Dispatch::Inline).without_ticker();
        let cache: SessionCache = builder.build().unwrap();
        rows.attach(&cache).unwrap();
        cache
    };
    assert!(cache().scope(&public).put(&id, b"state".into()).is_stored());
    assert_eq!(rows.len(), 1);
    let next = cache();
    let internal = Scope::new("web").with("client-ca", b"x");
    assert!(next.scope(&internal).get(&id).is_none());
    assert!(next.scope(&internal).take(&id).is_none());
    assert!(next.scope(&public).get(&id).is_some(), "it was there all the time");
}

#[test]
fn help_says_that_the_file_holds_keys() {
    let end = Program::start("external_cache", &["--help"]).end();
    let help = end.out.join("\n");
    for expected in ["--database", "--max-sessions", "--lifetime", "--json", "holds keys", "0600"] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
}
