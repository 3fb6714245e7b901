//! The four APIs callers speak: how a request is read, how its use is metered, and in what words it is refused.
//! Pure: bytes in, facts or bytes out.

pub mod anthropic;
pub mod azure;
pub mod credential;
pub mod describe;
pub mod estimate;
pub mod gemini;
pub mod json;
pub mod key_status;
pub mod meter;
pub mod models;
pub mod multipart;
pub mod openai;
pub mod realtime;
pub mod route;
pub mod sse;
pub mod token_usage;
pub mod websocket;
pub mod wording;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use serde::Serialize;

use crate::clock::Now;
use crate::headers::{Headers, Value};
pub use crate::policy::DialectName;
use crate::policy::{CutReason, Endpoint, Fault, Rates, Refusal};
use crate::units::ModelName;

/// Lines of most answers of our own, and bytes of them.
const ROOM: (usize, usize) = (12, 512);

/// An answer made by the proxy itself.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, `content-type` included; framing is added on the wire.
    pub headers: Headers,
    /// Its body, whole.
    pub body: Bytes,
}

impl Answer {
    /// A JSON answer of `status`, with no header but its type.
    pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Self {
        // Every body is a plain tree of strings and numbers, whose serialization cannot fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let mut headers = Headers::with_capacity(ROOM.0, ROOM.1);
        headers.insert(CONTENT_TYPE, Value::from_static("application/json"));
        Self { status, headers, body: body.into() }
    }
}

/// What an answer must know beside what went wrong.
#[derive(Debug, Clone, Copy)]
pub struct Notes<'a> {
    /// The request's id; put into the dialect's own header, and into Anthropic's bodies.
    pub request_id: &'a str,
    /// The moment of the answer, for naming resets.
    pub now: Now,
    /// The status of a spent quota: 429, or 402 where the operator prefers it.
    pub quota_status: StatusCode,
}

/// Which of a key's limits a rate-limit header tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
}

/// A model as `/v1/models` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// The name a client asks for.
    pub id: ModelName,
    /// The upstream that serves it.
    pub owned_by: Box<str>,
    /// Since when it is known, seconds since 1970.
    pub created_unix: i64,
}

/// One API's words. What is said is decided in [`wording`]; a dialect gives it the shape its SDKs read.
pub trait Dialect: Sync {
    /// Which.
    fn name(&self) -> DialectName;

    /// The answer to a refused request. It carries the request id.
    fn refusal(&self, refusal: &Refusal, notes: &Notes<'_>) -> Answer;

    /// The answer to a request that met an accident. It carries the request id.
    fn fault(&self, fault: Fault, notes: &Notes<'_>) -> Answer;

    /// The event that ends a running event stream with an error this API's SDKs raise. It stands after a whole event; nothing
    /// may follow it.
    fn cut_event(&self, endpoint: Endpoint, reason: CutReason) -> Bytes;

    /// Tells in `headers`, which have none of them, where the key stands in its rate limits (POLICY 4); nothing of a limit the key does not
    /// have.
    fn limit_headers(&self, rates: &Rates, now: Now, headers: &mut Headers);

    /// Whether `name`, in lower case, is one of an upstream's own rate-limit headers, and for which limit: it is passed on only when the
    /// key has no such limit.
    fn limit_header_kind(&self, name: &[u8]) -> Option<LimitKind>;

    /// The list of models.
    fn models(&self, models: &[ModelEntry]) -> Answer;

    /// One model of it.
    fn model(&self, model: &ModelEntry) -> Answer;

    /// The header that carries the request id, in answers and to upstreams.
    fn request_id_header(&self) -> &'static HeaderName;
}

/// The words of the dialect `name`.
pub fn of(name: DialectName) -> &'static dyn Dialect {
    match name {
        DialectName::OpenAi => &openai::OpenAi,
        DialectName::Anthropic => &anthropic::Anthropic,
        DialectName::Gemini => &gemini::Gemini,
        DialectName::Azure => &azure::Azure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Gauge;

    #[test]
    fn each_name_has_its_own_words() {
        for name in DialectName::ALL {
            assert_eq!(of(name).name(), name);
        }
    }

    #[test]
    fn what_is_told_of_a_limit_takes_the_place_of_what_an_upstream_says_of_it() {
        let gauge = Gauge { limit: 5, remaining: 3, reset_ns: 1 };
        let requests = Rates { requests: Some(gauge), ..Rates::default() };
        let tokens = Rates { tokens: Some(gauge), ..Rates::default() };
        let now = Now { monotonic_ns: 0, unix_ms: 0 };
        for words in DialectName::ALL.map(of) {
            for (rates, kind) in [(&requests, LimitKind::Requests), (&tokens, LimitKind::Tokens)] {
                let mut headers = Headers::new();
                words.limit_headers(rates, now, &mut headers);
                for name in headers.keys() {
                    assert_eq!(words.limit_header_kind(name.as_bytes()), Some(kind), "{name}");
                    assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
                }
            }
        }
    }
}
