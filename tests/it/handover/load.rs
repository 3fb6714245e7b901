//! Clients for whom every connection is to be had and every answer comes whole.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::program::{PATIENCE, Stopwatch};
use crate::harness::{Answer, Client};
use crate::ledger::secrets;

/// An answer that its client had to the last byte.
#[derive(Debug, Clone)]
pub struct Whole {
    pub request_id: String,
    pub tokens: Option<u64>,
}

/// Clients under way.
pub struct Load {
    clients: JoinSet<()>,
    whole: Arc<Mutex<Vec<Whole>>>,
    is_over: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
}

/// Counts a client that panics.
struct Watch(Arc<AtomicUsize>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Load {
    /// So many clients with short requests, kept connections and new ones by turns, and so many whose streams last for seconds.
    pub fn start(address: SocketAddr, requests: usize, streams: usize) -> Self {
        let mut load =
            Self { clients: JoinSet::new(), whole: Arc::default(), is_over: Arc::default(), failed: Arc::default() };
        for number in 0..requests + streams {
            let (whole, is_over) = (Arc::clone(&load.whole), Arc::clone(&load.is_over));
            let (watch, is_stream) = (Watch(Arc::clone(&load.failed)), number >= requests);
            load.clients.spawn(async move {
                let _watch = watch;
                client(address, number, is_stream, &whole, &is_over).await;
            });
        }
        load
    }

    /// Waits until so many more answers are whole.
    pub async fn until_more(&self, more: usize) {
        let count = || self.whole.lock().expect("no panic").len();
        let (before, began) = (count(), Stopwatch::start());
        while count() < before + more {
            assert!(self.is_well(), "a client has failed");
            assert!(began.elapsed() < 2 * PATIENCE, "answers do not come");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether every client has had what it asked for.
    pub fn is_well(&self) -> bool {
        self.failed.load(Ordering::SeqCst) == 0
    }

    /// Lets each end the request it is at.
    pub async fn end(mut self) -> Vec<Whole> {
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.expect("a client");
        }
        std::mem::take(&mut *self.whole.lock().expect("no panic"))
    }
}

async fn client(address: SocketAddr, number: usize, is_stream: bool, whole: &Mutex<Vec<Whole>>, is_over: &AtomicBool) {
    let secrets = secrets();
    let mut kept: Option<Client> = None;
    for turn in 0.. {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let mut client = match kept.take() {
            Some(client) => client,
            None => Client::connect(address).await,
        };
        let request_id = format!("c{number}-{turn}");
        let secret = &secrets[(number + turn) % secrets.len()];
        client.send(&request(secret, &request_id, is_stream)).await;
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.is_whole, "{request_id}: {} {}", answer.head, answer.text());
        if is_stream {
            assert!(answer.text().ends_with("data: [DONE]\n\n"), "{request_id}: {}", answer.text());
        }
        let is_last = answer.header("connection").is_some_and(|value| value == "close");
        // Every seventh connection is given up although it could be used on.
        if !is_last && turn % 7 != 6 {
            kept = Some(client);
        }
        whole.lock().expect("no panic").push(Whole { request_id, tokens: tokens(&answer, is_stream) });
        // Fewer requests than there is time for, so that the machine is not what is measured.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn request(secret: &str, request_id: &str, is_stream: bool) -> Vec<u8> {
    let model = if is_stream { "sandbox-slow" } else { "sandbox" };
    let body = format!(
        r#"{{"model":"{model}","max_tokens":12,"stream":{is_stream},"messages":[{{"role":"user","content":"Hello"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {secret}\r\nx-request-id: {request_id}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn tokens(answer: &Answer, is_stream: bool) -> Option<u64> {
    if is_stream {
        return None;
    }
    let value: Value = serde_json::from_slice(&answer.body).ok()?;
    value["usage"]["total_tokens"].as_u64()
}
