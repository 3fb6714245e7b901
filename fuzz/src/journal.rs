//! Any bytes as what a killed process left of a journal: whatever was written is found, whatever garbage stands around it.

use std::collections::HashMap;

use keyward::ledger::{Entry, Outcome, framed, read_journal};
use keyward::policy::{DialectName, Endpoint, Usage};
use keyward::units::KeyId;
use uuid::Uuid;

/// What a journal begins with: how it is told from any other file, and its identity.
const HEAD: &[u8; 24] = b"KWJRNL01identity-16-byte";

/// Bytes before the first entry, and what every entry begins at a multiple of.
const STEP: usize = 64;

/// The fewest bytes an entry takes.
const SHORTEST: usize = 192;

/// What an entry begins with.
const MARK: [u8; 4] = [0xc7, 0xf0, 0x9d, 0x8c];

/// The first byte says where the input's own entries are cut, the second which of them is damaged and where; the rest is a file, and
/// is what stands between entries in another.
pub fn check(input: &[u8]) {
    let [cut, damaged, file @ ..] = input else { return };
    read(file);
    read(&mended(&[&head(), file].concat()));
    amid(file, *cut, *damaged);
}

fn head() -> [u8; STEP] {
    let mut head = [0; STEP];
    head[..HEAD.len()].copy_from_slice(HEAD);
    head
}

/// What is found in a file: no more than it can hold, in order, none twice, and each the very one that stands there.
fn read(file: &[u8]) -> HashMap<u64, Entry> {
    let Some((id, entries)) = read_journal(file) else { return HashMap::new() };
    assert!(file.starts_with(b"KWJRNL01") && file[8..].starts_with(id.as_bytes()));
    assert!(entries.len() * SHORTEST <= file.len() - STEP, "more entries than the file has room for");
    assert!(entries.is_sorted_by(|(one, _), (next, _)| one < next), "sequence numbers ascend, none of them twice");
    let text: usize = entries.iter().map(|(_, entry)| texts(entry).iter().map(|text| text.len()).sum::<usize>()).sum();
    assert!(text <= file.len(), "more text than the file has");
    for (sequence, entry) in &entries {
        let again = [&head(), &*framed(&borrowed(entry), *sequence)].concat();
        let (_, found) = read_journal(&again).expect("a journal");
        let [reason, request_id, model] = texts(entry).map(str::len);
        // What was never written by the program may be longer than what it writes.
        if reason <= 64 && request_id <= 128 && model <= 256 {
            assert_eq!(found, [(*sequence, entry.clone())], "what was read is not what is written");
        }
    }
    entries.into_iter().collect()
}

/// Entries of our own between pieces of `garbage`, one of them damaged, the file cut short: all others are found.
fn amid(garbage: &[u8], cut: u8, damaged: u8) {
    let (mut file, mut placed) = (head().to_vec(), Vec::new());
    for (at, piece) in super::pieces::of(garbage, cut).into_iter().take(40).enumerate() {
        let entry = entry(piece, at);
        let bytes = framed(&entry, 1_000 + at as u64);
        assert_eq!(bytes.len() % STEP, 0);
        placed.push((file.len(), bytes.len(), 1_000 + at as u64, entry));
        file.extend(bytes);
        file.extend(unmarked(piece));
        file.resize(file.len().next_multiple_of(STEP), 0);
    }
    if placed.is_empty() {
        return;
    }
    let hit = usize::from(damaged) % placed.len();
    let (start, length, ..) = placed[hit];
    file[start + usize::from(damaged) % length] ^= 1 | damaged;
    // A kill leaves the last entry unwritten, or half of it.
    file.truncate(placed.last().map_or(0, |(start, ..)| *start) + usize::from(cut) % 150);
    let found = read(&file);
    for (at, (_, _, sequence, entry)) in placed.iter().enumerate() {
        let is_whole = at != hit && at + 1 != placed.len();
        let found = found.get(sequence).map(borrowed);
        assert_eq!(found, is_whole.then(|| entry.clone()), "entry {at}; damaged is {hit}");
    }
}

/// The piece without what an entry begins with, wherever one could: a checksum that was guessed would make an entry of it that reaches over
/// the next one.
fn unmarked(piece: &[u8]) -> Vec<u8> {
    let mut piece = piece.to_vec();
    for at in (0..piece.len()).step_by(STEP) {
        if piece[at..].starts_with(&MARK) {
            piece[at] = 0;
        }
    }
    piece
}

/// The file with the checksum of everything that looks like an entry put right, so that what lies behind it is reached.
fn mended(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let mut at = STEP;
    while at + 152 <= file.len() {
        let frame = &mut file[at..];
        if frame.starts_with(&MARK) {
            let length = usize::from(u16::from_le_bytes([frame[8], frame[9]])).next_multiple_of(STEP);
            if let Some(rest) = frame.get(8..length) {
                let sum = crc32fast::hash(rest).to_le_bytes();
                frame[4..8].copy_from_slice(&sum);
            }
        }
        at += STEP;
    }
    file
}

/// An entry whose every part comes of `bytes`.
fn entry(bytes: &[u8], at: usize) -> Entry<&str> {
    let number = |from: usize| {
        let byte = |offset: usize| bytes.get((from + offset) % bytes.len()).copied().unwrap_or_default();
        u64::from_le_bytes(std::array::from_fn(byte))
    };
    let text = |most: usize| {
        let ascii = bytes.iter().take_while(|byte| byte.is_ascii()).take(most).count();
        std::str::from_utf8(&bytes[..ascii]).unwrap_or_default()
    };
    let small = |from: usize, most: usize| usize::from(bytes[from % bytes.len()]) % most;
    Entry {
        request_id: text(128),
        at_unix_ms: number(0).cast_signed(),
        key: KeyId(Uuid::from_u128(u128::from(number(1)) << 64 | at as u128)),
        previous_secret: (bytes[0] > 127).then(|| number(2).to_le_bytes()),
        dialect: DialectName::ALL[small(0, DialectName::ALL.len())],
        endpoint: Endpoint::ALL[small(1, Endpoint::ALL.len())],
        model: text(256),
        outcome: Outcome::ALL[small(2, Outcome::ALL.len())],
        reason: text(64),
        status: number(3) as u16,
        usage: Usage {
            input: number(4),
            cached_input: number(5),
            cache_write: number(6),
            output: number(7),
            reasoning: number(8),
            audio_ms: number(9),
            estimated: bytes[0].is_multiple_of(2),
        },
        units: number(10),
        since_day: number(11) as i32,
        touched_day: number(12) as i32,
        first_byte_us: number(13),
        duration_us: number(14),
        requests: number(15) as u32,
    }
}

fn texts(entry: &Entry) -> [&str; 3] {
    [&entry.reason, &entry.request_id, &entry.model]
}

fn borrowed(entry: &Entry) -> Entry<&str> {
    let [reason, request_id, model] = texts(entry);
    Entry {
        reason,
        request_id,
        model,
        at_unix_ms: entry.at_unix_ms,
        key: entry.key,
        previous_secret: entry.previous_secret,
        dialect: entry.dialect,
        endpoint: entry.endpoint,
        outcome: entry.outcome,
        status: entry.status,
        usage: entry.usage,
        units: entry.units,
        since_day: entry.since_day,
        touched_day: entry.touched_day,
        first_byte_us: entry.first_byte_us,
        duration_us: entry.duration_us,
        requests: entry.requests,
    }
}
