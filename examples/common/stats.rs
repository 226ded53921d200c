//! The statistics of a cache as JSON, field by field under the names they have in `Stats`.

use resumption::Stats;
use serde_json::{Value, json};

pub(crate) fn json(stats: &Stats) -> Value {
    json!({
        "sessions": stats.sessions,
        "bytes": stats.bytes,
        "max_sessions": stats.max_sessions,
        "max_bytes": stats.max_bytes,
        "puts": stats.puts,
        "replaced": stats.replaced,
        "refused": stats.refused,
        "handed_over": stats.handed_over,
        "hits": stats.hits,
        "takes": stats.takes,
        "misses": stats.misses(),
        "misses_unknown": stats.misses_unknown,
        "misses_expired": stats.misses_expired,
        "misses_malformed": stats.misses_malformed,
        "approx_misses_taken_before": stats.approx_misses_taken_before,
        "approx_misses_evicted_before": stats.approx_misses_evicted_before,
        "removals": removals(stats),
        "headers_waiting": stats.headers_waiting,
        "region_bytes": stats.region_bytes,
        "held_sessions": stats.held_sessions,
        "held_bytes": stats.held_bytes,
        "mean_age_at_eviction_ms":
            stats.mean_age_at_eviction.map(|age| u64::try_from(age.as_millis()).ok()),
        "hints": stats.hints,
        "callbacks_waiting": stats.callbacks_waiting,
        "new_called": stats.new_called,
        "remove_called": stats.remove_called,
        "get_called": stats.get_called,
        "get_answered": stats.get_answered,
        "get_timed_out": stats.get_timed_out,
        "callbacks_panicked": stats.callbacks_panicked,
    })
}

fn removals(stats: &Stats) -> Value {
    let removals = &stats.removals;
    json!({
        "expired": removals.expired,
        "evicted": removals.evicted,
        "replaced": removals.replaced,
        "removed": removals.removed,
        "faulty": removals.faulty,
        "taken": removals.taken,
        "flushed": removals.flushed,
        "scope_dropped": removals.scope_dropped,
        "rejected": removals.rejected,
        "closed": removals.closed,
    })
}
