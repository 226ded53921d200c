//! Those who turn the knobs: limits, lifetimes, callbacks, modes, and the clock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use resumption::{CacheMode, Clock, SessionCache};

use crate::bounds::{Limits, NONE};
use crate::callbacks::{on_get, on_new, on_remove};
use crate::payload::{Payload, Watch};
use crate::plan::pick;
use crate::support::Random;

/// Attempts at a change that payloads' drops end by a panic, one each.
const ATTEMPTS: usize = 100_000;

/// Changes one setting.
pub(crate) fn turn(
    watch: &Arc<Watch>,
    cache: &SessionCache<Payload>,
    limits: &Limits,
    dice: &mut Random,
) {
    let plan = &watch.plan;
    match dice.below(8) {
        0..=2 if plan.limits_change => {
            let to = pick(dice, &[0, 1, 5, 100, 3_000, 50_000, NONE]);
            limits.change(false, to, || insist(watch, || cache.set_max_sessions(to as usize)));
        }
        3..=4 if plan.limits_change => {
            let to = pick(dice, &[2_000, 20_000, 1 << 20, NONE]);
            limits.change(true, to, || insist(watch, || cache.set_max_bytes(to as usize)));
        }
        5 => cache.set_lifetime(plan.any_lifetime(dice)),
        // Another one that does the same, in one step: nothing is told to nobody.
        6 => insist(watch, || set_callbacks(watch, cache)),
        _ if plan.modes => {
            let mode = any_mode(dice, plan.internal_modes);
            insist(watch, || _ = cache.set_mode(mode));
        }
        _ => {}
    }
}

/// Sets the callbacks of the plan.
pub(crate) fn set_callbacks(watch: &Arc<Watch>, cache: &SessionCache<Payload>) {
    if let Some(plan) = watch.plan.callbacks {
        let set = cache
            .set_on_new(Some(on_new(watch, plan)))
            .and_then(|()| cache.set_on_remove(Some(on_remove(watch, plan))));
        if let Err(error) = set {
            watch.ledger.fail(format!("no thread for callbacks: {error}"));
        }
    }
    if let Some(plan) = watch.plan.asks {
        cache.set_on_get(Some(on_get(watch, plan)));
    }
}

fn any_mode(dice: &mut Random, internal: bool) -> CacheMode {
    let sides =
        pick(dice, &[CacheMode::SERVER, CacheMode::SERVER, CacheMode::BOTH, CacheMode::OFF]);
    let more = [CacheMode::NO_AUTO_CLEAR, CacheMode::UPDATE_TIME];
    let inside = [CacheMode::NO_INTERNAL_LOOKUP, CacheMode::NO_INTERNAL_STORE];
    let flags = more.into_iter().chain(inside.into_iter().filter(|_| internal));
    flags.fold(sides, |mode, flag| if dice.below(3) == 0 { mode | flag } else { mode })
}

/// Does something until no payload's drop ends it by a panic.
pub(crate) fn insist(watch: &Watch, mut what: impl FnMut()) {
    for _ in 0..ATTEMPTS {
        if catch_unwind(AssertUnwindSafe(&mut what)).is_ok() {
            return;
        }
    }
    watch.ledger.fail(format!("a call has not ended well in {ATTEMPTS} attempts"));
}

/// Lets a manual clock go on a bit, jump far ahead, or stand still for a while. It cannot go back: there
/// is no way to tell it so, and no clock of the user's own.
pub(crate) fn tick(watch: &Watch, clock: &Clock, dice: &mut Random) {
    let by = match dice.below(40) {
        0 => Duration::from_secs(30 * 24 * 3600),
        1..=2 => Duration::from_secs(dice.below(7_200)),
        3..=10 => Duration::from_millis(dice.below(1_000)),
        11 => {
            std::thread::sleep(Duration::from_millis(100));
            Duration::ZERO
        }
        _ => Duration::from_millis(dice.below(20)),
    };
    clock.advance(by);
    // After the clock: what this says has passed.
    watch.advanced.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
}
