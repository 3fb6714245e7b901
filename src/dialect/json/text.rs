//! JSON strings: where one ends, whether its escapes are sound, and which characters they stand for.

use memchr::memchr2;

use crate::dialect::json::block::{self, BLOCK};
use crate::policy::BodyFlaw;

/// How far the end of a string is looked for block by block: most are short, and a call that passes long ones costs more than that.
const NEAR: usize = 2 * BLOCK;
/// The same of the next escape in a string that has some: they stand close to each other.
const NEAR_ESCAPES: usize = 6 * BLOCK;

/// The end of the string whose content begins at `start` (the offset of its closing quotation mark), and whether it holds an
/// escape. `is_smooth` says that there is no control character in all of `body`.
///
/// # Errors
/// [`BodyFlaw::Syntax`]: control characters, escapes that RFC 8259 does not know, no closing quotation mark.
#[inline]
pub(super) fn end(body: &[u8], start: usize, is_smooth: bool) -> Result<(usize, bool), BodyFlaw> {
    let Some(block) = block::at(body, start) else { return far_end(body, start, is_smooth) };
    let at = start + block::special(block).unwrap_or(BLOCK);
    if body.get(at) == Some(&b'"') { Ok((at, false)) } else { far_end(body, at, is_smooth) }
}

/// The same of any string, of which nothing that matters stands before `at`.
#[inline(never)]
fn far_end(body: &[u8], mut at: usize, is_smooth: bool) -> Result<(usize, bool), BodyFlaw> {
    let (mut escaped, mut near) = (false, NEAR);
    loop {
        at = next_special(body, at, near, is_smooth);
        match body.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                at = escape_end(body, at)?;
                (escaped, near) = (true, NEAR_ESCAPES);
            }
            Some(_) => return Err(BodyFlaw::Syntax { offset: at, expected: "no control character in a string" }),
            None => return Err(BodyFlaw::Syntax { offset: at, expected: "a closing quotation mark" }),
        }
    }
}

/// The lowest byte, and all bits that any byte has: one look at all of a body, which tells whether it is ASCII and holds no control
/// character. Those at its strings are for fewer bytes then.
pub(super) fn survey(body: &[u8]) -> (u8, u8) {
    let add = |(least, bits): (u8, u8), byte: &u8| (least.min(*byte), bits | byte);
    let (blocks, tail) = body.as_chunks::<{ 4 * BLOCK }>();
    let (mut least, mut bits) = ([u8::MAX; BLOCK], [0; BLOCK]);
    // Nothing changes when a byte is looked at twice, so the last block may overlap the one before.
    let last = body.last_chunk().filter(|_| !tail.is_empty());
    for block in blocks.iter().chain(last) {
        for lane in block.as_chunks::<BLOCK>().0 {
            for ((least, bits), byte) in least.iter_mut().zip(&mut bits).zip(lane) {
                (*least, *bits) = add((*least, *bits), byte);
            }
        }
    }
    let found = least.into_iter().zip(bits).fold((u8::MAX, 0), |all, one| (all.0.min(one.0), all.1 | one.1));
    if blocks.is_empty() { tail.iter().fold(found, add) } else { found }
}

/// The first quotation mark, backslash or control character from `at` on; the length of `body` when there is none. What is farther
/// than `near` (base64, mostly) is found faster, and faster still where the body holds no control character.
#[inline]
fn next_special(body: &[u8], mut at: usize, near: usize, is_smooth: bool) -> usize {
    let near = at.saturating_add(near);
    while let Some(block) = block::at(body, at) {
        if let Some(index) = block::special(block) {
            return at + index;
        }
        at += BLOCK;
        if at >= near {
            return if is_smooth { at + plain_run(body, at) } else { far_special(body, at) };
        }
    }
    at + body.get(at..).unwrap_or_default().iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count()
}

/// How many bytes from `at` on come before a quotation mark or backslash.
fn plain_run(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
}

/// [`next_special`] of a long run in a body that holds control characters.
#[inline(never)]
fn far_special(body: &[u8], at: usize) -> usize {
    let blocks = body.get(at..).unwrap_or_default().as_chunks().0;
    let passed = blocks.iter().take_while(|blocks| !block::has_special(blocks)).count();
    next_special(body, at + passed * 2 * BLOCK, usize::MAX, false)
}

/// How many bytes come before the first quotation mark or backslash of `text`; all, where there is none. For strings that are
/// passed over by whoever does not judge them.
#[inline]
pub(in crate::dialect) fn plain_length(text: &[u8]) -> usize {
    match block::at(text, 0) {
        Some(block) => block::ending(block).unwrap_or_else(|| plain_length_from(text, BLOCK)),
        None => plain_length_from(text, 0),
    }
}

/// The same, of which nothing that matters stands before `at`.
#[inline(never)]
fn plain_length_from(text: &[u8], mut at: usize) -> usize {
    while let Some(block) = block::at(text, at) {
        if let Some(index) = block::ending(block) {
            return at + index;
        }
        at += BLOCK;
        if at > NEAR {
            let rest = text.get(at..).unwrap_or_default();
            return at + memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        }
    }
    let tail = text.get(at..).unwrap_or_default();
    at + tail.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(tail.len())
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
    let digits: &[u8; 4] = body.get(at..)?.first_chunk()?;
    digits.iter().try_fold(0, |value, byte| char::from(*byte).to_digit(16).map(|digit| value << 4 | digit))
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
            prop_assert_eq!(next_special(&body, from, NEAR, false), plain.len());
            prop_assert_eq!(next_special(&plain, from, NEAR, false), plain.len());
            prop_assert_eq!(next_special(&plain, from, NEAR, true), plain.len());
            let is_control = special < 0x20;
            prop_assert_eq!(survey(&plain).0 >= 0x20, true);
            prop_assert_eq!(survey(&body).1 < 0x80, body.is_ascii());
            prop_assert_eq!(survey(&body).0, body.iter().copied().min().unwrap());
            if !is_control {
                prop_assert_eq!(next_special(&body, from, NEAR, true), plain.len());
            }
            if special == b'"' {
                prop_assert_eq!(end(&body, from, false), Ok((plain.len(), false)));
                prop_assert_eq!(end(&body, from, survey(&body).0 >= 0x20), Ok((plain.len(), false)));
            }
            let ending = body.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(body.len());
            prop_assert_eq!(plain_length(&body), ending);
            prop_assert_eq!(plain_length(&plain), plain.len());
        }
    }
}
