//! Any answer in any pieces: the meter changes no byte but those it was asked to take out, where the pieces are cut changes
//! nothing, a compressed answer is read like a plain one, and an event of our own is only ever put between two others.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use keyward::dialect::meter::{CEILING, Coding, Framing, Meter};
use keyward::policy::{DialectName, Endpoint, Usage};

const CODINGS: [Coding; 4] = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli];
const FRAMINGS: [Framing; 3] = [Framing::EventStream, Framing::Json, Framing::Opaque];

/// Below this a compressed answer is read whatever it unfolds to.
const SMALL: usize = 512 * 1024;

/// Which answer it is.
#[derive(Clone, Copy)]
struct Call {
    dialect: DialectName,
    endpoint: Endpoint,
    framing: Framing,
    coding: Coding,
    strip: bool,
}

/// What a meter made of an answer.
#[derive(Debug, PartialEq)]
struct Outcome {
    reported: Option<Usage>,
    charged: Usage,
    is_complete: bool,
}

/// Four bytes choose the call, the coding and the pieces, the rest is the answer. Of the third byte, 0x80 asks for the usage event
/// to be taken out, 0x40 for the answer to be compressed here, so that what is decoded is not always noise.
pub fn check(input: &[u8]) {
    let [dialect, endpoint, how, seed, answer @ ..] = input else { return };
    let call = Call {
        dialect: DialectName::ALL[usize::from(*dialect) % DialectName::ALL.len()],
        endpoint: Endpoint::ALL[usize::from(*endpoint) % Endpoint::ALL.len()],
        framing: FRAMINGS[usize::from(how >> 2 & 0b1111) % FRAMINGS.len()],
        coding: CODINGS[usize::from(how & 3)],
        strip: how & 0x80 != 0,
    };
    let compressed = compress(call.coding, answer, *seed).filter(|_| how & 0x40 != 0);
    let sent = compressed.as_deref().unwrap_or(answer);
    let (cut, passed_cut) = run(call, sent, &super::pieces::of(sent, *seed));
    let (whole, passed) = run(call, sent, &[sent]);
    assert_eq!(passed_cut, passed, "where an answer is cut changes what is passed on");
    taken_out(call, sent, &passed);
    // What is corrupt is read up to there, and how far that is may depend on the pieces.
    let is_sound = call.coding == Coding::Identity || compressed.is_some();
    if is_sound {
        assert_eq!(cut, whole, "where an answer is cut changes what is charged");
    }
    if compressed.is_some() && answer.len() < SMALL && call.framing != Framing::Opaque {
        let plain = Call { coding: Coding::Identity, strip: false, ..call };
        let (read, _) = run(plain, answer, &[answer]);
        assert_eq!(read, whole, "a compressed answer is charged otherwise");
    }
    for usage in [whole.charged, cut.charged] {
        // Of any two numbers that are added, each is believed up to the ceiling.
        assert!(
            usage.input <= 4 * CEILING && usage.output <= 4 * CEILING && usage.cached_input <= usage.input,
            "{usage:?}"
        );
    }
}

fn run(call: Call, answer: &[u8], pieces: &[&[u8]]) -> (Outcome, Vec<u8>) {
    let mut meter = Meter::new(call.dialect, call.endpoint, call.framing, call.coding, call.strip);
    let mut passed = Vec::new();
    let mut charged = meter.usage_or_estimate(9);
    let mut came = 0;
    for piece in pieces {
        meter.push(Bytes::copy_from_slice(piece), &mut |part| passed.extend_from_slice(&part));
        came += piece.len();
        if !call.strip {
            assert_eq!(passed.len(), came, "a byte was held back");
        }
        if meter.between_events() {
            assert!(ends_between_events(&passed), "an event of ours would stand inside another one");
        }
        charged = meter.usage_or_estimate(9);
    }
    meter.finish(&mut |part| passed.extend_from_slice(&part));
    assert!(came == answer.len() && (charged.estimated || meter.reported().is_some()));
    let outcome =
        Outcome { reported: meter.reported(), charged: meter.usage_or_estimate(9), is_complete: meter.is_complete() };
    (outcome, passed)
}

/// What was passed on is the answer without some whole events that speak of usage, if that was asked for at all.
fn taken_out(call: Call, answer: &[u8], passed: &[u8]) {
    let may = call.strip
        && call.framing == Framing::EventStream
        && call.coding == Coding::Identity
        && matches!(call.dialect, DialectName::OpenAi | DialectName::Azure);
    if !may {
        assert_eq!(passed, answer);
        return;
    }
    let mut rest = passed;
    for event in events(answer) {
        match rest.strip_prefix(event) {
            Some(behind) => rest = behind,
            None => assert!(event.windows(7).any(|window| window == b"\"usage\""), "an event was lost or changed"),
        }
    }
    assert!(rest.is_empty(), "something was added");
}

/// The events of a stream, each with its empty line; the last one may lack it.
fn events(stream: &[u8]) -> Vec<&[u8]> {
    let (mut events, mut start, mut at, mut is_line_empty) = (Vec::new(), 0, 0, true);
    while at < stream.len() {
        let end = if stream[at..].starts_with(b"\r\n") { 2 } else { usize::from(matches!(stream[at], b'\r' | b'\n')) };
        at += end.max(1);
        if end > 0 && is_line_empty {
            events.push(&stream[start..at]);
            start = at;
        }
        is_line_empty = end > 0;
    }
    events.push(&stream[start..]);
    events
}

/// Whether an event may begin here: at the start, or behind an empty line. A last LF may still be to come.
fn ends_between_events(passed: &[u8]) -> bool {
    events(passed).last().is_some_and(|last| last.is_empty())
}

/// The answer in this coding, in a frame that the seed chooses where there are two; `None` for codings that cannot be made here.
fn compress(coding: Coding, answer: &[u8], seed: u8) -> Option<Vec<u8>> {
    let level = Compression::fast();
    let sound = "compressing into memory does not fail";
    Some(match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(answer).expect(sound);
            encoder.finish().expect(sound)
        }
        Coding::Deflate if seed.is_multiple_of(2) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(answer).expect(sound);
            encoder.finish().expect(sound)
        }
        Coding::Deflate => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(answer).expect(sound);
            encoder.finish().expect(sound)
        }
        Coding::Identity | Coding::Brotli => return None,
    })
}
