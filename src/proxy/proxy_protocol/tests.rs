//! Headers of both versions, whole, in pieces and wrong.

use super::*;
use proptest::prelude::*;

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

fn from(text: &str, length: usize) -> Step {
    Step::Whole { length, origin: Origin::Address(text.parse().unwrap()) }
}

fn of_peer(length: usize) -> Step {
    Step::Whole { length, origin: Origin::Peer }
}

#[test]
fn version_1_names_the_source() {
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
    assert_eq!(read(header), from("192.0.2.1:56324", header.len()));
    assert_eq!(read(&[&header[..], b"GET / HTTP/1.1\r\n"].concat()), from("192.0.2.1:56324", header.len()));
    let header = b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
    assert_eq!(read(header), from("[2001:db8::1]:0", header.len()));
    for header in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 anything at all\r\n"] {
        assert_eq!(read(header.as_bytes()), of_peer(header.len()));
    }
    let longest =
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!((longest.len(), read(longest.as_bytes())), (107, of_peer(107)));
}

#[test]
fn what_is_not_exactly_version_1_is_refused() {
    let wrong = [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +5632 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n",
        "PROXY TCP4 ::1 ::1 1 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN a\rb\r\n",
        "PROXY\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 1 443\r\n",
        "POST / HTTP/1.1\r\n",
        "PUT",
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01",
    ];
    for header in wrong {
        assert_eq!(read(header.as_bytes()), Step::Refused, "{header:?}");
    }
    assert_eq!(read(&[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat()), Step::Refused, "it never ends");
}

#[test]
fn version_2_names_the_source_and_the_rest_is_passed_over() {
    let four = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 187];
    let header = v2(0x21, 0x11, &four);
    assert_eq!(read(&header), from("192.0.2.1:56324", 28));
    let with_more = v2(0x21, 0x11, &[&four[..], &[0x04, 0, 3, 1, 2, 3]].concat());
    assert_eq!(read(&[&with_more[..], b"GET /"].concat()), from("192.0.2.1:56324", 34));
    let mut six = [0; 36];
    (six[0], six[1], six[15], six[33]) = (0x20, 0x01, 7, 9);
    assert_eq!(read(&v2(0x21, 0x21, &six)), from("[2001::7]:9", 52));
    // A look whether we are there, a kind that is not known, and a path: the peer's own.
    for header in [
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, &four),
        v2(0x20, 0x55, &[1; 9]),
        v2(0x21, 0x00, &[1; 40]),
        v2(0x21, 0x31, &[1; 216]),
    ] {
        assert_eq!(read(&header), of_peer(header.len()));
    }
}

#[test]
fn what_is_not_exactly_version_2_is_refused() {
    for (command, family, rest) in [
        (0x11, 0x11, 12),
        (0x22, 0x11, 12),
        (0x21, 0x12, 12),
        (0x21, 0x41, 12),
        (0x21, 0x11, 11),
        (0x21, 0x21, 35),
        (0x21, 0x31, 215),
        (0x21, 0x11, MOST_V2 + 1),
        (0x20, 0x00, MOST_V2 + 1),
    ] {
        assert_eq!(read(&v2(command, family, &vec![0; rest])), Step::Refused, "{command:x} {family:x} {rest}");
    }
    let most = v2(0x21, 0x11, &vec![0; MOST_V2]);
    assert_eq!((most.len(), matches!(read(&most), Step::Whole { .. })), (LONGEST, true));
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let v1 = (any::<SocketAddr>(), any::<SocketAddr>()).prop_map(|(source, destination)| {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
            .into_bytes()
    });
    let v2 = (
        prop::sample::select(vec![0x20_u8, 0x21]),
        prop::sample::select(vec![0_u8, 0x11, 0x21, 0x31]),
        prop::collection::vec(any::<u8>(), 0..300),
    )
        .prop_map(|(command, family, rest)| v2(command, family, &rest));
    prop_oneof![v1, v2, prop::collection::vec(any::<u8>(), 0..120)]
}

proptest! {
    /// However the bytes are cut, the verdict is that of the whole, and it comes with the last byte of the header and not before.
    #[test]
    fn any_cut_comes_to_the_same(header in header(), more in prop::collection::vec(any::<u8>(), 0..20)) {
        let bytes = [header, more].concat();
        let verdicts: Vec<Step> = (0..=bytes.len()).map(|end| read(&bytes[..end])).collect();
        if let Some(first) = verdicts.iter().position(|step| *step != Step::Partial) {
            let verdict = verdicts[first];
            prop_assert!(verdicts[first..].iter().all(|step| *step == verdict));
            if let Step::Whole { length, .. } = verdict {
                prop_assert_eq!(length, first);
            }
        }
    }

    #[test]
    fn no_more_than_the_longest_is_ever_waited_for(start in prop::sample::select(vec![&b"PROXY UNKNOWN "[..], &SIGNATURE[..], b"PROXY TCP6 "]), fill: u8) {
        let bytes = [start, &vec![fill; LONGEST][..]].concat();
        prop_assert_ne!(read(&bytes[..LONGEST]), Step::Partial);
    }
}
