//! `/v1/responses`: the whole object, and its stream of numbered events.

use bytes::Bytes;
use serde_json::{Value, json};

use super::report::with;
use super::script::Script;
use super::wish::{Wish, member};
use super::{CREATED, Play, Request, named};

pub(super) fn answer(request: &Request<'_>) -> Play {
    let script = Script::of(request.behaviour, &Wish::responses(&request.body));
    if request.stream { Play::events(stream(request, &script)) } else { Play::json(&finished(request, &script)) }
}

/// The response with its output so far.
fn response(request: &Request<'_>, status: &str, output: &Value) -> Value {
    let asked = |name: &str| member(&request.body, name).clone();
    let or = |name: &str, default: Value| request.body.get(name).cloned().unwrap_or(default);
    json!({
        "id": request.id("resp_"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": asked("instructions"),
        "max_output_tokens": asked("max_output_tokens"),
        "metadata": or("metadata", json!({})),
        "model": request.ask.model,
        "output": output,
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "previous_response_id": asked("previous_response_id"),
        "reasoning": { "effort": null, "summary": null },
        "service_tier": "default",
        "store": or("store", json!(true)),
        "temperature": or("temperature", json!(1.0)),
        "text": or("text", json!({ "format": { "type": "text" } })),
        "tool_choice": or("tool_choice", json!("auto")),
        "tools": or("tools", json!([])),
        "top_p": or("top_p", json!(1.0)),
        "truncation": "disabled",
        "usage": null,
        "user": asked("user"),
    })
}

fn finished(request: &Request<'_>, script: &Script) -> Value {
    let status = if script.is_cut { "incomplete" } else { "completed" };
    let mut whole = response(request, status, &json!([item(request, script, status, &script.said())]));
    if script.is_cut {
        whole["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    }
    with(whole, "usage", request.report.responses(script.tokens()))
}

fn item_id(request: &Request<'_>, script: &Script) -> String {
    request.id(if script.tool.is_some() { "fc_" } else { "msg_" })
}

/// The one item of the output: a message or a call.
fn item(request: &Request<'_>, script: &Script, status: &str, said: &str) -> Value {
    let id = item_id(request, script);
    match &script.tool {
        Some(name) => json!({
            "id": id, "type": "function_call", "status": status, "call_id": request.id("call_"), "name": name,
            "arguments": said,
        }),
        None => {
            let content = if status == "in_progress" { json!([]) } else { json!([part(said)]) };
            json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
        }
    }
}

fn part(said: &str) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": said })
}

/// Events with their numbers.
#[derive(Default)]
struct Events {
    all: Vec<Bytes>,
}

impl Events {
    fn push(&mut self, name: &str, event: Value) {
        let numbered = with(event, "sequence_number", Some(json!(self.all.len())));
        self.all.push(named(name, &with(numbered, "type", Some(json!(name)))));
    }
}

fn stream(request: &Request<'_>, script: &Script) -> Vec<Bytes> {
    let id = item_id(request, script);
    let said = script.said();
    let at = |event: Value| {
        let placed = with(event, "output_index", Some(json!(0)));
        with(placed, "item_id", Some(json!(id)))
    };
    let in_part = |event: Value| with(at(event), "content_index", Some(json!(0)));
    let begun = response(request, "in_progress", &json!([]));
    let mut events = Events::default();
    events.push("response.created", json!({ "response": begun }));
    events.push("response.in_progress", json!({ "response": begun }));
    let opened = item(request, script, "in_progress", "");
    events.push("response.output_item.added", json!({ "output_index": 0, "item": opened }));
    if script.tool.is_some() {
        for piece in &script.pieces {
            events.push("response.function_call_arguments.delta", at(json!({ "delta": piece })));
        }
        let name = script.tool.as_deref();
        events.push("response.function_call_arguments.done", at(json!({ "name": name, "arguments": said })));
    } else {
        events.push("response.content_part.added", in_part(json!({ "part": part("") })));
        for piece in &script.pieces {
            events.push("response.output_text.delta", in_part(json!({ "delta": piece, "logprobs": [] })));
        }
        events.push("response.output_text.done", in_part(json!({ "text": said, "logprobs": [] })));
        events.push("response.content_part.done", in_part(json!({ "part": part(&said) })));
    }
    let status = if script.is_cut { "incomplete" } else { "completed" };
    let closed = item(request, script, status, &said);
    events.push("response.output_item.done", json!({ "output_index": 0, "item": closed }));
    let last = if script.is_cut { "response.incomplete" } else { "response.completed" };
    events.push(last, json!({ "response": finished(request, script) }));
    events.all
}
