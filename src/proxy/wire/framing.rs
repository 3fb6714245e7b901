//! Where each request ends: the framing of a connection's incoming bytes, as strict as RFC 9112 lets a recipient be.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::head;
use crate::headers::is_token;
use crate::policy::{DialectName, HeadFlaw};

/// The most bytes a head may have, request line and headers together.
pub const MAX_HEAD_BYTES: usize = 32 * 1024 + 8 * 1024 + 64;
/// The most bytes a chunk's size line, or all trailers together, may have.
const MAX_CHUNK_LINE_BYTES: usize = 256;
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// What a stretch of bytes came to. `passed` counts the bytes that may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All of it.
    Passed {
        /// Bytes.
        passed: usize,
    },
    /// The rest is a head that is not whole yet.
    PartialHead {
        /// Bytes before it.
        passed: usize,
    },
    /// The head after `passed` is refused.
    Refused {
        /// Bytes before it.
        passed: usize,
        /// Why.
        flaw: HeadFlaw,
        /// The dialect its path is nearest to.
        nearest: DialectName,
    },
    /// What follows `passed` may be no HTTP: the head before it asks for a websocket.
    Tunnel {
        /// Bytes before it.
        passed: usize,
    },
    /// The body's framing breaks after `passed`.
    Broken {
        /// Bytes before the break.
        passed: usize,
    },
}

impl Step {
    /// Bytes that may be read.
    pub fn passed(&self) -> usize {
        match *self {
            Self::Passed { passed }
            | Self::PartialHead { passed }
            | Self::Refused { passed, .. }
            | Self::Tunnel { passed }
            | Self::Broken { passed } => passed,
        }
    }
}

/// Where in a request the connection is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    /// Before or in a head.
    #[default]
    Head,
    /// Behind a head that asks for a websocket. Whatever the answer, no byte from here on is read as HTTP.
    Tunnel,
    /// In a body of known length.
    Length {
        /// Bytes still to come.
        left: u64,
    },
    /// In a chunk's size line.
    ChunkSize {
        /// The size so far.
        size: u64,
        /// Bytes of the line so far.
        seen: usize,
        /// What part of the line.
        part: SizePart,
    },
    /// In a chunk's data.
    ChunkData {
        /// Bytes still to come.
        left: u64,
    },
    /// In the CR LF after a chunk's data.
    ChunkEnd {
        /// Whether the CR was there.
        cr: bool,
    },
    /// In the trailers.
    Trailers {
        /// Bytes so far.
        seen: usize,
        /// What part of a line.
        part: TrailerPart,
    },
}

/// The parts of a chunk's size line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizePart {
    /// Hexadecimal digits.
    Digits,
    /// An extension, passed over.
    Extension,
    /// After the CR.
    Lf,
}

/// The parts of a trailer line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailerPart {
    /// The start of one, or of the empty line that ends the body.
    Start,
    /// Its name.
    Name,
    /// Its value.
    Value,
    /// After the CR of a line.
    Lf,
    /// After the CR of the empty line.
    LastLf,
}

/// What a checked head says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes.
    Known(u64),
    /// In chunks.
    Chunked,
    /// None, but the connection is asked to become a websocket.
    Tunnel,
}

const FIRST_CHUNK: Framing = Framing::ChunkSize { size: 0, seen: 0, part: SizePart::Digits };

impl Framing {
    /// Reads `bytes`, which start where the last call's passed bytes ended. The first `searched` of them, when in a head, were
    /// seen before and hold no head's end.
    pub fn scan(&mut self, bytes: &[u8], searched: usize) -> Step {
        let (mut at, mut searched) = (0, searched);
        while at < bytes.len() {
            let rest = &bytes[at..];
            match *self {
                Self::Head => match head_end(rest, searched) {
                    Ok(Some(end)) => match head::check(&rest[..end]) {
                        Ok(BodyLength::Known(0)) => at += end,
                        Ok(BodyLength::Known(left)) => {
                            at += end;
                            *self = Self::Length { left };
                        }
                        Ok(BodyLength::Chunked) => {
                            at += end;
                            *self = FIRST_CHUNK;
                        }
                        Ok(BodyLength::Tunnel) => {
                            *self = Self::Tunnel;
                            return Step::Tunnel { passed: at + end };
                        }
                        Err(flaw) => return Step::Refused { passed: at, flaw, nearest: head::nearest(rest) },
                    },
                    Ok(None) => return Step::PartialHead { passed: at },
                    Err(flaw) => return Step::Refused { passed: at, flaw, nearest: head::nearest(rest) },
                },
                Self::Tunnel => return Step::Tunnel { passed: at },
                Self::Length { left } => {
                    let count = (rest.len() as u64).min(left);
                    at += count as usize;
                    *self = if count == left { Self::Head } else { Self::Length { left: left - count } };
                }
                Self::ChunkData { left } => {
                    let count = (rest.len() as u64).min(left);
                    at += count as usize;
                    let left = left - count;
                    *self = if left == 0 { Self::ChunkEnd { cr: false } } else { Self::ChunkData { left } };
                }
                Self::ChunkSize { .. } | Self::ChunkEnd { .. } | Self::Trailers { .. } => match self.line_byte(rest[0])
                {
                    Some(next) => {
                        *self = next;
                        at += 1;
                    }
                    None => return Step::Broken { passed: at },
                },
            }
            searched = 0;
        }
        Step::Passed { passed: at }
    }

    /// One byte of a chunked body's own syntax; `None` when it may not stand there.
    fn line_byte(self, byte: u8) -> Option<Self> {
        match self {
            Self::ChunkSize { size, seen, part } => chunk_size_byte(size, seen, part, byte),
            Self::ChunkEnd { cr: false } => (byte == b'\r').then_some(Self::ChunkEnd { cr: true }),
            Self::ChunkEnd { cr: true } => (byte == b'\n').then_some(FIRST_CHUNK),
            Self::Trailers { seen, part } => trailer_byte(seen, part, byte),
            Self::Head | Self::Tunnel | Self::Length { .. } | Self::ChunkData { .. } => None,
        }
    }
}

fn chunk_size_byte(size: u64, seen: usize, part: SizePart, byte: u8) -> Option<Framing> {
    if seen >= MAX_CHUNK_LINE_BYTES {
        return None;
    }
    let line = |size, part| Some(Framing::ChunkSize { size, seen: seen + 1, part });
    match (part, byte) {
        (SizePart::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if seen < 15 => {
            let digit = (byte as char).to_digit(16)?;
            line(size * 16 + u64::from(digit), SizePart::Digits)
        }
        (SizePart::Digits, b';') if seen > 0 => line(size, SizePart::Extension),
        (SizePart::Digits, b'\r') if seen > 0 => line(size, SizePart::Lf),
        (SizePart::Extension, b'\r') => line(size, SizePart::Lf),
        (SizePart::Extension, b'\t' | b' '..=b'~') => line(size, SizePart::Extension),
        (SizePart::Lf, b'\n') if size == 0 => Some(Framing::Trailers { seen: 0, part: TrailerPart::Start }),
        (SizePart::Lf, b'\n') => Some(Framing::ChunkData { left: size }),
        _ => None,
    }
}

/// A trailer is dropped, but it is written like a header: what is not could be the start of something else to another reader.
fn trailer_byte(seen: usize, part: TrailerPart, byte: u8) -> Option<Framing> {
    if seen >= MAX_TRAILER_BYTES {
        return None;
    }
    let next = match (part, byte) {
        (TrailerPart::LastLf, b'\n') => return Some(Framing::Head),
        (TrailerPart::Start, b'\r') => TrailerPart::LastLf,
        (TrailerPart::Start | TrailerPart::Name, byte) if is_token(byte) => TrailerPart::Name,
        (TrailerPart::Name, b':') => TrailerPart::Value,
        (TrailerPart::Value, b'\t' | b' '..=b'~' | 0x80..) => TrailerPart::Value,
        (TrailerPart::Value, b'\r') => TrailerPart::Lf,
        (TrailerPart::Lf, b'\n') => TrailerPart::Start,
        _ => return None,
    };
    Some(Framing::Trailers { seen: seen + 1, part: next })
}

/// Where the line end before the first empty line stands.
pub fn find_empty_line(bytes: &[u8]) -> Option<usize> {
    // Made once: making one takes longer than most heads take to be searched.
    static EMPTY_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    EMPTY_LINE.find(bytes)
}

/// The length of the head at the start of `bytes`, its empty line included; `None` while it is not whole.
fn head_end(bytes: &[u8], searched: usize) -> Result<Option<usize>, HeadFlaw> {
    let from = searched.saturating_sub(3).min(bytes.len());
    if let Some(found) = find_empty_line(&bytes[from..]) {
        let end = from + found + 4;
        return if end > MAX_HEAD_BYTES { Err(head::too_large(&bytes[..end])) } else { Ok(Some(end)) };
    }
    // What can be told of a head that is not whole: whether it can still become one.
    head::check_partial(&bytes[from..], from == 0)?;
    if bytes.len() > MAX_HEAD_BYTES {
        return Err(head::too_large(bytes));
    }
    Ok(None)
}
