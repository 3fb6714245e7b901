//! How much generated text a member of an event brings. What a model says stands under names that are known, and under those of whatever was
//! invented since: neither is free for whoever leaves before its backend has reported.

use memchr::memmem::Finder;

use crate::dialect::json::plain_length;
use crate::dialect::meter::name::{Name, Texts};
use crate::dialect::meter::tally::BYTES_PER_TOKEN;

/// So many bytes of base64 are taken for one token, few rather than many: a second of sound in 16 bits is 20 tokens in 64,000 bytes
/// (<https://platform.openai.com/docs/guides/realtime-costs>), a picture some 1,000 in a million.
const MEDIA_BYTES_PER_TOKEN: u64 = 512;
/// The shortest string that is taken for sound or a picture, in bytes.
const SHORTEST_MEDIA: usize = 64;

/// What stands under a member's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text, as is known.
    Text,
    /// Nobody knows what.
    Unknown,
    /// The same, which may be sound or a picture.
    Media,
    /// What only says what stands beside it.
    Beside,
    /// What was found, by a tool of the backend's or in what it was given, and not generated.
    Found,
    /// What is generated whole, names and numbers too: a tool's arguments, which a caller and a model name as they like.
    Whole,
}

impl Kind {
    fn of(name: &[u8], texts: Texts) -> Self {
        if texts.has(Name::of(name)) {
            return Self::Text;
        }
        match name {
            b"type" | b"id" | b"role" | b"name" | b"call_id" | b"item_id" | b"tool_use_id" | b"format" | b"status" => {
                Self::Beside
            }
            b"stop_reason" | b"stop_sequence" | b"mimeType" | b"mime_type" | b"language" | b"outcome" => Self::Beside,
            b"data" | b"url" | b"b64_json" | b"signature" | b"thoughtSignature" | b"encrypted_content" => Self::Media,
            b"citation" | b"citations" | b"annotations" | b"context" | b"executed_tools" => Self::Found,
            b"provider_specific_fields" | b"codeExecutionResult" => Self::Found,
            b"args" | b"input" | b"parameters" => Self::Whole,
            _ => Self::Unknown,
        }
    }
}

/// The bytes of text that all members whose name `anchor` looks for, with its quotation marks, bring; in them the strings of `texts` are
/// known to be text. An escape counts as about what it stands for, sound and pictures as the text that costs as much.
pub(super) fn in_members(event: &[u8], anchor: &Finder<'_>, texts: Texts) -> u64 {
    let (mut rest, mut sum) = (event, 0_u64);
    while let Some(behind) = anchor.find(rest).and_then(|at| rest.get(at + anchor.needle().len()..)) {
        let (bytes, length) = in_member(behind, texts);
        sum = sum.saturating_add(bytes);
        rest = behind.get(length..).unwrap_or_default();
    }
    sum
}

/// The text that costs as much as so many bytes of sound or a picture.
pub(super) fn in_media(bytes: u64) -> u64 {
    bytes * BYTES_PER_TOKEN / MEDIA_BYTES_PER_TOKEN
}

/// Of the member behind whose name `behind` stands, and where in that its value ends. What is no member brings nothing.
fn in_member(behind: &[u8], texts: Texts) -> (u64, usize) {
    let colon = space(behind);
    if behind.get(colon) != Some(&b':') {
        return (0, 0);
    }
    let start = colon + 1 + behind.get(colon + 1..).map_or(0, space);
    let value = behind.get(start..).unwrap_or_default();
    let (bytes, length) = match value {
        [b'"', inside @ ..] => {
            let (length, bytes) = string_length(inside);
            let is_sound = inside.get(..length).is_some_and(is_media);
            (if is_sound { in_media(length as u64) } else { bytes }, length + 2)
        }
        [b'{' | b'[', ..] => in_container(value, texts),
        _ => (0, 0),
    };
    (bytes, start + length)
}

/// How much white space `bytes` begin with, also where that is the end of a line of an event.
fn space(bytes: &[u8]) -> usize {
    let blank = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let first = blank(bytes);
    match bytes.split_at_checked(first) {
        Some((white, rest)) if white.ends_with(b"\n") || white.ends_with(b"\r") => match rest.strip_prefix(b"data:") {
            Some(rest) => bytes.len() - rest.len() + blank(rest),
            None => first,
        },
        _ => first,
    }
}

/// Of the object or array that `json` begins with, and its length. Where a text stands a second time under another name, it is counted once.
fn in_container(json: &[u8], texts: Texts) -> (u64, usize) {
    let (mut known, mut unknown) = (0_u64, 0_u64);
    let (mut at, mut depth, mut kind, mut is_result) = (0, 0_u32, Kind::Unknown, false);
    while let Some(byte) = json.get(at) {
        let rest = json.get(at..).unwrap_or_default();
        match byte {
            b'"' => {
                let inside = rest.get(1..).unwrap_or_default();
                let (length, bytes) = string_length(inside);
                at += length + 2;
                let text = inside.get(..length).unwrap_or_default();
                match (is_name(json.get(at..).unwrap_or_default()), kind) {
                    (true, _) => kind = Kind::of(text, texts),
                    (false, Kind::Text) => known = known.saturating_add(bytes),
                    (false, Kind::Media) if is_media(text) => unknown = unknown.saturating_add(in_media(length as u64)),
                    (false, Kind::Unknown | Kind::Media | Kind::Whole) => unknown = unknown.saturating_add(bytes),
                    (false, Kind::Beside) => is_result |= depth == 1 && text.ends_with(b"_tool_result"),
                    (false, Kind::Found) => {}
                }
                continue;
            }
            b'{' | b'[' if depth > 0 && matches!(kind, Kind::Whole | Kind::Found) => {
                let length = container_length(rest);
                if kind == Kind::Whole {
                    unknown = unknown.saturating_add(length as u64);
                }
                (at, kind) = (at + length, Kind::Unknown);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    at += 1;
                    break;
                }
            }
            _ => {}
        }
        at += 1;
    }
    (if is_result { 0 } else { known.max(unknown) }, at)
}

/// How long the object or array is that `json` begins with; all of it, where it does not end.
fn container_length(json: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_u32);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at += string_length(json.get(at..).unwrap_or_default()).0 + 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => break,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    at.min(json.len())
}

/// Whether the string before `behind` is a member's name.
#[inline]
pub(super) fn is_name(behind: &[u8]) -> bool {
    match behind.first() {
        Some(b':') => true,
        Some(b',' | b'}' | b']') => false,
        _ => behind.trim_ascii_start().starts_with(b":"),
    }
}

/// Whether a string is base64, of either alphabet, or a `data:` URL.
fn is_media(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
    let dense = || text.iter().filter(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()).count();
    text.len() >= SHORTEST_MEDIA
        && (text.starts_with(b"data:") || text.iter().all(is_digit) && is_dense(dense() as u64, text.len() as u64))
}

/// Whether so many capitals and digits among so many letters are those of base64, which has more than half, and not of words that are written without
/// blanks, which have far fewer.
pub(super) fn is_dense(dense: u64, letters: u64) -> bool {
    dense * 3 >= letters
}

/// Where the string that begins at `inside` ends, and how many bytes it stands for: an escape is one (a `\u` is four).
#[inline]
pub(super) fn string_length(inside: &[u8]) -> (usize, u64) {
    let length = plain_length(inside);
    if inside.get(length) == Some(&b'"') { (length, length as u64) } else { escaped_length(inside) }
}

#[inline(never)]
fn escaped_length(inside: &[u8]) -> (usize, u64) {
    let (mut at, mut escapes) = (0, 0_u64);
    loop {
        let rest = inside.get(at..).unwrap_or_default();
        let found = plain_length(rest);
        at += found;
        match rest.get(found) {
            Some(b'\\') => {}
            // Its end, or that of all there is.
            _ => return (at.min(inside.len()), (at.min(inside.len()) as u64).saturating_sub(escapes)),
        }
        escapes += if rest.get(found + 1) == Some(&b'u') { 2 } else { 1 };
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_stands_beside_the_members_is_nothing_of_theirs() {
        let event =
            br#"{"content":"beside","delta":{"content":"abc"},"content":"beside","delta":"no object","x":"delta"}"#;
        let brought = in_members(event, &Finder::new("\"delta\""), Texts::of(&[Name::Content]));
        assert_eq!(brought, 3 + "no object".len() as u64);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_event_brings_more_than_it_has(
            parts in prop::collection::vec(prop::sample::select(vec![
                "\"delta\"", ":", "{", "}", "[", "]", ",", "\"content\"", "\"a text\"", "\"data\"", "\"", "\\\"", "\\u00e9", "\\", "\"type\"", " ",
                "\"x_tool_result\"", "data: ", "\n", "7", "null",
            ]), 0..40),
        ) {
            let event = parts.concat().into_bytes();
            let brought = in_members(&event, &Finder::new("\"delta\""), Texts::of(&[Name::Content]));
            prop_assert!(brought <= event.len() as u64);
        }
    }
}
