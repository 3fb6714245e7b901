//! Another model in the place of one that no upstream could take: decided and charged as if it had been asked for, once.

use std::net::SocketAddr;
use std::path::Path;

use keyward::app::reload;
use keyward::clock::Clock;
use keyward::config;

use super::{Mortal, is_quiet};
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::{self, dead_address};
use crate::harness::{Answer, Backend, Client, Proxy, apis, chat, log, post};

const ANSWER: &str = "{\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}";

/// Two models at 100 and 10 units a token, an alias of the second, and what is tried for the first.
const MODELS: &str = r#"
[models]
"fast" = "gpt-4o-mini"
[prices."gpt-4o"]
input = 100000000
[prices."gpt-4o-mini"]
input = 10000000
[prices."gpt-huge"]
input = 100000000000
"#;

const FALLBACKS: &str = "[fallbacks]\n\"gpt-4o\" = [\"fast\", \"gpt-huge\", \"gpt-3.5\"]\n";

fn pool(dialect: &str, name: &str, address: SocketAddr, models: &str, more: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nurl = \"http://{address}\"\napi_key = \"credential-of-{name}\"\nmodels = [{models}]\n{more}\n"
    )
}

/// `gpt-4o` is served at `first`, everything else at `second`.
fn text(first: SocketAddr, second: SocketAddr, more: &str, fallbacks: &str) -> String {
    let head = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ndrain_timeout = \"100ms\"\n";
    let first = pool("openai", "first", first, "\"gpt-4o\"", &format!("headers = {{ x-first = \"1\" }}\n{more}"));
    let second = pool("openai", "second", second, "\"gpt-4o-mini\", \"gpt-huge\", \"gpt-3.5\"", "");
    format!("{head}{first}{second}{MODELS}{fallbacks}")
}

fn start(text: &str, key: &str) -> Proxy {
    Proxy::start(text, &Proxy::keys_of(&[("alice", ALICE, key)]), Clock::system())
}

async fn ask(proxy: &Proxy, model: &str) -> Answer {
    Client::once(proxy.address, &post("/v1/chat/completions", ALICE, &chat(model, false))).await
}

/// The answer is the fault of the model asked for, and says of no other.
async fn is_the_first_fault(answer: &Answer) {
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(apis::OPENAI.error_code(&answer.json()), "upstream_unreachable");
    assert_eq!(answer.header("x-keyward-model"), None);
    let line = log::access(&answer.header("x-request-id").expect("an id")).await;
    assert_eq!((line["model"].as_str(), line["upstream"].as_str(), line["units"].as_str()), ("gpt-4o", "first", "0"));
}

/// Nothing is held and no byte of a body is counted.
async fn is_clean(proxy: &Proxy) {
    is_quiet(proxy).await;
    assert_eq!((proxy.plane.body_budget.held(), proxy.plane.metrics.body_bytes.get()), (0, 0));
}

fn used(proxy: &Proxy) -> u64 {
    proxy.entry(ALICE).limits().quota_used()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_under_its_own_name_and_is_charged_at_its_price_once() {
    let other = Backend::json(ANSWER);
    let proxy = start(&text(dead_address(), other.address, "", FALLBACKS), "quota_limit = 100000000");
    let answer = ask(&proxy, "gpt-4o").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
    assert_eq!(answer.header("x-keyward-model").as_deref(), Some("fast"));
    let line = log::access(&answer.header("x-request-id").expect("an id")).await;
    assert_eq!((line["model"].as_str(), line["upstream"].as_str(), line["units"].as_str()), ("fast", "second", "180"));
    let seen = other.seen().pop().expect("a request");
    assert_eq!(seen.text(), chat("gpt-4o-mini", false), "the alias as it is known upstream, and nothing else changed");
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer credential-of-second"));
    assert_eq!(seen.header("x-first"), None);
    is_clean(&proxy).await;
    assert_eq!(used(&proxy), 180);
    let direct = ask(&proxy, "fast").await;
    assert_eq!((direct.status, direct.header("x-keyward-model")), (200, None), "it was asked for");
    is_clean(&proxy).await;
    assert_eq!((used(&proxy), other.seen_count()), (360, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_the_key_may_not_use_is_passed_over() {
    let other = Backend::json(ANSWER);
    let config = text(dead_address(), other.address, "", FALLBACKS);
    // Quota covers neither the output nor the prompt of the dearest.
    let last = start(&config, "quota_limit = 1000000\nmodels_allowed = [\"gpt-4o\", \"gpt-huge\", \"gpt-3.5\"]");
    let answer = ask(&last, "gpt-4o").await;
    assert_eq!((answer.status, answer.header("x-keyward-model").as_deref()), (200, Some("gpt-3.5")));
    is_clean(&last).await;
    assert_eq!((used(&last), other.seen_count()), (18, 1));
    assert_eq!(other.seen().pop().expect("a request").text(), chat("gpt-3.5", false));
    let none = start(&config, "quota_limit = 1000000\nmodels_allowed = [\"gpt-4o\", \"gpt-huge\"]\nrpm_limit = 1");
    for _ in 0..3 {
        is_the_first_fault(&ask(&none, "gpt-4o").await).await;
        is_clean(&none).await;
    }
    assert_eq!((used(&none), other.seen_count()), (0, 1), "one it may not use and one it cannot pay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_first_is_the_answer_whatever_it_says() {
    let other = Backend::json(ANSWER);
    for status in [400, 404, 429, 500, 503] {
        let first = Backend::start(move |_, mut reply| async move {
            reply.json(status, "{\"error\":{}}").await;
            reply
        });
        let proxy = start(&text(first.address, other.address, "retry_on = [429, 503]", FALLBACKS), "");
        let answer = ask(&proxy, "gpt-4o").await;
        assert_eq!((answer.status, answer.header("x-keyward-model")), (status, None));
        is_clean(&proxy).await;
    }
    let breaking = raw_backend::RawBackend::start(|mut stream, _| async move {
        raw_backend::read_request(&mut stream).await;
    });
    let proxy = start(&text(breaking.address, other.address, "", FALLBACKS), "");
    assert_eq!(ask(&proxy, "gpt-4o").await.status, 502, "it may have been read");
    is_clean(&proxy).await;
    assert_eq!(other.seen_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_counted_once_and_one_that_nobody_took_not_at_all() {
    let other = Mortal::start().await;
    let limits = "rpm_limit = 1\nmax_parallel = 1\ntpm_limit = 100000\nquota_limit = 100000000";
    let proxy = start(&text(dead_address(), other.address, "", FALLBACKS), limits);
    other.kill().await;
    let entry = proxy.entry(ALICE);
    let standing = || {
        let standing = entry.limits().standing(&entry.policy(), proxy.plane.clock.now());
        (standing.requests.map(|requests| requests.remaining), standing.tokens.map(|tokens| tokens.remaining))
    };
    let before = standing();
    for _ in 0..3 {
        is_the_first_fault(&ask(&proxy, "gpt-4o").await).await;
        is_clean(&proxy).await;
        assert_eq!((standing(), used(&proxy)), (before, 0));
    }
    other.revive().await;
    let answer = ask(&proxy, "gpt-4o").await;
    assert_eq!((answer.status, answer.header("x-ratelimit-remaining-requests").as_deref()), (200, Some("0")));
    is_clean(&proxy).await;
    assert_eq!(ask(&proxy, "gpt-4o").await.status, 429, "the one a minute was used");
    assert_eq!(other.served(), 1);
    is_clean(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_where_the_first_is_full() {
    let first = Backend::start(|_, mut reply| async move {
        reply.until_gone().await;
        reply
    });
    let other = Backend::json(ANSWER);
    let proxy = start(&text(first.address, other.address, "max_outstanding = 1", FALLBACKS), "");
    let mut held = Client::connect(proxy.address).await;
    held.send(&post("/v1/chat/completions", ALICE, &chat("gpt-4o", false))).await;
    while first.seen_count() < 1 {
        tokio::task::yield_now().await;
    }
    let answer = ask(&proxy, "gpt-4o").await;
    assert_eq!((answer.status, answer.header("x-keyward-model").as_deref()), (200, Some("fast")));
    drop(held);
    is_clean(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ejected_is_asked_only_when_no_fallback_serves() {
    let (first, other) = (Mortal::start().await, Mortal::start().await);
    first.kill().await;
    let more = "eject_after = 1\neject_time = \"1h\"\nretries = 0";
    let proxy = start(&text(first.address, other.address, more, FALLBACKS), "");
    assert_eq!(ask(&proxy, "gpt-4o").await.status, 200);
    assert!(proxy.live().routes.upstreams()[0].health.is_ejected(0));
    first.revive().await;
    let answer = ask(&proxy, "gpt-4o").await;
    assert_eq!((answer.status, answer.header("x-keyward-model").as_deref()), (200, Some("fast")));
    assert_eq!((first.served(), other.served()), (0, 2), "it might hang");
    other.kill().await;
    let answer = ask(&proxy, "gpt-4o").await;
    assert_eq!((answer.status, answer.header("x-keyward-model"), first.served()), (200, None, 1));
    let line = log::access(&answer.header("x-request-id").expect("an id")).await;
    assert_eq!((line["model"].as_str(), line["upstream"].as_str()), ("gpt-4o", "first"));
    is_clean(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_a_path_or_a_form_is_replaced_as_an_aliass_is() {
    const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nMODEL\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
    let other = Backend::json(ANSWER);
    let mut config = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ndrain_timeout = \"100ms\"\n".to_owned();
    for dialect in ["openai", "azure", "gemini"] {
        let first = pool(dialect, &format!("{dialect}-1"), dead_address(), "\"gpt-4o\"", "");
        config += &(first + &pool(dialect, &format!("{dialect}-2"), other.address, "\"gpt-4o-mini\"", ""));
    }
    let proxy = start(&(config + MODELS + FALLBACKS), "");
    let send = async |path: &str, kind: &str, body: &str| {
        let request = String::from_utf8(post(path, ALICE, body)).expect("text").replace("application/json", kind);
        let answer = Client::once(proxy.address, request.as_bytes()).await;
        assert_eq!((answer.status, answer.header("x-keyward-model").as_deref()), (200, Some("fast")), "{path}");
        other.seen().pop().expect("a request")
    };
    let path = |model| format!("/openai/deployments/{model}/chat/completions?api-version=1");
    let azure = send(&path("gpt-4o"), "application/json", &chat("gpt-4o", false)).await;
    assert_eq!((azure.path(), azure.text()), (&*path("gpt-4o-mini"), chat("gpt-4o-mini", false)));
    let gemini = send("/v1beta/models/gpt-4o:generateContent", "application/json", "{\"contents\":[]}").await;
    assert_eq!(gemini.path(), "/v1beta/models/gpt-4o-mini:generateContent");
    let (kind, transcriptions) = ("multipart/form-data; boundary=b", "/v1/audio/transcriptions");
    let form = send(transcriptions, kind, &FORM.replace("MODEL", "gpt-4o")).await;
    assert_eq!((form.path(), form.text()), (transcriptions, FORM.replace("MODEL", "gpt-4o-mini")));
    is_clean(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_metered_for_the_one_that_serves() {
    let other = Backend::start(|_, mut reply| async move {
        reply.stream_head().await;
        reply.chunk(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\n").await;
        reply.chunk(b"data: [DONE]\n\n").await;
        reply.end().await;
        reply
    });
    let proxy = start(&text(dead_address(), other.address, "", FALLBACKS), "quota_limit = 100000000");
    let answer = Client::once(proxy.address, &post("/v1/chat/completions", ALICE, &chat("gpt-4o", true))).await;
    assert_eq!((answer.status, answer.header("x-keyward-model").as_deref()), (200, Some("fast")));
    assert!(!answer.text().contains("usage"), "nobody asked for it: {}", answer.text());
    assert!(other.seen().pop().expect("a request").text().contains("\"include_usage\":true"));
    is_clean(&proxy).await;
    assert_eq!(used(&proxy), 180);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_brings_it_in_and_takes_it_out() {
    let (other, dead) = (Backend::json(ANSWER), dead_address());
    let proxy = start(&text(dead, other.address, "", ""), "");
    for (fallbacks, status) in [("", 502), (FALLBACKS, 200), ("", 502)] {
        let text = text(dead, other.address, "", fallbacks);
        let config = config::parse(&text, Path::new("keyward.toml"), &|_| None).expect("a good file");
        proxy.plane.live.store(reload::live(&config, Some(&proxy.live())).into());
        assert_eq!(ask(&proxy, "gpt-4o").await.status, status);
    }
    is_clean(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_that_hold_when_it_is_tried_decide() {
    // It takes connections and says no word of TLS: the request waits for its connect timeout.
    let stuck = raw_backend::RawBackend::start(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let other = Backend::json(ANSWER);
    let config = text(stuck.address, other.address, "connect_timeout = \"1s\"\nretries = 0", FALLBACKS);
    let config = config.replacen("http://", "https://", 1);
    for (change, status) in [("models_allowed = [\"gpt-4o\"]", 502), ("", 200)] {
        let proxy = start(&config, "");
        let changing = async {
            while proxy.entry(ALICE).limits().in_use() == 0 {
                tokio::task::yield_now().await;
            }
            proxy.put(&Proxy::keys_of(&[("alice", ALICE, change)]));
        };
        let (answer, ()) = tokio::join!(ask(&proxy, "gpt-4o"), changing);
        assert_eq!(answer.status, status, "{change}: {}", answer.text());
        is_clean(&proxy).await;
    }
    assert_eq!(other.seen_count(), 1);
}
