//! To the upstream: the request is rebuilt from typed parts, paid for, sent, and the head of the answer awaited.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, request};

use crate::admission::Admitted;
use crate::dialect::describe::{Described, Edits};
use crate::dialect::estimate::PromptSize;
use crate::dialect::route::{self, Route};
use crate::policy::{DialectName, Endpoint, Fault, RequestFacts};
use crate::proxy::body::HeldBody;
use crate::proxy::deadline::Deadline;
use crate::proxy::headers;
use crate::proxy::plane::{Plane, Worker};
use crate::proxy::relay;
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics::UpstreamLabel;
use crate::units::{ModelName, Tokens};
use crate::upstream::client::{self, Answered, Outgoing, Whole};
use crate::upstream::route::Way;
use crate::upstream::sandbox::Ask;
use crate::upstream::{Kind, play};

/// What the deciding stages hand over.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The call.
    pub route: &'a Route,
    /// The client's head.
    pub head: &'a request::Parts,
    /// What the body wants, and where it may be spliced.
    pub described: Described,
    /// What the body is estimated to come to, whether it is charged or not: what the built-in backend reports.
    pub prompt_tokens: Tokens,
    /// The body.
    pub held: HeldBody,
    /// Where it goes.
    pub way: Way,
    /// The request's time limit.
    pub deadline: Deadline,
}

/// A request that is paid for, ready to be sent. Nothing in it borrows from the client's.
#[derive(Debug)]
pub struct Sending {
    admitted: Admitted,
    outgoing: Outgoing,
    sandbox: Option<SandboxAsk>,
    way: Way,
    deadline: Deadline,
    strips_usage: bool,
    size: PromptSize,
    _held: HeldBody,
}

#[derive(Debug)]
struct SandboxAsk {
    model: Option<ModelName>,
    sse: bool,
    content_type: Option<HeaderValue>,
    body: Bytes,
    prompt_tokens: Tokens,
}

/// A request whose answer has begun.
#[derive(Debug)]
pub struct Forwarded {
    /// What it holds.
    pub admitted: Admitted,
    /// The answer.
    pub answered: Answered,
    /// Its time limit.
    pub deadline: Deadline,
    /// Whether the usage event we asked for is to be taken out again.
    pub strips_usage: bool,
    /// The prompt's size, for learning from the reported usage.
    pub size: PromptSize,
    /// Where it went.
    pub way: Way,
}

impl Sending {
    /// Rebuilds the request for its way.
    pub fn new(admitted: Admitted, prepared: Prepared<'_>, request_id: &str) -> Self {
        let Prepared { route, head, described, prompt_tokens, held, way, deadline } = prepared;
        let asks_usage = wants_usage_spliced(&described);
        let rename = way.rename.as_ref().map(ModelName::as_str);
        let edits = Edits { model: rename, output: admitted.clamp(), include_usage: asks_usage };
        let body = described.splices.render(&held.bytes, &edits);
        let is_sandbox = way.upstream.settings.kind == Kind::Sandbox;
        let sandbox = is_sandbox.then(|| SandboxAsk {
            model: way.rename.clone().or_else(|| described.facts.model.clone()),
            sse: head.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse")),
            content_type: head.headers.get(CONTENT_TYPE).cloned(),
            body: body.clone(),
            prompt_tokens,
        });
        let mut request = Request::new(Whole::new(body));
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = outgoing_headers(head, &way, route.dialect, asks_usage, request_id);
        let outgoing = Outgoing { path_and_query: target(route, head, rename), request };
        let size = described.size;
        Self { admitted, outgoing, sandbox, way, deadline, strips_usage: asks_usage, size, _held: held }
    }

    /// The proof that it is paid for.
    pub fn admitted(&self) -> &Admitted {
        &self.admitted
    }
}

/// A request whose answer is awaited. When it is dropped, because the caller has gone or by a panic, the prompt is charged and
/// written down.
struct Waiting<'a> {
    plane: &'a Plane,
    admitted: Option<Admitted>,
    line: &'a mut AccessLine,
}

impl Waiting<'_> {
    /// What is held, for whoever ends it; it is there until this is called.
    fn end(&mut self) -> Result<Admitted, Fault> {
        self.admitted.take().ok_or(Fault::Internal)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut admitted) = self.admitted.take() else { return };
        let now = self.plane.clock.now();
        match admitted.reservation().seen() {
            Some(usage) => relay::record(self.plane, self.line, &admitted.settle(usage, now)),
            None => admitted.void(now),
        }
    }
}

/// Sends and waits for the answer's head. When there is none, everything reserved is given back; when the caller goes away meanwhile,
/// the prompt is charged, which `line` then says.
///
/// # Errors
/// What to tell the caller.
pub async fn forward(worker: &Worker, sending: Sending, line: &mut AccessLine) -> Result<Forwarded, Fault> {
    let Sending { mut admitted, outgoing, sandbox, way, deadline, strips_usage, size, _held } = sending;
    admitted.reservation().forwarded();
    let RequestFacts { dialect, endpoint, stream, .. } = *admitted.facts();
    let mut waiting = Waiting { plane: &worker.plane, admitted: Some(admitted), line };
    let settings = &way.upstream.settings;
    let result = match &sandbox {
        Some(ask) => {
            let ask = Ask {
                dialect,
                endpoint,
                model: ask.model.as_ref().map_or("", ModelName::as_str),
                stream,
                sse: ask.sse,
                content_type: ask.content_type.as_ref().map(HeaderValue::as_bytes),
                body: &ask.body,
                prompt_tokens: ask.prompt_tokens,
            };
            play::send(&ask, settings.first_byte_timeout).await
        }
        None => client::send(&worker.pool, &way.upstream, outgoing).await,
    };
    let metrics = &worker.plane.metrics;
    let outcome = result.as_ref().map_or_else(|(fault, _)| fault.as_str(), |_| "answered");
    metrics.upstream.get_or_create(&UpstreamLabel { upstream: settings.name.to_string(), outcome }).inc();
    match result {
        Ok(answered) => {
            let admitted = waiting.end()?;
            Ok(Forwarded { admitted, answered, deadline, strips_usage, size, way })
        }
        Err((fault, note)) => {
            tracing::warn!(upstream = &*settings.name, fault = fault.as_str(), note, "no answer from upstream");
            waiting.end()?.void(worker.plane.clock.now());
            Err(fault)
        }
    }
}

/// Only streams of the two OpenAI calls that have the option, and only where the client did not ask itself.
fn wants_usage_spliced(described: &Described) -> bool {
    let facts = &described.facts;
    let has_option = matches!(facts.dialect, DialectName::OpenAi | DialectName::Azure)
        && matches!(facts.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    has_option && facts.stream && !described.splices.asks_usage() && described.splices.can_splice_usage()
}

fn outgoing_headers(
    head: &request::Parts,
    way: &Way,
    dialect: DialectName,
    must_be_identity: bool,
    request_id: &str,
) -> http::HeaderMap {
    let mut passed = headers::request_headers(&head.headers);
    headers::set_accept_encoding(&mut passed, must_be_identity);
    if let Ok(id) = HeaderValue::from_str(request_id) {
        passed.insert("x-request-id", id);
    }
    if let Some(credential) = &way.upstream.settings.credential {
        let spoken = match way.upstream.settings.kind {
            Kind::Http(own) => own,
            Kind::Sandbox => dialect,
        };
        credential.put_into(&mut passed, spoken);
    }
    if head.method == Method::GET {
        passed.remove(CONTENT_TYPE);
    }
    passed
}

/// Path and query for the upstream: the client's own bytes, but for an alias in the path and the secret in the query.
fn target(route: &Route, head: &request::Parts, rename: Option<&str>) -> String {
    let path = head.uri.path();
    let mut target = match (rename, &route.model_range) {
        (Some(name), Some(range)) if path.is_char_boundary(range.start) && path.is_char_boundary(range.end) => {
            format!("{}{name}{}", &path[..range.start], &path[range.end..])
        }
        _ => path.to_owned(),
    };
    if let Some(query) = head.uri.query().and_then(route::query_without_key) {
        target.push('?');
        target.push_str(&query);
    }
    target
}
