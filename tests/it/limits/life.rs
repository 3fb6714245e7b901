//! The state of limits belongs to the key: secrets come and go and policies change, and it stays.

use sha2::{Digest as _, Sha256};

use super::*;

const OLD: &str = "alice-secret-0000";
const NEW: &str = "alice-secret-0002";

fn open() -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    gate.close();
    gate
}

/// Key `alice` with the secret `current`, and those before it that work until 2099 or as told.
fn alice(current: &str, policy: &str, before: &[(&str, &str)]) -> String {
    let mut text = Proxy::keys_of(&[("alice", current, policy)]);
    for (secret, until) in before {
        let hash: String = Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("[[keys.previous]]\nkey_hash = \"sha256:{hash}\"\nuntil = \"{until}\"\n"));
    }
    text
}

fn chat_with(secret: &str) -> Vec<u8> {
    post(CHAT, secret, &body(r#""model":"m","max_tokens":50,"#))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_secrets_of_a_key_share_its_limits() {
    let keys = alice(ALICE, "rpm_limit = 100\nquota_limit = 1000000", &[(OLD, "2099-01-01T00:00:00Z")]);
    let backend = metered(&open(), whole_usage);
    let (proxy, _clock) = proxy_with_keys(&backend, &keys, "");
    let requests = (0..300).map(|n| chat_with(if n % 2 == 0 { ALICE } else { OLD }));
    let answers = within(Storm::of(&proxy, requests.collect::<Vec<_>>()).all()).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (100, 200));
    proxy.quiet().await;
    assert_eq!(standing(&proxy).quota.unwrap().used, 100 * 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_resets_nothing_and_the_old_secret_ends_to_the_millisecond() {
    let policy = "rpm_limit = 10\ntpm_limit = 100000\nquota_limit = 1500\nmax_parallel = 5";
    let gate = Arc::new(Semaphore::new(0));
    let backend = metered(&gate, whole_usage);
    let (proxy, clock) = proxy_with_keys(&backend, &alice(OLD, policy, &[]), "");
    // Three are under way on the old secret while it is replaced.
    let running = Storm::of(&proxy, vec![chat_with(OLD); 3]);
    running.until(0, &backend, 3).await;
    let until = "2025-06-15T15:06:50Z";
    proxy.put(&alice(ALICE, policy, &[(OLD, until)]));
    let stands = standing(&proxy);
    assert_eq!((stands.requests.unwrap().remaining, stands.tokens.unwrap().remaining), (7, 100_000 - 450));
    assert_eq!((stands.parallel.unwrap().in_use, stands.quota.unwrap().reserved), (3, 450));
    gate.close();
    assert_eq!(count(&within(running.all()).await, 200), 3);
    proxy.quiet().await;
    assert_eq!(standing(&proxy).quota.unwrap().used, 450);
    assert_eq!(one(&proxy, &chat_with(OLD)).await.status, 200);
    assert_eq!(one(&proxy, &chat_with(ALICE)).await.status, 200);
    // The wall clock shows 15:06:40; the grace ends ten seconds later, exclusive.
    clock.step_wall_ms(NOW.unix_ms + 9_999);
    assert_eq!(one(&proxy, &chat_with(OLD)).await.status, 200);
    clock.step_wall_ms(NOW.unix_ms + 10_000);
    assert_eq!(one(&proxy, &chat_with(OLD)).await.status, 401);
    proxy.put(&alice(NEW, policy, &[(ALICE, "2099-01-01T00:00:00Z")]));
    let answers = within(Storm::of(&proxy, (0..10).map(|_| chat_with(NEW)).collect::<Vec<_>>()).all()).await;
    assert_eq!(count(&answers, 200), 4, "six of ten had gone before the second rotation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_keeps_what_was_used() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = metered(&gate, whole_usage);
    let before = "rpm_limit = 10\ntpm_limit = 3000\nquota_limit = 1000\nmax_parallel = 5";
    let (proxy, clock) = proxy(&backend, before, "[limits]\non_low_quota = \"refuse\"\n");
    let running = Storm::of(&proxy, vec![chat(50); 5]);
    running.until(0, &backend, 5).await;
    let change = |policy: &str| proxy.put(&Proxy::keys_of(&[("alice", ALICE, policy)]));
    // Half of the requests and a quarter of the tokens are gone; of a larger limit the same share is.
    change("rpm_limit = 1000\ntpm_limit = 6000\nquota_limit = 750\nmax_parallel = 5");
    let stands = standing(&proxy);
    assert_eq!((stands.requests.unwrap().remaining, stands.tokens.unwrap().remaining), (500, 4_500));
    assert_eq!((stands.parallel.unwrap().in_use, stands.quota.unwrap().reserved), (5, 750));
    let refused = one(&proxy, &chat(50)).await;
    assert!(refused.status == 429 && refused.text().contains("quota_limit"), "{}", refused.text());
    change("max_parallel = 5");
    assert_eq!(one(&proxy, &chat(50)).await.status, 429, "slots are counted on");
    gate.close();
    assert_eq!(count(&within(running.all()).await, 200), 5);
    proxy.quiet().await;
    change("quota_limit = 760");
    let refused = one(&proxy, &chat(50)).await;
    assert!(refused.text().contains("Limit 760 units, Used 750, Requested 150"), "{}", refused.text());
    // Limits taken away and given again are not new ones.
    change("");
    change(before);
    assert_eq!(standing(&proxy).requests.unwrap().remaining, 5);
    clock.advance_ns(6_000 * NS_PER_MS);
    assert_eq!(standing(&proxy).requests.unwrap().remaining, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_key_meets_every_limit_but_the_quota_and_never_the_upstream() {
    let backend = metered(&open(), whole_usage);
    let policy = "is_sandbox = true\nrpm_limit = 3\nquota_limit = 1";
    let (proxy, _clock) = proxy(&backend, policy, "");
    let answers = within(Storm::of(&proxy, vec![chat(50); 10]).all()).await;
    proxy.quiet().await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (3, 7));
    assert_eq!((standing(&proxy).quota.unwrap().used, backend.seen_count()), (0, 0));
}
