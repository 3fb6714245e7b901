//! Any request to the built-in backend, which a caller with a sandbox key reaches directly: an answer that can be read, the same
//! each time, and metered as what it says of itself.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use keyward::dialect::describe::{BodyInput, Described, describe};
use keyward::dialect::estimate::Estimator;
use keyward::dialect::meter::{Coding, Framing, Meter};
use keyward::policy::{DialectName, Endpoint};
use keyward::units::ModelName;
use keyward::upstream::sandbox::{Ask, End, Play, answer};

const PROMPT_TOKENS: u64 = 4_321;

/// The models a path may name.
const PATH_MODELS: [&str; 8] = [
    "gemini-2.5-flash",
    "sandbox-error-503",
    "sandbox-drip",
    "sandbox-no-usage",
    "sandbox-usage-absurd",
    "sandbox-cut",
    "sandbox-stream-error",
    "sandbox-empty",
];

/// Three bytes choose the call and gemini's model, the first line is the content type, the rest is the body.
pub fn check(input: &[u8]) {
    let [dialect, endpoint, path_model, rest @ ..] = input else { return };
    let dialect = DialectName::ALL[usize::from(*dialect) % DialectName::ALL.len()];
    let endpoint = Endpoint::ALL[usize::from(*endpoint) % Endpoint::ALL.len()];
    let Some(line_end) = rest.iter().position(|byte| *byte == b'\n') else { return };
    let (content_type, body) = (&rest[..line_end], Bytes::copy_from_slice(&rest[line_end + 1..]));
    let path_model = PATH_MODELS[usize::from(*path_model) % PATH_MODELS.len()];
    let path_model = ModelName::new(path_model).filter(|_| dialect == DialectName::Gemini);
    let path_stream = endpoint == Endpoint::StreamGenerateContent;
    let described = if endpoint.is_local() {
        None
    } else {
        let call = BodyInput {
            dialect,
            endpoint,
            path_model: path_model.as_ref(),
            path_stream,
            model_free: false,
            content_type: Some(content_type),
            body: &body,
        };
        describe(&call, &Estimator::new(512)).ok()
    };
    let facts = described.as_ref().map(|described| &described.facts);
    let model = facts.and_then(|facts| facts.model.as_ref()).map_or("gpt-4o", ModelName::as_str);
    let ask = Ask {
        dialect,
        endpoint,
        model,
        stream: facts.map_or(path_stream, |facts| facts.stream),
        sse: content_type.len() % 2 == 0,
        content_type: Some(content_type),
        body: &body,
        prompt_tokens: PROMPT_TOKENS,
    };
    let play = answer(&ask);
    let told = bytes(&play);
    assert_eq!(told, bytes(&answer(&ask)), "the same request, another answer");
    assert!(play.frames.iter().all(|frame| !frame.bytes.is_empty()));
    if play.end == End::Clean {
        can_be_read(&play, &told, model);
    }
    if let Some(described) = &described
        && !model.starts_with("sandbox-")
        && play.status.is_success()
    {
        is_metered(&ask, &play, described);
    }
}

fn bytes(play: &Play) -> Vec<u8> {
    play.frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()
}

fn content_type(play: &Play) -> &str {
    play.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn can_be_read(play: &Play, told: &[u8], model: &str) {
    match Framing::of(content_type(play)) {
        Framing::Json => {
            assert!(serde_json::from_slice::<serde_json::Value>(told).is_ok(), "an answer that is no JSON")
        }
        Framing::EventStream => {
            let text = std::str::from_utf8(told).expect("events are text");
            assert!(text.ends_with("\n\n") || text.ends_with("\r\n\r\n"), "a whole stream ends with a whole event");
            for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
                assert!(
                    data == "[DONE]" || serde_json::from_str::<serde_json::Value>(data).is_ok(),
                    "{data:?} of {model}"
                );
            }
        }
        Framing::Opaque => {}
    }
}

/// Generated text comes with its true usage, within what was asked for.
fn is_metered(ask: &Ask<'_>, play: &Play, described: &Described) {
    let is_text = match ask.dialect {
        DialectName::OpenAi | DialectName::Azure => {
            matches!(ask.endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses)
        }
        DialectName::Anthropic => ask.endpoint == Endpoint::Messages,
        DialectName::Gemini => matches!(ask.endpoint, Endpoint::GenerateContent | Endpoint::StreamGenerateContent),
    };
    if !is_text {
        return;
    }
    let mut meter = Meter::new(ask.dialect, ask.endpoint, Framing::of(content_type(play)), Coding::Identity, false);
    for frame in &play.frames {
        meter.push(frame.bytes.clone(), &mut drop);
    }
    meter.finish(&mut drop);
    assert!(meter.is_complete(), "a whole answer that does not look whole");
    let must_tell = !described.facts.stream || described.splices.asks_usage() || !described.splices.can_splice_usage();
    match meter.reported() {
        Some(usage) => {
            assert_eq!((usage.input, usage.estimated), (PROMPT_TOKENS, false));
            let estimate = &described.facts.estimate;
            assert!(!estimate.output_is_stated || usage.output <= estimate.output, "{usage:?} beyond {estimate:?}");
        }
        None => assert!(!must_tell, "an answer without usage"),
    }
}
