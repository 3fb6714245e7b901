//! The PROXY protocol at the door: required where it is on, refused where it is not, believed from trusted peers alone.

use std::time::Duration;

use keyward::clock::Clock;
use tokio::io::AsyncWriteExt;

use super::SECRET;
use crate::harness::{Backend, Client, Proxy, chat, get, post};

const FROM: &str = "10.1.2.3";

const ON: &str = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]\nheader_timeout = \"300ms\"\n";

fn proxy(server: &str, policy: &str) -> (Proxy, Backend) {
    let backend = Backend::json(r#"{"choices":[]}"#);
    let config = Proxy::config_for(&backend, "").replacen("[server]\n", &format!("[server]\n{server}"), 1);
    (Proxy::start(&config, &Proxy::keys_of(&[("a", SECRET, policy)]), Clock::system()), backend)
}

fn v1(from: &str) -> Vec<u8> {
    format!("PROXY TCP4 {from} 127.0.0.1 5000 443\r\n").into_bytes()
}

fn v2(command: u8, from: [u8; 4]) -> Vec<u8> {
    // With something more than addresses, which is passed over.
    let rest = [&from[..], &[127, 0, 0, 1, 0x13, 0x88, 1, 187], &[0x04, 0, 2, 7, 7]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, rest.len() as u8][..], &rest].concat()
}

fn call() -> Vec<u8> {
    post("/v1/chat/completions", SECRET, &chat("m", false))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_header_names_is_the_client() {
    let (proxy, _backend) = proxy(ON, &format!("allowed_ips = [\"{FROM}\"]"));
    for (header, status) in [
        (v1(FROM), 200),
        (v1("10.1.2.4"), 403),
        (v2(0x21, [10, 1, 2, 3]), 200),
        (v2(0x21, [10, 1, 2, 4]), 403),
        (v2(0x20, [10, 1, 2, 3]), 403),
        (b"PROXY UNKNOWN\r\n".to_vec(), 403),
    ] {
        let mut client = Client::connect(proxy.address).await;
        // With the request in one piece.
        client.send(&[header.clone(), call()].concat()).await;
        assert_eq!(client.answer().await.status, status, "{}", String::from_utf8_lossy(&header));
        if status == 200 {
            client.send(&call()).await;
            assert_eq!(client.answer().await.status, 200, "and for all of the connection");
        }
    }
    // What it forwards is the client's word and not the proxy's.
    let text = String::from_utf8(call()).expect("text");
    let forged = text.replacen("\r\n", &format!("\r\nx-forwarded-for: {FROM}\r\n"), 1);
    let mut client = Client::connect(proxy.address).await;
    client.send(&[v1("10.1.2.4"), forged.into_bytes()].concat()).await;
    assert_eq!(client.answer().await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_in_any_pieces_is_one() {
    let (proxy, _backend) =
        proxy("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]\n", &format!("allowed_ips = [\"{FROM}\"]"));
    for header in [v1(FROM), v2(0x21, [10, 1, 2, 3])] {
        let mut client = Client::connect(proxy.address).await;
        for byte in [header, call()].concat() {
            client.stream.write_all(&[byte]).await.expect("sent");
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_header_in_time_the_connection_is_closed() {
    let (proxy, backend) = proxy(ON, "");
    let wrong =
        [call(), b"PROXY TCP4 10.1.2.3\r\n".to_vec(), b"\x16\x03\x01\x02\x00".to_vec(), v2(0x31, [10, 1, 2, 3])];
    for bytes in &wrong {
        let mut client = Client::connect(proxy.address).await;
        client.send(bytes).await;
        assert!(client.is_closed().await, "{}", String::from_utf8_lossy(bytes));
    }
    let mut slow = Client::connect(proxy.address).await;
    slow.send(b"PROXY TCP4 10.1.").await;
    let closed = tokio::time::timeout(Duration::from_secs(5), slow.is_closed()).await;
    assert!(closed.expect("it is not waited for"));
    let metrics = proxy.metrics_text();
    for (reason, count) in [("proxy_protocol", wrong.len()), ("proxy_protocol_too_slow", 1)] {
        let line = format!("keyward_connections_refused_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&line), "{line}:\n{metrics}");
    }
    while proxy.plane.metrics.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(backend.seen_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_peer_that_is_not_trusted_nothing_is_taken() {
    let (proxy, _backend) = proxy("proxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]\n", "");
    let mut client = Client::connect(proxy.address).await;
    client.send(&[v1(FROM), call()].concat()).await;
    assert!(client.is_closed().await);
    assert!(proxy.metrics_text().contains("keyward_connections_refused_total{reason=\"proxy_not_trusted\"} 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_off_a_header_is_no_http() {
    let (proxy, backend) = proxy("trusted_proxies = [\"127.0.0.0/8\"]\n", "");
    for header in [v1(FROM), v2(0x21, [10, 1, 2, 3])] {
        let mut client = Client::connect(proxy.address).await;
        client.send(&[header, call()].concat()).await;
        assert_eq!(client.first_status().await, Some(400));
    }
    assert_eq!(backend.seen_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_and_failed_attempts_are_those_of_whom_the_header_names() {
    let server = format!("{ON}max_connections_per_client = 1\nfailed_attempts_per_minute = 1\n");
    let (proxy, _backend) = proxy(&server, "");
    let mut first = Client::connect(proxy.address).await;
    first.send(&[v1(FROM), call()].concat()).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = Client::connect(proxy.address).await;
    second.send(&[v1(FROM), call()].concat()).await;
    assert!(second.is_closed().await, "one is all that this client may have");
    let guess = get("/v1/key", "somebody-elses-1");
    let mut other = Client::connect(proxy.address).await;
    other.send(&[v1("10.9.9.9"), guess.clone()].concat()).await;
    assert_eq!(other.answer().await.status, 401);
    other.send(&guess).await;
    assert_eq!(other.answer().await.status, 429, "the second failure of this client");
    first.send(&guess).await;
    assert_eq!(first.answer().await.status, 401, "the first of that one");
}
