//! What a body claims to be: `Content-Type` and `Content-Encoding`.

use super::{CALLS, Refusing, post};
use crate::harness::{self, Backend, Client, Proxy};

const BODY: &[u8] = b"{\"model\":\"m\",\"messages\":[],\"contents\":[]}";

/// Not the type of a call that takes JSON.
const NOT_JSON: &[&str] = &[
    "",
    "content-type:\r\n",
    "content-type: text/plain\r\n",
    "content-type: text/json\r\n",
    "content-type: application/x-www-form-urlencoded\r\n",
    "content-type: multipart/form-data; boundary=x\r\n",
    "content-type: application/json-seq\r\n",
    "content-type: application/jsonx\r\n",
    "content-type: application/json, text/plain\r\n",
    "content-type: application/json, application/json\r\n",
    "content-type: application/json; charset=utf-16\r\n",
    "content-type: application/json; charset=utf-7\r\n",
    "content-type: application/json; charset=iso-8859-1\r\n",
    "content-type: application/json; charset=utf-8; charset=utf-16\r\n",
    "content-type: application/json; boundary=x\r\n",
    "content-type: application /json\r\n",
    "content-type: \"application/json\"\r\n",
    "content-type: */*\r\n",
];

const ENCODINGS: &[&str] = &[
    "gzip",
    "deflate",
    "br",
    "zstd",
    "compress",
    "x-gzip",
    "GZIP",
    "identity, gzip",
    "gzip, identity",
    "identity,identity",
    "chunked",
    "aws-chunked",
    "*",
    "",
    "identity;q=1",
    "utf-8",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_is_not_the_calls_own_is_refused() {
    let mut proxy = Refusing::start().await;
    for path in CALLS {
        for headers in NOT_JSON {
            proxy.refuses(path, headers, BODY, 415, "unsupported_content_type").await;
        }
    }
    for path in ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/variations"] {
        proxy.refuses(path, "content-type: application/json\r\n", BODY, 415, "unsupported_content_type").await;
    }
    proxy.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoded_body_is_refused_unread() {
    let mut proxy = Refusing::start().await;
    for path in CALLS {
        for coding in ENCODINGS {
            let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
            proxy.refuses(path, &headers, BODY, 415, "unsupported_content_encoding").await;
        }
        let twice = "content-type: application/json\r\ncontent-encoding: identity\r\ncontent-encoding: gzip\r\n";
        proxy.refuses(path, twice, BODY, 415, "unsupported_content_encoding").await;
    }
    proxy.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_told_twice_ends_the_connection() {
    let backend = Backend::json("{}");
    let proxy = Proxy::with_key(&backend, "");
    for second in ["application/json", "multipart/form-data; boundary=x"] {
        let headers = format!("content-type: application/json\r\ncontent-type: {second}\r\n");
        let mut client = Client::connect(proxy.address).await;
        client.send(&post(CALLS[0], &headers, BODY)).await;
        assert_eq!(client.answer().await.status, 400);
        assert!(client.is_closed().await);
    }
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_usual_ways_to_say_json_are_understood() {
    let backend = Backend::json("{}");
    let proxy = Proxy::with_key(&backend, "");
    for (count, value) in [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON; Charset=\"utf-8\"",
        "application/json ; charset=utf8",
        "application/json;",
    ]
    .into_iter()
    .enumerate()
    {
        let headers = format!("content-type: {value}\r\ncontent-encoding: identity\r\n");
        let answer = Client::once(proxy.address, &post(CALLS[0], &headers, harness::chat("m", false).as_bytes())).await;
        assert_eq!(answer.status, 200, "{value}");
        assert_eq!(backend.seen()[count].header("content-type").as_deref(), Some(value.trim()));
    }
}
