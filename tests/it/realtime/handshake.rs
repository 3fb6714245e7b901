//! What opens a websocket and what does not, by exact bytes.

use serde_json::json;

use super::{config, keys, start};
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::{self, RawBackend};
use crate::harness::websocket::{Brain, Talker};
use crate::harness::{Client, Proxy, get, log};

const GOOD: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn request(target: &str, lines: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\n{lines}\r\n").into_bytes()
}

const TARGET: &str = "/v1/realtime?model=gpt-realtime";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_leads_to_the_upstream_with_its_own_credential() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "");
    let secret = format!("realtime, openai-insecure-api-key.{ALICE}, openai-project.p");
    for (path, headers, sent, credential) in [
        (TARGET, ("authorization", format!("Bearer {ALICE}")), TARGET, "Bearer upstream-credential-openai"),
        (TARGET, ("sec-websocket-protocol", secret), TARGET, "Bearer upstream-credential-openai"),
        (
            "/openai/realtime?api-version=2024-10-01&deployment=gpt-d&api-key=x",
            ("api-key", ALICE.to_owned()),
            "/openai/realtime?api-version=2024-10-01&deployment=gpt-d",
            "upstream-credential-azure",
        ),
        (
            "/openai/v1/realtime?model=fast",
            ("api-key", ALICE.to_owned()),
            "/openai/v1/realtime?model=gpt-realtime-mini",
            "upstream-credential-azure",
        ),
    ] {
        let asks = headers.0 == "sec-websocket-protocol";
        let extra = ("sec-websocket-extensions", "permessage-deflate".to_owned());
        let mut talker = Talker::open(proxy.address, path, &[headers, extra]).await;
        let chosen = talker.answer.headers().get("sec-websocket-protocol").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(chosen.as_deref(), asks.then_some("realtime"));
        assert_eq!(talker.answer.headers()["openai-version"], "2020-10-01");
        assert!(!talker.answer.headers().contains_key("sec-websocket-extensions"));
        talker.say(json!({ "type": "hello" })).await;
        assert_eq!(talker.hear().await["of"]["type"], "hello");
        let head = brain.heads().pop().unwrap();
        assert!(head.contains(&format!("uri: {sent},")), "{head}");
        assert!(head.contains(credential) && !head.contains(ALICE) && !head.contains("openai-project"), "{head}");
        assert!(!head.contains("permessage-deflate"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handshake_is_refused_and_ends_the_connection() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "");
    let swap = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    for (lines, status) in [
        (String::new(), 426),
        (swap("websocket\r\n", "h2c\r\n"), 426),
        (swap("version: 13", "version: 8"), 426),
        (swap("connection: Upgrade", "connection: close"), 400),
        (swap("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        (format!("{GOOD}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
        (format!("{GOOD}sec-websocket-protocol: a, a\r\n"), 400),
        (format!("{GOOD}content-length: 3\r\n"), 400),
        (format!("{GOOD}api-key: another-secret\r\n"), 401),
        (format!("{GOOD}sec-websocket-protocol: openai-insecure-api-key.another\r\n"), 401),
    ] {
        let mut client = Client::connect(proxy.address).await;
        // What follows would be a request, if anybody read it as one.
        client.send(&[request(TARGET, &lines), get("/v1/models", ALICE)].concat()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{lines}");
        if status == 426 {
            assert_eq!(answer.header("upgrade").as_deref(), Some("websocket"));
            assert_eq!(answer.header("sec-websocket-version").as_deref(), Some("13"));
        }
        let rest = client.remaining().await;
        assert!(rest.is_empty(), "{lines}: {}", String::from_utf8_lossy(&rest));
    }
    for (target, status) in [
        ("/v1/realtime", 400),
        ("/v1/realtime?model=gpt-a&model=gpt-b", 400),
        ("/v1/realtime?model=gpt-a&Model=gpt-b", 400),
        ("/v1/realtime?model=gpt-a&call_id=rtc_1", 400),
        ("/v1/realtime?deployment=gpt-a", 400),
        ("/openai/realtime?model=gpt-a", 400),
        ("/v1/realtime?model=unserved", 404),
        ("/v1/realtime/calls?model=gpt-a", 404),
    ] {
        let answer = Client::once(proxy.address, &request(target, GOOD)).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
    }
    assert_eq!(brain.raw.connections(), 0, "none of it reached the backend");
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_passes_nowhere_else_and_to_no_upstream_that_takes_none() {
    let brain = Brain::start();
    let text = config(brain.address(), "", "").replace("websocket = true\n", "");
    let proxy = Proxy::start(&text, &keys(""), keyward::clock::Clock::system());
    let answer = Client::once(proxy.address, &request(TARGET, GOOD)).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
    let mut client = Client::connect(proxy.address).await;
    client.send(&[request("/v1/models", GOOD), get("/v1/models", ALICE)].concat()).await;
    assert_eq!((client.answer().await.status, client.answer().await.status), (200, 200));
    assert_eq!(brain.raw.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_upstreams_correct_101_opens_a_tunnel() {
    const SECRET_BYTES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsmuggl";
    let json = "content-type: application/json\r\ncontent-length: 13\r\n\r\n{\"error\":\"no\"}"; // and one byte more
    for (head, status) in [
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned(), 502),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                .to_owned(),
            502,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                .to_owned(),
            502,
        ),
        (format!("HTTP/1.1 403 Forbidden\r\n{json}"), 403),
        (format!("HTTP/1.1 429 Too Many\r\nx-any: 1\r\n{json}"), 429),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(), 502),
        ("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n".to_owned(), 302),
    ] {
        let reply = format!("{head}{SECRET_BYTES}");
        let backend = RawBackend::start(move |mut stream, _| {
            let reply = reply.clone();
            async move {
                raw_backend::read_request(&mut stream).await;
                raw_backend::write(&mut stream, reply).await;
                raw_backend::until_gone(&mut stream).await;
            }
        });
        let text = config(backend.address, "drain_timeout = \"100ms\"", "");
        let proxy = Proxy::start(&text, &keys("quota_limit = 100\nmax_parallel = 3"), keyward::clock::Clock::system());
        let mut client = Client::connect(proxy.address).await;
        client.send(&[request(TARGET, GOOD), get("/v1/models", ALICE)].concat()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{head}: {}", answer.text());
        let all = format!("{}{}{}", answer.head, answer.text(), String::from_utf8_lossy(&client.remaining().await));
        assert!(!all.contains("smuggl") && !all.contains("\"object\":\"list\""), "{head}: {all}");
        proxy.quiet().await;
        let entry = proxy.entry(ALICE);
        let limits = entry.limits();
        assert_eq!((limits.quota_committed(), limits.quota_used(), limits.in_use()), (0, 0, 0), "{head}");
        let line = log::access(&answer.header("x-request-id").unwrap()).await;
        assert_eq!((&*line["status"], &*line["endpoint"]), (&*status.to_string(), "realtime"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_answer_is_left_when_its_client_goes() {
    let (gone, note) =
        (std::sync::Arc::new(tokio::sync::Notify::new()), std::sync::Arc::new(tokio::sync::Notify::new()));
    let (told, asked) = (std::sync::Arc::clone(&gone), std::sync::Arc::clone(&note));
    let backend = RawBackend::start(move |mut stream, _| {
        let (told, asked) = (std::sync::Arc::clone(&told), std::sync::Arc::clone(&asked));
        async move {
            raw_backend::read_request(&mut stream).await;
            asked.notify_one();
            raw_backend::until_gone(&mut stream).await;
            told.notify_one();
        }
    });
    let text = config(backend.address, "drain_timeout = \"100ms\"", "");
    let proxy = Proxy::start(&text, &keys("quota_limit = 100"), keyward::clock::Clock::system());
    let mut client = Client::connect(proxy.address).await;
    client.send(&request(TARGET, GOOD)).await;
    note.notified().await;
    drop(client);
    gone.notified().await;
    proxy.quiet().await;
    assert_eq!(proxy.entry(ALICE).limits().quota_committed(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_not_is_told_so_as_for_any_call() {
    let brain = Brain::start();
    for (policy, status, code) in [
        ("endpoints_allowed = [\"chat\"]", 403, "endpoint_not_allowed"),
        ("models_allowed = [\"gpt-4o\"]", 403, "model_not_allowed"),
        ("allowed_ips = [\"10.0.0.0/8\"]", 403, "ip_not_allowed"),
        ("is_sandbox = true", 404, "model_not_found"),
    ] {
        let (proxy, _) = start(&brain, policy);
        let answer = Client::once(proxy.address, &request(TARGET, GOOD)).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{policy}");
    }
    let (proxy, _) = start(&brain, "endpoints_allowed = [\"realtime\"]\nmodels_allowed = [\"gpt-real*\"]");
    Talker::with_key(proxy.address, ALICE).await;
    assert_eq!(brain.raw.connections(), 1);
}
