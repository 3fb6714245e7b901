//! The strict edge for heads that came over HTTP/2: what the bytes of an HTTP/1 head are checked for in `wire::head`, and what RFC 9113 8 adds
//! to it. h2 itself has refused, with a reset of the stream: names that are no lower-case tokens, values with controls, headers of the connection,
//! a `te` other than `trailers`, pseudo-headers that are missing, doubled, unknown or late, and a body of another length than it said. A
//! fragment never gets here: it is cut off as the target is read.

use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};

use crate::headers::{Headers, RequestHead, Value};
use crate::policy::HeadFlaw;
use crate::proxy::wire::head::{MAX_HEADERS, MAX_HEADERS_BYTES, MAX_METHOD_BYTES, MAX_URI_BYTES, MAX_VALUE_BYTES};
use crate::proxy::wire::head::{flaw_of_target, has_no_body};

/// Headers of a connection, which a stream is not (RFC 9113 8.2.2).
static OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Checks a head; `has_body` says that it does not end its stream.
///
/// # Errors
/// The first flaw.
pub fn check(head: &RequestHead, has_body: bool) -> Result<(), HeadFlaw> {
    if head.method == Method::CONNECT {
        return Err(HeadFlaw::ConnectNotOffered);
    }
    let method = head.method.as_str().as_bytes();
    if method.len() > MAX_METHOD_BYTES {
        return Err(HeadFlaw::Syntax);
    }
    if has_body && has_no_body(method) {
        return Err(HeadFlaw::BodyNotExpected);
    }
    check_target(head)?;
    check_fields(&head.headers)
}

/// Makes `:authority` the `host` of a request that has none beside it, as a gateway has to (RFC 9113 8.3.1). Where there are both they are
/// compared later, as the two places of an HTTP/1 request are.
pub fn set_host(head: &mut RequestHead) {
    if let (Some(authority), false) = (head.target.authority(), head.headers.contains_key(HOST))
        && let Some(host) = Value::of(authority)
    {
        head.headers.insert(HOST, host);
    }
}

fn check_target(head: &RequestHead) -> Result<(), HeadFlaw> {
    if !matches!(head.target.scheme(), Some("http" | "https")) {
        return Err(HeadFlaw::Path);
    }
    let target = head.target.path_and_query().as_bytes();
    if target.len() > MAX_URI_BYTES {
        return Err(HeadFlaw::UriTooLong);
    }
    match flaw_of_target(target) {
        Some(flaw) => Err(flaw),
        None if target.first() == Some(&b'/') => Ok(()),
        None => Err(HeadFlaw::Path),
    }
}

fn check_fields(headers: &Headers) -> Result<(), HeadFlaw> {
    if OF_A_CONNECTION.iter().any(|name| headers.contains_key(name)) {
        return Err(HeadFlaw::Syntax);
    }
    let mut bytes = 0;
    for (name, value) in headers {
        let value = value.as_bytes();
        bytes += name.len() + value.len();
        if value.len() > MAX_VALUE_BYTES || bytes > MAX_HEADERS_BYTES {
            return Err(HeadFlaw::HeadersTooLarge);
        }
        let is_blank = |byte: Option<&u8>| byte.is_some_and(|byte| b" \t".contains(byte));
        if is_blank(value.first()) || is_blank(value.last()) {
            return Err(HeadFlaw::Syntax);
        }
    }
    if headers.len() > MAX_HEADERS {
        return Err(HeadFlaw::HeadersTooLarge);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next().map(Value::as_bytes), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if (1..=18).contains(&length.len()) && length.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(HeadFlaw::Framing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, request};

    fn read(request: request::Builder) -> RequestHead {
        let request::Parts { method, uri, version, headers, .. } = request.body(()).expect("a request").into_parts().0;
        RequestHead { method, target: uri.into(), version, headers: headers.into() }
    }

    fn verdict(method: &str, uri: &str, headers: &[(&str, &str)], has_body: bool) -> Result<(), HeadFlaw> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&read(request), has_body)
    }

    #[test]
    fn a_head_obeys_the_rules_of_the_edge() {
        const URI: &str = "https://h/v1/models?a=b";
        let long = |length: usize| "x".repeat(length);
        assert_eq!(verdict("GET", URI, &[("te", "trailers")], false), Ok(()));
        assert_eq!(verdict("POST", URI, &[("content-length", "5")], true), Ok(()));
        assert_eq!(verdict("GET", URI, &[], true), Err(HeadFlaw::BodyNotExpected));
        assert_eq!(verdict("CONNECT", "h:80", &[], false), Err(HeadFlaw::ConnectNotOffered));
        assert_eq!(verdict(&long(17), URI, &[], false), Err(HeadFlaw::Syntax));
        assert_eq!(verdict("GET", "ftp://h/v1/models", &[], false), Err(HeadFlaw::Path));
        assert_eq!(verdict("GET", "https://h/a\"b", &[], false), Err(HeadFlaw::Path));
        assert_eq!(verdict("GET", "https://h/a?b={", &[], false), Err(HeadFlaw::Query));
        assert_eq!(verdict("OPTIONS", "*", &[], false), Err(HeadFlaw::Path));
        assert_eq!(verdict("GET", &format!("https://h/{}", long(8192)), &[], false), Err(HeadFlaw::UriTooLong));
        assert_eq!(verdict("GET", URI, &[("x", &long(8193))], false), Err(HeadFlaw::HeadersTooLarge));
        assert_eq!(verdict("GET", URI, &[("x", "y"); 101], false), Err(HeadFlaw::HeadersTooLarge));
        assert_eq!(verdict("GET", URI, &[("x", long(8000).as_str()); 5], false), Err(HeadFlaw::HeadersTooLarge));
        for value in [" y", "y ", "\ty", "y\t"] {
            assert_eq!(verdict("GET", URI, &[("x", value)], false), Err(HeadFlaw::Syntax), "{value:?}");
        }
        for name in ["connection", "upgrade", "keep-alive", "proxy-connection", "transfer-encoding"] {
            assert_eq!(verdict("GET", URI, &[(name, "x")], false), Err(HeadFlaw::Syntax), "{name}");
        }
        for lengths in [&["5", "5"][..], &["+5"], &[""], &["5,5"], &["1234567890123456789"]] {
            let headers = lengths.iter().map(|length| ("content-length", *length)).collect::<Vec<_>>();
            assert_eq!(verdict("POST", URI, &headers, true), Err(HeadFlaw::Framing), "{lengths:?}");
        }
    }

    #[test]
    fn the_authority_is_the_host_unless_there_is_one() {
        let host = |uri: &str, given: &[&str]| {
            let request = given.iter().fold(Request::builder().uri(uri), |request, host| request.header(HOST, *host));
            let mut head = read(request);
            set_host(&mut head);
            head.headers.get_all(HOST).iter().map(|host| host.to_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(host("https://h:1/x", &[]), ["h:1"]);
        assert_eq!(host("https://h:1/x", &["other"]), ["other"]);
        assert_eq!(host("/x", &[]), [""; 0]);
    }
}
