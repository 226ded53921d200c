//! A database that is asked without holding a thread: `cargo run --example lookup`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use resumption::{Answer, Found, Scope, SecretBytes, SessionCache, SessionId, Want};

/// How long the database takes for an answer.
const SLOW: Duration = Duration::from_millis(200);

/// Stands for a database with a client of its own for the runtime.
type Database = Mutex<HashMap<(Scope, SessionId), Vec<u8>>>;

/// Finds and deletes in one step, as a take demands.
async fn take(database: Arc<Database>, scope: Scope, id: SessionId) -> Option<Vec<u8>> {
    tokio::time::sleep(SLOW).await;
    database.lock().expect("no panic").remove(&(scope, id))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ids: Vec<_> = (0..100_u8).map(|number| SessionId::from([number; 32])).collect();
    let scope = Scope::new("web");
    let rows = ids.iter().map(|id| ((scope.clone(), *id), b"state".to_vec()));
    let database: Arc<Database> = Arc::new(Mutex::new(rows.collect()));

    let cache: SessionCache = SessionCache::builder().build()?;
    cache.set_on_get(Some(Arc::new(move |proposed| {
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        // On the runtime, so that it goes on when the lookup is dropped. It may be this one, for a lookup that is
        // awaited parks no thread of it. A TLS adapter does: see `Answer::Later`.
        let query = tokio::spawn(take(Arc::clone(&database), scope.clone(), id));
        Answer::later(async move {
            let Ok(Some(bytes)) = query.await else { return Answer::Nothing };
            let (payload, lifetime) = (SecretBytes::from(bytes), Duration::from_secs(7200));
            Answer::Give(Found::new(id, scope, payload, lifetime))
        })
    })));

    let web = cache.scope(&scope);
    let (hasty, others) = ids.split_first().expect("there are some");
    assert!(web.lookup(hasty, Want::Take).within(SLOW / 40).await.is_none());
    println!("one lookup did not wait for the database");

    // All at once, and none of them holds a thread.
    let start = Instant::now();
    let lookups: Vec<_> =
        others.iter().map(|id| tokio::spawn(web.lookup(id, Want::Take))).collect();
    let mut found = 0;
    for lookup in lookups {
        found += usize::from(lookup.await?.is_some());
    }
    println!("{found} of {} sessions found within {:?}", others.len(), start.elapsed());

    // What the database gave up for the first one is in the cache by now, or soon.
    for _ in 0..50 {
        if web.contains(hasty) {
            break;
        }
        tokio::time::sleep(SLOW).await;
    }
    let kept = web.lookup(hasty, Want::Take).await.is_some();
    println!("the first one's session was {}", if kept { "kept" } else { "lost" });
    Ok(())
}
