//! `/v1/completions`: one answer for each prompt, times `n`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::report::with;
use super::script::{CHOICES, Script};
use super::wish::{Wish, count, flag, member};
use super::{CREATED, Play, Request, data, wording};

pub(super) fn answer(request: &Request<'_>) -> Play {
    let prompt = member(&request.body, "prompt");
    let prompts: Vec<&Value> = match prompt.as_array() {
        // A list of numbers is one prompt in tokens.
        Some(list) if list.first().is_some_and(|first| !first.is_number()) => list.iter().collect(),
        _ => vec![prompt],
    };
    let each = count(&request.body, "n").unwrap_or(1).max(1);
    if each.saturating_mul(prompts.len() as u64) > CHOICES {
        let message = "The sandbox answers at most 128 choices at once.";
        return wording::error(request.ask.dialect, StatusCode::BAD_REQUEST, message);
    }
    let scripts: Vec<Script> =
        prompts.iter().map(|prompt| Script::of(request.behaviour, &Wish::completion(&request.body, prompt))).collect();
    // Candidates that `best_of` throws away were generated too.
    let best = count(&request.body, "best_of").unwrap_or(1).clamp(each, CHOICES.max(each));
    let tokens = scripts.iter().map(|script| script.tokens_of_one().saturating_mul(best)).sum();
    let usage = request.report.completion(tokens);
    if request.stream { Play::events(stream(request, &scripts, usage)) } else { whole(request, &scripts, usage) }
}

/// Every choice's number with its script: those of the first prompt come first.
fn numbered(scripts: &[Script]) -> impl Iterator<Item = (usize, &Script)> {
    scripts.iter().flat_map(|script| (0..script.choices).map(move |_| script)).enumerate()
}

fn finish(script: &Script) -> &'static str {
    if script.is_cut { "length" } else { "stop" }
}

fn head(request: &Request<'_>, choices: &Value) -> Value {
    let id = request.id("cmpl-");
    json!({ "id": id, "object": "text_completion", "created": CREATED, "model": request.ask.model, "choices": choices })
}

fn whole(request: &Request<'_>, scripts: &[Script], usage: Option<Value>) -> Play {
    let choices: Value = numbered(scripts)
        .map(|(index, script)| {
            json!({ "index": index, "text": script.said(), "logprobs": null, "finish_reason": finish(script) })
        })
        .collect();
    Play::json(&with(head(request, &choices), "usage", usage))
}

fn stream(request: &Request<'_>, scripts: &[Script], usage: Option<Value>) -> Vec<Bytes> {
    let wants_usage = flag(member(&request.body, "stream_options"), "include_usage");
    let chunk = |choices: Value, usage: Option<Value>| {
        data(&with(head(request, &choices), "usage", wants_usage.then(|| usage.unwrap_or_default())))
    };
    let mut events = Vec::new();
    for (index, script) in numbered(scripts) {
        for piece in &script.pieces {
            let choice = json!({ "index": index, "text": piece, "logprobs": null, "finish_reason": null });
            events.push(chunk(json!([choice]), None));
        }
        let choice = json!({ "index": index, "text": "", "logprobs": null, "finish_reason": finish(script) });
        events.push(chunk(json!([choice]), None));
    }
    if wants_usage && usage.is_some() {
        events.push(chunk(json!([]), usage));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}
