//! See `secret_bytes` in `tests/fuzzed/mod.rs`.
#![no_main]

#[path = "../../tests/fuzzed/mod.rs"]
mod fuzzed;
#[path = "../../tests/model/mod.rs"]
mod model;
#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::secret_bytes(bytes));
