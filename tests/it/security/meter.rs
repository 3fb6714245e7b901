//! The meter: whatever a client asks for, what it may cost is reserved before anything goes upstream.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::harness::proxy::ALICE;
use crate::harness::{self, Backend, Client, Proxy, Reply};

/// What is committed of the quota while the backend has the request, and how many units are charged after an answer without usage.
async fn reserved(path: &str, body: &str) -> u64 {
    let answer_now = Arc::new(Semaphore::new(0));
    let told = Arc::clone(&answer_now);
    let backend = Backend::start(move |_, mut reply: Reply| {
        let told = Arc::clone(&told);
        async move {
            told.acquire().await.expect("never closed").forget();
            reply.json(500, "{}").await;
            reply
        }
    });
    let proxy = Proxy::with_key(&backend, "quota_limit = 100000000");
    let mut client = Client::connect(proxy.address).await;
    client.send(&harness::post(path, ALICE, body)).await;
    let arrived = async {
        while backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), arrived).await.unwrap_or_else(|_| panic!("{path} {body} is not forwarded"));
    let committed = proxy.entry(ALICE).limits().quota_committed();
    answer_now.add_permits(1);
    assert_eq!(client.answer().await.status, 500);
    proxy.quiet().await;
    assert_eq!(proxy.entry(ALICE).limits().quota_committed(), 0, "a backend's error gives everything back");
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_asked_for_is_reserved_by_the_largest_of_its_limits() {
    let chat = "/v1/chat/completions";
    let with = |members: &str| format!("{{\"model\":\"m\",\"messages\":[],{members}}}");
    for (path, body, least) in [
        (chat, with("\"max_tokens\":1000"), 1_000),
        (chat, with("\"max_completion_tokens\":1000"), 1_000),
        (chat, with("\"max_tokens\":1000,\"n\":7"), 7_000),
        (chat, with("\"n\":7,\"max_completion_tokens\":1000"), 7_000),
        (chat, with("\"max_tokens\":1,\"max_completion_tokens\":1000"), 1_000),
        (chat, with("\"max_completion_tokens\":1,\"max_tokens\":1000"), 1_000),
        (
            "/v1/completions",
            "{\"model\":\"m\",\"prompt\":[\"a\",\"b\",\"c\"],\"max_tokens\":1000,\"n\":2}".to_owned(),
            6_000,
        ),
        (
            "/v1/completions",
            "{\"model\":\"m\",\"prompt\":\"a\",\"max_tokens\":1000,\"n\":1,\"best_of\":9}".to_owned(),
            9_000,
        ),
        ("/v1/responses", "{\"model\":\"m\",\"input\":\"a\",\"max_output_tokens\":1000}".to_owned(), 1_000),
    ] {
        let got = reserved(path, &body).await;
        assert!((least..least * 2).contains(&got), "{path} {body}: {got} reserved, at least {least} are due");
    }
}
