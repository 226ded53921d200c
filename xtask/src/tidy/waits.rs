//! Nothing waits in the tables, the wheel and the reclamation, nor on the way of put, get and take.
//!
//! A lock is refused everywhere in those files. What else waits for another thread (a condition, a
//! parked thread, a spinning loop, a queue that spins on a stopped peer) is refused in the code that
//! is shipped; a unit test may line up its threads. Code for loom, and the bugs that are planted to
//! see whether a test catches them, are never shipped and are spared.

use super::scan::PathSeen;
use super::{Finding, Source, library};

const FOLDERS: &[&str] = &["src/table", "src/expiry", "src/queue", "src/reclaim"];

/// The modules on the way of put, get and take: each is a file, a folder, or both.
const MODULES: &[&str] = &[
    "src/clock",
    "src/connection",
    "src/dispatch",
    "src/engine",
    "src/gate",
    "src/lane",
    "src/lanes",
    "src/mode",
    "src/outcome",
    "src/room",
    "src/scope",
    "src/secret",
    "src/session",
    "src/sessions",
    "src/shard",
    "src/stats",
    "src/tls/openssl",
    "src/tls/rustls",
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

/// A name that one file may use after all, and why nobody waits for it on the way of a put.
struct Exception {
    file: &'static str,
    name: &'static str,
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        file: "src/clock.rs",
        name: "LazyLock",
        why: "the clock is given to the builder, and its making forces the cell",
    },
    Exception {
        file: "src/dispatch.rs",
        name: "OnceLock",
        why: "the cells are filled by whoever starts the thread, and others only read them",
    },
    Exception {
        file: "src/scope.rs",
        name: "Mutex",
        why: "it is taken where a scope is attached or dropped",
    },
    Exception {
        file: "src/reclaim/epoch.rs",
        name: "LazyLock",
        why: "the builder pins once, before there is a cache that others could use",
    },
    Exception {
        file: "src/engine/crowd.rs",
        name: "yield_now",
        why: "a put in a crowd of waiting headers gives way once, and goes on whoever has run",
    },
    Exception {
        file: "src/engine/limits.rs",
        name: "yield_now",
        why: "lowering a limit waits for the puts that hold the places; none of them waits for it",
    },
    Exception {
        file: "src/gate.rs",
        name: "sleep",
        why: "closing waits for the puts inside; none of them waits for it",
    },
    Exception {
        file: "src/tls/openssl/ffi.rs",
        name: "OnceLock",
        why: "it is filled before a context is attached or a session made; callbacks only read it",
    },
    Exception {
        file: "src/tls/openssl/handshake.rs",
        name: "OnceLock",
        why: "it is filled before a context is attached, and callbacks do not come to it",
    },
];

pub(super) fn waits(sources: &[Source]) -> Vec<Finding> {
    let mut findings = vanished(sources);
    findings.extend(idle_exceptions(sources));
    for (source, scan) in library(sources).filter(|(source, _)| is_guarded(&source.path)) {
        for seen in &scan.paths {
            let excepted = |name: &str| exceptions_of(&source.path).any(|e| e.name == name);
            if let Some(name) = refused(seen).filter(|name| !excepted(name)) {
                let what = format!("`{name}` waits for other threads, and this file must not");
                findings.push(source.finding(seen.line, what));
            }
        }
    }
    findings
}

/// The first name of the path that waits.
fn refused(seen: &PathSeen) -> Option<&str> {
    if seen.only.loom || seen.only.planted {
        return None;
    }
    let waits = |name: &&str| LOCKS.contains(name) || !seen.only.test && WAITS.contains(name);
    seen.segments.iter().map(String::as_str).find(waits)
}

fn is_guarded(path: &str) -> bool {
    MODULES.iter().any(|module| is_of(path, module))
        || FOLDERS.iter().any(|folder| is_in(path, folder))
}

fn is_of(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs") || is_in(path, module)
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn exceptions_of(path: &str) -> impl Iterator<Item = &'static Exception> {
    EXCEPTIONS.iter().filter(move |exception| exception.file == path)
}

/// An exception that its file does not need any more would let the next lock pass unseen.
fn idle_exceptions(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, scan) in library(sources) {
        for Exception { name, why, .. } in exceptions_of(&source.path) {
            if !scan.paths.iter().any(|seen| refused(seen) == Some(name)) {
                let what = format!("`{name}` is excepted here ({why}), and is not used");
                findings.push(source.finding(1, what));
            }
        }
    }
    findings
}

/// What is guarded and has moved would leave its rule without anything to hold. So as soon as one of the folders
/// exists, all of them must, and all modules.
fn vanished(sources: &[Source]) -> Vec<Finding> {
    let exists = |place: &str| sources.iter().any(|source| is_of(&source.path, place));
    if !FOLDERS.iter().any(|folder| exists(folder)) {
        return Vec::new();
    }
    let gone = FOLDERS.iter().chain(MODULES).filter(|place| !exists(place));
    gone.map(|place| Finding {
        path: (*place).into(),
        line: 0,
        what: "this is guarded against locks, and is gone".into(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    /// Files of all that is guarded, which use what is excepted there.
    fn guarded() -> Vec<(String, String)> {
        let folders = FOLDERS.iter().map(|folder| format!("{folder}/mod.rs"));
        let modules = MODULES.iter().map(|module| format!("{module}.rs"));
        let text = |path: &str| {
            exceptions_of(path).map(|exception| format!("use a::{};", exception.name)).collect()
        };
        folders.chain(modules).map(|path| (path.clone(), text(&path))).collect()
    }

    /// What is found in this file among the guarded ones.
    fn found_in(path: &str, text: &str) -> Vec<String> {
        let mut files = guarded();
        files.retain(|(other, _)| other != path);
        files.push((path.to_owned(), text.to_owned()));
        let files: Vec<_> = files.iter().map(|(path, text)| (&path[..], &text[..])).collect();
        found(waits, &files)
    }

    #[test]
    fn a_lock_is_found_in_every_guarded_place() {
        let folders = FOLDERS.iter().map(|folder| format!("{folder}/deep/file.rs"));
        let files = MODULES.iter().map(|module| format!("{module}.rs"));
        let deep = MODULES.iter().map(|module| format!("{module}/deep/file.rs"));
        for path in folders.chain(files).chain(deep) {
            let excepted = |name: &&&str| exceptions_of(&path).any(|e| e.name == **name);
            for name in LOCKS.iter().chain(WAITS).filter(|name| !excepted(name)) {
                let text = format!("use somewhere::{{a, b::{name}}};");
                let found = found_in(&path, &text);
                assert!(found.iter().any(|f| f.contains("waits for")), "{path}: {text}");
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
        assert!(found_in("src/reclaim/refs.rs", loom).is_empty());
        assert!(found_in("src/sessions.rs", planted).is_empty());
        assert_eq!(found_in("src/reclaim/refs.rs", shipped).len(), 1);
    }

    #[test]
    fn an_exception_holds_for_its_name_and_file_only_and_while_it_is_used() {
        let text = "use std::sync::LazyLock;";
        assert!(found_in("src/clock.rs", text).is_empty());
        assert_eq!(found_in("src/shard.rs", text).len(), 1);
        let two = found_in("src/clock.rs", "use std::sync::{LazyLock, OnceLock};");
        assert!(two.len() == 1 && two[0].contains("`OnceLock` waits"), "{two:?}");
        let idle = found_in("src/clock.rs", "");
        assert!(idle.len() == 1 && idle[0].contains("is not used"), "{idle:?}");
    }

    #[test]
    fn what_is_guarded_and_vanished_is_found() {
        assert!(found(waits, &[("src/lib.rs", "")]).is_empty());
        for gone in ["src/reclaim/mod.rs", "src/secret.rs"] {
            let mut rest = guarded();
            rest.retain(|(path, _)| path != gone);
            let rest: Vec<_> = rest.iter().map(|(path, text)| (&path[..], &text[..])).collect();
            let findings = found(waits, &rest);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].contains("is gone"), "{findings:?}");
        }
    }
}
