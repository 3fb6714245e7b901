//! A quota that covers only part of the output lowers what the backend is asked for, and nothing else of the request.

use super::*;

/// One request that must be clamped: where it goes, what it says, and what the backend is to see instead.
struct Case {
    path: &'static str,
    /// Members before the messages, as the client sends them.
    sent: &'static str,
    /// The same as the backend is to see them; `LEFT` stands for what is covered.
    seen: &'static str,
    /// Choices among which what is left is divided.
    choices: u64,
}

const CASES: &[Case] = &[
    // Lowered where it is stated.
    Case {
        path: CHAT,
        sent: r#""model":"m","max_tokens":500,"#,
        seen: r#""model":"m","max_tokens":LEFT,"#,
        choices: 1,
    },
    Case {
        path: CHAT,
        sent: r#""max_completion_tokens" : 500 , "model":"m","#,
        seen: r#""max_completion_tokens" : LEFT , "model":"m","#,
        choices: 1,
    },
    Case {
        path: CHAT,
        sent: r#""model":"m","n":3,"max_tokens":500,"#,
        seen: r#""model":"m","n":3,"max_tokens":LEFT,"#,
        choices: 3,
    },
    Case {
        path: "/v1/messages",
        sent: r#""model":"m","max_tokens":500,"#,
        seen: r#""model":"m","max_tokens":LEFT,"#,
        choices: 1,
    },
    Case {
        path: "/v1/responses",
        sent: r#""model":"m","max_output_tokens":500,"#,
        seen: r#""model":"m","max_output_tokens":LEFT,"#,
        choices: 1,
    },
    Case {
        path: "/v1beta/models/m:generateContent",
        sent: r#""generationConfig":{"maxOutputTokens":500},"#,
        seen: r#""generationConfig":{"maxOutputTokens":LEFT},"#,
        choices: 1,
    },
    Case {
        path: "/openai/deployments/m/chat/completions?api-version=1",
        sent: r#""max_tokens":500,"#,
        seen: r#""max_tokens":LEFT,"#,
        choices: 1,
    },
    // Inserted where it is not.
    Case { path: CHAT, sent: r#""model":"m","#, seen: r#""max_completion_tokens":LEFT,"model":"m","#, choices: 1 },
    Case { path: "/v1/completions", sent: r#""model":"m","#, seen: r#""max_tokens":LEFT,"model":"m","#, choices: 1 },
    Case { path: "/v1/messages", sent: r#""model":"m","#, seen: r#""max_tokens":LEFT,"model":"m","#, choices: 1 },
    Case {
        path: "/v1/responses",
        sent: r#""model":"m","#,
        seen: r#""max_output_tokens":LEFT,"model":"m","#,
        choices: 1,
    },
    Case {
        path: "/v1beta/models/m:generateContent",
        sent: "",
        seen: r#""generationConfig":{"maxOutputTokens":LEFT},"#,
        choices: 1,
    },
    Case {
        path: "/v1beta/models/m:streamGenerateContent?alt=sse",
        sent: r#""generationConfig":{"temperature":0},"#,
        seen: r#""generationConfig":{"maxOutputTokens":LEFT,"temperature":0},"#,
        choices: 1,
    },
    Case {
        path: "/v1beta/models/m:generateContent",
        sent: r#""generationConfig":null,"#,
        seen: r#""generationConfig":{"maxOutputTokens":LEFT},"#,
        choices: 1,
    },
];

fn open() -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    gate.close();
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_output_is_lowered_to_what_is_covered_and_the_answer_says_so() {
    for Case { path, sent, seen, choices } in CASES {
        let backend = metered(&open(), whole_usage);
        // Covers the prompt and 31 tokens: with three choices 10 each, and one that nobody gets.
        let (proxy, _clock) = proxy(&backend, "quota_limit = 131", "");
        let sent_body = body(sent);
        let answer = one(&proxy, &post(path, ALICE, &sent_body)).await;
        let left = (31 / choices).to_string();
        assert_eq!(answer.status, 200, "{path} {sent}: {}", answer.text());
        assert_eq!(answer.header("x-keyward-clamped").as_ref(), Some(&left), "{path} {sent}");
        let request = backend.seen().pop().expect("a request");
        let expected = sent_body.replacen(&format!("{{{sent}"), &format!("{{{}", seen.replace("LEFT", &left)), 1);
        assert_eq!(request.text(), expected, "{path} {sent}");
        assert_eq!(request.header("content-length"), Some(request.body.len().to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_clamped_uses_the_quota_to_its_last_unit() {
    let backend = metered(&open(), whole_usage);
    let (proxy, _clock) = proxy(&backend, "quota_limit = 281", "");
    let whole = one(&proxy, &chat(50)).await;
    assert_eq!((whole.status, whole.header("x-keyward-clamped")), (200, None));
    proxy.quiet().await;
    let clamped = one(&proxy, &chat(50)).await;
    assert_eq!((clamped.status, clamped.header("x-keyward-clamped").as_deref()), (200, Some("31")));
    assert_eq!(told_usage(&clamped), 131);
    proxy.quiet().await;
    assert_eq!(standing(&proxy).quota.map(|quota| (quota.used, quota.reserved)), Some((281, 0)));
    let spent = one(&proxy, &chat(50)).await;
    assert_eq!((spent.status, code(&spent).as_str()), (429, "insufficient_quota"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_is_not_covered_with_a_token_to_answer_is_refused() {
    let backend = metered(&open(), whole_usage);
    let (proxy, _clock) = proxy(&backend, "quota_limit = 100", "");
    let refused = one(&proxy, &chat(50)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (429, "insufficient_quota"));
    // Two answers cannot have half a token each.
    proxy.put(&Proxy::keys_of(&[("alice", ALICE, "quota_limit = 101")]));
    let two = post(CHAT, ALICE, &body(r#""model":"m","n":2,"max_tokens":500,"#));
    assert_eq!(one(&proxy, &two).await.status, 429);
    assert_eq!(one(&proxy, &chat(50)).await.header("x-keyward-clamped").as_deref(), Some("1"));
    assert_eq!(backend.seen_count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_rather_have_it_refused() {
    let backend = metered(&open(), whole_usage);
    let (proxy, _clock) =
        proxy(&backend, "quota_limit = 149\ntpm_limit = 1000", "[limits]\non_low_quota = \"refuse\"\n");
    let refused = one(&proxy, &chat(50)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (429, "insufficient_quota"));
    assert_eq!(refused.header("x-should-retry").as_deref(), Some("false"));
    assert!(refused.text().contains("Limit 149 units, Used 0, Requested 150"), "{}", refused.text());
    let stands = standing(&proxy);
    assert_eq!((stands.quota.unwrap().used, stands.quota.unwrap().reserved), (0, 0));
    assert_eq!(stands.tokens.unwrap().remaining, 1_000);
    assert_eq!(backend.seen_count(), 0);
    assert_eq!(one(&proxy, &chat(49)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_may_be_answered_is_taken_from_the_minutes_tokens() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = metered(&gate, whole_usage);
    let (proxy, _clock) = proxy(&backend, "quota_limit = 131\ntpm_limit = 1000", "");
    let storm = Storm::of(&proxy, [chat(500)]);
    storm.until(0, &backend, 1).await;
    let stands = standing(&proxy);
    assert_eq!((stands.tokens.unwrap().remaining, stands.quota.unwrap().reserved), (1_000 - 131, 131));
    gate.close();
    within(storm.all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_not_lowered_below_what_the_api_takes() {
    let backend = metered(&open(), whole_usage);
    let (proxy, _clock) = proxy(&backend, "quota_limit = 115", "");
    let refused = one(&proxy, &post("/v1/responses", ALICE, &body(r#""model":"m","#))).await;
    assert_eq!((refused.status, code(&refused).as_str()), (429, "insufficient_quota"));
    assert_eq!(one(&proxy, &chat(50)).await.header("x-keyward-clamped").as_deref(), Some("15"));
    assert_eq!(backend.seen_count(), 1);
}

/// Anthropic refuses a `max_tokens` that what is thought would use up: the caller is told what is wrong, and not the backend's word of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_not_lowered_to_less_than_it_may_think() {
    let backend = metered(&open(), whole_usage);
    let (proxy, _clock) = proxy(&backend, "quota_limit = 150", "");
    let thinking = |budget: u64| {
        let sent =
            format!(r#""model":"m","max_tokens":9000,"thinking":{{"budget_tokens":{budget},"type":"enabled"}},"#);
        post("/v1/messages", ALICE, &body(&sent))
    };
    let refused = one(&proxy, &thinking(5_000)).await;
    assert_eq!(
        (refused.status, refused.header("x-should-retry").as_deref()),
        (429, Some("false")),
        "{}",
        refused.text()
    );
    assert_eq!(backend.seen_count(), 0);
    let lowered = one(&proxy, &thinking(5)).await;
    assert_eq!((lowered.status, lowered.header("x-keyward-clamped").is_some()), (200, true), "{}", lowered.text());
}
