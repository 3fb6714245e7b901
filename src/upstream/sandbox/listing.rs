//! What a backend says of its models, and of paths that only it knows.

use serde_json::{Value, json};

use super::{CREATED, Play, Request};
use crate::policy::DialectName;

/// The list of models: the one that was asked for.
pub(super) fn models(request: &Request<'_>) -> Play {
    let one = describe(request);
    let id = request.ask.model;
    Play::json(&match request.ask.dialect {
        DialectName::OpenAi | DialectName::Azure => json!({ "object": "list", "data": [one] }),
        DialectName::Anthropic => json!({ "data": [one], "has_more": false, "first_id": id, "last_id": id }),
        DialectName::Gemini => json!({ "models": [one] }),
    })
}

/// One model.
pub(super) fn model(request: &Request<'_>) -> Play {
    Play::json(&describe(request))
}

/// A path listed by the operator: what came, in numbers.
pub(super) fn passthrough(request: &Request<'_>) -> Play {
    Play::json(&json!({ "object": "sandbox.passthrough", "id": request.id("pass-"), "bytes": request.ask.body.len() }))
}

fn describe(request: &Request<'_>) -> Value {
    let id = request.ask.model;
    match request.ask.dialect {
        DialectName::OpenAi | DialectName::Azure => {
            json!({ "id": id, "object": "model", "created": CREATED, "owned_by": "keyward" })
        }
        DialectName::Anthropic => {
            json!({ "id": id, "type": "model", "display_name": id, "created_at": "2025-01-01T00:00:00Z" })
        }
        DialectName::Gemini => json!({
            "name": format!("models/{id}"), "displayName": id,
            "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
        }),
    }
}
