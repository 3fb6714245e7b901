//! Changes to a body: the one member is changed, every other byte is as it was.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn render(call: &Call, body: &str, edits: &Edits<'_>) -> String {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    String::from_utf8(call.good(body).splices.render(&bytes, edits).to_vec()).unwrap()
}

fn usage() -> Edits<'static> {
    Edits { include_usage: true, ..Edits::default() }
}

fn output(tokens: Tokens) -> Edits<'static> {
    Edits { output: Some(tokens), ..Edits::default() }
}

#[test]
fn nothing_to_change_is_the_same_bytes_without_a_copy() {
    let body =
        Bytes::from_static(br#"{"model":"a","max_tokens":5,"stream":true,"stream_options":{"include_usage":true}}"#);
    let described = Call::chat().good(&body);
    assert!(described.splices.asks_usage() && !described.splices.can_splice_usage());
    for edits in [Edits::default(), output(5), output(9), usage(), Edits { model: Some("a"), ..Edits::default() }] {
        assert_eq!(described.splices.render(&body, &edits).as_ptr(), body.as_ptr(), "{edits:?}");
    }
}

#[test]
fn the_model_is_written_over_its_old_name_wherever_it_stands() {
    let alias = Edits { model: Some("gpt-4o-mini"), ..Edits::default() };
    assert_eq!(
        render(&Call::chat(), r#"{"a":1, "model" : "fast" ,"b":2}"#, &alias),
        r#"{"a":1, "model" : "gpt-4o-mini" ,"b":2}"#
    );
    assert_eq!(render(&Call::chat(), r#"{"model":"x\/y"}"#, &alias), r#"{"model":"gpt-4o-mini"}"#);
    let batch = Call::gemini(Endpoint::BatchEmbedContents);
    let body = r#"{"requests":[{"model":"models/gemini-2.5-flash"},{"model":"models\/gemini-2.5-flash"},{"model":"gemini-2.5-flash"}]}"#;
    let expected =
        r#"{"requests":[{"model":"models/gpt-4o-mini"},{"model":"models\/gpt-4o-mini"},{"model":"gpt-4o-mini"}]}"#;
    assert_eq!(render(&batch, body, &alias), expected);
    assert_eq!(render(&Call::azure(), r#"{"messages":[]}"#, &alias), r#"{"messages":[]}"#);
    let odd = Edits { model: Some("a\"b\\\n"), ..Edits::default() };
    assert_eq!(render(&Call::chat(), r#"{"model":"m"}"#, &odd), r#"{"model":"a\"b\\\u000a"}"#);
}

#[test]
fn a_limit_is_lowered_where_it_stands_and_put_in_where_there_is_none() {
    let responses = Call::openai(Endpoint::Responses);
    let generate = Call::gemini(Endpoint::GenerateContent);
    for (call, body, expected) in [
        (&Call::chat(), r#"{"model":"m","max_tokens":100}"#, r#"{"model":"m","max_tokens":7}"#),
        (&Call::chat(), r#"{"model":"m","max_completion_tokens":100}"#, r#"{"model":"m","max_completion_tokens":7}"#),
        (
            &Call::chat(),
            r#"{"max_tokens":100,"max_completion_tokens":5,"model":"m"}"#,
            r#"{"max_tokens":7,"max_completion_tokens":5,"model":"m"}"#,
        ),
        (
            &Call::chat(),
            r#"{"max_tokens":9,"model":"m","max_completion_tokens":8}"#,
            r#"{"max_tokens":7,"model":"m","max_completion_tokens":7}"#,
        ),
        (&Call::chat(), r#"{"max_tokens":null,"model":"m"}"#, r#"{"max_tokens":7,"model":"m"}"#),
        (
            &Call::chat(),
            r#"{"max_tokens":null,"model":"m","max_completion_tokens":null}"#,
            r#"{"max_tokens":null,"model":"m","max_completion_tokens":7}"#,
        ),
        (
            &Call::chat(),
            r#"{"max_tokens":null,"model":"m","max_completion_tokens":3}"#,
            r#"{"max_tokens":null,"model":"m","max_completion_tokens":3}"#,
        ),
        (&Call::chat(), r#"{"model":"m","max_tokens":0}"#, r#"{"model":"m","max_tokens":7}"#),
        (
            &Call::chat(),
            r#"{"max_completion_tokens":0,"model":"m","max_tokens":3}"#,
            r#"{"max_completion_tokens":7,"model":"m","max_tokens":3}"#,
        ),
        (&responses, r#"{"model":"m","max_output_tokens":0}"#, r#"{"model":"m","max_output_tokens":7}"#),
        (&generate, r#"{"generationConfig":{"maxOutputTokens":0}}"#, r#"{"generationConfig":{"maxOutputTokens":7}}"#),
        (&Call::chat(), r#"{"model":"m"}"#, r#"{"max_completion_tokens":7,"model":"m"}"#),
        (&Call::chat(), "{ \n\"model\":\"m\"}", "{ \n\"max_completion_tokens\":7,\"model\":\"m\"}"),
        (&Call::openai(Endpoint::Completions), r#"{"model":"m"}"#, r#"{"max_tokens":7,"model":"m"}"#),
        (&Call::messages(), r#"{"model":"m","max_tokens":4096}"#, r#"{"model":"m","max_tokens":7}"#),
        (&responses, r#"{"model":"m"}"#, r#"{"max_output_tokens":7,"model":"m"}"#),
        (&responses, r#"{"model":"m","max_output_tokens":8}"#, r#"{"model":"m","max_output_tokens":7}"#),
        (&generate, "{}", r#"{"generationConfig":{"maxOutputTokens":7}}"#),
        (&generate, r#"{"contents":[]}"#, r#"{"generationConfig":{"maxOutputTokens":7},"contents":[]}"#),
        (&generate, r#"{"generationConfig":null}"#, r#"{"generationConfig":{"maxOutputTokens":7}}"#),
        (&generate, r#"{"generationConfig":{ }}"#, r#"{"generationConfig":{ "maxOutputTokens":7}}"#),
        (&generate, r#"{"generation_config":{"topK":1}}"#, r#"{"generation_config":{"maxOutputTokens":7,"topK":1}}"#),
        (
            &generate,
            r#"{"generation_config":{"max_output_tokens":8}}"#,
            r#"{"generation_config":{"max_output_tokens":7}}"#,
        ),
        (&Call::openai(Endpoint::Embeddings), r#"{"model":"m"}"#, r#"{"model":"m"}"#),
    ] {
        assert_eq!(render(call, body, &output(7)), expected);
    }
}

#[test]
fn usage_is_asked_for_in_streams_that_do_not() {
    for (body, expected) in [
        (r#"{"model":"m","stream":true}"#, r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
        (
            r#"{"stream_options":{},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"a":1},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true,"a":1},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":false},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage": null },"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage": true },"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":null,"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (r#"{"model":"m","stream":false}"#, r#"{"model":"m","stream":false}"#),
        (r#"{"model":"m"}"#, r#"{"model":"m"}"#),
    ] {
        assert_eq!(render(&Call::chat(), body, &usage()), expected);
    }
    let stream = r#"{"model":"m","stream":true}"#;
    assert_eq!(render(&Call::messages(), stream, &usage()), stream);
    assert_eq!(render(&Call::openai(Endpoint::Responses), stream, &usage()), stream);
    assert!(Call::azure().good(r#"{"stream":true}"#).splices.can_splice_usage());
}

#[test]
fn all_changes_at_once() {
    let edits = Edits { model: Some("big/one"), output: Some(3), include_usage: true };
    let rendered = render(&Call::chat(), r#"{"stream":true,"model":"m"}"#, &edits);
    assert_eq!(
        rendered,
        r#"{"max_completion_tokens":3,"stream_options":{"include_usage":true},"stream":true,"model":"big/one"}"#
    );
}

#[test]
fn a_forms_model_is_written_over_without_quotes() {
    let call = Call::openai(Endpoint::AudioTranscriptions).with_type("multipart/form-data; boundary=b");
    let form =
        |model: &str| format!("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n");
    let alias = Edits { model: Some("whisper-large"), output: Some(1), include_usage: true };
    assert_eq!(render(&call, &form("w"), &alias), form("whisper-large"));
}

/// A chat body with its members in some order, some of them watched.
fn chat() -> impl Strategy<Value = Map<String, Value>> {
    let max = || prop_oneof![Just(Value::Null), (1_u64..5_000).prop_map(Value::from)];
    let options = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({"x": [1, "}"]})),
        any::<bool>().prop_map(|asked| json!({"y": 1, "include_usage": asked})),
    ];
    let optional = (
        proptest::option::of(max()),
        proptest::option::of(max()),
        proptest::option::of(options),
        proptest::option::of(any::<bool>()),
        "\\PC{0,80}",
    );
    optional.prop_map(|(max_tokens, max_completion_tokens, options, stream, text)| {
        let mut body = Map::new();
        body.insert("messages".into(), json!([{"role": "user", "content": text}]));
        body.insert("model".into(), "asked-for".into());
        max_tokens.map(|value| body.insert("max_tokens".into(), value));
        max_completion_tokens.map(|value| body.insert("max_completion_tokens".into(), value));
        options.map(|value| body.insert("stream_options".into(), value));
        stream.map(|value| body.insert("stream".into(), value.into()));
        body
    })
}

proptest! {
    #[test]
    fn only_the_edited_members_change(
        members in chat(), order in any::<u64>(), spaced: bool,
        model in proptest::option::of("[a-z/:.]{1,10}".prop_filter("name", |name| ModelName::new(name).is_some())),
        limit in proptest::option::of(1_u64..5_000), include_usage: bool,
    ) {
        let mut names: Vec<&String> = members.keys().collect();
        let by = usize::try_from(order % 97).unwrap() % names.len();
        names.rotate_left(by);
        let gap = if spaced { " \n" } else { "" };
        let written: Vec<String> = names.iter().map(|name| format!("{gap}\"{name}\"{gap}:{gap}{}", members[name.as_str()])).collect();
        let body = Bytes::from(format!("{gap}{{{}{gap}}}{gap}", written.join(",")));
        let described = Call::chat().good(&body);
        let edits = Edits { model: model.as_deref(), output: limit, include_usage };
        let rendered = described.splices.render(&body, &edits);

        let mut expected = members.clone();
        if let Some(model) = &model {
            expected["model"] = model.as_str().into();
        }
        if let Some(limit) = limit {
            let names = ["max_completion_tokens", "max_tokens"];
            let stated: Vec<&str> = names.into_iter().filter(|name| members.get(*name).is_some_and(Value::is_number)).collect();
            for name in &stated {
                let lower = members[*name].as_u64().unwrap().min(limit);
                expected[*name] = lower.into();
            }
            if stated.is_empty() {
                let name = names.into_iter().find(|name| members.contains_key(*name)).unwrap_or(names[0]);
                expected.insert(name.into(), limit.into());
            }
        }
        if include_usage && members.get("stream") == Some(&Value::Bool(true)) {
            let options = expected.entry("stream_options").or_insert(Value::Null);
            if options.is_null() {
                *options = json!({});
            }
            options["include_usage"] = true.into();
        }
        let read: Value = serde_json::from_slice(&rendered).unwrap();
        prop_assert_eq!(&read, &Value::Object(expected));

        let again = Call::chat().good(&rendered);
        let named = model.as_deref().unwrap_or("asked-for");
        prop_assert_eq!(again.facts.model.as_ref().map(ModelName::as_str), Some(named));
        if let Some(limit) = limit {
            prop_assert!(again.facts.estimate.output <= limit);
        }
    }
}
