//! However a request ends, nothing of it stays behind: no slot, no reservation, no byte of the budget, no time limit.

use std::sync::Arc;
use std::time::Duration;

use keyward::clock::{Clock, Now};
use keyward::policy::Standing;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::dice::Dice;
use crate::harness::time::eventually;
use crate::harness::{Answer, Backend, Client, Proxy, Reply, Seen, post};

const NOW: Now = Now { monotonic_ns: 1_000_000_000_000, unix_ms: 1_750_000_000_000 };
const NS_PER_MINUTE: u64 = 60_000_000_000;
const CHAT: &str = "/v1/chat/completions";

/// Every prompt is estimated at 100 tokens and reported as 100.
const BODY: usize = 300;
const PROMPT: u64 = 100;

/// No answer that breaks off has more text than this, in tokens.
const MOST_TEXT: u64 = 200;

/// Each key's limits. A minute holds a whole number of nanoseconds for each of their tokens, so that what was used can be read off
/// the time until all is there again.
const KEYS: [(&str, &str); 8] = [
    ("free-for-all", "rpm_limit = 60000\ntpm_limit = 60000000\nquota_limit = 1000000000\nmax_parallel = 1000"),
    (
        "reads-to-the-end",
        "on_disconnect = \"drain\"\nrpm_limit = 60000\ntpm_limit = 60000000\nquota_limit = 1000000000",
    ),
    ("few-requests", "rpm_limit = 3\ntpm_limit = 60000000\nquota_limit = 1000000000\nmax_parallel = 1000"),
    ("few-tokens", "rpm_limit = 60000\ntpm_limit = 600\nquota_limit = 1000000000\nmax_parallel = 1000"),
    ("few-at-once", "rpm_limit = 60000\ntpm_limit = 60000000\nquota_limit = 1000000000\nmax_parallel = 2"),
    ("few-units", "rpm_limit = 60000\ntpm_limit = 60000000\nquota_limit = 6000\nmax_parallel = 1000"),
    ("few-units-a-day", "rpm_limit = 60000\ntpm_limit = 60000000\nquota_limit = 700\nquota_reset = \"daily\""),
    ("few-of-all", "rpm_limit = 5\ntpm_limit = 1000\nquota_limit = 4000\nmax_parallel = 3\non_disconnect = \"drain\""),
];

/// How a request comes about and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Streamed,
    UpstreamError,
    CutInJson,
    CutInStream,
    CutAfterUsage,
    TimedOut,
    Unreachable,
    /// The client goes as soon as it has sent, or once the backend has the request.
    LeftAtOnce,
    LeftBefore,
    LeftDuring,
    HalfABody,
    NotJson,
}

/// How long the first byte of an answer is waited for, where none comes.
const FIRST_BYTE: Duration = Duration::from_millis(50);

const FATES: [Fate; 13] = [
    Fate::Answered,
    Fate::Streamed,
    Fate::UpstreamError,
    Fate::CutInJson,
    Fate::CutInStream,
    Fate::CutAfterUsage,
    Fate::TimedOut,
    Fate::Unreachable,
    Fate::LeftAtOnce,
    Fate::LeftBefore,
    Fate::LeftDuring,
    Fate::HalfABody,
    Fate::NotJson,
];

impl Fate {
    /// What the model is called by which the backend knows what to do, and whether a stream is asked for. A key that has answers
    /// read to the end needs ones that end.
    fn model(self, drains: bool) -> (&'static str, bool) {
        match self {
            Self::Answered | Self::HalfABody | Self::NotJson => ("fine", false),
            Self::Streamed => ("fine", true),
            Self::UpstreamError => ("error", false),
            Self::CutInJson => ("cut-json", false),
            Self::CutInStream => ("cut-stream", true),
            Self::CutAfterUsage => ("cut-late", true),
            Self::TimedOut => ("late", false),
            Self::Unreachable => ("dead", false),
            Self::LeftAtOnce | Self::LeftBefore | Self::LeftDuring if drains => ("patient", true),
            Self::LeftAtOnce | Self::LeftBefore => ("mute", false),
            Self::LeftDuring => ("hang", true),
        }
    }
}

/// What a request owes its key, from least to most.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    units: (u64, u64),
    requests: (u64, u64),
}

impl Due {
    fn exactly(units: u64, requests: u64) -> Self {
        Self { units: (units, units), requests: (requests, requests) }
    }

    fn between(least: u64, most: u64) -> Self {
        Self { units: (least, most), requests: (u64::from(least > 0), 1) }
    }

    fn add(&mut self, other: Self) {
        self.units = (self.units.0 + other.units.0, self.units.1 + other.units.1);
        self.requests = (self.requests.0 + other.requests.0, self.requests.1 + other.requests.1);
    }
}

fn secret(key: usize) -> String {
    format!("leaks-secret-{key:04}")
}

fn start(backend: &Backend) -> (Proxy, Clock) {
    let clock = Clock::manual(NOW);
    let secrets: Vec<_> = (0..KEYS.len()).map(secret).collect();
    let keys: Vec<_> = KEYS.iter().zip(&secrets).map(|((name, policy), secret)| (*name, &**secret, *policy)).collect();
    // The first upstream that serves a model is its way.
    let special = format!(
        "[[upstreams]]\nname = \"late\"\ndialect = \"openai\"\nurl = \"http://{}\"\nmodels = [\"late-*\"]\nfirst_byte_timeout = \"{}ms\"\n\
         [[upstreams]]\nname = \"dead\"\ndialect = \"openai\"\nurl = \"http://127.0.0.1:1\"\nmodels = [\"dead-*\"]\n[[upstreams]]",
        backend.address,
        FIRST_BYTE.as_millis()
    );
    let config = Proxy::config_for(backend, "").replacen("[[upstreams]]", &special, 1);
    (Proxy::start(&config, &Proxy::keys_of(&keys), clock.clone()), clock)
}

/// A backend that does what the model's name says. It uses half of the output it may give, all of it, or half as much again.
fn backend() -> Backend {
    Backend::start(|seen: Seen, mut reply: Reply| async move {
        let request: Value = serde_json::from_slice(&seen.body).expect("whole JSON");
        let name = request["model"].as_str().unwrap_or_default();
        let number: u64 = name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let output = request["max_tokens"].as_u64().unwrap_or_default() * (1 + number % 3) / 2;
        let usage = json!({ "prompt_tokens": PROMPT, "completion_tokens": output, "total_tokens": PROMPT + output });
        let piece = json!({ "choices": [{ "index": 0, "delta": { "content": "Hello" } }] });
        let (piece, usage_event) = (format!("data: {piece}\n\n"), json!({ "choices": [], "usage": usage }));
        let (last, done) = (format!("data: {usage_event}\n\n"), "data: [DONE]\n\n");
        if request["stream"] == true {
            reply.stream_head().await;
            reply.chunk(piece.as_bytes()).await;
        }
        match name.rsplit_once('-').map_or(name, |(kind, _)| kind) {
            "error" => reply.json(500, r#"{"error":{"message":"broken"}}"#).await,
            "cut-json" => {
                let half = r#"{"choices":[{"index":0,"message":{"content":"Hel"#;
                reply
                    .raw(format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{half}"
                    ))
                    .await;
                reply.cut();
            }
            "cut-stream" => reply.cut(),
            "cut-late" => {
                reply.chunk(last.as_bytes()).await;
                reply.cut();
            }
            "late" | "mute" | "hang" => reply.until_gone().await,
            kind => {
                // Long enough that its client is often gone by then; either is a fate that may leave nothing behind.
                if kind == "patient" {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if request["stream"] == true {
                    reply.chunk(format!("{last}{done}").as_bytes()).await;
                    reply.end().await;
                } else {
                    reply.json(200, &json!({ "choices": [], "usage": usage }).to_string()).await;
                }
            }
        }
        reply
    })
}

/// One request of a round.
struct Try {
    key: usize,
    fate: Fate,
    model: String,
    bytes: Vec<u8>,
}

impl Try {
    fn new(number: usize, dice: &mut Dice) -> Self {
        let key = dice.below(KEYS.len() as u64) as usize;
        let fate = *dice.one_of(&FATES);
        let (kind, streams) = fate.model(KEYS[key].1.contains("drain"));
        let model = format!("{kind}-{number:05}");
        let options = if streams { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
        let output = 10 + dice.below(190);
        let frame = format!(
            r#"{{"model":"{model}","max_tokens":{output},{options}"messages":[{{"role":"user","content":"FILL"}}]}}"#
        );
        let mut body = frame.replace("FILL", &"x".repeat(BODY + 4 - frame.len()));
        if fate == Fate::NotJson {
            body.replace_range(BODY - 1.., "!");
        }
        let mut bytes = post(CHAT, &secret(key), &body);
        if fate == Fate::HalfABody {
            bytes.truncate(bytes.len() - BODY / 2);
        }
        Self { key, fate, model, bytes }
    }

    /// Does it, and says what it must have cost.
    async fn run(self, address: std::net::SocketAddr, backend: &Backend) -> (usize, Due) {
        let mut client = Client::connect(address).await;
        client.send(&self.bytes).await;
        let due = match self.fate {
            Fate::LeftAtOnce => Due::between(0, PROMPT + MOST_TEXT * 2),
            Fate::HalfABody => Due::default(),
            Fate::LeftBefore => {
                // Refused, it never comes to the backend, and an answer is there instead.
                let is_seen = || backend.has_seen(|seen| seen.text().contains(&self.model));
                tokio::select! {
                    () = eventually(&self.model, is_seen) => Due::between(PROMPT, PROMPT + MOST_TEXT * 2),
                    answer = client.answer() => self.due(&answer),
                }
            }
            Fate::LeftDuring => {
                let head = client.head().await;
                if head.contains(" 200 ") {
                    client.chunk().await.expect("a first chunk");
                    Due::between(PROMPT, PROMPT + MOST_TEXT * 2)
                } else {
                    Due::default()
                }
            }
            _ => self.due(&client.answer().await),
        };
        (self.key, due)
    }

    /// What an answer says that the request cost.
    fn due(&self, answer: &Answer) -> Due {
        match (answer.status, self.fate) {
            (200, Fate::Answered | Fate::Streamed | Fate::LeftBefore) => Due::exactly(told_usage(answer), 1),
            (200, Fate::CutInJson | Fate::CutInStream | Fate::CutAfterUsage) => {
                assert!(!answer.is_whole, "{}: a cut answer looks whole: {}", self.model, answer.text());
                Due::between(PROMPT, PROMPT + MOST_TEXT * 2)
            }
            (500, Fate::UpstreamError) => Due::exactly(0, 1),
            (502, Fate::Unreachable) | (504, Fate::TimedOut) => Due::default(),
            (400, Fate::NotJson) => Due::default(),
            (429, fate) if fate != Fate::NotJson => Due::default(),
            (status, fate) => panic!("{fate:?} came to {status}: {}", answer.text()),
        }
    }
}

fn told_usage(answer: &Answer) -> u64 {
    let text = answer.text();
    let event = text.lines().filter_map(|line| line.strip_prefix("data: ")).rfind(|data| data.contains("total_tokens"));
    let value: Value = serde_json::from_str(event.unwrap_or(&text)).expect("an answer");
    value["usage"]["total_tokens"].as_u64().expect("a usage")
}

fn standing(proxy: &Proxy, key: usize) -> Standing {
    let entry = proxy.entry(&secret(key));
    entry.limits().standing(&entry.policy(), proxy.plane.clock.now())
}

/// Waits until nothing is under way; a slot that is never freed fails here.
async fn rest(proxy: &Proxy) {
    let entries: Vec<_> = (0..KEYS.len()).map(|key| proxy.entry(&secret(key))).collect();
    let metrics = &proxy.plane.metrics;
    let is_at_rest = || {
        metrics.connections.get() == 0
            && metrics.in_flight() == 0
            && entries.iter().all(|entry| entry.limits().in_use() == 0)
    };
    let resting = async {
        while !is_at_rest() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), resting).await.is_err() {
        let slots: Vec<_> = entries.iter().map(|entry| entry.limits().in_use()).collect();
        let (connections, requests) = (metrics.connections.get(), metrics.in_flight());
        panic!("never at rest: {connections} connections, {requests} requests, slots in use {slots:?}");
    }
}

/// What every key must show after a round in which it came to owe `dues`, at rest since the buckets were last full.
fn audit(proxy: &Proxy, dues: &[Due], used_before: &[u64], passed_ns: u64) {
    let mut all = 0;
    for (key, due) in dues.iter().enumerate() {
        let (stands, name) = (standing(proxy, key), KEYS[key].0);
        let (quota, tokens, requests) = (stands.quota.unwrap(), stands.tokens.unwrap(), stands.requests.unwrap());
        assert_eq!(quota.reserved, 0, "{name}");
        assert_eq!(stands.parallel.map_or(0, |parallel| parallel.in_use), 0, "{name}");
        let used = quota.used - used_before[key];
        assert!((due.units.0..=due.units.1).contains(&used), "{name}: {used} units, but {due:?}");
        let left_ns = |units: u64, limit: u64| (units * (NS_PER_MINUTE / limit)).saturating_sub(passed_ns);
        assert_eq!(tokens.reset_ns, left_ns(used, tokens.limit), "{name}: tokens and units differ");
        let counted =
            (due.requests.0..=due.requests.1).find(|count| requests.reset_ns == left_ns(*count, requests.limit));
        assert!(counted.is_some(), "{name}: {requests:?}, but {due:?}");
        all += quota.used;
    }
    assert_eq!(proxy.plane.metrics.units(), all, "what is written down is what was charged");
    assert_eq!((proxy.plane.body_budget.held(), proxy.plane.metrics.body_bytes.get()), (0, 0));
    assert_eq!(proxy.plane.metrics.panics.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_requests_nothing_is_left_of_them() {
    const ROUNDS: usize = 14;
    const TRIES: usize = 48;
    let backend = Arc::new(backend());
    let (proxy, clock) = start(&backend);
    let mut dice = Dice::new(7);
    for round in 0..ROUNDS {
        let used: Vec<_> = (0..KEYS.len()).map(|key| standing(&proxy, key).quota.unwrap().used).collect();
        let mut dues = vec![Due::default(); KEYS.len()];
        let all = (0..TRIES).map(|number| Try::new(round * TRIES + number, &mut dice));
        // Those for which time is to be up come by themselves: with every step of it buckets fill again.
        let (late, others): (Vec<_>, Vec<_>) = all.partition(|attempt| attempt.fate == Fate::TimedOut);
        let mut passed_ns = 0;
        for (attempts, is_late) in [(others, false), (late, true)] {
            let mut tries = JoinSet::new();
            for attempt in attempts {
                let (address, backend) = (proxy.address, Arc::clone(&backend));
                tries.spawn(async move { attempt.run(address, &backend).await });
            }
            while !tries.is_empty() {
                match tokio::time::timeout(FIRST_BYTE, tries.join_next()).await {
                    Ok(done) => {
                        let (key, due) = done.expect("one is left").expect("a try");
                        dues[key].add(due);
                    }
                    Err(_elapsed) if is_late => {
                        clock.advance_ns(FIRST_BYTE.as_nanos() as u64);
                        passed_ns += FIRST_BYTE.as_nanos() as u64;
                    }
                    Err(_elapsed) => {}
                }
            }
            rest(&proxy).await;
            audit(&proxy, &dues, &used, passed_ns);
        }
        // Long enough for every bucket to be full again, whatever debt there was; within the day, so that no quota starts anew.
        clock.advance_ns(30 * NS_PER_MINUTE);
    }
    let metrics = &proxy.plane.metrics;
    let gauges = [&metrics.time_limits, &metrics.upstream_in_flight, &metrics.upstream_idle];
    let is_empty = async {
        // Idle connections upstream end with the first sweep, the clock being far beyond their time.
        while gauges.iter().any(|gauge| gauge.get() != 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), is_empty).await;
    assert!(waited.is_ok(), "left: {:?} time limits, requests and idle connections upstream", gauges.map(|g| g.get()));
    let refusals = metrics.render();
    for reason in ["rpm_limit", "tpm_limit", "max_parallel", "insufficient_quota"] {
        assert!(
            refusals.contains(&format!("reason=\"{reason}\"")),
            "no request met {reason}: the seed tries too little"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_the_answer_pays_for_the_prompt_and_it_is_written_down() {
    let backend = backend();
    let (proxy, _clock) = start(&backend);
    for number in 1..=5 {
        let body = format!(r#"{{"model":"mute-{number}","max_tokens":50,"messages":[],"user":"FILL"}}"#);
        let body = body.replace("FILL", &"x".repeat(BODY + 4 - body.len()));
        let mut client = Client::connect(proxy.address).await;
        client.send(&post(CHAT, &secret(0), &body)).await;
        eventually("it comes to the backend", || backend.seen_count() >= number).await;
        assert_eq!(standing(&proxy, 0).quota.unwrap().reserved, PROMPT + 50);
        drop(client);
        rest(&proxy).await;
        let quota = standing(&proxy, 0).quota.unwrap();
        assert_eq!((quota.used, quota.reserved), (PROMPT * number as u64, 0));
        assert_eq!(proxy.plane.metrics.units(), PROMPT * number as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_hold_of_the_budget_what_has_come_of_them_and_no_longer_than_they_are_there() {
    const MIB: usize = 1 << 20;
    let backend = backend();
    let clock = Clock::manual(NOW);
    let config = Proxy::config_for(&backend, "");
    let config = config.replacen("[server]\n", "[server]\nmax_body = \"1MiB\"\nbody_budget = \"1MiB\"\n", 1);
    let proxy = Proxy::start(&config, &Proxy::keys_of(&[("alice", &secret(0), "")]), clock);
    let budget = &proxy.plane.body_budget;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {MIB}\r\n\r\n",
        secret(0)
    );
    let mut first = Client::connect(proxy.address).await;
    first.send(head.as_bytes()).await;
    first.send(&vec![b' '; MIB - 1000]).await;
    eventually("all that was sent is held", || budget.held() == (MIB - 1000) as u64).await;
    let mut second = Client::connect(proxy.address).await;
    second.send(&[head.as_bytes(), &[b' '; 2000]].concat()).await;
    let refused = second.answer().await;
    assert_eq!((refused.status, refused.header("retry-after").as_deref()), (503, Some("1")), "{}", refused.text());
    assert_eq!(budget.held(), (MIB - 1000) as u64, "what was refused holds nothing");
    drop((first, second));
    let is_given_back = || budget.held() == 0 && proxy.plane.metrics.body_bytes.get() == 0;
    eventually("a body that is gone holds no share", is_given_back).await;
    let fine = r#"{"model":"fine-0","max_tokens":5,"messages":[]}"#;
    assert_eq!(Client::once(proxy.address, &post(CHAT, &secret(0), fine)).await.status, 200);
}
