//! The heads of HTTP/1 towards clients: a request's as it is read, every byte of which the wire has checked, and an answer's as it is written.

use std::ops::Deref;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use memchr::memchr;

use crate::headers::{AnswerHead, Headers, Reading, RequestHead, Target, Value};
use crate::proxy::http1::answer::{Delimiter, SMALL};
use crate::proxy::wire::head::MAX_HEADERS;
use crate::upstream::http1::body::Rest;

/// The lines of a request, with those that are added on the way to an upstream. Together no more than the allocator gives out most quickly (1 KiB).
const READING: Reading = Reading { most: MAX_HEADERS, takes_lf: false, usual: (16, 832), added: 192 };
/// Bytes of a head that its headers do not account for, at most: the first line, the lines of framing and date.
const OWN_LINES: usize = 192;

/// A request, up to its body.
#[derive(Debug)]
pub struct Asked {
    /// Method, target, version and headers.
    pub head: Box<RequestHead>,
    /// Its body.
    pub rest: Rest,
    /// What its answer has to heed.
    pub manner: Manner,
    /// Whether its client waits to be told to send the body (RFC 9110 10.1.1).
    pub expects_continue: bool,
    /// Bytes of the head, its empty line included.
    pub length: usize,
}

/// What of a request says how its answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Whether the answer has no body, whatever its head says of one.
    pub is_head: bool,
    /// Whether its client reads HTTP/1.1, and so chunks.
    pub is_1_1: bool,
    /// Whether its client would have the connection go on.
    pub keeps_alive: bool,
}

/// Reads what `head` begins with. `None` while it is not whole, and for what the wire lets nobody send.
pub fn read(head: &[u8]) -> Option<Asked> {
    let line_end = memchr(b'\n', head)?;
    let line = head.get(..line_end)?.strip_suffix(b"\r")?;
    let method_end = memchr(b' ', line)?;
    let target_end = memchr(b' ', line.get(method_end + 1..)?)? + method_end + 1;
    let method = Method::from_bytes(line.get(..method_end)?).ok()?;
    let target = Target::read(line.get(method_end + 1..target_end)?)?;
    let is_1_1 = line.get(target_end + 1..)? == b"HTTP/1.1";
    let version = if is_1_1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut length = line_end + 1;
    let headers = Headers::read(head, &mut length, READING).ok()??;
    let rest = match headers.get(CONTENT_LENGTH) {
        Some(length) => Rest::length(length.to_str().ok()?.parse().ok()?),
        None if headers.contains_key(TRANSFER_ENCODING) => Rest::chunks(),
        None => Rest::Over,
    };
    let manner = Manner { is_head: method == Method::HEAD, is_1_1, keeps_alive: keeps_alive(&headers, is_1_1) };
    let expects = |value: Value<'_>| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let expects_continue = is_1_1 && !rest.is_over() && headers.get(EXPECT).is_some_and(expects);
    // On the heap, and made there: it is handed on from stage to stage.
    let head = Box::write(Box::new_uninit(), RequestHead { method, target, version, headers });
    Some(Asked { head, rest, manner, expects_continue, length })
}

fn keeps_alive(headers: &Headers, is_1_1: bool) -> bool {
    let (mut closes, mut keeps) = (false, false);
    for value in headers.get_all(CONNECTION).iter() {
        (closes, keeps) = (closes || has_option(value, "close"), keeps || has_option(value, "keep-alive"));
    }
    !closes && (keeps || is_1_1)
}

fn has_option(value: Value<'_>, wanted: &str) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Whether an answer with these headers is the last of its connection.
pub fn is_last(headers: &Headers) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| has_option(value, "close"))
}

/// Writes the head of an answer, and says how its body is to be delimited. `length` is the body's, where that is known; `closes` whether the
/// connection ends with it; `date` is written where the answer has none (RFC 9110 6.6.1).
pub fn write<D: Deref<Target = [u8]>>(
    out: &mut Vec<u8>,
    answer: &AnswerHead,
    length: Option<u64>,
    manner: Manner,
    closes: bool,
    date: impl FnOnce() -> D,
) -> Delimiter {
    let status = answer.status;
    let told = told_length(&answer.headers);
    let behind = told.or(length).and_then(|length| usize::try_from(length).ok()).unwrap_or(0).min(SMALL);
    out.reserve(answer.headers.wire_length() + OWN_LINES + behind);
    out.extend_from_slice(if manner.is_1_1 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    for piece in [status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
    let has_length = !status.is_informational() && status != StatusCode::NO_CONTENT;
    answer.headers.write_without(out, CONTENT_LENGTH);
    let is_bodyless = manner.is_head || !has_length || status == StatusCode::NOT_MODIFIED;
    let delimiter = match told.or(length) {
        _ if !has_length => Delimiter::None,
        // Of a body that is not there, only what its own maker says is told.
        _ if is_bodyless && told.is_none() => Delimiter::None,
        Some(length) => {
            put(out, b"content-length: ", itoa::Buffer::new().format(length).as_bytes());
            if is_bodyless { Delimiter::None } else { Delimiter::Length(length) }
        }
        None if manner.is_1_1 => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Delimiter::Chunks
        }
        None => Delimiter::Close,
    };
    if status != StatusCode::SWITCHING_PROTOCOLS {
        match closes || delimiter == Delimiter::Close {
            true if !is_last(&answer.headers) => out.extend_from_slice(b"connection: close\r\n"),
            false if !manner.is_1_1 => out.extend_from_slice(b"connection: keep-alive\r\n"),
            _ => {}
        }
    }
    if !status.is_informational() && !answer.headers.contains_key(DATE) {
        put(out, b"date: ", &date());
    }
    out.extend_from_slice(b"\r\n");
    delimiter
}

/// The length that an answer's own head promises.
pub fn told_length(headers: &Headers) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for piece in [name, value, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const NOW: &[u8] = b"Thu, 01 Jan 1970 00:00:00 GMT";
    const PLAIN: Manner = Manner { is_head: false, is_1_1: true, keeps_alive: true };

    fn asked(head: &str) -> Asked {
        read(head.as_bytes()).unwrap()
    }

    fn written(
        status: u16,
        headers: &[(&'static str, &'static str)],
        length: Option<u64>,
        manner: Manner,
    ) -> (String, Delimiter) {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: Headers = headers.iter().map(line).collect();
        let answer = AnswerHead { status: StatusCode::from_u16(status).unwrap(), headers };
        let mut out = Vec::new();
        let closes = !manner.keeps_alive || is_last(&answer.headers);
        let delimiter = write(&mut out, &answer, length, manner, closes, || NOW);
        (String::from_utf8(out).unwrap().replace("date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", ""), delimiter)
    }

    #[test]
    fn a_head_is_read_as_it_stands() {
        let asked = asked("POST /v1/a?b=c HTTP/1.1\r\nHost: h\r\nX:\r\nx: \t two words \r\nContent-Length: 12\r\n\r\n");
        assert_eq!((asked.head.method.as_str(), asked.head.target.path_and_query()), ("POST", "/v1/a?b=c"));
        assert_eq!(asked.head.headers.get_all("x").iter().collect::<Vec<_>>(), ["", "two words"]);
        assert_eq!((&asked.head.headers["host"], asked.rest), ("h", Rest::Length(12)));
        assert!(asked.manner.keeps_alive && asked.manner.is_1_1 && !asked.expects_continue);
    }

    #[test]
    fn bodies_and_expectations_are_as_they_are_told() {
        let with = |line: &str| asked(&format!("POST / HTTP/1.1\r\nhost: h\r\n{line}\r\n\r\n"));
        assert_eq!(with("transfer-encoding: chunked").rest, Rest::chunks());
        assert_eq!(with("content-length: 0").rest, Rest::Over);
        assert!(with("content-length: 1\r\nexpect: 100-Continue").expects_continue);
        assert!(!with("content-length: 0\r\nexpect: 100-continue").expects_continue, "nothing is to come");
        assert!(
            !asked("POST / HTTP/1.0\r\nhost: h\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n").expects_continue
        );
    }

    #[test]
    fn a_connection_goes_on_as_its_client_would_have_it() {
        for (version, line, keeps) in [
            ("1.1", "a: b", true),
            ("1.1", "connection: close", false),
            ("1.1", "connection: x, Close", false),
            ("1.0", "a: b", false),
            ("1.0", "connection: Keep-Alive", true),
            ("1.0", "connection: keep-alive\r\nconnection: close", false),
        ] {
            let asked = asked(&format!("GET / HTTP/{version}\r\nhost: h\r\n{line}\r\n\r\n"));
            assert_eq!(asked.manner.keeps_alive, keeps, "{version} {line}");
        }
    }

    #[test]
    fn an_answer_is_delimited_in_one_way() {
        let head = |is_head, is_1_1| Manner { is_head, is_1_1, keeps_alive: is_1_1 };
        for (status, headers, length, manner, lines, delimiter) in [
            (200, &[][..], Some(5), PLAIN, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Delimiter::Length(5)),
            (
                200,
                &[("content-length", "7")],
                None,
                PLAIN,
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
                Delimiter::Length(7),
            ),
            (200, &[], None, PLAIN, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Delimiter::Chunks),
            (200, &[], None, head(false, false), "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n", Delimiter::Close),
            (
                200,
                &[("content-length", "7")],
                None,
                head(true, true),
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
                Delimiter::None,
            ),
            (200, &[], None, head(true, true), "HTTP/1.1 200 OK\r\n\r\n", Delimiter::None),
            (204, &[("content-length", "0")], Some(0), PLAIN, "HTTP/1.1 204 No Content\r\n\r\n", Delimiter::None),
            (
                304,
                &[("content-length", "9")],
                None,
                PLAIN,
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
                Delimiter::None,
            ),
            (
                499,
                &[("a", "b")],
                Some(0),
                PLAIN,
                "HTTP/1.1 499 \r\na: b\r\ncontent-length: 0\r\n\r\n",
                Delimiter::Length(0),
            ),
        ] {
            assert_eq!(written(status, headers, length, manner), (lines.to_owned(), delimiter), "{status} {headers:?}");
        }
    }

    #[test]
    fn the_last_answer_says_so_once() {
        let closing = Manner { keeps_alive: false, ..PLAIN };
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(written(200, &[], Some(0), closing).0, expected);
        let expected = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(written(200, &[("connection", "close")], Some(0), closing).0, expected);
        assert_eq!(written(200, &[("connection", "close")], Some(0), PLAIN).0, expected);
        let old = Manner { is_1_1: false, ..PLAIN };
        assert_eq!(
            written(200, &[], Some(0), old).0,
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            written(101, &[("connection", "upgrade")], Some(0), PLAIN).0,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_without_a_date_gets_one() {
        let mut out = Vec::new();
        let mut answer = AnswerHead { status: StatusCode::OK, headers: Headers::new() };
        write(&mut out, &answer, Some(0), PLAIN, false, || NOW);
        assert!(out.ends_with(b"\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"));
        out.clear();
        answer.headers.insert(DATE, Value::from_static("then"));
        write(&mut out, &answer, Some(0), PLAIN, false, || NOW);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 0\r\n\r\n");
    }
}
