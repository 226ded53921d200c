//! The engine's side.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use resumption::tls::openssl::OpensslSession;
use resumption::{
    Answer as Given, CacheMode, Clock, Dispatch, Found, OnGet, OnNew, Put, Reason, Refusal, Scope,
    Session, SessionCache, SessionId, Sessions, Stats, Verdict,
};

use super::context::Context;
use super::handshake::{Handshake, Ssl};
use super::object::{Object, SCOPE};
use super::operation::{Action, Answer, At, End, Given as Offer, IDS, Listening};
use super::outcome::{Contents, Counts, Entry, Event, Id, Outcome, Returned, Version};
use super::theirs::Names;

/// The engine, and what is known of it from outside.
pub(crate) struct Ours {
    cache: SessionCache<OpensslSession>,
    web: Sessions<OpensslSession>,
    /// Attached to the cache.
    server: Context,
    client: Rc<Context>,
    clock: Clock,
    /// The instant of the driven clock's beginning.
    origin: Instant,
    /// OpenSSL's time at the beginning.
    start: i64,
    pub(crate) now: i64,
    heard: Arc<Mutex<Heard>>,
    /// What is in the cache, by what was told and found; expired sessions too.
    there: BTreeMap<Id, There>,
}

struct There {
    version: Version,
    expires: i64,
    payload: OpensslSession,
}

/// What happens in callbacks.
#[derive(Default)]
struct Heard {
    /// What the ids are in the cache.
    ids: Vec<SessionId>,
    events: Vec<Event>,
    names: Names,
    /// What a session is called that is being negotiated.
    negotiated: Option<Version>,
    /// What is called so that is told as removed by its id alone: what the action is about.
    shown: Option<Version>,
    /// How many were told so.
    by_id: u64,
    keep: bool,
    given: Option<Given<OpensslSession>>,
    /// A handle of each session that was new.
    handles: HashMap<Version, Session<OpensslSession>>,
    /// What the external cache keeps.
    kept: HashMap<Version, OpensslSession>,
}

impl Heard {
    fn name(&self, session: &Session<OpensslSession>) -> (Id, Version) {
        let payload = session.payload();
        assert_eq!(*session.id(), payload.cache_id(), "a session of another id");
        let object = Object::of_payload(payload);
        if let Some(version) = self.negotiated.filter(|_| self.names.get(&object.key()).is_none()) {
            self.names.insert(object.key(), version);
        }
        (object.id(), self.names.of(&object))
    }

    fn number(&self, id: &SessionId) -> Id {
        self.ids.iter().position(|known| known == id).expect("an id of the oracle's") as Id
    }

    fn by_id_alone(&mut self, id: &SessionId) -> (Id, Version) {
        self.by_id += 1;
        (self.number(id), self.shown.expect("the action is about a session"))
    }
}

impl Ours {
    pub(crate) fn new(
        size: u64,
        no_auto_clear: bool,
        client: Rc<Context>,
        names: Names,
        start: i64,
    ) -> Self {
        let clock = Clock::manual();
        let mode = if no_auto_clear { CacheMode::NO_AUTO_CLEAR } else { CacheMode::empty() };
        let cache = SessionCache::builder()
            .max_sessions(size as usize)
            .clock(clock.clone())
            .dispatch(Dispatch::Inline)
            .mode(CacheMode::SERVER | mode)
            .without_ticker()
            .build()
            .expect("sane settings");
        let ssl = Ssl::new(&client);
        let ids = (0..IDS as Id).map(|id| Object::new(ssl.raw(), id, [0; 16], SCOPE));
        let ids = ids.map(|object| object.to_payload().cache_id()).collect();
        let heard = Heard { ids, names, keep: true, ..Heard::default() };
        let heard = Arc::new(Mutex::new(heard));
        hear_of_removals(&cache, &heard);
        listen(&cache, &heard, Listening::TO_ALL);
        let web = cache.scope(&Scope::new("oracle"));
        let server = Context::attached(&web);
        let origin = clock.instant();
        let (now, there) = (start, BTreeMap::new());
        Self { cache, web, server, client, clock, origin, start, now, heard, there }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("no panic")
    }

    /// What an id is in the cache.
    fn id(&self, number: Id) -> SessionId {
        self.heard().ids[usize::from(number)]
    }

    /// Does an action, and listens.
    pub(crate) fn act(&mut self, action: &Action) -> Outcome {
        let before = self.cache.stats();
        let returned = self.perform(action);
        let mut heard = self.heard();
        let (events, by_id) = (std::mem::take(&mut heard.events), std::mem::take(&mut heard.by_id));
        drop(heard);
        self.note(&events);
        let now = self.cache.stats();
        check(&events, by_id, &before, &now);
        let counts = counts(&now) - counts(&before);
        Outcome { returned, events, counts, contents: self.contents() }
    }

    fn perform(&mut self, action: &Action) -> Returned {
        match action {
            Action::Add { session, expires } => {
                let (payload, lifetime) = (session.object.to_payload(), expires - self.now);
                let put = self.web.put_with(&payload.cache_id(), payload, seconds(lifetime));
                Returned::Bool(put.is_stored())
            }
            Action::AddAgain(session) => {
                let payload = session.object.to_payload();
                let put = self.web.put_if_absent(&payload.cache_id(), payload);
                let is_refused = matches!(put, Put::Refused(Refusal::Present, _));
                assert_ne!(is_refused, put.is_stored(), "refused for that and nothing else");
                Returned::Bool(put.is_stored())
            }
            Action::Negotiate { id, version, keep } => {
                self.negotiate(*id, *version, *keep);
                Returned::Nothing
            }
            Action::Remove(session) => {
                self.heard().shown = Some(session.version);
                let id = self.id(session.id);
                Returned::Bool(self.web.remove(&id))
            }
            Action::Lookup { id, proposed, given, end, by_handshake } => {
                let proposed = self.proposed(*id, proposed, given.as_ref());
                let answer = given.as_ref().map(|given| self.answer(given));
                let mut heard = self.heard();
                heard.given = answer;
                heard.shown = given.as_ref().map(|given| given.session.version);
                drop(heard);
                let found = match by_handshake {
                    true => self.look_up_by_handshake(&proposed, *end),
                    false => self.look_up(&self.id(*id), *end),
                };
                self.heard().given = None;
                Returned::Found(found)
            }
            _ => self.change(action),
        }
    }

    /// Does what has to do with all sessions, or with their lifetimes.
    fn change(&mut self, action: &Action) -> Returned {
        match action {
            Action::Flush(at) => {
                self.flush(*at);
                Returned::Nothing
            }
            Action::Resize(size) => {
                let old = self.cache.stats().max_sessions;
                let limit = if *size == 0 { usize::MAX } else { *size as usize };
                self.cache.set_max_sessions(limit);
                Returned::Limit(old)
            }
            Action::SetTimeout(lifetime) => {
                self.cache.set_lifetime(seconds(*lifetime));
                Returned::Nothing
            }
            Action::Extend { id, expires } => {
                let there = self.there.get_mut(id).expect("it is in both");
                let lifetime = seconds(expires - self.now);
                let is_extended = self.web.extend(&there.payload.cache_id(), lifetime);
                if is_extended {
                    there.expires = *expires;
                }
                Returned::Bool(is_extended)
            }
            Action::Listen(to) => {
                listen(&self.cache, &self.heard, *to);
                Returned::Nothing
            }
            Action::Advance(by) => {
                self.clock.advance(seconds(*by));
                self.now += by;
                Returned::Nothing
            }
            Action::Close => {
                self.cache.close();
                Returned::Nothing
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn negotiate(&self, id: Id, version: Version, keep: bool) {
        let mut heard = self.heard();
        (heard.negotiated, heard.keep) = (Some(version), keep);
        drop(heard);
        let handshake = Handshake::full(&self.client, &self.server, id);
        // Where no callback has.
        self.heard().names.insert(handshake.session().key(), version);
        handshake.close_cleanly();
        self.heard().negotiated = None;
    }

    /// What the client knows: what is here, or will be shared, where that has another secret than
    /// OpenSSL's. A copy, for OpenSSL marks the client's objects, too.
    fn proposed(&self, id: Id, proposed: &Object, given: Option<&Offer>) -> Object {
        let heard = self.heard();
        let there = self.there.get(&id).filter(|there| there.expires > self.now);
        let shared = given.filter(|given| given.answer == Answer::Shared);
        let payload = there
            .map(|there| &there.payload)
            .or_else(|| shared.map(|given| heard.handles[&given.session.version].payload()));
        payload.map_or_else(|| proposed.copy(), |payload| Object::of_payload(payload).copy())
    }

    fn look_up(&self, wanted: &SessionId, end: End) -> Option<Version> {
        let found = match end {
            End::Taken => self.web.take(wanted),
            End::Clean | End::Unclean => self.web.get(wanted),
        }?;
        assert_eq!(found.id(), wanted);
        if end == End::Unclean {
            self.web.remove_faulty(wanted);
        }
        Some(self.heard().name(&found).1)
    }

    fn look_up_by_handshake(&self, proposed: &Object, end: End) -> Option<Version> {
        let handshake = Handshake::begin(&self.client, &self.server, Some(proposed));
        let resumed = handshake.resumed()?;
        assert_eq!((resumed.id(), resumed.key()), (proposed.id(), proposed.key()));
        handshake.finish();
        match end {
            End::Unclean => drop(handshake),
            End::Clean | End::Taken => handshake.close_cleanly(),
        }
        Some(self.heard().names.of(&resumed))
    }

    /// What the get callback answers.
    fn answer(&self, given: &Offer) -> Given<OpensslSession> {
        let mut heard = self.heard();
        let payload = match given.answer {
            Answer::Shared => return Given::Share(heard.handles[&given.session.version].clone()),
            Answer::Kept => {
                let kept = heard.kept.entry(given.session.version);
                kept.or_insert_with(|| given.session.object.to_payload()).clone()
            }
            _ => given.session.object.to_payload(),
        };
        let scope = match given.answer {
            Answer::Stranger => Scope::new("stranger"),
            _ => self.web.scope().clone(),
        };
        let lifetime = seconds(given.expires - self.now);
        Given::Give(Found::new(payload.cache_id(), scope, payload, lifetime))
    }

    fn flush(&self, at: At) {
        if at == At::Ever {
            self.cache.flush();
            return;
        }
        if let At::Future(to_come) = at {
            let at = self.now + to_come;
            self.cache.retain(|session| self.expires(session) >= at);
        }
        self.cache.flush_expired();
    }

    /// The last second of a session's life.
    fn expires(&self, session: &Session<OpensslSession>) -> i64 {
        let since = session.expires_at() - self.origin;
        assert_eq!(since.subsec_millis(), 0);
        self.start + since.as_secs().cast_signed()
    }

    /// Notes what has come and gone.
    fn note(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Removed(id, version, _) = *event
                && self.there.get(&id).is_some_and(|there| there.version == version)
            {
                self.there.remove(&id);
            }
        }
        for session in &self.cache {
            let ((id, version), expires) = (self.heard().name(&session), self.expires(&session));
            assert!(expires > self.now, "what is expired is not shown");
            let payload = session.payload().clone();
            self.there.insert(id, There { version, expires, payload });
        }
        assert_eq!(self.there.len(), self.cache.len(), "what came and was not removed");
        // Nobody asks for what is expired: that would decide it.
        for there in self.there.values().filter(|there| there.expires > self.now) {
            assert!(self.web.contains(&there.payload.cache_id()), "{:?}", there.payload);
        }
    }

    /// What is in the cache; by OpenSSL's rule, that a session may be used in the second in which it
    /// expires.
    fn contents(&self) -> Contents {
        let entry = |there: &There| Entry {
            version: there.version,
            expires: Some(there.expires).filter(|&expires| expires >= self.now),
        };
        self.there.iter().map(|(&id, there)| (id, entry(there))).collect()
    }

    /// The last second of the life of a session that was told as new once.
    pub(crate) fn expires_of(&self, version: Version) -> Option<i64> {
        let handle = self.heard().handles.get(&version).cloned()?;
        Some(self.expires(&handle))
    }

    /// A copy of a session that is in the cache, with its life.
    pub(crate) fn copy(&self, id: Id) -> Object {
        let There { expires, payload, .. } = &self.there[&id];
        let object = Object::of_payload(payload);
        let time = object.time().min(*expires);
        object.copy().living(time, expires - time)
    }
}

/// Sets the new callback and the get callback, or unsets them.
fn listen(cache: &SessionCache<OpensslSession>, heard: &Arc<Mutex<Heard>>, to: Listening) {
    let (on_new, on_get) = (Arc::clone(heard), Arc::clone(heard));
    let on_new: Arc<OnNew<OpensslSession>> = Arc::new(move |new| {
        let mut heard = on_new.lock().expect("no panic");
        let (id, version) = heard.name(new.session());
        heard.events.push(Event::New(id, version));
        heard.handles.insert(version, new.into_session());
        if std::mem::replace(&mut heard.keep, true) { Verdict::Keep } else { Verdict::Reject }
    });
    let on_get: Arc<OnGet<OpensslSession>> = Arc::new(move |proposed| {
        let mut heard = on_get.lock().expect("no panic");
        let id = heard.number(proposed.id());
        heard.events.push(Event::Asked(id));
        heard.given.take().unwrap_or(Given::Nothing)
    });
    cache.set_on_new(to.to_new.then_some(on_new)).expect("no thread is needed");
    cache.set_on_get(to.to_get.then_some(on_get));
    let are_set = (cache.on_new().is_some(), cache.on_get().is_some());
    assert_eq!(are_set, (to.to_new, to.to_get), "the getters");
}

/// Sets the remove callback.
fn hear_of_removals(cache: &SessionCache<OpensslSession>, heard: &Arc<Mutex<Heard>>) {
    let on_remove = Arc::clone(heard);
    let set = cache.set_on_remove(Some(Arc::new(move |removed| {
        let mut heard = on_remove.lock().expect("no panic");
        let (id, version) = match removed.session() {
            Some(session) => heard.name(session),
            None => heard.by_id_alone(removed.id()),
        };
        heard.events.push(Event::Removed(id, version, removed.reason()));
    })));
    set.expect("no thread is needed");
}

/// What OpenSSL counts, of what the engine does.
fn counts(stats: &Stats) -> Counts {
    Counts {
        hits: (stats.hits + stats.takes + stats.get_answered).cast_signed(),
        callback_hits: stats.get_answered.cast_signed(),
        misses: stats.misses_unknown.cast_signed(),
        timeouts: stats.misses_expired.cast_signed(),
        cache_full: stats.removals.evicted.cast_signed(),
    }
}

/// That the engine counts what it tells, of which so much was told by its id alone.
fn check(events: &[Event], by_id: u64, before: &Stats, now: &Stats) {
    let told = |is_meant: fn(&Event) -> bool| events.iter().filter(|event| is_meant(event)).count();
    let counted = [
        now.new_called - before.new_called,
        now.remove_called - before.remove_called,
        now.get_called - before.get_called,
        now.removals.evicted - before.removals.evicted,
        now.removals.expired - before.removals.expired,
    ];
    let heard = [
        told(|event| matches!(event, Event::New(..))),
        told(|event| matches!(event, Event::Removed(..))),
        told(|event| matches!(event, Event::Asked(_))),
        told(|event| matches!(event, Event::Removed(.., Reason::Evicted))),
        told(|event| matches!(event, Event::Removed(.., Reason::Expired))),
    ];
    assert_eq!(counted.map(|count| count as usize), heard, "calls, and what was heard");
    let left = now.removals.total() - before.removals.total();
    assert_eq!(left + by_id, counted[1], "all are told");
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
