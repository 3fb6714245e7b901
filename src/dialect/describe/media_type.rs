//! `Content-Type`: what a body claims to be, and whether that is the endpoint's own.

use crate::dialect::multipart::Boundary;
use crate::policy::{BodyFlaw, Endpoint, Refusal};

/// How a body is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object.
    Json,
    /// `multipart/form-data` with this boundary.
    Multipart(Boundary),
}

/// How the body of a call to `endpoint` is to be read.
///
/// # Errors
/// [`Refusal::ContentTypeNotSupported`] for a type that is not the endpoint's own, [`BodyFlaw::Multipart`] for a boundary
/// that parsers read differently.
pub(super) fn form(endpoint: Endpoint, content_type: Option<&[u8]>) -> Result<Form, Refusal> {
    let (takes_json, takes_forms) = match endpoint {
        Endpoint::ImageEdits => (true, true),
        Endpoint::ImageVariations | Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => (false, true),
        _ => (true, false),
    };
    let expected = match (takes_json, takes_forms) {
        (true, true) => "multipart/form-data or application/json",
        (false, _) => "multipart/form-data",
        (true, false) => "application/json",
    };
    let refused = Refusal::ContentTypeNotSupported { expected };
    let Some(value) = content_type else { return Err(refused) };
    let (essence, parameters) = split(value);
    if takes_json && essence.eq_ignore_ascii_case(b"application/json") {
        return if parameters_are_utf8(parameters) { Ok(Form::Json) } else { Err(refused) };
    }
    if takes_forms && essence.eq_ignore_ascii_case(b"multipart/form-data") {
        let boundary = Boundary::from_parameters(parameters);
        return boundary.map(Form::Multipart).map_err(|flaw: BodyFlaw| Refusal::Body(flaw));
    }
    Err(refused)
}

/// Whether the content is said to be JSON, of whatever kind.
pub(super) fn is_json(content_type: Option<&[u8]>) -> bool {
    content_type.is_some_and(|value| split(value).0.eq_ignore_ascii_case(b"application/json"))
}

/// The type itself, trimmed, and everything behind the first semicolon.
fn split(value: &[u8]) -> (&[u8], &[u8]) {
    let (essence, rest) = value.split_at(memchr::memchr(b';', value).unwrap_or(value.len()));
    (essence.trim_ascii(), rest.strip_prefix(b";").unwrap_or_default())
}

/// RFC 8259 knows no parameter; many clients send this one, and it changes nothing.
fn parameters_are_utf8(parameters: &[u8]) -> bool {
    parameters.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).all(|parameter| {
        parameter.is_empty()
            || [b"charset=utf-8".as_slice(), b"charset=\"utf-8\"", b"charset=utf8"]
                .iter()
                .any(|known| parameter.eq_ignore_ascii_case(known))
    })
}
