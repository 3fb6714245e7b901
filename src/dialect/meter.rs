//! Reads along with an answer and says what it used.
//!
//! Every byte is passed on as it came and at once. The one exception is asked for: of an openai stream into whose request
//! the proxy spliced `include_usage`, the extra usage event is taken out again, and to tell it an event that is not yet
//! whole is held back.
//!
//! What is read is bounded: an event stream holds at most one event of [`LONGEST_EVENT`] bytes, a JSON body nothing but the
//! usage object itself. What cannot be read (another content coding, a corrupt or exploding one) is passed on all the same
//! and its use is estimated. Nothing an answer contains makes the meter fail.

mod bulk;
mod count;
mod decode;
mod events;
mod generated;
mod glance;
mod marks;
mod name;
mod plain;
mod report;
mod said;
mod scan;
mod tally;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use crate::dialect::meter::events::LONGEST_EVENT;
pub use crate::dialect::meter::report::CEILING;
pub use crate::dialect::meter::tally::BYTES_PER_TOKEN;

use crate::dialect::meter::bulk::Bulk;
use crate::dialect::meter::decode::Decoder;
use crate::dialect::meter::events::{Events, Step};
use crate::dialect::meter::glance::Lookout;
use crate::dialect::meter::name::Texts;
use crate::dialect::meter::report::{Report, Source};
use crate::dialect::meter::scan::{Members, Scan};
use crate::dialect::meter::tally::Tally;
use crate::policy::{DialectName, Endpoint, Usage};
use crate::units::Tokens;

/// Bytes of a JSON document that are not generated, at most.
const AROUND: u64 = 1024;
/// Known text that is less than one in so many bytes of a document is not all that was generated.
const LEAST_SHARE: u64 = 4;

/// What a `usage` object of OpenAI's says, wherever it stood; `prompt` stands for an input, and `seen` for an output, that is not reported or
/// cannot be believed. `None` when it says nothing.
pub fn usage_of(json: &[u8], prompt: Tokens, seen: Tokens) -> Option<Usage> {
    Report::parse(Source::Usage, false, true, json)?.made_whole(prompt, seen)
}

/// The content coding of an answer, of those that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// `gzip`, `x-gzip`
    Gzip,
    /// `deflate`, in its zlib frame or bare.
    Deflate,
    /// `br`
    Brotli,
}

impl Coding {
    /// Reads a `content-encoding`; an empty one is [`Coding::Identity`]. `None` for any other, also for a list of several.
    pub fn of(content_encoding: &str) -> Option<Self> {
        match content_encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            _ => None,
        }
    }
}

/// How an answer is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `application/json` and other kinds of it, one document, or an array of them as gemini streams without `alt=sse`.
    Json,
    /// `text/event-stream`
    EventStream,
    /// Anything else: audio, plain text.
    Opaque,
}

impl Framing {
    /// Reads a `content-type`, its parameters aside. An answer without one is JSON for all that is known of its backend.
    pub fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |known: &str| essence.eq_ignore_ascii_case(known);
        let is_json = |(_, kind): (&str, &str)| kind.eq_ignore_ascii_case("json");
        if is("application/json")
            || is("text/json")
            || essence.is_empty()
            || essence.rsplit_once('+').is_some_and(is_json)
        {
            Self::Json
        } else if is("text/event-stream") {
            Self::EventStream
        } else {
            Self::Opaque
        }
    }
}

/// The meter of one answer.
pub struct Meter {
    reader: Reader,
    /// Set while a compressed answer is read.
    /// On the heap: few answers are compressed.
    decoder: Option<Box<Decoder>>,
    tally: Tally,
    strips: bool,
    /// The last event was taken out.
    took_out: bool,
    /// What stands for generated text where none could be told from the rest; counted only for calls that generate any.
    unread: Unread,
    body_text: Texts,
}

/// What an answer has of which nobody knows what it is.
#[derive(Debug, Default)]
struct Unread {
    /// Whether the call generates any text.
    counts: bool,
    bytes: u64,
    /// What is behind the first [`AROUND`] bytes.
    bulk: Bulk,
}

impl Unread {
    fn push(&mut self, piece: &[u8]) {
        if !self.counts {
            return;
        }
        let around = usize::try_from(AROUND.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        self.bulk.push(piece.get(around..).unwrap_or_default());
    }

    fn worth(&self) -> u64 {
        self.bytes.min(AROUND) + self.bulk.worth()
    }
}

enum Reader {
    Events(Box<Events>),
    Body(Box<Scan>),
    /// Nothing is read.
    Blind,
}

/// What was counted, never what was read.
impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("reported", &self.reported()).finish_non_exhaustive()
    }
}

impl Meter {
    /// For an answer to `endpoint`. `strip_usage_event` asks for openai's extra usage event to be taken out; it has an effect
    /// only on an uncompressed event stream of an openai or azure endpoint, since nothing can be taken out of a compressed
    /// one: who splices `include_usage` into a request must also ask for no content coding.
    pub fn new(
        dialect: DialectName,
        endpoint: Endpoint,
        framing: Framing,
        coding: Coding,
        strip_usage_event: bool,
    ) -> Self {
        let is_openai = matches!(dialect, DialectName::OpenAi | DialectName::Azure);
        let strips = strip_usage_event && is_openai && framing == Framing::EventStream && coding == Coding::Identity;
        let lookout = Lookout::of(dialect, endpoint);
        let may_be_any = endpoint == Endpoint::Passthrough;
        let members = Members {
            usage: dialect != DialectName::Gemini || may_be_any,
            usage_metadata: dialect == DialectName::Gemini || may_be_any,
            meta: endpoint == Endpoint::Rerank || may_be_any,
            duration: matches!(endpoint, Endpoint::AudioTranscriptions | Endpoint::AudioTranslations),
        };
        let reader = match framing {
            Framing::EventStream => Reader::Events(Box::new(Events::new(lookout, members, strips))),
            Framing::Json => Reader::Body(Box::new(Scan::new(members, lookout.body_text))),
            Framing::Opaque => Reader::Blind,
        };
        let decoder = match (framing, coding) {
            (Framing::Opaque, _) | (_, Coding::Identity) => None,
            (_, Coding::Gzip) => Some(Box::new(Decoder::gzip())),
            (_, Coding::Deflate) => Some(Box::new(Decoder::deflate())),
            (_, Coding::Brotli) => Some(Box::new(Decoder::brotli())),
        };
        Self {
            reader,
            decoder,
            tally: Tally::new(dialect == DialectName::Anthropic, endpoint.has_output()),
            strips,
            took_out: false,
            unread: Unread { counts: endpoint.has_output(), ..Unread::default() },
            body_text: lookout.body_text,
        }
    }

    /// Of an answer that is several at once: what is reported beside one of them speaks for that alone, and is not for the whole.
    pub fn of_several(mut self) -> Self {
        if let Reader::Events(events) = &mut self.reader {
            events.are_of_several();
        }
        self
    }

    /// For an answer in a content coding that cannot be read: passes everything on, reports nothing, estimates by length.
    pub fn blind(dialect: DialectName, endpoint: Endpoint) -> Self {
        Self::new(dialect, endpoint, Framing::Opaque, Coding::Identity, false)
    }

    /// Reads `chunk` and hands on to `out` what is to be passed on: `chunk` itself, but where an event is taken out or held
    /// back.
    pub fn push(&mut self, chunk: Bytes, out: &mut impl FnMut(Bytes)) {
        if self.strips {
            self.push_stripping(&chunk, out);
            return;
        }
        self.read(&chunk);
        out(chunk);
    }

    /// The answer ended cleanly: hands on what was held back, unless it is the usage event.
    pub fn finish(&mut self, out: &mut impl FnMut(Bytes)) {
        match &mut self.reader {
            Reader::Events(events) => {
                let is_usage = events.finish(&mut self.tally);
                let held = events.take_given();
                if self.strips && !is_usage && !held.is_empty() {
                    out(Bytes::from(held));
                }
            }
            Reader::Body(_) => {}
            Reader::Blind => self.tally.end_stream(),
        }
    }

    /// What the backend reported so far, brought to one meaning; the last report wins where a dialect reports anew. `None` when
    /// there was none. Numbers out of range are clamped to 0 and [`CEILING`], which, as any other oddness, is marked
    /// `estimated`. See [`Meter::usage_or_estimate`] for what to charge.
    pub fn reported(&self) -> Option<Usage> {
        self.tally.reported()
    }

    /// Bytes of generated text seen so far: what the text members of events and bodies hold; where none can be told from the
    /// rest, the bytes received.
    pub fn output_bytes(&self) -> u64 {
        self.tally.text_bytes().saturating_add(self.untold())
    }

    /// What to charge for the answer as far as it came: what was reported, and `estimated` where that does not speak for all.
    /// Input that was not reported, or as a number that cannot be, is `prompt_estimate`; output is never less than a token for
    /// every [`BYTES_PER_TOKEN`] bytes of the text that came after the last report.
    pub fn usage_or_estimate(&self, prompt_estimate: Tokens) -> Usage {
        self.tally.usage(prompt_estimate, self.untold())
    }

    /// Whether the answer's own end was seen: `[DONE]`, `message_stop`, `response.completed`, a finish reason of gemini's, the end
    /// of a JSON document. Of what is not read only [`Meter::finish`] tells the end.
    pub fn is_complete(&self) -> bool {
        let is_whole = match &self.reader {
            Reader::Body(scan) => scan.is_complete(),
            Reader::Events(_) | Reader::Blind => false,
        };
        is_whole || self.tally.is_complete()
    }

    /// Whether an event of our own could stand after what was passed on so far: only in an uncompressed event stream, and only where
    /// no event has begun.
    pub fn between_events(&self) -> bool {
        match &self.reader {
            Reader::Events(events) => self.decoder.is_none() && events.is_between(self.strips),
            Reader::Body(_) | Reader::Blind => false,
        }
    }

    /// Bytes that stand for text that could not be told from the rest. Those of a JSON body count only when nothing better is
    /// known of it: nothing was reported, and what is known to be text is next to nothing of it.
    fn untold(&self) -> u64 {
        let known = self.tally.text_bytes();
        match self.reader {
            _ if !self.unread.counts => 0,
            Reader::Blind | Reader::Events(_) => self.unread.bytes,
            Reader::Body(_) if self.body_text.is_empty() || self.tally.reported().is_some() => 0,
            Reader::Body(_) if known == 0 => self.unread.worth(),
            Reader::Body(_) => {
                let rest = self.unread.bulk.worth().saturating_sub(AROUND * self.tally.documents());
                if rest / LEAST_SHARE > known { rest - known } else { 0 }
            }
        }
    }

    fn read(&mut self, chunk: &[u8]) {
        let Some(decoder) = &mut self.decoder else {
            return read_plain(&mut self.reader, chunk, &mut self.tally, &mut self.unread);
        };
        let (reader, tally, unread) = (&mut self.reader, &mut self.tally, &mut self.unread);
        if decoder.push(chunk, &mut |plain| read_plain(reader, plain, tally, unread)).is_err() {
            self.decoder = None;
            self.reader = Reader::Blind;
        }
    }

    fn push_stripping(&mut self, chunk: &Bytes, out: &mut impl FnMut(Bytes)) {
        let Reader::Events(events) = &mut self.reader else { return out(chunk.clone()) };
        let pass = |from: usize, to: usize, out: &mut dyn FnMut(Bytes)| {
            if from < to {
                out(chunk.slice(from..to));
            }
        };
        // Of the chunk, what lies between `from` and `at` is read and to be passed on.
        let (mut from, mut at) = (0, 0);
        while at < chunk.len() {
            match events.step(chunk.get(at..).unwrap_or_default(), &mut self.tally) {
                Step::Lf => {
                    if self.took_out {
                        pass(from, at, out);
                        from = at + 1;
                    }
                    at += 1;
                }
                Step::Event { length, is_usage } => {
                    let earlier = events.take_given();
                    if is_usage {
                        pass(from, at, out);
                        from = at + length;
                    } else if !earlier.is_empty() {
                        out(Bytes::from(earlier));
                    }
                    self.took_out = is_usage;
                    at += length;
                }
                Step::Open { is_long } => {
                    let earlier = events.take_given();
                    if !earlier.is_empty() {
                        out(Bytes::from(earlier));
                    }
                    pass(from, if is_long { chunk.len() } else { at }, out);
                    return;
                }
            }
        }
        pass(from, at, out);
    }
}

fn read_plain(reader: &mut Reader, plain: &[u8], tally: &mut Tally, unread: &mut Unread) {
    match reader {
        Reader::Events(events) => events.read(plain, tally),
        Reader::Body(scan) => {
            unread.push(plain);
            scan.push(plain, tally);
        }
        Reader::Blind => unread.bytes = unread.bytes.saturating_add(plain.len() as u64),
    }
}
