//! Any bytes on a websocket, in any pieces: where they are cut changes nothing; what is read is what a plain reader of RFC 6455 finds;
//! what is written of it reads the same again; and no message makes the readers of events fail.

use bytes::{Bytes, BytesMut};
use keyward::dialect::realtime::{Asked, Event, Told, told};
use keyward::dialect::websocket::frame::{Flaw, write};
use keyward::dialect::websocket::{Frames, Item, Masking, Opcode};

/// The first byte chooses the side and seeds the cuts, the second bounds messages, the rest is what comes.
pub fn check(input: &[u8]) {
    let [seed, limit, sent @ ..] = input else { return };
    let masking = if seed & 1 == 0 { Masking::Never } else { Masking::Always };
    let limit = u64::from(*limit) * 16;
    let whole = read(masking, limit, &[sent]);
    assert_eq!(
        whole,
        read(masking, limit, &super::pieces::of(sent, *seed)),
        "where the bytes are cut changes the verdict"
    );
    let (items, flaw) = whole;
    let (plain, is_broken) = plainly(masking == Masking::Always, limit, sent);
    assert_eq!(items, plain, "a plain reader finds something else");
    // What is refused in the middle of a frame the plain reader has not come to the end of.
    assert!(flaw.is_some() || !is_broken, "what is broken is refused");
    for item in &items {
        again(item);
        if let Item::Message { payload, .. } = item {
            events(payload);
        }
    }
}

fn read(masking: Masking, limit: u64, pieces: &[&[u8]]) -> (Vec<Item>, Option<Flaw>) {
    let (mut frames, mut items) = (Frames::new(masking, limit), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match frames.read(rest) {
                Err(flaw) => return (items, Some(flaw)),
                Ok((count, Some(item))) => {
                    rest = &rest[count..];
                    items.push(item);
                }
                Ok((count, None)) => {
                    assert_eq!(count, rest.len());
                    break;
                }
            }
            assert!(frames.held() as u64 <= limit, "no more is held than a message may have");
        }
    }
    (items, None)
}

/// Whole frames alone, by the figure of RFC 6455 5.2; stops at the first that breaks a rule, which it tells.
fn plainly(masked: bool, limit: u64, mut bytes: &[u8]) -> (Vec<Item>, bool) {
    let (mut items, mut message, mut kind) = (Vec::new(), Vec::new(), None::<u8>);
    loop {
        let [first, second, rest @ ..] = bytes else { return (items, false) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (wide, least) = match second & 0x7f {
            126 => (2, 126),
            127 => (8, 65_536),
            _ => (0, 0),
        };
        let control = opcode & 8 != 0;
        let is_fine = first & 0x70 == 0
            && matches!(opcode, 0..=2 | 8..=10)
            && (second & 0x80 != 0) == masked
            && (!control || (fin && wide == 0))
            && (control || (opcode == 0) == kind.is_some());
        if !is_fine {
            return (items, true);
        }
        if rest.len() < wide {
            return (items, false);
        }
        let (length, rest) = rest.split_at(wide);
        let length = match wide {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |n, b| n << 8 | u64::from(*b)),
        };
        if length < least || length >> 63 != 0 || (!control && length.saturating_add(message.len() as u64) > limit) {
            return (items, true);
        }
        let key = if masked { 4 } else { 0 };
        let Ok(length) = usize::try_from(length) else { return (items, false) };
        if rest.len() < key || rest.len() - key < length {
            return (items, false);
        }
        let (mask, rest) = rest.split_at(key);
        let (payload, rest) = rest.split_at(length);
        let payload = payload.iter().enumerate().map(|(at, b)| if masked { b ^ mask[at % 4] } else { *b });
        let payload: Vec<u8> = payload.collect();
        bytes = rest;
        match opcode {
            9 => items.push(Item::Ping(payload.into())),
            10 => items.push(Item::Pong(payload.into())),
            8 => {
                let (mut frames, mut framed) = (Frames::new(Masking::Never, 0), BytesMut::new());
                write(&mut framed, Opcode::Close, &payload, None);
                // What a close may say is a table of its own, tested as such.
                let Ok((_, Some(item))) = frames.read(&framed) else { return (items, true) };
                items.push(item);
            }
            _ => {
                kind = kind.or(Some(opcode));
                message.extend_from_slice(&payload);
                if fin {
                    let is_text = kind.take() == Some(1);
                    if is_text && std::str::from_utf8(&message).is_err() {
                        return (items, true);
                    }
                    items.push(Item::Message { is_text, payload: std::mem::take(&mut message).into() });
                }
            }
        }
    }
}

/// What is written of an item reads as that item.
fn again(item: &Item) {
    for (mask, masking) in [(None, Masking::Never), (Some([1, 2, 3, 4]), Masking::Always)] {
        let mut out = BytesMut::new();
        match item {
            Item::Message { is_text: true, payload } => write(&mut out, Opcode::Text, payload, mask),
            Item::Message { is_text: false, payload } => write(&mut out, Opcode::Binary, payload, mask),
            Item::Ping(payload) => write(&mut out, Opcode::Ping, payload, mask),
            Item::Pong(payload) => write(&mut out, Opcode::Pong, payload, mask),
            Item::Close(closing) => write(&mut out, Opcode::Close, &closing.payload(), mask),
        }
        assert_eq!(read(masking, 1 << 20, &[&out]), (vec![item.clone()], None));
    }
}

/// A client's event is one only if JSON says so, and an edit of it changes what it should.
fn events(payload: &Bytes) {
    if told(payload) != Told::Other {
        assert!(serde_json::from_slice::<serde_json::Value>(payload).is_ok());
    }
    let Ok(event) = Event::read(payload) else { return };
    let Ok(tree) = serde_json::from_slice::<serde_json::Value>(payload) else { return };
    assert_eq!(tree["type"] == "response.create", event.asked == Asked::Response, "one reading of the type");
    for part in ["session", "response"] {
        let model = tree[part]["model"].as_str();
        assert!(model.is_none() || model == event.own_model.as_ref().map(|model| model.as_str()), "one model");
    }
    let edited = Event::read(&event.render(payload, Some("renamed"), Some("kw"))).expect("an edit reads as well");
    assert_eq!(edited.own_model.as_ref().map(|model| model.as_str()), event.own_model.as_ref().map(|_| "renamed"));
    assert_eq!((edited.asked, edited.output), (event.asked, event.output));
    assert_eq!(edited.id.as_deref(), event.id.as_deref().or(Some("kw")));
}
