//! Header fields and bytes of a head that are not HTTP as RFC 9112 writes it; `Host`; `Expect`; `Upgrade`.

use super::{Attack, Edge, chat_with, line, models_with, smuggled};
use crate::harness::{Client, proxy::ALICE};

/// Header lines no head has. They stand between good ones.
const FIELDS: &[&[u8]] = &[
    b"x : y\r\n",
    b"x\t: y\r\n",
    b" x: y\r\n",
    b"\tx: y\r\n",
    b": y\r\n",
    b"x\r\n",
    b"x y: z\r\n",
    b"x: y\r\n folded\r\n",
    b"x: y\r\n\tfolded\r\n",
    b"x: y\r\n \r\n",
    b"x: y\n",
    b"x: y\r",
    b"x: y\rz: w\r\n",
    b"x: y\nz: w\r\n",
    b"x: y\r\r\n",
    b"x: y\0z\r\n",
    b"x\0: y\r\n",
    b"\0: y\r\n",
    b"x: \x01\r\n",
    b"x: \x0b\r\n",
    b"x: \x0c\r\n",
    b"x: \x1b[31m\r\n",
    b"x: \x7f\r\n",
    b"x(y): z\r\n",
    b"x{y}: z\r\n",
    b"x[y]: z\r\n",
    b"x/y: z\r\n",
    b"x@y: z\r\n",
    b"x\"y\": z\r\n",
    b"x,y: z\r\n",
    b"x;y: z\r\n",
    b"x<y>: z\r\n",
    b"x\\y: z\r\n",
    b"x=y: z\r\n",
    b"\xc3\xa9: z\r\n",
    b"\xef\xbb\xbfx: z\r\n",
    b"GET / HTTP/1.1\r\n",
];

/// In place of the one good `Host`.
const HOSTS: &[&str] = &[
    "",
    "host: proxy\r\nhost: proxy\r\n",
    "host: proxy\r\nhost: other\r\n",
    "host: proxy\r\nx: y\r\nHOST: other\r\n",
    "host:\r\n",
    "host: proxy/v1\r\n",
    "host: proxy?a=b\r\n",
    "host: proxy#a\r\n",
    "host: a/b?\r\n",
    "host: user@proxy\r\n",
    "host: user:password@proxy\r\n",
    "host: proxy, other\r\n",
    "host: proxy other\r\n",
    "host: proxy;a\r\n",
    "host: proxy\\other\r\n",
    "host: http://proxy\r\n",
    "host: proxy:\r\n",
    "host: proxy:80:80\r\n",
    "host: proxy:http\r\n",
    "host: proxy:-1\r\n",
    "host: proxy:65536\r\n",
    "host: proxy:123456\r\n",
    "host: :80\r\n",
    "host: [::1\r\n",
    "host: ::1\r\n",
    "host: [proxy]\r\n",
    "host: [::1]a\r\n",
    "host: [fe80::1%25eth0]\r\n",
    "host: pr%6fxy\r\n",
    "host: pr\u{f6}xy\r\n",
    "host: \"proxy\"\r\n",
    "host: <proxy>\r\n",
    "host: *\r\n",
    "host : proxy\r\n",
    "host: proxy\r\n\tother\r\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_not_one_is_refused_wherever_it_stands() {
    let mut attacks = Vec::new();
    for field in FIELDS {
        let request = chat_with("content-length: 0\r\n", &smuggled()).into_bytes();
        for behind in [&b"HTTP/1.1\r\n"[..], b"content-length: 0\r\n"] {
            let at = request.windows(behind.len()).position(|window| window == behind).unwrap() + behind.len();
            attacks.push(Attack::new([&request[..at], field, &request[at..]].concat(), 400));
        }
    }
    let edge = Edge::start();
    edge.refuses(&attacks).await;
    edge.refuses_byte_by_byte(&attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_host_and_a_bare_one() {
    let attacks = HOSTS.iter().map(|host| Attack::new(models_with(host), 400)).collect::<Vec<_>>();
    let edge = Edge::start();
    edge.refuses(&attacks).await;
    edge.refuses_byte_by_byte(&attacks).await;
    for good in ["proxy:80", "PROXY", "127.0.0.1:65535", "[::1]", "[::1]:443", "a-b.c_d.example"] {
        let answer = Client::once(edge.proxy.address, models_with(&format!("Host: {good}\r\n")).as_bytes()).await;
        assert_eq!(answer.status, 200, "{good}");
    }
    let old = models_with("").replacen("HTTP/1.1", "HTTP/1.0", 1);
    edge.refuses(&[Attack::new(old, 400)]).await;
}

/// Every byte that ends lines for some readers, at every place of a good head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bare_line_end_or_control_stands_anywhere() {
    let edge = Edge::start();
    let good = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nx-api-key: {ALICE}\r\n\r\n").into_bytes();
    for byte in [b'\r', b'\n', 0, 0x0b, 0x7f] {
        for at in 0..good.len() {
            if byte == b'\n' && at == good.len() - 1 {
                continue; // the head ends before it then; see the next test
            }
            let request = [&good[..at], &[byte], &good[at..]].concat();
            let answer = Client::once(edge.proxy.address, &request).await;
            assert_eq!(answer.status, 400, "{byte:#x} at {at}: {}", answer.text());
            assert!(answer.json()["error"].is_object());
        }
    }
    edge.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_request_is_a_request() {
    let edge = Edge::start();
    for rest in ["\n", "\r\n", "\r\n\r\n", " GET", "\0", "}"] {
        let mut client = Client::connect(edge.proxy.address).await;
        client.send(format!("{}{rest}", line("GET /v1/models HTTP/1.1")).as_bytes()).await;
        assert_eq!(client.answer().await.status, 200, "{rest:?}");
        assert_eq!(client.answer().await.status, 400, "{rest:?}");
        assert!(client.is_closed().await, "{rest:?}");
    }
    edge.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expectations_other_than_continue_are_not_met() {
    let attacks = ["200-ok", "100-continue, 100-continue", "100-continue;a", "", "100"]
        .map(|value| Attack::new(chat_with(&format!("expect: {value}\r\ncontent-length: 5\r\n"), ""), 417));
    let edge = Edge::start();
    edge.refuses(&attacks).await;
    let two = chat_with("expect: 100-continue\r\nexpect: x\r\ncontent-length: 5\r\n", "");
    edge.refuses(&[Attack::new(two, 417)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tunnel_is_offered() {
    let edge = Edge::start();
    let websocket = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
    let socket = models_with(&format!("host: proxy\r\n{websocket}")).replacen("/v1/models", "/v1/responses", 1);
    edge.refuses(&[Attack::new(&socket, 426), Attack::new(line("CONNECT proxy:443 HTTP/1.1"), 405)]).await;
    let answer = Client::once(edge.proxy.address, socket.as_bytes()).await;
    assert_eq!(answer.header("upgrade").as_deref(), Some("HTTP/1.1"));
    assert_eq!(answer.header("connection").as_deref(), Some("upgrade, close"));
    // What is nearly HTTP/2 by prior knowledge, and a TLS hello, at a plain port.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 32], &[0x20; 300]].concat();
    edge.refuses(&[Attack::new("PRI * HTTP/2.0\r\n\r\nsm\r\n\r\n\0\0\0\x04\0\0\0\0\0", 400), Attack::new(hello, 400)])
        .await;
}
