//! Moderations and rerank: texts judged by the words in them.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::report::with;
use super::wish::{count, flag, list, member, quoted, text};
use super::{Play, Request, wording};

/// The most texts moderated at once.
const TEXTS: usize = 1_024;
/// The most words of a query that are looked for.
const WORDS: usize = 256;

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// `/v1/moderations`: a text that names a category is flagged for it.
pub(super) fn moderations(request: &Request<'_>) -> Play {
    let input = member(&request.body, "input");
    let texts: Vec<String> = match input.as_array() {
        Some(items) if items.iter().all(Value::is_string) => items.iter().take(TEXTS + 1).map(quoted).collect(),
        _ => vec![quoted(input)],
    };
    if texts.len() > TEXTS {
        let message = "The sandbox moderates at most 1,024 texts at once.";
        return wording::error(request.ask.dialect, StatusCode::BAD_REQUEST, message);
    }
    let results: Value = texts.iter().map(|text| verdict(text)).collect();
    let answer = json!({ "id": request.id("modr-"), "model": request.ask.model, "results": results });
    Play::json(&with(answer, "usage", request.report.prompt_only()))
}

fn verdict(text: &str) -> Value {
    let (mut categories, mut scores, mut inputs) = (Map::new(), Map::new(), Map::new());
    let mut flagged = false;
    for category in CATEGORIES {
        let found = text.split_whitespace().any(|word| word.eq_ignore_ascii_case(category));
        flagged |= found;
        categories.insert(category.to_owned(), json!(found));
        scores.insert(category.to_owned(), json!(if found { 0.99 } else { 0.01 }));
        inputs.insert(category.to_owned(), json!(["text"]));
    }
    json!({
        "flagged": flagged, "categories": categories, "category_scores": scores, "category_applied_input_types": inputs,
    })
}

/// `/v1/rerank`: a document's relevance is the share of the query's words that it has.
pub(super) fn rerank(request: &Request<'_>) -> Play {
    let body = &request.body;
    let query: HashSet<String> =
        text(body, "query").unwrap_or_default().split_whitespace().take(WORDS).map(str::to_lowercase).collect();
    let documents = list(body, "documents");
    let mut ranked: Vec<(usize, u64)> =
        documents.iter().enumerate().map(|(index, document)| (index, hits(&query, document))).collect();
    ranked.sort_by_key(|(index, hits)| (std::cmp::Reverse(*hits), *index));
    let top = count(body, "top_n").and_then(|top| usize::try_from(top).ok()).unwrap_or(usize::MAX);
    let results: Value = ranked
        .iter()
        .take(top)
        .map(|(index, hits)| {
            let score = *hits as f64 / query.len().max(1) as f64;
            let document = documents.get(*index).filter(|_| flag(body, "return_documents"));
            let document = document.map(|given| json!({ "text": given.as_str().or_else(|| text(given, "text")) }));
            with(json!({ "index": index, "relevance_score": score }), "document", document)
        })
        .collect();
    let meta = json!({ "billed_units": { "search_units": 1 } });
    let answer = json!({ "id": request.id("rerank-"), "model": request.ask.model, "results": results, "meta": meta });
    Play::json(&with(answer, "usage", request.report.prompt_only()))
}

fn hits(query: &HashSet<String>, document: &Value) -> u64 {
    let words = document.as_str().or_else(|| text(document, "text")).unwrap_or_default();
    let found: HashSet<String> =
        words.split_whitespace().map(str::to_lowercase).filter(|word| query.contains(word)).collect();
    found.len() as u64
}
