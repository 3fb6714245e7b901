//! A thousand at once: as many are admitted as the limit has room for, not one more and not one less.

use super::*;

const STORM: usize = 1_000;

/// All limits, each far from being reached but those of `tight`.
fn policy(tight: &str) -> String {
    let roomy = ["rpm_limit = 100000", "tpm_limit = 100000000", "quota_limit = 100000000", "max_parallel = 100000"];
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let others = roomy.iter().filter(|line| name(line) != name(tight)).copied();
    others.chain([tight]).collect::<Vec<_>>().join("\n")
}

/// Sends a storm of requests for `output` tokens each at a key with the limit `tight`, of which `admitted` must be let through.
/// Checks that what refused the others left every other limit as it was, while the admitted run and after they have ended.
async fn storm(tight: &str, output: u64, admitted: usize) -> (Proxy, Clock, Backend, Vec<Answer>) {
    let gate = Arc::new(Semaphore::new(0));
    let backend = metered(&gate, whole_usage);
    let (proxy, clock) = proxy(&backend, &policy(tight), "[limits]\non_low_quota = \"refuse\"\n");
    let storm = Storm::of(&proxy, vec![chat(output); STORM]);
    storm.until(STORM - admitted, &backend, admitted).await;
    let (each, number) = (PROMPT + output, admitted as u64);
    let is_as_if_only_they_had_come = |held: u64, used: u64| {
        let stands = standing(&proxy);
        let (requests, tokens) = (stands.requests.unwrap(), stands.tokens.unwrap());
        let (quota, parallel) = (stands.quota.unwrap(), stands.parallel.unwrap());
        assert_eq!(requests.limit - requests.remaining, number);
        assert_eq!(tokens.limit - tokens.remaining, number * each);
        assert_eq!((quota.reserved, quota.used), (held * each, used * each));
        assert_eq!(u64::from(parallel.in_use), held);
    };
    is_as_if_only_they_had_come(number, 0);
    gate.close();
    let answers = within(storm.all()).await;
    proxy.quiet().await;
    is_as_if_only_they_had_come(0, number);
    assert_eq!((count(&answers, 200), count(&answers, 429)), (admitted, STORM - admitted));
    (proxy, clock, backend, answers)
}

fn refused(answers: &[Answer]) -> impl Iterator<Item = &Answer> {
    answers.iter().filter(|answer| answer.status != 200)
}

/// How many of `number` requests, all at once, are admitted now.
async fn admitted_of(proxy: &Proxy, number: usize, output: u64) -> usize {
    let answers = within(Storm::of(proxy, vec![chat(output); number]).all()).await;
    assert_eq!(count(&answers, 200) + count(&answers, 429), number);
    count(&answers, 200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_per_minute() {
    let (proxy, clock, backend, answers) = storm("rpm_limit = 100", 10, 100).await;
    // One request is refilled every 60 s / 100.
    let each_ms = 600;
    for answer in refused(&answers) {
        assert_eq!((code(answer).as_str(), told_wait_ms(answer)), ("rate_limit_exceeded", Some(each_ms)));
        assert_eq!(answer.header("x-should-retry").as_deref(), Some("true"));
    }
    clock.advance_ns(11 * each_ms * NS_PER_MS - 1);
    assert_eq!(admitted_of(&proxy, 50, 10).await, 10, "what refilled in 6.6 s less one nanosecond");
    clock.advance_ns(1);
    assert_eq!(admitted_of(&proxy, 50, 10).await, 1);
    clock.advance_ns(24 * 3_600_000 * NS_PER_MS);
    assert_eq!(admitted_of(&proxy, 150, 10).await, 100, "never more than the limit, however long nobody came");
    assert_eq!(backend.seen_count(), 211);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_per_minute() {
    // 40 requests of 150 tokens, and 149 tokens that are too few for one more.
    let (proxy, clock, _backend, answers) = storm("tpm_limit = 6149", 50, 40).await;
    // The one token that is missing refills in 60 s / 6149, within the nanosecond that forty requests are rounded by.
    let wait_ns = 60_000 * NS_PER_MS / 6_149 + 1;
    for answer in refused(&answers) {
        assert_eq!(
            (code(answer).as_str(), told_wait_ms(answer)),
            ("rate_limit_exceeded", Some(wait_ns.div_ceil(NS_PER_MS)))
        );
    }
    clock.advance_ns(wait_ns - 2);
    assert_eq!(admitted_of(&proxy, 20, 50).await, 0);
    clock.advance_ns(2);
    assert_eq!(admitted_of(&proxy, 20, 50).await, 1);
    clock.advance_ns(30_000 * NS_PER_MS);
    assert_eq!(admitted_of(&proxy, 40, 50).await, 20, "3074 tokens in half a minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_once() {
    let (proxy, _clock, _backend, answers) = storm("max_parallel = 50", 10, 50).await;
    for answer in refused(&answers) {
        assert_eq!((code(answer).as_str(), told_wait_ms(answer)), ("rate_limit_exceeded", Some(1_000)));
    }
    assert_eq!(admitted_of(&proxy, 1, 10).await, 1);
    assert_eq!(standing(&proxy).parallel.map(|parallel| parallel.in_use), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_a_quota() {
    // 30 requests of 200 units, and 199 units that are too few for one more.
    let (proxy, clock, _backend, answers) = storm("quota_limit = 6199", 100, 30).await;
    for answer in refused(&answers) {
        assert_eq!((code(answer).as_str(), told_wait_ms(answer)), ("insufficient_quota", None));
        assert_eq!(answer.header("x-should-retry").as_deref(), Some("false"));
    }
    assert_eq!(admitted_of(&proxy, 10, 99).await, 1, "what is left, to the last unit");
    clock.advance_ns(400 * 24 * 3_600_000 * NS_PER_MS);
    assert_eq!(admitted_of(&proxy, 1, 1).await, 0, "a quota without a reset stays spent");
    assert_eq!(standing(&proxy).quota.map(|quota| quota.used), Some(6_199));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_was_told_is_enough_and_one_millisecond_less_is_not() {
    // Limits that do not divide a minute, and how long the first refused request has to wait, by hand.
    let day_ms = 24 * 3_600_000;
    let until_midnight = day_ms - u64::try_from(NOW.unix_ms).unwrap() % day_ms;
    let cases = [
        ("rpm_limit = 7", 7, 60_000_u64.div_ceil(7)),
        ("rpm_limit = 1", 1, 60_000),
        ("rpm_limit = 601", 601, 60_000_u64.div_ceil(601)),
        // 150 tokens a request: 51 of 999 are missing after the sixth, 150 of 150 after the first.
        ("tpm_limit = 999", 6, (51 * 60_000_u64).div_ceil(999)),
        ("tpm_limit = 150", 1, 60_000),
        // The quota is asked half a minute before midnight.
        ("quota_limit = 150\nquota_reset = \"daily\"", 1, 30_000),
    ];
    for (policy, fits, expected_ms) in cases {
        let gate = Arc::new(Semaphore::new(0));
        gate.close();
        let backend = metered(&gate, whole_usage);
        let (proxy, clock) = proxy(&backend, policy, "");
        clock.step_wall_ms(NOW.unix_ms + i64::try_from(until_midnight).unwrap() - 30_000);
        assert_eq!(admitted_of(&proxy, fits, 50).await, fits, "{policy}");
        proxy.quiet().await;
        let told = told_wait_ms(&one(&proxy, &chat(50)).await);
        assert_eq!(told, Some(expected_ms), "{policy}");
        clock.advance_ns((expected_ms - 1) * NS_PER_MS);
        let early = one(&proxy, &chat(50)).await;
        assert_eq!((early.status, told_wait_ms(&early)), (429, Some(1)), "{policy}");
        clock.advance_ns(NS_PER_MS);
        assert_eq!(one(&proxy, &chat(50)).await.status, 200, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_asked_in_the_order_of_the_policy() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = metered(&gate, whole_usage);
    let every = "quota_limit = 150\nmax_parallel = 1\ntpm_limit = 150\nrpm_limit = 1";
    let (proxy, clock) = proxy(&backend, every, "[limits]\non_low_quota = \"refuse\"\n");
    let first = Storm::of(&proxy, [chat(50)]);
    first.until(0, &backend, 1).await;
    // All four would refuse; each is taken away in turn, and the next one speaks.
    let said = async |policy: &str| {
        proxy.put(&Proxy::keys_of(&[("alice", ALICE, policy)]));
        let answer = one(&proxy, &chat(50)).await;
        (answer.status, answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    for (policy, speaker) in [
        (every, "quota_limit"),
        ("max_parallel = 1\ntpm_limit = 150\nrpm_limit = 1", "max_parallel"),
        ("tpm_limit = 150\nrpm_limit = 1", "tpm_limit"),
        ("rpm_limit = 1", "rpm_limit"),
    ] {
        let (status, message) = said(policy).await;
        assert!(status == 429 && message.contains(&format!("({speaker})")), "{policy}: {message}");
    }
    gate.close();
    assert_eq!(count(&within(first.all()).await, 200), 1);
    clock.advance_ns(60_000 * NS_PER_MS);
    assert_eq!(said("rpm_limit = 1").await.0, 200);
}
