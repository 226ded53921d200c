//! A short run, by the program itself. `cargo xtask soak --minutes N` is the long one.

use std::process::Command;

#[test]
fn nothing_fails_for_a_while() {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--seconds", "20", "--json"])
        .output()
        .expect("the program was built for this test");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["failures"], serde_json::json!([]), "{told}");
    // It was no run of rounds that do nothing.
    let least = [
        ("rounds", 3),
        ("operations", 100_000),
        ("stored", 1_000),
        ("takes", 1_000),
        ("threads", 500),
        ("settings_changed", 50),
        ("samples_of_live_payloads", 10_000),
    ];
    for (what, least) in least {
        let count = report["totals"][what].as_u64();
        assert!(count.is_some_and(|count| count >= least), "{what}: {count:?}\n{told}");
    }
}
