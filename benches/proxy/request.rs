//! The bytes of a request, and what it wishes from the backend.

/// Microseconds between events; with it the answer is a stream.
pub const INTERVAL_HEADER: &str = "x-bench-interval-us";
/// Events sent at once, in one write.
pub const BURST_HEADER: &str = "x-bench-burst";
/// Bursts until the stream ends by itself; without it, it does not.
pub const COUNT_HEADER: &str = "x-bench-count";
/// What stands before the time of emission in an event: nanoseconds of CLOCK_MONOTONIC, [`TIME_DIGITS`] long.
pub const TIME_MARK: &[u8] = b"\"t=";
pub const TIME_DIGITS: usize = 20;

const PROMPT: &str = "What is a proxy for, and what does it cost? Say it in a few words, and then say it again. ";

/// A stream as the backend is to send it.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub interval_us: u64,
    pub burst: usize,
    pub count: Option<usize>,
}

/// A chat completion with a body of `body_bytes`.
pub fn chat(secret: &str, body_bytes: usize, wish: Option<Wish>) -> Vec<u8> {
    let body = body(body_bytes, wish.is_some());
    let mut head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {secret}\r\n\
         content-type: application/json\r\naccept: application/json\r\nuser-agent: bench/1\r\n"
    );
    if let Some(wish) = wish {
        head.push_str(&format!("{INTERVAL_HEADER}: {}\r\n{BURST_HEADER}: {}\r\n", wish.interval_us, wish.burst));
        if let Some(count) = wish.count {
            head.push_str(&format!("{COUNT_HEADER}: {count}\r\n"));
        }
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [head.into_bytes(), body].concat()
}

fn body(bytes: usize, is_stream: bool) -> Vec<u8> {
    let begin = format!(
        r#"{{"model":"gpt-4o-mini","stream":{is_stream},"max_tokens":256,"temperature":0.7,"messages":[{{"role":"system","content":"You are brief."}},{{"role":"user","content":""#
    );
    let end = r#""}]}"#;
    let missing = bytes.saturating_sub(begin.len() + end.len());
    let mut body = begin.into_bytes();
    body.extend(PROMPT.bytes().cycle().take(missing));
    body.extend_from_slice(end.as_bytes());
    body
}
