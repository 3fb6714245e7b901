//! One walk over a JSON body: which watched members it has, what they say, and where.

use std::ops::Range;

use crate::dialect::describe::members::{GENERATION, Generation, Member, ONE_MODEL, TOP};
use crate::dialect::describe::nested::{
    extra_body, model_list, open_object, plugins, prompt, route, stream_options, thinking, tools,
};
use crate::dialect::describe::splices::{Limit, Places};
use crate::dialect::json::Cursor;
use crate::policy::{BodyFlaw, DialectName, Endpoint};
use crate::units::{ModelName, Tokens};

/// Answers to one prompt, at most; what the most generous API takes.
const CHOICES: std::ops::RangeInclusive<u64> = 1..=128;
const CHOICES_EXPECTED: &str = "an integer from 1 to 128, or null";

pub(super) const TOKENS: std::ops::RangeInclusive<u64> = 0..=2_147_483_647;
pub(super) const TOKENS_EXPECTED: &str = "an integer from 0 to 2147483647, or null";

const MODEL_EXPECTED: &str = "a string of 1 to 256 of A-Z a-z 0-9 . _ : / @ + -, without \"..\"";

/// Whose body is read: decides which limit is the endpoint's own, and what a model may look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) dialect: DialectName,
    pub(super) endpoint: Endpoint,
    pub(super) path_model: Option<&'a ModelName>,
}

/// What a JSON body says.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) model: Option<ModelName>,
    pub(super) model_ranges: Places,
    pub(super) other_models: Vec<ModelName>,
    pub(super) stream: bool,
    /// The largest of `n`, `best_of`, `candidateCount`; 0 when none is given.
    pub(super) choices: u64,
    /// How many prompts one body holds (completions); 0 for the usual one.
    pub(super) prompts: u64,
    pub(super) limits: [Option<Limit>; 2],
    /// The largest limit under any name, where no name is known to be the right one.
    pub(super) loose_limit: Option<Tokens>,
    /// The lowest limit that the API takes, where the body says so.
    pub(super) least_output: Tokens,
    pub(super) options: Object,
    pub(super) include_usage: Option<(bool, Range<usize>)>,
    pub(super) generation: Object,
    /// Behind the body's opening brace.
    pub(super) start: usize,
    pub(super) is_empty: bool,
    pub(super) media_items: u64,
    pub(super) media_bytes: u64,
    /// Whether what the backend reads is not all in the body.
    pub(super) refers: bool,
    has_route: bool,
}

/// A nested object that something may be put into.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Object {
    #[default]
    Absent,
    /// It is null, here.
    Null(Range<usize>),
    /// Its first member begins here.
    At { at: usize, is_empty: bool },
}

/// Names seen in one object.
#[derive(Default)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) fn note(&mut self, bit: u64, member: &'static str) -> Result<(), BodyFlaw> {
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        if is_new { Ok(()) } else { Err(BodyFlaw::DuplicateMember { member }) }
    }
}

impl Reader<'_> {
    /// Reads all of `body` into `found`, which says nothing yet.
    ///
    /// # Errors
    /// Every [`BodyFlaw`] but those about a missing model and forms.
    pub(super) fn read(&self, body: &[u8], found: &mut Found) -> Result<(), BodyFlaw> {
        let mut cursor = Cursor::open(body)?;
        (found.start, found.is_empty) = (cursor.offset(), cursor.peek() == Some(b'}'));
        let (mut first, mut seen) = (true, Seen::default());
        // Members that may only be null; they are too many for a bit each, and hardly ever there.
        let mut nulls: Vec<&'static str> = Vec::new();
        while let Some(name) = cursor.next_member(&mut first)? {
            match TOP.find(&name)? {
                Some((name, member)) => {
                    match member.bit() {
                        Some(bit) => seen.note(bit, name)?,
                        None if nulls.contains(&name) => return Err(BodyFlaw::DuplicateMember { member: name }),
                        None => nulls.push(name),
                    }
                    self.member(&mut cursor, name, member, found)?;
                }
                None => _ = cursor.skip()?,
            }
        }
        cursor.finish()?;
        if found.has_route && found.other_models.is_empty() {
            return Err(BodyFlaw::MemberNotAllowed { member: "route" });
        }
        found.media_items = cursor.media_items();
        found.media_bytes = cursor.media_bytes();
        found.refers |= cursor.refers();
        Ok(())
    }

    fn member(
        &self,
        cursor: &mut Cursor<'_>,
        name: &'static str,
        member: Member,
        found: &mut Found,
    ) -> Result<(), BodyFlaw> {
        match member {
            Member::Model => self.model(cursor, found)?,
            Member::Models | Member::Fallbacks => model_list(cursor, name, &mut found.other_models)?,
            Member::Route => found.has_route = route(cursor)?,
            Member::Stream => found.stream = cursor.flag(name)?.unwrap_or(false),
            Member::StreamOptions => stream_options(cursor, found)?,
            Member::N | Member::BestOf => {
                found.choices = found.choices.max(cursor.integer(name, CHOICES, CHOICES_EXPECTED)?.unwrap_or(0));
            }
            Member::MaxTokens
            | Member::MaxCompletionTokens
            | Member::MaxOutputTokens
            | Member::ForeignLimit(_)
            | Member::ForeignChoices => self.limit(cursor, name, member, found)?,
            Member::Thinking if self.endpoint == Endpoint::Messages => {
                found.least_output = thinking(cursor)?.saturating_add(1);
            }
            Member::Thinking => _ = cursor.skip()?,
            Member::Prompt => found.prompts = prompt(cursor)?,
            Member::Background => {
                // Images have a `background` too: a word.
                if cursor.peek() == Some(b't') {
                    let expected = "false: an answer that is fetched later cannot be metered";
                    return Err(BodyFlaw::BadMember { member: name, expected });
                }
                cursor.skip()?;
            }
            Member::Tools => tools(cursor, &mut found.other_models)?,
            Member::Plugins => plugins(cursor)?,
            Member::ExtraBody => extra_body(cursor)?,
            Member::GenerationConfig => self.generation_config(cursor, name, found)?,
            Member::Requests if self.dialect == DialectName::Gemini => self.requests(cursor, found)?,
            Member::GenerateContentRequest if self.dialect == DialectName::Gemini => {
                self.inner_request(cursor, name, found)?;
            }
            Member::Earlier(_) => {
                found.refers |= cursor.peek() != Some(b'n');
                cursor.skip()?;
            }
            Member::Requests | Member::GenerateContentRequest | Member::Once(_) => _ = cursor.skip()?,
            Member::Refused => {
                if !cursor.null()? {
                    return Err(BodyFlaw::MemberNotAllowed { member: name });
                }
            }
        }
        Ok(())
    }

    /// A `model` that must agree with every other place that names it. Gemini writes it `models/NAME`.
    fn model(&self, cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), BodyFlaw> {
        let Some((text, mut range)) = cursor.plain_string("model", MODEL_EXPECTED)? else { return Ok(()) };
        let bad = BodyFlaw::BadMember { member: "model", expected: MODEL_EXPECTED };
        let mut name: &str = &text;
        if self.dialect == DialectName::Gemini
            && let Some(rest) = name.strip_prefix("models/")
        {
            // The slash may be written `\/`; the rest is then behind that.
            range.start += if cursor.slice(&range).starts_with(b"models\\") { 8 } else { 7 };
            name = rest;
        }
        match found.model.as_ref().or(self.path_model) {
            Some(known) if known.as_str() != name => {
                return Err(if ModelName::is_valid(name.as_bytes()) { BodyFlaw::ModelDisagrees } else { bad });
            }
            Some(_) => {}
            None => found.model = Some(ModelName::new(name).ok_or(bad)?),
        }
        found.model_ranges.push(range);
        Ok(())
    }

    fn requests(&self, cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), BodyFlaw> {
        if cursor.null()? {
            return Ok(());
        }
        if cursor.peek() != Some(b'[') {
            return Err(cursor.bad("requests", "an array of objects"));
        }
        cursor.enter()?;
        let mut first = true;
        while cursor.next_element(&mut first)? {
            self.inner_request(cursor, "requests", found)?;
        }
        Ok(())
    }

    fn inner_request(&self, cursor: &mut Cursor<'_>, member: &'static str, found: &mut Found) -> Result<(), BodyFlaw> {
        if cursor.null()? {
            return Ok(());
        }
        if cursor.peek() != Some(b'{') {
            return Err(cursor.bad(member, "an object"));
        }
        cursor.enter()?;
        let (mut first, mut seen) = (true, Seen::default());
        while let Some(name) = cursor.next_member(&mut first)? {
            if ONE_MODEL.find(&name)?.is_some() {
                seen.note(1, "model")?;
                self.model(cursor, found)?;
            } else {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    /// A limit of the output. Its own endpoint's is kept; one that only other endpoints have is refused where text is
    /// generated, because some backends read it all the same and some do not.
    fn limit(
        &self,
        cursor: &mut Cursor<'_>,
        name: &'static str,
        member: Member,
        found: &mut Found,
    ) -> Result<(), BodyFlaw> {
        let start = cursor.offset();
        let value = cursor.integer(name, TOKENS, TOKENS_EXPECTED)?;
        let range = start..cursor.offset();
        if let Some(slot) = self.own_limit(member).and_then(|index| found.limits.get_mut(index)) {
            *slot = Some(Limit { range, value });
        } else if self.endpoint == Endpoint::Passthrough {
            found.loose_limit = found.loose_limit.max(value);
        } else if self.endpoint.has_output() && value.is_some() {
            return Err(BodyFlaw::BadMember {
                member: name,
                expected: "the member that this endpoint itself has for it",
            });
        }
        Ok(())
    }

    /// Which of the two slots a limit has at this endpoint. `max_completion_tokens` comes first: where both are null it is the
    /// one to fill.
    fn own_limit(&self, member: Member) -> Option<usize> {
        match (self.endpoint, member) {
            (Endpoint::ChatCompletions, Member::MaxCompletionTokens) => Some(0),
            (Endpoint::ChatCompletions, Member::MaxTokens) => Some(1),
            (Endpoint::Completions | Endpoint::Messages, Member::MaxTokens) => Some(0),
            (Endpoint::Responses, Member::MaxOutputTokens) => Some(0),
            _ => None,
        }
    }

    fn generation_config(
        &self,
        cursor: &mut Cursor<'_>,
        member: &'static str,
        found: &mut Found,
    ) -> Result<(), BodyFlaw> {
        let start = cursor.offset();
        found.generation = open_object(cursor, member, start)?;
        if !matches!(found.generation, Object::At { .. }) {
            return Ok(());
        }
        let (mut first, mut seen) = (true, Seen::default());
        while let Some(name) = cursor.next_member(&mut first)? {
            let start = cursor.offset();
            match GENERATION.find(&name)? {
                Some((name, Generation::Output)) => {
                    seen.note(1, name)?;
                    let value = cursor.integer(name, TOKENS, TOKENS_EXPECTED)?;
                    if matches!(self.endpoint, Endpoint::GenerateContent | Endpoint::StreamGenerateContent) {
                        found.limits[0] = Some(Limit { range: start..cursor.offset(), value });
                    }
                }
                Some((name, Generation::Choices)) => {
                    seen.note(2, name)?;
                    let choices = cursor.integer(name, CHOICES, CHOICES_EXPECTED)?;
                    found.choices = found.choices.max(choices.unwrap_or(0));
                }
                None => _ = cursor.skip()?,
            }
        }
        Ok(())
    }
}
