//! OpenAI's words.

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use serde::Serialize;

use crate::clock::Now;
use crate::dialect::wording::{self, Class, Words, times};
use crate::dialect::{Answer, Dialect, DialectName, LimitKind, ModelEntry, Notes, models, realtime};
use crate::headers::{Headers, Value};
use crate::policy::{CutReason, Endpoint, Fault, Rates, Refusal};

/// OpenAI's HTTP API.
pub struct OpenAi;

impl Dialect for OpenAi {
    fn name(&self) -> DialectName {
        DialectName::OpenAi
    }

    fn refusal(&self, refusal: &Refusal, notes: &Notes<'_>) -> Answer {
        let mut answer = answer(&wording::refusal(refusal, notes), notes);
        wording::refusal_headers(refusal, &mut answer.headers);
        answer
    }

    fn fault(&self, fault: Fault, notes: &Notes<'_>) -> Answer {
        answer(&wording::fault(fault), notes)
    }

    fn cut_event(&self, endpoint: Endpoint, reason: CutReason) -> Bytes {
        let words = wording::cut(reason);
        match endpoint {
            Endpoint::Responses => event(Some("error"), &ResponsesError::of(&words)),
            Endpoint::Realtime => realtime::error(&words, None),
            _ => event(None, &Body { error: Error::of(&words) }),
        }
    }

    fn limit_headers(&self, rates: &Rates, _now: Now, headers: &mut Headers) {
        for ([limit, remaining, reset], gauge) in [(&REQUESTS, rates.requests), (&TOKENS, rates.tokens)] {
            let Some(gauge) = gauge else { continue };
            headers.append_number(limit, gauge.limit);
            headers.append_number(remaining, gauge.remaining);
            if let Some(span) = Value::from_bytes(times::go(gauge.reset_ns).as_bytes()) {
                headers.append(reset, span);
            }
        }
    }

    fn limit_header_kind(&self, name: &[u8]) -> Option<LimitKind> {
        let what = name.strip_prefix(b"x-ratelimit-")?;
        if what.ends_with(b"tokens") {
            return Some(LimitKind::Tokens);
        }
        // Compatible backends also send `x-ratelimit-limit` bare; theirs counts requests.
        let bare = matches!(what, b"limit" | b"remaining" | b"reset");
        (bare || what.ends_with(b"requests")).then_some(LimitKind::Requests)
    }

    fn models(&self, models: &[ModelEntry]) -> Answer {
        Answer::json(StatusCode::OK, &models::openai_list(models))
    }

    fn model(&self, model: &ModelEntry) -> Answer {
        Answer::json(StatusCode::OK, &models::openai_model(model))
    }

    fn request_id_header(&self) -> &'static HeaderName {
        &REQUEST_ID
    }
}

/// Where the request id stands.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// The SDKs choose the exception by status and read `error.message`, `type`, `param` and `code`.
#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
pub(super) struct Error<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'static str>,
    code: &'static str,
}

impl<'a> Error<'a> {
    pub(super) fn of(words: &'a Words) -> Self {
        let kind = match words.class {
            Class::Request | Class::TooLarge | Class::TooSlow | Class::NotFound | Class::Credential => {
                "invalid_request_error"
            }
            Class::Permission => "permission_error",
            Class::Requests => "requests",
            Class::Tokens => "tokens",
            Class::Quota => "insufficient_quota",
            Class::UpstreamDown | Class::UpstreamSlow | Class::Busy | Class::Internal => "server_error",
        };
        Self { message: &words.message, r#type: kind, param: words.member, code: words.code }
    }
}

/// The responses API's own error event, which its typed clients read, with the `error` member both SDKs raise on.
#[derive(Serialize)]
struct ResponsesError<'a> {
    r#type: &'static str,
    sequence_number: u64,
    code: &'static str,
    message: &'a str,
    param: Option<&'static str>,
    error: Error<'a>,
}

impl<'a> ResponsesError<'a> {
    fn of(words: &'a Words) -> Self {
        Self {
            r#type: "error",
            sequence_number: 0,
            code: words.code,
            message: &words.message,
            param: words.member,
            error: Error::of(words),
        }
    }
}

fn answer(words: &Words, notes: &Notes<'_>) -> Answer {
    wording::answer(words, (&REQUEST_ID, notes.request_id), &Body { error: Error::of(words) })
}

/// An event of `data`, and of `name` where it has one.
pub(super) fn event<T: Serialize>(name: Option<&str>, data: &T) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Gauge;

    const NOW: Now = Now { monotonic_ns: 0, unix_ms: 0 };

    #[test]
    fn only_limits_the_key_has_are_told() {
        let requests = Gauge { limit: 100, remaining: 99, reset_ns: 600_000_000 };
        let mut headers = Headers::new();
        OpenAi.limit_headers(&Rates { requests: Some(requests), ..Rates::default() }, NOW, &mut headers);
        assert_eq!(headers.len(), 3);
        assert_eq!(&headers["x-ratelimit-limit-requests"], "100");
        assert_eq!(&headers["x-ratelimit-remaining-requests"], "99");
        assert_eq!(&headers["x-ratelimit-reset-requests"], "600ms");
        let tokens = Gauge { limit: u64::MAX, remaining: 0, reset_ns: 359_000_000_001 };
        OpenAi.limit_headers(&Rates { tokens: Some(tokens), ..Rates::default() }, NOW, &mut headers);
        assert_eq!(&headers["x-ratelimit-limit-tokens"], "18446744073709551615");
        assert_eq!(&headers["x-ratelimit-reset-tokens"], "6m0s");
    }

    #[test]
    fn an_upstreams_own_limits_are_known_by_name() {
        for (name, kind) in [
            ("x-ratelimit-limit-requests", Some(LimitKind::Requests)),
            ("x-ratelimit-reset-tokens", Some(LimitKind::Tokens)),
            ("x-ratelimit-remaining-project-tokens", Some(LimitKind::Tokens)),
            ("x-ratelimit-remaining", Some(LimitKind::Requests)),
            ("x-ratelimit-policy", None),
            ("x-request-id", None),
            ("retry-after", None),
        ] {
            assert_eq!(OpenAi.limit_header_kind(name.as_bytes()), kind, "{name}");
        }
    }
}
