//! The framing against its own splits and against the parser of others and our own, and heads by exact bytes.

use std::rc::Rc;
use std::task::{Context, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::framing::{BodyLength, MAX_HEAD_BYTES};
use super::{Framing, Step, Wire, WireNotes, WireTimes, head};
use crate::clock::{Clock, Now};
use crate::headers::Headers;
use crate::policy::{DialectName, HeadFlaw};
use crate::proxy::deadline::Deadlines;
use crate::proxy::http1;
use crate::upstream::http1::body::Rest;

/// How a stretch of bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Everything passed.
    Open,
    /// The last bytes are the start of a head.
    InHead,
    Refused(HeadFlaw),
    Broken,
    /// What follows is no HTTP.
    Tunnel,
}

/// What passes of `pieces` one after the other, as [`super::Wire`] asks.
fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Ending, Framing) {
    let (mut framing, mut held, mut out, mut ending) = (Framing::default(), Vec::new(), Vec::new(), Ending::Open);
    for piece in pieces {
        let searched = held.len();
        held.extend_from_slice(piece);
        let step = framing.scan(&held, searched);
        out.extend(held.drain(..step.passed()));
        ending = match step {
            Step::Passed { .. } => Ending::Open,
            Step::PartialHead { .. } => Ending::InHead,
            Step::Refused { flaw, .. } => return (out, Ending::Refused(flaw), framing),
            Step::Broken { .. } => return (out, Ending::Broken, framing),
            Step::Tunnel { .. } => return (out, Ending::Tunnel, framing),
        };
    }
    (out, ending, framing)
}

fn verdict(head: &str) -> Result<BodyLength, HeadFlaw> {
    head::check(head.as_bytes())
}

fn with(headers: &str) -> Result<BodyLength, HeadFlaw> {
    verdict(&format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n{headers}\r\n"))
}

#[test]
fn a_body_has_one_length_told_in_one_way() {
    assert_eq!(with(""), Ok(BodyLength::Known(0)));
    assert_eq!(with("content-length: 0\r\n"), Ok(BodyLength::Known(0)));
    assert_eq!(with("Content-LENGTH:17\r\n"), Ok(BodyLength::Known(17)));
    assert_eq!(with("content-length:   017  \r\n"), Ok(BodyLength::Known(17)));
    assert_eq!(with("content-length: 999999999999999999\r\n"), Ok(BodyLength::Known(999_999_999_999_999_999)));
    assert_eq!(with("transfer-encoding: chunked\r\n"), Ok(BodyLength::Chunked));
    for bad in [
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
        "content-length:\r\n",
        "content-length: +5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 0x5\r\n",
        "content-length:\t5\r\n",
        "content-length: 1000000000000000000\r\n",
        "transfer-encoding: Chunked\r\n",
        "transfer-encoding:\tchunked\r\n",
        "transfer-encoding: chunked\t\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding:\r\n",
    ] {
        assert_eq!(with(bad), Err(HeadFlaw::Framing), "{bad:?}");
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"] {
        let head = format!("{method} /v1/models HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\n");
        assert_eq!(verdict(&head), Err(HeadFlaw::BodyNotExpected), "{method}");
    }
    let old = "POST /v1/chat/completions HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(verdict(old), Err(HeadFlaw::Framing));
}

#[test]
fn nothing_behind_a_head_that_asks_for_a_websocket_is_read_as_http() {
    let head = |target: &str, upgrade: &str| format!("GET {target} HTTP/1.1\r\nhost: h\r\n{upgrade}\r\n");
    for target in ["/v1/realtime?model=m", "/openai/realtime", "/openai/v1/realtime", "http://h/v1/realtime"] {
        for upgrade in ["upgrade: websocket\r\n", "Upgrade: h2c\r\n", "uPGRADE:\r\n"] {
            let asked = head(target, upgrade);
            assert_eq!(verdict(&asked), Ok(BodyLength::Tunnel), "{asked}");
            let bytes = format!("{asked}GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n\0\0garbage");
            for end in asked.len()..=bytes.len() {
                let (out, ending, framing) = passed([&bytes.as_bytes()[..end]]);
                assert_eq!((out, ending, framing), (asked.clone().into_bytes(), Ending::Tunnel, Framing::Tunnel));
            }
        }
        assert_eq!(verdict(&head(target, "")), Ok(BodyLength::Known(0)));
    }
    for target in ["/v1/models", "/v1/realtime/", "/V1/realtime", "/v1/responses", "http://v1/realtime/x"] {
        assert_eq!(verdict(&head(target, "upgrade: websocket\r\n")), Ok(BodyLength::Known(0)), "{target}");
    }
}

#[test]
fn a_target_is_a_path_or_an_absolute_uri_in_a_uris_bytes() {
    let get = |target: &str| verdict(&format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n"));
    for good in ["/", "/v1/models?a=b&c[]=%20~", "http://h/v1/models", "HTTPS://h:443/v1/models?a", "http://h"] {
        assert_eq!(get(good), Ok(BodyLength::Known(0)), "{good}");
    }
    for bad in [
        "*",
        "h:80",
        "h",
        "v1/models",
        "?a",
        "ftp://h/v1/models",
        "http:///v1",
        "http:/v1",
        "//[",
        "/a#b",
        "/a\\b",
        "/a<b",
        "/a|b",
        "/a`",
        "/{a}",
        "/\u{e9}",
    ] {
        let flaw = if bad == "//[" { Ok(BodyLength::Known(0)) } else { Err(HeadFlaw::Path) };
        assert_eq!(get(bad), flaw, "{bad}");
    }
    for bad in ["/a?b#c", "/a?b|c", "/a?\u{e9}", "/a?\"b\""] {
        assert_eq!(get(bad), Err(HeadFlaw::Query), "{bad}");
    }
    assert_eq!(get(&format!("/{}", "a".repeat(8 * 1024 - 1))), Ok(BodyLength::Known(0)));
    assert_eq!(get(&format!("/{}", "a".repeat(8 * 1024))), Err(HeadFlaw::UriTooLong));
}

#[test]
fn a_head_is_bounded_in_every_direction() {
    let lines = |count: usize| "a: b\r\n".repeat(count);
    assert!(with(&lines(99)).is_ok());
    assert_eq!(with(&lines(100)), Err(HeadFlaw::HeadersTooLarge));
    assert!(with(&format!("a: {}\r\n", "b".repeat(8 * 1024))).is_ok());
    assert_eq!(with(&format!("a: {}\r\n", "b".repeat(8 * 1024 + 1))), Err(HeadFlaw::HeadersTooLarge));
    let line = format!("a: {}\r\n", "b".repeat(1019));
    assert!(with(&line.repeat(31)).is_ok());
    assert_eq!(with(&line.repeat(32)), Err(HeadFlaw::HeadersTooLarge));
    let endless = vec![b'a'; MAX_HEAD_BYTES + 1];
    assert_eq!(passed([&endless[..]]).1, Ending::Refused(HeadFlaw::UriTooLong));
    let mut many = b"GET / HTTP/1.1\r\n".to_vec();
    many.extend(b"a: b\r\n".repeat(MAX_HEAD_BYTES / 6));
    assert_eq!(passed([&many[..]]).1, Ending::Refused(HeadFlaw::HeadersTooLarge));
}

#[test]
fn garbage_is_refused_at_its_first_byte_that_no_head_has() {
    for (garbage, at) in
        [(&b"\x16\x03\x01"[..], 1), (b"GET /\0", 6), (b"GET / HTTP/1.1\n", 15), (b"A\rB", 3), (b"\r\n", 1)]
    {
        for end in 1..=garbage.len() {
            let expected = if end < at { Ending::InHead } else { Ending::Refused(HeadFlaw::Syntax) };
            assert_eq!(passed([&garbage[..end]]).1, expected, "{garbage:?} to {end}");
        }
    }
}

#[test]
fn the_dialect_of_a_refused_head_is_that_of_its_path() {
    for (head, dialect) in [
        ("POST /v1/messages HTTP/1.1\r\na b\r\n\r\n", DialectName::Anthropic),
        ("POST /v1beta/models/m:generateContent HTTP/1.1\r\na b\r\n\r\n", DialectName::Gemini),
        ("POST /openai/deployments/m/chat/completions HTTP/1.1\r\na b\r\n\r\n", DialectName::Azure),
        ("POST /v1/chat/completions HTTP/1.1\r\na b\r\n\r\n", DialectName::OpenAi),
        ("\u{16}\u{3}", DialectName::OpenAi),
    ] {
        assert_eq!(head::nearest(head.as_bytes()), dialect, "{head:?}");
    }
}

#[tokio::test]
async fn a_head_that_began_before_the_wire_was_there_is_over_once_it_is_whole() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    let deadlines = Deadlines::new(clock.clone());
    let times = WireTimes { head_ns: 10, keep_alive_ns: 1_000, write_stall_ns: 1_000_000 };
    let notes = WireNotes::new(deadlines.register(), times);
    notes.head_began();
    let (ours, mut theirs) = tokio::io::duplex(1024);
    theirs.write_all(b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    assert!(Wire::new(ours, Rc::clone(&notes)).read(&mut [0; 256]).await.unwrap() > 0);
    notes.request_began();
    notes.request_ended();
    clock.advance_ns(100);
    deadlines.tick();
    assert!(notes.poll_cut(&mut Context::from_waker(Waker::noop())).is_pending(), "the next head has not begun");
}

/// Pieces that requests, good and bad, are made of.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "POST /v1/chat/completions HTTP/1.1\r\n",
        "GET /v1/models HTTP/1.1\r\n",
        "GET http://h/a HTTP/1.0\r\n",
        "host: h\r\n",
        "Host:h\r\n",
        "content-length: 5\r\n",
        "content-length: 0\r\n",
        "transfer-encoding: chunked\r\n",
        "\r\n",
        "\r\n\r\n",
        "hello",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\nx: y\r\n\r\n",
        "5;a=b\r\nhello\r\n",
        "00005\r\nhello\r\n",
        "x: y\r\n",
        " folded\r\n",
        "\r",
        "\n",
        "\0",
        ":",
        " ",
        "\t",
        "a",
        "f",
        "0",
        "x : y\r\n",
        "expect: 100-continue\r\n",
        "ffffffffffffffff\r\n",
    ]);
    prop_oneof![
        12 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
        3 => Just(b"POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc".to_vec()),
        3 => Just(b"POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
    ]
}

/// Several requests' worth of fragments, with splits.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<prop::sample::Index>)> {
    let bytes = prop::collection::vec(fragment(), 1..24).prop_map(|parts| parts.concat());
    (bytes, prop::collection::vec(any::<prop::sample::Index>(), 0..12))
}

fn split<'a>(bytes: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts = at.iter().map(|index| index.index(bytes.len() + 1)).collect::<Vec<_>>();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
}

/// The same verdict; a head with several flaws may be refused for one that shows before the others have arrived.
fn is_same(whole: Ending, pieces: Ending) -> bool {
    whole == pieces || matches!((whole, pieces), (Ending::Refused(_), Ending::Refused(HeadFlaw::Syntax)))
}

/// What others make of a head: httparse, then the types of `http`, then hyper's rules of length.
fn as_others_read(bytes: &[u8]) -> Option<(usize, http::Method, http::Uri, Headers, Option<BodyLength>)> {
    let mut headers = [httparse::EMPTY_HEADER; head::MAX_HEADERS + 1];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).ok()? else { return None };
    let method = http::Method::from_bytes(request.method?.as_bytes()).ok()?;
    let uri = http::Uri::try_from(request.path?.as_bytes()).ok()?;
    let (mut map, mut body) = (Headers::new(), Some(BodyLength::Known(0)));
    for header in request.headers.iter() {
        let name = http::HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = http::HeaderValue::from_bytes(header.value).ok()?;
        map.append(&name, &value);
        if name == http::header::CONTENT_LENGTH {
            body = value.to_str().ok().and_then(|text| text.parse().ok()).map(BodyLength::Known);
        } else if name == http::header::TRANSFER_ENCODING {
            body = (value == "chunked" && request.version == Some(1)).then_some(BodyLength::Chunked);
        }
    }
    Some((length, method, uri, map, body))
}

/// Reads a chunked body as httparse does; says where it ends.
fn chunked_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(&bytes[at..]).ok()? else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        at += usize::try_from(size).ok()?;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    let mut trailers = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(&bytes[at..], &mut trailers).ok()? {
        httparse::Status::Complete((length, _)) => Some(at + length),
        httparse::Status::Partial => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_verdict_does_not_depend_on_how_the_bytes_arrive((bytes, at) in stream()) {
        let whole = passed([&bytes[..]]);
        for pieces in [split(&bytes, &at), bytes.chunks(1).collect()] {
            let (out, ending, framing) = passed(pieces);
            prop_assert_eq!(&out, &whole.0);
            prop_assert!(is_same(whole.1, ending), "{:?} and {:?}", whole.1, ending);
            prop_assert_eq!(framing, whole.2);
        }
    }

    #[test]
    fn whatever_passes_others_read_in_the_same_way((bytes, _) in stream()) {
        let (out, _, framing) = passed([&bytes[..]]);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let Some((length, method, uri, headers, body)) = as_others_read(rest) else {
                return Err(TestCaseError::fail(format!("others refuse {:?}", String::from_utf8_lossy(rest))));
            };
            let ours = head::check(&rest[..length]);
            prop_assert_eq!(ours.ok(), body);
            let asked = http1::head::read(&rest[..length]).expect("what passes is read");
            prop_assert_eq!(&asked.head.method, &method);
            prop_assert_eq!((asked.head.target.path(), asked.head.target.query()), (uri.path(), uri.query()));
            let authority = uri.authority().map(|authority| authority.as_str());
            prop_assert_eq!((asked.head.target.scheme(), asked.head.target.authority()), (uri.scheme_str(), authority));
            prop_assert_eq!(&asked.head.headers, &headers);
            let told = match body {
                Some(BodyLength::Known(length)) => Rest::length(length),
                _ => Rest::chunks(),
            };
            prop_assert_eq!(asked.rest, told);
            let line = String::from_utf8_lossy(&rest[..length]).into_owned();
            prop_assert!(line.starts_with(method.as_str()));
            prop_assert_eq!(line.split(' ').nth(1).unwrap(), uri.to_string());
            rest = &rest[length..];
            match body {
                Some(BodyLength::Known(n)) => rest = &rest[(n as usize).min(rest.len())..],
                Some(BodyLength::Chunked) => match chunked_end(rest) {
                    Some(end) => rest = &rest[end..],
                    None => {
                        prop_assert_ne!(framing, Framing::Head, "only a body that is cut short has no end");
                        break;
                    }
                },
                Some(BodyLength::Tunnel) => return Err(TestCaseError::fail("no fragment asks for a websocket")),
                None => unreachable!("compared above"),
            }
        }
    }

    #[test]
    fn a_good_chunked_body_passes_whole(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6)) {
        let mut bytes = b"POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            bytes.extend(format!("{:X};e=\"f\"\r\n", chunk.len()).into_bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\nchecksum: 1\r\n\r\n");
        let (out, ending, framing) = passed(bytes.chunks(7));
        prop_assert_eq!((out, ending, framing), (bytes, Ending::Open, Framing::Head));
    }

    #[test]
    fn no_head_of_printable_bytes_is_refused_before_it_is_whole(line in "[A-Z]{1,9} [ -~]{0,80}") {
        prop_assert_eq!(passed([line.as_bytes()]).1, Ending::InHead);
    }
}
