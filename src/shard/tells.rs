//! What a shard tells and how it is used, in one word that every call reads.

#![forbid(unsafe_code)]

use crate::mode::CacheMode;

/// That sessions came is told.
pub(crate) const CAME: usize = 1;
/// That they left is told.
pub(crate) const LEFT: usize = 2;
/// The get callback is asked.
pub(crate) const ASKS: usize = 4;
/// A callback was set once, so events may wait.
const EVER: usize = 8;
/// The get callback was set once, so lookups may be waiting for what it has answered.
const ASKED: usize = 16;
/// The bits above are those in which the mode differs from the default one, so that a cache in which
/// nothing was set has a word of zero.
const MODE_SHIFT: u32 = 8;
const MODE: usize = usize::MAX << MODE_SHIFT;

/// What a shard tells and how it is used, as of one moment: [`CAME`], [`LEFT`], [`ASKS`], [`EVER`], and
/// the mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tells(usize);

impl Tells {
    #[inline]
    pub(super) fn from_word(word: usize) -> Self {
        Self(word)
    }

    pub(super) fn to_word(self) -> usize {
        self.0
    }

    /// The same with these callbacks: [`CAME`], [`LEFT`] and [`ASKS`].
    pub(super) fn with_callbacks(self, callbacks: usize) -> Self {
        Self(self.0 & (MODE | ASKED) | callbacks | EVER)
    }

    /// The same for lookups that ask, or once did.
    pub(super) fn with_asked(self) -> Self {
        Self(self.0 | ASKED)
    }

    /// The same in this mode.
    pub(super) fn with_mode(self, mode: CacheMode) -> Self {
        let differs = (mode ^ CacheMode::SERVER).bits() as usize;
        Self(differs << MODE_SHIFT | self.0 & !MODE)
    }

    /// Whether it is told that sessions came.
    #[inline]
    pub(crate) fn came(self) -> bool {
        self.0 & CAME != 0
    }

    /// Whether it is told that they left.
    #[inline]
    pub(crate) fn left(self) -> bool {
        self.0 & LEFT != 0
    }

    /// Whether anything is told.
    #[inline]
    pub(crate) fn anything(self) -> bool {
        self.0 & (CAME | LEFT) != 0
    }

    /// Whether anything was or is told.
    #[inline]
    pub(crate) fn has_told(self) -> bool {
        self.0 & EVER != 0
    }

    /// Whether lookups that find nothing ask.
    #[inline]
    pub(crate) fn asks(self) -> bool {
        self.0 & ASKS != 0
    }

    /// Whether lookups ask, or once did.
    #[inline]
    pub(crate) fn has_asked(self) -> bool {
        self.0 & ASKED != 0
    }

    /// Whether there never was a callback, and the mode is the default one: lookups need nothing but the table.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        self.0 == 0
    }

    /// Whether the mode is not the default one.
    #[inline]
    pub(crate) fn is_unusual(self) -> bool {
        self.0 & MODE != 0
    }

    /// The mode.
    #[inline]
    pub(crate) fn mode(self) -> CacheMode {
        CacheMode::SERVER ^ CacheMode::from_bits_retain((self.0 >> MODE_SHIFT) as u32)
    }

    /// Whether the mode has a flag, or all of several.
    #[inline]
    pub(crate) fn has(self, flag: CacheMode) -> bool {
        self.mode().contains(flag)
    }
}
