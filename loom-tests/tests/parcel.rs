//! Models of `src/reclaim/parcel.rs`: a session in one block with its bytes.
//!
//! The bytes are plain memory; loom sees the cell of the payload that they belong to. What a thread reads of
//! them is asserted, too; the planted wipe passes the cell by, so that this is what fails.
#![cfg(loom)]

use std::sync::Arc;

use loom_tests::{Scenario, race, race3};
use resumption::SecretBytes;
use resumption::model::{self, Handle, Table};

const A: u64 = 0x1000_0000_0000_0001;
const SECRET: &[u8] = b"what TLS remembers";

fn table() -> Arc<Table<SecretBytes>> {
    let table = Table::new();
    assert!(table.put(A, SECRET.into()).is_none());
    Arc::new(table)
}

fn read(session: &Handle<SecretBytes>) {
    assert_eq!(&session.payload()[..], SECRET, "a held session was wiped");
}

const GET_TAKE: Scenario = Scenario {
    name: "get, read, drop ∥ take, drop, of bytes",
    preemptions: [3, 3],
    floors: [703, 153],
    run: || {
        let table = table();
        race(
            &table,
            |t| t.get(A).map(|session| read(&session)),
            |t| drop(t.take(A).expect("the only taker")),
        );
        assert_eq!(model::retired(), (1, 1), "the block went, and once");
        assert_eq!(table.waiting_and_held(), (0, 0));
    },
};

#[test]
fn the_last_reference_wipes_and_the_block_waits() {
    GET_TAKE.explore();
}

#[test]
fn a_wipe_at_the_removal_is_caught() {
    GET_TAKE.catches("wipe-when-removed", "a held session was wiped");
}

const REPLACE: Scenario = Scenario {
    name: "get, read, drop ∥ put in its place ∥ take, read, of bytes",
    preemptions: [2, 2],
    floors: [7_230, 655],
    run: || {
        let table = table();
        race3(
            &table,
            |t| t.get(A).map(|session| read(&session)),
            |t| drop(t.put(A, SECRET.into())),
            |t| t.take(A).map(|gone| read(&gone.into_handle())),
        );
        let left = usize::from(table.get(A).map(|session| read(&session)).is_some());
        assert_eq!(model::retired(), (2 - left, 2 - left), "each block went, and once");
        assert_eq!(table.waiting_and_held(), (0, 0));
    },
};

#[test]
fn a_replaced_session_is_whole_until_it_is_let_go() {
    REPLACE.explore();
}

#[test]
fn a_wipe_at_the_replacement_is_caught() {
    REPLACE.catches("wipe-when-removed", "a held session was wiped");
}
