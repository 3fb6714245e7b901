//! A request, from head to answer, in eight stages. Each stage's output is the next one's input.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;

use http::header::CONTENT_TYPE;
use tokio::sync::oneshot;

use crate::admission::{self, Admitted, Caller, Unidentified};
use crate::clock::{NS_PER_SECOND, Now};
use crate::dialect::Answer;
use crate::dialect::describe::{self, BodyInput, Described};
use crate::dialect::route::{self, Route};
use crate::headers::{RequestHead, Value};
use crate::ledger::Outcome;
use crate::policy::{self, Charge, Fault, OnDisconnect, Price, Refusal, RequestFacts};
use crate::proxy::account::Account;
use crate::proxy::answer::{self, Reply, Stop};
use crate::proxy::body::{self, Arriving, HeldBody};
use crate::proxy::carrier::Carrier;
use crate::proxy::deadline::Deadline;
use crate::proxy::forward::{self, Prepared, Sending};
use crate::proxy::local;
use crate::proxy::plane::{HeldLive, Live, Plane, UnderWay, Worker};
use crate::proxy::realtime::{self, Door, Opening};
use crate::proxy::receive::{self, Received};
use crate::proxy::relay;
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics::Reason;
use crate::units::ModelName;
use crate::upstream::route::Way;

/// What is written down about a request while it goes through the stages: for the log, the metrics and the words of a refusal.
#[derive(Debug)]
pub struct Trace {
    /// The access line so far, and what is owed. On the heap: all of this is handed on from stage to stage.
    pub account: Box<Account>,
    /// The caller, once known: its limits are told with every answer.
    pub caller: Option<Caller>,
    /// The configuration this request is decided by, whatever a reload does meanwhile.
    pub live: HeldLive,
    /// Counts it until its answer has ended.
    pub under_way: UnderWay,
}

/// Answers one request. Never fails: what goes wrong is an answer too. It is written down from here on, even if its client has gone
/// by the time the answer is first asked for. A websocket leaves by `door`. On the heap, and only until the answer's head: a connection keeps
/// the room for what runs on it for as long as it lives.
pub fn handle(
    worker: Rc<Worker>,
    carrier: Carrier,
    peer: IpAddr,
    door: Option<Rc<Door>>,
    head: Box<RequestHead>,
    body: Arriving,
) -> Pin<Box<dyn Future<Output = Reply>>> {
    let now = worker.plane.clock.now();
    let mut trace = trace(&worker, carrier, &head, now);
    // Made where it stays: it is large, and would be copied there.
    let stages = Box::write(Box::new_uninit(), async move {
        match decide(&worker, &mut trace, (peer, now), head, body).await {
            Ok(Decision::Local(answer)) => {
                trace.account.outcome = Outcome::Local;
                answer::finish(&worker, trace, answer, "allowed")
            }
            Ok(Decision::Forward(sending)) => exchange(worker, trace, sending).await,
            Ok(Decision::Websocket(opening)) => Box::pin(realtime::open(&worker, trace, *opening, door)).await,
            Err(stop) => answer::stop(&worker, trace, &stop),
        }
    });
    Box::into_pin(stages)
}

/// What the first five stages came to.
enum Decision {
    /// An answer of our own.
    Local(Answer),
    /// It goes upstream, and is paid for.
    Forward(Sending),
    /// The same, of one that is to become a websocket.
    Websocket(Box<Opening>),
}

/// Receive, identify, describe, authorize, reserve. `now` is when the head was read.
async fn decide(
    worker: &Rc<Worker>,
    trace: &mut Trace,
    (peer, now): (IpAddr, Now),
    head: Box<RequestHead>,
    body: Arriving,
) -> Result<Decision, Stop> {
    let plane = &worker.plane;
    let live = Rc::clone(&trace.live);
    shed(plane, &trace.under_way)?;
    let received = receive::receive(&head, trace.under_way.carrier(), peer, &live.settings)?;
    trace.account.line.dialect = received.route.dialect;
    trace.account.line.endpoint = Some(received.route.endpoint);
    let identified = identify(worker, &live, &received, now);
    trace.caller = match &identified {
        Ok(caller) => Some(caller.clone()),
        Err((known, _)) => known.clone(),
    };
    if let Some(caller) = &trace.caller {
        trace.account.opened_by(caller);
    }
    let caller = identified.map_err(|(_, refusal)| refusal)?;
    if received.route.endpoint.is_local() {
        return Ok(Decision::Local(local::answer(plane, &live, &caller, &received.route)?));
    }
    if let Some(offer) = received.offer {
        let opening = realtime::prepare(worker, trace, *head, &received.route, offer, caller)?;
        return Ok(Decision::Websocket(Box::new(opening)));
    }
    let deadline = worker.deadlines.register();
    let (held, described) = describe(worker, &live, (&deadline, now), &received.route, &head, body).await?;
    let Described { facts, splices, size } = described;
    trace.account.line.model = facts.model.clone();
    let (charge, way) = authorize(worker, &live, &caller, &received.route, &facts)?;
    trace.account.line.upstream = Some(way.upstream.settings.name.clone());
    let admitted = reserve(plane, &live, caller, facts, charge, held.whole_at)?;
    let prepared = Prepared { route: &received.route, head, splices, size, held, way, deadline };
    Ok(Decision::Forward(Sending::new(admitted, prepared, &live, &trace.account.line.request_id)))
}

/// Sends away what there is no room for, before anything is done for it.
fn shed(plane: &Plane, under_way: &UnderWay) -> Result<(), Stop> {
    let reason = if !under_way.has_place() {
        "max_requests"
    } else if plane.overload.is_short_of_memory() {
        "memory_limit"
    } else {
        return Ok(());
    };
    plane.metrics.shed.get_or_create(&Reason { reason }).inc();
    Err(Stop::Fault(Fault::Overloaded { retry_after_ns: NS_PER_SECOND }))
}

/// Forward, relay, settle. A key that wants its answers read to the end gets a task of its own, which a disconnect does not end.
async fn exchange(worker: Rc<Worker>, trace: Trace, sending: Sending) -> Reply {
    if sending.admitted().caller().policy().on_disconnect == OnDisconnect::Cancel {
        return forward_and_relay(worker, trace, sending).await;
    }
    let (answer, answered) = oneshot::channel();
    tokio::task::spawn_local(async move {
        // With nobody left to take it, the answer is dropped here and read on to its usage.
        let _ = answer.send(forward_and_relay(worker, trace, sending).await);
    });
    match answered.await {
        Ok(reply) => reply,
        Err(_) => Reply::broken(),
    }
}

async fn forward_and_relay(worker: Rc<Worker>, mut trace: Trace, sending: Sending) -> Reply {
    match forward::forward(&worker, &trace.live, &mut trace.account, sending).await {
        Ok(forwarded) => relay::answer(&worker, trace, forwarded),
        Err(stop) => answer::stop(&worker, trace, &stop),
    }
}

fn trace(worker: &Rc<Worker>, carrier: Carrier, head: &RequestHead, now: Now) -> Trace {
    let plane = &worker.plane;
    let dialect = match carrier.flaw_of(&head.headers) {
        Some((_, nearest)) => nearest,
        None => route::nearest(head.target.path(), &head.headers),
    };
    let line = AccessLine::begin(worker.ids.of(&head.headers), dialect, plane.clock.clone(), now.monotonic_ns);
    let live = worker.live();
    Trace { account: Account::open(worker, line), caller: None, under_way: UnderWay::new(worker, carrier, &live), live }
}

/// Whose request it is. A secret that is in no table takes the same way as one that is, up to the answer.
fn identify(worker: &Worker, live: &Live, received: &Received, now: Now) -> Result<Caller, Unidentified> {
    let plane = &worker.plane;
    let digest = received.secret.as_ref().map(|secret| plane.digester.digest(secret));
    let identified = worker.callers.identify(&plane.keys, digest, received.address, now);
    if matches!(identified, Err((_, Refusal::InvalidKey))) {
        let allowed = live.settings.failed_attempts_per_minute;
        plane
            .attempts
            .record_failure(received.address, allowed, now)
            .map_err(|retry_after_ns| (None, Refusal::TooManyAttempts { retry_after_ns }))?;
    }
    identified
}

/// Reads the body and finds out what it wants.
async fn describe(
    worker: &Rc<Worker>,
    live: &Live,
    (deadline, began): (&Deadline, Now),
    route: &Route,
    head: &RequestHead,
    body: Arriving,
) -> Result<(HeldBody, Described), Stop> {
    receive::check_encoding(&head.headers)?;
    let held = body::read(worker, &live.settings, (deadline, began), body).await?;
    let passthrough = route.passthrough.and_then(|index| live.settings.passthrough.get(index));
    let input = BodyInput {
        dialect: route.dialect,
        endpoint: route.endpoint,
        path_model: route.model.as_ref(),
        path_stream: route.streams,
        model_free: passthrough.is_some_and(|entry| entry.model_free),
        content_type: head.headers.get(CONTENT_TYPE).map(Value::as_bytes),
        body: &held.bytes,
    };
    let described = describe::describe(&input, &worker.plane.estimator)?;
    Ok((held, described))
}

/// May it, and who serves it.
pub(super) fn authorize(
    worker: &Worker,
    live: &Live,
    caller: &Caller,
    route: &Route,
    facts: &RequestFacts,
) -> Result<(Charge, Way), Refusal> {
    let passthrough = route.passthrough.and_then(|index| live.settings.passthrough.get(index));
    let found = match (passthrough, &facts.model) {
        _ if caller.policy().is_sandbox => live.routes.sandbox(),
        (Some(entry), _) => live.routes.named(&entry.upstream),
        (None, Some(model)) => live.routes.find(route.dialect, model),
        (None, None) => live.routes.any(route.dialect),
    };
    // What the key may not use is refused before what nobody serves (POLICY 3).
    let charge = policy::authorize(caller.policy(), facts, price(live, found.and_then(|found| found.rename), facts))?;
    let found = found.ok_or_else(|| Refusal::ModelNotFound { model: facts.model.clone() })?;
    let is_stray = |model: &&ModelName| passthrough.is_none() && !live.routes.serves_as_named(found.upstream, model);
    if let Some(stray) = facts.other_models.iter().find(is_stray) {
        return Err(Refusal::ModelNotFound { model: Some(stray.clone()) });
    }
    let mut way = Way::of(found, &worker.pool);
    if let Some(model) = found.rename.or(facts.model.as_ref())
        && passthrough.is_none()
        && !caller.policy().is_sandbox
    {
        way.is_followed = live.routes.after(found.upstream, route.dialect, model, &facts.other_models).is_some();
    }
    Ok((charge, way))
}

/// The dearest price of all models that may answer.
fn price(live: &Live, rename: Option<&ModelName>, facts: &RequestFacts) -> Price {
    let target = rename.map(ModelName::as_str);
    let first = facts.model.as_ref().map(|model| live.prices.price_as(model.as_str(), target));
    let others = facts.other_models.iter().map(|model| live.prices.price(model.as_str()));
    first.into_iter().chain(others).reduce(|dearest, price| dearest.dearest(&price)).unwrap_or(Price::TOKEN)
}

/// All limits, or none.
fn reserve(
    plane: &Plane,
    live: &Live,
    caller: Caller,
    facts: RequestFacts,
    charge: Charge,
    now: Now,
) -> Result<Admitted, Refusal> {
    admission::admit(caller, facts, charge, &live.limits, &plane.clock, now).map_err(|(_, refusal)| refusal)
}
