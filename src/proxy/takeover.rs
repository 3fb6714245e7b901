//! Who answers when the first upstream cannot: others that serve the same model, in the operator's order. Each is asked only with a request
//! of which nothing was accepted.

use std::rc::Rc;

use prometheus_client::metrics::counter::Counter;

use crate::policy::{DialectName, RequestFacts};
use crate::proxy::deadline::Deadline;
use crate::proxy::plane::{Live, Worker};
use crate::telemetry::metrics::UpstreamLabel;
use crate::units::ModelName;
use crate::upstream::Upstream;
use crate::upstream::answer::Answered;
use crate::upstream::choice::Leave;
use crate::upstream::client::{self, Failure, Limit};
use crate::upstream::request::Outgoing;
use crate::upstream::route::{Held, Way};

/// What an upstream must serve to take over.
#[derive(Debug)]
pub struct Wanted {
    dialect: DialectName,
    /// By the name that is sent upstream.
    model: ModelName,
    others: Vec<ModelName>,
}

impl Wanted {
    /// `None` where nobody can take over, so that nothing need be kept for that.
    pub fn of(way: &Way, facts: &RequestFacts) -> Option<Self> {
        let model = way.rename.as_ref().or(facts.model.as_ref()).filter(|_| way.is_followed)?;
        Some(Self { dialect: facts.dialect, model: model.clone(), others: facts.other_models.clone() })
    }
}

/// Asks the upstream of `way`, and those that take over for it; `way` leads to the one that answered, or was asked last. `insists` says
/// whether ejected endpoints are asked where no better ones are left, rather than none.
///
/// # Errors
/// Why none did, with the request where nobody accepted it.
pub async fn send(
    worker: &Worker,
    live: &Live,
    way: &mut Way,
    wanted: Option<Wanted>,
    outgoing: Box<Outgoing>,
    (limit, alarm): (Limit, &Deadline),
    insists: bool,
) -> Result<Answered, Failure> {
    let leave = if wanted.is_some() { Leave::default() } else { Leave { to_repeat: true, to_insist: insists } };
    match (client::send(&worker.pool, &way.upstream, outgoing, limit, leave, alarm).await, wanted) {
        (Err(failure), Some(wanted)) => {
            Box::pin(take_over(worker, live, way, &wanted, (limit, alarm), insists, failure)).await
        }
        (Err(failure), None) => failure.told(),
        (answered, _) => answered,
    }
}

async fn take_over(
    worker: &Worker,
    live: &Live,
    way: &mut Way,
    wanted: &Wanted,
    (limit, alarm): (Limit, &Deadline),
    insists: bool,
    mut failure: Failure,
) -> Result<Answered, Failure> {
    // Who said that it does nothing now, and who was not asked because all of its endpoints are ejected.
    let mut turned_down: Option<(Held, Box<Answered>)> = None;
    let mut passed_over: Option<Held> = None;
    while let Some(mut outgoing) = failure.unsent.take() {
        if let (Some(answer), None) = (failure.answer.take(), &turned_down) {
            turned_down = Some((Rc::clone(&way.upstream), answer));
        }
        if failure.is_out && passed_over.is_none() {
            passed_over = Some(Rc::clone(&way.upstream));
        }
        let following = live.routes.after(&way.upstream, wanted.dialect, &wanted.model, &wanted.others);
        // With nobody left, one that is ejected is better than none; once.
        let (next, to_insist) = match following {
            Some(next) => (worker.pool.hold(next), false),
            None if turned_down.is_some() => break,
            None => match (insists, passed_over.take()) {
                (true, Some(first)) => (first, true),
                (_, out) => {
                    failure.is_out = out.is_some();
                    failure.unsent = Some(outgoing);
                    break;
                }
            },
        };
        counter(worker, &way.upstream, failure.fault.as_str()).inc();
        let (from, to, why) = (&*way.upstream.settings.name, &*next.settings.name, failure.fault.as_str());
        tracing::info!(from, to, why, note = failure.note, "another upstream takes over");
        outgoing.undress();
        way.upstream = next;
        let leave = Leave { to_repeat: true, to_insist };
        failure = match client::send(&worker.pool, &way.upstream, outgoing, limit, leave, alarm).await {
            Ok(answered) => return Ok(answered),
            // What it answered is the caller's, as it is where nobody else was there to begin with.
            Err(failure) if to_insist => return failure.told(),
            Err(failure) => failure,
        };
    }
    match turned_down {
        Some((upstream, answer)) => {
            way.upstream = upstream;
            Ok(*answer)
        }
        None => Err(failure),
    }
}

/// Counts requests to an upstream by what it did with them.
pub fn counter(worker: &Worker, upstream: &Upstream, outcome: &'static str) -> Counter {
    let label = UpstreamLabel { upstream: upstream.settings.name.to_string(), outcome };
    worker.plane.metrics.upstream.get_or_create(&label).clone()
}
