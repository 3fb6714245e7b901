//! Slow peers.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{chat_with, line};
use crate::harness::time::{MOMENT, PATIENCE, by_hand, moving};
use crate::harness::{self, Backend, Client, proxy::ALICE};
use keyward::clock::NS_PER_SECOND;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_comes_too_slowly_is_told_so() {
    let backend = Backend::json("{}");
    let (proxy, clock) = by_hand(&backend, "header_timeout = \"10s\"");
    for (start, kind) in [
        ("P", "invalid_request_error"),
        ("POST /v1/messages HTTP/1.1\r\nhost: proxy\r\n", "timeout_error"),
        ("GET /v1/models\r\n", "invalid_request_error"),
    ] {
        let mut client = Client::connect(proxy.address).await;
        client.send(start.as_bytes()).await;
        let answer = moving(&clock, 11, client.answer()).await;
        assert_eq!(answer.status, 408, "{start:?}");
        assert_eq!(answer.json()["error"]["type"], kind, "{start:?}: {}", answer.text());
        assert!(client.is_closed().await);
    }
    let mut silent = Client::connect(proxy.address).await;
    assert!(moving(&clock, 11, silent.is_closed()).await, "who said nothing is told nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_asked_and_closed_his_side_has_the_answer_that_is_there() {
    let backend = Backend::json("{}");
    let (proxy, _clock) = by_hand(&backend, "");
    for (asked, status) in [("GET /v1/models HTTP/1.1", "200"), ("GET /nothing HTTP/1.1", "404")] {
        let mut socket = TcpStream::connect(proxy.address).await.expect("connected");
        socket.write_all(line(asked).as_bytes()).await.expect("sent");
        socket.shutdown().await.expect("closed");
        let mut answer = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("an end").expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{asked}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_waits_for_so_long_and_no_longer() {
    let backend = Backend::json("{}");
    let (proxy, clock) = by_hand(&backend, "keep_alive_timeout = \"75s\"");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..3 {
        client.send(line("GET /v1/models HTTP/1.1").as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
        proxy.quiet().await;
        clock.advance_ns(74 * NS_PER_SECOND);
        // Time for a look at the deadlines, which is to leave it: with none a fault could be missed, but nothing else go wrong.
        tokio::time::sleep(MOMENT).await;
    }
    assert!(moving(&clock, 76, client.is_closed()).await);
    let mut late = Client::connect(proxy.address).await;
    late.send(line("GET /v1/models HTTP/1.1").as_bytes()).await;
    assert_eq!(late.answer().await.status, 200);
    late.send(b"GET /v1/mod").await;
    let answer = moving(&clock, 76, late.answer()).await;
    assert_eq!(answer.status, 408, "a second head has its time as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_coming_is_told_so() {
    let backend = Backend::json("{}");
    let (proxy, clock) = by_hand(&backend, "body_idle_timeout = \"15s\"");
    for (headers, part) in [("content-length: 50\r\n", "{\"mod"), ("transfer-encoding: chunked\r\n", "6\r\n{\"mod")] {
        let mut client = Client::connect(proxy.address).await;
        client.send(chat_with(headers, part).as_bytes()).await;
        let answer = moving(&clock, 16, client.answer()).await;
        assert_eq!(answer.status, 408, "{}", answer.text());
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
        assert!(moving(&clock, 3, client.is_closed()).await);
    }
    assert_eq!(proxy.plane.body_budget.held(), 0);
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_a_slowest_pace() {
    let backend = Backend::json("{}");
    let (proxy, clock) = by_hand(&backend, "body_idle_timeout = \"15s\"\nbody_min_rate = \"1KiB\"");
    let mut client = Client::connect(proxy.address).await;
    client.send(chat_with("content-length: 100000\r\n", "").as_bytes()).await;
    // Ten bytes every ten seconds: never idle, far too slow. The first twenty are within the idle time.
    for sent in [10, 20] {
        client.send(b"          ").await;
        let held = async {
            while proxy.plane.body_budget.held() < sent {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, held).await.expect("the bytes are taken");
        clock.advance_ns(10 * NS_PER_SECOND);
    }
    client.send(b"          ").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert_eq!(proxy.plane.body_budget.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_cut() {
    let backend = Backend::start(|_, mut reply| async move {
        reply.stream_head().await;
        let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "a".repeat(64 * 1024));
        tokio::select! {
            () = async { loop { reply.chunk(event.as_bytes()).await; if reply.is_gone() { break } } } => {}
            () = tokio::time::sleep(PATIENCE) => {}
        }
        reply
    });
    let (proxy, clock) = by_hand(&backend, "write_stall_timeout = \"30s\"");
    let mut client = Client::connect(proxy.address).await;
    client.send(&harness::post("/v1/chat/completions", ALICE, &harness::chat("m", true))).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    moving(&clock, 31, proxy.quiet()).await;
    let gone = async {
        while proxy.plane.metrics.connections.get() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the connection is dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_begun_while_an_answer_runs_does_not_end_the_answer() {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let backend = Backend::start(move |_, mut reply| {
        let told = Arc::clone(&told);
        async move {
            reply.stream_head().await;
            reply.chunk(b"data: 1\n\n").await;
            told.notified().await;
            reply.chunk(b"data: 2\n\n").await;
            reply.end().await;
            reply
        }
    });
    let (proxy, clock) = by_hand(&backend, "header_timeout = \"10s\"");
    let next = line("GET /v1/models HTTP/1.1");
    let (begin, rest) = next.as_bytes().split_at(20);
    for comes_at_once in [true, false] {
        let mut client = Client::connect(proxy.address).await;
        let stream = harness::post("/v1/chat/completions", ALICE, &harness::chat("m", true));
        let (at_once, later) = if comes_at_once { (begin, &b""[..]) } else { (&b""[..], begin) };
        client.send(&[&stream, at_once].concat()).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        assert_eq!(client.chunk().await.as_deref(), Some(&b"data: 1\n\n"[..]));
        client.send(later).await;
        // Other connections of the same worker show that the deadlines have been looked at.
        for _ in 0..2 {
            let mut other = Client::connect(proxy.address).await;
            assert!(moving(&clock, 11, other.is_closed()).await);
        }
        go_on.notify_one();
        assert_eq!(client.chunk().await.as_deref(), Some(&b"data: 2\n\n"[..]));
        assert_eq!(client.chunk().await.as_deref(), Some(&b""[..]));
        client.send(rest).await;
        assert_eq!(client.answer().await.status, 200, "and the head is still a head");
    }
}
