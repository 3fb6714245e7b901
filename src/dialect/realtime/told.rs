//! A backend's event, as far as it says what is used. What cannot be read says nothing; nothing in it makes this fail.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Heard;
use crate::dialect::meter::usage_of;
use crate::policy::Usage;
use crate::units::Tokens;

/// What a backend's event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A response has begun.
    Begun {
        /// Its id.
        response: Box<str>,
    },
    /// A piece of one.
    Piece {
        /// The response's id.
        response: Box<str>,
        /// Bytes of text.
        text: u64,
        /// Base64 characters of sound.
        sound: u64,
    },
    /// A response has ended.
    Done {
        /// Its id.
        response: Box<str>,
        /// The object it reports its use by, if it does.
        usage: Option<Box<[u8]>>,
        /// The backend failed at it.
        has_failed: bool,
    },
    /// What was said was written down, which is a use of its own.
    Transcribed {
        /// The object it reports its use by, if it does.
        usage: Option<Box<[u8]>>,
        /// Bytes of what was written.
        text: u64,
    },
    /// The terms of the conversation, as they are from here on.
    Session {
        /// The model that writes down what is said.
        scribe: Option<Box<str>>,
        /// The most output that a response may have, where that is said.
        output: Option<Bound>,
        /// Whether an update of the client's was taken; else they are those it began with.
        is_update: bool,
    },
    /// An event of the client's was not taken.
    Refused {
        /// That event's id.
        event: Box<str>,
    },
    /// Nothing of the kind.
    Other,
}

/// How much output a response may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many tokens.
    Tokens(Tokens),
    /// As many as it likes.
    None,
}

/// What a report says; `prompt` stands for an input, and what was `heard` for an output, that it leaves out or that cannot be.
pub fn usage(report: &[u8], prompt: Tokens, heard: Heard) -> Option<Usage> {
    usage_of(report, prompt, heard.usage(prompt).output)
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
    #[serde(borrow)]
    response_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    transcript: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    session: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Session {
    audio: Option<Audio>,
    input_audio_transcription: Option<Scribe>,
    max_output_tokens: Option<Value>,
    max_response_output_tokens: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Audio {
    input: Option<Input>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Input {
    transcription: Option<Scribe>,
}

#[derive(Deserialize)]
struct Scribe {
    model: Option<Box<str>>,
}

impl Session {
    fn output(&self) -> Option<Bound> {
        let told = self.max_output_tokens.as_ref().or(self.max_response_output_tokens.as_ref())?;
        Some(told.as_u64().map_or(Bound::None, Bound::Tokens))
    }

    fn scribe(self) -> Option<Box<str>> {
        let within = self.audio.and_then(|audio| audio.input).and_then(|input| input.transcription);
        within.or(self.input_audio_transcription).and_then(|scribe| scribe.model)
    }
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Error<'a> {
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
}

/// Bytes between the quotation marks of a string.
fn inside(text: Option<&RawValue>) -> u64 {
    text.map_or(0, |text| text.get().len().saturating_sub(2) as u64)
}

/// Reads one message of a backend.
pub fn told(payload: &[u8]) -> Told {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(payload) else { return Told::Other };
    let report = |usage: Option<&RawValue>| usage.map(|usage| usage.get().as_bytes().into());
    let response_id = || event.response_id.as_deref().unwrap_or_default().into();
    match &*event.r#type {
        "response.created" => {
            let id = event.response.and_then(|response| response.id);
            Told::Begun { response: id.unwrap_or_default().into() }
        }
        "response.done" => {
            let Some(response) = event.response else {
                return Told::Done { response: response_id(), usage: report(event.usage), has_failed: false };
            };
            Told::Done {
                response: response.id.unwrap_or_default().into(),
                usage: report(response.usage),
                has_failed: response.status.is_some_and(|status| status == "failed"),
            }
        }
        "conversation.item.input_audio_transcription.completed" => {
            Told::Transcribed { usage: report(event.usage), text: inside(event.transcript) }
        }
        "session.created" | "session.updated" | "transcription_session.created" | "transcription_session.updated" => {
            let session = event.session.and_then(|session| serde_json::from_str::<Session>(session.get()).ok());
            session.map_or(Told::Other, |session| {
                let output = session.output();
                let is_update = event.r#type.ends_with(".updated");
                Told::Session { scribe: session.scribe(), output, is_update }
            })
        }
        "error" => {
            let error = event.error.and_then(|error| serde_json::from_str::<Error<'_>>(error.get()).ok());
            match error.and_then(|error| error.event_id) {
                Some(id) => Told::Refused { event: id.into() },
                None => Told::Other,
            }
        }
        kind if kind.starts_with("response.") && kind.ends_with(".delta") => {
            let length = inside(event.delta);
            let is_sound = kind.ends_with("audio.delta");
            let (text, sound) = if is_sound { (0, length) } else { (length, 0) };
            Told::Piece { response: response_id(), text, sound }
        }
        _ => Told::Other,
    }
}
