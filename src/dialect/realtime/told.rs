//! A backend's event, as far as it says what is used. What cannot be read says nothing; nothing in it makes this fail.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

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
    },
    /// An event of the client's was not taken.
    Refused {
        /// That event's id.
        event: Box<str>,
    },
    /// Nothing of the kind.
    Other,
}

/// What a report says; `prompt` stands for an input it leaves out.
pub fn usage(report: &[u8], prompt: Tokens) -> Option<Usage> {
    usage_of(report, prompt)
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
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
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
        "conversation.item.input_audio_transcription.completed" => Told::Transcribed { usage: report(event.usage) },
        "error" => {
            let error = event.error.and_then(|error| serde_json::from_str::<Error<'_>>(error.get()).ok());
            match error.and_then(|error| error.event_id) {
                Some(id) => Told::Refused { event: id.into() },
                None => Told::Other,
            }
        }
        kind if kind.starts_with("response.") && kind.ends_with(".delta") => {
            let length = event.delta.map_or(0, |delta| delta.get().len().saturating_sub(2) as u64);
            let is_sound = kind.ends_with("audio.delta");
            let (text, sound) = if is_sound { (0, length) } else { (length, 0) };
            Told::Piece { response: response_id(), text, sound }
        }
        _ => Told::Other,
    }
}
