//! Answers parsed back: the shape of each endpoint, streams against whole answers, misbehaviour, hostile bodies.

use proptest::prelude::*;
use serde_json::json;

use super::*;

mod shapes;
mod streams;

const PROMPT: Tokens = 17;

/// The dialect that an endpoint is asked in.
fn dialect_of(endpoint: Endpoint) -> DialectName {
    match endpoint {
        Endpoint::Messages | Endpoint::CountTokens => DialectName::Anthropic,
        Endpoint::GenerateContent
        | Endpoint::StreamGenerateContent
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents
        | Endpoint::GeminiCountTokens => DialectName::Gemini,
        _ => DialectName::OpenAi,
    }
}

fn play(endpoint: Endpoint, model: &str, body: &Value) -> Play {
    let streams = endpoint == Endpoint::StreamGenerateContent;
    let body = body.to_string();
    let stream = streams || body.contains("\"stream\":true");
    answer(&Ask {
        dialect: dialect_of(endpoint),
        endpoint,
        model,
        stream,
        sse: true,
        content_type: Some(b"application/json"),
        body: body.as_bytes(),
        prompt_tokens: PROMPT,
    })
}

/// The whole answer of a request that goes well.
fn json_of(endpoint: Endpoint, body: &Value) -> Value {
    let play = play(endpoint, "gpt-4o", body);
    assert_eq!((play.status, play.end), (StatusCode::OK, End::Clean), "{endpoint:?}");
    assert_eq!(&play.headers[header::CONTENT_TYPE], "application/json");
    serde_json::from_slice(&play.body()).unwrap()
}

/// The data of every event, `[DONE]` aside; and that each event is a frame, and named as its data says.
fn events_of(play: &Play) -> Vec<Value> {
    assert!(play.headers[header::CONTENT_TYPE].starts_with("text/event-stream"));
    let texts = play.frames.iter().map(|frame| std::str::from_utf8(&frame.bytes).unwrap());
    texts
        .filter(|text| *text != "data: [DONE]\n\n")
        .map(|text| {
            let text = text.strip_suffix("\n\n").or_else(|| text.strip_suffix("\r\n\r\n")).unwrap();
            let (name, data) = match text.strip_prefix("event: ") {
                Some(rest) => rest.split_once("\ndata: ").map(|(name, data)| (Some(name), data)).unwrap(),
                None => (None, text.strip_prefix("data: ").unwrap()),
            };
            let data: Value = serde_json::from_str(data).unwrap();
            if let Some(name) = name {
                assert_eq!(data["type"], name);
            }
            data
        })
        .collect()
}

/// A body that each endpoint answers with text, vectors, images or judgement.
fn body_for(endpoint: Endpoint) -> Value {
    match endpoint {
        Endpoint::Completions => json!({ "prompt": "hello there" }),
        Endpoint::Responses | Endpoint::Embeddings | Endpoint::Moderations | Endpoint::AudioSpeech => {
            json!({ "input": "hello there", "dimensions": 8 })
        }
        Endpoint::ImageGenerations => json!({ "prompt": "a cat" }),
        Endpoint::Rerank => json!({ "query": "a b", "documents": ["x", "a b"] }),
        Endpoint::BatchEmbedContents => json!({ "requests": [{ "content": { "parts": [{ "text": "hello" }] } }] }),
        Endpoint::EmbedContent => json!({ "content": { "parts": [{ "text": "hello" }] } }),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent | Endpoint::GeminiCountTokens => {
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello there" }] }] })
        }
        _ => json!({ "max_tokens": 64, "messages": [{ "role": "user", "content": "hello there" }] }),
    }
}

#[test]
fn the_same_request_gets_the_same_bytes_and_another_does_not() {
    for endpoint in Endpoint::ALL {
        let body = body_for(endpoint);
        let (one, two) = (play(endpoint, "gpt-4o", &body), play(endpoint, "gpt-4o", &body));
        assert_eq!(one.frames, two.frames, "{endpoint:?}");
    }
    let other = json!({ "messages": [{ "role": "user", "content": "good bye" }] });
    let ids = [body_for(Endpoint::ChatCompletions), other]
        .map(|body| json_of(Endpoint::ChatCompletions, &body)["id"].clone());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_error_comes_in_the_words_of_the_dialect() {
    for (endpoint, pointer, expected) in [
        (Endpoint::ChatCompletions, "/error/code", "rate_limit_exceeded"),
        (Endpoint::Messages, "/error/type", "rate_limit_error"),
        (Endpoint::GenerateContent, "/error/status", "RESOURCE_EXHAUSTED"),
    ] {
        let play = play(endpoint, "sandbox-error-429", &body_for(endpoint));
        assert_eq!(play.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(&play.headers[header::RETRY_AFTER], "1");
        let body: Value = serde_json::from_slice(&play.body()).unwrap();
        assert_eq!(body.pointer(pointer), Some(&json!(expected)), "{body}");
    }
}

#[test]
fn what_misbehaves_misbehaves_as_its_name_says() {
    let chat = |model: &str, stream: bool| {
        let mut body = body_for(Endpoint::ChatCompletions);
        body["stream"] = json!(stream);
        play(Endpoint::ChatCompletions, model, &body)
    };
    let (good, good_stream) = (chat("gpt-4o", false), chat("gpt-4o", true));
    for (model, end) in [("sandbox-cut", End::Cut), ("sandbox-stall", End::Hang)] {
        let (whole, stream) = (chat(model, false), chat(model, true));
        assert_eq!((whole.end, stream.end), (end, end));
        assert!(serde_json::from_slice::<Value>(&whole.body()).is_err() && !whole.frames.is_empty());
        assert_eq!(stream.frames.len(), good_stream.frames.len() / 2);
    }
    let hang = chat("sandbox-hang", true);
    assert!(hang.frames.is_empty() && hang.end == End::Hang);
    let waits: Vec<u128> = chat("sandbox-slow", true).frames.iter().map(|frame| frame.after.as_millis()).collect();
    assert_eq!((waits[0], waits[1], waits.len()), (1_000, 100, good_stream.frames.len()));
    let drip = chat("sandbox-drip", false);
    assert!(drip.frames.iter().all(|frame| frame.bytes.len() == 1));
    assert_eq!(drip.body().len(), good.body().len() + "sandbox-drip".len() - "gpt-4o".len());
    let failed = chat("sandbox-stream-error", true);
    assert_eq!(failed.end, End::Clean);
    assert_eq!(events_of(&failed).last().unwrap()["error"]["type"], "server_error");
    assert_eq!(chat("sandbox-stream-error", false).status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(serde_json::from_slice::<Value>(&chat("sandbox-not-json", false).body()).is_err());
    let empty: Value = serde_json::from_slice(&chat("sandbox-empty", false).body()).unwrap();
    assert_eq!(
        (&empty["choices"][0]["message"]["content"], &empty["usage"]["completion_tokens"]),
        (&json!(""), &json!(0))
    );
}

#[test]
fn a_long_answer_is_ten_thousand_events_unless_the_request_allows_fewer() {
    let body = json!({ "stream": true, "messages": [] });
    // The role, the end and [DONE] beside the words.
    assert_eq!(play(Endpoint::ChatCompletions, "sandbox-long", &body).frames.len(), 10_003);
    let short = json!({ "stream": true, "max_tokens": 5, "messages": [] });
    assert_eq!(play(Endpoint::ChatCompletions, "sandbox-long", &short).frames.len(), 8);
}

#[test]
fn no_usage_is_nowhere_and_absurd_usage_is_absurd() {
    for endpoint in
        Endpoint::ALL.into_iter().filter(|endpoint| endpoint.has_output() && *endpoint != Endpoint::Realtime)
    {
        for stream in [false, true] {
            let mut body = body_for(endpoint);
            body["stream"] = json!(stream);
            body["stream_options"] = json!({ "include_usage": true });
            let none = play(endpoint, "sandbox-no-usage", &body).body();
            let none = String::from_utf8(none).unwrap().replace("\"usage\":null", "");
            assert!(!none.contains("\"usage\"") && !none.contains("usageMetadata"), "{endpoint:?}: {none}");
            let absurd = String::from_utf8(play(endpoint, "sandbox-usage-absurd", &body).body()).unwrap();
            assert!(absurd.contains("4611686018427387904") && absurd.contains(":-1"), "{endpoint:?}: {absurd}");
        }
    }
}

#[test]
fn a_body_that_is_no_object_is_refused_in_the_words_of_the_dialect() {
    for body in ["", "[]", "7", "{", "\u{0}"] {
        let ask = Ask {
            dialect: DialectName::Anthropic,
            endpoint: Endpoint::Messages,
            model: "claude-x",
            stream: false,
            sse: false,
            content_type: None,
            body: body.as_bytes(),
            prompt_tokens: 1,
        };
        let play = answer(&ask);
        assert_eq!(play.status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8(play.body()).unwrap().contains("invalid_request_error"));
    }
}

#[test]
fn no_small_body_gets_a_huge_answer() {
    let items = json!({ "type": "array", "minItems": 64, "items": { "type": "array", "minItems": 64 } });
    let schema = json!({ "type": "object", "properties": { "a": items }, "required": ["a"] });
    let tools = json!([{ "type": "function", "function": { "name": "f", "parameters": schema } }]);
    let chat = json!({ "n": 1_000_000, "messages": [], "tools": tools, "stream": true });
    assert!(play(Endpoint::ChatCompletions, "gpt-4o", &chat).frames.len() < 10_000 + 2 * 128 + 1);
    let texts = json!({ "input": vec![""; 2_048], "dimensions": 1_536 });
    assert_eq!(play(Endpoint::Embeddings, "gpt-4o", &texts).status, StatusCode::BAD_REQUEST);
    let images = json!({ "prompt": "", "n": 11 });
    assert_eq!(play(Endpoint::ImageGenerations, "gpt-4o", &images).status, StatusCode::BAD_REQUEST);
    let prompts = json!({ "prompt": vec![""; 129] });
    assert_eq!(play(Endpoint::Completions, "gpt-4o", &prompts).status, StatusCode::BAD_REQUEST);
    let texts = json!({ "input": vec![""; 1_025] });
    assert_eq!(play(Endpoint::Moderations, "gpt-4o", &texts).status, StatusCode::BAD_REQUEST);
}

/// Any JSON under the names that are read, so that wrong types reach every reader.
fn any_body() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "messages",
        "input",
        "prompt",
        "contents",
        "parts",
        "content",
        "role",
        "text",
        "type",
        "tools",
        "tool_choice",
        "function",
        "name",
        "parameters",
        "n",
        "max_tokens",
        "stream",
        "stream_options",
        "include_usage",
        "best_of",
        "generationConfig",
        "functionDeclarations",
        "response_format",
        "requests",
        "dimensions",
        "query",
        "documents",
        "top_n",
        "schema",
        "required",
        "properties",
        "items",
        "minItems",
        "enum",
        "$ref",
        "toolConfig",
        "input_schema",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["user", "tool", "function", "array", "object", "#", "#/parts", "auto", "é"])
            .prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    tree.prop_map(|value| {
        if value.is_object() { value } else { json!({ "messages": value, "input": value, "contents": value }) }
    })
}

proptest! {
    #[test]
    fn nothing_a_body_says_makes_it_panic_or_send_an_empty_frame(
        body in any_body(),
        endpoint in prop::sample::select(Endpoint::ALL.to_vec()),
        stream in any::<bool>(),
        sse in any::<bool>(),
        model in prop::sample::select(vec!["m", "sandbox-cut", "sandbox-drip", "sandbox-stream-error", "sandbox-no-usage"]),
    ) {
        let text = body.to_string();
        let play = answer(&Ask {
            dialect: dialect_of(endpoint), endpoint, model, stream, sse, content_type: None, body: text.as_bytes(),
            prompt_tokens: u64::MAX,
        });
        prop_assert!(play.frames.iter().all(|frame| !frame.bytes.is_empty()));
    }

    #[test]
    fn no_bytes_of_a_form_make_it_panic(bytes in prop::collection::vec(prop::sample::select(b"-x\r\n:;=\"ab".to_vec()), 0..80)) {
        let body = [&b"--x\r\nContent-Disposition: form-data; name=\"n\""[..], bytes.as_slice(), b"\r\n--x--"].concat();
        let play = answer(&Ask {
            dialect: DialectName::OpenAi, endpoint: Endpoint::AudioTranscriptions, model: "whisper-1", stream: false, sse: false,
            content_type: Some(b"multipart/form-data; boundary=x"), body: &body, prompt_tokens: 1,
        });
        prop_assert_eq!(play.status, StatusCode::OK);
    }
}
