//! One pass over JSON that comes in pieces: it knows depth and strings, and copies out only the few members that say what
//! was used. A body of any length is read in the room of one usage object.
//!
//! It reads, it does not judge: what is no JSON is passed over somehow, and nothing is found in it that is not a member
//! at the right place.

use std::mem;

use crate::dialect::json::plain_length;
use crate::dialect::meter::marks::{MARKS, Mark, plain_elements, plain_value};
use crate::dialect::meter::name::{Name, Texts};
use crate::dialect::meter::report::Source;
use crate::dialect::meter::said::Said;
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
    texts: Texts,
    depth: u32,
    /// Which of the open containers are objects, the innermost in the lowest bit; of those deeper than [`DEEPEST`] nothing is known.
    objects: u128,
    /// The innermost container is one, as the two before say: asked at every byte that matters.
    in_object: bool,
    /// 1 inside an array of documents, as gemini streams them without `alt=sse`; else 0.
    base: u32,
    quoted: Quoted,
    /// The string being read, or read last, is a member's name.
    is_name: bool,
    expects_name: bool,
    /// The name that was read last, once it was read whole.
    named: Name,
    /// Of a name that is cut between two pieces, what came so far.
    name: [u8; LONGEST_NAME],
    name_length: usize,
    /// The member of the document that is being read.
    top: Name,
    /// The next string is generated text.
    expects_text: bool,
    /// The string being read is generated text.
    is_text: bool,
    /// What is copied.
    slot: Slot,
    /// The depth of the member that is copied; 0 for none.
    slot_depth: u32,
    copied: Vec<u8>,
    /// Where in the present piece the value to be copied begins.
    copy_from: usize,
    roots: u32,
    usages: u32,
    empty_choices: u32,
    other_choices: u32,
}

impl Scan {
    /// At the start of a document, counting the strings of `texts` as generated text.
    pub(super) fn new(members: Members, texts: Texts) -> Self {
        Self {
            members,
            texts,
            depth: 0,
            objects: 0,
            in_object: false,
            base: 0,
            quoted: Quoted::No,
            is_name: false,
            expects_name: false,
            named: Name::Other,
            name: [0; LONGEST_NAME],
            name_length: 0,
            top: Name::Other,
            expects_text: false,
            is_text: false,
            slot: Slot::Kind,
            slot_depth: 0,
            copied: Vec::new(),
            copy_from: 0,
            roots: 0,
            usages: 0,
            empty_choices: 0,
            other_choices: 0,
        }
    }

    /// Forgets what was read and begins anew, counting the strings of `texts` as generated text.
    pub(super) fn begin(&mut self, texts: Texts) {
        let mut copied = mem::take(&mut self.copied);
        copied.clear();
        *self = Self { copied, ..Self::new(self.members, texts) };
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
        while self.quoted != Quoted::No && at < piece.len() {
            at = self.string(piece, at, tally);
        }
        while let Some(byte) = piece.get(at) {
            at += 1;
            match MARKS[usize::from(*byte)] {
                Mark::None if self.in_object => at = plain_value(piece, at),
                Mark::None => at = plain_elements(piece, at),
                Mark::Quote => at = self.quote(piece, at, tally),
                Mark::Object => self.open(true),
                Mark::Array => self.open(false),
                Mark::End => self.close(piece, at - 1, tally),
                Mark::Comma if self.in_object => self.end_member(piece, at - 1, tally),
                Mark::Colon if self.in_object && self.is_name => self.colon(self.named, at, tally),
                Mark::Comma | Mark::Colon => {}
            }
        }
        if self.slot_depth > 0 {
            self.copy(piece, piece.len());
        }
    }

    /// Reads the string that begins at `at`, to behind its end or that of the piece; and what follows it, as long as that is a member with a plain
    /// value, and another one behind it.
    #[inline]
    fn quote(&mut self, piece: &[u8], mut at: usize, tally: &mut Tally) -> usize {
        loop {
            let inside = piece.get(at..).unwrap_or_default();
            let length = plain_length(inside);
            // Most strings are whole and plain, and most names have their colon right behind them.
            let Some((text, [b'"', behind @ ..])) = inside.split_at_checked(length) else {
                return self.any_string(piece, at, tally);
            };
            at += length + 1;
            self.is_name = mem::take(&mut self.expects_name);
            if self.is_name {
                let name = Name::of(text);
                let [b':', value @ ..] = behind else {
                    self.named = name;
                    self.expects_text = false;
                    return at;
                };
                at += 1;
                self.colon(name, at, tally);
                match value {
                    [b'"', ..] => {
                        at += 1;
                        continue;
                    }
                    [b'0'..=b'9' | b'n' | b't' | b'f', ..] => at = plain_value(piece, at + 1),
                    [b'{', ..] if self.slot_depth == self.depth && self.copy_from == at => {
                        let Some(length) = self.whole_usage(value, tally) else { return at };
                        at += length;
                    }
                    _ => return at,
                }
            } else if mem::take(&mut self.expects_text) {
                tally.text(length as u64);
            }
            let is_next = self.in_object && matches!(piece.get(at..), Some([b',', b'"', ..]));
            if !is_next {
                return at;
            }
            self.end_member(piece, at, tally);
            at += 2;
        }
    }

    /// Reads the usage object that `json` begins with, if it is written plainly, and says how long it is: what is inside need not be gone through
    /// a second time then.
    #[inline(never)]
    fn whole_usage(&mut self, json: &[u8], tally: &mut Tally) -> Option<usize> {
        let Slot::Usage(source) = self.slot else { return None };
        let mut said = Said::default();
        let length = said.read_first(json)?;
        if length > LONGEST_USAGE || !matches!(json.get(length), Some(b',' | b'}')) {
            return None;
        }
        self.slot_depth = 0;
        self.usages = self.usages.saturating_add(1);
        tally.said(source, &said);
        Some(length)
    }

    /// Reads the string that begins at `at`, however it goes on.
    fn any_string(&mut self, piece: &[u8], at: usize, tally: &mut Tally) -> usize {
        self.is_name = self.expects_name;
        self.is_text = mem::take(&mut self.expects_text) && !self.is_name;
        self.quoted = Quoted::Yes;
        self.name_length = 0;
        let mut at = at;
        while self.quoted != Quoted::No && at < piece.len() {
            at = self.string(piece, at, tally);
        }
        at
    }

    fn open(&mut self, is_object: bool) {
        if self.depth == 0 {
            self.base = u32::from(!is_object);
        }
        self.depth = self.depth.saturating_add(1);
        if self.depth <= DEEPEST {
            self.objects = self.objects << 1 | u128::from(is_object);
        }
        self.in_object = is_object && self.depth <= DEEPEST;
        self.expects_name = self.in_object;
        self.is_name = false;
        self.expects_text = false;
    }

    fn close(&mut self, piece: &[u8], at: usize, tally: &mut Tally) {
        if self.depth == 0 {
            return;
        }
        self.end_value(piece, at, tally);
        if self.depth <= DEEPEST {
            self.objects >>= 1;
        }
        self.depth -= 1;
        self.in_object = self.objects & 1 == 1 && self.depth <= DEEPEST;
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

    /// Behind the colon of a member; its value begins at `at`.
    #[inline]
    fn colon(&mut self, name: Name, at: usize, tally: &mut Tally) {
        self.is_name = false;
        self.expects_name = false;
        self.expects_text = self.texts.has(name);
        let level = self.depth - self.base;
        if level == 1 {
            self.top = name;
        }
        if name.leads() && level <= 3 {
            self.lead(name, level, at, tally);
        }
    }

    fn lead(&mut self, name: Name, level: u32, at: usize, tally: &mut Tally) {
        let slot = match level {
            1 => self.member(name),
            2 => self.inner_member(name),
            3 => {
                if self.top == Name::Candidates && name == Name::FinishReason {
                    tally.end_with_document();
                }
                None
            }
            _ => None,
        };
        if let (Some(slot), 0) = (slot, self.slot_depth) {
            (self.slot, self.slot_depth) = (slot, self.depth);
            self.copied.clear();
            self.copy_from = at;
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

    /// At the comma behind a member.
    #[inline]
    fn end_member(&mut self, piece: &[u8], at: usize, tally: &mut Tally) {
        self.end_value(piece, at, tally);
        self.expects_name = true;
        self.expects_text = false;
    }

    /// The value being copied ends here when it is a member of the innermost container.
    #[inline]
    fn end_value(&mut self, piece: &[u8], at: usize, tally: &mut Tally) {
        if self.slot_depth == self.depth {
            self.end_copy(piece, at, tally);
        }
    }

    fn end_copy(&mut self, piece: &[u8], at: usize, tally: &mut Tally) {
        let part = piece.get(self.copy_from..at).unwrap_or_default();
        if self.copied.is_empty() && part.len() <= self.slot.longest() {
            // It came in one piece, and is read where it lies.
            self.slot_depth = 0;
            self.found(self.slot, part.trim_ascii(), tally);
            return;
        }
        self.copy(piece, at);
        if mem::take(&mut self.slot_depth) > 0 {
            let value = mem::take(&mut self.copied);
            self.found(self.slot, value.trim_ascii(), tally);
            self.copied = value;
        }
    }

    /// Copies the value up to `to`. One that is too long to be true is given up.
    fn copy(&mut self, piece: &[u8], to: usize) {
        let part = piece.get(self.copy_from..to).unwrap_or_default();
        if self.copied.len() + part.len() <= self.slot.longest() {
            self.copied.extend_from_slice(part);
            return;
        }
        self.slot_depth = 0;
        self.other_choices += u32::from(self.slot == Slot::Choices);
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

    /// Reads on in a string, to behind its end, an escape, or the end of the piece.
    #[inline(never)]
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
    fn read_name(&mut self, text: &[u8], is_end: bool) {
        if is_end && self.name_length == 0 {
            self.named = Name::of(text);
            return;
        }
        self.add_to_name(text);
        if is_end {
            self.named = Name::of(self.name.get(..self.name_length).unwrap_or_default());
        }
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
