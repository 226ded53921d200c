//! Changes of settings: one at a time, and beside everything else.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Engine;
use crate::callbacks::{OnGet, OnNew, OnRemove, Slot};
use crate::settings::Settling;
use crate::shard::{ASKS, CAME, LEFT, Shard};
use crate::sync::planted;

impl<S: Send + Sync + 'static> Engine<S> {
    /// Waits for other changes of settings, and keeps them out.
    pub(crate) fn settling(&self) -> Settling<'_> {
        self.settling.take()
    }

    /// Sets or unsets the new-session callback.
    pub(crate) fn set_on_new(&self, callback: Option<Arc<OnNew<S>>>) {
        self.set_callback(&self.callbacks.new, callback);
    }

    /// Sets or unsets the remove callback.
    pub(crate) fn set_on_remove(&self, callback: Option<Arc<OnRemove<S>>>) {
        self.set_callback(&self.callbacks.remove, callback);
    }

    /// Sets or unsets the get callback.
    pub(crate) fn set_on_get(&self, callback: Option<Arc<OnGet<S>>>) {
        if callback.is_some() {
            self.before_asking();
        }
        self.set_callback(&self.callbacks.get, callback);
    }

    /// Makes sure that whoever removes a session marks the flight of its name, before anybody can ask.
    ///
    /// The bit that says so is read without an order of its own, so a removal may see it late, while a
    /// lookup that asks has not seen the session come. Both orders of this and of the leaving of the gate
    /// by the session's put: if that was first, whoever asks, and so has the callback from its slot, sees
    /// the session, or that it is gone; if this is first, the put's thread sees the bit, and if the put
    /// entered the gate after it, so does everybody who meets the session. What is left is a session
    /// that another thread removes in the middle of its put, while the callback is being set.
    fn before_asking(&self) {
        let _one = self.settling();
        self.shards.iter().for_each(Shard::set_asked);
        if !planted!("ask-without-settling") {
            self.gate.settle();
        }
    }

    /// Sets or unsets a callback, and drops the one before.
    ///
    /// Whoever reads the word that says what is told, before or after it is set here, may find the slot
    /// set or not, whatever their order. What is told goes to the callback that is in the slot then, or
    /// to nobody; what is not told is of the time before.
    fn set_callback<F: ?Sized>(&self, slot: &Slot<F>, callback: Option<Arc<F>>) {
        let one = self.settling();
        let old = slot.set(callback);
        if planted!("tells-without-the-lock") {
            drop(one);
            self.set_tells();
        } else {
            self.set_tells();
            drop(one);
        }
        // The old callback's drop is user code.
        drop(old);
        self.forget_untold();
    }

    /// Makes what is told follow from the callbacks that are set.
    fn set_tells(&self) {
        let came = if self.callbacks.new.callback().is_some() { CAME } else { 0 };
        let left = if self.callbacks.remove.callback().is_some() { LEFT } else { 0 };
        let asks = if self.callbacks.get.callback().is_some() { ASKS } else { 0 };
        self.shards.iter().for_each(|shard| shard.set_tells(came | left | asks));
    }

    /// Lets go of what waits, if nobody is there to hear of it.
    fn forget_untold(&self) {
        // Somebody else may set one meanwhile: of what comes then, no more than one of each shard is served here.
        let is_heard = || self.shards.iter().any(|shard| shard.tells().anything());
        if planted!("untold-is-kept") {
            return;
        }
        while !is_heard() && self.serve_one_each() > 0 {}
    }
}
