//! Connections on both sides, and how fast what flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyward::clock::{Clock, NS_PER_SECOND, Now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{charged, json_for, proxy};
use crate::harness::proxy::ALICE;
use crate::harness::{Backend, Client, Proxy, Reply, Seen, apis, get, still};

const PIECE: usize = 64 * 1024;
const PIECES: usize = 1024;

async fn json(seen: Seen, mut reply: Reply) -> Reply {
    reply.json(200, json_for(seen.path())).await;
    reply
}

/// Sends 64 MiB as audio and counts the pieces that were taken.
fn flood(taken: &Arc<AtomicUsize>) -> Backend {
    let taken = Arc::clone(taken);
    Backend::start(move |_, mut reply: Reply| {
        let taken = Arc::clone(&taken);
        async move {
            reply.raw("HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for _ in 0..PIECES {
                reply.chunk(&[7; PIECE]).await;
                taken.fetch_add(1, Ordering::SeqCst);
            }
            reply.end().await;
            reply
        }
    })
}

fn speech() -> Vec<u8> {
    apis::OPENAI.request("/v1/audio/speech", ALICE, "", r#"{"model":"tts-1","input":"Hello","voice":"alloy"}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_the_backend_back_and_still_gets_everything() {
    let taken = Arc::new(AtomicUsize::new(0));
    let backend = flood(&taken);
    let proxy = proxy(&backend);
    let mut client = Client::connect_narrow(proxy.address).await;
    client.send(&speech()).await;
    let stalled = still(&taken).await;
    // What the two sockets' buffers hold is the kernel's; the proxy itself holds a few pieces at most.
    assert!(stalled < PIECES * 3 / 4, "the backend got rid of {stalled} of {PIECES} pieces");
    let answer = client.answer().await;
    assert_eq!((answer.body.len(), answer.is_whole), (PIECE * PIECES, true));
    assert!(charged(&proxy).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_not_the_upstreams_silence() {
    let taken = Arc::new(AtomicUsize::new(0));
    let backend = flood(&taken);
    let clock = Clock::manual(Now { monotonic_ns: 60 * NS_PER_SECOND, unix_ms: 1_800_000_000_000 });
    let text = apis::config(&[backend.address], "write_stall_timeout = \"1h\"", "idle_timeout = \"10s\"", "");
    let proxy = Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, "")]), clock.clone());
    let mut client = Client::connect_narrow(proxy.address).await;
    client.send(&speech()).await;
    still(&taken).await;
    clock.advance_ns(60 * NS_PER_SECOND);
    // The deadlines are looked at every 100 ms, and no look is to cut it: with less time a fault could be missed, but nothing else go wrong.
    sleep(Duration::from_millis(300)).await;
    let answer = client.answer().await;
    assert_eq!((answer.body.len(), answer.is_whole), (PIECE * PIECES, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_loses_its_connection_and_the_backend_is_let_go() {
    let taken = Arc::new(AtomicUsize::new(0));
    let backend = flood(&taken);
    let clock = Clock::manual(Now { monotonic_ns: 60 * NS_PER_SECOND, unix_ms: 1_800_000_000_000 });
    let text = apis::config(&[backend.address], "", "", "");
    let proxy = Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, "")]), clock.clone());
    let mut client = Client::connect_narrow(proxy.address).await;
    client.send(&speech()).await;
    still(&taken).await;
    clock.advance_ns(31 * NS_PER_SECOND);
    assert!(charged(&proxy).await > 0);
    assert!(!client.answer().await.is_whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(json);
    let proxy = proxy(&backend);
    let mut requests = Vec::new();
    for api in apis::ALL {
        requests.extend(api.call(ALICE, ""));
        requests.extend(get("/v1/models", ALICE));
    }
    let mut client = Client::connect(proxy.address).await;
    client.send(&requests).await;
    for api in apis::ALL {
        assert_eq!(client.answer().await.text(), api.json);
        assert!(client.answer().await.json()["data"].is_array());
    }
    assert_eq!(charged(&proxy).await, 4 * apis::UNITS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_no_more_to_say_has_what_was_answered_before() {
    let (asked, all_said) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let told = Arc::clone(&all_said);
    let backend = Backend::start(move |seen: Seen, mut reply: Reply| {
        let (is_first, told) = (asked.fetch_add(1, Ordering::SeqCst) == 0, Arc::clone(&told));
        async move {
            if is_first {
                told.notified().await;
                reply.json(200, json_for(seen.path())).await;
            } else {
                reply.until_gone().await;
            }
            reply
        }
    });
    let proxy = proxy(&backend);
    let mut client = Client::connect(proxy.address).await;
    client.send(&[apis::OPENAI.call(ALICE, ""), apis::OPENAI.call(ALICE, "")].concat()).await;
    client.stream.shutdown().await.expect("there is no more to say");
    all_said.notify_one();
    assert_eq!(client.first_status().await, Some(200), "the first is answered, and charged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_requests_a_client_sends_at_once_the_others_have_their_turn() {
    let backend = Backend::start(json);
    let text = apis::config(&[backend.address], "", "", "").replace("workers = 2", "workers = 1");
    let proxy = Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system());
    let (mut reading, mut writing) = Client::connect(proxy.address).await.stream.into_split();
    let crowd = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(5_000);
    let asking = tokio::spawn(async move { while writing.write_all(&crowd).await.is_ok() {} });
    let taking = tokio::spawn(async move {
        let mut room = vec![0; 1024 * 1024];
        while matches!(reading.read(&mut room).await, Ok(1..)) {}
    });
    let answered = || {
        let text = proxy.metrics_text();
        let lines = text.lines().filter(|line| line.starts_with("keyward_requests_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    // They are under way, and many of them.
    while answered() < 2_000 {
        tokio::task::yield_now().await;
    }
    let mut other = Client::connect(proxy.address).await;
    let mut before_it = Vec::new();
    for _ in 0..25 {
        let before = answered();
        other.send(&get("/v1/key", ALICE)).await;
        assert_eq!(other.answer().await.status, 200);
        before_it.push(answered() - before);
    }
    asking.abort();
    taking.abort();
    before_it.sort_unstable();
    // One a turn, and some turns before what has come is looked at.
    assert!(before_it[12] < 1_000, "so many were answered before it: {before_it:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_each_side_serves_many_requests() {
    let backend = Backend::start(json);
    let proxy = proxy(&backend);
    let mut client = Client::connect(proxy.address).await;
    for round in 1..=20 {
        client.send(&apis::ANTHROPIC.call(ALICE, "")).await;
        assert_eq!(client.answer().await.text(), apis::ANTHROPIC.json);
        assert_eq!(charged(&proxy).await, round * apis::UNITS);
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_give_their_upstream_connection_back_too() {
    let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
        reply.stream_head().await;
        for event in super::events_for(seen.path()) {
            reply.chunk(event.as_bytes()).await;
        }
        reply.end().await;
        reply
    });
    let proxy = proxy(&backend);
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..10 {
        client.send(&apis::OPENAI.stream_call(ALICE, "")).await;
        assert_eq!(client.answer().await.text(), apis::OPENAI.plain_stream());
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_client_sees_that_its_answer_broke_off_whyever_that_is() {
    for goes_down in [false, true] {
        let backend = Backend::start(|_, mut reply: Reply| async move {
            reply.stream_head().await;
            reply.chunk(b"data: {}\n\n").await;
            reply.until_gone().await;
            reply
        });
        let proxy = proxy(&backend);
        let request = String::from_utf8(apis::OPENAI.stream_call(ALICE, "")).expect("text");
        let mut client = Client::connect(proxy.address).await;
        client.send(request.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes()).await;
        client.head().await;
        if goes_down {
            drop(proxy); // the drain's time is over before the answer is
        } else {
            client.stream.shutdown().await.expect("there is no more to say");
        }
        let end = client.stream.read_to_end(&mut Vec::new()).await;
        assert!(end.is_err(), "{goes_down}: a clean end is that of a whole answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_client_gets_its_answer_until_the_connection_closes() {
    let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
        assert!(seen.head.lines().next().is_some_and(|line| line.ends_with("HTTP/1.1")), "{}", seen.head);
        reply.stream_head().await;
        for event in super::events_for(seen.path()) {
            reply.chunk(event.as_bytes()).await;
        }
        reply.end().await;
        reply
    });
    let proxy = proxy(&backend);
    let request =
        String::from_utf8(apis::ANTHROPIC.stream_call(ALICE, "")).expect("text").replacen("HTTP/1.1", "HTTP/1.0", 1);
    let mut client = Client::connect(proxy.address).await;
    client.send(request.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None));
    assert_eq!(answer.text(), apis::ANTHROPIC.whole_stream());
    assert!(client.is_closed().await);
    assert_eq!(charged(&proxy).await, apis::UNITS);
}
