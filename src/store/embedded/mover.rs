//! Moves what is committed from the log into the database, beside the writer: neither waits for the other (SQLite's passive checkpoint).
//! A commit that had to move it along would keep a change waiting several times as long.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::background;
use crate::store::StoreFault;
use crate::store::embedded::readers::Readers;

/// The rest between two looks whether anything was committed: the sums that are written with every commit are moved once for all of them.
const REST: Duration = Duration::from_secs(1);

/// The thread that moves; ended when dropped.
#[derive(Debug)]
pub(super) struct Mover {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Mover {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(readers: Arc<Readers>) -> Result<Self, StoreFault> {
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store-mover".to_owned())
            .spawn(move || {
                background::give_way(background::BOOKS);
                run(&readers, &ended);
            })
            .map_err(|error| StoreFault::Unavailable(error.to_string()))?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }

    /// Ends the thread, and waits for that.
    pub(super) fn end(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it was told when it happened.
            let _ended = thread.join();
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(readers: &Readers, ended: &Receiver<()>) {
    while ended.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
        if !readers.take_committed() {
            continue;
        }
        if let Err(fault) = readers.move_log() {
            // The log grows meanwhile, and the writer moves it when it is large: see `connect::writer`.
            tracing::debug!(%fault, "the log is not moved into the database now");
            readers.note_committed();
        }
    }
}
