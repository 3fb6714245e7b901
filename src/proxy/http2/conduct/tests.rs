//! Good peers are never ended, bad ones always are, and how their bytes are cut into pieces changes nothing.

use proptest::prelude::*;

use super::*;
use crate::clock::NS_PER_SECOND;

const SECOND: u64 = NS_PER_SECOND;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&[length[1], length[2], length[3], kind, flags, 0, 0, 0, 1], payload].concat()
}

fn begun() -> Conduct {
    let mut conduct = Conduct::new(0);
    conduct.receive(PREFACE, 0).expect("a preface is good");
    conduct
}

/// How many of these are taken at once.
fn taken(bytes: &[u8]) -> (u32, Misconduct) {
    let mut conduct = begun();
    let mut count = 0;
    loop {
        match conduct.receive(bytes, 0) {
            Ok(()) => count += 1,
            Err(misconduct) => return (count, misconduct),
        }
        assert!(count < 10_000, "it goes on for ever");
    }
}

#[test]
fn each_kind_has_its_allowance() {
    let cases = [
        (frame(3, 0, &[0; 4]), 200, Misconduct::Resets),
        (frame(4, 0, &[]), 20, Misconduct::Settings),
        (frame(4, 1, &[]), 20, Misconduct::Settings),
        (frame(6, 0, &[0; 8]), 100, Misconduct::Pings),
        (frame(8, 0, &[0; 4]), 2_000, Misconduct::WindowUpdates),
        (frame(2, 0, &[0; 5]), 500, Misconduct::Priorities),
        (frame(16, 0, b"u=1"), 500, Misconduct::Priorities),
        (frame(99, 0, b""), 500, Misconduct::Priorities),
        (frame(0, 0, b""), 50, Misconduct::EmptyData),
        (frame(0, 8, &[9; 10]), 50, Misconduct::EmptyData),
        (frame(9, 0, b""), 3, Misconduct::HeaderBlock),
    ];
    for (bytes, count, misconduct) in cases {
        let extra = u32::from(misconduct == Misconduct::HeaderBlock);
        assert_eq!(taken(&bytes), (count + extra, misconduct), "{bytes:?}");
    }
}

#[test]
fn a_head_has_so_many_pieces_and_bytes() {
    let mut conduct = begun();
    conduct.receive(&frame(1, 0, &[0; 16_000]), 0).expect("a head begins");
    assert!(conduct.head_is_open());
    conduct.receive(&frame(9, 0, &[0; 16_000]), 0).expect("goes on");
    assert_eq!(conduct.receive(&frame(9, 4, &[0; 1_000]), 0), Err(Misconduct::HeaderBlock));
    let mut conduct = begun();
    for _ in 0..100 {
        conduct.receive(&frame(1, 0, &[0; 10]), 0).expect("a head begins");
        for last in [0, 0, 0, 4] {
            conduct.receive(&frame(9, last, &[0; 10]), 0).expect("goes on");
        }
        assert!(!conduct.head_is_open());
    }
}

#[test]
fn what_is_used_up_comes_back_with_time() {
    let mut conduct = begun();
    let ping = frame(6, 0, &[0; 8]);
    for now in 0..100 {
        conduct.receive(&ping, now).expect("allowed");
    }
    conduct.receive(&ping, SECOND).expect("a fifth of a second brings one");
    let mut conduct = begun();
    for second in 0..3_600 {
        for _ in 0..5 {
            conduct.receive(&ping, second * SECOND).expect("five a second may be for ever");
        }
    }
}

#[test]
fn resets_that_we_send_are_the_peers_where_their_code_says_so() {
    let reset = |code: u32| frame(3, 0, &code.to_be_bytes());
    let count = |code: u32| {
        let mut conduct = begun();
        (0..10_000_u32).find_map(|n| conduct.send(&reset(code), 0).err().map(|misconduct| (n, misconduct)))
    };
    for code in [1, 3, 5, 6] {
        assert_eq!(count(code), Some((50, Misconduct::MadeResets)), "{code}");
    }
    assert_eq!(count(7), Some((1_000, Misconduct::RefusedStreams)));
    for code in [0, 2, 8, 11] {
        assert_eq!(count(code), None, "{code} is our own doing, or the client's good right");
    }
}

#[test]
fn answers_earn_what_acknowledges_them() {
    let mut conduct = begun();
    for _ in 0..100_000 {
        conduct.send(&frame(0, 0, b"data"), 0).expect("ours");
        for _ in 0..2 {
            conduct.receive(&frame(8, 0, &[0; 4]), 0).expect("one for the stream, one for the connection");
        }
        conduct.receive(&frame(6, 0, &[0; 8]), 0).expect("and a question");
    }
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    (0_u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(kind, flags, payload)| frame(kind, flags, &payload))
}

proptest! {
    #[test]
    fn pieces_change_nothing(
        frames in prop::collection::vec(any_frame(), 0..60),
        cuts in prop::collection::vec(1_usize..30, 1..20),
        sends in any::<bool>(),
    ) {
        let run = |conduct: &mut Conduct, bytes: &[u8]| match sends {
            true => conduct.send(bytes, 0),
            false => conduct.receive(bytes, 0),
        };
        let mut bytes = frames.concat();
        if !sends {
            bytes.splice(0..0, PREFACE.iter().copied());
        }
        let mut whole = Conduct::new(0);
        let verdict = run(&mut whole, &bytes);
        let mut pieces = Conduct::new(0);
        let (mut rest, mut in_pieces) = (&bytes[..], Ok(()));
        for cut in cuts.iter().cycle() {
            if rest.is_empty() || in_pieces.is_err() {
                break;
            }
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            in_pieces = run(&mut pieces, piece);
            rest = left;
        }
        prop_assert_eq!(verdict, in_pieces);
        if verdict.is_ok() {
            prop_assert_eq!(whole.head_is_open(), pieces.head_is_open());
        }
    }

    /// A client as clients are: heads in one or two frames, bodies, an update or two for each frame of an answer, a setting now and then.
    #[test]
    fn a_good_client_is_never_ended(steps in prop::collection::vec((0_u8..8, 1_u64..2_000), 0..400)) {
        let mut conduct = begun();
        let mut now_ns = 0;
        for (step, ms) in steps {
            now_ns += ms * 1_000_000;
            let verdict = match step {
                0 | 1 => conduct.receive(&[frame(1, 4, &[0; 300]), frame(0, 1, &[1; 2_000])].concat(), now_ns),
                2 => conduct.receive(&[frame(1, 0, &[0; 16_000]), frame(9, 5, &[0; 900])].concat(), now_ns),
                3 => conduct.receive(&frame(3, 0, &[0, 0, 0, 8]), now_ns),
                4 if ms > 1_900 => conduct.receive(&frame(4, 0, &[0; 6]), now_ns),
                5 => conduct.receive(&frame(6, 1, &[0; 8]), now_ns),
                _ => conduct.send(&frame(0, 0, &[0; 100]), now_ns).and_then(|()| {
                    conduct.receive(&[frame(8, 0, &[0; 4]), frame(8, 0, &[0; 4])].concat(), now_ns)
                }),
            };
            prop_assert_eq!(verdict, Ok(()));
        }
    }
}
