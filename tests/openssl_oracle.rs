//! The engine against OpenSSL's own session cache, as a differential oracle.
//!
//! Random sequences of operations are done on a real `SSL_CTX` of the system's OpenSSL and on the
//! engine, under one driven clock. After each operation what it returned, the callbacks in their order,
//! the counters and the contents have to be the same, but for the exceptions, each of which says exactly
//! what the engine does instead, and why. An exception that no operation needed is an error.

#![cfg(target_os = "linux")]

mod support;

#[path = "openssl_oracle/mod.rs"]
mod oracle;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use oracle::context;
use oracle::exceptions::ALL;
use oracle::operation::Sequence;
use oracle::run::{Tally, run};

const SEQUENCES: u64 = 10_000;

#[test]
fn the_engine_is_openssl_but_for_the_exceptions() {
    println!("{}", context::version());
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEQUENCES {
                        return;
                    }
                    let applied = check(seed);
                    let mut tally = tally.lock().expect("no panic");
                    tally.iter_mut().zip(applied).for_each(|(all, one)| *all += one);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no panic");
    for (exception, count) in ALL.iter().zip(tally) {
        let oracle::exceptions::Exception { name, behaviour, reason, .. } = exception;
        println!("{count:>8} × {name} ({behaviour}): {reason}");
    }
    let unneeded = ALL.iter().zip(tally).filter(|(_, count)| *count == 0);
    let unneeded: Vec<_> = unneeded.map(|(exception, _)| exception.name).collect();
    assert!(unneeded.is_empty(), "exceptions that are not needed: {unneeded:#?}");
}

/// Does the sequence of a seed. If there is a difference, panics with a shorter sequence that has one.
fn check(seed: u64) -> Tally {
    let _said = Said(seed);
    let mut sequence = Sequence::new(seed);
    let mut difference = match run(&sequence) {
        Ok(tally) => return tally,
        Err(difference) => difference,
    };
    let mut at = 0;
    while at < sequence.operations.len() {
        let mut shorter = sequence.clone();
        shorter.operations.remove(at);
        match run(&shorter) {
            Ok(_) => at += 1,
            Err(other) => (sequence, difference) = (shorter, other),
        }
    }
    panic!("a difference in {sequence:#?}\n{difference}");
}

/// Says the seed if its sequence panics.
struct Said(u64);

impl Drop for Said {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the seed was {}", self.0);
        }
    }
}
