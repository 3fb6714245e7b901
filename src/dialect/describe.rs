//! From a request's body to facts: which model, which stream, what it may cost, and where to change it. What is checked
//! here is what the backend will read; whatever two readers could read differently is refused (SECURITY 2).

mod media_type;
mod members;
mod nested;
mod splices;
#[cfg(test)]
mod tests;
mod walk;

use bytes::Bytes;

use crate::dialect::estimate::{Estimator, IMAGE_OUTPUT_TOKENS, PromptSize};
use crate::dialect::multipart;
use crate::policy::{BodyFlaw, DialectName, Endpoint, Estimate, Refusal, RequestFacts};
use crate::units::{ModelName, Tokens};

use media_type::Form;
use splices::{Member, Places, Spot};
use walk::{Found, Object, Reader};

pub use members::{FormMember, form_member};
pub use splices::{Edits, Splices};

/// A whole body and what its head already said.
#[derive(Debug, Clone, Copy)]
pub struct BodyInput<'a> {
    /// Whose API.
    pub dialect: DialectName,
    /// Which call; never one that the proxy answers itself.
    pub endpoint: Endpoint,
    /// The model in the path (gemini, an Azure deployment).
    pub path_model: Option<&'a ModelName>,
    /// Whether the path asks for a stream (`:streamGenerateContent`).
    pub path_stream: bool,
    /// Whether this is a passthrough path that reaches no model; its body is not looked at.
    pub model_free: bool,
    /// The `Content-Type`, as it came.
    pub content_type: Option<&'a [u8]>,
    /// The body, whole.
    pub body: &'a Bytes,
}

/// What a body says, and where it can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// What the rules need to know.
    pub facts: RequestFacts,
    /// Where changes go; made for this one body. On the heap, since it is handed on from stage to stage.
    pub splices: Box<Splices>,
    /// How long the prompt is, for learning from the answer.
    pub size: PromptSize,
}

impl Described {
    /// What the same body may cost with `model` in the place of its own.
    pub fn estimate_with(&self, model: &ModelName, estimator: &Estimator) -> Estimate {
        let (known, endpoint) = (self.facts.estimate, self.facts.endpoint);
        if endpoint.is_free() {
            return known;
        }
        let is_assumed = endpoint.has_output() && !known.output_is_stated;
        let output = if is_assumed {
            estimator.output_default(Some(model.as_str())).saturating_mul(known.choices)
        } else {
            known.output
        };
        let prompt = estimator.prompt(Some(model.as_str()), self.size.text_bytes, self.size.media_items);
        Estimate { prompt, output, ..known }
    }
}

/// What either form of body says.
struct Reading {
    model: Option<ModelName>,
    other_models: Vec<ModelName>,
    stream: bool,
    /// At least 1.
    choices: u64,
    /// The limit of one choice's output, when one is stated.
    output: Option<Tokens>,
    /// The lowest that it may be.
    least_output: Tokens,
    size: PromptSize,
    splices: Box<Splices>,
}

/// Reads a body and estimates its cost.
///
/// # Errors
/// [`Refusal::ContentTypeNotSupported`], or [`Refusal::Body`] with the first flaw found.
pub fn describe(input: &BodyInput<'_>, estimator: &Estimator) -> Result<Described, Refusal> {
    let is_opaque = || input.model_free || input.body.is_empty() || !media_type::is_json(input.content_type);
    if input.endpoint == Endpoint::Passthrough && is_opaque() {
        return Ok(undescribed(input));
    }
    let mut reading = match media_type::form(input.endpoint, input.content_type)? {
        Form::Json => read_json(input).map_err(Refusal::Body)?,
        Form::Multipart(boundary) => read_form(input, &boundary).map_err(Refusal::Body)?,
    };
    let model = resolve_model(input, reading.model.take()).map_err(Refusal::Body)?;
    let estimate = estimate(input.endpoint, model.as_ref(), &reading, estimator);
    let facts = RequestFacts {
        dialect: input.dialect,
        endpoint: input.endpoint,
        model,
        other_models: reading.other_models,
        model_free: input.model_free,
        stream: reading.stream,
        estimate,
    };
    Ok(Described { facts, splices: reading.splices, size: reading.size })
}

/// A body on an operator's own path that reaches no model, is not JSON, or is none at all: nothing to learn, nothing to reserve, nothing to change. Whether the key may go
/// there is for the policy to say.
fn undescribed(input: &BodyInput<'_>) -> Described {
    let facts = RequestFacts {
        dialect: input.dialect,
        endpoint: input.endpoint,
        model: None,
        other_models: Vec::new(),
        model_free: input.model_free,
        stream: false,
        estimate: Estimate { choices: 1, ..Estimate::default() },
    };
    Described { facts, splices: Box::default(), size: PromptSize::default() }
}

/// The one model: the path's where it has one (the body was checked against it), else the body's. Gemini's is always in the
/// path; only moderations have a default of their own, and only the operator's own paths may have no model.
fn resolve_model(input: &BodyInput<'_>, named: Option<ModelName>) -> Result<Option<ModelName>, BodyFlaw> {
    let named = if input.dialect == DialectName::Gemini { None } else { named };
    match input.path_model.cloned().or(named) {
        None if !matches!(input.endpoint, Endpoint::Moderations | Endpoint::Passthrough) => Err(BodyFlaw::ModelMissing),
        model => Ok(model),
    }
}

fn estimate(endpoint: Endpoint, model: Option<&ModelName>, reading: &Reading, estimator: &Estimator) -> Estimate {
    let (model, choices) = (model.map(ModelName::as_str), reading.choices);
    if endpoint.is_free() {
        return Estimate { choices, ..Estimate::default() };
    }
    // Zero is "no limit" to some backends and "no output" to others, so it promises nothing.
    let stated = reading.output.filter(|output| *output > 0);
    let output = match endpoint {
        Endpoint::ImageGenerations | Endpoint::ImageEdits | Endpoint::ImageVariations => IMAGE_OUTPUT_TOKENS,
        // What a passthrough path answers is not known; with a model in its body it may be text.
        _ if endpoint.has_output() || endpoint == Endpoint::Passthrough => {
            stated.unwrap_or_else(|| estimator.output_default(model))
        }
        _ => 0,
    };
    Estimate {
        prompt: estimator.prompt(model, reading.size.text_bytes, reading.size.media_items),
        output: output.saturating_mul(choices),
        choices,
        output_is_stated: stated.is_some(),
        least_output: reading.least_output.max(1),
    }
}

fn read_json(input: &BodyInput<'_>) -> Result<Reading, BodyFlaw> {
    let reader = Reader { dialect: input.dialect, endpoint: input.endpoint, path_model: input.path_model };
    let mut found = Found::default();
    reader.read(input.body, &mut found)?;
    let prompts = if input.endpoint == Endpoint::Completions { found.prompts.max(1) } else { 1 };
    // Gemini's verb decides, whatever its body says.
    let stream = match input.dialect {
        DialectName::Gemini => input.path_stream || input.endpoint == Endpoint::StreamGenerateContent,
        _ => input.path_stream || found.stream,
    };
    let stated = found.limits.iter().flatten().filter_map(|limit| limit.value).max();
    let size = PromptSize {
        text_bytes: (input.body.len() as u64).saturating_sub(found.media_bytes),
        media_items: found.media_items,
        refers: found.refers,
    };
    let asks_usage = matches!(found.include_usage, Some((true, _)));
    let splices = Box::write(
        Box::new_uninit(),
        Splices {
            new_limit: new_limit(input, &found),
            usage: if stream && !asks_usage { new_usage(input, &found) } else { None },
            asks_usage,
            is_form: false,
            models: found.model_ranges,
            limits: found.limits,
        },
    );
    Ok(Reading {
        model: found.model,
        other_models: found.other_models,
        stream,
        choices: found.choices.max(1).saturating_mul(prompts),
        output: stated.max(found.loose_limit),
        least_output: found.least_output,
        size,
        splices,
    })
}

/// Where a limit of the output goes when the body has none. In a chat that is `max_completion_tokens`: OpenAI's reasoning
/// models refuse `max_tokens`, and the servers that imitate OpenAI have learnt the newer name.
fn new_limit(input: &BodyInput<'_>, found: &Found) -> Option<(Spot, Member)> {
    let top = Spot::First { at: found.start, is_empty: found.is_empty };
    match input.endpoint {
        Endpoint::ChatCompletions => Some((top, ("\"max_completion_tokens\":", ""))),
        Endpoint::Completions | Endpoint::Messages => Some((top, ("\"max_tokens\":", ""))),
        Endpoint::Responses => Some((top, ("\"max_output_tokens\":", ""))),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => Some(match found.generation.clone() {
            Object::Absent => (top, ("\"generationConfig\":{\"maxOutputTokens\":", "}")),
            Object::Null(range) => (Spot::Instead(range), ("{\"maxOutputTokens\":", "}")),
            Object::At { at, is_empty } => (Spot::First { at, is_empty }, ("\"maxOutputTokens\":", "")),
        }),
        _ => None,
    }
}

/// Where `include_usage` goes. Only openai's and azure's chat and completions know it, and only in a stream.
fn new_usage(input: &BodyInput<'_>, found: &Found) -> Option<(Spot, Member)> {
    let knows = matches!(input.dialect, DialectName::OpenAi | DialectName::Azure)
        && matches!(input.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    if !knows {
        return None;
    }
    Some(match (&found.options, &found.include_usage) {
        (_, Some((_, range))) => (Spot::Instead(range.clone()), ("", "")),
        (Object::Absent, _) => {
            let top = Spot::First { at: found.start, is_empty: found.is_empty };
            (top, ("\"stream_options\":{\"include_usage\":", "}"))
        }
        (Object::Null(range), _) => (Spot::Instead(range.clone()), ("{\"include_usage\":", "}")),
        (Object::At { at, is_empty }, _) => (Spot::First { at: *at, is_empty: *is_empty }, ("\"include_usage\":", "")),
    })
}

fn read_form(input: &BodyInput<'_>, boundary: &multipart::Boundary) -> Result<Reading, BodyFlaw> {
    let form = multipart::read(input.body, boundary)?;
    let mut models = Places::default();
    let model = match form.model {
        Some((model, range)) => {
            if input.path_model.is_some_and(|path| *path != model) {
                return Err(BodyFlaw::ModelDisagrees);
            }
            models.push(range);
            Some(model)
        }
        None => None,
    };
    Ok(Reading {
        model,
        other_models: Vec::new(),
        stream: form.stream || input.path_stream,
        choices: form.n.unwrap_or(1),
        output: None,
        least_output: 0,
        size: PromptSize { text_bytes: form.text_bytes, media_items: form.files, refers: false },
        splices: Box::new(Splices { models, is_form: true, ..Splices::default() }),
    })
}
