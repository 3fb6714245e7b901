//! What the strict edge must not get in the way of, and what becomes of it: split anywhere, pipelined, from old clients; and of a good
//! request's headers only what is the backend's business arrives.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Attack, Edge, chat_with, line, smuggled};
use crate::harness::{self, Backend, Client, Proxy, proxy::ALICE};

fn start() -> (Backend, Proxy) {
    let backend = Backend::json(r#"{"id":"1"}"#);
    let proxy = Proxy::with_key(&backend, "");
    (backend, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_request_is_answered_wherever_it_is_split() {
    let (backend, proxy) = start();
    let json = harness::chat("m", false);
    let (half, rest) = json.split_at(20);
    let chunked = format!("{:x}\r\n{half}\r\n{:x};a=b\r\n{rest}\r\n0\r\nx: y\r\n\r\n", half.len(), rest.len());
    let requests = [
        harness::post("/v1/chat/completions", ALICE, &json),
        chat_with("transfer-encoding: chunked\r\n", &chunked).into_bytes(),
    ];
    let mut client = Client::connect(proxy.address).await;
    let mut count = 0;
    for request in &requests {
        for at in 1..request.len() {
            client.send(&request[..at]).await;
            tokio::task::yield_now().await;
            client.send(&request[at..]).await;
            assert_eq!(client.answer().await.status, 200, "split at {at}");
            count += 1;
        }
        for byte in request {
            client.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer().await.status, 200, "byte by byte");
        count += 1;
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), count);
    assert!(seen.iter().all(|seen| seen.text() == json));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order_up_to_a_bad_one() {
    let (backend, proxy) = start();
    let good = harness::post("/v1/chat/completions", ALICE, &harness::chat("m", false));
    let list = line("GET /v1/models HTTP/1.1").into_bytes();
    let bads = [
        chat_with("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        line("GET /v1/models HTTP/1.2"),
        "\u{16}\u{3}\u{1}".to_owned(),
        chat_with("transfer-encoding: chunked\r\n", "xyz\r\n"),
    ];
    for (number, bad) in bads.iter().enumerate() {
        for in_one in [true, false] {
            let mut client = Client::connect(proxy.address).await;
            let parts = [&good[..], &list, &good, bad.as_bytes(), &good];
            if in_one {
                client.send(&parts.concat()).await;
            } else {
                for part in parts {
                    client.send(part).await;
                }
            }
            for status in [200, 200, 200, 400] {
                let answer = client.answer().await;
                assert_eq!(answer.status, status, "{bad:?}: {}", answer.text());
            }
            assert!(client.is_closed().await, "{bad:?}");
        }
        assert_eq!(backend.seen().len(), (number + 1) * 4, "what follows a bad request is never a request");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_does_not_hold_a_stream_back() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let backend = Backend::start(move |_, mut reply| {
        let told = Arc::clone(&told);
        async move {
            reply.stream_head().await;
            reply.chunk(b"data: 1\n\n").await;
            told.notified().await;
            reply.end().await;
            reply
        }
    });
    let proxy = Proxy::with_key(&backend, "");
    let mut client = Client::connect(proxy.address).await;
    let stream = harness::post("/v1/chat/completions", ALICE, &harness::chat("m", true));
    client.send(&[stream, harness::get("/v1/models", ALICE)].concat()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(client.chunk().await.as_deref(), Some(&b"data: 1\n\n"[..]));
    go_on.notify_one();
    assert_eq!(client.chunk().await.as_deref(), Some(&b""[..]));
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_inside_a_body_is_a_body() {
    let edge = Edge::start();
    let inner = smuggled();
    let length = inner.len();
    // The body is no JSON, so the outer request is refused; what counts is that nobody takes it for two.
    let outer = chat_with(&format!("content-length: {length}\r\n"), &inner);
    let chunked = chat_with("transfer-encoding: chunked\r\n", &format!("{length:x}\r\n{inner}\r\n0\r\n\r\n"));
    edge.refuses(&[Attack::that_leaves_open(outer, 400), Attack::that_leaves_open(chunked, 400)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_http_2_is_ignored_and_never_forwarded() {
    let (backend, proxy) = start();
    let json = harness::chat("m", false);
    let offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    let request = chat_with(&format!("{offer}content-length: {}\r\n", json.len()), &json);
    assert_eq!(Client::once(proxy.address, request.as_bytes()).await.status, 200);
    let seen = &backend.seen()[0];
    for gone in ["upgrade", "http2-settings"] {
        assert_eq!(seen.header(gone), None, "{}", seen.head);
    }
    assert!(!seen.head.to_ascii_lowercase().contains("h2c"), "{}", seen.head);
}

/// Header lines of a client that would like to be somebody else.
const SPOOFED: &str = "connection: close, authorization, host, content-length, content-type, x-named\r\n\
    x-named: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nproxy-authorization: Basic YQ==\r\nte: trailers\r\n\
    trailer: x\r\nx-forwarded-for: 10.0.0.1\r\nx-forwarded-host: admin\r\nx-forwarded-proto: https\r\nforwarded: for=10.0.0.1\r\n\
    x-real-ip: 10.0.0.1\r\ntrue-client-ip: 10.0.0.1\r\ncf-connecting-ip: 10.0.0.1\r\nx-original-url: /admin\r\n\
    x-rewrite-url: /admin\r\nx-http-method-override: DELETE\r\nx_under_score: 1\r\napi_key: 1\r\nx-api-key: alice-secret-0001\r\n\
    api-key: alice-secret-0001\r\nx-goog-api-key: alice-secret-0001\r\nopenai-organization: org-other\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nopenai-beta: assistants=v2\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_neither_add_to_nor_take_from_what_we_set() {
    let (backend, proxy) = start();
    let json = harness::chat("m", false);
    let request = chat_with(&format!("{SPOOFED}content-length: {}\r\n", json.len()), &json);
    let mut client = Client::connect(proxy.address).await;
    client.send(request.as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    assert!(client.is_closed().await, "the client asked for that");
    let seen = &backend.seen()[0];
    let mut names = seen
        .head
        .lines()
        .skip(1)
        .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
        .collect::<Vec<_>>();
    names.sort();
    let expected = [
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "openai-beta",
        "traceparent",
        "x-request-id",
    ];
    assert_eq!(names, expected, "{}", seen.head);
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer upstream-credential-openai"));
    assert_eq!(seen.header("host"), Some(backend.address.to_string()));
    assert_eq!(seen.header("content-length"), Some(json.len().to_string()));
    assert!(!seen.head.contains(ALICE), "{}", seen.head);
}
