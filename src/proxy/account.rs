//! A request's account: what is written down about it and, once it is paid for, what it owes. Whatever becomes of the request, the
//! one charge, the metrics, the access line and the ledger's entry come from here and so agree.

use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;

use crate::admission::{Admitted, Caller};
use crate::clock::Now;
use crate::dialect;
use crate::dialect::estimate::PromptSize;
use crate::dialect::meter::Meter;
use crate::ledger::{Entry, Outcome};
use crate::limits::QuotaCount;
use crate::policy::{CutReason, EndpointGroup, OnDisconnect, RequestFacts, Usage};
use crate::proxy::plane::Worker;
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics::Reason;

/// Why an answer was cut that nobody waits for.
const CLIENT_GONE: &str = "client_gone";

/// The account of one request. Dropped while something is owed, it is charged with what was seen, since then nobody waits for the
/// answer any more.
#[derive(Debug)]
pub struct Account {
    /// The access line so far; written when the account is dropped.
    pub line: AccessLine,
    /// What becomes of it where nothing is charged.
    pub outcome: Outcome,
    worker: Rc<Worker>,
    /// The secret it came with, when another had taken that one's place.
    previous_secret: Option<[u8; 8]>,
    /// `None` before the request goes upstream, and once it has been charged.
    owed: Option<Owed>,
    /// The status and the meter of the answer, once it has begun.
    answer: Option<(StatusCode, Meter)>,
    /// Whether the ledger has it.
    is_entered: bool,
}

/// What a request that goes upstream owes.
#[derive(Debug)]
struct Owed {
    admitted: Admitted,
    /// The prompt's size; `None` when nothing is to be learnt from the answer.
    size: Option<PromptSize>,
}

impl Account {
    /// Of a request whose head has just been read.
    #[inline(always)]
    pub fn open(worker: &Rc<Worker>, line: AccessLine) -> Box<Self> {
        // Made where it stays, not copied there.
        Box::write(
            Box::new_uninit(),
            Self {
                line,
                outcome: Outcome::Fault,
                worker: Rc::clone(worker),
                previous_secret: None,
                owed: None,
                answer: None,
                is_entered: false,
            },
        )
    }

    /// Whose request it is.
    pub fn opened_by(&mut self, caller: &Caller) {
        self.line.key = Some(caller.policy().id);
        let slot = caller.slot();
        self.previous_secret = slot.is_previous().then(|| slot.digest().0.first_chunk().copied().unwrap_or_default());
    }

    /// The request goes upstream now: from here on it costs its prompt at least, unless it is [undone](Self::undo). `size` is
    /// the prompt's, for learning from the reported usage; `None` where that is our own estimate.
    pub fn owe(&mut self, mut admitted: Admitted, size: Option<PromptSize>) {
        admitted.reservation().forwarded();
        self.owed = Some(Owed { admitted, size });
    }

    /// The answer begins; `meter` reads along.
    pub fn answered(&mut self, status: StatusCode, meter: Meter) {
        self.answer = Some((status, meter));
    }

    /// Meters a piece of the answer and hands on to `out` what is to be passed on.
    pub fn push(&mut self, data: Bytes, out: &mut impl FnMut(Bytes)) {
        match &mut self.answer {
            Some((_, meter)) => meter.push(data, out),
            None => out(data),
        }
    }

    /// Charges an answer whose own end was seen, though more bytes may come. Not where that end may be one of several: of candidates, of
    /// pictures.
    pub fn settle_when_over(&mut self) {
        let Some(owed) = &self.owed else { return };
        let endpoint = owed.admitted.facts().endpoint;
        let has_one_end = !endpoint.is_gemini_verb() && endpoint.group() != Some(EndpointGroup::Images);
        if has_one_end && self.is_complete() {
            self.settle(true);
        }
    }

    /// The answer ended cleanly: hands on what was held back, and charges it.
    pub fn finish(&mut self, out: &mut impl FnMut(Bytes)) {
        if let Some((_, meter)) = &mut self.answer {
            meter.finish(out);
        }
        self.settle(true);
    }

    /// The answer ends before its end and is charged as far as it came. Gives the error event that tells the client why, where
    /// one can stand.
    pub fn cut(&mut self, reason: CutReason) -> Option<Bytes> {
        let is_between = self.answer.as_ref().is_some_and(|(_, meter)| meter.between_events());
        self.note_cut(reason.as_str());
        self.settle(false);
        let endpoint = self.line.endpoint.filter(|_| is_between)?;
        Some(dialect::of(self.line.dialect).cut_event(endpoint, reason))
    }

    /// Gives everything back, in rpm too: there is no answer.
    pub fn undo(&mut self) {
        if let Some(owed) = self.owed.take() {
            owed.admitted.undo(self.worker.plane.clock.now());
        }
    }

    /// The client has gone. True when the answer is to be read on to its usage all the same.
    pub fn client_gone(&mut self) -> bool {
        let Some(owed) = &self.owed else { return false };
        let is_success = self.answer.as_ref().is_some_and(|(status, _)| status.is_success());
        let reads_on = is_success && owed.admitted.caller().policy().on_disconnect == OnDisconnect::Drain;
        self.note_cut(CLIENT_GONE);
        reads_on
    }

    /// Writes down and counts that the answer ends before its end; the first reason is the one.
    fn note_cut(&mut self, reason: &'static str) {
        if self.line.cut.is_none() {
            self.line.cut = Some(reason);
            self.worker.plane.metrics.cuts.get_or_create(&Reason { reason }).inc();
        }
    }

    /// Charges `usage`, which another meter than the account's own has read. `cut` says why, where that was not all there would have been.
    pub fn charge(&mut self, usage: Usage, cut: Option<&'static str>) {
        let Some(owed) = self.owed.take() else { return };
        if let Some(reason) = cut {
            self.note_cut(reason);
        }
        let now = self.worker.plane.clock.now();
        self.conclude(owed, usage, now);
    }

    /// The upstream has refused what it was asked for: that costs nothing but the request.
    pub fn refused_upstream(&mut self) {
        if let Some(owed) = self.owed.take() {
            let now = self.worker.plane.clock.now();
            owed.admitted.void(now);
            self.enter(Outcome::UpstreamError, QuotaCount::default(), || now);
        }
    }

    /// Whether the answer came to its own end, even if the connection did not.
    fn is_complete(&self) -> bool {
        self.answer.as_ref().is_some_and(|(_, meter)| meter.is_complete())
    }

    fn settle(&mut self, is_whole: bool) {
        let Some(owed) = self.owed.take() else { return };
        let worker = Rc::clone(&self.worker);
        let plane = &worker.plane;
        let now = plane.clock.now();
        // An upstream's own error costs nothing but the request.
        if self.answer.as_ref().is_some_and(|(status, _)| !status.is_success()) {
            owed.admitted.void(now);
            self.enter(Outcome::UpstreamError, QuotaCount::default(), || now);
            return;
        }
        let mut usage = self.usage(owed.admitted.facts());
        // Whatever was reported so far, of a cut answer it need not be the last word (POLICY 6).
        usage.estimated |= !is_whole && !self.is_complete();
        if is_whole
            && !usage.estimated
            && let (Some(size), Some(model)) = (owed.size, &owed.admitted.facts().model)
        {
            plane.estimator.learn(model.as_str(), size.text_bytes, size.others(), &owed.lesson(usage));
        }
        self.conclude(owed, usage, now);
    }

    fn conclude(&mut self, owed: Owed, usage: Usage, now: Now) {
        let settled = owed.admitted.settle(usage, now);
        self.line.usage = settled.usage;
        self.line.units = settled.units;
        self.worker.counts.usage(&settled.usage, settled.units);
        self.enter(Outcome::Answered, settled.counted, || now);
    }

    /// Writes it into the ledger, once.
    fn enter(&mut self, outcome: Outcome, counted: QuotaCount, now: impl FnOnce() -> Now) {
        let (line, worker) = (&self.line, &self.worker);
        let (Some(journal), Some(key), Some(endpoint)) = (&worker.journal, line.key, line.endpoint) else { return };
        if std::mem::replace(&mut self.is_entered, true) {
            return;
        }
        let reason = match outcome {
            Outcome::Answered => line.cut.unwrap_or_default(),
            Outcome::Refused | Outcome::Fault => line.decision,
            Outcome::UpstreamError | Outcome::Local => "",
        };
        let now = now();
        journal.append(&Entry {
            request_id: &*line.request_id,
            at_unix_ms: now.unix_ms,
            key,
            previous_secret: self.previous_secret,
            dialect: line.dialect,
            endpoint,
            model: line.model.as_ref().map_or("", |model| model.as_str()),
            outcome,
            reason,
            status: line.status,
            usage: line.usage,
            units: line.units,
            since_day: counted.since_day,
            touched_day: counted.touched_day,
            first_byte_us: line.first_byte_ns.map_or(0, |ns| ns / 1_000),
            duration_us: line.ns_until(now) / 1_000,
            requests: 1,
        });
    }

    /// What is to be charged for the answer as far as it came.
    fn usage(&self, facts: &RequestFacts) -> Usage {
        if facts.endpoint.is_free() {
            return Usage::default();
        }
        let prompt = facts.estimate.prompt;
        match &self.answer {
            Some((_, meter)) if facts.endpoint.has_output() || meter.reported().is_some() => {
                meter.usage_or_estimate(prompt)
            }
            // Pictures have no text to be counted: they are what was reserved for them.
            Some(_) if facts.endpoint.group() == Some(EndpointGroup::Images) => {
                Usage { input: prompt, output: facts.estimate.output, estimated: true, ..Usage::default() }
            }
            _ => Usage { input: prompt, estimated: true, ..Usage::default() },
        }
    }
}

impl Owed {
    /// What of `usage` may be learnt: an output that the request or the quota capped says nothing of those that are not.
    fn lesson(&self, usage: Usage) -> Usage {
        let is_capped = self.admitted.facts().estimate.output_is_stated || self.admitted.clamp().is_some();
        Usage { output: if is_capped { 0 } else { usage.output }, ..usage }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.owed.is_some() {
            self.note_cut(CLIENT_GONE);
            self.settle(false);
        }
        let clock = self.worker.plane.clock.clone();
        self.enter(self.outcome, QuotaCount::default(), || clock.now());
    }
}
