//! Any body at any endpoint: no panic; whatever is accepted is JSON to others too, and stays what it was when edited.
#![no_main]

use bytes::Bytes;
use keyward::dialect::describe::{BodyInput, Edits, describe};
use keyward::dialect::estimate::Estimator;
use keyward::policy::{DialectName, Endpoint};
use keyward::units::ModelName;
use libfuzzer_sys::fuzz_target;

// The first two bytes choose the call, the rest is the body.
fuzz_target!(|input: &[u8]| {
    let [dialect, endpoint, body @ ..] = input else { return };
    let dialect = DialectName::ALL[usize::from(*dialect) % DialectName::ALL.len()];
    let endpoint = Endpoint::ALL[usize::from(*endpoint) % Endpoint::ALL.len()];
    let body = Bytes::copy_from_slice(body);
    let path_model = ModelName::new("m").filter(|_| dialect == DialectName::Gemini);
    let is_form = body.starts_with(b"--b");
    let content_type: &[u8] = if is_form { b"multipart/form-data; boundary=b" } else { b"application/json" };
    let call = |body| BodyInput {
        dialect,
        endpoint,
        path_model: path_model.as_ref(),
        path_stream: false,
        model_free: false,
        content_type: Some(content_type),
        body,
    };
    let estimator = Estimator::new(512);
    let Ok(described) = describe(&call(&body), &estimator) else { return };
    if !is_form {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok(), "accepted, but not JSON");
    }
    let edits = Edits { model: Some("m"), output: Some(7), include_usage: true };
    let edited = described.splices.render(&body, &edits);
    let again = describe(&call(&edited), &estimator).expect("an edited body is as sound as before");
    assert_eq!(again.splices.render(&edited, &edits), edited, "a second edit changes nothing");
    if endpoint.has_output() {
        assert!(again.facts.estimate.output <= 7 * again.facts.estimate.choices || !again.facts.estimate.output_is_stated);
    }
});
