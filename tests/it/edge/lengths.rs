//! Where a request ends: both lengths, doubled ones, odd ones. Each carries a second request that a lenient reader would find.

use super::{Attack, Edge, chat_with, smuggled};

/// Header lines that say in two ways, or in no clear one, where the body ends.
const HEADERS: &[&str] = &[
    "content-length: 5\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    "content-length: 5\r\ncontent-length: 5\r\n",
    "content-length: 5\r\ncontent-length: 6\r\n",
    "content-length: 5\r\nx: y\r\nContent-Length: 5\r\n",
    "content-length: 5, 5\r\n",
    "content-length: 5,6\r\n",
    "content-length: 5;\r\n",
    "content-length: +5\r\n",
    "content-length: -5\r\n",
    "content-length: -0\r\n",
    "content-length: 5 5\r\n",
    "content-length: 0x5\r\n",
    "content-length: 5h\r\n",
    "content-length: 5.0\r\n",
    "content-length: 5e0\r\n",
    "content-length: \u{663}\r\n",
    "content-length: \"5\"\r\n",
    "content-length:\r\n",
    "content-length:   \r\n",
    "content-length:\t5\r\n",
    "content-length: 5\t\r\n",
    "content-length: 99999999999999999999\r\n",
    "content-length: 18446744073709551615\r\n",
    "content-length: 18446744073709551621\r\n",
    "content-length: 00000000000000000000005\r\n",
    "content-length: NaN\r\n",
    "transfer-encoding: xchunked\r\n",
    "transfer-encoding: chunkedx\r\n",
    "transfer-encoding: chunked, chunked\r\n",
    "transfer-encoding: chunked,\r\n",
    "transfer-encoding: ,chunked\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: chunked, identity\r\n",
    "transfer-encoding: identity\r\n",
    "transfer-encoding: gzip\r\n",
    "transfer-encoding: Chunked\r\n",
    "transfer-encoding: CHUNKED\r\n",
    "transfer-encoding:\tchunked\r\n",
    "transfer-encoding: chunked\t\r\n",
    "transfer-encoding: \"chunked\"\r\n",
    "transfer-encoding: 'chunked'\r\n",
    "transfer-encoding: chunked;q=1\r\n",
    "transfer-encoding: chun ked\r\n",
    "transfer-encoding:\r\n",
    "transfer-encoding: \u{212a}chunked\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n",
    // The next five are other names to one reader and these to another.
    "content-length : 5\r\n",
    "transfer-encoding : chunked\r\n",
    "transfer-encoding\t: chunked\r\n",
    "x: y\r\n transfer-encoding: chunked\r\n",
    "transfer-encoding\r\n : chunked\r\n",
    "transfer-encoding:\r\n chunked\r\n",
    "transfer-encoding: \x0bchunked\r\n",
    "transfer-encoding: chunked\x00\r\n",
    "x: y\rtransfer-encoding: chunked\r\n",
    "x: y\ntransfer-encoding: chunked\r\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_whose_end_is_told_twice_or_oddly_is_refused() {
    let body = format!("0\r\n\r\n{}", smuggled());
    let attacks = HEADERS.iter().map(|headers| Attack::new(chat_with(headers, &body), 400)).collect::<Vec<_>>();
    Edge::start().refuses(&attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_refused_when_it_comes_byte_by_byte() {
    let attacks = HEADERS.iter().map(|headers| Attack::new(chat_with(headers, "0\r\n\r\n"), 400)).collect::<Vec<_>>();
    Edge::start().refuses_byte_by_byte(&attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_without_a_body_have_none() {
    let body = smuggled();
    let length = format!("content-length: {}\r\n", body.len());
    let mut attacks = Vec::new();
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"] {
        for headers in [length.as_str(), "transfer-encoding: chunked\r\n"] {
            let request =
                chat_with(headers, &body).replacen("POST /v1/chat/completions", &format!("{method} /v1/models"), 1);
            attacks.push(Attack::new(request, 400));
        }
    }
    // The answer to the marker is one to GET, also where the refused request was a HEAD: its body ends with the connection.
    Edge::start().refuses(&attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_has_no_chunks() {
    let request = chat_with("transfer-encoding: chunked\r\n", "0\r\n\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1);
    let kept = request.replacen("host:", "connection: keep-alive\r\nhost:", 1);
    let both = request.replacen("host:", "content-length: 5\r\nhost:", 1);
    Edge::start().refuses(&[Attack::new(request, 400), Attack::new(kept, 400), Attack::new(both, 400)]).await;
}
