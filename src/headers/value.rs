//! What stands behind a header's name, known to be free of whatever could end its line.

use std::fmt;

use http::HeaderValue;

use super::read::is_control;

/// The value of a header: no control stands in it but the tab. It does not print: among values are secrets.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    bytes: &'a [u8],
    is_sensitive: bool,
}

/// A value that is not all of visible ASCII and blanks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotText;

impl<'a> Value<'a> {
    /// A text as it may stand in a line; `None` for any other.
    pub fn of(text: &'a str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// Bytes as they may stand in a line (RFC 9110 5.5); `None` for any other.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        // Without a way out amid the value, so that it is looked at many bytes at once.
        let is_bad = bytes.iter().fold(false, |bad, byte| bad | is_control(*byte));
        (!is_bad).then_some(Self::known(bytes, false))
    }

    /// A text of ours.
    ///
    /// # Panics
    /// It could not stand in a line.
    pub const fn from_static(text: &'static str) -> Value<'static> {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(matches!(bytes[at], b'\t' | b' '..=b'~'), "no value of a header");
            at += 1;
        }
        Value { bytes, is_sensitive: false }
    }

    /// What a peer has sent, without the blanks around it. Whether it has controls is for the caller to see.
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
        let start = bytes.iter().position(is_text).unwrap_or(bytes.len());
        let end = bytes.iter().rposition(is_text).map_or(start, |last| last + 1);
        Self::known(bytes.get(start..end).unwrap_or_default(), false)
    }

    /// A number as it is written.
    pub(super) fn digits(text: &'a str) -> Self {
        Self::known(text.as_bytes(), false)
    }

    /// What was a value before.
    pub(super) fn known(bytes: &'a [u8], is_sensitive: bool) -> Self {
        Self { bytes, is_sensitive }
    }

    /// Its bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Its text.
    ///
    /// # Errors
    /// It has bytes that are not ASCII.
    pub fn to_str(self) -> Result<&'a str, NotText> {
        // Of ASCII it has what is visible, or it would be no value.
        std::str::from_utf8(self.bytes).ok().filter(|text| text.is_ascii()).ok_or(NotText)
    }

    /// How many bytes.
    pub fn len(self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether HTTP/2 is to keep it out of its tables.
    pub fn is_sensitive(self) -> bool {
        self.is_sensitive
    }
}

impl<'a> From<&'a HeaderValue> for Value<'a> {
    fn from(value: &'a HeaderValue) -> Self {
        Self::known(value.as_bytes(), value.is_sensitive())
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Value<'_> {}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}
