//! What is done to the caches, the same for all of them.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

use super::contestants::Cache;
use super::contestants::honest::Id;
use super::ids::{id, mix};

/// The payload of every session.
pub static PAYLOAD: [u8; 300] = [0x5a; 300];

/// Hostile lookups beside each connection of the flood: four of five connections are hostile.
const HOSTILE: usize = 4;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Random lookups of sessions that are there.
    Hit,
    /// The same, each of which waits for the payload of the one before.
    HitChained,
    /// The same, by the call for many, where there is one.
    HitMany,
    /// Lookups of ids that nobody put.
    Miss,
    /// What TLS 1.3 does to a full store: each connection puts two tickets, and some time later one of
    /// them is taken. The other one stays until it is evicted.
    Tls13,
    /// What TLS 1.2 does to a full store: clients come back, some much more often than others (Zipf,
    /// 0.9), and get their session. One connection of ten is a full handshake of any client, whose new
    /// session is put; the old one stays until it is evicted.
    Tls12,
    /// `Tls13`, and four takes of random ids beside each connection.
    Flood,
    /// Everybody gets the same session.
    Hot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Put,
    Get,
    Take,
}

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A processor may begin the next one while it waits for memory.
    Rush,
    /// Each waits for the payload before, as if something else came in between: the time is then what one
    /// lookup takes, not how many overlap.
    OneByOne,
    /// Gets are handed over [`TOGETHER`] at a time.
    Many,
}

/// Of so many calls of `Tls12` one is a put.
pub const TLS12_CALLS_PER_PUT: usize = 10;

/// Gets that are handed over at a time.
pub const TOGETHER: usize = 16;

/// One call to be made.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub call: Call,
    pub id: Id,
}

impl Load {
    /// Whether the cache is kept at its capacity, so that puts evict.
    pub fn is_at_capacity(self) -> bool {
        matches!(self, Self::Tls13 | Self::Tls12 | Self::Flood)
    }

    /// The capacity that is asked for: room to spare where nothing is to be evicted, so that also
    /// caches of small parts keep them all.
    pub fn capacity(self, sessions: usize) -> usize {
        if self.is_at_capacity() { sessions } else { sessions + sessions / 4 }
    }

    /// How its calls follow each other.
    pub fn pace(self) -> Pace {
        match self {
            Self::HitChained => Pace::OneByOne,
            Self::HitMany => Pace::Many,
            _ => Pace::Rush,
        }
    }

    /// Whether what it asks is how long it takes to get at a payload.
    pub fn is_about_payloads(self) -> bool {
        matches!(self, Self::HitChained | Self::Hot)
    }

    /// Calls of one step.
    pub fn calls(self) -> usize {
        match self {
            Self::Tls13 => 3,
            Self::Flood => 3 + HOSTILE,
            _ => 1,
        }
    }
}

/// A steady stream of work on one cache. Sessions are a lane's own, but for the hot one; a thread has
/// one lane or several in turn.
pub struct Lane {
    /// Above all numbers of this lane.
    base: u64,
    /// Sessions of this lane in a full cache.
    share: u64,
    /// Connections made.
    step: u64,
    /// A ticket is taken between one and twice so many connections after it was put, out of order.
    delay: u64,
    random: u64,
    /// How often each client has made a full handshake (`Tls12`).
    clients: Vec<u32>,
    /// Of so many calls one is a put (`Tls12`).
    calls_per_put: u64,
    zipf: Zipf<f64>,
    rng: SmallRng,
}

impl Lane {
    /// Lane number `lane` of `lanes` on a cache of `sessions`.
    pub fn new(lane: usize, lanes: usize, sessions: usize) -> Self {
        let share = (sessions / lanes).max(1);
        let delay = (share / 8).max(2);
        Self {
            base: (lane as u64) << 40,
            share: share as u64,
            step: 0,
            delay: 1 << delay.ilog2(),
            random: mix(lane as u64),
            clients: vec![0; share],
            calls_per_put: TLS12_CALLS_PER_PUT as u64,
            zipf: Zipf::new(share as f64, 0.9).expect("the numbers are valid"),
            rng: SmallRng::seed_from_u64(lane as u64),
        }
    }

    /// Makes one part of several of the puts that fill a cache. One that is to evict from the first
    /// put on gets more than it can hold, so that also its last shard is full.
    pub fn fill(&mut self, load: Load, cache: &dyn Cache, part: u64, parts: u64) {
        let is_crowded = matches!(load, Load::Tls13 | Load::Flood);
        let count = if is_crowded { self.share * 5 / 4 } else { self.share };
        let mut ops = Vec::new();
        let end = count * (part + 1) / parts;
        for number in count * part / parts..end {
            ops.push(Op { call: Call::Put, id: id(self.base + number) });
            if ops.len() == 1_000 || number + 1 == end {
                prepare(cache, &ops);
                play(cache, &ops, Pace::Rush);
                ops.clear();
            }
        }
        if load == Load::Hot {
            // A cache that is not exact may have let go of it.
            let hot = [Op { call: Call::Put, id: id(0) }];
            prepare(cache, &hot);
            play(cache, &hot, Pace::Rush);
        }
        // They were the tickets of connections, or the first sessions of clients.
        self.step = count / 2;
    }

    /// From now on one of so many calls is a put (`Tls12`).
    pub fn put_one_of(&mut self, calls: usize) {
        self.calls_per_put = calls as u64;
    }

    /// Appends the calls of the next step.
    pub fn step(&mut self, load: Load, ops: &mut Vec<Op>) {
        match load {
            Load::Hit | Load::HitChained | Load::HitMany => {
                let number = self.random_below(self.share);
                ops.push(Op { call: Call::Get, id: id(self.base + number) });
            }
            Load::Miss => ops.push(Op { call: Call::Get, id: self.unknown() }),
            Load::Hot => ops.push(Op { call: Call::Get, id: id(0) }),
            Load::Tls12 => ops.push(self.tls12()),
            Load::Tls13 => self.tls13(ops),
            Load::Flood => {
                for _ in 0..HOSTILE {
                    ops.push(Op { call: Call::Take, id: self.unknown() });
                }
                self.tls13(ops);
            }
        }
    }

    fn tls13(&mut self, ops: &mut Vec<Op>) {
        for which in 0..2 {
            ops.push(Op { call: Call::Put, id: self.ticket(self.step, which) });
        }
        ops.push(Op { call: Call::Take, id: self.ticket(self.returning(), 0) });
        self.step += 1;
    }

    fn tls12(&mut self) -> Op {
        if self.random_below(self.calls_per_put) == 0 {
            let client = self.random_below(self.share);
            self.clients[client as usize] += 1;
            let id = self.session_of(client, self.clients[client as usize]);
            return Op { call: Call::Put, id };
        }
        let rank = self.zipf.sample(&mut self.rng) as u64 - 1;
        // A prime, so that each client has one rank.
        let client = rank * 2_654_435_761 % self.share;
        Op { call: Call::Get, id: self.session_of(client, self.clients[client as usize]) }
    }

    /// The id of one of the two tickets of a connection.
    fn ticket(&self, step: u64, which: u64) -> Id {
        id(self.base + 2 * step + which)
    }

    /// The id of a client's session after so many full handshakes.
    fn session_of(&self, client: u64, handshakes: u32) -> Id {
        id(self.base + client + u64::from(handshakes) * self.share)
    }

    /// The connection whose client comes back now: the block of steps before, in another order, each
    /// once.
    fn returning(&self) -> u64 {
        let (block, offset) = (self.step / self.delay, self.step % self.delay);
        let shuffled = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.delay;
        block.wrapping_sub(1).wrapping_mul(self.delay).wrapping_add(shuffled)
    }

    /// An id that nobody puts.
    fn unknown(&mut self) -> Id {
        self.random = mix(self.random);
        id(self.random)
    }

    fn random_below(&mut self, end: u64) -> u64 {
        self.random = mix(self.random);
        ((u128::from(self.random) * u128::from(end)) >> 64) as u64
    }
}

/// What came of some calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub lookups: usize,
    pub found: usize,
}

/// Makes the calls.
pub fn play(cache: &dyn Cache, ops: &[Op], pace: Pace) -> Found {
    let mut sum = Found::default();
    if pace == Pace::Many {
        for ops in ops.chunks(TOGETHER) {
            assert!(ops.iter().all(|op| op.call == Call::Get), "many of another call");
            sum.lookups += ops.len();
            sum.found += cache.get_many(&mut ops.iter().map(|op| &op.id));
        }
        return sum;
    }
    let mut skip = 0;
    for place in 0..ops.len() {
        // Every payload begins with the same byte, which the compiler cannot know.
        let op = &ops[place + skip];
        let found = match op.call {
            Call::Put => {
                cache.put(&op.id, &PAYLOAD);
                continue;
            }
            Call::Get => cache.get(&op.id),
            Call::Take => cache.take(&op.id),
        };
        sum.lookups += 1;
        sum.found += usize::from(found.is_some());
        if pace == Pace::OneByOne {
            skip = usize::from(found.unwrap_or(PAYLOAD[0]) ^ PAYLOAD[0]);
        }
    }
    sum
}

/// Makes what the puts among some calls need.
pub fn prepare(cache: &dyn Cache, ops: &[Op]) {
    cache.prepare(&mut ops.iter().filter(|op| op.call == Call::Put).map(|op| &op.id));
}
