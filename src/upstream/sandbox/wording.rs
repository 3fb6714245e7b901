//! The sandbox's errors, in the words and shapes of the backend it stands for.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{Ask, Play, data, named};
use crate::policy::{DialectName, Endpoint};

/// An error answer.
pub(super) fn error(dialect: DialectName, status: StatusCode, message: &str) -> Play {
    let mut play = Play::json(&body(dialect, status, message));
    play.status = status;
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        play.headers.insert(header::RETRY_AFTER, &HeaderValue::from_static("1"));
    }
    play
}

/// An error in the middle of a stream, or as its only event.
pub(super) fn stream_error(ask: &Ask<'_>, message: &str, is_first: bool) -> Bytes {
    let body = body(ask.dialect, StatusCode::INTERNAL_SERVER_ERROR, message);
    match ask.endpoint {
        Endpoint::Messages => named("error", &body),
        Endpoint::Responses => {
            let event = json!({ "type": "error", "code": "server_error", "message": message, "param": null, "sequence_number": 0 });
            named("error", &event)
        }
        Endpoint::StreamGenerateContent if !ask.sse => {
            let before = if is_first { "[" } else { ",\r\n" };
            format!("{before}{body}]").into()
        }
        _ => data(&body),
    }
}

fn body(dialect: DialectName, status: StatusCode, message: &str) -> Value {
    let status = status.as_u16();
    match dialect {
        DialectName::OpenAi | DialectName::Azure => {
            let (kind, code) = openai_kind(status);
            json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
        }
        DialectName::Anthropic => json!({
            "type": "error",
            "error": { "type": anthropic_kind(status), "message": message },
            "request_id": null,
        }),
        DialectName::Gemini => {
            json!({ "error": { "code": status, "message": message, "status": gemini_status(status) } })
        }
    }
}

fn openai_kind(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("permission_error", None),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", None),
        _ => ("server_error", None),
    }
}

fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

fn gemini_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        400..=498 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}
