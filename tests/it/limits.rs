//! Limits, through sockets: exact under concurrency, exact in what they say of themselves, and each blind to what another
//! refuses. The clock stands still unless a test moves it.

mod clamp;
mod exact;
mod headers;
mod life;
mod quota;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyward::clock::{Clock, Now};
use keyward::policy::Standing;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::proxy::ALICE;
use crate::harness::time::eventually;
use crate::harness::{Answer, Backend, Client, Proxy, Reply, Seen, get, post};

/// 2025-06-15, afternoon.
const NOW: Now = Now { monotonic_ns: 1_000_000_000_000, unix_ms: 1_750_000_000_000 };

const NS_PER_MS: u64 = 1_000_000;

/// Bytes of every body here, so that each prompt is estimated at 100 tokens, and goes on being: the backend reports 100.
const BODY: usize = 300;
const PROMPT: u64 = 100;

const CHAT: &str = "/v1/chat/completions";

/// A body of exactly [`BODY`] bytes, its members before the messages given.
fn body(members: &str) -> String {
    let frame = format!(r#"{{{members}"messages":[{{"role":"user","content":""}}]}}"#);
    let filling = "x".repeat(BODY - frame.len());
    frame.replace(r#""content":"""#, &format!(r#""content":"{filling}""#))
}

/// A chat that may answer `output` tokens.
fn chat(output: u64) -> Vec<u8> {
    post(CHAT, ALICE, &body(&format!(r#""model":"m","max_tokens":{output},"#)))
}

/// A proxy with one key, [`ALICE`], in front of `backend`, room for every connection a test makes, and its clock.
fn proxy(backend: &Backend, policy: &str, more: &str) -> (Proxy, Clock) {
    proxy_with_keys(backend, &Proxy::keys_of(&[("alice", ALICE, policy)]), more)
}

fn proxy_with_keys(backend: &Backend, keys: &str, more: &str) -> (Proxy, Clock) {
    let clock = Clock::manual(NOW);
    let config = Proxy::config_for(backend, more);
    let config = config.replacen("[server]\n", "[server]\nmax_connections_per_client = 9000\n", 1);
    (Proxy::start(&config, keys, clock.clone()), clock)
}

/// How much an answer to this request uses: the prompt as estimated, and all the output it may have, `n` times.
fn whole_usage(request: &Value) -> (u64, u64) {
    let stated =
        ["max_tokens", "max_completion_tokens", "max_output_tokens"].iter().find_map(|name| request[name].as_u64());
    (PROMPT, stated.unwrap_or(512) * request["n"].as_u64().unwrap_or(1))
}

/// A backend that uses what `usage` says of the request, and answers once `gate` is open.
fn metered(gate: &Arc<Semaphore>, usage: fn(&Value) -> (u64, u64)) -> Backend {
    let gate = Arc::clone(gate);
    Backend::start(move |seen: Seen, reply| {
        let gate = Arc::clone(&gate);
        async move {
            // An open gate is a closed semaphore.
            let _ = gate.acquire().await;
            let request = serde_json::from_slice(&seen.body).unwrap_or_default();
            answer(&request, usage(&request), reply).await
        }
    })
}

async fn answer(request: &Value, (prompt, output): (u64, u64), mut reply: Reply) -> Reply {
    let usage = json!({ "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output });
    if request["stream"] == true {
        reply.stream_head().await;
        let choice = json!({ "choices": [{ "index": 0, "delta": { "content": "Hi" } }] });
        reply.chunk(format!("data: {choice}\n\n").as_bytes()).await;
        let last = json!({ "choices": [], "usage": usage });
        reply.chunk(format!("data: {last}\n\ndata: [DONE]\n\n").as_bytes()).await;
        reply.end().await;
    } else {
        let body = json!({ "choices": [{ "index": 0, "message": { "content": "Hi" } }], "usage": usage });
        reply.json(200, &body.to_string()).await;
    }
    reply
}

/// Tokens that the answer says were used.
fn told_usage(answer: &Answer) -> u64 {
    let last = answer.text();
    let event = last.lines().filter_map(|line| line.strip_prefix("data: ")).rfind(|data| data.contains("total_tokens"));
    let value: Value = event.map_or_else(|| answer.json(), |event| serde_json::from_str(event).expect("an event"));
    value["usage"]["total_tokens"].as_u64().expect("a usage")
}

/// Requests that are all under way at once, each on a connection of its own.
struct Storm {
    tasks: JoinSet<Answer>,
    answered: Arc<AtomicUsize>,
}

impl Storm {
    fn of(proxy: &Proxy, requests: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let (mut tasks, answered) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for request in requests {
            let (address, answered) = (proxy.address, Arc::clone(&answered));
            tasks.spawn(async move {
                let answer = Client::once(address, &request).await;
                answered.fetch_add(1, Ordering::SeqCst);
                answer
            });
        }
        Self { tasks, answered }
    }

    /// Waits until so many have their answer, and the backend so many requests.
    async fn until(&self, answered: usize, backend: &Backend, seen: usize) {
        let what = format!("{answered} answers and {seen} requests at the backend");
        eventually(&what, || self.answered.load(Ordering::SeqCst) == answered && backend.seen_count() == seen).await;
    }

    async fn all(self) -> Vec<Answer> {
        self.tasks.join_all().await
    }
}

async fn one(proxy: &Proxy, request: &[u8]) -> Answer {
    within(Client::once(proxy.address, request)).await
}

async fn within<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), doing).await.expect("20 s were not enough")
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// Where alice stands.
fn standing(proxy: &Proxy) -> Standing {
    let entry = proxy.entry(ALICE);
    entry.limits().standing(&entry.policy(), proxy.plane.clock.now())
}

/// The wait a refusal tells, milliseconds, once it is checked that all its spellings agree.
fn told_wait_ms(answer: &Answer) -> Option<u64> {
    let ms = answer.header("retry-after-ms").map(|ms| ms.parse::<u64>().expect("milliseconds"));
    let seconds = answer.header("retry-after").map(|seconds| seconds.parse::<u64>().expect("seconds"));
    assert_eq!(seconds, ms.map(|ms| ms.div_ceil(1_000)));
    ms
}
