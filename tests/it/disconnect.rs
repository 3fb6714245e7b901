//! A client that goes away, at any moment: the upstream is let go or read on, and what was used is charged, once, and written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyward::clock::Clock;
use keyward::limits::KeyLimits;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::harness::apis::{self, Api};
use crate::harness::log::{self, Line};
use crate::harness::proxy::ALICE;
use crate::harness::{Backend, Client, Proxy, Reply, Seen, raw_backend};

const AT_ONCE: Duration = Duration::from_secs(1);

/// What a backend sends at once, and what it sends when it is let.
type Halves = fn(&Api) -> (String, String);

/// A backend that sends `start` and waits: either it is let to send the rest, or it is cancelled, which it counts.
struct Waiting {
    backend: Backend,
    go: Arc<Semaphore>,
    cancelled: Arc<AtomicUsize>,
}

impl Waiting {
    fn start(answer: Halves) -> Self {
        let (go, cancelled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gate, count) = (Arc::clone(&go), Arc::clone(&cancelled));
        let backend = Backend::start(move |seen: Seen, mut reply: Reply| {
            let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
            async move {
                let is_here = |api: &&Api| seen.path() == api.path || seen.path() == api.stream_path;
                let (start, rest) = answer(apis::ALL.into_iter().find(is_here).expect("a known path"));
                reply.raw(start).await;
                tokio::select! {
                    permit = gate.acquire() => permit.expect("open").forget(),
                    () = reply.until_gone() => {
                        count.fetch_add(1, Ordering::SeqCst);
                        return reply;
                    }
                }
                reply.raw(rest).await;
                reply
            }
        });
        Self { backend, go, cancelled }
    }

    async fn is_cancelled(&self, times: usize) {
        let cancelled = async {
            while self.cancelled.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        };
        timeout(AT_ONCE, cancelled).await.expect("the upstream request is cancelled at once");
    }

    async fn was_asked(&self, times: usize) {
        while self.backend.seen().len() < times {
            tokio::task::yield_now().await;
        }
    }
}

/// A stream whose first event comes at once.
fn stream(api: &Api) -> (String, String) {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    (head.to_owned() + &chunk(api.events[0]), chunk(&api.events[1..].concat()) + "0\r\n\r\n")
}

/// JSON of which half comes at once.
fn json(api: &Api) -> (String, String) {
    let length = api.json.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    (head + &api.json[..10], api.json[10..].to_owned())
}

/// JSON of which nothing comes at first.
fn late(api: &Api) -> (String, String) {
    let (start, rest) = json(api);
    (String::new(), start + &rest)
}

fn proxy(backend: &Backend, lines: &str) -> Proxy {
    Proxy::with_key(backend, &format!("quota_limit = 1000000\nmax_parallel = 1\n{lines}"))
}

/// The id of the one request the backend saw.
fn id_of(waiting: &Waiting) -> String {
    waiting.backend.seen()[0].header("x-request-id").expect("an id")
}

/// Nothing is held any more, and line, metrics and charge agree.
async fn agree(proxy: &Proxy, line: &Line) {
    proxy.quiet().await;
    let entry = proxy.entry(ALICE);
    let limits: &KeyLimits = entry.limits();
    let number = |name: &str| line[name].parse::<u64>().expect("a number");
    assert_eq!(number("units"), number("input_tokens") + number("output_tokens"));
    assert_eq!((limits.quota_used(), limits.quota_committed(), limits.in_use()), (number("units"), number("units"), 0));
    let metrics = &proxy.plane.metrics;
    assert_eq!(metrics.units(), number("units"));
    let tokens = |kind| metrics.tokens(kind);
    assert_eq!((tokens("input"), tokens("output")), (number("input_tokens"), number("output_tokens")));
    assert_eq!(metrics.estimated(), u64::from(line["estimated"] == "true"));
    let cuts = metrics.cuts.get_or_create(&keyward::telemetry::metrics::Reason { reason: "client_gone" }).get();
    assert_eq!(cuts, u64::from(line.get("cut").is_some_and(|cut| cut == "client_gone")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_before_the_first_byte() {
    for api in apis::ALL {
        let waiting = Waiting::start(late);
        let proxy = proxy(&waiting.backend, "");
        let mut client = Client::connect(proxy.address).await;
        client.send(&api.call(ALICE, "")).await;
        waiting.was_asked(1).await;
        drop(client);
        waiting.is_cancelled(1).await;
        let line = log::access(&id_of(&waiting)).await;
        assert_eq!((line["decision"].as_str(), line["status"].as_str()), ("client_gone", "0"));
        assert_eq!((line["cut"].as_str(), line["estimated"].as_str()), ("client_gone", "true"));
        assert_ne!(line["input_tokens"], "0", "the prompt is charged");
        agree(&proxy, &line).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_in_the_middle_of_a_stream() {
    for api in apis::ALL {
        let waiting = Waiting::start(stream);
        let proxy = proxy(&waiting.backend, "");
        let mut client = Client::connect(proxy.address).await;
        client.send(&api.stream_call(ALICE, "")).await;
        client.head().await;
        client.chunk().await.expect("the first event");
        drop(client);
        waiting.is_cancelled(1).await;
        let line = log::access(&id_of(&waiting)).await;
        assert_eq!((line["decision"].as_str(), line["status"].as_str()), ("allowed", "200"));
        assert_eq!((line["cut"].as_str(), line["estimated"].as_str()), ("client_gone", "true"));
        agree(&proxy, &line).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_in_the_middle_of_json() {
    for api in apis::ALL {
        let waiting = Waiting::start(json);
        let proxy = proxy(&waiting.backend, "");
        let mut client = Client::connect(proxy.address).await;
        client.send(&api.call(ALICE, "")).await;
        client.head().await;
        drop(client);
        waiting.is_cancelled(1).await;
        let line = log::access(&id_of(&waiting)).await;
        assert_eq!((line["cut"].as_str(), line["estimated"].as_str()), ("client_gone", "true"));
        agree(&proxy, &line).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_with_a_reset() {
    for answer in [late, stream] {
        let waiting = Waiting::start(answer);
        let proxy = proxy(&waiting.backend, "");
        let mut client = Client::connect(proxy.address).await;
        client.send(&apis::OPENAI.stream_call(ALICE, "")).await;
        waiting.was_asked(1).await;
        raw_backend::reset(client.stream);
        waiting.is_cancelled(1).await;
        agree(&proxy, &log::access(&id_of(&waiting)).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_before_the_body_was_sent() {
    let waiting = Waiting::start(late);
    let proxy = proxy(&waiting.backend, "");
    let request = apis::OPENAI.call(ALICE, "x-request-id: disconnect-no-body\r\n");
    let mut client = Client::connect(proxy.address).await;
    client.send(&request[..request.len() - 5]).await;
    while proxy.plane.metrics.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    let line = log::access("disconnect-no-body").await;
    assert_eq!((line["units"].as_str(), line["input_tokens"].as_str()), ("0", "0"));
    agree(&proxy, &line).await;
    assert!(waiting.backend.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_free_as_soon_as_its_client_has_gone() {
    let waiting = Waiting::start(late);
    let proxy = proxy(&waiting.backend, "");
    for times in 1..=3 {
        let mut client = Client::connect(proxy.address).await;
        client.send(&apis::OPENAI.call(ALICE, "")).await;
        waiting.was_asked(times).await;
        let refused = Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await;
        assert_eq!(refused.status, 429);
        drop(client);
        waiting.is_cancelled(times).await;
        proxy.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_drained_is_read_on_to_its_usage() {
    let answers: [(Halves, bool, bool); 3] = [(stream, true, true), (json, false, true), (late, false, false)];
    for (answer, streams, begins) in answers {
        for api in apis::ALL {
            let waiting = Waiting::start(answer);
            let proxy = proxy(&waiting.backend, "on_disconnect = \"drain\"");
            let mut client = Client::connect(proxy.address).await;
            client.send(&if streams { api.stream_call(ALICE, "") } else { api.call(ALICE, "") }).await;
            waiting.was_asked(1).await;
            if begins {
                client.head().await;
            }
            drop(client);
            while proxy.plane.metrics.connections.get() > 0 {
                tokio::task::yield_now().await;
            }
            let held = Client::once(proxy.address, &api.call(ALICE, "")).await;
            assert_eq!(held.status, 429, "{}: the slot is held until the end is read", api.name);
            waiting.go.add_permits(1);
            let line = log::access(&id_of(&waiting)).await;
            assert_eq!((line["units"].clone(), line["estimated"].as_str()), (apis::UNITS.to_string(), "false"));
            assert_eq!(line["cut"], "client_gone");
            agree(&proxy, &line).await;
            assert_eq!(waiting.cancelled.load(Ordering::SeqCst), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_drained_when_the_proxy_goes_down_is_charged_as_far_as_it_came() {
    let waiting = Waiting::start(stream);
    let proxy = proxy(&waiting.backend, "on_disconnect = \"drain\"");
    let (plane, entry) = (Arc::clone(&proxy.plane), proxy.entry(ALICE));
    let mut gone = Client::connect(proxy.address).await;
    gone.send(&apis::ANTHROPIC.stream_call(ALICE, "")).await;
    gone.head().await;
    drop(gone);
    while plane.metrics.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    drop(proxy);
    let line = log::access(&id_of(&waiting)).await;
    let units = line["units"].parse::<u64>().expect("a number");
    assert!(units >= apis::INPUT);
    assert_eq!((entry.limits().quota_used(), entry.limits().quota_committed()), (units, units));
    assert_eq!((entry.limits().in_use(), plane.metrics.in_flight()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_runs_when_the_proxy_goes_down_is_charged_as_far_as_it_came() {
    for lines in ["on_disconnect = \"drain\"", "on_disconnect = \"cancel\""] {
        let waiting = Waiting::start(stream);
        let proxy = proxy(&waiting.backend, lines);
        let (plane, entry) = (Arc::clone(&proxy.plane), proxy.entry(ALICE));
        let mut client = Client::connect(proxy.address).await;
        client.send(&apis::OPENAI.stream_call(ALICE, "")).await;
        client.head().await;
        drop(proxy);
        assert!(client.remaining().await.ends_with(b"\n\n\r\n"), "no last chunk: the cut shows");
        let line = log::access(&id_of(&waiting)).await;
        let units = line["units"].parse::<u64>().expect("a number");
        assert!(units > 0, "{lines}");
        assert_eq!((entry.limits().quota_used(), entry.limits().quota_committed()), (units, units), "{lines}");
        assert_eq!((entry.limits().in_use(), plane.metrics.in_flight()), (0, 0), "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_at_any_byte_leave_nothing_behind() {
    let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
        let (start, rest) = stream(apis::ALL.into_iter().find(|api| seen.path() == api.stream_path).expect("a stream"));
        for piece in (start + &rest).into_bytes().chunks(50) {
            reply.raw(piece).await;
            tokio::task::yield_now().await;
        }
        reply
    });
    let keys = Proxy::keys_of(&[
        ("alice", ALICE, "quota_limit = 1000000"),
        ("bob", "bobs-secret-0001", "quota_limit = 1000000\non_disconnect = \"drain\""),
    ]);
    let proxy = Proxy::start(&Proxy::config_for(&backend, ""), &keys, Clock::system());
    let mut going = tokio::task::JoinSet::new();
    for number in 0..200_usize {
        let address = proxy.address;
        going.spawn(async move {
            let key = if number.is_multiple_of(2) { ALICE } else { "bobs-secret-0001" };
            let mut client = Client::connect(address).await;
            let more = format!("x-request-id: leaver-{number}\r\nconnection: close\r\n");
            client.send(&apis::ALL[number / 2 % 4].stream_call(key, &more)).await;
            let mut left = number * 7;
            let mut scratch = [0; 64];
            while left > 0 {
                let want = left.min(scratch.len());
                match client.stream.read(&mut scratch[..want]).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => left -= count,
                }
            }
        });
    }
    while going.join_next().await.is_some() {}
    proxy.quiet().await;
    let mut units = [0; 2];
    for number in 0..200 {
        let line = log::access(&format!("leaver-{number}")).await;
        units[number % 2] += line["units"].parse::<u64>().expect("a number");
    }
    let (alice, bob) = (proxy.entry(ALICE), proxy.entry("bobs-secret-0001"));
    for (entry, units) in [(alice, units[0]), (bob, units[1])] {
        let limits = entry.limits();
        assert_eq!((limits.quota_used(), limits.quota_committed(), limits.in_use()), (units, units, 0));
    }
    assert_eq!(proxy.plane.metrics.units(), units[0] + units[1]);
    assert_eq!(proxy.plane.body_budget.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_is_seen_whatever_it_sent_behind_its_request() {
    let next = String::from_utf8(apis::OPENAI.call(ALICE, "")).unwrap();
    for (answer, number) in [late as Halves, stream].into_iter().zip(1..) {
        let waiting = Waiting::start(answer);
        let proxy = proxy(&waiting.backend, "");
        // A next request may be all that a client has to say while it still reads: it has gone once the connection is reset.
        let tails = [("", false), ("GET /v1/mod", false), (next.as_str(), true)];
        for ((tail, resets), times) in tails.into_iter().zip(1..) {
            let mut client = Client::connect(proxy.address).await;
            client.send(&[&apis::OPENAI.stream_call(ALICE, ""), tail.as_bytes()].concat()).await;
            waiting.was_asked(times).await;
            if resets {
                client.stream.set_zero_linger().unwrap();
            }
            drop(client);
            waiting.is_cancelled(times).await;
            proxy.quiet().await;
            assert_eq!(waiting.backend.seen().len(), times, "case {number}: {tail:?} is not asked for any more");
        }
    }
}
