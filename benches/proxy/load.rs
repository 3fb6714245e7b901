//! The load: a process of its own that drives one program, and reads of `/proc` what that program uses meanwhile.

#[path = "load/closed.rs"]
pub mod closed;
#[path = "load/exchange.rs"]
mod exchange;
#[path = "load/held.rs"]
pub mod held;
#[path = "load/paced.rs"]
pub mod paced;
#[path = "load/reader.rs"]
mod reader;
#[path = "load/streams.rs"]
pub mod streams;

use std::io::{Read, Write};
use std::marker::PhantomData;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::guard::Guarded;

/// The hidden argument; the job follows on standard input, what it came to is printed.
pub const MODE: &str = "--load";

/// What the load is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Job {
    Closed(closed::Closed),
    Paced(paced::Paced),
    Streams(streams::Streams),
    Held(held::Held),
}

/// A job, and what it comes to.
pub trait Work: Into<Job> {
    type Outcome: DeserializeOwned;
}

/// A load under way.
#[derive(Debug)]
pub struct Load<W> {
    child: Guarded,
    work: PhantomData<W>,
}

impl<W: Work> Load<W> {
    /// Starts it.
    pub fn start(work: W) -> anyhow::Result<Self> {
        let mut child = Guarded::spawn_mode(MODE, &[], |command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })?;
        let mut stdin = child.0.stdin.take().context("the load's input")?;
        stdin.write_all(&serde_json::to_vec(&work.into())?)?;
        Ok(Self { child, work: PhantomData })
    }

    /// Waits for it to end.
    pub fn finish(mut self) -> anyhow::Result<W::Outcome> {
        let mut text = String::new();
        self.child.0.stdout.take().context("the load's output")?.read_to_string(&mut text)?;
        match serde_json::from_str::<Result<serde_json::Value, String>>(&text) {
            Ok(Ok(outcome)) => Ok(serde_json::from_value(outcome)?),
            Ok(Err(why)) => bail!("{why}"),
            Err(_) => bail!("the load ended without a result"),
        }
    }
}

/// Starts it and waits for its end.
pub fn drive<W: Work>(work: W) -> anyhow::Result<W::Outcome> {
    Load::start(work)?.finish()
}

/// The load's own process.
pub fn run() -> anyhow::Result<()> {
    let job = serde_json::from_reader(std::io::stdin())?;
    let outcome = work(job).map_err(|error| format!("{error:#}"));
    serde_json::to_writer(std::io::stdout(), &outcome)?;
    Ok(())
}

fn work(job: Job) -> anyhow::Result<serde_json::Value> {
    Ok(match job {
        Job::Closed(job) => serde_json::to_value(closed::run(job)?)?,
        Job::Paced(job) => serde_json::to_value(paced::run(&job)?)?,
        Job::Streams(job) => serde_json::to_value(streams::run(job)?)?,
        Job::Held(job) => serde_json::to_value(held::run(job)?)?,
    })
}

/// A single-threaded runtime for tasks that share what they count.
fn on_one_thread<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}
