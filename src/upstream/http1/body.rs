//! Where an answer's body ends, and what of a connection's bytes is its content (RFC 9112 6 and 7). Pure: bytes go in, pieces of them come out.

use crate::upstream::http1::Malformed;

/// The most bytes of one answer that chunk extensions and trailers may have together; nobody reads them.
const MOST_EXTRA: u32 = 16 * 1024;

/// Digits of a chunk's size that is read at once.
const USUAL_DIGITS: u8 = 8;

/// What is still to come of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Over,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunks(Chunks),
    /// All that comes until the connection ends.
    UntilClose,
}

/// Where in chunks a reader stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    /// Bytes of the chunk to come; while its size is read, the size so far.
    left: u64,
    /// Digits of the size so far.
    digits: u8,
    /// Bytes of extensions and trailers so far.
    extra: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size,
    /// Behind the size: blanks, then an extension or the line's end.
    Blank,
    Extension,
    SizeLf,
    Content,
    ContentCr,
    ContentLf,
    /// At the start of a line behind the last chunk.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
}

impl Rest {
    /// A body of chunks.
    pub fn chunks() -> Self {
        Self::Chunks(Chunks { at: At::Size, left: 0, digits: 0, extra: 0 })
    }

    /// A body of so many bytes.
    pub fn length(bytes: u64) -> Self {
        if bytes == 0 { Self::Over } else { Self::Length(bytes) }
    }

    /// Whether nothing more is to come.
    pub fn is_over(&self) -> bool {
        *self == Self::Over
    }

    /// Takes the next piece of content off `bytes`. `None` when there is none: all of them are taken then, but for those behind the
    /// body's end.
    ///
    /// # Errors
    /// [`Malformed`] chunks.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        match self {
            Self::Over => Ok(None),
            Self::UntilClose => Ok((!bytes.is_empty()).then(|| std::mem::take(bytes))),
            Self::Length(left) => {
                let piece = take(bytes, left);
                if *left == 0 {
                    *self = Self::Over;
                }
                Ok(piece)
            }
            Self::Chunks(chunks) => {
                while let Some(first) = bytes.first() {
                    if chunks.at == At::Content {
                        let piece = take(bytes, &mut chunks.left);
                        if chunks.left == 0 {
                            chunks.at = At::ContentCr;
                        }
                        return Ok(piece);
                    }
                    if let Some(behind) = chunks.usual(bytes) {
                        *bytes = behind;
                        continue;
                    }
                    *bytes = bytes.get(1..).unwrap_or_default();
                    if chunks.step(*first)? {
                        *self = Self::Over;
                        break;
                    }
                }
                Ok(None)
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// Where the body had not.
    pub fn close(&mut self) -> Result<(), Malformed> {
        match self {
            Self::Over => Ok(()),
            Self::UntilClose => {
                *self = Self::Over;
                Ok(())
            }
            Self::Length(_) | Self::Chunks(_) => Err(Malformed("the connection ended before the answer")),
        }
    }
}

/// At most `left` bytes off `bytes`, if there are any.
fn take<'a>(bytes: &mut &'a [u8], left: &mut u64) -> Option<&'a [u8]> {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    let (piece, behind) = bytes.split_at(count);
    *bytes = behind;
    *left -= count as u64;
    (count > 0).then_some(piece)
}

impl Chunks {
    /// Reads what stands between two chunks as nearly all write it, whole and with nothing beside it: the same as byte by byte. `None`, and
    /// nothing is read, where it is anything else.
    fn usual<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        match self.at {
            At::ContentCr => {
                let behind = bytes.strip_prefix(b"\r\n")?;
                (self.at, self.digits) = (At::Size, 0);
                Some(behind)
            }
            At::Size if self.digits == 0 => {
                let (mut size, mut digits) = (0, 0_u8);
                let mut rest = bytes.iter();
                let end = loop {
                    let byte = *rest.next()?;
                    match char::from(byte).to_digit(16) {
                        Some(digit) if digits < USUAL_DIGITS => size = size << 4 | u64::from(digit),
                        _ => break byte,
                    }
                    digits += 1;
                };
                let is_size = end == b'\r' && rest.next() == Some(&b'\n') && size > 0;
                is_size.then(|| {
                    (self.at, self.left, self.digits) = (At::Content, size, digits);
                    rest.as_slice()
                })
            }
            _ => None,
        }
    }

    /// Reads one byte that is no content; whether it was the last of the body.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        self.at = match (self.at, byte) {
            (At::Size, _) if digit.is_some() => {
                // Sixteen digits are all that a length can have.
                if self.digits == 16 {
                    return Err(Malformed("a chunk's size is too large"));
                }
                self.digits += 1;
                self.left = self.left << 4 | digit.unwrap_or_default();
                At::Size
            }
            (At::Size, b' ' | b'\t' | b';' | b'\r') if self.digits == 0 => {
                return Err(Malformed("a chunk has no size"));
            }
            (At::Size | At::Blank, b' ' | b'\t') => self.pass(At::Blank)?,
            (At::Size | At::Blank, b';') => self.pass(At::Extension)?,
            (At::Size | At::Blank | At::Extension, b'\r') => At::SizeLf,
            (At::SizeLf, b'\n') if self.left == 0 => At::Line,
            (At::SizeLf, b'\n') => At::Content,
            (At::ContentCr, b'\r') => At::ContentLf,
            (At::ContentLf, b'\n') => {
                self.digits = 0;
                At::Size
            }
            (At::Line, b'\r') => At::LastLf,
            (At::LastLf, b'\n') => return Ok(true),
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::Line,
            (At::Extension, byte) if byte != b'\n' => self.pass(At::Extension)?,
            (At::Line | At::Trailer, byte) if byte != b'\n' => self.pass(At::Trailer)?,
            _ => return Err(Malformed("the chunks are not what they should be")),
        };
        Ok(false)
    }

    /// Counts a byte that nobody reads.
    fn pass(&mut self, to: At) -> Result<At, Malformed> {
        self.extra += 1;
        if self.extra > MOST_EXTRA {
            return Err(Malformed("too much beside the content of chunks"));
        }
        Ok(to)
    }
}
