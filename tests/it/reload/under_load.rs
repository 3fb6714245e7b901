//! Reloads while clients send.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::harness::time::eventually;

const ANSWER: &str = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;

/// Clients that send one request after the other on connections they keep, until told to stop.
struct Clients {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Clients {
    /// One for each secret; `check` is given every answer.
    fn start(filed: &Filed, secrets: &[&str], check: fn(&str, &Answer)) -> Self {
        let (mut tasks, stop, answered) = (JoinSet::new(), Arc::new(AtomicBool::new(false)), Arc::default());
        for secret in secrets {
            let (address, secret, stop) = (filed.proxy.address, (*secret).to_owned(), Arc::clone(&stop));
            let answered: Arc<AtomicUsize> = Arc::clone(&answered);
            tasks.spawn(async move {
                let request = chat(&secret);
                let mut client = Client::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    client.send(&request).await;
                    let answer = client.answer().await;
                    check(&secret, &answer);
                    if !answer.is_whole {
                        client = Client::connect(address).await;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { tasks, stop, answered }
    }

    /// Ends them, and says how many answers they had.
    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client whose every request was answered as it must be");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

fn must_be_served(secret: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.is_whole), (200, true), "{secret}: {} {}", answer.head, answer.text());
}

/// What runs on a secret at the moment it goes to another key is cut, as it is when the secret is withdrawn; but nobody who
/// brings it is told that it is not known.
fn must_be_let_in(secret: &str, answer: &Answer) {
    assert_eq!(answer.status, 200, "{secret}: {}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_fail_no_request() {
    const RELOADS: usize = 1_000;
    let backend = Backend::json(ANSWER);
    let file = |n: usize| {
        let (one, two) = if n.is_multiple_of(2) { ("secret-one", "secret-two") } else { ("secret-two", "secret-one") };
        let policy = format!("rpm_limit = {}\nmetadata = {{ n = \"{n}\" }}", 1_000_000 + n);
        Proxy::keys_of(&[
            ("stays", "secret-stays", ""),
            ("changes", "secret-changes", &policy),
            ("swaps-one", one, ""),
            ("swaps-two", two, ""),
            (&format!("renamed-{n}"), "secret-renamed", ""),
            (&format!("comes-{n}"), &format!("secret-comes-{n}"), ""),
        ])
    };
    let filed = Filed::start(&backend, &file(0));
    let served =
        Clients::start(&filed, &["secret-stays", "secret-stays", "secret-changes", "secret-changes"], must_be_served);
    let let_in = Clients::start(&filed, &["secret-one", "secret-two", "secret-renamed"], must_be_let_in);
    for n in 1..=RELOADS {
        // Every other time the configuration changes with the keys.
        let prices = format!("keys_file = \"keys.toml\"\n{}\n[prices.\"m\"]\ninput = {}\n", filed.config, n / 2);
        fs::write(filed.path("keyward.toml"), prices).expect("written");
        assert_eq!(filed.reload_with(&file(n)), Ok(()), "reload {n}");
        tokio::task::yield_now().await;
    }
    let reloaded = (served.stop().await, let_in.stop().await);
    assert!(reloaded.0 > 100 && reloaded.1 > 100, "too little load to tell: {reloaded:?}");
    assert_eq!(filed.proxy.plane.keys.len(), 6);
    // Upstreams that did not change keep their connections: about one for each client at most, and the few that were cut.
    assert!(backend.connections() < RELOADS / 4, "{} connections to the backend", backend.connections());
    filed.proxy.quiet().await;
    let text = filed.proxy.plane.metrics.render();
    assert!(text.contains("keyward_reloads_total{result=\"applied\"} 1001"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_limits_survives_each() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let backend = Backend::start(move |_, mut reply| {
        let gate = Arc::clone(&opened);
        async move {
            let _ = gate.acquire().await;
            reply.json(200, ANSWER).await;
            reply
        }
    });
    let limits = "rpm_limit = 10\ntpm_limit = 60000\nquota_limit = 100000\nmax_parallel = 4";
    let file = |n: usize, limits: &str| {
        // Neighbours come and go, a name changes its place in the file, and every other time the policy is another one.
        let allowed = if n.is_multiple_of(2) { "" } else { "models_allowed = [\"m\", \"n\"]\n" };
        let (policy, neighbour) = (format!("{limits}\n{allowed}"), format!("neighbour-{n}"));
        let mut entries = vec![("alice", "secret-alice", &*policy), (&*neighbour, "secret-neighbour", "")];
        entries.rotate_left(n % 2);
        Proxy::keys_of(&entries)
    };
    let filed = Filed::start(&backend, &file(0, limits));
    let entry = filed.proxy.entry("secret-alice");
    let standing = || entry.limits().standing(&entry.policy(), NOW);
    let mut running = Client::connect(filed.proxy.address).await;
    running.send(&chat("secret-alice")).await;
    eventually("it comes to the backend", || backend.seen_count() > 0).await;
    let held = standing();
    for n in 1..=50 {
        filed.reload_with(&file(n, limits)).expect("a good file");
        assert!(Arc::ptr_eq(&entry, &filed.proxy.entry("secret-alice")), "reload {n}");
        assert_eq!(standing(), held, "reload {n}");
    }
    gate.close();
    assert_eq!(running.answer().await.status, 200);
    filed.proxy.quiet().await;
    for n in 1..=50 {
        filed.reload_with(&file(n, limits)).expect("a good file");
        let (requests, quota) = (standing().requests.unwrap(), standing().quota.unwrap());
        assert_eq!((requests.remaining, quota.used, quota.reserved), (9, 15, 0), "reload {n}");
    }
    for expected in 1..=9 {
        assert_eq!(Client::once(filed.proxy.address, &chat("secret-alice")).await.status, 200, "request {expected}");
        filed.reload_with(&file(expected, limits)).expect("a good file");
    }
    assert_eq!(Client::once(filed.proxy.address, &chat("secret-alice")).await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_keys_come_and_go_while_others_are_served() {
    const KEYS: usize = 100_000;
    let backend = Backend::json(ANSWER);
    let filed = Filed::start(&backend, &keys(&[("stays", "secret-stays")]));
    let clients = Clients::start(&filed, &["secret-stays", "secret-stays"], must_be_served);
    let mut file = keys(&[("stays", "secret-stays")]);
    for n in 0..KEYS {
        file.push_str(&format!("[[keys]]\nname = \"k{n}\"\nkey_hash = \"sha256:{n:064x}\"\n"));
    }
    // Off this thread, as the program does it, so that the clients go on.
    let reloader = Arc::clone(&filed.reloader);
    fs::write(filed.path("keys.toml"), file).expect("written");
    let reloading = tokio::task::spawn_blocking(move || reloader.reload());
    assert_eq!(reloading.await.expect("no panic"), Ok(()));
    assert_eq!(filed.proxy.plane.keys.len(), KEYS + 1);
    assert_eq!(filed.reload_with(&keys(&[("stays", "secret-stays")])), Ok(()));
    assert_eq!(filed.proxy.plane.keys.len(), 1);
    assert!(clients.stop().await > 100, "too little load to tell");
}
