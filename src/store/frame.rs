//! An entry as bytes: as it stands in a journal, and as it goes from there into the store.
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
pub(crate) const STEP: usize = 64;

/// Bytes of a frame before its strings.
const HEAD: usize = 152;

/// The longest frame.
pub(crate) const LONGEST: usize = (HEAD + MOST_REASON + MOST_REQUEST_ID + MOST_MODEL).next_multiple_of(STEP);

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
pub(crate) fn length(entry: &Entry<&str>) -> usize {
    let text: usize = strings(entry).iter().map(|text| text.len()).sum();
    (HEAD + text).next_multiple_of(STEP)
}

/// Writes the frame of `entry` over `out`, which is [`length`] bytes long. The mark is written last: half a frame has none.
pub(crate) fn encode(entry: &Entry<&str>, sequence: u64, out: &mut [u8]) {
    let texts = strings(entry);
    let text_length: usize = texts.iter().map(|text| text.len()).sum();
    let usage = &entry.usage;
    let flags = if usage.estimated { ESTIMATED } else { 0 }
        | if entry.previous_secret.is_some() { BY_PREVIOUS_SECRET } else { 0 };
    let [reason, request_id, model] = texts.map(str::len);
    let Some((head, rest)) = out.split_first_chunk_mut::<HEAD>() else { return };
    let mut head = Cursor { head, at: 0 };
    // Mark and checksum.
    head.put([0; 8]);
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
    head.put([0; 4]);
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
    seal(out);
}

/// Puts checksum and mark in front.
fn seal(out: &mut [u8]) {
    // The same as that of what follows them: zeros in front change nothing of a checksum that begins at zero, and one that does not begins with its
    // first four bytes turned over. So it is that of a multiple of 64 bytes, which have no rest to be gone through one by one.
    turn_over(out);
    let mut sum = crc32fast::Hasher::new_with_initial(u32::MAX);
    sum.update(out);
    turn_over(out);
    if let Some((mark, rest)) = out.split_first_chunk_mut::<4>() {
        if let Some(place) = rest.first_chunk_mut::<4>() {
            *place = sum.finalize().to_le_bytes();
        }
        *mark = MARK;
    }
}

fn turn_over(out: &mut [u8]) {
    if let Some(first) = out.get_mut(8..12).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *first = first.map(|byte| !byte);
    }
}

/// The frame that `bytes` begin with: its sequence number, its entry, and how many bytes it takes. `None` when there is no whole one.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, Entry<&str>, usize)> {
    seal_of(bytes)?;
    read(bytes)
}

/// Whether [`decode`] gives something, and what of it but the entry.
pub(crate) fn check(bytes: &[u8]) -> Option<(u64, usize)> {
    let head = seal_of(bytes)?;
    let [outcome, dialect, endpoint, _, reason, request_id] = field::<6>(head, 11).map(usize::from);
    let text_end = usize::from(u16::from_le_bytes(field(head, 8)));
    let model = usize::from(u16::from_le_bytes(field(head, 18)));
    let texts = bytes.get(HEAD..text_end)?;
    if !texts.is_ascii() {
        return read(bytes).map(|(sequence, _, length)| (sequence, length));
    }
    let is_known = outcome < Outcome::ALL.len() && dialect < DialectName::ALL.len() && endpoint < Endpoint::ALL.len();
    let length = text_end.next_multiple_of(STEP);
    (is_known && reason + request_id + model == texts.len()).then(|| (u64::from_le_bytes(field(head, 24)), length))
}

/// The head of the frame that `bytes` begin with, if it is there whole and as it was written, by a version that is known.
fn seal_of(bytes: &[u8]) -> Option<&[u8; HEAD]> {
    let head = bytes.first_chunk::<HEAD>()?;
    let length = usize::from(u16::from_le_bytes(field(head, 8))).next_multiple_of(STEP);
    let is_whole = field(head, 0) == MARK
        && crc32fast::hash(bytes.get(8..length)?) == u32::from_le_bytes(field(head, 4))
        && head.get(10) == Some(&VERSION);
    is_whole.then_some(head)
}

/// The same of bytes that [`check`] has found to begin with a whole one: they are not summed up again.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, Entry<&str>, usize)> {
    let head = bytes.first_chunk::<HEAD>()?;
    let number = |at| u64::from_le_bytes(field(head, at));
    let text_end = usize::from(u16::from_le_bytes(field(head, 8)));
    let [outcome, dialect, endpoint, flags, reason, request_id] = field(head, 11);
    let model = usize::from(u16::from_le_bytes(field(head, 18)));
    // Looked at as one text, which costs less than one after the other; none of them ends within a character.
    let texts = std::str::from_utf8(bytes.get(HEAD..text_end)?).ok()?;
    let (reason, texts) = texts.split_at_checked(usize::from(reason))?;
    let (request_id, texts) = texts.split_at_checked(usize::from(request_id))?;
    let entry = Entry {
        reason,
        request_id,
        model: texts,
        at_unix_ms: i64::from_le_bytes(field(head, 32)),
        key: KeyId(Uuid::from_bytes(field(head, 40))),
        previous_secret: (flags & BY_PREVIOUS_SECRET != 0).then(|| field(head, 56)),
        dialect: *DialectName::ALL.get(usize::from(dialect))?,
        endpoint: *Endpoint::ALL.get(usize::from(endpoint))?,
        outcome: *Outcome::ALL.get(usize::from(outcome))?,
        status: u16::from_le_bytes(field(head, 20)),
        usage: Usage {
            input: number(64),
            cached_input: number(72),
            cache_write: number(80),
            output: number(88),
            reasoning: number(96),
            audio_ms: number(104),
            estimated: flags & ESTIMATED != 0,
        },
        units: number(112),
        since_day: i32::from_le_bytes(field(head, 120)),
        touched_day: i32::from_le_bytes(field(head, 124)),
        first_byte_us: number(128),
        duration_us: number(136),
        requests: u32::from_le_bytes(field(head, 144)),
    };
    (texts.len() == model).then_some((number(24), entry, text_end.next_multiple_of(STEP)))
}

/// The bytes of a head that stand at `at`.
#[inline(always)]
fn field<const N: usize>(head: &[u8; HEAD], at: usize) -> [u8; N] {
    head.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn small(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

struct Cursor<'a> {
    head: &'a mut [u8; HEAD],
    at: usize,
}

impl Cursor<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        if let Some(place) = self.head.get_mut(self.at..self.at + N) {
            place.copy_from_slice(&field);
        }
        self.at += N;
    }
}

#[cfg(test)]
pub(crate) mod tests;
