//! The layers of the library: nothing points up, and nothing sideways.
//!
//! ```text
//! 5   tls/   tier/                 adapters and second tiers
//! 4   every file right in src/     the face of the engine
//! 3   table/   expiry/             do not know each other
//! 2   queue/   secret/
//! 1   reclaim/
//! 0   sync/                        the only door to atomics
//! ```
//!
//! A part may name itself and what is below it. Names are read from imports, from paths in the code
//! and in macros, from the root (`crate::`) or from where they stand (`super::`, `self::`). The one
//! exception: a `pub use` in `lib.rs` shows a name to the user and uses nothing, so it may name any
//! part.
//!
//! Only `sync/` names the atomics of std or loom, so that the models run the code that is shipped;
//! unit tests are spared. A bare fence is for `sync/` alone, in tests too: ThreadSanitizer does not
//! see fences. The reclaimer of the models, which stands for the epoch and is never shipped, may do
//! both.

use super::scan::PathSeen;
use super::{Finding, Source, library};

/// A part of the library: a folder of its own, or the files right in `src/`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Part {
    name: &'static str,
    level: u8,
}

const FACE: Part = Part { name: "the files in src/", level: 4 };

const FOLDERS: &[Part] = &[
    Part { name: "tls", level: 5 },
    Part { name: "tier", level: 5 },
    Part { name: "table", level: 3 },
    Part { name: "expiry", level: 3 },
    Part { name: "queue", level: 2 },
    Part { name: "secret", level: 2 },
    Part { name: "reclaim", level: 1 },
    Part { name: "sync", level: 0 },
];

/// What stands for `epoch.rs` in a model: as little of it is shipped as of loom itself.
const MOCKS: [&str; 2] = ["src/reclaim/mock.rs", "src/reclaim/real.rs"];

pub(super) fn upward_imports(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, scan) in library(sources) {
        let own = part(scan.module.first());
        for seen in &scan.paths {
            let Some(target) = from_root(seen) else { continue };
            let target = part(target.first());
            let is_shown = seen.is_shown && scan.module.is_empty();
            if target != own && target.level >= own.level && !is_shown {
                let path = seen.segments.join("::");
                let (own, target) = (own.name, target.name);
                let what = format!("`{path}` points from {own} to {target}, which is not below it");
                findings.push(source.finding(seen.line, what));
            }
        }
    }
    findings
}

pub(super) fn other_doors(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, scan) in library(sources) {
        if scan.module.first().is_some_and(|first| first == "sync") {
            continue;
        }
        let is_mock = |seen: &&PathSeen| MOCKS.contains(&source.path.as_str()) && seen.only.loom;
        for seen in scan.paths.iter().filter(|seen| !is_mock(seen)) {
            let path = seen.segments.join("::");
            if is_fence(seen) {
                let what = format!("`{path}`: a fence outside src/sync; use a read-modify-write");
                findings.push(source.finding(seen.line, what));
            } else if !seen.only.test && is_door(seen) {
                let what = format!("`{path}`: only src/sync names atomics and loom");
                findings.push(source.finding(seen.line, what));
            }
        }
    }
    findings
}

fn part(first: Option<&String>) -> Part {
    let named = |part: &&Part| first.is_some_and(|first| first == part.name);
    FOLDERS.iter().find(named).copied().unwrap_or(FACE)
}

/// The path from the root of the crate on; nothing, if it leads out of the crate or down from where
/// it stands.
fn from_root(seen: &PathSeen) -> Option<Vec<String>> {
    let (first, rest) = seen.segments.split_first()?;
    match first.as_str() {
        // Alone, these are no paths: a visibility, a receiver.
        "crate" | "self" | "super" if rest.is_empty() => None,
        "crate" => Some(rest.to_vec()),
        "self" | "super" => {
            let up = |segment: &&String| *segment == "super";
            let ups = seen.segments.iter().filter(up).count();
            let base = &seen.module[..seen.module.len().checked_sub(ups)?];
            let names = seen.segments.iter().filter(|name| *name != "super" && *name != "self");
            Some(base.iter().chain(names).cloned().collect())
        }
        // In lib.rs the parts are at hand without a prefix.
        _ if seen.module.is_empty() && part(Some(first)) != FACE => Some(seen.segments.clone()),
        _ => None,
    }
}

fn is_fence(seen: &PathSeen) -> bool {
    seen.segments.last().is_some_and(|name| name == "fence" || name == "compiler_fence")
}

fn is_door(seen: &PathSeen) -> bool {
    if from_root(seen).is_some() {
        return false;
    }
    let segments: Vec<&str> = seen.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["std" | "core", "sync", "*"] | ["loom" | "shuttle", _, ..] => true,
        ["loom" | "shuttle"] => seen.is_import,
        [_, rest @ ..] => rest.contains(&"atomic"),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    /// Whether the file may hold this text.
    fn may(path: &str, text: &str) -> bool {
        found(upward_imports, &[(path, text)]).is_empty()
    }

    #[test]
    fn every_upward_and_sideways_import_is_found() {
        let places = [
            ("src/sync/std.rs", &["reclaim", "table", "expiry", "cache", "tls", "tier"][..]),
            ("src/reclaim/mod.rs", &["table", "expiry", "cache", "id", "tls", "tier"]),
            ("src/table/list.rs", &["expiry", "cache", "id", "error", "tls", "tier"]),
            ("src/expiry/wheel.rs", &["table", "shard", "clock", "tls", "tier"]),
            ("src/cache.rs", &["tls", "tier"]),
            ("src/lib.rs", &["tls", "tier"]),
            ("src/tls/rustls.rs", &["tier"]),
            ("src/tier/disk.rs", &["tls"]),
        ];
        for (path, targets) in places {
            for target in targets {
                let text = format!("\nuse crate::{target}::Thing;");
                let findings = found(upward_imports, &[(path, &text)]);
                assert_eq!(findings.len(), 1, "{path}: {text}");
                assert!(findings[0].starts_with(&format!("{path}:2: ")), "{findings:?}");
            }
        }
    }

    #[test]
    fn downward_imports_pass() {
        let places = [
            ("src/reclaim/mod.rs", &["sync", "reclaim"][..]),
            ("src/table/list.rs", &["sync", "reclaim", "table"]),
            ("src/expiry/wheel.rs", &["sync", "reclaim", "expiry"]),
            ("src/cache.rs", &["sync", "reclaim", "table", "expiry", "id", "error"]),
            ("src/tls/rustls.rs", &["sync", "table", "cache", "tls"]),
        ];
        for (path, targets) in places {
            for target in targets {
                assert!(may(path, &format!("use crate::{target}::Thing;")), "{path}: {target}");
            }
        }
    }

    #[test]
    fn an_upward_path_is_found_however_it_is_written() {
        let ways = [
            "use crate::SessionId;",
            "use crate::*;",
            "use crate::{reclaim::Guard, sync::{Arc, atomic}, id::SessionId};",
            "use super::super::id::SessionId;",
            "use self::super::super::id;",
            "fn f(id: &crate::id::SessionId) {}",
            "fn f() { crate::stats::count(); }",
            "fn f() { let x: Vec<crate::id::SessionId> = make(); }",
            "impl crate::cache::Visit for Table {}",
            "fn f() { assert!(crate::id::is_valid(7)); }",
            "fn f() { crate::count!(7); }",
            "macro_rules! m { () => { $crate::stats::count() } }",
            "mod inner { use super::super::super::id::SessionId; }",
            "#[cfg(test)] mod tests { use crate::cache::Cache; }",
            "pub use crate::id::SessionId;",
        ];
        for text in ways {
            assert!(!may("src/table/list.rs", text), "{text}");
        }
        assert!(!may("src/table/mod.rs", "use super::id::SessionId;"));
        assert!(!may("src/table/mod.rs", "use super::*;"));
        assert!(!may("src/table.rs", "use super::expiry::Wheel;"));
    }

    #[test]
    fn paths_within_a_part_or_out_of_the_crate_pass() {
        let ways = [
            "use super::node::Node;",
            "use super::*;",
            "use super::super::reclaim::Guard;",
            "mod inner { use super::super::node::Node; }",
            "use std::{mem, ptr};",
            "use rustls::server::StoresServerSessions;",
            "pub(crate) fn f(&self) { self.step(); }",
            "pub(in crate::table) fn f() {}",
            "//! See `crate::cache`.\n/// And [`crate::id::SessionId`].\nfn f() {}",
        ];
        for text in ways {
            assert!(may("src/table/list.rs", text), "{text}");
        }
    }

    #[test]
    fn the_root_shows_what_it_does_not_use() {
        assert!(may("src/lib.rs", "pub use crate::tls::Adapter; pub use tier::Disk; mod tls;"));
        assert!(!may("src/lib.rs", "use tls::Adapter;"));
        assert!(!may("src/lib.rs", "fn f() { tls::attach() }"));
        assert!(!may("src/cache.rs", "pub use crate::tls::Adapter;"));
    }

    #[test]
    fn atomics_and_loom_have_one_door() {
        let ways = [
            "use std::sync::atomic::AtomicU64;",
            "use core::sync::atomic;",
            "use std::{mem, sync::{Arc, atomic::{self, Ordering}}};",
            "use std::sync; fn f(x: sync::atomic::AtomicU8) {}",
            "use std::sync::*;",
            "struct S { count: std::sync::atomic::AtomicU64 }",
            "thread_local! { static N: std::sync::atomic::AtomicU8 = make(); }",
            "use loom;",
            "extern crate loom;",
            "fn f() { loom::model(|| {}); }",
        ];
        for path in ["src/cache.rs", "src/table/list.rs", "src/reclaim/mod.rs"] {
            for text in ways {
                let findings = found(other_doors, &[(path, text)]);
                assert!(!findings.is_empty(), "{path}: {text}");
            }
        }
        for text in ways {
            assert!(found(other_doors, &[("src/sync/mod.rs", text)]).is_empty(), "{text}");
            assert!(found(other_doors, &[("tests/stress.rs", text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_door_itself_and_tests_pass() {
        let ways = [
            "use crate::sync::atomic::{self, AtomicU64}; fn f() { atomic::load(); }",
            "use super::super::sync::atomic::AtomicU64;",
            "#[cfg(test)] mod tests { use std::sync::atomic::AtomicU64; }",
            "#[cfg(all(test, not(loom)))] mod tests { use std::sync::atomic::AtomicU64; }",
            "#[cfg(loom)] use crate::sync::model;",
        ];
        for text in ways {
            assert!(found(other_doors, &[("src/table/list.rs", text)]).is_empty(), "{text}");
        }
        let maybe = "#[cfg(any(test, loom))] mod tests { use std::sync::atomic::AtomicU64; }";
        assert_eq!(found(other_doors, &[("src/table/list.rs", maybe)]).len(), 1);
    }

    #[test]
    fn the_mock_of_the_epoch_is_a_door_in_models_only() {
        let text = "use loom::sync::atomic::fence;";
        let mock = |gate| found(other_doors, &[("src/reclaim/mod.rs", gate), (MOCKS[0], text)]);
        assert!(mock("#[cfg(loom)]\nmod mock;").is_empty());
        assert_eq!(mock("mod mock;").len(), 1);
        let elsewhere = format!("#[cfg(loom)]\nmod inner {{ {text} }}");
        assert_eq!(found(other_doors, &[("src/reclaim/epoch.rs", &elsewhere)]).len(), 1);
    }

    #[test]
    fn the_tests_of_a_module_may_be_a_file_of_their_own() {
        let tests = ("src/table/tests.rs", "use std::sync::atomic::AtomicU64;");
        let deeper = ("src/table/tests/stress.rs", "use std::sync::atomic::AtomicU64;");
        let gated = ("src/table/mod.rs", "#[cfg(test)]\nmod tests;");
        let shipped = ("src/table/mod.rs", "mod tests;");
        assert!(found(other_doors, &[gated, tests, deeper]).is_empty());
        assert_eq!(found(other_doors, &[shipped, tests, deeper]).len(), 2);
    }

    #[test]
    fn a_bare_fence_is_found_in_tests_too() {
        let ways = [
            "fn f() { fence(SeqCst); }",
            "use crate::sync::atomic::fence;",
            "#[cfg(test)] mod tests { fn f() { atomic::fence(SeqCst); } }",
            "fn f() { run!(fence(SeqCst)); }",
        ];
        for text in ways {
            assert_eq!(found(other_doors, &[("src/reclaim/epoch.rs", text)]).len(), 1, "{text}");
            assert!(found(other_doors, &[("src/sync/std.rs", text)]).is_empty(), "{text}");
        }
    }
}
