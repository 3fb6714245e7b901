//! The head of a message as the data plane has it. Its headers are one text, whose lines stand in it as they go over the wire, in the order in which
//! they came or were put: to read one is to copy it once, and to write it is to copy it again. A message has a dozen; to look
//! through so few costs less than to hash one name, and the bound on how many there may be (`proxy::wire::head::MAX_HEADERS`) keeps
//! it so when a client would rather have it otherwise.
//!
//! Nothing gets into the text that could end a line early: a name is a token and a value has no controls, by its type or by a check here.

mod read;
mod target;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Version};

pub use self::read::{NoHeader, Reading, is_token};
pub use self::target::{Target, is_target};
pub use self::value::{NotText, Value};

/// Header lines. A name may stand in several; it is compared without regard to case, as RFC 9110 5.1 has it.
#[derive(Default)]
pub struct Headers {
    /// `name: value\r\n`, one after the other, the names in lower case. What was taken out still stands here.
    text: Vec<u8>,
    lines: Vec<Line>,
    /// A bit for each name that was put. Most names that are asked for are not there, and need not be looked for.
    names: u64,
}

/// Where a line stands.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: u32,
    /// Behind the line's own end.
    end: u32,
    mark: Mark,
    is_sensitive: bool,
}

/// What of a name is compared first: its length, its first and its last letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(u32);

/// What a request says before its body.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target.
    pub target: Target,
    /// The protocol's version.
    pub version: Version,
    /// The headers.
    pub headers: Headers,
}

/// What an answer says before its body.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Headers,
}

/// The values of one name, in their order.
#[derive(Debug, Clone, Copy)]
pub struct All<'a, N> {
    headers: &'a Headers,
    name: N,
}

/// What stands between a name and its value.
const COLON: &[u8] = b": ";
/// What ends a line.
const END: &[u8] = b"\r\n";

impl Mark {
    #[inline(always)]
    fn of(name: &[u8]) -> Self {
        let [first, last] = [name.first(), name.last()].map(|letter| letter.map_or(0, u8::to_ascii_lowercase));
        Self((name.len() as u32) << 16 | u32::from(first) << 8 | u32::from(last))
    }

    /// The length of the name.
    fn length(self) -> usize {
        (self.0 >> 16) as usize
    }

    #[inline(always)]
    fn bit(self) -> u64 {
        1 << (self.0.wrapping_mul(0x9e37_79b1) >> 26)
    }
}

impl Line {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self { text: Vec::new(), lines: Vec::new(), names: 0 }
    }

    /// None yet, with room for `lines` of so many bytes together.
    pub fn with_capacity(lines: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), lines: Vec::with_capacity(lines), names: 0 }
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The first value of `name`.
    #[inline(always)]
    pub fn get(&self, name: impl AsRef<str>) -> Option<Value<'_>> {
        // So much where it is asked, so that of a name that is known there nothing is to be worked out.
        let mark = Mark::of(name.as_ref().as_bytes());
        if self.names & mark.bit() == 0 {
            return None;
        }
        self.search(mark, name.as_ref())
    }

    fn search(&self, mark: Mark, name: &str) -> Option<Value<'_>> {
        let line = self.lines.iter().find(|line| is_of(&self.text, **line, mark, &name))?;
        Some(value(&self.text, *line))
    }

    /// All values of `name`.
    pub fn get_all<N: AsRef<str>>(&self, name: N) -> All<'_, N> {
        All { headers: self, name }
    }

    /// Whether there is a line of `name`.
    #[inline(always)]
    pub fn contains_key(&self, name: impl AsRef<str>) -> bool {
        self.get(name).is_some()
    }

    /// Puts a line in the place of all that `name` has.
    pub fn insert<'v>(&mut self, name: impl Borrow<HeaderName>, value: impl Into<Value<'v>>) {
        let name = name.borrow().as_str();
        self.remove(name);
        self.push(name, value.into());
    }

    /// Puts a line behind all others.
    pub fn append<'v>(&mut self, name: impl Borrow<HeaderName>, value: impl Into<Value<'v>>) {
        self.push(name.borrow().as_str(), value.into());
    }

    /// [`Headers::insert`] of a number.
    pub fn insert_number(&mut self, name: impl Borrow<HeaderName>, number: u64) {
        self.remove(name.borrow());
        self.append_number(name, number);
    }

    /// [`Headers::append`] of a number.
    pub fn append_number(&mut self, name: impl Borrow<HeaderName>, number: u64) {
        self.push(name.borrow().as_str(), Value::digits(itoa::Buffer::new().format(number)));
    }

    /// `name` is a token in lower case.
    fn push(&mut self, name: &str, value: Value<'_>) {
        let start = self.text.len();
        // Room once; and piece by piece, so that those of two bytes are not copied by a call.
        self.text.reserve(name.len() + COLON.len() + value.as_bytes().len() + END.len());
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(COLON);
        self.text.extend_from_slice(value.as_bytes());
        self.text.extend_from_slice(END);
        self.keep(start, Mark::of(name.as_bytes()), value.is_sensitive());
    }

    /// Keeps the line that stands from `start` on.
    fn keep(&mut self, start: usize, mark: Mark, is_sensitive: bool) {
        match (u32::try_from(start), u32::try_from(self.text.len())) {
            (Ok(start), Ok(end)) => {
                self.names |= mark.bit();
                self.lines.push(Line { start, end, mark, is_sensitive });
            }
            // No message has gigabytes of them.
            _ => self.text.truncate(start),
        }
    }

    /// Takes out all lines of `name`.
    #[inline(always)]
    pub fn remove(&mut self, name: impl AsRef<str>) {
        let mark = Mark::of(name.as_ref().as_bytes());
        if self.names & mark.bit() != 0 {
            self.take_out(mark, name.as_ref());
        }
    }

    fn take_out(&mut self, mark: Mark, name: &str) {
        let text = &self.text;
        // Most are not there, and what is not moved need not be looked at twice.
        if self.lines.iter().any(|line| is_of(text, *line, mark, &name)) {
            self.lines.retain(|line| !is_of(text, *line, mark, &name));
        }
    }

    /// Keeps the lines whose name, in lower case, is `wanted`.
    pub fn retain(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) {
        let text = &self.text;
        self.lines.retain(|line| wanted(name(text, *line)));
    }

    /// The lines: a name in lower case, and its value.
    pub fn iter(&self) -> Lines<'_> {
        Lines { text: &self.text, lines: self.lines.iter() }
    }

    /// The names of the lines.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// Bytes of all lines as they are written.
    pub fn wire_length(&self) -> usize {
        self.lines.iter().map(|line| line.range().len()).sum()
    }

    /// Writes all lines.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.write(out, |_| true);
    }

    /// Writes all lines but those of `name`.
    pub fn write_without(&self, out: &mut Vec<u8>, name: impl AsRef<str>) {
        let mark = Mark::of(name.as_ref().as_bytes());
        if self.names & mark.bit() == 0 {
            return self.write_to(out);
        }
        self.write(out, |line| !is_of(&self.text, line, mark, &name));
    }

    /// What stands together is copied together.
    fn write(&self, out: &mut Vec<u8>, wanted: impl Fn(Line) -> bool) {
        let mut run = 0..0;
        for line in self.lines.iter().filter(|line| wanted(**line)).map(|line| line.range()) {
            if line.start != run.end {
                out.extend_from_slice(self.text.get(run).unwrap_or_default());
                run = line.start..line.start;
            }
            run.end = line.end;
        }
        out.extend_from_slice(self.text.get(run).unwrap_or_default());
    }

    fn find<'a, N: AsRef<str>>(&'a self, name: N) -> impl Iterator<Item = Value<'a>> + use<'a, N> {
        let mark = Mark::of(name.as_ref().as_bytes());
        let lines = if self.names & mark.bit() == 0 { &[] } else { &self.lines[..] };
        let lines = lines.iter().filter(move |line| is_of(&self.text, **line, mark, &name));
        lines.map(|line| value(&self.text, *line))
    }
}

fn name(text: &[u8], line: Line) -> &[u8] {
    let start = line.start as usize;
    text.get(start..start + line.mark.length()).unwrap_or_default()
}

fn value(text: &[u8], line: Line) -> Value<'_> {
    let start = line.start as usize + line.mark.length() + COLON.len();
    let end = (line.end as usize).saturating_sub(END.len());
    Value::known(text.get(start..end).unwrap_or_default(), line.is_sensitive)
}

fn is_of(text: &[u8], line: Line, mark: Mark, wanted: &impl AsRef<str>) -> bool {
    if line.mark != mark {
        return false;
    }
    // Whoever asks has it in lower case, but for some.
    let (name, wanted) = (name(text, line), wanted.as_ref().as_bytes());
    name == wanted || name.eq_ignore_ascii_case(wanted)
}

/// An iterator over lines.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    text: &'a [u8],
    lines: std::slice::Iter<'a, Line>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let line = *self.lines.next()?;
        // A token is ASCII.
        Some((std::str::from_utf8(name(self.text, line)).unwrap_or_default(), value(self.text, line)))
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, Value<'a>);
    type IntoIter = Lines<'a>;

    fn into_iter(self) -> Lines<'a> {
        self.iter()
    }
}

impl<'a, N: AsRef<str>> All<'a, N> {
    /// The values, one after the other.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        self.headers.find(self.name)
    }
}

/// Without what was taken out, which may be a secret.
impl Clone for Headers {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.lines.len(), self.wire_length());
        self.write_to(&mut copy.text);
        copy.names = self.names;
        let mut end = 0;
        copy.lines.extend(self.lines.iter().map(|line| {
            let start = end;
            end += line.end - line.start;
            Line { start, end, ..*line }
        }));
        copy
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

#[cfg(test)]
impl<N: AsRef<str>> std::ops::Index<N> for Headers {
    type Output = str;

    fn index(&self, name: N) -> &str {
        self.get(name).expect("no line of that name").to_str().expect("no text")
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: I) -> Self {
        let mut headers = Self::new();
        headers.extend(lines);
        headers
    }
}

impl Extend<(HeaderName, HeaderValue)> for Headers {
    fn extend<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, lines: I) {
        lines.into_iter().for_each(|(name, value)| self.append(name, &value));
    }
}

impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        let bytes = map.iter().map(|(name, value)| name.as_str().len() + value.len() + COLON.len() + END.len()).sum();
        let mut headers = Self::with_capacity(map.len(), bytes);
        map.iter().for_each(|(name, value)| headers.append(name, value));
        headers
    }
}

impl From<Headers> for HeaderMap {
    fn from(headers: Headers) -> Self {
        let Headers { text, lines, .. } = headers;
        let text = Bytes::from(text);
        let mut map = Self::with_capacity(lines.len());
        for line in lines {
            let value = value(&text, line).as_bytes();
            let value = HeaderValue::from_maybe_shared(text.slice_ref(value));
            // What a line is made of, these types take.
            if let (Ok(name), Ok(mut value)) = (HeaderName::from_lowercase(name(&text, line)), value) {
                value.set_sensitive(line.is_sensitive);
                map.append(name, value);
            }
        }
        map
    }
}

/// Names only: among the values are secrets.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}
