//! Heads as peers send them, read into one text.

use memchr::memchr;

use super::{COLON, END, Headers, Mark, Value};

/// Lines that are no headers, or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHeader;

/// How the lines of a head are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// So many at most.
    pub most: usize,
    /// Whether a line may end with a bare LF (RFC 9112 2.2).
    pub takes_lf: bool,
    /// Lines that most heads have at most, with those that are put beside them later, and bytes as they come.
    pub usual: (usize, usize),
    /// Bytes of what is put beside them later.
    pub added: usize,
}

/// Letters of a name at most: what the library's type holds.
const MOST_LETTERS: usize = u16::MAX as usize;

/// Each letter of a token (RFC 9110 5.6.2) in lower case, and 0 for what is none.
pub(super) const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        if matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~')
            || byte.is_ascii_alphanumeric()
        {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// Whether `byte` may stand in a token.
pub fn is_token(byte: u8) -> bool {
    LOWER[usize::from(byte)] != 0
}

impl Headers {
    /// Reads the lines that stand in `bytes` from `at` on, up to the empty one, and moves `at` behind that: names, a colon right behind each, and
    /// values with or without blanks around them. `None` where there is no empty line; then `at` is where the line begins that has no end.
    ///
    /// # Errors
    /// A line is none of that, or there are too many.
    pub fn read(bytes: &[u8], at: &mut usize, reading: Reading) -> Result<Option<Self>, NoHeader> {
        let (start, mut ends) = (*at, 0);
        let room = (bytes.len().saturating_sub(start)).min(reading.usual.1);
        let mut headers = Self::with_capacity(reading.usual.0, room + reading.added);
        let is_whole = loop {
            let rest = bytes.get(*at..).unwrap_or_default();
            let Some(line) = memchr(b'\n', rest).and_then(|end| rest.get(..=end)) else { break false };
            let end_length = if line.ends_with(END) { END.len() } else { 1 };
            if end_length < END.len() && !reading.takes_lf {
                return Err(NoHeader);
            }
            (ends, *at) = (ends + end_length, *at + line.len());
            if line.len() == end_length {
                break true;
            }
            if headers.len() == reading.most {
                return Err(NoHeader);
            }
            headers.take_line(line, end_length).ok_or(NoHeader)?;
        };
        // All values at once, which is many bytes at once: there may be no controls but those that ended the lines.
        let is_sound = controls(bytes.get(start..*at).unwrap_or_default()) == ends;
        if is_sound { Ok(is_whole.then_some(headers)) } else { Err(NoHeader) }
    }

    /// Puts a line behind all others as a peer has sent it, with its end. What it has of controls is still to be looked for.
    fn take_line(&mut self, line: &[u8], end_length: usize) -> Option<()> {
        let start = self.text.len();
        self.text.extend_from_slice(line);
        let mut length = 0;
        for letter in self.text.get_mut(start..)? {
            let lower = LOWER[usize::from(*letter)];
            if lower == 0 {
                break;
            }
            *letter = lower;
            length += 1;
        }
        let (name, value) = line.get(..line.len() - end_length)?.split_at_checked(length)?;
        let value = value.strip_prefix(b":")?;
        let mark = Mark::of(self.text.get(start..start + length).filter(|_| length <= MOST_LETTERS)?);
        let is_blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        // Most are to be written as they came.
        match value.split_first() {
            Some((b' ', text)) if !is_blank(text.first()) && !is_blank(text.last()) && end_length == END.len() => {}
            _ => {
                self.text.truncate(start + name.len());
                self.text.extend_from_slice(COLON);
                self.text.extend_from_slice(Value::read(value).as_bytes());
                self.text.extend_from_slice(END);
            }
        }
        self.keep(start, mark, false);
        (!name.is_empty()).then_some(())
    }
}

/// How many controls there are that may not stand in a value.
fn controls(bytes: &[u8]) -> usize {
    // So few at once that a byte counts them.
    let chunks = bytes.chunks(usize::from(u8::MAX));
    let count = |chunk: &[u8]| chunk.iter().fold(0_u8, |count, byte| count + u8::from(is_control(*byte)));
    chunks.map(|chunk| usize::from(count(chunk))).sum()
}

/// Whether `byte` may not stand in a value.
pub(super) fn is_control(byte: u8) -> bool {
    ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
}
