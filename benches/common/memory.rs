//! The machine's memory.

use std::fs;
use std::hint::black_box;

/// Touched for each session of the largest size: all contestants' caches, and what they allocate anew.
const FOR_A_SESSION: usize = 5_000;

const PAGE: usize = 4_096;

/// Touches as much memory as the caches of so many sessions may take, and gives it back to the system.
///
/// A virtual machine is given its memory page by page, as it touches them: the first use of a page took 10 µs where a
/// later one takes 1.4. Whichever cache comes first would pay for that, in the middle of what is timed.
pub fn touch(sessions: usize) {
    let bytes = sessions.saturating_mul(FOR_A_SESSION).min(available_bytes() / 10 * 6);
    let mut pages = vec![0_u8; bytes];
    pages.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    drop(black_box(pages));
}

/// Bytes that can still be had without swapping.
pub fn available_bytes() -> usize {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(usize::MAX >> 10) << 10
}
