//! HTTP/2 as clients speak it, frame by frame: in clear by prior knowledge here, over TLS in `tls`.

mod edge;
mod flow;
mod life;
mod misconduct;

use keyward::clock::{Clock, NS_PER_SECOND};
use tokio::time::timeout;

use super::harness::h2::{self, End, Got, H2};
use super::harness::proxy::ALICE;
use super::harness::time::{MOMENT, PATIENCE, by_hand, moving};
use super::harness::{self, Backend, Client, Proxy};

const CHAT: &str = "/v1/chat/completions";
const USAGE: &str = r#"{"id":"1","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// Waits until no connection is open any more.
async fn gone(proxy: &Proxy) {
    let gone = async {
        while proxy.plane.metrics.connections.get() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the connection is dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_as_over_http_1() {
    let backend = Backend::json(USAGE);
    let proxy = Proxy::with_key(&backend, "rpm_limit = 100\ntpm_limit = 100000");
    let mut client = H2::connect(proxy.address).await;
    let stream = client.post(CHAT, ALICE, &harness::chat("m", false)).await;
    let got = client.answer(stream).await;
    let old = Client::once(proxy.address, &harness::post(CHAT, ALICE, &harness::chat("m", false))).await;
    assert_eq!((got.status(), got.text(), got.end), (200, old.text(), Some(End::Clean)));
    for name in ["content-type", "content-length", "x-ratelimit-limit-requests"] {
        assert_eq!(got.header(name), old.header(name), "{name}");
    }
    assert!(got.header("x-request-id").is_some() && got.header("date").is_some(), "{:?}", got.head);
    let names = ["connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"];
    assert!(names.iter().all(|name| got.header(name).is_none()), "{:?}", got.head);
    let seen = backend.seen();
    assert_eq!(seen[0].head.to_ascii_lowercase(), {
        let id = |seen: &harness::Seen| seen.header("x-request-id").expect("an id");
        seen[1].head.replace(&id(&seen[1]), &id(&seen[0])).to_ascii_lowercase()
    });
    assert_eq!(seen[0].body, seen[1].body);
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bounds_of_a_connection_are_told() {
    let backend = Backend::json(USAGE);
    let proxy = Proxy::with_key(&backend, "");
    let mut client = H2::connect(proxy.address).await;
    let stream = client.get("/v1/models", ALICE).await;
    assert_eq!(client.answer(stream).await.status(), 200);
    let told = |number: u16| client.settings.get(&number).copied();
    // Streams, window, frame (the default is not repeated), header list; and no extended CONNECT.
    assert_eq!((told(3), told(4), told(6), told(8)), (Some(100), Some(64 * 1024), Some(16 * 1024), None));
    assert!(told(5).is_none_or(|frame| frame == 16 * 1024));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_has_the_length_and_no_body() {
    let backend = Backend::json(USAGE);
    let proxy = Proxy::with_key(&backend, "");
    let mut client = H2::connect(proxy.address).await;
    let get = client.get("/v1/models", ALICE).await;
    let whole = client.answer(get).await;
    let stream = client.open(&h2::fields("HEAD", "/v1/models", ALICE), true).await;
    let got = client.answer(stream).await;
    assert_eq!((got.status(), got.body.len(), got.end), (whole.status(), 0, Some(End::Clean)), "{:?}", got.head);
    assert_eq!(got.header("content-length"), whole.header("content-length"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_exact_over_one_connection() {
    let backend = Backend::json(USAGE);
    let proxy = Proxy::with_key(&backend, "rpm_limit = 20\nquota_limit = 1000000");
    let mut client = H2::connect(proxy.address).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(client.post(CHAT, ALICE, &harness::chat("m", false)).await);
    }
    let mut counts = [0, 0];
    for stream in streams {
        match client.answer(stream).await.status() {
            200 => counts[0] += 1,
            429 => counts[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((counts, backend.seen_count()), ([20, 30], 20));
    proxy.quiet().await;
    let quota = proxy.entry(ALICE).limits_if_used().expect("used").quota_count();
    assert_eq!(quota.used, 20 * 2, "every answer is charged once");
}
