//! What a quota counts is what the clients saw used, and it is overdrawn by nothing but what the estimates were short of.

use std::collections::HashMap;

use crate::harness::dice::Dice;

use super::*;

/// A chat of a model of its own, so that no answer teaches anything about another; its usage is in the answer either way.
fn fresh_chat(number: usize, output: u64, streams: bool) -> Vec<u8> {
    let options = if streams { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    post(CHAT, ALICE, &body(&format!(r#""model":"m-{number:04}","max_tokens":{output},{options}"#)))
}

/// Uses the prompt's estimate and a little of everything else: more than was reserved, or less, by the model's number.
fn unforeseen(request: &Value) -> (u64, u64) {
    let number: u64 = request["model"].as_str().unwrap_or_default()[2..].parse().unwrap_or_default();
    let (prompt, output) = whole_usage(request);
    match number % 3 {
        0 => (prompt + number % 70, output + number % 30),
        1 => (prompt.saturating_sub(number % 50), output / 2),
        _ => (prompt, output),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_usage_as_estimated_it_is_never_overdrawn() {
    for (seed, on_low_quota) in [(1, "refuse"), (2, "clamp"), (3, "clamp")] {
        let gate = Arc::new(Semaphore::new(0));
        gate.close();
        let backend = metered(&gate, whole_usage);
        let limit = 20_000 + seed * 777;
        let more = format!("[limits]\non_low_quota = \"{on_low_quota}\"\n");
        let (proxy, _clock) = proxy(&backend, &format!("quota_limit = {limit}"), &more);
        let mut dice = Dice::new(seed);
        let requests = (0..300).map(|number| fresh_chat(number, 1 + dice.below(300), dice.below(2) == 1));
        let answers = within(Storm::of(&proxy, requests.collect::<Vec<_>>()).all()).await;
        proxy.quiet().await;
        let quota = standing(&proxy).quota.unwrap();
        let seen: u64 = answers.iter().filter(|answer| answer.status == 200).map(told_usage).sum();
        assert!(count(&answers, 429) > 0, "the quota was never reached, seed {seed}");
        assert_eq!((quota.used, quota.reserved), (seen, 0), "seed {seed}");
        assert!(quota.used <= limit, "seed {seed}: {} of {limit}", quota.used);
        if on_low_quota == "clamp" {
            assert!(limit - quota.used <= PROMPT, "what is left does not cover a prompt and a token");
        }
        assert_eq!(proxy.plane.metrics.units(), seen);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_estimates_short_it_is_overdrawn_by_no_more_than_that() {
    for seed in 1..5 {
        let gate = Arc::new(Semaphore::new(0));
        let backend = metered(&gate, unforeseen);
        let limit = 15_000 + seed * 501;
        let (proxy, _clock) = proxy(&backend, &format!("quota_limit = {limit}"), "");
        let mut dice = Dice::new(seed);
        let wants: HashMap<usize, u64> = (0..300).map(|number| (number, 20 + dice.below(200))).collect();
        let requests = wants.iter().map(|(number, output)| fresh_chat(*number, *output, false));
        let storm = Storm::of(&proxy, requests.collect::<Vec<_>>());
        // All are decided before any is settled: as many are let in as ever can be.
        let are_decided = || storm.answered.load(Ordering::SeqCst) + backend.seen_count() == 300;
        eventually("every request decided", are_decided).await;
        let reserved = standing(&proxy).quota.unwrap().reserved;
        assert!(reserved <= limit, "seed {seed}");
        gate.close();
        let answers = within(storm.all()).await;
        proxy.quiet().await;
        let mut short = 0;
        for request in backend.seen() {
            let request: Value = serde_json::from_slice(&request.body).unwrap();
            let ((prompt, output), (foreseen, allowed)) = (unforeseen(&request), whole_usage(&request));
            short += (prompt + output).saturating_sub(foreseen + allowed);
        }
        let quota = standing(&proxy).quota.unwrap();
        let seen: u64 = answers.iter().filter(|answer| answer.status == 200).map(told_usage).sum();
        assert_eq!((quota.used, quota.reserved), (seen, 0), "seed {seed}");
        assert!(quota.used <= limit + short, "seed {seed}: {} of {limit}, {short} short", quota.used);
        assert!(short > 0 && count(&answers, 429) > 0, "seed {seed} tries nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_is_reserved_and_settled_as_tokens_are() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = metered(&gate, whole_usage);
    // Per request: 100 tokens in at 2.5, 50 out at 10, and 7: 757 units.
    let prices =
        "[prices.\"m\"]\ninput = 2500000\noutput = 10000000\nrequest = 7\n[limits]\non_low_quota = \"refuse\"\n";
    let (proxy, _clock) = proxy(&backend, "quota_limit = 2270", prices);
    let storm = Storm::of(&proxy, vec![chat(50); 10]);
    storm.until(8, &backend, 2).await;
    assert_eq!(standing(&proxy).quota.map(|quota| quota.reserved), Some(2 * 757));
    gate.close();
    let answers = within(storm.all()).await;
    proxy.quiet().await;
    assert_eq!((count(&answers, 200), standing(&proxy).quota.unwrap().used), (2, 2 * 757));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_begins_at_midnight_and_once() {
    let gate = Arc::new(Semaphore::new(0));
    gate.close();
    let backend = metered(&gate, whole_usage);
    let (proxy, clock) = proxy(&backend, "quota_limit = 150\nquota_reset = \"daily\"", "");
    assert_eq!(one(&proxy, &chat(50)).await.status, 200);
    let spent = one(&proxy, &chat(50)).await;
    assert_eq!((spent.status, code(&spent).as_str(), told_wait_ms(&spent)), (429, "insufficient_quota", None));
    let midnight = 1_750_032_000_000;
    assert!(spent.text().contains("It resets at 2025-06-16T00:00:00Z."), "{}", spent.text());
    clock.step_wall_ms(midnight - 1);
    assert_eq!(one(&proxy, &chat(50)).await.status, 429);
    clock.step_wall_ms(midnight);
    assert_eq!(one(&proxy, &chat(50)).await.status, 200);
    // A clock set back and on again opens no period a second time.
    clock.step_wall_ms(midnight - 1);
    assert_eq!(one(&proxy, &chat(50)).await.status, 429);
    clock.step_wall_ms(midnight + 1);
    assert_eq!(one(&proxy, &chat(50)).await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_may_call_a_spent_quota_402() {
    let gate = Arc::new(Semaphore::new(0));
    gate.close();
    let backend = metered(&gate, whole_usage);
    let (proxy, _clock) = proxy(&backend, "quota_limit = 100", "[limits]\nquota_status = 402\n");
    let refused = one(&proxy, &chat(50)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (402, "insufficient_quota"));
    assert_eq!((backend.seen_count(), standing(&proxy).quota.unwrap().used), (0, 0));
}
