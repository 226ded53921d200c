//! How a cache is used: OpenSSL's session cache modes.

#![forbid(unsafe_code)]

use bitflags::bitflags;

bitflags! {
    /// How a cache is used, as OpenSSL's `SSL_CTX_set_session_cache_mode` says it, and with the same
    /// values. The default is [`SERVER`](Self::SERVER).
    ///
    /// Set by [`Builder::mode`](crate::Builder::mode), and at run time by
    /// [`SessionCache::set_mode`](crate::SessionCache::set_mode). *A mode replaces the one before*, and a flag
    /// names no side: say which side's sessions are put, and the flags beside it. `NO_INTERNAL` alone puts nobody's
    /// sessions, so that soon nothing is resumed; a server says `CacheMode::SERVER | CacheMode::NO_INTERNAL`.
    ///
    /// Bits that have no name here are kept and mean nothing. [`OFF`](Self::OFF) is no bit at all, so that every
    /// mode contains it: ask whether a mode *is* it, or whether it contains `SERVER`.
    ///
    /// ```
    /// use resumption::CacheMode;
    ///
    /// assert_eq!(CacheMode::OFF, CacheMode::empty());
    /// assert_eq!(CacheMode::BOTH, CacheMode::CLIENT | CacheMode::SERVER);
    /// let internal = CacheMode::NO_INTERNAL_LOOKUP | CacheMode::NO_INTERNAL_STORE;
    /// assert_eq!(CacheMode::NO_INTERNAL, internal);
    /// assert_eq!(CacheMode::default().bits(), 2);
    ///
    /// let elsewhere = CacheMode::SERVER | CacheMode::NO_INTERNAL;
    /// assert!(elsewhere.contains(CacheMode::SERVER) && elsewhere.contains(CacheMode::OFF));
    /// assert_ne!(elsewhere, CacheMode::OFF);
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct CacheMode: u32 {
        /// No connection's sessions are put. Lookups go on: what is in the cache is found until it
        /// leaves, and the get callback is asked for the rest. What it gives to a get is stored.
        const OFF = 0;
        /// Sessions of client connections are put
        /// ([`Connection::client`](crate::Connection::client)). Without it they are refused with
        /// [`Refusal::SideNotCached`](crate::Refusal::SideNotCached), and told to nobody.
        const CLIENT = 0x1;
        /// Sessions of server connections are put: those of [`put`](crate::Sessions::put) and its kin.
        /// Without it they are refused in the same way.
        const SERVER = 0x2;
        /// Both sides' sessions are put.
        const BOTH = Self::CLIENT.bits() | Self::SERVER.bits();
        /// Expired sessions stay until a lookup or a put of their id meets them, eviction does, or
        /// [`flush_expired`](crate::SessionCache::flush_expired) is called: neither puts nor the
        /// background thread look for them. They are never returned, and count as sessions as long as
        /// they stay.
        const NO_AUTO_CLEAR = 0x80;
        /// Gets and takes ask the get callback at once. They do not look into the cache, and count no miss.
        ///
        /// * Servers that share an external cache need it: without it, each of them may find in its memory what
        ///   another one [has taken](crate::Sessions::take).
        /// * A take removes what the cache holds of its id, as taken, after it has asked and whatever the
        ///   answer was. So a later mode, which looks inside, does not find it.
        /// * Other calls see the cache as ever: `contains`, `remove`, `extend`, `put_if_absent`.
        const NO_INTERNAL_LOOKUP = 0x100;
        /// Nothing is stored. A put is told to the new-session callback, and refused with
        /// [`Refusal::NobodyToTell`](crate::Refusal::NobodyToTell) if there is none; a session of its
        /// id that is in the cache leaves it, as replaced, and is told before. A verdict of
        /// [`Reject`](crate::Verdict::Reject) has nothing to remove, and nothing more is told. What
        /// the get callback gives is handed out.
        ///
        /// So that an external cache hears of them, takes that the get callback answers, and `remove`
        /// and `remove_faulty` of ids that the cache does not hold, are told to the remove callback:
        /// by the id alone, without a session. (The removals in every mode, if a get callback is set.) However many
        /// calls wait: takes and removals are never refused. Sweeps tell of what is in the cache and of nothing else.
        const NO_INTERNAL_STORE = 0x200;
        /// The cache holds nothing and is not looked at: all sessions are behind the callbacks.
        const NO_INTERNAL = Self::NO_INTERNAL_LOOKUP.bits() | Self::NO_INTERNAL_STORE.bits();
        /// A get that finds a session in the cache lets it live its whole lifetime again, from then on:
        /// the lifetime, the put's or that of the last extension, counts from the last use. (Up to a
        /// 32 768th shorter, by rounding.)
        /// A session that never expires stays so.
        const UPDATE_TIME = 0x400;
    }
}

impl Default for CacheMode {
    fn default() -> Self {
        Self::SERVER
    }
}
