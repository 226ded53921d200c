//! The example programs as processes: started, listened to, signalled, and asked over real TLS.

use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    ptr,
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, SystemTime},
};

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned, pki_types::ServerName};

/// Far more than anything here takes; only a test that has failed waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const EXAMPLES: &[&str] = &["server", "minimal", "external_cache", "openssl_server", "lookup"];

const LISTEN: &[&str] = &["--listen", "127.0.0.1:0"];

/// A program whose output is read line by line, and which does not outlive its test.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Program {
    pub(crate) fn start(example: &str, args: &[&str]) -> Self {
        Self::spawn(Command::new(path(example)).args(args), true)
    }

    /// Starts a program; what it says on stderr cannot be written if nobody hears it.
    fn spawn(command: &mut Command, is_heard: bool) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let err = if is_heard { lines(stderr) } else { mpsc::channel().1 };
        Self { child, out, err }
    }

    /// Starts the server on a free port and waits until it is ready.
    pub(crate) fn server(args: &[&str]) -> (Self, Ready) {
        Self::start("server", &[LISTEN, args].concat()).ready()
    }

    /// The same, with no more than so many file descriptors.
    pub(crate) fn server_with_descriptors(most: u32, args: &[&str]) -> (Self, Ready) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]);
        Self::spawn(shell.arg(path("server")).args(LISTEN).args(args), true).ready()
    }

    /// Starts a program that can make no file larger than so many bytes, and writes none of its own.
    pub(crate) fn start_with_files_of(most: u64, example: &str, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        // In blocks of 512 bytes; what is too large is an error, and no signal.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", most / 512)]);
        Self::spawn(shell.arg(path(example)).args(args), true)
    }

    /// A server whose stderr nobody reads any more.
    pub(crate) fn server_unheard(args: &[&str]) -> (Self, Ready) {
        Self::spawn(Command::new(path("server")).args(LISTEN).args(args), false).ready()
    }

    /// Runs a program whose stderr is a terminal; returns how it ended, and what the terminal was sent.
    pub(crate) fn on_a_terminal(example: &str, args: &[&str]) -> (ExitStatus, String) {
        let (mut ours, mut its) = (0, 0);
        let (name, settings) = (ptr::null_mut(), ptr::null_mut());
        let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: two descriptors are written, and the size is read; null asks for nothing.
        let opened = unsafe { libc::openpty(&mut ours, &mut its, name, settings, &size) };
        assert_eq!(opened, 0, "{}", io::Error::last_os_error());
        // SAFETY: both are new, and nobody else's.
        let [ours, its] = unsafe { [ours, its].map(|end| OwnedFd::from_raw_fd(end)) };
        let mut command = Command::new(path(example));
        command.args(args).env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(its).spawn().unwrap();
        // It has the program's end of the terminal.
        drop(command);
        let (done, sent) = mpsc::channel();
        thread::spawn(move || {
            let mut sent = Vec::new();
            // Ends with an error when the other end is closed.
            let _ = File::from(ours).read_to_end(&mut sent);
            done.send(String::from_utf8_lossy(&sent).into_owned())
        });
        let program = Self { child, out: mpsc::channel().1, err: mpsc::channel().1 };
        let sent = sent.recv_timeout(PATIENCE).expect("the program ends");
        (program.end().status, sent)
    }

    /// Waits for the line in which a server says where it listens.
    pub(crate) fn ready(self) -> (Self, Ready) {
        let line = self.line();
        let address = line
            .strip_prefix("Ready on https://")
            .and_then(|rest| rest.split('/').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no ready line: {line}"));
        (self, Ready { address, line })
    }

    /// The next line on stdout.
    pub(crate) fn line(&self) -> String {
        self.out.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            let said: Vec<_> = self.err.try_iter().collect();
            panic!("no line on stdout ({error}); on stderr: {said:?}")
        })
    }

    /// The next line on stderr.
    pub(crate) fn complaint(&self) -> String {
        self.err.recv_timeout(PATIENCE).expect("a line on stderr")
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("sh").args(["-c", "kill -s $0 $1", name, &id]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end: how it ended, and all lines that nobody has read yet.
    pub(crate) fn end(mut self) -> End {
        let (out, err) = (rest(&self.out), rest(&self.err));
        End { status: self.child.wait().unwrap(), out, err }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) address: SocketAddr,
    pub(crate) line: String,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// All lines until the program closes the pipe.
fn rest(pipe: &Receiver<String>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match pipe.recv_timeout(PATIENCE) {
            Ok(line) => lines.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return lines,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end; it said {lines:?}"),
        }
    }
}

/// An example program of the profile that this test is built in. Cargo builds the examples with
/// the tests, unless it is asked for one test alone: then it is built here.
fn path(example: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let examples = profile.join("examples");
    BUILT.get_or_init(|| {
        let built = |example: &&str| modified(&examples.join(example));
        let oldest = EXAMPLES.iter().map(built).min().flatten();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if oldest < newest(&root.join("src")).max(newest(&root.join("examples"))) {
            build(profile);
        }
    });
    examples.join(example)
}

fn build(profile: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet"]);
    cargo.args(EXAMPLES.iter().flat_map(|example| ["--example", example]));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success(), "the examples do not build");
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()?
}

/// Whether a tool is there to test with. One that `RESUMPTION_SKIP` names (a list with commas) is
/// known to be missing; any other is needed.
pub(crate) fn has(tool: &str) -> bool {
    let missing = env::var("RESUMPTION_SKIP").unwrap_or_default();
    if missing.split(',').any(|name| name.trim() == tool) {
        println!("skipped: no {tool}");
        return false;
    }
    let there = Command::new(tool).arg("--version").stdin(Stdio::null()).output();
    assert!(there.is_ok(), "{tool} is needed (RESUMPTION_SKIP={tool} skips what needs it)");
    true
}

/// An empty folder for one test.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What came of one request on a connection of its own.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) kind: HandshakeKind,
    /// The certificate that the server showed, now or in the session that was resumed.
    pub(crate) cert: Vec<u8>,
    pub(crate) text: String,
}

/// A request by a rustls client.
pub(crate) fn request(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> Answer {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let cert = stream.conn.peer_certificates().unwrap()[0].to_vec();
    Answer { kind: stream.conn.handshake_kind().unwrap(), cert, text }
}
