//! Event streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::{charged, events_for, proxy};
use crate::harness::apis::{self, Api};
use crate::harness::proxy::ALICE;
use crate::harness::{Answer, Backend, Client, Proxy, Reply, Seen};

const ASKS: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const ASKS_NOT: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":false},"messages":[]}"#;

/// A xorshift generator: the same cuts for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or(0)
    }
}

/// `bytes` cut at random.
fn cut(bytes: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let longest = [3, 40, 400][dice.below(3)];
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + dice.below(longest)).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

/// Streams the events of the path's API, in pieces cut as the header `x-seed` says, with a pause now and then.
async fn stream_in_pieces(seen: Seen, mut reply: Reply) -> Reply {
    let seed: u64 = seen.header("x-seed").and_then(|seed| seed.parse().ok()).unwrap_or(1);
    reply.stream_head().await;
    for (at, piece) in cut(events_for(seen.path()).concat().as_bytes(), seed).iter().enumerate() {
        reply.chunk(piece).await;
        // Now and then a piece comes alone; together or alone, what arrives is the same.
        if (at as u64 + seed).is_multiple_of(16) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    reply.end().await;
    reply
}

async fn streamed(proxy: &Proxy, api: &Api, seed: u64) -> Answer {
    let answer = Client::once(proxy.address, &api.stream_call(ALICE, &format!("x-seed: {seed}\r\n"))).await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{}: {}", api.name, answer.text());
    assert_eq!(answer.header("content-type").as_deref(), Some("text/event-stream"));
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_the_backends_byte_for_byte_however_it_is_cut_and_charged_as_reported() {
    for api in apis::ALL {
        let backend = Backend::start(stream_in_pieces);
        let proxy = proxy(&backend);
        for seed in 0..16 {
            let answer = streamed(&proxy, api, seed).await;
            assert_eq!(answer.text(), api.plain_stream(), "{} seed {seed}", api.name);
            assert_eq!(charged(&proxy).await, apis::UNITS * (seed + 1), "{} seed {seed}", api.name);
        }
        for seen in backend.seen() {
            let asked = seen.text().contains(r#""stream_options":{"include_usage":true}"#);
            assert_eq!(asked, api.usage_event.is_some(), "{}: {}", api.name, seen.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_usage_gets_the_usage_event_too() {
    for api in [&apis::OPENAI, &apis::AZURE] {
        let backend = Backend::start(stream_in_pieces);
        let proxy = proxy(&backend);
        for seed in 0..8 {
            let request = api.request(api.stream_path, ALICE, &format!("x-seed: {seed}\r\n"), ASKS);
            let answer = Client::once(proxy.address, &request).await;
            assert_eq!((answer.text(), answer.is_whole), (api.whole_stream(), true), "{} seed {seed}", api.name);
            assert_eq!(charged(&proxy).await, apis::UNITS * (seed + 1));
        }
        assert!(backend.seen().iter().all(|seen| seen.text() == ASKS), "the body goes as it came");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_evade_the_meter_by_asking_for_no_usage() {
    let backend = Backend::start(stream_in_pieces);
    let proxy = proxy(&backend);
    let request = apis::OPENAI.request(apis::OPENAI.path, ALICE, "", ASKS_NOT);
    let answer = Client::once(proxy.address, &request).await;
    assert_eq!(answer.text(), apis::OPENAI.plain_stream());
    assert_eq!(charged(&proxy).await, apis::UNITS);
    assert_eq!(backend.seen()[0].text(), ASKS_NOT.replace("false", "true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_event_is_out_before_the_second_is_in() {
    for api in apis::ALL {
        // One permit for each event: a Notify would hold only one, and two in a row would be one.
        let told = Arc::new(Semaphore::new(0));
        let wait = Arc::clone(&told);
        let backend = Backend::start(move |seen, mut reply: Reply| {
            let wait = Arc::clone(&wait);
            async move {
                reply.stream_head().await;
                for event in events_for(seen.path()) {
                    reply.chunk(event.as_bytes()).await;
                    wait.acquire().await.expect("never closed").forget();
                }
                reply.end().await;
                reply
            }
        });
        let proxy = proxy(&backend);
        let mut client = Client::connect(proxy.address).await;
        client.send(&api.stream_call(ALICE, "")).await;
        client.head().await;
        for (at, event) in api.events.iter().enumerate() {
            if Some(at) != api.usage_event {
                let chunk = client.chunk().await.expect("the event");
                assert_eq!(String::from_utf8_lossy(&chunk), *event, "{}", api.name);
            }
            told.add_permits(1);
        }
        assert_eq!(client.chunk().await, Some(Vec::new()), "{}", api.name);
        assert_eq!(charged(&proxy).await, apis::UNITS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_is_out_before_the_first_event_is_in() {
    let told = Arc::new(Notify::new());
    let wait = Arc::clone(&told);
    let backend = Backend::start(move |_, mut reply: Reply| {
        let wait = Arc::clone(&wait);
        async move {
            reply.stream_head().await;
            wait.notified().await;
            reply.end().await;
            reply
        }
    });
    let proxy = proxy(&backend);
    let mut client = Client::connect(proxy.address).await;
    client.send(&apis::ANTHROPIC.stream_call(ALICE, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    told.notify_one();
    assert_eq!(client.chunk().await, Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_arrives_whole() {
    const EVENTS: usize = 20_000;
    let backend = Backend::start(|_, mut reply: Reply| async move {
        reply.stream_head().await;
        for _ in 0..EVENTS / 100 {
            reply.chunk(apis::OPENAI.events[1].repeat(100).as_bytes()).await;
        }
        reply.chunk(apis::OPENAI.events[3].as_bytes()).await;
        reply.chunk(apis::OPENAI.events[4].as_bytes()).await;
        reply.end().await;
        reply
    });
    let proxy = proxy(&backend);
    let answer = Client::once(proxy.address, &apis::OPENAI.stream_call(ALICE, "")).await;
    let expected = apis::OPENAI.events[1].repeat(EVENTS) + apis::OPENAI.events[4];
    assert!(answer.is_whole && answer.text() == expected, "{} of {} bytes", answer.body.len(), expected.len());
    assert_eq!(charged(&proxy).await, apis::UNITS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_usage_is_charged_by_what_was_seen() {
    for api in apis::ALL {
        let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
            reply.stream_head().await;
            let silent = events_for(seen.path())
                .iter()
                .filter(|event| !event.contains("_tokens\":") && !event.contains("TokenCount"));
            for event in silent {
                reply.chunk(event.as_bytes()).await;
            }
            reply.end().await;
            reply
        });
        let proxy = proxy(&backend);
        let answer = streamed(&proxy, api, 0).await;
        let line = crate::harness::log::access(&answer.header(api.request_id).expect("an id")).await;
        assert_eq!(line["estimated"], "true", "{}", api.name);
        let tokens = |name: &str| line[name].parse::<u64>().expect("a number");
        assert!(tokens("input_tokens") > 0 && tokens("output_tokens") > 0, "{}: {line:?}", api.name);
        assert_eq!(charged(&proxy).await, tokens("input_tokens") + tokens("output_tokens"), "{}", api.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_last_event_is_charged_as_it_reports_at_its_end_and_not_before() {
    let event = format!(
        r#"{{"type":"response.completed","response":{{"instructions":"{}","output":[],"usage":{{"input_tokens":5000,"output_tokens":7000}}}}}}"#,
        "x".repeat(200_000)
    );
    let stream = format!("event: response.completed\ndata: {event}\n\n");
    let sent = stream.clone();
    let backend = Backend::start(move |_, mut reply: Reply| {
        let sent = sent.clone();
        async move {
            reply.raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for piece in sent.as_bytes().chunks(16_000) {
                reply.chunk(piece).await;
            }
            reply.end().await;
            reply
        }
    });
    let proxy = proxy(&backend);
    let call = apis::OPENAI.request("/v1/responses", ALICE, "", r#"{"model":"m","stream":true,"input":"hello"}"#);
    let answer = Client::once(proxy.address, &call).await;
    assert_eq!((answer.text(), answer.is_whole), (stream, true));
    assert_eq!(charged(&proxy).await, 12_000);
}
