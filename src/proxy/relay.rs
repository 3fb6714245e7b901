//! From the upstream: bytes pass untouched and unbuffered, a meter reads along, and what was used is settled exactly once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::admission::Admitted;
use crate::dialect::estimate::PromptSize;
use crate::dialect::meter::{Coding, Framing, Meter};
use crate::dialect::{self, Dialect, LimitKind};
use crate::policy::{CutReason, OnDisconnect, RequestFacts, Usage};
use crate::proxy::deadline::{Deadline, Due};
use crate::proxy::fault;
use crate::proxy::forward::Forwarded;
use crate::proxy::handle::Trace;
use crate::proxy::headers;
use crate::proxy::plane::{UnderWay, Worker};
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics::{Kind, Reason};
use crate::upstream::client::UpstreamBody;

const CLAMPED: HeaderName = HeaderName::from_static("x-keyward-clamped");

/// The answer to a forwarded request.
pub fn answer(worker: &Rc<Worker>, trace: Trace, forwarded: Forwarded) -> Response<AnswerBody> {
    let Trace { mut line, under_way, live, .. } = trace;
    let Forwarded { admitted, answered, deadline, strips_usage, size, way } = forwarded;
    let status = answered.parts.status;
    let facts = admitted.facts();
    let words = dialect::of(facts.dialect);
    let strips = strips_usage && status.is_success();
    let meter = meter(facts, &answered.parts.headers, strips);
    let mut headers = headers::answer_headers(answered.parts.headers);
    set_own_headers(&mut headers, words, worker, &admitted, &line);
    if strips {
        headers.remove(CONTENT_LENGTH);
    }
    line.status = status.as_u16();
    line.decision = "allowed";
    line.first_byte_ns = Some(line.elapsed_ns());
    worker.plane.metrics.first_byte.observe(line.elapsed_ns() as f64 / 1e9);
    fault::count(worker, line.dialect, status);
    let idle_ns = u64::try_from(way.upstream.settings.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
    deadline.set_in(idle_ns);
    if live.settings.cut_streams {
        deadline.watch(std::sync::Arc::clone(admitted.caller().slot()));
    }
    let settlement = Settlement { worker: Rc::clone(worker), admitted: Some(admitted), meter, size, line, status };
    let running = Running { body: answered.body, settlement, deadline, idle_ns };
    let relay = Relay {
        running: Some(running),
        out: VecDeque::new(),
        failure: None,
        has_flushed: false,
        _under_way: under_way,
    };
    let mut response = Response::new(AnswerBody::relay(relay));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Request id, limits and clamp; the upstream's own limit headers go where the key has that limit.
fn set_own_headers(
    headers: &mut HeaderMap,
    words: &dyn Dialect,
    worker: &Worker,
    admitted: &Admitted,
    line: &AccessLine,
) {
    let now = worker.plane.clock.now();
    let standing = admitted.standing(now);
    let foreign = headers.keys().filter(|name| match words.limit_header_kind(name) {
        Some(LimitKind::Requests) => standing.requests.is_some(),
        Some(LimitKind::Tokens) => standing.tokens.is_some(),
        None => false,
    });
    let foreign = foreign.cloned().collect::<Vec<_>>();
    for name in foreign {
        headers.remove(name);
    }
    words.limit_headers(&standing, now, headers);
    if let Ok(id) = HeaderValue::from_str(&line.request_id) {
        headers.insert(words.request_id_header(), id);
    }
    if let Some(output) = admitted.clamp() {
        headers.insert(CLAMPED, HeaderValue::from(output));
    }
    if worker.plane.is_draining.load(std::sync::atomic::Ordering::Relaxed) {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Reads along with an answer as its headers say it is to be read.
fn meter(facts: &RequestFacts, headers: &HeaderMap, strips: bool) -> Meter {
    let text = |name| headers.get(name).map_or(Some(""), |value: &HeaderValue| value.to_str().ok());
    let framing = text(CONTENT_TYPE).map_or(Framing::Opaque, Framing::of);
    match text(CONTENT_ENCODING).and_then(Coding::of) {
        Some(coding) => Meter::new(facts.dialect, facts.endpoint, framing, coding, strips),
        None => Meter::blind(facts.dialect, facts.endpoint),
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody(Source);

#[derive(Debug)]
enum Source {
    Whole { bytes: Option<Bytes>, _under_way: UnderWay },
    Relay(Box<Relay>),
    Broken,
}

impl AnswerBody {
    /// An answer of our own.
    pub fn whole(bytes: Bytes, under_way: UnderWay) -> Self {
        Self(Source::Whole { bytes: (!bytes.is_empty()).then_some(bytes), _under_way: under_way })
    }

    /// Nothing but a broken connection.
    pub fn broken() -> Self {
        Self(Source::Broken)
    }

    fn relay(relay: Relay) -> Self {
        Self(Source::Relay(Box::new(relay)))
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
    /// Whether what came before the failure was given time to leave.
    has_flushed: bool,
    _under_way: UnderWay,
}

/// What there is of an answer until its end.
#[derive(Debug)]
struct Running {
    body: UpstreamBody,
    settlement: Settlement,
    deadline: Deadline,
    idle_ns: u64,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(bytes) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(running) = &mut self.running else { return self.poll_end(cx) };
            let out = &mut self.out;
            match running.poll(cx, &mut |bytes| out.push_back(bytes)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Progress::More) => {}
                Poll::Ready(Progress::Ended) => self.running = None,
                Poll::Ready(Progress::Cut(reason)) => self.cut(reason),
            }
        }
    }

    /// The end, or the visible cut. hyper drops what it has not written yet when a body fails, so it is left to write first: what the
    /// upstream said before it broke off is the client's.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.failure.is_some() && !self.has_flushed {
            self.has_flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
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
        running.settlement.cut(reason);
        match running.settlement.cut_event(reason) {
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
            running.client_gone();
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
        match self.deadline.poll_due(cx) {
            Poll::Ready(Due::Revoked(reason)) => return Poll::Ready(Progress::Cut(reason)),
            Poll::Ready(Due::TimeUp) => return Poll::Ready(Progress::Cut(CutReason::Upstream)),
            Poll::Pending => {}
        }
        match self.body.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(data))) => {
                self.deadline.set_in(self.idle_ns);
                self.settlement.meter.push(data, out);
                self.settlement.observe();
                if self.body.is_ended() {
                    self.end(out);
                    return Poll::Ready(Progress::Ended);
                }
                Poll::Ready(Progress::More)
            }
            Poll::Ready(None) => {
                self.end(out);
                Poll::Ready(Progress::Ended)
            }
            Poll::Ready(Some(Err(broke))) => {
                let request_id = &*self.settlement.line.request_id;
                tracing::warn!(request_id, error = broke.0, "upstream answer broke off");
                Poll::Ready(Progress::Cut(CutReason::Upstream))
            }
        }
    }

    /// The upstream's clean end. Settled before the client has the last byte, so that no answer it saw whole is lost.
    fn end(&mut self, out: &mut impl FnMut(Bytes)) {
        self.settlement.meter.finish(out);
        self.settlement.settle(true);
    }

    /// Nobody waits for the answer any more: it is cancelled, or read on to its usage when the key says so.
    fn client_gone(mut self) {
        self.settlement.line.cut = Some("client_gone");
        if self.settlement.drains() {
            tokio::task::spawn_local(self.drain());
        } else {
            self.settlement.settle(false);
        }
    }

    async fn drain(mut self) {
        let progress = std::future::poll_fn(|cx| {
            loop {
                match self.poll(cx, &mut |_| {}) {
                    Poll::Ready(Progress::More) => {}
                    other => return other,
                }
            }
        })
        .await;
        if let Progress::Cut(_) = progress {
            self.settlement.settle(false);
        }
    }
}

/// What is owed when the answer ends, paid exactly once.
#[derive(Debug)]
struct Settlement {
    worker: Rc<Worker>,
    admitted: Option<Admitted>,
    meter: Meter,
    size: PromptSize,
    line: AccessLine,
    status: StatusCode,
}

impl Settlement {
    /// Keeps the reservation's own idea of the usage up to date, for the case that nothing below runs any more.
    fn observe(&mut self) {
        if self.status.is_success()
            && let Some(usage) = self.meter.reported()
            && let Some(admitted) = &mut self.admitted
        {
            admitted.reservation().observe(usage);
        }
    }

    fn usage(&self, admitted: &Admitted) -> Usage {
        let facts = admitted.facts();
        if facts.endpoint.is_free() {
            return Usage::default();
        }
        let prompt = facts.estimate.prompt;
        match self.meter.reported() {
            None if !facts.endpoint.has_output() => Usage { input: prompt, estimated: true, ..Usage::default() },
            _ => self.meter.usage_or_estimate(prompt),
        }
    }

    fn cut(&mut self, reason: CutReason) {
        self.line.cut = Some(reason.as_str());
        self.worker.plane.metrics.cuts.get_or_create(&Reason { reason: reason.as_str() }).inc();
        self.settle(false);
    }

    /// The error event that tells a client why its stream ends, where one can stand.
    fn cut_event(&self, reason: CutReason) -> Option<Bytes> {
        let endpoint = self.line.endpoint?;
        self.meter.between_events().then(|| dialect::of(self.line.dialect).cut_event(endpoint, reason))
    }

    fn drains(&self) -> bool {
        let policy = self.admitted.as_ref().map(|admitted| admitted.caller().policy().on_disconnect);
        policy == Some(OnDisconnect::Drain) && self.status.is_success()
    }

    fn settle(&mut self, is_whole: bool) {
        let Some(admitted) = self.admitted.take() else { return };
        let plane = &self.worker.plane;
        let now = plane.clock.now();
        // An upstream's own error costs nothing but the request.
        if !self.status.is_success() {
            admitted.void(now);
            return;
        }
        let usage = self.usage(&admitted);
        if is_whole
            && !usage.estimated
            && let Some(model) = &admitted.facts().model
        {
            plane.estimator.learn(model.as_str(), self.size.text_bytes, self.size.media_items, &usage);
        }
        let settled = admitted.settle(usage, now);
        self.line.usage = settled.usage;
        self.line.units = settled.units;
        let metrics = &plane.metrics;
        metrics.units.inc_by(settled.units);
        metrics.tokens.get_or_create(&Kind { kind: "input" }).inc_by(settled.usage.input);
        metrics.tokens.get_or_create(&Kind { kind: "cached_input" }).inc_by(settled.usage.cached_input);
        metrics.tokens.get_or_create(&Kind { kind: "output" }).inc_by(settled.usage.output);
        if settled.usage.estimated {
            metrics.estimated.inc();
        }
    }
}
