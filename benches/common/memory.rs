//! The machine's memory.

use std::fs;
use std::ops::Range;

const PAGE: usize = 4_096;

/// Reads a byte of each page that the process may write.
///
/// A virtual machine's host takes back what has lain idle for a while, and the first use of such a page takes 10 µs
/// instead of a fraction of one: a cache that was filled first, and waited until all others were, would pay for that
/// in the middle of what is timed. Twice: where there is not room for all, the host takes what was read once before what was
/// read again.
pub fn wake() {
    for _ in 0..2 {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        maps.lines().filter_map(writable).for_each(read);
    }
}

/// The addresses of a line of the map, if it is memory of the process's own that may be written.
fn writable(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_own = words.next()?.starts_with("rw") && words.nth(2)? == "0";
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    is_own.then_some(address(start)?..address(end)?)
}

#[cfg(target_os = "linux")]
fn read(memory: Range<usize>) {
    const AT_ONCE: usize = 512;
    let pages: Vec<usize> = memory.step_by(PAGE).collect();
    let mut bytes = [0_u8; AT_ONCE];
    for pages in pages.chunks(AT_ONCE) {
        let to = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: pages.len() };
        let from = pages.iter().map(|&page| libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(page),
            iov_len: 1,
        });
        let from: Vec<_> = from.collect();
        // SAFETY: it takes nothing and always succeeds.
        let pid = unsafe { libc::getpid() };
        // SAFETY: it writes to `bytes` alone, which has room; at what was unmapped meanwhile it ends.
        unsafe { libc::process_vm_readv(pid, &raw const to, 1, from.as_ptr(), from.len() as _, 0) };
    }
}

#[cfg(not(target_os = "linux"))]
fn read(_: Range<usize>) {}

/// Bytes that can still be had without swapping.
pub fn available_bytes() -> usize {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(usize::MAX >> 10) << 10
}
