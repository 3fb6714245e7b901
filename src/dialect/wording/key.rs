//! What is said of secrets that do not work, and of calls a key may not make.

use std::borrow::Cow;
use std::net::IpAddr;

use http::StatusCode;

use super::times::{decimal, rfc3339_of_past};
use super::{Class, Retry, Words};
use crate::policy::Endpoint;
use crate::units::ModelName;

/// A 401. Each sentence begins with the words by which clients tell a bad key from other errors (LiteLLM looks for them).
fn refused(code: &'static str, message: impl Into<Cow<'static, str>>) -> Words {
    Words::new(Class::Credential, StatusCode::UNAUTHORIZED, code, message)
}

/// A 403.
fn forbidden(code: &'static str, message: String) -> Words {
    Words::new(Class::Permission, StatusCode::FORBIDDEN, code, message)
}

/// No secret that is in the table. Nothing of what was offered is told, so every such answer has the same bytes.
pub(super) fn invalid() -> Words {
    refused(
        "invalid_api_key",
        "Incorrect API key provided. Check that it is whole, that it was issued for this service, and that it is sent as \
         `Authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`.",
    )
}

/// Two secrets, or one twice.
pub(super) fn ambiguous() -> Words {
    refused(
        "ambiguous_credential",
        "Incorrect API key provided: the request carries more than one. Send it once, in one place.",
    )
}

/// A key that was switched off.
pub(super) fn disabled() -> Words {
    refused(
        "invalid_api_key",
        "Incorrect API key provided: this key has been disabled. Only whoever issued it can enable it again.",
    )
}

/// A key past its end.
pub(super) fn expired(at_unix_ms: i64) -> Words {
    let at = rfc3339_of_past(at_unix_ms);
    refused(
        "invalid_api_key",
        format!("Incorrect API key provided: this key expired at {at}. Ask its issuer for a new one."),
    )
}

/// A previous secret after its grace.
pub(super) fn grace_ended(at_unix_ms: i64) -> Words {
    let at = rfc3339_of_past(at_unix_ms);
    refused(
        "invalid_api_key",
        format!(
            "Incorrect API key provided: this key was rotated, and its previous secret worked until {at}. Use the new one."
        ),
    )
}

/// Too many bad secrets from one address. A valid key is never met by this, so to try again with the same one is of no use.
pub(super) fn too_many_attempts(retry_after_ns: u64) -> Words {
    let message = format!(
        "Too many requests with an incorrect API key from this address. The next one is taken in {}; a valid key is not held up.",
        decimal(retry_after_ns)
    );
    Words::new(Class::Requests, StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message)
        .retry(Retry { should: Some(false), after_ns: Some(retry_after_ns) })
}

/// A key used from elsewhere.
pub(super) fn address_not_allowed(address: IpAddr) -> Words {
    forbidden("ip_not_allowed", format!("This API key may not be used from the address {address}."))
}

/// A call the key may not make.
pub(super) fn endpoint_not_allowed(endpoint: Endpoint) -> Words {
    forbidden("endpoint_not_allowed", format!("This API key may not call the endpoint `{}`.", endpoint.as_str()))
}

/// A model the key may not use, or a call that names none where the key has a list.
pub(super) fn model_not_allowed(model: Option<&ModelName>) -> Words {
    let message = match model {
        Some(model) => format!("This API key may not use the model `{model}`."),
        None => "This API key may use only certain models, and this call does not say which one it reaches.".to_owned(),
    };
    forbidden("model_not_allowed", message).about("model")
}

/// A model nothing serves.
pub(super) fn model_not_found(model: Option<&ModelName>) -> Words {
    let message = match model {
        Some(model) => format!("The model `{model}` does not exist, or no upstream serves it for this call."),
        None => "No upstream serves this call.".to_owned(),
    };
    Words::new(Class::NotFound, StatusCode::NOT_FOUND, "model_not_found", message).about("model")
}
