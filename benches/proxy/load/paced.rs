//! A fixed rate without coordinated omission: every request has a moment at which it ought to be sent, and its latency counts
//! from that moment, also when no connection was free then.
//!
//! Threads and blocking sockets: timers of an event loop are a millisecond coarse.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::{Job, Work};
use crate::moment::Moment;
use crate::probe::parse_head;
use crate::request;
use crate::series::percentile;

/// The sender sleeps until this long before a moment and spins through the rest.
const SPIN: Duration = Duration::from_micros(80);
/// A connection that is not free for this long will not be.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paced {
    pub target: SocketAddr,
    pub secrets: Vec<String>,
    pub connections: usize,
    pub per_second: u64,
    pub body_bytes: usize,
    pub warm_ms: u64,
    pub window_ms: u64,
}

/// Latencies of the window in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub requests: usize,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub most_us: f64,
}

impl From<Paced> for Job {
    fn from(job: Paced) -> Self {
        Self::Paced(job)
    }
}

impl Work for Paced {
    type Outcome = Outcome;
}

/// Connections that wait for a request; `None` once one of them is broken.
#[derive(Debug)]
struct Free {
    places: Mutex<Option<VecDeque<usize>>>,
    changed: Condvar,
}

impl Free {
    fn give(&self, place: usize) {
        if let Some(places) = self.places.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            places.push_back(place);
        }
        self.changed.notify_one();
    }

    fn fail(&self) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_one();
    }

    /// Waits until at least `wanted` connections are free and takes the one that waited longest.
    fn take(&self, wanted: usize) -> anyhow::Result<usize> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let too_few = |places: &mut Option<VecDeque<usize>>| places.as_ref().is_some_and(|free| free.len() < wanted);
        let waited = self.changed.wait_timeout_while(places, PATIENCE, too_few);
        let (mut places, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!timeout.timed_out(), "an answer did not come in {PATIENCE:?}");
        places.as_mut().and_then(VecDeque::pop_front).context("a connection broke")
    }
}

/// A connection: the sender writes to it, its own thread reads.
struct Line {
    stream: TcpStream,
    request: Vec<u8>,
    /// When the request under way ought to have been sent, nanoseconds from the start.
    intended_ns: Arc<AtomicU64>,
    reader: thread::JoinHandle<anyhow::Result<Vec<u64>>>,
}

pub fn run(job: &Paced) -> anyhow::Result<Outcome> {
    ensure!(!job.secrets.is_empty(), "no secret to ask with");
    let free = Arc::new(Free { places: Mutex::new(Some((0..job.connections).collect())), changed: Condvar::new() });
    // Time for the threads to start.
    let start = Moment::now().after(Duration::from_millis(20));
    let mut lines = Vec::new();
    for place in 0..job.connections {
        lines.push(open(job, place, start, &free)?);
    }
    let sent = send_all(job, &mut lines, start, &free);
    let mut latencies = Vec::new();
    let mut broken = None;
    for line in lines {
        line.stream.shutdown(Shutdown::Both).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotConnected => Ok(()),
            _ => Err(error),
        })?;
        match line.reader.join().map_err(|_| anyhow!("a reader panicked"))? {
            Ok(some) => latencies.extend(some),
            Err(error) => broken = Some(error),
        }
    }
    if let Some(error) = broken {
        return Err(error);
    }
    sent?;
    latencies.sort_unstable();
    let at = |share| percentile(&latencies, share).map(|ns| ns as f64 / 1e3).context("no request in the window");
    Ok(Outcome {
        requests: latencies.len(),
        p50_us: at(0.5)?,
        p99_us: at(0.99)?,
        p999_us: at(0.999)?,
        most_us: at(1.0)?,
    })
}

fn open(job: &Paced, place: usize, start: Moment, free: &Arc<Free>) -> anyhow::Result<Line> {
    let stream = TcpStream::connect(job.target).context("connecting")?;
    stream.set_nodelay(true)?;
    let request = request::chat(&job.secrets[place % job.secrets.len()], job.body_bytes, None);
    let intended_ns = Arc::new(AtomicU64::new(0));
    let (from, intended, free) = (stream.try_clone()?, Arc::clone(&intended_ns), Arc::clone(free));
    let warm_ns = job.warm_ms * 1_000_000;
    let reader = thread::spawn(move || {
        let mut latencies = Vec::new();
        let outcome = read_answers(from, || {
            let intended = intended.load(Ordering::Acquire);
            let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if intended >= warm_ns {
                latencies.push(now.saturating_sub(intended));
            }
            free.give(place);
        });
        if outcome.is_err() {
            free.fail();
        }
        outcome.map(|()| latencies)
    });
    Ok(Line { stream, request, intended_ns, reader })
}

fn send_all(job: &Paced, lines: &mut [Line], start: Moment, free: &Free) -> anyhow::Result<()> {
    let requests = (job.warm_ms + job.window_ms) * job.per_second / 1000;
    for number in 0..requests {
        let intended = Duration::from_nanos(number * 1_000_000_000 / job.per_second);
        wait_until(start.after(intended));
        let line = &mut lines[free.take(1)?];
        line.intended_ns.store(u64::try_from(intended.as_nanos())?, Ordering::Release);
        line.stream.write_all(&line.request).context("sending")?;
    }
    // Once all connections are free, all answers are in.
    free.take(lines.len())?;
    Ok(())
}

fn wait_until(moment: Moment) {
    let left = moment.left();
    if left > SPIN {
        thread::sleep(left - SPIN);
    }
    while Moment::now() < moment {
        std::hint::spin_loop();
    }
}

/// Calls `answered` after each whole answer, until the connection is shut down between two of them.
fn read_answers(mut from: TcpStream, mut answered: impl FnMut()) -> anyhow::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = from.read(&mut buffer[filled..]).context("reading")?;
        if read == 0 {
            ensure!(filled == 0, "the connection ends before the answer does");
            return Ok(());
        }
        filled += read;
        let Some(head) = parse_head(&buffer[..filled])? else { continue };
        ensure!(head.status == 200, "status {}: {}", head.status, String::from_utf8_lossy(&buffer[..filled]));
        if filled >= head.bytes + head.body_bytes.context("an answer without content-length")? {
            filled = 0;
            answered();
        }
    }
}
