//! A request's account: what is written down about it and, once it is paid for, what it owes. Whatever becomes of the request, the
//! one charge, the metrics and the access line come from here and so agree.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::admission::Admitted;
use crate::dialect;
use crate::dialect::estimate::PromptSize;
use crate::dialect::meter::Meter;
use crate::policy::{CutReason, EndpointGroup, OnDisconnect, Usage};
use crate::proxy::plane::Plane;
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
    plane: Arc<Plane>,
    /// `None` before the request goes upstream, and once it has been charged.
    owed: Option<Owed>,
}

/// What a request that goes upstream owes.
#[derive(Debug)]
struct Owed {
    admitted: Admitted,
    /// The prompt's size; `None` when nothing is to be learnt from the answer.
    size: Option<PromptSize>,
    /// The status and the meter of the answer, once it has begun.
    answer: Option<(StatusCode, Meter)>,
}

impl Account {
    /// Of a request whose head has just been read.
    pub fn open(plane: &Arc<Plane>, line: AccessLine) -> Self {
        Self { line, plane: Arc::clone(plane), owed: None }
    }

    /// The request goes upstream now: from here on it costs its prompt at least, unless it is [undone](Self::undo). `size` is
    /// the prompt's, for learning from the reported usage; `None` where that is our own estimate.
    pub fn owe(&mut self, mut admitted: Admitted, size: Option<PromptSize>) {
        admitted.reservation().forwarded();
        self.owed = Some(Owed { admitted, size, answer: None });
    }

    /// The answer begins; `meter` reads along.
    pub fn answered(&mut self, status: StatusCode, meter: Meter) {
        if let Some(owed) = &mut self.owed {
            owed.answer = Some((status, meter));
        }
    }

    /// Meters a piece of the answer and hands on to `out` what is to be passed on.
    pub fn push(&mut self, data: Bytes, out: &mut impl FnMut(Bytes)) {
        match self.meter() {
            Some(meter) => meter.push(data, out),
            None => out(data),
        }
    }

    /// The answer ended cleanly: hands on what was held back, and charges it.
    pub fn finish(&mut self, out: &mut impl FnMut(Bytes)) {
        if let Some(meter) = self.meter() {
            meter.finish(out);
        }
        self.settle(true);
    }

    /// The answer ends before its end and is charged as far as it came. Gives the error event that tells the client why, where
    /// one can stand.
    pub fn cut(&mut self, reason: CutReason) -> Option<Bytes> {
        let is_between = self.meter().is_some_and(|meter| meter.between_events());
        self.note_cut(reason.as_str());
        self.settle(false);
        let endpoint = self.line.endpoint.filter(|_| is_between)?;
        Some(dialect::of(self.line.dialect).cut_event(endpoint, reason))
    }

    /// Gives everything back, in rpm too: there is no answer.
    pub fn undo(&mut self) {
        if let Some(owed) = self.owed.take() {
            owed.admitted.undo(self.plane.clock.now());
        }
    }

    /// The client has gone. True when the answer is to be read on to its usage all the same.
    pub fn client_gone(&mut self) -> bool {
        self.note_cut(CLIENT_GONE);
        self.owed.as_ref().is_some_and(|owed| {
            let is_success = owed.answer.as_ref().is_some_and(|(status, _)| status.is_success());
            is_success && owed.admitted.caller().policy().on_disconnect == OnDisconnect::Drain
        })
    }

    /// Writes down and counts that the answer ends before its end; the first reason is the one.
    fn note_cut(&mut self, reason: &'static str) {
        if self.line.cut.is_none() {
            self.line.cut = Some(reason);
            self.plane.metrics.cuts.get_or_create(&Reason { reason }).inc();
        }
    }

    fn meter(&mut self) -> Option<&mut Meter> {
        self.owed.as_mut()?.answer.as_mut().map(|(_, meter)| meter)
    }

    fn settle(&mut self, is_whole: bool) {
        let Some(owed) = self.owed.take() else { return };
        let plane = &self.plane;
        let now = plane.clock.now();
        // An upstream's own error costs nothing but the request.
        if owed.answer.as_ref().is_some_and(|(status, _)| !status.is_success()) {
            owed.admitted.void(now);
            return;
        }
        let mut usage = owed.usage();
        // Whatever was reported so far, of a cut answer it need not be the last word (POLICY 6).
        usage.estimated |= !is_whole && !owed.is_complete();
        if is_whole
            && !usage.estimated
            && let (Some(size), Some(model)) = (owed.size, &owed.admitted.facts().model)
        {
            plane.estimator.learn(model.as_str(), size.text_bytes, size.media_items, &owed.lesson(usage));
        }
        let settled = owed.admitted.settle(usage, now);
        self.line.usage = settled.usage;
        self.line.units = settled.units;
        plane.metrics.count_usage(&settled.usage, settled.units);
    }
}

impl Owed {
    /// Whether the answer came to its own end, even if the connection did not.
    fn is_complete(&self) -> bool {
        self.answer.as_ref().is_some_and(|(_, meter)| meter.is_complete())
    }

    /// What of `usage` may be learnt: an output that the request or the quota capped says nothing of those that are not.
    fn lesson(&self, usage: Usage) -> Usage {
        let is_capped = self.admitted.facts().estimate.output_is_stated || self.admitted.clamp().is_some();
        Usage { output: if is_capped { 0 } else { usage.output }, ..usage }
    }

    /// What is to be charged for the answer as far as it came.
    fn usage(&self) -> Usage {
        let facts = self.admitted.facts();
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

impl Drop for Account {
    fn drop(&mut self) {
        if self.owed.is_some() {
            self.note_cut(CLIENT_GONE);
            self.settle(false);
        }
    }
}
