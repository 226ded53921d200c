//! `cargo xtask sanitize [address|thread]`: tests under AddressSanitizer and ThreadSanitizer.
//!
//! * *address*: reads and writes of memory that is freed, or was never there; and leaks at the end of each test binary, but
//!   for what tests forget on purpose (`lsan.supp`). The library is built with `--cfg sanitized="address"`, so that it keeps no freed
//!   block for its next use: one that is kept looks alive to the sanitizer. So what keeps them is run here by
//!   its unit tests alone. OpenSSL is the system's, and not built for the sanitizer: of what it does itself only what it frees,
//!   and what it has the C library copy, is seen.
//! * *thread*: races of plain reads and writes. With the sources of the standard library (`rustup
//!   component add rust-src --toolchain nightly`) that is built with it, and nothing is left out but what
//!   `tsan.supp` says. Without them the standard library's own synchronisation is not seen, so that
//!   its mutexes, barriers and channels look like races; `tsan-prebuilt.supp` leaves those out too.
//!
//! Before the tests, each has to report the errors that are planted for it (`src/reclaim/seen.rs`).
//!
//! Each has a target folder of its own. What takes a bare fence for its ordering would be a false alarm
//! of ThreadSanitizer's; there is none outside `sync/` (see `tidy`), and crossbeam-epoch replaces its
//! own by itself when its build script sees the flag.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::{nightly, step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sanitizer {
    Address,
    Thread,
}

/// Of the tests beside the library, those that run with its unit tests: all but `OTHERS`.
const TESTS: &[&str] = &[
    "callbacks",
    "callbacks_attack",
    "callbacks_edges",
    "churn",
    "connection",
    "corpus",
    "edges",
    "expiry",
    "get_callback",
    "interface",
    "lookup",
    "lookup_edges",
    "lookup_late",
    "lookup_storms",
    "modes",
    "modes_store",
    "openssl_callbacks",
    "openssl_early_data",
    "openssl_freed",
    "openssl_handshakes",
    "openssl_isolation",
    "openssl_lifecycle",
    "openssl_threads",
    "panics",
    "parcels",
    "past",
    "properties",
    "reentrancy",
    "rustls_early_data",
    "rustls_handshakes",
    "rustls_hostile",
    "rustls_isolation",
    "rustls_later",
    "rustls_lifetime",
    "rustls_modes",
    "scope_drop",
    "scope_order",
    "shared_database",
    "stress",
];

/// The rest, and why no sanitizer runs it.
#[cfg(test)]
const OTHERS: [(&str, &str); 13] = [
    ("callbacks_stopped", "stops threads by signals, which ThreadSanitizer delays"),
    ("external_cache", "kills programs that were built without one"),
    ("linearizability", "histories of what `stress` does, for their order"),
    ("memory", "has an allocator of its own, which counts bytes"),
    ("no_memory", "has an allocator of its own, which refuses"),
    ("openssl_oracle", "has a C library's clock of its own"),
    ("openssl_server", "starts a program that was built without one"),
    ("server_drive", "starts a program that was built without one"),
    ("server_openssl", "starts a program that was built without one"),
    ("server_process", "starts a program that was built without one"),
    ("stopped_thread", "has an allocator of its own, and stops threads by signals"),
    ("threads", "counts the threads of the process"),
    ("wiped", "has an allocator of its own, which reads what is freed"),
];

/// A test that is left out: it forgets its cache on purpose, for that holds payloads that panic in their drop.
const SKIPPED: [&str; 1] = ["a_rejection_that_meets_a_panicking_payload"];

/// Tests that ThreadSanitizer needs the standard library's sources for: what they share is behind its mutexes and
/// channels, or tokio's, which are made of those.
const NEED_SOURCES: [&str; 9] = [
    "callbacks_attack",
    "callbacks_edges",
    "get_callback",
    "lookup",
    "lookup_storms",
    "modes_store",
    "reentrancy",
    "rustls_later",
    "scope_order",
];

/// Where the planted errors are.
const PLANTS: &str = "reclaim::seen::";

/// How long the soak runs after the tests, in seconds.
const SOAK: &str = "60";

pub(crate) fn run(parser: Parser) -> Result<()> {
    let (sanitizers, tests) = choice(parser)?;
    let toolchain = nightly::toolchain()?;
    let has_sources = nightly::has_sources(&toolchain);
    let host = nightly::host()?;
    for (idx, sanitizer) in sanitizers.iter().enumerate() {
        step::step(sanitizer.name(), idx + 1 == sanitizers.len(), || {
            if !sanitizer.sees_all(has_sources) {
                step::say(&left_out(&tests)?)?;
            }
            for test in sanitizer.planted() {
                let command = sanitizer.plant(&host, has_sources, test);
                sanitizer.catches(test, command)?;
            }
            step::run(&mut sanitizer.tests(&host, has_sources, &tests))?;
            // Everything at once, if everything is asked for. It uses the standard library's locks.
            if tests.is_empty() && sanitizer.sees_all(has_sources) {
                step::run(&mut sanitizer.soak(&host, has_sources))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Which sanitizers, both without one; and which tests, all without `--test`.
fn choice(mut parser: Parser) -> Result<(Vec<Sanitizer>, Vec<String>)> {
    let (mut sanitizers, mut tests) = (Vec::new(), Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(name) if name == "address" => sanitizers.push(Sanitizer::Address),
            Arg::Value(name) if name == "thread" => sanitizers.push(Sanitizer::Thread),
            Arg::Value(name) => bail!("no sanitizer {name:?}; there are `address` and `thread`"),
            Arg::Long("test") => tests.push(parser.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if sanitizers.is_empty() {
        sanitizers = vec![Sanitizer::Address, Sanitizer::Thread];
    }
    Ok((sanitizers, tests))
}

/// What ThreadSanitizer leaves out without the standard library's sources, of these tests or of all; an error, if one of
/// them is.
fn left_out(tests: &[String]) -> Result<String> {
    const SOURCES: &str = "`rustup component add rust-src --toolchain nightly` brings them";
    if let Some(test) = tests.iter().find(|test| NEED_SOURCES.contains(&test.as_str())) {
        bail!("`{test}` needs the standard library's sources: {SOURCES}");
    }
    let rest = if tests.is_empty() {
        format!(", as are the soak and {}", NEED_SOURCES.join(", "))
    } else {
        String::new()
    };
    Ok(format!(
        "    without the standard library's sources: what it synchronises is not seen, and left out{rest}; {SOURCES}"
    ))
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Thread => "thread",
        }
    }

    /// Whether it sees what the standard library synchronises.
    fn sees_all(self, has_sources: bool) -> bool {
        self == Self::Address || has_sources
    }

    /// The tests with errors that it has to report.
    fn planted(self) -> &'static [&'static str] {
        match self {
            Self::Address => &["a_parcels_block", "a_headers_block"],
            Self::Thread => &["a_race"],
        }
    }

    /// What it says of them.
    fn report(self) -> &'static str {
        match self {
            Self::Address => "AddressSanitizer: heap-use-after-free",
            Self::Thread => "ThreadSanitizer: data race",
        }
    }

    fn plant(self, host: &str, has_sources: bool, test: &str) -> Command {
        let mut command = self.cargo(&["test", "--lib"], host, has_sources);
        command.args(["--", "--exact", &format!("{PLANTS}{}::{test}", self.name())]);
        command
    }

    /// Fails unless the command ends in the sanitizer's report.
    fn catches(self, test: &str, mut command: Command) -> Result<()> {
        let output = command.stdin(Stdio::null()).output().context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let report = said.lines().find(|line| line.contains(self.report()));
        match report.filter(|_| !output.status.success()) {
            Some(report) => step::say(&format!("    `{test}` is caught: {}", report.trim())),
            None => bail!("`{test}` was planted, and not seen:\n{said}"),
        }
    }

    fn tests(self, host: &str, has_sources: bool, tests: &[String]) -> Command {
        let mut command = self.cargo(&["test", "--no-fail-fast"], host, has_sources);
        if tests.is_empty() {
            command.arg("--lib");
            let sees_all = self.sees_all(has_sources);
            let tests = TESTS.iter().filter(|test| sees_all || !NEED_SOURCES.contains(test));
            command.args(tests.flat_map(|test| ["--test", test]));
        }
        command.args(tests.iter().flat_map(|test| ["--test", test]));
        command.arg("--");
        command.args(SKIPPED.iter().chain(&[PLANTS]).flat_map(|test| ["--skip", test]));
        command
    }

    fn soak(self, host: &str, has_sources: bool) -> Command {
        let mut command = self.cargo(&["run", "--package", "soak"], host, has_sources);
        // Freed memory stays with the sanitizer for a while.
        command.args(["--", "--seconds", SOAK, "--any-memory"]);
        command
    }

    fn flags(self) -> String {
        format!("-Zsanitizer={0} --cfg=sanitized=\"{0}\"", self.name())
    }

    /// `cargo` with the sanitizer on.
    fn cargo(self, args: &[&str], host: &str, has_sources: bool) -> Command {
        let mut command = nightly::cargo(args);
        command.args(["--release", "--target", host]);
        let file = |name: &str| crate::root().join("xtask").join(name).display().to_string();
        let suppressions = |name| format!("halt_on_error=1 suppressions={}", file(name));
        match self {
            Self::Address => {
                command.env("RUSTFLAGS", self.flags());
                command.env("CARGO_TARGET_DIR", "target-asan");
                command.env("ASAN_OPTIONS", "detect_stack_use_after_return=1");
                command.env("LSAN_OPTIONS", format!("suppressions={}", file("lsan.supp")));
            }
            Self::Thread if has_sources => {
                command.arg("-Zbuild-std");
                command.env("RUSTFLAGS", self.flags());
                command.env("CARGO_TARGET_DIR", "target-tsan");
                command.env("TSAN_OPTIONS", suppressions("tsan.supp"));
            }
            Self::Thread => {
                let flags = self.flags() + " -Cunsafe-allow-abi-mismatch=sanitizer";
                command.env("RUSTFLAGS", flags);
                command.env("CARGO_TARGET_DIR", "target-tsan");
                command.env("TSAN_OPTIONS", suppressions("tsan-prebuilt.supp"));
            }
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use walkdir::WalkDir;

    use super::*;

    #[test]
    fn every_test_is_run_or_it_is_said_why_not() {
        let mut named: Vec<_> = TESTS.iter().copied().chain(OTHERS.map(|(test, _)| test)).collect();
        named.sort_unstable();
        let files =
            fs::read_dir(crate::root().join("tests")).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "rs"));
        let mut tests: Vec<_> =
            files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        tests.sort_unstable();
        assert_eq!(named, tests);
    }

    /// Else nobody knows that a test has another name by now, and is run.
    #[test]
    fn every_test_that_is_skipped_is_there() {
        let root = crate::root();
        let tests = TESTS.iter().map(|test| root.join("tests").join(test).with_extension("rs"));
        let units =
            WalkDir::new(root.join("src")).into_iter().map(|entry| entry.unwrap().into_path());
        let files = tests.chain(units.filter(|path| path.is_file()));
        let texts: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
        for name in SKIPPED {
            assert!(texts.contains(&format!("fn {name}()")), "no test {name}");
        }
    }

    #[test]
    fn what_needs_the_sources_is_left_out_without_them_and_by_thread_sanitizer_alone() {
        let has = |sanitizer: Sanitizer, has_sources, test: &str| {
            let command = sanitizer.tests("host", has_sources, &[]);
            command.get_args().any(|arg| arg == test)
        };
        for test in NEED_SOURCES {
            assert!(TESTS.contains(&test), "{test}");
            assert!(has(Sanitizer::Address, false, test) && has(Sanitizer::Thread, true, test));
            assert!(!has(Sanitizer::Thread, false, test));
        }
        assert!(has(Sanitizer::Thread, false, "stress") && has(Sanitizer::Thread, false, "--lib"));
    }

    /// Else no test is run, and a sanitizer that sees nothing is not told from a name that is mistyped.
    #[test]
    fn every_planted_error_is_there() {
        let text = fs::read_to_string(crate::root().join("src/reclaim/seen.rs")).unwrap();
        for sanitizer in [Sanitizer::Address, Sanitizer::Thread] {
            for test in sanitizer.planted() {
                assert!(text.contains(&format!("fn {test}()")), "no test {test}");
            }
        }
    }

    #[test]
    fn what_nobody_reports_is_not_caught() {
        let says = |code: &str| {
            let mut command = Command::new("sh");
            command.args([
                "-c",
                &format!("echo '==1==ERROR: {}' >&2; {code}", Sanitizer::Thread.report()),
            ]);
            command
        };
        assert!(Sanitizer::Thread.catches("a_race", says("exit 66")).is_ok());
        assert!(Sanitizer::Thread.catches("a_race", says("exit 0")).is_err());
        assert!(Sanitizer::Address.catches("a_race", says("exit 1")).is_err(), "another error");
    }

    /// With the pool, a freed block looks alive.
    #[test]
    fn no_block_is_kept_from_address_sanitizer() {
        let flags = |sanitizer: Sanitizer| {
            let command = sanitizer.tests("host", true, &[]);
            let flags = command.get_envs().find(|(name, _)| *name == "RUSTFLAGS");
            flags.unwrap().1.unwrap().to_string_lossy().into_owned()
        };
        assert!(flags(Sanitizer::Address).contains("sanitized=\"address\""));
        assert!(!flags(Sanitizer::Thread).contains("address"), "it sees the depot's own races");
    }

    #[test]
    fn what_is_left_out_is_said_and_cannot_be_asked_for() {
        let said = left_out(&[]).unwrap();
        assert!(said.contains("soak") && said.contains("lookup_storms"), "{said}");
        let said = left_out(&["stress".to_owned()]).unwrap();
        assert!(!said.contains("soak") && !said.contains("lookup"), "{said}");
        let error = left_out(&["stress".to_owned(), "lookup".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`lookup`") && error.contains("rust-src"), "{error}");
    }

    #[test]
    fn both_sanitizers_run_unless_one_is_named() {
        let both = choice(Parser::from_args::<[&str; 0]>([])).unwrap().0;
        assert_eq!(both, [Sanitizer::Address, Sanitizer::Thread]);
        let (one, tests) = choice(Parser::from_args(["thread", "--test", "stress"])).unwrap();
        assert_eq!((one, tests), (vec![Sanitizer::Thread], vec!["stress".to_owned()]));
        assert!(choice(Parser::from_args(["memory"])).is_err());
    }

    /// A line that leaves something out says why, in the comment before it.
    #[test]
    fn every_suppression_is_justified() {
        for file in ["lsan.supp", "tsan.supp", "tsan-prebuilt.supp"] {
            let text = std::fs::read_to_string(crate::root().join("xtask").join(file)).unwrap();
            let mut before = "";
            for line in text.lines() {
                let is_suppression = !line.is_empty() && !line.starts_with('#');
                assert!(!is_suppression || before.starts_with('#'), "{file}: {line}");
                before = line;
            }
        }
    }
}
