//! Azure OpenAI's words: OpenAI's, since the same SDK reads them, under Azure's name.

use bytes::Bytes;
use http::header::HeaderName;

use crate::clock::Now;
use crate::dialect::openai::OpenAi;
use crate::dialect::{Answer, Dialect, DialectName, LimitKind, ModelEntry, Notes};
use crate::headers::Headers;
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

    fn limit_headers(&self, rates: &Rates, now: Now, headers: &mut Headers) {
        OpenAi.limit_headers(rates, now, headers);
    }

    fn limit_header_kind(&self, name: &[u8]) -> Option<LimitKind> {
        OpenAi.limit_header_kind(name)
    }

    fn models(&self, models: &[ModelEntry]) -> Answer {
        OpenAi.models(models)
    }

    fn model(&self, model: &ModelEntry) -> Answer {
        OpenAi.model(model)
    }

    fn request_id_header(&self) -> &'static HeaderName {
        OpenAi.request_id_header()
    }
}
