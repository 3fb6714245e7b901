//! What is open inside a value that is passed over, and which base64 in it turns out to be media.

/// The containers that are open: one bit a level.
#[derive(Default)]
pub(super) struct Open {
    /// Set for an object; the innermost is the lowest.
    kinds: u128,
    /// Set where a member said that its object's data are media, or text; the outermost is the lowest. Few objects say either.
    media: u128,
    text: u128,
    levels: u32,
    /// Base64 that is media only if its object says so, from the outermost level inwards.
    undecided: Vec<Undecided>,
}

/// Base64 of one object.
pub(super) struct Undecided {
    level: u32,
    pub(super) items: u64,
    pub(super) bytes: u64,
}

impl Open {
    /// How many are open.
    #[inline]
    pub(super) fn levels(&self) -> u32 {
        self.levels
    }

    /// Whether the innermost is an object.
    #[inline]
    pub(super) fn is_object(&self) -> bool {
        self.kinds & 1 == 1
    }

    /// Opens a level, of at most 128.
    #[inline]
    pub(super) fn push(&mut self, is_object: bool) {
        self.kinds = self.kinds << 1 | u128::from(is_object);
        self.levels += 1;
    }

    /// Closes a level; gives what turned out to be media there.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Undecided> {
        let is_silent = self.media | self.text == 0 && self.undecided.is_empty();
        let decided = if is_silent { None } else { self.decide() };
        self.kinds >>= 1;
        self.levels = self.levels.saturating_sub(1);
        decided
    }

    fn decide(&mut self) -> Option<Undecided> {
        let (bit, level) = (self.bit(), self.levels);
        let is_media = self.media & bit != 0 && self.text & bit == 0;
        self.media &= !bit;
        self.text &= !bit;
        self.undecided.pop_if(|last| last.level == level).filter(|_| is_media)
    }

    /// A member of the innermost said what its object's data are.
    pub(super) fn note(&mut self, says_media: bool) {
        let bit = self.bit();
        if says_media { self.media |= bit } else { self.text |= bit }
    }

    /// Base64 of which its object has to say what it is.
    pub(super) fn defer(&mut self, bytes: u64) {
        match self.undecided.last_mut().filter(|last| last.level == self.levels) {
            Some(last) => {
                last.items += 1;
                last.bytes += bytes;
            }
            None => self.undecided.push(Undecided { level: self.levels, items: 1, bytes }),
        }
    }

    /// The innermost one's bit in `media` and `text`; none where nothing is open.
    fn bit(&self) -> u128 {
        self.levels.checked_sub(1).and_then(|shift| 1_u128.checked_shl(shift)).unwrap_or(0)
    }
}
