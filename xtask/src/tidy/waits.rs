//! Nothing waits in the tables, the wheel and the reclamation, nor on the way of put, get and take.
//!
//! A lock is refused everywhere in those files. What else waits for another thread (a condition, a
//! parked thread, a spinning loop, a queue that spins on a stopped peer) is refused in the code that
//! is shipped; a unit test may line up its threads. Code for loom, and the bugs that are planted to
//! see whether a test catches them, are never shipped and are spared.

use super::{Finding, Source, library};

const FOLDERS: &[&str] = &["src/table", "src/expiry", "src/reclaim"];

/// The files on the way of put, get and take; one that does not exist is no mistake.
const FILES: &[&str] = &[
    "src/clock.rs",
    "src/events.rs",
    "src/gate.rs",
    "src/id.rs",
    "src/secret.rs",
    "src/session.rs",
    "src/sessions.rs",
    "src/shard.rs",
    "src/stats.rs",
    "src/tls/rustls.rs",
];

const LOCKS: &[&str] = &["Mutex", "RwLock", "ReentrantLock", "FairMutex", "ShardedLock"];

/// `OnceLock` and its like block the second caller while the first makes the value. Of the queues
/// it is known that push and pop spin on a peer that was stopped halfway.
const WAITS: &[&str] = &[
    "Condvar",
    "Barrier",
    "Once",
    "OnceLock",
    "LazyLock",
    "Parker",
    "park",
    "park_timeout",
    "sleep",
    "yield_now",
    "spin_loop",
    "Backoff",
    "mpsc",
    "mpmc",
    "SegQueue",
    "ArrayQueue",
    "ConcurrentQueue",
    "parking_lot",
    "spin",
];

pub(super) fn waits(sources: &[Source]) -> Vec<Finding> {
    let mut findings = vanished(sources);
    for (source, scan) in library(sources).filter(|(source, _)| is_guarded(&source.path)) {
        for seen in &scan.paths {
            if seen.only.loom || seen.only.planted {
                continue;
            }
            let refused = |name: &&String| {
                LOCKS.contains(&name.as_str()) || !seen.only.test && WAITS.contains(&name.as_str())
            };
            if let Some(name) = seen.segments.iter().find(refused) {
                let what = format!("`{name}` waits for other threads, and this file must not");
                findings.push(source.finding(seen.line, what));
            }
        }
    }
    findings
}

fn is_guarded(path: &str) -> bool {
    FILES.contains(&path) || FOLDERS.iter().any(|folder| is_in(path, folder))
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// A guarded folder that moved would leave its rule without anything to hold. So as soon as one of
/// the folders exists, all of them must.
fn vanished(sources: &[Source]) -> Vec<Finding> {
    let exists = |folder: &str| sources.iter().any(|source| is_in(&source.path, folder));
    if !FOLDERS.iter().any(|folder| exists(folder)) {
        return Vec::new();
    }
    let gone = FOLDERS.iter().filter(|folder| !exists(folder));
    gone.map(|folder| Finding {
        path: (*folder).into(),
        line: 0,
        what: "this folder is guarded against locks, and is gone".into(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    /// The guarded folders with this file among them.
    fn found_in(path: &str, text: &str) -> Vec<String> {
        let folders = ["src/table/mod.rs", "src/expiry/mod.rs", "src/reclaim/mod.rs"];
        let mut files: Vec<(&str, &str)> = folders.iter().map(|path| (*path, "")).collect();
        files.push((path, text));
        found(waits, &files)
    }

    #[test]
    fn a_lock_is_found_in_every_guarded_place() {
        let folders = FOLDERS.iter().map(|folder| format!("{folder}/deep/file.rs"));
        for path in folders.chain(FILES.iter().map(ToString::to_string)) {
            for name in LOCKS.iter().chain(WAITS) {
                let text = format!("use somewhere::{{a, b::{name}}};");
                assert_eq!(found_in(&path, &text).len(), 1, "{path}: {text}");
            }
        }
    }

    #[test]
    fn a_lock_is_found_however_it_is_written() {
        let ways = [
            "use std::sync::Mutex as M;",
            "struct S { lock: std::sync::Mutex<u8> }",
            "fn f() { let lock = Mutex::new(0); }",
            "fn f() { let lock: Option<Box<RwLock<u8>>> = None; }",
            "thread_local! { static LOCK: Mutex<u8> = Mutex::new(0); }",
            "fn f() { std::thread::park(); }",
            "fn f() { while busy() { core::hint::spin_loop() } }",
        ];
        for text in ways {
            assert!(!found_in("src/table/list.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn other_files_and_mere_words_are_free() {
        assert!(found_in("src/ticker.rs", "use std::sync::{Condvar, Mutex};").is_empty());
        assert!(found_in("tests/stress.rs", "use std::sync::Mutex;").is_empty());
        let words = "//! No Mutex here.\nconst WORD: &str = \"Mutex\"; // and no RwLock";
        assert!(found_in("src/table/list.rs", words).is_empty());
    }

    #[test]
    fn a_unit_test_may_line_up_its_threads_but_not_lock() {
        let test = |name| format!("#[cfg(test)] mod tests {{ use std::sync::{name}; }}");
        assert!(found_in("src/table/list.rs", &test("Barrier")).is_empty());
        assert_eq!(found_in("src/table/list.rs", &test("Mutex")).len(), 1);
    }

    #[test]
    fn what_is_never_shipped_is_spared() {
        let loom = "#[cfg(loom)] mod mock { use std::sync::Mutex; }";
        let planted =
            "fn f() { #[cfg(planted = \"lock\")] let held = LOCK.get_or_init(Mutex::new); }";
        let shipped = "#[cfg(not(loom))] mod real { use std::sync::Mutex; }";
        assert!(found_in("src/reclaim/epoch.rs", loom).is_empty());
        assert!(found_in("src/sessions.rs", planted).is_empty());
        assert_eq!(found_in("src/reclaim/epoch.rs", shipped).len(), 1);
    }

    #[test]
    fn a_guarded_folder_that_vanished_is_found() {
        assert!(found(waits, &[("src/lib.rs", "")]).is_empty());
        let findings = found(waits, &[("src/table/mod.rs", ""), ("src/expiry/mod.rs", "")]);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("src/reclaim:"), "{findings:?}");
    }
}
