//! Both directions of an HTTP/2 connection: where frames are cut changes no verdict; what is let through keeps within what is allowed, counted by
//! a reader that sees each direction whole; and whoever waits long enough is let on.

use keyward::proxy::http2::conduct::{Conduct, Misconduct, PREFACE};

/// A moment, a direction, and how the bytes up to the next are cut: of the first two bytes of each stretch. Its length stands in the third.
struct Stretch<'a> {
    wait_ms: u64,
    is_ours: bool,
    cut: usize,
    bytes: &'a [u8],
}

fn stretches(mut input: &[u8]) -> Vec<Stretch<'_>> {
    let mut found = Vec::new();
    while let [how, cut, length, rest @ ..] = input {
        let (bytes, left) = rest.split_at(usize::from(*length).min(rest.len()));
        let wait_ms = u64::from(how & 0x7f);
        found.push(Stretch { wait_ms, is_ours: how & 0x80 != 0, cut: usize::from(*cut % 16) + 1, bytes });
        input = left;
    }
    found
}

/// Runs all of it, each stretch whole or in pieces.
fn run(stretches: &[Stretch<'_>], in_pieces: bool) -> (Result<(), Misconduct>, Conduct) {
    let mut conduct = Conduct::new(0);
    let mut now_ns = 0;
    let mut verdict = conduct.receive(PREFACE, now_ns);
    for stretch in stretches {
        now_ns += stretch.wait_ms * 1_000_000;
        let size = if in_pieces { stretch.cut } else { stretch.bytes.len().max(1) };
        for piece in stretch.bytes.chunks(size) {
            verdict = match stretch.is_ours {
                true => conduct.send(piece, now_ns),
                false => conduct.receive(piece, now_ns),
            };
            if verdict.is_err() {
                return (verdict, conduct);
            }
        }
    }
    (verdict, conduct)
}

/// Frames of a kind in a whole direction.
fn count(bytes: &[u8], kinds: &[u8]) -> usize {
    let (mut rest, mut count) = (bytes, 0);
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
        count += usize::from(kinds.contains(kind));
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        rest = payload.get(length..).unwrap_or_default();
    }
    count
}

/// Stretches of both directions.
pub fn check(input: &[u8]) {
    let stretches = stretches(input);
    let (whole, conduct) = run(&stretches, false);
    let (pieces, in_pieces) = run(&stretches, true);
    assert_eq!(whole, pieces, "pieces change the verdict");
    if whole.is_ok() {
        assert_eq!(conduct.head_is_open(), in_pieces.head_is_open());
        let of = |ours: bool| {
            let parts = stretches.iter().filter(|stretch| stretch.is_ours == ours).map(|stretch| stretch.bytes);
            parts.collect::<Vec<_>>().concat()
        };
        let (theirs, ours) = (of(false), of(true));
        let seconds = stretches.iter().map(|stretch| stretch.wait_ms).sum::<u64>() as usize / 1_000 + 1;
        let answered = count(&ours, &[0]);
        assert!(count(&theirs, &[3]) <= 200 + 20 * seconds, "resets");
        assert!(count(&theirs, &[4]) <= 20 + seconds, "settings");
        assert!(count(&theirs, &[6]) <= 100 + 5 * seconds + answered, "pings");
        assert!(count(&theirs, &[8]) <= 2_000 + 200 * seconds + 4 * answered, "window updates");
    }
    // An hour later all is as it was, wherever the frames stood: what is allowed comes back.
    let mut conduct = Conduct::new(0);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    assert_eq!(conduct.receive(PREFACE, 0), Ok(()));
    for _ in 0..20 {
        assert_eq!(conduct.receive(&settings, 0), Ok(()));
    }
    assert_eq!(conduct.receive(&settings, 0), Err(Misconduct::Settings));
    assert_eq!(conduct.receive(&settings, 3_600_000_000_000), Ok(()));
}
