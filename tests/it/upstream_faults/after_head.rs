//! Faults in the middle of an answer: a visible end, told in an event where one can stand, and a charge for what came.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Fault, Sick, proxy, serves_again, used};
use crate::harness::apis::{self, Api};
use crate::harness::proxy::ALICE;
use crate::harness::{Answer, Client, Proxy, log, raw_backend};

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
/// An event every API's clients pass over.
const EVENT: &str = "6\r\n: hi\n\n\r\n";

/// Sends a call to a backend with this fault, and finds line and charge in agreement; the next requests are served.
async fn each_api(fault: Fault, streams: bool, check: impl Fn(&Api, &Answer)) {
    for api in apis::ALL {
        let sick = Sick::with(fault);
        let proxy = proxy(&[sick.backend.address], "idle_timeout = \"300ms\"");
        let request = if streams { api.stream_call(ALICE, "") } else { api.call(ALICE, "") };
        let answer = Client::once(proxy.address, &request).await;
        check(api, &answer);
        agrees(&proxy, api, &answer).await;
        sick.heal();
        serves_again(&proxy).await;
    }
}

async fn agrees(proxy: &Proxy, api: &Api, answer: &Answer) {
    let line = log::access(&answer.header(api.request_id).expect("an id")).await;
    let units = line["units"].parse::<u64>().expect("a number");
    assert_eq!(used(proxy).await, units);
    if !answer.is_whole {
        assert_eq!((line["cut"].as_str(), line["estimated"].as_str()), ("upstream_cut", "true"), "{}", api.name);
        assert!(units > 0);
    }
}

/// What the proxy says in a stream whose backend broke off.
fn is_told_in_an_event(api: &Api, answer: &Answer) {
    assert_eq!((answer.status, answer.is_whole), (200, false), "{}", api.name);
    let text = answer.text();
    let event = text.strip_prefix(": hi\n\n").unwrap_or_else(|| panic!("what came is passed on: {text:?}"));
    let data = event.strip_prefix("event: error\n").unwrap_or(event).strip_prefix("data: ");
    let data = data.unwrap_or_else(|| panic!("{}: {text:?}", api.name));
    let data: serde_json::Value = serde_json::from_str(data.trim_end()).expect("one event");
    assert_eq!(api.error_code(&data), "upstream_cut");
}

fn is_cut(api: &Api, answer: &Answer) {
    assert_eq!((answer.status, answer.is_whole), (200, false), "{}: {}", api.name, answer.text());
}

/// Such a client knows the end of an answer by the connection's alone: one that breaks off is told by a reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_1_0_takes_no_cut_for_the_end() {
    let fault: Fault = |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            let start = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n";
            raw_backend::write(&mut stream, start).await;
        })
    };
    let sick = Sick::with(fault);
    let proxy = proxy(&[sick.backend.address], "");
    let call = String::from_utf8(apis::ALL[0].call(ALICE, "")).expect("text").replacen("HTTP/1.1", "HTTP/1.0", 1);
    let mut socket = TcpStream::connect(proxy.address).await.expect("connected");
    socket.write_all(call.as_bytes()).await.expect("sent");
    let mut had = Vec::new();
    let end = socket.read_to_end(&mut had).await;
    assert_eq!(end.expect_err("no clean end").kind(), std::io::ErrorKind::ConnectionReset);
}

macro_rules! breaks_off {
    ($name:ident, $streams:literal, $bytes:expr, $end:ident, $check:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let fault: Fault = |mut stream| {
                Box::pin(async move {
                    raw_backend::read_request(&mut stream).await;
                    raw_backend::write(&mut stream, $bytes).await;
                    $end(stream).await;
                })
            };
            each_api(fault, $streams, $check).await;
        }
    };
}

async fn ends(stream: tokio::net::TcpStream) {
    drop(stream);
}

async fn resets(stream: tokio::net::TcpStream) {
    // What was written is with the other side of the loopback already, and a reset takes nothing of it back.
    raw_backend::reset(stream);
}

async fn stays(mut stream: tokio::net::TcpStream) {
    raw_backend::until_gone(&mut stream).await;
}

const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"usage\":";
const SHORT_CHUNKS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"u\r\n";

breaks_off!(fewer_bytes_than_the_length_says, false, SHORT, ends, |api, answer| {
    is_cut(api, answer);
    assert_eq!(answer.text(), "{\"usage\":", "what came is passed on");
});
breaks_off!(chunks_without_an_end, false, SHORT_CHUNKS, ends, |api, answer| {
    is_cut(api, answer);
    assert_eq!(answer.text(), "{\"u", "what came is passed on");
});
breaks_off!(a_reset_inside_json, false, SHORT, resets, is_cut);
breaks_off!(a_chunk_size_that_is_none, false, [SHORT_CHUNKS, "zz\r\n"].concat(), ends, is_cut);
breaks_off!(silence_inside_json, false, SHORT, stays, is_cut);
breaks_off!(a_stream_that_ends_between_events, true, [STREAM, EVENT].concat(), ends, is_told_in_an_event);
breaks_off!(a_stream_that_is_reset, true, [STREAM, EVENT].concat(), resets, is_told_in_an_event);
breaks_off!(a_stream_that_falls_silent, true, [STREAM, EVENT].concat(), stays, is_told_in_an_event);
breaks_off!(a_stream_with_a_broken_chunk, true, [STREAM, EVENT, "-1\r\n"].concat(), stays, is_told_in_an_event);
breaks_off!(
    a_stream_that_ends_inside_an_event,
    true,
    [STREAM, EVENT, "6\r\ndata: \r\n"].concat(),
    ends,
    |api, answer| {
        is_cut(api, answer);
        // Where an event is held back until it is whole, the error can take its place.
        match api.usage_event {
            Some(_) => is_told_in_an_event(api, answer),
            None => assert_eq!(answer.text(), ": hi\n\ndata: ", "{}", api.name),
        }
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bytes_than_the_length_says_are_nobodys() {
    let fault: Fault = |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            let extra = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            raw_backend::write(&mut stream, [head, extra].concat()).await;
            stays(stream).await;
        })
    };
    each_api(fault, false, |_, answer| {
        assert_eq!((answer.status, answer.text().as_str(), answer.is_whole), (200, "{}", true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_framed_twice_is_framed_once() {
    let fault: Fault = |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
            raw_backend::write(&mut stream, [head, "5\r\n[1,2]\r\n0\r\n\r\n"].concat()).await;
            stays(stream).await;
        })
    };
    each_api(fault, false, |api, answer| {
        assert_eq!((answer.status, answer.text().as_str(), answer.is_whole), (200, "[1,2]", true), "{}", api.name);
        assert!(answer.header("content-length").is_none_or(|length| length == "5"), "{}", answer.head);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_that_cannot_be_is_not_believed() {
    const USAGES: [&str; 6] = ["-5", "99999999999999999999999", "1e300", "\"many\"", "[1]", "1152921504606846976"];
    for (number, api) in apis::ALL.into_iter().enumerate() {
        let backend = crate::harness::raw_backend::RawBackend::start(|mut stream, connection| async move {
            raw_backend::read_request(&mut stream).await;
            let usage = USAGES[connection % USAGES.len()];
            let json = format!(
                "{{\"usage\":{{\"prompt_tokens\":{usage},\"completion_tokens\":{usage},\"input_tokens\":{usage},\"output_tokens\":{usage}}},\"usageMetadata\":{{\"promptTokenCount\":{usage},\"candidatesTokenCount\":{usage}}}}}"
            );
            let length = json.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            raw_backend::write(&mut stream, head + &json).await;
        });
        let proxy = proxy(&[backend.address], "");
        let mut before = 0;
        for usage in USAGES {
            let answer = Client::once(proxy.address, &api.call(ALICE, "")).await;
            let line = log::access(&answer.header(api.request_id).expect("an id")).await;
            assert_eq!(line["estimated"], "true", "{} {usage}", api.name);
            let now = used(&proxy).await;
            assert!((1..500).contains(&(now - before)), "{number} {} {usage}: {}", api.name, now - before);
            before = now;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_all_that_came_before_the_cut_and_the_error() {
    const PIECES: usize = 1024;
    let piece = apis::ANTHROPIC.events[2].repeat(50);
    let framed = format!("{:x}\r\n{piece}\r\n", piece.len());
    let backend = raw_backend::RawBackend::start(move |mut stream, _| {
        let framed = framed.clone();
        async move {
            raw_backend::read_request(&mut stream).await;
            raw_backend::write(&mut stream, STREAM).await;
            for _ in 0..PIECES {
                raw_backend::write(&mut stream, &framed).await;
            }
        }
    });
    let proxy = proxy(&[backend.address], "");
    let mut client = Client::connect_narrow(proxy.address).await;
    client.send(&apis::ANTHROPIC.stream_call(ALICE, "")).await;
    client.trickle().await;
    let answer = client.answer().await;
    let text = answer.text();
    let error = text.strip_prefix(&piece.repeat(PIECES)).unwrap_or_else(|| panic!("{} bytes came", text.len()));
    assert!(error.starts_with("event: error\n") && error.ends_with("\n\n"), "{error}");
    is_cut(&apis::ANTHROPIC, &answer);
}
