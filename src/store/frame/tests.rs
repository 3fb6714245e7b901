//! What is written is read back, and nothing else is.

use proptest::prelude::*;

use super::*;
use crate::limits::QuotaCount;

/// An entry with everything in it.
pub(crate) fn entry(key: u128, units: u64) -> Entry<&'static str> {
    Entry {
        request_id: "req_0123456789abcdef0123456789abcdef",
        at_unix_ms: 1_767_225_600_000,
        key: KeyId(Uuid::from_u128(key)),
        previous_secret: None,
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        model: "gpt-4o-mini",
        outcome: Outcome::Answered,
        reason: "",
        status: 200,
        usage: Usage { input: units, ..Usage::default() },
        units,
        since_day: QuotaCount::NEVER,
        touched_day: 20_454,
        first_byte_us: 1_500,
        duration_us: 2_500,
        requests: 1,
    }
}

/// The same, its strings owned.
pub(crate) fn owned(entry: &Entry<&str>) -> Entry {
    entry.to_owned_text()
}

fn framed(entry: &Entry<&str>, sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0xff; length(entry)];
    encode(entry, sequence, &mut bytes);
    bytes
}

#[test]
fn the_codes_that_stand_in_journals_do_not_move() {
    // A journal is read by the next version too: names may be added at the end, never between.
    let endpoints: Vec<_> = Endpoint::ALL.iter().map(|endpoint| (*endpoint as u8, endpoint.as_str())).collect();
    assert_eq!(
        (endpoints[0], endpoints[12], endpoints[23]),
        ((0, "chat/completions"), (12, "messages"), (23, "passthrough"))
    );
    assert!(endpoints.iter().enumerate().all(|(at, (code, _))| at == usize::from(*code)));
    assert_eq!(DialectName::ALL.map(|name| name as u8), [0, 1, 2, 3]);
    assert_eq!(DialectName::ALL.map(DialectName::as_str), ["openai", "anthropic", "gemini", "azure"]);
    assert_eq!(Outcome::ALL.map(|outcome| outcome as u8), [0, 1, 2, 3, 4]);
}

#[test]
fn a_long_name_is_cut_and_the_frame_stays_within_its_bound() {
    let long = "x".repeat(1_000);
    let entry = Entry { request_id: &*long, model: &long, reason: &long, ..entry(1, 2) };
    let bytes = framed(&entry, 9);
    assert_eq!(bytes.len(), LONGEST);
    let (sequence, read, length) = decode(&bytes).unwrap();
    assert_eq!(
        (sequence, length, read.model.len(), read.request_id.len(), read.reason.len()),
        (9, LONGEST, 256, 128, 64)
    );
}

proptest! {
    #[test]
    fn every_entry_is_read_back_as_it_was_written(
        texts in ("[ -~]{0,128}", "[ -~]{0,250}|[a-zé]{0,100}", "[a-z_]{0,30}"),
        codes in (0_usize..5, 0_usize..4, 0_usize..23),
        numbers: [u64; 10], at: i64, key: u128, previous: Option<[u8; 8]>, days: (i32, i32), status: u16, requests: u32, estimated: bool,
    ) {
        let [input, cached_input, cache_write, output, reasoning, audio_ms, units, first_byte_us, duration_us, sequence] = numbers;
        let entry = Entry {
            request_id: &*texts.0, model: &texts.1, reason: &texts.2,
            at_unix_ms: at, key: KeyId(Uuid::from_u128(key)), previous_secret: previous,
            outcome: Outcome::ALL[codes.0], dialect: DialectName::ALL[codes.1], endpoint: Endpoint::ALL[codes.2],
            usage: Usage { input, cached_input, cache_write, output, reasoning, audio_ms, estimated },
            status, units, since_day: days.0, touched_day: days.1, first_byte_us, duration_us, requests,
        };
        let bytes = framed(&entry, sequence);
        prop_assert_eq!(bytes.len() % STEP, 0);
        prop_assert_eq!(decode(&bytes), Some((sequence, entry.clone(), bytes.len())));
        prop_assert_eq!(check(&bytes), Some((sequence, bytes.len())));
        prop_assert_eq!(read(&bytes), Some((sequence, entry, bytes.len())));
        prop_assert_eq!(&crc32fast::hash(&bytes[8..]).to_le_bytes(), &bytes[4..8]);
    }

    #[test]
    fn a_frame_with_any_byte_changed_or_cut_short_is_none(at: prop::sample::Index, other in 1_u8.., cut: prop::sample::Index) {
        let whole = framed(&entry(7, 8), 3);
        let mut changed = whole.clone();
        let at = at.index(whole.len());
        changed[at] ^= other;
        prop_assert_eq!(decode(&changed), None, "byte {}", at);
        prop_assert_eq!(decode(&whole[..cut.index(whole.len())]), None);
    }

    #[test]
    fn what_is_checked_is_what_can_be_read(
        text in "[a-zé]{0,40}", at in prop::sample::select(vec![8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 152, 153, 160]), other: u8,
    ) {
        let mut bytes = framed(&Entry { model: &*text, reason: &text, ..entry(7, 8) }, 3);
        bytes[at] = other;
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])).next_multiple_of(STEP);
        if let Some(sum) = bytes.get(8..length).map(crc32fast::hash) {
            bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        prop_assert_eq!(check(&bytes), decode(&bytes).map(|(sequence, _, length)| (sequence, length)));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let mut marked = MARK.to_vec();
        marked.extend(&bytes);
        let _ = (decode(&bytes), decode(&marked));
    }
}
