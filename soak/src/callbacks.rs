//! The callbacks of a round: they write the ledger, and are slow, panic, reject, keep handles and use
//! the cache, as the plan says.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use resumption::{
    Answer, Found, NewSession, OnGet, OnNew, OnRemove, Proposed, RemovedSession, Session, Verdict,
};

use crate::ledger::{CAME, GIVEN, LEFT, SHARED};
use crate::payload::{Payload, Watch};
use crate::plan::{AskPlan, CallbackPlan, MOST_WEIGHT, SCOPES, chance};
use crate::support::{id, number};

/// Handles that callbacks keep at a time, at most.
const MOST_KEPT: usize = 64;

/// A new callback; each call makes another one that does the same.
pub(crate) fn on_new(watch: &Arc<Watch>, plan: CallbackPlan) -> Arc<OnNew<Payload>> {
    let watch = Arc::clone(watch);
    Arc::new(move |new: NewSession<Payload>| {
        let payload = new.session().payload();
        if new.context::<u32>().is_some_and(|&serial| serial != payload.serial) {
            watch.ledger.fail(format!("{payload:?} was told with the context of another"));
        }
        watch.ledger.note_once(payload.serial, CAME, "told as new");
        if !watch.plan.internal_modes {
            watch.ledger.came(payload.name, payload.serial);
        }
        behave(&watch, plan, new.session());
        if chance(&mut watch.dice(), plan.rejects) { Verdict::Reject } else { Verdict::Keep }
    })
}

pub(crate) fn on_remove(watch: &Arc<Watch>, plan: CallbackPlan) -> Arc<OnRemove<Payload>> {
    let watch = Arc::clone(watch);
    Arc::new(move |removed: RemovedSession<Payload>| {
        let Some(session) = removed.session() else {
            if !watch.plan.internal_modes && watch.plan.asks.is_none() {
                watch.ledger.fail(format!("{:?} was told as removed by its id", removed.id()));
            }
            return;
        };
        let payload = session.payload();
        let fate = watch.ledger.note_once(payload.serial, LEFT, "told as removed");
        if !watch.plan.internal_modes {
            watch.ledger.left(payload.name, payload.serial, fate & GIVEN != 0);
        }
        behave(&watch, plan, session);
    })
}

fn behave(watch: &Arc<Watch>, plan: CallbackPlan, session: &Session<Payload>) {
    let dice = &mut watch.dice();
    if chance(dice, plan.slow) {
        std::thread::sleep(plan.slowness);
    }
    if chance(dice, plan.keeps) {
        let held = watch.outside(1).keep(session.clone());
        let mut kept = watch.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(held);
        let oldest = (kept.len() > MOST_KEPT).then(|| kept.remove(0));
        drop(kept);
        drop(oldest);
    }
    if chance(dice, plan.uses)
        && let Some(web) = watch.scope(dice.below(u64::from(SCOPES)) as usize)
    {
        let _outside = watch.outside(1);
        let key = dice.below(u64::from(watch.plan.keys));
        let _ = catch_unwind(AssertUnwindSafe(|| {
            drop(web.get(&id(key)));
            drop(web.take(&id(key)).inspect(|session| watch.took(session)));
        }));
    }
    if chance(dice, plan.panics) {
        watch.panic();
    }
}

/// A get callback that has nothing, gives, shares what callbacks keep, or answers later or never.
pub(crate) fn on_get(watch: &Arc<Watch>, plan: AskPlan) -> Arc<OnGet<Payload>> {
    let watch = Arc::clone(watch);
    Arc::new(move |proposed: &Proposed<'_>| {
        let dice = &mut watch.dice();
        match dice.below(8) {
            0 if plan.shares => share(&watch),
            1 | 2 => give(&watch, proposed),
            3 | 4 if plan.later => later(&watch, proposed),
            5 if chance(dice, 10) => watch.panic(),
            _ => Answer::Nothing,
        }
    })
}

/// Some session that is kept; mostly not the one that is asked for, which the cache has to notice.
fn share(watch: &Watch) -> Answer<Payload> {
    let kept = watch.kept.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.last() {
        None => Answer::Nothing,
        Some(held) => {
            watch.ledger.note(held.session.payload().serial, SHARED);
            Answer::Share(held.session.clone())
        }
    }
}

fn give(watch: &Arc<Watch>, proposed: &Proposed<'_>) -> Answer<Payload> {
    match found(watch, proposed) {
        None => Answer::Nothing,
        Some(found) => Answer::Give(found),
    }
}

fn found(watch: &Arc<Watch>, proposed: &Proposed<'_>) -> Option<Found<Payload>> {
    let dice = &mut watch.dice();
    let scope = proposed.scope().clone();
    let at = scope.name().parse::<u32>().ok()?;
    let name = at * watch.plan.keys + number(proposed.id()) as u32;
    let payload = Payload::given(watch, name, dice.below(u64::from(MOST_WEIGHT)) as u32)?;
    let lifetime = Duration::from_millis(dice.below(100_000));
    Some(Found::new(*proposed.id(), scope, payload, lifetime))
}

/// Ready at the second look or later; one in four never is.
fn later(watch: &Arc<Watch>, proposed: &Proposed<'_>) -> Answer<Payload> {
    let dice = &mut watch.dice();
    let (never, mut looks) = (chance(dice, 4), 1 + dice.below(3));
    let Some(found) = found(watch, proposed) else { return Answer::Nothing };
    let watch = Arc::clone(watch);
    let waits = poll_fn(move |cx| {
        if looks == 0 {
            return Poll::Ready(());
        }
        looks -= u64::from(!never);
        let mut wakers = watch.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.push(cx.waker().clone());
        Poll::Pending
    });
    Answer::later(async move {
        waits.await;
        Answer::Give(found)
    })
}
