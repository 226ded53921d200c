//! Unsafe code stands where a reader expects it, and nowhere else.
//!
//! Tests may use it (an allocator that counts, a signal): what is compiled only for them is spared.

use super::{Finding, Source, library};

/// The files of the library that may hold unsafe code, by the beginning of their paths. In `expiry/`
/// these are the hint queue and the wheel that makes one on first use; in `tls/`, the adapter to a
/// library in C.
const UNSAFE: &[&str] = &[
    "src/table/",
    "src/reclaim/",
    "src/queue/mod.rs",
    "src/expiry/wheel.rs",
    "src/tls/openssl.rs",
    "src/tls/openssl/",
];

pub(super) fn unexpected(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, scan) in library(sources) {
        if UNSAFE.iter().any(|allowed| source.path.starts_with(allowed)) {
            continue;
        }
        let places = scan.unsafes.iter().filter(|place| !place.only.test);
        findings.extend(places.map(|place| {
            let what = format!("unsafe code outside {}", UNSAFE.join(", "));
            source.finding(place.line, what)
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn every_kind_of_unsafe_code_is_found() {
        let kinds = [
            "fn f() { unsafe { g() } }",
            "unsafe fn f() {}",
            "impl S { unsafe fn f() {} }",
            "trait T { unsafe fn f(); }",
            "unsafe trait T {}",
            "unsafe impl Send for S {}",
            "unsafe extern \"C\" { fn f(); }",
            "#[unsafe(no_mangle)] fn f() {}",
            "macro_rules! m { () => { unsafe { g() } } }",
            "fn f() { assert!(unsafe { g() }); }",
        ];
        for text in kinds {
            let findings = found(unexpected, &[("src/cache.rs", text)]);
            assert_eq!(findings.len(), 1, "{text}: {findings:?}");
        }
    }

    #[test]
    fn it_is_allowed_where_it_is_expected() {
        let text = "fn f() { unsafe { g() } }";
        let allowed =
            ["src/table/list.rs", "src/reclaim/mod.rs", "src/queue/mod.rs", "tests/stress.rs"];
        for path in allowed {
            assert!(found(unexpected, &[(path, text)]).is_empty(), "{path}");
        }
        for path in ["src/expiry/capacity.rs", "src/table.rs", "src/sync/mod.rs"] {
            assert_eq!(found(unexpected, &[(path, text)]).len(), 1, "{path}");
        }
    }

    #[test]
    fn tests_are_spared_and_the_lint_is_not_code() {
        let text = "#![forbid(unsafe_code)]\n#[cfg(test)]\nmod tests { fn f() { unsafe { g() } } }";
        assert!(found(unexpected, &[("src/cache.rs", text)]).is_empty());
    }
}
