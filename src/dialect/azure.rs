//! Azure OpenAI's words: OpenAI's, since the same SDK reads them, under Azure's name.

use bytes::Bytes;
use http::header::HeaderName;

use crate::clock::Now;
use crate::dialect::openai::OpenAi;
use crate::dialect::{Answer, Dialect, DialectName, LimitKind, ModelEntry, Notes};
use crate::policy::{CutReason, Endpoint, Fault, Rates, Refusal};

/// Azure OpenAI.
pub struct Azure;

impl Dialect for Azure {
    fn name(&self) -> DialectName {
        DialectName::Azure
    }

    fn refusal(&self, refusal: &Refusal, notes: &Notes<'_>) -> Answer {
        OpenAi.refusal(refusal, notes)
    }

    fn fault(&self, fault: Fault, notes: &Notes<'_>) -> Answer {
        OpenAi.fault(fault, notes)
    }

    fn cut_event(&self, endpoint: Endpoint, reason: CutReason) -> Bytes {
        OpenAi.cut_event(endpoint, reason)
    }

    fn tell_limits(&self, rates: &Rates, now: Now, tell: &mut dyn FnMut(&'static HeaderName, &[u8])) {
        OpenAi.tell_limits(rates, now, tell);
    }

    fn limit_header_kind(&self, name: &HeaderName) -> Option<LimitKind> {
        OpenAi.limit_header_kind(name)
    }

    fn models(&self, models: &[ModelEntry]) -> Answer {
        OpenAi.models(models)
    }

    fn model(&self, model: &ModelEntry) -> Answer {
        OpenAi.model(model)
    }

    fn request_id_header(&self) -> HeaderName {
        OpenAi.request_id_header()
    }
}
