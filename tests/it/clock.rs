//! The wall clock stepped by an hour and a day, either way: no free requests, no wrong expiry, no frozen limiter.

use keyward::clock::{Clock, NS_PER_MINUTE, NS_PER_SECOND, Now};

use crate::harness::{Answer, Backend, Client, Proxy, chat, get, post};

/// 2026-11-26 12:00 UTC.
const NOON: i64 = 1_795_694_400_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

const SECRET: &str = "clock-secret-0001";

struct House {
    proxy: Proxy,
    clock: Clock,
    elapsed_ms: i64,
    _backend: Backend,
}

impl House {
    /// With one key of this policy.
    fn new(policy: &str) -> Self {
        let backend =
            Backend::json(r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#);
        let clock = Clock::manual(Now { monotonic_ns: NS_PER_MINUTE, unix_ms: NOON }).guarded(None, None);
        let keys = Proxy::keys_of(&[("a", SECRET, policy)]);
        let proxy = Proxy::start(&Proxy::config_for(&backend, ""), &keys, clock.clone());
        Self { proxy, clock, elapsed_ms: 0, _backend: backend }
    }

    /// Sets the wall clock so far from what is true, and has it looked at, as the program does every second.
    fn step(&self, by_ms: i64) {
        self.clock.step_wall_ms(NOON + self.elapsed_ms + by_ms);
        self.clock.keep();
    }

    /// Both hands move on.
    fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.clock.advance_ns(NS_PER_SECOND);
            self.clock.keep();
        }
        self.elapsed_ms += seconds * 1_000;
    }

    async fn ask(&self) -> Answer {
        let answer = Client::once(self.proxy.address, &post("/v1/chat/completions", SECRET, &chat("m", false))).await;
        self.proxy.quiet().await;
        answer
    }

    async fn used(&self) -> u64 {
        let answer = Client::once(self.proxy.address, &get("/v1/key", SECRET)).await;
        answer.json()["quota_used"].as_u64().expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_has_expired_does_not_live_again_when_the_clock_is_set_back() {
    for step in [HOUR_MS, DAY_MS] {
        let mut house = House::new("expires_at = \"2026-11-26T12:30:00Z\"");
        assert_eq!(house.ask().await.status, 200);
        house.pass(1_900);
        assert_eq!(house.ask().await.status, 401);
        house.step(-step);
        assert_eq!(house.ask().await.status, 401, "set back by {step} ms");
        house.pass(3_600);
        assert_eq!(house.ask().await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_expires_when_it_is_to_although_the_clock_was_set_back_before() {
    for step in [HOUR_MS, DAY_MS] {
        let mut house = House::new("expires_at = \"2026-11-26T12:30:00Z\"");
        house.pass(60);
        house.step(-step);
        house.pass(1_700);
        assert_eq!(house.ask().await.status, 200);
        house.pass(60);
        assert_eq!(house.ask().await.status, 401, "set back by {step} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_forward_by_mistake_refuses_what_it_has_expired_and_no_longer() {
    for step in [HOUR_MS, DAY_MS] {
        let mut house = House::new("expires_at = \"2026-11-26T12:30:00Z\"");
        house.step(step);
        assert_eq!(house.ask().await.status, 401, "by the clock it is over");
        house.pass(600);
        house.step(0);
        assert_eq!(house.ask().await.status, 200, "it was a mistake of {step} ms, and is gone");
        house.pass(1_200);
        assert_eq!(house.ask().await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_step_of_the_clock_gives_a_quota_twice() {
    for steps in [[HOUR_MS, -HOUR_MS], [DAY_MS, -DAY_MS], [-DAY_MS, DAY_MS], [DAY_MS, 0], [-HOUR_MS, 13 * HOUR_MS]] {
        let mut house = House::new("quota_limit = 1000\nquota_reset = \"daily\"");
        let mut given = 0;
        for step in [0, steps[0], steps[1], steps[0], steps[1], 0] {
            house.step(step);
            let before = house.used().await;
            while house.ask().await.status == 200 {
                given += 1;
            }
            assert!(house.used().await >= before, "what is shown is what is in force: {steps:?}");
            house.pass(1);
        }
        // Twenty units each: fifty are a period's, and at most the next period has begun early.
        assert!(given <= 2 * 50, "{steps:?}: {given} requests");
        assert!(given >= 49, "{steps:?}: {given} requests");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_run_on_whatever_the_wall_clock_does() {
    for step in [HOUR_MS, -HOUR_MS, DAY_MS, -DAY_MS] {
        let mut house = House::new("rpm_limit = 2\ntpm_limit = 100000");
        assert_eq!((house.ask().await.status, house.ask().await.status), (200, 200));
        house.step(step);
        let refused = house.ask().await;
        assert_eq!(refused.status, 429, "no request is free");
        let wait: i64 = refused.header("retry-after").expect("a wait").parse().expect("seconds");
        assert!((1..=30).contains(&wait), "{wait}");
        house.pass(wait);
        assert_eq!(house.ask().await.status, 200, "nor is the limiter frozen");
    }
}
