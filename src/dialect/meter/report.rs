//! What a backend reports of its use, brought to one meaning.
//!
//! | member | input | cached, written | output |
//! |---|---|---|---|
//! | openai, azure `usage` | `prompt_tokens` or `input_tokens`: all of it | part of the input | reasoning included |
//! | anthropic `usage` | `input_tokens`: the rest | beside it: added | thinking included |
//! | gemini `usageMetadata` | `promptTokenCount`, and `toolUsePromptTokenCount` beside it | part of the prompt | `candidatesTokenCount`, and `thoughtsTokenCount` beside it |
//! | rerank `meta` | `tokens` or `billed_units` | none | none |

use crate::dialect::meter::count::Count;
use crate::dialect::meter::said::{Number, Part, Said};
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
        let mut said = Said::default();
        said.read(json)?;
        Self::of(source, adds_cache, has_output, &said)
    }

    /// Of what a usage object said. `None` when that is nothing.
    pub(super) fn of(source: Source, adds_cache: bool, has_output: bool, said: &Said) -> Option<Self> {
        let report = match source {
            Source::UsageMetadata => Self::gemini(said),
            Source::Meta => Self::rerank(said),
            Source::Usage | Source::MessageStart if adds_cache => Self::anthropic(source, said),
            Source::Usage | Source::MessageStart => Self::openai(said, has_output),
        };
        let says = report.input.or(report.output).or(report.audio_ms).or(report.cached).or(report.written);
        says.map(|_| report)
    }

    /// A report of nothing but seconds of audio.
    pub(super) fn audio(json: &[u8]) -> Option<Self> {
        Some(Self { audio_ms: Some(Count::milliseconds(json)?), ..Self::default() })
    }

    fn openai(said: &Said, has_output: bool) -> Self {
        let details = [Part::PromptTokensDetails, Part::InputTokensDetails, Part::InputTokenDetails];
        let details = said.first_part(&details);
        let output_details = [Part::CompletionTokensDetails, Part::OutputTokensDetails, Part::OutputTokenDetails];
        let output_details = said.first_part(&output_details);
        let mut report = Self {
            input: said.first(&[Number::PromptTokens, Number::InputTokens]),
            cached: details
                .first(&[Number::CachedTokens])
                .or_else(|| said.first(&[Number::PromptCacheHitTokens, Number::CacheReadInputTokens])),
            written: details
                .first(&[Number::CacheWriteTokens, Number::CacheCreationTokens])
                .or_else(|| said.first(&[Number::CacheCreationInputTokens])),
            output: said.first(&[Number::CompletionTokens, Number::OutputTokens]),
            reasoning: output_details
                .first(&[Number::ReasoningTokens])
                .or_else(|| said.first(&[Number::ReasoningTokens])),
            audio_ms: said.first(&[Number::Seconds]),
            ..Self::default()
        };
        report.complete(said.first(&[Number::TotalTokens]), has_output);
        report
    }

    fn anthropic(source: Source, said: &Said) -> Self {
        Self {
            input: said.first(&[Number::InputTokens]),
            cached: said.first(&[Number::CacheReadInputTokens]),
            written: said.first(&[Number::CacheCreationInputTokens]),
            output: said.first(&[Number::OutputTokens]),
            adds_cache: true,
            is_start: source == Source::MessageStart,
            ..Self::default()
        }
    }

    fn gemini(said: &Said) -> Self {
        let thoughts = said.first(&[Number::ThoughtsTokenCount]);
        let tools = said.first(&[Number::ToolUsePromptTokenCount]);
        let mut report = Self {
            input: sum(said.first(&[Number::PromptTokenCount]), tools),
            cached: said.first(&[Number::CachedContentTokenCount]),
            output: sum(said.first(&[Number::CandidatesTokenCount]), thoughts),
            reasoning: thoughts,
            ..Self::default()
        };
        report.complete(said.first(&[Number::TotalTokenCount]), true);
        report
    }

    fn rerank(said: &Said) -> Self {
        let number =
            |number| [Part::Tokens, Part::BilledUnits].into_iter().find_map(|part| said.part(part).first(&[number]));
        Self { input: number(Number::InputTokens), output: number(Number::OutputTokens), ..Self::default() }
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
            // A total of the input alone says nothing of an output that may still come.
            (Some(input), None) if has_output && total.value == input.value => {}
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
    /// one leaves out (or has as 0) stands. All others say everything each time: a later one that is sound, and of no less than the one before,
    /// is believed; of one that is not, what is less or cannot be takes nothing back.
    pub(super) fn update(&mut self, later: Self) {
        let is_part = self.adds_cache && later.adds_cache;
        if !is_part && later.is_sound() && later.sum() >= self.sum() {
            *self = later;
            return;
        }
        let newer = |old: Option<Count>, new: Option<Count>| match (old, new) {
            (Some(old), Some(new)) if new.void || new.value == 0 || !is_part && !old.void && new.value < old.value => {
                Some(old)
            }
            (old, new) => new.or(old),
        };
        let merged = Self {
            input: newer(self.input, later.input),
            cached: newer(self.cached, later.cached),
            written: newer(self.written, later.written),
            output: newer(self.output, later.output),
            ..later
        };
        if is_part {
            *self = Self {
                is_start: self.is_start && (later.is_start || !later.has_output()),
                odd: self.odd || !later.is_plain(),
                reasoning: self.reasoning,
                audio_ms: self.audio_ms,
                ..merged
            };
            return;
        }
        let (reasoning, audio_ms) = (newer(self.reasoning, later.reasoning), newer(self.audio_ms, later.audio_ms));
        let merged = Self { reasoning, audio_ms, ..merged };
        *self = Self { odd: later.odd || merged != later, ..merged };
    }

    /// Whether nothing in it had to be bent into a number.
    fn is_plain(&self) -> bool {
        let all = [self.input, self.cached, self.written, self.output];
        !self.odd && !all.into_iter().flatten().any(|count| count.odd)
    }

    /// Whether it says all that a report can say, and can be believed.
    fn is_sound(&self) -> bool {
        let is_good = |count: Option<Count>| count.is_some_and(|count| !count.void);
        is_good(self.input) && is_good(self.output)
    }

    /// Input and output as far as they can be believed.
    fn sum(&self) -> u64 {
        [self.input, self.output].into_iter().flatten().filter(|count| !count.void).map(|count| count.value).sum()
    }

    /// Whether nothing is known but how much input and output are together.
    pub(super) fn is_total_alone(&self) -> bool {
        self.odd && self.output.is_none() && self.input.is_some_and(|count| !count.void)
    }

    /// Whether the output was reported and can be believed.
    pub(super) fn has_output(&self) -> bool {
        self.output.is_some_and(|count| !count.void)
    }

    /// Whether it says that nothing was used at all: of an answer that was seen that is not to be believed.
    pub(super) fn is_of_nothing(&self) -> bool {
        [self.input, self.output, self.audio_ms].into_iter().flatten().all(|count| count.value == 0 && !count.void)
    }

    /// The usage, with `prompt` for an input and `seen` for an output that was not reported or cannot be believed. `None` where that is all.
    pub(super) fn made_whole(&self, prompt: Tokens, seen: Tokens) -> Option<Usage> {
        if seen > 0 && self.is_of_nothing() {
            return None;
        }
        let mut usage = self.usage(Some(prompt));
        if !self.has_output() && self.audio_ms.is_none() && !self.is_total_alone() {
            usage.output = seen.max(usage.reasoning);
            usage.estimated = true;
        }
        Some(usage)
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

fn sum(one: Option<Count>, other: Option<Count>) -> Option<Count> {
    match (one, other) {
        (Some(one), Some(other)) => {
            Some(Count { value: one.value + other.value, odd: one.odd || other.odd, void: one.void || other.void })
        }
        (one, other) => one.or(other),
    }
}
