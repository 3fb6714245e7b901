//! Large heads and bodies, many connections: bounded before they cost anything, and told so.

use super::{After, Attack, Edge, chat_with, line, models_with};
use crate::harness::{self, Backend, Client, Proxy, proxy::ALICE};
use keyward::clock::Clock;

/// A proxy whose `[server]` has these further lines.
fn start(server: &str, keys: &str) -> (Backend, Proxy) {
    let backend = Backend::json(r#"{"id":"1"}"#);
    let config = Proxy::config_for(&backend, "").replacen("[server]\n", &format!("[server]\n{server}\n"), 1);
    let proxy = Proxy::start(&config, keys, Clock::system());
    (backend, proxy)
}

fn alice() -> String {
    Proxy::keys_of(&[("alice", ALICE, "")])
}

/// A head that promises a body of `length` bytes.
fn promising(length: usize) -> String {
    chat_with(&format!("content-length: {length}\r\n"), "")
}

/// Waits until the proxy holds at least so many bytes of bodies.
async fn holds(proxy: &Proxy, bytes: usize) {
    let held = async {
        while proxy.plane.body_budget.held() < bytes as u64 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), held).await.expect("the body arrives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_has_8_kib_at_most() {
    let edge = Edge::start();
    let of = |length: usize| format!("GET /v1/models?x={} HTTP/1.1", "a".repeat(length - "/v1/models?x=".len()));
    assert_eq!(Client::once(edge.proxy.address, line(&of(8 * 1024)).as_bytes()).await.status, 200);
    let attacks = [8 * 1024 + 1, 16 * 1024, 32 * 1024, 39 * 1024, 60 * 1024];
    edge.refuses(&attacks.map(|length| Attack::new(line(&of(length)), 414))).await;
    // Without an end it is told as soon as no head can be that long.
    let endless = format!("GET /{}", "a".repeat(64 * 1024));
    edge.refuses(&[Attack::new(endless, 414)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_bounded_in_number_in_length_and_together() {
    let edge = Edge::start();
    // Two are there already: host and authorization.
    let many = |count: usize| models_with(&format!("host: proxy\r\n{}", "x: y\r\n".repeat(count)));
    let long = |length: usize| models_with(&format!("host: proxy\r\nx: {}\r\n", "y".repeat(length)));
    let wide = |count: usize| {
        models_with(&format!("host: proxy\r\n{}", format!("x: {}\r\n", "y".repeat(1_019)).repeat(count)))
    };
    for good in [many(98), long(8 * 1024), wide(31)] {
        assert_eq!(Client::once(edge.proxy.address, good.as_bytes()).await.status, 200, "{}", good.len());
    }
    let name = models_with(&format!("host: proxy\r\n{}: y\r\n", "x".repeat(33 * 1024)));
    let endless = format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(20_000));
    let attacks =
        [many(99), many(3_000), long(8 * 1024 + 1), long(30_000), wide(32), wide(39), wide(100), name, endless];
    edge.refuses(&attacks.map(|request| Attack::new(request, 431))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_before_a_byte_of_it() {
    let edge = Edge::start();
    let over = 32 * 1024 * 1024 + 1;
    let expecting = chat_with(&format!("expect: 100-continue\r\ncontent-length: {over}\r\n"), "");
    edge.refuses(&[
        Attack::new(promising(over), 413),
        Attack::new(promising(999_999_999_999_999_999), 413),
        Attack::new(expecting.clone(), 413),
    ])
    .await;
    let mut client = Client::connect(edge.proxy.address).await;
    client.send(expecting.as_bytes()).await;
    assert!(client.raw_start(12).await.starts_with(b"HTTP/1.1 413"), "nothing is asked for first");
    edge.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let edge = Edge::start();
    let body = vec![b' '; 33 * 1024 * 1024];
    let wrong = promising(body.len()).replacen(ALICE, "another-secret-01", 1);
    for (head, status) in [(promising(body.len()), 413), (wrong, 401)] {
        let mut client = Client::connect(edge.proxy.address).await;
        client.send(head.as_bytes()).await;
        client.send(&body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.is_whole), (status, true));
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
        assert!(client.is_closed().await);
    }
    edge.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_chunks_is_counted_as_it_comes() {
    let (backend, proxy) = start("max_body = \"64KiB\"", &alice());
    let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000));
    let edge = Edge { backend, proxy };
    let large = chat_with("transfer-encoding: chunked\r\n", &chunk.repeat(9));
    let endless = chat_with("transfer-encoding: chunked\r\n", &chunk.repeat(200));
    edge.refuses(&[Attack::new(large, 413), Attack::new(endless, 413)]).await;
    let exact = format!("{}{}", harness::chat("m", false), " ".repeat(64 * 1024 - harness::chat("m", false).len()));
    let request = chat_with("transfer-encoding: chunked\r\n", &format!("{:x}\r\n{exact}\r\n0\r\n\r\n", exact.len()));
    assert_eq!(Client::once(edge.proxy.address, request.as_bytes()).await.status, 200);
    assert_eq!(edge.proxy.plane.body_budget.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_bodies_together_have_a_budget() {
    let (backend, proxy) = start("max_body = \"1MiB\"\nbody_budget = \"1MiB\"", &alice());
    let json = harness::chat("m", false);
    let body = format!("{json}{}", " ".repeat(700 * 1024 - json.len()));
    let (start, rest) = body.split_at(650 * 1024);
    let mut first = Client::connect(proxy.address).await;
    first.send(promising(body.len()).as_bytes()).await;
    first.send(start.as_bytes()).await;
    holds(&proxy, start.len()).await;
    for (path, status) in
        [("/v1/chat/completions", 503), ("/v1/messages", 529), ("/v1beta/models/m:generateContent", 503)]
    {
        let request = harness::post(path, ALICE, &body);
        let answer = Client::once(proxy.address, &request).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
    }
    assert_eq!(backend.seen().len(), 0);
    first.send(rest.as_bytes()).await;
    assert_eq!(first.answer().await.status, 200, "who was there first is served");
    let again = Client::once(proxy.address, &harness::post("/v1/chat/completions", ALICE, &body)).await;
    assert_eq!(again.status, 200, "and then the others");
    assert_eq!(proxy.plane.body_budget.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_for_an_unknown_caller() {
    let edge = Edge::start();
    let unknown = |head: String| head.replacen(ALICE, "another-secret-01", 1);
    let expecting = unknown(chat_with("expect: 100-continue\r\ncontent-length: 1000\r\n", ""));
    edge.refuses(&[
        Attack::new(unknown(promising(30 * 1024 * 1024)), 401),
        Attack::new(unknown(promising(999_999_999_999_999_999)), 401),
        Attack::new(unknown(chat_with("transfer-encoding: chunked\r\n", "5\r\nhe")), 401),
        Attack::new(expecting.clone(), 401),
    ])
    .await;
    let mut client = Client::connect(edge.proxy.address).await;
    client.send(expecting.as_bytes()).await;
    assert!(client.raw_start(12).await.starts_with(b"HTTP/1.1 401"), "its body is not asked for");
    // A small body that is there already does not cost the connection.
    let small = unknown(chat_with("content-length: 2\r\n", "{}"));
    let attack = Attack { after: After::Open, ..Attack::new(small, 401) };
    edge.refuses(&[attack]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_ends_half_way_is_nobodys_fault_but_the_clients() {
    let edge = Edge::start();
    let half = [
        chat_with("content-length: 50\r\n", "{\"model\":\"m\""),
        chat_with("transfer-encoding: chunked\r\n", "5\r\n{\"mod"),
        chat_with("transfer-encoding: chunked\r\n", "5\r\n{\"mod\r\n"),
        chat_with("transfer-encoding: chunked\r\n", "2\r\n{}\r\n0\r\n"),
        "POST /v1/chat/completions HTTP/1.1\r\nhost".to_owned(),
    ];
    for request in &half {
        for shuts_down in [true, false] {
            let mut client = Client::connect(edge.proxy.address).await;
            client.send(request.as_bytes()).await;
            if shuts_down {
                let status = client.finish().await;
                assert!(status.is_none_or(|status| status == 400), "{request:?}: {status:?}");
            }
        }
        edge.serves(request).await;
    }
    edge.is_unharmed().await;
    assert_eq!(edge.proxy.plane.body_budget.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_capped_for_each_client_and_for_all() {
    for server in ["max_connections_per_client = 2", "max_connections = 2"] {
        let (_backend, proxy) = start(server, &alice());
        let list = line("GET /v1/models HTTP/1.1");
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut client = Client::connect(proxy.address).await;
            client.send(list.as_bytes()).await;
            assert_eq!(client.answer().await.status, 200);
            held.push(client);
        }
        assert!(Client::connect(proxy.address).await.is_closed().await, "{server}: the third is turned away");
        for client in &mut held {
            client.send(list.as_bytes()).await;
            assert_eq!(client.answer().await.status, 200, "{server}: those that are there go on");
        }
        drop(held.pop());
        let given_back = async {
            while proxy.plane.metrics.connections.get() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), given_back).await.expect("the place is given back");
        assert_eq!(Client::once(proxy.address, list.as_bytes()).await.status, 200);
    }
}
