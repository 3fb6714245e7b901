//! Which call a path means. An allow-list on the exact bytes: nothing is normalised into something allowed.

pub(super) mod target;

use std::ops::Range;

use http::Method;

use self::target::{check_path, check_query, model_of, names_model};
pub use self::target::{query_with_model, upstream_query};
use crate::headers::Headers;
use crate::policy::{DialectName, Endpoint, HeadFlaw, Refusal};
use crate::units::ModelName;

/// One `[[passthrough]]` entry: a path forwarded beside the dialects' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassthroughRoute {
    /// The path, exact.
    pub path: Box<str>,
    /// The methods taken there.
    pub methods: Vec<Method>,
    /// The upstream it goes to.
    pub upstream: Box<str>,
    /// Whether it reaches no model, so that a key with a model list may use it.
    pub model_free: bool,
}

/// The call a request line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whose API.
    pub dialect: DialectName,
    /// Which call.
    pub endpoint: Endpoint,
    /// The model the path names.
    pub model: Option<ModelName>,
    /// Where that name stands in the path, in bytes, for splicing another one in.
    pub model_range: Option<Range<usize>>,
    /// Whether the path itself asks for a stream (gemini `streamGenerateContent`).
    pub streams: bool,
    /// The query parameter that names the model, where one does (a websocket has no body).
    pub model_parameter: Option<&'static str>,
    /// Which of the passthrough routes it is, by index.
    pub passthrough: Option<usize>,
}

/// Whether the call of this path is a websocket, so that what follows the head of its request may be no HTTP.
pub fn is_websocket(path: &str) -> bool {
    matches!(path, "/v1/realtime" | "/openai/realtime" | "/openai/v1/realtime")
}

/// Finds the call. `path` and `query` are the bytes of the request target as they came; the dialects' own calls are asked
/// first, then the operator's.
///
/// # Errors
/// [`HeadFlaw::Path`], [`HeadFlaw::Query`], [`Refusal::UnknownPath`], [`Refusal::MethodNotAllowed`] (POLICY 1, SECURITY 1).
pub fn route(
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &Headers,
    passthrough: &[PassthroughRoute],
) -> Result<Route, Refusal> {
    check_path(path)?;
    check_query(query.unwrap_or_default())?;
    let call = built_in(path, method, headers)?;
    if let Some(call) = &call
        && call.takes.allows(method)
    {
        if call.endpoint == Endpoint::Realtime {
            // Azure's first path calls it by what it is there; the newer one has OpenAI's word.
            let parameter = if path == "/openai/realtime" { "deployment" } else { "model" };
            let model = Some(model_of(query.unwrap_or_default(), parameter)?);
            return Ok(Route { model, model_parameter: Some(parameter), ..call.route() });
        }
        if query.is_some_and(names_model) {
            return Err(Refusal::Head(HeadFlaw::Query));
        }
        return Ok(call.route());
    }
    let others = match operators_own(path, method, passthrough) {
        Own::Route(index) => {
            return Ok(Route {
                dialect: nearest(path, headers),
                endpoint: Endpoint::Passthrough,
                model: None,
                model_range: None,
                streams: false,
                model_parameter: None,
                passthrough: Some(index),
            });
        }
        Own::Methods(others) => others,
    };
    match others | call.map_or(0, |call| call.takes.bits()) {
        0 => Err(Refusal::UnknownPath),
        bits => Err(Refusal::MethodNotAllowed { allowed: ALLOWED.get(bits & 0b1111).copied().unwrap_or_default() }),
    }
}

/// The dialect an error is worded in where no route was found: by the path as far as it tells, else by what the headers show.
pub fn nearest(path: &str, headers: &Headers) -> DialectName {
    let starts = |prefix: &str| {
        path.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if starts("/openai/") {
        DialectName::Azure
    } else if starts("/v1beta/") || ((starts("/v1/models/") || starts("/models/")) && has_verb(path)) {
        DialectName::Gemini
    } else if starts("/v1/messages") {
        DialectName::Anthropic
    } else if path == "/v1/realtime" || path.strip_prefix("/v1/").and_then(openai_call).is_some() {
        DialectName::OpenAi
    } else if let Some(dialect) = by_headers(headers) {
        dialect
    } else if headers.contains_key("api-key") {
        DialectName::Azure
    } else {
        DialectName::OpenAi
    }
}

/// What the headers show of the caller's SDK (ECOSYSTEM 2): asked only where several APIs have the same path.
fn by_headers(headers: &Headers) -> Option<DialectName> {
    if headers.contains_key("x-goog-api-key") {
        Some(DialectName::Gemini)
    } else if headers.contains_key("anthropic-version") {
        Some(DialectName::Anthropic)
    } else {
        None
    }
}

#[derive(Clone, Copy)]
enum Takes {
    Get,
    Post,
}

impl Takes {
    fn allows(self, method: &Method) -> bool {
        match self {
            Self::Get => reads(method),
            Self::Post => method == Method::POST,
        }
    }

    /// As an index into [`ALLOWED`].
    fn bits(self) -> usize {
        match self {
            Self::Get => 0b0001,
            Self::Post => 0b0010,
        }
    }
}

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// A call of one of the dialects, whatever the method.
struct Call {
    dialect: DialectName,
    endpoint: Endpoint,
    takes: Takes,
    model: Option<(ModelName, Range<usize>)>,
}

impl Call {
    fn post(dialect: DialectName, endpoint: Endpoint) -> Self {
        Self { dialect, endpoint, takes: Takes::Post, model: None }
    }

    fn get(dialect: DialectName, endpoint: Endpoint) -> Self {
        Self { dialect, endpoint, takes: Takes::Get, model: None }
    }

    /// The same call of the model that stands in `path` at `range`.
    fn of_model(self, path: &str, range: Range<usize>) -> Result<Option<Self>, Refusal> {
        let name = path.get(range.clone()).unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
        let model = ModelName::new(name).filter(|_| !name.ends_with('/'));
        let model = model.ok_or(Refusal::Head(HeadFlaw::Path))?;
        Ok(Some(Self { model: Some((model, range)), ..self }))
    }

    fn route(&self) -> Route {
        Route {
            dialect: self.dialect,
            endpoint: self.endpoint,
            model: self.model.as_ref().map(|(name, _)| name.clone()),
            model_range: self.model.as_ref().map(|(_, range)| range.clone()),
            streams: self.endpoint == Endpoint::StreamGenerateContent,
            model_parameter: None,
            passthrough: None,
        }
    }
}

/// The calls of POLICY 1. `method` matters only where a model's name and a verb could be confused.
fn built_in(path: &str, method: &Method, headers: &Headers) -> Result<Option<Call>, Refusal> {
    if let Some(rest) = path.strip_prefix("/v1/") {
        let shared = || by_headers(headers).unwrap_or(DialectName::OpenAi);
        let call = match rest {
            "messages" => Call::post(DialectName::Anthropic, Endpoint::Messages),
            "messages/count_tokens" => Call::post(DialectName::Anthropic, Endpoint::CountTokens),
            "models" => Call::get(shared(), Endpoint::Models),
            "realtime" => Call::get(DialectName::OpenAi, Endpoint::Realtime),
            "key" => Call::get(shared(), Endpoint::KeyStatus),
            _ => match openai_call(rest) {
                Some(endpoint) => Call::post(DialectName::OpenAi, endpoint),
                None => return verb_or_model(path, "/v1/models/", method, shared()),
            },
        };
        return Ok(Some(call));
    }
    if matches!(path, "/api/usage/token" | "/api/usage/token/") {
        return Ok(Some(Call::get(DialectName::OpenAi, Endpoint::TokenUsage)));
    }
    if path == "/v1beta/models" {
        return Ok(Some(Call::get(DialectName::Gemini, Endpoint::Models)));
    }
    if path.starts_with("/v1beta/") {
        return verb_or_model(path, "/v1beta/models/", method, DialectName::Gemini);
    }
    if path.starts_with("/models/") {
        return verb(path, "/models/");
    }
    if path.starts_with("/openai/") {
        return azure_call(path);
    }
    Ok(None)
}

fn openai_call(rest: &str) -> Option<Endpoint> {
    Some(match rest {
        "chat/completions" => Endpoint::ChatCompletions,
        "responses" => Endpoint::Responses,
        "embeddings" => Endpoint::Embeddings,
        "completions" => Endpoint::Completions,
        "moderations" => Endpoint::Moderations,
        "images/generations" => Endpoint::ImageGenerations,
        "images/edits" => Endpoint::ImageEdits,
        "images/variations" => Endpoint::ImageVariations,
        "audio/speech" => Endpoint::AudioSpeech,
        "audio/transcriptions" => Endpoint::AudioTranscriptions,
        "audio/translations" => Endpoint::AudioTranslations,
        "rerank" => Endpoint::Rerank,
        _ => return None,
    })
}

/// What Azure has per deployment; the rest of OpenAI's calls it has without one, or not at all.
fn deployment_call(rest: &str) -> Option<Endpoint> {
    openai_call(rest)
        .filter(|endpoint| !matches!(endpoint, Endpoint::Moderations | Endpoint::ImageVariations | Endpoint::Rerank))
}

/// AzureOpenAI sends calls that name a model to `/openai/deployments/{m}/...`, and responses and models, which its table of
/// deployment calls lacks, to `/openai/...`. A deployment's name is one segment.
fn azure_call(path: &str) -> Result<Option<Call>, Refusal> {
    const DEPLOYMENTS: &str = "/openai/deployments/";
    if let Some(rest) = path.strip_prefix(DEPLOYMENTS) {
        let Some((name, call)) = rest.split_once('/') else { return Ok(None) };
        let Some(endpoint) = deployment_call(call) else { return Ok(None) };
        let range = DEPLOYMENTS.len()..DEPLOYMENTS.len() + name.len();
        return Call::post(DialectName::Azure, endpoint).of_model(path, range);
    }
    for prefix in ["/openai/models/", "/openai/v1/models/"] {
        if path.starts_with(prefix) {
            return Call::get(DialectName::Azure, Endpoint::Model).of_model(path, prefix.len()..path.len());
        }
    }
    Ok(match path {
        "/openai/responses" => Some(Call::post(DialectName::Azure, Endpoint::Responses)),
        "/openai/realtime" | "/openai/v1/realtime" => Some(Call::get(DialectName::Azure, Endpoint::Realtime)),
        "/openai/models" | "/openai/v1/models" => Some(Call::get(DialectName::Azure, Endpoint::Models)),
        _ => path
            .strip_prefix("/openai/v1/")
            .and_then(openai_call)
            .map(|endpoint| Call::post(DialectName::Azure, endpoint)),
    })
}

/// `{prefix}{m}:{verb}`, where neither `{m}` nor its end is in doubt: a model may have colons, a verb has none.
fn verb(path: &str, prefix: &str) -> Result<Option<Call>, Refusal> {
    let Some(rest) = path.strip_prefix(prefix) else { return Ok(None) };
    let Some((name, verb)) = rest.rsplit_once(':') else { return Ok(None) };
    let Some(endpoint) = gemini_verb(verb) else { return Ok(None) };
    // Which of two verbs a backend would take is its own affair: one of them may be free.
    if name.split(':').skip(1).any(|part| gemini_verb(part).is_some()) {
        return Err(Refusal::Head(HeadFlaw::Path));
    }
    Call::post(DialectName::Gemini, endpoint).of_model(path, prefix.len()..prefix.len() + name.len())
}

/// `{prefix}{m}:{verb}` or `{prefix}{m}`. A colon before an unknown verb belongs to a name when it is read (`ft:gpt-4o`), and
/// makes an unknown path when it is posted to.
fn verb_or_model(path: &str, prefix: &str, method: &Method, lists: DialectName) -> Result<Option<Call>, Refusal> {
    if let Some(call) = verb(path, prefix)? {
        return Ok(Some(call));
    }
    let Some(name) = path.strip_prefix(prefix) else { return Ok(None) };
    if name.contains(':') && !reads(method) {
        return Ok(None);
    }
    Call::get(lists, Endpoint::Model).of_model(path, prefix.len()..path.len())
}

fn gemini_verb(verb: &str) -> Option<Endpoint> {
    Some(match verb {
        "generateContent" => Endpoint::GenerateContent,
        "streamGenerateContent" => Endpoint::StreamGenerateContent,
        "embedContent" => Endpoint::EmbedContent,
        "batchEmbedContents" => Endpoint::BatchEmbedContents,
        "countTokens" => Endpoint::GeminiCountTokens,
        _ => return None,
    })
}

fn has_verb(path: &str) -> bool {
    path.rsplit_once(':').is_some_and(|(_, verb)| gemini_verb(verb).is_some())
}

/// What the operator's own routes say of a path.
enum Own {
    /// It is this one.
    Route(usize),
    /// It takes these other methods, as an index into [`ALLOWED`] with a further bit that is set when there is a path at all.
    Methods(usize),
}

fn operators_own(path: &str, method: &Method, routes: &[PassthroughRoute]) -> Own {
    const KNOWN: [Method; 4] = [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS];
    let mut others = 0;
    for (index, route) in routes.iter().enumerate().filter(|(_, route)| *route.path == *path) {
        let reads = method == Method::HEAD && route.methods.contains(&Method::GET);
        if reads || route.methods.contains(method) {
            return Own::Route(index);
        }
        others |= 1 << KNOWN.len();
        for (bit, known) in KNOWN.iter().enumerate() {
            others |= usize::from(route.methods.contains(known)) << bit;
        }
    }
    Own::Methods(others)
}

/// The `allow` header for each set of methods a data route may take (SECURITY 1): bit 0 is GET (and HEAD), then POST, DELETE,
/// OPTIONS.
const ALLOWED: [&str; 16] = [
    "",
    "GET, HEAD",
    "POST",
    "GET, HEAD, POST",
    "DELETE",
    "GET, HEAD, DELETE",
    "POST, DELETE",
    "GET, HEAD, POST, DELETE",
    "OPTIONS",
    "GET, HEAD, OPTIONS",
    "POST, OPTIONS",
    "GET, HEAD, POST, OPTIONS",
    "DELETE, OPTIONS",
    "GET, HEAD, DELETE, OPTIONS",
    "POST, DELETE, OPTIONS",
    "GET, HEAD, POST, DELETE, OPTIONS",
];

#[cfg(test)]
mod tests;
