//! Any list of hops: only trusted ones are passed over, and nothing left of the first that is not can change the answer.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use keyward::headers::Headers;
use keyward::policy::AddressRules;
use keyward::proxy::client_address::client_address;

const TRUSTED: [&str; 3] = ["10.0.0.0/8", "fd00::/8", "::ffff:192.168.0.0/112"];
const PEERS: [&str; 4] = ["10.0.0.1", "fd00::1", "203.0.113.9", "::ffff:192.168.0.7"];

/// The first byte chooses the peer and the header (0x80: `forwarded`), each line of the rest is one header's value.
pub fn check(input: &[u8]) {
    let [choice, lines @ ..] = input else { return };
    let peer: IpAddr = PEERS[usize::from(choice & 3)].parse().expect("an address");
    let name = HeaderName::from_static(if choice & 0x80 == 0 { "x-forwarded-for" } else { "forwarded" });
    let values: Vec<HeaderValue> =
        lines.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let headers = |before: &[&'static str]| {
        let mut headers = Headers::new();
        for value in before.iter().map(|value| HeaderValue::from_static(value)).chain(values.iter().cloned()) {
            headers.append(&name, &value);
        }
        headers
    };
    let trusted = AddressRules::compile(&TRUSTED).expect("prefixes");
    let found = client_address(peer, &headers(&[]), &trusted);
    assert_eq!(found, found.to_canonical(), "one spelling of each address");
    assert_eq!(client_address(peer, &headers(&[]), &AddressRules::default()), peer.to_canonical());
    if !trusted.contains(peer) {
        assert_eq!(found, peer.to_canonical(), "an untrusted peer said who it is");
        return;
    }
    if !trusted.contains(found) {
        // Whoever sent the request wrote what stands left of it.
        let liar = if *choice & 0x80 == 0 { "198.51.100.1" } else { "for=198.51.100.1" };
        assert_eq!(client_address(peer, &headers(&[liar]), &trusted), found, "a client chose its own address");
    }
    if found != peer.to_canonical() {
        let text = String::from_utf8_lossy(lines).to_ascii_lowercase();
        let is_written = text.split(|c: char| !(c.is_ascii_hexdigit() || ".:".contains(c))).any(|word| {
            is_address(word, found) || word.rsplit_once(':').is_some_and(|(start, _)| is_address(start, found))
        });
        assert!(is_written, "{found} stands nowhere in {text:?}");
    }
}

fn is_address(word: &str, found: IpAddr) -> bool {
    word.parse::<IpAddr>().is_ok_and(|address| address.to_canonical() == found)
}
