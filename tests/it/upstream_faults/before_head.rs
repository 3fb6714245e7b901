//! Faults before there is an answer: everything reserved is given back.

use std::time::Duration;

use super::{Fault, RPM, Sick, TPM, is_told, proxy, requests_left, serves_again, tokens_left, used};
use crate::harness::proxy::ALICE;
use crate::harness::{Client, apis, raw_backend};

const QUICK: &str = "first_byte_timeout = \"250ms\"\nconnect_timeout = \"2s\"";

/// Sends a call of each API, whole and streamed, to a backend with this fault.
async fn each_api_is_told(code: &str, fault: Fault) {
    let sick = Sick::with(fault);
    let proxy = proxy(&[sick.backend.address], QUICK);
    for api in apis::ALL {
        for request in [api.call(ALICE, ""), api.stream_call(ALICE, "")] {
            let answer = Client::once(proxy.address, &request).await;
            is_told(api, &answer, code);
            let left = (used(&proxy).await, tokens_left(&proxy), requests_left(&proxy));
            assert_eq!(left, (0, TPM, RPM), "{}: everything is given back", api.name);
        }
    }
    sick.heal();
    serves_again(&proxy).await;
}

macro_rules! says {
    ($name:ident, $code:literal, $bytes:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            each_api_is_told($code, |mut stream| {
                Box::pin(async move {
                    raw_backend::read_request(&mut stream).await;
                    raw_backend::write(&mut stream, $bytes).await;
                    raw_backend::until_gone(&mut stream).await;
                })
            })
            .await;
        }
    };
}

says!(another_protocol, "upstream_broken", "SSH-2.0-OpenSSH_9.6\r\n");
says!(no_head_at_all, "upstream_broken", "<html><body>It works!</body></html>\r\n\r\n");
says!(a_status_that_is_none, "upstream_broken", "HTTP/1.1 99999 X\r\n\r\n");
says!(a_status_below_all, "upstream_broken", "HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n");
says!(two_lengths, "upstream_broken", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}");
says!(a_negative_length, "upstream_broken", "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}");
says!(a_nul_in_a_header, "upstream_broken", "HTTP/1.1 200 OK\r\nx-a: a\0b\r\ncontent-length: 2\r\n\r\n{}");
says!(
    a_switch_of_protocols,
    "upstream_broken",
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"
);
says!(
    a_huge_header,
    "upstream_broken",
    format!("HTTP/1.1 200 OK\r\nx-a: {}\r\ncontent-length: 2\r\n\r\n{{}}", "a".repeat(300_000))
);
says!(
    too_many_headers,
    "upstream_broken",
    format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\n{{}}", "x-a: b\r\n".repeat(5_000))
);
says!(silence, "upstream_timeout", "");
says!(silence_in_the_head, "upstream_timeout", "HTTP/1.1 200 OK\r\ncontent-ty");
says!(silence_after_an_interim_answer, "upstream_timeout", "HTTP/1.1 103 Early Hints\r\n\r\n");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_answers_without_end() {
    each_api_is_told("upstream_timeout", |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            let flood = "HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
            while tokio::io::AsyncWriteExt::write_all(&mut stream, flood.as_bytes()).await.is_ok() {
                // Enough to keep it busy; without a pause the flood would take the core that the clock is moved on.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_instead_of_an_answer() {
    each_api_is_told("upstream_broken", |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_inside_the_head() {
    each_api_is_told("upstream_broken", |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            raw_backend::write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-le").await;
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_instead_of_an_answer() {
    each_api_is_told("upstream_broken", |mut stream| {
        Box::pin(async move {
            raw_backend::read_request(&mut stream).await;
            raw_backend::reset(stream);
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listens() {
    let proxy = proxy(&[raw_backend::dead_address()], QUICK);
    for api in apis::ALL {
        for request in [api.call(ALICE, ""), api.stream_call(ALICE, "")] {
            is_told(api, &Client::once(proxy.address, &request).await, "upstream_unreachable");
            let left = (used(&proxy).await, tokens_left(&proxy), requests_left(&proxy));
            assert_eq!(left, (0, TPM, RPM), "{}", api.name);
        }
    }
}
