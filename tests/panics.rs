//! A panic in the middle of a request: its connection ends, what it held is given back or charged, and the others go on.
//!
//! It comes from where a panic can come from without a bug of ours: the log. The subscriber of this process fails on the lines of
//! requests that ask for it, at three moments of a request's life. A program of its own, since a process has one subscriber.

#[path = "it/harness/mod.rs"]
mod harness;

use std::fmt;
use std::sync::Once;
use std::time::Duration;

use harness::{Answer, Backend, Client, Proxy, Reply, Seen};
use keyward::clock::{Clock, Now};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

const NOW: Now = Now { monotonic_ns: 1_000_000_000_000, unix_ms: 1_750_000_000_000 };

/// Fails where a line says so in the field it is looked for in.
struct Faulty;

struct Look {
    is_wanted: bool,
}

impl Visit for Look {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        self.is_wanted |= match field.name() {
            "request_id" => value.starts_with("fail-the-log"),
            "upstream" => value == "fails-the-log",
            _ => false,
        };
    }
}

impl<S: Subscriber> Layer<S> for Faulty {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut look = Look { is_wanted: false };
        event.record(&mut look);
        // A second panic while the first one unwinds would end the process.
        if look.is_wanted && !std::thread::panicking() {
            panic!("the log is broken");
        }
    }
}

fn break_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::registry().with(Faulty).init());
}

const BODY: usize = 300;
const PROMPT: u64 = 100;
const LIMITS: &str = "rpm_limit = 3\ntpm_limit = 60000000\nquota_limit = 1000000\nmax_parallel = 2";

fn chat(key: &str, model: &str, id: &str, stream: bool) -> Vec<u8> {
    let frame = format!(r#"{{"model":"{model}","stream":{stream},"max_tokens":50,"messages":[],"user":"FILL"}}"#);
    let body = frame.replace("FILL", &"x".repeat(BODY + 4 - frame.len()));
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {key}\r\nx-request-id: {id}\r\n\
         content-type: application/json\r\ncontent-length: {BODY}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Breaks streams off after one event, and answers everything else.
fn backend() -> Backend {
    Backend::start(|seen: Seen, mut reply: Reply| async move {
        if seen.text().contains("\"stream\":true") {
            reply.stream_head().await;
            reply.chunk(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n").await;
            reply.cut();
        } else {
            let usage = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}"#;
            reply.json(200, &format!(r#"{{"choices":[],"usage":{usage}}}"#)).await;
        }
        reply
    })
}

fn start(backend: &Backend) -> Proxy {
    break_the_log();
    let keys = Proxy::keys_of(&[
        ("cancels", "cancels-secret", LIMITS),
        ("drains", "drains-secret", &format!("{LIMITS}\non_disconnect = \"drain\"")),
    ]);
    let dead = "[[upstreams]]\nname = \"fails-the-log\"\ndialect = \"openai\"\nurl = \"http://127.0.0.1:1\"\nmodels = [\"dead\"]\n[[upstreams]]";
    // One worker: whoever comes after a panic is served by the thread that had it.
    let config =
        Proxy::config_for(backend, "").replacen("[[upstreams]]", dead, 1).replacen("workers = 2", "workers = 1", 1);
    Proxy::start(&config, &keys, Clock::manual(NOW))
}

/// Reads until the connection ends; true when it ended without a whole answer.
async fn breaks_off(proxy: &Proxy, request: &[u8]) -> bool {
    use tokio::io::AsyncReadExt;
    let mut client = Client::connect(proxy.address).await;
    client.send(request).await;
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.stream.read_to_end(&mut all)).await;
    let _ = read.expect("the connection ends");
    !all.ends_with(b"0\r\n\r\n") && (all.is_empty() || all.windows(7).any(|w| w == b"chunked"))
}

/// Waits until nothing is under way, and checks what the key was charged and that nothing is left of the request.
async fn is_clean(proxy: &Proxy, secret: &str, used: std::ops::RangeInclusive<u64>, requests: u64, panics: u64) {
    let (entry, metrics) = (proxy.entry(secret), &proxy.plane.metrics);
    let resting = async {
        while metrics.connections.get() != 0 || metrics.in_flight() != 0 || entry.limits().in_use() != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), resting).await.expect("something is under way for ever");
    let stands = entry.limits().standing(&entry.policy(), NOW);
    let (quota, tokens, counted) = (stands.quota.unwrap(), stands.tokens.unwrap(), stands.requests.unwrap());
    assert!(used.contains(&quota.used), "{} units", quota.used);
    assert_eq!(quota.reserved, 0);
    assert_eq!((tokens.reset_ns / 1_000, counted.limit - counted.remaining), (quota.used, requests));
    assert_eq!((metrics.panics.get(), metrics.units()), (panics, quota.used));
    assert_eq!((proxy.plane.body_budget.held(), metrics.body_bytes.get()), (0, 0));
    let is_over = async {
        while metrics.time_limits.get() != 0 || metrics.upstream_in_flight.get() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_over).await.expect("a time limit or an upstream request is left");
}

/// The same worker serves the next one, which pays for itself alone.
async fn goes_on(proxy: &Proxy, secret: &str) {
    let answer: Answer = Client::once(proxy.address, &chat(secret, "m", "fine", false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_an_answer_the_prompt_is_charged() {
    for secret in ["cancels-secret", "drains-secret"] {
        let backend = backend();
        let proxy = start(&backend);
        assert!(breaks_off(&proxy, &chat(secret, "dead", "a", false)).await, "{secret}");
        is_clean(&proxy, secret, PROMPT..=PROMPT, 1, 1).await;
        goes_on(&proxy, secret).await;
        is_clean(&proxy, secret, PROMPT + 150..=PROMPT + 150, 2, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amid_an_answer_what_was_seen_of_it_is_charged() {
    for secret in ["cancels-secret", "drains-secret"] {
        let backend = backend();
        let proxy = start(&backend);
        assert!(breaks_off(&proxy, &chat(secret, "m", "fail-the-log-1", true)).await, "{secret}");
        is_clean(&proxy, secret, PROMPT + 1..=PROMPT + 50, 1, 1).await;
        goes_on(&proxy, secret).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_everything_was_settled_nothing_is_charged_twice() {
    let backend = backend();
    let proxy = start(&backend);
    // Its access line is written when the whole answer has been handed on.
    let _ = breaks_off(&proxy, &chat("cancels-secret", "m", "fail-the-log-2", false)).await;
    is_clean(&proxy, "cancels-secret", 150..=150, 1, 1).await;
    goes_on(&proxy, "cancels-secret").await;
    is_clean(&proxy, "cancels-secret", 300..=300, 2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_leaves_everything_as_it_was() {
    let backend = backend();
    let proxy = start(&backend);
    for _ in 0..3 {
        goes_on(&proxy, "cancels-secret").await;
    }
    is_clean(&proxy, "cancels-secret", 450..=450, 3, 0).await;
    assert!(breaks_off(&proxy, &chat("cancels-secret", "m", "fail-the-log-3", false)).await);
    is_clean(&proxy, "cancels-secret", 450..=450, 3, 1).await;
}
