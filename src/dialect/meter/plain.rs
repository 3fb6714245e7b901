//! Usage objects as backends write them: plain names, whole numbers, and nothing that two readers could read differently. Read in a
//! fraction of what it takes to read any JSON; whatever is written otherwise is left to the reader that knows all of it.

use crate::dialect::json::plain_length;
use crate::dialect::meter::count::{Count, Scaled};
use crate::dialect::meter::said::{INNER, Inside, Member, Number, Said};

/// How deep a value may nest that is passed over.
const DEEPEST: u32 = 8;
/// The largest number, of which a digit more still fits.
const MOST: u64 = 999_999_999_999_999;

/// Reads `json` into `said`, which says nothing yet. `None`, with anything in `said`, when it is written otherwise.
pub(super) fn read(json: &[u8], said: &mut Said) -> Option<()> {
    let mut rest = Rest { bytes: json, had_string: false };
    rest.usage(said)?;
    rest.space();
    rest.bytes.is_empty().then_some(())
}

/// Reads the object that `json` begins with, in which no value is a string, and says how long it is; otherwise the same.
pub(super) fn read_first(json: &[u8], said: &mut Said) -> Option<usize> {
    let mut rest = Rest { bytes: json, had_string: false };
    rest.usage(said)?;
    (!rest.had_string).then_some(json.len() - rest.bytes.len())
}

/// What is still to be read.
struct Rest<'a> {
    bytes: &'a [u8],
    /// Whether a value was a string.
    had_string: bool,
}

impl<'a> Rest<'a> {
    #[inline]
    fn usage(&mut self, said: &mut Said) -> Option<()> {
        self.object(|rest, member| {
            match member {
                Member::Number(number) => *said.counts.get_mut(number as usize)? = rest.count(number)?,
                Member::Part(part) => rest.part(said.parts.get_mut(part as usize)?)?,
                Member::Other => rest.pass(0)?,
            }
            Some(())
        })
    }

    #[inline]
    fn space(&mut self) {
        // Mostly there is none.
        while let [byte @ 0..=b' ', rest @ ..] = self.bytes {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return;
            }
            self.bytes = rest;
        }
    }

    /// Whether `byte` comes next, white space aside, and passes it.
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        match self.bytes {
            [first, rest @ ..] if *first == byte => self.bytes = rest,
            [0..=b' ', ..] => {
                self.space();
                let Some(rest) = self.bytes.strip_prefix(&[byte]) else { return false };
                self.bytes = rest;
            }
            _ => return false,
        }
        true
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes = self.bytes.strip_prefix(word)?;
        Some(())
    }

    /// An object, whose values `value` reads.
    #[inline]
    fn object(&mut self, mut value: impl FnMut(&mut Self, Member) -> Option<()>) -> Option<()> {
        self.list(b'{', b'}', |rest| {
            let name = rest.string()?;
            let member = Member::of(name);
            if member == Member::Other && !is_plain(name) {
                return None;
            }
            rest.take(b':').then_some(())?;
            rest.space();
            value(rest, member)
        })
    }

    #[inline]
    fn list(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open).then_some(())?;
        if self.take(close) {
            return Some(());
        }
        loop {
            item(self)?;
            if !self.take(b',') {
                return self.take(close).then_some(());
            }
        }
    }

    /// A string without escapes.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"').then_some(())?;
        let (text, behind) = self.bytes.split_at_checked(plain_length(self.bytes))?;
        self.bytes = behind.strip_prefix(b"\"")?;
        Some(text)
    }

    #[inline]
    fn whole(&mut self) -> Option<u64> {
        let (mut rest, mut value) = (self.bytes, 0);
        while let [digit @ b'0'..=b'9', behind @ ..] = rest {
            value = value * 10 + u64::from(digit - b'0');
            rest = behind;
            if value > MOST {
                return None;
            }
        }
        let is_whole = match self.bytes {
            [b'0', ..] => self.bytes.len() - rest.len() == 1,
            _ => rest.len() < self.bytes.len(),
        };
        self.bytes = rest;
        is_whole.then_some(value)
    }

    /// A whole number, or null.
    #[inline]
    fn count(&mut self, number: Number) -> Option<Option<Count>> {
        if self.bytes.starts_with(b"n") {
            return self.word(b"null").map(|()| None);
        }
        let scale = if number == Number::Seconds { Scaled::MILLI } else { Scaled::ONE };
        self.whole().map(|whole| Some(scale.whole(whole)))
    }

    /// An object of numbers, or null, into its place.
    fn part(&mut self, place: &mut Inside) -> Option<()> {
        if self.bytes.starts_with(b"n") {
            *place = Inside::Absent;
            return self.word(b"null");
        }
        *place = Inside::Numbers([None; INNER]);
        let Inside::Numbers(counts) = place else { return None };
        self.object(|rest, member| {
            let inner = match member {
                Member::Number(number) => counts.get_mut(number as usize).map(|slot| (slot, number)),
                Member::Part(_) | Member::Other => None,
            };
            match inner {
                Some((slot, number)) => *slot = rest.count(number)?,
                None => rest.pass(0)?,
            }
            Some(())
        })
    }

    /// A value that says nothing.
    fn pass(&mut self, depth: u32) -> Option<()> {
        match self.bytes {
            [b'"', ..] => {
                self.had_string = true;
                self.string().filter(|text| is_plain(text)).map(drop)
            }
            [b'n', ..] => self.word(b"null"),
            [b't', ..] => self.word(b"true"),
            [b'f', ..] => self.word(b"false"),
            [b'[' | b'{', ..] if depth >= DEEPEST => None,
            [b'[', ..] => self.list(b'[', b']', |rest| {
                rest.space();
                rest.pass(depth + 1)
            }),
            [b'{', ..] => self.object(|rest, _| rest.pass(depth + 1)),
            _ => self.whole().map(drop),
        }
    }
}

/// Whether a string is printable ASCII, as the names that are known all are.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, 0x20..0x80))
}
