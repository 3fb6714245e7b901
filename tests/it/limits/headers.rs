//! What every answer says of a key's limits, in the words of each dialect.

use super::*;

fn open() -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    gate.close();
    gate
}

fn limit_headers(answer: &Answer) -> Vec<(String, String)> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    let mut found: Vec<_> = lines
        .filter(|(name, _)| name.contains("ratelimit"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    found.sort();
    found
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const POLICY: &str = "rpm_limit = 100\ntpm_limit = 6000";

/// After one request of 150 tokens, while it is still held.
const OPENAI: &[(&str, &str)] = &[
    ("x-ratelimit-limit-requests", "100"),
    ("x-ratelimit-limit-tokens", "6000"),
    ("x-ratelimit-remaining-requests", "99"),
    ("x-ratelimit-remaining-tokens", "5850"),
    ("x-ratelimit-reset-requests", "600ms"),
    ("x-ratelimit-reset-tokens", "2s"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_dialect_has_its_own() {
    let anthropic = [
        ("anthropic-ratelimit-requests-limit", "100"),
        ("anthropic-ratelimit-requests-remaining", "99"),
        ("anthropic-ratelimit-requests-reset", "2025-06-15T15:06:41Z"),
        ("anthropic-ratelimit-tokens-limit", "6000"),
        ("anthropic-ratelimit-tokens-remaining", "5850"),
        ("anthropic-ratelimit-tokens-reset", "2025-06-15T15:06:42Z"),
    ];
    let max_tokens = r#""model":"m","max_tokens":50,"#;
    let gemini = r#""generationConfig":{"maxOutputTokens":50},"#;
    for (path, members, expected) in [
        (CHAT, max_tokens, OPENAI),
        ("/openai/deployments/m/chat/completions?api-version=1", r#""max_tokens":50,"#, OPENAI),
        ("/v1/messages", max_tokens, &anthropic),
        ("/v1beta/models/m:generateContent", gemini, &[]),
    ] {
        let backend = metered(&open(), whole_usage);
        let (proxy, _clock) = proxy(&backend, POLICY, "");
        let answer = one(&proxy, &post(path, ALICE, &body(members))).await;
        assert_eq!((answer.status, limit_headers(&answer)), (200, pairs(expected)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_limits_has_none_and_one_with_a_limit_has_that_one() {
    let backend = metered(&open(), whole_usage);
    let (proxy, _clock) = proxy(&backend, "quota_limit = 1000000\nmax_parallel = 9", "");
    assert_eq!(limit_headers(&one(&proxy, &chat(50)).await), []);
    proxy.put(&Proxy::keys_of(&[("alice", ALICE, "tpm_limit = 6000")]));
    let tokens: Vec<_> = OPENAI.iter().filter(|(name, _)| name.ends_with("tokens")).copied().collect();
    assert_eq!(limit_headers(&one(&proxy, &chat(50)).await), pairs(&tokens));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_has_them_too_and_they_say_what_is_left() {
    let backend = metered(&open(), whole_usage);
    let (proxy, clock) = proxy(&backend, "rpm_limit = 2\ntpm_limit = 6000", "");
    for _ in 0..2 {
        assert_eq!(one(&proxy, &chat(50)).await.status, 200);
        proxy.quiet().await;
    }
    clock.advance_ns(1_000 * NS_PER_MS);
    let refused = one(&proxy, &chat(50)).await;
    assert_eq!(refused.status, 429);
    let expected = [
        ("x-ratelimit-limit-requests", "2"),
        ("x-ratelimit-limit-tokens", "6000"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-remaining-tokens", "5800"),
        ("x-ratelimit-reset-requests", "59s"),
        ("x-ratelimit-reset-tokens", "2s"),
    ];
    assert_eq!(limit_headers(&refused), pairs(&expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstreams_own_pass_only_where_the_key_has_no_such_limit() {
    let backend = Backend::start(|_, mut reply| async move {
        reply
            .raw(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-ratelimit-limit-requests: 7\r\n\
                 x-ratelimit-remaining-tokens: 3\r\nx-ratelimit-reset-tokens: 1s\r\ncontent-length: 2\r\n\r\n{}",
            )
            .await;
        reply
    });
    let (proxy, _clock) = proxy(&backend, "", "");
    let theirs = [
        ("x-ratelimit-limit-requests", "7"),
        ("x-ratelimit-remaining-tokens", "3"),
        ("x-ratelimit-reset-tokens", "1s"),
    ];
    assert_eq!(limit_headers(&one(&proxy, &chat(50)).await), pairs(&theirs));
    proxy.put(&Proxy::keys_of(&[("alice", ALICE, "rpm_limit = 100")]));
    let ours = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "99")];
    let both = [&ours[..], &theirs[1..2], &[("x-ratelimit-reset-requests", "600ms")], &theirs[2..]].concat();
    assert_eq!(limit_headers(&one(&proxy, &chat(50)).await), pairs(&both));
    proxy.put(&Proxy::keys_of(&[("alice", ALICE, POLICY)]));
    assert_eq!(limit_headers(&one(&proxy, &chat(50)).await).len(), 6, "all six ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_of_a_key_can_ask_and_asking_costs_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = metered(&gate, whole_usage);
    let (proxy, _clock) = proxy(&backend, &format!("{POLICY}\nquota_limit = 1000\nmax_parallel = 3"), "");
    let storm = Storm::of(&proxy, [chat(50)]);
    storm.until(0, &backend, 1).await;
    for _ in 0..3 {
        let told = one(&proxy, &crate::harness::get("/v1/key", ALICE)).await.json();
        let expected = [
            ("rpm_remaining", 99),
            ("tpm_remaining", 5_850),
            ("parallel_in_use", 1),
            ("quota_used", 0),
            ("quota_reserved", 150),
            ("quota_remaining", 850),
        ];
        for (name, value) in expected {
            assert_eq!(told[name], value, "{name}");
        }
    }
    gate.close();
    within(storm.all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_our_own_and_a_refused_address_have_them() {
    let backend = metered(&open(), whole_usage);
    let untouched = |answer: &Answer| {
        let told = limit_headers(answer);
        assert!(told.contains(&("x-ratelimit-remaining-requests".to_owned(), "100".to_owned())), "{}", answer.head);
        assert!(told.contains(&("x-ratelimit-remaining-tokens".to_owned(), "6000".to_owned())), "{}", answer.head);
    };
    let (here, _here_clock) = proxy(&backend, POLICY, "");
    for path in ["/v1/models", "/v1/key"] {
        let answer = one(&here, &get(path, ALICE)).await;
        assert_eq!(answer.status, 200, "{path}");
        untouched(&answer);
    }
    let (elsewhere, _clock) = proxy(&backend, &format!("{POLICY}\nallowed_ips = [\"203.0.113.0/24\"]"), "");
    let answer = one(&elsewhere, &chat(50)).await;
    assert_eq!(answer.status, 403);
    untouched(&answer);
}
