//! What a request is charged, through sockets: the price is that of the model it reaches, whatever it calls it.

use keyward::clock::Clock;

use crate::harness::proxy::ALICE;
use crate::harness::{Answer, Backend, Client, Proxy, post};

const CHAT: &str = "/v1/chat/completions";

const ANSWER: &str = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;

/// One upstream with two models, two aliases, and prices for what the aliases stand for.
fn proxy(backend: &Backend) -> Proxy {
    let config = format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 2
drain_timeout = "100ms"
[[upstreams]]
name = "one"
dialect = "openai"
url = "http://{}"
models = ["gpt-*", "o3"]
[models]
"fast" = "gpt-4o-mini"
"flat" = "gpt-4o-mini"
[prices."gpt-4o*"]
input = 100000000
output = 10000000
[prices."flat"]
input = 0
request = 7
[prices."o3"]
input = 1000000
output = 900000000
"#,
        backend.address
    );
    Proxy::start(&config, &Proxy::keys_of(&[("alice", ALICE, "quota_limit = 1000000000")]), Clock::system())
}

async fn ask(proxy: &Proxy, members: &str) -> Answer {
    let body = format!(r#"{{{members},"max_tokens":5,"messages":[{{"role":"user","content":"Hi"}}]}}"#);
    let answer = Client::once(proxy.address, &post(CHAT, ALICE, &body)).await;
    proxy.quiet().await;
    answer
}

fn used(proxy: &Proxy) -> u64 {
    proxy.entry(ALICE).limits().quota_used()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_costs_what_it_stands_for_unless_it_has_a_price_of_its_own() {
    let backend = Backend::json(ANSWER);
    let proxy = proxy(&backend);
    for (model, units) in [("gpt-4o-mini", 1_050), ("fast", 1_050), ("flat", 7), ("gpt-3.5", 15)] {
        let before = used(&proxy);
        assert_eq!(ask(&proxy, &format!(r#""model":"{model}""#)).await.status, 200);
        assert_eq!(used(&proxy) - before, units, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_no_usage_is_reported_for_cost_what_was_reserved() {
    let backend = Backend::json(r#"{"created":1,"data":[{"b64_json":"AAAA"},{"b64_json":"AAAA"}]}"#);
    let proxy = proxy(&backend);
    let body = r#"{"model":"gpt-image-1","prompt":"A cat in a hat","n":2}"#;
    let answer = Client::once(proxy.address, &post("/v1/images/generations", ALICE, body)).await;
    assert_eq!(answer.status, 200);
    proxy.quiet().await;
    let prompt = (body.len() as u64).div_ceil(3);
    assert_eq!(used(&proxy), prompt + 2 * keyward::dialect::estimate::IMAGE_OUTPUT_TOKENS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_costs_the_dearest_of_the_models_it_names() {
    let backend = Backend::json(ANSWER);
    let proxy = proxy(&backend);
    for further in [r#""models":["o3"]"#, r#""fallbacks":[{"model":"o3"}]"#, r#""tools":[{"type":"x","model":"o3"}]"#] {
        let before = used(&proxy);
        assert_eq!(ask(&proxy, &format!(r#""model":"fast",{further}"#)).await.status, 200);
        assert_eq!(used(&proxy) - before, 10 * 100 + 5 * 900, "{further}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_model_must_be_one_that_the_upstream_serves_by_that_name() {
    let backend = Backend::json(ANSWER);
    let proxy = proxy(&backend);
    for further in ["flat", "claude-4"] {
        let answer = ask(&proxy, &format!(r#""model":"gpt-4o-mini","models":["gpt-4o","{further}"]"#)).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (404, Some("model_not_found")),
            "{further}"
        );
        assert!(answer.text().contains(further), "{}", answer.text());
    }
    assert_eq!((backend.seen_count(), used(&proxy)), (0, 0));
}
