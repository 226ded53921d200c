//! OpenSSL's side.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_uchar};
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use openssl_sys as ffi;
use resumption::Reason;

use super::clock;
use super::context::{Callbacks, Context};
use super::handshake::{Handshake, Ssl};
use super::object::{Key, Object, SCOPE};
use super::operation::{Action, Answer, At, End, Fresh, Given};
use super::outcome::{Contents, Counts, Entry, Event, Id, Outcome, Returned, Version};
use crate::support;

/// `SSL_SESS_CACHE_SERVER` and `SSL_SESS_CACHE_NO_AUTO_CLEAR`.
const SERVER: u32 = 0x2;
const NO_AUTO_CLEAR: u32 = 0x80;

/// What sessions are called, by their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<Key, Version>>>);

impl Names {
    pub(crate) fn insert(&self, key: Key, version: Version) {
        self.0.lock().expect("no panic").insert(key, version);
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Version> {
        self.0.lock().expect("no panic").get(key).copied()
    }

    /// What a session is called that has been seen before.
    pub(crate) fn of(&self, object: &Object) -> Version {
        self.get(&object.key()).expect("a session of the oracle's")
    }
}

/// A server of OpenSSL with its own cache.
pub(crate) struct Theirs {
    /// Until it is closed.
    server: Option<Context>,
    client: Rc<Context>,
    /// Knows the ciphers.
    ssl: Ssl,
    pub(crate) names: Names,
    pub(crate) now: i64,
    size: i64,
}

/// What happens in callbacks. In the thread, because they get nothing else to hold on to.
struct Recorder {
    is_heard: bool,
    events: Vec<(Kind, Id, Key)>,
    /// Why what is removed now is removed.
    reason: Reason,
    /// The id that is looked for.
    wanted: Option<Id>,
    now: i64,
    given: Option<(Object, c_int)>,
    keep: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    New,
    Removed(Reason),
    Asked,
}

thread_local!(static RECORDER: RefCell<Recorder> = const {
    RefCell::new(Recorder {
        is_heard: false,
        events: Vec::new(),
        reason: Reason::Removed,
        wanted: None,
        now: 0,
        given: None,
        keep: true,
    })
});

fn record<R>(record: impl FnOnce(&mut Recorder) -> R) -> R {
    RECORDER.with_borrow_mut(record)
}

impl Recorder {
    fn note(&mut self, kind: Kind, object: &Object) {
        if self.is_heard {
            self.events.push((kind, object.id(), object.key()));
        }
    }
}

impl Theirs {
    pub(crate) fn new(size: u64, no_auto_clear: bool, client: &Rc<Context>, now: i64) -> Self {
        clock::set(now);
        let server = Context::server(&CALLBACKS);
        assert_eq!(server.set_mode(SERVER), SERVER, "the default");
        server.set_mode(SERVER | if no_auto_clear { NO_AUTO_CLEAR } else { 0 });
        server.set_size(Self::size_for(size));
        let (client, ssl) = (Rc::clone(client), Ssl::new(client));
        let (names, size) = (Names::default(), Self::size_for(size));
        Self { server: Some(server), client, ssl, names, now, size }
    }

    /// The size that holds so many sessions: one more (B4). 0 is no limit.
    fn size_for(sessions: u64) -> i64 {
        if sessions == 0 { 0 } else { sessions.cast_signed() + 1 }
    }

    /// The size that was set.
    pub(crate) fn size(&self) -> i64 {
        self.size
    }

    /// A session made by hand.
    pub(crate) fn make(&mut self, id: Id, version: Version, expires: i64, scope: &[u8]) -> Fresh {
        let mut key = Key::default();
        key[..4].copy_from_slice(&version.to_le_bytes());
        self.names.insert(key, version);
        // A session that is expired was born before.
        let time = self.now.min(expires);
        let object = Object::new(self.ssl.raw(), id, key, scope);
        assert_eq!(object.time(), self.now, "OpenSSL's clock is driven");
        Fresh { id, version, object: object.living(time, expires - time) }
    }

    /// The session of an id that is in the cache.
    pub(crate) fn session(&self, id: Id) -> Option<Object> {
        self.server().sessions().into_iter().find(|object| object.id() == id)
    }

    fn server(&self) -> &Context {
        self.server.as_ref().expect("it is open")
    }

    /// Does an action, and listens.
    pub(crate) fn act(&mut self, action: &Action) -> Outcome {
        let before = self.server().counts();
        record(|recorder| {
            recorder.is_heard = true;
            recorder.now = self.now;
        });
        let returned = self.perform(action);
        let events = record(|recorder| {
            recorder.is_heard = false;
            std::mem::take(&mut recorder.events)
        });
        let name = |key| self.names.get(&key).expect("a session of the oracle's");
        let events = events.into_iter().map(|(kind, id, key)| match kind {
            Kind::New => Event::New(id, name(key)),
            Kind::Removed(reason) => Event::Removed(id, name(key), reason),
            Kind::Asked => Event::Asked(id),
        });
        let counts = |server: &Context| server.counts() - before;
        Outcome {
            returned,
            events: events.collect(),
            counts: self.server.as_ref().map_or(Counts::default(), counts),
            contents: self.contents(),
        }
    }

    fn perform(&mut self, action: &Action) -> Returned {
        let because = |reason| record(|recorder| recorder.reason = reason);
        match action {
            Action::Add { session: fresh, .. } | Action::AddAgain(fresh) => {
                because(Reason::Evicted);
                Returned::Bool(self.server().add(&fresh.object))
            }
            Action::Remove(fresh) => {
                because(Reason::Removed);
                Returned::Bool(self.server().remove(&fresh.object))
            }
            Action::Negotiate { id, version, keep } => {
                because(Reason::Evicted);
                self.negotiate(*id, *version, *keep)
            }
            Action::Lookup { id, proposed, given, end, .. } => {
                because(Reason::Evicted);
                self.look_up(*id, proposed, given.as_ref(), *end)
            }
            Action::Flush(at) => {
                because(if *at == At::Ever { Reason::Flushed } else { Reason::Expired });
                let at = match at {
                    At::Ever => 0,
                    At::Now => self.now,
                    At::Past(ago) => self.now - ago,
                    At::Future(to_come) => self.now + to_come,
                };
                self.server().flush(at);
                Returned::Nothing
            }
            Action::Resize(size) => {
                self.size = Self::size_for(*size);
                let old = self.server().set_size(self.size);
                Returned::Limit((old > 0).then(|| old.cast_unsigned() - 1))
            }
            Action::SetTimeout(seconds) => {
                self.server().set_timeout(*seconds);
                Returned::Nothing
            }
            Action::Extend { id, expires } => {
                let object = self.session(*id).expect("it is there");
                Returned::Bool(object.set_timeout((expires - object.time()).max(0)))
            }
            Action::Listen(to) => {
                self.server().listen(&CALLBACKS, *to);
                Returned::Nothing
            }
            Action::Advance(seconds) => {
                self.now += seconds;
                clock::set(self.now);
                Returned::Nothing
            }
            Action::Close => {
                because(Reason::Closed);
                self.server = None;
                Returned::Nothing
            }
        }
    }

    fn negotiate(&mut self, id: Id, version: Version, keep: bool) -> Returned {
        record(|recorder| recorder.keep = keep);
        let handshake = Handshake::full(&self.client, self.server(), id);
        self.names.insert(handshake.session().key(), version);
        handshake.close_cleanly();
        Returned::Nothing
    }

    fn look_up(&self, id: Id, proposed: &Object, given: Option<&Given>, end: End) -> Returned {
        record(|recorder| {
            recorder.wanted = Some(id);
            recorder.given = given.map(|given| {
                let is_kept = matches!(given.answer, Answer::Kept | Answer::Shared);
                (given.session.object.clone(), c_int::from(is_kept))
            });
        });
        let handshake = Handshake::begin(&self.client, self.server(), Some(proposed));
        record(|recorder| (recorder.wanted, recorder.given) = (None, None));
        let Some(resumed) = handshake.resumed() else { return Returned::Found(None) };
        if resumed.id() == id && resumed.key() == proposed.key() {
            handshake.finish();
            record(|recorder| recorder.reason = Reason::Faulty);
            match end {
                // What it does with the session of a finished handshake.
                End::Unclean => drop(handshake),
                End::Clean | End::Taken => handshake.close_cleanly(),
            }
            if end == End::Taken {
                record(|recorder| recorder.reason = Reason::Taken);
                assert!(self.server().remove(&resumed), "what was resumed is there");
            }
        }
        Returned::Found(Some(self.names.of(&resumed)))
    }

    fn contents(&self) -> Contents {
        let sessions = self.server.as_ref().map_or_else(Vec::new, Context::sessions);
        let entry = |object: &Object| Entry {
            version: self.names.of(object),
            expires: Some(object.expires()).filter(|&expires| expires >= self.now),
        };
        sessions.iter().map(|object| (object.id(), entry(object))).collect()
    }

    /// Makes the cache hold what the other side does, unheard. `objects` are copies of what may be
    /// missing here.
    pub(crate) fn follow(&self, contents: &Contents, object: impl Fn(Id) -> Object) {
        let Some(server) = &self.server else { return };
        let here = self.contents();
        for object in server.sessions() {
            if here.get(&object.id()) != contents.get(&object.id()) {
                assert!(server.remove(&object));
            }
        }
        // Without a limit for the moment, so that nothing is evicted.
        server.set_size(0);
        for (id, entry) in contents {
            if here.get(id) != Some(entry) {
                assert!(server.add(&object(*id)), "it is not there");
            }
        }
        server.set_size(self.size);
        assert_eq!(self.contents(), *contents);
    }
}

const CALLBACKS: Callbacks = Callbacks { new: on_new, remove: on_remove, get: on_get };

unsafe extern "C" fn on_new(_: *mut ffi::SSL, session: *mut ffi::SSL_SESSION) -> c_int {
    // SAFETY: OpenSSL's promise. Its own reference is not kept, whatever is returned: 1 would keep it.
    let object = unsafe { Object::of(session) }.expect("a session");
    let keeps = record(|recorder| {
        recorder.note(Kind::New, &object);
        recorder.keep
    });
    if keeps {
        // SAFETY: the reference that OpenSSL has counted for this function.
        unsafe { ffi::SSL_SESSION_free(session) };
    }
    c_int::from(keeps)
}

unsafe extern "C" fn on_remove(_: *mut ffi::SSL_CTX, session: *mut ffi::SSL_SESSION) {
    // SAFETY: OpenSSL's promise.
    let object = unsafe { Object::of(session) }.expect("a session");
    record(|recorder| {
        let is_expired = object.expires() < recorder.now;
        let reason = match recorder.reason {
            Reason::Evicted if recorder.wanted == Some(object.id()) => Reason::Expired,
            // A flush at a time to come.
            Reason::Expired if !is_expired => Reason::Removed,
            reason => reason,
        };
        recorder.note(Kind::Removed(reason), &object);
    });
}

unsafe extern "C" fn on_get(
    _: *mut ffi::SSL,
    id: *const c_uchar,
    len: c_int,
    copy: *mut c_int,
) -> *mut ffi::SSL_SESSION {
    // SAFETY: OpenSSL's promise.
    let (id, copy) = unsafe { (std::slice::from_raw_parts(id, len as usize), &mut *copy) };
    assert_eq!(*copy, 1, "the preset");
    let id = resumption::SessionId::try_from(id).expect("an id");
    let id = Id::try_from(support::number(&id)).expect("an id of the oracle's");
    let given = record(|recorder| {
        if recorder.is_heard {
            recorder.events.push((Kind::Asked, id, Key::default()));
        }
        recorder.given.take()
    });
    let Some((object, kept)) = given else { return ptr::null_mut() };
    *copy = kept;
    // With `copy` 1 the external cache keeps its own reference: this one goes away.
    if kept == 1 { object.raw() } else { object.into_raw() }
}

/// The scope of a stranger's sessions.
pub(crate) const STRANGER: &[u8] = b"stranger";

/// The scope of an answer.
pub(crate) fn scope_of(answer: Answer) -> &'static [u8] {
    if answer == Answer::Stranger { STRANGER } else { SCOPE }
}
