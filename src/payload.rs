//! What is known of payloads that are bytes.

#![forbid(unsafe_code)]

use std::any::{Any, TypeId};
use std::mem::needs_drop;

use crate::reclaim::prefetch::{CACHE_LINE, prefetch, prefetch_to_write};
use crate::secret::SecretBytes;

/// Lines of a payload that are asked for at once.
const LINES: usize = 8;

/// The bytes that a payload of bytes points to.
#[inline]
pub(crate) fn bytes_of<S: 'static>(payload: &S) -> Option<&[u8]> {
    let payload: &dyn Any = payload;
    if let Some(bytes) = payload.downcast_ref::<SecretBytes>() {
        return Some(bytes);
    }
    if let Some(bytes) = payload.downcast_ref::<Vec<u8>>() {
        return Some(bytes);
    }
    payload.downcast_ref::<Box<[u8]>>().map(|bytes| &**bytes)
}

/// Whether the weight of such payloads is known without a weigher: bytes have their length, and what needs no drop
/// owns nothing beside itself.
pub(crate) fn weighs_itself<S: 'static>() -> bool {
    let of_bytes =
        [TypeId::of::<SecretBytes>(), TypeId::of::<Vec<u8>>(), TypeId::of::<Box<[u8]>>()];
    !needs_drop::<S>() || of_bytes.contains(&TypeId::of::<S>())
}

/// Asks the processor for the first of the bytes that a payload points to: the caller reads them next, and the
/// processor goes on by itself.
#[inline]
pub(crate) fn prefetch_payload<S: 'static>(payload: &S) {
    if let Some(bytes) = bytes_of(payload).filter(|_| !cfg!(loom)) {
        prefetch(bytes.as_ptr());
    }
}

/// Asks the processor for the bytes of a payload that is going to be dropped: secret ones are wiped, and mostly
/// another processor has written them.
#[inline]
pub(crate) fn prefetch_to_drop<S: 'static>(payload: &S) {
    let any: &dyn Any = payload;
    let Some(bytes) = any.downcast_ref::<SecretBytes>().filter(|_| !cfg!(loom)) else {
        return prefetch_payload(payload);
    };
    // From the line's beginning: a step of a line leads into each one.
    let first = bytes.as_ptr().map_addr(|address| address & !(CACHE_LINE - 1));
    let lines = (bytes.as_ptr().addr() + bytes.len() - first.addr()).div_ceil(CACHE_LINE);
    (0..lines.min(LINES)).for_each(|line| prefetch_to_write(first.wrapping_add(line * CACHE_LINE)));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn bytes_weigh_themselves_and_so_does_what_owns_nothing() {
        assert!(weighs_itself::<SecretBytes>() && weighs_itself::<Vec<u8>>());
        assert!(weighs_itself::<Box<[u8]>>() && weighs_itself::<u64>() && weighs_itself::<&str>());
        assert!(!weighs_itself::<String>() && !weighs_itself::<Arc<u64>>());
        assert!(!weighs_itself::<Option<Vec<u8>>>());
    }
}
