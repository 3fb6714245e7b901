//! The built-in backend: deterministic answers for every endpoint of every dialect, streams included, with true usage.
//!
//! Pure: a request in, a [`Play`] out; whoever plays it does the waiting and the writing. The same request always gets the
//! same bytes. What it answers:
//!
//! - text quotes the last message of the user, or what a tool answered; JSON is answered where a schema asks for it;
//! - when tools are offered, the first one (or the one the request names) is called with the smallest valid arguments;
//! - embeddings are unit vectors made from the text, images are small PNGs, speech is a short WAV.
//!
//! **Usage.** Input tokens are a third of the prompt's bytes ([`Ask::prompt_tokens`]). An output token is one piece
//! of an answer: a run of at most 16 characters without white space, together with the white space before it, which is also
//! what one event of a stream carries; an image is one token, and so is each piece of a tool's arguments. Limits on the
//! output are kept to the token.
//!
//! **Bounds.** At most 128 choices, 10 images, 2,048 texts to embed, 1,048,576 numbers in all vectors together and 1,024
//! texts to moderate; beyond them the answer is a 400. A prompt is quoted up to 400 characters.
//!
//! **Misbehaviour** is asked for by the name of the model ([`behaviours`] has the table):
//!
//! | model | what it does |
//! |---|---|
//! | `sandbox-error-NNN` | the error 400 to 599, worded as the dialect's own backend would; 429 and 503 say `retry-after: 1` |
//! | `sandbox-slow` | the first byte after 1 s, each further event 100 ms after the one before |
//! | `sandbox-drip` | the bytes one at a time, across event and character borders (larger answers in 4,096 pieces) |
//! | `sandbox-long` | 10,000 words, so 10,000 events of a stream, unless the request allows fewer |
//! | `sandbox-empty` | an answer without text: 0 output tokens |
//! | `sandbox-no-usage` | no usage anywhere |
//! | `sandbox-usage-absurd` | -1 input tokens and 2^62 output tokens |
//! | `sandbox-cut` | the connection breaks after half of the events, or of the bytes of an answer that is no stream |
//! | `sandbox-stall` | half of the answer, then silence |
//! | `sandbox-hang` | nothing, ever: not even a head |
//! | `sandbox-stream-error` | half of the events, then an error event and a clean end; 500 without a stream |
//! | `sandbox-not-json` | a page of HTML with status 200 |
//!
//! Every other name behaves well.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::headers::Headers;
use crate::policy::{DialectName, Endpoint};
use crate::units::Tokens;

mod anthropic;
mod audio;
mod behaviour;
mod chat;
mod completions;
mod embeddings;
mod fingerprint;
mod form;
mod gemini;
mod images;
mod judge;
mod listing;
mod report;
mod responses;
mod schema;
mod script;
mod wish;
mod wording;
#[cfg(test)]
mod tests;

pub use behaviour::behaviours;

use behaviour::Behaviour;
use form::Form;
use report::Report;

/// When everything was made, for members such as `created`: 2025-01-01T00:00:00Z. The sandbox reads no clock.
pub const CREATED: i64 = 1_735_689_600;

/// What it names when asked for its models: familiar names to try clients with, and those that misbehave. It answers to any other too.
pub const MODELS: [&str; 20] = [
    "claude-haiku-4-5",
    "claude-sonnet-4-5",
    "gemini-2.5-flash",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-image-1",
    "text-embedding-3-small",
    "whisper-1",
    "sandbox-cut",
    "sandbox-drip",
    "sandbox-empty",
    "sandbox-error-500",
    "sandbox-hang",
    "sandbox-long",
    "sandbox-no-usage",
    "sandbox-not-json",
    "sandbox-slow",
    "sandbox-stall",
    "sandbox-stream-error",
    "sandbox-usage-absurd",
];

/// A request to the built-in backend, already admitted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Whose API.
    pub dialect: DialectName,
    /// Which call.
    pub endpoint: Endpoint,
    /// The model it was resolved to.
    pub model: &'a str,
    /// Whether the answer is asked for as a stream; true for every `streamGenerateContent`.
    pub stream: bool,
    /// gemini: whether the stream is server-sent events (`alt=sse` in the query) rather than one JSON array.
    pub sse: bool,
    /// The body's media type, boundary included; read for forms only.
    pub content_type: Option<&'a [u8]>,
    /// The body, as an upstream would get it.
    pub body: &'a [u8],
    /// What the prompt comes to by a fixed rule, reported back as the usage.
    pub prompt_tokens: Tokens,
}

/// An answer and when each part of it is due. The head goes out with the first frame, not before it.
#[derive(Debug, Clone)]
pub struct Play {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, `content-type` included; framing is added on the wire.
    pub headers: Headers,
    /// Its body in the pieces it is to be written in.
    pub frames: Vec<Frame>,
    /// What comes after the last piece.
    pub end: End,
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How long after the piece before it (or the request) it is due.
    pub after: Duration,
    /// The bytes, never none.
    pub bytes: Bytes,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Clean,
    /// The connection breaks, so that the body is visibly not whole.
    Cut,
    /// Nothing more comes and nothing ends. With no frame before it, not even the head is sent.
    Hang,
}

/// A request taken apart, with all that the answers of every endpoint are made from.
struct Request<'a> {
    ask: &'a Ask<'a>,
    behaviour: Behaviour,
    report: Report,
    /// The JSON body, or a form's fields as strings.
    body: Value,
    form: Form<'a>,
    stream: bool,
    seed: u64,
}

impl Request<'_> {
    /// An id of this request: `prefix` and 24 hexadecimal digits.
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}{:08x}", self.seed, self.seed >> 32 ^ self.seed & 0xffff_ffff)
    }
}

/// Answers a request. Total: there is no body, model or combination it fails on.
pub fn answer(ask: &Ask<'_>) -> Play {
    let behaviour = Behaviour::of(ask.model);
    match behaviour {
        Behaviour::Error(status) => {
            return wording::error(
                ask.dialect,
                status,
                "The sandbox was asked for this error by the name of the model.",
            );
        }
        Behaviour::NotJson => {
            return Play::whole("text/html", &b"<html><body>Not JSON, as asked for.</body></html>"[..]);
        }
        _ => {}
    }
    let form = Form::read(ask.content_type, ask.body);
    let body = if form.is_form() { form.fields() } else { serde_json::from_slice(ask.body).unwrap_or_default() };
    if !body.is_object() && !ask.endpoint.is_local() && ask.endpoint != Endpoint::Passthrough {
        return wording::error(
            ask.dialect,
            StatusCode::BAD_REQUEST,
            "The sandbox could not read the body of the request.",
        );
    }
    let seed = fingerprint::of(&[ask.endpoint.as_str().as_bytes(), ask.model.as_bytes(), ask.body]);
    let stream = ask.stream || wish::flag(&body, "stream");
    let report = Report::new(behaviour, ask.prompt_tokens);
    let request = Request { ask, behaviour, report, body, form, stream, seed };
    behaviour.play(&request, well_behaved(&request))
}

fn well_behaved(request: &Request<'_>) -> Play {
    match request.ask.endpoint {
        Endpoint::ChatCompletions => chat::answer(request),
        Endpoint::Completions => completions::answer(request),
        Endpoint::Responses => responses::answer(request),
        Endpoint::Embeddings => embeddings::openai(request),
        Endpoint::Moderations => judge::moderations(request),
        Endpoint::ImageGenerations | Endpoint::ImageEdits | Endpoint::ImageVariations => images::answer(request),
        Endpoint::AudioSpeech => audio::speech(request),
        Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => audio::transcript(request),
        Endpoint::Rerank => judge::rerank(request),
        Endpoint::Messages => anthropic::messages(request),
        Endpoint::CountTokens => anthropic::count_tokens(request),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => gemini::answer(request),
        Endpoint::EmbedContent => embeddings::gemini_one(request),
        Endpoint::BatchEmbedContents => embeddings::gemini_batch(request),
        Endpoint::GeminiCountTokens => gemini::count_tokens(request),
        Endpoint::Models => listing::models(request),
        Endpoint::Model => listing::model(request),
        Endpoint::KeyStatus | Endpoint::TokenUsage => {
            wording::error(request.ask.dialect, StatusCode::NOT_FOUND, "A backend knows no keys.")
        }
        Endpoint::Passthrough => listing::passthrough(request),
        Endpoint::Realtime => {
            wording::error(request.ask.dialect, StatusCode::NOT_FOUND, "The built-in backend holds no conversations.")
        }
    }
}

impl Play {
    /// A whole body with status 200.
    fn whole(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self::pieces(content_type, vec![bytes.into()])
    }

    /// A JSON body with status 200.
    fn json(value: &Value) -> Self {
        Self::whole("application/json", value.to_string())
    }

    /// Server-sent events, one a frame.
    fn events(events: Vec<Bytes>) -> Self {
        Self::pieces("text/event-stream; charset=utf-8", events)
    }

    fn pieces(content_type: &'static str, pieces: Vec<Bytes>) -> Self {
        let mut headers = Headers::new();
        headers.insert(header::CONTENT_TYPE, &HeaderValue::from_static(content_type));
        let frames = pieces.into_iter().filter(|bytes| !bytes.is_empty());
        let frames = frames.map(|bytes| Frame { after: Duration::ZERO, bytes }).collect();
        Self { status: StatusCode::OK, headers, frames, end: End::Clean }
    }

    /// The body, whole.
    #[cfg(test)]
    fn body(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()
    }
}

/// One event without a name: `data:` and the JSON.
fn data(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// One event that is named, as `event:` and as the member `type` of its data.
fn named(name: &str, value: &Value) -> Bytes {
    format!("event: {name}\ndata: {value}\n\n").into()
}
