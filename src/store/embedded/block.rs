//! Records packed into a block: of each what differs from the one before, a few dozen bytes instead of a row of two dozen columns.
//!
//! ```text
//! block    FORM, records
//! record   bits: which numbers differ, in the order of NUMBERS, SECRET and OURS; the differences; 8 bytes of the secret, if there is one;
//!          the request id: 16 bytes of one of ours, of any other its length and its text
//! ```
//!
//! Everything but bytes and text is a number of variable length; differences have a sign. Before the first record all numbers are 0.

use crate::store::embedded::varint;
use crate::store::{Entry, StoreFault};

/// Says how what follows is packed. Another form would have another.
const FORM: u8 = 1;

/// Records of a block at most: so many that a row costs little beside them, and so few that they are read and written as one.
pub(super) const MOST: usize = 512;

/// The numbers of a record, by the columns that version 1 had for them. First those that nearly always differ: then the bits of a record are a byte.
pub(super) const NUMBERS: [&str; 21] = [
    "at_ms",
    "key_number",
    "duration_us",
    "first_byte_us",
    "units",
    "output_tokens",
    "input_tokens",
    "model",
    "cached_input_tokens",
    "reasoning_tokens",
    "is_estimated",
    "status",
    "outcome",
    "reason",
    "endpoint",
    "dialect",
    "cache_write_tokens",
    "audio_ms",
    "since_day",
    "touched_day",
    "requests",
];

/// The bit that says that a secret follows.
const SECRET: u64 = 1 << NUMBERS.len();

/// The bit that says that the request id is one of ours.
const OURS: u64 = SECRET << 1;

/// Bytes that a record takes at most without its request id: bits, numbers, secret, length.
const MOST_BYTES: usize = 10 * (NUMBERS.len() + 2) + 8;

/// One record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// In the order of [`NUMBERS`]; those without a sign as [`integer`](super::integer) keeps them.
    pub numbers: [i64; NUMBERS.len()],
    /// As the client was told.
    pub request_id: Id<'a>,
    /// The beginning of the digest of a secret that another had taken the place of.
    pub previous_secret: Option<[u8; 8]>,
}

/// A request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id<'a> {
    /// As the program makes them: [`PREFIX`] and these bytes as hexadecimal digits. So it takes less than half of its text.
    Ours([u8; 16]),
    /// Any other.
    Text(&'a str),
}

/// What those that the program makes begin with.
const PREFIX: &str = "req_";

impl Default for Id<'_> {
    fn default() -> Self {
        Self::Text("")
    }
}

impl<'a> Id<'a> {
    /// Of its text.
    pub(super) fn new(text: &'a str) -> Self {
        let digits = text.strip_prefix(PREFIX).and_then(|digits| digits.as_bytes().as_array::<32>());
        digits.and_then(bytes_of).map_or(Self::Text(text), Self::Ours)
    }

    /// Its text.
    pub(super) fn to_text(self) -> Box<str> {
        match self {
            Self::Ours(bytes) => format!("{PREFIX}{:032x}", u128::from_be_bytes(bytes)).into(),
            Self::Text(text) => text.into(),
        }
    }
}

/// What hexadecimal digits in lower case stand for.
fn bytes_of(digits: &[u8; 32]) -> Option<[u8; 16]> {
    let is_digit = |byte: u8| byte.wrapping_sub(b'0') < 10;
    let is_letter = |byte: u8| byte.wrapping_sub(b'a') < 6;
    let are_all = digits.iter().fold(true, |all, byte| all & (is_digit(*byte) | is_letter(*byte)));
    // Of a letter the low bits are one more than what it exceeds nine by.
    let values = digits.map(|byte| (byte & 0xf) + 9 * (byte >> 6));
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(values.as_chunks::<2>().0) {
        *byte = pair[0] << 4 | pair[1];
    }
    are_all.then_some(bytes)
}

/// Numbers of the names in an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// Of the dialect.
    pub dialect: i64,
    /// Of the call.
    pub endpoint: i64,
    /// Of the model.
    pub model: i64,
    /// Of the outcome.
    pub outcome: i64,
    /// Of the reason.
    pub reason: i64,
}

impl<'a> Record<'a> {
    /// Of an entry, with the numbers of its key and its names.
    pub(super) fn new(key: i64, names: Names, entry: &Entry<&'a str>) -> Self {
        let kept = u64::cast_signed;
        let usage = &entry.usage;
        let numbers = [
            entry.at_unix_ms,
            key,
            kept(entry.duration_us),
            kept(entry.first_byte_us),
            kept(entry.units),
            kept(usage.output),
            kept(usage.input),
            names.model,
            kept(usage.cached_input),
            kept(usage.reasoning),
            usage.estimated.into(),
            entry.status.into(),
            names.outcome,
            names.reason,
            names.endpoint,
            names.dialect,
            kept(usage.cache_write),
            kept(usage.audio_ms),
            entry.since_day.into(),
            entry.touched_day.into(),
            entry.requests.into(),
        ];
        Self { numbers, request_id: Id::new(entry.request_id), previous_secret: entry.previous_secret }
    }

    /// When it was settled.
    pub(super) fn at_ms(&self) -> i64 {
        self.numbers[0]
    }

    /// The number of its key.
    pub(super) fn key(&self) -> i64 {
        self.numbers[1]
    }
}

/// A block that is being filled.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    before: [i64; NUMBERS.len()],
    /// How many records it has.
    pub records: usize,
    /// When the first of them was settled; of none, the end of time.
    pub oldest_ms: i64,
    /// When the last was.
    pub newest_ms: i64,
}

impl Default for Block {
    fn default() -> Self {
        Self { bytes: vec![FORM], before: [0; NUMBERS.len()], records: 0, oldest_ms: i64::MAX, newest_ms: i64::MIN }
    }
}

impl Block {
    /// Adds one.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        // Once, and not for each byte.
        let (ours, text) = match &record.request_id {
            Id::Ours(bytes) => (OURS, bytes.as_slice()),
            Id::Text(text) => (0, text.as_bytes()),
        };
        self.bytes.reserve(MOST_BYTES + text.len());
        let mut bits = record.previous_secret.map_or(0, |_| SECRET) | ours;
        for (at, (number, before)) in record.numbers.iter().zip(&self.before).enumerate() {
            bits |= u64::from(number != before) << at;
        }
        varint::write(&mut self.bytes, bits);
        let mut differing = bits & (SECRET - 1);
        while let Some((number, before)) = numbered(&record.numbers, &self.before, differing) {
            varint::write(&mut self.bytes, varint::folded(number.wrapping_sub(before)));
            differing &= differing - 1;
        }
        self.before = record.numbers;
        self.bytes.extend_from_slice(record.previous_secret.as_ref().map_or(&[], |secret| secret));
        if ours == 0 {
            varint::write(&mut self.bytes, text.len() as u64);
        }
        self.bytes.extend_from_slice(text);
        self.records += 1;
        self.oldest_ms = self.oldest_ms.min(record.at_ms());
        self.newest_ms = self.newest_ms.max(record.at_ms());
    }

    /// As it is kept.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes it one of none, its memory kept.
    pub(super) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(1);
        *self = Self { bytes, ..Self::default() };
    }
}

/// The number that the lowest of these bits stands for, and the one before it.
fn numbered(numbers: &[i64], before: &[i64], bits: u64) -> Option<(i64, i64)> {
    // Without a bit it is 64, and nothing is there.
    let at = bits.trailing_zeros() as usize;
    Some((*numbers.get(at)?, *before.get(at)?))
}

/// The records of a block, in their order.
#[derive(Debug)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
    numbers: [i64; NUMBERS.len()],
}

impl<'a> Records<'a> {
    /// Of a block as it is kept.
    ///
    /// # Errors
    /// It is packed in no form that is known.
    pub(super) fn of(block: &'a [u8]) -> Result<Self, StoreFault> {
        let rest = block.strip_prefix(&[FORM]).ok_or_else(damaged)?;
        Ok(Self { rest, numbers: [0; NUMBERS.len()] })
    }

    /// The next one, unless it was the last.
    ///
    /// # Errors
    /// What follows is none.
    pub(super) fn next(&mut self) -> Result<Option<Record<'a>>, StoreFault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.read().ok_or_else(damaged).map(Some)
    }

    /// Whether all of them can be read.
    ///
    /// # Errors
    /// They cannot.
    pub(super) fn check(mut self) -> Result<(), StoreFault> {
        while self.next()?.is_some() {}
        Ok(())
    }

    fn read(&mut self) -> Option<Record<'a>> {
        let bits = varint::read(&mut self.rest)?;
        let mut differing = bits & !(SECRET | OURS);
        while differing != 0 {
            let number = self.numbers.get_mut(differing.trailing_zeros() as usize)?;
            *number = number.wrapping_add(varint::unfolded(varint::read(&mut self.rest)?));
            differing &= differing - 1;
        }
        let previous_secret = match bits & SECRET {
            0 => None,
            _ => {
                let (secret, rest) = self.rest.split_first_chunk()?;
                self.rest = rest;
                Some(*secret)
            }
        };
        let request_id = if bits & OURS != 0 {
            let (bytes, rest) = self.rest.split_first_chunk()?;
            self.rest = rest;
            Id::Ours(*bytes)
        } else {
            let length = usize::try_from(varint::read(&mut self.rest)?).ok()?;
            let (text, rest) = self.rest.split_at_checked(length)?;
            self.rest = rest;
            Id::Text(std::str::from_utf8(text).ok()?)
        };
        Some(Record { numbers: self.numbers, request_id, previous_secret })
    }
}

/// What is said of a block that is none.
pub(super) fn damaged() -> StoreFault {
    StoreFault::Damaged("a block of records is none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers as they come: mostly those of the record before, or near them; now and then any.
    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![4 => 0_i64..3, 2 => 0_i64..100_000, 1 => any::<i64>()]
    }

    proptest! {
        #[test]
        fn records_come_back(
            made in prop::collection::vec((prop::array::uniform21(number()), prop_oneof!["req_[0-9a-f]{32}", "req_[0-9a-g]{31,33}", ".{0,40}"], any::<Option<[u8; 8]>>()), 0..40),
        ) {
            let record = |(numbers, request_id, secret): &'_ ([i64; 21], String, Option<[u8; 8]>)| {
                (*numbers, request_id.clone(), *secret)
            };
            let mut block = Block::default();
            block.add(&Record { request_id: Id::new("left over"), ..Record::default() });
            block.clear();
            for (numbers, request_id, previous_secret) in &made {
                block.add(&Record { numbers: *numbers, request_id: Id::new(request_id), previous_secret: *previous_secret });
            }
            prop_assert_eq!(block.records, made.len());
            prop_assert_eq!(block.oldest_ms, made.iter().map(|one| one.0[0]).min().unwrap_or(i64::MAX));
            prop_assert_eq!(block.newest_ms, made.iter().map(|one| one.0[0]).max().unwrap_or(i64::MIN));
            let mut records = Records::of(block.as_bytes()).unwrap();
            let mut read = Vec::new();
            while let Some(one) = records.next().unwrap() {
                read.push((one.numbers, one.request_id.to_text().into_string(), one.previous_secret));
            }
            prop_assert_eq!(read, made.iter().map(record).collect::<Vec<_>>());
        }

        #[test]
        fn whatever_is_read_as_a_block_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(mut records) = Records::of(&[&[FORM], bytes.as_slice()].concat()) {
                let mut count = 0;
                while let Ok(Some(_)) = records.next() {
                    count += 1;
                }
                prop_assert!(count <= bytes.len());
            }
        }
    }

    #[test]
    fn an_id_of_ours_takes_sixteen_bytes_and_no_other_is_taken_for_one() {
        let ours = "req_0123456789abcdef0f1e2d3c4b5a6978";
        assert!(
            matches!(Id::new(ours), Id::Ours(bytes) if bytes[..9] == [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x0f])
        );
        for byte in 0..=127_u8 {
            let text = ours.replace('3', char::from(byte).encode_utf8(&mut [0; 4]));
            assert_eq!(*Id::new(&text).to_text(), text);
            assert_eq!(matches!(Id::new(&text), Id::Ours(_)), matches!(byte, b'0'..=b'9' | b'a'..=b'f'), "{text}");
        }
    }

    #[test]
    fn what_is_no_block_is_not_read_as_one() {
        assert!(Records::of(&[]).is_err() && Records::of(&[FORM + 1]).is_err());
        let mut block = Block::default();
        let numbers = std::array::from_fn(|at| at as i64 + 1);
        for id in ["req", "req_0123456789abcdef0123456789abcdef"] {
            block.clear();
            block.add(&Record { numbers, request_id: Id::new(id), previous_secret: Some([7; 8]) });
            let bytes = block.as_bytes();
            assert!(Records::of(bytes).unwrap().next().is_ok());
            for end in 2..bytes.len() {
                assert_eq!(Records::of(&bytes[..end]).unwrap().next(), Err(damaged()), "{end}");
            }
        }
        // A bit of a number that there is not.
        let mut beyond = vec![FORM];
        varint::write(&mut beyond, OURS << 1);
        beyond.extend([1, 0, 0]);
        assert_eq!(Records::of(&beyond).unwrap().next(), Err(damaged()));
    }
}
