//! Quick looks at a whole event: is it worth reading, and how much generated text does it bring.
//!
//! JSON escapes every quote inside a string, so a member name with its quotes cannot occur inside one. That makes a byte
//! search for `"usage"` exact enough to decide what to read; what is read is decided by the scan, which knows depth.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use crate::dialect::meter::generated::{self, is_name, string_length};
use crate::dialect::meter::name::{Name, Texts};
use crate::policy::{DialectName, Endpoint};

/// Searched for byte by byte in what is shorter than this.
const SHORT: usize = 32;
/// Where the type of a content block stands at the latest behind its name, in bytes.
const LONGEST_KIND: usize = 96;
const USAGE_NAME: &[u8; 5] = b"usage";
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(USAGE_NAME));
static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"delta\""));
static CONTENT_BLOCK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"content_block\""));
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"choices\""));
static PARTS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"parts\""));
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"text\""));
static MESSAGE_STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"message_stop\""));
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finishReason\""));

/// Members in which what is generated stands, the first that brings any.
type Anchors = &'static [&'static LazyLock<Finder<'static>>];
static AT_DELTA: [&LazyLock<Finder<'static>>; 1] = [&DELTA];
static AT_DELTA_OR_BLOCK: [&LazyLock<Finder<'static>>; 2] = [&DELTA, &CONTENT_BLOCK];
static AT_PARTS: [&LazyLock<Finder<'static>>; 1] = [&PARTS];
static AT_TEXT: [&LazyLock<Finder<'static>>; 1] = [&TEXT];

/// What the answers of one endpoint are looked through for.
#[derive(Clone, Copy)]
pub(super) struct Lookout {
    /// The member whose presence makes an event worth reading in search of the stream's end.
    end: Option<&'static LazyLock<Finder<'static>>>,
    /// Whether an event whose usage is null is read too: its type may still say that the stream ended.
    reads_null: bool,
    /// Whether a usage beside a choice is of that choice alone (vLLM's `continuous_usage_stats`).
    pub(super) is_of_several: bool,
    /// Where generated text stands in an event; nothing for anywhere.
    anchors: Anchors,
    /// Whether sound or pictures may stand there.
    has_media: bool,
    /// The members whose strings are generated text in an event.
    pub(super) event_text: Texts,
    /// The members whose strings are generated text in a JSON answer.
    pub(super) body_text: Texts,
}

const CHAT: Texts =
    Texts::of(&[Name::Content, Name::ReasoningContent, Name::Reasoning, Name::Refusal, Name::Arguments]);
const DELTAS: Texts = Texts::of(&[Name::Delta]);
const ANTHROPIC: Texts = Texts::of(&[Name::Text, Name::PartialJson, Name::Thinking]);
const TEXTS: Texts = Texts::of(&[Name::Text]);
const RESPONSE_BODY: Texts = Texts::of(&[Name::Text, Name::Arguments, Name::Refusal]);
const ANY: Texts =
    Texts::of(&[Name::Content, Name::Text, Name::Delta, Name::Arguments, Name::PartialJson, Name::Thinking]);

impl Lookout {
    pub(super) fn of(dialect: DialectName, endpoint: Endpoint) -> Self {
        let plain = Self {
            end: None,
            reads_null: false,
            is_of_several: false,
            anchors: &AT_DELTA,
            has_media: false,
            event_text: Texts::NONE,
            body_text: Texts::NONE,
        };
        match endpoint {
            Endpoint::ChatCompletions => Self { has_media: true, event_text: CHAT, body_text: CHAT, ..plain },
            Endpoint::Completions => Self { anchors: &AT_TEXT, event_text: TEXTS, body_text: TEXTS, ..plain },
            Endpoint::Responses => Self { reads_null: true, event_text: DELTAS, body_text: RESPONSE_BODY, ..plain },
            Endpoint::Messages => Self {
                end: Some(&MESSAGE_STOP),
                anchors: &AT_DELTA_OR_BLOCK,
                has_media: true,
                event_text: ANTHROPIC,
                body_text: ANTHROPIC,
                ..plain
            },
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => Self {
                end: Some(&FINISH_REASON),
                anchors: &AT_PARTS,
                has_media: true,
                event_text: TEXTS,
                body_text: TEXTS,
                ..plain
            },
            Endpoint::Passthrough => {
                let end = match dialect {
                    DialectName::Anthropic => Some(&MESSAGE_STOP),
                    DialectName::Gemini => Some(&FINISH_REASON),
                    DialectName::OpenAi | DialectName::Azure => None,
                };
                Self { end, reads_null: true, anchors: &[], event_text: ANY, body_text: ANY, ..plain }
            }
            Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => {
                Self { reads_null: true, event_text: DELTAS, ..plain }
            }
            _ => Self { reads_null: true, ..plain },
        }
    }

    /// Whether a whole event has to be read: it carries usage, or it may be the stream's own end.
    pub(super) fn wants(&self, event: &[u8]) -> bool {
        has_usage(event, self.reads_null) && !(self.is_of_several && has_choice(event))
            || self.end.is_some_and(|end| end.find(event).is_some())
    }

    /// Bytes of generated text in a whole event, escapes counted about as the bytes they stand for.
    pub(super) fn text_in(&self, event: &[u8]) -> u64 {
        if self.event_text.is_empty() {
            return 0;
        }
        if self.anchors.is_empty() {
            return strings_of(event, self.event_text);
        }
        let mut brought = self.anchors.iter().map(|anchor| generated::in_members(event, anchor, self.event_text));
        brought.find(|bytes| *bytes > 0).unwrap_or(0)
    }

    /// Whether an event that is too long to be looked through may bring more than its known text.
    pub(super) fn has_media(&self) -> bool {
        self.has_media
    }

    /// Whether an event that begins so says what a tool of the backend's has found (anthropic), which was not generated.
    pub(super) fn is_found(&self, start: &[u8]) -> bool {
        let block = (self.anchors.len() > 1).then(|| CONTENT_BLOCK.find(start)).flatten();
        let kind = block.and_then(|at| start.get(at..)).map(|block| block.get(..LONGEST_KIND).unwrap_or(block));
        kind.is_some_and(|kind| memmem::find(kind, b"_tool_result\"").is_some())
    }
}

/// Whether an event has a member `usage` or `usageMetadata` with a value, or with null where `null_counts`.
fn has_usage(event: &[u8], null_counts: bool) -> bool {
    let mut rest = event;
    loop {
        // What is left behind a usage of null is mostly too short for another one.
        let found = if rest.len() < SHORT {
            rest.windows(USAGE_NAME.len()).position(|part| part == USAGE_NAME)
        } else {
            USAGE.find(rest)
        };
        let Some(behind) = found.and_then(|at| rest.get(at + USAGE_NAME.len()..)) else { return false };
        if is_usage(behind, null_counts) {
            return true;
        }
        rest = behind;
    }
}

/// Whether an event has a choice in its `choices`.
fn has_choice(event: &[u8]) -> bool {
    let behind = CHOICES.find(event).and_then(|at| event.get(at + CHOICES.needle().len()..));
    let list = behind.and_then(|behind| behind.trim_ascii_start().strip_prefix(b":"));
    let first = list.and_then(|list| list.trim_ascii_start().strip_prefix(b"["));
    first.is_some_and(|first| !first.trim_ascii_start().starts_with(b"]"))
}

/// Whether what stands behind `usage` makes it such a member.
fn is_usage(behind: &[u8], null_counts: bool) -> bool {
    let behind = behind.strip_prefix(b"Metadata").unwrap_or(behind);
    let Some(behind) = behind.strip_prefix(b"\"") else { return false };
    match behind.trim_ascii_start() {
        [b':', value @ ..] => null_counts || !value.trim_ascii_start().starts_with(b"null"),
        // The colon may stand in the event's next line, behind that line's field name.
        _ => behind.iter().take_while(|b| b.is_ascii_whitespace()).any(|b| matches!(b, b'\r' | b'\n')),
    }
}

/// Whether an event is nothing but openai's `[DONE]`.
pub(super) fn is_done(event: &[u8]) -> bool {
    event.len() <= 64
        && event
            .split(|b| matches!(b, b'\r' | b'\n'))
            .any(|line| line.strip_prefix(b"data:").is_some_and(|value| value.trim_ascii() == b"[DONE]"))
}

/// The bytes of all strings that are values of one of `names`.
fn strings_of(json: &[u8], names: Texts) -> u64 {
    let (mut rest, mut sum, mut wanted) = (json, 0_u64, false);
    while let Some(inside) = behind_quote(rest) {
        let (length, bytes) = string_length(inside);
        rest = inside.get(length + 1..).unwrap_or_default();
        if is_name(rest) {
            wanted = names.has(Name::of(inside.get(..length).unwrap_or_default()));
        } else if wanted {
            sum = sum.saturating_add(bytes);
            wanted = false;
        }
    }
    sum
}

/// What stands behind the first quotation mark. Strings stand close to each other.
#[inline]
fn behind_quote(json: &[u8]) -> Option<&[u8]> {
    match json {
        [b'"', inside @ ..] | [_, b'"', inside @ ..] => Some(inside),
        [_, _, rest @ ..] => rest.iter().position(|byte| *byte == b'"').and_then(|at| rest.get(at + 1..)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_is_worth_reading_only_with_a_usage_member_that_has_a_value() {
        for (event, with_null, without) in [
            (r#"data: {"usage":{"prompt_tokens":1}}"#, true, true),
            (r#"data: {"usage" : {"prompt_tokens":1}}"#, true, true),
            (r#"data: {"usageMetadata":{}}"#, true, true),
            (r#"data: {"usage":null}"#, true, false),
            (r#"data: {"content":"the usage: {}"}"#, false, false),
            (r#"data: {"content":"{\"usage\":{}}"}"#, false, false),
            (r#"data: {"content":"usage"}"#, false, false),
            ("data: {\"usage\"\ndata: :{}}", true, true),
        ] {
            assert_eq!(has_usage(event.as_bytes(), true), with_null, "{event}");
            assert_eq!(has_usage(event.as_bytes(), false), without, "{event}");
        }
    }

    #[test]
    fn text_is_counted_by_what_it_stands_for_and_only_where_it_is_generated() {
        let chat = Lookout::of(DialectName::OpenAi, Endpoint::ChatCompletions);
        let count = |event: &str| chat.text_in(event.as_bytes());
        assert_eq!(count(r#"{"id":"content","choices":[{"delta":{"content":"Hello"}}]}"#), 5);
        assert_eq!(count(r#"{"choices":[{"delta":{"content": "a\n\"b\\"}}]}"#), 5);
        assert_eq!(count(r#"{"choices":[{"delta":{"content":"\u00e9"}}]}"#), 4);
        assert_eq!(count(r#"{"choices":[{"delta":{"content":null,"role":"assistant"}}]}"#), 0);
        assert_eq!(count(r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"a\":1}"}}]}}]}"#), 7);
        assert_eq!(count(r#"{"choices":[{"delta":{"content":"cut off"#), 7);
        assert_eq!(count(r#"{"choices":[]}"#), 0);
    }

    /// The same, quotation mark by quotation mark and byte by byte.
    fn strings_expected(json: &[u8], names: Texts) -> u64 {
        let (mut at, mut sum, mut wanted) = (0, 0, false);
        while at < json.len() {
            if json[at] != b'"' {
                at += 1;
                continue;
            }
            let (start, mut bytes) = (at + 1, 0);
            at = start;
            while at < json.len() && json[at] != b'"' {
                let is_escape = json[at] == b'\\';
                let is_unit = is_escape && json.get(at + 1) == Some(&b'u');
                let length = (if is_escape { 2 } else { 1 }).min(json.len() - at);
                // Of an escape one byte is counted, of one of six bytes four, of one that is cut off none.
                bytes += if is_unit { 0 } else { length - usize::from(is_escape) };
                at += length;
            }
            let text = &json[start..at];
            at += 1;
            if json.get(at..).unwrap_or_default().trim_ascii_start().starts_with(b":") {
                wanted = names.has(Name::of(text));
            } else if wanted {
                sum += bytes as u64;
                wanted = false;
            }
        }
        sum
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn an_event_is_looked_through_as_byte_by_byte(
            parts in prop::collection::vec(prop::sample::select(vec![
                "\"usage\"", "usage", "usageMetadata\"", ":", " :", "null", "\"", "\"content\"", "\"text\":", "\"abc\"", "\\\"", "\\u00e9",
                "\\\\", ",", "{", "}", " ", "\n", "\r\ndata: ", "a long text of more than sixteen bytes", "7", "\"delta\":\"x\"", "us", "age",
            ]), 0..24),
            null_counts: bool,
        ) {
            let event = parts.concat().into_bytes();
            let places = (0..event.len()).filter(|at| event[*at..].starts_with(USAGE_NAME));
            let expected = places.into_iter().any(|at| is_usage(&event[at + USAGE_NAME.len()..], null_counts));
            prop_assert_eq!(has_usage(&event, null_counts), expected);
            prop_assert_eq!(strings_of(&event, ANY), strings_expected(&event, ANY));
        }
    }

    #[test]
    fn done_is_a_whole_data_line() {
        assert!(is_done(b"data: [DONE]\n\n") && is_done(b"data:[DONE]\r\n\r\n") && is_done(b": x\rdata: [DONE] \r\r"));
        assert!(!is_done(b"data: \"[DONE]\"\n\n") && !is_done(b": [DONE]\n\n"));
    }
}
