//! The strict edge has its equal over HTTP/2: what could be read in two ways is refused, in the caller's dialect where there is a head to answer,
//! and with the reset of the stream where there is none (RFC 9113 8.1.1).

use super::*;
use crate::harness::h2::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, block};

type Fields = Vec<(String, String)>;

fn good(method: &str) -> Fields {
    let path = if method == "POST" { CHAT } else { "/v1/models" };
    h2::fields(method, path, ALICE)
}

/// A good GET with one field set, or added where there is none of that name.
fn with(name: &str, value: &str) -> Fields {
    let mut fields = good("GET");
    match fields.iter_mut().find(|(n, _)| n == name) {
        Some(field) => field.1 = value.to_owned(),
        None => fields.push((name.to_owned(), value.to_owned())),
    }
    fields
}

fn without(name: &str) -> Fields {
    good("GET").into_iter().filter(|(n, _)| n != name).collect()
}

fn and(mut fields: Fields, name: &str, value: &str) -> Fields {
    fields.push((name.to_owned(), value.to_owned()));
    fields
}

/// A proxy and a connection to it.
async fn start() -> (Backend, Proxy, H2) {
    let backend = Backend::json(USAGE);
    let proxy = Proxy::with_key(&backend, "");
    let client = H2::connect(proxy.address).await;
    (backend, proxy, client)
}

/// Nothing reached the backend, and the connection serves the next request.
async fn is_unharmed(backend: &Backend, proxy: &Proxy, client: &mut H2) {
    let stream = client.get("/v1/models", ALICE).await;
    assert_eq!(client.answer(stream).await.status(), 200);
    assert_eq!(backend.connections(), 0);
    proxy.quiet().await;
    let metrics = proxy.metrics_text();
    assert!(!metrics.contains("status=\"5xx\"") && !metrics.contains("keyward_faults_total{"), "{metrics}");
}

fn is_worded(got: &Got, what: &str) {
    assert_eq!(got.end, Some(End::Clean), "{what}");
    assert_eq!(got.header("content-type").as_deref(), Some("application/json"), "{what}");
    assert!(got.json()["error"]["message"].is_string(), "{what}: {}", got.text());
    assert!(got.header("x-request-id").is_some() && got.header("connection").is_none(), "{what}: {:?}", got.head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_refused_in_words() {
    let (backend, proxy, mut client) = start().await;
    let long = |length: usize| "a".repeat(length);
    let many = (0..100).fold(good("GET"), |fields, n| and(fields, &format!("x-{n}"), "1"));
    let refused: Vec<(Fields, u16)> = vec![
        (with(":authority", "me@proxy"), 400),
        (without(":authority"), 400),
        (with("host", "other"), 400),
        (with("host", "proxy/x"), 400),
        (and(with("host", "proxy"), "host", "proxy"), 400),
        (with(":scheme", "ftp"), 400),
        (with(":path", "/v1//models"), 400),
        (with(":path", "/v1/./models"), 400),
        (with(":path", "/v1/%2e%2e/models"), 400),
        (with(":path", "/v1/models;x"), 400),
        (with(":path", "/v1/mod\"els"), 400),
        (with(":path", "/V1/models"), 404),
        (with(":path", "*"), 400),
        (with(":path", "/v1/models?a={"), 400),
        (with(":path", &format!("/v1/models?{}", long(8192))), 414),
        (with("x", &long(8193)), 431),
        (many, 431),
        (with("x", " y"), 400),
        (with("x", "y\t"), 400),
        (with("expect", "a-miracle"), 417),
        (with(":method", "TRACE"), 405),
        (with(":method", "BREW"), 405),
        (with(":method", "ABCDEFGHIJKLMNOPQ"), 400),
        (and(with("content-length", "0"), "content-length", "0"), 400),
        (with("x-api-key", "another-secret-0001"), 401),
    ];
    for (fields, status) in refused {
        let stream = client.open(&fields, true).await;
        let got = client.answer(stream).await;
        let what = format!("{:.300}", format!("{fields:?}"));
        assert_eq!(got.status(), status, "{what}: {}", got.text());
        is_worded(&got, &what);
    }
    is_unharmed(&backend, &proxy, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_opens_no_tunnel() {
    let (backend, proxy, mut client) = start().await;
    let connect = [(":method", "CONNECT"), (":authority", "proxy:80"), ("authorization", &format!("Bearer {ALICE}"))];
    let stream = client.open(&connect, false).await;
    let got = client.answer(stream).await;
    assert_eq!(got.status(), 405, "{got:?}");
    is_worded(&got, "CONNECT");
    let extended = and(with(":method", "CONNECT"), ":protocol", "websocket");
    let mut fields = extended.clone();
    fields.sort_by_key(|(name, _)| !name.starts_with(':'));
    let stream = client.open(&fields, false).await;
    assert_eq!(client.answer(stream).await.end, Some(End::Reset(PROTOCOL_ERROR)), "extended CONNECT is not offered");
    is_unharmed(&backend, &proxy, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_head_resets_its_stream() {
    let (backend, proxy, mut client) = start().await;
    let late_pseudo = {
        let mut fields = good("GET");
        fields.rotate_left(1);
        fields
    };
    let malformed = [
        with("connection", "close"),
        with("transfer-encoding", "chunked"),
        with("upgrade", "h2c"),
        with("keep-alive", "1"),
        with("proxy-connection", "close"),
        with("te", "gzip"),
        with("te", "trailers, gzip"),
        without(":method"),
        without(":scheme"),
        without(":path"),
        with(":path", ""),
        and(good("GET"), ":path", "/v1/models"),
        with(":authority", "proxy/x"),
        with(":authority", "pro xy"),
        late_pseudo,
        with("content-length", "5"),
        with("content-length", "-1"),
    ];
    for fields in malformed {
        let stream = client.open(&fields, true).await;
        let got = client.answer(stream).await;
        assert!(matches!(got.end, Some(End::Reset(_))), "{fields:?}: {got:?}");
    }
    is_unharmed(&backend, &proxy, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_pseudo_header_ends_the_connection() {
    let (backend, proxy, mut client) = start().await;
    let stream = client.open(&with(":unknown", "x"), true).await;
    assert_eq!(client.answer(stream).await.end, Some(End::Lost));
    let mut client = H2::connect(proxy.address).await;
    is_unharmed(&backend, &proxy, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_no_field_has_are_taken_by_nobody() {
    for (name, value) in [
        (&b"X-Upper"[..], &b"1"[..]),
        (b"x y", b"1"),
        (b"x:", b"1"),
        (b"", b"1"),
        (b"x\r\n", b"1"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\0b"),
        (b"x", b"a\nb"),
        (b"x", b"\x7f"),
    ] {
        let (backend, proxy, mut client) = start().await;
        let mut head = block(&good("GET"));
        head.extend(block(&[(name, value)]));
        let stream = client.stream();
        client.send_frame(HEADERS, END_HEADERS | END_STREAM, stream, &head).await;
        let got = client.answer(stream).await;
        assert!(got.head.is_empty() || got.status() == 400, "{name:?} {value:?}: {got:?}");
        assert_ne!(got.end, None);
        assert_eq!(backend.connections(), 0);
        proxy.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_as_long_as_it_says_and_only_where_one_may_be() {
    let (backend, proxy, mut client) = start().await;
    for method in ["GET", "HEAD", "OPTIONS"] {
        let stream = client.open(&good(method), false).await;
        let got = client.answer(stream).await;
        assert_eq!(got.status(), 400, "{method} with a body: {got:?}");
    }
    let post = |length: &str| and(and(good("POST"), "content-type", "application/json"), "content-length", length);
    let body = harness::chat("m", false);
    for length in [body.len() - 1, body.len() + 1] {
        let stream = client.open(&post(&length.to_string()), false).await;
        client.send_frame(DATA, END_STREAM, stream, body.as_bytes()).await;
        let got = client.answer(stream).await;
        assert!(matches!(got.end, Some(End::Reset(_))), "{length}: {got:?}");
    }
    for length in ["5x", "", "+5", "99999999999999999999"] {
        let stream = client.open(&post(length), false).await;
        client.send_frame(DATA, END_STREAM, stream, body.as_bytes()).await;
        let got = client.answer(stream).await;
        assert!(got.status() == 400 || matches!(got.end, Some(End::Reset(_))), "{length:?}: {got:?}");
    }
    // A length beyond the limit is refused before a byte of it comes.
    let stream = client.open(&post("99999999999"), false).await;
    let got = client.until(stream, 1).await;
    assert_eq!(got.status(), 413, "{got:?}");
    is_unharmed(&backend, &proxy, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_are_dropped_and_te_trailers_goes_nowhere() {
    let (backend, proxy, mut client) = start().await;
    let post = and(and(good("POST"), "content-type", "application/json"), "te", "trailers");
    let stream = client.open(&post, false).await;
    client.send_frame(DATA, 0, stream, harness::chat("m", false).as_bytes()).await;
    client.send_frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x-late", "1")])).await;
    assert_eq!(client.answer(stream).await.status(), 200);
    let seen = &backend.seen()[0];
    assert_eq!((seen.header("x-late"), seen.header("te"), seen.header("trailer")), (None, None, None));
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_in_pieces_is_one_and_a_larger_one_than_allowed_is_refused() {
    let (backend, proxy, mut client) = start().await;
    let head = block(&good("GET"));
    let (first, rest) = head.split_at(7);
    let stream = client.stream();
    client.send_frame(HEADERS, END_STREAM, stream, first).await;
    client.send_frame(CONTINUATION, END_HEADERS, stream, rest).await;
    assert_eq!(client.answer(stream).await.status(), 200);
    let large = (0..3).fold(good("GET"), |fields, n| and(fields, &format!("x-{n}"), &"a".repeat(6_000)));
    let head = block(&large);
    let stream = client.stream();
    let (first, rest) = head.split_at(16_000);
    client.send_frame(HEADERS, END_STREAM, stream, first).await;
    client.send_frame(CONTINUATION, END_HEADERS, stream, rest).await;
    assert_eq!(client.answer(stream).await.status(), 431);
    is_unharmed(&backend, &proxy, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_nearly_http_2_is_no_http() {
    let (backend, proxy, _) = start().await;
    for (bytes, status) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"[..], Some(400)),
        (b"PRI * HTTP/1.1\r\nhost: proxy\r\n\r\n", Some(400)),
        (b"PRI * HTTP/2.0\r\n\r\n", Some(400)),
        (b"PRI", None),
    ] {
        let mut client = Client::connect(proxy.address).await;
        client.send(bytes).await;
        assert_eq!(client.finish().await, status, "{:?}", String::from_utf8_lossy(bytes));
    }
    // A good one, byte by byte.
    let mut client = H2::over(tokio::net::TcpStream::connect(proxy.address).await.expect("a connection"));
    for byte in h2::PREFACE {
        client.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    client.send(&h2::frame(h2::SETTINGS, 0, 0, &[])).await;
    is_unharmed(&backend, &proxy, &mut client).await;
}
