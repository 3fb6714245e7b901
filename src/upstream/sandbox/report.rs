//! The usage an answer reports, in the members of each dialect.

use serde_json::{Value, json};

use super::behaviour::Behaviour;
use crate::units::Tokens;

/// What is reported of a request's prompt, and how truly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    input: Tokens,
    behaviour: Behaviour,
}

impl Report {
    /// A report of a prompt of `input` tokens.
    pub(super) fn new(behaviour: Behaviour, input: Tokens) -> Self {
        Self { input, behaviour }
    }

    /// Input, output and both together; `None` when nothing is to be reported.
    fn numbers(self, output: Tokens) -> Option<(i64, i64, i64)> {
        let signed = |tokens: Tokens| i64::try_from(tokens).unwrap_or(i64::MAX);
        match self.behaviour {
            Behaviour::NoUsage => None,
            Behaviour::UsageAbsurd => Some((-1, 1 << 62, (1 << 62) - 1)),
            _ => Some((signed(self.input), signed(output), signed(self.input.saturating_add(output)))),
        }
    }

    /// openai: chat and completions.
    pub(super) fn completion(self, output: Tokens) -> Option<Value> {
        let (input, output, total) = self.numbers(output)?;
        Some(json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": total,
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        }))
    }

    /// openai: calls that generate no text.
    pub(super) fn prompt_only(self) -> Option<Value> {
        let (input, _, _) = self.numbers(0)?;
        Some(json!({ "prompt_tokens": input, "total_tokens": input }))
    }

    /// openai: the responses API.
    pub(super) fn responses(self, output: Tokens) -> Option<Value> {
        let (input, output, total) = self.numbers(output)?;
        Some(json!({
            "input_tokens": input,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": total,
        }))
    }

    /// openai: images and audio. `detail` is the kind of the input, `text` or `audio`.
    pub(super) fn media(self, output: Tokens, text: bool) -> Option<Value> {
        let (input, output, total) = self.numbers(output)?;
        let (text, other) = if text { (input, 0) } else { (0, input) };
        Some(json!({
            "type": "tokens",
            "input_tokens": input,
            "output_tokens": output,
            "total_tokens": total,
            "input_tokens_details": { "text_tokens": text, "image_tokens": other },
            "input_token_details": { "text_tokens": text, "audio_tokens": other },
        }))
    }

    /// openai: transcriptions billed by time.
    pub(super) fn seconds(self, seconds: u64) -> Option<Value> {
        self.numbers(0)?;
        Some(json!({ "type": "duration", "seconds": seconds }))
    }

    /// anthropic: the whole usage, in an answer or at the start of a stream.
    pub(super) fn message(self, output: Tokens) -> Option<Value> {
        let (input, output, _) = self.numbers(output)?;
        Some(json!({
            "input_tokens": input,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output,
            "service_tier": "standard",
        }))
    }

    /// anthropic: the last word on a stream's output.
    pub(super) fn message_delta(self, output: Tokens) -> Option<Value> {
        let (_, output, _) = self.numbers(output)?;
        Some(json!({ "output_tokens": output }))
    }

    /// gemini: with the answer so far.
    pub(super) fn metadata(self, output: Tokens) -> Option<Value> {
        let (input, output, total) = self.numbers(output)?;
        Some(json!({
            "promptTokenCount": input,
            "candidatesTokenCount": output,
            "totalTokenCount": total,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": input }],
        }))
    }

    /// gemini: calls that generate no text.
    pub(super) fn prompt_metadata(self) -> Option<Value> {
        let (input, _, _) = self.numbers(0)?;
        Some(json!({ "promptTokenCount": input, "totalTokenCount": input }))
    }

    /// The prompt's tokens, for calls that only count; their number is the answer, so it is always given.
    pub(super) fn count(self) -> i64 {
        self.numbers(0).map_or_else(|| i64::try_from(self.input).unwrap_or(i64::MAX), |(input, _, _)| input)
    }
}

/// `object` with `member` set, where there is a value for it.
pub(super) fn with(mut object: Value, member: &str, value: Option<Value>) -> Value {
    if let (Some(fields), Some(value)) = (object.as_object_mut(), value) {
        fields.insert(member.to_owned(), value);
    }
    object
}
