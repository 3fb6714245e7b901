//! What the estimator learns, through sockets: only from answers that say something of the next ones.

use keyward::clock::Clock;

use crate::harness::proxy::ALICE;
use crate::harness::{Backend, Client, Proxy, post};

const BOB: &str = "bob-secret-00000001";
const CHAT: &str = "/v1/chat/completions";

/// Enough answers for their outputs to be taken up.
const ENOUGH: usize = 32;

const ANSWER: &str = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":60,"completion_tokens":5,"total_tokens":65}}"#;

/// An ordinary key and one for the built-in backend.
fn proxy(backend: &Backend) -> Proxy {
    let keys = Proxy::keys_of(&[("alice", ALICE, "quota_limit = 100000"), ("bob", BOB, "is_sandbox = true")]);
    Proxy::start(&Proxy::config_for(backend, ""), &keys, Clock::system())
}

async fn ask(proxy: &Proxy, key: &str, members: &str) -> serde_json::Value {
    let body = format!(r#"{{"model":"gpt-4o"{members},"messages":[{{"role":"user","content":"Hello there"}}]}}"#);
    let answer = Client::once(proxy.address, &post(CHAT, key, &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    proxy.quiet().await;
    answer.json()
}

fn output_default(proxy: &Proxy) -> u64 {
    proxy.plane.estimator.output_default(Some("gpt-4o"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_that_a_request_caps_teach_nothing_of_those_that_it_does_not() {
    let backend = Backend::json(ANSWER);
    let proxy = proxy(&backend);
    for _ in 0..ENOUGH {
        ask(&proxy, ALICE, r#","max_tokens":5"#).await;
    }
    assert_eq!(output_default(&proxy), 512);
    assert_eq!(proxy.plane.estimator.prompt(Some("gpt-4o"), 60, 0), 42, "prompts are learnt all the same");
    for _ in 0..ENOUGH {
        ask(&proxy, ALICE, "").await;
    }
    assert_eq!(output_default(&proxy), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_a_quota_caps_teaches_nothing() {
    let backend = Backend::json(ANSWER);
    let proxy = proxy(&backend);
    for round in 1..=ENOUGH {
        // Always 100 units left.
        let limit = (round - 1) * 65 + 100;
        proxy.put(&Proxy::keys_of(&[("alice", ALICE, &format!("quota_limit = {limit}"))]));
        ask(&proxy, ALICE, "").await;
    }
    assert_eq!(output_default(&proxy), 512);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_built_in_backend_teaches_nothing() {
    let backend = Backend::json(ANSWER);
    let proxy = proxy(&backend);
    for _ in 0..ENOUGH {
        ask(&proxy, BOB, "").await;
    }
    assert_eq!((output_default(&proxy), proxy.plane.estimator.prompt(Some("gpt-4o"), 300, 0)), (512, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_built_in_backend_answers_the_same_whatever_was_learnt() {
    let backend = Backend::json(ANSWER);
    let proxy = proxy(&backend);
    let first = ask(&proxy, BOB, "").await;
    assert_eq!(first["usage"]["prompt_tokens"], 24, "a third of 72 bytes");
    ask(&proxy, ALICE, "").await;
    assert_eq!(ask(&proxy, BOB, "").await, first);
}
