//! Usage objects as backends write them: plain names, whole numbers, and nothing that two readers could read differently. Read in a
//! fraction of what it takes to read any JSON; whatever is written otherwise is left to the reader that knows all of it.

use crate::dialect::json::plain_length;
use crate::dialect::meter::count::{Count, Scaled};
use crate::dialect::meter::said::{INNER, Inside, Member, Number, Said};

/// How deep a value may nest that is passed over.
const DEEPEST: u32 = 8;
/// How many digits a number may have: what they say always fits.
const MOST_DIGITS: usize = 15;

/// Reads `json` into `said`, which says nothing yet. `None`, with anything in `said`, when it is written otherwise.
pub(super) fn read(json: &[u8], said: &mut Said) -> Option<()> {
    let mut rest = Rest(json);
    rest.space();
    rest.object(|rest, member| {
        match member {
            Member::Number(number) => *said.counts.get_mut(number as usize)? = rest.count(number)?,
            Member::Part(part) => *said.parts.get_mut(part as usize)? = rest.part()?,
            Member::Other => rest.pass(0)?,
        }
        Some(())
    })?;
    rest.space();
    rest.0.is_empty().then_some(())
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    #[inline]
    fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// Whether `byte` comes next, and passes it.
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    /// An object, whose values `value` reads.
    #[inline]
    fn object(&mut self, mut value: impl FnMut(&mut Self, Member) -> Option<()>) -> Option<()> {
        self.list(b'{', b'}', |rest| {
            let member = Member::of(rest.string()?);
            rest.space();
            rest.take(b':').then_some(())?;
            rest.space();
            value(rest, member)
        })
    }

    #[inline]
    fn list(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open).then_some(())?;
        self.space();
        if self.take(close) {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.take(close) {
                return Some(());
            }
            self.take(b',').then_some(())?;
            self.space();
        }
    }

    /// A string of printable ASCII without escapes.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"').then_some(())?;
        let (text, behind) = self.0.split_at_checked(plain_length(self.0))?;
        self.0 = behind.strip_prefix(b"\"")?;
        text.iter().all(|byte| matches!(byte, 0x20..0x80)).then_some(text)
    }

    #[inline]
    fn whole(&mut self) -> Option<u64> {
        let digits = self.0.iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        let (number, behind) = self.0.split_at_checked(digits)?;
        if digits == 0 || digits > MOST_DIGITS || (digits > 1 && number.starts_with(b"0")) {
            return None;
        }
        self.0 = behind;
        Some(number.iter().fold(0, |value, byte| value * 10 + u64::from(byte - b'0')))
    }

    /// A whole number, or null.
    #[inline]
    fn count(&mut self, number: Number) -> Option<Option<Count>> {
        if self.0.starts_with(b"n") {
            return self.word(b"null").map(|()| None);
        }
        let scale = if number == Number::Seconds { Scaled::MILLI } else { Scaled::ONE };
        self.whole().map(|whole| Some(scale.whole(whole)))
    }

    /// An object of numbers, or null.
    #[inline]
    fn part(&mut self) -> Option<Inside> {
        if self.0.starts_with(b"n") {
            return self.word(b"null").map(|()| Inside::Absent);
        }
        let mut counts = [None; INNER];
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
        })?;
        Some(Inside::Numbers(counts))
    }

    /// A value that says nothing.
    fn pass(&mut self, depth: u32) -> Option<()> {
        match self.0 {
            [b'"', ..] => self.string().map(drop),
            [b'n', ..] => self.word(b"null"),
            [b't', ..] => self.word(b"true"),
            [b'f', ..] => self.word(b"false"),
            [b'[' | b'{', ..] if depth >= DEEPEST => None,
            [b'[', ..] => self.list(b'[', b']', |rest| rest.pass(depth + 1)),
            [b'{', ..] => self.object(|rest, _| rest.pass(depth + 1)),
            _ => self.whole().map(drop),
        }
    }
}
