//! What an operator says of connections to an upstream: credentials in turn, TLS, forward proxies, HTTP/2.

mod http2;
mod tls;

use std::sync::{Arc, Mutex};

use keyward::clock::Clock;
use tokio::io::AsyncReadExt;

use super::is_quiet;
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::{self, RawBackend};
use crate::harness::{Backend, Client, Proxy, apis};

/// A proxy in front of one OpenAI upstream with this URL and these lines.
fn proxy(url: &str, more: &str) -> Proxy {
    proxy_with(url, more, Clock::system())
}

fn proxy_with(url: &str, more: &str, clock: Clock) -> Proxy {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ndrain_timeout = \"100ms\"\n[[upstreams]]\nname = \"one\"\ndialect = \"openai\"\nurl = \"{url}\"\nmodels = [\"*\"]\n{more}\n"
    );
    Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, "quota_limit = 1000000000")]), clock)
}

async fn ask(proxy: &Proxy) -> crate::harness::Answer {
    Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_used_in_turn_and_one_that_is_turned_down_rests() {
    let backend = Backend::start(|seen, mut reply| async move {
        let is_spent = seen.header("authorization").as_deref() == Some("Bearer credential-two");
        reply.json(if is_spent { 429 } else { 200 }, "{}").await;
        reply
    });
    let secrets = "api_key = [\"credential-one\", \"credential-two\", \"credential-three\"]";
    crate::harness::log::watch_for_secrets(&["key = \"credential-one\"\nkey = \"credential-two\""]);
    let proxy = proxy(&format!("http://{}", backend.address), secrets);
    let mut statuses = Vec::new();
    for _ in 0..9 {
        statuses.push(ask(&proxy).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 1, "{statuses:?}");
    let used = backend.seen().iter().map(|seen| seen.header("authorization").unwrap()).collect::<Vec<_>>();
    let times = |name: &str| used.iter().filter(|used| used.ends_with(name)).count();
    assert_eq!(times("two"), 1, "it rests");
    assert!(times("one") >= 3 && times("three") >= 3, "the others go on in turn: {used:?}");
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_neither_adds_to_nor_takes_from_the_operators_headers() {
    let backend = Backend::json("{}");
    let more = "headers = { x-team = \"search\", openai-organization = \"org-1\" }";
    let proxy = proxy(&format!("http://{}", backend.address), more);
    let forged =
        "x-team: other\r\nx-team: more\r\nopenai-organization: org-2\r\nconnection: x-team, openai-organization\r\n";
    assert_eq!(Client::once(proxy.address, &apis::OPENAI.call(ALICE, forged)).await.status, 200);
    let seen = backend.seen().pop().expect("a request");
    let of = |name: &str| seen.head.lines().filter(|line| line.to_ascii_lowercase().starts_with(name)).count();
    assert_eq!((seen.header("x-team").as_deref(), of("x-team:")), (Some("search"), 1));
    assert_eq!((seen.header("openai-organization").as_deref(), of("openai-organization:")), (Some("org-1"), 1));
}

/// A forward proxy that notes where it is asked for, and leads all of it to `to`.
fn forward_proxy(to: std::net::SocketAddr, says: &'static str) -> (RawBackend, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&asked);
    let proxy = RawBackend::start(move |mut stream, _| {
        let note = Arc::clone(&note);
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            note.lock().unwrap().push(String::from_utf8(head).unwrap());
            raw_backend::write(&mut stream, says).await;
            let Ok(mut onward) = tokio::net::TcpStream::connect(to).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        }
    });
    (proxy, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_proxy_is_asked_for_the_way_and_told_nothing_else() {
    let backend = Backend::json("{}");
    let (forward, asked) = forward_proxy(backend.address, "HTTP/1.1 200 Connection established\r\nx-a: b\r\n\r\n");
    let more = format!("proxy = \"http://{}\"\napi_key = \"upstream-credential\"", forward.address);
    // Nobody here knows this name, and nobody has to.
    let proxy = proxy("http://backend.invalid:8000", &more);
    for _ in 0..3 {
        assert_eq!(ask(&proxy).await.status, 200);
    }
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, ["CONNECT backend.invalid:8000 HTTP/1.1\r\nhost: backend.invalid:8000\r\n\r\n"]);
    assert_eq!(backend.seen()[0].header("host").as_deref(), Some("backend.invalid:8000"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_proxy_that_refuses_is_an_upstream_that_cannot_be_reached() {
    let backend = Backend::json("{}");
    let endless: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(9000)).into_boxed_str());
    for says in ["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "SSH-2.0-OpenSSH\r\n\r\n", endless] {
        let (forward, _) = forward_proxy(backend.address, says);
        let proxy = proxy("http://backend.invalid", &format!("proxy = \"http://{}\"", forward.address));
        let answer = ask(&proxy).await;
        assert_eq!((answer.status, apis::OPENAI.error_code(&answer.json()).as_str()), (502, "upstream_unreachable"));
        is_quiet(&proxy).await;
    }
    assert_eq!(backend.seen_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_their_time_and_no_request_with_them() {
    let backend = Backend::json("{}");
    let proxy = proxy(&format!("http://{}", backend.address), "connection_lifetime = \"50ms\"\nretries = 0");
    let mut client = Client::connect(proxy.address).await;
    while backend.connections() < 5 {
        client.send(&apis::OPENAI.call(ALICE, "")).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert!(backend.seen_count() >= 5);
}
