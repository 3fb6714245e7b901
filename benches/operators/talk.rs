//! An operator's connection.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use keyward::clock::Clock;
use uuid::Uuid;

use crate::traffic;

/// Connections of a storm.
const STORMING: u32 = 8;

/// One connection, kept.
pub struct Talk {
    stream: TcpStream,
    token: &'static str,
    clock: Clock,
}

/// How long answers took.
pub struct Times(Vec<u64>);

impl Times {
    pub fn told(mut self) -> String {
        self.0.sort_unstable();
        let at = |share: usize| self.0[(self.0.len() - 1) * share / 100] as f64 / 1e6;
        format!("p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
    }
}

impl Talk {
    pub fn connect(address: &str, token: &'static str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, token, clock: Clock::system() })
    }

    /// Asks and reads the answer: its status and its body.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {}\r\n{kind}content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 65536];
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.context("an answer without a length")?.trim().parse()?;
                if bytes.len() >= end + 4 + length {
                    let status = head.split(' ').nth(1).context("a status")?.parse()?;
                    return Ok((status, bytes.split_off(end + 4)));
                }
            }
            let count = traffic::read(&mut self.stream, &mut chunk)?;
            ensure!(count > 0, "the connection ended");
            bytes.extend_from_slice(&chunk[..count]);
        }
    }

    /// Asks again and again, and says how long each took.
    pub fn times(
        &mut self,
        turns: usize,
        ask: impl Fn(usize) -> (&'static str, String, String),
    ) -> anyhow::Result<Times> {
        let mut times = Vec::with_capacity(turns);
        for turn in 0..turns {
            let (method, path, body) = ask(turn);
            let began = self.clock.monotonic_ns();
            let (status, answer) = self.ask(method, &path, &body)?;
            times.push(self.clock.monotonic_ns() - began);
            ensure!(status == 200, "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(Times(times))
    }
}

/// Changes keys at a steady rate until it is over; how many changes were made.
pub fn storm(
    admin: &str,
    token: &'static str,
    ids: &[Uuid],
    per_second: u32,
    round: usize,
    is_on: &AtomicBool,
) -> anyhow::Result<usize> {
    let made = AtomicUsize::new(0);
    let rest = Duration::from_secs(1) * STORMING / per_second;
    let one = |place: u32| -> anyhow::Result<()> {
        // Operators are on machines of their own: what sends the storm must not take the time of what sends the requests.
        keyward::background::give_way(keyward::background::OPERATORS);
        let mut talk = Talk::connect(admin, token)?;
        let mut due = talk.clock.monotonic_ns();
        for turn in 0_usize.. {
            if !is_on.load(Ordering::Relaxed) {
                break;
            }
            let id = ids[(turn * 104_729 + place as usize * 7_919 + round) % ids.len()];
            let body = format!(r#"{{"rpm_limit":{}}}"#, 1_000 + (turn + round) % 100_000);
            let (status, answer) = talk.ask("PUT", &format!("/api/v1/gateway/keys/{id}"), &body)?;
            ensure!(status == 200, "{status} {}", String::from_utf8_lossy(&answer));
            made.fetch_add(1, Ordering::Relaxed);
            due += u64::try_from(rest.as_nanos())?;
            thread::sleep(Duration::from_nanos(due.saturating_sub(talk.clock.monotonic_ns())));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..STORMING).map(|place| scope.spawn(move || one(place))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    Ok(made.into_inner())
}
