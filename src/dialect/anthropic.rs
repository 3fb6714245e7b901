//! Anthropic's words.

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use serde::Serialize;

use crate::clock::Now;
use crate::dialect::openai::event;
use crate::dialect::wording::{self, Class, Words, times};
use crate::dialect::{Answer, Dialect, DialectName, LimitKind, ModelEntry, Notes, models};
use crate::headers::{Headers, Value};
use crate::policy::{CutReason, Endpoint, Fault, Rates, Refusal};

/// Anthropic's Messages API.
pub struct Anthropic;

impl Dialect for Anthropic {
    fn name(&self) -> DialectName {
        DialectName::Anthropic
    }

    fn refusal(&self, refusal: &Refusal, notes: &Notes<'_>) -> Answer {
        // The answer to an unknown secret has the same bytes every time; its request id stands in the header alone, which is
        // where the SDKs read it.
        let id = (*refusal != Refusal::InvalidKey).then_some(notes.request_id);
        let mut answer = answer(wording::refusal(refusal, notes), notes, id);
        wording::refusal_headers(refusal, &mut answer.headers);
        answer
    }

    fn fault(&self, fault: Fault, notes: &Notes<'_>) -> Answer {
        answer(wording::fault(fault), notes, Some(notes.request_id))
    }

    fn cut_event(&self, _endpoint: Endpoint, reason: CutReason) -> Bytes {
        let words = wording::cut(reason);
        event(
            Some("error"),
            &Body { error: Error { r#type: kind(&words, true), ..Error::of(&words) }, ..Body::of(&words) },
        )
    }

    fn limit_headers(&self, rates: &Rates, now: Now, headers: &mut Headers) {
        for ([limit, remaining, reset], gauge) in [(&REQUESTS, rates.requests), (&TOKENS, rates.tokens)] {
            let Some(gauge) = gauge else { continue };
            headers.append_number(limit, gauge.limit);
            headers.append_number(remaining, gauge.remaining);
            if let Some(moment) = Value::of(&times::rfc3339_in(now, gauge.reset_ns)) {
                headers.append(reset, moment);
            }
        }
    }

    fn limit_header_kind(&self, name: &[u8]) -> Option<LimitKind> {
        let what = name.strip_prefix(b"anthropic-ratelimit-").or_else(|| name.strip_prefix(b"anthropic-priority-"))?;
        // What is not counted in requests is counted in tokens: input, output, priority and unified (a subscription's) alike.
        Some(if what.starts_with(b"requests-") { LimitKind::Requests } else { LimitKind::Tokens })
    }

    fn models(&self, models: &[ModelEntry]) -> Answer {
        Answer::json(StatusCode::OK, &models::anthropic_list(models))
    }

    fn model(&self, model: &ModelEntry) -> Answer {
        Answer::json(StatusCode::OK, &models::anthropic_model(model))
    }

    fn request_id_header(&self) -> &'static HeaderName {
        &REQUEST_ID
    }
}

static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

static REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
static TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];

/// "Overloaded": a status of Anthropic's own.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// The SDKs choose the exception by status; programs branch on `error.type` and `error.details.error_code`.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    error: Error<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'static str,
    message: &'a str,
    details: Details,
}

#[derive(Serialize)]
struct Details {
    error_code: &'static str,
}

impl<'a> Body<'a> {
    fn of(words: &'a Words) -> Self {
        Self { r#type: "error", error: Error::of(words), request_id: None }
    }
}

impl<'a> Error<'a> {
    fn of(words: &'a Words) -> Self {
        Self { r#type: kind(words, false), message: &words.message, details: Details { error_code: words.code } }
    }
}

/// Anthropic's name for the class. `in_stream`: a broken backend is then an error of the answer, not a reason to call again.
fn kind(words: &Words, in_stream: bool) -> &'static str {
    match words.class {
        Class::Request => "invalid_request_error",
        Class::TooLarge => "request_too_large",
        Class::TooSlow | Class::UpstreamSlow => "timeout_error",
        Class::NotFound => "not_found_error",
        Class::Credential => "authentication_error",
        Class::Permission => "permission_error",
        Class::Quota if words.status == StatusCode::PAYMENT_REQUIRED => "billing_error",
        Class::Requests | Class::Tokens | Class::Quota => "rate_limit_error",
        Class::UpstreamDown if in_stream => "api_error",
        Class::UpstreamDown | Class::Busy => "overloaded_error",
        Class::Internal => "api_error",
    }
}

fn answer(mut words: Words, notes: &Notes<'_>, id_in_body: Option<&str>) -> Answer {
    if matches!(words.class, Class::UpstreamDown | Class::Busy) {
        words.status = overloaded();
    }
    let body = Body { request_id: id_in_body, ..Body::of(&words) };
    wording::answer(&words, (&REQUEST_ID, notes.request_id), &body)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::policy::Gauge;

    #[test]
    fn resets_are_moments_rounded_up() {
        let gauge = Gauge { limit: 10, remaining: 3, reset_ns: 1_500_000_000 };
        let mut headers = Headers::new();
        let rates = Rates { requests: Some(gauge), tokens: Some(gauge) };
        Anthropic.limit_headers(&rates, Now { monotonic_ns: 0, unix_ms: 1_767_225_600_000 }, &mut headers);
        assert_eq!(headers.len(), 6);
        assert_eq!(&headers["anthropic-ratelimit-requests-limit"], "10");
        assert_eq!(&headers["anthropic-ratelimit-tokens-remaining"], "3");
        assert_eq!(&headers["anthropic-ratelimit-tokens-reset"], "2026-01-01T00:00:02Z");
    }

    #[test]
    fn an_upstreams_own_limits_are_known_by_name() {
        for (name, kind) in [
            ("anthropic-ratelimit-requests-limit", Some(LimitKind::Requests)),
            ("anthropic-ratelimit-tokens-reset", Some(LimitKind::Tokens)),
            ("anthropic-ratelimit-input-tokens-remaining", Some(LimitKind::Tokens)),
            ("anthropic-priority-output-tokens-limit", Some(LimitKind::Tokens)),
            ("anthropic-ratelimit-unified-status", Some(LimitKind::Tokens)),
            ("anthropic-organization-id", None),
            ("request-id", None),
        ] {
            assert_eq!(Anthropic.limit_header_kind(name.as_bytes()), kind, "{name}");
        }
    }
}
