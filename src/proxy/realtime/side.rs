//! One side of a websocket: its bytes, the frames that come, and those that wait to be taken.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::dialect::websocket::frame::{self, Flaw};
use crate::dialect::websocket::{Closing, Frames, Item, Masking, Opcode};

/// Bytes read at once.
const READ: usize = 16 * 1024;
/// With more than this waiting to be taken, nothing more is read from the other side.
const ROOM: usize = 64 * 1024;

/// What came of reading.
#[derive(Debug)]
pub(super) enum Got {
    /// Something whole.
    Item(Item),
    /// What breaks the protocol; nothing more is read.
    Flaw(Flaw),
    /// The end of the bytes.
    End,
}

/// One side. `S` is its connection.
#[derive(Debug)]
pub(super) struct Side<S> {
    io: S,
    frames: Frames,
    input: BytesMut,
    out: BytesMut,
    /// Whether we are the client here, and so mask.
    masks: bool,
    /// Something of our own, by which we answered it, waits to be taken.
    owes: bool,
    /// It broke the protocol: what it still says is read away.
    is_deaf: bool,
    /// It reads or writes no more.
    pub(super) is_gone: bool,
    pub(super) got_close: bool,
    pub(super) sent_close: bool,
}

impl<S> Side<S> {
    /// A client, of whom `early` has been read already.
    pub(super) fn client(io: S, early: &[u8], limit: u64) -> Self {
        Self::new(io, Frames::new(Masking::Always, limit), early, false)
    }

    /// A server.
    pub(super) fn server(io: S, limit: u64) -> Self {
        Self::new(io, Frames::new(Masking::Never, limit), &[], true)
    }

    fn new(io: S, frames: Frames, early: &[u8], masks: bool) -> Self {
        Self {
            io,
            frames,
            input: BytesMut::from(early),
            out: BytesMut::new(),
            masks,
            owes: false,
            is_deaf: false,
            is_gone: false,
            got_close: false,
            sent_close: false,
        }
    }

    /// Whether something more may be put to be taken.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < ROOM
    }

    /// Whether it takes what we say to it ourselves. Whoever does not is not listened to either, or each of its messages would leave another
    /// answer waiting.
    pub(super) fn takes_words(&self) -> bool {
        !self.owes || self.has_room()
    }

    /// Whether all of it has been taken.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether nothing of ours is left to be taken.
    pub(super) fn is_flushed_or_gone(&self) -> bool {
        self.is_gone || self.is_flushed()
    }

    /// Bytes held: of a message that is not whole, and of what waits to be taken.
    pub(super) fn held(&self) -> u64 {
        (self.frames.held() + self.out.len()) as u64
    }

    /// Whether it may still say something that counts.
    pub(super) fn is_heard(&self) -> bool {
        !self.is_gone && !self.got_close
    }

    /// Puts a frame to be taken; nothing follows a close, and nobody takes what is put for one who has gone.
    pub(super) fn put(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.is_gone || self.sent_close {
            return;
        }
        let mut mask = [0; 4];
        if self.masks && getrandom::fill(&mut mask).is_err() {
            self.is_gone = true;
            return;
        }
        frame::write(&mut self.out, opcode, payload, self.masks.then_some(mask));
    }

    /// Puts a frame of our own that answers one of its.
    pub(super) fn answer(&mut self, opcode: Opcode, payload: &[u8]) {
        self.put(opcode, payload);
        self.owes = true;
    }

    /// Puts the last frame.
    pub(super) fn close(&mut self, closing: &Closing) {
        self.put(Opcode::Close, &closing.payload());
        self.sent_close = true;
    }

    /// Gives back what a large message took, once it is gone.
    fn shrink(&mut self) {
        if self.out.is_empty() && self.out.capacity() > 2 * ROOM {
            self.out = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + Unpin> Side<S> {
    /// The next thing that comes whole.
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Got> {
        loop {
            if !self.input.is_empty() {
                match self.frames.read(&self.input) {
                    Ok((count, item)) => {
                        self.input.advance(count);
                        if let Some(item) = item {
                            return Poll::Ready(Got::Item(item));
                        }
                    }
                    Err(flaw) => {
                        self.input.clear();
                        self.is_deaf = true;
                        return Poll::Ready(Got::Flaw(flaw));
                    }
                }
            }
            let mut scratch = [0_u8; READ];
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                self.is_gone = true;
                return Poll::Ready(Got::End);
            }
            if !self.is_deaf {
                self.input.extend_from_slice(buf.filled());
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Side<S> {
    /// Writes what can be written now.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) {
        let mut wrote = false;
        while !self.out.is_empty() && !self.is_gone {
            match Pin::new(&mut self.io).poll_write(cx, &self.out) {
                Poll::Ready(Ok(count @ 1..)) => {
                    self.out.advance(count);
                    wrote = true;
                }
                Poll::Ready(Ok(0) | Err(_)) => self.is_gone = true,
                Poll::Pending => break,
            }
        }
        if self.is_gone {
            self.out.clear();
        } else if wrote && let Poll::Ready(Err(_)) = Pin::new(&mut self.io).poll_flush(cx) {
            self.is_gone = true;
        }
        self.owes &= !self.out.is_empty();
        self.shrink();
    }

    /// Ends the connection, as far as its peer lets us.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_gone {
            return Poll::Ready(());
        }
        Pin::new(&mut self.io).poll_shutdown(cx).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_no_answers_is_not_listened_to() {
        let waker = std::task::Waker::noop();
        let mut cx = Context::from_waker(waker);
        let (near, far) = tokio::io::duplex(2 * ROOM);
        let mut side = Side::client(near, &[], 1024);
        side.put(Opcode::Text, &[b'a'; ROOM]);
        assert!(side.takes_words(), "what the upstream said is no answer");
        side.answer(Opcode::Text, b"no");
        assert!(!side.takes_words());
        side.write(&mut cx);
        assert!(side.is_flushed() && side.takes_words());
        drop(far);
    }
}
