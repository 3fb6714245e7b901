//! Member names, and tables of those that are watched. Backends fold letter case and unescape differently, so a watched name
//! is accepted in its own spelling only (SECURITY 2).

use crate::dialect::json::text::Chars;
use crate::policy::BodyFlaw;

/// The longest watched name, in bytes.
const MAX_BYTES: usize = 48;

/// A member's name as it stands in the body.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    raw: &'a [u8],
    /// It may hold an escape, or something outside ASCII.
    is_loose: bool,
}

impl<'a> Name<'a> {
    /// `raw` is what stands between the quotation marks; `escaped` says whether there is a backslash in it.
    pub fn new(raw: &'a [u8], escaped: bool) -> Self {
        Self { raw, is_loose: escaped || !raw.is_ascii() }
    }

    /// The same of a name in a body, where it is known whether it may hold anything but plain ASCII.
    #[inline]
    pub(super) fn in_body(raw: &'a [u8], is_loose: bool) -> Self {
        Self { raw, is_loose }
    }

    /// What stands between the quotation marks.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Writes what the loosest reader would take the name for: unescaped, folded to lower case, ended by a NUL. `None` when
    /// that is not ASCII or longer than any watched name.
    pub fn folded<'b>(&self, buffer: &'b mut [u8; MAX_BYTES]) -> Option<&'b [u8]> {
        let mut length = 0;
        for character in Chars::new(self.raw) {
            let folded = match character? {
                '\0' => break,
                // The only characters outside ASCII whose simple case folding is inside it,
                '\u{212A}' => b'k',
                '\u{17F}' => b's',
                // and those that Java's equalsIgnoreCase takes for an i.
                '\u{130}' | '\u{131}' => b'i',
                other => u8::try_from(other).ok().filter(u8::is_ascii)?.to_ascii_lowercase(),
            };
            *buffer.get_mut(length)? = folded;
            length += 1;
        }
        buffer.get(..length)
    }

    /// Room for [`folded`](Self::folded).
    pub fn buffer() -> [u8; MAX_BYTES] {
        [0; MAX_BYTES]
    }
}

/// A table of watched names, each with what it means. A name is found by its length and its first and last letters: most members of
/// a body are told apart from all watched ones by these alone.
pub struct Names<T: 'static> {
    entries: &'static [(&'static str, T)],
    /// By [`place`]: the first entry there, counted from 1.
    first: [u8; PLACES],
    /// By entry: the next one of its place, counted from 1.
    next: [u8; MAX_NAMES + 1],
}

const MAX_NAMES: usize = 127;
const PLACES: usize = 256;

/// Where a name stands in a table, whatever its letter case.
const fn place(name: &[u8]) -> usize {
    let ([first, ..], [.., last]) = (name, name) else { return 0 };
    let (first, last) = (*first | 0x20, *last | 0x20);
    ((name.len() as u8).wrapping_mul(11) ^ first.wrapping_mul(3) ^ last.wrapping_mul(37)) as usize
}

impl<T: Copy> Names<T> {
    /// Builds the table at compile time.
    ///
    /// # Panics
    /// While compiling, when there are too many `entries` or one is too long.
    pub const fn new(entries: &'static [(&'static str, T)]) -> Self {
        let (mut first, mut next) = ([0; PLACES], [0; MAX_NAMES + 1]);
        assert!(entries.len() <= MAX_NAMES, "a number of an entry is a byte");
        let mut number = entries.len();
        while number > 0 {
            let name = entries[number - 1].0.as_bytes();
            assert!(name.len() <= MAX_BYTES, "a watched name fits into its buffer");
            next[number] = first[place(name)];
            first[place(name)] = number as u8;
            number -= 1;
        }
        Self { entries, first, next }
    }

    /// The watched name that `name` is, with its meaning; `None` for a name that no reader takes for one.
    ///
    /// # Errors
    /// [`BodyFlaw::MisspelledMember`].
    #[inline]
    pub fn find(&self, name: &Name<'_>) -> Result<Option<(&'static str, T)>, BodyFlaw> {
        if let Some((watched, meaning)) = self.same(name.raw) {
            let is_same = watched.as_bytes() == name.raw;
            return if is_same { Ok(Some((watched, meaning))) } else { Err(misspelled(watched)) };
        }
        if name.is_loose { self.refuse_like(name) } else { Ok(None) }
    }

    #[inline(never)]
    fn refuse_like(&self, name: &Name<'_>) -> Result<Option<(&'static str, T)>, BodyFlaw> {
        if name.raw.is_ascii() && !name.raw.contains(&b'\\') {
            return Ok(None);
        }
        let mut buffer = Name::buffer();
        match name.folded(&mut buffer).and_then(|folded| self.like(folded)) {
            Some(member) => Err(misspelled(member)),
            None => Ok(None),
        }
    }

    /// The watched name that equals `name` whatever its letter case.
    pub fn like(&self, name: &[u8]) -> Option<&'static str> {
        self.same(name).map(|(watched, _)| watched)
    }

    /// Every watched name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, T)> {
        self.entries.iter().copied()
    }

    /// The entry whose name equals `name` whatever its letter case.
    #[inline]
    fn same(&self, name: &[u8]) -> Option<(&'static str, T)> {
        let mut number = self.first.get(place(name)).copied().unwrap_or(0);
        while let Some((watched, meaning)) = usize::from(number).checked_sub(1).and_then(|at| self.entries.get(at)) {
            if watched.as_bytes() == name || watched.as_bytes().eq_ignore_ascii_case(name) {
                return Some((watched, *meaning));
            }
            number = self.next.get(usize::from(number)).copied().unwrap_or(0);
        }
        None
    }
}

#[cold]
fn misspelled(member: &'static str) -> BodyFlaw {
    BodyFlaw::MisspelledMember { member }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static TABLE: Names<u8> = Names::new(&[("n", 1), ("model", 2), ("max_tokens", 3)]);

    /// Some of them share a place.
    const MANY: &[(&str, u8)] =
        &[("n", 1), ("stream", 2), ("system", 3), ("model", 4), ("medel", 5), ("mocal", 6), ("kissIi", 7)];
    static SHARED: Names<u8> = Names::new(MANY);

    /// What `find` promises, name by name.
    fn expected(raw: &str) -> Result<Option<(&'static str, u8)>, BodyFlaw> {
        if let Some((watched, meaning)) = MANY.iter().find(|(watched, _)| *watched == raw) {
            return Ok(Some((watched, *meaning)));
        }
        let name = Name::new(raw.as_bytes(), raw.contains('\\'));
        let mut buffer = Name::buffer();
        let folded = name.folded(&mut buffer).map(<[u8]>::to_vec);
        let is_like = |watched: &str| {
            let lower = watched.to_ascii_lowercase();
            raw.to_ascii_lowercase() == lower || folded.as_deref() == Some(lower.as_bytes())
        };
        match MANY.iter().find(|(watched, _)| is_like(watched)) {
            Some((member, _)) => Err(BodyFlaw::MisspelledMember { member }),
            None => Ok(None),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_name_is_found_by_its_place_as_by_looking_at_all(
            which in 0..MANY.len(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), "[a-zA-Z_]|\\\\u00[46][0-9a-f]|\u{212A}|\u{17F}|\u{130}|\u{131}|\\\\u0000|é", 0_u8..4), 0..3),
            known_plain: bool,
        ) {
            let mut raw: Vec<String> = MANY[which].0.chars().map(String::from).collect();
            for (at, text, kind) in changes {
                let at = at.index(raw.len().max(1)).min(raw.len().saturating_sub(1));
                match kind {
                    _ if raw.is_empty() => raw.push(text),
                    0 => raw[at] = text,
                    1 => raw.insert(at, text),
                    2 => _ = raw.remove(at),
                    _ => raw[at] = raw[at].to_ascii_uppercase(),
                }
            }
            let raw = raw.concat();
            let is_loose = raw.contains('\\') || !raw.is_ascii();
            let name = Name::in_body(raw.as_bytes(), is_loose || !known_plain);
            prop_assert_eq!(SHARED.find(&name), expected(&raw), "{}", raw);
            prop_assert_eq!(SHARED.find(&Name::new(raw.as_bytes(), raw.contains('\\'))), expected(&raw), "{}", raw);
        }
    }

    #[test]
    fn a_watched_name_has_one_spelling() {
        let find = |raw: &str| TABLE.find(&Name::new(raw.as_bytes(), raw.contains('\\')));
        assert_eq!(find("model"), Ok(Some(("model", 2))));
        assert_eq!(find("n"), Ok(Some(("n", 1))));
        for other in ["", "mode", "models", "modél", "mοdel", r"mode\u006c2", r"mode\n"] {
            assert_eq!(find(other), Ok(None), "{other}");
        }
        for (spelling, member) in [
            ("Model", "model"),
            ("MODEL", "model"),
            (r"\u006dodel", "model"),
            (r"model\u0000", "model"),
            (r"model\u0000x", "model"),
            (r"max_to\u212aens", "max_tokens"),
            ("max_toKens", "max_tokens"),
            ("max_to\u{212A}enſ", "max_tokens"),
            (r"\u004E", "n"),
        ] {
            assert_eq!(find(spelling), Err(BodyFlaw::MisspelledMember { member }), "{spelling}");
        }
    }
}
