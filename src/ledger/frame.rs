//! An entry as bytes of a journal.
//!
//! A frame is a head of fixed size, three strings and zeros up to a multiple of [`STEP`]. It begins with a mark that no string can
//! hold and a checksum over all that follows, so each is found and judged by itself, whatever became of those around it.
//!
//! ```text
//! 0 mark  4 checksum  8 length  10 version  11 outcome  12 dialect  13 endpoint  14 flags  15 reason length
//! 16 request id length  17 -  18 model length  20 status  22 -  24 sequence  32 time  40 key  56 previous secret
//! 64 seven counts  120 since  124 touched  128 first byte  136 duration  144 requests  148 -  152 strings
//! ```

use uuid::Uuid;

use crate::policy::{DialectName, Endpoint, Usage};
use crate::store::{Entry, Outcome};
use crate::units::KeyId;

/// Every frame begins at a multiple of so many bytes.
pub(super) const STEP: usize = 64;

/// Bytes of a frame before its strings.
const HEAD: usize = 152;

/// The longest frame.
pub(super) const LONGEST: usize = (HEAD + MOST_REASON + MOST_REQUEST_ID + MOST_MODEL).next_multiple_of(STEP);

const MOST_REASON: usize = 64;
const MOST_REQUEST_ID: usize = 128;
const MOST_MODEL: usize = 256;

/// No byte of it is ASCII, and every string is.
const MARK: [u8; 4] = [0xc7, 0xf0, 0x9d, 0x8c];
const VERSION: u8 = 1;

const ESTIMATED: u8 = 1;
const BY_PREVIOUS_SECRET: u8 = 2;

/// The bytes of a frame for these strings, each cut to what it may have.
fn strings<'a>(entry: &Entry<&'a str>) -> [&'a str; 3] {
    let cut = |text: &'a str, most: usize| text.get(..most.min(text.len())).unwrap_or_default();
    [cut(entry.reason, MOST_REASON), cut(entry.request_id, MOST_REQUEST_ID), cut(entry.model, MOST_MODEL)]
}

/// How many bytes the frame of `entry` takes: a multiple of [`STEP`], at most [`LONGEST`].
pub(super) fn length(entry: &Entry<&str>) -> usize {
    let text: usize = strings(entry).iter().map(|text| text.len()).sum();
    (HEAD + text).next_multiple_of(STEP)
}

/// Writes the frame of `entry` over `out`, which is [`length`] bytes long. The mark is written last: half a frame has none.
pub(super) fn encode(entry: &Entry<&str>, sequence: u64, out: &mut [u8]) {
    let texts = strings(entry);
    let text_length: usize = texts.iter().map(|text| text.len()).sum();
    let mut head = Cursor { bytes: [0; HEAD], at: 8 };
    let usage = &entry.usage;
    let flags = if usage.estimated { ESTIMATED } else { 0 }
        | if entry.previous_secret.is_some() { BY_PREVIOUS_SECRET } else { 0 };
    let [reason, request_id, model] = texts.map(str::len);
    head.put(short(HEAD + text_length).to_le_bytes());
    head.put([VERSION, entry.outcome as u8, entry.dialect as u8, entry.endpoint as u8, flags]);
    head.put([small(reason), small(request_id), 0]);
    head.put(short(model).to_le_bytes());
    head.put(entry.status.to_le_bytes());
    head.put([0; 2]);
    head.put(sequence.to_le_bytes());
    head.put(entry.at_unix_ms.to_le_bytes());
    head.put(*entry.key.0.as_bytes());
    head.put(entry.previous_secret.unwrap_or_default());
    let counts = [usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning, usage.audio_ms];
    for count in counts.into_iter().chain([entry.units]) {
        head.put(count.to_le_bytes());
    }
    head.put(entry.since_day.to_le_bytes());
    head.put(entry.touched_day.to_le_bytes());
    head.put(entry.first_byte_us.to_le_bytes());
    head.put(entry.duration_us.to_le_bytes());
    head.put(entry.requests.to_le_bytes());
    let (fixed, rest) = out.split_at_mut(HEAD.min(out.len()));
    fixed.copy_from_slice(&head.bytes[..fixed.len()]);
    let mut at = 0;
    for text in texts {
        if let Some(place) = rest.get_mut(at..at + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
        at += text.len();
    }
    if let Some(zeros) = rest.get_mut(at..) {
        zeros.fill(0);
    }
    let sum = crc32fast::hash(out.get(8..).unwrap_or_default());
    if let Some((mark, rest)) = out.split_first_chunk_mut::<4>() {
        if let Some(place) = rest.first_chunk_mut::<4>() {
            *place = sum.to_le_bytes();
        }
        *mark = MARK;
    }
}

/// The frame that `bytes` begin with: its sequence number, its entry, and how many bytes it takes. `None` when there is no whole one.
pub(super) fn decode(bytes: &[u8]) -> Option<(u64, Entry, usize)> {
    let mut head = Reader(bytes);
    if head.take::<4>()? != MARK {
        return None;
    }
    let sum = u32::from_le_bytes(head.take()?);
    let text_end = usize::from(u16::from_le_bytes(head.take()?));
    let length = text_end.next_multiple_of(STEP);
    if text_end < HEAD || crc32fast::hash(bytes.get(8..length)?) != sum {
        return None;
    }
    let [version, outcome, dialect, endpoint, flags] = head.take()?;
    let [reason, request_id, _] = head.take()?;
    let model = usize::from(u16::from_le_bytes(head.take()?));
    let status = u16::from_le_bytes(head.take()?);
    head.take::<2>()?;
    let sequence = head.number()?;
    let at_unix_ms = i64::from_le_bytes(head.take()?);
    let key = KeyId(Uuid::from_bytes(head.take()?));
    let previous = head.take::<8>()?;
    let usage = Usage {
        input: head.number()?,
        cached_input: head.number()?,
        cache_write: head.number()?,
        output: head.number()?,
        reasoning: head.number()?,
        audio_ms: head.number()?,
        estimated: flags & ESTIMATED != 0,
    };
    let units = head.number()?;
    let (since_day, touched_day) = (i32::from_le_bytes(head.take()?), i32::from_le_bytes(head.take()?));
    let (first_byte_us, duration_us) = (head.number()?, head.number()?);
    let requests = u32::from_le_bytes(head.take()?);
    // Looked at as one text, which costs less than one after the other; none of them ends within a character.
    let texts = std::str::from_utf8(bytes.get(HEAD..text_end)?).ok()?;
    let (reason, texts) = texts.split_at_checked(usize::from(reason))?;
    let (request_id, texts) = texts.split_at_checked(usize::from(request_id))?;
    let entry = Entry {
        reason: reason.into(),
        request_id: request_id.into(),
        model: texts.into(),
        at_unix_ms,
        key,
        previous_secret: (flags & BY_PREVIOUS_SECRET != 0).then_some(previous),
        dialect: *DialectName::ALL.get(usize::from(dialect))?,
        endpoint: *Endpoint::ALL.get(usize::from(endpoint))?,
        outcome: *Outcome::ALL.get(usize::from(outcome))?,
        status,
        usage,
        units,
        since_day,
        touched_day,
        first_byte_us,
        duration_us,
        requests,
    };
    (version == VERSION && texts.len() == model).then_some((sequence, entry, length))
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn small(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

struct Cursor {
    bytes: [u8; HEAD],
    at: usize,
}

impl Cursor {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(self.at..self.at + N) {
            place.copy_from_slice(&field);
        }
        self.at += N;
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
pub(super) mod tests;
