//! With a healthy endpoint beside a faulty one: the faulty one is ejected by what the transport says, the next requests are served by
//! the other, and nothing that a client does is held against a backend.

use super::{Fault, Sick, is_told, proxy, serve, serves_again, used};
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::{self, RawBackend};
use crate::harness::{Client, Proxy, apis};

/// Whether the first endpoint of OpenAI's upstream is ejected.
fn is_ejected(proxy: &Proxy) -> bool {
    let live = proxy.live();
    let upstream = live.routes.upstreams().iter().find(|up| &*up.settings.name == "openai").expect("an upstream");
    upstream.health.is_ejected(0)
}

async fn ejects(code: &str, fault: Fault) {
    let (sick, well) = (Sick::with(fault), RawBackend::start(|stream, _| serve(stream)));
    let more = "first_byte_timeout = \"100ms\"\neject_after = 3\neject_time = \"1h\"";
    let proxy = proxy(&[sick.backend.address, well.address], more);
    let mut failed = 0;
    while !is_ejected(&proxy) {
        let before = used(&proxy).await;
        let answer = Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await;
        if answer.status != 200 {
            failed += 1;
            is_told(&apis::OPENAI, &answer, code);
            assert_eq!(used(&proxy).await, before, "everything is given back");
        }
    }
    assert_eq!(failed, 3);
    for _ in 0..10 {
        let answer = Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await;
        assert_eq!(answer.status, 200, "the healthy one serves");
    }
    used(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_breaks_off_before_it_answers_is_ejected() {
    ejects("upstream_broken", |mut stream| {
        Box::pin(async move {
            let _ = raw_backend::read_request(&mut stream).await;
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_says_nothing_is_ejected() {
    ejects("upstream_timeout", |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            raw_backend::until_gone(&mut stream).await;
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_talks_of_other_things_is_ejected() {
    ejects("upstream_broken", |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            raw_backend::write(&mut stream, "220 mail.example.com ESMTP\r\n").await;
            raw_backend::until_gone(&mut stream).await;
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_a_client_does_is_held_against_a_backend() {
    let backend = RawBackend::start(|mut stream, _| async move {
        while raw_backend::read_request(&mut stream).await {
            let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            raw_backend::write(&mut stream, refusal).await;
        }
    });
    let hanging = RawBackend::start(|mut stream, _| async move {
        raw_backend::read_request(&mut stream).await;
        raw_backend::until_gone(&mut stream).await;
    });
    let proxy = proxy(&[backend.address], "eject_after = 1\neject_time = \"1h\"");
    let chunked = "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer alice-secret-0001\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let shorter = "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer alice-secret-0001\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\":";
    let malformed = [
        format!("{chunked}zz\r\n"),
        format!("{chunked}5\r\n{{\"mod\r\n-1\r\n"),
        format!("{chunked}3\r\nabcdef"),
        shorter.to_owned(),
    ];
    for bytes in &malformed {
        let mut client = Client::connect(proxy.address).await;
        client.send(bytes.as_bytes()).await;
        assert!(matches!(client.finish().await, None | Some(400)), "{bytes}");
    }
    for body in ["{", "[]", "{\"model\":5}", "\u{feff}{}"] {
        let request = apis::OPENAI.request(apis::OPENAI.path, ALICE, "", body);
        assert_eq!(Client::once(proxy.address, &request).await.status, 400, "{body}");
    }
    assert_eq!(backend.connections(), 0, "none of it gets there");
    for _ in 0..5 {
        let answer = Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await;
        assert_eq!(answer.status, 400, "the backend's own refusal");
    }
    assert!(!is_ejected(&proxy));
    // Clients that go before the answer, however many.
    let waiting = super::proxy(&[hanging.address], "eject_after = 1\neject_time = \"1h\"");
    for count in 1..=20 {
        let mut client = Client::connect(waiting.address).await;
        client.send(&apis::OPENAI.call(ALICE, "")).await;
        while hanging.connections() < count {
            tokio::task::yield_now().await;
        }
        drop(client);
        used(&waiting).await;
    }
    assert!(!is_ejected(&waiting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_endpoint_there_is_gets_requests_also_when_it_is_ejected() {
    let sick = Sick::with(|mut stream| {
        Box::pin(async move {
            let _ = raw_backend::read_request(&mut stream).await;
        })
    });
    let proxy = proxy(&[sick.backend.address], "eject_after = 1\neject_time = \"1h\"");
    is_told(&apis::OPENAI, &Client::once(proxy.address, &apis::OPENAI.call(ALICE, "")).await, "upstream_broken");
    assert!(is_ejected(&proxy));
    sick.heal();
    serves_again(&proxy).await;
    assert!(!is_ejected(&proxy), "and it is in service again by itself");
}
