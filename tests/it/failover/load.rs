//! Under a steady load that does not wait for answers, one of two endpoints dies or hangs, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{Life, Mortal, is_quiet, proxy};
use crate::harness::proxy::ALICE;
use crate::harness::time::eventually;
use crate::harness::{Client, Proxy, apis};

/// One request every so often: 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// What became of requests, by the moment each began.
#[derive(Default)]
struct Outcomes {
    begun: AtomicUsize,
    /// How long each took.
    took: std::sync::Mutex<Vec<(Instant, Duration)>>,
    failed: std::sync::Mutex<Vec<(Instant, u16, String)>>,
}

impl Outcomes {
    /// What 99 of 100 took at most, of those that began from one moment to another.
    fn p99(&self, from: Instant, to: Instant) -> Duration {
        let took = self.took.lock().unwrap();
        let mut took = took.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, took)| *took).collect::<Vec<_>>();
        took.sort_unstable();
        took.get(took.len() * 99 / 100).copied().expect("some were sent")
    }
}

/// Sends requests at the pace of the test until `during` ends.
async fn under_load<T>(proxy: &Proxy, outcomes: &Arc<Outcomes>, during: impl Future<Output = T>) -> T {
    let (address, outcomes) = (proxy.address, Arc::clone(outcomes));
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let load = tokio::spawn(async move {
        let mut requests = JoinSet::new();
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = &mut stopped => break,
            }
            let outcomes = Arc::clone(&outcomes);
            requests.spawn(async move {
                let began = Instant::now();
                outcomes.begun.fetch_add(1, Ordering::SeqCst);
                let answer = Client::once(address, &apis::OPENAI.call(ALICE, "")).await;
                outcomes.took.lock().unwrap().push((began, began.elapsed()));
                if answer.status != 200 || !answer.is_whole {
                    outcomes.failed.lock().unwrap().push((began, answer.status, answer.text()));
                }
            });
        }
        while requests.join_next().await.is_some() {}
    });
    let value = during.await;
    let _ = stop.send(());
    timeout(Duration::from_secs(30), load).await.expect("every request has an end").expect("no panic");
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_is_killed_and_nothing_fails_that_could_be_retried() {
    let (stays, dies) = (Mortal::start().await, Mortal::start().await);
    let more = "eject_time = \"1s\"\nprobe = { interval = \"200ms\" }";
    let proxy = proxy(&[stays.address, dies.address], more);
    proxy.probing();
    let outcomes = Arc::new(Outcomes::default());
    let killed = under_load(&proxy, &outcomes, async {
        dies.serves_again().await;
        dies.serves_more(50).await;
        dies.kill().await;
        let killed = Instant::now();
        eventually("it is left alone", || proxy.live().routes.upstreams()[0].health.is_ejected(1)).await;
        stays.serves_more(200).await;
        dies.revive().await;
        // No hand is laid on it.
        dies.serves_again().await;
        killed
    })
    .await;
    let failed = std::mem::take(&mut *outcomes.failed.lock().unwrap());
    let late = failed.iter().filter(|(began, ..)| *began > killed).collect::<Vec<_>>();
    assert!(late.is_empty(), "of {} requests: {late:?}", outcomes.begun.load(Ordering::SeqCst));
    // Those it had read may have been served; what it had in its socket's buffer nobody can tell apart from that.
    assert!(failed.iter().all(|(_, status, text)| *status == 502 && text.contains("upstream_broken")), "{failed:?}");
    is_quiet(&proxy).await;
    // What is counted is shown with the next look of the control plane.
    eventually("retries, the ejection and the return are shown", || {
        let metrics = proxy.metrics_text();
        let is_counted = |name: &str| {
            let name = format!("keyward_upstream_{name}_total{{upstream=\"openai\"}} ");
            metrics.lines().any(|line| line.strip_prefix(&*name).is_some_and(|count| count != "0"))
        };
        let endpoints = "keyward_upstream_endpoints{upstream=\"openai\",state=\"in_service\"} 2";
        is_counted("retries") && is_counted("ejections") && metrics.contains(endpoints)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_hangs_and_is_left_alone_until_a_probe_finds_it_well() {
    let (stays, hangs) = (Mortal::start().await, Mortal::start().await);
    let more = "eject_time = \"1h\"\nprobe = { path = \"/health\", interval = \"300ms\", timeout = \"150ms\" }";
    let proxy = proxy(&[stays.address, hangs.address], more);
    proxy.probing();
    let outcomes = Arc::new(Outcomes::default());
    let health = |proxy: &Proxy| proxy.live().routes.upstreams()[0].health.is_ejected(1);
    let [began, hung, found, woken] = under_load(&proxy, &outcomes, async {
        let began = Instant::now();
        hangs.serves_again().await;
        hangs.serves_more(50).await;
        let hung = Instant::now();
        hangs.is(Life::Hung);
        eventually("the probe finds it hung", || health(&proxy)).await;
        let found = Instant::now();
        let begun = hangs.begun.load(Ordering::SeqCst);
        stays.serves_more(500).await;
        // What was chosen just before the probe may still arrive.
        assert!(hangs.begun.load(Ordering::SeqCst) <= begun + 8, "nothing more is sent there");
        let woken = Instant::now();
        hangs.is(Life::Well);
        // Both what waited there is answered now, and new requests come.
        hangs.serves_again().await;
        eventually("the probe finds it well", || !health(&proxy)).await;
        hangs.serves_again().await;
        [began, hung, found, woken]
    })
    .await;
    assert!(outcomes.failed.lock().unwrap().is_empty(), "a hang that ends fails nothing");
    let p99 = [(began, hung), (hung, found), (found, woken)].map(|(from, to)| outcomes.p99(from, to));
    println!("p99 before the hang, until a probe found it after {:?}, and from then on: {p99:?}", found - hung);
    // Whoever still went there would have waited until it was woken.
    assert!(p99[2] < woken - found, "p99 has not recovered: {p99:?}");
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_comes_back_by_one_request_where_nobody_probes() {
    let (stays, dies) = (Mortal::start().await, Mortal::start().await);
    let proxy = proxy(&[stays.address, dies.address], "eject_time = \"100ms\"");
    dies.kill().await;
    for _ in 0..40 {
        assert_eq!(Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await.status, 200);
    }
    assert!(proxy.live().routes.upstreams()[0].health.is_ejected(1));
    dies.revive().await;
    while dies.served() == 0 {
        assert_eq!(Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await.status, 200);
    }
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_shared_by_weight() {
    let (light, heavy) = (Mortal::start().await, Mortal::start().await);
    let text = apis::config(&[light.address], "", "", "");
    let one = format!("[\"http://{}\"]", light.address);
    let both = format!("[\"http://{}\", {{ url = \"http://{}\", weight = 3 }}]", light.address, heavy.address);
    let keys = Proxy::keys_of(&[("alice", ALICE, "")]);
    let proxy = Proxy::start(&text.replace(&one, &both), &keys, keyward::clock::Clock::system());
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..40 {
        client.send(&apis::OPENAI.call(ALICE, "")).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!((light.served(), heavy.served()), (10, 30));
}
