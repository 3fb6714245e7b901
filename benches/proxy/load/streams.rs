//! Many streams with events at a steady rate: what an event costs, and how long it is under way.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::reader::{self, Sees};
use super::{Job, Work};
use crate::cpu::{self, Spent};
use crate::request::Wish;
use crate::series::percentile;

/// How long the last stream may take to its first event.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Streams {
    pub target: SocketAddr,
    pub secrets: Vec<String>,
    pub streams: usize,
    pub interval_us: u64,
    /// Events sent at once.
    pub burst: usize,
    pub warm_ms: u64,
    pub window_ms: u64,
    /// Whose CPU is read.
    pub watched: Option<u32>,
}

/// What it came to; there is none when a stream breaks or events are missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub events: u64,
    /// Reads of the clients that brought events.
    pub reads: u64,
    pub spent: Option<Spent>,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of the first event of each stream alone.
    pub first_p99_us: f64,
}

impl From<Streams> for Job {
    fn from(job: Streams) -> Self {
        Self::Streams(job)
    }
}

impl Work for Streams {
    type Outcome = Outcome;
}

#[derive(Debug)]
struct Seen {
    is_window: Cell<bool>,
    reads: Cell<u64>,
    delays_ns: RefCell<Vec<u64>>,
    /// By stream.
    first_ns: RefCell<Vec<Option<u64>>>,
    error: RefCell<Option<anyhow::Error>>,
}

impl Seen {
    fn check(&self) -> anyhow::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn begun(&self) -> usize {
        self.first_ns.borrow().iter().flatten().count()
    }
}

impl Sees for Seen {
    fn events(&self, number: usize, delays_ns: &[u64]) {
        if let Some(first) = self.first_ns.borrow_mut().get_mut(number) {
            *first = first.or(delays_ns.first().copied());
        }
        if self.is_window.get() {
            self.reads.set(self.reads.get() + 1);
            self.delays_ns.borrow_mut().extend_from_slice(delays_ns);
        }
    }

    fn broke(&self, error: anyhow::Error) {
        self.error.borrow_mut().get_or_insert(error);
    }
}

pub fn run(job: Streams) -> anyhow::Result<Outcome> {
    super::on_one_thread(async move {
        let seen = Rc::new(Seen {
            is_window: Cell::new(false),
            reads: Cell::new(0),
            delays_ns: RefCell::default(),
            first_ns: RefCell::new(vec![None; job.streams]),
            error: RefCell::default(),
        });
        let wish = Wish { interval_us: job.interval_us, burst: job.burst, count: None };
        reader::open(job.target, &job.secrets, 0..job.streams, wish, &seen).await?;
        let given_up = Instant::now() + PATIENCE;
        while seen.begun() < job.streams {
            seen.check()?;
            if Instant::now() > given_up {
                bail!("{} of {} streams have begun", seen.begun(), job.streams);
            }
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(job.warm_ms)).await;
        let before = job.watched.map(cpu::sample).transpose()?;
        let began = Instant::now();
        seen.is_window.set(true);
        sleep(Duration::from_millis(job.window_ms)).await;
        seen.is_window.set(false);
        let seconds = began.elapsed().as_secs_f64();
        let after = job.watched.map(cpu::sample).transpose()?;
        seen.check()?;
        let spent = before.zip(after).map(|(before, after)| cpu::spent(&before, &after));
        outcome(&job, &seen, seconds, spent)
    })
}

fn outcome(job: &Streams, seen: &Seen, seconds: f64, spent: Option<Spent>) -> anyhow::Result<Outcome> {
    let mut delays = seen.delays_ns.take();
    let expected = (job.streams * job.burst) as f64 * seconds * 1e6 / job.interval_us as f64;
    let events = delays.len() as f64;
    ensure!(events > expected * 0.9, "{events} events of {expected:.0}: something does not keep up");
    delays.sort_unstable();
    let mut first = seen.first_ns.take().into_iter().flatten().collect::<Vec<_>>();
    first.sort_unstable();
    let us = |samples: &[u64], share| percentile(samples, share).map(|ns| ns as f64 / 1e3).context("no events");
    Ok(Outcome {
        events: delays.len() as u64,
        reads: seen.reads.get(),
        spent,
        p50_us: us(&delays, 0.5)?,
        p99_us: us(&delays, 0.99)?,
        first_p99_us: us(&first, 0.99)?,
    })
}
