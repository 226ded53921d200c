//! How many instructions does a call take, beside the caches that are usually taken?
//!
//! Unlike times, instructions are the same in each run, and on a busy machine too. valgrind counts
//! them (`apt-get install valgrind`), for one contender and one load in a process of its own. Making
//! the ids is included, some 40 instructions for each, and so is making the payloads.

#[path = "common/args.rs"]
mod args;
#[path = "common/caches.rs"]
mod caches;
#[path = "common/callgrind.rs"]
mod callgrind;
#[path = "common/honest.rs"]
mod honest;
#[path = "common/ids.rs"]
mod ids;
#[path = "common/load.rs"]
mod load;
#[path = "common/report.rs"]
mod report;

use args::Args;
use caches::CONTENDERS;
use load::Stream;
use report::{Table, machine};

const ABOUT: &str = "Instructions of one thread: hits, and put + put + take on a full cache.";

/// Set for a child: the contender's place in the list, the load, the number of sessions, and how many
/// steps are counted.
const CHILD: &str = "RESUMPTION_BENCH_INSTRUCTIONS";

/// What is counted of a child: this function, with all that it calls.
const COUNTED: &str = "instructions::counted";

fn main() {
    if let Ok(child) = std::env::var(CHILD) {
        return run(&child);
    }
    let args = Args::parse(ABOUT, [&[10_000, 1_000_000], &[10_000]]);
    println!("{ABOUT}\n{}\n", machine());
    let steps = args.pick(20_000, 5_000);
    for &sessions in &args.sizes {
        let mut table = Table::new(&[
            &format!("{sessions} sessions"),
            "hit",
            "put + put + take",
            "of the first",
        ]);
        let mut first = None;
        for (place, contender) in CONTENDERS.iter().enumerate() {
            // Who does not wipe does another thing.
            if !contender.name.contains("wipes") {
                continue;
            }
            let [hit, churn] = ["hit", "churn"].map(|load| count(place, load, sessions, steps));
            let [first_hit, first_churn] = *first.get_or_insert([hit, churn]);
            table.row(&[
                contender.name.to_owned(),
                format!("{hit:.0}"),
                format!("{churn:.0}"),
                format!("{:.2}, {:.2}", hit / first_hit, churn / first_churn),
            ]);
        }
        table.print();
    }
}

/// Instructions of a step, as valgrind counts them.
fn count(place: usize, load: &str, sessions: usize, steps: u64) -> f64 {
    let child = format!("{place} {load} {sessions} {steps}");
    callgrind::instructions(CHILD, &child, COUNTED) / steps as f64
}

/// What a child does.
fn run(child: &str) {
    let [place, load, sessions, steps] = child.split(' ').collect::<Vec<_>>()[..] else {
        panic!("not understood: {child}")
    };
    let place: usize = place.parse().expect("a place");
    let sessions: usize = sessions.parse().expect("a number");
    let steps = steps.parse().expect("a number");
    let mut stream = Stream::new(0, 1, sessions);
    if load == "hit" {
        // Room to spare, as in `single_thread`.
        let cache = (CONTENDERS[place].make)(sessions + sessions / 4);
        stream.fill(&*cache, sessions as u64);
        counted(|| stream.hit(&*cache, sessions as u64, steps, false));
        assert!(cache.len() >= sessions, "the cache has room for all");
    } else {
        let cache = (CONTENDERS[place].make)(sessions);
        stream.churn(&*cache, sessions as u64 * 3 / 2);
        counted(|| stream.churn(&*cache, steps));
        // Caches that round up their size, and none that was not full.
        assert!(cache.len() > sessions / 2, "the cache is full");
    }
}

#[inline(never)]
fn counted(run: impl FnOnce() -> f64) {
    std::hint::black_box(run());
}
