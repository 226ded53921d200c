//! Clients of the server's own: real rustls clients on threads, over loopback, some of them new,
//! most of them returning with a ticket, and some with a ticket that was used before.
//!
//! It runs against any TLS server of these examples, since it knows no more than its address.

mod client;
mod histogram;
mod progress;
mod summary;
mod tickets;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use client::Client;
use progress::Progress;

use crate::run;
pub(crate) use {client::Pins, summary::Summary};

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) clients: usize,
    pub(crate) time: Duration,
    /// How many tickets all clients together keep for their returns.
    pub(crate) tickets: usize,
    pub(crate) pins: Arc<Pins>,
}

/// How often the end of the drive is looked for.
const TICK: Duration = Duration::from_millis(100);

/// Tells the clients that it is over, at the end of the scope.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Drives until the time is over or `stop` is set; the clients end what they have begun.
pub(crate) fn run(plan: &Plan, stop: &AtomicBool) -> Summary {
    let start = Instant::now();
    let summary = Mutex::new(Summary::new(plan.clients));
    let progress = Progress::new(plan.time);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Whatever happens here, the clients that run come to their ends.
        let _ends = Ends(&over);
        for number in 0..plan.clients {
            let (summary, over) = (&summary, &over);
            let client = move || Client::new(plan, number).run(summary, over);
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, client) {
                run::tell(format_args!("warning: no more than {number} clients: {error}"));
                summary.lock().unwrap().clients = number;
                break;
            }
        }
        while start.elapsed() < plan.time && !stop.load(Relaxed) {
            thread::sleep(TICK.min(plan.time.saturating_sub(start.elapsed())));
            progress.show(start.elapsed(), &summary.lock().unwrap());
        }
    });
    progress.finish();
    let mut summary = summary.into_inner().unwrap();
    summary.took = start.elapsed();
    summary
}
