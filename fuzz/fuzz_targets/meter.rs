//! Any answer in any pieces: the meter does not fail, changes no byte, and where the pieces are cut changes nothing.
#![no_main]

use bytes::Bytes;
use keyward::dialect::meter::{Coding, Framing, Meter};
use keyward::policy::{DialectName, Endpoint};
use libfuzzer_sys::fuzz_target;

const CODINGS: [Coding; 4] = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli];
const FRAMINGS: [Framing; 3] = [Framing::EventStream, Framing::Json, Framing::Opaque];

fn run(mut meter: Meter, answer: &[u8], size: usize) -> (Meter, Vec<u8>) {
    let mut passed = Vec::new();
    let mut out = |part: Bytes| passed.extend_from_slice(&part);
    for piece in answer.chunks(size.max(1)) {
        meter.push(Bytes::copy_from_slice(piece), &mut out);
    }
    meter.finish(&mut out);
    (meter, passed)
}

fuzz_target!(|data: &[u8]| {
    let [dialect, endpoint, how, size, answer @ ..] = data else { return };
    let dialect = DialectName::ALL[usize::from(*dialect) % DialectName::ALL.len()];
    let endpoint = Endpoint::ALL[usize::from(*endpoint) % Endpoint::ALL.len()];
    let coding = CODINGS[usize::from(how & 3)];
    let framing = FRAMINGS[usize::from(how >> 2) % FRAMINGS.len()];
    let strip = how & 0x80 != 0;
    let meter = || Meter::new(dialect, endpoint, framing, coding, strip);

    let (cut, cut_passed) = run(meter(), answer, usize::from(*size) + 1);
    let (whole, passed) = run(meter(), answer, answer.len());
    assert_eq!(cut_passed, passed);
    if !strip {
        assert_eq!(passed, answer);
    }
    if coding == Coding::Identity {
        assert_eq!(cut.reported(), whole.reported());
        assert_eq!(cut.usage_or_estimate(9), whole.usage_or_estimate(9));
        assert_eq!(cut.is_complete(), whole.is_complete());
    }
});
