//! What a backend reports of its use, brought to one meaning.
//!
//! | member | input | cached, written | output |
//! |---|---|---|---|
//! | openai, azure `usage` | `prompt_tokens` or `input_tokens`: all of it | part of the input | reasoning included |
//! | anthropic `usage` | `input_tokens`: the rest | beside it: added | thinking included |
//! | gemini `usageMetadata` | `promptTokenCount`, and `toolUsePromptTokenCount` beside it | part of the prompt | `candidatesTokenCount`, and `thoughtsTokenCount` beside it |
//! | rerank `meta` | `tokens` or `billed_units` | none | none |

use serde_json::{Map, Value};

use crate::policy::Usage;
use crate::units::Tokens;

/// The most that one reported number can be, 2^40. A larger one is taken as this, marked estimated, and not believed
/// where there is anything else to go by.
pub const CEILING: u64 = 1 << 40;

/// Where in an answer a report stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// `usage`, of the document or of its `response`.
    Usage,
    /// anthropic's `message.usage`: the input is known, the output only begun.
    MessageStart,
    /// gemini's `usageMetadata`.
    UsageMetadata,
    /// rerank's `meta`.
    Meta,
}

/// One number of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    /// 0 to [`CEILING`].
    value: u64,
    /// It was not what a count looks like (a string, a fraction), or had to be clamped.
    odd: bool,
    /// It had to be clamped, so it says nothing.
    void: bool,
}

/// What is known of an answer's use from what its backend said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Report {
    input: Option<Count>,
    cached: Option<Count>,
    written: Option<Count>,
    output: Option<Count>,
    reasoning: Option<Count>,
    audio_ms: Option<Count>,
    /// The cached and the written tokens come beside the input.
    adds_cache: bool,
    /// The output is only what had been generated when the answer began.
    pub(super) is_start: bool,
    /// The numbers do not fit together, or some were derived from others.
    odd: bool,
}

impl Report {
    /// Reads one usage object. `None` when it is none, or says nothing.
    pub(super) fn parse(source: Source, adds_cache: bool, has_output: bool, json: &[u8]) -> Option<Self> {
        let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(json) else { return None };
        let report = match source {
            Source::UsageMetadata => Self::gemini(&map),
            Source::Meta => Self::rerank(&map),
            Source::Usage | Source::MessageStart if adds_cache => Self::anthropic(source, &map),
            Source::Usage | Source::MessageStart => Self::openai(&map, has_output),
        };
        let says = report.input.or(report.output).or(report.audio_ms).or(report.cached).or(report.written);
        says.map(|_| report)
    }

    /// A report of nothing but seconds of audio.
    pub(super) fn audio(json: &[u8]) -> Option<Self> {
        let seconds = serde_json::from_slice::<Value>(json).ok()?;
        Some(Self { audio_ms: Some(Count::milliseconds(&seconds)?), ..Self::default() })
    }

    fn openai(map: &Map<String, Value>, has_output: bool) -> Self {
        let details = ["prompt_tokens_details", "input_tokens_details", "input_token_details"];
        let details = first(map, &details).and_then(Value::as_object);
        let output_details = ["completion_tokens_details", "output_tokens_details", "output_token_details"];
        let output_details = first(map, &output_details).and_then(Value::as_object);
        let inside = |part: Option<&Map<String, Value>>, names: &[&str]| part.and_then(|map| count(map, names));
        let mut report = Self {
            input: count(map, &["prompt_tokens", "input_tokens"]),
            cached: inside(details, &["cached_tokens"])
                .or_else(|| count(map, &["prompt_cache_hit_tokens", "cache_read_input_tokens"])),
            written: inside(details, &["cache_write_tokens", "cache_creation_tokens"])
                .or_else(|| count(map, &["cache_creation_input_tokens"])),
            output: count(map, &["completion_tokens", "output_tokens"]),
            reasoning: inside(output_details, &["reasoning_tokens"]).or_else(|| count(map, &["reasoning_tokens"])),
            audio_ms: first(map, &["seconds"]).and_then(Count::milliseconds),
            ..Self::default()
        };
        report.complete(count(map, &["total_tokens"]), has_output);
        report
    }

    fn anthropic(source: Source, map: &Map<String, Value>) -> Self {
        Self {
            input: count(map, &["input_tokens"]),
            cached: count(map, &["cache_read_input_tokens"]),
            written: count(map, &["cache_creation_input_tokens"]),
            output: count(map, &["output_tokens"]),
            adds_cache: true,
            is_start: source == Source::MessageStart,
            ..Self::default()
        }
    }

    fn gemini(map: &Map<String, Value>) -> Self {
        let thoughts = count(map, &["thoughtsTokenCount"]);
        let mut report = Self {
            input: sum(count(map, &["promptTokenCount"]), count(map, &["toolUsePromptTokenCount"])),
            cached: count(map, &["cachedContentTokenCount"]),
            output: sum(count(map, &["candidatesTokenCount"]), thoughts),
            reasoning: thoughts,
            ..Self::default()
        };
        report.complete(count(map, &["totalTokenCount"]), true);
        report
    }

    fn rerank(map: &Map<String, Value>) -> Self {
        let part = |name: &str| map.get(name).and_then(Value::as_object);
        let number = |names: &[&str]| {
            ["tokens", "billed_units"].into_iter().find_map(|name| part(name).and_then(|map| count(map, names)))
        };
        Self { input: number(&["input_tokens"]), output: number(&["output_tokens"]), ..Self::default() }
    }

    /// Fills in what is missing from the total. A total above its parts is generated tokens that some backends leave out
    /// of their output (the reasoning ones); a total below them is an error.
    fn complete(&mut self, total: Option<Count>, has_output: bool) {
        let Some(total) = total.filter(|total| !total.void) else { return };
        let rest = |part: Count| Count { value: total.value.saturating_sub(part.value), ..total };
        match (self.input, self.output) {
            (None, None) => {
                self.input = Some(total);
                self.odd |= has_output;
            }
            (Some(input), None) => {
                self.output = Some(rest(input));
                self.odd |= total.value < input.value;
            }
            (None, Some(output)) => {
                self.input = Some(rest(output));
                self.odd |= total.value < output.value;
            }
            (Some(input), Some(output)) => {
                let parts = input.value + output.value;
                self.odd |= total.value != parts;
                if total.value > parts && !input.void && !output.void {
                    self.output = Some(Count { odd: true, ..rest(input) });
                }
            }
        }
    }

    /// Takes up what a later report of the same answer says. anthropic reports cumulatively and in parts, so what the later
    /// one leaves out (or has as 0) stands; for all others the last one says everything.
    pub(super) fn update(&mut self, later: Self) {
        if !(self.adds_cache && later.adds_cache) {
            *self = later;
            return;
        }
        let good = |count: &Count| count.value > 0 && !count.void;
        let newer = |old: Option<Count>, new: Option<Count>| new.filter(good).or(old).or(new);
        let is_odd =
            [later.input, later.cached, later.written, later.output].into_iter().flatten().any(|count| count.odd);
        *self = Self {
            input: newer(self.input, later.input),
            cached: newer(self.cached, later.cached),
            written: newer(self.written, later.written),
            output: newer(self.output, later.output),
            is_start: self.is_start && (later.is_start || !later.has_output()),
            odd: self.odd || later.odd || is_odd,
            ..*self
        };
    }

    /// Whether the output was reported and can be believed.
    pub(super) fn has_output(&self) -> bool {
        self.output.is_some_and(|count| !count.void)
    }

    /// The usage, with `estimate` for an input that was not reported or cannot be believed.
    pub(super) fn usage(&self, estimate: Option<Tokens>) -> Usage {
        let value = |count: Option<Count>| count.map_or(0, |count| count.value);
        let believed = |count: Option<Count>| value(count.filter(|count| !count.void));
        let all = [self.input, self.cached, self.written, self.output, self.reasoning, self.audio_ms];
        let mut odd = self.odd || self.is_start || all.into_iter().flatten().any(|count| count.odd);

        let (cached, written) = (believed(self.cached), believed(self.written));
        let mut input = value(self.input);
        if let (Some(estimate), true) = (estimate, self.input.is_none_or(|count| count.void)) {
            input = if self.adds_cache { estimate.saturating_sub(cached + written) } else { estimate };
            odd = true;
        }
        if self.adds_cache {
            input += cached + written;
        } else if input < cached + written {
            input = cached + written;
            odd = true;
        }
        let mut output = value(self.output);
        let reasoning = believed(self.reasoning);
        if output < reasoning {
            output += reasoning;
            odd = true;
        }
        Usage {
            input,
            cached_input: cached,
            cache_write: written,
            output,
            reasoning,
            audio_ms: value(self.audio_ms),
            estimated: odd,
        }
    }
}

impl Count {
    fn read(value: &Value) -> Option<Self> {
        Self::scaled(value, 1)
    }

    fn milliseconds(seconds: &Value) -> Option<Self> {
        Self::scaled(seconds, 1000)
    }

    /// `value` times `scale`. `None` for null; whatever is no number in range is clamped and void.
    fn scaled(value: &Value, scale: u32) -> Option<Self> {
        let void = |value| Self { value, odd: true, void: true };
        match value {
            Value::Null => None,
            Value::Number(number) => Some(match (number.as_u64(), number.as_f64()) {
                (Some(whole), _) => {
                    let whole = whole.saturating_mul(u64::from(scale));
                    if whole > CEILING { void(CEILING) } else { Self { value: whole, odd: false, void: false } }
                }
                (None, Some(float)) => {
                    let float = float * f64::from(scale);
                    if float < 0.0 || float.is_nan() {
                        void(0)
                    } else if float > CEILING as f64 {
                        void(CEILING)
                    } else {
                        // In range by the two lines above, so the cast is exact.
                        Self { value: float.ceil() as u64, odd: scale == 1 && float.fract() != 0.0, void: false }
                    }
                }
                (None, None) => void(0),
            }),
            Value::String(text) => {
                let number = text.trim().parse::<serde_json::Number>().ok();
                let count = number.and_then(|number| Self::scaled(&Value::Number(number), scale));
                Some(count.map_or(void(0), |count| Self { odd: true, ..count }))
            }
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Some(void(0)),
        }
    }
}

/// The first of `names` that is there and not null.
fn first<'a>(map: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| map.get(*name).filter(|value| !value.is_null()))
}

fn count(map: &Map<String, Value>, names: &[&str]) -> Option<Count> {
    first(map, names).and_then(Count::read)
}

fn sum(one: Option<Count>, other: Option<Count>) -> Option<Count> {
    match (one, other) {
        (Some(one), Some(other)) => {
            Some(Count { value: one.value + other.value, odd: one.odd || other.odd, void: one.void || other.void })
        }
        (one, other) => one.or(other),
    }
}
