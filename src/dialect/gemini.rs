//! Gemini's words: google.rpc.Status as JSON, with the details Google's clients look for.

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use serde::Serialize;

use crate::clock::Now;
use crate::dialect::openai::REQUEST_ID;
use crate::dialect::wording::{self, Class, LimitWords, Words, times};
use crate::dialect::{Answer, Dialect, DialectName, LimitKind, ModelEntry, Notes, models};
use crate::headers::Headers;
use crate::policy::{CutReason, Endpoint, Fault, Rates, Refusal};

/// Google's Gemini API.
pub struct Gemini;

impl Dialect for Gemini {
    fn name(&self) -> DialectName {
        DialectName::Gemini
    }

    fn refusal(&self, refusal: &Refusal, notes: &Notes<'_>) -> Answer {
        let mut answer = answer(wording::refusal(refusal, notes), notes);
        wording::refusal_headers(refusal, &mut answer.headers);
        answer
    }

    fn fault(&self, fault: Fault, notes: &Notes<'_>) -> Answer {
        answer(wording::fault(fault), notes)
    }

    fn cut_event(&self, _endpoint: Endpoint, reason: CutReason) -> Bytes {
        let words = with_own_status(wording::cut(reason));
        let data = serde_json::to_string(&Body { error: Status::of(&words) }).unwrap_or_default();
        Bytes::from(format!("data: {data}\r\n\r\n"))
    }

    /// Gemini has no such headers; a refusal carries `RetryInfo` instead.
    fn limit_headers(&self, _rates: &Rates, _now: Now, _headers: &mut Headers) {}

    fn limit_header_kind(&self, _name: &[u8]) -> Option<LimitKind> {
        None
    }

    fn models(&self, models: &[ModelEntry]) -> Answer {
        Answer::json(StatusCode::OK, &models::gemini_list(models))
    }

    fn model(&self, model: &ModelEntry) -> Answer {
        Answer::json(StatusCode::OK, &models::gemini_model(model))
    }

    fn request_id_header(&self) -> &'static HeaderName {
        &REQUEST_ID
    }
}

/// The python SDK knows an error in a stream by `error` being the first member.
#[derive(Serialize)]
struct Body<'a> {
    error: Status<'a>,
}

/// google.rpc.Status; `code` is the HTTP status, as Google's JSON has it.
#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'a> {
    /// Our code for the case, in Google's spelling.
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo { reason: String, domain: &'static str },
    #[serde(rename = "type.googleapis.com/google.rpc.QuotaFailure")]
    QuotaFailure { violations: [Violation<'a>; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo")]
    RetryInfo {
        #[serde(rename = "retryDelay")]
        retry_delay: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Violation<'a> {
    quota_metric: &'static str,
    quota_id: &'static str,
    /// A 64-bit number, which protobuf's JSON writes as a string.
    quota_value: String,
    description: &'a str,
}

impl<'a> Status<'a> {
    fn of(words: &'a Words) -> Self {
        let mut details = vec![Detail::ErrorInfo { reason: words.code.to_ascii_uppercase(), domain: "keyward" }];
        if let Some(LimitWords { id, value }) = words.limit {
            let quota_metric = match words.class {
                Class::Tokens => "keyward/tokens",
                Class::Quota => "keyward/units",
                _ => "keyward/requests",
            };
            let violation =
                Violation { quota_metric, quota_id: id, quota_value: value.to_string(), description: &words.message };
            details.push(Detail::QuotaFailure { violations: [violation] });
        }
        if let Some(ns) = words.retry.told_ns() {
            details.push(Detail::RetryInfo { retry_delay: times::decimal(ns.max(1)) });
        }
        Self { code: words.status.as_u16(), message: &words.message, status: status_name(words.class), details }
    }
}

fn status_name(class: Class) -> &'static str {
    match class {
        Class::Request | Class::TooLarge => "INVALID_ARGUMENT",
        Class::TooSlow | Class::UpstreamSlow => "DEADLINE_EXCEEDED",
        Class::NotFound => "NOT_FOUND",
        Class::Credential => "UNAUTHENTICATED",
        Class::Permission => "PERMISSION_DENIED",
        Class::Requests | Class::Tokens | Class::Quota => "RESOURCE_EXHAUSTED",
        Class::UpstreamDown | Class::Busy => "UNAVAILABLE",
        Class::Internal => "INTERNAL",
    }
}

/// UNAVAILABLE is always 503 with Google.
fn with_own_status(words: Words) -> Words {
    match words.class {
        Class::UpstreamDown => Words { status: StatusCode::SERVICE_UNAVAILABLE, ..words },
        _ => words,
    }
}

fn answer(words: Words, notes: &Notes<'_>) -> Answer {
    let words = with_own_status(words);
    wording::answer(&words, (&REQUEST_ID, notes.request_id), &Body { error: Status::of(&words) })
}
