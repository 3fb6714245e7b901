//! Another model in the place of the one asked for, whose upstreams could not take the request: decided and paid for anew, as if the client
//! had asked for it.
//!
//! What the model before had reserved is given back whole, its place in rpm too, before anything is taken for the next: so a request is
//! counted once, and a fallback that is refused leaves every limit as it was.

use std::collections::VecDeque;

use bytes::Bytes;
use http::Method;

use crate::admission::{self, Caller};
use crate::dialect::describe::{Described, Edits};
use crate::dialect::route::Route;
use crate::headers::{Headers, Target};
use crate::policy::RequestFacts;
use crate::proxy::account::Account;
use crate::proxy::answer::Stop;
use crate::proxy::body::HeldBody;
use crate::proxy::forward::{self, Attempt, Forwarded, Missed};
use crate::proxy::handle;
use crate::proxy::plane::{Live, Worker};
use crate::units::ModelName;
use crate::upstream::Kind;
use crate::upstream::client::Limit;
use crate::upstream::request::Outgoing;

/// What is kept of a request so that it can be made again for another model.
#[derive(Debug)]
pub struct Spare {
    /// Whose it is.
    pub caller: Caller,
    /// What it wants, and where its body may be spliced.
    pub described: Described,
    /// The body as the client wrote it.
    pub body: Bytes,
    /// The call.
    pub route: Route,
    /// The client's target.
    pub target: Target,
    /// The client's method.
    pub method: Method,
    /// The headers that any upstream may have.
    pub headers: Headers,
    /// Whether usage is asked for that the client did not ask for.
    pub asks_usage: bool,
    /// The time that all attempts have together.
    pub limit: Limit,
}

impl Spare {
    /// Whether there is anything to be tried for a request of these `facts`. Where a path of the operator's own goes, no model decides.
    pub fn is_wanted(live: &Live, route: &Route, facts: &RequestFacts) -> bool {
        let has_fallbacks = |model| !live.routes.fallbacks(model).is_empty();
        route.passthrough.is_none() && facts.model.as_ref().is_some_and(has_fallbacks)
    }

    /// The request for `model`, paid for; `None` where the key may not use it, cannot pay it, or nobody serves it.
    fn ready(&self, worker: &Worker, live: &Live, held: &mut HeldBody, model: &ModelName) -> Option<Box<Attempt>> {
        let plane = &worker.plane;
        let facts = RequestFacts {
            model: Some(model.clone()),
            estimate: self.described.estimate_with(model, &plane.estimator),
            ..self.described.facts.clone()
        };
        // By the rules of now, which may have changed since the first model was tried.
        let caller = self.caller.refreshed();
        let (charge, way) = handle::authorize(worker, live, &caller, &self.route, &facts).ok()?;
        if way.upstream.settings.kind == Kind::Sandbox {
            return None;
        }
        let admitted = admission::admit(caller, facts, charge, &live.limits, &plane.clock, plane.clock.now()).ok()?;
        let name = way.rename.as_ref().unwrap_or(model).as_str();
        let edits = Edits { model: Some(name), output: admitted.clamp(), include_usage: self.asks_usage };
        let body = self.described.splices.render(&self.body, &edits);
        held.count_both(&self.body, &body);
        let outgoing = Outgoing {
            method: self.method.clone(),
            path_and_query: forward::target(&self.route, &self.target, Some(name)),
            headers: self.headers.clone(),
            plain_headers: way.is_followed.then(|| Box::new(self.headers.clone())),
            body,
        };
        Some(Box::new(Attempt {
            admitted,
            outgoing: Box::new(outgoing),
            sandbox: None,
            way,
            deadline: worker.deadlines.register(),
            strips_usage: self.asks_usage,
            size: Some(self.described.size),
            limit: self.limit,
            insists: false,
        }))
    }
}

/// Tries the fallbacks of the model asked for, in the operator's order, after `first`: what became of that one. With all of them tried
/// ejected endpoints are better than none, those of the model asked for first. What is written down is of the model that serves.
///
/// # Errors
/// That of `first` where nobody accepted the request; else that of who did.
pub async fn serve(
    worker: &Worker,
    live: &Live,
    account: &mut Account,
    spare: Spare,
    mut held: HeldBody,
    first: Missed,
) -> Result<Forwarded, Stop> {
    let Some(asked) = &spare.described.facts.model else { return Err(first.stop) };
    let first_upstream = account.line.upstream.clone();
    let fallbacks = live.routes.fallbacks(asked).iter().map(|model| (model, false));
    let mut turns = fallbacks.chain(first.is_out.then_some((asked, true))).collect::<VecDeque<_>>();
    while let Some((model, insists)) = turns.pop_front() {
        if spare.limit.is_over() {
            break;
        }
        let Some(mut ready) = spare.ready(worker, live, &mut held, model) else { continue };
        ready.insists = insists;
        account.line.model = Some(model.clone());
        account.line.upstream = Some(ready.way.upstream.settings.name.clone());
        tracing::info!(asked = asked.as_str(), model = model.as_str(), "another model is tried");
        match forward::attempt(worker, live, account, ready).await {
            Ok(forwarded) => {
                let fallback = (model != asked).then(|| model.clone());
                return Ok(Forwarded { fallback, ..forwarded });
            }
            Err(missed) if !missed.is_unsent => return Err(missed.stop),
            Err(missed) if missed.is_out => turns.push_back((model, true)),
            Err(_nobody_accepted_it) => {}
        }
    }
    account.line.model = Some(asked.clone());
    account.line.upstream = first_upstream;
    Err(first.stop)
}
