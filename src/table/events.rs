//! What is told of nodes: that they came, and that they left.
//!
//! An event is a node and a kind; what is still to be told of a node is in the node itself, so an
//! event may come twice and is told once. A shard has one queue of them, and one thread at a time
//! that serves it.
//!
//! # Order
//!
//! Of one name, the coming of a node is told before its leaving, and its leaving before the coming
//! of the next node:
//!
//! * E1: *who takes a removed node out of the list announces it first*: the winner of its removal, or
//!   a search that meets it. A node that is out of the list has its leaving in the queue.
//! * E2: a node is linked behind no removed node of its name: an insert's search takes those out, and
//!   a replacement takes the old one out, before the coming of the new one is announced (L3).
//! * E3: a winner that found its node behind a removed one searches before it announces; the search
//!   comes to the other one first.
//! * E4: whoever serves a leaving tells the coming first, if that was not told: the put may have been
//!   stopped between its link and its announcement.
//!
//! # References
//!
//! Each event in the queue owns a reference of its node. A put's node is born with one for its coming.
//!
//! Model: `loom-tests/tests/events.rs`.

use std::ptr::{self, NonNull};

use super::node::{Node, NodeRef, Pinned};
use crate::queue::{Queue, Segment};
use crate::reclaim::Guard;
use crate::reclaim::gauge::Gauges;
use crate::sync::{AtomicU64, Ordering, planted};

/// Set in the lowest bit of a coming's word; nodes are aligned to more.
const CAME: usize = 1;

/// Set in the backlog when the thread that serves the queue sleeps.
const ASLEEP: u64 = 1 << 63;

/// The backlog when nothing waits: a thread may count an event after another one has served it.
const NONE_WAIT: u64 = 1 << 32;

/// The events of a table.
#[derive(Debug)]
pub(crate) struct Events {
    queue: Queue,
    /// [`NONE_WAIT`], and how many events wait, and [`ASLEEP`].
    backlog: AtomicU64,
}

/// An event at the front of the queue.
pub(crate) struct Event<S> {
    node: NonNull<Node<S>>,
    came: bool,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { queue: Queue::new(), backlog: AtomicU64::new(NONE_WAIT) }
    }

    /// Announces that a node came; the event takes the reference that the node was born with for it.
    pub(super) fn came<S>(&self, node: Pinned<'_, S>) {
        let word = node.ptr().as_ptr().expose_provenance() | CAME;
        self.push(word, node.guard());
    }

    /// Announces that a node left, unless that is announced.
    pub(super) fn left<S>(&self, node: Pinned<'_, S>) {
        if node.node().is_announced() {
            return;
        }
        // Fails only if the winner has given the table's reference up, which it does after it
        // announced.
        if node.node().try_acquire() {
            self.push(node.ptr().as_ptr().expose_provenance(), node.guard());
            node.node().set_announced();
        }
    }

    /// The queue allocates a segment for each sixtieth event, under the pin: the epoch's bags do the
    /// like.
    fn push(&self, word: usize, guard: &Guard) {
        let mut spare = None;
        while self.queue.push(word as u64, &mut spare, guard).is_err() {
            spare = Some(Segment::new());
        }
        // AcqRel: pairs with `fall_asleep`, whose read-modify-write of the same word decides whether
        // the server sees this event, or this thread sees that it sleeps.
        self.backlog.fetch_add(1, Ordering::AcqRel);
    }

    /// How many events wait.
    #[inline]
    pub(crate) fn backlog(&self) -> u64 {
        // Relaxed: outdated as soon as it is read.
        (self.backlog.load(Ordering::Relaxed) & !ASLEEP).saturating_sub(NONE_WAIT)
    }

    /// Whether the server sleeps and has to be woken by the caller, which has announced something.
    #[inline]
    pub(crate) fn has_to_wake(&self) -> bool {
        // Relaxed: this thread's own announcement changed the word, and the order of its changes
        // does not go back.
        if self.backlog.load(Ordering::Relaxed) & ASLEEP == 0 {
            return false;
        }
        // AcqRel: one of several wakes.
        self.backlog.fetch_and(!ASLEEP, Ordering::AcqRel) & ASLEEP != 0
    }

    /// Notes that the server goes to sleep; `false` when events wait.
    pub(crate) fn fall_asleep(&self) -> bool {
        if planted!("sleep-by-load-and-store") {
            let backlog = self.backlog.load(Ordering::Acquire);
            self.backlog.store(backlog | ASLEEP, Ordering::Release);
            return backlog & !ASLEEP <= NONE_WAIT;
        }
        // AcqRel: pairs with `push`.
        if self.backlog.fetch_or(ASLEEP, Ordering::AcqRel) & !ASLEEP <= NONE_WAIT {
            return true;
        }
        self.wake_up();
        false
    }

    /// Notes that the server is awake.
    pub(crate) fn wake_up(&self) {
        self.backlog.fetch_and(!ASLEEP, Ordering::AcqRel);
    }

    /// The oldest event, which stays. For the thread that serves the queue.
    pub(super) fn front<S>(&self, guard: &Guard, gauges: &'static Gauges) -> Option<Event<S>> {
        let word = self.queue.front(guard, gauges)? as usize;
        let node = ptr::with_exposed_provenance_mut::<Node<S>>(word & !CAME);
        let node = NonNull::new(node).expect("a word is a node's address");
        Some(Event { node, came: word & CAME != 0 })
    }

    /// Removes the oldest event; returns its reference.
    ///
    /// # Safety
    ///
    /// `event` is what `front` returned last, to this thread.
    pub(super) unsafe fn done<S>(
        &self,
        event: Event<S>,
        guard: &Guard,
        gauges: &'static Gauges,
    ) -> NodeRef<S> {
        self.queue.advance(guard);
        // Relaxed: a count.
        self.backlog.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the event owned a reference, and is not met again.
        unsafe { NodeRef::from_owned(event.node, gauges) }
    }
}

impl<S> Event<S> {
    /// Whether the event says that the node came.
    pub(crate) fn came(&self) -> bool {
        self.came
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node<S> {
        // SAFETY: the event owns a reference of the node.
        unsafe { self.node.as_ref() }
    }

    /// A reference of the caller's own.
    pub(crate) fn acquire(&self, gauges: &'static Gauges) -> NodeRef<S> {
        self.node().acquire();
        // SAFETY: the count was incremented for this reference.
        unsafe { NodeRef::from_owned(self.node, gauges) }
    }
}
