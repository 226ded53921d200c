//! What is told of nodes: that they came, and that they left.
//!
//! An event is a node and a kind; what is still to be told of a node is in the node itself, so an
//! event may come twice and is told once. A shard has one queue of them, and one thread at a time
//! that serves it.
//!
//! # Order
//!
//! Of one name, the coming of a node is told before its leaving, and its leaving before the coming
//! of the next node. Names of one scope and id are one here, whether the scope was dropped between them
//! or not ([`Table::entry_akin`](super::Table::entry_akin)):
//!
//! * E1: *who takes a removed node out of the list announces it first*: the winner of its removal, or
//!   a search that meets it. A node that is out of the list has its leaving in the queue.
//! * E2: a node is linked behind no removed node of its name: an insert's search takes those out, and
//!   a replacement takes the old one out, before the coming of the new one is announced (L3).
//! * E3: a winner that found its node behind a removed one searches before it announces; the search
//!   comes to the other one first.
//! * E4: whoever serves a leaving tells the coming first, if that was not told: the put may have been
//!   stopped between its link and its announcement. Where only comings are told, a node that leaves before its own was told is
//!   announced as coming, once more.
//! * E5: a sweep announces the leaving of what it finds removed: its remover may have been stopped before it did. If that one has
//!   announced it, the sweep sees that, or does not find the node; if the sweep has, the remover sees that; if both do it at once, the
//!   event comes twice and is told once.
//!
//! # References
//!
//! Each event in the queue owns a reference of its node. A put's node is born with one for its coming.
//!
//! # What is not in the table
//!
//! A node that is told of without being linked goes the same way: a session that came and is kept
//! elsewhere, or, hollow, a name whose session has left elsewhere. Nobody searches for it, so the order
//! of its events is that of their announcements.
//!
//! Model: `loom-tests/tests/events.rs`.

use std::ptr::{self, NonNull};

use super::Table;
use super::link::ADDRESS_BITS;
use super::node::{Context, Hollow, Name, Node, NodeRef, Pinned, WithContext};
use crate::queue::{Queue, Segment};
use crate::reclaim::gauge::Gauges;
use crate::reclaim::{Guard, pin};
use crate::sync::{AtomicU64, Ordering, planted};

/// Set in the lowest bit of a coming's word; nodes are aligned to more.
const CAME: usize = 1;

/// Above the address in an event's word: bits of its node's hash, so that a search among many passes them without a
/// look at their nodes, which wait for memory.
const HASH: usize = usize::MAX << ADDRESS_BITS;

/// Where they are in a hash: not among those that choose the shard, which are the same for all of a queue.
const HASH_SHIFT: u32 = 48;

/// Set in the backlog when the thread that serves the queue sleeps.
const ASLEEP: u64 = 1 << 63;

/// The events of a table.
#[derive(Debug)]
pub(crate) struct Events {
    queue: Queue,
    /// How many events wait, and [`ASLEEP`]. An event is counted before it is pushed, and until it was
    /// served: with a count of zero the queue is empty.
    backlog: AtomicU64,
    /// How many have asked to serve since one began; zero when nobody serves.
    serving: AtomicU64,
}

/// The right to serve the events of a table, which one thread has at a time. Only it removes them.
pub(crate) struct Server<'t, S> {
    table: &'t Table<S>,
    /// How many had asked to serve when it last looked.
    asked: u64,
}

/// An event at the front of the queue.
pub(crate) struct Event<S> {
    node: NonNull<Node<S>>,
    came: bool,
}

/// The reference of an event that was served, which can be dropped and nothing else: the node may be
/// hollow.
#[must_use = "its drop is user code"]
pub(crate) struct Served<S>(#[expect(dead_code, reason = "it is there to be dropped")] NodeRef<S>);

/// A coming that has to be told now.
#[derive(Debug)]
pub(crate) struct Coming {
    /// What the put said to whoever is told.
    pub(crate) context: Option<Context>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { queue: Queue::new(), backlog: AtomicU64::new(0), serving: AtomicU64::new(0) }
    }

    /// Announces that a node came; the event takes the reference that the node was born with for it.
    pub(super) fn came<S>(&self, node: Pinned<'_, S>) {
        self.push(word_of(node.ptr(), node.node().hash()) | CAME, node.guard());
    }

    /// Announces that a node left, unless that is announced.
    pub(super) fn left<S>(&self, node: Pinned<'_, S>) {
        if node.node().is_announced() {
            return;
        }
        // Fails if the winner has given the table's reference up, which it does after it announced; and of a
        // session with all references that it can have, whose leaving is not told then.
        if node.node().try_acquire() {
            let kind = if node.node().is_told_for_coming() { CAME } else { 0 };
            self.push(word_of(node.ptr(), node.node().hash()) | kind, node.guard());
            node.node().set_announced();
        }
    }

    /// Announces that a session of a hollow node's name, which has this hash, has left elsewhere; the event takes
    /// the node's reference.
    pub(super) fn gone<S>(&self, node: Hollow<S>, hash: u64, guard: &Guard) {
        self.push(word_of(node.into_raw(), hash), guard);
    }

    /// The queue allocates a segment for each sixtieth event, under the pin: the epoch's bags do the
    /// like.
    fn push(&self, word: usize, guard: &Guard) {
        let mut spare = None;
        // Relaxed: a count. The push publishes it to whoever serves the event.
        self.backlog.fetch_add(1, Ordering::Relaxed);
        while self.queue.push(word as u64, &mut spare, guard).is_err() {
            spare = Some(Segment::new(0));
        }
    }

    /// How many events wait.
    #[inline]
    pub(crate) fn backlog(&self) -> u64 {
        // Acquire: pairs with `served`, so that who sees that nothing waits, as a close does, sees what the callbacks
        // have done. Else outdated as soon as it is read.
        self.backlog.load(Ordering::Acquire) & !ASLEEP
    }

    /// Whether the server sleeps and has to be woken by the caller, which has announced something.
    ///
    /// Race with `fall_asleep`: both change one word. If this is first, the other one sees the event
    /// in the queue; if that is first, this sees that the server sleeps.
    pub(crate) fn has_to_wake(&self) -> bool {
        if planted!("wake-by-load") && self.backlog.load(Ordering::Acquire) & ASLEEP == 0 {
            return false;
        }
        let relaxed = planted!("relaxed-wake");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::AcqRel };
        // AcqRel: Release shows the server what was pushed; and one of several wakes.
        self.backlog.fetch_and(!ASLEEP, order) & ASLEEP != 0
    }

    /// Notes that the server goes to sleep; `false` when events wait.
    pub(crate) fn fall_asleep(&self, guard: &Guard) -> bool {
        if planted!("sleep-by-load-and-store") {
            let is_empty = self.queue.is_empty(guard);
            let backlog = self.backlog.load(Ordering::Acquire);
            self.backlog.store(backlog | ASLEEP, Ordering::Release);
            return is_empty;
        }
        // AcqRel: Acquire pairs with `has_to_wake`. By the queue and not by the count: who has counted
        // may have been stopped before it pushed.
        self.backlog.fetch_or(ASLEEP, Ordering::AcqRel);
        if self.queue.is_empty(guard) {
            return true;
        }
        self.wake_up();
        false
    }

    /// Notes that the server is awake.
    pub(crate) fn wake_up(&self) {
        // AcqRel: as in `has_to_wake`.
        self.backlog.fetch_and(!ASLEEP, Ordering::AcqRel);
    }

    /// The oldest event, which stays. For the server.
    fn front<S>(&self, guard: &Guard, gauges: &'static Gauges) -> Option<Event<S>> {
        let word = self.queue.front(guard, gauges)? as usize;
        Some(Event { node: node_of(word), came: word & CAME != 0 })
    }

    /// Whether the leaving of a node akin to `name` is in the queue. It is until it was told.
    ///
    /// Looks at the words of all that waits, if it is not there.
    pub(super) fn has_left<S>(&self, name: &Name, guard: &Guard) -> bool {
        let wanted = bits_of(name.hash);
        self.queue.any(guard, |word| {
            let word = word as usize;
            if word & (CAME | HASH) != wanted {
                return false;
            }
            // SAFETY: P1: the event was in the queue while the guard lived, and owned a reference then.
            unsafe { Pinned::<S>::new(node_of(word), guard) }.node().is_akin(name)
        })
    }

    /// Counts events that were served.
    pub(crate) fn served(&self, count: usize) {
        // Release: pairs with `backlog`; others only change the word by read-modify-writes, which keep this in their release
        // sequence. Before `fall_asleep` by the same thread.
        self.backlog.fetch_sub(count as u64, Ordering::Release);
    }
}

impl<'t, S> Server<'t, S> {
    /// The server of a table; `None` when another thread is. Who is told that may go away: the one who serves sees
    /// that it asked.
    pub(super) fn begin(table: &'t Table<S>) -> Option<Self> {
        // AcqRel: Acquire pairs with `end`, so that a server goes on where the last one ended;
        // Release shows the server the event that this thread has announced.
        let asked = table.list.events.serving.fetch_add(1, Ordering::AcqRel);
        (asked == 0).then_some(Self { table, asked: 1 })
    }

    /// The server of a table that no other thread has any more.
    pub(super) fn of_exclusive(table: &'t mut Table<S>) -> Self {
        Self { table, asked: 1 }
    }

    /// Shows `tell` the oldest event, under no pin, and then removes it. Returns its reference, to be dropped under no
    /// pin, too; the caller counts it as served. `None` when there is no event.
    pub(crate) fn next(&mut self, tell: impl FnOnce(&Event<S>)) -> Option<Served<S>> {
        let (events, gauges) = (&self.table.list.events, self.table.gauges);
        let event = events.front(&pin(), gauges)?;
        tell(&event);
        events.queue.advance(&pin());
        // SAFETY: the event owned a reference. It was at the front still, for only the server removes events; so it is
        // met once.
        Some(Served(unsafe { NodeRef::from_owned(event.node, gauges) }))
    }

    /// Ends serving, unless others have asked since: then it goes on, and is told how many.
    ///
    /// Race with `begin`: both change one word. If the other one's asking is first, this fails
    /// and its event is served; if this is first, the other one serves.
    pub(crate) fn end(self) -> Option<(Self, u64)> {
        let serving = &self.table.list.events.serving;
        if planted!("end-serving-by-store") {
            serving.store(0, Ordering::Release);
            return None;
        }
        // AcqRel, Acquire: as in `begin`.
        let ended = serving.compare_exchange(self.asked, 0, Ordering::AcqRel, Ordering::Acquire);
        ended.err().map(|asked| (Self { asked, ..self }, asked - self.asked))
    }
}

/// The word of a node's leaving.
fn word_of<S>(node: NonNull<Node<S>>, hash: u64) -> usize {
    const { assert!(align_of::<Node<S>>() > CAME) };
    let address = node.as_ptr().expose_provenance();
    assert!(address >> ADDRESS_BITS == 0, "an address of user space");
    address | bits_of(hash)
}

/// The bits of a hash that an event's word has.
fn bits_of(hash: u64) -> usize {
    ((hash >> HASH_SHIFT) as usize) << ADDRESS_BITS
}

/// The node of an event's word.
fn node_of<S>(word: usize) -> NonNull<Node<S>> {
    let node = ptr::with_exposed_provenance_mut::<Node<S>>(word & !(CAME | HASH));
    NonNull::new(node).expect("a word is a node's address")
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

    /// The node's coming, if that has to be told now, by the caller.
    pub(crate) fn tell_came(&self) -> Option<Coming> {
        let node = self.node();
        if !node.tell_came() {
            return None;
        }
        // SAFETY: N6: the one thread that tells the coming; the event owns a reference.
        let context = node.has_context().then(|| unsafe { WithContext::take(self.node) });
        Some(Coming { context: context.flatten() })
    }

    /// A reference of the caller's own; `None` if there is no session behind it, but a name alone.
    pub(crate) fn acquire(&self, gauges: &'static Gauges) -> Option<NodeRef<S>> {
        if self.node().is_hollow() {
            return None;
        }
        self.node().acquire();
        // SAFETY: the count was incremented for this reference.
        Some(unsafe { NodeRef::from_owned(self.node, gauges) })
    }
}
