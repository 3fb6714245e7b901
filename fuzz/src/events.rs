//! Any event stream in any pieces: events end where the HTML standard ends them, and their data is what it says.

use keyward::dialect::sse::{Cutter, DataLines};

/// The first byte seeds the cuts, the rest is the stream.
pub fn check(input: &[u8]) {
    let [seed, stream @ ..] = input else { return };
    let (ends, data) = plainly(stream);
    assert_eq!(cut(stream, &[stream]), ends);
    assert_eq!(read(&[stream]), data);
    let pieces = super::pieces::of(stream, *seed);
    assert_eq!(cut(stream, &pieces), ends);
    assert_eq!(read(&pieces), data);
}

/// Where events end, by a reader that sees the whole stream; and the values of all `data` lines, each with a newline.
fn plainly(stream: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let (mut ends, mut data) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < stream.len() {
        let rest = &stream[at..];
        let (line, end) = match rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            Some(length) => (&rest[..length], if rest[length..].starts_with(b"\r\n") { 2 } else { 1 }),
            None => (rest, 0),
        };
        at += line.len() + end;
        if line.is_empty() {
            ends.push(at);
        }
        let value = line.strip_prefix(b"data:").or_else(|| (line == b"data" && end > 0).then_some(&[][..]));
        if let Some(value) = value {
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            if end > 0 {
                data.push(b'\n');
            }
        }
    }
    (ends, data)
}

fn cut(stream: &[u8], pieces: &[&[u8]]) -> Vec<usize> {
    let mut cutter = Cutter::new();
    let (mut ends, mut passed) = (Vec::<usize>::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            if cutter.takes_lf(rest) {
                passed += 1;
                *ends.last_mut().expect("a line feed belongs to an event") += 1;
                rest = &rest[1..];
            }
            let Some(length) = cutter.next_end(rest) else { break };
            passed += length;
            ends.push(passed);
            rest = &rest[length..];
        }
        passed += rest.len();
    }
    assert_eq!(passed, stream.len());
    ends
}

fn read(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut lines, mut data) = (DataLines::default(), Vec::new());
    for piece in pieces {
        lines.push(piece, &mut |part| data.extend_from_slice(part));
    }
    data
}
