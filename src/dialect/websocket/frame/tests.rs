//! Frames by exact bytes, and in any pieces.

use proptest::prelude::*;

use super::*;

/// Everything read from `pieces`, and the flaw that ended it.
fn read<'a>(
    masking: Masking,
    limit: u64,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Item>, Option<Flaw>, usize) {
    let (mut frames, mut items) = (Frames::new(masking, limit), Vec::new());
    for piece in pieces {
        let mut rest = piece;
        loop {
            match frames.read(rest) {
                Err(flaw) => return (items, Some(flaw), frames.held()),
                Ok((count, item)) => {
                    rest = &rest[count..];
                    let is_more = item.is_some();
                    items.extend(item);
                    if !is_more {
                        assert!(rest.is_empty(), "all is read where nothing came of it");
                        break;
                    }
                }
            }
        }
    }
    (items, None, frames.held())
}

fn text(payload: &str) -> Item {
    Item::Message { is_text: true, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

fn server(bytes: &[u8]) -> (Vec<Item>, Option<Flaw>) {
    let (items, flaw, _) = read(Masking::Never, 1 << 20, [bytes]);
    (items, flaw)
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    assert_eq!(server(b"\x81\x05Hello"), (vec![text("Hello")], None));
    assert_eq!(server(b"\x01\x03Hel\x80\x02lo"), (vec![text("Hello")], None));
    assert_eq!(server(b"\x89\x05Hello"), (vec![Item::Ping(Bytes::from_static(b"Hello"))], None));
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(read(Masking::Always, 99, [&masked[..]]).0, [text("Hello")]);
    let mut long = b"\x82\x7e\x01\x00".to_vec();
    long.extend([7; 256]);
    assert_eq!(server(&long).0, [Item::Message { is_text: false, payload: Bytes::from(vec![7; 256]) }]);
}

#[test]
fn a_control_frame_may_stand_within_a_message() {
    let (items, flaw) = server(b"\x01\x01a\x8a\x01p\x00\x01b\x80\x00\x88\x00");
    assert_eq!(flaw, None);
    assert_eq!(items, [Item::Pong(Bytes::from_static(b"p")), text("ab"), Item::Close(Closing::default())]);
}

#[test]
fn what_breaks_the_protocol_is_refused_at_its_first_byte_that_does() {
    let protocol = |bytes: &[u8], at: usize| {
        for end in 1..=bytes.len() {
            let (_, flaw) = server(&bytes[..end]);
            let is_refused = matches!(flaw, Some(Flaw::Protocol(_)));
            assert_eq!(is_refused, end >= at, "{bytes:?} to {end}: {flaw:?}");
        }
    };
    for first in [0xC1, 0xA1, 0x91, 0x83, 0x87, 0x8B, 0x8F, 0x80, 0x00, 0x09, 0x08] {
        protocol(&[first, 0], 1);
    }
    protocol(b"\x01\x01a\x81\x01b", 4);
    protocol(b"\x01\x01a\x02\x01b", 4);
    protocol(b"\x89\x7e\x00\x01", 2);
    protocol(b"\x81\x7e\x00\x7d", 4);
    protocol(b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 10);
    protocol(b"\x81\x7f\x80\x00\x00\x00\x00\x01\x00\x00", 10);
    protocol(b"\x88\x01\x03", 3);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let [high, low] = code.to_be_bytes();
        protocol(&[0x88, 2, high, low], 4);
    }
    protocol(b"\x81\x81\0\0\0\0a", 2);
    assert!(matches!(read(Masking::Always, 9, [&b"\x81\x01"[..]]).1, Some(Flaw::Protocol(_))));
    assert_eq!(server(b"\x81\x02\xc3\x28").1, Some(Flaw::NotUtf8));
    assert_eq!(server(b"\x88\x03\x03\xe8\xff").1, Some(Flaw::NotUtf8));
}

#[test]
fn a_message_over_the_bound_is_refused_before_it_comes() {
    assert_eq!(read(Masking::Never, 4, [&b"\x81\x05"[..]]), (Vec::new(), Some(Flaw::TooLarge), 0));
    assert_eq!(read(Masking::Never, 4, [&b"\x01\x03abc\x80\x02"[..]]), (Vec::new(), Some(Flaw::TooLarge), 3));
    let endless = b"\x82\x7f\x00\x00\x7f\xff\xff\xff\xff\xff";
    let mut frames = Frames::new(Masking::Never, u64::MAX);
    assert_eq!(frames.read(endless), Ok((10, None)));
    assert!(frames.message.capacity() <= 2 * FIRST_ROOM, "what is only announced takes no room");
}

#[test]
fn a_close_says_why_and_fits() {
    let closing = Closing::new(1008, &"ü".repeat(100));
    assert_eq!(closing.reason.len(), 122);
    let mut out = BytesMut::new();
    write(&mut out, Opcode::Close, &closing.payload(), None);
    assert_eq!(server(&out).0, [Item::Close(closing)]);
}

fn opcode() -> impl Strategy<Value = Opcode> {
    prop::sample::select(vec![Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong])
}

fn split<'a>(bytes: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts = at.iter().map(|index| index.index(bytes.len() + 1)).collect::<Vec<_>>();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_pieces(
        frames in prop::collection::vec((opcode(), "[ -~äß]{0,60}", prop::option::of(0_usize..70_000)), 0..6),
        mask in prop::option::of(any::<Mask>()),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let (mut out, mut expected) = (BytesMut::new(), Vec::new());
        for (opcode, words, long) in frames {
            let is_control = opcode.is_control();
            let payload = match long {
                Some(length) if !is_control => "x".repeat(length),
                _ => words,
            };
            let bytes = Bytes::from(payload.into_bytes());
            write(&mut out, opcode, &bytes, mask);
            expected.push(match opcode {
                Opcode::Ping => Item::Ping(bytes),
                Opcode::Pong => Item::Pong(bytes),
                other => Item::Message { is_text: other == Opcode::Text, payload: bytes },
            });
        }
        let masking = if mask.is_some() { Masking::Always } else { Masking::Never };
        prop_assert_eq!(read(masking, 1 << 20, split(&out, &at)), (expected, None, 0));
    }

    #[test]
    fn any_bytes_come_to_the_same_in_any_pieces(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(vec![0x81, 0x01, 0x80, 0x89, 0x00, 0x02])], 0..80),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        limit in 0_u64..200,
    ) {
        for masking in [Masking::Always, Masking::Never] {
            let whole = read(masking, limit, [&bytes[..]]);
            prop_assert_eq!(&whole, &read(masking, limit, split(&bytes, &at)));
            prop_assert_eq!(&whole, &read(masking, limit, bytes.chunks(1)));
            prop_assert!(whole.2 as u64 <= limit);
        }
    }
}
