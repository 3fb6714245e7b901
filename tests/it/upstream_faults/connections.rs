//! What goes on around answers: closed connections, dead endpoints, answers that come too early.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::{is_told, proxy, serve, serves_again, used};
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::{self, RawBackend};
use crate::harness::{Client, apis};

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_closes_its_connections_between_requests_fails_none() {
    let closed = Arc::new(Notify::new());
    let note = Arc::clone(&closed);
    let backend = RawBackend::start(move |mut stream, _| {
        let note = Arc::clone(&note);
        async move {
            if raw_backend::read_request(&mut stream).await {
                raw_backend::write(&mut stream, JSON).await;
                drop(stream);
                note.notify_one();
            }
        }
    });
    let proxy = proxy(&[backend.address], "retries = 0");
    let mut client = Client::connect(proxy.address).await;
    for round in 1..=50 {
        client.send(&apis::OPENAI.call(ALICE, "")).await;
        assert_eq!(client.answer().await.status, 200, "request {round}");
        closed.notified().await;
    }
    assert_eq!(backend.connections(), 50);
    used(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_said_to_close_is_not_used_again() {
    let backend = RawBackend::start(|mut stream, _| async move {
        while raw_backend::read_request(&mut stream).await {
            let json = JSON.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
            raw_backend::write(&mut stream, json).await;
        }
    });
    let proxy = proxy(&[backend.address], "retries = 0");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..10 {
        client.send(&apis::OPENAI.call(ALICE, "")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None), "the client's connection stays");
    }
    assert_eq!(backend.connections(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_with_its_connection_passes() {
    let backend = RawBackend::start(|mut stream, _| async move {
        raw_backend::read_request(&mut stream).await;
        raw_backend::write(&mut stream, "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"a\":1}").await;
    });
    let proxy = proxy(&[backend.address], "");
    for api in apis::ALL {
        let answer = Client::once(proxy.address, &api.call(ALICE, "")).await;
        assert_eq!((answer.status, answer.text().as_str(), answer.is_whole), (200, "{\"a\":1}", true));
    }
    assert!(used(&proxy).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_endpoint_of_two_fails_no_request() {
    let live = RawBackend::start(|stream, _| serve(stream));
    for addresses in [[raw_backend::dead_address(), live.address], [live.address, raw_backend::dead_address()]] {
        let proxy = proxy(&addresses, "retries = 1");
        for _ in 0..10 {
            serves_again(&proxy).await;
        }
    }
    let proxy = proxy(&[raw_backend::dead_address(), live.address], "retries = 0");
    let answer = Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await;
    is_told(&apis::OPENAI, &answer, "upstream_unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_may_have_read_is_not_sent_to_another() {
    let breaking = RawBackend::start(|mut stream, _| async move {
        raw_backend::read_request(&mut stream).await;
    });
    let other = RawBackend::start(|stream, _| serve(stream));
    let proxy = proxy(&[breaking.address, other.address], "retries = 5");
    for api in apis::ALL {
        is_told(api, &Client::once(proxy.address, &api.call(ALICE, "")).await, "upstream_broken");
    }
    assert_eq!((breaking.connections(), other.connections()), (4, 0));
    assert_eq!(used(&proxy).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirection_passes_and_is_not_followed() {
    let backend = RawBackend::start(|mut stream, _| async move {
        while raw_backend::read_request(&mut stream).await {
            let answer = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\n\r\n";
            raw_backend::write(&mut stream, answer).await;
        }
    });
    let proxy = proxy(&[backend.address], "");
    for api in apis::ALL {
        let answer = Client::once(proxy.address, &api.call(ALICE, "")).await;
        assert_eq!(answer.status, 307);
        assert_eq!(answer.header("location").as_deref(), Some("http://127.0.0.1:1/elsewhere"));
    }
    assert_eq!(used(&proxy).await, 0);
}

/// A body that no socket's buffers hold.
fn large() -> Vec<u8> {
    let text = "a".repeat(24 * 1024 * 1024);
    let body = format!(
        "{{\"model\":\"gpt-4o\",\"max_tokens\":1,\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
    );
    apis::OPENAI.request(apis::OPENAI.path, ALICE, "", &body)
}

async fn early_answer(closes: bool) {
    let backend = RawBackend::start(move |mut stream, connection| async move {
        if connection > 0 {
            return serve(stream).await;
        }
        raw_backend::read_head(&mut stream).await;
        let answer = "HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        raw_backend::write(&mut stream, answer).await;
        if !closes {
            // Neither reads nor closes, as long as the test runs.
            std::future::pending::<()>().await;
        }
    });
    let text = apis::config(&[backend.address], "workers = 1", "", "").replacen("workers = 2\n", "", 1);
    let keys = crate::harness::Proxy::keys_of(&[("alice", ALICE, "quota_limit = 1000000000\nmax_parallel = 1")]);
    let proxy = crate::harness::Proxy::start(&text, &keys, keyward::clock::Clock::system());
    let answer = Client::once(proxy.address, &large()).await;
    // A backend that closes on unread bytes resets the connection, and its answer may be lost by that.
    assert!(answer.status == 413 || closes && answer.status == 502, "{}: {}", answer.status, answer.text());
    assert_eq!(used(&proxy).await, 0);
    timeout(Duration::from_secs(5), serves_again(&proxy))
        .await
        .expect("the next request does not wait for the last one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_request_was_read_passes() {
    early_answer(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_and_an_end_before_the_request_was_read() {
    early_answer(true).await;
}
