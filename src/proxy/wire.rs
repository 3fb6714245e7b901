//! The strict edge on bytes: what arrives is checked against RFC 9112 before hyper reads it.
//!
//! hyper is a lenient parser by design: it takes a bare LF, drops a `Content-Length` that stands beside `Transfer-Encoding`, and merges equal
//! doubles. Whoever reads differently behind or before us could be smuggled past, so a head or a chunk that two parsers could
//! read in two ways never reaches it. A refused head is replaced by a marker request, so that hyper calls the service in the right order
//! and the caller gets its own dialect's 400; the connection ends after it.

mod framing;
pub mod head;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::NS_PER_SECOND;
use crate::policy::{DialectName, HeadFlaw};
use crate::proxy::deadline::Deadline;
pub use framing::{Framing, Step};

/// The path of the marker request. A client that asks for it without a flaw gets the 404 of any unknown path.
pub const REFUSED_PATH: &str = "/-/refused";
const MARKER: &[u8] = b"GET /-/refused HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// How much of what a refused client still sends is read away, and for how long: closing at once would reset the connection, and the
/// client would see that instead of the refusal (RFC 9112 9.6).
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER_NS: u64 = 2 * NS_PER_SECOND;

/// What the wire tells the service about its connection, and how long the peer may take.
#[derive(Debug)]
pub struct WireNotes {
    /// Why the head was refused, and the dialect its path was nearest to.
    flaw: Cell<Option<(HeadFlaw, DialectName)>>,
    /// When the peer must have sent or taken something.
    deadline: Deadline,
    in_request: Cell<bool>,
    /// The peer takes nothing at the moment.
    is_stalled: Cell<bool>,
    /// Who waits for it to take something again.
    waits_for_room: RefCell<Option<Waker>>,
    limits: WireTimes,
}

/// How long a peer may take, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct WireTimes {
    /// For a head, from its first byte.
    pub head_ns: u64,
    /// Between requests.
    pub keep_alive_ns: u64,
    /// To take written bytes.
    pub write_stall_ns: u64,
}

impl WireNotes {
    /// Notes for a new connection; its first head is due within the head time.
    pub fn new(deadline: Deadline, limits: WireTimes) -> Rc<Self> {
        deadline.set_in(limits.head_ns);
        Rc::new(Self {
            flaw: Cell::new(None),
            deadline,
            in_request: Cell::new(false),
            is_stalled: Cell::new(false),
            waits_for_room: RefCell::default(),
            limits,
        })
    }

    /// Takes the flaw of a refused head.
    pub fn flaw(&self) -> Option<(HeadFlaw, DialectName)> {
        self.flaw.get()
    }

    /// The connection's deadline, for the task that drives it.
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// A request has been read whole up to its body: the service's own times apply from here.
    pub fn request_began(&self) {
        self.in_request.set(true);
        self.deadline.clear();
    }

    /// An answer has ended: the next request may take its time.
    pub fn request_ended(&self) {
        self.in_request.set(false);
        self.deadline.unwatch();
        self.deadline.set_in(self.limits.keep_alive_ns);
    }

    /// Whether the peer takes nothing of what is written.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.get()
    }

    /// Ready when the peer has taken what it was last offered.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_stalled() {
            return Poll::Ready(());
        }
        *self.waits_for_room.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Notes whether the peer took something. One that takes nothing for too long loses the connection; one that takes something
    /// starts the time anew.
    fn note_write(&self, is_stalled: bool) {
        if self.is_stalled.replace(is_stalled) == is_stalled {
            return;
        }
        if is_stalled {
            self.deadline.set_in(self.limits.write_stall_ns);
            return;
        }
        if self.in_request.get() {
            self.deadline.clear()
        } else {
            self.deadline.set_in(self.limits.keep_alive_ns)
        }
        self.waits_for_room.take().into_iter().for_each(Waker::wake);
    }
}

/// A connection whose incoming bytes are checked. `S` is the socket.
#[derive(Debug)]
pub struct Wire<S> {
    io: S,
    framing: Framing,
    /// The start of a head that is not whole yet; hyper has not seen it.
    held: Vec<u8>,
    /// Checked bytes that did not fit, or the marker.
    replay: Vec<u8>,
    replayed: usize,
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
        Self {
            io,
            framing: Framing::default(),
            held: Vec::new(),
            replay: Vec::new(),
            replayed: 0,
            end: None,
            lingered: None,
            notes,
        }
    }

    /// The socket, when the connection's requests are over.
    pub fn into_inner(self) -> S {
        self.io
    }

    /// Checks the fresh bytes of `buf` from `start` and takes back what hyper must not see yet, or ever.
    fn check(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        if self.held.is_empty() {
            let step = self.framing.scan(&buf.filled()[start..], 0);
            let keep = start + step.passed();
            if matches!(step, Step::PartialHead { .. }) {
                self.held.extend_from_slice(&buf.filled()[keep..]);
                self.head_began();
            }
            buf.set_filled(keep);
            self.conclude(step);
        } else {
            let searched = self.held.len();
            self.held.extend_from_slice(&buf.filled()[start..]);
            buf.set_filled(start);
            let held = std::mem::take(&mut self.held);
            let step = self.framing.scan(&held, searched);
            let passed = step.passed();
            self.replay.extend_from_slice(&held[..passed]);
            if matches!(step, Step::PartialHead { .. }) {
                self.held.extend_from_slice(&held[passed..]);
                if passed > 0 {
                    self.head_began();
                }
            }
            self.conclude(step);
        }
    }

    fn head_began(&self) {
        self.notes.deadline.set_in(self.notes.limits.head_ns);
    }

    fn conclude(&mut self, step: Step) {
        match step {
            Step::Passed { .. } | Step::PartialHead { .. } => {}
            Step::Refused { flaw, nearest, .. } => {
                self.notes.flaw.set(Some((flaw, nearest)));
                self.replay.extend_from_slice(MARKER);
                self.end = Some(End::Refused);
            }
            Step::Broken { .. } => self.end = Some(End::Broken),
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
            let start = buf.filled().len();
            ready!(Pin::new(&mut wire.io).poll_read(cx, buf))?;
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
        let wire = self.get_mut();
        let result = Pin::new(&mut wire.io).poll_write(cx, bytes);
        wire.notes.note_write(result.is_pending());
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let result = Pin::new(&mut wire.io).poll_write_vectored(cx, slices);
        wire.notes.note_write(result.is_pending());
        result
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
            wire.notes.deadline.set_in(LINGER_NS);
        }
        ready!(wire.read_away(cx));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::clock::{Clock, Now};
    use crate::proxy::deadline::Deadlines;

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_for_room_is_woken_when_the_peer_takes_something() {
        let deadlines = Deadlines::new(Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 }));
        let times = WireTimes { head_ns: 1, keep_alive_ns: 1, write_stall_ns: 1 };
        let notes = WireNotes::new(deadlines.register(), times);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(notes.poll_room(&mut cx).is_ready());
        notes.note_write(true);
        assert!(notes.poll_room(&mut cx).is_pending());
        notes.note_write(true);
        assert!(!woken.0.load(Ordering::SeqCst));
        notes.note_write(false);
        assert!(woken.0.load(Ordering::SeqCst) && notes.poll_room(&mut cx).is_ready());
    }
}
