//! The machine's memory.

use std::fs;

/// Bytes that can still be had without swapping.
pub fn available_bytes() -> usize {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(usize::MAX >> 10) << 10
}
