//! The example server driven by its own clients: what it reports, and how a drive can end.

#[path = "../examples/common/format.rs"]
#[allow(dead_code, reason = "the examples use all of it")]
mod format;
#[path = "../examples/common/drive/histogram.rs"]
mod histogram;
#[path = "common/process.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod process;
#[path = "../examples/common/drive/summary.rs"]
mod summary;

use std::{net::TcpStream, time::Duration};

use process::{End, Program};
use rustls::HandshakeKind;
use serde_json::Value;
use summary::{Offer, Summary};

fn drive(args: &[&str]) -> End {
    Program::start("server", &[&["--drive"], args].concat()).end()
}

/// A summary of these visits.
fn summary_of(visits: &[(Offer, HandshakeKind)]) -> Summary {
    let mut summary = Summary::new(1);
    visits.iter().for_each(|&(offer, kind)| summary.count(offer, kind, Duration::from_millis(1)));
    summary
}

#[test]
fn a_drive_is_good_if_clients_came_and_no_ticket_served_twice() {
    use HandshakeKind::{Full, Resumed};
    use Offer::{Nothing, Ticket, UsedTicket};
    let drives = [
        (&[][..], false),
        (&[(Nothing, Full)], true),
        (&[(Nothing, Full), (Ticket, Resumed), (UsedTicket, Full)], true),
        // What was evicted makes a drive no worse.
        (&[(Nothing, Full), (Ticket, Full)], true),
        (&[(Nothing, Full), (UsedTicket, Resumed)], false),
    ];
    for (visits, is_good) in drives {
        assert_eq!(summary_of(visits).is_good(), is_good, "{visits:?}");
    }
    let mut failed = summary_of(&[(Nothing, Full)]);
    failed.fail("no route".to_owned());
    assert!(!failed.is_good());
}

#[test]
fn of_no_returning_clients_no_share_is_told() {
    use HandshakeKind::{Full, Resumed};
    let returning = |visits: &[(Offer, HandshakeKind)]| {
        let text = summary_of(visits).to_string();
        let line = text.lines().find(|line| line.contains("returning")).expect("a line");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let new = (Offer::Nothing, Full);
    let counts = ["handshakes", "returning", "resumed"];
    assert!(counts.iter().all(|name| number(&summary_of(&[]).json(), name) == 0));
    assert_eq!(returning(&[]), "returning clients 0 - resumed");
    assert_eq!(returning(&[new]), "returning clients 0 - resumed");
    assert_eq!(returning(&[new, (Offer::Ticket, Full)]), "returning clients 1 0.00 % resumed");
    assert_eq!(returning(&[new, (Offer::Ticket, Resumed)]), "returning clients 1 100.00 % resumed");
}

/// The JSON object on the last line.
fn summary(end: &End) -> Value {
    serde_json::from_str(end.out.last().expect("a line of output")).expect("JSON")
}

fn number(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}"))
}

#[test]
fn returning_clients_are_resumed_and_used_tickets_refused() {
    let end = drive(&["2", "--json"]);
    assert!(end.status.success(), "{end:?}");
    let summary = summary(&end);
    let read = |name: &str| number(&summary, name);

    let (returning, resumed) = (read("returning"), read("resumed"));
    assert!(returning > 20, "{summary}");
    assert!(resumed * 100 >= returning * 95, "{summary}");
    assert!(read("second_uses") > 0, "{summary}");
    assert_eq!(read("second_uses_refused"), read("second_uses"));
    assert_eq!(read("failures"), 0);
    // New clients are neither.
    assert!(read("handshakes") > returning + read("second_uses"), "{summary}");
    for kind in ["full", "resumed"] {
        let [half, most] = ["p50", "p99"].map(|part| read(&format!("{kind}_{part}_us")));
        assert!(0 < half && half <= most, "{summary}");
    }
}

#[test]
fn what_the_cache_cannot_keep_is_not_reported_as_resumed() {
    // Of each handshake's two sessions one is evicted at once, and soon the other.
    let end = drive(&["1", "--json", "--clients", "4", "--max-sessions", "1"]);
    assert!(end.status.success(), "{end:?}");
    let summary = summary(&end);
    assert!(number(&summary, "returning") > 0, "{summary}");
    assert!(number(&summary, "resumed") < number(&summary, "returning"), "{summary}");
    assert_eq!(number(&summary, "clients"), 4);
}

#[test]
fn without_json_the_summary_is_for_people() {
    let end = drive(&["1", "--clients", "2"]);
    assert!(end.status.success(), "{end:?}");
    let text = end.out.join("\n");
    for expected in ["2 clients", "handshakes", "returning clients", "refused", "99 % within"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

/// Where nobody watches there are lines, as the next test sees.
#[test]
fn on_a_terminal_a_drive_shows_a_bar() {
    let (status, sent) = Program::on_a_terminal("server", &["--drive", "2"]);
    assert!(status.success(), "{status}: {sent}");
    let bar = sent.split('\r').find(|text| text.contains('█') && text.contains(" %  "));
    assert!(bar.is_some_and(|bar| bar.contains("handshakes")), "{sent:?}");
}

#[test]
fn a_signal_ends_a_drive_early_with_its_summary() {
    for signal in ["INT", "TERM"] {
        let program = Program::start("server", &["--drive", "3600", "--json"]);
        assert!(program.complaint().starts_with("Driving https://127.0.0.1:"));
        // A line of progress: clients are busy.
        assert!(program.complaint().contains("handshakes"));
        program.signal(signal);
        let end = program.end();
        assert!(end.status.success(), "{end:?}");
        let summary = summary(&end);
        assert!(number(&summary, "handshakes") > 0, "{summary}");
        assert!(summary["seconds"].as_f64().unwrap() < 3600.0, "{summary}");
    }
}

/// Its client waits for a place, and would for ten seconds.
#[test]
fn a_second_signal_ends_a_drive_at_once() {
    let places = ["--clients", "1", "--max-connections", "1"];
    let program = Program::start("server", &[&["--drive", "3600"], &places[..]].concat());
    let line = program.complaint();
    let address = line.strip_prefix("Driving https://").and_then(|rest| rest.split('/').next());
    let address = address.unwrap_or_else(|| panic!("no address: {line}"));
    let _crowd: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut seen = String::new();
    loop {
        let line = program.complaint();
        let (_, handshakes) = line.split_once(": ").expect("a line of progress");
        if handshakes == seen {
            break;
        }
        handshakes.clone_into(&mut seen);
    }
    program.signal("INT");
    assert!(program.complaint().starts_with("Ending"));
    program.signal("INT");
    let end = program.end();
    assert_eq!(end.status.code(), Some(1), "{end:?}");
    assert_eq!(end.err.last().map(String::as_str), Some("error: the drive was broken off"));
}

#[test]
fn a_reload_during_a_drive_disturbs_nobody() {
    let program = Program::start("server", &["--drive", "3600", "--json"]);
    assert!(program.complaint().starts_with("Driving"));
    for _ in 0..3 {
        program.signal("HUP");
        while !program.complaint().starts_with("Reloaded") {}
    }
    // Full handshakes with the last certificate, and returns to sessions from before it.
    assert!(program.complaint().contains("handshakes"));
    program.signal("TERM");
    let end = program.end();
    assert!(end.status.success(), "{end:?}");
    let summary = summary(&end);
    assert_eq!(number(&summary, "failures"), 0, "{summary}");
    assert!(number(&summary, "resumed") * 100 >= number(&summary, "returning") * 95, "{summary}");
}
