//! Sessions that the drop of a scope has left behind, and those that come after them.
//!
//! The drop gives a scope another slot, which makes all its sessions unfindable, and then sweeps. What
//! the sweep has not reached is *outdated*: of an older slot of its scope. The scope's number is hashed,
//! not its slot, so all names of one scope and id meet in one place of one table.
//!
//! * O1: *of one scope and id one session is live at most*, whatever the slots. A put that meets an
//!   outdated session takes its place, in one step, and that one leaves because its scope was dropped. A
//!   put that meets one of a newer slot is late itself: it follows to that slot.
//! * O2: so the order of events (`table/events.rs`) is one for a scope and an id, over every drop.
//! * O3: nothing is removed as outdated but what has an older slot of the very same scope: the slots of a
//!   scope only grow. That two scopes' hashes are equal costs nothing but a look at the registry.
//!
//! # Races, both orders
//!
//! * Sweep and put, at an outdated session: both change that session's word. If the sweep is first, the
//!   put's search announces the session and takes it out before its own is linked; if the put is first,
//!   the sweep finds the session gone.
//! * A late put, which has read the slot before the drop, and one of the new slot: both change one word,
//!   which leads to the other or to the place of both. If the late one is first, the other finds it
//!   outdated; if it is second, it finds the other one newer, and is stored under that slot: the drop came
//!   while it was under way, so it may as well have come after the drop.
//! * A late put and the sweep: as in `gate.rs`. If the put has left the gate before the drop settles, the
//!   sweep sees its session; otherwise the put sees another slot and removes what is outdated itself.
//! * A late put and a lookup that asks the get callback: if the put is first, the lookup removes its
//!   session, finds that leaving, and does not ask; if the lookup looks first, the put is of the time
//!   in which it asks, and whoever removes the session marks the flight (`flight.rs`): flights of an older
//!   and of a newer slot alike.
//!
//! Models: `loom-tests/tests/scope.rs`; `unlinked.rs` for what is handed over, and `flights.rs` for a lookup that
//! asks.

#![forbid(unsafe_code)]

use super::Engine;
use crate::expiry::Due;
use crate::reclaim::{Guard, pin};
use crate::shard::reason_of;
use crate::stats::Reason;
use crate::sync::planted;
use crate::table::{Entry, Name, NewNode, Node, Spot, Table};

impl<S: Send + Sync + 'static> Engine<S> {
    /// The place of a new session, or the live session of its scope and id, whatever slot that has.
    #[inline(always)]
    pub(super) fn entry<'g>(
        &'g self,
        table: &'g Table<S>,
        new: &Node<S>,
        spot: Spot<'g>,
        guard: &'g Guard,
    ) -> Entry<'g, S> {
        table.entry_akin(new, spot, guard, |slot| {
            if slot < new.scope() && planted!("beside-the-outdated") {
                return false;
            }
            if slot > new.scope() && planted!("beside-the-newer") {
                return false;
            }
            self.scopes.is_one_scope(slot, new.scope())
        })
    }

    /// Lets a late session follow to the slot of the newer one at its place. `false` for one that was
    /// asked for before the drop, which has no place in what came after it.
    #[inline]
    pub(super) fn follow(entry: &Entry<'_, S>, late: &mut NewNode<S>) -> bool {
        let Some(newer) = entry.scope().filter(|&slot| slot > late.node().scope()) else {
            return true;
        };
        if Due::load(late.node().expiry()).is_provisional() {
            return false;
        }
        if !planted!("late-put-stays-behind") {
            late.follow_scope(newer);
        }
        true
    }

    /// Removes the session of a name's scope and id that is of an older slot, if there is one. The caller
    /// delivers.
    #[cold]
    pub(super) fn remove_outdated(&self, name: &Name) {
        let shard = self.shards.of(name.hash);
        loop {
            let guard = pin();
            let outdated = shard.table.find_akin(name, &guard, |node| {
                node.scope() < name.scope && self.scopes.is_one_scope(node.scope(), name.scope)
            });
            let Some(outdated) = outdated else { return };
            shard.before_removal(outdated.node());
            let tell = shard.tell(outdated.node(), Reason::ScopeDropped);
            let unlinked = shard.table.remove(outdated, tell);
            // Fails only if another thread has removed it: then there may be a later one.
            let Some(unlinked) = unlinked else { continue };
            let reason = reason_of(unlinked.node(), Reason::ScopeDropped);
            drop(guard);
            drop(self.left(self.lanes.mine(), unlinked, reason));
            self.compact_after();
        }
    }

    /// Whether the leaving of a session of a name's scope and id is still to be told; also of one that
    /// the sweep of a dropped scope has not reached.
    pub(super) fn is_leaving(&self, name: &Name) -> bool {
        self.remove_outdated(name);
        self.shards[self.shard_of(name)].is_leaving(name)
    }
}
