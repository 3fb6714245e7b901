//! From the upstream: bytes pass untouched and unbuffered, a meter reads along, and what was used is settled exactly once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http_body::{Body, Frame, SizeHint};

use crate::admission::Caller;
use crate::clock::Now;
use crate::dialect::meter::{Coding, Framing, Meter};
use crate::dialect::{self, LimitKind};
use crate::headers::{AnswerHead, Headers, Value};
use crate::policy::CutReason;
use crate::proxy::account::Account;
use crate::proxy::answer::{self, Reply};
use crate::proxy::deadline::{Deadline, Due};
use crate::proxy::forward::Forwarded;
use crate::proxy::handle::Trace;
use crate::proxy::headers;
use crate::proxy::plane::{Counted, UnderWay, Worker};
use crate::telemetry::access_log::AccessLine;
use crate::upstream::answer::UpstreamBody;

const CLAMPED: HeaderName = HeaderName::from_static("x-keyward-clamped");
/// Which model served in the place of the one asked for.
const MODEL: HeaderName = HeaderName::from_static("x-keyward-model");

/// The answer to a forwarded request.
pub fn answer(worker: &Rc<Worker>, trace: Trace, mut forwarded: Forwarded) -> Reply {
    let Trace { mut account, under_way, .. } = trace;
    let status = forwarded.answered.head.status;
    let from_upstream = std::mem::take(&mut forwarded.answered.head.headers);
    let strips = forwarded.strips_usage && status.is_success();
    account.answered(status, meter(&forwarded, &from_upstream, strips));
    let now = worker.plane.clock.now();
    let headers = headers(worker, &account.line, &forwarded, from_upstream, strips, now);
    let is_open_ended = !headers.contains_key(CONTENT_LENGTH);
    let line = &mut account.line;
    line.status = status.as_u16();
    line.decision = "allowed";
    let first_byte_ns = line.ns_until(now);
    line.first_byte_ns = Some(first_byte_ns);
    worker.counts.first_byte(first_byte_ns);
    answer::count(worker, line.dialect, status);
    if forwarded.is_watched {
        under_way.carrier().watch(forwarded.caller.clone());
    }
    let Forwarded { answered, deadline, way, .. } = forwarded;
    let idle_ns = u64::try_from(way.upstream.settings.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
    deadline.set_at(now.monotonic_ns.saturating_add(idle_ns));
    let running = Running { body: answered.body, account, deadline, idle_ns, is_open_ended };
    Reply { head: AnswerHead { status, headers }, body: AnswerBody::relay(Relay::new(running, under_way)) }
}

/// The upstream's headers and ours: request id, limits and clamp. The upstream's own limit headers go where the key has that limit.
fn headers(
    worker: &Worker,
    line: &AccessLine,
    forwarded: &Forwarded,
    from_upstream: Headers,
    strips: bool,
    now: Now,
) -> Headers {
    let mut headers = passed_headers(line, &forwarded.caller, from_upstream, now);
    if let Some(output) = forwarded.clamp {
        headers.insert_number(CLAMPED, output);
    }
    if let Some(model) = forwarded.fallback.as_ref().and_then(|model| Value::of(model.as_str())) {
        headers.insert(MODEL, model);
    }
    if strips {
        headers.remove(CONTENT_LENGTH);
    }
    answer::close_when_draining(worker, &mut headers);
    headers
}

/// The upstream's headers, with those of ours that every answer has.
pub(super) fn passed_headers(line: &AccessLine, caller: &Caller, from_upstream: Headers, now: Now) -> Headers {
    let words = dialect::of(line.dialect);
    let (rates, id_name) = (caller.rates(now), words.request_id_header());
    let mut headers = headers::answer_headers(from_upstream, |name| match words.limit_header_kind(name) {
        Some(LimitKind::Requests) => rates.requests.is_some(),
        Some(LimitKind::Tokens) => rates.tokens.is_some(),
        // What we say of an answer nobody says in our place.
        None => name == id_name.as_str().as_bytes() || name.starts_with(b"x-keyward-"),
    });
    words.limit_headers(&rates, now, &mut headers);
    if let Some(id) = Value::of(&line.request_id) {
        headers.append(id_name, id);
    }
    headers
}

/// Reads along with an answer as its headers say it is to be read.
fn meter(forwarded: &Forwarded, headers: &Headers, strips: bool) -> Meter {
    let text = |name| headers.get(name).map_or(Some(""), |value: Value<'_>| value.to_str().ok());
    let framing = text(CONTENT_TYPE).map_or(Framing::Opaque, Framing::of);
    match text(CONTENT_ENCODING).and_then(Coding::of) {
        Some(coding) => {
            let meter = Meter::new(forwarded.dialect, forwarded.endpoint, framing, coding, strips);
            if forwarded.has_several { meter.of_several() } else { meter }
        }
        None => Meter::blind(forwarded.dialect, forwarded.endpoint),
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody(Source);

#[derive(Debug)]
enum Source {
    Whole { bytes: Option<Bytes>, _under_way: Option<UnderWay> },
    Relay(Box<Relay>),
    Broken,
}

impl AnswerBody {
    /// An answer of our own.
    pub fn whole(bytes: Bytes, under_way: UnderWay) -> Self {
        Self(Source::Whole { bytes: (!bytes.is_empty()).then_some(bytes), _under_way: Some(under_way) })
    }

    /// Of an answer after which the connection is a websocket, with which the request goes on.
    pub fn none() -> Self {
        Self(Source::Whole { bytes: None, _under_way: None })
    }

    /// Nothing but a broken connection.
    pub fn broken() -> Self {
        Self(Source::Broken)
    }

    fn relay(relay: Box<Relay>) -> Self {
        Self(Source::Relay(relay))
    }
}

/// The answer ends here, visibly: the connection is broken off, never ended cleanly.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cut(&'static str);

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.get_mut().0 {
            Source::Whole { bytes, .. } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Relay(relay) => relay.poll(cx),
            Source::Broken => Poll::Ready(Some(Err(Cut("internal")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole { bytes, .. } => bytes.is_none(),
            Source::Relay(relay) => relay.is_over(),
            Source::Broken => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Relay(_) | Source::Broken => SizeHint::default(),
        }
    }
}

/// An upstream's answer on its way to the client.
#[derive(Debug)]
struct Relay {
    /// `None` once it has ended.
    running: Option<Running>,
    out: VecDeque<Bytes>,
    /// Set when what is in `out` is to be followed by a visible cut.
    failure: Option<&'static str>,
    /// Whether what came before the failure was offered to the client.
    has_flushed: bool,
    /// `Some` until this is dropped.
    under_way: Option<UnderWay>,
}

/// What there is of an answer until its end.
#[derive(Debug)]
struct Running {
    body: UpstreamBody,
    account: Box<Account>,
    deadline: Deadline,
    idle_ns: u64,
    /// No length was promised, so that an event of ours can be added.
    is_open_ended: bool,
}

impl Relay {
    /// An answer that has no body (`HEAD`, 204, 304) is over at once: nobody will ask for it.
    fn new(running: Running, under_way: UnderWay) -> Box<Self> {
        let mut relay = Box::write(
            Box::new_uninit(),
            Self {
                running: Some(running),
                out: VecDeque::new(),
                failure: None,
                has_flushed: false,
                under_way: Some(under_way),
            },
        );
        if let Some(mut running) = relay.running.take_if(|running| running.body.is_ended()) {
            running.account.finish(&mut |_| {});
        }
        relay
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(bytes) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(running) = &mut self.running else { return self.poll_end(cx) };
            // Mostly one piece comes of one look, and is passed on without being put down.
            let (mut first, out) = (None, &mut self.out);
            let progress = running.poll(cx, &mut |bytes| match &first {
                None => first = Some(bytes),
                Some(_) => out.push_back(bytes),
            });
            let is_pending = progress.is_pending();
            match progress {
                Poll::Pending | Poll::Ready(Progress::More) => {}
                Poll::Ready(Progress::Ended) => self.running = None,
                Poll::Ready(Progress::Cut(reason)) => self.cut(reason),
            }
            if let Some(bytes) = first {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if is_pending {
                return Poll::Pending;
            }
        }
    }

    /// The end, or the visible cut. What was not written yet may be dropped when a body fails (hyper does, over HTTP/2), so that is left to be written first: what the
    /// upstream said before it broke off is the client's, however slowly it reads.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.failure.is_some() {
            if !self.has_flushed {
                self.has_flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(under_way) = &self.under_way {
                ready!(under_way.carrier().poll_room(cx));
            }
        }
        Poll::Ready(self.failure.take().map(|why| Err(Cut(why))))
    }

    /// Nothing more comes and nothing is left to pass on.
    fn is_over(&self) -> bool {
        self.running.is_none() && self.out.is_empty() && self.failure.is_none()
    }

    /// Ends the answer before its end: with an error event where the stream is between two events, and with a visible cut where a
    /// client could take the end for a clean one.
    fn cut(&mut self, reason: CutReason) {
        let Some(mut running) = self.running.take() else { return };
        let event = running.account.cut(reason);
        match event.filter(|_| running.is_open_ended) {
            Some(event) => {
                self.out.push_back(event);
                self.failure = (reason == CutReason::Upstream).then_some("upstream cut");
            }
            None => self.failure = Some(reason.as_str()),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.client_gone(self.under_way.take().map(UnderWay::off_wire));
        }
    }
}

/// What a look at the upstream came to.
enum Progress {
    More,
    Ended,
    Cut(CutReason),
}

impl Running {
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut impl FnMut(Bytes)) -> Poll<Progress> {
        let due = self.deadline.poll_due(cx);
        if let Poll::Ready(Due::Revoked(reason)) = due {
            return Poll::Ready(Progress::Cut(reason));
        }
        match self.body.poll_data(cx) {
            // Only now: a client that reads slowly is no silence of the upstream's.
            Poll::Pending if due.is_ready() => {
                tracing::warn!(request_id = &*self.account.line.request_id, "upstream answer fell silent");
                Poll::Ready(Progress::Cut(CutReason::Upstream))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(data))) => {
                self.deadline.set_in(self.idle_ns);
                self.account.push(data, out);
                // Many a client is content with the last event and does not wait for the end of the body: written down before it has that.
                self.account.settle_when_over();
                if self.body.is_ended() {
                    self.account.finish(out);
                    return Poll::Ready(Progress::Ended);
                }
                Poll::Ready(Progress::More)
            }
            // Charged before the client has the last byte, so that no answer it saw whole is lost.
            Poll::Ready(None) => {
                self.account.finish(out);
                Poll::Ready(Progress::Ended)
            }
            Poll::Ready(Some(Err(broke))) => {
                let request_id = &*self.account.line.request_id;
                tracing::warn!(request_id, error = broke.0, "upstream answer broke off");
                Poll::Ready(Progress::Cut(CutReason::Upstream))
            }
        }
    }

    /// Nobody waits for the answer any more: it is cancelled, or read on to its usage when the key says so.
    fn client_gone(mut self, counted: Option<Counted>) {
        if self.account.client_gone() {
            tokio::task::spawn_local(self.drain(counted));
        } else {
            // Before it is no longer under way: whoever waits for that finds it charged.
            drop(self);
            drop(counted);
        }
    }

    /// Reads on until the answer ends in whatever way; what it came to is charged as this is dropped, if not before.
    async fn drain(mut self, counted: Option<Counted>) {
        std::future::poll_fn(|cx| {
            loop {
                match self.poll(cx, &mut |_| {}) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Progress::More) => {}
                    Poll::Ready(Progress::Ended | Progress::Cut(_)) => return Poll::Ready(()),
                }
            }
        })
        .await;
        drop(self);
        drop(counted);
    }
}
