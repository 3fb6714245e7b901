//! What a client sends on an HTTP/1 connection: heads and bodies, out of bytes that the wire has checked.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, ReadBuf};

use crate::proxy::connection::Line;
use crate::proxy::http1::answer::Out;
use crate::proxy::http1::head::{self, Asked};
use crate::proxy::plane::Worker;
use crate::proxy::wire::{Wire, find_empty_line};
use crate::turn::Leaves;
use crate::upstream::http1::body::Rest;

/// Bytes that a worker's connections read at once, into room that they share.
pub const ROOM: usize = 64 * 1024;
/// Of what a client sends ahead of its answer so many bytes are taken to see whether it goes away.
const MOST_KEPT: usize = 16 * 1024;

/// Both directions of a connection, as far as they are bytes.
#[derive(Debug)]
pub struct Intake {
    wire: Wire<Line>,
    worker: Rc<Worker>,
    /// What has come and is not taken yet.
    arrived: Bytes,
    /// What is to come of the body of the request that runs.
    rest: Rest,
    /// Its client waits to be told to send it.
    expects_continue: bool,
    out: Out,
    /// Wakes who serves the connection, where something was to be written in its turn and could not be.
    waker: Option<Waker>,
    /// That came to nothing: the client takes nothing any more.
    has_failed: bool,
}

/// The body of a request, while its connection lives.
#[derive(Debug)]
pub struct Body(Rc<RefCell<Intake>>);

impl Body {
    /// What `intake` is to take after a head.
    pub fn new(intake: &Rc<RefCell<Intake>>) -> Self {
        Self(Rc::clone(intake))
    }

    /// How long it is, where its head says so.
    pub fn declared(&self) -> Option<u64> {
        match self.0.borrow().rest {
            Rest::Over => Some(0),
            Rest::Length(left) => Some(left),
            Rest::Chunks(_) | Rest::UntilClose => None,
        }
    }

    /// Whether nothing more is to come.
    pub fn is_over(&self) -> bool {
        self.0.borrow().rest.is_over()
    }

    /// The next of its content; `None` at its end.
    ///
    /// # Errors
    /// It broke off.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.0.borrow_mut().poll_body(cx)
    }
}

impl Leaves for RefCell<Intake> {
    fn leave(&self) {
        let mut intake = self.borrow_mut();
        let Intake { out, wire, waker: Some(waker), has_failed, .. } = &mut *intake else { return };
        // It may have been written meanwhile, without its turn.
        if out.waits_for_turn()
            && let Poll::Ready(Err(_)) = out.poll_flush(wire, &mut Context::from_waker(waker))
        {
            *has_failed = true;
            waker.wake_by_ref();
        }
    }
}

impl Intake {
    /// Of a connection that nothing was read from.
    pub fn new(wire: Wire<Line>, worker: Rc<Worker>) -> Self {
        Self {
            wire,
            worker,
            arrived: Bytes::new(),
            rest: Rest::Over,
            expects_continue: false,
            out: Out::default(),
            waker: None,
            has_failed: false,
        }
    }

    /// The bytes themselves again.
    pub fn into_wire(self) -> Wire<Line> {
        self.wire
    }

    /// What carries the bytes, between two requests: the last answer is written, and nothing of the next request has come.
    pub fn at_rest(&self) -> Option<&Line> {
        let is_at_rest = self.arrived.is_empty() && self.rest.is_over() && self.out.is_empty() && !self.has_failed;
        self.wire.at_rest().filter(|_| is_at_rest)
    }

    /// What waits to be written.
    pub fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Whether something has come already of what follows.
    pub fn has_more(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Reads once; whether anything came, or the client has no more to say.
    fn poll_arrive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut room = self.worker.room.borrow();
        let mut buf = ReadBuf::new(&mut room);
        ready!(tokio::io::AsyncRead::poll_read(Pin::new(&mut self.wire), cx, &mut buf))?;
        let fresh = buf.filled();
        if self.arrived.is_empty() {
            self.arrived = Bytes::copy_from_slice(fresh);
        } else if !fresh.is_empty() {
            let mut joined = BytesMut::with_capacity(self.arrived.len() + fresh.len());
            joined.extend_from_slice(&self.arrived);
            joined.extend_from_slice(fresh);
            self.arrived = joined.freeze();
        }
        Poll::Ready(Ok(!fresh.is_empty()))
    }

    /// The next request, up to its body; `None` when the client has no more to say.
    ///
    /// # Errors
    /// The connection broke, or what came is no request.
    pub fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Asked>>> {
        loop {
            if let Some(asked) = head::read(&self.arrived) {
                // Split, not passed over: what is empty would still hold the room of a head for as long as the connection is idle.
                drop(self.arrived.split_to(asked.length));
                (self.rest, self.expects_continue) = (asked.rest.clone(), asked.expects_continue);
                return Poll::Ready(Ok(Some(asked)));
            }
            if find_empty_line(&self.arrived).is_some() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if !ready!(self.poll_arrive(cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if self.rest.is_over() {
                return Poll::Ready(None);
            }
            if let Some(piece) = self.piece()? {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.rest.is_over() {
                continue;
            }
            if std::mem::take(&mut self.expects_continue) {
                self.out.text().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if !ready!(self.poll_arrive(cx))? {
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    /// The next of the body's content among what has arrived.
    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut left = &self.arrived[..];
        let length = self.rest.next(&mut left)?.map(<[u8]>::len);
        let consumed = self.arrived.len() - left.len();
        self.expects_continue &= consumed == 0;
        let mut taken = self.arrived.split_to(consumed);
        Ok(length.map(|length| taken.split_off(consumed - length)))
    }

    /// Passes over what nobody has read of the body. False where it is not all there: then nobody knows where a next request begins.
    pub fn pass_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.expects_continue = false;
        loop {
            match self.poll_body(cx) {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
    }

    /// Ready when the client goes away while it has an answer to come. What it sends meanwhile is kept, as far as [`MOST_KEPT`] and one read go.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.rest.is_over() {
            return Poll::Pending;
        }
        while self.arrived.len() < MOST_KEPT {
            match ready!(self.poll_arrive(cx)) {
                Ok(true) => {}
                // Whoever has asked for more may have closed only his side, and still read.
                Ok(false) if !self.arrived.is_empty() => return Poll::Pending,
                // The body of a later request is broken: that is told in its turn.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Poll::Pending,
                Ok(false) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Writes what waits, and waits for nobody but the client.
    ///
    /// # Errors
    /// The client takes nothing any more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.out.poll_flush(&mut self.wire, cx)
    }

    /// Has what waits leave in its turn, or at once where it is much or the client was waited for.
    ///
    /// # Errors
    /// The client takes nothing any more.
    pub fn part(this: &Rc<RefCell<Self>>, cx: &mut Context<'_>) -> io::Result<()> {
        let mut intake = this.borrow_mut();
        if intake.out.waits_for_turn() {
            return Ok(());
        }
        if intake.out.may_wait() && intake.worker.pool.turn.wait(Rc::downgrade(this) as _) {
            intake.out.wait();
            match &mut intake.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => intake.waker = Some(cx.waker().clone()),
            }
            return Ok(());
        }
        match intake.poll_flush(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Ends the connection; see [`Wire`] for what is read away before.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
