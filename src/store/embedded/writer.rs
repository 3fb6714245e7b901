//! The one thread that writes. What waits at the same time shares one commit, and is answered once that is on disk.
//!
//! Changes to keys go before settled requests: they wait for one commit of those at most. Every accident leaves the thread ready
//! for the next write: what it does not understand, it answers by opening the files anew.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::background;
use crate::spare;
use crate::store::embedded::desk::Desk;
use crate::store::{StoreFault, Write, Written};

/// Rows in one commit at most, unless a single write has more: some tens of milliseconds.
const MOST_ROWS: usize = 4_096;

/// With so long a rest after much work, the memory that it took goes back.
const REST: Duration = Duration::from_secs(2);

/// Fewer rows take little memory, and what is kept of it makes the next write quicker.
const LITTLE: usize = 64;

/// What came of one job.
pub(super) type Outcome = Result<Written, StoreFault>;

/// What is asked of the thread.
pub(super) enum Job {
    /// To write.
    Write(Write),
    /// To look after the files.
    Mend,
    /// Whatever a test wants of the connection.
    #[cfg(test)]
    Run(Box<dyn Fn(&rusqlite::Connection) + Send>),
}

/// A job, and who waits for it.
struct Asked {
    job: Job,
    answer: SyncSender<Outcome>,
}

/// The way to the thread; dropped, it waits for what is asked already.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Mutex<Option<Sender<Asked>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(desk: Desk) -> Result<Self, StoreFault> {
        let (jobs, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                background::give_way(background::BOOKS);
                work(&queue, desk);
            })
            .map_err(|error| StoreFault::Unavailable(error.to_string()))?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// Why nothing was written.
    pub(super) fn ask(&self, job: Job) -> Outcome {
        let (answer, waiting) = mpsc::sync_channel(1);
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = jobs.is_some_and(|jobs| jobs.send(Asked { job, answer }).is_ok());
        let answered = sent.then(|| waiting.recv().ok()).flatten();
        answered.unwrap_or_else(|| Err(StoreFault::Unavailable("the writer has ended".to_owned())))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic in it was answered where it happened.
            let _ended = thread.join();
        }
    }
}

/// Waits and works until nobody can ask any more.
fn work(queue: &Receiver<Asked>, mut desk: Desk) {
    let (mut waiting, mut written) = (Waiting::default(), 0);
    loop {
        if waiting.is_empty() {
            let Some(job) = next(queue, &mut desk, &mut written) else { return };
            waiting.sort_in(job);
        }
        while let Ok(job) = queue.try_recv() {
            waiting.sort_in(job);
        }
        let jobs = waiting.take();
        written += jobs.iter().map(|asked| weight(&asked.job)).sum::<usize>();
        let answers =
            catch_unwind(AssertUnwindSafe(|| desk.commit(&jobs.iter().map(|asked| &asked.job).collect::<Vec<_>>())));
        let answers = answers.unwrap_or_else(|_| {
            desk.reset();
            Err(StoreFault::Unavailable("the writer failed".to_owned()))
        });
        answer(jobs, answers);
    }
}

/// Waits for a job; `None` when nobody can ask any more. `written` are the rows since memory went back last.
fn next(queue: &Receiver<Asked>, desk: &mut Desk, written: &mut usize) -> Option<Asked> {
    if *written > LITTLE {
        match queue.recv_timeout(REST) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                *written = 0;
                desk.give_back();
                spare::give_back();
            }
        }
    }
    queue.recv().ok()
}

/// Gives every job its own result, or all the same fault.
fn answer(jobs: Vec<Asked>, answers: Result<Vec<Outcome>, StoreFault>) {
    match answers {
        Ok(answers) => jobs.into_iter().zip(answers).for_each(|(asked, answer)| reply(asked, answer)),
        Err(fault) => jobs.into_iter().for_each(|asked| reply(asked, Err(fault.clone()))),
    }
}

fn reply(asked: Asked, answer: Outcome) {
    // Gone before it is answered: whoever asked uses the memory again.
    drop(asked.job);
    // Whoever asked waits for it; there is room for the one answer.
    let _received = asked.answer.try_send(answer);
}

/// What is asked and not yet begun.
#[derive(Default)]
struct Waiting {
    /// Somebody waits for each of these.
    urgent: VecDeque<Asked>,
    /// Settled requests and tidying: large, and never in a hurry.
    bulk: VecDeque<Asked>,
    is_bulks_turn: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    fn sort_in(&mut self, asked: Asked) {
        match &asked.job {
            Job::Write(Write::Usage(_) | Write::Tidy { .. }) => self.bulk.push_back(asked),
            _ => self.urgent.push_back(asked),
        }
    }

    /// What goes into the next commit: the two kinds take turns, so that neither starves.
    fn take(&mut self) -> Vec<Asked> {
        let is_bulk = self.urgent.is_empty() || (self.is_bulks_turn && !self.bulk.is_empty());
        self.is_bulks_turn = !is_bulk;
        let queue = if is_bulk { &mut self.bulk } else { &mut self.urgent };
        let (mut taken, mut rows) = (Vec::new(), 0);
        while let Some(next) = queue.front() {
            rows += weight(&next.job);
            if !taken.is_empty() && rows > MOST_ROWS {
                break;
            }
            taken.extend(queue.pop_front());
        }
        taken
    }
}

/// How many rows a job writes, or as many as take its time.
fn weight(job: &Job) -> usize {
    match job {
        Job::Write(Write::Usage(batch)) => batch.slices.iter().map(|slice| slice.entries.len()).sum(),
        Job::Write(Write::Keys { changes, audit, .. }) => 1 + changes.len() + audit.len(),
        Job::Write(Write::Tidy { .. }) => MOST_ROWS,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::UsageBatch;
    use crate::store::contract::made::{changes, entry, id, key, put, slice};

    fn keys(count: u128) -> Write {
        changes((0..count).map(|at| put(&key(at))).collect())
    }

    fn usage(entries: usize) -> Write {
        Write::Usage(UsageBatch { slices: vec![slice(1, 1, &vec![entry(id(1)); entries])] })
    }

    /// The weights of what goes into each commit, in turn.
    fn commits(writes: Vec<Write>) -> Vec<Vec<usize>> {
        let mut waiting = Waiting::default();
        for write in writes {
            let (answer, _) = mpsc::sync_channel(1);
            waiting.sort_in(Asked { job: Job::Write(write), answer });
        }
        let next = || (!waiting.is_empty()).then(|| waiting.take());
        std::iter::from_fn(next).map(|taken| taken.iter().map(|asked| weight(&asked.job)).collect()).collect()
    }

    #[test]
    fn changes_wait_for_one_commit_of_usage_at_most_and_usage_for_one_of_changes() {
        let writes = vec![usage(4_000), usage(4_000), keys(1), usage(40), usage(8), keys(2), keys(4_093), keys(4)];
        let expected = [vec![2, 3], vec![4_000], vec![4_094], vec![4_000, 40, 8], vec![5]];
        assert_eq!(commits(writes), expected);
    }

    #[test]
    fn a_large_write_is_alone() {
        assert_eq!(commits(vec![keys(1), keys(9_000), keys(1)]), [vec![2], vec![9_001], vec![2]]);
        let tidy = Write::Tidy { now_ms: 0, records_before_ms: 0 };
        assert_eq!(commits(vec![tidy, usage(9_000), usage(1)]), [vec![MOST_ROWS], vec![9_000], vec![1]]);
    }
}
