//! `openssl s_client` as a client of the example servers, and what it says of sessions.

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Asks for the page; what s_client prints, the page at its end.
pub(crate) fn s_client(address: SocketAddr, args: &[&str]) -> String {
    ask(address, "/", args)
}

/// As [`s_client`], for something else.
pub(crate) fn ask(address: SocketAddr, path: &str, args: &[&str]) -> String {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-ign_eof"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap())
}

pub(crate) fn said(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    New,
    Reused,
}

/// What s_client says of the session, with which the page must agree.
pub(crate) fn session(text: &str) -> Session {
    let new = text.lines().any(|line| line.starts_with("New, TLSv1."));
    let reused = text.lines().any(|line| line.starts_with("Reused, TLSv1."));
    assert_ne!(new, reused, "{text}");
    let heading = if new { "<h1>Full handshake</h1>" } else { "<h1>Resumed</h1>" };
    assert!(text.contains(heading), "{text}");
    if new { Session::New } else { Session::Reused }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
