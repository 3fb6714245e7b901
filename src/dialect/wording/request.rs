//! What is said of requests that cannot be read or are no call of the API.

use http::StatusCode;

use super::{Class, Retry, Words};
use crate::policy::{BodyFlaw, HeadFlaw};

/// A flaw of the head.
pub(super) fn head(flaw: HeadFlaw) -> Words {
    let bad = |code, message: &'static str| Words::new(Class::Request, StatusCode::BAD_REQUEST, code, message);
    match flaw {
        HeadFlaw::Syntax => bad("malformed_request", "The request line or a header is not HTTP as RFC 9112 writes it."),
        HeadFlaw::Framing => bad(
            "malformed_request",
            "The length of the body is not told in exactly one way: a single decimal content-length, or transfer-encoding: chunked.",
        ),
        HeadFlaw::BodyNotExpected => bad("body_not_expected", "A request with this method has no body."),
        HeadFlaw::Host => bad(
            "invalid_host",
            "The request needs exactly one host header: a bare authority that agrees with the request target.",
        ),
        HeadFlaw::Path => bad(
            "invalid_path",
            "The path could be read in more than one way: doubled slashes, dot segments, backslashes, semicolons, encoded \
             delimiters and bytes outside of printable ASCII are refused.",
        ),
        HeadFlaw::Query => bad(
            "invalid_query",
            "The query holds a control or non-ASCII byte, a broken escape or a semicolon, or names a model.",
        ),
        // The one status on which Codex, which tries a websocket first, turns to plain HTTP without retrying.
        HeadFlaw::UpgradeNotOffered => Words {
            status: StatusCode::UPGRADE_REQUIRED,
            ..bad("upgrade_not_offered", "No protocol upgrade is offered here. Send the request over plain HTTP.")
        },
        HeadFlaw::WebsocketOnly => Words {
            status: StatusCode::UPGRADE_REQUIRED,
            ..bad("websocket_required", "This call is a websocket: GET with `upgrade: websocket` in version 13.")
        },
        HeadFlaw::Handshake => bad(
            "malformed_handshake",
            "The websocket's opening handshake is not as RFC 6455 writes it: `connection: Upgrade`, one `sec-websocket-key` of 16 \
             bytes, subprotocols each named once.",
        ),
        HeadFlaw::ConnectNotOffered => Words {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..bad("method_not_allowed", "CONNECT is not offered here: this is no tunnel.")
        },
        HeadFlaw::UriTooLong => {
            Words { status: StatusCode::URI_TOO_LONG, ..bad("uri_too_long", "The request target is too long.") }
        }
        HeadFlaw::HeadersTooLarge => Words {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ..bad("headers_too_large", "The request has too many headers, or one that is too long.")
        },
        HeadFlaw::Expectation => Words {
            status: StatusCode::EXPECTATION_FAILED,
            ..bad("expectation_failed", "The only expectation met here is 100-continue.")
        },
        HeadFlaw::TooSlow => too_slow("The head of the request did not arrive in time."),
    }
}

/// A flaw of the body.
pub(super) fn body(flaw: &BodyFlaw) -> Words {
    let bad = |code, message: String| Words::new(Class::Request, StatusCode::BAD_REQUEST, code, message);
    match flaw {
        BodyFlaw::Incomplete => bad("incomplete_body", "The body ended before it was whole.".to_owned()),
        BodyFlaw::NotUtf8 { offset } => {
            bad("invalid_json", format!("The body is not UTF-8 without a byte-order mark: see byte {offset}."))
        }
        BodyFlaw::Syntax { offset, expected } => {
            bad("invalid_json", format!("The body is not valid JSON: at byte {offset}, expected {expected}."))
        }
        BodyFlaw::NotAnObject => bad("invalid_json", "The body must be one JSON object.".to_owned()),
        BodyFlaw::TrailingBytes { offset } => {
            bad("invalid_json", format!("Nothing may follow the JSON object, but something does at byte {offset}."))
        }
        BodyFlaw::TooDeep => bad("invalid_json", "The body is nested deeper than 128 levels.".to_owned()),
        BodyFlaw::DuplicateMember { member } => {
            bad("duplicate_member", format!("`{member}` stands more than once in the body.")).about(member)
        }
        BodyFlaw::MisspelledMember { member } => bad(
            "misspelled_member",
            format!(
                "A member of the body is spelled so that some backends read it as `{member}`. Write it `{member}`."
            ),
        )
        .about(member),
        BodyFlaw::BadMember { member, expected } => {
            bad("invalid_value", format!("Invalid value for `{member}`: expected {expected}.")).about(member)
        }
        BodyFlaw::ModelMissing => {
            bad("missing_required_parameter", "You must provide a model parameter.".to_owned()).about("model")
        }
        BodyFlaw::ModelDisagrees => bad(
            "model_disagrees",
            "The request names two different models. Name one, or the same one twice.".to_owned(),
        )
        .about("model"),
        BodyFlaw::MemberNotAllowed { member } => bad(
            "member_not_allowed",
            format!("`{member}` is not allowed here: which backend serves a request is not the caller's choice."),
        )
        .about(member),
        BodyFlaw::Multipart { expected } => bad(
            "invalid_multipart",
            format!("The body is not multipart/form-data as RFC 7578 writes it: expected {expected}."),
        ),
    }
}

/// A path that is no call.
pub(super) fn unknown_path() -> Words {
    Words::new(
        Class::NotFound,
        StatusCode::NOT_FOUND,
        "unknown_url",
        "Invalid URL: no call of this API has this path. Paths are compared byte for byte; check the base URL.",
    )
}

/// A path that is a call with another method.
pub(super) fn method_not_allowed(allowed: &str) -> Words {
    let takes = if allowed.is_empty() { String::new() } else { format!(" It takes {allowed}.") };
    Words::new(
        Class::Request,
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_supported",
        format!("This path does not take this method.{takes}"),
    )
}

/// A body over the limit, bytes.
pub(super) fn body_too_large(limit: u64) -> Words {
    Words::new(
        Class::TooLarge,
        StatusCode::PAYLOAD_TOO_LARGE,
        "request_too_large",
        format!("The body is larger than the {limit} bytes this endpoint takes."),
    )
}

/// A compressed body.
pub(super) fn encoding_not_supported() -> Words {
    Words::new(
        Class::Request,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_content_encoding",
        "The body is compressed or otherwise encoded. Send it as it is, without content-encoding.",
    )
}

/// A body of another type than the endpoint's.
pub(super) fn content_type_not_supported(expected: &str) -> Words {
    Words::new(
        Class::Request,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_content_type",
        format!("The content-type is not this endpoint's own. Send {expected}."),
    )
}

/// A head or a body that did not arrive in time. Whether to try again is left to the SDK: the network may have been slow.
pub(super) fn too_slow(message: &'static str) -> Words {
    Words::new(Class::TooSlow, StatusCode::REQUEST_TIMEOUT, "request_timeout", message).retry(Retry::UNSAID)
}
