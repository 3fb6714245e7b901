//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): the header by which a proxy in front says whose connection this is.
//!
//! Strict where the specification leaves a choice: what is not exactly a header is refused, since a lenient reader would believe what another
//! one reads differently. Pure: bytes in, verdict out; whoever reads the bytes keeps the time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, its end included.
const LONGEST_V1: usize = 107;

/// What may follow the fixed part of version 2, bytes: addresses and what else the proxy tells. A certificate fits.
const MOST_V2: usize = 4_096;

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before its addresses.
const FIXED: usize = 16;

/// The longest header there is: no more than this need be read to know.
pub const LONGEST: usize = FIXED + MOST_V2;

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The beginning of a header.
    Partial,
    /// A header, and what it says; the client's own bytes follow.
    Whole {
        /// Bytes of the header.
        length: usize,
        /// Whose connection it is.
        origin: Origin,
    },
    /// No header, whatever may follow.
    Refused,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The peer's own: it looks whether we are there, or does not know (`LOCAL`, `UNKNOWN`, a kind of address that is not of the internet).
    Peer,
    /// That of whoever is at this address.
    Address(SocketAddr),
}

/// Looks at all bytes that have come so far.
pub fn read(bytes: &[u8]) -> Step {
    match bytes.first() {
        None => Step::Partial,
        Some(b'P') => version_1(bytes),
        Some(_) => version_2(bytes),
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n`.
fn version_1(bytes: &[u8]) -> Step {
    let head = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(at) = memchr::memchr(b'\n', head) else {
        let begins = |word: &[u8]| word.starts_with(head) || head.starts_with(word);
        let is_begin = begins(b"PROXY TCP4 ") || begins(b"PROXY TCP6 ") || begins(b"PROXY UNKNOWN");
        return if is_begin && head.len() < LONGEST_V1 { Step::Partial } else { Step::Refused };
    };
    let line = head[..at].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(origin_of_line) {
        Some(origin) => Step::Whole { length: at + 1, origin },
        None => Step::Refused,
    }
}

fn origin_of_line(line: &str) -> Option<Origin> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN"
        || rest.strip_prefix("UNKNOWN ").is_some_and(|rest| !rest.bytes().any(|b| b.is_ascii_control()))
    {
        return Some(Origin::Peer);
    }
    let mut words = rest.split(' ');
    let family = words.next()?;
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _destination) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, _destination_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Origin::Address(SocketAddr::new(source, source_port)))
}

/// Decimal, as short as it can be.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Signature, version and command, family and transport, length, addresses, and whatever else the proxy tells, which is passed over.
fn version_2(bytes: &[u8]) -> Step {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Step::Refused;
    }
    let is_local = match bytes.get(12) {
        None => return Step::Partial,
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Step::Refused,
    };
    // Streams only: no datagram comes over a connection.
    let addresses = match bytes.get(13) {
        None => return Step::Partial,
        Some(0x00) => 0,
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => 216,
        Some(_) if is_local => 0,
        Some(_) => return Step::Refused,
    };
    let Some(length) = bytes.get(14..FIXED) else { return Step::Partial };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > MOST_V2 || (!is_local && length < addresses) {
        return Step::Refused;
    }
    let Some(rest) = bytes.get(FIXED..FIXED + length) else { return Step::Partial };
    let origin = if is_local { Origin::Peer } else { origin_of_block(addresses, rest) };
    Step::Whole { length: FIXED + length, origin }
}

/// Both addresses, then both ports.
fn origin_of_block(addresses: usize, rest: &[u8]) -> Origin {
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let found = match addresses {
        12 => rest.first_chunk::<4>().map(|ip| IpAddr::from(*ip)).zip(port(8)),
        36 => rest.first_chunk::<16>().map(|ip| IpAddr::from(*ip)).zip(port(32)),
        _ => None,
    };
    found.map_or(Origin::Peer, |(ip, port)| Origin::Address(SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests;
