//! A proxy, a scripted backend and a plain client, all in this process, so that time can stand still and nothing is hidden.

#![expect(dead_code, reason = "not every behaviour needs every tool")]

pub mod apis;
pub mod backend;
pub mod certificates;
pub mod client;
pub mod failing_store;
pub mod h2;
pub mod dice;
pub mod log;
pub mod program;
pub mod proxy;
pub mod raw_backend;
pub mod time;
pub mod websocket;

pub use backend::{Backend, Reply, Seen};
pub use client::{Answer, Client};
pub use proxy::Proxy;

/// A body of the chat endpoint.
pub fn chat(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"Hello"}}]}}"#)
}

/// A whole HTTP/1.1 POST with a JSON body.
pub fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A whole HTTP/1.1 GET.
pub fn get(path: &str, key: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {key}\r\n\r\n").into_bytes()
}

/// Waits until `count` has not moved for a while in which the machine has.
pub async fn still(count: &std::sync::atomic::AtomicUsize) -> usize {
    const STEP: std::time::Duration = std::time::Duration::from_millis(25);
    let (mut last, mut quiet) = (0, 0);
    while quiet < 8 {
        let began = program::Stopwatch::start();
        tokio::time::sleep(STEP).await;
        let now = count.load(std::sync::atomic::Ordering::SeqCst);
        if now != last || now == 0 {
            (last, quiet) = (now, 0);
        } else if began.elapsed() < 2 * STEP {
            // A step that took longer says that nobody ran, and nothing of whether there is more to come.
            quiet += 1;
        }
    }
    last
}
