//! One HTTP/1.1 connection to an upstream: a request is written, its answer read, then the next. It has no task of its own: whoever waits
//! for the answer reads it, into room that all of a worker's connections share, so that a stream that waits for its next event holds
//! no buffer, and all that has come is passed on in one piece.

pub mod body;
pub mod head;
#[cfg(test)]
mod tests;

use std::cell::{RefCell, RefMut};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::headers::AnswerHead;
use crate::turn::{Leaves, Turn};
use crate::upstream::connect::Stream;
use crate::upstream::request::Outgoing;

use self::body::Rest;
use self::head::{Destination, Head};

/// What is read at once, bytes: what a client that reads slowly may have us hold is a few of these.
const ROOM: usize = 16 * 1024;
/// A body that is copied behind its head, rather than written as a piece of its own, bytes.
const SMALL: usize = 4 * 1024;

/// What an upstream says is no HTTP/1.1, or could be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed.0)
    }
}

/// Room for what is read at once. One for all connections of a worker: nothing is left in it from one call to the next.
#[derive(Debug)]
pub struct Room(RefCell<Box<[u8]>>);

impl Room {
    /// For so many bytes.
    pub fn of(bytes: usize) -> Self {
        Self(RefCell::new(vec![0; bytes].into_boxed_slice()))
    }

    /// The room, for one read.
    pub fn borrow(&self) -> RefMut<'_, Box<[u8]>> {
        self.0.borrow_mut()
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::of(ROOM)
    }
}

/// A request that brought no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// Why, for the log.
    pub error: io::Error,
    /// Whether the upstream's side has taken nothing of the request, so that it may be sent again.
    pub is_unsent: bool,
}

/// A connection to an upstream; dropping it closes it at once. What is idle is read by nobody, and is looked at when it is used again.
#[derive(Debug)]
pub struct Connection(Rc<RefCell<Exchange>>);

/// A request and its answer, and what carries them.
#[derive(Debug)]
struct Exchange {
    stream: Stream,
    /// What of the request's head and body is still to be written.
    unwritten: Option<Unwritten>,
    /// Whether anything of the request was taken.
    is_begun: bool,
    /// What was written may still stand in TLS.
    wants_flush: bool,
    /// The start of an answer's head that is not whole.
    start: Vec<u8>,
    /// What came of the body with the head.
    early: Bytes,
    rest: Rest,
    /// What is wrong with what comes next.
    broken: Option<Malformed>,
    keeps_alive: bool,
    /// Whether a request was answered on it before.
    has_answered: bool,
    /// Something came, or the end, that nobody had asked for.
    has_spoken: bool,
    /// When it is not to be used any more, nanoseconds of the monotonic clock.
    until_ns: u64,
}

#[derive(Debug)]
struct Unwritten {
    /// With the body behind it, where that is small.
    head: Vec<u8>,
    /// How much of it is written.
    written: usize,
    body: Bytes,
    turn: Waits,
}

impl Unwritten {
    /// What is left of the head.
    fn head(&self) -> &[u8] {
        self.head.get(self.written..).unwrap_or_default()
    }

    /// So many bytes more are written. Whether those were all.
    fn advance(&mut self, count: usize) -> bool {
        let of_head = count.min(self.head().len());
        self.written += of_head;
        self.body.advance((count - of_head).min(self.body.len()));
        self.head().is_empty() && self.body.is_empty()
    }
}

/// Requests that are ready together are written together, and the upstream is woken once.
#[derive(Debug)]
enum Waits {
    /// It is not known yet whether for its turn.
    New,
    /// For its turn; this one waits for the answer.
    ForTurn(Waker),
    /// No longer, or for the peer alone.
    No,
}

/// How a request is taken that one connection sends; does not keep that.
#[derive(Debug)]
pub struct Taking(Weak<RefCell<Exchange>>);

impl Taking {
    /// Bytes of it that the other side has not taken.
    pub fn left(&self) -> u64 {
        let Some(exchange) = self.0.upgrade() else { return 0 };
        let exchange = exchange.borrow();
        let unwritten =
            exchange.unwritten.as_ref().map_or(0, |unwritten| unwritten.head().len() + unwritten.body.len());
        exchange.stream.untaken().saturating_add(unwritten as u64)
    }
}

impl Connection {
    /// HTTP/1.1 on `stream`, for requests until `until_ns`.
    pub fn new(stream: Stream, until_ns: u64) -> Self {
        Self(Rc::new(RefCell::new(Exchange {
            stream,
            unwritten: None,
            is_begun: false,
            wants_flush: false,
            start: Vec::new(),
            early: Bytes::new(),
            rest: Rest::Over,
            broken: None,
            keeps_alive: true,
            has_answered: false,
            has_spoken: false,
            until_ns,
        })))
    }

    /// How the request that is sent next is taken.
    pub fn taking(&self) -> Taking {
        Taking(Rc::downgrade(&self.0))
    }

    /// Sends `request` and waits for the head of its answer. An answer that comes before the request is written whole is one; the rest is
    /// written while it is read.
    ///
    /// # Errors
    /// [`Unanswered`]; the connection is of no more use then.
    pub async fn send(
        &mut self,
        request: &Outgoing,
        to: Destination<'_>,
        room: &Room,
        turn: &Turn,
    ) -> Result<AnswerHead, Unanswered> {
        self.0.borrow_mut().begin(request, to);
        poll_fn(|cx| self.poll_answer(cx, &request.method, room, turn))
            .await
            .map_err(|error| Unanswered { error, is_unsent: !self.0.borrow().is_begun })
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        room: &Room,
        turn: &Turn,
    ) -> Poll<io::Result<AnswerHead>> {
        let mut exchange = self.0.borrow_mut();
        // One that answered before may have been closed, or have spoken, before the request had its turn: nothing of it is lost then.
        if exchange.has_answered && !exchange.is_begun {
            if exchange.is_disturbed(cx) {
                return Poll::Ready(Err(io::Error::other("the connection was no longer free")));
            }
            if let Some(Unwritten { turn: waits, .. }) = &mut exchange.unwritten {
                match waits {
                    Waits::New if turn.wait(Rc::downgrade(&self.0) as _) => {
                        *waits = Waits::ForTurn(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Waits::New => *waits = Waits::No,
                    Waits::ForTurn(waker) => {
                        waker.clone_from(cx.waker());
                        return Poll::Pending;
                    }
                    Waits::No => {}
                }
            }
        }
        // What is wrong with it is found where the answer is read.
        let _ = exchange.write_on(cx);
        if exchange.has_answered && !exchange.is_begun && exchange.waits() {
            return Poll::Pending; // for room
        }
        exchange.poll_head(cx, method, room)
    }

    /// The next content of the answer's body; `None` at its clean end.
    ///
    /// # Errors
    /// It broke off.
    pub fn poll_content(&mut self, cx: &mut Context<'_>, room: &Room) -> Poll<Option<io::Result<Bytes>>> {
        self.0.borrow_mut().poll_content(cx, room)
    }

    /// Whether its time is over.
    pub fn is_old(&self, now_ns: u64) -> bool {
        now_ns >= self.0.borrow().until_ns
    }

    /// Whether all of the answer was read.
    pub fn is_over(&self) -> bool {
        self.0.borrow().is_over()
    }

    /// Whether it is open and waits for a request, as far as can be seen now. One whose answer came before its request was taken
    /// whole never is: the upstream may yet read the rest, and the next request would wait behind that.
    pub fn is_free(&self) -> bool {
        let mut exchange = self.0.borrow_mut();
        exchange.is_quiet() && !exchange.is_disturbed(&mut Context::from_waker(Waker::noop()))
    }

    /// Whether nothing is left of the request before, nor of its answer; the same without a look at what came since.
    pub fn is_quiet(&self) -> bool {
        self.0.borrow().is_quiet()
    }
}

impl Leaves for RefCell<Exchange> {
    fn leave(&self) {
        let mut exchange = self.borrow_mut();
        let Some(Unwritten { turn, .. }) = &mut exchange.unwritten else { return };
        let Waits::ForTurn(waker) = std::mem::replace(turn, Waits::No) else { return };
        exchange.have_turn(waker);
    }
}

impl Exchange {
    /// Makes `request` what is to be written.
    fn begin(&mut self, request: &Outgoing, to: Destination<'_>) {
        let (small, body) = match request.body.len() {
            0..=SMALL => (&*request.body, Bytes::new()),
            _ => (&[][..], request.body.clone()),
        };
        let mut head = head::write(request, to, small.len());
        head.extend_from_slice(small);
        self.unwritten = Some(Unwritten { head, written: 0, body, turn: Waits::New });
        (self.is_begun, self.keeps_alive) = (false, false);
    }

    /// Writes what waited for its turn; `waker` wakes who waits for the answer, where there is something else to be seen.
    fn have_turn(&mut self, waker: Waker) {
        let mut cx = Context::from_waker(&waker);
        self.has_spoken |= self.stream.has_come(&mut cx);
        if self.has_spoken || self.write_on(&mut cx).is_err() {
            waker.wake();
        }
    }

    /// Whether something of the request is still to be written.
    fn waits(&self) -> bool {
        self.unwritten.as_ref().is_some_and(|unwritten| !unwritten.head().is_empty())
    }

    /// Writes what can be written. One that takes nothing more may still have answered: what is wrong is found where that is read.
    fn write_on(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Poll::Ready(Err(error)) = self.poll_write(cx) else { return Ok(()) };
        self.keeps_alive = false;
        if let Some(unwritten) = &mut self.unwritten {
            // It stays unwritten, so that this is not taken for a request that was sent.
            (unwritten.head, unwritten.written, unwritten.body) = (Vec::new(), 0, Bytes::new());
        }
        Err(error)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(unwritten) = &mut self.unwritten {
            let (head, body) = (unwritten.head(), &unwritten.body);
            let stream = Pin::new(&mut self.stream);
            let count = ready!(match (head.is_empty(), body.is_empty()) {
                (true, true) => return Poll::Ready(Ok(())),
                (false, true) => stream.poll_write(cx, head),
                (true, false) => stream.poll_write(cx, body),
                (false, false) => stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]),
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            (self.is_begun, self.wants_flush) = (true, true);
            if unwritten.advance(count) {
                self.unwritten = None;
            }
        }
        if self.wants_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.wants_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method, room: &Room) -> Poll<io::Result<AnswerHead>> {
        let mut room = room.0.borrow_mut();
        loop {
            let mut buf = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(io::Error::other("the connection ended before the answer")));
            }
            let mut joined = std::mem::take(&mut self.start);
            let mut bytes = buf.filled();
            if !joined.is_empty() {
                joined.extend_from_slice(bytes);
                bytes = &joined;
            }
            loop {
                let Some(head) = Head::read(bytes, method)? else {
                    self.start = bytes.to_vec();
                    break;
                };
                let behind = bytes.get(head.length..).unwrap_or_default();
                let status = head.answer.status;
                // Whatever comes before the answer itself is the hop's own (RFC 9110 15.2).
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    bytes = behind;
                    if bytes.is_empty() {
                        break;
                    }
                    continue;
                }
                (self.rest, self.keeps_alive, self.has_answered) = (head.rest, head.keeps_alive, true);
                self.early = self.content(behind);
                return Poll::Ready(Ok(head.answer));
            }
        }
    }

    /// The content in `bytes`, up to where the body is broken. What stands behind its end was asked for by nobody.
    fn content(&mut self, bytes: &[u8]) -> Bytes {
        let (mut left, mut first, mut all) = (bytes, &bytes[..0], Vec::new());
        loop {
            let piece = match self.rest.next(&mut left) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(malformed) => {
                    self.broken = Some(malformed);
                    break;
                }
            };
            if first.is_empty() {
                first = piece;
                continue;
            }
            if all.is_empty() {
                all.reserve_exact(bytes.len());
                all.extend_from_slice(first);
            }
            all.extend_from_slice(piece);
        }
        self.keeps_alive &= left.is_empty();
        if all.is_empty() { Bytes::copy_from_slice(first) } else { Bytes::from(all) }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>, room: &Room) -> Poll<Option<io::Result<Bytes>>> {
        if !self.early.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.early))));
        }
        let _ = self.write_on(cx);
        let mut room = room.0.borrow_mut();
        while !self.rest.is_over() {
            if let Some(malformed) = self.broken {
                return Poll::Ready(Some(Err(malformed.into())));
            }
            let mut buf = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                self.rest.close().map_err(io::Error::from)?;
                break;
            }
            let content = self.content(buf.filled());
            if !content.is_empty() {
                return Poll::Ready(Some(Ok(content)));
            }
        }
        Poll::Ready(None)
    }

    fn is_over(&self) -> bool {
        self.rest.is_over() && self.early.is_empty()
    }

    fn is_quiet(&self) -> bool {
        self.keeps_alive && self.is_over() && self.unwritten.is_none() && !self.wants_flush
    }

    /// Whether the upstream has closed it or says something, while nothing is asked.
    fn is_disturbed(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        self.has_spoken |= Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready();
        self.has_spoken
    }
}
