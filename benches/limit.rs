//! How far from the machine is a hit?
//!
//! A hit cannot take less than two loads, of which the second needs what the first has brought: an
//! entry of one line, and the payload that it points to. Both are somewhere in as much memory as the
//! sessions take. And who reads memory that others free has to pin it. That is the limit here: one
//! array of lines, one of payloads, and a pin of crossbeam-epoch that nobody contends for.

#[path = "common/allocator.rs"]
mod allocator;

use common::contestants::honest::Id;
use common::contestants::{Cache, Contestant, OURS};
use common::load::{Load, PAYLOAD};
use common::paired::{self, Question, ask};
use common::report::{Kind, Report};
use crossbeam_epoch as epoch;

const ABOUT: &str = "Hits against two dependent loads of the same memory, and a pin.";

const LIMIT: Contestant = Contestant {
    name: "two loads and a pin",
    kind: Kind::Limit,
    set_up: ["exact", "none", "none", "none", "none"],
    len: "",
    bytes: 400,
    make: |max| Box::new(Arrays::new(max)),
};

const PIN: Contestant = Contestant {
    name: "a pin alone",
    kind: Kind::Limit,
    set_up: ["none", "none", "none", "none", "none"],
    len: "it holds nothing",
    bytes: 0,
    make: |_| Box::new(Pin),
};

fn main() {
    allocator::set_up();
    let sizes: [&[usize]; 2] = [&[20_000, 1_000_000], &[20_000, 1_000_000]];
    let contestants = [OURS, LIMIT, PIN];
    let args = paired::args(ABOUT, sizes, &contestants);
    let mut report = Report::begin(&args, ABOUT);
    let questions = [
        Question { name: "hit against the limit", load: Load::HitChained, is_threaded: false },
        Question { name: "hit against the limit, in a rush", load: Load::Hit, is_threaded: true },
    ];
    ask(&args, &mut report, &questions, &contestants);
}

/// An entry: a line with the place of a payload in it.
#[repr(align(64))]
struct Entry(u64);

/// Entries and payloads as they would be if an id told where they are.
struct Arrays {
    entries: Vec<Entry>,
    payloads: Vec<[u8; PAYLOAD.len()]>,
}

impl Arrays {
    fn new(sessions: usize) -> Self {
        // A prime, so that each entry has a payload of its own, far from those of its neighbours.
        let place = |entry: u64| entry * 2_654_435_761 % sessions as u64;
        Self {
            entries: (0..sessions as u64).map(|entry| Entry(place(entry))).collect(),
            payloads: vec![PAYLOAD; sessions],
        }
    }
}

impl Cache for Arrays {
    fn put(&self, _: &Id, _: &[u8]) {}

    fn get(&self, id: &Id) -> Option<u8> {
        let _guard = epoch::pin();
        let (random, _) = id.split_first_chunk().expect("an id has 32 bytes");
        let random = u128::from(u64::from_le_bytes(*random));
        let entry = &self.entries[((random * self.entries.len() as u128) >> 64) as usize];
        Some(self.payloads[entry.0 as usize][0])
    }

    fn take(&self, _: &Id) -> Option<u8> {
        None
    }

    fn count(&self) -> Option<usize> {
        // As many as were asked for: the room to spare is as large as the caches'.
        Some(self.entries.len() * 4 / 5)
    }
}

struct Pin;

impl Cache for Pin {
    fn put(&self, _: &Id, _: &[u8]) {}

    fn get(&self, _: &Id) -> Option<u8> {
        let _guard = epoch::pin();
        Some(PAYLOAD[0])
    }

    fn take(&self, _: &Id) -> Option<u8> {
        None
    }

    fn count(&self) -> Option<usize> {
        None
    }
}
