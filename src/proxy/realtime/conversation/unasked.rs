//! What a backend does of itself: it hears that somebody has finished speaking and answers, and has their words written down. It is charged; where the
//! limits do not cover it, it is told to leave off, and after a few in a row the connection ends: nothing else keeps it from going on for ever.

use std::sync::Arc;

use bytes::Bytes;

use super::{Conversation, Interrupt};
use crate::admission::{self, Admitted};
use crate::dialect::realtime::{self, Heard, Said};
use crate::policy::{Charge, Estimate, Refusal, RequestFacts, Usage};
use crate::proxy::plane::Live;
use crate::units::ModelName;

/// Calls in a row that nobody asked for and that the limits refuse, after which the connection ends: each was billed by the time it was heard of.
const MOST_BEYOND: u32 = 3;

impl Conversation {
    /// The backend began `response` of itself.
    pub(super) fn begin_unasked(&mut self, response: &str) -> Option<Interrupt> {
        let live = self.worker.live();
        let prompt = self.told.saturating_add(self.said.tokens());
        let facts = self.facts(Vec::new(), self.estimate(prompt, self.bound()));
        let plane = Arc::clone(&self.worker.plane);
        let now = plane.clock.now();
        let admitted = self.authorize(&live, &facts).and_then(|charge| {
            admission::admit_within(&self.open, facts.clone(), charge, &live.limits, &plane.clock, now)
        });
        match admitted {
            Ok(admitted) => {
                self.beyond = 0;
                self.begin(admitted, prompt, self.said, None);
                None
            }
            Err(refusal) => {
                let interrupt = self.interrupt(&refusal, Some(realtime::cancel(response)));
                let owed = self.owed(&live, facts, None);
                self.begin(owed, prompt, self.said, None);
                Some(interrupt)
            }
        }
    }

    fn interrupt(&mut self, refusal: &Refusal, cancel: Option<Bytes>) -> Interrupt {
        // Not for what it might come to, once: a limit that covers the least there can be is not used up, as far as is known.
        let is_known = self.turns.iter().all(|turn| turn.event.is_some());
        if !is_known || !self.covers_any() {
            self.beyond += 1;
        }
        self.count(refusal);
        Interrupt { cancel, error: self.words(refusal, None), is_last: self.beyond >= MOST_BEYOND }
    }

    /// Whether the limits cover the smallest of responses.
    fn covers_any(&self) -> bool {
        let live = self.worker.live();
        let least = Estimate { prompt: 1, output: 1, choices: 1, output_is_stated: true, least_output: 1 };
        let facts = self.facts(Vec::new(), least);
        let (plane, charge) = (&self.worker.plane, self.charge(&live, &facts, None));
        let now = plane.clock.now();
        let admitted = admission::admit_within(&self.open, facts, charge, &live.limits, &plane.clock, now);
        admitted.map(|admitted| admitted.undo(now)).is_ok()
    }

    /// Somebody's words were written down by another model, which reports for itself; where it does not, by what it heard and wrote.
    pub(super) fn transcribed(&mut self, usage: Option<&[u8]>, text: u64) -> Option<Interrupt> {
        let mut written = Heard::default();
        written.add(text, 0);
        let usage = usage.and_then(|usage| realtime::usage(usage, 0, written));
        let usage = usage.unwrap_or_else(|| written.usage(Said { text: 0, ..self.said }.tokens()));
        // An update that the backend refuses changes nothing: what it told counts.
        let scribe = self.told_scribe.clone().or_else(|| self.asked_scribe.clone());
        let live = self.worker.live();
        let Usage { input: prompt, output, .. } = usage;
        let facts = RequestFacts {
            model: Some(scribe.clone().unwrap_or_else(|| self.model.clone())),
            ..self.facts(Vec::new(), Estimate { prompt, output, choices: 1, output_is_stated: true, least_output: 1 })
        };
        let (plane, charge) = (Arc::clone(&self.worker.plane), self.charge(&live, &facts, scribe.as_ref()));
        let now = plane.clock.now();
        let admitted = admission::admit_within(&self.open, facts.clone(), charge, &live.limits, &plane.clock, now);
        let (admitted, interrupt) = match admitted {
            Ok(admitted) => {
                self.beyond = 0;
                (admitted, None)
            }
            Err(refusal) => {
                let interrupt = self.interrupt(&refusal, None);
                (self.owed(&live, facts, scribe.as_ref()), Some(interrupt))
            }
        };
        let mut account = self.account(&admitted);
        account.owe(admitted, None);
        account.charge(usage, None);
        interrupt
    }

    /// What a call that nobody asked for costs.
    fn charge(&self, live: &Live, facts: &RequestFacts, scribe: Option<&ModelName>) -> Charge {
        let caller = self.open.caller().refreshed();
        Charge {
            estimate: facts.estimate,
            price: self.price(live, scribe),
            bills_quota: !caller.policy().is_sandbox,
            can_clamp: false,
            least_output: 1,
        }
    }

    /// A call that cannot be refused any more, only charged.
    pub(super) fn owed(&self, live: &Live, facts: RequestFacts, scribe: Option<&ModelName>) -> Admitted {
        let charge = self.charge(live, &facts, scribe);
        let plane = &self.worker.plane;
        admission::owe_within(&self.open, facts, charge, &plane.clock, plane.clock.now())
    }
}
