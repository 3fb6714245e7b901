//! Clients that note every answer they have whole, until the program is gone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// An answer that its client had to the last byte.
#[derive(Debug, Clone)]
pub struct Whole {
    pub request_id: String,
    /// Tokens that the answer itself says it used, where it says so.
    pub tokens: Option<u64>,
}

/// Clients under way.
pub struct Load {
    threads: Vec<JoinHandle<()>>,
    whole: Arc<Mutex<Vec<Whole>>>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    /// `clients` of them, each on a connection of its own, with one key after the other, by turns with and without a stream.
    pub fn start(address: SocketAddr, keys: &[String], name: &str, clients: usize) -> Self {
        let (whole, is_over) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let one = |client: usize| {
            let (keys, whole, is_over) = (keys.to_vec(), Arc::clone(&whole), Arc::clone(&is_over));
            let name = format!("{name}-{client}");
            thread::spawn(move || {
                for turn in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A connection ends with the program, and with nothing else.
                    let Some(()) = requests(address, &keys, &format!("{name}-{turn}"), &whole, &is_over) else {
                        return;
                    };
                }
            })
        };
        Self { threads: (0..clients).map(one).collect(), whole, is_over }
    }

    /// How many answers are whole so far.
    pub fn count(&self) -> usize {
        self.whole.lock().expect("no panic").len()
    }

    /// What was whole by the end.
    pub fn end(self) -> Vec<Whole> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client");
        }
        std::mem::take(&mut self.whole.lock().expect("no panic"))
    }
}

/// Requests on one connection until it breaks; `None` when there is none to be had.
fn requests(
    address: SocketAddr,
    keys: &[String],
    name: &str,
    whole: &Mutex<Vec<Whole>>,
    is_over: &AtomicBool,
) -> Option<()> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.set_nodelay(true).ok()?;
    for turn in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let (key, is_stream) = (turn % keys.len(), turn % 2 == 1);
        let request_id = format!("{name}-{turn}");
        let body = format!(
            r#"{{"model":"sandbox-m{key}","max_tokens":7,"stream":{is_stream},"messages":[{{"role":"user","content":"Hello {turn}"}}]}}"#
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {}\r\nx-request-id: {request_id}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            keys[key],
            body.len()
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            break;
        }
        let Some(tokens) = answer(&mut stream, is_stream) else { break };
        whole.lock().expect("no panic").push(Whole { request_id, tokens });
    }
    Some(())
}

/// Reads an answer until a client would take it for whole: at its length, or at the last event of its stream. `None` when it breaks off.
fn answer(stream: &mut TcpStream, is_stream: bool) -> Option<Option<u64>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    let mut is_whole = false;
    while !is_whole {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        is_whole = match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
            Some(length) => body.len() >= length.trim().parse::<usize>().expect("a length"),
            None => body.contains("data: [DONE]\n\n"),
        };
    }
    if !is_stream {
        let text = String::from_utf8_lossy(&bytes);
        let (_, body) = text.split_once("\r\n\r\n")?;
        let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
        return Some(value["usage"]["total_tokens"].as_u64());
    }
    // The rest of the framing, so that the next answer begins with its head.
    while !bytes.ends_with(b"0\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            // The last event was there: that was a whole answer.
            _ => return Some(None),
        }
    }
    Some(None)
}
