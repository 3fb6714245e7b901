//! One stream: what is noted about it while it runs, and its answer as the stream carries it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::admission::Caller;
use crate::headers::AnswerHead;
use crate::policy::{DialectName, HeadFlaw};
use crate::proxy::answer::Reply;
use crate::proxy::deadline::{Deadline, Due};
use crate::proxy::http2::ConnectionNotes;
use crate::proxy::relay::{AnswerBody, Cut};

/// Answers leave in pieces of at most so many bytes, so that a slow client is seen to take something.
const LARGEST_PIECE: usize = 16 * 1024;

/// What is noted about a stream.
#[derive(Debug)]
pub struct StreamNotes {
    flaw: Option<(HeadFlaw, DialectName)>,
    /// By when a piece must be taken; and it watches the key where answers end with it.
    deadline: Deadline,
    /// A piece of the answer waits for the client to grant room for it.
    is_offered: Cell<bool>,
    connection: Rc<ConnectionNotes>,
}

impl StreamNotes {
    /// Of a stream whose head was found to have this flaw, if any.
    pub fn new(flaw: Option<(HeadFlaw, DialectName)>, deadline: Deadline, connection: Rc<ConnectionNotes>) -> Rc<Self> {
        Rc::new(Self { flaw, deadline, is_offered: Cell::new(false), connection })
    }

    /// Why its head is refused, and the dialect its path is nearest to.
    pub fn flaw(&self) -> Option<(HeadFlaw, DialectName)> {
        self.flaw
    }

    /// Its head is refused for that.
    pub fn head_refused(&self) {
        self.connection.head_refused();
    }

    /// Whose stream it is.
    pub fn connection(&self) -> &ConnectionNotes {
        &self.connection
    }

    /// Its answer ends with this caller's secret.
    pub fn watch(&self, caller: Caller) {
        self.deadline.watch(caller);
    }

    fn offered(&self) {
        self.is_offered.set(true);
        self.deadline.set_in(self.connection.write_stall_ns());
    }

    fn taken(&self) {
        if self.is_offered.replace(false) {
            self.deadline.clear();
        }
    }

    /// Ready when the client has left a piece waiting for too long, or the answer is at its end by a revocation and the client takes nothing
    /// of it: the upstream is not kept waiting for the client.
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.deadline.poll_due(cx)) {
            Due::TimeUp => Poll::Ready(()),
            Due::Revoked(_) if self.is_offered.get() || self.connection.is_stalled() => Poll::Ready(()),
            Due::Revoked(_) => Poll::Pending,
        }
    }
}

/// Runs what answers a stream, to its end or until it is cut: what is dropped then resets it.
pub async fn until_cut(stream: Rc<StreamNotes>, answering: impl Future<Output = ()>) {
    let mut answering = pin!(answering);
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Pending => stream.poll_cut(cx),
        ended => ended,
    })
    .await;
}

/// An answer as a stream carries it: without what is said of a connection, and to HEAD, or by its status (RFC 9110 15.3.5, 15.4.5), without a body.
pub fn answer(reply: Reply, stream: Rc<StreamNotes>, is_head: bool) -> Response<StreamBody> {
    let Reply { head: AnswerHead { status, mut headers }, body } = reply;
    headers.remove(CONNECTION);
    let is_bodyless = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_head
        && let Some(length) = body.size_hint().exact()
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert_number(CONTENT_LENGTH, length);
    }
    let mut answer = Response::new(StreamBody { body, rest: Bytes::new(), is_bodyless, stream });
    *answer.status_mut() = status;
    *answer.headers_mut() = headers.into();
    answer
}

/// The body of an answer on a stream.
#[derive(Debug)]
pub struct StreamBody {
    body: AnswerBody,
    /// What of the last data did not fit into a piece.
    rest: Bytes,
    is_bodyless: bool,
    stream: Rc<StreamNotes>,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Cut;

    /// Asked for a piece when the one before has found room.
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        this.stream.taken();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                None => return Poll::Ready(None),
            }
        }
        this.stream.offered();
        let length = this.rest.len().min(LARGEST_PIECE);
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_bodyless || (self.rest.is_empty() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
