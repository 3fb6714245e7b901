//! Calls that are websockets (`/v1/realtime`): decided like any other, opened only by a correct 101 of the upstream's, and from then on
//! metered, limited and ended message by message.
//!
//! The connection itself counts as one request and holds a slot as long as it lasts. Each response is a call of its own within it:
//! reserved when the client asks for it, settled by what the backend reports of it, with a record in the ledger.

mod conversation;
mod side;
mod tunnel;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING};

use crate::admission::{self, Admitted, Caller};
use crate::dialect::route::Route;
use crate::dialect::websocket::Offer;
use crate::headers::{AnswerHead, Headers, RequestHead, Value};
use crate::ledger::Outcome;
use crate::policy::{self, Endpoint, Estimate, Fault, Price, Refusal, RequestFacts};
use crate::proxy::answer::{self, Reply, Stop};
use crate::proxy::deadline::Deadline;
use crate::proxy::forward::{outgoing_headers, target, unless_revoked};
use crate::proxy::handle::Trace;
use crate::proxy::plane::Worker;
use crate::proxy::relay::{AnswerBody, passed_headers};
use crate::proxy::takeover;
use crate::units::ModelName;
use crate::upstream::route::Way;
use crate::upstream::websocket::{self, Met, Opened};

pub use tunnel::Tunnel;

use conversation::Conversation;

/// Where a websocket that was opened waits for its connection to be told so.
#[derive(Debug, Default)]
pub struct Door(RefCell<Option<Box<Tunnel>>>);

impl Door {
    /// Whether one waits.
    pub fn is_open(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// The one that waits.
    pub fn take(&self) -> Option<Box<Tunnel>> {
        self.0.borrow_mut().take()
    }
}

/// A websocket that is paid for, before its upstream is asked.
#[derive(Debug)]
pub struct Opening {
    admitted: Admitted,
    way: Way,
    model: ModelName,
    offer: Box<Offer>,
    path_and_query: String,
    headers: Headers,
    deadline: Deadline,
}

/// Authorizes and reserves: one request, a slot for as long as it lasts, and one token, so that a spent limit is told at once.
///
/// # Errors
/// As for any other call; [`Refusal::ModelNotFound`] also where no upstream that serves the model takes websockets.
pub fn prepare(
    worker: &Worker,
    trace: &mut Trace,
    head: RequestHead,
    route: &Route,
    offer: Box<Offer>,
    caller: Caller,
) -> Result<Opening, Refusal> {
    let (plane, live) = (&worker.plane, Rc::clone(&trace.live));
    trace.account.line.model = route.model.clone();
    let Some(model) = route.model.clone() else { return Err(Refusal::ModelNotFound { model: None }) };
    let facts = RequestFacts {
        dialect: route.dialect,
        endpoint: Endpoint::Realtime,
        model: Some(model.clone()),
        other_models: Vec::new(),
        model_free: false,
        stream: true,
        estimate: Estimate { prompt: 1, output: 0, choices: 1, output_is_stated: true, least_output: 1 },
    };
    // The connection costs nothing beside its responses, so its price is not the model's.
    let charge = policy::authorize(caller.policy(), &facts, Price::TOKEN)?;
    let is_sandbox = caller.policy().is_sandbox;
    let way = (!is_sandbox).then(|| live.routes.find_websocket(route.dialect, &model)).flatten();
    let way = way.ok_or_else(|| Refusal::ModelNotFound { model: Some(model.clone()) })?;
    let way = Way::of(way, &worker.pool);
    trace.account.line.upstream = Some(way.upstream.settings.name.clone());
    let now = plane.clock.now();
    let admitted = admission::admit(caller, facts, charge, &live.limits, &plane.clock, now).map_err(|(_, why)| why)?;
    let rename = way.rename.as_ref().map(ModelName::as_str);
    let headers = outgoing_headers(head.headers, &head.method, true, &trace.account.line.request_id);
    let (path_and_query, deadline) = (target(route, &head.target, rename), worker.deadlines.register());
    Ok(Opening { admitted, way, model, offer, path_and_query, headers, deadline })
}

/// Shakes hands with the upstream. A correct 101 is answered with our own, and the websocket waits at `door`; whatever else it answers
/// is the answer. Nothing was used in any case: what is dropped here is void.
pub async fn open(worker: &Rc<Worker>, trace: Trace, opening: Opening, door: Option<Rc<Door>>) -> Reply {
    let Some(door) = door else { return answer::stop(worker, trace, &Stop::Fault(Fault::Internal)) };
    let Opening { admitted, way, model, offer, path_and_query, headers, deadline } = opening;
    if trace.live.settings.cut_streams {
        deadline.watch(admitted.caller().clone());
    }
    let settings = &way.upstream.settings;
    let now = || worker.plane.clock.now();
    let asked = {
        let asking = pin!(websocket::open(&worker.pool, &way.upstream, &path_and_query, headers, &offer));
        unless_revoked(&deadline, asking).await
    };
    let Ok(met) = asked else {
        let refusal = admitted.caller().recheck(now()).err().unwrap_or(Refusal::InvalidKey);
        return answer::stop(worker, trace, &Stop::Refusal(refusal));
    };
    let count = |outcome| takeover::counter(worker, &way.upstream, outcome).inc();
    match met {
        Ok(Met::Opened(opened)) => {
            count("answered");
            // What was answered before on this connection has to be taken first.
            poll_fn(|cx| trace.under_way.carrier().poll_room(cx)).await;
            let reply = switching(worker, &trace, admitted.caller(), &offer, &opened);
            let Trace { mut account, under_way, .. } = trace;
            account.outcome = Outcome::Answered;
            account.line.status = reply.head.status.as_u16();
            account.line.decision = "allowed";
            account.line.first_byte_ns = Some(account.line.elapsed_ns());
            let conversation = Conversation::new(worker, admitted, way, model, account.line.request_id.clone());
            let tunnel = Tunnel::new(worker, conversation, account, opened, deadline, under_way);
            *door.0.borrow_mut() = Some(Box::new(tunnel));
            reply
        }
        Ok(Met::Declined { head, body }) => {
            count("answered");
            declined(worker, trace, admitted, head, body)
        }
        Err((fault, note)) => {
            count(fault.as_str());
            tracing::warn!(upstream = &*settings.name, fault = fault.as_str(), note, "no websocket from upstream");
            admitted.undo(now());
            answer::stop(worker, trace, &Stop::Fault(fault))
        }
    }
}

/// Our 101.
fn switching(worker: &Worker, trace: &Trace, caller: &Caller, offer: &Offer, opened: &Opened) -> Reply {
    let line = &trace.account.line;
    let mut headers = passed_headers(line, caller, opened.headers.clone(), worker.plane.clock.now());
    for name in [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    offer.put_answer_headers(opened.chosen.clone(), &mut headers);
    answer::count(worker, line.dialect, StatusCode::SWITCHING_PROTOCOLS);
    Reply { head: AnswerHead { status: StatusCode::SWITCHING_PROTOCOLS, headers }, body: AnswerBody::none() }
}

/// The upstream's own refusal: passed on, and after it the connection ends, since what follows a handshake is not to be read as HTTP.
fn declined(worker: &Worker, trace: Trace, admitted: Admitted, head: AnswerHead, body: Bytes) -> Reply {
    let caller = admitted.caller().clone();
    // Before the client has the answer: tokens and quota go back, the request counts.
    let now = worker.plane.clock.now();
    admitted.void(now);
    let Trace { mut account, under_way, .. } = trace;
    let mut headers = passed_headers(&account.line, &caller, head.headers, now);
    headers.remove(CONTENT_LENGTH);
    headers.insert(http::header::CONNECTION, Value::from_static("close"));
    account.outcome = Outcome::UpstreamError;
    account.line.status = head.status.as_u16();
    account.line.decision = "allowed";
    account.line.first_byte_ns = Some(account.line.ns_until(now));
    answer::count(worker, account.line.dialect, head.status);
    let head = AnswerHead { status: head.status, headers };
    let reply = Reply { head, body: AnswerBody::whole(body, under_way) };
    drop(account);
    reply
}
