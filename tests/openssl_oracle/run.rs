//! One sequence, on both sides.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::context::Context;
use super::exceptions::{ALL, Known, Step};
use super::object::{Object, SCOPE};
use super::operation::{Action, Answer, End, Fresh, Given, IDS, Listening, Operation, Sequence};
use super::ours::Ours;
use super::outcome::{Id, Outcome, Version};
use super::theirs::{Theirs, scope_of};

/// How often each exception has applied.
pub(crate) type Tally = [u64; ALL.len()];

/// OpenSSL's time at the beginning of a sequence. Any will do.
const START: i64 = 1_800_000_000;

/// How long an external cache keeps what it keeps.
const KEPT: i64 = 200;

// One for a thread: a client keeps nothing.
thread_local!(static CLIENT: Rc<Context> = Rc::new(Context::client()));

/// Both sides, and what is known of them.
struct Run {
    theirs: Theirs,
    ours: Ours,
    now: i64,
    limit: Option<u64>,
    no_auto_clear: bool,
    listening: Listening,
    known: BTreeMap<Id, Known>,
    /// What the external cache keeps.
    kept: BTreeMap<Id, Fresh>,
    /// The last session of each id that was new.
    last: BTreeMap<Id, Fresh>,
    /// The longest time in which nothing was put, and when something was put last.
    idle: i64,
    last_put: i64,
    versions: Version,
    listed: u64,
    tally: Tally,
}

/// Does a sequence; returns how often each exception has applied, or what was different.
pub(crate) fn run(sequence: &Sequence) -> Result<Tally, String> {
    let mut run = Run::new(sequence);
    for operation in &sequence.operations {
        if let Some(action) = run.resolve(operation) {
            run.act(&action)?;
        }
        if let Operation::Advance(_) = operation {
            run.look_up_what_expires()?;
        }
    }
    run.act(&Action::Close)?;
    Ok(run.tally)
}

impl Run {
    fn new(sequence: &Sequence) -> Self {
        let Sequence { size, no_auto_clear, .. } = *sequence;
        let client = CLIENT.with(Rc::clone);
        let theirs = Theirs::new(size, no_auto_clear, &client, START);
        let ours = Ours::new(size, no_auto_clear, client, theirs.names.clone(), START);
        Self {
            theirs,
            ours,
            now: START,
            limit: Some(size),
            no_auto_clear,
            listening: Listening::TO_ALL,
            known: BTreeMap::new(),
            kept: BTreeMap::new(),
            last: BTreeMap::new(),
            idle: 0,
            last_put: START,
            versions: 0,
            listed: 0,
            tally: [0; ALL.len()],
        }
    }

    /// What an operation is, by what is there; `None` if that makes it impossible.
    fn resolve(&mut self, operation: &Operation) -> Option<Action> {
        Some(match *operation {
            Operation::Add(id, lifetime) => {
                let expires = self.now + lifetime;
                let session = self.make(id, expires, SCOPE);
                self.last.insert(id, session.clone());
                Action::Add { session, expires }
            }
            Operation::AddAgain(id) => {
                let known = self.known.get(&id).filter(|known| known.expires >= self.now)?;
                Action::AddAgain(self.there(id, known.version))
            }
            Operation::Negotiate(first, keep) => {
                // OpenSSL ends a handshake whose new id is in its cache.
                let mut ids = (0..IDS as Id).map(|step| (first + step) % IDS as Id);
                let id = ids.find(|id| !self.known.contains_key(id))?;
                let keep = keep || !self.listening.to_new;
                Action::Negotiate { id, version: self.version(), keep }
            }
            Operation::Remove(id, by_another) => match self.known.get(&id) {
                Some(known) if !by_another => Action::Remove(self.there(id, known.version)),
                _ => Action::Remove(self.make(id, self.now + KEPT, SCOPE)),
            },
            Operation::Lookup(id, answer, end, by_handshake) => {
                let given = self.listening.to_get.then(|| self.given(id, answer)).flatten();
                let proposed = self.proposed(id, given.as_ref());
                // TLS 1.2 has no take.
                let by_handshake = by_handshake && end != End::Taken;
                Action::Lookup { id, proposed, given, end, by_handshake }
            }
            Operation::Flush(at) => Action::Flush(at),
            Operation::Resize(size) => Action::Resize(size),
            Operation::SetTimeout(seconds) => Action::SetTimeout(seconds),
            Operation::Extend(id, lifetime) => {
                let object = self.theirs.session(id)?;
                let expires = lifetime.map_or(object.time(), |lifetime| self.now + lifetime);
                // Not in this very second: that is `look_up_what_expires`'s.
                (expires != self.now).then_some(Action::Extend { id, expires })?
            }
            Operation::Listen(to) => Action::Listen(to),
            Operation::Advance(seconds) => Action::Advance(seconds),
        })
    }

    fn version(&mut self) -> Version {
        self.versions += 1;
        self.versions
    }

    fn make(&mut self, id: Id, expires: i64, scope: &[u8]) -> Fresh {
        let version = self.version();
        self.theirs.make(id, version, expires, scope)
    }

    /// The very object that is in OpenSSL's cache.
    fn there(&self, id: Id, version: Version) -> Fresh {
        Fresh { id, version, object: self.theirs.session(id).expect("it is in both") }
    }

    /// What an external cache gives.
    fn given(&mut self, id: Id, answer: Answer) -> Option<Given> {
        let (id, expires) = match answer {
            Answer::Nothing => return None,
            Answer::Made(lifetime) => (id, self.now + lifetime),
            Answer::Kept | Answer::Stranger => (id, self.now + KEPT),
            Answer::Shared => (id, self.now),
            Answer::Expired => (id, self.now - 1),
            Answer::Other => ((id + 1) % IDS as Id, self.now + KEPT),
        };
        let session = match answer {
            Answer::Kept if self.kept.contains_key(&id) => self.kept[&id].clone(),
            Answer::Shared => {
                let last = self.last.get(&id)?;
                // An extension may have met another object on either side.
                (self.ours.expires_of(last.version) == Some(last.object.expires()))
                    .then_some(last)?
                    .clone()
            }
            _ => self.make(id, expires, scope_of(answer)),
        };
        if answer == Answer::Kept {
            self.kept.insert(id, session.clone());
        }
        let (expires, is_marked) = (session.object.expires(), !session.object.is_resumable());
        // As in `resolve`.
        (expires != self.now).then_some(Given { session, answer, expires, is_marked })
    }

    /// A copy of what is there and not expired, so that the client can finish the handshake; or else of what will be
    /// given; or else of a session that nobody knows.
    fn proposed(&mut self, id: Id, given: Option<&Given>) -> Object {
        let there = self.theirs.session(id).filter(|object| object.expires() >= self.now);
        let given = given.map(|given| &given.session).filter(|session| session.id == id);
        match there.or_else(|| given.map(|session| session.object.clone())) {
            Some(object) => object.copy(),
            None => self.make(id, self.now + KEPT, SCOPE).object,
        }
    }

    /// What expires in this very second is looked up at once: there the two differ for a second.
    fn look_up_what_expires(&mut self) -> Result<(), String> {
        let expiring = self.known.iter().filter(|(_, known)| known.expires == self.now);
        for id in expiring.map(|(&id, _)| id).collect::<Vec<_>>() {
            let proposed = self.proposed(id, None);
            let (given, end) = (None, End::Clean);
            self.act(&Action::Lookup { id, proposed, given, end, by_handshake: true })?;
        }
        Ok(())
    }

    /// Does an action on both sides, and compares.
    fn act(&mut self, action: &Action) -> Result<(), String> {
        let theirs = self.theirs.act(action);
        if let Action::Negotiate { id, version, .. } = *action {
            self.last.insert(id, self.there(id, version));
        }
        let ours = self.ours.act(action);
        self.now = self.ours.now;
        match *action {
            Action::Resize(size) => self.limit = (size > 0).then_some(size),
            Action::Listen(to) => self.listening = to,
            _ => {}
        }
        self.idle = self.idle.max(self.now - self.last_put);
        self.compare(action, &theirs, &ours)?;
        // Without clearing nobody ever looks.
        if matches!(action, Action::Add { .. } | Action::Negotiate { .. }) && !self.no_auto_clear {
            self.last_put = self.now;
        }
        if theirs.contents != ours.contents {
            self.theirs.follow(&ours.contents, |id| self.ours.copy(id));
        }
        self.know(action, &theirs, &ours);
        Ok(())
    }

    fn compare(&mut self, action: &Action, theirs: &Outcome, ours: &Outcome) -> Result<(), String> {
        let step = Step {
            action,
            now: self.now,
            before: &self.known,
            limit: self.limit,
            size: self.theirs.size(),
            no_auto_clear: self.no_auto_clear,
            listening: self.listening,
            idle: self.idle,
            theirs,
            ours,
        };
        let mut expected = theirs.clone();
        let mut applied = Vec::new();
        for (exception, count) in ALL.iter().zip(&mut self.tally) {
            if (exception.explain)(&step, &mut expected) {
                *count += 1;
                applied.push(exception.name);
            }
        }
        if expected == *ours {
            return Ok(());
        }
        Err(format!(
            "at {action:?}\nnow {}, limit {:?}, no_auto_clear {}\nbefore {:?}\nOpenSSL {theirs:?}\n\
             by the exceptions {applied:#?}\nexpected {expected:?}\nengine   {ours:?}",
            self.now, self.limit, self.no_auto_clear, self.known,
        ))
    }

    /// Notes what is in both caches now.
    fn know(&mut self, action: &Action, theirs: &Outcome, ours: &Outcome) {
        let before = std::mem::take(&mut self.known);
        // What the other side was made to hold is listed there after everything else.
        let (by_action, by_follow): (Vec<_>, Vec<_>) =
            ours.contents.iter().partition(|(id, entry)| theirs.contents.get(id) == Some(entry));
        for (&id, entry) in by_action.into_iter().chain(by_follow) {
            let extended = match *action {
                Action::Extend { id: extended, expires } if extended == id => Some(expires),
                _ => None,
            };
            let old = before.get(&id).filter(|old| old.version == entry.version);
            let expires = extended.or(entry.expires).or(old.map(|old| old.expires));
            let expires = expires.expect("what is expired was there before");
            let is_there = theirs.contents.get(&id) == Some(entry) && extended.is_none();
            let is_hit = matches!(*action, Action::Lookup { id: found, .. } if found == id);
            self.listed += 1;
            let known = match old.filter(|_| is_there) {
                Some(old) => *old,
                None => Known {
                    version: entry.version,
                    expires,
                    lifetime: old
                        .filter(|_| extended.is_none())
                        .map_or(expires - self.now, |old| old.lifetime),
                    listed: self.listed,
                    was_used: old.is_some_and(|old| old.was_used),
                },
            };
            let was_used = known.was_used || is_hit && old.is_some();
            self.known.insert(id, Known { was_used, ..known });
        }
    }
}
