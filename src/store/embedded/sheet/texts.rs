//! A text of each key of a block, one behind the other: a byte that no text has, then the text.

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memrchr};

use crate::store::embedded::sheet::PLACES;

/// Before each text; UTF-8 never has it.
const BEFORE: u8 = 0xff;

/// The texts with some of them replaced; of none yet, all are empty.
pub(crate) fn replaced<'a>(data: &'a [u8], texts: impl Iterator<Item = (u32, &'a str)>) -> Vec<u8> {
    let known = data.split(|byte| *byte == BEFORE).skip(1).chain(std::iter::repeat(&b""[..]));
    let mut all = known.take(PLACES as usize).collect::<Vec<_>>();
    for (place, text) in texts {
        all[place as usize] = text.as_bytes();
    }
    let mut joined = Vec::with_capacity(all.iter().map(|text| 1 + text.len()).sum());
    for text in all {
        joined.push(BEFORE);
        joined.extend_from_slice(text);
    }
    joined
}

/// What is looked for in texts.
#[derive(Debug)]
pub(crate) struct Sought {
    /// Each must be in a text: these bytes, which begin with [`BEFORE`] where they must be at its beginning.
    parts: Vec<Finder<'static>>,
    /// What a text that has them must also be like.
    pattern: Option<Pattern>,
}

impl Sought {
    /// A text that contains this.
    pub(crate) fn part(part: &str) -> Self {
        Self { parts: vec![Finder::new(part.as_bytes()).into_owned()], pattern: None }
    }

    /// A text that begins so.
    pub(crate) fn beginning(beginning: &str) -> Self {
        Self { parts: vec![Finder::new(&[&[BEFORE], beginning.as_bytes()].concat()).into_owned()], pattern: None }
    }

    /// A text that SQL calls like this, with `%` alone.
    pub(crate) fn like(pattern: &str) -> Self {
        let pattern = Pattern::new(pattern);
        let mut parts = pattern.middle.clone();
        parts.extend(pattern.last.as_deref().map(|last| Finder::new(last).into_owned()));
        parts.extend(Self::beginning(&pattern.first).parts);
        Self { parts, pattern: Some(pattern) }
    }

    /// The keys among `wanted` whose texts are so.
    pub(crate) fn which(&self, data: &[u8], wanted: u128) -> u128 {
        let mut found = wanted;
        for part in &self.parts {
            if found != 0 {
                found &= containing(part, data);
            }
        }
        match &self.pattern {
            Some(pattern) if found != 0 => pattern.which(data, found),
            _ => found,
        }
    }
}

/// All texts are searched as one: what is sought has no [`BEFORE`] but its first byte, so it lies in one of them.
fn containing(finder: &Finder<'_>, data: &[u8]) -> u128 {
    let needle = finder.needle();
    if needle.is_empty() {
        return u128::MAX;
    }
    // What begins the text at `from` was not counted yet. Many names are alike: it is often where it was in the last one.
    let (mut found, mut begun, mut from, mut usual) = (0, 0_usize, 0, 0);
    loop {
        let rest = &data[from..];
        let is_usual = rest.get(usual..).is_some_and(|rest| rest.starts_with(needle))
            && (usual == 0 || memchr(BEFORE, &rest[1..usual]).is_none());
        let at = if is_usual {
            begun += 1;
            usual
        } else {
            let Some(at) = finder.find(rest) else { break };
            begun += memchr_iter(BEFORE, &rest[..=at]).count();
            usual = at - memrchr(BEFORE, &rest[..=at]).unwrap_or(0);
            at
        };
        found |= begun.checked_sub(1).and_then(|place| 1_u128.checked_shl(u32::try_from(place).ok()?)).unwrap_or(0);
        // On with the next text.
        match memchr(BEFORE, &rest[at + 1..]) {
            Some(next) => from += at + 1 + next,
            None => break,
        }
    }
    found
}

/// A pattern in which `%` stands for anything.
#[derive(Debug)]
struct Pattern {
    first: Box<str>,
    middle: Vec<Finder<'static>>,
    /// `None` when there is no `%`.
    last: Option<Box<[u8]>>,
}

impl Pattern {
    fn new(pattern: &str) -> Self {
        let Some((first, rest)) = pattern.split_once('%') else {
            return Self { first: pattern.into(), middle: Vec::new(), last: None };
        };
        let (middle, last) = rest.rsplit_once('%').unwrap_or(("", rest));
        let middle = middle.split('%').filter(|part| !part.is_empty());
        Self {
            first: first.into(),
            middle: middle.map(|part| Finder::new(part.as_bytes()).into_owned()).collect(),
            last: Some(last.as_bytes().into()),
        }
    }

    /// The keys among `wanted` whose texts are like it.
    fn which(&self, data: &[u8], wanted: u128) -> u128 {
        let mut found = 0;
        let mut ends = memchr_iter(BEFORE, data).skip(1).chain(std::iter::once(data.len()));
        let mut begin = 1;
        for place in 0..PLACES {
            let Some(end) = ends.next() else { break };
            if wanted >> place & 1 == 1 && self.fits(&data[begin..end]) {
                found |= 1 << place;
            }
            begin = end + 1;
        }
        found
    }

    fn fits(&self, text: &[u8]) -> bool {
        let first = self.first.as_bytes();
        let Some(last) = &self.last else { return text == first };
        let rest = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(&**last));
        let Some(mut rest) = rest else { return false };
        self.middle.iter().all(|part| match part.find(rest) {
            Some(at) => {
                rest = &rest[at + part.needle().len()..];
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "[abé%]{0,6}";

    fn like(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'%', rest)) => (0..=text.len()).any(|from| like(rest, &text[from..])),
            Some((first, rest)) => text.first() == Some(first) && like(rest, &text[1..]),
        }
    }

    fn naive(texts: &[String], is: impl Fn(&str) -> bool) -> u128 {
        (0..).zip(texts).filter(|(_, text)| is(text)).map(|(place, _)| 1_u128 << place).sum()
    }

    proptest! {
        #[test]
        fn what_is_sought_is_found_where_it_is(
            texts in prop::collection::vec(TEXT, 128),
            changed in prop::collection::vec((0_u32..128, TEXT), 0..4),
            sought in "[abé%]{0,3}",
        ) {
            let data = replaced(b"", (0..).zip(texts.iter().map(|text| &**text)));
            let data = replaced(&data, changed.iter().map(|(place, text)| (*place, &**text)));
            let mut texts = texts;
            for (place, text) in changed {
                texts[place as usize] = text;
            }
            let all = |what: &Sought| what.which(&data, u128::MAX);
            prop_assert_eq!(all(&Sought::part(&sought)), naive(&texts, |text| text.contains(&sought)));
            prop_assert_eq!(all(&Sought::beginning(&sought)), naive(&texts, |text| text.starts_with(&sought)));
            let is_like = |text: &str| like(sought.as_bytes(), text.as_bytes());
            prop_assert_eq!(all(&Sought::like(&sought)), naive(&texts, is_like));
        }
    }

    #[test]
    fn a_part_does_not_lie_across_two_texts_and_a_missing_text_is_empty() {
        let data = replaced(b"", [(1, "ab"), (2, "cd")].into_iter());
        assert_eq!(Sought::part("bc").which(&data, u128::MAX), 0);
        assert_eq!(Sought::like("").which(&data, u128::MAX), !0b110);
        assert_eq!(Sought::part("").which(&data, u128::MAX), u128::MAX);
        let again = replaced(&data, [(2, "")].into_iter());
        assert_eq!(Sought::part("cd").which(&again, u128::MAX) | Sought::part("b").which(&again, u128::MAX), 0b10);
    }
}
