//! A use after free on the real epoch, for AddressSanitizer to see: `cargo xtask loom --real --asan` runs
//! this and expects the sanitizer's report. loom alone does not see it, and the test fails for that.
#![cfg(all(loom, crossbeam_loom))]

use std::sync::Arc;

use loom_tests::{Payload, Scenario, race};
use resumption::model::Table;

const A: u64 = 0x1000_0000_0000_0001;

const TAKE_GET: Scenario = Scenario {
    name: "take ∥ get, on the real epoch",
    preemptions: [1, 1],
    // It is not explored, but ends at the first use after free.
    floors: [1, 1],
    run: || {
        let table = Table::new();
        assert!(table.put(A, Payload::new(1)).is_none());
        let table = Arc::new(table);
        // The second one begins, and is interrupted by all of the first.
        race(&table, |t: &Table<Payload>| drop(t.take(A)), |t| t.get(A).is_some());
    },
};

#[test]
fn a_header_that_does_not_wait_for_the_readers_is_caught() {
    TAKE_GET.catches("freed-at-once", "heap-use-after-free");
}
