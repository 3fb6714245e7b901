//! One pass over JSON that comes in pieces: it knows depth and strings, and copies out only the few members that say what
//! was used. A body of any length is read in the room of one usage object.
//!
//! It reads, it does not judge: what is no JSON is passed over somehow, and nothing is found in it that is not a member
//! at the right place.

use std::mem;

use crate::dialect::json::plain_length;
use crate::dialect::meter::report::Source;
use crate::dialect::meter::tally::Tally;

/// The longest usage object that is read, in bytes; real ones have under 2,000.
const LONGEST_USAGE: usize = 16 * 1024;
/// The longest value of `type`, `choices` or `duration` that is looked at, in bytes.
const LONGEST_SCALAR: usize = 64;
/// The longest member name that is told from others, in bytes.
const LONGEST_NAME: usize = 24;
/// Containers deeper than this are passed over as if they were arrays; no real answer has any.
const DEEPEST: u32 = 128;

/// A member whose value is copied out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Usage(Source),
    Kind,
    Choices,
    Duration,
}

/// A member name that leads somewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    Usage,
    UsageMetadata,
    Meta,
    Response,
    Message,
    Type,
    Choices,
    Candidates,
    FinishReason,
    Duration,
}

/// Which members are real in the answers of a dialect and endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Members {
    /// `usage`, also below `response` and `message`.
    pub(super) usage: bool,
    /// gemini's `usageMetadata`.
    pub(super) usage_metadata: bool,
    /// `meta` as rerank answers have it.
    pub(super) meta: bool,
    /// `duration` as a transcription in verbose JSON has it.
    pub(super) duration: bool,
}

/// Inside which part of a string a piece ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoted {
    No,
    Yes,
    Escape,
}

/// The scan of one document after another: of a body, or of the events of a stream.
#[derive(Debug)]
pub(super) struct Scan {
    members: Members,
    text_names: &'static [&'static [u8]],
    /// Bit n: one of them has n bytes.
    text_lengths: u32,
    depth: u32,
    /// Bit n: the container at depth n + 1 is an object.
    objects: u128,
    /// The innermost container is one, as the two before say: asked at every byte that matters.
    in_object: bool,
    /// 1 inside an array of documents, as gemini streams them without `alt=sse`; else 0.
    base: u32,
    quoted: Quoted,
    /// The string being read, or read last, is a member's name.
    is_name: bool,
    expects_name: bool,
    /// What the name that was read last says, once it was read whole.
    named: (Name, bool),
    /// Of a name that is cut between two pieces, what came so far.
    name: [u8; LONGEST_NAME],
    name_length: usize,
    /// The member of the document that is being read.
    top: Name,
    /// The next string is generated text.
    expects_text: bool,
    /// The string being read is generated text.
    is_text: bool,
    slot: Option<(Slot, u32)>,
    copied: Vec<u8>,
    /// Where in the present piece the value to be copied begins.
    copy_from: usize,
    roots: u32,
    usages: u32,
    empty_choices: u32,
    other_choices: u32,
}

impl Scan {
    pub(super) fn new(members: Members) -> Self {
        Self {
            members,
            text_names: &[],
            text_lengths: 0,
            depth: 0,
            objects: 0,
            in_object: false,
            base: 0,
            quoted: Quoted::No,
            is_name: false,
            expects_name: false,
            named: (Name::Other, false),
            name: [0; LONGEST_NAME],
            name_length: 0,
            top: Name::Other,
            expects_text: false,
            is_text: false,
            slot: None,
            copied: Vec::new(),
            copy_from: 0,
            roots: 0,
            usages: 0,
            empty_choices: 0,
            other_choices: 0,
        }
    }

    /// Forgets what was read and begins anew, counting the strings of `text_names` as generated text.
    pub(super) fn begin(&mut self, text_names: &'static [&'static [u8]]) {
        let copied = mem::take(&mut self.copied);
        *self = Self::new(self.members);
        self.text_names = text_names;
        self.text_lengths = text_names.iter().fold(0, |lengths, name| lengths | length_bit(name.len()));
        self.copied = copied;
        self.copied.clear();
    }

    /// Whether the document was read to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.roots > 0 && self.depth == 0 && self.quoted == Quoted::No
    }

    /// Whether what was read is openai's extra event: a usage and no choice.
    pub(super) fn is_usage_event(&self) -> bool {
        self.is_complete()
            && self.roots == 1
            && self.base == 0
            && self.usages > 0
            && self.empty_choices == 1
            && self.other_choices == 0
    }

    /// Reads on.
    pub(super) fn push(&mut self, piece: &[u8], tally: &mut Tally) {
        self.copy_from = 0;
        let mut at = 0;
        while at < piece.len() {
            at = if self.quoted == Quoted::No {
                self.structure(piece, at, tally)
            } else {
                self.string(piece, at, tally)
            };
        }
        if self.slot.is_some() {
            self.copy(piece, piece.len());
        }
    }

    /// Reads to behind the next byte that matters outside strings.
    fn structure(&mut self, piece: &[u8], at: usize, tally: &mut Tally) -> usize {
        let stops = if self.in_object { &IN_OBJECT } else { &ELSEWHERE };
        let rest = piece.get(at..).unwrap_or_default();
        let Some(skipped) = rest.iter().position(|byte| stops[usize::from(*byte)]) else { return piece.len() };
        let at = at + skipped;
        match rest.get(skipped) {
            Some(b'"') => {
                self.quoted = Quoted::Yes;
                self.is_name = self.expects_name;
                self.is_text = self.expects_text && !self.is_name;
                self.expects_text = false;
                self.name_length = 0;
                // Most strings are in one piece with what opens them.
                if at + 1 < piece.len() {
                    return self.string(piece, at + 1, tally);
                }
            }
            Some(b'{') => self.open(true),
            Some(b'[') => self.open(false),
            Some(b',') => {
                self.end_value(piece, at, tally);
                self.expects_name = true;
                self.expects_text = false;
            }
            Some(b':') => self.colon(at, tally),
            _ => self.close(piece, at, tally),
        }
        at + 1
    }

    fn go_to(&mut self, depth: u32) {
        self.depth = depth;
        self.in_object = (1..=DEEPEST).contains(&depth) && (self.objects >> (depth - 1)) & 1 == 1;
    }

    fn open(&mut self, is_object: bool) {
        if self.depth == 0 {
            self.base = u32::from(!is_object);
        }
        if self.depth < DEEPEST {
            let bit = 1 << self.depth;
            if is_object { self.objects |= bit } else { self.objects &= !bit }
        }
        self.go_to(self.depth.saturating_add(1));
        self.expects_name = self.in_object;
        self.is_name = false;
        self.expects_text = false;
    }

    fn close(&mut self, piece: &[u8], at: usize, tally: &mut Tally) {
        if self.depth == 0 {
            return;
        }
        self.end_value(piece, at, tally);
        self.go_to(self.depth - 1);
        self.expects_name = false;
        self.expects_text = false;
        if self.depth == self.base {
            tally.end_document();
            self.top = Name::Other;
        }
        if self.depth == 0 {
            self.roots = self.roots.saturating_add(1);
        }
    }

    fn colon(&mut self, at: usize, tally: &mut Tally) {
        if !self.is_name {
            return;
        }
        self.is_name = false;
        self.expects_name = false;
        let (name, is_text) = self.named;
        self.expects_text = is_text;
        let slot = match self.depth - self.base {
            1 => {
                self.top = name;
                self.member(name)
            }
            2 => self.inner_member(name),
            3 => {
                if self.top == Name::Candidates && name == Name::FinishReason {
                    tally.end_stream();
                }
                None
            }
            _ => None,
        };
        if let (Some(slot), None) = (slot, self.slot) {
            self.slot = Some((slot, self.depth));
            self.copied.clear();
            self.copy_from = at + 1;
        }
    }

    /// What a member of the document itself is read as.
    fn member(&self, name: Name) -> Option<Slot> {
        match name {
            Name::Usage if self.members.usage => Some(Slot::Usage(Source::Usage)),
            Name::UsageMetadata if self.members.usage_metadata => Some(Slot::Usage(Source::UsageMetadata)),
            Name::Meta if self.members.meta => Some(Slot::Usage(Source::Meta)),
            Name::Duration if self.members.duration => Some(Slot::Duration),
            Name::Choices => Some(Slot::Choices),
            Name::Type => Some(Slot::Kind),
            _ => None,
        }
    }

    /// What a member of a member is read as.
    fn inner_member(&self, name: Name) -> Option<Slot> {
        match (self.top, name) {
            (Name::Response, Name::Usage) if self.members.usage => Some(Slot::Usage(Source::Usage)),
            (Name::Message, Name::Usage) if self.members.usage => Some(Slot::Usage(Source::MessageStart)),
            _ => None,
        }
    }

    /// The value being copied ends here when it is a member of the innermost container.
    fn end_value(&mut self, piece: &[u8], at: usize, tally: &mut Tally) {
        let Some((slot, _)) = self.slot.filter(|(_, depth)| *depth == self.depth) else { return };
        let part = piece.get(self.copy_from..at).unwrap_or_default();
        if self.copied.is_empty() && part.len() <= slot.longest() {
            // It came in one piece, and is read where it lies.
            self.slot = None;
            self.found(slot, part.trim_ascii(), tally);
            return;
        }
        self.copy(piece, at);
        if self.slot.take().is_some() {
            let value = mem::take(&mut self.copied);
            self.found(slot, value.trim_ascii(), tally);
            self.copied = value;
        }
    }

    /// Copies the value up to `to`. One that is too long to be true is given up.
    fn copy(&mut self, piece: &[u8], to: usize) {
        let Some((slot, _)) = self.slot else { return };
        let part = piece.get(self.copy_from..to).unwrap_or_default();
        if self.copied.len() + part.len() <= slot.longest() {
            self.copied.extend_from_slice(part);
            return;
        }
        self.slot = None;
        self.other_choices += u32::from(slot == Slot::Choices);
    }

    fn found(&mut self, slot: Slot, value: &[u8], tally: &mut Tally) {
        match slot {
            Slot::Usage(source) => {
                if value.starts_with(b"{") {
                    self.usages = self.usages.saturating_add(1);
                    tally.report(source, value);
                }
            }
            Slot::Kind => tally.kind(value),
            Slot::Duration => tally.duration(value),
            Slot::Choices => {
                let inside = value.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
                if inside.is_some_and(|inside| inside.trim_ascii().is_empty()) {
                    self.empty_choices = self.empty_choices.saturating_add(1);
                } else {
                    self.other_choices = self.other_choices.saturating_add(1);
                }
            }
        }
    }

    /// Reads to behind the end of the string, or of the piece.
    #[inline]
    fn string(&mut self, piece: &[u8], at: usize, tally: &mut Tally) -> usize {
        if self.quoted == Quoted::Escape {
            self.quoted = Quoted::Yes;
            if self.is_text && piece.get(at) != Some(&b'u') {
                tally.text(1);
            }
            return at + 1;
        }
        let rest = piece.get(at..).unwrap_or_default();
        let length = plain_length(rest);
        let text = rest.get(..length).unwrap_or_default();
        let end = rest.get(length);
        if self.is_name {
            self.read_name(text, end == Some(&b'"'));
        } else if self.is_text {
            tally.text(length as u64);
        }
        match end {
            Some(b'"') => {
                self.quoted = Quoted::No;
                self.expects_name = false;
            }
            Some(_) => {
                self.quoted = Quoted::Escape;
                // A name written with escapes is not how any backend writes it.
                self.name_length = LONGEST_NAME + 1;
            }
            None => {}
        }
        at + length + 1
    }

    /// A part of a name, or all of it.
    #[inline]
    fn read_name(&mut self, text: &[u8], is_end: bool) {
        if is_end && self.name_length == 0 {
            self.named = self.meaning(text);
            return;
        }
        self.add_to_name(text);
        if is_end {
            self.named = self.meaning(self.name.get(..self.name_length).unwrap_or_default());
        }
    }

    /// What a name says: where it leads, and whether its value is generated text.
    fn meaning(&self, name: &[u8]) -> (Name, bool) {
        // By their length first: most names are told from all of them by that alone.
        let is_text = self.text_lengths & length_bit(name.len()) != 0
            && self.text_names.iter().any(|known| known.len() == name.len() && *known == name);
        (Name::of(name), is_text)
    }

    fn add_to_name(&mut self, text: &[u8]) {
        let end = self.name_length.saturating_add(text.len());
        match self.name.get_mut(self.name_length..end) {
            Some(room) => {
                room.copy_from_slice(text);
                self.name_length = end;
            }
            None => self.name_length = LONGEST_NAME + 1,
        }
    }
}

impl Slot {
    /// The longest value that is read, in bytes.
    fn longest(self) -> usize {
        if matches!(self, Self::Usage(_)) { LONGEST_USAGE } else { LONGEST_SCALAR }
    }
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b"usage" => Self::Usage,
            b"usageMetadata" => Self::UsageMetadata,
            b"meta" => Self::Meta,
            b"response" => Self::Response,
            b"message" => Self::Message,
            b"type" => Self::Type,
            b"choices" => Self::Choices,
            b"candidates" => Self::Candidates,
            b"finishReason" => Self::FinishReason,
            b"duration" => Self::Duration,
            _ => Self::Other,
        }
    }
}

fn length_bit(length: usize) -> u32 {
    1_u32.checked_shl(u32::try_from(length).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// The bytes that matter directly inside an object, and inside an array or outside of everything.
static IN_OBJECT: [bool; 256] = table(b"\"{}[],:");
static ELSEWHERE: [bool; 256] = table(b"\"{}[]");

const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
}
