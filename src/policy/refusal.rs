//! Every reason to say no, with its numbers. A refusal is a decision about the caller; an accident is a [`Fault`].
//! Words are given to it only in `dialect`, one exhaustive match each.
//!
//! [`Fault`]: crate::policy::Fault

use std::net::IpAddr;

use crate::policy::endpoint::Endpoint;
use crate::units::{ModelName, Tokens, Units};

/// Why a request is refused. Times are nanoseconds from now unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The head of the request breaks a rule of the edge (400, or the status that names the rule).
    Head(HeadFlaw),
    /// No route has this path (404).
    UnknownPath,
    /// The route does not know this method (405).
    MethodNotAllowed {
        /// For the `allow` header.
        allowed: &'static str,
    },
    /// No secret, one that is malformed, mistyped or in no table (401): one refusal, so one answer, to the byte.
    InvalidKey,
    /// Two secrets, or one twice (401 `ambiguous_credential`).
    AmbiguousCredential,
    /// A real secret of a key that an operator switched off (401).
    KeyDisabled,
    /// A real secret of a key past its end (401).
    KeyExpired {
        /// When it ended, milliseconds since 1970.
        at_unix_ms: i64,
    },
    /// The previous secret of a key, after its grace (401).
    GraceEnded {
        /// When it ended, milliseconds since 1970.
        at_unix_ms: i64,
    },
    /// Too many failed attempts from one address (429); a valid key is never met by this.
    TooManyAttempts {
        /// Until one more may be made.
        retry_after_ns: u64,
    },
    /// The key may not be used from here (403 `ip_not_allowed`).
    AddressNotAllowed {
        /// Where the request came from.
        address: IpAddr,
    },
    /// The body, or its declared length, is over the limit (413).
    BodyTooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The body cannot be read in the one way every backend would read it (400).
    Body(BodyFlaw),
    /// The body came too slowly or stopped coming (408).
    BodyTooSlow,
    /// A `content-encoding` other than identity (415).
    EncodingNotSupported,
    /// A `content-type` that is not the endpoint's own (415).
    ContentTypeNotSupported {
        /// What the endpoint takes.
        expected: &'static str,
    },
    /// The key may not make this call (403 `endpoint_not_allowed`).
    EndpointNotAllowed {
        /// The call.
        endpoint: Endpoint,
    },
    /// The key may not use this model (403 `model_not_allowed`); `None` where the call names none and the key has a list.
    ModelNotAllowed {
        /// As the client wrote it.
        model: Option<ModelName>,
    },
    /// No upstream serves this model in this dialect (404 `model_not_found`).
    ModelNotFound {
        /// As the client wrote it.
        model: Option<ModelName>,
    },
    /// The quota does not cover the request (429 or 402 `insufficient_quota`).
    QuotaSpent {
        /// Units of the period.
        limit: Units,
        /// Units used in it.
        used: Units,
        /// Units the request would reserve.
        asked: Units,
        /// When the period ends; `None` when it never does.
        resets_in_ns: Option<u64>,
    },
    /// As many requests as allowed are under way (429).
    TooManyParallel {
        /// Requests at once.
        limit: u32,
    },
    /// The minute's tokens do not cover the request (429).
    TokensExceeded {
        /// Tokens per minute.
        limit: Tokens,
        /// Tokens left now.
        remaining: Tokens,
        /// Tokens the request would reserve.
        asked: Tokens,
        /// Exactly until they would be there, if nothing else takes them.
        retry_after_ns: u64,
    },
    /// The prompt alone is larger than what a whole minute gives (429, and retrying does not help).
    PromptOverTokenLimit {
        /// Tokens per minute.
        limit: Tokens,
        /// The prompt's estimate.
        asked: Tokens,
    },
    /// The minute's requests are used up (429).
    RequestsExceeded {
        /// Requests per minute.
        limit: u32,
        /// Exactly until one more may be made.
        retry_after_ns: u64,
    },
}

impl Refusal {
    /// The name in logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Head(_) => "malformed_head",
            Self::UnknownPath => "unknown_path",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::InvalidKey => "invalid_key",
            Self::AmbiguousCredential => "ambiguous_credential",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired { .. } => "key_expired",
            Self::GraceEnded { .. } => "grace_ended",
            Self::TooManyAttempts { .. } => "too_many_attempts",
            Self::AddressNotAllowed { .. } => "ip_not_allowed",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Body(_) => "malformed_body",
            Self::BodyTooSlow => "body_too_slow",
            Self::EncodingNotSupported => "encoding_not_supported",
            Self::ContentTypeNotSupported { .. } => "content_type_not_supported",
            Self::EndpointNotAllowed { .. } => "endpoint_not_allowed",
            Self::ModelNotAllowed { .. } => "model_not_allowed",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::QuotaSpent { .. } => "insufficient_quota",
            Self::TooManyParallel { .. } => "max_parallel",
            Self::TokensExceeded { .. } => "tpm_limit",
            Self::PromptOverTokenLimit { .. } => "prompt_over_tpm_limit",
            Self::RequestsExceeded { .. } => "rpm_limit",
        }
    }
}

/// What is wrong with a request's head. The edge refuses, it never repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFlaw {
    /// The request line or a header field is not HTTP/1.1 as RFC 9112 writes it: bare CR or LF, NUL, folding, space before a colon.
    Syntax,
    /// Both lengths, a doubled or non-digit length, a transfer coding other than `chunked`, one with HTTP/1.0 (RFC 9112 6.1-6.3).
    Framing,
    /// A body with a method that has none.
    BodyNotExpected,
    /// Not exactly one `Host`, or one that is not a bare authority, or one that disagrees with the target (RFC 9112 3.2).
    Host,
    /// A path that some backend could read as another: doubled slash, dot segment, backslash, encoded delimiter, control.
    Path,
    /// A query with control or non-ASCII bytes, or naming the model a second time.
    Query,
    /// The target is longer than the limit (414).
    UriTooLong,
    /// More header bytes, more headers or a longer value than the limits (431).
    HeadersTooLarge,
    /// An `Upgrade` to a protocol that is not offered (426).
    UpgradeNotOffered,
    /// A call that is a websocket, without the handshake of one in version 13 (426).
    WebsocketOnly,
    /// A websocket's opening handshake that is not as RFC 6455 4.1 writes it.
    Handshake,
    /// CONNECT: there is no tunnel (405).
    ConnectNotOffered,
    /// An `Expect` other than `100-continue` (417).
    Expectation,
    /// The head did not arrive in time (408).
    TooSlow,
}

/// What is wrong with a body. `offset` is in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyFlaw {
    /// Its transfer ended or broke before it was whole.
    Incomplete,
    /// Not UTF-8, or a byte-order mark.
    NotUtf8 {
        /// Where.
        offset: usize,
    },
    /// Not JSON as RFC 8259 writes it.
    Syntax {
        /// Where.
        offset: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// JSON, but not one object.
    NotAnObject,
    /// Something after the object.
    TrailingBytes {
        /// Where.
        offset: usize,
    },
    /// Nested deeper than 128.
    TooDeep,
    /// A watched member stands twice.
    DuplicateMember {
        /// Its name.
        member: &'static str,
    },
    /// A watched member in another spelling (letter case, escapes, look-alikes) that some backend reads as the real one.
    MisspelledMember {
        /// The name it would be read as.
        member: &'static str,
    },
    /// A watched member of the wrong type or out of range.
    BadMember {
        /// Its name.
        member: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The call needs a model and none is named.
    ModelMissing,
    /// A model named in two places that do not agree.
    ModelDisagrees,
    /// A member that would let the backend pick another address or account.
    MemberNotAllowed {
        /// Its name.
        member: &'static str,
    },
    /// A form that is not multipart/form-data as RFC 7578 writes it, or one that parsers read differently.
    Multipart {
        /// What was expected.
        expected: &'static str,
    },
}
