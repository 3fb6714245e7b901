//! Any body at any endpoint: whatever is accepted is JSON to others too, who find the same model in it, and stays what it was
//! but for what was asked to be changed.

use bytes::Bytes;
use keyward::dialect::describe::{BodyInput, Described, Edits, describe};
use keyward::dialect::estimate::Estimator;
use keyward::policy::{DialectName, Endpoint};
use keyward::units::ModelName;
use serde_json::Value;

/// Every change at once, each alone, and none.
const EDITS: [Edits<'static>; 5] = [
    Edits { model: Some("m"), output: Some(7), include_usage: true },
    Edits { model: Some("another/model:1"), output: None, include_usage: false },
    Edits { model: None, output: Some(7), include_usage: false },
    Edits { model: None, output: None, include_usage: true },
    Edits { model: None, output: None, include_usage: false },
];

/// What an edit may touch; everything else must come out as it went in.
const EDITABLE: [&str; 9] = [
    "model",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "stream_options",
    "generationConfig",
    "generation_config",
    "requests",
    "generateContentRequest",
];

/// The first two bytes choose the call (the highest bit of the first: with a model in the path), the rest is the body.
pub fn check(input: &[u8]) {
    let [dialect, endpoint, body @ ..] = input else { return };
    let has_path_model = dialect & 0x80 != 0;
    let dialect = DialectName::ALL[usize::from(dialect & 0x7f) % DialectName::ALL.len()];
    let endpoint = Endpoint::ALL[usize::from(*endpoint) % Endpoint::ALL.len()];
    if endpoint.is_local() {
        return;
    }
    let path_model = ModelName::new("m").filter(|_| has_path_model || dialect == DialectName::Gemini);
    let body = Bytes::copy_from_slice(body);
    let estimator = Estimator::new(512);
    let read = |body: &Bytes, path_model: Option<&ModelName>| {
        let content_type = Some(&b"application/json"[..]);
        let call =
            BodyInput { dialect, endpoint, path_model, path_stream: false, model_free: false, content_type, body };
        describe(&call, &estimator)
    };
    let Ok(described) = read(&body, path_model.as_ref()) else { return };
    if endpoint == Endpoint::Passthrough && body.is_empty() {
        return; // the operator's own paths may be read, and a GET has no body
    }
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok(), "accepted, but not JSON");
    // Others cannot hold a number of a thousand digits, or stop at a depth of 127; they refuse such a body and read nothing else.
    let tree = serde_json::from_slice::<Value>(&body).ok();
    if let Some(tree) = &tree {
        same_reading(tree, &described, path_model.as_ref());
    }
    for edits in &EDITS {
        let edited = described.splices.render(&body, edits);
        let renamed = edits.model.and_then(ModelName::new).filter(|_| path_model.is_some());
        let again =
            read(&edited, renamed.as_ref().or(path_model.as_ref())).expect("an edited body is as sound as before");
        assert_eq!(again.splices.render(&edited, edits), edited, "a second edit changes nothing");
        if *edits == EDITS[4] {
            assert_eq!(edited, body, "nothing asked for, nothing changed");
        }
        made(edits, &described, &again, endpoint);
        if let Some(tree) = &tree {
            let edited: Value = serde_json::from_slice(&edited).expect("an edited body is JSON");
            same_but_for_edits(tree, &edited);
            assert!(!described.splices.can_splice_usage() || !edits.include_usage || asks_usage(&edited));
        }
    }
}

/// A plain parser, and one that does not mind how names are written, find the model that was found.
fn same_reading(tree: &Value, described: &Described, path_model: Option<&ModelName>) {
    let object = tree.as_object().expect("one object");
    for name in object.keys().filter(|name| name.eq_ignore_ascii_case("model")) {
        assert_eq!(name, "model", "a name that some parsers take for another one");
    }
    let dialect = described.facts.dialect;
    let written = object.get("model").and_then(Value::as_str).map(|name| match dialect {
        DialectName::Gemini => name.strip_prefix("models/").unwrap_or(name),
        _ => name,
    });
    let model = described.facts.model.as_ref().map(ModelName::as_str);
    match (written, path_model) {
        (Some(written), _) => assert_eq!(model, Some(written)),
        (None, Some(path)) => assert_eq!(model, Some(path.as_str())),
        (None, None) => assert_eq!(model, None),
    }
    if dialect != DialectName::Gemini {
        assert_eq!(described.facts.stream, object.get("stream") == Some(&Value::Bool(true)));
    }
}

/// What was asked to be changed is changed, as the facts have it.
fn made(edits: &Edits<'_>, before: &Described, after: &Described, endpoint: Endpoint) {
    if let (Some(model), Some(_)) = (edits.model, &before.facts.model) {
        assert_eq!(after.facts.model.as_ref().map(ModelName::as_str), Some(model));
    } else {
        assert_eq!(after.facts.model, before.facts.model);
    }
    assert_eq!(after.facts.stream, before.facts.stream);
    assert_eq!(after.facts.other_models, before.facts.other_models);
    assert_eq!(after.facts.estimate.choices, before.facts.estimate.choices);
    let estimate = &after.facts.estimate;
    if let Some(most) = edits.output.filter(|_| endpoint.has_output()) {
        assert!(estimate.output <= most * estimate.choices || !estimate.output_is_stated);
    }
    if edits.include_usage && before.splices.can_splice_usage() {
        assert!(after.splices.asks_usage() && !after.splices.can_splice_usage());
    }
}

fn same_but_for_edits(before: &Value, after: &Value) {
    let rest = |tree: &Value| {
        let mut members = tree.as_object().cloned().unwrap_or_default();
        members.retain(|name, _| !EDITABLE.contains(&name.as_str()));
        members
    };
    assert_eq!(rest(before), rest(after), "an edit reached another member");
    for options in ["stream_options", "generationConfig", "generation_config"] {
        let inside = |tree: &Value| {
            let mut members = tree.get(options).and_then(Value::as_object).cloned().unwrap_or_default();
            members
                .retain(|name, _| !["include_usage", "maxOutputTokens", "max_output_tokens"].contains(&name.as_str()));
            members
        };
        assert_eq!(inside(before), inside(after), "an edit reached another option");
    }
}

fn asks_usage(tree: &Value) -> bool {
    tree.pointer("/stream_options/include_usage") == Some(&Value::Bool(true))
}
