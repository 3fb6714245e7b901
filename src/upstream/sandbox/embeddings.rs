//! Embeddings: unit vectors made from the text, the same text giving the same vector.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::{Value, json};

use super::fingerprint::{self, Numbers, base64};
use super::report::with;
use super::wish::{count, either, list, member, text};
use super::{Play, Request, wording};

/// The most texts of one request, as OpenAI has it.
const TEXTS: usize = 2_048;
/// The most numbers of one answer.
const NUMBERS: usize = 1 << 20;
const OPENAI_LENGTH: usize = 1_536;
const GEMINI_LENGTH: usize = 768;

/// `/v1/embeddings`.
pub(super) fn openai(request: &Request<'_>) -> Play {
    let body = &request.body;
    let input = member(body, "input");
    let texts: Vec<&Value> = match input.as_array() {
        // A list of numbers is one text in tokens.
        Some(items) if items.first().is_some_and(|first| !first.is_number()) => items.iter().collect(),
        _ => vec![input],
    };
    let length = length(count(body, "dimensions"), OPENAI_LENGTH);
    if let Some(refused) = refuse(request, texts.len(), length) {
        return refused;
    }
    let as_base64 = text(body, "encoding_format") == Some("base64");
    let items: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text, length);
            let vector = if as_base64 { format!("\"{}\"", base64_of(&vector)) } else { array_of(&vector) };
            format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":{vector}}}")
        })
        .collect();
    let rest = with(json!({ "object": "list", "model": request.ask.model }), "usage", request.report.prompt_only());
    Play::whole("application/json", joined(&rest, "data", &format!("[{}]", items.join(","))))
}

/// gemini `embedContent`.
pub(super) fn gemini_one(request: &Request<'_>) -> Play {
    let length = gemini_length(&request.body);
    if let Some(refused) = refuse(request, 1, length) {
        return refused;
    }
    let embedding = gemini_embedding(&request.body, length);
    Play::whole("application/json", joined(&usage(request), "embedding", &embedding))
}

/// gemini `batchEmbedContents`.
pub(super) fn gemini_batch(request: &Request<'_>) -> Play {
    let asked = list(&request.body, "requests");
    let longest = asked.iter().map(gemini_length).max().unwrap_or_default();
    if let Some(refused) = refuse(request, asked.len(), longest) {
        return refused;
    }
    let embeddings: Vec<String> = asked.iter().map(|one| gemini_embedding(one, gemini_length(one))).collect();
    Play::whole("application/json", joined(&usage(request), "embeddings", &format!("[{}]", embeddings.join(","))))
}

fn usage(request: &Request<'_>) -> Value {
    with(json!({}), "usageMetadata", request.report.prompt_metadata())
}

fn gemini_length(one: &Value) -> usize {
    let asked = either(one, "outputDimensionality", "output_dimensionality");
    length(asked.as_u64(), GEMINI_LENGTH)
}

fn gemini_embedding(one: &Value, length: usize) -> String {
    format!("{{\"values\":{}}}", array_of(&vector(member(one, "content"), length)))
}

fn length(asked: Option<u64>, default: usize) -> usize {
    asked.map_or(default, |asked| usize::try_from(asked).unwrap_or(usize::MAX)).max(1)
}

fn refuse(request: &Request<'_>, texts: usize, length: usize) -> Option<Play> {
    let fits = texts <= TEXTS && texts.saturating_mul(length) <= NUMBERS;
    let message = "The sandbox embeds at most 2,048 texts and makes at most 1,048,576 numbers at once.";
    (!fits).then(|| wording::error(request.ask.dialect, StatusCode::BAD_REQUEST, message))
}

/// `object` with a member that is JSON already: vectors are written straight to text, a number at a time.
fn joined(object: &Value, name: &str, member: &str) -> String {
    let rest = object.to_string();
    let rest = rest.trim_start_matches('{');
    let comma = if rest == "}" { "" } else { "," };
    format!("{{\"{name}\":{member}{comma}{rest}")
}

/// A vector of length 1 that only the text decides.
fn vector(text: &Value, length: usize) -> Vec<f32> {
    let mut numbers = Numbers(fingerprint::of(&[text.to_string().as_bytes()]));
    let mut vector: Vec<f32> = (0..length).map(|_| numbers.next_signed()).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    // No number but zero has no direction; a first number of 1 gives it one.
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    } else if let Some(first) = vector.first_mut() {
        *first = 1.0;
    }
    vector
}

fn array_of(vector: &[f32]) -> String {
    let mut array = String::with_capacity(vector.len() * 13 + 2);
    for (index, number) in vector.iter().enumerate() {
        let before = if index == 0 { '[' } else { ',' };
        // Writing to a string does not fail.
        let _ = write!(array, "{before}{number}");
    }
    array.push(']');
    array
}

/// Little-endian 32-bit floats, as OpenAI's SDKs unpack them.
fn base64_of(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    base64(&bytes)
}
