//! A session in memory: one header, and the payload behind it.
//!
//! # Invariants
//!
//! * N1: `hash`, `id`, `scope` and `weight` are written before the node is linked, and never again.
//! * N2: the payload is initialised from birth until the count of references reaches zero, but for a
//!   hollow node (N5). Whoever brings it there drops the payload, once, and retires the header.
//! * N3: a linked node holds one reference, the table's; the winner of its removal inherits it. A node
//!   that was never linked, and that others may see, has `REMOVED` in its word: no removal wins it.
//! * N4: `marks`, `generation`, `told` and `expiry` may change at any time; they are no part of the node's
//!   identity. But the bits `HOLLOW` and `CONTEXT` of `told` never change, nor does `IN_PARCEL` of `marks`.
//! * N5: a hollow node has no payload. It is never linked, and only events hold it.
//! * N6: a node with the bit `CONTEXT` is the beginning of a [`WithContext`]. Its context is touched by
//!   the thread that tells its coming, which is one and holds a reference, and then by the one that
//!   brings the count to zero.
//! * N7: a node with the bit `IN_PARCEL` has a payload of [`SecretBytes`], and is in the room of that very
//!   payload's parcel. What drops the payload wipes it, and the block goes with the header.
//!
//! How nodes come into being, and go: `node/birth.rs`. Model: `loom-tests/tests/refs.rs`.

mod birth;

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;

use self::birth::Dead;
pub(crate) use self::birth::{Context, NewNode};
pub(super) use self::birth::{Hollow, WithContext};
use super::id::SessionId;
use super::link::{AtomicLink, COMING};
use crate::reclaim::Guard;
use crate::reclaim::gauge::Gauges;
use crate::reclaim::parcel::{ALIGN, ROOM};
use crate::reclaim::refs::Refs;
use crate::secret::SecretBytes;
use crate::sync::{AtomicU8, AtomicU64, Ordering, UnsafeCell, planted};

/// What identifies a session: its id, and the scope without which it cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// The keyed hash of the rest, highest bit set.
    pub(crate) hash: u64,
    /// The slot of the scope in the cache's registry.
    pub(crate) scope: u32,
    /// The session id.
    pub(crate) id: SessionId,
}

impl Name {
    /// The name of no session: hashes of nodes have their highest bit set.
    pub(crate) const NOBODY: Self = Self { hash: 0, scope: 0, id: SessionId::ZERO };
}

/// The node's coming is to be told.
const TELL_CAME: u8 = 1;
/// It was told.
const CAME_TOLD: u8 = 2;
/// The node's leaving is in the queue of events.
const ANNOUNCED: u8 = 4;
/// It was told.
const LEFT_TOLD: u8 = 8;
/// Whether the node was expired when it left is settled: it was, if the next bit is set.
const SETTLED: u8 = 16;
const EXPIRED: u8 = 32;
/// The node has no payload (N5).
const HOLLOW: u8 = 64;
/// The node is the beginning of a `WithContext` (N6).
const CONTEXT: u8 = 128;

/// The session was used since eviction last looked.
const VISITED: u8 = 1;
/// The node is in its payload's parcel (N7).
const IN_PARCEL: u8 = 2;

/// A session. The fields fill 72 bytes, and the payload follows.
#[repr(C)]
pub(crate) struct Node<S> {
    pub(super) next: AtomicLink,
    hash: u64,
    id: SessionId,
    marks: AtomicU8,
    generation: AtomicU8,
    told: AtomicU8,
    refs: Refs,
    scope: u32,
    weight: u32,
    expiry: AtomicU64,
    payload: UnsafeCell<MaybeUninit<S>>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Node<[usize; 2]>>() == 72 + 2 * size_of::<usize>());
#[cfg(not(loom))]
const _: () = assert!(size_of::<Node<SecretBytes>>() == ROOM);
const _: () = assert!(size_of::<Node<SecretBytes>>() <= ROOM);
const _: () = assert!(align_of::<Node<SecretBytes>>() <= ALIGN);

// SAFETY: a node is moved between threads as its payload is, which has to be `Send`; all else is
// plain data or atomic.
unsafe impl<S: Send + Sync> Send for Node<S> {}
// SAFETY: shared nodes give out `&S` (hence `S: Sync`), and any thread may be the last one, which
// drops the payload (hence `S: Send`). The cell is written at birth and at death only (N2).
unsafe impl<S: Send + Sync> Sync for Node<S> {}

impl<S> Node<S> {
    /// Bytes of a node in memory without the payload's own allocations.
    pub(crate) const SIZE: usize = size_of::<Self>();

    /// Whether this is the node's name.
    #[inline]
    pub(crate) fn is(&self, name: &Name) -> bool {
        self.hash == name.hash && (self.scope == name.scope) & (self.id == name.id)
    }

    /// Whether the node is of this id, in the scope of the name or in that scope before it was dropped.
    /// Two scopes whose keyed hashes are equal pass for one.
    #[inline]
    pub(crate) fn is_akin(&self, name: &Name) -> bool {
        self.hash == name.hash && self.id == name.id
    }

    /// The node's name.
    #[inline]
    pub(crate) fn name(&self) -> Name {
        Name { hash: self.hash, scope: self.scope, id: self.id }
    }

    /// The hash of the name.
    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The place in the order of the list: the bit-reversed hash.
    #[inline]
    pub(crate) fn key(&self) -> u64 {
        self.hash.reverse_bits()
    }

    /// The session id.
    #[inline]
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// The scope's slot.
    #[inline]
    pub(crate) fn scope(&self) -> u32 {
        self.scope
    }

    /// The payload's weight.
    #[inline]
    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    /// The word that the layer above keeps the expiry in.
    #[inline]
    pub(crate) fn expiry(&self) -> &AtomicU64 {
        &self.expiry
    }

    /// Notes that the session was used.
    #[inline]
    pub(crate) fn visit(&self) {
        // Relaxed: a hint for eviction. The load spares the cache line a needless write. A store does,
        // for the other bit never changes.
        let marks = self.marks.load(Ordering::Relaxed);
        if marks & VISITED == 0 {
            self.marks.store(marks | VISITED, Ordering::Relaxed);
        }
    }

    /// Whether the session was used.
    #[inline]
    pub(crate) fn is_visited(&self) -> bool {
        // Relaxed: as in `visit`.
        self.marks.load(Ordering::Relaxed) & VISITED != 0
    }

    /// Whether the session was used since this was last asked.
    #[inline]
    pub(crate) fn clear_visit(&self) -> bool {
        // Relaxed: as in `visit`. A visit that is lost between the two costs one early eviction.
        let marks = self.marks.load(Ordering::Relaxed);
        if marks & VISITED != 0 {
            self.marks.store(marks & !VISITED, Ordering::Relaxed);
        }
        marks & VISITED != 0
    }

    /// Whether the node's leaving is in the queue of events.
    #[inline]
    pub(super) fn is_announced(&self) -> bool {
        let relaxed = planted!("relaxed-announced");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
        // Acquire: pairs with `set_announced`.
        self.told.load(order) & ANNOUNCED != 0
    }

    /// Notes that the node's leaving is in the queue of events.
    pub(super) fn set_announced(&self) {
        if planted!("announced-by-load-and-store") {
            let told = self.told.load(Ordering::Acquire);
            self.told.store(told | ANNOUNCED, Ordering::Release);
            return;
        }
        // AcqRel: Release publishes the event to those who do not announce it again.
        self.told.fetch_or(ANNOUNCED, Ordering::AcqRel);
    }

    /// Whether the leaving of a node that has left is announced.
    #[inline]
    pub(crate) fn is_told(&self) -> bool {
        self.next.load().is_told()
    }

    /// Whether it is announced for the node's coming alone.
    pub(super) fn is_told_for_coming(&self) -> bool {
        let link = self.next.load();
        link.is_told() && link.reason() == COMING
    }

    /// Whether the node has no payload (N5).
    #[inline]
    pub(super) fn is_hollow(&self) -> bool {
        self.kind() & HOLLOW != 0
    }

    /// Whether the node was born with a context (N6).
    pub(super) fn has_context(&self) -> bool {
        self.kind() & CONTEXT != 0
    }

    /// The bits that never change.
    #[inline]
    fn kind(&self) -> u8 {
        // Relaxed, both: N4. Who sees the node sees them.
        let told = self.told.load(Ordering::Relaxed) & (HOLLOW | CONTEXT);
        told | self.marks.load(Ordering::Relaxed) & IN_PARCEL
    }

    /// Whether the node's coming has to be told now, by the caller. For the thread that serves the
    /// events, as the next.
    pub(super) fn tell_came(&self) -> bool {
        // Relaxed, both: bits of the serving thread, ordered by its turns; others keep them.
        self.told.load(Ordering::Relaxed) & (TELL_CAME | CAME_TOLD) == TELL_CAME
            && self.told.fetch_or(CAME_TOLD, Ordering::Relaxed) & CAME_TOLD == 0
    }

    /// Whether the node's coming is to be told and was not yet, as far as this thread knows.
    pub(crate) fn is_coming_untold(&self) -> bool {
        // Relaxed: that it was told may be seen late, and then an event too many is announced. That it is to be told the node
        // was born with.
        self.told.load(Ordering::Relaxed) & (TELL_CAME | CAME_TOLD) == TELL_CAME
    }

    /// The reason of the node's leaving, if that has to be told now, by the caller.
    pub(crate) fn tell_left(&self) -> Option<u8> {
        let link = self.next.load();
        // Relaxed: as in `tell_came`.
        let is_due =
            link.is_told() && self.told.fetch_or(LEFT_TOLD, Ordering::Relaxed) & LEFT_TOLD == 0;
        is_due.then(|| link.reason())
    }

    /// Settles whether a node that has left was expired: the first who asks decides, all others get
    /// its answer.
    pub(crate) fn settle(&self, is_expired: bool) -> bool {
        let new = if is_expired { SETTLED | EXPIRED } else { SETTLED };
        // Relaxed, both: bits that stand for themselves.
        let mut told = self.told.load(Ordering::Relaxed);
        loop {
            if told & SETTLED != 0 {
                return told & EXPIRED != 0;
            }
            let settled =
                self.told.compare_exchange(told, told | new, Ordering::Relaxed, Ordering::Relaxed);
            match settled {
                Ok(_) => return is_expired,
                Err(now) => told = now,
            }
        }
    }

    /// Adds a reference on behalf of one that the caller holds.
    pub(super) fn acquire(&self) {
        self.refs.acquire();
    }

    /// Adds a reference unless the node is dead.
    #[inline]
    pub(super) fn try_acquire(&self) -> bool {
        self.refs.try_acquire()
    }
}

/// An owned reference to a node.
pub(crate) struct NodeRef<S> {
    node: NonNull<Node<S>>,
    gauges: &'static Gauges,
}

// SAFETY: a reference is a share of a `Node<S>`, which is `Send` and `Sync` for these payloads.
unsafe impl<S: Send + Sync> Send for NodeRef<S> {}
// SAFETY: as above.
unsafe impl<S: Send + Sync> Sync for NodeRef<S> {}

impl<S> NodeRef<S> {
    /// # Safety
    ///
    /// The caller gives up one reference of the node's count (R1, R2).
    #[inline]
    pub(super) unsafe fn from_owned(node: NonNull<Node<S>>, gauges: &'static Gauges) -> Self {
        Self { node, gauges }
    }

    /// The node.
    #[inline]
    pub(crate) fn node(&self) -> &Node<S> {
        // SAFETY: N2, R3: this reference keeps the count above zero, so the header is not retired.
        unsafe { self.node.as_ref() }
    }

    /// The payload.
    #[inline]
    pub(crate) fn payload(&self) -> &S {
        // SAFETY: N2, N5: initialised, for events do not give out references of hollow nodes; and
        // written by nobody while this reference lives.
        self.node().payload.with(|payload| unsafe { (*payload).assume_init_ref() })
    }

    /// Whether the session is of the cache that counts on these gauges. While a session lives, no other
    /// cache does.
    pub(crate) fn is_of(&self, gauges: &'static Gauges) -> bool {
        std::ptr::eq(self.gauges, gauges)
    }

    /// When the clock of the session's cache began.
    pub(crate) fn origin(&self) -> u64 {
        self.gauges.origin()
    }

    /// How many references there are.
    pub(crate) fn count(&self) -> u32 {
        self.node().refs.count()
    }

    /// The node under a pin, as a lookup would have found it.
    pub(crate) fn pinned<'g>(&self, guard: &'g Guard) -> Pinned<'g, S> {
        // SAFETY: R3: this reference keeps the header from retirement, which can therefore only
        // come after `guard` was pinned (P1).
        unsafe { Pinned::new(self.node, guard) }
    }
}

impl<S> Clone for NodeRef<S> {
    #[inline]
    fn clone(&self) -> Self {
        self.node().refs.acquire();
        Self { node: self.node, gauges: self.gauges }
    }
}

impl<S> Drop for NodeRef<S> {
    /// The last reference is always a handle's: the table's own goes through [`Unlinked`].
    #[inline]
    fn drop(&mut self) {
        if self.node().refs.release() {
            self.gauges.held_ended(u64::from(self.node().weight));
            // SAFETY: R3: this release brought the count to zero.
            drop(unsafe { Dead::new(self.node, self.gauges) });
        }
    }
}

/// The table's reference of a node that has left it, in the hands of the removal's winner.
///
/// Dropping it drops the payload, unless handles hold the session: then the last handle does.
#[must_use]
pub(crate) struct Unlinked<S> {
    node: NonNull<Node<S>>,
    gauges: &'static Gauges,
}

// SAFETY: as for `NodeRef`.
unsafe impl<S: Send + Sync> Send for Unlinked<S> {}

impl<S> Unlinked<S> {
    /// # Safety
    ///
    /// The caller won the node's removal and has unlinked it (N3).
    #[inline]
    pub(super) unsafe fn from_won(node: NonNull<Node<S>>, gauges: &'static Gauges) -> Self {
        Self { node, gauges }
    }

    /// The node.
    #[inline]
    pub(crate) fn node(&self) -> &Node<S> {
        // SAFETY: N3: this is the table's reference.
        unsafe { self.node.as_ref() }
    }

    /// The payload.
    #[inline]
    pub(crate) fn payload(&self) -> &S {
        // SAFETY: N2, N3, N5: linked once, hence not hollow; this is the table's reference.
        self.node().payload.with(|payload| unsafe { (*payload).assume_init_ref() })
    }

    /// Turns the table's reference into a handle's.
    #[inline]
    pub(crate) fn into_handle(self) -> NodeRef<S> {
        let this = ManuallyDrop::new(self);
        this.gauges.held_began(u64::from(this.node().weight));
        // SAFETY: the table's reference is given up here.
        unsafe { NodeRef::from_owned(this.node, this.gauges) }
    }
}

impl<S> Drop for Unlinked<S> {
    #[inline]
    fn drop(&mut self) {
        let Self { node, gauges } = *self;
        if planted!("wipe-when-removed") {
            // SAFETY: of the bytes in a model none is freed while it runs.
            unsafe { birth::wipe_early(node) };
        }
        if self.node().refs.take_sole() {
            // SAFETY: R3: the exchange has brought the count to zero.
            return drop(unsafe { Dead::new(node, gauges) });
        }
        // Handles hold the session: as one of them it is counted before the last one can go.
        drop(Self { node, gauges }.into_handle());
    }
}

/// A node under a pin: found, and not owned.
pub(crate) struct Pinned<'g, S> {
    node: NonNull<Node<S>>,
    guard: &'g Guard,
}

impl<S> Clone for Pinned<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Pinned<'_, S> {}

impl<'g, S> Pinned<'g, S> {
    /// # Safety
    ///
    /// The node was reachable while `guard` lived (P1).
    #[inline]
    pub(super) unsafe fn new(node: NonNull<Node<S>>, guard: &'g Guard) -> Self {
        Self { node, guard }
    }

    /// The header. The payload may be gone: only a reference gives it out.
    #[inline]
    pub(crate) fn node(self) -> &'g Node<S> {
        self.guard.assert_alive(self.node);
        // SAFETY: P1: the header is allocated while the guard lives.
        unsafe { self.node.as_ref() }
    }

    /// Sixteen bits that tell this node from others of a like key, as long as it is allocated, and
    /// that change with [`renew_stamp`](Self::renew_stamp).
    #[inline]
    pub(crate) fn stamp(self) -> u16 {
        // Acquire: pairs with `renew_stamp`.
        self.stamp_of(self.node().generation.load(Ordering::Acquire))
    }

    /// Gives the node another stamp, so that what was stamped before leads nowhere. It takes 256
    /// renewals to come back to a stamp.
    pub(crate) fn renew_stamp(self) -> u16 {
        let relaxed = planted!("relaxed-stamp");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        // AcqRel: Release publishes what the caller changed before; Acquire shows it what others
        // did before they renewed the stamp.
        let before = self.node().generation.fetch_add(1, order);
        self.stamp_of(before.wrapping_add(1))
    }

    #[inline]
    fn stamp_of(self, generation: u8) -> u16 {
        // Nodes are more than 16 bytes apart; the bits above vary most. The factor
        // keeps the two bits clear that a hint does not store, and is odd above them.
        let address = (self.node.as_ptr().addr() >> 4) as u16;
        address ^ u16::from(generation).wrapping_mul(0x101 << 2)
    }

    #[inline]
    pub(super) fn ptr(self) -> NonNull<Node<S>> {
        self.node
    }

    #[inline]
    pub(super) fn guard(self) -> &'g Guard {
        self.guard
    }

    /// A reference of one's own, unless the node is dead.
    #[inline]
    pub(crate) fn acquire(self, gauges: &'static Gauges) -> Option<NodeRef<S>> {
        if !self.node().try_acquire() {
            return None;
        }
        // SAFETY: R2: the count was incremented for this reference.
        Some(unsafe { NodeRef::from_owned(self.node, gauges) })
    }
}
