//! Decodes a copy of a compressed answer, so that it can be read. What cannot be decoded, or unfolds out of all
//! proportion, is given up: the client gets its bytes either way.

use std::io::Write;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// The most that one answer may unfold to, in bytes. The largest honest answers are batches of embeddings, around 75 MB.
const MOST_DECODED: u64 = 256 * 1024 * 1024;
/// Beyond [`SMALL`], the most decoded bytes for each byte received; text compresses up to about 20 times.
const MOST_RATIO: u64 = 1000;
/// Below this many decoded bytes no ratio is asked after: a long run in a short answer proves nothing.
const SMALL: u64 = 1024 * 1024;
/// How many bytes are decoded at a time: deflate unfolds them to at most about 1 MiB.
const BITE: usize = 1024;
/// The room that brotli output is handed on in, in bytes.
const BROTLI_ROOM: usize = 16 * 1024;

/// The answer is not to be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// An incremental decoder.
pub(super) struct Decoder {
    inner: Inner,
    received: u64,
    decoded: u64,
}

enum Inner {
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// `deflate`, before it is known whether it comes in a zlib frame (as RFC 9110 has it) or bare (as some send it).
    Deflate(Vec<u8>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Bare(DeflateDecoder<Vec<u8>>),
    Brotli(Box<Brotli>),
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    room: Vec<u8>,
    total: usize,
}

impl Decoder {
    pub(super) fn gzip() -> Self {
        Self::of(Inner::Gzip(MultiGzDecoder::new(Vec::new())))
    }

    pub(super) fn deflate() -> Self {
        Self::of(Inner::Deflate(Vec::new()))
    }

    pub(super) fn brotli() -> Self {
        let alloc = StandardAlloc::default;
        // Strict: the large-window extension, which may ask for 1 GiB, is no content coding.
        let state = BrotliState::new_strict(alloc(), alloc(), alloc());
        Self::of(Inner::Brotli(Box::new(Brotli { state, room: vec![0; BROTLI_ROOM], total: 0 })))
    }

    fn of(inner: Inner) -> Self {
        Self { inner, received: 0, decoded: 0 }
    }

    /// Decodes as far as `piece` goes and hands the plain bytes to `sink`.
    ///
    /// # Errors
    /// The answer is corrupt or a bomb.
    pub(super) fn push(&mut self, piece: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<(), Unreadable> {
        for bite in piece.chunks(BITE) {
            self.received = self.received.saturating_add(bite.len() as u64);
            let (received, decoded) = (self.received, &mut self.decoded);
            self.inner.push(bite, &mut |plain: &[u8]| {
                *decoded = decoded.saturating_add(plain.len() as u64);
                if *decoded > MOST_DECODED || *decoded > SMALL && *decoded / MOST_RATIO > received {
                    return Err(Unreadable);
                }
                sink(plain);
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Inner {
    fn push(&mut self, bite: &[u8], sink: &mut impl FnMut(&[u8]) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
        match self {
            Self::Gzip(decoder) => {
                write(decoder, bite)?;
                hand_on(decoder.get_mut(), sink)
            }
            Self::Zlib(decoder) => {
                write(decoder, bite)?;
                hand_on(decoder.get_mut(), sink)
            }
            Self::Bare(decoder) => {
                write(decoder, bite)?;
                hand_on(decoder.get_mut(), sink)
            }
            Self::Brotli(brotli) => brotli.push(bite, sink),
            Self::Deflate(start) => {
                start.extend_from_slice(bite);
                let [first, second, ..] = start[..] else { return Ok(()) };
                let start = std::mem::take(start);
                let is_zlib = first & 0x0f == 8 && u16::from_be_bytes([first, second]) % 31 == 0;
                *self = if is_zlib {
                    Self::Zlib(ZlibDecoder::new(Vec::new()))
                } else {
                    Self::Bare(DeflateDecoder::new(Vec::new()))
                };
                self.push(&start, sink)
            }
        }
    }
}

/// Writes all of `bite`, and brings out all that it decodes to. What stands behind the end of the stream is left.
fn write(decoder: &mut impl Write, bite: &[u8]) -> Result<(), Unreadable> {
    let mut rest = bite;
    while !rest.is_empty() {
        match decoder.write(rest) {
            Ok(0) => break,
            Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
            Err(_) => return Err(Unreadable),
        }
    }
    decoder.flush().map_err(|_| Unreadable)
}

fn hand_on(plain: &mut Vec<u8>, sink: &mut impl FnMut(&[u8]) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
    let handed = if plain.is_empty() { Ok(()) } else { sink(plain) };
    plain.clear();
    plain.shrink_to(BROTLI_ROOM);
    handed
}

impl Brotli {
    fn push(&mut self, bite: &[u8], sink: &mut impl FnMut(&[u8]) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
        let (mut available, mut offset) = (bite.len(), 0);
        loop {
            let (mut room, mut made) = (self.room.len(), 0);
            let result = BrotliDecompressStream(
                &mut available,
                &mut offset,
                bite,
                &mut room,
                &mut made,
                &mut self.room,
                &mut self.total,
                &mut self.state,
            );
            match self.room.get(..made) {
                Some([]) | None => {}
                Some(plain) => sink(plain)?,
            }
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput | BrotliResult::ResultSuccess => return Ok(()),
                BrotliResult::ResultFailure => return Err(Unreadable),
            }
        }
    }
}
