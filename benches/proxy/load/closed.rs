//! A closed loop: each connection asks again as soon as it has its answer, or after a pause.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::exchange::Exchange;
use super::{Job, Work};
use crate::cpu::{self, Spent};
use crate::request;

/// Connections that behave alike.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Group {
    pub connections: usize,
    /// Between an answer and the next request.
    pub pause_us: u64,
    /// After the start.
    pub opens_after_ms: u64,
}

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Closed {
    pub target: SocketAddr,
    /// Connections take these in turn.
    pub secrets: Vec<String>,
    pub groups: Vec<Group>,
    pub body_bytes: usize,
    /// From the start to the beginning of the window.
    pub warm_ms: u64,
    pub window_ms: u64,
    /// Whose CPU and memory are read.
    pub watched: u32,
}

/// What it came to; there is none when a single request fails.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub completed: u64,
    pub spent: Spent,
    /// The highest resident memory from the start of this job on.
    pub peak_kib: u64,
}

impl Outcome {
    /// CPU for each completed request.
    pub fn us_per_request(&self) -> f64 {
        self.spent.total_ns as f64 / 1e3 / self.completed as f64
    }
}

impl From<Closed> for Job {
    fn from(job: Closed) -> Self {
        Self::Closed(job)
    }
}

impl Work for Closed {
    type Outcome = Outcome;
}

#[derive(Debug, Default)]
struct Counts {
    completed: Cell<u64>,
    error: RefCell<Option<String>>,
}

pub fn run(job: Closed) -> anyhow::Result<Outcome> {
    super::on_one_thread(async move {
        let counts = Rc::new(Counts::default());
        let requests = job.secrets.iter().map(|secret| request::chat(secret, job.body_bytes, None).into());
        let requests = requests.collect::<Vec<Rc<[u8]>>>();
        ensure!(!requests.is_empty(), "no secret to ask with");
        cpu::forget_peak(job.watched)?;
        let mut number = 0;
        for group in &job.groups {
            for place in 0..group.connections {
                let request = Rc::clone(&requests[number % requests.len()]);
                let (counts, group, target) = (Rc::clone(&counts), *group, job.target);
                tokio::task::spawn_local(async move {
                    if let Err(error) = ask_for_ever(target, &request, group, place, &counts).await {
                        counts.error.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
                    }
                });
                number += 1;
            }
        }
        sleep(Duration::from_millis(job.warm_ms)).await;
        let before = cpu::sample(job.watched)?;
        let completed_before = counts.completed.get();
        sleep(Duration::from_millis(job.window_ms)).await;
        let after = cpu::sample(job.watched)?;
        let completed = counts.completed.get() - completed_before;
        if let Some(error) = counts.error.take() {
            bail!("{error}");
        }
        ensure!(completed > 0, "no request was completed in the window");
        let peak_kib = cpu::peak_kib(job.watched)?;
        Ok(Outcome { completed, spent: cpu::spent(&before, &after), peak_kib })
    })
}

/// Ends only with an error.
async fn ask_for_ever(
    target: SocketAddr,
    request: &[u8],
    group: Group,
    place: usize,
    counts: &Counts,
) -> anyhow::Result<()> {
    sleep(Duration::from_millis(group.opens_after_ms)).await;
    let mut exchange = Exchange::open(target).await?;
    if group.pause_us > 0 {
        // Spread over the pause, so that they do not ask all at once.
        sleep(Duration::from_micros(group.pause_us * place as u64 / group.connections as u64)).await;
    }
    loop {
        exchange.ask(request).await.context("a request")?;
        counts.completed.set(counts.completed.get() + 1);
        if group.pause_us > 0 {
            sleep(Duration::from_micros(group.pause_us)).await;
        }
    }
}
