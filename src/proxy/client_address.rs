//! Where a request really came from, behind proxies the operator trusts.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;

use crate::headers::Headers;
use crate::policy::AddressRules;

/// The peer, unless it is trusted; then `X-Forwarded-For` (or `Forwarded`, RFC 7239) is walked from the right past trusted hops to the
/// first that is not. A malformed entry ends the walk at the hop before it, so nothing left of it is believed. Where both headers
/// are there and do not lead to the same address, one of them is not the trusted proxy's and nobody knows which: the client is the peer.
pub fn client_address(peer: IpAddr, headers: &Headers, trusted: &AddressRules) -> IpAddr {
    let peer = peer.to_canonical();
    if trusted.is_empty() || !trusted.contains(peer) {
        return peer;
    }
    let walk =
        |name: &str, parse| headers.contains_key(name).then(|| walk(peer, entries(headers, name, parse), trusted));
    match (walk("x-forwarded-for", plain), walk(FORWARDED.as_str(), for_parameter)) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(address), _) | (None, Some(address)) => address,
        (None, None) => peer,
    }
}

fn walk(peer: IpAddr, hops: Vec<Option<IpAddr>>, trusted: &AddressRules) -> IpAddr {
    let mut address = peer;
    for hop in hops.into_iter().rev() {
        let Some(hop) = hop else { break };
        address = hop;
        if !trusted.contains(address) {
            break;
        }
    }
    address
}

/// Every entry of a list header, in order; `None` for a malformed one.
fn entries(headers: &Headers, name: &str, parse: fn(&str) -> Option<IpAddr>) -> Vec<Option<IpAddr>> {
    let mut entries = Vec::new();
    for value in headers.get_all(name).iter() {
        match value.to_str() {
            Ok(text) => entries.extend(text.split(',').map(|entry| parse(entry.trim()).map(|ip| ip.to_canonical()))),
            Err(_) => entries.push(None),
        }
    }
    entries
}

/// An address, with or without a port, IPv6 with or without brackets.
fn plain(entry: &str) -> Option<IpAddr> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(socket) = entry.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// The `for=` of one `Forwarded` element.
fn for_parameter(element: &str) -> Option<IpAddr> {
    let mut found = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let (value, None) = (found.next()?, found.next()) else { return None };
    plain(value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(trusted: &[&str], header: &str, values: &[&'static str]) -> String {
        let mut headers = Headers::new();
        for value in values {
            headers.append(
                http::HeaderName::from_bytes(header.as_bytes()).unwrap(),
                &http::HeaderValue::from_static(value),
            );
        }
        let trusted = AddressRules::compile(trusted).unwrap();
        client_address("10.0.0.1".parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_claims() {
        assert_eq!(walk(&[], "x-forwarded-for", &["1.1.1.1"]), "10.0.0.1");
        assert_eq!(walk(&["192.168.0.0/16"], "x-forwarded-for", &["1.1.1.1"]), "10.0.0.1");
    }

    #[test]
    fn the_walk_starts_at_the_right_and_stops_at_the_first_untrusted_hop() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(walk(&trusted, "x-forwarded-for", &["6.6.6.6, 1.1.1.1, 10.0.0.2"]), "1.1.1.1");
        assert_eq!(walk(&trusted, "x-forwarded-for", &["6.6.6.6", "1.1.1.1"]), "1.1.1.1");
        assert_eq!(walk(&trusted, "x-forwarded-for", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(walk(&trusted, "x-forwarded-for", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(walk(&trusted, "x-forwarded-for", &["::ffff:1.1.1.1"]), "1.1.1.1");
    }

    #[test]
    fn a_malformed_entry_ends_the_walk() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(walk(&trusted, "x-forwarded-for", &["1.1.1.1, nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(walk(&trusted, "x-forwarded-for", &["1.1.1.1, "]), "10.0.0.1");
    }

    #[test]
    fn two_headers_that_disagree_are_both_disbelieved() {
        let trusted = AddressRules::compile(&["10.0.0.0/8"]).unwrap();
        let address = |forwarded_for: &'static str, forwarded: &'static str| {
            let mut headers = Headers::new();
            headers.insert(
                http::HeaderName::from_static("x-forwarded-for"),
                &http::HeaderValue::from_static(forwarded_for),
            );
            headers.insert(FORWARDED, &http::HeaderValue::from_static(forwarded));
            client_address("10.0.0.1".parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(address("6.6.6.6", "for=1.1.1.1"), "10.0.0.1");
        assert_eq!(address("1.1.1.1, 10.0.0.2", "for=1.1.1.1"), "1.1.1.1");
        assert_eq!(address("", "for=1.1.1.1"), "10.0.0.1", "an empty one leads to the peer");
    }

    #[test]
    fn forwarded_is_read_where_the_other_is_absent() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(walk(&trusted, "forwarded", &["for=1.1.1.1;proto=https, for=\"[2001:db8::9]:1\""]), "2001:db8::9");
        assert_eq!(walk(&trusted, "forwarded", &["for=1.1.1.1;for=2.2.2.2"]), "10.0.0.1");
    }
}
