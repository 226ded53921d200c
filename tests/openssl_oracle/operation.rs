//! Operations, and random sequences of them.

use crate::support::Random;

use super::object::Object;
use super::outcome::{Id, Version};

/// Few, so that they meet.
pub(crate) const IDS: u64 = 8;

/// An operation, before it is known what is there.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Adds a new session by hand, which lives so many seconds.
    Add(Id, i64),
    /// Adds the very session that is in the cache once more.
    AddAgain(Id),
    /// A full handshake; whether the new callback keeps the session.
    Negotiate(Id, bool),
    /// Removes a session; by another object of its id, if this is set.
    Remove(Id, bool),
    /// In the engine by a handshake, if this is set, or directly.
    Lookup(Id, Answer, End, bool),
    Flush(At),
    /// The most sessions; 0 is no limit.
    Resize(u64),
    /// The lifetime of sessions that are negotiated from now on.
    SetTimeout(i64),
    /// Changes how long a session lives from now on; `None`: no longer.
    Extend(Id, Option<i64>),
    /// Sets the new callback and the get callback, or unsets them.
    Listen(Listening),
    Advance(i64),
}

/// Which callbacks are set, of those that need not be: what leaves is always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) to_new: bool,
    pub(crate) to_get: bool,
}

/// What an external cache answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    /// `copy` 0: an object made for this, which lives so many seconds.
    Made(i64),
    /// `copy` 1: an object that the external cache keeps.
    Kept,
    /// `copy` 1: what was the cache's last session of the id, kept by a handle.
    Shared,
    /// As `Made`, but expired.
    Expired,
    /// As `Made`, but of the next id.
    Other,
    /// As `Made`, but of another session id context.
    Stranger,
}

/// What becomes of a session that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    /// The connection ends without close_notify.
    Unclean,
    /// It is used once.
    Taken,
}

/// When what a flush removes expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Ever,
    Now,
    /// So many seconds ago.
    Past(i64),
    Future(i64),
}

/// An operation, when it is known what is there.
#[derive(Debug)]
pub(crate) enum Action {
    Add {
        session: Fresh,
        expires: i64,
    },
    AddAgain(Fresh),
    Negotiate {
        id: Id,
        version: Version,
        keep: bool,
    },
    /// The object that is shown, and its version.
    Remove(Fresh),
    Lookup {
        id: Id,
        /// What the client knows.
        proposed: Object,
        given: Option<Given>,
        end: End,
        /// Whether the engine is asked by a handshake; otherwise directly.
        by_handshake: bool,
    },
    Flush(At),
    Resize(u64),
    SetTimeout(i64),
    Extend {
        id: Id,
        /// When the session expires then; before now: at once.
        expires: i64,
    },
    Listen(Listening),
    Advance(i64),
    Close,
}

/// A session, and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub(crate) id: Id,
    pub(crate) version: Version,
    pub(crate) object: Object,
}

/// What an external cache gives.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) session: Fresh,
    pub(crate) answer: Answer,
    pub(crate) expires: i64,
    /// Whether OpenSSL has marked the object as what must not be resumed.
    pub(crate) is_marked: bool,
}

/// A sequence: how the cache is made, and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) size: u64,
    /// Whether expired sessions stay until they are met.
    pub(crate) no_auto_clear: bool,
    pub(crate) operations: Vec<Operation>,
}

impl Sequence {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let len = 50 + random.below(31);
        Self {
            size: 1 + random.below(6),
            no_auto_clear: random.below(2) == 0,
            operations: (0..len).map(|_| Operation::new(&mut random)).collect(),
        }
    }
}

impl Operation {
    fn new(random: &mut Random) -> Self {
        let id = random.below(IDS) as Id;
        match random.below(100) {
            0..24 => Self::Add(id, lifetime(random)),
            24..27 => Self::AddAgain(id),
            27..36 => Self::Negotiate(id, random.below(5) > 0),
            36..42 => Self::Remove(id, random.below(3) == 0),
            42..74 => {
                let (answer, end) = (Answer::new(random), End::new(random));
                Self::Lookup(id, answer, end, random.below(2) == 0)
            }
            74..78 => Self::Flush(At::new(random)),
            78..82 => Self::Resize(random.below(7)),
            82..84 => Self::SetTimeout(lifetime(random)),
            84..89 => Self::Extend(id, (random.below(4) > 0).then(|| lifetime(random))),
            89..91 => Self::Listen(Listening::new(random)),
            _ => Self::Advance(1 + (random.below(400) / (1 + random.below(40))).cast_signed()),
        }
    }
}

impl Answer {
    fn new(random: &mut Random) -> Self {
        match random.below(16) {
            0..6 => Self::Nothing,
            6..9 => Self::Made(lifetime(random)),
            9..11 => Self::Kept,
            11..13 => Self::Shared,
            13 => Self::Expired,
            14 => Self::Other,
            _ => Self::Stranger,
        }
    }
}

impl End {
    fn new(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Unclean,
            1 => Self::Taken,
            _ => Self::Clean,
        }
    }
}

impl Listening {
    /// At the beginning.
    pub(crate) const TO_ALL: Self = Self { to_new: true, to_get: true };

    fn new(random: &mut Random) -> Self {
        Self { to_new: random.below(3) > 0, to_get: random.below(3) > 0 }
    }
}

impl At {
    fn new(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Ever,
            1 => Self::Past(1 + random.below(100).cast_signed()),
            2 => Self::Future(1 + random.below(100).cast_signed()),
            _ => Self::Now,
        }
    }
}

fn lifetime(random: &mut Random) -> i64 {
    [5, 12, 30, 60, 60, 120, 300, 900][random.below(8) as usize]
}
