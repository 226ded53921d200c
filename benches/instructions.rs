//! How many instructions does a call take, beside the caches that are usually taken?
//!
//! Unlike times, instructions are the same in each run, and on a busy machine too. valgrind counts
//! them (`apt-get install valgrind`); it does so for one contestant and one load in a process of its
//! own. Making the payloads is included, making the ids is not. *locked* are the read-modify-writes among
//! them, those of the allocator and of OpenSSL's locks included.

#[path = "common/allocator.rs"]
mod allocator;
#[path = "common/callgrind.rs"]
mod callgrind;

use callgrind::{COUNTED, Locked, Whose, count, counted};
use common::args::{Args, Takes};
use common::contestants::{self, Contestant};
use common::load::{Lane, Load, Pace, play, prepare};
use common::report::{Figure, Kind, Report, Rounds, Table, grouped};
use common::rounds::{Better, times};

const ABOUT: &str =
    "Instructions of one thread: hits, misses, and put + put + take on a full cache.";

const LOADS: [(&str, Load); 3] = [("hit", Load::Hit), ("miss", Load::Miss), ("tls13", Load::Tls13)];

fn main() {
    allocator::set_up();
    if let Some(task) = callgrind::task() {
        return run(&task);
    }
    let names = contestants::names(|_| true);
    let args = Args::parse(ABOUT, [&[20_000], &[4_000]], &[Takes::Only(&names)]);
    let mut report = Report::begin(&args, ABOUT);
    if std::process::Command::new("valgrind").arg("--version").output().is_err() {
        return report.not_run("all of it", "valgrind is not installed");
    }
    for &sessions in &args.sizes {
        compare(&args, &mut report, sessions);
    }
}

fn compare(args: &Args, report: &mut Report, sessions: usize) {
    let steps = args.pick(20_000, 5_000);
    let title = format!("{} sessions, instructions a call", grouped(sessions));
    let header: Vec<&str> = [title.as_str()]
        .into_iter()
        .chain(LOADS.iter().flat_map(|(name, _)| [*name, "theirs / ours", "locked"]))
        .collect();
    let mut table = Table::new(&header);
    let mut ours = Vec::new();
    let mut known = Locked::default();
    for (place, contestant) in contestants::all().iter().enumerate() {
        if place > 0 && !args.is_wanted(contestant.name) {
            continue;
        }
        let mut row = vec![contestant.name.to_owned()];
        for (which, (name, load)) in LOADS.into_iter().enumerate() {
            if load.is_at_capacity() && contestant.kind == Kind::Unbounded {
                row.extend([String::new(), String::new(), String::new()]);
                continue;
            }
            let task = format!("{place} {which} {sessions} {steps}");
            let counted = count(&task, COUNTED, Whose::All, &mut known);
            let calls = (steps * load.calls()) as f64;
            let each = counted.instructions / calls;
            let locked = counted.locked.map_or("?".to_owned(), |all| format!("{:.1}", all / calls));
            if place == 0 {
                ours.push(each);
            }
            let ratio = of_one(report, name, sessions, contestant, [ours[which], each]);
            row.extend([format!("{each:.0}"), ratio, locked]);
        }
        table.row(&row);
    }
    report.table(&table);
}

/// How ours compare with a contestant's.
fn of_one(
    report: &mut Report,
    name: &str,
    sessions: usize,
    contestant: &Contestant,
    [ours, theirs]: [f64; 2],
) -> String {
    if contestant.name == contestants::OURS.name {
        return String::new();
    }
    let question = format!("instructions, {name}");
    let unit = "instructions a call";
    let figure = Figure { question, unit, better: Better::Less, sessions, threads: 1 };
    let (ours, theirs) = (&[ours], &[theirs]);
    let rounds = Rounds { kind: contestant.kind, ..Rounds::of(contestant.name, ours, theirs) };
    times(report.compare(&figure, rounds).ratio.median)
}

/// What a child does.
fn run(task: &str) {
    let numbers = task.split(' ').map(|number| number.parse::<usize>().expect("a number"));
    let [place, which, sessions, steps] = numbers.collect::<Vec<_>>()[..] else {
        panic!("not understood: {task}")
    };
    let (_, load) = LOADS[which];
    let cache = (contestants::all()[place].make)(load.capacity(sessions));
    let mut lane = Lane::new(0, 1, sessions);
    lane.fill(load, &*cache, 0, 1);
    let mut ops = Vec::new();
    // Until a full cache has been full for a while, and lookups have linked their cells.
    let warm = if load.is_at_capacity() { sessions / 4 } else { 4 * sessions };
    (0..warm).for_each(|_| lane.step(load, &mut ops));
    prepare(&*cache, &ops);
    play(&*cache, &ops, Pace::Rush);
    ops.clear();
    (0..steps).for_each(|_| lane.step(load, &mut ops));
    prepare(&*cache, &ops);
    counted(|| play(&*cache, &ops, Pace::Rush));
}
