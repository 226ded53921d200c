//! How many instructions do a get, a put and a take cost, and how many of them are locked? `cargo xtask instructions` compares the
//! answer with the recorded one.
//!
//! Unlike times, instructions are the same in each run, on a busy machine too. The cache is one as a
//! plain `cargo add resumption` makes it, full, with payloads of 300 bytes; a put evicts. Making the
//! payload and dropping it is included, with the system's allocator; of its instructions the locked ones
//! are not counted.

#[path = "common/callgrind.rs"]
mod callgrind;
#[path = "common/ids.rs"]
#[allow(unreachable_pub, reason = "the other benches have it in a library")]
mod ids;

use callgrind::{COUNTED, Locked, Whose, count, counted};
use ids::id;
use resumption::{Scope, SecretBytes, SessionCache, SessionId, Sessions};

const SESSIONS: u64 = 20_000;

/// Puts before anything is counted.
const BEFORE: u64 = 4 * SESSIONS;

/// Calls that are counted.
const CALLS: u64 = 10_000;

fn main() {
    if let Some(task) = callgrind::task() {
        return run(&task);
    }
    // For `cargo xtask instructions`, which reads nothing else.
    let mut known = Locked::default();
    for call in ["get", "put", "take"] {
        let counted = count(call, COUNTED, Whose::Own, &mut known);
        let each = |count: f64| count / CALLS as f64;
        let locked = counted.locked.map_or("?".to_owned(), |locked| format!("{:.1}", each(locked)));
        println!("{call} {:.0} {locked}", each(counted.instructions));
    }
}

/// What a child does: makes these calls, on a full cache.
fn run(call: &str) {
    let builder = SessionCache::builder().max_sessions(SESSIONS as usize);
    let cache = builder.build().expect("the settings are valid");
    let sessions = cache.scope(&Scope::new("bench"));
    // More than it holds, so that every shard is full and evicts, and most cells are linked.
    let stored = (0..BEFORE).filter(|number| put(&sessions, &name(*number))).count();
    assert_eq!(stored as u64, BEFORE, "a put was refused");
    let is_put = call == "put";
    let first = if is_put { BEFORE } else { BEFORE - CALLS };
    let names: Vec<_> = (first..first + CALLS).map(name).collect();
    let found = counted(|| match call {
        "get" => names.iter().filter(|name| sessions.get(name).is_some()).count(),
        "take" => names.iter().filter(|name| sessions.take(name).is_some()).count(),
        _ => names.iter().filter(|name| put(&sessions, name)).count(),
    });
    assert_eq!(found as u64, CALLS, "these sessions are the newest");
}

fn put(sessions: &Sessions, name: &SessionId) -> bool {
    sessions.put(name, SecretBytes::from(&[0x5a; 300])).is_stored()
}

fn name(number: u64) -> SessionId {
    SessionId::from(id(number))
}
