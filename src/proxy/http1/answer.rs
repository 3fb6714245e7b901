//! What is on its way to a client: an answer's body as its head delimits it, and the bytes that wait to be written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// What is smaller is copied behind what it follows, rather than written as a piece of its own.
pub const SMALL: usize = 4 * 1024;
/// What is written at once however many others wait, bytes.
const BULK: usize = 16 * 1024;
/// Bytes around a chunk's content at most: its size, and two ends of lines.
const CHUNK_LINES: usize = usize::BITS as usize / 4 + 4;
/// Pieces of one write.
const MOST_PIECES: usize = 16;

/// How the end of an answer's body is told (RFC 9112 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// There is no body.
    None,
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunks,
    /// The connection ends with it.
    Close,
}

impl Delimiter {
    /// Passes on a piece of the body. What is beyond its promised length is nobody's.
    pub fn put(&mut self, out: &mut Out, mut piece: Bytes) {
        match self {
            Self::None => {}
            Self::Length(left) => {
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= piece.len() as u64;
                out.put(piece);
            }
            Self::Chunks if piece.is_empty() => {}
            Self::Chunks => {
                // Room once, rather than more of it with each part of an event.
                out.text().reserve(if piece.len() <= SMALL { CHUNK_LINES + piece.len() } else { CHUNK_LINES });
                put_size(out.text(), piece.len());
                out.put(piece);
                out.text().extend_from_slice(b"\r\n");
            }
            Self::Close => out.put(piece),
        }
    }

    /// The body has ended; whether that is where its head said it would.
    pub fn end(self, out: &mut Out) -> bool {
        if self == Self::Chunks {
            out.text().extend_from_slice(b"0\r\n\r\n");
        }
        !matches!(self, Self::Length(left) if left > 0)
    }
}

/// The line before a chunk of `size` bytes, as there is one for each event.
fn put_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (4 * place) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub struct Out {
    pieces: VecDeque<Bytes>,
    /// What stands behind the pieces.
    text: Vec<u8>,
    /// How much of `text` is written, where there is no piece before it.
    written: usize,
    /// Bytes of the pieces.
    in_pieces: usize,
    waits: Waits,
    wants_flush: bool,
}

/// What they wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Waits {
    /// To be asked for.
    #[default]
    No,
    /// For their turn, with what others have to say.
    ForTurn,
    /// For the peer, who takes nothing.
    ForPeer,
}

impl Out {
    /// Where to write what is to be said next.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Says `piece` next.
    pub fn put(&mut self, piece: Bytes) {
        if piece.len() <= SMALL {
            self.text.extend_from_slice(&piece);
            return;
        }
        self.seal();
        self.in_pieces += piece.len();
        self.pieces.push_back(piece);
    }

    fn seal(&mut self) {
        let mut text = Bytes::from(std::mem::take(&mut self.text));
        text.advance(std::mem::take(&mut self.written));
        if !text.is_empty() {
            self.in_pieces += text.len();
            self.pieces.push_back(text);
        }
    }

    /// Bytes that are not written yet.
    pub fn len(&self) -> usize {
        self.in_pieces + self.text.len() - self.written
    }

    /// Whether all of them are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the peer takes none of them.
    pub fn waits_for_peer(&self) -> bool {
        self.waits == Waits::ForPeer
    }

    /// Whether they wait for their turn.
    pub fn waits_for_turn(&self) -> bool {
        self.waits == Waits::ForTurn
    }

    /// Whether they are few enough to wait for their turn.
    pub fn may_wait(&self) -> bool {
        self.waits == Waits::No && !self.is_empty() && self.len() < BULK
    }

    /// They do.
    pub fn wait(&mut self) {
        self.waits = Waits::ForTurn;
    }

    /// Writes everything.
    ///
    /// # Errors
    /// The peer takes nothing any more.
    pub fn poll_flush(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waits = Waits::ForPeer;
        while !self.is_empty() {
            let count = ready!(self.poll_write(io, cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wants_flush = true;
            self.advance(count);
        }
        if self.wants_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.wants_flush = false;
        }
        self.waits = Waits::No;
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.pieces.is_empty() {
            return Pin::new(io).poll_write(cx, self.text.get(self.written..).unwrap_or_default());
        }
        let mut slices = [IoSlice::new(&[]); MOST_PIECES];
        let texts = std::iter::once(self.text.as_slice()).filter(|text| !text.is_empty());
        let all = self.pieces.iter().map(|piece| &**piece).chain(texts);
        let count = slices.iter_mut().zip(all).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
        Pin::new(io).poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let of_piece = count.min(piece.len());
            piece.advance(of_piece);
            (count, self.in_pieces) = (count - of_piece, self.in_pieces - of_piece);
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.written += count;
        if self.written >= self.text.len() {
            // What waits for its next event holds no room.
            (self.text, self.pieces, self.written) = (Vec::new(), VecDeque::new(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes with each write, and then nothing for once.
    #[derive(Default)]
    struct Trickle {
        takes: usize,
        rests: bool,
        all: Vec<u8>,
    }

    impl AsyncWrite for Trickle {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.rests = !self.rests;
            if self.rests {
                return Poll::Pending;
            }
            let count = bytes.len().min(self.takes);
            self.all.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let joined = slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            self.as_mut().poll_write(cx, &joined)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn is_flushed(out: &mut Out, io: &mut Trickle) -> bool {
        out.poll_flush(io, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_is_small_may_wait_for_its_turn_and_what_is_not_does_not() {
        let mut io = Trickle { takes: 1, rests: true, ..Trickle::default() };
        let mut out = Out::default();
        assert!(!out.may_wait(), "there is nothing to write");
        out.put(Bytes::from_static(b"a"));
        assert!(out.may_wait());
        out.wait();
        assert!(!out.may_wait() && out.waits_for_turn(), "it does already");
        out.put(Bytes::from_static(b"b"));
        while !is_flushed(&mut out, &mut io) {
            assert!(out.waits_for_peer() && !out.may_wait());
        }
        assert_eq!(io.all, b"ab");
        out.put(Bytes::from(vec![7; BULK]));
        assert!(!out.may_wait() && !out.waits_for_peer());
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        let all = |mut delimiter: Delimiter, pieces: &[&'static str]| {
            let mut out = Out::default();
            for piece in pieces {
                delimiter.put(&mut out, Bytes::from_static(piece.as_bytes()));
            }
            let is_whole = delimiter.end(&mut out);
            (String::from_utf8(out.text).unwrap(), is_whole)
        };
        assert_eq!(all(Delimiter::Length(3), &["ab", "cd"]), ("abc".to_owned(), true));
        assert_eq!(all(Delimiter::Length(3), &["ab"]), ("ab".to_owned(), false));
        assert_eq!(
            all(Delimiter::Chunks, &["0123456789abcdef", "", "x"]),
            ("10\r\n0123456789abcdef\r\n1\r\nx\r\n0\r\n\r\n".to_owned(), true)
        );
        assert_eq!(all(Delimiter::Close, &["ab", "cd"]), ("abcd".to_owned(), true));
        assert_eq!(all(Delimiter::None, &["ab"]), (String::new(), true));
    }

    proptest! {
        #[test]
        fn a_chunk_tells_its_size(bits in 1_u32..=usize::BITS, any in 1_usize..) {
            let size = (any >> (usize::BITS - bits)).max(1);
            let mut line = Vec::new();
            put_size(&mut line, size);
            prop_assert_eq!(String::from_utf8(line).unwrap(), format!("{size:x}\r\n"));
        }

        #[test]
        fn whatever_is_put_arrives_once_and_in_order(
            sizes in prop::collection::vec((0_usize..3 * SMALL, any::<bool>()), 0..30),
            takes in 1_usize..20_000,
        ) {
            let mut io = Trickle { takes, ..Trickle::default() };
            let (mut out, mut expected) = (Out::default(), Vec::new());
            for (number, (size, flushes)) in sizes.into_iter().enumerate() {
                let piece = vec![u8::try_from(number).unwrap(); size];
                expected.extend_from_slice(&piece);
                out.put(Bytes::from(piece));
                if flushes {
                    let _ = is_flushed(&mut out, &mut io);
                }
                prop_assert_eq!(out.len() + io.all.len(), expected.len());
            }
            while !is_flushed(&mut out, &mut io) {}
            prop_assert!(out.is_empty());
            prop_assert_eq!(io.all, expected);
        }
    }
}
