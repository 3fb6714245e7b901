//! The scanner: one pass over a JSON body, no tree, no copy. Stricter than most backends, so that what it reads is what
//! every one of them reads (SECURITY 2): RFC 8259 to the letter, UTF-8 everywhere, no byte-order mark, one object, nothing
//! after it, at most 128 deep.

pub(in crate::dialect) mod block;
mod media;
mod names;
mod number;
mod open;
mod text;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use crate::policy::BodyFlaw;

use open::Open;

pub(in crate::dialect) use text::plain_length;

pub use names::{Name, Names};

/// What a string says, and the range between its quotation marks.
pub type Plain<'a> = (Cow<'a, str>, Range<usize>);

/// How deep a body may nest; the outermost object is 1.
pub const MAX_DEPTH: u32 = 128;

/// A position in a JSON object and what was counted on the way to it. The caller walks the members it cares for and skips
/// the rest; every byte is checked either way.
pub struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
    depth: u32,
    /// Whether the body holds no control character.
    is_smooth: bool,
    /// Whether it is ASCII.
    is_ascii: bool,
    /// The nearest member name, as long as it is known to be that of the value being read.
    name: &'a [u8],
    /// Whether there is an escape in it.
    name_is_escaped: bool,
    media_items: u64,
    media_bytes: u64,
    refers: bool,
}

/// A string of the body: the range between its quotation marks, and whether it holds an escape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// What stands between the quotation marks, as it is in the body.
    pub range: Range<usize>,
    /// Whether there is a backslash in it.
    pub escaped: bool,
}

impl<'a> Cursor<'a> {
    /// Checks the encoding of the whole of `body` and enters its object: [`next_member`](Self::next_member) comes next.
    ///
    /// # Errors
    /// [`BodyFlaw::NotUtf8`], [`BodyFlaw::NotAnObject`], or [`BodyFlaw::Syntax`] where no JSON value begins.
    pub fn open(body: &'a [u8]) -> Result<Self, BodyFlaw> {
        if body.starts_with(b"\xEF\xBB\xBF") {
            return Err(BodyFlaw::NotUtf8 { offset: 0 });
        }
        // Most bodies are ASCII, which is seen faster than that they are UTF-8.
        let (least, bits) = text::survey(body);
        let (is_smooth, is_ascii) = (least >= 0x20, bits < 0x80);
        if !is_ascii {
            std::str::from_utf8(body).map_err(|error| BodyFlaw::NotUtf8 { offset: error.valid_up_to() })?;
        }
        let (name, name_is_escaped): (&[u8], bool) = (&[], false);
        let (media_items, media_bytes) = (0, 0);
        let (at, depth, refers) = (0, 0, false);
        let mut cursor =
            Self { body, at, depth, is_smooth, is_ascii, name, name_is_escaped, media_items, media_bytes, refers };
        cursor.space();
        match cursor.peek() {
            Some(b'{') => cursor.enter()?,
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => return Err(BodyFlaw::NotAnObject),
            _ => return Err(cursor.expected("a JSON object")),
        }
        Ok(cursor)
    }

    /// The end of the body: only white space may be left.
    ///
    /// # Errors
    /// [`BodyFlaw::TrailingBytes`].
    pub fn finish(&mut self) -> Result<(), BodyFlaw> {
        self.space();
        if self.at < self.body.len() { Err(BodyFlaw::TrailingBytes { offset: self.at }) } else { Ok(()) }
    }

    /// How many items of base64 media were passed.
    pub fn media_items(&self) -> u64 {
        self.media_items
    }

    /// Whether something was passed that says where more is to be read.
    pub fn refers(&self) -> bool {
        self.refers
    }

    /// How many bytes of the body those items are.
    pub fn media_bytes(&self) -> u64 {
        self.media_bytes
    }

    /// Where the cursor stands, in bytes from the start.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The byte at the cursor; at a value it tells its type.
    pub fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    /// The bytes of a range that this cursor gave.
    #[inline]
    pub fn slice(&self, range: &Range<usize>) -> &'a [u8] {
        self.body.get(range.clone()).unwrap_or_default()
    }

    /// Goes into the object or array at the cursor.
    ///
    /// # Errors
    /// [`BodyFlaw::TooDeep`].
    pub fn enter(&mut self) -> Result<(), BodyFlaw> {
        if self.depth >= MAX_DEPTH {
            return Err(BodyFlaw::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        Ok(())
    }

    /// The name of the next member of the object entered, with the cursor at its value; `None` behind the object's end.
    /// `first` is true before the first call and belongs to this object.
    ///
    /// # Errors
    /// [`BodyFlaw::Syntax`].
    pub fn next_member(&mut self, first: &mut bool) -> Result<Option<Name<'a>>, BodyFlaw> {
        if self.next(first, b'}', "a comma or a closing brace")? { self.member_name().map(Some) } else { Ok(None) }
    }

    /// Whether the array entered has a next element, with the cursor at it; the cursor is behind the array's end otherwise.
    ///
    /// # Errors
    /// [`BodyFlaw::Syntax`].
    pub fn next_element(&mut self, first: &mut bool) -> Result<bool, BodyFlaw> {
        self.next(first, b']', "a comma or a closing bracket")
    }

    #[inline]
    fn next(&mut self, first: &mut bool, close: u8, expected: &'static str) -> Result<bool, BodyFlaw> {
        self.space();
        let is_first = std::mem::take(first);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                (self.name, self.name_is_escaped) = (&[], false);
                return Ok(false);
            }
            Some(b',') if !is_first => {
                self.at += 1;
                self.space();
            }
            _ if is_first => {}
            _ => return Err(self.expected(expected)),
        }
        Ok(true)
    }

    /// Passes over the `null` at the cursor; false when something else stands there.
    ///
    /// # Errors
    /// [`BodyFlaw::Syntax`] for what begins like `null` and is not.
    pub fn null(&mut self) -> Result<bool, BodyFlaw> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal(b"null")?;
        Ok(true)
    }

    /// The flaw of a value at the cursor that is not what `member` takes; if no value begins here, that.
    pub fn bad(&self, member: &'static str, expected: &'static str) -> BodyFlaw {
        match self.peek() {
            Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                BodyFlaw::BadMember { member, expected }
            }
            _ => self.expected("a value"),
        }
    }

    /// A string without escapes, but for `\/` (PHP writes every slash so): what is checked is then what is read. `None` for null.
    ///
    /// # Errors
    /// [`BodyFlaw::BadMember`] for anything else.
    pub fn plain_string(
        &mut self,
        member: &'static str,
        expected: &'static str,
    ) -> Result<Option<Plain<'a>>, BodyFlaw> {
        if self.null()? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(self.bad(member, expected));
        }
        let text = self.string()?;
        let raw = std::str::from_utf8(self.slice(&text.range)).unwrap_or_default();
        if !text.escaped {
            return Ok(Some((Cow::Borrowed(raw), text.range)));
        }
        let plain = raw.replace("\\/", "/");
        let is_plain = !plain.contains('\\');
        if is_plain { Ok(Some((Cow::Owned(plain), text.range))) } else { Err(BodyFlaw::BadMember { member, expected }) }
    }

    /// The boolean at the cursor; `None` for null.
    ///
    /// # Errors
    /// [`BodyFlaw::BadMember`] for anything else.
    pub fn flag(&mut self, member: &'static str) -> Result<Option<bool>, BodyFlaw> {
        match self.peek() {
            Some(b't') => self.literal(b"true").map(|()| Some(true)),
            Some(b'f') => self.literal(b"false").map(|()| Some(false)),
            _ if self.null()? => Ok(None),
            _ => Err(self.bad(member, "true, false or null")),
        }
    }

    /// The plain integer at the cursor, in `range`; `None` for null. No sign, fraction, exponent or quotation marks:
    /// backends disagree about what those mean.
    ///
    /// # Errors
    /// [`BodyFlaw::BadMember`] with `expected` for anything else.
    pub fn integer(
        &mut self,
        member: &'static str,
        range: std::ops::RangeInclusive<u64>,
        expected: &'static str,
    ) -> Result<Option<u64>, BodyFlaw> {
        if self.null()? {
            return Ok(None);
        }
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.bad(member, expected));
        }
        let start = self.at;
        self.at = number::end(self.body, start)?;
        number::plain(self.slice(&(start..self.at)))
            .filter(|value| range.contains(value))
            .map(Some)
            .ok_or(BodyFlaw::BadMember { member, expected })
    }

    /// The string at the cursor.
    ///
    /// # Errors
    /// [`BodyFlaw::Syntax`], also where no string begins.
    #[inline]
    pub fn string(&mut self) -> Result<Text, BodyFlaw> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a string"));
        }
        let start = self.at + 1;
        let (end, escaped) = text::end(self.body, start, self.is_smooth)?;
        self.at = end + 1;
        Ok(Text { range: start..end, escaped })
    }

    /// Passes over the value at the cursor, whatever it is, and gives its range. Every byte of it is checked; base64 media in
    /// it are counted.
    ///
    /// # Errors
    /// [`BodyFlaw::Syntax`], [`BodyFlaw::TooDeep`].
    pub fn skip(&mut self) -> Result<Range<usize>, BodyFlaw> {
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') => self.skip_container()?,
            Some(b'"') => {
                let text = self.string()?;
                // There is no object around it that could say more.
                let (name, raw) = (self.name, self.slice(&text.range));
                self.refers |= media::refers(name, raw);
                if media::sort(name, raw) == media::Sort::Media {
                    self.count_media(1, text.range.len() as u64);
                }
            }
            _ => self.skip_word()?,
        }
        Ok(start..self.at)
    }

    #[inline(never)]
    fn skip_container(&mut self) -> Result<(), BodyFlaw> {
        let mut open = Open::default();
        while !(self.begin_value(&mut open)? && self.end_values(&mut open)?) {}
        Ok(())
    }

    /// Reads a scalar or an empty container whole (true), or goes to the first value inside a container (false).
    #[inline]
    fn begin_value(&mut self, open: &mut Open) -> Result<bool, BodyFlaw> {
        match self.peek() {
            Some(b'"') => {
                let text = self.string()?;
                let (name, raw) = (self.name, self.slice(&text.range));
                let bytes = text.range.len() as u64;
                self.refers |= media::refers(name, raw);
                match media::sort(name, raw) {
                    media::Sort::Text if self.name_is_escaped || media::may_say(name) => {
                        media::says_media(name, raw).into_iter().for_each(|said| open.note(said));
                    }
                    media::Sort::Text => {}
                    media::Sort::Media => self.count_media(1, bytes),
                    media::Sort::AsSaid => open.defer(bytes),
                }
            }
            Some(b'{') => return self.begin_container(open, true, b'}'),
            Some(b'[') => return self.begin_container(open, false, b']'),
            _ => self.skip_word()?,
        }
        Ok(true)
    }

    /// Passes over a number, `true`, `false` or `null`.
    fn skip_word(&mut self) -> Result<(), BodyFlaw> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.at = number::end(self.body, self.at)?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            _ => return Err(self.expected("a value")),
        }
        Ok(())
    }

    fn count_media(&mut self, items: u64, bytes: u64) {
        self.media_items += items;
        self.media_bytes += bytes;
    }

    #[inline]
    fn begin_container(&mut self, open: &mut Open, is_object: bool, close: u8) -> Result<bool, BodyFlaw> {
        if self.depth + open.levels() >= MAX_DEPTH {
            return Err(BodyFlaw::TooDeep);
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(true);
        }
        open.push(is_object);
        if is_object {
            self.member_name()?;
        }
        Ok(false)
    }

    /// Behind a value: closes what ends here and goes to the next value, or says that nothing is open any more (true).
    #[inline]
    fn end_values(&mut self, open: &mut Open) -> Result<bool, BodyFlaw> {
        while open.levels() > 0 {
            self.space();
            match (self.peek(), open.is_object()) {
                (Some(b','), is_object) => {
                    self.at += 1;
                    self.space();
                    if is_object {
                        self.member_name()?;
                    }
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    if let Some(media) = open.pop() {
                        self.count_media(media.items, media.bytes);
                    }
                    (self.name, self.name_is_escaped) = (&[], false);
                }
                (_, true) => return Err(self.expected("a comma or a closing brace")),
                (_, false) => return Err(self.expected("a comma or a closing bracket")),
            }
        }
        Ok(true)
    }

    /// A member's name, its colon, and the white space up to its value.
    #[inline]
    fn member_name(&mut self) -> Result<Name<'a>, BodyFlaw> {
        // Most are short and plain, with the colon right behind them and the value right behind that.
        if let Some([b'"', inside @ ..]) = self.body.get(self.at..)
            && let Some(length) = block::at(inside, 0).and_then(block::special)
            && let Some((raw, [b'"', b':', value, ..])) = inside.split_at_checked(length)
            && *value > b' '
        {
            self.at += length + 3;
            (self.name, self.name_is_escaped) = (raw, false);
            return Ok(Name::in_body(raw, !self.is_ascii));
        }
        self.any_member_name()
    }

    #[inline(never)]
    fn any_member_name(&mut self) -> Result<Name<'a>, BodyFlaw> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a member name"));
        }
        let Text { range, escaped } = self.string()?;
        let raw = self.slice(&range);
        let name = Name::in_body(raw, escaped || !self.is_ascii);
        if escaped && !text::is_whole(name.raw()) {
            return Err(BodyFlaw::Syntax { offset: range.start, expected: "no lone surrogate in a member name" });
        }
        (self.name, self.name_is_escaped) = (raw, escaped);
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.expected("a colon"));
        }
        self.at += 1;
        self.space();
        Ok(name)
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), BodyFlaw> {
        if !self.body.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Only the four bytes that RFC 8259 calls white space.
    #[inline]
    fn space(&mut self) {
        // Mostly there is none.
        while self.body.get(self.at).is_some_and(|byte| *byte <= b' ') {
            if !matches!(self.body.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
                return;
            }
            self.at += 1;
        }
    }

    #[cold]
    fn expected(&self, expected: &'static str) -> BodyFlaw {
        BodyFlaw::Syntax { offset: self.at, expected }
    }
}
