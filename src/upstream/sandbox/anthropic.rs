//! `/v1/messages` and `/v1/messages/count_tokens`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::report::with;
use super::script::Script;
use super::wish::Wish;
use super::{Play, Request, named};

pub(super) fn messages(request: &Request<'_>) -> Play {
    let script = Script::of(request.behaviour, &Wish::messages(&request.body));
    if request.stream { Play::events(stream(request, &script)) } else { Play::json(&whole(request, &script)) }
}

pub(super) fn count_tokens(request: &Request<'_>) -> Play {
    Play::json(&json!({ "input_tokens": request.report.count() }))
}

fn stop_reason(script: &Script) -> &'static str {
    match (script.is_cut, &script.tool) {
        (true, _) => "max_tokens",
        (false, Some(_)) => "tool_use",
        (false, None) => "end_turn",
    }
}

fn message(request: &Request<'_>, content: &Value, stop_reason: Option<&str>) -> Value {
    json!({
        "id": request.id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": request.ask.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
    })
}

fn whole(request: &Request<'_>, script: &Script) -> Value {
    let said = script.said();
    let block = match &script.tool {
        // Arguments that ran out of tokens are no JSON; what can be given of them is an empty object.
        Some(name) => {
            let input = serde_json::from_str(&said).unwrap_or_else(|_| json!({}));
            json!({ "type": "tool_use", "id": request.id("toolu_"), "name": name, "input": input })
        }
        None => json!({ "type": "text", "text": said, "citations": null }),
    };
    let answer = message(request, &json!([block]), Some(stop_reason(script)));
    with(answer, "usage", request.report.message(script.tokens()))
}

fn stream(request: &Request<'_>, script: &Script) -> Vec<Bytes> {
    let mut events = Vec::new();
    let mut push = |name: &str, event: Value| events.push(named(name, &with(event, "type", Some(json!(name)))));
    let begun = message(request, &json!([]), None);
    push("message_start", json!({ "message": with(begun, "usage", request.report.message(0)) }));
    let block = match &script.tool {
        Some(name) => json!({ "type": "tool_use", "id": request.id("toolu_"), "name": name, "input": {} }),
        None => json!({ "type": "text", "text": "", "citations": null }),
    };
    push("content_block_start", json!({ "index": 0, "content_block": block }));
    push("ping", json!({}));
    for piece in &script.pieces {
        let delta = match script.tool {
            Some(_) => json!({ "type": "input_json_delta", "partial_json": piece }),
            None => json!({ "type": "text_delta", "text": piece }),
        };
        push("content_block_delta", json!({ "index": 0, "delta": delta }));
    }
    push("content_block_stop", json!({ "index": 0 }));
    let delta = json!({ "stop_reason": stop_reason(script), "stop_sequence": null });
    let usage = request.report.message_delta(script.tokens());
    push("message_delta", with(json!({ "delta": delta }), "usage", usage));
    push("message_stop", json!({}));
    events
}
