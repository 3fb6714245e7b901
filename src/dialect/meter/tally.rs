//! What was found in an answer so far.

use crate::dialect::meter::report::{Report, Source};
use crate::dialect::meter::said::Said;
use crate::policy::Usage;
use crate::units::Tokens;

/// Bytes of generated text that count as one token where nothing was reported: few, so that the estimate leans high.
pub const BYTES_PER_TOKEN: u64 = 3;

/// The types of the events that a stream ends with of itself.
const LAST_EVENTS: [&[u8]; 8] = [
    b"\"message_stop\"",
    b"\"response.completed\"",
    b"\"response.incomplete\"",
    b"\"response.failed\"",
    b"\"transcript.text.done\"",
    b"\"speech.audio.done\"",
    b"\"image_generation.completed\"",
    b"\"image_edit.completed\"",
];

/// The sum of what was read.
#[derive(Debug)]
pub(super) struct Tally {
    adds_cache: bool,
    has_output: bool,
    report: Option<Report>,
    text: u64,
    /// How much of `text` the last report speaks for.
    reported_text: u64,
    /// A report came in the document being read; at its end it speaks for all text up to there.
    is_fresh: bool,
    /// The document being read says that it is the last one. Its end is still to come, and with it perhaps the report.
    is_last: bool,
    is_complete: bool,
    /// Documents that have ended.
    documents: u64,
}

impl Tally {
    /// `adds_cache`: cached tokens are reported beside the input; `has_output`: the answer is generated text.
    pub(super) fn new(adds_cache: bool, has_output: bool) -> Self {
        Self {
            adds_cache,
            has_output,
            report: None,
            text: 0,
            reported_text: 0,
            is_fresh: false,
            is_last: false,
            is_complete: false,
            documents: 0,
        }
    }

    /// Takes up a usage object.
    pub(super) fn report(&mut self, source: Source, json: &[u8]) {
        let mut said = Said::default();
        if said.read(json).is_some() {
            self.said(source, &said);
        }
    }

    /// Takes up what a usage object said.
    pub(super) fn said(&mut self, source: Source, said: &Said) {
        let Some(new) = Report::of(source, self.adds_cache, self.has_output, said) else { return };
        match &mut self.report {
            Some(report) => report.update(new),
            None => self.report = Some(new),
        }
        self.is_fresh = true;
    }

    /// Takes up the length of an audio file, unless more is known of it.
    pub(super) fn duration(&mut self, json: &[u8]) {
        if self.report.is_none() {
            self.report = Report::audio(json);
        }
    }

    /// Takes up the `type` of an event, as it is written in JSON.
    pub(super) fn kind(&mut self, json: &[u8]) {
        self.is_last |= LAST_EVENTS.contains(&json);
    }

    /// The stream ends with the document that is being read.
    pub(super) fn end_with_document(&mut self) {
        self.is_last = true;
    }

    /// Counts generated text.
    pub(super) fn text(&mut self, bytes: u64) {
        self.text = self.text.saturating_add(bytes);
    }

    /// An event, or a document in an array of them, ends here.
    pub(super) fn end_document(&mut self) {
        if self.is_fresh {
            self.reported_text = self.text;
            self.is_fresh = false;
        }
        self.is_complete |= self.is_last;
        self.documents = self.documents.saturating_add(1);
    }

    /// How many documents have ended.
    pub(super) fn documents(&self) -> u64 {
        self.documents
    }

    /// The stream's own end was seen.
    pub(super) fn end_stream(&mut self) {
        self.is_complete = true;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn text_bytes(&self) -> u64 {
        self.text
    }

    pub(super) fn reported(&self) -> Option<Usage> {
        self.report.map(|report| {
            let usage = report.usage(None);
            Usage { estimated: usage.estimated || self.has_output && !report.has_output(), ..usage }
        })
    }

    /// The report, made whole by what was seen: `prompt` tokens for an input that was not reported, and a token for every
    /// [`BYTES_PER_TOKEN`] bytes of the text that the report does not speak for. `unread` is text beside that.
    pub(super) fn usage(&self, prompt: Tokens, unread: u64) -> Usage {
        let tokens = |bytes: u64| bytes.div_ceil(BYTES_PER_TOKEN);
        let all = self.text.saturating_add(unread);
        let Some(report) = self.report.filter(|report| all == 0 || !report.is_of_nothing()) else {
            return Usage { input: prompt, output: tokens(all), estimated: true, ..Usage::default() };
        };
        let mut usage = report.usage(Some(prompt));
        let covered = if self.is_fresh { self.text } else { self.reported_text };
        if report.has_output() {
            let known = if report.is_start { 0 } else { usage.output };
            let seen = known.saturating_add(tokens(all.saturating_sub(covered)));
            usage.estimated |= seen > usage.output;
            usage.output = usage.output.max(seen);
        } else if report.is_total_alone() {
            usage.output = tokens(all.saturating_sub(covered));
        } else {
            usage.output = tokens(all).max(usage.reasoning);
            usage.estimated |= self.has_output || usage.output > 0;
        }
        usage
    }
}
