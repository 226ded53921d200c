//! The example server driven by its own clients: what it reports, and how a drive can end.

#[path = "common/process.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod process;

use process::{End, Program};
use serde_json::Value;

fn drive(args: &[&str]) -> End {
    Program::start("server", &[&["--drive"], args].concat()).end()
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
