//! OpenAI's realtime events: what a client's message asks for, what a backend's says of its use, and our own words between them.

mod asked;
mod told;

use bytes::Bytes;
use serde::Serialize;

use crate::dialect::Notes;
use crate::dialect::meter::BYTES_PER_TOKEN;
use crate::dialect::openai::Error;
use crate::dialect::wording::{self, Words};
use crate::policy::{Fault, Refusal, Usage};
use crate::units::Tokens;

pub use asked::{Asked, Event};
pub use told::{Bound, Told, told, usage};

/// Base64 characters of sound that a backend counts as one token: it hears ten a second and speaks twenty, of 16 bits at 24 kHz.
const HEARD_PER_TOKEN: u64 = 6_400;
const SPOKEN_PER_TOKEN: u64 = 3_200;

/// The error event for what a client asked and does not get. `about` is the id of its event, where that has one.
pub fn refusal(refusal: &Refusal, notes: &Notes<'_>, about: Option<&str>) -> Bytes {
    error(&wording::refusal(refusal, notes), about)
}

/// The error event of an accident.
pub fn fault(fault: Fault) -> Bytes {
    error(&wording::fault(fault), None)
}

/// The error event that says `words`.
pub(super) fn error(words: &Words, about: Option<&str>) -> Bytes {
    let event = ErrorEvent {
        r#type: "error",
        event_id: "event_keyward",
        error: About { error: Error::of(words), event_id: about },
    };
    // A plain tree of strings, whose serialization cannot fail.
    serde_json::to_vec(&event).unwrap_or_default().into()
}

/// Asks the backend to end a response.
pub fn cancel(response: &str) -> Bytes {
    #[derive(Serialize)]
    struct Cancel<'a> {
        r#type: &'static str,
        response_id: &'a str,
    }
    serde_json::to_vec(&Cancel { r#type: "response.cancel", response_id: response }).unwrap_or_default().into()
}

#[derive(Serialize)]
struct ErrorEvent<'a> {
    r#type: &'static str,
    event_id: &'static str,
    error: About<'a>,
}

#[derive(Serialize)]
struct About<'a> {
    #[serde(flatten)]
    error: Error<'a>,
    event_id: Option<&'a str>,
}

/// What a client has put into the conversation since a response last reported how much of it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// Bytes of events, sound aside.
    pub text: u64,
    /// Base64 characters of sound.
    pub sound: u64,
}

impl Said {
    /// Adds what one more event says.
    pub fn add(&mut self, other: Self) {
        self.text = self.text.saturating_add(other.text);
        self.sound = self.sound.saturating_add(other.sound);
    }

    /// What is left when `before` is known otherwise.
    pub fn forget(&mut self, before: Self) {
        self.text = self.text.saturating_sub(before.text);
        self.sound = self.sound.saturating_sub(before.sound);
    }

    /// About how many tokens it is, leaning high.
    pub fn tokens(self) -> Tokens {
        self.text.div_ceil(BYTES_PER_TOKEN).saturating_add(self.sound.div_ceil(HEARD_PER_TOKEN))
    }
}

/// What was heard of a response before it reported its use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    text: u64,
    sound: u64,
}

impl Heard {
    /// Adds a delta.
    pub fn add(&mut self, text: u64, sound: u64) {
        self.text = self.text.saturating_add(text);
        self.sound = self.sound.saturating_add(sound);
    }

    /// What to charge for a response that never reported its use.
    pub fn usage(self, prompt: Tokens) -> Usage {
        let output = self.text.div_ceil(BYTES_PER_TOKEN).saturating_add(self.sound.div_ceil(SPOKEN_PER_TOKEN));
        Usage { input: prompt, output, estimated: true, ..Usage::default() }
    }
}

#[cfg(test)]
mod tests;
