//! HTTP/1 towards clients: requests one after the other, each answered before the next is looked at. The wire checks what arrives, byte by byte;
//! here it is read, and what is answered is written: heads and bodies together, and with those of other connections that are ready at the
//! same time.

pub mod answer;
mod date;
pub mod head;
mod intake;

use std::cell::RefCell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use http_body::Body as _;

use crate::listen::Loose;
use crate::proxy::answer::Reply;
use crate::proxy::body::Arriving;
use crate::proxy::carrier::Carrier;
use crate::proxy::connection::Line;
use crate::proxy::handle::handle;
use crate::proxy::neighbours::Elsewhere;
use crate::proxy::plane::Worker;
use crate::proxy::realtime::Door;
use crate::proxy::relay::AnswerBody;
use crate::proxy::seating::surplus::Pace;
use crate::proxy::wire::{Wire, WireNotes};

use self::answer::Delimiter;
pub use self::date::Date;
use self::head::{Asked, Manner};
use self::intake::Intake;
pub use self::intake::{Body, ROOM};

/// What may wait for a client to take it before more is read for it, bytes: a slow reader has the upstream wait.
const MOST_WAITING: usize = 32 * 1024;

/// The connection ends before an answer did, or its client has gone.
#[derive(Debug)]
pub struct Gone;

/// How this worker has done with a connection.
#[derive(Debug)]
pub(super) enum End {
    /// It is over, or becomes a websocket.
    Over,
    /// Its next request is for another worker.
    Moves(Elsewhere, Loose),
}

/// One connection's requests.
pub struct Serving {
    worker: Rc<Worker>,
    notes: Rc<WireNotes>,
    door: Rc<Door>,
    peer: IpAddr,
    intake: Rc<RefCell<Intake>>,
    state: State,
    /// Whether another request may follow the one that runs.
    keeps_alive: bool,
    /// Nothing was asked for yet.
    is_new: bool,
    /// How often something was.
    pace: Pace,
}

enum State {
    /// For a request.
    Waiting,
    /// It is answered.
    Deciding { answer: Pin<Box<dyn Future<Output = Reply>>>, manner: Manner },
    /// Its answer has begun.
    Sending { body: AnswerBody, delimiter: Delimiter, next: Next },
    /// Its answer has ended, and is to be written.
    Flushing(Next),
    /// Nothing more is said.
    Closing,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    /// What is no longer HTTP.
    Websocket,
    /// The answer broke off, and its client is to see that.
    Cut,
}

impl State {
    /// Whether an answer that ends with the connection would look whole if that ended now, and is not.
    fn is_cut_short(&self, is_all_written: bool) -> bool {
        match self {
            Self::Sending { delimiter, .. } => *delimiter == Delimiter::Close,
            Self::Flushing(Next::Close) | Self::Closing => !is_all_written,
            Self::Flushing(Next::Request | Next::Websocket | Next::Cut) | Self::Waiting | Self::Deciding { .. } => {
                false
            }
        }
    }
}

/// Whoever drops it amid an answer whose end is the connection's, as its client goes or the drain's time is over, breaks that off.
impl Drop for Serving {
    fn drop(&mut self) {
        let is_all_written = self.intake.borrow_mut().out().is_empty();
        if self.state.is_cut_short(is_all_written) {
            self.notes.break_off();
        }
    }
}

impl Serving {
    /// Of the connection `wire`.
    pub fn new(worker: Rc<Worker>, wire: Wire<Line>, notes: Rc<WireNotes>, door: Rc<Door>, peer: IpAddr) -> Self {
        let intake = Rc::new(RefCell::new(Intake::new(wire, Rc::clone(&worker))));
        let pace = worker.surplus.pace();
        Self { worker, notes, door, peer, intake, state: State::Waiting, keeps_alive: true, is_new: true, pace }
    }

    /// The request that runs is the last; where none does, and there was one, the connection ends.
    pub fn wind_down(&mut self) {
        self.keeps_alive = false;
    }

    /// What carries the bytes, once nothing more is to be read of them as HTTP.
    pub fn into_wire(self) -> Option<Wire<Line>> {
        let intake = Rc::clone(&self.intake);
        drop(self);
        Rc::try_unwrap(intake).ok().map(|intake| intake.into_inner().into_wire())
    }

    /// Serves to the end of the connection, or up to where it becomes a websocket or moves.
    ///
    /// # Errors
    /// [`Gone`]: it is to be dropped as it is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Gone>> {
        if self.worker.surplus.is_any()
            && let Some((elsewhere, stream)) = self.moves(cx)
        {
            return Poll::Ready(Ok(End::Moves(elsewhere, stream)));
        }
        loop {
            match &mut self.state {
                State::Waiting => ready!(self.poll_waiting(cx))?,
                State::Deciding { answer, manner } => match answer.as_mut().poll(cx) {
                    Poll::Ready(reply) => {
                        let manner = *manner;
                        self.begin(reply, manner, cx);
                    }
                    Poll::Pending => return self.poll_meanwhile(cx).map_ok(|()| End::Over),
                },
                State::Sending { .. } => ready!(self.poll_sending(cx))?,
                State::Flushing(next) => {
                    let next = *next;
                    if next == Next::Request {
                        self.part(cx)?;
                        self.state = State::Waiting;
                        if self.intake.borrow().has_more() {
                            // One request a turn: however many a client has sent at once, the others of its worker have theirs.
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        continue;
                    }
                    // Whoever has closed his side may still read: there is nothing left to be spared.
                    ready!(self.intake.borrow_mut().poll_flush(cx)).map_err(|_| Gone)?;
                    match next {
                        Next::Request => {}
                        Next::Close => self.state = State::Closing,
                        Next::Websocket => return Poll::Ready(Ok(End::Over)),
                        Next::Cut => return Poll::Ready(Err(Gone)),
                    }
                }
                State::Closing => {
                    let mut intake = self.intake.borrow_mut();
                    ready!(intake.poll_flush(cx)).map_err(|_| Gone)?;
                    return intake.poll_shutdown(cx).map_ok(|()| End::Over).map_err(|_| Gone);
                }
            }
        }
    }

    /// Where its next request is to be answered, which has come and is not read yet, if that is not here.
    fn moves(&self, cx: &mut Context<'_>) -> Option<(Elsewhere, Loose)> {
        let is_at_rest = matches!(self.state, State::Waiting) && self.keeps_alive && !self.is_new;
        // Whoever has read of the last request may still hold its end.
        if !is_at_rest || Rc::strong_count(&self.intake) > 1 {
            return None;
        }
        let intake = self.intake.borrow();
        let stream = intake.at_rest()?.at_rest().filter(|stream| stream.has_come(cx))?;
        let elsewhere = self.worker.neighbours.elsewhere(self.worker.plane.clock.monotonic_ns())?;
        if !self.worker.surplus.give(self.pace) {
            return None;
        }
        Some((elsewhere, stream.again().ok()?))
    }

    /// Waits for a request, and has it answered.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if !self.keeps_alive && !self.is_new {
            self.state = State::Closing;
            return Poll::Ready(Ok(()));
        }
        let mut intake = self.intake.borrow_mut();
        // Whoever does not take the answers that he has gets no others.
        if intake.out().waits_for_peer() || intake.out().len() >= MOST_WAITING {
            ready!(intake.poll_flush(cx)).map_err(|_| Gone)?;
        }
        let asked = ready!(intake.poll_request(cx)).map_err(|error| {
            tracing::debug!(%error, "client connection ended");
            // The last answer may still be taken.
            let _ = intake.poll_flush(cx);
            Gone
        })?;
        drop(intake);
        let Some(Asked { head, manner, .. }) = asked else {
            self.state = State::Closing;
            return Poll::Ready(Ok(()));
        };
        self.is_new = false;
        self.worker.surplus.note(&mut self.pace);
        self.keeps_alive &= manner.keeps_alive;
        let body = Arriving::Http1(Body::new(&self.intake));
        let (worker, carrier) = (Rc::clone(&self.worker), Carrier::Connection(Rc::clone(&self.notes)));
        let answer = handle(worker, carrier, self.peer, Some(Rc::clone(&self.door)), head, body);
        self.state = State::Deciding { answer, manner };
        Poll::Ready(Ok(()))
    }

    /// Says the answer's head.
    fn begin(&mut self, reply: Reply, manner: Manner, cx: &mut Context<'_>) {
        let Reply { head: answer, body } = reply;
        let mut intake = self.intake.borrow_mut();
        let closes = !self.keeps_alive || head::is_last(&answer.headers) || !intake.pass_over(cx);
        let length = body.size_hint().exact();
        let date = || self.worker.date.at(self.worker.plane.clock.now().unix_seconds());
        let delimiter = head::write(intake.out().text(), &answer, length, manner, closes, date);
        let next = match closes || delimiter == Delimiter::Close {
            _ if answer.status == StatusCode::SWITCHING_PROTOCOLS => Next::Websocket,
            true => Next::Close,
            false => Next::Request,
        };
        drop(intake);
        self.state = State::Sending { body, delimiter, next };
        self.end_if_over();
    }

    /// Ends the answer where nothing more of it is to come.
    fn end_if_over(&mut self) {
        let State::Sending { body, delimiter, next } = &mut self.state else { return };
        // One that has all that was promised still says its end: what it used is written down with that.
        if body.is_end_stream() || *delimiter == Delimiter::None {
            let is_whole = delimiter.end(self.intake.borrow_mut().out());
            self.state = State::Flushing(if is_whole { *next } else { Next::Cut });
        }
    }

    /// Passes on what there is of the answer. Ready once it has ended.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        loop {
            let is_full = {
                let mut intake = self.intake.borrow_mut();
                let is_due = intake.out().waits_for_peer() || intake.out().len() >= MOST_WAITING;
                is_due && intake.poll_flush(cx).map_err(|_| Gone)?.is_pending()
            };
            if is_full {
                return self.poll_gone(cx);
            }
            let State::Sending { body, delimiter, .. } = &mut self.state else { return Poll::Ready(Ok(())) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return self.poll_meanwhile(cx),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        delimiter.put(self.intake.borrow_mut().out(), data);
                    }
                    self.end_if_over();
                }
                Poll::Ready(Some(Err(_cut))) => {
                    if *delimiter == Delimiter::Close {
                        self.notes.break_off();
                    }
                    self.state = State::Flushing(Next::Cut);
                }
                Poll::Ready(None) => {
                    let State::Sending { delimiter, next, .. } = &self.state else { return Poll::Ready(Ok(())) };
                    let is_whole = delimiter.end(self.intake.borrow_mut().out());
                    self.state = State::Flushing(if is_whole { *next } else { Next::Cut });
                }
            }
        }
    }

    /// While more of an answer is waited for: what there is leaves, and a client that goes away is seen.
    fn poll_meanwhile(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.part(cx)?;
        self.poll_gone(cx)
    }

    fn part(&self, cx: &mut Context<'_>) -> Result<(), Gone> {
        Intake::part(&self.intake, cx).map_err(|_| Gone)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        // Whoever has all that was promised may go: what is still to come is the answer's end, for the books.
        if matches!(self.state, State::Sending { delimiter: Delimiter::Length(0), .. }) {
            return Poll::Pending;
        }
        let mut intake = self.intake.borrow_mut();
        ready!(intake.poll_gone(cx));
        // An answer before this one may still wait for its turn: whoever has closed his side may still read.
        let _ = intake.poll_flush(cx);
        Poll::Ready(Err(Gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_ends_with_the_connection_is_over_once_all_of_it_is_written() {
        let sending = |delimiter| State::Sending { body: AnswerBody::none(), delimiter, next: Next::Close };
        for is_all_written in [false, true] {
            assert!(sending(Delimiter::Close).is_cut_short(is_all_written), "more is to come");
            assert!(!sending(Delimiter::Chunks).is_cut_short(is_all_written), "its client sees that it is not over");
            for last in [State::Flushing(Next::Close), State::Closing] {
                assert_eq!(last.is_cut_short(is_all_written), !is_all_written);
            }
            assert!(!State::Flushing(Next::Request).is_cut_short(is_all_written));
        }
    }
}
