//! JSON strings: where one ends, whether its escapes are sound, and which characters they stand for.

use memchr::memchr2;

use crate::policy::BodyFlaw;

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const WORD: usize = 8;
const BLOCK: usize = 32;

/// The end of the string whose content begins at `start` (the offset of its closing quotation mark), and whether it holds an
/// escape. `is_smooth` says that [`is_smooth`] is true of all of `body`.
///
/// # Errors
/// [`BodyFlaw::Syntax`]: control characters, escapes that RFC 8259 does not know, no closing quotation mark.
pub(super) fn end(body: &[u8], start: usize, is_smooth: bool) -> Result<(usize, bool), BodyFlaw> {
    let (mut at, mut escaped) = (start, false);
    loop {
        at = next_special(body, at, is_smooth);
        match body.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                at = escape_end(body, at)?;
                escaped = true;
            }
            Some(_) => return Err(BodyFlaw::Syntax { offset: at, expected: "no control character in a string" }),
            None => return Err(BodyFlaw::Syntax { offset: at, expected: "a closing quotation mark" }),
        }
    }
}

/// Whether there is no control character: one look at all of a body, and those at its strings are for fewer bytes.
pub(super) fn is_smooth(body: &[u8]) -> bool {
    body.iter().fold(u8::MAX, |least, byte| least.min(*byte)) >= 0x20
}

/// The first quotation mark, backslash or control character from `at` on; the length of `body` when there is none. Most
/// strings are short, so words come first; long ones (base64) are then passed in blocks that the compiler makes vectors of, or
/// faster where the body holds no control character.
fn next_special(body: &[u8], mut at: usize, is_smooth: bool) -> usize {
    let mut words_end = at.saturating_add(4 * WORD);
    while let Some(word) = chunk::<WORD>(body, at) {
        if let Some(index) = special_in_word(*word) {
            return at + index;
        }
        at += WORD;
        if at >= words_end {
            if is_smooth {
                let rest = body.get(at..).unwrap_or_default();
                return at + memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            }
            while chunk::<BLOCK>(body, at).is_some_and(|block| !has_special(block)) {
                at += BLOCK;
            }
            words_end = at.saturating_add(BLOCK);
        }
    }
    let tail = body.get(at..).unwrap_or_default();
    tail.iter().position(|byte| is_special(*byte)).map_or(body.len(), |index| at + index)
}

fn chunk<const N: usize>(body: &[u8], at: usize) -> Option<&[u8; N]> {
    body.get(at..).and_then(|rest| rest.first_chunk())
}

/// Flipping bit 1 brings the quotation mark (0x22) next to the control characters and leaves those below 0x20, so that one
/// comparison finds both.
const FLIP: u8 = 0x02;
const BELOW: u8 = 0x21;

fn is_special(byte: u8) -> bool {
    ((byte ^ FLIP) < BELOW) | (byte == b'\\')
}

fn has_special(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(0_u8, |found, byte| found | u8::from(is_special(*byte))) != 0
}

/// The index of the first special byte of eight, by subtracting in all of them at once. A borrow can only mark bytes behind
/// the first hit, so the lowest mark is exact.
fn special_in_word(word: [u8; WORD]) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    let flipped = word ^ (ONES * u64::from(FLIP));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let marks =
        (flipped.wrapping_sub(ONES * u64::from(BELOW)) & !flipped) | (backslash.wrapping_sub(ONES) & !backslash);
    let marks = marks & (ONES << 7);
    (marks != 0).then(|| (marks.trailing_zeros() / 8) as usize)
}

/// How many bytes come before the first quotation mark or backslash of `text`; all, where there is none. For strings that are
/// passed over by whoever does not judge them.
#[inline]
pub(in crate::dialect) fn plain_length(text: &[u8]) -> usize {
    let (words, tail) = text.as_chunks::<WORD>();
    for (at, word) in words.iter().enumerate().take(4) {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        let marks = (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash);
        let marks = marks & (ONES << 7);
        if marks != 0 {
            return at * WORD + (marks.trailing_zeros() / 8) as usize;
        }
    }
    // Here most strings have ended.
    if words.len() <= 4 {
        let last = tail.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(tail.len());
        return words.len() * WORD + last;
    }
    let rest = text.get(4 * WORD..).unwrap_or_default();
    4 * WORD + memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
}

/// Behind the escape at `at`.
fn escape_end(body: &[u8], at: usize) -> Result<usize, BodyFlaw> {
    match body.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') if hex4(body, at + 2).is_some() => Ok(at + 6),
        Some(b'u') => Err(BodyFlaw::Syntax { offset: at, expected: "four hexadecimal digits" }),
        _ => Err(BodyFlaw::Syntax { offset: at, expected: "an escape of RFC 8259" }),
    }
}

fn hex4(body: &[u8], at: usize) -> Option<u32> {
    chunk::<4>(body, at)?
        .iter()
        .try_fold(0, |value, byte| char::from(*byte).to_digit(16).map(|digit| value << 4 | digit))
}

/// Whether every surrogate escape of a sound string has its other half. Backends read a lone one as a replacement character,
/// as nothing, or as an error.
pub(super) fn is_whole(raw: &[u8]) -> bool {
    Chars::new(raw).all(|unit| unit.is_some())
}

/// The characters of a sound string, unescaped; `None` in place of a lone surrogate.
pub(super) struct Chars<'a> {
    rest: &'a [u8],
}

impl<'a> Chars<'a> {
    /// `raw` is what stood between the quotation marks of a string that [`end`] has passed.
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Self { rest: raw }
    }

    fn take(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn unit(&mut self) -> Option<char> {
        let high = hex4(self.rest, 2);
        self.take(6);
        let high = high?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high);
        }
        if !self.rest.starts_with(b"\\u") {
            return None;
        }
        let low = hex4(self.rest, 2).filter(|low| (0xDC00..0xE000).contains(low))?;
        self.take(6);
        char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    }
}

impl Iterator for Chars<'_> {
    type Item = Option<char>;

    fn next(&mut self) -> Option<Self::Item> {
        match *self.rest {
            [] => None,
            [b'\\', b'u', ..] => Some(self.unit()),
            [b'\\', byte, ..] => {
                self.take(2);
                Some(Some(match byte {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    other => char::from(other),
                }))
            }
            [byte, ..] if byte.is_ascii() => {
                self.take(1);
                Some(Some(char::from(byte)))
            }
            [byte, ..] => {
                let length = (byte.leading_ones() as usize).clamp(2, 4).min(self.rest.len());
                let character = std::str::from_utf8(self.rest.get(..length).unwrap_or_default());
                self.take(length);
                Some(character.ok().and_then(|character| character.chars().next()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_become_the_characters_they_stand_for() {
        let text = |raw: &str| Chars::new(raw.as_bytes()).collect::<Option<String>>();
        assert_eq!(text(r#"a\"\\\/\b\f\n\r\t\u00e9é\ud83d\ude00"#).as_deref(), Some("a\"\\/\u{8}\u{c}\n\r\té\u{e9}😀"));
        assert_eq!(text(r"\ud83d"), None);
        assert_eq!(text(r"\ude00\ud83d"), None);
        assert_eq!(text(r"\ud83d\n"), None);
    }

    proptest! {
        #[test]
        fn the_next_special_byte_is_the_first(
            plain in proptest::collection::vec(prop_oneof![Just(b'a'), Just(0x7f), Just(0xff), Just(0x80), Just(b' '), Just(b'!')], 0..300),
            special in prop_oneof![Just(b'"'), Just(b'\\'), 0_u8..0x20],
            after in proptest::collection::vec(any::<u8>(), 0..40),
            from in 0_usize..50,
        ) {
            let body = [plain.as_slice(), &[special], after.as_slice()].concat();
            let from = from.min(plain.len());
            prop_assert_eq!(next_special(&body, from, false), plain.len());
            prop_assert_eq!(next_special(&plain, from, false), plain.len());
            prop_assert_eq!(next_special(&plain, from, true), plain.len());
            let is_control = special < 0x20;
            prop_assert_eq!(is_smooth(&plain), true);
            prop_assert!(!(is_smooth(&body) && is_control));
            if is_smooth(&body) {
                prop_assert_eq!(next_special(&body, from, true), plain.len());
            }
            let ending = body.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(body.len());
            prop_assert_eq!(plain_length(&body), ending);
            prop_assert_eq!(plain_length(&plain), plain.len());
        }
    }
}
