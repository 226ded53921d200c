//! Asking the processor for memory early.

/// Bytes that a processor fetches together, on most of them.
pub(crate) const CACHE_LINE: usize = 64;

/// Asks the processor for a cache line; a no-op where there is no such instruction in Rust.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// As [`prefetch`], of a line that is to be written: no other processor keeps it.
#[inline]
pub(crate) fn prefetch_to_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::asm;
        // SAFETY: a prefetch writes nothing and faults on no address; processors without it do nothing.
        unsafe {
            asm!("prefetchw [{}]", in(reg) address, options(readonly, nostack, preserves_flags))
        };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
