//! Any bytes at the beginning of a connection: where they are cut changes no verdict, no more than the longest header is waited for, and the address
//! that is found is the one that stands there.

use std::net::SocketAddr;

use keyward::proxy::proxy_protocol::{LONGEST, Origin, Step, read};

/// All of it is what the peer sends.
pub fn check(input: &[u8]) {
    let whole = read(input);
    if input.len() >= LONGEST {
        assert_ne!(whole, Step::Partial, "it is waited for more than there can be");
    }
    // The ends of pieces around the header's own, and some before.
    let end = match whole {
        Step::Whole { length, .. } => length,
        _ => input.len(),
    };
    assert!(end <= input.len());
    for cut in (0..end).step_by(end / 64 + 1).chain([end.saturating_sub(1)]) {
        let found = read(&input[..cut.min(input.len())]);
        match whole {
            Step::Refused => {
                assert_ne!(std::mem::discriminant(&found), std::mem::discriminant(&WHOLE), "a part is whole")
            }
            _ if cut < end => assert_eq!(found, Step::Partial, "it is judged before it is there"),
            _ => assert_eq!(found, whole),
        }
    }
    if let Step::Whole { length, origin } = whole {
        assert_eq!(read(&input[..length]), whole, "what follows is the client's own");
        stands_there(&input[..length], origin);
    }
}

const WHOLE: Step = Step::Whole { length: 0, origin: Origin::Peer };

/// Written anew, the address is found in the header.
fn stands_there(header: &[u8], origin: Origin) {
    let Origin::Address(SocketAddr::V4(_) | SocketAddr::V6(_)) = origin else { return };
    let Origin::Address(address) = origin else { return };
    if header.starts_with(b"PROXY ") {
        let text = std::str::from_utf8(header).expect("a header of version 1 is text");
        let words = text.trim_end().split(' ').collect::<Vec<_>>();
        assert_eq!(
            (words.len(), words[2].parse().ok(), words[4].parse().ok()),
            (6, Some(address.ip()), Some(address.port()))
        );
    } else {
        let (ip, port) = match address {
            SocketAddr::V4(v4) => (v4.ip().octets().to_vec(), 8),
            SocketAddr::V6(v6) => (v6.ip().octets().to_vec(), 32),
        };
        assert!(header[16..].starts_with(&ip) && header[16 + port..].starts_with(&address.port().to_be_bytes()));
    }
}
