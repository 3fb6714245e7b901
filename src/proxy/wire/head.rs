//! One request head, checked byte by byte (RFC 9112 2-6).

use memchr::memchr;

use super::framing::BodyLength;
use crate::dialect::route;
use crate::headers::{Headers, is_target, is_token};
use crate::policy::{DialectName, HeadFlaw};

/// The longest request target, bytes.
pub const MAX_URI_BYTES: usize = 8 * 1024;
/// The most header bytes, all lines together.
pub const MAX_HEADERS_BYTES: usize = 32 * 1024;
/// The longest header value, bytes.
pub const MAX_VALUE_BYTES: usize = 8 * 1024;
/// The most headers.
pub const MAX_HEADERS: usize = 100;
/// The longest method token, bytes.
pub const MAX_METHOD_BYTES: usize = 16;

/// Whether all of `bytes` are as they may be.
fn all(bytes: &[u8], may_be: fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |fine, b| fine & may_be(*b))
}

/// Checks a whole head, its empty line included, and says how its body is framed.
///
/// # Errors
/// The first flaw.
pub fn check(head: &[u8]) -> Result<BodyLength, HeadFlaw> {
    let line_end = memchr(b'\n', head).ok_or(HeadFlaw::Syntax)?;
    let line = head[..line_end].strip_suffix(b"\r").ok_or(HeadFlaw::Syntax)?;
    let (method, target, version_11) = check_request_line(line)?;
    let mut fields = Fields::default();
    let mut rest = &head[line_end + 1..];
    if rest.len() > MAX_HEADERS_BYTES + 2 {
        return Err(HeadFlaw::HeadersTooLarge);
    }
    while rest != b"\r\n" {
        let end = memchr(b'\n', rest).ok_or(HeadFlaw::Syntax)?;
        let line = rest[..end].strip_suffix(b"\r").ok_or(HeadFlaw::Syntax)?;
        fields.take(line)?;
        rest = &rest[end + 1..];
    }
    let asks_upgrade = fields.asks_upgrade;
    let length = fields.conclude(method, version_11)?;
    let is_tunnel = asks_upgrade && length == BodyLength::Known(0) && is_websocket(target);
    Ok(if is_tunnel { BodyLength::Tunnel } else { length })
}

/// Whether the call of this target is a websocket.
fn is_websocket(target: &[u8]) -> bool {
    http::Uri::try_from(target).is_ok_and(|uri| route::is_websocket(uri.path()))
}

#[derive(Default)]
struct Fields {
    count: usize,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    asks_upgrade: bool,
}

impl Fields {
    fn take(&mut self, line: &[u8]) -> Result<(), HeadFlaw> {
        // An empty name, a folded line and a space before the colon all fail here.
        let colon = line.iter().position(|byte| !is_token(*byte)).filter(|at| *at > 0 && line[*at] == b':');
        let colon = colon.ok_or(HeadFlaw::Syntax)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..], b" \t"));
        // Without a way out amid the value, so that it is looked at many bytes at once.
        if value.iter().fold(false, |bad, b| bad | ((*b < b' ') & (*b != b'\t')) | (*b == 0x7f)) {
            return Err(HeadFlaw::Syntax);
        }
        self.count += 1;
        if self.count > MAX_HEADERS || value.len() > MAX_VALUE_BYTES {
            return Err(HeadFlaw::HeadersTooLarge);
        }
        // What says where the body ends is read in its plainest form only: a tab or another letter case is where parsers part.
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = trim(&line[colon + 1..], b" ");
            if self.length.is_some() || value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
                return Err(HeadFlaw::Framing);
            }
            self.length = Some(value.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || trim(&line[colon + 1..], b" ") != b"chunked" {
                return Err(HeadFlaw::Framing);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.asks_upgrade = true;
        }
        Ok(())
    }

    fn conclude(self, method: &[u8], version_11: bool) -> Result<BodyLength, HeadFlaw> {
        if self.hosts != 1 {
            return Err(HeadFlaw::Host);
        }
        if self.chunked && (self.length.is_some() || !version_11) {
            return Err(HeadFlaw::Framing);
        }
        let has_body = self.chunked || self.length.is_some_and(|n| n > 0);
        if has_body && has_no_body(method) {
            return Err(HeadFlaw::BodyNotExpected);
        }
        if method == b"CONNECT" {
            return Err(HeadFlaw::ConnectNotOffered);
        }
        Ok(if self.chunked { BodyLength::Chunked } else { BodyLength::Known(self.length.unwrap_or(0)) })
    }
}

/// `method SP target SP HTTP/1.x`, single spaces, nothing else. Says the method, the target and whether the version is 1.1.
fn check_request_line(line: &[u8]) -> Result<(&[u8], &[u8], bool), HeadFlaw> {
    let space = memchr(b' ', line).ok_or(HeadFlaw::Syntax)?;
    let (method, rest) = (&line[..space], &line[space + 1..]);
    if method.is_empty() || method.len() > MAX_METHOD_BYTES || !all(method, is_token) {
        return Err(HeadFlaw::Syntax);
    }
    let space = memchr(b' ', rest).ok_or(HeadFlaw::Syntax)?;
    let (target, version) = (&rest[..space], &rest[space + 1..]);
    if target.len() > MAX_URI_BYTES {
        return Err(HeadFlaw::UriTooLong);
    }
    if target.is_empty() || target.iter().fold(false, |bad, b| bad | (*b <= b' ') | (*b == 0x7f)) {
        return Err(HeadFlaw::Syntax);
    }
    check_target(method, target)?;
    match version {
        b"HTTP/1.1" => Ok((method, target, true)),
        b"HTTP/1.0" => Ok((method, target, false)),
        _ => Err(HeadFlaw::Syntax),
    }
}

/// What a target has that none may have. What has other bytes is no URI to whoever reads it behind us, and would be refused in nobody's
/// dialect.
pub fn flaw_of_target(target: &[u8]) -> Option<HeadFlaw> {
    if all(target, is_target) {
        return None;
    }
    let bad = target.iter().position(|b| !is_target(*b))?;
    Some(if target[..bad].contains(&b'?') { HeadFlaw::Query } else { HeadFlaw::Path })
}

/// Whether requests of this method are without a body.
pub fn has_no_body(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"CONNECT")
}

/// A path, or an absolute `http` or `https` URI (RFC 9112 3.2); CONNECT's authority is refused with its method.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), HeadFlaw> {
    if let Some(flaw) = flaw_of_target(target) {
        return Err(flaw);
    }
    if target.first() == Some(&b'/') || method == b"CONNECT" {
        return Ok(());
    }
    let is_absolute = http::Uri::try_from(target)
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some());
    if is_absolute { Ok(()) } else { Err(HeadFlaw::Path) }
}

/// What the bytes of a head that is not whole must already obey, so that garbage is refused at once and not at the timeout.
/// `fresh` may start three bytes before the new ones; `first` says that it starts the head.
///
/// # Errors
/// [`HeadFlaw::Syntax`].
pub fn check_partial(fresh: &[u8], first: bool) -> Result<(), HeadFlaw> {
    if first && fresh.first().is_some_and(|b| !is_token(*b)) {
        return Err(HeadFlaw::Syntax);
    }
    for (at, byte) in fresh.iter().enumerate() {
        let after_cr = at > 0 && fresh[at - 1] == b'\r';
        let is_fine = match byte {
            b'\n' => after_cr || (at == 0 && !first),
            b'\r' | b'\t' | b' '..=b'~' | 0x80.. => !after_cr,
            _ => false,
        };
        if !is_fine {
            return Err(HeadFlaw::Syntax);
        }
    }
    Ok(())
}

/// Which limit a head that is too large breaks: the target's, when its line has not ended by then.
pub fn too_large(head: &[u8]) -> HeadFlaw {
    match memchr(b'\n', head) {
        Some(end) if end <= MAX_URI_BYTES + MAX_METHOD_BYTES + 16 => HeadFlaw::HeadersTooLarge,
        _ => HeadFlaw::UriTooLong,
    }
}

/// The dialect that the path of a refused head is nearest to, as far as one can be made out.
pub fn nearest(head: &[u8]) -> DialectName {
    let mut words = head.splitn(3, |b| *b == b' ');
    let target = words.nth(1).unwrap_or_default();
    let target = &target[..target.len().min(256)];
    route::nearest(&String::from_utf8_lossy(target), &Headers::new())
}

/// `value` without what is `blank` on either side.
fn trim<'a>(value: &'a [u8], blank: &[u8]) -> &'a [u8] {
    let start = value.iter().position(|b| !blank.contains(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !blank.contains(b)).map_or(start, |last| last + 1);
    &value[start..end]
}
