//! Streams held open in growing numbers: what memory they take, and what is left when they are gone.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::reader::{self, Sees};
use super::{Job, Work};
use crate::cpu::{self, Memory};
use crate::request::Wish;

const PATIENCE: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    pub target: SocketAddr,
    pub secrets: Vec<String>,
    /// Numbers of open streams at which memory is read, ascending.
    pub steps: Vec<usize>,
    pub interval_us: u64,
    /// From the last stream's first event to the reading.
    pub settle_ms: u64,
    /// From the end of all streams to the last reading.
    pub after_ms: u64,
    pub watched: u32,
}

/// What it came to; there is none when a stream breaks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub before: Memory,
    /// At each step.
    pub held: Vec<(usize, Memory)>,
    pub after: Memory,
}

impl Outcome {
    /// KiB for each stream between two steps.
    pub fn slope(&self, from: usize, to: usize) -> Option<f64> {
        let ((few, less), (many, more)) = (self.held.get(from)?, self.held.get(to)?);
        Some((more.pss_kib as f64 - less.pss_kib as f64) / (*many as f64 - *few as f64))
    }
}

impl From<Held> for Job {
    fn from(job: Held) -> Self {
        Self::Held(job)
    }
}

impl Work for Held {
    type Outcome = Outcome;
}

#[derive(Debug, Default)]
struct Seen {
    begun: RefCell<HashSet<usize>>,
    is_over: Cell<bool>,
    error: RefCell<Option<anyhow::Error>>,
}

impl Sees for Seen {
    fn events(&self, number: usize, _delays_ns: &[u64]) {
        self.begun.borrow_mut().insert(number);
    }

    fn broke(&self, error: anyhow::Error) {
        if !self.is_over.get() {
            self.error.borrow_mut().get_or_insert(error);
        }
    }
}

pub fn run(job: Held) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = cpu::memory(job.watched)?;
    let seen = Rc::new(Seen::default());
    let streams = LocalSet::new();
    let held = streams.block_on(&runtime, hold(&job, &seen))?;
    seen.is_over.set(true);
    // With their tasks, all connections close.
    drop(streams);
    std::thread::sleep(Duration::from_millis(job.after_ms));
    Ok(Outcome { before, held, after: cpu::memory(job.watched)? })
}

async fn hold(job: &Held, seen: &Rc<Seen>) -> anyhow::Result<Vec<(usize, Memory)>> {
    let wish = Wish { interval_us: job.interval_us, burst: 1, count: None };
    let mut held = Vec::new();
    let mut open = 0;
    for &step in &job.steps {
        reader::open(job.target, &job.secrets, open..step, wish, seen).await?;
        open = step;
        let given_up = Instant::now() + PATIENCE;
        loop {
            if let Some(error) = seen.error.take() {
                return Err(error);
            }
            let begun = seen.begun.borrow().len();
            if begun >= step {
                break;
            }
            if Instant::now() > given_up {
                bail!("{begun} of {step} streams have begun");
            }
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(job.settle_ms)).await;
        held.push((step, cpu::memory(job.watched)?));
    }
    if let Some(error) = seen.error.take() {
        return Err(error);
    }
    Ok(held)
}
