//! Answers that are no stream between two events: mid-event, JSON, before the head, and with nobody listening.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyward::clock::Clock;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{ALICE, Gated, SOON, disable, remove, rest, settled, start};
use crate::harness::raw_backend::{self, RawBackend};
use crate::harness::{Backend, Client, Proxy, Reply, apis, log, still};

/// A backend that does `script` with each answer and then waits until it is cancelled, which it notes.
fn hanging(head_and_start: &'static str) -> Gated {
    let gone = Arc::new(Notify::new());
    let note = Arc::clone(&gone);
    let backend = Backend::start(move |_, mut reply: Reply| {
        let note = Arc::clone(&note);
        async move {
            reply.raw(head_and_start).await;
            reply.until_gone().await;
            note.notify_one();
            reply
        }
    });
    Gated { backend, go: Arc::new(tokio::sync::Semaphore::new(0)), gone }
}

const HALF_JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"usage\":";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_middle_of_an_event_the_connection_breaks() {
    for api in [&apis::ANTHROPIC, &apis::GEMINI] {
        let gated = Gated::cutting(Some(10));
        let (proxy, _) = start(&gated, "", "");
        let entry = proxy.entry(ALICE);
        let mut client = Client::connect(proxy.address).await;
        client.send(&api.stream_call(ALICE, "")).await;
        let head = client.head().await;
        assert_eq!(client.chunk().await.as_deref(), Some(&api.events[0].as_bytes()[..10]));
        disable(&proxy);
        let (text, is_whole) = timeout(SOON, rest(&mut client)).await.expect("ended within a second");
        assert_eq!((text.as_str(), is_whole), ("", false), "{}", api.name);
        gated.is_cancelled().await;
        let id = head.lines().find_map(|line| line.strip_prefix(&format!("{}: ", api.request_id)[..])).expect("an id");
        settled(&proxy, entry.limits(), &[log::access(id).await]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_held_back_makes_way_for_the_error() {
    let api = &apis::OPENAI;
    let gated = Gated::cutting(Some(10));
    let (proxy, _) = start(&gated, "", "");
    let mut client = Client::connect(proxy.address).await;
    client.send(&api.stream_call(ALICE, "")).await;
    client.head().await;
    disable(&proxy);
    let (text, is_whole) = timeout(SOON, rest(&mut client)).await.expect("ended within a second");
    assert!(is_whole && text.starts_with("data: {\"error\":") && text.contains("key_disabled"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_responses_api_has_an_error_event_of_its_own() {
    let gated = hanging(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3a\r\nevent: response.created\ndata: {\"type\":\"response.created\"}\n\r\n1\r\n\n\r\n",
    );
    let (proxy, _) = start(&gated, "", "");
    let mut client = Client::connect(proxy.address).await;
    let body = r#"{"model":"gpt-4o","stream":true,"input":"Hello"}"#;
    client.send(&apis::OPENAI.request("/v1/responses", ALICE, "", body)).await;
    client.head().await;
    let mut came = String::new();
    while !came.ends_with("\n\n") {
        came.push_str(&String::from_utf8_lossy(&client.chunk().await.expect("an event")));
    }
    disable(&proxy);
    let (text, is_whole) = timeout(SOON, rest(&mut client)).await.expect("ended within a second");
    let data = text.strip_prefix("event: error\ndata: ").unwrap_or_else(|| panic!("{text}"));
    let data: serde_json::Value = serde_json::from_str(data.trim_end()).expect("one event");
    assert_eq!((data["type"].as_str(), data["code"].as_str()), (Some("error"), Some("key_disabled")));
    assert!(is_whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_answer_breaks_off() {
    for api in apis::ALL {
        let gated = hanging(HALF_JSON);
        let (proxy, _) = start(&gated, "", "");
        let entry = proxy.entry(ALICE);
        let mut client = Client::connect(proxy.address).await;
        client.send(&api.call(ALICE, "")).await;
        let head = client.head().await;
        remove(&proxy);
        let body = timeout(SOON, client.remaining()).await.expect("ended within a second");
        assert_eq!(body, br#"{"usage":"#, "and not five hundred bytes");
        gated.is_cancelled().await;
        let id = head.lines().find_map(|line| line.strip_prefix(&format!("{}: ", api.request_id)[..])).expect("an id");
        let line = log::access(id).await;
        assert_eq!(line["cut"], "key_deleted");
        settled(&proxy, entry.limits(), &[line]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_has_not_begun_becomes_a_refusal() {
    for api in apis::ALL {
        let gated = hanging("");
        let (proxy, _) = start(&gated, "", "");
        let entry = proxy.entry(ALICE);
        let mut client = Client::connect(proxy.address).await;
        client.send(&api.stream_call(ALICE, "")).await;
        while gated.backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        disable(&proxy);
        let answer = timeout(SOON, client.answer()).await.expect("ended within a second");
        assert_eq!((answer.status, api.error_code(&answer.json()).as_str()), (401, "invalid_api_key"));
        assert!(answer.text().contains("this key has been disabled"), "{}", answer.text());
        gated.is_cancelled().await;
        let line = log::access(&answer.header(api.request_id).expect("an id")).await;
        assert_eq!((line["cut"].as_str(), line["status"].as_str()), ("key_disabled", "401"));
        settled(&proxy, entry.limits(), &[line]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_read_on_for_its_usage_is_let_go_too() {
    let gated = Gated::start();
    let (proxy, _) = start(&gated, "on_disconnect = \"drain\"", "");
    let entry = proxy.entry(ALICE);
    let (client, answer) = super::streaming(&proxy, &apis::OPENAI, ALICE).await;
    drop(client);
    disable(&proxy);
    gated.is_cancelled().await;
    let line = log::access(&answer.header("x-request-id").expect("an id")).await;
    settled(&proxy, entry.limits(), &[line]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_declared_length_breaks_off_instead_of_being_filled_up() {
    let gated = hanging("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 20\r\n\r\ndata: {}\n\n");
    let (proxy, _) = start(&gated, "", "");
    let mut client = Client::connect(proxy.address).await;
    client.send(&apis::GEMINI.stream_call(ALICE, "")).await;
    client.head().await;
    disable(&proxy);
    let body = timeout(SOON, client.remaining()).await.expect("ended within a second");
    assert_eq!(String::from_utf8_lossy(&body), "data: {}\n\n", "and not twenty bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_does_not_keep_the_backend() {
    let (taken, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, note) = (Arc::clone(&taken), Arc::clone(&gone));
    let backend = RawBackend::start(move |mut stream, _| {
        let (count, note) = (Arc::clone(&count), Arc::clone(&note));
        async move {
            raw_backend::read_request(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            raw_backend::write(&mut stream, head).await;
            let events = apis::ANTHROPIC.events[2].repeat(500);
            let chunk = format!("{:x}\r\n{events}\r\n", events.len());
            while stream.write_all(chunk.as_bytes()).await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
            note.notify_one();
        }
    });
    let keys = Proxy::keys_of(&[("alice", ALICE, "")]);
    let proxy = Proxy::start(&apis::config(&[backend.address], "", "", ""), &keys, Clock::system());
    let entry = proxy.entry(ALICE);
    let mut client = Client::connect_narrow(proxy.address).await;
    client.send(&apis::ANTHROPIC.stream_call(ALICE, "")).await;
    still(&taken).await;
    disable(&proxy);
    timeout(SOON, gone.notified()).await.expect("the upstream request is cancelled");
    proxy.quiet().await;
    assert_eq!(entry.limits().in_use(), 0);
    assert!(entry.limits().quota_used() > 0);
    client.trickle().await;
    assert!(!client.answer().await.is_whole);
}
