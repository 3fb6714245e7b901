//! The head of a request, read once: which call, whose secret, from where. No byte of the body is touched.

use std::net::IpAddr;

use http::Version;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, UPGRADE};
use zeroize::Zeroizing;

use crate::dialect::credential::{credential, credential_or};
use crate::dialect::route::{self, Route};
use crate::dialect::websocket::{Offer, handshake};
use crate::headers::{Headers, RequestHead, Value};
use crate::policy::{Endpoint, HeadFlaw, Refusal};
use crate::proxy::carrier::Carrier;
use crate::proxy::client_address::client_address;
use crate::proxy::settings::Settings;

/// What the head says.
#[derive(Debug)]
pub struct Received {
    /// The call.
    pub route: Route,
    /// Where it comes from.
    pub address: IpAddr,
    /// The secret it carries, if any.
    pub secret: Option<Zeroizing<Vec<u8>>>,
    /// The opening handshake, of a call that is a websocket.
    pub offer: Option<Box<Offer>>,
}

/// Reads the head.
///
/// # Errors
/// What is wrong with it, by the order of the edge's rules: framing, host, path, method, credential.
pub fn receive(head: &RequestHead, carrier: &Carrier, peer: IpAddr, settings: &Settings) -> Result<Received, Refusal> {
    if let Some((flaw, _)) = carrier.flaw_of(&head.headers) {
        return Err(Refusal::Head(flaw));
    }
    check_host(head)?;
    check_expectation(&head.headers)?;
    let (path, query) = (head.target.path(), head.target.query());
    let route = route::route(&head.method, path, query, &head.headers, &settings.passthrough)
        .map_err(|refusal| offered_no_websocket(refusal, &head.headers))?;
    // One that cannot be a secret goes the way of one that is in no table, so that both are answered and counted alike.
    let is_websocket = route.endpoint == Endpoint::Realtime;
    let offer = is_websocket.then(|| Offer::read(&head.method, head.version, &head.headers)).transpose();
    let offer = offer.map_err(Refusal::Head)?.map(Box::new);
    let found = if is_websocket {
        handshake::secret_of(&head.headers).and_then(|other| credential_or(&head.headers, query, other))
    } else {
        credential(&head.headers, query)
    };
    let secret = match found {
        Ok(secret) => secret.map(|secret| Zeroizing::new(secret.into_owned())),
        Err(Refusal::InvalidKey) => None,
        Err(refusal) => return Err(refusal),
    };
    let address = client_address(peer, &head.headers, &settings.trusted_proxies);
    Ok(Received { route, address, secret, offer })
}

/// Whether the body may be read at all: identity encoding and, where it is said, one content type.
///
/// # Errors
/// [`Refusal::EncodingNotSupported`], [`HeadFlaw::Syntax`] for a doubled content type.
pub fn check_encoding(headers: &Headers) -> Result<(), Refusal> {
    let is_identity = |value: Value<'_>| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        return Err(Refusal::EncodingNotSupported);
    }
    if headers.get_all(CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(Refusal::Head(HeadFlaw::Syntax));
    }
    Ok(())
}

/// A websocket is opened with GET, also where a call is made with POST: the caller is told to use plain HTTP, not another method.
fn offered_no_websocket(refusal: Refusal, headers: &Headers) -> Refusal {
    let asks = || headers.get_all(UPGRADE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    match refusal {
        Refusal::MethodNotAllowed { .. } if asks() => Refusal::Head(HeadFlaw::UpgradeNotOffered),
        refusal => refusal,
    }
}

/// Exactly one `Host`, a bare authority, the same as the target's own when that is absolute (RFC 9112 3.2).
fn check_host(head: &RequestHead) -> Result<(), Refusal> {
    let flaw = Refusal::Head(HeadFlaw::Host);
    let mut hosts = head.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        // The wire lets none of this through; a request that did not come by it is refused all the same.
        return Err(flaw);
    };
    if !is_bare_authority(host.as_bytes()) {
        return Err(flaw);
    }
    match head.target.authority() {
        Some(target) if !target.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => Err(flaw),
        _ if head.version < Version::HTTP_10 => Err(flaw),
        _ => Ok(()),
    }
}

/// `host[:port]`, where host is a name, an IPv4 address or a bracketed IPv6 address.
fn is_bare_authority(host: &[u8]) -> bool {
    let (name, port) = match host.first() {
        Some(b'[') => {
            let Some(end) = host.iter().position(|b| *b == b']') else { return false };
            let inside = &host[1..end];
            let is_v6 = std::str::from_utf8(inside).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
            if !is_v6 {
                return false;
            }
            (&host[..=end], &host[end + 1..])
        }
        _ => match host.iter().position(|b| *b == b':') {
            Some(colon) => (&host[..colon], &host[colon..]),
            None => (host, &host[host.len()..]),
        },
    };
    let is_name = name.first() == Some(&b'[')
        || name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let is_port = match port.split_first() {
        None => true,
        Some((b':', digits)) => {
            (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) && is_u16(digits)
        }
        Some(_) => false,
    };
    !name.is_empty() && name.len() <= 255 && is_name && is_port
}

fn is_u16(digits: &[u8]) -> bool {
    digits.iter().fold(0_u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
}

fn check_expectation(headers: &Headers) -> Result<(), Refusal> {
    let is_known = |value: Value<'_>| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(is_known) { Ok(()) } else { Err(Refusal::Head(HeadFlaw::Expectation)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_bare_authority() {
        for good in ["a", "a.example:8080", "127.0.0.1", "[::1]", "[::1]:80", "a_b", "a:65535"] {
            assert!(is_bare_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a/b", "a?b", "a#b", "u@a", "a b", "a:", "a:x", "a:123456", "a:65536", "[::1", "[x]", "[::1]x",
            "a:80:80", "a%2f",
        ] {
            assert!(!is_bare_authority(bad.as_bytes()), "{bad}");
        }
    }
}
