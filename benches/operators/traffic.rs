//! Requests at a steady rate on the data plane, with the latency of each from the moment it ought to have been sent.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use keyward::clock::Clock;

/// Requests a second, over all connections.
pub const PER_SECOND: u32 = 400;

/// How long one measurement takes.
pub const WINDOW: Duration = Duration::from_secs(4);

const CONNECTIONS: u32 = 8;

/// Of one measurement, microseconds.
pub struct Latencies {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
}

/// Runs for `window`, or until it is over.
pub fn run(data: &str, secrets: &[String], window: Option<Duration>, is_on: &AtomicBool) -> anyhow::Result<Latencies> {
    // Making a thread one that never waits takes time of the cores: no request is sent before all are.
    let ready = Barrier::new(CONNECTIONS as usize);
    let ready = &ready;
    let all: Vec<anyhow::Result<Vec<u64>>> = thread::scope(|scope| {
        let start = |place: u32| scope.spawn(move || connection(data, secrets, place, window, (is_on, ready)));
        let threads: Vec<_> = (0..CONNECTIONS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))).collect()
    });
    let mut latencies = Vec::new();
    for one in all {
        latencies.extend(one?);
    }
    ensure!(!latencies.is_empty(), "no request was made");
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100] as f64 / 1e3;
    Ok(Latencies { p50_us: at(50), p90_us: at(90), p99_us: at(99) })
}

/// Whether it was said that a latency is not the program's alone.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Clients are on machines of their own. Here they share the cores with what they measure, and with an operators' storm: the calling
/// thread is made one that never waits for a core (sched(7), SCHED_FIFO), so that what is measured is the program's time alone.
fn never_wait() -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let asked = Command::new("chrt").args(["--fifo", "--pid", "1", &thread]).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

fn connection(
    data: &str,
    secrets: &[String],
    place: u32,
    window: Option<Duration>,
    (is_on, ready): (&AtomicBool, &Barrier),
) -> anyhow::Result<Vec<u64>> {
    let clock = Clock::system();
    let is_first = place == 0 && window.is_some();
    if !never_wait() && is_first && !TOLD.swap(true, Ordering::Relaxed) {
        eprintln!(
            "the requests' own threads may have to wait for a core: latencies tell of that too (chrt is not permitted)"
        );
    }
    let connecting = TcpStream::connect(data);
    ready.wait();
    let mut stream = connecting?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let body = r#"{"model":"gpt-4o-mini","max_tokens":7,"messages":[{"role":"user","content":"Hello"}]}"#;
    let gap_ns = u64::from(CONNECTIONS) * 1_000_000_000 / u64::from(PER_SECOND);
    let began = clock.monotonic_ns();
    let mut due = began + gap_ns * u64::from(place) / u64::from(CONNECTIONS);
    let mut latencies = Vec::new();
    let mut chunk = [0; 16384];
    while is_on.load(Ordering::Relaxed) {
        if window.is_some_and(|window| due - began > u64::try_from(window.as_nanos()).unwrap_or(u64::MAX)) {
            break;
        }
        thread::sleep(Duration::from_nanos(due.saturating_sub(clock.monotonic_ns())));
        let secret = &secrets[latencies.len() % secrets.len()];
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {secret}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut bytes = Vec::new();
        loop {
            let count = read(&mut stream, &mut chunk)?;
            ensure!(count > 0, "the connection ended");
            bytes.extend_from_slice(&chunk[..count]);
            if is_whole(&bytes)? {
                break;
            }
        }
        latencies.push(clock.monotonic_ns() - due);
        due += gap_ns;
    }
    Ok(latencies)
}

/// What has come. With a timeout set the system gives up when the process is stopped for a moment, which loses nothing.
pub fn read(stream: &mut TcpStream, chunk: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn is_whole(bytes: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(bytes));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).map(|text| text.trim().parse());
    let length: usize = length.unwrap_or(Ok(0))?;
    Ok(bytes.len() >= end + 4 + length)
}
