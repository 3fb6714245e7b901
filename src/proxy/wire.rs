//! The strict edge on bytes: what arrives is checked against RFC 9112 before anybody reads it.
//!
//! Many a parser is lenient by design: it takes a bare LF, drops a `Content-Length` that stands beside `Transfer-Encoding`, and merges equal
//! doubles. Whoever reads differently behind or before us could be smuggled past, so a head or a chunk that two parsers could
//! read in two ways never reaches it. A refused head is replaced by a marker request, so that it is answered in the right order
//! and the caller gets its own dialect's 400; the connection ends after it.

mod framing;
pub mod head;
mod notes;
mod outlet;
mod paced;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::policy::{DialectName, HeadFlaw};
pub use framing::{Framing, Step, find_empty_line};
pub use notes::{WireNotes, WireTimes};
pub use outlet::Outlet;
pub use paced::Paced;

/// The harmless request that stands in for one the wire refused. A client that asks for its path itself gets the 404 of any other.
/// Without a `Host`, which no client's request passes without: nobody else can make one.
pub const MARKER: &[u8] = b"GET /-/refused HTTP/1.1\r\nconnection: close\r\n\r\n";

/// How much of what a refused client still sends is read away (and no longer than [`WireNotes`] allows): closing at once would reset the
/// connection, and the client would see that instead of the refusal (RFC 9112 9.6).
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// A connection whose incoming bytes are checked. `S` is the socket.
#[derive(Debug)]
pub struct Wire<S> {
    io: S,
    framing: Framing,
    /// The start of a head that is not whole yet; nobody has seen it.
    held: Vec<u8>,
    /// What came behind a head that asks for a websocket, before its answer.
    early: Vec<u8>,
    /// Checked bytes that did not fit, or the marker.
    replay: Vec<u8>,
    replayed: usize,
    /// What was read before the wire was there; checked as if it came now.
    start: Vec<u8>,
    end: Option<End>,
    /// Bytes read away since the last answer, once we are closing.
    lingered: Option<usize>,
    notes: Rc<WireNotes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A head was refused; nothing more is read.
    Refused,
    /// A body's framing broke; the reader gets an error.
    Broken,
}

impl<S> Wire<S> {
    /// Checks what comes from `io`.
    pub fn new(io: S, notes: Rc<WireNotes>) -> Self {
        Self::after(Vec::new(), io, notes)
    }

    /// The same, where `start` was read from `io` already.
    pub fn after(start: Vec<u8>, io: S, notes: Rc<WireNotes>) -> Self {
        Self {
            io,
            framing: Framing::default(),
            held: Vec::new(),
            early: Vec::new(),
            replay: Vec::new(),
            replayed: 0,
            end: None,
            lingered: None,
            start,
            notes,
        }
    }

    /// Whether a websocket was asked for.
    pub fn is_tunnel(&self) -> bool {
        self.framing == Framing::Tunnel
    }

    /// What the bytes come from, between two requests: nothing of the next one has come.
    pub fn at_rest(&self) -> Option<&S> {
        let is_empty = [&self.held, &self.early, &self.replay, &self.start].into_iter().all(Vec::is_empty);
        let is_at_rest = is_empty && self.framing == Framing::Head && self.end.is_none() && self.lingered.is_none();
        Some(&self.io).filter(|_| is_at_rest)
    }

    /// The socket itself, and what has come of the websocket already.
    pub fn into_tunnel(self) -> (S, Vec<u8>) {
        (self.io, [self.early, self.start].concat())
    }

    /// Checks the fresh bytes of `buf` from `start` and takes back what nobody is to see yet, or ever.
    fn check(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let step = if self.held.is_empty() {
            let step = self.framing.scan(&buf.filled()[start..], 0);
            let keep = start + step.passed();
            if step.passed() > 0 {
                self.notes.head_ended(); // which may have begun before the wire was there
            }
            if matches!(step, Step::PartialHead { .. }) {
                self.held.extend_from_slice(&buf.filled()[keep..]);
                self.notes.head_began();
            } else if matches!(step, Step::Tunnel { .. }) {
                self.early.extend_from_slice(&buf.filled()[keep..]);
            }
            buf.set_filled(keep);
            step
        } else {
            let searched = self.held.len();
            self.held.extend_from_slice(&buf.filled()[start..]);
            buf.set_filled(start);
            let step = self.framing.scan(&self.held, searched);
            let passed = step.passed();
            if passed > 0 {
                self.replay.extend_from_slice(&self.held[..passed]);
                self.notes.head_ended();
            }
            if !matches!(step, Step::PartialHead { .. }) {
                let rest = std::mem::take(&mut self.held);
                if matches!(step, Step::Tunnel { .. }) {
                    self.early.extend_from_slice(&rest[passed..]);
                }
            } else if passed > 0 {
                self.held.drain(..passed);
                self.notes.head_began();
            }
            step
        };
        match step {
            Step::Passed { .. } | Step::PartialHead { .. } | Step::Tunnel { .. } => {}
            Step::Refused { flaw, nearest, .. } => self.refuse(flaw, nearest),
            Step::Broken { .. } => self.end = Some(End::Broken),
        }
        self.notes.set_body_is_open(self.end == Some(End::Broken) || self.framing != Framing::Head);
    }

    fn refuse(&mut self, flaw: HeadFlaw, nearest: DialectName) {
        self.notes.refuse(flaw, nearest);
        self.notes.head_ended();
        self.held = Vec::new();
        self.replay.extend_from_slice(MARKER);
        self.end = Some(End::Refused);
    }

    /// Reads of the start what fits.
    fn begin(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.start.len().min(buf.remaining());
        buf.put_slice(&self.start[..count]);
        self.start.drain(..count);
        if self.start.is_empty() {
            self.start = Vec::new();
        }
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = &self.replay[self.replayed..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.replayed += count;
        if self.replayed == self.replay.len() {
            self.replay = Vec::new();
            self.replayed = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.end.is_none() && wire.notes.head_is_overdue() {
            wire.refuse(HeadFlaw::TooSlow, head::nearest(&wire.held));
        }
        loop {
            if wire.replayed < wire.replay.len() {
                wire.hand_over(buf);
                return Poll::Ready(Ok(()));
            }
            match wire.end {
                Some(End::Refused) => return Poll::Pending, // the answer to the marker closes the connection
                Some(End::Broken) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "request body framing")));
                }
                None => {}
            }
            if wire.is_tunnel() {
                return wire.poll_early(cx);
            }
            let start = buf.filled().len();
            if wire.start.is_empty() {
                ready!(Pin::new(&mut wire.io).poll_read(cx, buf))?;
            } else {
                wire.begin(buf);
            }
            if buf.filled().len() == start {
                return Poll::Ready(Ok(())); // the peer has no more to say
            }
            wire.check(buf, start);
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.lingered.is_none() {
            ready!(Pin::new(&mut wire.io).poll_shutdown(cx))?;
            if wire.end.is_none() && wire.framing == Framing::Head {
                return Poll::Ready(Ok(()));
            }
            wire.lingered = Some(0);
            wire.notes.lingers();
        }
        ready!(wire.read_away(cx));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Looks out for a client that goes away before its websocket is answered. What it sends meanwhile is kept, as far as one read goes.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0_u8; 8 * 1024];
        while self.early.is_empty() && self.start.is_empty() {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.early.extend_from_slice(buf.filled());
        }
        Poll::Pending
    }

    fn read_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0_u8; 8 * 1024];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    let total = self.lingered.unwrap_or(0) + buf.filled().len();
                    self.lingered = Some(total);
                    if total > LINGER_BYTES {
                        return Poll::Ready(());
                    }
                }
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}
