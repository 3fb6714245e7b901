//! Streams against the whole answers to the same request: the same text, the same usage, the events in order.

use super::*;

/// The same request twice: its whole answer and the events of its stream.
fn both(endpoint: Endpoint, body: &Value) -> (Value, Vec<Value>) {
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    (json_of(endpoint, body), events_of(&play(endpoint, "gpt-4o", &streamed)))
}

fn joined(events: &[Value], pointer: &str) -> String {
    events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.dedup();
    types
}

fn tool_body() -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" }, "days": { "type": "integer" } },
        "required": ["city", "days"] });
    json!({
        "input": "rain?", "max_tokens": 64, "messages": [{ "role": "user", "content": "rain?" }],
        "tools": [{ "type": "function", "name": "weather", "parameters": schema, "input_schema": schema,
            "function": { "name": "weather", "parameters": schema } }],
    })
}

#[test]
fn chat_streams_the_same_text_and_usage_only_when_asked() {
    let mut body = body_for(Endpoint::ChatCompletions);
    let (whole, events) = both(Endpoint::ChatCompletions, &body);
    assert_eq!(joined(&events, "/choices/0/delta/content"), whole["choices"][0]["message"]["content"]);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(events.iter().all(|event| event.get("usage").is_none()));
    body["stream_options"] = json!({ "include_usage": true });
    let (whole, events) = both(Endpoint::ChatCompletions, &body);
    let (last, others) = events.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(others.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    body["stream"] = json!(true);
    let frames = play(Endpoint::ChatCompletions, "gpt-4o", &body).frames;
    assert_eq!(frames.last().unwrap().bytes, "data: [DONE]\n\n");
}

#[test]
fn every_choice_of_a_chat_is_streamed() {
    let body = json!({ "n": 2, "messages": [{ "role": "user", "content": "hi" }] });
    let (whole, events) = both(Endpoint::ChatCompletions, &body);
    for index in 0..2 {
        let own: Vec<Value> = events.iter().filter(|event| event["choices"][0]["index"] == index).cloned().collect();
        assert_eq!(joined(&own, "/choices/0/delta/content"), whole["choices"][index]["message"]["content"]);
        assert_eq!(own.last().unwrap()["choices"][0]["finish_reason"], "stop");
    }
}

#[test]
fn the_arguments_of_a_tool_stream_to_the_same_json() {
    let (whole, events) = both(Endpoint::ChatCompletions, &tool_body());
    let call = &whole["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(joined(&events, "/choices/0/delta/tool_calls/0/function/arguments"), call["function"]["arguments"]);
    let opened = &events[0]["choices"][0]["delta"]["tool_calls"][0];
    assert!(opened["id"].as_str().unwrap().starts_with("call_") && opened["function"]["name"] == "weather");
    let (whole, events) = both(Endpoint::Messages, &tool_body());
    let arguments = joined(&events, "/delta/partial_json");
    assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), whole["content"][0]["input"]);
    let (whole, events) = both(Endpoint::Responses, &tool_body());
    assert_eq!(joined(&events, "/delta"), whole["output"][0]["arguments"]);
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
}

#[test]
fn completions_stream_the_same_texts() {
    let body = json!({ "prompt": ["one", "two"], "stream_options": { "include_usage": true } });
    let (whole, events) = both(Endpoint::Completions, &body);
    for index in 0..2 {
        let own: Vec<Value> = events.iter().filter(|event| event["choices"][0]["index"] == index).cloned().collect();
        assert_eq!(joined(&own, "/choices/0/text"), whole["choices"][index]["text"]);
    }
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
}

#[test]
fn a_response_streams_its_events_in_order_and_numbered() {
    let (whole, events) = both(Endpoint::Responses, &body_for(Endpoint::Responses));
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert!(events.iter().enumerate().all(|(index, event)| event["sequence_number"] == index));
    let text = &whole["output"][0]["content"][0]["text"];
    assert_eq!(joined(&events, "/delta"), *text);
    let last = &events.last().unwrap()["response"];
    assert_eq!((&last["usage"], &last["output"][0]["content"][0]["text"]), (&whole["usage"], text));
    let (_, cut) = both(Endpoint::Responses, &json!({ "input": "x", "max_output_tokens": 1 }));
    assert_eq!(cut.last().unwrap()["type"], "response.incomplete");
}

#[test]
fn a_message_streams_its_events_in_order() {
    let (whole, events) = both(Endpoint::Messages, &body_for(Endpoint::Messages));
    assert_eq!(
        types(&events),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(joined(&events, "/delta/text"), whole["content"][0]["text"]);
    let delta = &events[events.len() - 2];
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    assert_eq!(delta["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(delta["delta"]["stop_reason"], "end_turn");
}

#[test]
fn gemini_streams_events_or_one_array_with_the_same_chunks() {
    let body = body_for(Endpoint::GenerateContent);
    let whole = json_of(Endpoint::GenerateContent, &body);
    let events = events_of(&play(Endpoint::StreamGenerateContent, "gpt-4o", &body));
    assert_eq!(
        joined(&events, "/candidates/0/content/parts/0/text"),
        whole["candidates"][0]["content"]["parts"][0]["text"]
    );
    let last = events.last().unwrap();
    assert_eq!(
        (&last["usageMetadata"], &last["candidates"][0]["finishReason"]),
        (&whole["usageMetadata"], &json!("STOP"))
    );
    let text = body.to_string();
    let array = answer(&Ask {
        dialect: DialectName::Gemini,
        endpoint: Endpoint::StreamGenerateContent,
        model: "gpt-4o",
        stream: true,
        sse: false,
        content_type: Some(b"application/json"),
        body: text.as_bytes(),
        prompt_tokens: PROMPT,
    });
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&array.body()).unwrap(), events);
    assert_eq!(array.frames.len(), events.len());
}

#[test]
fn a_gemini_array_that_fails_half_way_is_still_an_array() {
    let mut bodies = vec![body_for(Endpoint::GenerateContent)];
    bodies.push(json!({ "contents": [], "tools": [{ "functionDeclarations": [{ "name": "f" }] }] }));
    for body in bodies {
        let text = body.to_string();
        let play = answer(&Ask {
            dialect: DialectName::Gemini,
            endpoint: Endpoint::StreamGenerateContent,
            model: "sandbox-stream-error",
            stream: true,
            sse: false,
            content_type: None,
            body: text.as_bytes(),
            prompt_tokens: PROMPT,
        });
        let array: Vec<Value> = serde_json::from_slice(&play.body()).unwrap();
        assert_eq!(array.last().unwrap()["error"]["status"], "INTERNAL");
    }
}
