//! `/v1/chat/completions`, also below an Azure deployment.

use bytes::Bytes;
use serde_json::{Value, json};

use super::report::with;
use super::script::Script;
use super::wish::{Wish, flag, member};
use super::{CREATED, Play, Request, data};

pub(super) fn answer(request: &Request<'_>) -> Play {
    let script = Script::of(request.behaviour, &Wish::chat(&request.body));
    if request.stream { Play::events(stream(request, &script)) } else { Play::json(&whole(request, &script)) }
}

fn finish(script: &Script) -> &'static str {
    match (script.is_cut, &script.tool) {
        (true, _) => "length",
        (false, Some(_)) => "tool_calls",
        (false, None) => "stop",
    }
}

fn call_id(request: &Request<'_>, choice: u64) -> String {
    format!("{}{choice:02x}", request.id("call_"))
}

fn whole(request: &Request<'_>, script: &Script) -> Value {
    let said = script.said();
    let choices: Vec<Value> = (0..script.choices)
        .map(|index| {
            let mut message = json!({ "role": "assistant", "content": said, "refusal": null, "annotations": [] });
            if let Some(name) = &script.tool {
                let function = json!({ "name": name, "arguments": said });
                message["content"] = Value::Null;
                message["tool_calls"] =
                    json!([{ "id": call_id(request, index), "type": "function", "function": function }]);
            }
            json!({ "index": index, "message": message, "logprobs": null, "finish_reason": finish(script) })
        })
        .collect();
    let answer = json!({
        "id": request.id("chatcmpl-"),
        "object": "chat.completion",
        "created": CREATED,
        "model": request.ask.model,
        "choices": choices,
        "service_tier": "default",
        "system_fingerprint": "fp_sandbox",
    });
    with(answer, "usage", request.report.completion(script.tokens()))
}

fn stream(request: &Request<'_>, script: &Script) -> Vec<Bytes> {
    let wants_usage = flag(member(&request.body, "stream_options"), "include_usage");
    let chunk = |choices: Value, usage: Option<Value>| {
        let chunk = json!({
            "id": request.id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": request.ask.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": "fp_sandbox",
        });
        // Asked for usage, OpenAI writes it as null on every chunk but the last.
        data(&with(chunk, "usage", wants_usage.then(|| usage.unwrap_or_default())))
    };
    let delta = |index: u64, delta: Value, finish: Option<&str>| {
        chunk(json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]), None)
    };
    let mut events = Vec::new();
    for index in 0..script.choices {
        let opening = match &script.tool {
            None => json!({ "role": "assistant", "content": "", "refusal": null }),
            Some(name) => {
                let function = json!({ "name": name, "arguments": "" });
                let call =
                    json!({ "index": 0, "id": call_id(request, index), "type": "function", "function": function });
                json!({ "role": "assistant", "content": null, "tool_calls": [call] })
            }
        };
        events.push(delta(index, opening, None));
    }
    for piece in &script.pieces {
        for index in 0..script.choices {
            let said = match script.tool {
                None => json!({ "content": piece }),
                Some(_) => json!({ "tool_calls": [{ "index": 0, "function": { "arguments": piece } }] }),
            };
            events.push(delta(index, said, None));
        }
    }
    events.extend((0..script.choices).map(|index| delta(index, json!({}), Some(finish(script)))));
    if wants_usage && let Some(usage) = request.report.completion(script.tokens()) {
        events.push(chunk(json!([]), Some(usage)));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}
