//! Chunked bodies: sizes, line ends, extensions and trailers that parsers read differently. A client's broken body is its own fault:
//! 400, never a 5xx.

use super::{Attack, Edge, chat_with, smuggled};
use crate::harness::{self, Backend, Client, Proxy, proxy::ALICE};

/// Chunked bodies that are not; each may be followed by a request that nobody must find.
const BODIES: &[&str] = &[
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "\t5\r\nhello\r\n0\r\n\r\n",
    "5\t\r\nhello\r\n0\r\n\r\n",
    "5 5\r\nhello\r\n0\r\n\r\n",
    "5 ;a=b\r\nhello\r\n0\r\n\r\n",
    "5h\r\nhello\r\n0\r\n\r\n",
    "5.\r\nhello\r\n0\r\n\r\n",
    "0_5\r\nhello\r\n0\r\n\r\n",
    "\u{665}\r\nhello\r\n0\r\n\r\n",
    "\"5\"\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "\nhello\r\n0\r\n\r\n",
    ";a=b\r\nhello\r\n0\r\n\r\n",
    "\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhelloo\r\n0\r\n\r\n",
    "5\r\nhell\r\n0\r\n\r\n",
    "5\r\nhello\r\n\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\rhello\r\n0\r\n\r\n",
    "5;\nhello\r\n0\r\n\r\n",
    "5;a=b\nhello\r\n0\r\n\r\n",
    "5;a=\x00\r\nhello\r\n0\r\n\r\n",
    "5;a=\x7f\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;\u{e9}\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffb\r\nhello\r\n0\r\n\r\n",
    "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "0\n\r\n",
    "0\r\n\n",
    "0\r\n\r\r\n",
    "0\r\n\rX",
    "0\r\nx\r\n\r\n",
    "0\r\nx: y\n\r\n",
    "0\r\nx: y\r\n folded\r\n\r\n",
    "0\r\n folded\r\n\r\n",
    "0\r\n\tfolded\r\n\r\n",
    "0\r\nx : y\r\n\r\n",
    "0\r\n: y\r\n\r\n",
    "0\r\nx: y\x00\r\n\r\n",
    "0\r\nx: y\rz: w\r\n\r\n",
    "0\r\nx y: z\r\n\r\n",
    "0\r\nGET /v1/models HTTP/1.1\r\n\r\n",
    "0;a\n\r\n",
    "-0\r\n\r\n",
];

fn chunked(body: &str) -> String {
    chat_with("transfer-encoding: chunked\r\n", body)
}

fn json_chunk() -> String {
    let json = harness::chat("m", false);
    format!("{:x}\r\n{json}\r\n", json.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_two_parsers_read_differently_is_the_clients_fault() {
    let edge = Edge::start();
    let first = BODIES.iter().map(|body| Attack::new(chunked(&format!("{body}{}", smuggled())), 400));
    // The same behind a whole body's worth of good chunks.
    let later = BODIES.iter().map(|body| Attack::new(chunked(&format!("{}{body}{}", json_chunk(), smuggled())), 400));
    edge.refuses(&first.chain(later).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_refused_when_it_comes_byte_by_byte() {
    let attacks = BODIES.iter().map(|body| Attack::new(chunked(body), 400)).collect::<Vec<_>>();
    Edge::start().refuses_byte_by_byte(&attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extensions_and_trailers_are_bounded() {
    let json = json_chunk();
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(300));
    let many_extensions = format!("{}0\r\n\r\n", format!("1;{}\r\n \r\n", "a".repeat(250)).repeat(200));
    let long_trailer = format!("{json}0\r\nx: {}\r\n\r\n", "y".repeat(9 * 1024));
    let many_trailers = format!("{json}0\r\n{}\r\n", "x: y\r\n".repeat(2_000));
    let attacks =
        [long_extension, many_extensions, long_trailer, many_trailers].map(|body| Attack::new(chunked(&body), 400));
    Edge::start().refuses(&attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_are_dropped_and_chunks_are_put_together() {
    let backend = Backend::json("{}");
    let proxy = Proxy::with_key(&backend, "");
    let json = harness::chat("m", false);
    let mut body = String::new();
    for piece in json.as_bytes().chunks(3) {
        body.push_str(&format!("{:X};sig=\"a\"\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)));
    }
    body.push_str("000\r\nauthorization: Bearer other\r\nhost: other\r\ncontent-length: 0\r\nx-secret: 1\r\n\r\n");
    let mut client = Client::connect(proxy.address).await;
    client.send(chunked(&body).as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(&harness::get("/v1/models", ALICE)).await;
    assert_eq!(client.answer().await.status, 200, "the connection is in step");
    let seen = &backend.seen()[0];
    assert_eq!(seen.text(), json);
    assert_eq!(seen.header("content-length"), Some(json.len().to_string()));
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer upstream-credential-openai"));
    for gone in ["transfer-encoding", "trailer", "x-secret"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}
