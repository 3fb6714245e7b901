//! The checks of POLICY 3 in their order: whatever else is wrong as well, the first of them is what the caller is told.

use super::{ALICE, BODY, SPEAKERS, Speaker, Stage, request};
use crate::harness::{Answer, Client};

fn told(speaker: &Speaker, answer: &Answer) -> (u16, String) {
    (answer.status, speaker.code(answer))
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

const ELSEWHERE: &str = "allowed_ips = [\"203.0.113.7\"]\n";
const TOO_LARGE: usize = 70_000;

/// The head of a call whose body is over the limit.
fn too_large(speaker: &Speaker) -> Vec<u8> {
    let (name, scheme) = speaker.credential;
    format!(
        "POST {} HTTP/1.1\r\nhost: proxy\r\n{name}: {scheme}{ALICE}\r\ncontent-type: application/json\r\ncontent-length: {TOO_LARGE}\r\n\r\n",
        speaker.path
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_comes_before_the_key_and_the_key_before_its_place() {
    let disabled = format!("{ELSEWHERE}disabled = true");
    let stage =
        Stage::start("max_body = \"64KiB\"", &[("alice", ALICE, &disabled), ("bob", "bob-secret-00001", ELSEWHERE)]);
    for speaker in &SPEAKERS {
        let unknown_path = request("/v1/nothing", &format!("authorization: Bearer {ALICE}\r\n"), "{");
        assert_eq!(stage.ask(&unknown_path).await.status, 404);
        assert_eq!(told(speaker, &stage.ask(&too_large(speaker)).await), is(401, "invalid_api_key"));
        for body in ["{", BODY, r#"{"model":"x"}"#] {
            let gzip = "content-encoding: gzip\r\n";
            for headers in ["", gzip] {
                let answer = stage.ask(&speaker.call(ALICE, headers, body)).await;
                assert_eq!(told(speaker, &answer), is(401, "invalid_api_key"), "{body}");
                let answer = stage.ask(&speaker.call("bob-secret-00001", headers, body)).await;
                assert_eq!(told(speaker, &answer), is(403, "ip_not_allowed"), "{body}");
                assert_eq!(answer.header("retry-after"), None);
            }
        }
    }
    assert_eq!(stage.backend.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_comes_before_what_the_key_may_do() {
    let policy = "endpoints_allowed = [\"audio\"]\nmodels_allowed = [\"other\"]";
    let stage = Stage::start("max_body = \"64KiB\"", &[("alice", ALICE, policy)]);
    for speaker in &SPEAKERS {
        let answer = stage.ask(&too_large(speaker)).await;
        assert_eq!(told(speaker, &answer), is(413, "request_too_large"));
        let gzip = stage.ask(&speaker.call(ALICE, "content-encoding: gzip\r\n", "{")).await;
        assert_eq!(told(speaker, &gzip), is(415, "unsupported_content_encoding"));
        assert_eq!(gzip.header("accept-encoding").as_deref(), Some("identity"));
        let bad = stage.ask(&speaker.call(ALICE, "", "{")).await;
        assert_eq!(told(speaker, &bad), is(400, "invalid_json"));
        let good = stage.ask(&speaker.call(ALICE, "", BODY)).await;
        assert_eq!(told(speaker, &good), is(403, "endpoint_not_allowed"));
        for (answer, class) in
            [(&bad, ["invalid_request_error", "INVALID_ARGUMENT"]), (&good, ["permission_error", "PERMISSION_DENIED"])]
        {
            assert!(class.contains(&speaker.class(answer).as_str()), "{}", answer.text());
            assert_eq!(super::advice(answer), [Some("false".to_owned()), None, None]);
        }
    }
    assert_eq!(stage.backend.seen().len(), 0);
}

/// The same call for another model.
fn of_model(speaker: &Speaker, model: &str, secret: &str) -> Vec<u8> {
    let (name, scheme) = speaker.credential;
    let path = speaker.path.replace("/m:", &format!("/{model}:")).replace("/m/", &format!("/{model}/"));
    request(&path, &format!("{name}: {scheme}{secret}\r\n"), &BODY.replace("\"m\"", &format!("\"{model}\"")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_allowed_then_served_then_paid_for() {
    // Nothing is left of the quota, no token fits, and one request a minute is all there is.
    let policy = "models_allowed = [\"m\", \"unserved\"]\nquota_limit = 1\ntpm_limit = 1\nrpm_limit = 1";
    let stage = Stage::alice(policy);
    for speaker in &SPEAKERS {
        let other = stage.ask(&of_model(speaker, "x", ALICE)).await;
        assert_eq!(told(speaker, &other), is(403, "model_not_allowed"));
        assert!(speaker.message(&other).contains("`x`"), "{}", other.text());
        let unserved = stage.ask(&of_model(speaker, "unserved", ALICE)).await;
        assert_eq!(told(speaker, &unserved), is(404, "model_not_found"));
        let served = stage.ask(&of_model(speaker, "m", ALICE)).await;
        assert_eq!(told(speaker, &served), is(429, "insufficient_quota"));
    }
    assert_eq!(stage.backend.seen().len(), 0);
}

/// Moderations have a model of their own when none is named: which one, only the backend knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_names_no_model_is_not_for_a_key_with_a_list() {
    let bearer = format!("authorization: Bearer {ALICE}\r\n");
    let listed = Stage::alice("models_allowed = [\"m\"]");
    let answer = listed.ask(&request("/v1/moderations", &bearer, r#"{"input":"x"}"#)).await;
    assert_eq!(told(&SPEAKERS[0], &answer), is(403, "model_not_allowed"));
    assert_eq!(listed.backend.seen().len(), 0);
    let any = Stage::alice("");
    assert_eq!(any.ask(&request("/v1/moderations", &bearer, r#"{"input":"x"}"#)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quota_then_slots_then_tokens_then_requests() {
    let backend = crate::harness::Backend::start(|_, mut reply| async move {
        reply.until_gone().await;
        reply
    });
    // One request holds the slot, the minute's tokens and the minute's request of each key; the first key's quota as well.
    let all = "max_parallel = 1\ntpm_limit = 600\nrpm_limit = 1\n";
    let keys = [
        ("quota", "quota-secret-0001", format!("quota_limit = 540\n{all}")),
        ("slots", "slots-secret-0001", all.to_owned()),
        ("tokens", "tokens-secret-001", "tpm_limit = 600\nrpm_limit = 1\n".to_owned()),
        ("requests", "requests-secret-1", "rpm_limit = 1\n".to_owned()),
    ];
    let keys = keys.each_ref().map(|(name, secret, policy)| (*name, *secret, policy.as_str()));
    let stage = Stage::before(backend, "", &keys);
    for (number, (name, secret, _)) in keys.iter().enumerate() {
        let mut holder = Client::connect(stage.proxy.address).await;
        holder.send(&SPEAKERS[0].call(secret, "", BODY)).await;
        let reached = async {
            while stage.backend.seen().len() <= number {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), reached).await.expect("it is forwarded");
        for speaker in &SPEAKERS {
            let answer = stage.ask(&speaker.call(secret, "", BODY)).await;
            let code = if *name == "quota" { "insufficient_quota" } else { "rate_limit_exceeded" };
            assert_eq!(told(speaker, &answer), is(429, code), "{name}");
            let limit = ["quota_limit", "max_parallel", "tpm_limit", "rpm_limit"][number];
            assert!(speaker.message(&answer).contains(limit), "{name}: {}", answer.text());
        }
        drop(holder);
    }
    assert_eq!(stage.backend.seen().len(), 4);
}
