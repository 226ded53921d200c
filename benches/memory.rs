//! How many bytes does a session take beyond its payload?
//!
//! Each contender is filled, kept full through as many puts and takes again, and then asked for its
//! memory: the usable sizes of all blocks that are allocated, as the allocator rounds them up, less
//! the lengths of the payloads; resumption's region for headers is added. Each runs in a process of
//! its own, so that the resident set is its own as well.

#[path = "common/args.rs"]
mod args;
#[path = "common/caches.rs"]
mod caches;
#[path = "common/honest.rs"]
mod honest;
#[path = "common/ids.rs"]
mod ids;
#[path = "common/load.rs"]
mod load;
#[path = "common/report.rs"]
mod report;

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use args::Args;
use caches::CONTENDERS;
use load::{Stream, payload};
use report::{Table, machine};
use resumption::SessionCache;

const ABOUT: &str = "Memory of a full cache beyond the payloads, in bytes for each session.";

/// Set for a child: which contender it measures, with how many sessions, and how long.
const CHILD: &str = "RESUMPTION_BENCH_MEMORY";

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Usable bytes, and blocks, that are allocated. Relaxed: read when nobody writes.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted by usable sizes.
struct Counting;

// SAFETY: every call is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's promise.
        let block = unsafe { System.alloc(layout) };
        count(block);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's promise.
        let block = unsafe { System.alloc_zeroed(layout) };
        count(block);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES.fetch_sub(usable_size(block), Ordering::Relaxed);
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }
}

fn count(block: *mut u8) {
    BYTES.fetch_add(usable_size(block), Ordering::Relaxed);
    BLOCKS.fetch_add(1, Ordering::Relaxed);
}

/// How many bytes of a block can be used; none of a null pointer.
#[cfg(target_os = "linux")]
fn usable_size(block: *mut u8) -> usize {
    // SAFETY: null, or a live block of malloc, which is the system's allocator here.
    unsafe { libc::malloc_usable_size(block.cast()) }
}

#[cfg(not(target_os = "linux"))]
fn usable_size(_block: *mut u8) -> usize {
    panic!("this bench asks glibc for the sizes of blocks")
}

fn main() {
    if let Ok(child) = std::env::var(CHILD) {
        return measure(&child);
    }
    let args = Args::parse(ABOUT, [&[100_000, 1_000_000], &[100_000]]);
    println!("{ABOUT}\n{}\nPayloads of 200 to 300 bytes; ids of 32 bytes.\n", machine());
    for &sessions in &args.sizes {
        let mut table = Table::new(&[
            &format!("{sessions} sessions"),
            "filled",
            "after churn",
            "with malloc's headers",
            "resident",
            "blocks",
            "sessions there",
        ]);
        for (place, contender) in CONTENDERS.iter().enumerate() {
            let measured = run_child(place, sessions, args.pick(2, 1));
            let [filled, heap, headers, resident, blocks, len] = measured[..] else {
                panic!("a child printed {measured:?}")
            };
            table.row(&[
                contender.name.to_owned(),
                format!("{filled:.1}"),
                format!("{heap:.1}"),
                format!("{headers:.1}"),
                format!("{resident:.1}"),
                format!("{blocks:.2}"),
                format!("{len:.0}"),
            ]);
        }
        table.print();
    }
}

/// Measures a contender in a process of its own.
fn run_child(place: usize, sessions: usize, churns: usize) -> Vec<f64> {
    let program = std::env::current_exe().expect("the program has a path");
    let child = Command::new(program).env(CHILD, format!("{place} {sessions} {churns}")).output();
    let output = child.expect("the program starts").stdout;
    let numbers = String::from_utf8_lossy(&output);
    numbers.split_whitespace().map(|number| number.parse().unwrap_or(f64::NAN)).collect()
}

/// What a child does: prints bytes and blocks for each session.
fn measure(child: &str) {
    let numbers = child.split(' ').map(|number| number.parse::<usize>().expect("a number"));
    let [place, sessions, churns] = numbers.collect::<Vec<_>>()[..] else {
        panic!("not understood: {child}")
    };
    let (bytes, blocks, resident) = (now(&BYTES), now(&BLOCKS), resident_bytes());
    let cache = (CONTENDERS[place].make)(sessions);
    let mut stream = Stream::new(0, 1, sessions);
    stream.fill(&*cache, sessions as u64);
    let all = || now(&BYTES) - bytes + region_bytes();
    let filled = all() as f64 / cache.len() as f64 - mean_length();
    // A half of what is put is taken: each time this stores as many again as fit.
    stream.churn(&*cache, (churns * sessions) as u64);
    let (bytes, blocks) = (all(), now(&BLOCKS) - blocks);
    let resident = resident_bytes().saturating_sub(resident);
    let found = stream.hit(&*cache, 4 * sessions as u64, 1_000, true);
    assert!(found > 5.0, "of what was put only {found} % is there");
    let each = |bytes: usize| bytes as f64 / cache.len() as f64;
    let heap = each(bytes) - mean_length();
    // glibc has a word before each block.
    let headers = heap + 8.0 * each(blocks);
    let resident = each(resident) - mean_length();
    println!("{filled} {heap} {headers} {resident} {} {}", each(blocks), cache.len());
    // Not a part of the measurement, and slow.
    std::mem::forget(cache);
}

/// The mean length of payloads.
fn mean_length() -> f64 {
    (0..10_000).map(|number| payload(number).len() as f64).sum::<f64>() / 10_000.0
}

fn now(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

/// Bytes of resumption's region for headers, which all caches of a process share.
fn region_bytes() -> usize {
    let cache: SessionCache = SessionCache::builder().max_sessions(1).build().expect("a cache");
    cache.stats().region_bytes as usize
}

/// The resident set of this process.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
