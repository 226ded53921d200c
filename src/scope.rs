//! Scopes: which security context a session belongs to.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;

use crate::sync::tally::Mutex;
use crate::sync::{AtomicU32, Ordering};

/// The security context that a session belongs to: a name, and whatever else must be equal for a
/// session to be resumed.
///
/// A session that was put under one scope cannot be found under another. Without that, a session
/// that one configuration made after checking a client's certificate resumes under another that
/// never checked it (CVE-2025-23419 and its like). Put into the scope what the checks depend on:
/// the verifier, the set of client CAs, the protocols of ALPN, the host: *one that is configured, never one that a client
/// names*. A client can name as many as it likes, and each scope stays for as long as the cache.
///
/// *One configuration, with one way to verify clients, needs no more than a name.* The host need not be in its scope: rustls compares the
/// name that the client asks for with that of the session, though after it has taken it (a ticket that is offered for another
/// host is spent), and [`tls::openssl`](crate::tls) has it in the id. ALPN need be only if what is believed of a resumed connection depends on
/// the protocol: rustls chooses that anew.
///
/// Two scopes are the same when their name and all their labels are. The order of different labels
/// does not matter; the order of values under one label does. A cache keeps each scope that it has
/// seen for as long as it lives, and 8 bytes for each time that it was
/// [dropped](crate::SessionCache::drop_scope), so a scope stands for a configuration, never for one
/// client.
///
/// ```
/// use resumption::Scope;
///
/// let public = Scope::new("web");
/// let internal = Scope::new("web").with("client-ca", b"digest of the CA certificates");
/// assert_ne!(public, internal);
/// assert_eq!(public, Scope::new("web"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    name: String,
    labels: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Scope {
    /// A scope of this name alone.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), labels: BTreeMap::new() }
    }

    /// Refines the scope by a value under a label.
    #[must_use]
    pub fn with(mut self, label: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.labels.entry(label.into()).or_default().push(value.as_ref().to_vec());
        self
    }

    /// The name, which is not all of the scope.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The scope as bytes, name and labels, for a digest or the key of a database: two scopes are equal exactly when
    /// their bytes are. The name alone is not enough there: whoever [answers](crate::Found) with a session that
    /// was stored under other labels undoes what the scope is for.
    ///
    /// Each part stands after its length in eight bytes, the highest first: the name, then for each value its
    /// label and the value, in the order of the labels.
    ///
    /// ```
    /// use resumption::Scope;
    ///
    /// let internal = Scope::new("web").with("client-ca", b"digest");
    /// assert_ne!(internal.to_bytes(), Scope::new("web").to_bytes());
    /// assert_eq!(internal.to_bytes(), internal.clone().to_bytes());
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut add = |part: &[u8]| {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        };
        add(self.name.as_bytes());
        for (label, values) in &self.labels {
            for value in values {
                add(label.as_bytes());
                add(value);
            }
        }
        bytes
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<_> = self.labels.keys().collect();
        f.debug_struct("Scope").field("name", &self.name).field("labels", &labels).finish()
    }
}

/// The scopes of a cache. Used when a scope is attached or dropped, never on a lookup's way.
#[derive(Debug)]
pub(crate) struct Registry {
    scopes: Mutex<Scopes>,
    /// Read without the lock.
    slots: Slots,
}

/// The scopes by the slots that were ever given out: sessions of dropped scopes may still have to be
/// told. In chunks, so that one more costs a copy of the last one and of a list of the others.
#[derive(Debug)]
struct Slots {
    first: u32,
    chunks: ArcSwap<Vec<Arc<Vec<Arc<Entry>>>>>,
}

/// Scopes in a chunk.
const CHUNK: usize = 256;

#[derive(Debug)]
struct Scopes {
    entries: HashMap<Scope, Arc<Entry>>,
    next_slot: u32,
}

/// What a scope is to the table: a number for as long as the cache lives, which is hashed, and a slot
/// at present, which is compared: it is in every header of the scope, and never used again once the
/// scope was dropped. Of two slots of one scope the greater is the newer one.
///
/// So all sessions of one scope and id, those of dropped slots too, meet in one place of one table.
#[derive(Debug)]
pub(crate) struct Entry {
    scope: Scope,
    number: u32,
    slot: AtomicU32,
}

/// The slot of scopes that came after all others were given out: 2³² - 1 scopes and drops of one.
/// Puts under it are refused.
pub(crate) const EXHAUSTED: u32 = u32::MAX;

impl Registry {
    pub(crate) fn new() -> Self {
        Self::starting_at(0)
    }

    fn starting_at(next_slot: u32) -> Self {
        Self {
            scopes: Mutex::new(Scopes { entries: HashMap::new(), next_slot }),
            slots: Slots { first: next_slot, chunks: ArcSwap::default() },
        }
    }

    /// The entry of a scope; new if the cache has not seen it.
    pub(crate) fn attach(&self, scope: &Scope) -> Arc<Entry> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = scopes.entries.get(scope) {
            return Arc::clone(entry);
        }
        let slot = scopes.take_slot();
        let entry = Arc::new(Entry::new(scope.clone(), slot));
        self.slots.add(slot, &entry);
        scopes.entries.insert(scope.clone(), Arc::clone(&entry));
        entry
    }

    /// Gives a scope a new slot; returns the old one, under which nothing is found any more.
    pub(crate) fn renew(&self, scope: &Scope) -> Option<u32> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Arc::clone(scopes.entries.get(scope)?);
        let slot = scopes.take_slot();
        self.slots.add(slot, &entry);
        // AcqRel: the one step of the drop. Pairs with `Entry::slot`.
        Some(entry.slot.swap(slot, Ordering::AcqRel))
    }
}

impl Registry {
    /// The scope that has or had a slot. Waits for nobody.
    pub(crate) fn of_slot(&self, slot: u32) -> Option<Arc<Entry>> {
        let at = slot.checked_sub(self.slots.first)? as usize;
        let chunks = self.slots.chunks.load();
        chunks.get(at / CHUNK)?.get(at % CHUNK).cloned()
    }

    /// Whether two slots are, or were, of one scope. Waits for nobody.
    #[cold]
    pub(crate) fn is_one_scope(&self, a: u32, b: u32) -> bool {
        let number = |slot| self.of_slot(slot).map(|entry| entry.number);
        number(a).is_some_and(|a| Some(a) == number(b))
    }
}

impl Slots {
    /// Adds the scope of the next slot; by one thread at a time.
    fn add(&self, slot: u32, entry: &Arc<Entry>) {
        if slot == EXHAUSTED {
            return;
        }
        let mut chunks = Vec::clone(&self.chunks.load());
        match chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(Arc::clone(entry)),
            _ => chunks.push(Arc::new(vec![Arc::clone(entry)])),
        }
        self.chunks.store(Arc::new(chunks));
    }
}

impl Scopes {
    fn take_slot(&mut self) -> u32 {
        let slot = self.next_slot;
        self.next_slot = slot.saturating_add(1);
        slot
    }
}

impl Entry {
    /// A scope is numbered by its first slot.
    fn new(scope: Scope, slot: u32) -> Self {
        Self { scope, number: slot, slot: AtomicU32::new(slot) }
    }

    /// The number, which stays when the scope is dropped.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The slot at present.
    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        // Acquire: pairs with the swap in `renew`.
        self.slot.load(Ordering::Acquire)
    }

    /// The scope.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_joined_over_their_borders() {
        let one = Scope::new("a").with("l", b"bc");
        assert_ne!(one, Scope::new("a").with("l", b"b").with("l", b"c"));
        assert_ne!(one, Scope::new("a").with("lb", b"c"));
        assert_ne!(one, Scope::new("al").with("", b"bc"));
    }

    #[test]
    fn scopes_are_equal_when_their_bytes_are() {
        let scopes = [
            Scope::new("a"),
            Scope::new("ab"),
            Scope::new("a").with("b", b""),
            Scope::new("a").with("", b"b"),
            Scope::new("a").with("b", b"c"),
            Scope::new("a").with("b", b"c").with("b", b"c"),
            Scope::new("a").with("b", b"c").with("c", b"b"),
            Scope::new("a").with("c", b"b").with("b", b"c"),
            Scope::new("a").with("b", b"cb").with("c", b""),
        ];
        for a in &scopes {
            for b in &scopes {
                assert_eq!(a == b, a.to_bytes() == b.to_bytes(), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn the_order_of_labels_does_not_matter() {
        let one = Scope::new("a").with("x", b"1").with("y", b"2");
        assert_eq!(one, Scope::new("a").with("y", b"2").with("x", b"1"));
    }

    #[test]
    fn slots_are_not_used_again() {
        let registry = Registry::new();
        let (a, b) = (Scope::new("a"), Scope::new("b"));
        let entry = registry.attach(&a);
        let first = entry.slot();
        assert_ne!(first, registry.attach(&b).slot());
        assert_eq!(registry.renew(&a), Some(first));
        assert_ne!(entry.slot(), first);
        assert_eq!(registry.attach(&a).slot(), entry.slot());
        assert_eq!(registry.renew(&Scope::new("c")), None);
    }

    #[test]
    fn slots_are_of_one_scope_whatever_was_dropped() {
        let registry = Registry::starting_at(7);
        let (a, b) = (Scope::new("a"), Scope::new("b"));
        let (entry, other) = (registry.attach(&a), registry.attach(&b));
        let (number, first) = (entry.number(), entry.slot());
        assert_ne!(number, other.number());
        for scope in [&a, &b, &a] {
            assert!(registry.renew(scope).is_some());
        }
        assert_eq!(entry.number(), number);
        assert!(entry.slot() > first, "the newer slot is the greater one");
        assert!(registry.is_one_scope(first, entry.slot()));
        assert!(!registry.is_one_scope(first, other.slot()));
        assert!(!registry.is_one_scope(3, 4), "slots that nobody had are nobody's");
    }

    #[test]
    fn a_slot_leads_to_its_scope_for_ever() {
        let registry = Registry::starting_at(7);
        for number in 0..3 * CHUNK {
            let scope = Scope::new(number.to_string());
            let first = registry.attach(&scope).slot();
            assert_eq!(registry.renew(&scope), Some(first));
            let second = registry.attach(&scope).slot();
            for slot in [first, second] {
                assert_eq!(registry.of_slot(slot).expect("it was given out").scope(), &scope);
            }
        }
        assert!(registry.of_slot(6).is_none() && registry.of_slot(u32::MAX).is_none());
    }

    #[test]
    fn the_last_slot_stays_exhausted() {
        let registry = Registry::starting_at(EXHAUSTED - 1);
        assert_eq!(registry.attach(&Scope::new("a")).slot(), EXHAUSTED - 1);
        assert_eq!(registry.attach(&Scope::new("b")).slot(), EXHAUSTED);
        assert_eq!(registry.attach(&Scope::new("c")).slot(), EXHAUSTED);
    }
}
