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
    escaped: bool,
}

impl<'a> Name<'a> {
    /// `raw` is what stands between the quotation marks; `escaped` says whether there is a backslash in it.
    pub fn new(raw: &'a [u8], escaped: bool) -> Self {
        Self { raw, escaped }
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

/// A table of watched names, each with what it means. Found by length first: most members of a body are told apart from all
/// watched ones by that alone.
pub struct Names<T: 'static> {
    entries: &'static [(&'static str, T)],
    /// Where the names of each length begin.
    starts: [u8; MAX_BYTES + 2],
}

impl<T: Copy> Names<T> {
    /// Builds the table at compile time.
    ///
    /// # Panics
    /// While compiling, when `entries` are not ordered by length or one is too long.
    pub const fn new(entries: &'static [(&'static str, T)]) -> Self {
        let mut starts = [0; MAX_BYTES + 2];
        let (mut index, mut length) = (0, 0);
        while length <= MAX_BYTES {
            starts[length] = index as u8;
            while index < entries.len() && entries[index].0.len() == length {
                index += 1;
            }
            length += 1;
        }
        starts[MAX_BYTES + 1] = index as u8;
        assert!(index == entries.len() && index < 256, "watched names are ordered by length");
        Self { entries, starts }
    }

    /// The watched name that `name` is, with its meaning; `None` for a name that no reader takes for one.
    ///
    /// # Errors
    /// [`BodyFlaw::MisspelledMember`].
    pub fn find(&self, name: &Name<'_>) -> Result<Option<(&'static str, T)>, BodyFlaw> {
        let folded = |name: &[u8]| name.first().map(|byte| byte | 0x20);
        let first = folded(name.raw);
        for (watched, meaning) in self.of_length(name.raw.len()) {
            // Whatever the letter case, the first letter tells most of them apart.
            if folded(watched.as_bytes()) != first {
                continue;
            }
            if watched.as_bytes() == name.raw {
                return Ok(Some((watched, *meaning)));
            }
            if watched.as_bytes().eq_ignore_ascii_case(name.raw) {
                return Err(BodyFlaw::MisspelledMember { member: watched });
            }
        }
        if name.escaped || !name.raw.is_ascii() {
            let mut buffer = Name::buffer();
            if let Some(folded) = name.folded(&mut buffer)
                && let Some(member) = self.like(folded)
            {
                return Err(BodyFlaw::MisspelledMember { member });
            }
        }
        Ok(None)
    }

    /// The watched name that equals `name` whatever its letter case.
    pub fn like(&self, name: &[u8]) -> Option<&'static str> {
        let same = self.of_length(name.len()).iter().find(|(watched, _)| watched.as_bytes().eq_ignore_ascii_case(name));
        same.map(|(watched, _)| *watched)
    }

    /// Every watched name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, T)> {
        self.entries.iter().copied()
    }

    fn of_length(&self, length: usize) -> &'static [(&'static str, T)] {
        let bounds = (self.starts.get(length), self.starts.get(length.saturating_add(1)));
        let (Some(start), Some(end)) = bounds else { return &[] };
        self.entries.get(usize::from(*start)..usize::from(*end)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: Names<u8> = Names::new(&[("n", 1), ("model", 2), ("max_tokens", 3)]);

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
