//! Connections that do nothing, or too little, do not cost anything for long.

use std::net::SocketAddr;
use std::time::Duration;

use keyward::admin::{Bounds, serve_within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::client::Client;
use crate::house::{House, WRITER};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

const ALIVE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: admin\r\n\r\n";

async fn within(bounds: Bounds) -> (House, SocketAddr) {
    let house = House::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("its address");
    let surface = house.surface.clone();
    tokio::spawn(async move { serve_within(listener, &surface, bounds).await });
    (house, address)
}

/// Reads until the other side ends it.
async fn ends(client: &mut Client) {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection is still there");
}

#[tokio::test]
async fn who_sends_no_whole_head_is_let_go() {
    let (_house, address) = within(Bounds { head: SHORT, ..Bounds::default() }).await;
    let mut silent = Client::connect(address).await;
    let mut halfway = Client::connect(address).await;
    halfway.send(&ALIVE[..30]).await;
    let mut idle = Client::connect(address).await;
    idle.send(ALIVE).await;
    assert_eq!(idle.answer().await.status, 200);
    for client in [&mut silent, &mut halfway, &mut idle] {
        ends(client).await;
    }
}

#[tokio::test]
async fn who_sends_no_whole_body_is_answered_and_let_go() {
    let (house, address) = within(Bounds { body: SHORT, ..Bounds::default() }).await;
    let login = format!("authorization: Bearer {WRITER}\r\ncontent-type: application/json\r\ncontent-length: 99\r\n");
    for target in ["POST /api/v1/gateway/keys", "POST /api/token/"] {
        let mut slow = Client::connect(address).await;
        slow.send(format!("{target} HTTP/1.1\r\nhost: admin\r\n{login}\r\n{{").as_bytes()).await;
        assert!(slow.answer().await.text().contains("ended"), "{target}");
        ends(&mut slow).await;
    }
    assert_eq!(house.keys.len(), 0);
}

#[tokio::test]
async fn there_are_only_so_many_connections_and_more_wait() {
    let (_house, address) = within(Bounds { connections: 1, head: SHORT, ..Bounds::default() }).await;
    let mut first = Client::connect(address).await;
    let mut second = Client::connect(address).await;
    second.send(ALIVE).await;
    tokio::select! {
        biased;
        () = ends(&mut first) => {}
        answer = second.answer() => panic!("{} while the first is there", answer.status),
    }
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn nobody_alone_keeps_the_others_waiting() {
    let (_house, address) = within(Bounds { of_one_address: 1, ..Bounds::default() }).await;
    let mut first = Client::connect(address).await;
    let mut second = Client::connect(address).await;
    ends(&mut second).await;
    let other = tokio::net::TcpSocket::new_v4().expect("a socket");
    other.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("another address");
    let mut other = other.connect(address).await.expect("a connection");
    other.write_all(ALIVE).await.expect("it listens");
    assert_eq!(other.read_u8().await.ok(), Some(b'H'));
    first.send(ALIVE).await;
    assert_eq!(first.answer().await.status, 200);
    drop(first);
    // Its place is given back, once the server has seen it go.
    loop {
        let mut third = Client::connect(address).await;
        third.send(ALIVE).await;
        let mut byte = [0];
        if timeout(PATIENCE, third.stream.read(&mut byte)).await.expect("an answer or an end").is_ok_and(|n| n == 1) {
            break;
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_let_go() {
    let bounds = Bounds { connections: 1, head: LONG, stall: SHORT, ..Bounds::default() };
    let (_house, address) = within(bounds).await;
    let mut deaf = Client::connect_narrow(address).await;
    let many = b"GET /openapi.json HTTP/1.1\r\nhost: admin\r\n\r\n".repeat(1_000);
    timeout(PATIENCE, deaf.send(&many)).await.expect("the requests fit the socket's buffers");
    let mut other = Client::connect(address).await;
    other.send(ALIVE).await;
    assert_eq!(other.answer().await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (_house, address) = within(Bounds::default()).await;
    let large = format!("GET /healthz HTTP/1.1\r\nhost: admin\r\nx: {}\r\n\r\n", "a".repeat(200_000));
    assert_eq!(Client::once(address, large.as_bytes()).await.status, 431);
}
