//! Several pools that serve one model: who is asked, who takes over, and with what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Mortal, is_quiet};
use crate::harness::proxy::ALICE;
use crate::harness::{Backend, Client, Proxy, apis, chat, log, post, raw_backend};

use keyward::clock::Clock;

const KEY: &[(&str, &str, &str)] = &[("alice", ALICE, "quota_limit = 1000000\nmodels_allowed = [\"gpt-*\", \"fast\"]")];

fn pool(name: &str, address: std::net::SocketAddr, more: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"{name}\"\ndialect = \"openai\"\nurl = \"http://{address}\"\napi_key = \"credential-of-{name}\"\nmodels = [\"gpt-*\"]\n{more}\n"
    )
}

fn proxy(pools: &[String]) -> Proxy {
    let head =
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ndrain_timeout = \"100ms\"\n[models]\nfast = \"gpt-4o\"\n";
    Proxy::start(&format!("{head}{}", pools.concat()), &Proxy::keys_of(KEY), Clock::system())
}

async fn ask(proxy: &Proxy, model: &str) -> crate::harness::Answer {
    Client::once(proxy.address, &post("/v1/chat/completions", ALICE, &chat(model, false))).await
}

const ANSWER: &str = "{\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_priority_takes_over_with_its_own_credential_and_headers_and_the_same_body() {
    let other = Backend::json(ANSWER);
    let first = pool("first", raw_backend::dead_address(), "headers = { x-first = \"1\", x-both = \"first\" }");
    let second = pool("second", other.address, "priority = 1\nheaders = { x-both = \"second\" }");
    let proxy = proxy(&[second, first]);
    for model in ["gpt-4o", "fast"] {
        let answer = ask(&proxy, model).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
        let line = log::access(&answer.header("x-request-id").expect("an id")).await;
        assert_eq!((line["upstream"].as_str(), line["units"].as_str()), ("second", "18"));
        let seen = other.seen().pop().expect("a request");
        assert_eq!(seen.header("authorization").as_deref(), Some("Bearer credential-of-second"));
        assert_eq!((seen.header("x-first"), seen.header("x-both").as_deref()), (None, Some("second")));
        assert_eq!(seen.text(), chat("gpt-4o", false), "the model as it is known upstream");
        assert_eq!(seen.header("host"), Some(other.address.to_string()));
    }
    let metrics = proxy.metrics_text();
    assert!(metrics.contains("keyward_upstream_requests_total{upstream=\"first\",outcome=\"upstream_unreachable\"} 2"));
    assert!(
        metrics.contains("keyward_upstream_requests_total{upstream=\"second\",outcome=\"answered\"} 2"),
        "{metrics}"
    );
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_the_same_priority_never_takes_over() {
    let other = Backend::json(ANSWER);
    let proxy = proxy(&[pool("first", raw_backend::dead_address(), ""), pool("second", other.address, "")]);
    assert_eq!(ask(&proxy, "gpt-4o").await.status, 502);
    assert_eq!(other.seen_count(), 0, "nobody said that prompts may go there");
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_or_answered_goes_to_nobody_else() {
    let other = Backend::json(ANSWER);
    let breaking = raw_backend::RawBackend::start(|mut stream, _| async move {
        raw_backend::read_request(&mut stream).await;
    });
    let failing = Backend::start(|_, mut reply| async move {
        reply.json(503, "{\"error\":{}}").await;
        reply
    });
    for (address, status) in [(breaking.address, 502), (failing.address, 503)] {
        let proxy = proxy(&[pool("first", address, ""), pool("second", other.address, "priority = 1")]);
        assert_eq!(ask(&proxy, "gpt-4o").await.status, status);
        assert_eq!(other.seen_count(), 0);
        is_quiet(&proxy).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_means_nothing_was_done_is_passed_over_or_passed_on() {
    let busy = Backend::start(|_, mut reply| async move {
        reply.json(429, "{\"error\":{\"code\":\"slow_down\"}}").await;
        reply
    });
    let other = Backend::json(ANSWER);
    let first = pool("first", busy.address, "retry_on = [429]\nretries = 1");
    let served = proxy(&[first.clone(), pool("second", other.address, "priority = 1")]);
    assert_eq!(ask(&served, "gpt-4o").await.status, 200);
    assert_eq!((busy.seen_count(), other.seen_count()), (1, 1), "rather another than the same once more");
    let told = proxy(&[first, pool("second", raw_backend::dead_address(), "priority = 1")]);
    let answer = ask(&told, "gpt-4o").await;
    assert_eq!((answer.status, answer.text().as_str()), (429, "{\"error\":{\"code\":\"slow_down\"}}"));
    let line = log::access(&answer.header("x-request-id").expect("an id")).await;
    assert_eq!(line["upstream"], "first");
    is_quiet(&served).await;
    is_quiet(&told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_ejected_pool_answers_when_nobody_else_is_left_is_passed_on() {
    let breaks = Arc::new(AtomicBool::new(true));
    let first = Backend::start(move |_, mut reply| {
        let breaks = Arc::clone(&breaks);
        async move {
            if breaks.swap(false, Ordering::SeqCst) {
                reply.cut();
            } else {
                reply.json(429, "{\"error\":{\"code\":\"slow_down\"}}").await;
            }
            reply
        }
    });
    let more = "retry_on = [429]\neject_after = 1\neject_time = \"1h\"";
    let second = pool("second", raw_backend::dead_address(), "priority = 1");
    let proxy = proxy(&[pool("first", first.address, more), second]);
    assert_eq!(ask(&proxy, "gpt-4o").await.status, 502);
    assert!(proxy.live().routes.upstreams()[0].health.is_ejected(0));
    let answer = ask(&proxy, "gpt-4o").await;
    assert_eq!((answer.status, answer.text().as_str()), (429, "{\"error\":{\"code\":\"slow_down\"}}"));
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_ejected_is_not_asked_until_it_is_well() {
    let (first, second) = (Mortal::start().await, Mortal::start().await);
    first.kill().await;
    let more = "eject_after = 3\neject_time = \"1h\"\nretries = 0\nprobe = { interval = \"100ms\" }";
    let proxy = proxy(&[pool("first", first.address, more), pool("second", second.address, "priority = 1")]);
    for _ in 0..20 {
        assert_eq!(ask(&proxy, "gpt-4o").await.status, 200);
    }
    let failed = "keyward_upstream_requests_total{upstream=\"first\",outcome=\"upstream_unreachable\"} 20";
    assert!(proxy.metrics_text().contains(failed), "each is counted, though only three of them knocked");
    assert!(proxy.live().routes.upstreams()[0].health.is_ejected(0));
    proxy.probing();
    first.revive().await;
    while first.served() == 0 {
        assert_eq!(ask(&proxy, "gpt-4o").await.status, 200);
    }
    // With both dead, the one that is ejected is asked all the same: it may be well again.
    first.kill().await;
    second.kill().await;
    for _ in 0..8 {
        assert_eq!(ask(&proxy, "gpt-4o").await.status, 502);
    }
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_full_hands_on_and_the_last_sheds() {
    let hanging = || {
        Backend::start(|_, mut reply| async move {
            reply.until_gone().await;
            reply
        })
    };
    let (first, second) = (hanging(), hanging());
    let one = "max_outstanding = 1";
    let proxy =
        proxy(&[pool("first", first.address, one), pool("second", second.address, &format!("{one}\npriority = 1"))]);
    let mut held = Vec::new();
    for (backend, count) in [(&first, 1), (&second, 1)] {
        let mut client = Client::connect(proxy.address).await;
        client.send(&post("/v1/chat/completions", ALICE, &chat("gpt-4o", false))).await;
        while backend.seen_count() < count {
            tokio::task::yield_now().await;
        }
        held.push(client);
    }
    let answer = ask(&proxy, "gpt-4o").await;
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("1")), "{}", answer.text());
    assert_eq!(apis::OPENAI.error_code(&answer.json()), "upstream_busy");
    drop(held);
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_gets_no_more_by_another_pool_than_by_the_first() {
    let other = Backend::json(ANSWER);
    let proxy = proxy(&[
        pool("first", raw_backend::dead_address(), ""),
        pool("second", other.address, "priority = 1").replace("gpt-*", "*"),
    ]);
    assert_eq!(ask(&proxy, "o3").await.status, 403, "the second would serve it");
    assert_eq!(other.seen_count(), 0);
    is_quiet(&proxy).await;
}
