//! The parsers behind the wire, as plainly as they can be used: httparse and http's own types, which hyper is made of.

use http::{HeaderName, HeaderValue, Method, Uri, Version};
use keyward::headers::{Headers, RequestHead};

/// The most headers that may pass.
const MAX_HEADERS: usize = 100;

/// Every head among bytes that passed the wire, read one after the other. Nothing of it may be refused here; only the last body
/// may be open, or broken when `is_broken`.
pub fn heads(passed: &[u8], is_broken: bool) -> Vec<RequestHead> {
    let (mut heads, mut at) = (Vec::new(), 0);
    while at < passed.len() {
        let (length, head) = head(&passed[at..]);
        at += length;
        let body = body_length(&head, &passed[at..], is_broken);
        heads.push(head);
        let Some(body) = body else { return heads };
        at += body;
    }
    heads
}

/// The head that `bytes` start with, as hyper would make it.
fn head(bytes: &[u8]) -> (usize, RequestHead) {
    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut room);
    let status = parsed.parse(bytes).expect("a head that passes is sound to httparse");
    let httparse::Status::Complete(length) = status else { panic!("a head passes only when it is whole") };
    let method = Method::from_bytes(parsed.method.expect("whole").as_bytes()).expect("a method");
    let target = parsed.path.expect("whole");
    let uri = Uri::try_from(target).unwrap_or_else(|error| panic!("hyper would refuse {target:?} by itself: {error}"));
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut headers = Headers::new();
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).expect("a header's name");
        let value = HeaderValue::from_bytes(header.value).expect("a header's value");
        headers.append(name, &value);
    }
    assert_eq!(bytes[..length].windows(4).position(|window| window == b"\r\n\r\n"), Some(length - 4), "one empty line");
    assert_eq!(
        bytes[..length].split(|byte| *byte == b'\n').count(),
        parsed.headers.len() + 3,
        "as many headers as lines"
    );
    let theirs = RequestHead { method, target: uri.into(), version, headers };
    let ours = keyward::proxy::http1::head::read(&bytes[..length]).expect("a head that passes is read").head;
    assert_eq!((&ours.method, ours.version), (&theirs.method, theirs.version));
    let parts = |head: &RequestHead| {
        let parts = [head.target.scheme(), head.target.authority(), Some(head.target.path()), head.target.query()];
        parts.map(|part| part.map(str::to_owned))
    };
    assert_eq!(parts(&ours), parts(&theirs), "both read the same target");
    assert_eq!(ours.headers, theirs.headers, "both read the same headers");
    (length, theirs)
}

/// How long the body is by the plainest reading of its head; `None` when it is not whole.
fn body_length(head: &RequestHead, rest: &[u8], is_broken: bool) -> Option<usize> {
    let all = |name: &str| head.headers.get_all(name).iter().collect::<Vec<_>>();
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two framings passed");
    assert_eq!(all("host").len(), 1, "not one host");
    if let Some(coding) = codings.first() {
        assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked") && head.version == Version::HTTP_11);
        return chunked(rest, is_broken);
    }
    let length: u64 = lengths.first().map_or(0, |value| {
        let text = value.to_str().expect("digits");
        text.parse().expect("a number that fits")
    });
    assert!(length == 0 || !matches!(head.method, Method::GET | Method::HEAD), "a body where none is expected");
    usize::try_from(length).ok().filter(|length| *length <= rest.len())
}

/// The length of a chunked body with its trailers; `None` when it is not whole.
fn chunked(rest: &[u8], is_broken: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        let (line, size) = match httparse::parse_chunk_size(&rest[at..]) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => {
                assert!(is_broken, "a chunk passed that httparse cannot read");
                return None;
            }
        };
        at += line;
        if size == 0 {
            break;
        }
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size))?;
        let after = rest.get(end..)?;
        if after.len() < 2 {
            return None;
        }
        assert!(after.starts_with(b"\r\n"), "a chunk that is longer than it says");
        at = end + 2;
    }
    loop {
        let line = rest[at..].windows(2).position(|window| window == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}
