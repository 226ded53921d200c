//! How nodes come into being, and go.
//!
//! A node is made for the table ([`NewNode`]) or for an event alone ([`Hollow`]). A context, if a put
//! gives one, stands behind the payload, so that nodes without one are no larger for it; which of the
//! two a block of memory is, a bit in its header says (N6). A payload of bytes brings the room for its node
//! (N7), unless there is a context or they are many.
//!
//! Models: `loom-tests/tests/refs.rs`, and `unlinked.rs` for contexts and for what is not linked.

use std::any::Any;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::sync::Arc;

use super::{CONTEXT, HOLLOW, IN_PARCEL, Name, Node, NodeRef, TELL_CAME};
use crate::reclaim;
use crate::reclaim::gauge::Gauges;
use crate::reclaim::panics::Panics;
use crate::reclaim::parcel::Parcel;
use crate::reclaim::refs::Refs;
use crate::reclaim::{pin, place, retire_parcel};
use crate::secret::SecretBytes;
use crate::sync::{AtomicU8, AtomicU64, Ordering, UnsafeCell, planted};
use crate::table::link::{AtomicLink, Link};

/// What a put says of its session to whoever is told that it came.
#[derive(Clone)]
pub(crate) struct Context(Arc<dyn Any + Send + Sync>);

impl Context {
    pub(crate) fn new<T: Send + Sync + 'static>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The value, if it is a `T`.
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// A node, and a context behind it.
#[repr(C)]
pub(in crate::table) struct WithContext<S> {
    node: Node<S>,
    context: UnsafeCell<Option<Context>>,
}

impl<S> WithContext<S> {
    /// Takes the context out of a node, if it has one still.
    ///
    /// # Safety
    ///
    /// The node has the bit `CONTEXT`, its header is allocated, and the caller is one of those whom N6
    /// allows to touch the context.
    pub(in crate::table) unsafe fn take(node: NonNull<Node<S>>) -> Option<Context> {
        // SAFETY: by the caller's promise; the pointer to the node is the one to the whole block.
        let whole = unsafe { node.cast::<Self>().as_ref() };
        if planted!("context-left-in-the-node") {
            // SAFETY: as below.
            return whole.context.with(|context| unsafe { (*context).clone() });
        }
        // SAFETY: N6: nobody else touches the context now.
        whole.context.with_mut(|context| unsafe { (*context).take() })
    }
}

impl<S> Node<S> {
    /// A node that nobody has seen: its word, what is to be told and what kind it is, its marks, the number
    /// of its references, and its payload.
    #[inline(always)]
    fn new(
        name: &Name,
        (weight, expiry): (u32, u64),
        next: Link,
        (told, marks, refs): (u8, u8, u32),
        payload: MaybeUninit<S>,
    ) -> Self {
        Self {
            next: AtomicLink::new(next),
            hash: name.hash,
            id: name.id,
            marks: AtomicU8::new(marks),
            generation: AtomicU8::new(0),
            told: AtomicU8::new(told),
            refs: Refs::new(refs),
            scope: name.scope,
            weight,
            expiry: AtomicU64::new(expiry),
            payload: UnsafeCell::new(payload),
        }
    }
}

/// A node that was never linked: it has one owner. It has a payload.
pub(crate) struct NewNode<S>(NonNull<Node<S>>);

impl<S> NewNode<S> {
    /// A node; with a reference for the event of its coming, if that is to be told. Inlined always, so
    /// that it is written where it stays.
    #[inline(always)]
    pub(crate) fn new(name: &Name, weight: u32, expiry: u64, payload: S, tell: bool) -> Self
    where
        S: 'static,
    {
        let refs = if tell && !planted!("coming-without-reference") { 2 } else { 1 };
        let told = if tell { TELL_CAME } else { 0 };
        let terms = (weight, expiry);
        if let Some(room) = room_of(&payload) {
            let told = (told, IN_PARCEL, refs);
            let payload = MaybeUninit::new(payload);
            // SAFETY: X1: the room is a header's, and free, for the payload had no node yet (X2).
            unsafe { room.write(Node::new(name, terms, Link::END, told, payload)) };
            return Self(room);
        }
        let payload = MaybeUninit::new(payload);
        Self(place(Node::new(name, terms, Link::END, (told, 0, refs), payload)))
    }

    /// A node whose coming is to be told, with this context.
    #[cold]
    pub(crate) fn with_context(
        name: &Name,
        weight: u32,
        expiry: u64,
        payload: S,
        context: Context,
    ) -> Self {
        let told = (TELL_CAME | CONTEXT, 0, 2);
        let payload = MaybeUninit::new(payload);
        let node = Node::new(name, (weight, expiry), Link::END, told, payload);
        let whole = WithContext { node, context: UnsafeCell::new(Some(context)) };
        Self(place(whole).cast())
    }

    /// A handle of a session that never was in a table.
    pub(crate) fn into_handle(self, gauges: &'static Gauges) -> NodeRef<S> {
        self.node().next.set_private(Link::END.removed(None));
        let node = self.into_raw();
        // SAFETY: R1: the one reference that the node was born with; nobody else has seen it.
        let handle = unsafe { NodeRef::from_owned(node, gauges) };
        gauges.held_began(u64::from(handle.node().weight));
        handle
    }

    /// The payload of a node that did not get linked. Its context is dropped.
    pub(crate) fn into_payload(self) -> S {
        let node = self.into_raw();
        // SAFETY: N2: the node has one owner, which gives up the payload here, and the memory once the
        // context is out of it (N6); but for a parcel, whose memory is the payload's again (N7).
        let (payload, context) = unsafe {
            let payload = node.as_ref().payload.with_mut(|payload| (*payload).assume_init_read());
            let kind = node.as_ref().kind();
            let context = if kind & CONTEXT == 0 { None } else { WithContext::take(node) };
            if kind & IN_PARCEL == 0 {
                free(node);
            }
            (payload, context)
        };
        // User code. If it panics, the payload is dropped, and nothing is lost.
        drop(context);
        payload
    }

    /// The header.
    #[inline]
    pub(crate) fn node(&self) -> &Node<S> {
        // SAFETY: the owner of the node, which nobody has freed.
        unsafe { self.0.as_ref() }
    }

    /// Gives the node the newer slot of its scope, which was dropped since it was named.
    pub(crate) fn follow_scope(&mut self, slot: u32) {
        // SAFETY: the node has one owner, who has it mutably.
        unsafe { self.0.as_mut() }.scope = slot;
    }

    /// Whether the coming of the node is to be announced.
    #[inline]
    pub(crate) fn tells_came(&self) -> bool {
        // Relaxed: the node has one owner.
        self.node().told.load(Ordering::Relaxed) & TELL_CAME != 0
    }

    /// Gives the node to the table.
    pub(in crate::table) fn into_raw(self) -> NonNull<Node<S>> {
        ManuallyDrop::new(self).0
    }

    /// Takes back a node that `into_raw` gave and no exchange linked.
    ///
    /// # Safety
    ///
    /// The pointer came from `into_raw`, was not linked, and is not used afterwards.
    pub(in crate::table) unsafe fn from_raw(node: NonNull<Node<S>>) -> Self {
        Self(node)
    }
}

impl<S> Drop for NewNode<S> {
    fn drop(&mut self) {
        let _free = Freeing(self.0);
        // SAFETY: N2: the only owner drops what the node holds, and frees it then.
        unsafe { drop_content(self.0, self.node().kind()) };
    }
}

/// A node without a payload, for a leaving that is told by its name alone (N5).
pub(in crate::table) struct Hollow<S>(NonNull<Node<S>>);

impl<S> Hollow<S> {
    /// A node that has left for this reason, with a reference for the event of that.
    pub(in crate::table) fn new(name: &Name, reason: u8, gauges: &'static Gauges) -> Self {
        let next = Link::END.removed(Some(reason));
        let node = Node::new(name, (0, 0), next, (HOLLOW, 0, 1), MaybeUninit::uninit());
        gauges.held_began(0);
        Self(place(node))
    }

    /// Gives the node to an event.
    pub(in crate::table) fn into_raw(self) -> NonNull<Node<S>> {
        self.0
    }
}

/// A header whose content is gone (N2). It is retired when this is dropped.
pub(super) struct Dead<S> {
    node: NonNull<Node<S>>,
    kind: u8,
    gauges: &'static Gauges,
}

impl<S> Dead<S> {
    /// Drops what a node holds. The header is retired also when a destructor panics.
    ///
    /// # Safety
    ///
    /// The caller has brought the count of references to zero.
    #[inline]
    pub(super) unsafe fn new(node: NonNull<Node<S>>, gauges: &'static Gauges) -> Self {
        // SAFETY: the header is allocated until it is retired.
        let kind = unsafe { node.as_ref() }.kind();
        let this = Self { node, kind, gauges };
        // SAFETY: N2, N6: the count is zero, so this thread alone owns what the node holds.
        unsafe { drop_content(node, kind) };
        this
    }
}

impl<S> Drop for Dead<S> {
    #[inline]
    fn drop(&mut self) {
        let Self { node, kind, gauges } = *self;
        // SAFETY: P3: the removal's winner unlinked the node before it gave its reference away, or
        // nobody linked it; and only one thread brings the count to zero. N6, N7 for the block.
        unsafe {
            match kind & (IN_PARCEL | CONTEXT) {
                IN_PARCEL => retire_parcel(take_parcel(node), gauges),
                0 => retire(node, gauges),
                _ => retire(node.cast::<WithContext<S>>(), gauges),
            }
        }
    }
}

/// Retires a block that is not a parcel's.
///
/// # Safety
///
/// P3: no thread that pins later can reach it, and this is its only retirement.
#[inline(never)]
unsafe fn retire<T>(block: NonNull<T>, gauges: &'static Gauges) {
    gauges.waiting_began(1);
    // SAFETY: P3, by the caller's promise.
    unsafe { pin().retire(block, gauges) };
}

/// Drops the payload and the context of a node of this kind. User code, both.
///
/// # Safety
///
/// The caller owns them, and does this once.
#[inline]
unsafe fn drop_content<S>(node: NonNull<Node<S>>, kind: u8) {
    if kind == IN_PARCEL {
        // SAFETY: by the caller's promise, and N7: the payload is this, and initialised (N2).
        return unsafe { bytes_of(node).parcel_mut().wipe() };
    }
    if kind == 0 {
        // SAFETY: by the caller's promise; not hollow, hence initialised (N2).
        return unsafe { drop_payload(node) };
    }
    // SAFETY: as above, and N6.
    unsafe { drop_unusual(node, kind) };
}

/// # Safety
///
/// As for `drop_content`.
#[cold]
unsafe fn drop_unusual<S>(node: NonNull<Node<S>>, kind: u8) {
    // SAFETY: N6, by the caller's promise.
    let context = if kind & CONTEXT == 0 { None } else { unsafe { WithContext::take(node) } };
    // A context that panics must not keep the payload from being dropped and wiped.
    let mut panics = Panics::default();
    panics.catch(|| drop(context));
    if kind & HOLLOW == 0 {
        // SAFETY: by the caller's promise; not hollow, hence initialised (N2).
        panics.catch(|| unsafe { drop_payload(node) });
    }
    panics.resume();
}

/// # Safety
///
/// The caller owns the payload, which is initialised, and does this once.
#[inline]
unsafe fn drop_payload<S>(node: NonNull<Node<S>>) {
    // SAFETY: by the caller's promise.
    unsafe { node.as_ref().payload.with_mut(|payload| (*payload).assume_init_drop()) };
}

/// The room that a payload brings for its node, if it is bytes, and not many.
#[inline]
fn room_of<S: 'static>(payload: &S) -> Option<NonNull<Node<S>>> {
    let payload: &dyn Any = payload;
    let bytes = payload.downcast_ref::<SecretBytes>()?;
    Some(bytes.parcel().room()?.cast())
}

/// The payload of a node that is in its parcel.
///
/// # Safety
///
/// The node has the bit `IN_PARCEL`, its header is allocated, and the caller owns its payload.
#[inline]
unsafe fn bytes_of<'a, S>(node: NonNull<Node<S>>) -> &'a mut SecretBytes {
    // SAFETY: N7, by the caller's promise.
    unsafe { node.as_ref().payload.with_mut(|payload| &mut *payload.cast::<SecretBytes>()) }
}

/// A seeded bug: wipes the bytes of a session that others may hold.
///
/// # Safety
///
/// The node's header is allocated, and so are its bytes.
pub(super) unsafe fn wipe_early<S>(node: NonNull<Node<S>>) {
    // SAFETY: by the caller's promise.
    unsafe {
        if node.as_ref().kind() & IN_PARCEL != 0 {
            // Not as a change of the cell, so that what fails is who reads the bytes.
            let payload = node.as_ref().payload.with(|payload| payload.cast_mut());
            (&mut *payload.cast::<SecretBytes>()).parcel_mut().wipe();
        }
    }
}

/// The parcel that a node is in, and with it the node's memory.
///
/// # Safety
///
/// As for `bytes_of`; and the node is not used afterwards, but by those who still see its header.
#[inline]
unsafe fn take_parcel<S>(node: NonNull<Node<S>>) -> Parcel {
    // SAFETY: by the caller's promise: nobody takes it twice (X2).
    unsafe { std::ptr::read(bytes_of(node).parcel()) }
}

/// Frees a node also when a destructor panics.
struct Freeing<S>(NonNull<Node<S>>);

impl<S> Drop for Freeing<S> {
    fn drop(&mut self) {
        // SAFETY: the only owner frees the node, whose content is dropped.
        unsafe { free(self.0) };
    }
}

/// Frees a node that nobody else has seen.
///
/// # Safety
///
/// The caller is its only owner, and has dropped what it holds.
unsafe fn free<S>(node: NonNull<Node<S>>) {
    // SAFETY: by the caller's promise. N6, N7: the block is of this type.
    unsafe {
        match node.as_ref().kind() & (IN_PARCEL | CONTEXT) {
            IN_PARCEL => drop(take_parcel(node)),
            0 => reclaim::free(node),
            _ => reclaim::free(node.cast::<WithContext<S>>()),
        }
    }
}
