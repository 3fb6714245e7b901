//! To the upstream: the request is rebuilt from typed parts, paid for, sent, and the head of the answer awaited.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, Method};

use crate::admission::{Admitted, Caller};
use crate::dialect::describe::{Described, Edits, Splices};
use crate::dialect::estimate::PromptSize;
use crate::dialect::route::{self, Route};
use crate::headers::{Headers, RequestHead, Target, Value};
use crate::policy::{CutReason, DialectName, Endpoint, Refusal, RequestFacts};
use crate::proxy::account::Account;
use crate::proxy::answer::Stop;
use crate::proxy::body::HeldBody;
use crate::proxy::deadline::{Deadline, Due};
use crate::proxy::fallback::{self, Spare};
use crate::proxy::headers;
use crate::proxy::plane::{Live, Worker};
use crate::proxy::takeover::{self, Wanted};
use crate::units::{ModelName, Tokens};
use crate::upstream::answer::Answered;
use crate::upstream::client::{Failure, Limit};
use crate::upstream::request::Outgoing;
use crate::upstream::route::Way;
use crate::upstream::sandbox::Ask;
use crate::upstream::{Kind, play};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the deciding stages hand over.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The call.
    pub route: &'a Route,
    /// The client's head.
    pub head: Box<RequestHead>,
    /// Where the body may be spliced.
    pub splices: Box<Splices>,
    /// How long the prompt is.
    pub size: PromptSize,
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
    /// On the heap: it is handed on from stage to stage.
    attempt: Box<Attempt>,
    held: HeldBody,
    /// Kept where another model may be tried in the place of this one.
    spare: Option<Box<Spare>>,
}

/// The same for one model.
#[derive(Debug)]
pub struct Attempt {
    /// The proof that it is paid for.
    pub admitted: Admitted,
    /// What is sent.
    pub outgoing: Box<Outgoing>,
    /// What the built-in backend is told, where it answers.
    pub sandbox: Option<Box<SandboxAsk>>,
    /// Where it goes.
    pub way: Way,
    /// Its time limit.
    pub deadline: Deadline,
    /// Whether usage is asked for that the client did not ask for.
    pub strips_usage: bool,
    /// `None` where the answer's usage teaches nothing.
    pub size: Option<PromptSize>,
    /// The time that all attempts have together.
    pub limit: Limit,
    /// Whether ejected endpoints are asked rather than none.
    pub insists: bool,
}

/// Why an attempt brought no answer.
#[derive(Debug)]
pub struct Missed {
    /// What to tell the caller.
    pub stop: Stop,
    /// Whether nobody accepted anything of it.
    pub is_unsent: bool,
    /// Whether ejected endpoints were left out.
    pub is_out: bool,
}

/// What the built-in backend answers.
#[derive(Debug)]
pub struct SandboxAsk {
    model: Option<ModelName>,
    sse: bool,
    content_type: Option<Box<[u8]>>,
    body: Bytes,
    prompt_tokens: Tokens,
}

impl SandboxAsk {
    fn ask(&self, dialect: DialectName, endpoint: Endpoint, stream: bool) -> Ask<'_> {
        Ask {
            dialect,
            endpoint,
            model: self.model.as_ref().map_or("", ModelName::as_str),
            stream,
            sse: self.sse,
            content_type: self.content_type.as_deref(),
            body: &self.body,
            prompt_tokens: self.prompt_tokens,
        }
    }
}

/// A request whose answer has begun.
#[derive(Debug)]
pub struct Forwarded {
    /// Whose it is.
    pub caller: Caller,
    /// Whose API.
    pub dialect: DialectName,
    /// Which call.
    pub endpoint: Endpoint,
    /// How many output tokens it was lowered to.
    pub clamp: Option<Tokens>,
    /// Whether it asks for several answers at once.
    pub has_several: bool,
    /// The answer.
    pub answered: Answered,
    /// Its time limit, which also watches the key where streams are to be cut.
    pub deadline: Deadline,
    /// Whether it does.
    pub is_watched: bool,
    /// Whether the usage event we asked for is to be taken out again.
    pub strips_usage: bool,
    /// Where it went.
    pub way: Way,
    /// The model that serves, where that is not the one asked for.
    pub fallback: Option<ModelName>,
}

impl Sending {
    /// Rebuilds the request for its way.
    pub fn new(admitted: Admitted, prepared: Prepared<'_>, live: &Live, request_id: &str) -> Self {
        let Prepared { route, head, splices, size, mut held, way, deadline } = prepared;
        let facts = admitted.facts();
        let asks_usage = wants_usage_spliced(facts, &splices);
        let rename = way.rename.as_ref().map(ModelName::as_str);
        let edits = Edits { model: rename, output: admitted.clamp(), include_usage: asks_usage };
        let body = splices.render(&held.bytes, &edits);
        let is_sandbox = way.upstream.settings.kind == Kind::Sandbox;
        let limit = Limit::of(&way.upstream);
        let content_type = head.headers.get(CONTENT_TYPE).filter(|_| is_sandbox).map(|value| value.as_bytes().into());
        let RequestHead { method, target: asked, headers, .. } = *head;
        let headers = outgoing_headers(headers, &method, asks_usage, request_id);
        let has_fallbacks = Spare::is_wanted(live, route, facts) && !is_sandbox;
        let spare = has_fallbacks.then(|| {
            held.count_both(&held.bytes.clone(), &body);
            Box::new(Spare {
                caller: admitted.caller().clone(),
                described: Described { facts: facts.clone(), splices, size },
                body: held.bytes.clone(),
                route: route.clone(),
                target: asked.clone(),
                method: method.clone(),
                headers: headers.clone(),
                asks_usage,
                limit,
            })
        });
        if spare.is_none() {
            // Where that is a copy, the client's own bytes are let go: a body is in memory once.
            held.replace(body.clone());
        }
        let sandbox = is_sandbox.then(|| {
            Box::new(SandboxAsk {
                model: way.rename.clone().or_else(|| facts.model.clone()),
                sse: asked.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse")),
                content_type,
                body: body.clone(),
                prompt_tokens: size.fixed_tokens(),
            })
        });
        let outgoing = Box::write(
            Box::new_uninit(),
            Outgoing {
                method,
                path_and_query: target(route, &asked, rename),
                plain_headers: way.is_followed.then(|| Box::new(headers.clone())),
                headers,
                body,
            },
        );
        // The built-in backend reports what we tell it: learning that would be learning from ourselves.
        let size = (!is_sandbox).then_some(size);
        // An ejected endpoint may hang: rather another model, where there is one.
        let insists = spare.is_none();
        let strips_usage = asks_usage;
        let attempt = Box::write(
            Box::new_uninit(),
            Attempt { admitted, outgoing, sandbox, way, deadline, strips_usage, size, limit, insists },
        );
        Self { attempt, held, spare }
    }

    /// The proof that it is paid for.
    pub fn admitted(&self) -> &Admitted {
        &self.attempt.admitted
    }
}

/// Sends and waits for the answer's head. From here on the request is owed in `account`. When there is no answer, everything reserved
/// is given back; when the caller goes away meanwhile or its key is revoked, the prompt is charged. What nobody accepted is tried
/// with the model's fallbacks.
///
/// # Errors
/// What to tell the caller.
pub async fn forward(worker: &Worker, live: &Live, account: &mut Account, sending: Sending) -> Result<Forwarded, Stop> {
    let Sending { attempt: first, held, spare } = sending;
    match (attempt(worker, live, account, first).await, spare) {
        (Err(missed), Some(spare)) if missed.is_unsent => {
            // Boxed, or every request would carry the room for another.
            Box::pin(fallback::serve(worker, live, account, *spare, held, missed)).await
        }
        (outcome, _) => outcome.map_err(|missed| missed.stop),
    }
}

/// The same with one model.
///
/// # Errors
/// Why there is no answer.
pub async fn attempt(
    worker: &Worker,
    live: &Live,
    account: &mut Account,
    attempt: Box<Attempt>,
) -> Result<Forwarded, Missed> {
    let Attempt { admitted, outgoing, sandbox, mut way, deadline, strips_usage, size, limit, insists } = *attempt;
    let (caller, clamp, facts) = (admitted.caller().clone(), admitted.clamp(), admitted.facts());
    let (dialect, endpoint, stream, has_several) =
        (facts.dialect, facts.endpoint, facts.stream, facts.estimate.choices > 1);
    let wanted = Wanted::of(&way, facts);
    account.owe(admitted, size);
    let is_watched = live.settings.cut_streams;
    if is_watched {
        deadline.watch(caller.clone());
    }
    let answered = {
        let answering = pin!(async {
            match &sandbox {
                Some(sandbox) => {
                    let patience = way.upstream.settings.first_byte_timeout;
                    let played = play::send(&sandbox.ask(dialect, endpoint, stream), patience).await;
                    played.map_err(|(fault, note)| Failure::lost(fault, note))
                }
                None => takeover::send(worker, live, &mut way, wanted, outgoing, (limit, &deadline), insists).await,
            }
        });
        unless_revoked(&deadline, answering).await
    };
    let result = match answered {
        Ok(result) => result,
        Err(reason) => {
            let _no_event_before_the_head = account.cut(reason);
            let refusal = caller.recheck(worker.plane.clock.now()).err().unwrap_or(Refusal::InvalidKey);
            return Err(Missed { stop: Stop::Refusal(refusal), is_unsent: false, is_out: false });
        }
    };
    if way.is_followed {
        account.line.upstream = Some(way.upstream.settings.name.clone());
    }
    match result {
        Ok(answered) => {
            way.upstream.answers.get_or_init(|| takeover::counter(worker, &way.upstream, "answered")).inc();
            Ok(Forwarded {
                caller,
                dialect,
                endpoint,
                clamp,
                has_several,
                answered,
                deadline,
                is_watched,
                strips_usage,
                way,
                fallback: None,
            })
        }
        Err(Failure { fault, note, unsent, is_out, .. }) => {
            takeover::counter(worker, &way.upstream, fault.as_str()).inc();
            tracing::warn!(
                upstream = &*way.upstream.settings.name,
                fault = fault.as_str(),
                note,
                "no answer from upstream"
            );
            account.undo();
            Err(Missed { stop: Stop::Fault(fault), is_unsent: unsent.is_some(), is_out })
        }
    }
}

/// What `answering` comes to, unless the key that `deadline` watches is revoked first. Pinned by the caller: a future that is handed on takes
/// its room twice.
pub(super) async fn unless_revoked<T>(
    deadline: &Deadline,
    mut answering: Pin<&mut impl Future<Output = T>>,
) -> Result<T, CutReason> {
    poll_fn(|cx| match deadline.poll_due(cx) {
        Poll::Ready(Due::Revoked(reason)) => Poll::Ready(Err(reason)),
        Poll::Ready(Due::TimeUp) | Poll::Pending => answering.as_mut().poll(cx).map(Ok),
    })
    .await
}

/// Only streams of the two OpenAI calls that have the option, and only where the client did not ask itself.
fn wants_usage_spliced(facts: &RequestFacts, splices: &Splices) -> bool {
    let has_option = matches!(facts.dialect, DialectName::OpenAi | DialectName::Azure)
        && matches!(facts.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    has_option && facts.stream && !splices.asks_usage() && splices.can_splice_usage()
}

/// The client's headers as any upstream may have them. What is an upstream's own, its credential above all, is put in where that is chosen.
pub(super) fn outgoing_headers(
    from_client: Headers,
    method: &Method,
    must_be_identity: bool,
    request_id: &str,
) -> Headers {
    let mut passed = headers::request_headers(from_client);
    headers::set_accept(&mut passed);
    headers::set_accept_encoding(&mut passed, must_be_identity);
    if let Some(id) = Value::of(request_id) {
        passed.insert(&REQUEST_ID, id);
    }
    if *method == Method::GET {
        passed.remove(CONTENT_TYPE);
    }
    passed
}

/// Path and query for the upstream: the client's own bytes, but for an alias in the path or the query and the secret in the query.
pub(super) fn target(route: &Route, asked: &Target, rename: Option<&str>) -> String {
    let path = asked.path();
    let mut target = match (rename, &route.model_range) {
        (Some(name), Some(range)) if path.is_char_boundary(range.start) && path.is_char_boundary(range.end) => {
            format!("{}{name}{}", &path[..range.start], &path[range.end..])
        }
        _ => path.to_owned(),
    };
    if let Some(query) = asked.query().and_then(route::upstream_query) {
        target.push('?');
        match (rename, route.model_parameter) {
            (Some(name), Some(parameter)) => target.push_str(&route::query_with_model(&query, parameter, name)),
            _ => target.push_str(&query),
        }
    }
    target
}
