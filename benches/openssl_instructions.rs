//! How many instructions do a server's part of a resumed handshake and an add take, with OpenSSL's own
//! cache and with ours?
//!
//! Unlike times, instructions are the same in each run, and on a busy machine too. They do not show
//! what waits for memory or for locks: `openssl_handshakes` and `openssl_adds` do.

#[path = "common/callgrind.rs"]
#[allow(dead_code, reason = "what is counted here is the server's work")]
mod callgrind;
#[path = "common/openssl_servers.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod openssl_servers;
#[path = "../tests/common/openssl.rs"]
#[allow(dead_code, reason = "made for tests, of which each uses a part, too")]
mod peers;

use callgrind::{Locked, Whose};
use common::args::Args;
use common::ids::id;
use common::report::{Report, Table};
use openssl_servers::{LIFETIME, Master, Returning, Server, at_work};
use peers::{TLS12, TLS13};
use resumption::SessionCache;

const ABOUT: &str =
    "OpenSSL servers: instructions of a resumed handshake, the server's part, and of an add.";

/// What is counted of a child: the server's work.
const COUNTED: &str = "*at_work*";

fn main() {
    if let Some(task) = callgrind::task() {
        return run(&task);
    }
    let args = Args::parse(ABOUT, [&[10_000], &[100]], &[]);
    let mut report = Report::begin(&args, ABOUT);
    report.note(openssl::version::version());
    let steps = args.pick(400, 40);
    for &sessions in &args.sizes {
        let mut table = Table::new(&[
            &format!("{sessions} sessions"),
            "OpenSSL",
            "ours",
            "more",
            "ours / OpenSSL",
        ]);
        for load in ["TLS-1.2", "TLS-1.3", "add"] {
            let [own, ours] = ["own", "ours"].map(|whose| count(whose, load, sessions, steps));
            table.row(&[
                load.to_owned(),
                format!("{own:.0}"),
                format!("{ours:.0}"),
                format!("{:.0}", ours - own),
                format!("{:.3}", ours / own),
            ]);
        }
        report.table(&table);
    }
}

/// Instructions of a step. The difference of two runs: what only the first steps have to do, which find
/// OpenSSL's algorithms for instance, is in both.
fn count(whose: &str, load: &str, sessions: usize, steps: u64) -> f64 {
    let [some, more] = [1, 2].map(|times| {
        let child = format!("{whose} {load} {sessions} {}", times * steps);
        callgrind::count(&child, COUNTED, Whose::All, &mut Locked::default()).instructions
    });
    (more - some) / steps as f64
}

/// What a child does.
fn run(child: &str) {
    let [whose, load, sessions, steps] = child.split(' ').collect::<Vec<_>>()[..] else {
        panic!("not understood: {child}")
    };
    let sessions: u64 = sessions.parse().expect("a number");
    let steps: u64 = steps.parse().expect("a number");
    // Room to spare, as in `openssl_handshakes`.
    let max = 2 * (sessions + steps) as usize;
    let server = if whose == "own" {
        Server::own(max)
    } else {
        let cache = SessionCache::builder().max_sessions(max).lifetime(LIFETIME).build();
        Server::ours(cache.expect("the settings are valid"))
    };
    let version = if load == "TLS-1.2" { TLS12 } else { TLS13 };
    let master = Master::new(&server, version);
    for number in 0..sessions {
        server.add(&master.for_server(&id(number)), LIFETIME);
    }
    if load == "add" {
        let made: Vec<_> =
            (sessions..sessions + steps).map(|number| master.for_server(&id(number))).collect();
        return at_work(|| made.iter().for_each(|session| server.add(session, LIFETIME)));
    }
    let mut returning = Returning::new(version, (0..sessions).map(id));
    for offer in returning.offers(steps as usize, &master) {
        returning.visit(&server, &offer);
    }
}
