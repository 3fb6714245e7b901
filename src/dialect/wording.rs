//! The sentences refusals and faults are told in, shared by the dialects, and what a client may do about each: an SDK reads
//! the status, the class and the retry headers, a person the message. No sentence holds a secret or a name of ours inside.

mod key;
mod limit;
mod request;
pub(crate) mod times;

use std::borrow::Cow;

use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use serde::Serialize;

use crate::clock::NS_PER_SECOND;
use crate::dialect::{Answer, Notes};
use crate::headers::{Headers, Value};
use crate::policy::{CutReason, Fault, HeadFlaw, Refusal};

/// A client is told to wait only up to this long: SDKs sleep whatever they are told (ECOSYSTEM 2).
pub const LONGEST_WAIT_NS: u64 = 60 * NS_PER_SECOND;

/// What a caller waits where no moment can be known: until a request under way ends, until another process listens.
const SHORT_WAIT_NS: u64 = NS_PER_SECOND;

/// What kind of answer it is; each dialect has its own name for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request cannot be read or is not one of the API's.
    Request,
    /// The body is over the limit.
    TooLarge,
    /// The request did not arrive in time.
    TooSlow,
    /// No such call or model.
    NotFound,
    /// Not a key that works.
    Credential,
    /// A key that works, but not for this.
    Permission,
    /// A limit counted in requests.
    Requests,
    /// A limit counted in tokens.
    Tokens,
    /// The quota.
    Quota,
    /// The upstream cannot be reached or broke.
    UpstreamDown,
    /// The upstream did not answer in time.
    UpstreamSlow,
    /// The proxy takes no more work now.
    Busy,
    /// The proxy's own failure.
    Internal,
}

/// What a client is told about trying again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    /// `x-should-retry`; `None` leaves it to the SDK's own rule for the status.
    pub should: Option<bool>,
    /// From when on it is of use, nanoseconds; told only up to [`LONGEST_WAIT_NS`].
    pub after_ns: Option<u64>,
}

impl Retry {
    const NEVER: Self = Self { should: Some(false), after_ns: None };
    const UNSAID: Self = Self { should: None, after_ns: None };

    /// Worth it after `ns`. A wait too long to be told is also too long to be retried into: the SDK would come back at once.
    fn after(ns: u64) -> Self {
        Self { should: Some(ns <= LONGEST_WAIT_NS), after_ns: Some(ns) }
    }

    /// The wait, where it may be told.
    pub fn told_ns(self) -> Option<u64> {
        self.after_ns.filter(|ns| *ns <= LONGEST_WAIT_NS)
    }
}

/// A limit that refused, for the dialects that have a place for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitWords {
    /// Its name as a quota id (Gemini). A client that reads `PerDay` in one stops; one that reads `PerMinute` waits.
    pub id: &'static str,
    /// Its value.
    pub value: u64,
}

/// Everything there is to say about one refusal or fault, before a dialect gives it its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Its kind.
    pub class: Class,
    /// The HTTP status; a dialect may have another of its own for the class.
    pub status: StatusCode,
    /// A stable name for programs.
    pub code: &'static str,
    /// The sentence for people.
    pub message: Cow<'static, str>,
    /// The member of the request it is about.
    pub member: Option<&'static str>,
    /// Whether and when to try again.
    pub retry: Retry,
    /// The limit that refused.
    pub limit: Option<LimitWords>,
}

impl Words {
    fn new(class: Class, status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let retry = Retry::NEVER;
        Self { class, status, code, message: message.into(), member: None, retry, limit: None }
    }

    fn about(self, member: &'static str) -> Self {
        Self { member: Some(member), ..self }
    }

    fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

/// The words for a refusal. Exhaustive: a reason to say no that has no words does not compile.
pub fn refusal(refusal: &Refusal, notes: &Notes<'_>) -> Words {
    match refusal {
        Refusal::Head(flaw) => request::head(*flaw),
        Refusal::UnknownPath => request::unknown_path(),
        Refusal::MethodNotAllowed { allowed } => request::method_not_allowed(allowed),
        Refusal::InvalidKey => key::invalid(),
        Refusal::AmbiguousCredential => key::ambiguous(),
        Refusal::KeyDisabled => key::disabled(),
        Refusal::KeyExpired { at_unix_ms } => key::expired(*at_unix_ms),
        Refusal::GraceEnded { at_unix_ms } => key::grace_ended(*at_unix_ms),
        Refusal::TooManyAttempts { retry_after_ns } => key::too_many_attempts(*retry_after_ns),
        Refusal::AddressNotAllowed { address } => key::address_not_allowed(*address),
        Refusal::EndpointNotAllowed { endpoint } => key::endpoint_not_allowed(*endpoint),
        Refusal::ModelNotAllowed { model } => key::model_not_allowed(model.as_ref()),
        Refusal::ModelNotFound { model } => key::model_not_found(model.as_ref()),
        Refusal::BodyTooLarge { limit } => request::body_too_large(*limit),
        Refusal::Body(flaw) => request::body(flaw),
        Refusal::BodyTooSlow => request::too_slow("The body of the request came too slowly or stopped coming."),
        Refusal::EncodingNotSupported => request::encoding_not_supported(),
        Refusal::ContentTypeNotSupported { expected } => request::content_type_not_supported(expected),
        Refusal::QuotaSpent { limit, used, asked, resets_in_ns } => {
            limit::quota(&limit::Quota { limit: *limit, used: *used, asked: *asked }, *resets_in_ns, notes)
        }
        Refusal::TooManyParallel { limit } => limit::parallel(*limit),
        Refusal::TokensExceeded { limit, remaining, asked, retry_after_ns } => {
            limit::tokens(*limit, *remaining, *asked, *retry_after_ns)
        }
        Refusal::PromptOverTokenLimit { limit, asked } => limit::prompt(*limit, *asked),
        Refusal::RequestsExceeded { limit, retry_after_ns } => limit::requests(*limit, *retry_after_ns),
    }
}

/// The words for a fault.
pub fn fault(fault: Fault) -> Words {
    let (class, status, message) = match fault {
        Fault::UpstreamUnreachable => {
            (Class::UpstreamDown, StatusCode::BAD_GATEWAY, "The backend for this request cannot be reached.")
        }
        Fault::UpstreamBroken => {
            (Class::UpstreamDown, StatusCode::BAD_GATEWAY, "The backend broke off before it answered this request.")
        }
        Fault::UpstreamTimeout => {
            (Class::UpstreamSlow, StatusCode::GATEWAY_TIMEOUT, "The backend did not answer this request in time.")
        }
        Fault::UpstreamBusy { .. } => (
            Class::Busy,
            StatusCode::SERVICE_UNAVAILABLE,
            "The backends for this request have as much to do as they may. It was not forwarded; please try again shortly.",
        ),
        Fault::Overloaded { .. } => (
            Class::Busy,
            StatusCode::SERVICE_UNAVAILABLE,
            "The proxy is doing as much as it can. The request was not forwarded; please try again shortly.",
        ),
        Fault::Internal => (
            Class::Internal,
            StatusCode::INTERNAL_SERVER_ERROR,
            "The proxy failed to serve this request. Its log has the reason under the request id.",
        ),
    };
    let retry = match fault {
        Fault::Overloaded { retry_after_ns } | Fault::UpstreamBusy { retry_after_ns } => Retry::after(retry_after_ns),
        Fault::UpstreamUnreachable | Fault::UpstreamBroken | Fault::UpstreamTimeout | Fault::Internal => Retry::UNSAID,
    };
    Words::new(class, status, fault.as_str(), message).retry(retry)
}

/// The words for the end of a running stream. Its status is the one a new request would now get.
pub fn cut(reason: CutReason) -> Words {
    let (class, status, message) = match reason {
        CutReason::Disabled => {
            (Class::Credential, StatusCode::UNAUTHORIZED, "The stream was ended: its API key has been disabled.")
        }
        CutReason::Deleted => {
            (Class::Credential, StatusCode::UNAUTHORIZED, "The stream was ended: its API key has been deleted.")
        }
        CutReason::Expired => {
            (Class::Credential, StatusCode::UNAUTHORIZED, "The stream was ended: its API key has expired.")
        }
        CutReason::GraceEnded => (
            Class::Credential,
            StatusCode::UNAUTHORIZED,
            "The stream was ended: its API key has been rotated and the previous secret no longer works.",
        ),
        CutReason::Upstream => (
            Class::UpstreamDown,
            StatusCode::BAD_GATEWAY,
            "The stream was cut: the backend broke off in the middle of its answer.",
        ),
    };
    Words::new(class, status, reason.as_str(), message)
}

/// The answer that says `words` in `body`, with the headers every dialect has: the request id and what to do next.
pub(super) fn answer<T: Serialize>(words: &Words, id: (&HeaderName, &str), body: &T) -> Answer {
    let mut answer = Answer::json(words.status, body);
    let headers = &mut answer.headers;
    if let Some(value) = Value::of(id.1) {
        headers.insert(id.0, value);
    }
    if words.class == Class::Credential {
        // RFC 9110 15.5.2 asks for a challenge with every 401.
        headers.insert(WWW_AUTHENTICATE, Value::from_static("Bearer"));
    }
    retry_headers(words.retry, headers);
    answer
}

/// What a refusal's status asks for in headers beside the common ones (RFC 9110 15.5.6, 15.5.16 and 15.5.22).
pub(super) fn refusal_headers(refusal: &Refusal, headers: &mut Headers) {
    match refusal {
        Refusal::MethodNotAllowed { allowed } => {
            headers.insert(ALLOW, Value::from_static(allowed));
        }
        Refusal::EncodingNotSupported => {
            headers.insert(ACCEPT_ENCODING, Value::from_static("identity"));
        }
        // An authority is no resource, and has no method (RFC 9110 10.2.1).
        Refusal::Head(HeadFlaw::ConnectNotOffered) => {
            headers.insert(ALLOW, Value::from_static(""));
        }
        // RFC 6455 4.4 asks for the version that is spoken.
        Refusal::Head(HeadFlaw::WebsocketOnly) => {
            headers.insert(UPGRADE, Value::from_static("websocket"));
            headers.insert(CONNECTION, Value::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, Value::from_static("13"));
        }
        Refusal::Head(HeadFlaw::UpgradeNotOffered) => {
            headers.insert(UPGRADE, Value::from_static("HTTP/1.1"));
            headers.insert(CONNECTION, Value::from_static("upgrade"));
        }
        _ => {}
    }
}

fn retry_headers(retry: Retry, headers: &mut Headers) {
    if let Some(ns) = retry.told_ns() {
        // An SDK takes 0 for "not said".
        headers.insert_number(RETRY_AFTER, times::seconds(ns).max(1));
        headers.insert_number(HeaderName::from_static("retry-after-ms"), times::milliseconds(ns).max(1));
    }
    if let Some(should) = retry.should {
        let value = Value::from_static(if should { "true" } else { "false" });
        headers.insert(HeaderName::from_static("x-should-retry"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(retry: Retry) -> Vec<(String, String)> {
        let mut headers = Headers::new();
        retry_headers(retry, &mut headers);
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_wait_is_rounded_up_and_never_zero() {
        let short = [("retry-after", "2"), ("retry-after-ms", "1001"), ("x-should-retry", "true")];
        assert_eq!(told(Retry::after(1_000_000_001)), pairs(&short));
        let none = [("retry-after", "1"), ("retry-after-ms", "1"), ("x-should-retry", "true")];
        assert_eq!(told(Retry::after(0)), pairs(&none));
    }

    #[test]
    fn a_wait_over_a_minute_is_not_told_and_not_retried_into() {
        let last = [("retry-after", "60"), ("retry-after-ms", "60000"), ("x-should-retry", "true")];
        assert_eq!(told(Retry::after(LONGEST_WAIT_NS)), pairs(&last));
        assert_eq!(told(Retry::after(LONGEST_WAIT_NS + 1)), pairs(&[("x-should-retry", "false")]));
        assert_eq!(told(Retry::UNSAID), pairs(&[]));
    }
}
