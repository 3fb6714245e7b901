//! An upstream's answer: its head, and its body while it comes in.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;

use crate::headers::AnswerHead;
use crate::upstream::http1::Connection;
use crate::upstream::multiplex::Line;
use crate::upstream::play::Playing;
use crate::upstream::seat::Seat;

/// The head of an upstream's answer, and its body to come.
#[derive(Debug)]
pub struct Answered {
    /// Status and headers.
    pub head: AnswerHead,
    /// The body.
    pub body: UpstreamBody,
}

/// An answer's body while it comes in.
#[derive(Debug)]
pub enum UpstreamBody {
    /// Over HTTP/1, on a connection that goes back to the pool at the end.
    Http(Lease),
    /// Over HTTP/2. On the heap, as the next: all requests would carry the room for it.
    Stream(Box<Stream>),
    /// From the built-in backend.
    Sandbox(Box<Playing>),
}

/// An answer's body over HTTP/2.
#[derive(Debug)]
pub struct Stream {
    /// What hyper reads; the connection's own task feeds it.
    pub incoming: Incoming,
    /// Whether a reset that names no error ends it as its own end does.
    pub may_be_waved_off: bool,
    /// The place on the connection.
    pub line: Line,
    /// The place at the endpoint.
    pub seat: Seat,
}

/// A body that broke, and how.
#[derive(Debug)]
pub struct BodyBroke(pub String);

impl UpstreamBody {
    /// The next data of the body; trailers are passed over. `None` at its clean end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyBroke>>> {
        match self {
            Self::Http(lease) => lease.poll_content(cx),
            Self::Stream(stream) => loop {
                match ready!(Pin::new(&mut stream.incoming).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Some(Err(error)) => return Poll::Ready(Some(Err(BodyBroke(error.to_string())))),
                    // The library does not tell an end from a reset that names no error, with which an answer can be cut as with any other.
                    None if stream.may_be_waved_off || stream.incoming.is_end_stream() => return Poll::Ready(None),
                    None => return Poll::Ready(Some(Err(BodyBroke("the stream was reset before its end".to_owned())))),
                }
            },
            Self::Sandbox(playing) => playing.poll_data(cx),
        }
    }

    /// Whether the end is known to have come already.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Http(lease) => lease.connection.is_none(),
            Self::Stream(stream) => stream.incoming.is_end_stream(),
            Self::Sandbox(playing) => playing.is_ended(),
        }
    }
}

/// Holds a connection while its answer is read; back to the pool only when that was read to its end.
#[derive(Debug)]
pub struct Lease {
    seat: Seat,
    connection: Option<Connection>,
}

impl Lease {
    /// Of a connection that has just answered.
    pub fn new(seat: Seat, connection: Connection) -> Self {
        let mut lease = Self { seat, connection: Some(connection) };
        lease.finish_when_over();
        lease
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyBroke>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let content = ready!(connection.poll_content(cx, &self.seat.pool().room));
        if !matches!(content, Some(Err(_))) {
            self.finish_when_over();
        }
        Poll::Ready(content.map(|content| content.map_err(|error| BodyBroke(error.to_string()))))
    }

    /// Once the answer was read to its end the connection may be used again.
    fn finish_when_over(&mut self) {
        let ended = self.connection.take_if(|connection| connection.is_over());
        if let Some((connection, endpoint)) = ended.zip(self.seat.endpoint()) {
            self.seat.pool().give_back(endpoint.number, connection);
        }
    }
}
