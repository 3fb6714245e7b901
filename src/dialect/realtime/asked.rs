//! A client's event, read by the rules every body is read by: whatever two readers could read differently is refused.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::dialect::json::{Cursor, Names};
use crate::dialect::realtime::Said;
use crate::policy::BodyFlaw;
use crate::units::{ModelName, Tokens};

/// The most models one event may name beside the conversation's own.
const MOST_MODELS: usize = 8;
/// The longest id that a client may give an event.
const LONGEST_ID: usize = 512;
const ID_EXPECTED: &str = "a string of at most 512 characters";
const MODEL_EXPECTED: &str = "a string of 1 to 256 of A-Z a-z 0-9 . _ : / @ + -, without \"..\"";
const TOKENS: std::ops::RangeInclusive<u64> = 0..=2_147_483_647;
const TOKENS_EXPECTED: &str = "an integer from 0 to 2147483647, \"inf\" or null";

/// What a client's event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A response: what costs.
    Response,
    /// Other terms for the conversation.
    Session,
    /// Anything else, which is charged, if at all, with the response that reads it.
    Other,
}

/// A client's event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it asks for.
    pub asked: Asked,
    /// Its id, which the backend repeats where it refuses it.
    pub id: Option<Box<str>>,
    /// The model it names as the conversation's own, and where.
    pub own_model: Option<ModelName>,
    /// Further models it names, which the key must be allowed too: those that write down what was said.
    pub other_models: Vec<ModelName>,
    /// The most output it allows; the largest where it says so twice.
    pub output: Option<Tokens>,
    /// It takes back whatever bound there was to the output.
    pub is_endless: bool,
    /// The response is read from something else than the conversation, or does not become a part of it.
    pub is_apart: bool,
    /// What it adds to the conversation.
    pub said: Said,
    own_places: Vec<Range<usize>>,
    /// Behind the opening brace.
    start: usize,
}

/// The objects whose members are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Event,
    /// `session`, `response`
    Terms,
    Audio,
    Input,
    Transcription,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Type,
    Id,
    Sound,
    Within(Place),
    OwnModel,
    OtherModel,
    Limit,
    Input,
    Conversation,
    Refused,
}

static EVENT: Names<Member> = Names::new(&[
    ("type", Member::Type),
    ("audio", Member::Sound),
    ("model", Member::OwnModel),
    ("models", Member::Refused),
    ("session", Member::Within(Place::Terms)),
    ("response", Member::Within(Place::Terms)),
    ("event_id", Member::Id),
]);
static TERMS: Names<Member> = Names::new(&[
    ("audio", Member::Within(Place::Audio)),
    ("input", Member::Input),
    ("model", Member::OwnModel),
    ("models", Member::Refused),
    // One that is stored may carry a model of its own.
    ("prompt", Member::Refused),
    ("api_base", Member::Refused),
    ("base_url", Member::Refused),
    ("fallbacks", Member::Refused),
    ("conversation", Member::Conversation),
    ("max_output_tokens", Member::Limit),
    ("input_audio_transcription", Member::Within(Place::Transcription)),
    ("max_response_output_tokens", Member::Limit),
]);
static AUDIO: Names<Member> = Names::new(&[("input", Member::Within(Place::Input))]);
static INPUT: Names<Member> = Names::new(&[("transcription", Member::Within(Place::Transcription))]);
static TRANSCRIPTION: Names<Member> = Names::new(&[("model", Member::OtherModel), ("models", Member::Refused)]);

impl Place {
    fn names(self) -> &'static Names<Member> {
        match self {
            Self::Event => &EVENT,
            Self::Terms => &TERMS,
            Self::Audio => &AUDIO,
            Self::Input => &INPUT,
            Self::Transcription => &TRANSCRIPTION,
        }
    }
}

impl Event {
    /// Reads one message of a client.
    ///
    /// # Errors
    /// The first [`BodyFlaw`].
    pub fn read(payload: &[u8]) -> Result<Self, BodyFlaw> {
        let mut cursor = Cursor::open(payload)?;
        let mut event = Self {
            asked: Asked::Other,
            id: None,
            own_model: None,
            other_models: Vec::new(),
            output: None,
            is_endless: false,
            is_apart: false,
            said: Said::default(),
            own_places: Vec::new(),
            start: cursor.offset(),
        };
        let has_type = event.members(&mut cursor, Place::Event)?;
        cursor.finish()?;
        if !has_type {
            return Err(BodyFlaw::BadMember { member: "type", expected: "the name of an event" });
        }
        event.said.text = (payload.len() as u64).saturating_sub(event.said.sound);
        Ok(event)
    }

    /// The event with the conversation's model under the name the backend knows it by, and with `id` where it has none of its own.
    pub fn render(&self, payload: &Bytes, rename: Option<&str>, id: Option<&str>) -> Bytes {
        let renames = rename.filter(|_| !self.own_places.is_empty());
        let id = id.filter(|_| self.id.is_none());
        if renames.is_none() && id.is_none() {
            return payload.clone();
        }
        let mut out = BytesMut::with_capacity(payload.len() + 300);
        let mut at = self.start;
        out.extend_from_slice(payload.get(..at).unwrap_or_default());
        if let Some(id) = id {
            // Something follows: there is a type.
            out.extend_from_slice(format!("\"event_id\":\"{id}\",").as_bytes());
        }
        for place in self.own_places.iter().filter(|_| renames.is_some()) {
            out.extend_from_slice(payload.get(at..place.start).unwrap_or_default());
            out.extend_from_slice(renames.unwrap_or_default().as_bytes());
            at = place.end;
        }
        out.extend_from_slice(payload.get(at..).unwrap_or_default());
        out.freeze()
    }

    /// Reads the members of the object that was entered; says whether one of them was the type.
    fn members(&mut self, cursor: &mut Cursor<'_>, place: Place) -> Result<bool, BodyFlaw> {
        let (mut first, mut seen, mut has_type) = (true, Vec::new(), false);
        while let Some(name) = cursor.next_member(&mut first)? {
            let Some((name, member)) = place.names().find(&name)? else {
                cursor.skip()?;
                continue;
            };
            if seen.contains(&name) {
                return Err(BodyFlaw::DuplicateMember { member: name });
            }
            seen.push(name);
            has_type |= member == Member::Type;
            self.member(cursor, name, member)?;
        }
        Ok(has_type)
    }

    fn limit(&mut self, cursor: &mut Cursor<'_>, name: &'static str) -> Result<(), BodyFlaw> {
        // "inf" is none.
        let limit = if cursor.peek() == Some(b'"') {
            cursor.skip()?;
            None
        } else {
            cursor.integer(name, TOKENS, TOKENS_EXPECTED)?
        };
        self.is_endless |= limit.is_none();
        self.output = self.output.max(limit.filter(|limit| *limit > 0));
        Ok(())
    }

    fn member(&mut self, cursor: &mut Cursor<'_>, name: &'static str, member: Member) -> Result<(), BodyFlaw> {
        match member {
            Member::Type => {
                let expected = "the name of an event, without escapes";
                let (kind, _) =
                    cursor.plain_string(name, expected)?.ok_or(BodyFlaw::BadMember { member: name, expected })?;
                self.asked = match &*kind {
                    "response.create" => Asked::Response,
                    "session.update" | "transcription_session.update" => Asked::Session,
                    _ => Asked::Other,
                };
            }
            Member::Id => {
                let read = cursor.plain_string(name, ID_EXPECTED)?.map(|(id, _)| id);
                if read.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
                    return Err(BodyFlaw::BadMember { member: name, expected: ID_EXPECTED });
                }
                self.id = read.map(|id| id.into());
            }
            Member::Sound => self.said.sound += cursor.skip()?.len() as u64,
            Member::Within(place) => {
                if cursor.null()? {
                    return Ok(());
                }
                if cursor.peek() != Some(b'{') {
                    return Err(cursor.bad(name, "an object or null"));
                }
                cursor.enter()?;
                self.members(cursor, place)?;
            }
            Member::OwnModel => {
                let Some((model, range)) = model(cursor, name)? else { return Ok(()) };
                if self.own_model.as_ref().is_some_and(|known| *known != model) {
                    return Err(BodyFlaw::ModelDisagrees);
                }
                self.own_model = Some(model);
                self.own_places.push(range);
            }
            Member::OtherModel => {
                let Some((model, _)) = model(cursor, name)? else { return Ok(()) };
                if self.other_models.len() >= MOST_MODELS {
                    return Err(BodyFlaw::BadMember { member: name, expected: "at most 8 models" });
                }
                self.other_models.push(model);
            }
            Member::Limit => self.limit(cursor, name)?,
            Member::Input => {
                if !cursor.null()? {
                    self.is_apart = true;
                    cursor.skip()?;
                }
            }
            Member::Conversation => {
                let named = cursor.plain_string(name, "\"auto\", \"none\" or null, without escapes")?;
                self.is_apart |= named.is_some_and(|(named, _)| named != "auto");
            }
            Member::Refused => {
                if !cursor.null()? {
                    return Err(BodyFlaw::MemberNotAllowed { member: name });
                }
            }
        }
        Ok(())
    }
}

fn model(cursor: &mut Cursor<'_>, member: &'static str) -> Result<Option<(ModelName, Range<usize>)>, BodyFlaw> {
    let Some((name, range)) = cursor.plain_string(member, MODEL_EXPECTED)? else { return Ok(None) };
    let name = ModelName::new(&name);
    name.map(|name| Some((name, range))).ok_or(BodyFlaw::BadMember { member, expected: MODEL_EXPECTED })
}
