//! Answers as upstreams write them, good and bad, in whatever pieces.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::headers::Headers;

const HEAD: &str = "HTTP/1.1 200 OK\r\n";

fn read(bytes: &str, method: &Method) -> Result<Option<Head>, Malformed> {
    Head::read(bytes.as_bytes(), method)
}

fn whole(head: &str) -> Head {
    read(&format!("{head}\r\n"), &Method::POST).expect("well formed").expect("whole")
}

#[test]
fn a_head_says_where_its_body_ends() {
    let of = |headers: &str| whole(&format!("{HEAD}{headers}")).rest;
    assert_eq!(of("content-length: 12\r\n"), Rest::Length(12));
    assert_eq!(of("Content-Length: 12\r\nContent-Length: 12, 12\r\n"), Rest::Length(12));
    assert_eq!(of("content-length: 0\r\n"), Rest::Over);
    assert_eq!(of("transfer-encoding: Chunked\r\n"), Rest::chunks());
    assert_eq!(of("content-length: 3\r\ntransfer-encoding: chunked\r\n"), Rest::chunks(), "the chunks are believed");
    assert_eq!(of(""), Rest::UntilClose);
    for status in ["204 No Content", "304 Not Modified", "101 Switching Protocols"] {
        let head = whole(&format!("HTTP/1.1 {status}\r\ncontent-length: 9\r\n"));
        assert_eq!(head.rest, Rest::Over, "{status}");
    }
    let head = read("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", &Method::HEAD).unwrap().unwrap();
    assert_eq!((head.rest, head.keeps_alive), (Rest::Over, true));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for headers in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 3\r\n",
        "content-length: -2\r\n",
        "content-length: +2\r\n",
        "content-length: 2x\r\n",
        "content-length: \r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "x-a : b\r\n",
        "x-a: b\r\n c\r\n",
        "x-a: \0\r\n",
        "x a: b\r\n",
        ": b\r\n",
    ] {
        assert!(read(&format!("{HEAD}{headers}\r\n"), &Method::POST).is_err(), "{headers:?}");
    }
    for head in [
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n",
        "HTTP/2 200 OK\r\n",
        "HTTP/1.1 99 X\r\n",
        "ICY 200 OK\r\n",
    ] {
        assert!(read(&format!("{head}\r\n"), &Method::POST).is_err(), "{head:?}");
    }
    let long = format!("{HEAD}x-a: {}", "a".repeat(head::MOST_BYTES));
    assert!(read(&long, &Method::POST).is_err());
    assert!(matches!(read(&long[..1_000], &Method::POST), Ok(None)));
}

/// What httparse and the library's types make of an answer: its status, whether it is HTTP/1.1, its headers and its length.
fn as_others_read(bytes: &[u8]) -> Result<Option<(StatusCode, bool, Headers, usize)>, ()> {
    let mut room = [httparse::EMPTY_HEADER; 128];
    let mut read = httparse::Response::new(&mut room);
    let length = match read.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let status = StatusCode::from_u16(read.code.ok_or(())?).map_err(|_| ())?;
    let lines = read.headers.iter().map(|header| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| ())?;
        Ok((name, HeaderValue::from_bytes(header.value).map_err(|_| ())?))
    });
    Ok(Some((status, read.version == Some(1), lines.collect::<Result<_, ()>>()?, length)))
}

/// Whether both take the same for a head, for none, and for the start of one.
fn is_read_as_others_read_it(bytes: &[u8]) -> Result<(), TestCaseError> {
    let text = bytes.escape_ascii();
    match (Head::read(bytes, &Method::HEAD), as_others_read(bytes)) {
        (Err(_), Err(())) | (Ok(None), Ok(None)) => {}
        (Ok(Some(ours)), Ok(Some((status, is_1_1, headers, length)))) => {
            prop_assert_eq!((ours.answer.status, ours.length), (status, length), "{}", text);
            prop_assert_eq!(&ours.answer.headers, &headers, "{}", text);
            let is_kept_alone = !headers.contains_key("connection");
            prop_assert!(!is_kept_alone || ours.keeps_alive == is_1_1, "{}", text);
        }
        (ours, theirs) => prop_assert!(false, "{ours:?} and {theirs:?} of {text}"),
    }
    Ok(())
}

/// Lines as upstreams write them, and near misses.
fn answer_line() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "x-a: b",
        "Content-Type: text/plain; charset=utf-8",
        "X-Empty:",
        "x-tab:\t two \t words \t",
        "server:nothing",
        "x a: b",
        "x-a : b",
        " folded",
        "\tfolded",
        "nocolon",
        ": b",
        "",
        "HTTP/1.1 200 OK",
        "x-\u{e9}: b",
        "x: \u{e9}",
        "x-nul: \0",
        "x\rb: c",
    ]);
    prop_oneof![
        8 => known.prop_map(|line| line.as_bytes().to_vec()),
        2 => "[A-Za-z!#$%&'*+.^_`|~0-9-]{1,12}:[ -~\t]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

fn answer_head() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "HTTP/1.1 200 OK",
        "HTTP/1.0 404 Not Found",
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1 099 X",
        "HTTP/1.1 1000 X",
        "HTTP/1.2 200 OK",
        "HTTP/2 200",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 599 \u{e9}t\u{e9}",
        "ICY 200 OK",
        "HTTP/1.1\t200 OK",
        "",
        "\r",
        "HTTP/1.1 200 a\rb",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 204 \0",
    ]);
    let ends = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\n\r", ""]);
    let line = (answer_line(), ends.clone()).prop_map(|(line, end)| [&line[..], end.as_bytes()].concat());
    let lines = prop::collection::vec(line, 0..6).prop_map(|lines| lines.concat());
    let empty = prop::sample::select(vec!["", "", "", "\r\n", "\n", "\r", "\r\n\n"]);
    (empty, first, ends, lines, prop::sample::select(vec!["\r\n", "\n", "\r", ""])).prop_map(
        |(empty, first, end, lines, last)| {
            [empty.as_bytes(), first.as_bytes(), end.as_bytes(), &lines, last.as_bytes()].concat()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_head_is_what_others_read(mut bytes in answer_head(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        is_read_as_others_read_it(&bytes)?;
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        for length in 0..=bytes.len() {
            is_read_as_others_read_it(&bytes[..length])?;
        }
    }
}

#[test]
fn headers_are_as_many_as_others_read() {
    for count in [127, 128, 129] {
        let head = format!("{HEAD}{}\r\n", "x-a: b\r\n".repeat(count));
        is_read_as_others_read_it(head.as_bytes()).expect("alike");
        assert_eq!(Head::read(head.as_bytes(), &Method::POST).is_ok(), count <= 128, "{count}");
    }
}

/// What becomes of a second request on a connection whose upstream does `meanwhile` while the request waits for its turn to be written.
async fn second(meanwhile: impl AsyncFnOnce(DuplexStream) -> Option<DuplexStream>) -> Result<AnswerHead, Unanswered> {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let mut connection = Connection::new(Stream::Script(ours), u64::MAX);
    let (room, turn, request) = (Room::default(), Turn::default(), request(b"{}"));
    let mut turns = std::pin::pin!(turn.run());
    let first = async {
        theirs.read_exact(&mut [0; 16]).await.unwrap();
        theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    };
    let (answered, ()) = tokio::join!(connection.send(&request, THERE, &room, &turn), first);
    answered.expect("answered");
    assert!(connection.is_free());
    let mut sending = std::pin::pin!(connection.send(&request, THERE, &room, &turn));
    // From here on turns are ended.
    assert!(poll_fn(|cx| Poll::Ready(turns.as_mut().poll(cx).is_pending())).await);
    assert!(poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending())).await, "it waits for its turn");
    let _open = meanwhile(theirs).await;
    tokio::select! {
        biased;
        never = turns => match never {},
        answered = sending => answered,
    }
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_comes_back_unsent_where_the_upstream_closes_or_speaks_meanwhile() {
    let closed = second(async |theirs| {
        drop(theirs);
        None
    });
    assert!(closed.await.is_err_and(|unanswered| unanswered.is_unsent));
    let spoken = second(async |mut theirs| {
        theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        Some(theirs)
    });
    assert!(spoken.await.is_err_and(|unanswered| unanswered.is_unsent), "an answer to nothing is nobody's");
}

#[test]
fn a_connection_is_kept_where_both_versions_say_so() {
    let keeps = |head: &str| whole(&format!("{head}content-length: 1\r\n")).keeps_alive;
    assert!(keeps(HEAD));
    assert!(!keeps("HTTP/1.1 200 OK\r\nconnection: keep-alive, Close\r\n"));
    assert!(!keeps("HTTP/1.0 200 OK\r\n"));
    assert!(keeps("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n"));
    assert!(!whole(HEAD).keeps_alive, "its end is the connection's");
}

#[test]
fn header_values_are_those_of_the_head_wherever_they_stand() {
    let head = whole(&format!("{HEAD}x-a: one\r\nx-empty:\r\nx-a:  two \r\n"));
    let values = head.answer.headers.get_all("x-a").iter().collect::<Vec<_>>();
    assert_eq!(values, ["one", "two"]);
    assert_eq!(&head.answer.headers["x-empty"], "");
}

/// The content of `bytes`, taken in pieces of these lengths in turn, and what was left behind its end.
fn content(mut rest: Rest, bytes: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, Vec<u8>, Rest), Malformed> {
    let (mut out, mut at, mut turn) = (Vec::new(), 0, 0);
    while at < bytes.len() && !rest.is_over() {
        let length = pieces.get(turn % pieces.len().max(1)).copied().unwrap_or(bytes.len()).max(1);
        turn += 1;
        let piece = &bytes[at..bytes.len().min(at + length)];
        let mut left = piece;
        while let Some(found) = rest.next(&mut left)? {
            out.extend_from_slice(found);
        }
        at += piece.len() - left.len();
    }
    Ok((out, bytes[at..].to_vec(), rest))
}

#[test]
fn chunks_are_joined_and_what_is_beside_them_is_dropped() {
    let body = b"4;name=value\r\nWiki\r\n00006 \r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nx-trailer: 1\r\nx-other: 2\r\n\r\nHTTP";
    let (out, behind, rest) = content(Rest::chunks(), body, &[]).expect("well formed");
    assert_eq!(
        (out.as_slice(), behind.as_slice(), rest),
        (&b"Wikipedia in \r\n\r\nchunks."[..], &b"HTTP"[..], Rest::Over)
    );
}

#[test]
fn chunks_that_are_none_are_refused() {
    for body in [
        "\r\n",
        ";a\r\n",
        "g\r\n",
        "-1\r\n",
        "0x1\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\nab\r\n",
        "1 1\r\n",
        "1;a\nb\r\n",
        "00000000000000001\r\na\r\n",
        "0\r\nx: y\n\r\n",
        "0\r\n\n",
        "0\r\n\rx",
    ] {
        assert!(content(Rest::chunks(), body.as_bytes(), &[]).is_err(), "{body:?}");
    }
    let long = format!("1;{}\r\na\r\n", "a".repeat(20_000));
    assert!(content(Rest::chunks(), long.as_bytes(), &[]).is_err(), "an extension without end");
    let long = format!("0\r\n{}", "x: y\r\n".repeat(10_000));
    assert!(content(Rest::chunks(), long.as_bytes(), &[]).is_err(), "trailers without end");
}

proptest! {
    #[test]
    fn where_the_bytes_are_cut_changes_nothing(
        parts in proptest::collection::vec(prop_oneof![
            "[\r\n03a; ]", "[0-9a-fA-F]{1,17}\r\n", "0{0,9}[1-4]\r\n", "[ab]{1,4}\r\n", any::<char>().prop_map(String::from)
        ], 0..40),
        pieces in proptest::collection::vec(1_usize..7, 1..5),
        length in 0_u64..50,
    ) {
        let bytes = parts.concat().into_bytes();
        // Byte by byte too: what is usual is read at once where it lies whole in a piece.
        for rest in [Rest::chunks(), Rest::length(length), Rest::UntilClose] {
            let whole = content(rest.clone(), &bytes, &[]);
            prop_assert_eq!(content(rest.clone(), &bytes, &pieces), whole.clone());
            prop_assert_eq!(content(rest, &bytes, &[1]), whole);
        }
    }

    #[test]
    fn what_was_chunked_comes_out_again(parts in proptest::collection::vec("[a-z\r\n]{1,40}", 0..6), pieces in proptest::collection::vec(1_usize..9, 1..4)) {
        let mut body = parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect::<String>();
        body.push_str("0\r\n\r\n");
        let (out, behind, rest) = content(Rest::chunks(), body.as_bytes(), &pieces).unwrap();
        prop_assert_eq!((out, behind, rest), (parts.concat().into_bytes(), Vec::new(), Rest::Over));
    }
}

fn pair(room: usize) -> (Connection, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(room);
    (Connection::new(Stream::Script(ours), u64::MAX), theirs)
}

fn request(body: &'static [u8]) -> Outgoing {
    Outgoing {
        method: Method::POST,
        path_and_query: "/v1/x?y=1".to_owned(),
        headers: [(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))].into_iter().collect(),
        body: Bytes::from_static(body),
        plain_headers: None,
    }
}

static HOST: HeaderValue = HeaderValue::from_static("h:1");
const THERE: Destination<'static> = Destination { prefix: "/v1", host: &HOST };

/// All content to the end, and how many pieces it came in.
async fn content_of(connection: &mut Connection, room: &Room) -> (io::Result<Vec<u8>>, usize) {
    let (mut all, mut pieces) = (Vec::new(), 0);
    loop {
        match poll_fn(|cx| connection.poll_content(cx, room)).await {
            Some(Ok(content)) => all.extend_from_slice(&content),
            Some(Err(error)) => return (Err(error), pieces),
            None => return (Ok(all), pieces),
        }
        pieces += 1;
    }
}

#[tokio::test]
async fn one_request_after_another_goes_over_it() {
    let (mut connection, mut theirs) = pair(4096);
    let (room, turn) = (Room::default(), Turn::default());
    for _ in 0..3 {
        let backend = async {
            let expected = b"POST /v1/x?y=1 HTTP/1.1\r\nhost: h:1\r\nx-a: b\r\ncontent-length: 2\r\n\r\n{}";
            let mut got = vec![0; expected.len()];
            theirs.read_exact(&mut got).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expected));
            // Interim answers come first; three chunks at once leave as one piece.
            theirs
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nx: y\r\n\r\nHTTP/1.1 200 OK\r\n")
                .await
                .unwrap();
            theirs
                .write_all(b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
                .await
                .unwrap();
        };
        let request = request(b"{}");
        let (parts, ()) = tokio::join!(connection.send(&request, THERE, &room, &turn), backend);
        assert_eq!(parts.unwrap().status, 200);
        let (content, pieces) = content_of(&mut connection, &room).await;
        assert_eq!((content.unwrap().as_slice(), pieces), (&b"abc"[..], 1));
        assert!(connection.is_free());
    }
    drop(theirs);
    assert!(!connection.is_free(), "it was closed");
}

#[tokio::test]
async fn a_connection_with_something_left_on_it_is_not_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n!",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let (mut connection, mut theirs) = pair(4096);
        let room = Room::default();
        theirs.write_all(answer.as_bytes()).await.unwrap();
        connection.send(&request(b"{}"), THERE, &room, &Turn::default()).await.unwrap();
        content_of(&mut connection, &room).await.0.unwrap();
        assert!(!connection.is_free(), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_before_the_request_was_taken_is_one_and_the_rest_is_written_meanwhile() {
    static BODY: [u8; 10_000] = [b'x'; 10_000];
    let (mut connection, mut theirs) = pair(64);
    let room = Room::default();
    theirs.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nno").await.unwrap();
    let parts = connection.send(&request(&BODY), THERE, &room, &Turn::default()).await.unwrap();
    assert_eq!(parts.status, 413);
    let taking = async {
        let mut taken = vec![0; 5_000];
        theirs.read_exact(&mut taken).await.unwrap();
        theirs.write_all(b"!!").await.unwrap();
        theirs
    };
    let ((content, _), _theirs) = tokio::join!(content_of(&mut connection, &room), taking);
    assert_eq!(content.unwrap(), b"no!!");
    assert!(!connection.is_free(), "the rest of the request is still to be read");
}

#[tokio::test]
async fn a_request_comes_back_only_where_nothing_of_it_was_taken() {
    let (room, turn) = (Room::default(), Turn::default());
    let (mut connection, theirs) = pair(64);
    drop(theirs);
    let unanswered = connection.send(&request(b"{}"), THERE, &room, &turn).await.unwrap_err();
    assert!(unanswered.is_unsent, "{unanswered:?}");
    let (mut connection, mut theirs) = pair(64);
    let closing = async {
        theirs.read_exact(&mut [0; 8]).await.unwrap();
        drop(theirs);
    };
    let request = request(b"{}");
    let (unanswered, ()) = tokio::join!(connection.send(&request, THERE, &room, &turn), closing);
    assert!(!unanswered.unwrap_err().is_unsent);
}

#[tokio::test]
async fn an_end_before_the_end_is_no_clean_one() {
    for (headers, is_clean) in
        [("content-length: 5\r\n", false), ("transfer-encoding: chunked\r\n", false), ("connection: close\r\n", true)]
    {
        let (mut connection, mut theirs) = pair(4096);
        let room = Room::default();
        theirs.write_all(format!("{HEAD}{headers}\r\n2\r\n").as_bytes()).await.unwrap();
        connection.send(&request(b"{}"), THERE, &room, &Turn::default()).await.unwrap();
        drop(theirs);
        assert_eq!(content_of(&mut connection, &room).await.0.is_ok(), is_clean, "{headers}");
        assert!(!connection.is_free());
    }
}
