//! An upstream's answer: its head, and its body while it comes in.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::response;
use http_body::Body;
use hyper::body::Incoming;

use crate::upstream::multiplex::Line;
use crate::upstream::play::Playing;
use crate::upstream::pool::Connection;
use crate::upstream::seat::Seat;

/// The head of an upstream's answer, and its body to come.
#[derive(Debug)]
pub struct Answered {
    /// Status and headers.
    pub parts: response::Parts,
    /// The body.
    pub body: UpstreamBody,
}

/// An answer's body while it comes in.
#[derive(Debug)]
pub enum UpstreamBody {
    /// Over HTTP.
    Http {
        /// What hyper reads.
        incoming: Incoming,
        /// The connection, back to the pool at the end.
        lease: Lease,
    },
    /// Over HTTP/2.
    Stream {
        /// What hyper reads; the connection's own task feeds it.
        incoming: Incoming,
        /// The place on the connection, and at the endpoint.
        _held: (Line, Seat),
    },
    /// From the built-in backend.
    Sandbox(Playing),
}

/// A body that broke, and how.
#[derive(Debug)]
pub struct BodyBroke(pub String);

impl UpstreamBody {
    /// The next data of the body; trailers are passed over. `None` at its clean end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyBroke>>> {
        match self {
            Self::Http { incoming, lease } => loop {
                // What it waits for comes about as the connection is driven, so it has nobody to wake.
                let mut asked = Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
                if asked.is_pending() {
                    lease.drive(cx);
                    asked = Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
                }
                match asked {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            if incoming.is_end_stream() {
                                lease.finish();
                            }
                            return Poll::Ready(Some(Ok(data)));
                        }
                        Err(_trailers) => {}
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(BodyBroke(error.to_string())))),
                    Poll::Ready(None) => {
                        lease.finish();
                        return Poll::Ready(None);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            },
            Self::Stream { incoming, .. } => loop {
                match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Some(Err(error)) => return Poll::Ready(Some(Err(BodyBroke(error.to_string())))),
                    None => return Poll::Ready(None),
                }
            },
            Self::Sandbox(playing) => playing.poll_data(cx),
        }
    }

    /// Whether the end is known to have come already.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Http { incoming, .. } | Self::Stream { incoming, .. } => incoming.is_end_stream(),
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
        Self { seat, connection: Some(connection) }
    }

    /// Drives the connection along; see [`Connection::drive`].
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection {
            connection.drive(cx);
        }
    }

    /// The answer was read to its end: the connection may be used again.
    pub fn finish(&mut self) {
        if let Some((connection, endpoint)) = self.connection.take().zip(self.seat.endpoint()) {
            self.seat.pool().give_back(endpoint.number, connection);
        }
    }
}
