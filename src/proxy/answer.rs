//! Answers of our own, in the caller's dialect: what is answered from memory, and every refusal and fault.

use std::sync::atomic::Ordering;

use http::StatusCode;
use http::header::CONNECTION;

use crate::dialect::{self, Answer, Notes};
use crate::headers::{AnswerHead, Headers, Value};
use crate::ledger::Outcome;
use crate::policy::{BodyFlaw, DialectName, Fault, Refusal};
use crate::proxy::carrier::Carrier;
use crate::proxy::handle::Trace;
use crate::proxy::plane::Worker;
use crate::proxy::relay::AnswerBody;
use crate::telemetry::metrics::Reason;

/// What a client is answered.
#[derive(Debug)]
pub struct Reply {
    /// Status and headers; framing is added on the wire.
    pub head: AnswerHead,
    /// The body.
    pub body: AnswerBody,
}

impl Reply {
    /// Nothing but a broken connection.
    pub fn broken() -> Self {
        let head = AnswerHead { status: StatusCode::INTERNAL_SERVER_ERROR, headers: Headers::new() };
        Self { head, body: AnswerBody::broken() }
    }
}

/// Why a request goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// We decided so.
    Refusal(Refusal),
    /// It happened.
    Fault(Fault),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Answers `stop`, counts it and writes its access line.
pub fn stop(worker: &Worker, mut trace: Trace, stop: &Stop) -> Reply {
    let plane = &worker.plane;
    let now = plane.clock.now();
    let words = dialect::of(trace.account.line.dialect);
    let notes = Notes { request_id: &trace.account.line.request_id, now, quota_status: trace.live.limits.quota_status };
    trace.account.outcome = match stop {
        Stop::Refusal(_) => Outcome::Refused,
        Stop::Fault(_) => Outcome::Fault,
    };
    let (mut answer, decision) = match stop {
        Stop::Refusal(refusal) => {
            let name = refusal.as_str();
            plane.metrics.refusals.get_or_create(&Reason { reason: name }).inc();
            (words.refusal(refusal, &notes), name)
        }
        Stop::Fault(fault) => {
            let name = fault.as_str();
            plane.metrics.faults.get_or_create(&Reason { reason: name }).inc();
            (words.fault(*fault, &notes), name)
        }
    };
    match trace.under_way.carrier() {
        // A body that is not read to its end leaves no place for a next request.
        Carrier::Connection(notes) if must_close(stop) || notes.body_is_open() => close(&mut answer.headers),
        // A stream ends with its answer; what ends the connection is to be sent many of these.
        Carrier::Stream(stream) if matches!(stop, Stop::Refusal(Refusal::Head(_))) => stream.head_refused(),
        Carrier::Connection(_) | Carrier::Stream(_) => {}
    }
    finish(worker, trace, answer, decision)
}

/// Sends an answer of our own, counts it and writes its access line.
pub fn finish(worker: &Worker, trace: Trace, mut answer: Answer, decision: &'static str) -> Reply {
    let Trace { mut account, under_way, caller, .. } = trace;
    let line = &mut account.line;
    let words = dialect::of(line.dialect);
    if let Some(caller) = caller {
        let now = worker.plane.clock.now();
        words.limit_headers(&caller.rates(now), now, &mut answer.headers);
    }
    close_when_draining(worker, &mut answer.headers);
    if let Some(id) = Value::of(&line.request_id) {
        answer.headers.insert(words.request_id_header(), id);
    }
    let head = AnswerHead { status: answer.status, headers: answer.headers };
    let reply = Reply { head, body: AnswerBody::whole(answer.body, under_way) };
    line.status = answer.status.as_u16();
    line.decision = decision;
    count(worker, line.dialect, answer.status);
    // Written here: a panic in a drop after the last line would leak what is returned, and with it a request under way.
    drop(account);
    reply
}

/// Counts an answer.
pub fn count(worker: &Worker, dialect: DialectName, status: StatusCode) {
    worker.counts.answer(dialect, status.as_u16());
}

/// When the program is going down, connections end with the answers they are busy with.
pub fn close_when_draining(worker: &Worker, headers: &mut Headers) {
    if worker.plane.is_draining.load(Ordering::Relaxed) {
        close(headers);
    }
}

/// The connection ends after this answer, whatever else it says of the connection.
fn close(headers: &mut Headers) {
    let others = headers.get(CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if others.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")) {
        return;
    }
    let value = if others.is_empty() { "close".to_owned() } else { format!("{others}, close") };
    if let Some(value) = Value::of(&value) {
        headers.insert(CONNECTION, value);
    }
}

/// After these the rest of the connection cannot be trusted to be where we think it is, or is not worth reading.
fn must_close(stop: &Stop) -> bool {
    match stop {
        Stop::Refusal(refusal) => matches!(
            refusal,
            Refusal::Head(_)
                | Refusal::BodyTooLarge { .. }
                | Refusal::BodyTooSlow
                | Refusal::Body(BodyFlaw::Incomplete)
        ),
        Stop::Fault(fault) => matches!(fault, Fault::Overloaded { .. }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_closes_says_so_once_and_beside_what_it_said_already() {
        for (before, after) in
            [(None, "close"), (Some("upgrade"), "upgrade, close"), (Some("upgrade, close"), "upgrade, close")]
        {
            let mut headers = Headers::new();
            headers.extend(before.map(|value| (CONNECTION, http::HeaderValue::from_static(value))));
            close(&mut headers);
            close(&mut headers);
            assert_eq!(headers.get_all(CONNECTION).iter().collect::<Vec<_>>(), [after]);
        }
    }
}
