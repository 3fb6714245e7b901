//! Whole answers, and what stands around them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{call, charged, events_for, json_for, proxy};
use crate::harness::proxy::ALICE;
use crate::harness::{Answer, Backend, Client, Proxy, Reply, Seen, apis, log};

/// The rest of an answer's head after its own first lines, as a test wants it: sent as `x-want`, one header a `;`.
fn wanted(seen: &Seen) -> String {
    let wanted = seen.header("x-want").unwrap_or_default();
    wanted.split(';').filter(|line| !line.is_empty()).map(|line| format!("{}\r\n", line.trim())).collect()
}

async fn json(seen: Seen, mut reply: Reply) -> Reply {
    let body = json_for(seen.path());
    let (length, more) = (body.len(), wanted(&seen));
    let status = seen.header("x-status").unwrap_or_else(|| "200 OK".to_owned());
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n");
    reply.raw(head + body).await;
    reply
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("in memory");
    encoder.finish().expect("in memory")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_answer_passes_with_its_length_and_is_charged_as_reported() {
    for api in apis::ALL {
        let backend = Backend::start(json);
        let proxy = proxy(&backend);
        let answer = call(&proxy, api, "").await;
        assert_eq!((answer.status, answer.text().as_str(), answer.is_whole), (200, api.json, true));
        assert_eq!(answer.header("content-length"), Some(api.json.len().to_string()));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(charged(&proxy).await, apis::UNITS, "{}", api.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_answer_passes_as_it_is_and_is_metered() {
    for api in apis::ALL {
        let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
            assert_eq!(seen.header("accept-encoding").as_deref(), Some("gzip"));
            let body = gzip(json_for(seen.path()));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n"
            );
            reply.raw(head).await;
            reply.raw(body).await;
            reply
        });
        let proxy = proxy(&backend);
        let answer = call(&proxy, api, "accept-encoding: gzip, zstd\r\n").await;
        assert_eq!(answer.body, gzip(api.json), "{}", api.name);
        assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"));
        assert_eq!(charged(&proxy).await, apis::UNITS, "{}", api.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_stream_passes_as_it_is_and_is_metered() {
    for api in [&apis::ANTHROPIC, &apis::GEMINI] {
        let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
            reply.raw(head).await;
            for piece in gzip(&events_for(seen.path()).concat()).chunks(11) {
                reply.chunk(piece).await;
            }
            reply.end().await;
            reply
        });
        let proxy = proxy(&backend);
        let answer = Client::once(proxy.address, &api.stream_call(ALICE, "accept-encoding: gzip\r\n")).await;
        assert_eq!((answer.body, answer.is_whole), (gzip(&api.whole_stream()), true), "{}", api.name);
        assert_eq!(charged(&proxy).await, apis::UNITS, "{}", api.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_usage_is_charged_by_estimate() {
    let backend = Backend::json(r#"{"choices":[{"message":{"content":"twelve bytes"}}]}"#);
    let proxy = proxy(&backend);
    let answer = call(&proxy, &apis::OPENAI, "").await;
    let line = log::access(&answer.header("x-request-id").expect("an id")).await;
    assert_eq!((line["estimated"].as_str(), line["output_tokens"].as_str()), ("true", "4"));
    let input: u64 = line["input_tokens"].parse().expect("a number");
    assert!(input > 0);
    assert_eq!(charged(&proxy).await, input + 4);
    assert_eq!(line["units"], (input + 4).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstreams_error_passes_and_gives_everything_back_but_the_request() {
    for api in apis::ALL {
        for status in [400, 401, 404, 429, 500, 503, 529] {
            let backend = Backend::start(json);
            let proxy = Proxy::with_key(
                &backend,
                "quota_limit = 1000000\ntpm_limit = 100000\nrpm_limit = 10\nmax_parallel = 1",
            );
            let more = format!("x-status: {status} Odd\r\nx-want: retry-after: 7;www-authenticate: Basic\r\n");
            let answer = call(&proxy, api, &more).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, api.json), "{}", api.name);
            assert_eq!(answer.header("retry-after").as_deref(), Some("7"));
            assert_eq!(charged(&proxy).await, 0, "{} {status}", api.name);
            let entry = proxy.entry(ALICE);
            let standing = entry.limits().standing(&entry.policy(), proxy.plane.clock.now());
            assert_eq!(standing.tokens.map(|gauge| gauge.remaining), Some(100_000));
            assert_eq!(standing.requests.map(|gauge| gauge.remaining), Some(9));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_by_the_upstream_passes_as_it_is() {
    let backend = Backend::start(json);
    let proxy = proxy(&backend);
    let answer = Client::once(proxy.address, &apis::OPENAI.stream_call(ALICE, "x-status: 400 Bad\r\n")).await;
    assert_eq!((answer.status, answer.text().as_str()), (400, apis::OPENAI.json));
    assert_eq!(answer.header("content-length"), Some(apis::OPENAI.json.len().to_string()));
    assert_eq!(charged(&proxy).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_pass_but_for_those_of_the_hop() {
    let backend = Backend::start(json);
    let proxy = proxy(&backend);
    let want = "x-want: x-any: 1;X-Any: 2;openai-organization: o;set-cookie: a=b;connection: x-hop;x-hop: 1;keep-alive: timeout=5;proxy-authenticate: Basic;upgrade: h2c;x-ratelimit-remaining-tokens: 5;server: backend\r\n";
    let answer = call(&proxy, &apis::OPENAI, want).await;
    let lines = answer.head.to_ascii_lowercase();
    for kept in [
        "x-any: 1",
        "x-any: 2",
        "openai-organization: o",
        "set-cookie: a=b",
        "x-ratelimit-remaining-tokens: 5",
        "server: backend",
    ] {
        assert!(lines.contains(&format!("\r\n{kept}\r\n")), "{kept}: {lines}");
    }
    for gone in ["connection", "x-hop", "keep-alive", "proxy-authenticate", "upgrade", "transfer-encoding"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstreams_own_limits_are_told_only_where_the_key_has_none() {
    let openai = "x-want: x-ratelimit-limit-requests: 5000;x-ratelimit-remaining-requests: 4999;x-ratelimit-limit-tokens: 777;x-ratelimit-reset-tokens: 9s\r\n";
    let anthropic = "x-want: anthropic-ratelimit-requests-limit: 5000;anthropic-ratelimit-requests-remaining: 4999;anthropic-ratelimit-tokens-limit: 777;anthropic-ratelimit-input-tokens-limit: 9\r\n";
    let backend = Backend::start(json);
    let proxy = Proxy::with_key(&backend, "rpm_limit = 10");
    let told = |answer: &Answer, name: &str| answer.header(name).unwrap_or_default();
    let answer = call(&proxy, &apis::OPENAI, openai).await;
    assert_eq!(told(&answer, "x-ratelimit-limit-requests"), "10");
    assert_eq!(told(&answer, "x-ratelimit-remaining-requests"), "9");
    assert_eq!(answer.head.matches("limit-requests").count(), 1);
    assert_eq!(
        (told(&answer, "x-ratelimit-limit-tokens").as_str(), told(&answer, "x-ratelimit-reset-tokens").as_str()),
        ("777", "9s")
    );
    let answer = call(&proxy, &apis::ANTHROPIC, anthropic).await;
    assert_eq!(told(&answer, "anthropic-ratelimit-requests-limit"), "10");
    assert_eq!(told(&answer, "anthropic-ratelimit-tokens-limit"), "777");

    let other = Proxy::with_key(&backend, "tpm_limit = 50000");
    let answer = call(&other, &apis::OPENAI, openai).await;
    assert_eq!(told(&answer, "x-ratelimit-limit-requests"), "5000");
    assert_eq!(told(&answer, "x-ratelimit-limit-tokens"), "50000");
    let answer = call(&other, &apis::ANTHROPIC, anthropic).await;
    assert_eq!(told(&answer, "anthropic-ratelimit-requests-limit"), "5000");
    assert_eq!(told(&answer, "anthropic-ratelimit-tokens-limit"), "50000");
    assert_eq!(answer.header("anthropic-ratelimit-input-tokens-limit"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_is_taken_or_made_told_and_forwarded() {
    for api in apis::ALL {
        let backend = Backend::start(json);
        let proxy = proxy(&backend);
        let own = format!("it-{}-{}", api.name, proxy.address.port());
        let answer = call(&proxy, api, &format!("x-request-id: {own}\r\nx-want: {}: theirs\r\n", api.request_id)).await;
        assert_eq!(answer.header(api.request_id), Some(own.clone()), "{}", api.name);
        assert_eq!(answer.head.to_ascii_lowercase().matches(&format!("\r\n{}:", api.request_id)).count(), 1);
        assert_eq!(log::access(&own).await["status"], "200");
        let made = call(&proxy, api, "x-request-id: not fit\r\n").await.header(api.request_id).expect("an id");
        assert!(made.starts_with("req_"), "{made}");
        let sent = backend.seen().iter().map(|seen| seen.header("x-request-id")).collect::<Vec<_>>();
        assert_eq!(sent, [Some(own), Some(made)], "{}", api.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_answers_and_trailers_end_here() {
    let backend = Backend::start(|_, mut reply: Reply| async move {
        reply.raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n").await;
        reply.raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntrailer: x-end\r\ntransfer-encoding: chunked\r\n\r\n").await;
        reply.chunk(apis::OPENAI.json.as_bytes()).await;
        reply.raw("0\r\nx-end: 1\r\nx-other: 2\r\n\r\n").await;
        reply
    });
    let proxy = proxy(&backend);
    let mut client = Client::connect(proxy.address).await;
    for round in 1..=2 {
        client.send(&apis::OPENAI.call(ALICE, "te: trailers\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.text().as_str(), answer.is_whole), (apis::OPENAI.json, true));
        assert_eq!(answer.header("trailer"), None);
        assert_eq!(charged(&proxy).await, apis::UNITS * round);
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_body_is_whole() {
    let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
        let status = seen.header("x-status").unwrap_or_else(|| "200 OK".to_owned());
        let length = if status.starts_with('2') && !status.starts_with("204") { "content-length: 12\r\n" } else { "" };
        reply.raw(format!("HTTP/1.1 {status}\r\n{length}etag: \"a\"\r\n\r\n")).await;
        reply
    });
    let passthrough = "[[passthrough]]\npath = \"/v1/files\"\nmethods = [\"GET\"]\nupstream = \"openai\"\n";
    let text = Proxy::config_for(&backend, passthrough);
    let proxy =
        Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, "max_parallel = 1")]), keyward::clock::Clock::system());
    let mut client = Client::connect(proxy.address).await;
    for (method, status) in
        [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified"), ("HEAD", "200 OK")]
    {
        let request = format!(
            "{method} /v1/files HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\nx-status: {status}\r\n\r\n"
        );
        client.send(request.as_bytes()).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        assert_eq!(head.contains("content-length: 12"), method == "HEAD", "{head}");
        let answer = Answer { status: 0, head, body: Vec::new(), is_whole: true };
        let line = log::access(&answer.header("x-request-id").expect("an id")).await;
        assert_eq!(line.get("cut"), None, "{line:?}");
        charged(&proxy).await;
    }
    assert_eq!(backend.connections(), 1);
}
