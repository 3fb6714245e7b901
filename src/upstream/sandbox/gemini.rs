//! `generateContent`, `streamGenerateContent` (events, or one JSON array) and `countTokens`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::report::with;
use super::script::Script;
use super::wish::Wish;
use super::{Play, Request};

pub(super) fn answer(request: &Request<'_>) -> Play {
    let script = Script::of(request.behaviour, &Wish::generate(&request.body));
    if !request.stream {
        return Play::json(&whole(request, &script));
    }
    let chunks = stream(request, &script);
    if request.ask.sse {
        return Play::events(chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n").into()).collect());
    }
    let last = chunks.len().saturating_sub(1);
    let pieces = chunks.iter().enumerate().map(|(index, chunk)| {
        let before = if index == 0 { "[" } else { ",\r\n" };
        let after = if index == last { "]" } else { "" };
        Bytes::from(format!("{before}{chunk}{after}"))
    });
    Play::pieces("application/json; charset=UTF-8", pieces.collect())
}

pub(super) fn count_tokens(request: &Request<'_>) -> Play {
    let tokens = request.report.count();
    let details = json!([{ "modality": "TEXT", "tokenCount": tokens }]);
    Play::json(&json!({ "totalTokens": tokens, "promptTokensDetails": details }))
}

fn finish(script: &Script) -> &'static str {
    if script.is_cut { "MAX_TOKENS" } else { "STOP" }
}

fn chunk(request: &Request<'_>, candidates: &Value, tokens: u64) -> Value {
    let answer =
        json!({ "candidates": candidates, "modelVersion": request.ask.model, "responseId": request.id("sandbox-") });
    with(answer, "usageMetadata", request.report.metadata(tokens))
}

/// What a whole choice says: text, or a call where its arguments are whole.
fn parts(request: &Request<'_>, script: &Script) -> Value {
    match &script.tool {
        None => json!([{ "text": script.said() }]),
        Some(_) if script.is_cut => json!([]),
        Some(name) => {
            let arguments: Value = serde_json::from_str(&script.said()).unwrap_or_else(|_| json!({}));
            json!([{ "functionCall": { "id": request.id("call_"), "name": name, "args": arguments } }])
        }
    }
}

fn whole(request: &Request<'_>, script: &Script) -> Value {
    let candidates: Value = (0..script.choices)
        .map(|index| {
            let content = json!({ "role": "model", "parts": parts(request, script) });
            json!({ "index": index, "content": content, "finishReason": finish(script) })
        })
        .collect();
    chunk(request, &candidates, script.tokens())
}

/// Chunks, each with the usage so far. A call comes whole in one chunk, as it does from Google.
fn stream(request: &Request<'_>, script: &Script) -> Vec<Value> {
    if script.tool.is_some() || script.pieces.is_empty() {
        return vec![whole(request, script)];
    }
    let last = script.pieces.len() - 1;
    let mut chunks = Vec::new();
    let mut tokens = 0;
    for (place, piece) in script.pieces.iter().enumerate() {
        for index in 0..script.choices {
            tokens += 1;
            let content = json!({ "role": "model", "parts": [{ "text": piece }] });
            let candidate = json!({ "index": index, "content": content });
            let ended = (place == last).then(|| json!(finish(script)));
            chunks.push(chunk(request, &json!([with(candidate, "finishReason", ended)]), tokens));
        }
    }
    chunks
}
