//! How much memory the process has.

use std::fs;

/// Resident bytes, after the allocator has given back what it keeps for later; `None` where the system
/// does not tell.
pub(crate) fn settled() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: has no preconditions; gives free pages of the C library's allocator back.
    unsafe {
        libc::malloc_trim(0);
    }
    resident()
}

/// Resident bytes now.
pub(crate) fn resident() -> Option<u64> {
    // The lines have the form `VmRSS:     1234 kB`.
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
