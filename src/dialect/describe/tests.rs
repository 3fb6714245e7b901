//! Bodies by exact bytes: hostile ones with the flaw each must be refused for, and good ones of every client.

mod good;
mod hostile;
mod rendering;

use bytes::Bytes;

use super::*;

/// A flaw without its words.
#[derive(Debug, PartialEq, Eq)]
enum Flaw {
    Syntax(usize),
    Utf8(usize),
    NotObject,
    Trailing(usize),
    Deep,
    Dup(&'static str),
    Mis(&'static str),
    Bad(&'static str),
    Denied(&'static str),
    Missing,
    Disagrees,
    Form,
    Type,
}

impl From<Refusal> for Flaw {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::ContentTypeNotSupported { .. } => Self::Type,
            Refusal::Body(BodyFlaw::Syntax { offset, .. }) => Self::Syntax(offset),
            Refusal::Body(BodyFlaw::NotUtf8 { offset }) => Self::Utf8(offset),
            Refusal::Body(BodyFlaw::NotAnObject) => Self::NotObject,
            Refusal::Body(BodyFlaw::TrailingBytes { offset }) => Self::Trailing(offset),
            Refusal::Body(BodyFlaw::TooDeep) => Self::Deep,
            Refusal::Body(BodyFlaw::DuplicateMember { member }) => Self::Dup(member),
            Refusal::Body(BodyFlaw::MisspelledMember { member }) => Self::Mis(member),
            Refusal::Body(BodyFlaw::BadMember { member, .. }) => Self::Bad(member),
            Refusal::Body(BodyFlaw::MemberNotAllowed { member }) => Self::Denied(member),
            Refusal::Body(BodyFlaw::ModelMissing) => Self::Missing,
            Refusal::Body(BodyFlaw::ModelDisagrees) => Self::Disagrees,
            Refusal::Body(BodyFlaw::Multipart { .. }) => Self::Form,
            other => panic!("a body is not refused for {other:?}"),
        }
    }
}

/// A call with everything but its body at its default.
#[derive(Clone)]
struct Call {
    dialect: DialectName,
    endpoint: Endpoint,
    path_model: Option<ModelName>,
    model_free: bool,
    content_type: &'static str,
}

const JSON: &str = "application/json";

impl Call {
    fn to(dialect: DialectName, endpoint: Endpoint) -> Self {
        Self { dialect, endpoint, path_model: None, model_free: false, content_type: JSON }
    }

    fn openai(endpoint: Endpoint) -> Self {
        Self::to(DialectName::OpenAi, endpoint)
    }

    fn chat() -> Self {
        Self::openai(Endpoint::ChatCompletions)
    }

    fn messages() -> Self {
        Self::to(DialectName::Anthropic, Endpoint::Messages)
    }

    fn gemini(endpoint: Endpoint) -> Self {
        Self { path_model: ModelName::new("gemini-2.5-flash"), ..Self::to(DialectName::Gemini, endpoint) }
    }

    fn azure() -> Self {
        Self { path_model: ModelName::new("my-gpt"), ..Self::to(DialectName::Azure, Endpoint::ChatCompletions) }
    }

    fn with_type(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }

    fn describe(&self, body: impl AsRef<[u8]>) -> Result<Described, Refusal> {
        let body = Bytes::copy_from_slice(body.as_ref());
        let input = BodyInput {
            dialect: self.dialect,
            endpoint: self.endpoint,
            path_model: self.path_model.as_ref(),
            path_stream: self.endpoint == Endpoint::StreamGenerateContent,
            model_free: self.model_free,
            content_type: Some(self.content_type.as_bytes()),
            body: &body,
        };
        describe(&input, &Estimator::new(512))
    }

    fn flaw(&self, body: impl AsRef<[u8]>) -> Option<Flaw> {
        self.describe(body).err().map(Flaw::from)
    }

    fn good(&self, body: impl AsRef<[u8]>) -> Described {
        let body = body.as_ref();
        match self.describe(body) {
            Ok(described) => described,
            Err(refusal) => panic!("{refusal:?}: {}", String::from_utf8_lossy(body)),
        }
    }
}
