//! Journals to disk while the store does not take what is in them: a power cut must not lose more than the window, however long the store
//! takes to say no. So this waits for neither store nor drain.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ledger::journal::Journal;
use crate::telemetry::metrics::LedgerMetrics;

/// What looks after the journals.
pub(super) struct Syncer {
    pub(super) journals: Arc<Mutex<Vec<Arc<Journal>>>>,
    /// How often all of them were drained.
    pub(super) rounds: Arc<AtomicU64>,
    pub(super) metrics: LedgerMetrics,
}

impl Syncer {
    /// Looks every `rest` until `ended` is over. Where the journals were drained meanwhile, what is settled is as good as on disk.
    pub(super) fn run(&self, rest: Duration, ended: &Receiver<Infallible>) {
        let mut seen = self.rounds.load(Ordering::Acquire);
        while matches!(ended.recv_timeout(rest), Err(RecvTimeoutError::Timeout)) {
            let rounds = self.rounds.load(Ordering::Acquire);
            if rounds == seen {
                self.sync();
            }
            seen = rounds;
        }
    }

    fn sync(&self) {
        let journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for journal in journals.iter().filter(|journal| journal.pending() > 0) {
            match journal.sync() {
                Ok(()) => drop(self.metrics.synced.inc()),
                Err(error) => {
                    tracing::error!(%error, "a journal cannot be brought to disk; a power cut would lose what it holds");
                }
            }
        }
    }
}
