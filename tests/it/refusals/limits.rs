//! Limits, as a caller meets them: what is said, when to come back, and that a refusal costs nothing.

use super::{ALICE, BODY, SPEAKERS, Speaker, Stage, advice};
use crate::harness::{Answer, Backend, Client};
use keyward::clock::NS_PER_SECOND;
use keyward::policy::Standing;

fn some(values: [&str; 3]) -> [Option<String>; 3] {
    values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

fn standing(stage: &Stage) -> Standing {
    let entry = stage.proxy.entry(ALICE);
    entry.limits().standing(&entry.policy(), stage.clock.now())
}

/// Checks a 429 and the classes its SDK raises by.
fn is_429(speaker: &Speaker, answer: &Answer, code: &str, openai_type: &str) {
    assert_eq!((answer.status, speaker.code(answer).as_str()), (429, code), "{}", answer.text());
    let class = match speaker.name {
        "anthropic" => "rate_limit_error",
        "gemini" => "RESOURCE_EXHAUSTED",
        _ => openai_type,
    };
    assert_eq!(speaker.class(answer), class);
}

/// Gemini's clients read the wait from the body.
fn retry_info(answer: &Answer) -> Option<String> {
    let details = answer.json()["error"]["details"].as_array().cloned().unwrap_or_default();
    details.iter().find_map(|detail| detail["retryDelay"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_a_minute() {
    let stage = Stage::alice("rpm_limit = 4\nmax_parallel = 8\ntpm_limit = 1000000\nquota_limit = 1000000");
    for _ in 0..4 {
        assert_eq!(stage.ask(&SPEAKERS[0].call(ALICE, "", BODY)).await.status, 200);
    }
    stage.proxy.quiet().await;
    stage.clock.advance_ns(NS_PER_SECOND / 2);
    let before = standing(&stage);
    for speaker in &SPEAKERS {
        let answer = stage.ask(&speaker.call(ALICE, "", BODY)).await;
        is_429(speaker, &answer, "rate_limit_exceeded", "requests");
        assert_eq!(advice(&answer), some(["true", "15", "14500"]), "one in 15 s, half a second ago");
        assert!(speaker.message(&answer).contains("Limit 4, Remaining 0, Requested 1"), "{}", answer.text());
        assert_eq!(retry_info(&answer).as_deref(), (speaker.name == "gemini").then_some("14.500s"));
        let header = match speaker.name {
            "openai" | "azure" => "x-ratelimit-remaining-requests",
            "anthropic" => "anthropic-ratelimit-requests-remaining",
            _ => continue,
        };
        assert_eq!(answer.header(header).as_deref(), Some("0"), "{}", answer.head);
    }
    assert_eq!(standing(&stage), before);
    stage.clock.advance_ns(14_500_000_000 - 1);
    assert_eq!(stage.ask(&SPEAKERS[0].call(ALICE, "", BODY)).await.status, 429, "not a nanosecond early");
    stage.clock.advance_ns(1);
    assert_eq!(stage.ask(&SPEAKERS[0].call(ALICE, "", BODY)).await.status, 200, "the wait was exact");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_a_minute() {
    let backend = Backend::json(r#"{"usage":{"prompt_tokens":500,"completion_tokens":100,"total_tokens":600}}"#);
    let stage = Stage::before(
        backend,
        "",
        &[("alice", ALICE, "tpm_limit = 600\nrpm_limit = 100\nquota_limit = 100000\nmax_parallel = 3")],
    );
    assert_eq!(stage.ask(&SPEAKERS[0].call(ALICE, "", BODY)).await.status, 200);
    stage.proxy.quiet().await;
    let before = standing(&stage);
    for speaker in &SPEAKERS {
        let answer = stage.ask(&speaker.call(ALICE, "", BODY)).await;
        is_429(speaker, &answer, "rate_limit_exceeded", "tokens");
        let [should, after, after_ms] = advice(&answer);
        assert_eq!(should.as_deref(), Some("true"));
        let (after, after_ms) = (after.unwrap().parse::<u64>().unwrap(), after_ms.unwrap().parse::<u64>().unwrap());
        assert!(after <= 60 && after_ms.div_ceil(1000) == after, "{after} {after_ms}");
    }
    assert_eq!(standing(&stage), before);
    let huge = BODY.replace("[]", &format!("[{{\"content\":\"{}\"}}]", "word ".repeat(2_000)));
    for speaker in &SPEAKERS {
        let answer = stage.ask(&speaker.call(ALICE, "", &huge)).await;
        is_429(speaker, &answer, "rate_limit_exceeded", "tokens");
        assert_eq!(advice(&answer), some(["false", "", ""]), "waiting does not help");
    }
    assert_eq!(standing(&stage), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_quota() {
    let stage = Stage::alice(
        "quota_limit = 10\nquota_reset = \"monthly\"\nrpm_limit = 100\ntpm_limit = 100000\nmax_parallel = 3",
    );
    let before = standing(&stage);
    for speaker in &SPEAKERS {
        let answer = stage.ask(&speaker.call(ALICE, "", BODY)).await;
        is_429(speaker, &answer, "insufficient_quota", "insufficient_quota");
        assert_eq!(advice(&answer), some(["false", "", ""]));
        assert!(speaker.message(&answer).contains("resets at 2026-02-01T00:00:00Z"), "{}", answer.text());
        assert_eq!(retry_info(&answer), None);
    }
    assert_eq!(standing(&stage), before);
    assert_eq!(stage.backend.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_once() {
    let backend = Backend::start(|_, mut reply| async move {
        reply.until_gone().await;
        reply
    });
    let stage = Stage::before(
        backend,
        "",
        &[("alice", ALICE, "max_parallel = 1\nrpm_limit = 100\ntpm_limit = 100000\nquota_limit = 100000")],
    );
    let mut holder = Client::connect(stage.proxy.address).await;
    holder.send(&SPEAKERS[0].call(ALICE, "", BODY)).await;
    let reached = async {
        while stage.backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), reached).await.expect("it is forwarded");
    let before = standing(&stage);
    for speaker in &SPEAKERS {
        let answer = stage.ask(&speaker.call(ALICE, "", BODY)).await;
        is_429(speaker, &answer, "rate_limit_exceeded", "requests");
        assert_eq!(advice(&answer), some(["true", "1", "1000"]));
    }
    assert_eq!(standing(&stage), before);
    drop(holder);
    stage.proxy.quiet().await;
    assert_eq!(stage.proxy.entry(ALICE).limits().in_use(), 0);
}

/// Refusals of every stage, none of which may take anything from any limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refusal_costs_anything() {
    let policy = "rpm_limit = 100\ntpm_limit = 100000\nquota_limit = 100000\nmax_parallel = 5\nmodels_allowed = [\"m\", \"unserved\"]\n\
        endpoints_allowed = [\"chat\", \"models\"]";
    let stage = Stage::start("max_body = \"64KiB\"", &[("alice", ALICE, policy)]);
    let before = standing(&stage);
    for speaker in &SPEAKERS {
        let (name, scheme) = speaker.credential;
        let own = format!("{name}: {scheme}{ALICE}\r\n");
        let head = |headers: &str| speaker.call(ALICE, headers, BODY);
        let requests = [
            (head("x y\r\n"), 400),
            (head("content-length: 1\r\n"), 400),
            (head("host: other\r\n"), 400),
            (head("expect: x\r\n"), 417),
            (head(&own), 401),
            (head("content-encoding: br\r\n"), 415),
            (speaker.call("another-secret-01", "", BODY), 401),
            (speaker.call(ALICE, "", "{\"model\":\"m\",\"model\":\"m\"}"), 400),
            (speaker.call(ALICE, "", &format!("{BODY}{}", " ".repeat(70_000))), 413),
            (super::request("/v1/nothing", &own, BODY), 404),
            (super::request("/v1/models", &own, BODY), 405),
            (super::request("/v1/embeddings", &own, BODY), 403),
            (super::request("/v1/chat/completions", &own, "{\"model\":\"x\"}"), 403),
            (super::request("/v1/messages", &own, "{\"model\":\"unserved\"}"), 404),
        ];
        for (bytes, status) in requests {
            let answer = stage.ask(&bytes).await;
            assert_eq!(
                answer.status,
                status,
                "{}: {}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(300)]),
                answer.text()
            );
            assert_eq!(answer.header("retry-after"), None);
            assert_eq!(standing(&stage), before, "{}", answer.text());
        }
    }
    stage.proxy.quiet().await;
    assert_eq!(standing(&stage), before);
    assert_eq!(stage.backend.seen().len(), 0);
}
