//! Upstreams over HTTP/2: many requests on a connection, and what was not looked at is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use keyward::clock::{Clock, NS_PER_MINUTE, NS_PER_SECOND, Now};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{ask, is_quiet, proxy, proxy_with};
use crate::harness::h2::{End, H2};
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::RawBackend;
use crate::harness::time::eventually;
use crate::harness::{self, Client, apis};

/// What a backend does with a request, by its number on the connection and that of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Answer,
    /// Refuses the stream: nothing was done.
    Refuse,
    /// Resets it with another word.
    Reset,
    /// Begins to answer and resets, with this word.
    Cut(Reason),
}

/// Counts of what a backend was sent.
#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    most_at_once: AtomicUsize,
    at_once: AtomicUsize,
}

/// A backend without TLS that speaks HTTP/2 from the first byte; each answer waits for a permit of `gate`.
fn backend(gate: Arc<Semaphore>, seen: Arc<Seen>, act: fn(usize) -> Act) -> RawBackend {
    RawBackend::start(move |stream, _| {
        let (gate, seen) = (Arc::clone(&gate), Arc::clone(&seen));
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let number = seen.requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(request, respond, Arc::clone(&gate), Arc::clone(&seen), act(number)));
            }
        }
    })
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    gate: Arc<Semaphore>,
    seen: Arc<Seen>,
    act: Act,
) {
    match act {
        Act::Refuse => return respond.send_reset(Reason::REFUSED_STREAM),
        Act::Reset => return respond.send_reset(Reason::INTERNAL_ERROR),
        Act::Answer | Act::Cut(_) => {}
    }
    assert_eq!(request.uri().path(), "/v1/chat/completions");
    assert!(request.uri().authority().is_some() && request.headers().get("host").is_none());
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        let _ = body.flow_control().release_capacity(data.len());
    }
    assert_eq!(length, apis::OPENAI.body.len());
    let at_once = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_at_once.fetch_max(at_once, Ordering::SeqCst);
    let _permit = if matches!(act, Act::Cut(_)) { None } else { gate.acquire().await.ok() };
    seen.at_once.fetch_sub(1, Ordering::SeqCst);
    let head = Response::builder().header("content-type", "application/json").body(()).unwrap();
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    if let Act::Cut(reason) = act {
        let _ = stream.send_data(Bytes::from_static(b"{\"usage\":"), false);
        // A reset takes back what has not left yet: not before the client has it.
        gate.acquire().await.expect("a gate that stays").forget();
        return stream.send_reset(reason);
    }
    let _ = stream.send_data(Bytes::from_static(apis::OPENAI_JSON.as_bytes()), true);
}

const HTTP2: &str = "http = \"2\"\nretries = 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_a_connection() {
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Seen::default()));
    let backend = backend(Arc::clone(&gate), Arc::clone(&seen), |_| Act::Answer);
    let proxy = proxy(&format!("http://{}", backend.address), HTTP2);
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let address = proxy.address;
        asking.spawn(async move { Client::once(address, &apis::OPENAI.call(ALICE, "")).await });
    }
    while seen.at_once.load(Ordering::SeqCst) < 50 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    gate.close();
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, apis::OPENAI_JSON));
    }
    assert_eq!((backend.connections(), seen.most_at_once.load(Ordering::SeqCst)), (1, 50));
    is_quiet(&proxy).await;
    assert_eq!(proxy.entry(ALICE).limits().quota_used(), 50 * apis::UNITS);
}

fn open_gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_sent_again_and_another_reset_is_not() {
    let seen = Arc::new(Seen::default());
    let refusing =
        backend(open_gate(), Arc::clone(&seen), |number| if number % 2 == 0 { Act::Refuse } else { Act::Answer });
    let first = proxy(&format!("http://{}", refusing.address), HTTP2);
    for _ in 0..10 {
        assert_eq!(ask(&first).await.status, 200);
    }
    assert_eq!(seen.requests.load(Ordering::SeqCst), 20);
    assert!(first.live().routes.upstreams()[0].health.is_whole(), "it is a matter of load, not of health");
    is_quiet(&first).await;
    let seen = Arc::new(Seen::default());
    let resetting = backend(open_gate(), Arc::clone(&seen), |_| Act::Reset);
    let second = proxy(&format!("http://{}", resetting.address), HTTP2);
    let answer = ask(&second).await;
    assert_eq!((answer.status, seen.requests.load(Ordering::SeqCst)), (502, 1));
    assert_eq!(apis::OPENAI.error_code(&answer.json()), "upstream_broken");
    is_quiet(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_amid_the_answer_is_a_visible_cut() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = backend(Arc::clone(&gate), Arc::default(), |number| {
        // Also where it says that nothing is amiss.
        Act::Cut(if number % 2 == 0 { Reason::NO_ERROR } else { Reason::INTERNAL_ERROR })
    });
    let proxy = proxy(&format!("http://{}", backend.address), HTTP2);
    for _ in 0..5 {
        let mut client = Client::connect(proxy.address).await;
        client.send(&apis::OPENAI.call(ALICE, "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(client.chunk().await.as_deref(), Some(&b"{\"usage\":"[..]));
        gate.add_permits(1);
        assert_eq!(client.chunk().await, None, "no clean end");
    }
    assert_eq!(backend.connections(), 1, "the others on the connection are not touched by it");
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_last_that_a_leaving_backend_looked_at_are_sent_again() {
    // Each connection answers one request and goes away; what came meanwhile was not looked at.
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let backend = RawBackend::start(move |stream, _| {
        let served = Arc::clone(&count);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            if let Some(Ok((request, respond))) = connection.accept().await {
                served.fetch_add(1, Ordering::SeqCst);
                connection.graceful_shutdown();
                tokio::spawn(answer(request, respond, open_gate(), Arc::default(), Act::Answer));
            }
            while connection.accept().await.is_some() {
                served.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let proxy = proxy(&format!("http://{}", backend.address), HTTP2);
    for round in 0..20 {
        assert_eq!(ask(&proxy).await.status, 200, "request {round}");
    }
    assert_eq!(served.load(Ordering::SeqCst), 20);
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_resets_its_stream_and_no_other() {
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Seen::default()));
    let backend = backend(Arc::clone(&gate), Arc::clone(&seen), |_| Act::Answer);
    let proxy = proxy(&format!("http://{}", backend.address), HTTP2);
    let mut goes = Client::connect(proxy.address).await;
    goes.send(&apis::OPENAI.call(ALICE, "")).await;
    let mut stays = Client::connect(proxy.address).await;
    stays.send(&apis::OPENAI.call(ALICE, "")).await;
    while seen.at_once.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    drop(goes);
    gate.add_permits(2);
    assert_eq!(stays.answer().await.status, 200);
    assert_eq!(backend.connections(), 1);
    is_quiet(&proxy).await;
}

/// A backend whose first connection stands still once it has a request: nothing is read or said on it any more.
fn frozen(gate: Arc<Semaphore>) -> RawBackend {
    RawBackend::start(move |stream, number| {
        let gate = Arc::clone(&gate);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                if number == 0 {
                    return std::future::pending().await;
                }
                tokio::spawn(answer(request, respond, Arc::clone(&gate), Arc::default(), Act::Answer));
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_nothing_was_answered_in_time_gets_no_more_requests() {
    let backend = frozen(open_gate());
    let proxy = proxy(&format!("http://{}", backend.address), "http = \"2\"\nfirst_byte_timeout = \"300ms\"");
    assert_eq!(ask(&proxy).await.status, 504);
    for _ in 0..3 {
        assert_eq!(ask(&proxy).await.status, 200);
    }
    assert_eq!(backend.connections(), 2);
    is_quiet(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_long_been_silent_gets_no_more_requests() {
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Seen::default()));
    let backend = backend(Arc::clone(&gate), Arc::clone(&seen), |_| Act::Answer);
    let clock = Clock::manual(Now { monotonic_ns: NS_PER_MINUTE, unix_ms: 1_800_000_000_000 });
    let proxy = proxy_with(&format!("http://{}", backend.address), HTTP2, clock.clone());
    let mut asking = JoinSet::new();
    let mut ask = |at_once| {
        let (address, seen) = (proxy.address, Arc::clone(&seen));
        asking.spawn(async move { Client::once(address, &apis::OPENAI.call(ALICE, "")).await.status });
        async move { eventually("it is asked", || seen.at_once.load(Ordering::SeqCst) == at_once).await }
    };
    ask(1).await;
    clock.advance_ns(19 * NS_PER_SECOND);
    ask(2).await;
    assert_eq!(backend.connections(), 1, "an answer takes its time");
    let mut asked = 2;
    // A last frame of theirs may be read only after the clock has moved: it counts from then.
    while backend.connections() == 1 {
        assert!(asked < 6, "who says nothing for so long may never do");
        clock.advance_ns(21 * NS_PER_SECOND);
        asked += 1;
        ask(asked).await;
    }
    ask(asked + 1).await;
    assert_eq!(backend.connections(), 2);
    gate.add_permits(asked + 1);
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), 200, "what was on it is waited for");
    }
    is_quiet(&proxy).await;
}

/// A backend whose first answer stands still until there is a permit of `go`, while the others say `piece` for ever, in a frame of its own each time.
fn flooding(go: Arc<Semaphore>, piece: Bytes, said: Arc<AtomicUsize>) -> RawBackend {
    RawBackend::start(move |stream, _| {
        let (go, piece, said) = (Arc::clone(&go), piece.clone(), Arc::clone(&said));
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let mut is_first = true;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
                let Ok(mut stream) = respond.send_response(head, false) else { return };
                let (go, piece, said) = (Arc::clone(&go), piece.clone(), Arc::clone(&said));
                if std::mem::take(&mut is_first) {
                    tokio::spawn(async move {
                        let _ = stream.send_data(Bytes::from_static(b"data: {}\n\n"), false);
                        let _permit = go.acquire().await;
                        let _ = stream.send_data(Bytes::from_static(b"data: [DONE]\n\n"), true);
                    });
                    continue;
                }
                tokio::spawn(async move {
                    loop {
                        stream.reserve_capacity(piece.len());
                        while stream.capacity() < piece.len() {
                            let Some(Ok(_)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                        }
                        let _ = stream.send_data(piece.clone(), false);
                        said.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_hold_up_no_other_on_the_connection() {
    // Many small pieces, as tokens come; and few large ones, that together are more than a connection's window might be.
    for (length, streams) in [(60, 10), (1000, 40)] {
        let go = Arc::new(Semaphore::new(0));
        let piece = format!("data: {}\n\n", "a".repeat(length - 8));
        let said = Arc::new(AtomicUsize::new(0));
        let backend = flooding(Arc::clone(&go), Bytes::from(piece), Arc::clone(&said));
        let proxy = proxy(&format!("http://{}", backend.address), HTTP2);
        let mut reads = H2::connect(proxy.address).await;
        let body = harness::chat("m", true);
        let read = reads.post("/v1/chat/completions", ALICE, &body).await;
        let begun = reads.until(read, 10).await;
        assert_eq!((begun.status(), begun.text().as_str()), (200, "data: {}\n\n"));
        let socket = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        // No room for a single byte.
        let mut leaves = H2::begin(socket, &[(4, 0)]).await;
        let mut unread = 0;
        for _ in 0..streams {
            unread = leaves.post("/v1/chat/completions", ALICE, &body).await;
        }
        assert_eq!(leaves.until(unread, 0).await.status(), 200);
        harness::still(&said).await;
        go.add_permits(1);
        let got = reads.answer(read).await;
        assert_eq!((got.text().as_str(), got.end), ("data: {}\n\ndata: [DONE]\n\n", Some(End::Clean)), "{length}");
        assert_eq!(backend.connections(), 1);
        drop(leaves);
        is_quiet(&proxy).await;
    }
}

/// RFC 9110 15.3.5 and 15.4.5: whatever the backend sends behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_body_by_its_status_has_none_for_a_client_of_http2_either() {
    for status in [204, 304] {
        let backend = RawBackend::start(move |stream, _| async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                let head = Response::builder().status(status).header("x-a", "b").body(()).unwrap();
                let Ok(mut stream) = respond.send_response(head, false) else { return };
                let _ = stream.send_data(Bytes::from_static(b"not to be there"), true);
            }
        });
        let proxy = proxy(&format!("http://{}", backend.address), HTTP2);
        let mut client = H2::connect(proxy.address).await;
        for _ in 0..3 {
            let stream = client.post("/v1/chat/completions", ALICE, &harness::chat("gpt-4o", false)).await;
            let got = client.answer(stream).await;
            assert_eq!((got.status(), got.end, got.pieces.len()), (status, Some(End::Clean), 0), "{got:?}");
        }
        is_quiet(&proxy).await;
    }
}
